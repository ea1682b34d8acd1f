//! The region that a VM leaves is lost after the commit, when the VM is the target's and the rest
//! of its memory is still at the source: it starts anew from its disk, which is whole.

use dwcp_api::NoParams;
use dwcp_api::failover::{PostFailover, StartFailover};
use dwcp_controller::liveness::RegionState;
use dwcp_controller::migration::Outcome;
use dwcp_runtime::crash::CRASH_AT;
use dwcp_testbed::drill::last_after as last;
use dwcp_testbed::{Ask, Federation, Plan, guest_image, until};
use dwcp_types::{Epoch, MigrationId, RegionId};

use crate::moves::{dies_at, is_at, placed_as, plan, says, stopped_at};

/// A move of the VM whose source's region is lost after the commit.
async fn committed_and_lost(federation: &mut Federation) -> (MigrationId, Epoch) {
    let stopped = stopped_at(federation, "move-after-commit").await;
    federation.lose("here");
    stopped
}

/// The lost region is failed over: by then nothing that was bound to its lease runs there.
async fn failed_over(federation: &Federation) {
    federation.sees("engine", "here", RegionState::Dead).await;
    let body = StartFailover {
        from_region: RegionId::new("here").unwrap(),
        to_regions: None,
        reason: "it burned down".to_owned(),
        even_if_alive: false,
        accept_data_loss: false,
        dry_run: false,
    };
    until("the lost region is failed over", || async {
        let begun =
            federation.at("engine").call::<PostFailover>(&NoParams {}, &body).await;
        begun.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

/// The region comes back, and nothing is left there of what has gone.
async fn comes_back(federation: &mut Federation, asked: &MigrationId) {
    federation.process("here-h1").start();
    federation.process("here").start();
    let end = federation.at("engine").move_is_over(asked).await;
    assert_eq!(end.outcome, Some(Outcome::Moved), "{end:?}");
    let told = |line: &&str| line.contains("starts anew from its disk");
    assert!(end.log.iter().map(|line| line.what.as_str()).any(|it| told(&it)), "{end:?}");
    federation.nothing_reserved("here").await;
    federation.reserved("there", 1).await;
    assert!(!federation.data("here-h1").join("guests/vm-1").exists());
}

/// Whoever dies over it, the next life ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_vm_whose_source_is_lost_after_the_commit_starts_at_its_target() {
    let steps = [
        ("there", "move-after-source-lost"),
        ("there-h1", "move-before-quit"),
        ("there-h1", "move-after-quit"),
    ];
    for (who, step) in steps {
        let mut federation = Federation::start(Plan::simulated(plan())).await;
        placed_as(&federation, &Ask::new("vm-1").protected()).await;
        if who == "there-h1" {
            dies_at(&mut federation, who, step).await;
        }
        let (asked, before) = committed_and_lost(&mut federation).await;
        federation.process("there").start_with(&[(CRASH_AT, step)]);
        failed_over(&federation).await;
        drop(federation.process(who).ended().await);
        federation.process(who).start();
        assert_eq!(is_at(&federation, "vm-1", "there").await, before.next(), "{step}");
        comes_back(&mut federation, &asked).await;
        assert_eq!(is_at(&federation, "vm-1", "there").await, before.next(), "{step}");
        federation.end();
    }
}

/// The guest writes each number to its disk, and prints it when that was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_guest_whose_source_is_lost_after_the_commit_has_every_write() {
    let Some(image) = guest_image() else { return };
    let mut federation = Federation::start(Plan::qemu(plan(), image)).await;
    let door = federation.at("engine");
    placed_as(&federation, &Ask::new("vm-1").protected()).await;
    says(&door, "vm-1", "tick 2").await;
    let (asked, before) = committed_and_lost(&mut federation).await;
    let acknowledged = federation.last_tick("here", "vm-1").unwrap();
    federation.process("there").start();
    failed_over(&federation).await;
    assert_eq!(is_at(&federation, "vm-1", "there").await, before.next());
    let console = says(&door, "vm-1", "READY").await;
    let found = last(&console, "disk had tick ");
    assert!(found >= Some(acknowledged), "{acknowledged} were acknowledged: {console}");
    comes_back(&mut federation, &asked).await;
    federation.end();
}
