//! A guest that is bound to its region's lease, with the simulated hypervisor: it starts with a
//! grant, halts and ends without one, and a grant that is read late is worth nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_agent::simulated::Simulated;
use dwcp_agent::{Agent, AgentHandle, PutError, Store, api};
use dwcp_api::host::{
    ClockReading, InstanceEvent, InstanceReport, LeaseBody, LeaseGrant,
};
use dwcp_types::{Epoch, Power, VmId, VmPhase};
use dwcp_vm::{GuestSpec, Instruction, Policy};
use tokio::sync::watch;

use crate::rig::{SmallDisk, config, instruction, until, vm};

fn open(folder: &std::path::Path) -> Agent {
    open_watched(folder, None)
}

fn open_watched(
    folder: &std::path::Path,
    watched: Option<watch::Receiver<bool>>,
) -> Agent {
    let config = config(folder, "simulated");
    let store = Store::open(&config.data_dir).unwrap();
    let simulated = Arc::new(Simulated::open(&config.data_dir, config.scale).unwrap());
    Agent::with(&config, store, (simulated, watched), Policy::default()).unwrap()
}

fn bound(epoch: u64) -> Instruction {
    let wire = instruction(epoch, 1, Power::Running);
    let guest =
        GuestSpec { shape: wire.shape, lease_bound: true, ..GuestSpec::default() };
    Instruction {
        epoch: wire.epoch,
        generation: wire.generation,
        power: wire.power,
        guest,
    }
}

async fn clock(handle: &AgentHandle) -> ClockReading {
    api::grant_lease(handle, LeaseBody::default()).await.unwrap()
}

/// Grants the VM under an epoch, from a reading that is so old.
async fn grant(handle: &AgentHandle, epoch: u64, age: Duration) {
    let mut from = clock(handle).await;
    from.now_us -= u64::try_from(age.as_micros()).unwrap();
    let grant = LeaseGrant {
        from,
        pause_after_ms: 60_000,
        kill_after_ms: 120_000,
        vms: BTreeMap::from([(vm("web"), Epoch::new(epoch))]),
    };
    api::grant_lease(handle, LeaseBody { grant: Some(grant) }).await.unwrap();
}

async fn sees(
    handle: &AgentHandle,
    vm: &VmId,
    what: &str,
    is: impl Fn(&InstanceReport) -> bool,
) -> InstanceReport {
    until(what, async || {
        let report = handle.report(None, None, Duration::ZERO).await.unwrap();
        report.changed.into_iter().find(|seen| seen.vm == *vm && is(seen))
    })
    .await
}

#[tokio::test]
async fn it_runs_only_under_a_grant_for_its_epoch_whose_time_is_not_over() {
    let folder = tempfile::tempdir().unwrap();
    let agent = open(folder.path());
    let (handle, web) = (agent.handle(), vm("web"));
    handle.put(web.clone(), bound(1)).await.unwrap();
    let held =
        |seen: &InstanceReport| seen.phase == VmPhase::Fenced && seen.pid.is_none();
    let runs = |seen: &InstanceReport| seen.phase == VmPhase::Running;
    sees(&handle, &web, "held back without a grant", held).await;
    grant(&handle, 7, Duration::ZERO).await;
    sees(&handle, &web, "held back under another epoch's", held).await;
    grant(&handle, 1, Duration::ZERO).await;
    sees(&handle, &web, "it runs", runs).await;
    grant(&handle, 1, Duration::ZERO).await;
    sees(&handle, &web, "it runs on", runs).await;
    agent.stop().await;

    // The next agent goes by what is written.
    let agent = open(folder.path());
    let handle = agent.handle();
    sees(&handle, &web, "adopted and running", runs).await;
    agent.stop().await;
}

#[tokio::test]
async fn it_halts_near_the_end_and_ends_after_it_and_an_older_grant_gives_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let agent = open(folder.path());
    let (handle, web) = (agent.handle(), vm("web"));
    handle.put(web.clone(), bound(1)).await.unwrap();
    // Each grant leads to a state that lasts until the next one, however slow the machine is.
    let lasting = |from: ClockReading, pause_after_ms, kill_after_ms| LeaseGrant {
        from,
        pause_after_ms,
        kill_after_ms,
        vms: BTreeMap::from([(vm("web"), Epoch::FIRST)]),
    };
    let give = async |grant| {
        api::grant_lease(&handle, LeaseBody { grant: Some(grant) }).await.unwrap()
    };
    give(lasting(clock(&handle).await, 600_000, 1_200_000)).await;
    sees(&handle, &web, "it runs", |seen| seen.phase == VmPhase::Running).await;
    give(lasting(clock(&handle).await, 500, 1_200_000)).await;
    sees(&handle, &web, "it halts", |seen| seen.phase == VmPhase::Paused).await;
    give(lasting(clock(&handle).await, 400, 500)).await;
    let ended = |seen: &InstanceReport| seen.phase == VmPhase::Fenced;
    let seen = sees(&handle, &web, "it ends", ended).await;
    assert!(seen.error.unwrap().contains("lease"), "the report says why");
    // It was on its way since before the one that is over.
    let mut early = clock(&handle).await;
    early.now_us -= 60_000_000;
    give(lasting(early, 120_000, 180_000)).await;
    let now = clock(&handle).await;
    let other = ClockReading { boot: "another".to_owned(), ..now };
    give(lasting(other, 60_000, 120_000)).await;
    sees(&handle, &web, "it stays ended", ended).await;
    grant(&handle, 1, Duration::ZERO).await;
    let seen =
        sees(&handle, &web, "it runs again", |seen| seen.phase == VmPhase::Running).await;
    assert_eq!(seen.restarts, 0, "it did not die");
    let died = |it: &InstanceEvent| it.what.contains("by itself");
    assert!(!seen.events.iter().any(died), "{:?}", seen.events);
}

#[tokio::test]
async fn a_full_disk_ends_no_guest() {
    let Some(disk) = SmallDisk::mount() else {
        return println!("SKIPPED: no right to mount a small disk");
    };
    let agent = open(disk.path());
    let (handle, web) = (agent.handle(), vm("web"));
    handle.put(web.clone(), bound(1)).await.unwrap();
    let runs = |seen: &InstanceReport| seen.phase == VmPhase::Running;
    grant(&handle, 1, Duration::ZERO).await;
    sees(&handle, &web, "it runs", runs).await;
    disk.fill();
    // Each of the two slots is written, and one of them again.
    for _ in 0..3 {
        grant(&handle, 1, Duration::ZERO).await;
    }
    sees(&handle, &web, "it runs on", runs).await;
}

#[tokio::test]
async fn it_is_started_only_while_the_watchdog_runs_and_runs_on_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let (watchdog, watched) = watch::channel(false);
    let agent = open_watched(folder.path(), Some(watched));
    let (handle, web) = (agent.handle(), vm("web"));
    handle.put(web.clone(), bound(1)).await.unwrap();
    let runs = |seen: &InstanceReport| seen.phase == VmPhase::Running;
    let waits = |seen: &InstanceReport| {
        seen.error.as_ref().is_some_and(|error| error.contains("watchdog"))
    };
    grant(&handle, 1, Duration::ZERO).await;
    let seen = sees(&handle, &web, "it waits for the watchdog", waits).await;
    assert!(seen.pid.is_none() && !runs(&seen));
    watchdog.send_replace(true);
    let seen = sees(&handle, &web, "it runs", runs).await;
    assert_eq!(seen.error, None);
    watchdog.send_replace(false);
    grant(&handle, 1, Duration::ZERO).await;
    sees(&handle, &web, "it runs on", runs).await;

    // It is a condition of bound guests only.
    let mut free = bound(1);
    free.guest.lease_bound = false;
    handle.put(vm("free"), free).await.unwrap();
    sees(&handle, &vm("free"), "the other one runs", runs).await;
}

#[tokio::test]
async fn one_that_runs_is_bound_under_a_grant_only_and_let_loose_again_without_a_restart()
{
    let folder = tempfile::tempdir().unwrap();
    let agent = open(folder.path());
    let (handle, web) = (agent.handle(), vm("web"));
    let mut free = bound(1);
    free.guest.lease_bound = false;
    let runs = |seen: &InstanceReport| seen.phase == VmPhase::Running;
    handle.put(web.clone(), free.clone()).await.unwrap();
    assert!(!sees(&handle, &web, "it runs", runs).await.lease_bound);
    let early = handle.put(web.clone(), bound(1)).await.unwrap_err();
    assert!(matches!(early, PutError::Busy { .. }), "{early}");

    grant(&handle, 1, Duration::ZERO).await;
    handle.put(web.clone(), bound(1)).await.unwrap();
    assert!(sees(&handle, &web, "it runs on", runs).await.lease_bound);
    assert!(handle.put(web.clone(), bound(1)).await.unwrap().repeated);
    // Another owner is named now: this one must not run.
    grant(&handle, 7, Duration::ZERO).await;
    sees(&handle, &web, "it is fenced", |seen| seen.phase == VmPhase::Fenced).await;

    handle.put(web.clone(), free).await.unwrap();
    let seen = sees(&handle, &web, "it needs no lease", runs).await;
    assert_eq!((seen.lease_bound, seen.restarts), (false, 0));
    let all =
        |it: &InstanceReport| it.events.iter().filter(|it| it.what == "started").count();
    assert_eq!(all(&seen), 2, "by the fence only: {:?}", seen.events);
}
