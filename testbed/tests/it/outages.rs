//! What goes on while a daemon is away, and what is right again when it is back.

use dwcp_api::{CallError, ErrorCode};
use dwcp_testbed::{Ask, Federation, HostPlan, Plan, RegionPlan, refusal, until};
use dwcp_types::{HealthState, VmPhase};

fn plan() -> Plan {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(16));
    Plan::simulated(["engine", "middle", "far"].map(region).to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_engines_host_is_away_the_others_show_what_they_know_with_its_age() {
    let mut federation = Federation::start(plan()).await;
    for (name, region) in [("vm-e", "engine"), ("vm-m", "middle"), ("vm-f", "far")] {
        federation.at("middle").place(&Ask::new(name).only_in(region)).await.unwrap();
        federation.in_phase("far", name, VmPhase::Running).await;
    }
    federation.process("engine").kill_9();

    let far = federation.at("far");
    let age = until("the list is seen to age", || async {
        let list = far.vms().await.map_err(|error| error.to_string())?;
        assert_eq!(list.items.len(), 3, "the list is served whole");
        if list.age_ms > 1_500 { Ok(list.age_ms) } else { Err(list.age_ms.to_string()) }
    })
    .await;
    until("the dead region is unknown, and the engine is said to be away", || async {
        let status = far.status().await.map_err(|error| error.to_string())?;
        let dead = status.regions.iter().find(|region| region.id.as_str() == "engine");
        let dead = dead.map(|region| region.health.state);
        if dead == Some(HealthState::Unknown) && !status.engine.reachable {
            return Ok(());
        }
        Err(format!("{dead:?}, {:?}", status.engine))
    })
    .await;
    assert!(far.vms().await.unwrap().age_ms >= age, "knowledge does not get younger");
    // What runs elsewhere is seen to run, and its console is there.
    assert_eq!(far.vm("vm-m").await.unwrap().item.phase, VmPhase::Running);
    assert!(far.console("vm-m").await.unwrap().text.contains("READY"));
    // A VM whose region is silent is not said to run.
    federation.in_phase("far", "vm-e", VmPhase::Unknown).await;

    let refused = refusal(far.place(&Ask::new("vm-new").only_in("middle")).await);
    assert_eq!(refused.code, ErrorCode::Unavailable, "{refused:?}");
    assert!(refused.remedy.unwrap().contains("try again when"));

    federation.process("engine").start();
    federation.healthy().await;
    for name in ["vm-e", "vm-m", "vm-f"] {
        federation.in_phase("far", name, VmPhase::Running).await;
        let console = far.console(name).await.unwrap().text;
        assert_eq!(console.matches("READY").count(), 1, "{name} was not started again");
    }
    far.place(&Ask::new("vm-new").only_in("middle")).await.unwrap();
    federation.in_phase("engine", "vm-new", VmPhase::Running).await;
    federation.reserved("middle", 2).await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_is_noticed_and_its_capacity_is_counted_once_when_it_thaws() {
    let mut federation = Federation::start(plan()).await;
    let middle = federation.at("middle");
    federation.process("far").freeze();
    let ask = Ask::new("vm-1").only_in("far");
    // Whatever is answered while it is silent, it is no success.
    let told = middle.place(&ask).await.unwrap_err();
    assert!(
        matches!(&told, CallError::Api(error) if matches!(
            error.code,
            ErrorCode::Refused | ErrorCode::Indeterminate | ErrorCode::Unavailable
        )) || told.may_have_been_done(),
        "{told:?}"
    );
    until("the frozen region is unknown", || async {
        let region = middle.region("far").await.map_err(|error| error.to_string())?;
        let state = region.health.state;
        if state == HealthState::Unknown { Ok(()) } else { Err(format!("{state:?}")) }
    })
    .await;
    federation.process("far").thaw();
    federation.healthy().await;
    until("the VM is placed when asked for again", || middle.place(&ask)).await;
    federation.in_phase("middle", "vm-1", VmPhase::Running).await;
    federation.reserved("far", 1).await;
    assert_eq!(middle.vms().await.unwrap().items.len(), 1);
    federation.end();
}
