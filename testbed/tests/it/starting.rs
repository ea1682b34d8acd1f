//! What is wrong with a machine is said when a daemon or agent starts, with the remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dwcp_testbed::{
    Ask, Federation, HostPlan, Plan, Process, RegionPlan, guest_image, program,
};
use dwcp_types::VmPhase;
use serde_json::{Value, json};

fn plan() -> Plan {
    Plan::simulated(vec![RegionPlan::new("only").host(HostPlan::of_slots(4))])
}

/// Starts a process that must refuse to, and gives what it said.
async fn refused(mut process: Process) -> String {
    process.start();
    let ended = process.ended().await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    ended.log
}

fn daemon(federation: &Federation, data: &Path) -> Process {
    let log = federation.folder().join("second.log");
    fs::remove_file(&log).ok();
    Process::new(
        "a second daemon",
        &program("dwcpd"),
        federation.daemon_args("only", data),
        log,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_is_told_what_it_collides_with() {
    let federation = Federation::start(plan()).await;
    federation.at("only").place(&Ask::new("vm-1")).await.unwrap();

    let same_data = refused(daemon(&federation, &federation.data("only"))).await;
    assert!(same_data.contains("in use"), "{same_data}");
    assert!(same_data.contains("data directory of its own"), "{same_data}");

    let elsewhere = federation.folder().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let same_port = refused(daemon(&federation, &elsewhere)).await;
    assert!(same_port.contains("in use by another program"), "{same_port}");
    assert!(same_port.contains("configure another port"), "{same_port}");

    federation.in_phase("only", "vm-1", VmPhase::Running).await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_can_read_is_refused() {
    let mut federation = Federation::prepare(plan());
    for (who, key) in [("only", "region.key"), ("only-h1", "agent.key")] {
        let key = federation.credentials(who).key.with_file_name(key);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        federation.process(who).start();
        let ended = federation.process(who).ended().await;
        assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
        assert!(ended.log.contains("can be read by others"), "{}", ended.log);
        assert!(ended.log.contains("chmod 600"), "{}", ended.log);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        federation.process(who).start();
    }
    federation.healthy().await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_what_it_needs_says_what_is_missing() {
    let mut federation = Federation::prepare(plan());
    let file = federation.agent_file("only-h1");
    let good: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut cases =
        vec![(json!("/nonexistent/qemu"), json!("/nonexistent"), "/nonexistent/qemu")];
    if let Some(image) = guest_image() {
        cases.push((json!("/nonexistent/qemu"), json!(image), "/nonexistent/qemu"));
        cases.push((json!("qemu-system-x86_64"), json!("/nonexistent"), "/nonexistent"));
    }
    for (qemu, image, says) in cases {
        let mut config = good.clone();
        config["driver"] = json!("qemu");
        config["qemu"] = qemu;
        config["image_dir"] = image;
        fs::write(&file, config.to_string()).unwrap();
        federation.process("only-h1").start();
        let ended = federation.process("only-h1").ended().await;
        assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
        assert!(ended.log.contains(says), "{says}: {}", ended.log);
    }
    federation.end();
}
