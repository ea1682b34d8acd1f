//! `dwcp-wan` as a program: what it makes, takes and leaves.

use std::path::Path;
use std::process::{Command, Stdio};

use dwcp_testbed::wan::{Bed, Links, Order, OrderError, ask};
use dwcp_testbed::{until, workspace};
use rustix::process::{Pid, Signal, kill_process};

fn namespaces(of: u32) -> usize {
    let entries = std::fs::read_dir("/run/netns").unwrap().flatten();
    let ours = format!("dwcp-{of}-");
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours)).count()
}

#[tokio::test]
async fn it_stands_until_it_is_told_to_end_and_follows_orders_meanwhile() {
    // Whether namespaces can be made here, and why not.
    let Some(bed) = Bed::new(&["one"], &Links::wires()) else { return };
    drop(bed);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("wan.sock");
    let mut running = Command::new(env!("CARGO_BIN_EXE_dwcp-wan"))
        .args(["up", "--config"])
        .arg(workspace().join("deploy/t1/federation.yaml"))
        .arg("--socket")
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let report =
        until("it takes orders", || async { ask(&socket, &Order::Report) }).await;
    assert!(report.unwrap().is_some());
    // Five regions and the observer.
    assert_eq!(namespaces(running.id()), 6);

    let part = |region: &str| Order::Part { side: vec![region.to_owned()] };
    assert_eq!(ask(&socket, &part("sa-east-1")).unwrap(), Ok(None));
    let unknown = ask(&socket, &part("atlantis")).unwrap();
    assert!(matches!(unknown, Err(OrderError::UnknownRegion { .. })), "{unknown:?}");
    let told = tell(&socket, "\"report\"");
    assert!(told.0 && told.1.contains("lateness"), "{told:?}");
    let told = tell(&socket, "sink");
    assert!(!told.0 && told.1.contains("not an order"), "{told:?}");

    let pid = Pid::from_raw(running.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(running.wait().unwrap().success());
    assert_eq!(namespaces(running.id()), 0);
    assert!(!socket.exists());
}

/// `dwcp-wan ask`: whether it succeeded, and all it said.
fn tell(socket: &Path, order: &str) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dwcp-wan"))
        .args(["ask", order, "--socket"])
        .arg(socket)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
