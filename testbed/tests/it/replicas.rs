//! A VM whose disk is kept in another region too: no write that was acknowledged is lost with
//! its region, a copy that does not follow is never started from in silence, and nothing of it
//! is left when nobody wants it any more.

use std::ops::RangeInclusive;

use dwcp_api::failover::{FailoverReply, PostFailover, StartFailover};
use dwcp_api::public::VmDetail;
use dwcp_api::{CallError, NoParams};
use dwcp_controller::failover::Unrecovered;
use dwcp_controller::liveness::RegionState;
use dwcp_controller::migration::Outcome;
use dwcp_controller::ownership::Loss;
use dwcp_testbed::drill::last_after as last;
use dwcp_testbed::{
    Ask, Federation, HostPlan, Plan, RegionPlan, arguments_of, guest_image, until, wish,
};
use dwcp_types::{Capacity, Epoch, Gib, Power, RegionId, VmPhase};

use crate::moves::{ask_until_fresh, says};

const REGIONS: [&str; 3] = ["home", "middle", "far"];

pub(crate) fn regions() -> Vec<RegionPlan> {
    REGIONS.map(|id| RegionPlan::new(id).host(HostPlan::of_slots(16))).to_vec()
}

/// A VM in `far` whose replica can be in `middle` only.
pub(crate) fn kept(vm: &str) -> Ask {
    Ask::new(vm).replicated().only_in("far").only_in("middle")
}

async fn placed(federation: &Federation, vm: &str) {
    federation.place_in("far", &[kept(vm)]).await;
}

/// Moves a VM, which then runs in the region.
pub(crate) async fn moves(federation: &Federation, vm: &str, to: &str) {
    let door = federation.at("home");
    let asked = ask_until_fresh(&door, &wish(vm, to)).await;
    let end = door.move_is_over(&asked).await;
    assert_eq!(end.outcome, Some(Outcome::Moved), "{end:?}");
    assert!(end.replicated, "{end:?}");
    runs_in(federation, vm, to).await;
}

/// Waits until the record says that the copy of this number has every write.
pub(crate) async fn in_sync(federation: &Federation, vm: &str, number: u32) -> VmDetail {
    in_sync_from(federation, vm, number..=number).await
}

/// The same of any of these.
async fn in_sync_from(
    federation: &Federation,
    vm: &str,
    numbers: RangeInclusive<u32>,
) -> VmDetail {
    in_sync_in(federation, vm, "middle", numbers).await
}

/// The same in a region.
async fn in_sync_in(
    federation: &Federation,
    vm: &str,
    region: &str,
    numbers: RangeInclusive<u32>,
) -> VmDetail {
    let door = federation.at("home");
    until(&format!("copy {numbers:?} of {vm} is in sync in {region}"), || async {
        let seen = door.vm(vm).await.map_err(|error| error.to_string())?;
        let epoch = seen.item.epoch;
        let whole = seen.replica.as_ref().is_some_and(|it| {
            it.is_in_sync()
                && it.copy.epoch == epoch
                && numbers.contains(&it.copy.number)
                && it.at.region.as_str() == region
        });
        if whole {
            Ok(seen)
        } else {
            Err(format!("{:?} {:?}", seen.replica, seen.observed))
        }
    })
    .await
}

/// The same of the owner under an epoch.
async fn followed_in(federation: &Federation, vm: &str, region: &str, epoch: u64) {
    let seen = in_sync_in(federation, vm, region, 0..=u32::MAX).await;
    assert_eq!(seen.item.epoch, Epoch::new(epoch));
}

pub(crate) fn ask(dry_run: bool, accept_data_loss: bool) -> StartFailover {
    StartFailover {
        from_region: RegionId::new("far").unwrap(),
        to_regions: None,
        reason: "rehearsal".to_owned(),
        even_if_alive: false,
        accept_data_loss,
        hosts_off: None,
        dry_run,
        require_approval: None,
    }
}

pub(crate) async fn command(
    federation: &Federation,
    body: StartFailover,
) -> Result<FailoverReply, CallError> {
    federation.at("middle").call::<PostFailover>(&NoParams {}, &body).await
}

pub(crate) async fn runs_in(federation: &Federation, vm: &str, region: &str) -> VmDetail {
    federation.at("home").is_in(vm, &[region], VmPhase::Running).await
}

/// What a guest printed, once it has said so often that it is up.
pub(crate) async fn started(federation: &Federation, vm: &str, times: usize) -> String {
    let door = federation.at("home");
    until(&format!("{vm} was up {times} times"), || async {
        let console = door.console(vm).await.map_err(|error| error.to_string())?;
        let up = console.text.matches("READY").count() == times;
        if up { Ok(console.text) } else { Err(console.text) }
    })
    .await
}

/// Waits until a region's books hold so much storage for replicas, and nothing else.
pub(crate) async fn stored(federation: &Federation, region: &str, gib: u64) {
    let door = federation.at(region);
    until(&format!("{gib} GiB are reserved in {region}"), || async {
        let sums = door.capacity(region).await.map_err(|error| error.to_string())?;
        let only = Capacity { storage: Gib::new(gib), ..Capacity::default() };
        let heard = sums.total != Capacity::default();
        if heard && sums.reserved == only { Ok(()) } else { Err(format!("{sums:?}")) }
    })
    .await;
}

/// The guest writes each number to its disk, and prints it when that was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn no_write_that_a_guest_was_told_of_is_lost_with_its_region() {
    let Some(image) = guest_image() else { return };
    let mut federation = Federation::start(Plan::qemu(regions(), image)).await;
    placed(&federation, "vm-kept").await;
    in_sync(&federation, "vm-kept", 1).await;
    let door = federation.at("home");
    let ticks = async || {
        door.console("vm-kept").await.ok().and_then(|it| last(&it.text, "tick "))
    };
    let before = ticks().await.unwrap_or_default();
    until("it writes on while its copy is in sync", || async {
        let now = ticks().await.unwrap_or_default();
        if now >= before + 3 { Ok(()) } else { Err(now) }
    })
    .await;
    federation.lose("far");
    let acknowledged = federation.last_tick("far", "vm-kept").unwrap();
    federation.sees("middle", "far", RegionState::Dead).await;
    let begun = command(&federation, ask(false, false)).await.unwrap();
    assert_eq!(begun.plan.moves[0].loss, Loss::Memory);
    let there = runs_in(&federation, "vm-kept", "middle").await;
    assert_eq!(there.item.epoch, Epoch::FIRST.past_moves());
    let console = started(&federation, "vm-kept", 1).await;
    let found = last(&console, "disk had tick ");
    assert!(found >= Some(acknowledged), "{acknowledged} were acknowledged: {console}");
    let standby = federation.data("middle-h1").join("standbys/vm-kept");
    assert!(!standby.exists(), "the copy is the VM's disk now");
    federation.reserved("middle", 1).await;
    federation.end();
}

/// Its process dies: what is relied on is taken back before it starts again, and a new copy is
/// made beside the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_dies_starts_again_and_is_copied_anew() {
    let Some(image) = guest_image() else { return };
    let federation = Federation::start(Plan::qemu(regions(), image)).await;
    placed(&federation, "vm-kept").await;
    let seen = in_sync(&federation, "vm-kept", 1).await;
    started(&federation, "vm-kept", 1).await;
    federation.kill_guest(seen.observed.and_then(|it| it.pid).unwrap());
    let again = in_sync(&federation, "vm-kept", 2).await;
    assert_eq!(again.item.epoch, Epoch::FIRST);
    assert_eq!(again.item.region.as_str(), "far");
    started(&federation, "vm-kept", 2).await;
    let folder = federation.data("middle-h1").join("standbys/vm-kept");
    until("only the new copy is kept", || async {
        let names = std::fs::read_dir(&folder).unwrap().flatten();
        let names: Vec<_> =
            names.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
        let disks: Vec<_> =
            names.iter().filter(|name| name.ends_with(".qcow2")).collect();
        if disks == ["copy-1-2.qcow2"] { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    federation.end();
}

/// The host that keeps the copy goes: the guest writes on without it, the record says since
/// when, and only an operator's word starts the VM from what is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fell_behind_is_started_from_only_when_an_operator_says_so() {
    let Some(image) = guest_image() else { return };
    let mut federation = Federation::start(Plan::qemu(regions(), image)).await;
    placed(&federation, "vm-kept").await;
    in_sync(&federation, "vm-kept", 1).await;
    let door = federation.at("home");
    // The storage daemon and its agent; the region's daemon lives.
    federation.process("middle-h1").kill_9();
    let mark = federation.data("middle-h1").join("standbys");
    for pid in federation.living() {
        if arguments_of(pid).contains(&*mark.to_string_lossy()) {
            federation.kill_guest(pid);
        }
    }
    let since = until("the record says since when it lacks writes", || async {
        let seen = door.vm("vm-kept").await.map_err(|error| error.to_string())?;
        let behind = seen.replica.as_ref().and_then(|it| it.best());
        match behind {
            Some((_, Loss::Latest { since })) => Ok(since),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let tick = async || {
        door.console("vm-kept").await.ok().and_then(|it| last(&it.text, "tick "))
    };
    let then = tick().await;
    until("it writes on without its copy", || async {
        let now = tick().await;
        if now > then { Ok(()) } else { Err(now) }
    })
    .await;
    federation.lose("far");
    federation.sees("middle", "far", RegionState::Dead).await;
    let dry = command(&federation, ask(true, false)).await.unwrap();
    assert_eq!(dry.plan.down[0].why, Unrecovered::ReplicaBehind { since });
    federation.process("middle-h1").start();
    until("it would go where its copy is", || async {
        let dry = command(&federation, ask(true, true)).await;
        let plan = dry.map_err(|error| error.to_string())?.plan;
        if plan.moves.is_empty() { Err(format!("{plan:?}")) } else { Ok(()) }
    })
    .await;
    let begun = command(&federation, ask(false, true)).await.unwrap();
    let loss = begun.plan.moves.first().map(|it| it.loss);
    assert_eq!(loss, Some(Loss::Latest { since }), "{:?}", begun.plan);
    let there = runs_in(&federation, "vm-kept", "middle").await;
    assert_eq!(there.item.epoch, Epoch::FIRST.past_moves());
    federation.end();
}

/// Every owner's step of making a copy; the daemon of `far` dies at each.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_while_a_copy_is_made_goes_on_with_it() {
    let mut federation = Federation::start(Plan::simulated(regions())).await;
    let steps = [
        "replica-after-reserve",
        "replica-after-begin",
        "replica-before-write",
        "replica-after-write",
    ];
    for step in steps {
        federation.dies_at("far", step).await;
        federation.place_by("home", "far", &[kept(step)]).await;
        drop(federation.process("far").ended().await);
        federation.process("far").start();
        federation.healthy().await;
        in_sync(&federation, step, 1).await;
        federation.in_phase("home", step, VmPhase::Running).await;
    }
    stored(&federation, "middle", 40).await;
    for step in steps {
        federation.at("home").delete(step).await.unwrap();
    }
    federation.nothing_reserved("far").await;
    stored(&federation, "middle", 0).await;
    let folder = federation.data("middle-h1").join("standbys");
    until("nothing is left of their copies", || async {
        let left = std::fs::read_dir(&folder).map_or(0, Iterator::count);
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    federation.end();
}

/// The host's agent dies while it begins a copy, and while it ends one because the host that keeps
/// it is away: no copy is begun twice, and the guest goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_while_it_begins_or_ends_a_copy_makes_another() {
    let mut federation = Federation::start(Plan::simulated(regions())).await;
    for step in ["copy-before-begin", "copy-after-begin"] {
        federation.dies_at("far-h1", step).await;
        federation.place_by("home", "far", &[kept(step)]).await;
        comes_back(&mut federation).await;
        in_sync(&federation, step, 2).await;
        federation.in_phase("home", step, VmPhase::Running).await;
        federation.at("home").delete(step).await.unwrap();
    }
    placed(&federation, "vm-kept").await;
    in_sync(&federation, "vm-kept", 1).await;
    let mut number = 1;
    for step in ["copy-before-end", "copy-after-end"] {
        federation.dies_at("far-h1", step).await;
        // The next agent of a simulated host does not know the copy: another is made.
        let seen = in_sync_from(&federation, "vm-kept", number + 1..=u32::MAX).await;
        number = seen.replica.unwrap().copy.number;
        federation.process("middle-h1").kill_9();
        comes_back(&mut federation).await;
        federation.process("middle-h1").start();
        federation.healthy().await;
        let seen = in_sync_from(&federation, "vm-kept", number + 1..=u32::MAX).await;
        number = seen.replica.unwrap().copy.number;
        federation.in_phase("home", "vm-kept", VmPhase::Running).await;
    }
    let console = federation.at("home").console("vm-kept").await.unwrap().text;
    assert_eq!(console.matches("READY").count(), 1, "it was never ended: {console}");
    federation.end();
}

/// It has died, and is started again.
async fn comes_back(federation: &mut Federation) {
    drop(federation.process("far-h1").ended().await);
    federation.process("far-h1").start();
}

/// A VM whose copy no region may keep runs all the same, and says why it has none.
#[tokio::test(flavor = "multi_thread")]
async fn a_vm_whose_copy_nobody_may_keep_runs_and_says_so() {
    let federation = Federation::start(Plan::simulated(regions())).await;
    let alone = Ask::new("vm-alone").replicated().only_in("far");
    federation.at("home").place(&alone).await.unwrap();
    federation.in_phase("home", "vm-alone", VmPhase::Running).await;
    let door = federation.at("home");
    until("its events say why it has no replica", || async {
        let events = door.events("vm-alone").await.map_err(|error| error.to_string())?;
        let told =
            events.iter().any(|it| it.what.contains("no other region may keep it"));
        if told { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    // Stopped and started again it needs no copy either.
    door.want("vm-alone", Power::Stopped).await.unwrap();
    federation.in_phase("home", "vm-alone", VmPhase::Stopped).await;
    door.want("vm-alone", Power::Running).await.unwrap();
    federation.in_phase("home", "vm-alone", VmPhase::Running).await;
    federation.end();
}

/// To the region of its copy and back: the copy is then where the VM came from, and no room is
/// held twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_vm_moves_to_where_its_copy_is_and_has_it_made_where_it_was() {
    let federation = Federation::start(Plan::simulated(regions())).await;
    placed(&federation, "vm-kept").await;
    in_sync(&federation, "vm-kept", 1).await;
    for (epoch, to, from) in [(2, "middle", "far"), (3, "far", "middle")] {
        moves(&federation, "vm-kept", to).await;
        followed_in(&federation, "vm-kept", from, epoch).await;
        federation.reserved(to, 1).await;
        stored(&federation, from, 10).await;
    }
    federation.at("home").delete("vm-kept").await.unwrap();
    stored(&federation, "far", 0).await;
    stored(&federation, "middle", 0).await;
    federation.end();
}

/// Its copy rests while it moves and is made anew by its new owner where it was: whose region is
/// then lost, with nothing that the guest was told of.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_guest_with_a_replica_moves_and_loses_nothing_with_its_new_region() {
    let Some(image) = guest_image() else { return };
    let mut federation = Federation::start(Plan::qemu(regions(), image)).await;
    placed(&federation, "vm-kept").await;
    in_sync(&federation, "vm-kept", 1).await;
    moves(&federation, "vm-kept", "middle").await;
    followed_in(&federation, "vm-kept", "far", 2).await;
    let door = federation.at("home");
    let console = says(&door, "vm-kept", "tick ").await;
    assert!(!console.contains("READY"), "it did not boot again: {console}");
    federation.lose("middle");
    let acknowledged = federation.last_tick("middle", "vm-kept").unwrap();
    federation.sees("far", "middle", RegionState::Dead).await;
    let from_region = RegionId::new("middle").unwrap();
    let body = StartFailover { from_region, ..ask(false, false) };
    let begun = federation.at("far").call::<PostFailover>(&NoParams {}, &body).await;
    assert_eq!(begun.unwrap().plan.moves[0].loss, Loss::Memory);
    runs_in(&federation, "vm-kept", "far").await;
    let console = started(&federation, "vm-kept", 1).await;
    let found = last(&console, "disk had tick ");
    assert!(found >= Some(acknowledged), "{acknowledged} were acknowledged: {console}");
    federation.end();
}
