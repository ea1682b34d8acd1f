//! Trials of failovers: a VM starts from a fork of its copy, connected to nothing, while it runs on
//! and its copy follows on; nothing of it is left; and what is real is never in its way.

use dwcp_api::failover::{
    EndVmTrial, GetVmTrial, StartTrial, StartVmTrial, TrialItem, VmTrialParams,
};
use dwcp_api::host::TrialStage;
use dwcp_api::public::VmParams;
use dwcp_api::{CallError, ErrorCode};
use dwcp_controller::liveness::RegionState;
use dwcp_testbed::drill::last_after as last;
use dwcp_testbed::{
    Ask, Federation, HostPlan, Plan, RegionPlan, arguments_of, guest_image, refusal,
    until,
};
use dwcp_types::{Epoch, VmId, VmPhase};

use crate::replicas::{ask, command, in_sync, kept, regions, runs_in, stored};
use crate::rounds::{catches_up, quick, tick};

fn of(vm: &str) -> VmParams {
    VmParams { vm: VmId::new(vm).unwrap() }
}

fn expecting(text: &str, seconds: u32) -> StartTrial {
    StartTrial { expect: Some(text.to_owned()), seconds: Some(seconds) }
}

async fn begin(
    federation: &Federation,
    vm: &str,
    ask: StartTrial,
) -> Result<TrialItem, CallError> {
    federation.at("home").call::<StartVmTrial>(&of(vm), &ask).await
}

async fn ends(federation: &Federation, vm: &str) {
    let trial = VmTrialParams { vm: VmId::new(vm).unwrap(), id: None };
    federation.at("home").call::<EndVmTrial>(&trial, &()).await.unwrap();
}

async fn shown(
    federation: &Federation,
    by: &str,
    vm: &str,
) -> Result<TrialItem, CallError> {
    federation.at(by).call::<GetVmTrial>(&of(vm), &()).await
}

async fn reaches(federation: &Federation, vm: &str, stage: TrialStage) -> TrialItem {
    until(&format!("the trial of {vm} is {stage:?}"), || async {
        let item = shown(federation, "home", vm).await.map_err(|it| it.to_string())?;
        assert_ne!(item.report.stage, TrialStage::Failed, "{item:?}");
        if item.report.stage == stage { Ok(item) } else { Err(format!("{item:?}")) }
    })
    .await
}

/// Waits until nothing of any trial is on the host that keeps copies.
async fn nothing_is_left(federation: &Federation) {
    let folder = federation.data("middle-h1").join("trials");
    let mark = folder.display().to_string();
    until("nothing is left of trials", || async {
        let files = std::fs::read_dir(&folder).unwrap().count();
        let living = federation.living().into_iter().map(arguments_of);
        let processes = living.filter(|line| line.contains(&mark)).count();
        if files + processes == 0 { Ok(()) } else { Err((files, processes)) }
    })
    .await;
}

/// Real guests, one whose copy has each write and one that follows later: each is tried from what
/// it had written, and nothing of the real ones changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_tried_from_its_copy_while_it_runs_on_and_is_copied_on() {
    let Some(image) = guest_image() else { return };
    let federation = Federation::start(Plan::qemu(regions(), image)).await;
    let door = federation.at("home");
    federation.place_in("far", &[kept("vm-kept"), quick("vm-followed")]).await;
    in_sync(&federation, "vm-kept", 1).await;
    for vm in ["vm-kept", "vm-followed"] {
        let written = if vm == "vm-kept" {
            tick(&federation, vm).await
        } else {
            catches_up(&federation, vm).await
        };
        let before = door.vm(vm).await.unwrap();
        let begun = begin(&federation, vm, expecting("READY", 300)).await.unwrap();
        assert_eq!((begun.region.as_str(), begun.host.as_str()), ("middle", "middle-h1"));
        assert_eq!(begun.report.as_of.is_none(), vm == "vm-kept", "{begun:?}");
        let item = reaches(&federation, vm, TrialStage::Passed).await;
        let found = last(&item.report.console, "disk had tick ");
        assert!(found >= Some(written), "{written} were written: {item:?}");
        let mark = federation.data("middle-h1").join("trials").display().to_string();
        let lines = federation.living().into_iter().map(arguments_of);
        let tried: Vec<_> = lines.filter(|line| line.contains(&mark)).collect();
        assert!(
            tried.len() == 1 && tried[0].contains("restrict=on"),
            "it has a network that leads nowhere: {tried:?}"
        );
        let now = tick(&federation, vm).await;
        until("the real one writes on", || async {
            let later = tick(&federation, vm).await;
            if later > now { Ok(()) } else { Err(later) }
        })
        .await;
        ends(&federation, vm).await;
        ends(&federation, vm).await;
        let gone = refusal(shown(&federation, "far", vm).await);
        assert_eq!(gone.code, ErrorCode::NotFound, "{gone:?}");
        nothing_is_left(&federation).await;
        let after = door.vm(vm).await.unwrap();
        let pid =
            |it: &dwcp_api::public::VmDetail| it.observed.as_ref().and_then(|it| it.pid);
        assert_eq!(pid(&after), pid(&before), "the same process");
        assert_eq!((after.item.epoch, after.item.region.as_str()), (Epoch::FIRST, "far"));
        if vm == "vm-kept" {
            assert_eq!(after.replica, before.replica, "its copy was never let go of");
        }
    }
    catches_up(&federation, "vm-followed").await;
    let disks = ["vm-kept", "vm-followed"].map(|vm| door.vm(vm));
    let mut gib = 0;
    for disk in disks {
        gib += disk.await.unwrap().item.shape.storage.get();
    }
    stored(&federation, "middle", gib).await;
    federation.end();
}

/// Only one VM has room in `middle`.
fn narrow() -> Plan {
    let slots = [("home", 16), ("middle", 1), ("far", 16)];
    let region = |(id, slots)| RegionPlan::new(id).host(HostPlan::of_slots(slots));
    Plan::simulated(slots.map(region).to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tried_is_refused_and_what_is_real_comes_first() {
    let federation = Federation::start(narrow()).await;
    let plain = Ask::new("vm-plain").only_in("far");
    federation.place_in("far", &[plain, kept("vm-kept")]).await;
    in_sync(&federation, "vm-kept", 1).await;
    let refused = async |vm: &str, ask: StartTrial| {
        let error = refusal(begin(&federation, vm, ask).await);
        assert!(error.remedy.is_some() || error.code == ErrorCode::Invalid, "{error:?}");
        error.code
    };
    let quickly = || expecting("READY", 60);
    assert_eq!(refused("nobody", quickly()).await, ErrorCode::NotFound);
    assert_eq!(refused("vm-plain", quickly()).await, ErrorCode::Refused);
    assert_eq!(refused("vm-kept", expecting("READY", 0)).await, ErrorCode::Invalid);
    assert_eq!(refused("vm-kept", expecting("READY", 301)).await, ErrorCode::Invalid);
    assert_eq!(refused("vm-kept", expecting("", 60)).await, ErrorCode::Invalid);
    assert_eq!(
        refused("vm-kept", expecting(&"x".repeat(257), 60)).await,
        ErrorCode::Invalid
    );
    begin(&federation, "vm-kept", expecting("never", 300)).await.unwrap();
    reaches(&federation, "vm-kept", TrialStage::Running).await;
    for by in ["middle", "far"] {
        let seen = shown(&federation, by, "vm-kept").await.unwrap();
        assert_eq!(seen.report.stage, TrialStage::Running, "{seen:?}");
    }
    let again = refused("vm-kept", quickly()).await;
    assert_eq!(again, ErrorCode::Refused, "its room is taken by the first");
    // What is real has the only room there is.
    federation.place_in("middle", &[Ask::new("vm-more").only_in("middle")]).await;
    nothing_is_left(&federation).await;
    let gone = refusal(shown(&federation, "home", "vm-kept").await);
    assert_eq!(gone.code, ErrorCode::NotFound, "{gone:?}");
    assert_eq!(refused("vm-kept", quickly()).await, ErrorCode::Refused, "no room");
    federation.reserved("middle", 1).await;
    nothing_is_left(&federation).await;
    federation.end();
}

/// The room that a trial holds is the only one: the failover has it at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_trial_gives_way_to_a_real_failover() {
    let mut federation = Federation::start(narrow()).await;
    federation.place_in("far", &[kept("vm-kept")]).await;
    in_sync(&federation, "vm-kept", 1).await;
    begin(&federation, "vm-kept", expecting("never", 300)).await.unwrap();
    reaches(&federation, "vm-kept", TrialStage::Running).await;
    federation.lose("far");
    federation.sees("middle", "far", RegionState::Dead).await;
    command(&federation, ask(false, false)).await.unwrap();
    runs_in(&federation, "vm-kept", "middle").await;
    nothing_is_left(&federation).await;
    federation.reserved("middle", 1).await;
    federation.end();
}

/// The agent dies at each step, and the time of one is over: whoever is there next leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_meanwhile_nothing_is_left_of_a_trial() {
    let mut federation = Federation::start(narrow()).await;
    federation.place_in("far", &[kept("vm-kept")]).await;
    let gib = in_sync(&federation, "vm-kept", 1).await.item.shape.storage.get();
    for step in ["trial-before-start", "trial-after-start", "trial-before-clear"] {
        federation.dies_at("middle-h1", step).await;
        until("it is begun, or gone before it has answered", || async {
            let begun = begin(&federation, "vm-kept", expecting("never", 2)).await;
            // Looked at after the answer: once it is gone it is refused for ever.
            let lives = federation.living().into_iter().map(arguments_of);
            let lives = lives.filter(|it| it.contains("dwcp-agent")).count() == 3;
            match begun {
                Err(CallError::Api(error))
                    if lives
                        && matches!(
                            error.code,
                            ErrorCode::Refused | ErrorCode::Unavailable
                        ) =>
                {
                    Err(error)
                }
                _ => Ok(()),
            }
        })
        .await;
        drop(federation.process("middle-h1").ended().await);
        federation.process("middle-h1").start();
        federation.healthy().await;
        nothing_is_left(&federation).await;
        stored(&federation, "middle", gib).await;
    }
    begin(&federation, "vm-kept", expecting("never", 1)).await.unwrap();
    until("its time is over", || async {
        match shown(&federation, "home", "vm-kept").await {
            Err(CallError::Api(error)) if error.code == ErrorCode::NotFound => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    nothing_is_left(&federation).await;
    stored(&federation, "middle", gib).await;
    federation.in_phase("home", "vm-kept", VmPhase::Running).await;
    federation.end();
}
