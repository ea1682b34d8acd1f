//! A region is emptied while it lives: everyone who may leaves, who stays says why, its daemon may
//! die over it, and what was driven out goes back when it is told to. If the region is lost
//! meanwhile, failover does the rest.

use std::collections::BTreeSet;

use dwcp_api::evacuation::{
    CancelEvacuation, EvacuationItem, ListEvacuations, PostEvacuation, StartEvacuation,
};
use dwcp_api::failover::{PostFailover, StartFailover};
use dwcp_api::migration::AskMigration;
use dwcp_api::public::{EnableRegion, RegionParams, SetEnabled};
use dwcp_api::{CallError, ErrorCode, NoParams};
use dwcp_controller::evacuation::Why;
use dwcp_controller::liveness::RegionState;
use dwcp_controller::migration::Outcome;
use dwcp_testbed::{
    Ask, Door, Federation, HostPlan, Plan, RegionPlan, refusal, until, wish,
};
use dwcp_types::{Power, RegionId, VmPhase};

use crate::moves::ask_until_fresh;

const REGIONS: [&str; 3] = ["home", "here", "there"];

fn plan() -> Plan {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(16));
    Plan::simulated(REGIONS.map(region).to_vec())
}

fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

fn wanted(dry_run: bool, to: &[&str]) -> StartEvacuation {
    StartEvacuation {
        region: region("here"),
        to_regions: (!to.is_empty()).then(|| to.iter().map(|id| region(id)).collect()),
        reason: "new switches".to_owned(),
        dry_run,
    }
}

async fn evacuate(
    door: &Door,
    body: &StartEvacuation,
) -> Result<EvacuationItem, CallError> {
    door.call::<PostEvacuation>(&NoParams {}, body).await
}

async fn enabled(door: &Door, enabled: bool) -> Result<(), CallError> {
    let params = RegionParams { region: region("here") };
    door.call::<EnableRegion>(&params, &SetEnabled { enabled }).await.map(drop)
}

/// Who is still in the region, and neither leaves nor is on the way, once nobody else is.
async fn who_stays(door: &Door) -> Vec<(String, Why)> {
    until("only those are left that have to stay", || async {
        let list = door.call::<ListEvacuations>(&NoParams {}, &()).await;
        let item = list.map_err(|error| error.to_string())?.items.pop().ok_or("none")?;
        let plan = item.plan;
        if plan.leave.is_empty() && plan.moving.is_empty() {
            Ok(plan.stay.into_iter().map(|it| (it.vm.to_string(), it.why)).collect())
        } else {
            Err(format!("{plan:?}"))
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_emptied_but_for_those_that_may_not_leave_and_they_go_back() {
    let mut federation = Federation::start(plan()).await;
    let stays = Ask::new("vm-law").only_in("here");
    let names = ["vm-a", "vm-b", "vm-off"];
    let asks = names.map(|vm| Ask::new(vm).only_in("here").only_in("there"));
    federation.place_in("here", &[&asks[..], &[stays]].concat()).await;
    let door = federation.at("home");
    door.want("vm-off", Power::Stopped).await.unwrap();
    federation.in_phase("home", "vm-off", VmPhase::Stopped).await;

    let dry = evacuate(&door, &wanted(true, &["there"])).await.unwrap();
    let leave: BTreeSet<_> =
        dry.plan.leave.iter().map(|it| (it.vm.as_str(), it.cold)).collect();
    assert_eq!(leave, [("vm-a", false), ("vm-b", false), ("vm-off", true)].into());
    assert_eq!((dry.plan.stay.len(), dry.evacuation), (1, None));
    door.is_in("vm-a", &["here"], VmPhase::Running).await;

    let begun = evacuate(&door, &wanted(false, &[])).await.unwrap();
    assert!(begun.evacuation.unwrap().by.contains("admin"));
    // Its daemon goes on where it was, because nothing of it has to be remembered.
    federation.process("here").kill_9();
    federation.process("here").start();
    let stay = who_stays(&door).await;
    assert!(matches!(&stay[..], [(vm, Why::NoLegalTarget { .. })] if vm == "vm-law"));
    for (vm, phase) in
        names.into_iter().zip([VmPhase::Running, VmPhase::Running, VmPhase::Stopped])
    {
        door.is_in(vm, &["there"], phase).await;
        assert_eq!(door.vm(vm).await.unwrap().item.home, Some(region("here")));
    }
    federation.reserved("here", 1).await;

    let closed = refusal(enabled(&door, true).await);
    assert!(closed.remedy.unwrap().contains("evacuate cancel here"));
    let refused = refusal(door.place(&Ask::new("vm-new").only_in("here")).await);
    assert_eq!(refused.code, ErrorCode::Refused, "{refused:?}");
    let params = RegionParams { region: region("here") };
    door.call::<CancelEvacuation>(&params, &()).await.unwrap();
    enabled(&door, true).await.unwrap();

    for vm in names {
        let back = AskMigration { cold: vm == "vm-off", ..wish(vm, "here") };
        let asked = ask_until_fresh(&door, &back).await;
        let end = door.move_is_over(&asked).await;
        assert_eq!(end.outcome, Some(Outcome::Moved), "{end:?}");
        assert_eq!(door.vm(vm).await.unwrap().item.home, None);
    }
    federation.nothing_reserved("there").await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_and_nothing_begins() {
    let federation = Federation::start(plan()).await;
    let door = federation.at("home");
    let itself = refusal(evacuate(&door, &wanted(false, &["here", "there"])).await);
    assert_eq!(itself.code, ErrorCode::Invalid, "{itself:?}");
    let nowhere = refusal(evacuate(&door, &wanted(false, &["nowhere"])).await);
    assert_eq!(nowhere.code, ErrorCode::NotFound, "{nowhere:?}");
    let unknown = StartEvacuation { region: region("nowhere"), ..wanted(false, &[]) };
    assert_eq!(refusal(evacuate(&door, &unknown).await).code, ErrorCode::NotFound);
    let params = RegionParams { region: region("there") };
    let off = SetEnabled { enabled: false };
    door.call::<EnableRegion>(&params, &off).await.unwrap();
    until("the only region that was named is seen closed", || async {
        match evacuate(&door, &wanted(true, &["there"])).await {
            Err(CallError::Api(error)) if error.code == ErrorCode::Refused => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let params = RegionParams { region: region("here") };
    let none = refusal(door.call::<CancelEvacuation>(&params, &()).await);
    assert_eq!(none.code, ErrorCode::Conflict, "{none:?}");
    let list = door.call::<ListEvacuations>(&NoParams {}, &()).await.unwrap();
    assert!(list.items.is_empty() && door.region("here").await.unwrap().region.enabled);
    federation.end();
}

/// The region dies while its VMs are to leave: each runs once elsewhere, by failover or because it
/// had left already, and the region comes back closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_dies_while_it_is_emptied_is_failed_over() {
    let mut federation = Federation::start(plan()).await;
    let names: Vec<String> = (0..6).map(|number| format!("vm-{number}")).collect();
    let ask = |vm: &String| Ask::new(vm).protected();
    let asks: Vec<_> = names.iter().map(ask).collect();
    federation.place_in("here", &asks).await;
    federation.sees("there", "here", RegionState::Alive).await;
    let door = federation.at("home");
    evacuate(&door, &wanted(false, &[])).await.unwrap();
    federation.lose("here");
    federation.sees("there", "here", RegionState::Dead).await;
    let body = StartFailover {
        from_region: region("here"),
        to_regions: None,
        reason: "it died".to_owned(),
        even_if_alive: false,
        accept_data_loss: false,
        hosts_off: None,
        dry_run: false,
        require_approval: None,
    };
    until("the failover begins", || async {
        let begun =
            federation.at("there").call::<PostFailover>(&NoParams {}, &body).await;
        begun.map(drop).map_err(|error| error.to_string())
    })
    .await;
    for vm in &names {
        door.is_in(vm, &["home", "there"], VmPhase::Running).await;
        assert_eq!(door.vm(vm).await.unwrap().item.home, Some(region("here")));
    }
    // It is back, closed as it was, and whatever it had of them is not its own.
    federation.process("here-h1").start();
    federation.process("here").start();
    federation.healthy().await;
    let back = door.region("here").await.unwrap();
    assert!(back.evacuation.is_some() && !back.region.enabled);
    federation.nothing_reserved("here").await;
    for vm in &names {
        door.is_in(vm, &["home", "there"], VmPhase::Running).await;
    }
    federation.end();
}
