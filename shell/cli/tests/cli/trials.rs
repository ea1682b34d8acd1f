//! `failover test`: what is sent, what is shown, and that what was begun is ended.

use dwcp_api::ErrorCode;
use dwcp_api::failover::TrialItem;
use dwcp_api::host::{TrialReport, TrialStage};
use dwcp_types::{CopyId, Epoch, HostId, RegionId, ReservationId, VmId};
use serde_json::json;

use crate::snapshot::{check, without_moments};
use crate::stage::{Stage, error, now, reply};

fn trial(vm: &str, stage: TrialStage) -> TrialItem {
    let after = |ms: u64, reached: bool| reached.then_some(ms);
    let passed = stage == TrialStage::Passed;
    let failed = stage == TrialStage::Failed;
    TrialItem {
        vm: VmId::new(vm).unwrap(),
        region: RegionId::new("us-west-1").unwrap(),
        host: HostId::new("us-west-1-h1").unwrap(),
        report: TrialReport {
            id: ReservationId::new(&format!("r-{vm}")).unwrap(),
            as_of: (vm == "vm-log-001").then(now),
            stage,
            copy: (passed || failed).then(|| CopyId::first_of(Epoch::FIRST)),
            failure: failed.then(|| "the guest's process ended".to_owned()),
            copied_ms: after(140, passed || failed),
            started_ms: after(420, passed || failed),
            printed_ms: after(2_310, passed),
            console: "READY".to_owned(),
            ends_in_ms: 90_000,
        },
    }
}

#[tokio::test]
async fn what_passed_and_what_did_not_is_shown_and_all_that_began_is_ended() {
    let tried = "its failover is being tried already";
    let tried = error(ErrorCode::Conflict, tried, "wait for its end");
    let stage = Stage::with(vec![
        ("start_vm_trial", reply(&trial("vm-pay-001", TrialStage::Copying))),
        ("start_vm_trial", reply(&trial("vm-log-001", TrialStage::Copying))),
        ("start_vm_trial", tried),
        ("get_vm_trial", reply(&trial("vm-pay-001", TrialStage::Running))),
        ("get_vm_trial", reply(&trial("vm-log-001", TrialStage::Failed))),
        ("end_vm_trial", reply(&())),
        ("get_vm_trial", reply(&trial("vm-pay-001", TrialStage::Passed))),
        ("end_vm_trial", reply(&())),
    ])
    .await;
    let words = [
        "failover",
        "test",
        "vm-pay-001",
        "vm-log-001",
        "vm-web-001",
        "--expect",
        "READY",
    ];
    let ran = stage.run(&words).await;
    assert_eq!(ran.code, 1, "{}", ran.err);
    check("failover-test", &without_moments(&ran.shown()));
    let sent = json!({ "expect": "READY", "seconds": 120 });
    assert_eq!(stage.sent("start_vm_trial"), vec![sent; 3]);
    assert_eq!(stage.sent("end_vm_trial").len(), 2);
}

/// Two that have room for one another wait for it.
#[tokio::test]
async fn one_that_finds_no_room_beside_another_is_tried_after_it() {
    let full = error(ErrorCode::Refused, "no host has room", "make room on that host");
    let stage = Stage::with(vec![
        ("start_vm_trial", reply(&trial("vm-pay-001", TrialStage::Copying))),
        ("start_vm_trial", full),
        ("get_vm_trial", reply(&trial("vm-pay-001", TrialStage::Passed))),
        ("end_vm_trial", reply(&())),
        ("start_vm_trial", reply(&trial("vm-log-001", TrialStage::Copying))),
        ("get_vm_trial", reply(&trial("vm-log-001", TrialStage::Passed))),
        ("end_vm_trial", reply(&())),
    ])
    .await;
    let ran = stage.run(&["failover", "test", "vm-pay-001", "vm-log-001"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out.matches("passed").count(), 2, "{}", ran.out);
    assert_eq!(stage.sent("end_vm_trial").len(), 2);
}

#[tokio::test]
async fn what_is_kept_runs_on_until_it_is_ended() {
    let passed = || reply(&trial("vm-pay-001", TrialStage::Passed));
    let stage = Stage::with(vec![
        ("start_vm_trial", passed()),
        ("get_vm_trial", passed()),
        ("end_vm_trial", reply(&())),
    ])
    .await;
    let ran =
        stage.run(&["failover", "test", "vm-pay-001", "--keep", "--for", "5m"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let sent = json!({ "seconds": 300 });
    assert_eq!(stage.sent("start_vm_trial"), [sent]);
    assert_eq!(stage.sent("end_vm_trial").len(), 0);
    let ran = stage.run(&["failover", "test", "vm-pay-001", "--end"]).await;
    assert_eq!((ran.code, stage.sent("end_vm_trial").len()), (0, 1), "{}", ran.err);
}

#[tokio::test]
async fn one_that_is_gone_before_it_printed_did_not_pass() {
    let stage = Stage::with(vec![
        ("start_vm_trial", reply(&trial("vm-pay-001", TrialStage::Copying))),
        ("get_vm_trial", reply(&trial("vm-pay-001", TrialStage::Running))),
        ("get_vm_trial", error(ErrorCode::NotFound, "no failover is tried", "")),
        ("end_vm_trial", reply(&())),
    ])
    .await;
    let ran = stage.run(&["failover", "test", "vm-pay-001", "--expect", "login:"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("it did not print that in time"), "{}", ran.out);
}
