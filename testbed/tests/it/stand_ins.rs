//! Guests that are processes and run nothing, as the nemesis has them: agents and watchdogs treat
//! them as real ones, and one that runs beside another of its VM is told.

use std::process::{Command, Stdio};

use dwcp_testbed::stand_in::{GUESTS, Journal};
use dwcp_testbed::{Ask, Federation, HostPlan, Plan, RegionPlan, program, until};
use dwcp_types::{Power, VmPhase};

fn plan() -> Plan {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(4));
    Plan::standing_in(["home", "far"].map(region).to_vec()).patient()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_in_is_stopped_started_and_adopted_as_a_guest_is() {
    let mut federation = Federation::start(plan()).await;
    let door = federation.at("home");
    let ask = Ask::new("web").only_in("far");
    until("it is placed", || door.place(&ask)).await;
    let first = federation.in_phase("home", "web", VmPhase::Running).await.observed;
    federation.process("far-h1").crash_and_restart();
    federation.healthy().await;
    let adopted = federation.in_phase("home", "web", VmPhase::Running).await.observed;
    assert_eq!(adopted.unwrap().pid, first.unwrap().pid, "it ran on");
    assert_eq!(federation.stand_ins()["web"], ["far-h1"]);

    door.want("web", Power::Stopped).await.unwrap();
    federation.in_phase("home", "web", VmPhase::Stopped).await;
    assert!(federation.stand_ins().is_empty());
    door.want("web", Power::Running).await.unwrap();
    federation.in_phase("home", "web", VmPhase::Running).await;
    let mut journal = Journal::of(&federation.guests_folder());
    journal.look();
    assert_eq!((journal.began("web"), journal.twice().len()), (2, 0));
    federation.end();
}

/// Agent and daemon are dead: only the watchdog is left to end what is bound to the lease.
#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_ends_a_stand_in_that_is_bound_and_no_other() {
    let mut federation = Federation::start(plan()).await;
    let asks = [Ask::new("bound").protected(), Ask::new("free")];
    federation.place_in("far", &asks).await;
    for who in ["far", "far-h1"] {
        federation.process(who).kill_9();
    }
    until("the bound one is gone", || async {
        let left = federation.stand_ins();
        if left.contains_key("bound") { Err(left) } else { Ok(()) }
    })
    .await;
    assert_eq!(federation.stand_ins()["free"], ["far-h1"]);
    federation.end();
}

/// The planted fault: what the nemesis must see.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_that_runs_a_vm_is_told() {
    let federation = Federation::start(plan()).await;
    federation.place_in("far", &[Ask::new("web")]).await;
    let folder = federation.folder().join("data/planted-h1/guests/web");
    std::fs::create_dir_all(&folder).unwrap();
    let mut planted = Command::new(program("dwcp-stand-in"))
        .args(["-name", "guest=web", "-pidfile"])
        .arg(folder.join("qemu.pid"))
        .current_dir(&folder)
        .env(GUESTS, federation.guests_folder())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut journal = Journal::of(&federation.guests_folder());
    let line = until("it is told", || {
        journal.look();
        let line = journal.twice().first().cloned();
        async move { line.ok_or("nothing was told") }
    })
    .await;
    assert!(line.contains("planted-h1") && line.contains("beside far-h1"), "{line}");
    planted.kill().unwrap();
    planted.wait().unwrap();
    federation.end();
}
