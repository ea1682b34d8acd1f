//! The region that a VM leaves is lost after the commit, when the VM is the target's and its memory
//! is not whole there: it starts anew from its disk, which is.

use dwcp_api::NoParams;
use dwcp_api::failover::{PostFailover, StartFailover};
use dwcp_controller::liveness::RegionState;
use dwcp_controller::migration::Outcome;
use dwcp_runtime::crash::CRASH_AT;
use dwcp_testbed::drill::last_after as last;
use dwcp_testbed::{Ask, Federation, Plan, guest_image, until};
use dwcp_types::{MigrationId, RegionId};

use crate::moves::{is_at, placed_as, plan, says, stopped_at};

/// The lost region is failed over: by then nothing that was bound to its lease runs there.
async fn failed_over(federation: &Federation) {
    federation.sees("engine", "here", RegionState::Dead).await;
    let body = StartFailover {
        from_region: RegionId::new("here").unwrap(),
        to_regions: None,
        reason: "it burned down".to_owned(),
        even_if_alive: false,
        accept_data_loss: false,
        hosts_off: None,
        dry_run: false,
        require_approval: None,
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

/// The region that a guest leaves is lost before the commit, and the guest is failed over to the
/// very host that waits for it and has its disk: which forgets that and starts it anew from
/// its image. The move ends when its source is back and knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_guest_is_failed_over_to_the_very_host_that_it_was_leaving_for() {
    let Some(image) = guest_image() else { return };
    let mut federation = Federation::start(Plan::qemu(plan(), image)).await;
    let door = federation.at("engine");
    placed_as(&federation, &Ask::new("vm-1").protected()).await;
    says(&door, "vm-1", "tick 2").await;
    let process = door.vm("vm-1").await.unwrap().observed.and_then(|seen| seen.pid);
    // Without its agent the source sends no more than its disk.
    federation.dies_at("here-h1", "move-before-end-mirror").await;
    let (asked, before) = stopped_at(&mut federation, "move-after-begin").await;
    federation.lose_in_silence("here");
    federation.process("there").start();
    failed_over(&federation).await;
    assert_eq!(is_at(&federation, "vm-1", "there").await, before.past_moves());
    let console = says(&door, "vm-1", "READY").await;
    assert_eq!(last(&console, "disk had tick "), None, "it is its image: {console}");
    // What was held for the move is free already.
    federation.reserved("there", 1).await;

    federation.kill_guest(process.expect("a real guest has a process"));
    federation.process("here-h1").start();
    federation.process("here").start();
    let end = door.move_is_over(&asked).await;
    assert_eq!(end.outcome, Some(Outcome::Failed), "{end:?}");
    federation.nothing_reserved("here").await;
    assert_eq!(is_at(&federation, "vm-1", "there").await, before.past_moves());
    federation.end();
}

/// The guest writes each number to its disk, and prints it when that was acknowledged. Its target
/// hears nothing of the source's end, and waits until it is told; its agent dies over it, and so
/// does the daemon that tells it.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_guest_whose_source_is_lost_after_the_commit_has_every_write() {
    let Some(image) = guest_image() else { return };
    let mut federation = Federation::start(Plan::qemu(plan(), image)).await;
    let door = federation.at("engine");
    placed_as(&federation, &Ask::new("vm-1").protected()).await;
    says(&door, "vm-1", "tick 2").await;
    federation.dies_at("there-h1", "move-after-quit").await;
    // Without its agent the source sends no more than its memory.
    federation.dies_at("here-h1", "move-before-end-mirror").await;
    let (asked, before) = stopped_at(&mut federation, "move-after-commit").await;
    federation.lose_in_silence("here");
    let acknowledged = federation.last_tick("here", "vm-1").unwrap();
    let step = [(CRASH_AT, "move-after-source-lost")];
    federation.process("there").start_with(&step);
    failed_over(&federation).await;
    drop(federation.process("there").ended().await);
    federation.process("there").start();
    drop(federation.process("there-h1").ended().await);
    federation.process("there-h1").start();
    assert_eq!(is_at(&federation, "vm-1", "there").await, before.next());
    let console = says(&door, "vm-1", "READY").await;
    let found = last(&console, "disk had tick ");
    assert!(found >= Some(acknowledged), "{acknowledged} were acknowledged: {console}");
    comes_back(&mut federation, &asked).await;
    assert_eq!(is_at(&federation, "vm-1", "there").await, before.next());
    federation.end();
}
