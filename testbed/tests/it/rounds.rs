//! A VM whose disk follows later in another region: it starts there as its disk was at the last
//! round, whoever died meanwhile, and what that cost is told.

use dwcp_api::public::VmDetail;
use dwcp_controller::failover::Points;
use dwcp_controller::liveness::RegionState;
use dwcp_controller::ownership::{Loss, Whole};
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::crash::CRASH_AT;
use dwcp_testbed::drill::last_after as last;
use dwcp_testbed::{Ask, Federation, Plan, arguments_of, guest_image, until};
use dwcp_types::{OnRegionLoss, Timestamp, VmPhase};

use crate::replicas::{ask, command, moves, regions, runs_in, started, stored};

/// A VM in `far` that follows in `middle` only.
fn followed(vm: &str, mode: OnRegionLoss, max_age_s: u32) -> Ask {
    Ask::new(vm).followed(mode, max_age_s).only_in("far").only_in("middle")
}

pub(crate) fn quick(vm: &str) -> Ask {
    followed(vm, OnRegionLoss::AsyncReplica, 4)
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

/// Waits until a region has the disk as it was after a moment.
async fn as_of_after(
    federation: &Federation,
    vm: &str,
    region: &str,
    at: Timestamp,
) -> (VmDetail, Whole) {
    let door = federation.at("home");
    until(&format!("{vm} followed in {region} since"), || async {
        let seen = door.vm(vm).await.map_err(|error| error.to_string())?;
        let there = seen.replica.as_ref().filter(|it| it.at.region.as_str() == region);
        match there.and_then(|it| it.whole).filter(|whole| whole.until > at) {
            Some(whole) => Ok((seen, whole)),
            None => Err(format!("{:?} {:?}", seen.replica, seen.observed)),
        }
    })
    .await
}

pub(crate) async fn tick(federation: &Federation, vm: &str) -> u64 {
    let door = federation.at("home");
    until(&format!("{vm} writes"), || async {
        let console = door.console(vm).await.map_err(|error| error.to_string())?;
        // Each start counts from one again.
        let ready = console.text.rsplit("READY").next().unwrap_or_default();
        last(ready, "tick ").filter(|tick| *tick > 0).ok_or(console.text)
    })
    .await
}

/// Waits until a round was taken that has what the guest had written by now; says which tick that
/// is at least.
pub(crate) async fn catches_up(federation: &Federation, vm: &str) -> u64 {
    let written = tick(federation, vm).await;
    as_of_after(federation, vm, "middle", now()).await;
    written
}

/// Loses `far`, and gives what the guest found on its disk in `middle` and what was told of that.
async fn lost(federation: &mut Federation, vm: &str) -> (u64, Points) {
    federation.lose("far");
    let acknowledged = federation.last_tick("far", vm).unwrap();
    federation.sees("middle", "far", RegionState::Dead).await;
    let begun = command(federation, ask(false, false)).await.unwrap();
    let loss = begun.plan.moves.first().map(|it| it.loss);
    assert!(matches!(loss, Some(Loss::Point { .. })), "{:?}", begun.plan);
    let there = runs_in(federation, vm, "middle").await;
    assert!(there.replica.is_none_or(|it| it.at.region.as_str() != "middle"));
    let console = started(federation, vm, 1).await;
    let found = last(&console, "disk had tick ").unwrap();
    let log = until("the failover is over", || async {
        let log = federation.newest_failover("middle").await;
        log.filter(|log| log.ended.is_some()).ok_or("it goes on")
    })
    .await;
    let points = log.points.unwrap();
    eprintln!(
        "{vm}: {acknowledged} acknowledged, {found} found, {} ms old when it was lost",
        points.age_ms_max
    );
    (found, points)
}

async fn starts_from_its_last_round(mode: OnRegionLoss, max_age_s: u32) {
    let Some(image) = guest_image() else { return };
    let mut federation = Federation::start(Plan::qemu(regions(), image)).await;
    let vm = "vm-followed";
    federation.place_in("far", &[followed(vm, mode, max_age_s)]).await;
    let (_, first) = as_of_after(&federation, vm, "middle", Timestamp::default()).await;
    let written = catches_up(&federation, vm).await;
    let (seen, later) = as_of_after(&federation, vm, "middle", first.until).await;
    assert!(later.copy > first.copy);
    assert_eq!(seen.replica_max_age_s, Some(max_age_s));
    assert!(seen.replica_age_ms.is_some());
    let replica = seen.replica.unwrap();
    assert_eq!(replica.base, Some(later.copy), "the next round adds to it");
    let dry = command(&federation, ask(true, false)).await.unwrap();
    let Loss::Point { as_of, max_age_s: told } = dry.plan.moves[0].loss else {
        panic!("{:?}", dry.plan)
    };
    assert!(as_of >= later.until && told == u64::from(max_age_s));
    let (found, points) = lost(&mut federation, vm).await;
    assert!(found >= written, "{written} were there: {found}");
    assert_eq!(points.vms, 1);
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_follows_within_seconds_starts_from_its_last_round() {
    starts_from_its_last_round(OnRegionLoss::AsyncReplica, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_copied_now_and_then_starts_from_its_last_round() {
    starts_from_its_last_round(OnRegionLoss::SnapshotReplica, 12).await;
}

/// The process that takes rounds in is killed, the agent beside it dies at every step of making
/// a round one file, and the guest's process dies: the rounds go on, and the last one is good.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_meanwhile_the_last_round_is_good() {
    let Some(image) = guest_image() else { return };
    let mut federation = Federation::start(Plan::qemu(regions(), image)).await;
    let vm = "vm-followed";
    federation.place_in("far", &[quick(vm)]).await;
    catches_up(&federation, vm).await;
    for step in ["standby-before-commit", "standby-before-rename", "standby-after-rename"]
    {
        federation.process("middle-h1").kill_9();
        federation.process("middle-h1").start_with(&[(CRASH_AT, step)]);
        drop(federation.process("middle-h1").ended().await);
        federation.process("middle-h1").start();
        catches_up(&federation, vm).await;
    }
    let mark = federation.data("middle-h1").join("standbys");
    for pid in federation.living() {
        if arguments_of(pid).contains(&*mark.to_string_lossy()) {
            federation.kill_guest(pid);
        }
    }
    catches_up(&federation, vm).await;
    let seen = federation.at("home").vm(vm).await.unwrap();
    federation.kill_guest(seen.observed.and_then(|it| it.pid).unwrap());
    started(&federation, vm, 2).await;
    let written = catches_up(&federation, vm).await;
    federation.process("middle-h1").kill_9();
    federation.process("middle-h1").start();
    let (found, _) = lost(&mut federation, vm).await;
    assert!(found >= written, "{written} were there: {found}");
    federation.end();
}

/// The daemon of the owner and the agent of its host die at every step of a round.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_and_an_agent_that_die_within_a_round_go_on() {
    let mut federation = Federation::start(Plan::simulated(regions())).await;
    let (at_daemon, at_agent) = (
        ["replica-before-write", "replica-after-write"],
        ["copy-before-send", "copy-after-send"],
    );
    let steps = at_daemon.map(|step| ("far", step));
    for (who, step) in steps.into_iter().chain(at_agent.map(|step| ("far-h1", step))) {
        federation.dies_at(who, step).await;
        federation.place_by("home", "far", &[quick(step)]).await;
        drop(federation.process(who).ended().await);
        federation.process(who).start();
        federation.healthy().await;
        as_of_after(&federation, step, "middle", now()).await;
        federation.in_phase("home", step, VmPhase::Running).await;
        federation.at("home").delete(step).await.unwrap();
    }
    stored(&federation, "middle", 0).await;
    let folder = federation.data("middle-h1").join("standbys");
    until("nothing is left of their disks", || async {
        let left = std::fs::read_dir(&folder).map_or(0, Iterator::count);
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    federation.end();
}

/// Its rounds rest while it moves, and go on from the new owner to where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_moves_follows_where_it_was() {
    let Some(image) = guest_image() else { return };
    let mut federation = Federation::start(Plan::qemu(regions(), image)).await;
    let vm = "vm-followed";
    federation.place_in("far", &[quick(vm)]).await;
    catches_up(&federation, vm).await;
    moves(&federation, vm, "middle").await;
    as_of_after(&federation, vm, "far", now()).await;
    let console = federation.at("home").console(vm).await.unwrap().text;
    assert!(!console.contains("READY"), "it did not boot again: {console}");
    // Nobody begins another round while all of it is ended.
    federation.lose("middle");
    federation.end();
}
