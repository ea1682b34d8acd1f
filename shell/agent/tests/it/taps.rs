//! Guests on taps, inside a network namespace that the test makes and removes.

use std::process::{Command, Output};

use dwcp_types::{Power, VmPhase};

use crate::rig::{Guests, Program, instruction, missing, until};

struct Namespace(String);

impl Namespace {
    fn make() -> Option<Self> {
        let name = format!("dwcp-test-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        made.is_ok_and(|status| status.success()).then_some(Self(name))
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).args(words).output().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}

#[tokio::test]
async fn a_guest_on_a_tap_is_reached_from_its_host_and_its_device_goes_with_it() {
    if let Some(reason) = missing() {
        return println!("{reason}");
    }
    let Some(namespace) = Namespace::make() else {
        return println!("SKIPPED: no right to make a network namespace");
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _guests = Guests(data.clone());
    let network = "{ mode: tap, bridge: dwcptest0, prefix: 10.79.0.0/24 }";
    let prefix = ["ip", "netns", "exec", &namespace.0];
    let program = Program::start(&data, network, &prefix).await;
    program.put("web", &instruction(1, 1, Power::Running)).await;
    program.prints("web", "READY web", 1).await;
    let running = program.sees("web", "it runs", |s| s.phase == VmPhase::Running).await;
    let address = running.address.expect("an address of the host's prefix");
    assert!(address.to_string().starts_with("10.79.0."), "{address}");
    // Bash opens sockets by itself: no other program is needed in the namespace.
    let ask = format!(
        "exec 3<>/dev/tcp/{address}/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    );
    until("the guest's page", async || {
        let got = namespace.run(&["timeout", "5", "bash", "-c", &ask]);
        String::from_utf8_lossy(&got.stdout).contains("hello from web").then_some(())
    })
    .await;
    let taps = || {
        let links = namespace.run(&["ip", "-o", "link", "show", "master", "dwcptest0"]);
        String::from_utf8_lossy(&links.stdout).lines().count()
    };
    assert_eq!(taps(), 1);
    program.put("web", &instruction(1, 2, Power::Deleted)).await;
    until("it is gone", async || {
        program.report().await?.changed.is_empty().then_some(())
    })
    .await;
    assert_eq!(taps(), 0);
    assert!(!data.join("guests/web").exists());
    program.kill();
}
