//! A region is lost: its protected VMs run elsewhere, once, and those that may not stay where
//! they are; by an operator's command, and by itself on etcd.

use std::os::unix::process::ExitStatusExt;

use dwcp_api::failover::{
    FailoverReply, FailoverStatus, GetFailover, ListFailovers, PostFailover,
    StartFailover,
};
use dwcp_api::{CallError, ErrorCode, NoParams};
use dwcp_controller::failover::{Outcome, Unrecovered};
use dwcp_controller::liveness::{Blocked, LeaseSight, RegionState};
use dwcp_controller::ownership::Proof;
use dwcp_testbed::{
    Ask, Federation, HostPlan, Plan, RegionPlan, etcd_program, guest_image, refusal,
    until,
};
use dwcp_types::{Epoch, RegionId, VmPhase};

use crate::traces::{of, only, read};

const REGIONS: [&str; 3] = ["home", "middle", "far"];

pub(crate) fn plan() -> Plan {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(16));
    Plan::simulated(REGIONS.map(region).to_vec())
}

pub(crate) async fn status(
    federation: &Federation,
    at: &str,
) -> Result<FailoverStatus, CallError> {
    federation.at(at).call::<GetFailover>(&NoParams {}, &()).await
}

/// What one region's daemon says of another, and what keeps it from being failed over.
async fn seen(
    federation: &Federation,
    at: &str,
    region: &str,
) -> Result<(RegionState, Vec<Blocked>), String> {
    let found = federation.at(at).liveness(region).await?;
    let why = found.not_failed_over_because.into_iter().map(|why| why.condition);
    Ok((found.verdict.state, why.collect()))
}

fn ask(dry_run: bool, even_if_alive: bool, from: &str) -> StartFailover {
    StartFailover {
        from_region: RegionId::new(from).unwrap(),
        to_regions: None,
        reason: "rehearsal".to_owned(),
        even_if_alive,
        accept_data_loss: false,
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

pub(crate) fn lose(federation: &mut Federation, region: &str, etcd: bool) {
    federation.process(region).kill_9();
    federation.process(&format!("{region}-h1")).kill_9();
    if etcd {
        federation.process(&format!("etcd-{region}")).kill_9();
    }
}

/// It runs somewhere else, under a later epoch.
pub(crate) async fn is_elsewhere(federation: &Federation, vm: &str) {
    let door = federation.at("home");
    until(&format!("{vm} runs elsewhere under a later epoch"), || async {
        let it = door.vm(vm).await.map_err(|error| error.to_string())?.item;
        let elsewhere = it.region.as_str() != "far" && it.phase == VmPhase::Running;
        if elsewhere && it.epoch == Epoch::FIRST.past_moves() {
            Ok(())
        } else {
            Err(format!("{it:?}"))
        }
    })
    .await;
}

/// No failover is under way any more.
pub(crate) async fn is_over(federation: &Federation) {
    until("the failover is over", || async {
        let now = status(federation, "home").await.map_err(|error| error.to_string())?;
        now.active.map_or(Ok(()), |log| Err(format!("{log:?}")))
    })
    .await;
}

/// What was done, in all regions that live, down to the guest that starts.
async fn is_one_trace(federation: &Federation) {
    let door = federation.at("home");
    let item = only(&door, of("failover")).await;
    until("the trace has each phase and the guest", || async {
        let trace = read(&door, &item, Some("far")).await;
        let has = |name: &str| trace.rows.iter().any(|row| row.span.name == name);
        let names = ["failover recovering", "failover verifying", "take_over"];
        let whole = names.into_iter().chain(["put_instance", "guest_starts"]).all(has);
        whole.then_some(()).ok_or_else(|| format!("{trace:#?}"))
    })
    .await;
}

/// The lost region comes back: what is its own goes on, what is another's stays there.
async fn comes_back(federation: &mut Federation, etcd: bool) {
    if etcd {
        federation.process("etcd-far").start();
    }
    federation.process("far-h1").start();
    federation.process("far").start();
    federation.healthy().await;
    federation.sees("middle", "far", RegionState::Alive).await;
    federation.in_phase("home", "vm-own", VmPhase::Running).await;
    is_elsewhere(federation, "vm-moves").await;
    federation.reserved("far", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_region_is_failed_over_by_command_and_asks_before_it_runs_anything_again()
{
    let mut federation = Federation::start(plan()).await;
    let asks = [Ask::new("vm-moves").protected(), Ask::new("vm-own")];
    federation.place_in("far", &asks).await;
    federation.sees("middle", "far", RegionState::Alive).await;
    // Of what it never heard of it would say "pending" and not "unknown".
    federation.in_phase("home", "vm-own", VmPhase::Running).await;

    until("only its own life keeps it from being failed over", || async {
        let alive = refusal(command(&federation, ask_for("far")).await);
        assert_eq!(alive.code, ErrorCode::Refused);
        let remedy = alive.remedy.unwrap_or_default();
        if remedy.contains("--even-if-alive") { Ok(()) } else { Err(alive.message) }
    })
    .await;
    let engine = refusal(command(&federation, ask(false, true, "home")).await);
    assert!(engine.message.contains("the strong engine is lost with it"), "{engine:?}");
    let unknown = refusal(command(&federation, ask(false, true, "nowhere")).await);
    assert_eq!(unknown.code, ErrorCode::NotFound);

    let dry = command(&federation, ask(true, false, "far")).await.unwrap();
    assert_eq!((dry.plan.moves.len(), dry.log), (1, None));
    let stays = &dry.plan.down[0];
    assert_eq!(stays.vm.as_str(), "vm-own");
    assert!(matches!(stays.why, Unrecovered::NotProtected { .. }));

    lose(&mut federation, "far", false);
    federation.sees("middle", "far", RegionState::Dead).await;
    // Nothing does it by itself: the engine hangs on one region.
    until("only the engine keeps it from being failed over", || async {
        let (_, why) = seen(&federation, "middle", "far").await?;
        if why == [Blocked::EngineNotSpread] { Ok(()) } else { Err(format!("{why:?}")) }
    })
    .await;

    let begun = command(&federation, ask_for("far")).await.unwrap();
    assert_eq!(begun.log.unwrap().region.as_str(), "far");
    is_elsewhere(&federation, "vm-moves").await;
    is_over(&federation).await;
    is_one_trace(&federation).await;
    federation.in_phase("home", "vm-own", VmPhase::Unknown).await;
    comes_back(&mut federation, false).await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_etcd_a_lost_region_is_failed_over_by_itself() {
    if etcd_program().is_none() {
        return;
    }
    let mut federation = Federation::start(plan().on_etcd()).await;
    let asks = [Ask::new("vm-moves").protected(), Ask::new("vm-own")];
    federation.place_in("far", &asks).await;
    federation.sees("middle", "far", RegionState::Alive).await;
    lose(&mut federation, "far", true);
    is_elsewhere(&federation, "vm-moves").await;
    until("its log says that all of it runs", || async {
        let logs = federation.at("home").call::<ListFailovers>(&NoParams {}, &()).await;
        let logs = logs.map_err(|error| error.to_string())?.items;
        let whole = logs.first().is_some_and(|log| {
            log.ended.is_some_and(|it| it.outcome == Outcome::Recovered)
                && (log.owned, log.running, log.down.len()) == (1, 1, 1)
        });
        if whole { Ok(()) } else { Err(format!("{logs:?}")) }
    })
    .await;
    comes_back(&mut federation, true).await;
    federation.end();
}

/// Only the daemon dies: the agent and its guests live, and the protected one must end there
/// before it runs elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_daemon_died_runs_once_and_one_that_is_not_protected_runs_on() {
    if etcd_program().is_none() {
        return;
    }
    let mut federation = Federation::start(plan().on_etcd()).await;
    let asks = [Ask::new("vm-moves").protected(), Ask::new("vm-own")];
    federation.place_in("far", &asks).await;
    federation.process("far").kill_9();
    is_elsewhere(&federation, "vm-moves").await;
    federation.process("far").start();
    federation.healthy().await;
    is_elsewhere(&federation, "vm-moves").await;
    federation.in_phase("home", "vm-own", VmPhase::Running).await;
    let console = federation.at("home").console("vm-own").await.unwrap().text;
    assert_eq!(console.matches("READY").count(), 1, "it was not started again");
    federation.end();
}

/// The agent is stopped by a signal and the daemon is dead: nobody renews, nobody halts, and the
/// watchdog ends the protected guest all the same. The other one runs on.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_agent_that_wakes_finds_its_protected_guest_ended_and_the_other_running()
{
    let Some(image) = guest_image() else { return };
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(8));
    let regions = ["home", "far"].map(region).to_vec();
    let mut federation = Federation::start(Plan::qemu(regions, image)).await;
    let pid = async |ask: Ask| {
        let name = ask.body().request.id.to_string();
        let door = federation.at("home");
        until("it is placed", || door.place(&ask)).await;
        let seen = federation.in_phase("home", &name, VmPhase::Running).await.observed;
        seen.and_then(|seen| seen.pid).expect("a running guest has a process")
    };
    let bound = pid(Ask::new("vm-bound").protected().only_in("far")).await;
    let free = pid(Ask::new("vm-free").only_in("far")).await;
    federation.process("far-h1").freeze();
    federation.process("far").kill_9();
    until("the bound guest is ended", || async {
        let living = federation.living();
        if living.contains(&bound) { Err("it lives") } else { Ok(()) }
    })
    .await;
    federation.process("far-h1").thaw();
    assert!(federation.living().contains(&free), "nobody else may start the other one");
    federation.process("far").start();
    federation.healthy().await;
    let back = federation.in_phase("home", "vm-bound", VmPhase::Running).await;
    assert_eq!(back.item.epoch, Epoch::FIRST, "its region has its lease again");
    let seen = back.observed.expect("it runs");
    assert_ne!(seen.pid, Some(bound));
    assert_eq!(seen.restarts, 0, "it was fenced and did not die");
    let other = federation.in_phase("home", "vm-free", VmPhase::Running).await;
    assert_eq!(other.observed.and_then(|seen| seen.pid), Some(free), "it ran on");
    federation.end();
}

/// The region's daemon starts again with failover switched on or off, and the protected VM runs
/// bound or unbound under the very record that it had.
async fn switched(federation: &mut Federation, enabled: bool) {
    let path = federation.folder().join("federation.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["failover"]["enabled"] = enabled.into();
    std::fs::write(&path, config.to_string()).unwrap();
    federation.process("far").crash_and_restart();
    federation.healthy().await;
    let door = federation.at("home");
    until(&format!("it runs, bound to the lease: {enabled}"), || async {
        let it = door.vm("vm-bound").await.map_err(|error| error.to_string())?;
        let bound = it.observed.as_ref().is_some_and(|seen| seen.lease_bound);
        let runs = it.item.phase == VmPhase::Running;
        if runs && bound == enabled { Ok(()) } else { Err(format!("{it:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_failover_off_and_on_lets_guests_that_run_loose_and_binds_them() {
    let mut federation = Federation::start(plan()).await;
    let ask = Ask::new("vm-bound").protected().only_in("far");
    federation.place_in("far", &[ask]).await;
    switched(&mut federation, false).await;
    switched(&mut federation, true).await;
    switched(&mut federation, false).await;
    federation.end();
}

/// Kills `middle`, which carries a failover out and takes the VM over, at one step; starts it
/// again, and sees that the VM runs there, started once, its capacity counted once.
async fn killed_at(federation: &mut Federation, step: &str) {
    let vm = format!("vm-{step}");
    let ask = Ask::new(&vm).protected().only_in("far").only_in("middle");
    federation.place_in("far", &[ask]).await;
    federation.dies_at("middle", step).await;
    lose(federation, "far", false);
    federation.sees("middle", "far", RegionState::Dead).await;
    // Its answer may die with it. It is refused while others are late.
    until("the failover is asked for", || async {
        match command(federation, ask_for("far")).await {
            Err(CallError::Api(error)) if error.code == ErrorCode::Refused => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    })
    .await;
    let ended = federation.process("middle").ended().await;
    assert_eq!(ended.status.signal(), Some(9), "middle ends at {step}");
    federation.process("middle").start();
    until("the VM runs elsewhere, or the failover has begun", || async {
        let logs = federation.at("home").call::<ListFailovers>(&NoParams {}, &()).await;
        let logs = logs.map_err(|error| error.to_string())?.items;
        let newest = logs.first().filter(|log| log.ended.is_none());
        if newest.is_some() || owner(federation, &vm).await? == "middle" {
            return Ok(());
        }
        Err(format!("{:?}", command(federation, ask_for("far")).await))
    })
    .await;
    is_elsewhere(federation, &vm).await;
    is_over(federation).await;
    let console = federation.at("home").console(&vm).await.unwrap().text;
    assert_eq!(console.matches("READY").count(), 1, "{step}: started once: {console}");
    federation.reserved("middle", 1).await;
    federation.process("far-h1").start();
    federation.process("far").start();
    federation.healthy().await;
    federation.sees("middle", "far", RegionState::Alive).await;
    federation.at("home").delete(&vm).await.unwrap();
    for region in REGIONS {
        federation.nothing_reserved(region).await;
    }
}

pub(crate) fn ask_for(region: &str) -> StartFailover {
    ask(false, false, region)
}

async fn owner(federation: &Federation, vm: &str) -> Result<String, String> {
    let seen = federation.at("home").vm(vm).await.map_err(|error| error.to_string())?;
    Ok(seen.item.region.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_in_a_failover_may_be_killed_at_every_step() {
    let mut federation = Federation::start(plan()).await;
    for step in [
        "failover-before-begin",
        "failover-after-begin",
        "owner-after-reserve",
        "owner-after-begin-recovery",
        "failover-before-log",
        "failover-after-log",
    ] {
        killed_at(&mut federation, step).await;
    }
    federation.end();
}

/// The region lives: its guest ends there by the operator's word, runs elsewhere, and the region
/// has its lease again when that is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_living_region_is_failed_over_when_an_operator_says_even_so() {
    let federation = Federation::start(plan()).await;
    let asks = [Ask::new("vm-moves").protected(), Ask::new("vm-own")];
    federation.place_in("far", &asks).await;
    until("it is begun", || async {
        let begun = command(&federation, ask(false, true, "far")).await;
        begun.map_err(|error| error.to_string())
    })
    .await;
    is_elsewhere(&federation, "vm-moves").await;
    until("it is over, and says why the region ran nothing any more", || async {
        let log = federation.newest_failover("home").await;
        let proven = log.as_ref().is_some_and(|log| {
            log.ended.is_some_and(|it| it.outcome == Outcome::Recovered)
                && matches!(log.proof, Some(Proof::LeaseLapsed { .. }))
        });
        if proven { Ok(()) } else { Err(format!("{log:?}")) }
    })
    .await;
    until("the region has its lease again", || async {
        let now = status(&federation, "home").await.map_err(|error| error.to_string())?;
        let far = now.regions.into_iter().find(|it| it.verdict.region.as_str() == "far");
        let lease = far.map(|it| it.verdict.lease);
        match lease {
            Some(LeaseSight::Held { .. }) => Ok(()),
            other => Err(format!("{other:?} {:?}", now.active)),
        }
    })
    .await;
    is_elsewhere(&federation, "vm-moves").await;
    federation.in_phase("home", "vm-own", VmPhase::Running).await;
    let console = federation.at("home").console("vm-own").await.unwrap().text;
    assert_eq!(console.matches("READY").count(), 1, "it was not started again");
    federation.reserved("far", 1).await;
    federation.end();
}
