//! The agent's program with real guests: killed agents, killed guests.

use std::process::Command;

use dwcp_types::{Power, VmPhase};

use crate::rig::{Guests, Program, instruction, missing};

const USER: &str = "{ mode: user }";

#[tokio::test]
async fn guests_outlive_a_killed_agent_and_a_killed_guest_is_restarted() {
    if let Some(reason) = missing() {
        return println!("{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _guests = Guests(data.clone());
    let first = Program::start(&data, USER, &[]).await;
    let (status, _) = first.put("web", &instruction(1, 1, Power::Running)).await;
    assert_eq!(status, 200);
    first.prints("web", "READY web", 1).await;
    let running = |seen: &dwcp_api::host::InstanceReport| seen.phase == VmPhase::Running;
    let before = first.sees("web", "it runs", running).await;
    assert_eq!((before.given_memory.get(), before.asked.memory.get()), (96, 65_536));
    first.kill();

    let second = Program::start(&data, USER, &[]).await;
    let after = second.sees("web", "it is adopted", running).await;
    assert_eq!(after.pid, before.pid, "adopted, not started again");
    assert!(after.uptime_ms > 0 && after.cpu_ms > 0 && after.resident.get() > 0);
    assert_eq!(second.console("web").await.unwrap().matches("READY").count(), 1);
    let (status, refused) = second.put("web", &instruction(0, 9, Power::Stopped)).await;
    assert_eq!((status, &refused["code"]), (409, &"conflict".into()));

    let pid = after.pid.unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let reborn = second
        .sees("web", "it is started again", |seen| running(seen) && seen.pid != after.pid)
        .await;
    assert_eq!(reborn.restarts, 1);
    second.prints("web", "READY web", 2).await;

    second.put("web", &instruction(1, 2, Power::Stopped)).await;
    let stopped = second.sees("web", "it stops", |s| s.phase == VmPhase::Stopped).await;
    assert_eq!(stopped.pid, None);
    assert_eq!(second.console("web").await.unwrap().matches("POWERDOWN").count(), 1);
    second.kill();
}
