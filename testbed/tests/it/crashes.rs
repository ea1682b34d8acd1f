//! Every process of a placement is killed at every step of it.
//!
//! A process is started so that it ends itself at one named step (`dwcp_runtime::crash`); a VM
//! is asked for; the process must have ended there; it is started again, and the client asks
//! once more with the same token. Then there is one VM, with one owner, started once, and its
//! capacity is counted once. All VMs of a walk stay, so that the books are compared once at
//! the end, when holds that a crash left have lapsed.

use std::os::unix::process::ExitStatusExt;

use dwcp_api::public::PlaceReply;
use dwcp_api::{CallError, ErrorCode};
use dwcp_testbed::{Ask, Door, Federation, HostPlan, Plan, RegionPlan, until};
use dwcp_types::{Power, VmPhase};

/// The engine's host, the coordinator and the owner are three daemons.
async fn walk(who: &str, steps: &[&str]) {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(64));
    let regions = ["engine", "coordinator", "owner"].map(region).to_vec();
    let mut federation = Federation::start(Plan::simulated(regions).patient()).await;
    for step in steps {
        crash_at(&mut federation, who, step).await;
    }
    let vms = u64::try_from(steps.len()).unwrap();
    federation.reserved("owner", vms).await;
    for region in ["engine", "coordinator"] {
        federation.nothing_reserved(region).await;
    }
    for step in steps {
        federation.at("coordinator").delete(step).await.unwrap();
    }
    federation.nothing_reserved("owner").await;
    federation.end();
}

async fn crash_at(federation: &mut Federation, who: &str, step: &str) {
    federation.dies_at(who, step).await;
    let (coordinator, owner) = (federation.at("coordinator"), federation.at("owner"));
    let ask = Ask::new(step).only_in("owner");

    let asking = ask.clone();
    let first = tokio::spawn(async move { asked_first(&coordinator, &asking).await });
    let ended = federation.process(who).ended().await;
    assert_eq!(
        ended.status.signal(),
        Some(9),
        "{who} ends at {step}: {:?}",
        ended.status
    );
    federation.process(who).start();
    let told = first.await.unwrap();

    let coordinator = federation.at("coordinator");
    let again = until(&format!("{step} is placed when asked for again"), || {
        asked_again(&coordinator, &ask)
    })
    .await;
    if let Ok(told) = told {
        assert_eq!(told.vm.unwrap().created_at, again, "{step}: told twice of two VMs");
    }
    federation.in_phase("coordinator", step, VmPhase::Running).await;
    federation.in_phase("engine", step, VmPhase::Running).await;
    let vm = federation.in_phase("owner", step, VmPhase::Running).await;
    assert_eq!(vm.item.host.as_str(), "owner-h1");
    assert_eq!(vm.item.created_at, again);
    let list = owner.vms().await.unwrap().items;
    assert_eq!(list.iter().filter(|vm| vm.id.as_str() == step).count(), 1);
    let console = coordinator.console(step).await.unwrap().text;
    assert_eq!(console.matches("READY").count(), 1, "{step} was started: {console}");
}

/// What came of asking. Not a refusal: the view in which the region was healthy may be older
/// than the kill, and then the next one refuses for a moment.
async fn asked_first(at: &Door, ask: &Ask) -> Result<PlaceReply, CallError> {
    until("it is not refused", || async {
        match at.place(ask).await {
            Err(CallError::Api(error)) if error.code == ErrorCode::Refused => Err(error),
            told => Ok(told),
        }
    })
    .await
}

/// When the VM was placed, or why it is not yet.
async fn asked_again(at: &Door, ask: &Ask) -> Result<dwcp_types::Timestamp, CallError> {
    let placed = at.place(ask).await?;
    Ok(placed.vm.expect("a placement that succeeded has a VM").created_at)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_may_be_killed_at_every_step() {
    let steps = [
        "coordinator-before-reserve",
        "coordinator-after-reserve",
        "coordinator-after-commit",
    ];
    walk("coordinator", &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_may_be_killed_at_every_step() {
    let steps = [
        "owner-after-reserve",
        "owner-after-begin-commit",
        "owner-after-engine-txn",
        "owner-after-confirm",
        "owner-before-instruct",
        "owner-after-instruct",
    ];
    walk("owner", &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engines_host_may_be_killed_at_every_step() {
    walk("engine", &["engine-before-txn", "engine-after-txn"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_may_be_killed_at_every_step() {
    let steps = [
        "agent-before-record",
        "agent-after-record",
        "agent-before-disk",
        "agent-after-disk",
        "agent-before-start",
        "agent-after-start",
    ];
    walk("owner-h1", &steps).await;
}

/// An urgent VM displaces another, whoever dies on the way: the room that the victim makes is
/// kept for it through the crash, against others and against the victim, until it asks again.
#[tokio::test(flavor = "multi_thread")]
async fn everyone_in_a_pre_emption_may_be_killed_and_its_room_is_kept() {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(1));
    let regions = ["engine", "coordinator", "owner"].map(region).to_vec();
    let mut federation =
        Federation::start(Plan::simulated(regions).patient().preempting()).await;
    for (who, step) in [
        ("coordinator", "coordinator-after-room"),
        ("owner", "owner-before-park"),
        ("owner-h1", "agent-before-stop"),
        ("owner-h1", "agent-after-stop"),
    ] {
        displaced_through(&mut federation, who, step).await;
    }
    federation.end();
}

async fn displaced_through(federation: &mut Federation, who: &str, step: &str) {
    let engine = federation.at("engine");
    let victim = format!("victim-of-{step}");
    engine.place(&Ask::new(&victim).only_in("owner").priority(2)).await.unwrap();
    federation.in_phase("engine", &victim, VmPhase::Running).await;
    federation.dies_at(who, step).await;

    let urgent = Ask::new(step).only_in("owner").priority(9).preempting();
    let (asking, coordinator) = (urgent.clone(), federation.at("coordinator"));
    let first = tokio::spawn(async move { asked_first(&coordinator, &asking).await });
    let ended = federation.process(who).ended().await;
    assert_eq!(ended.status.signal(), Some(9), "{who} ends at {step}");
    // Its user wants the victim back, and others want the room, before anyone recovers.
    engine.want(&victim, Power::Running).await.unwrap();
    federation.process(who).start();
    let other = Ask::new(&format!("other-than-{step}")).only_in("owner").priority(1);
    let squatting = {
        let engine = engine.clone();
        tokio::spawn(async move { while engine.place(&other).await.is_err() {} })
    };
    let _lost = first.await.unwrap();
    let coordinator = federation.at("coordinator");
    let placed = until(&format!("{step} is placed when asked for again"), || async {
        coordinator.place(&urgent).await
    })
    .await;
    assert!(!squatting.is_finished(), "{step}: another took the room");
    squatting.abort();
    assert_eq!(placed.vm.unwrap().host.as_str(), "owner-h1");
    stands_in_for(federation, step, &victim).await;
}

/// The urgent VM runs, the victim was not started meanwhile, and comes back after it.
async fn stands_in_for(federation: &Federation, urgent: &str, victim: &str) {
    let engine = federation.at("engine");
    federation.in_phase("engine", urgent, VmPhase::Running).await;
    let seen = federation.at("owner").vm(victim).await.unwrap().observed.unwrap();
    assert_eq!(seen.phase, VmPhase::Stopped, "{victim} runs in the room that it gave");
    let console = engine.console(victim).await.unwrap().text;
    assert_eq!(
        console.matches("READY").count(),
        1,
        "it was started meanwhile: {console}"
    );

    // Where it was stopped only after its user had wanted it.
    engine.want(victim, Power::Running).await.unwrap();
    engine.delete(urgent).await.unwrap();
    federation.in_phase("engine", victim, VmPhase::Running).await;
    engine.delete(victim).await.unwrap();
    federation.nothing_reserved("owner").await;
}

/// A walk over steps that are never reached would prove nothing.
#[test]
fn every_step_that_the_source_names_is_walked() {
    let mut named = Vec::new();
    for file in ["region", "agent", "api"] {
        collect(
            &dwcp_testbed::workspace().join("shell").join(file).join("src"),
            &mut named,
        );
    }
    named.sort();
    let tests = dwcp_testbed::workspace().join("testbed/tests/it");
    let own: String = std::fs::read_dir(tests)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(named.len() >= 17, "{named:?}");
    for name in named {
        assert!(own.contains(&format!("\"{name}\"")), "{name} is walked by no test");
    }
}

fn collect(folder: &std::path::Path, named: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, named);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let calls = text.split("crash_point(\"").skip(1);
            named.extend(
                calls.filter_map(|call| call.split('"').next()).map(str::to_owned),
            );
        }
    }
}
