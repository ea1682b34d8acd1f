//! A VM's whole life, asked for at a daemon that does not own it.

use dwcp_api::ErrorCode;
use dwcp_api::public::ListVms;
use dwcp_testbed::{Ask, Federation, HostPlan, Plan, RegionPlan, refusal, until};
use dwcp_types::{Power, VmPhase};

fn three_regions() -> Plan {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(16));
    Plan::simulated(vec![region("north"), region("south"), region("west")]).patient()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_lives_through_all_its_states_by_a_daemon_that_does_not_own_it() {
    let federation = Federation::start(three_regions()).await;
    let door = federation.at("west");

    let placed = door.place(&Ask::new("vm-1").only_in("south")).await.unwrap();
    let vm = placed.vm.unwrap();
    assert_eq!((vm.region.as_str(), vm.host.as_str()), ("south", "south-h1"));
    assert!(!placed.repeated);
    for at in ["north", "south", "west"] {
        federation.in_phase(at, "vm-1", VmPhase::Running).await;
        let list = federation.at(at).vms().await.unwrap();
        assert_eq!(list.items.len(), 1, "{at}");
    }
    federation.reserved("south", 1).await;

    let steps = [
        (Power::Stopped, VmPhase::Stopped),
        (Power::Running, VmPhase::Running),
        (Power::Paused, VmPhase::Paused),
        (Power::Running, VmPhase::Running),
    ];
    for (power, phase) in steps {
        door.want("vm-1", power).await.unwrap();
        federation.in_phase("north", "vm-1", phase).await;
    }
    until("all of it is among its events", || async {
        let events = door.events("vm-1").await.map_err(|error| error.to_string())?;
        let said = |what: &str| events.iter().any(|event| event.what.contains(what));
        let all = ["started", "paused", "resumed", "asked to shut down"];
        if all.into_iter().all(said) { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    let console = door.console("vm-1").await.unwrap().text;
    assert!(console.contains("READY"), "{console}");

    door.delete("vm-1").await.unwrap();
    for at in ["north", "south", "west"] {
        let door = federation.at(at);
        until(&format!("vm-1 is gone as seen from {at}"), || async {
            match door.vm("vm-1").await {
                Ok(detail) => Err(detail.item.phase),
                Err(_) => Ok(()),
            }
        })
        .await;
        assert_eq!(refusal(door.vm("vm-1").await).code, ErrorCode::NotFound);
    }
    federation.nothing_reserved("south").await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_makes_one_vm_and_a_name_belongs_to_one() {
    let federation = Federation::start(three_regions()).await;
    let (here, there) = (federation.at("north"), federation.at("west"));
    let ask = Ask::new("vm-1");
    let first = here.place(&ask).await.unwrap().vm.unwrap();

    let again = there.place(&ask).await.unwrap();
    assert!(again.repeated);
    let again = again.vm.unwrap();
    assert_eq!((again.host, again.created_at), (first.host, first.created_at));

    let other_body = refusal(there.place(&ask.clone().cpu(2)).await);
    assert_eq!(other_body.code, ErrorCode::Conflict);
    assert!(other_body.message.contains("token-vm-1"), "{other_body:?}");
    assert!(other_body.remedy.unwrap().contains("new client token"));

    let taken = refusal(there.place(&ask.clone().token("another")).await);
    assert_eq!(taken.code, ErrorCode::Conflict);
    assert!(taken.message.contains("vm-1"), "{taken:?}");
    assert!(taken.remedy.unwrap().contains("another name"));

    here.delete("vm-1").await.unwrap();
    until("vm-1 is gone", || async {
        let list = here.vms().await.map_err(|error| error.to_string())?;
        if list.items.is_empty() { Ok(()) } else { Err(format!("{list:?}")) }
    })
    .await;
    let spent = refusal(there.place(&ask).await);
    assert_eq!(spent.code, ErrorCode::Conflict);
    assert!(spent.message.contains("deleted since"), "{spent:?}");

    // A new token takes the name again, above the old one's epoch.
    let fresh = there.place(&ask.token("fresh")).await.unwrap().vm.unwrap();
    assert!(fresh.epoch > first.epoch, "{} after {}", fresh.epoch, first.epoch);
    federation.in_phase("north", "vm-1", VmPhase::Running).await;
    let of_another =
        ListVms { tenant: Some("other".parse().unwrap()), ..ListVms::default() };
    let list = here.call::<dwcp_api::public::GetVms>(&of_another, &()).await.unwrap();
    assert!(list.items.is_empty());
}
