//! The script of the three requests (C11-C13), run as a user would: `dwcpd local up` on each
//! topology, the script, `dwcpd local down`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dwcp_testbed::{guest_image, program, workspace};

/// A local federation; `down` when it goes.
struct Local {
    folder: tempfile::TempDir,
    config: PathBuf,
    image: Option<PathBuf>,
    _claim: TcpListener,
}

impl Local {
    /// A topology of `deploy/`, moved to addresses that nobody uses.
    fn of(topology: &str, image: Option<PathBuf>) -> Self {
        let (network, claim) = network();
        let folder = tempfile::Builder::new().prefix("dwcp-").tempdir().unwrap();
        let file = workspace().join("deploy").join(topology).join("federation.yaml");
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains("127.0.0.11:8443"), "{topology} is where it was");
        let config = folder.path().join("federation.yaml");
        std::fs::write(&config, text.replace("127.0.0.", &network)).unwrap();
        Self { folder, config, image, _claim: claim }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn command(&self, what: &str) -> Command {
        let image = self.image.as_deref().unwrap_or_else(|| Path::new("/nonexistent"));
        let mut command = Command::new(program("dwcpd"));
        command.args(["local", what]);
        command.arg("--config").arg(&self.config).arg("--state").arg(self.state());
        command.arg("--image").arg(image);
        let driver = if self.image.is_some() { "qemu" } else { "simulated" };
        command.args(["--driver", driver]);
        command
    }

    fn run_script(&self) -> String {
        let programs = program("dwcp-cli").parent().unwrap().to_owned();
        let output = Command::new(workspace().join("examples/three-requests.sh"))
            .env("DWCP_STATE", self.state())
            .env("DWCP_BIN", programs)
            .output();
        succeeded(&output.unwrap())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let down = self.command("down").output();
        if !down.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("processes may be left: {down:?}");
        }
    }
}

/// The first three bytes of addresses that nobody else uses, with a dot behind.
fn network() -> (String, TcpListener) {
    for third in 0..=255 {
        let [.., low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 78, low.wrapping_add(third), 1);
        if let Ok(claim) = TcpListener::bind((address, 7_999)) {
            let [a, b, c, _] = address.octets();
            return (format!("{a}.{b}.{c}."), claim);
        }
    }
    panic!("no free network in 127.78.0.0/16");
}

fn succeeded(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{said}\n{complained}", output.status);
    format!("{said}\n{complained}")
}

#[test]
fn the_three_requests_are_placed_run_and_explained_where_there_is_an_edge() {
    let local = Local::of("t1-edge", guest_image());
    succeeded(&local.command("up").arg("--detach").output().unwrap());
    let said = local.run_script();
    for part in ["vm-web-001", "vm-db-001", "vm-iot-001", "eu-west-1", "edge-tokyo"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let list = said.split("=== what runs now").nth(1).unwrap();
    let list = list.split("=== deleting").next().unwrap();
    assert_eq!(list.matches("running").count(), 3, "{list}");
}

#[test]
fn without_an_edge_the_third_request_is_refused_and_explained() {
    let local = Local::of("t1", None);
    succeeded(&local.command("up").arg("--detach").output().unwrap());
    let said = local.run_script();
    let third = said.split("=== C13").nth(1).unwrap();
    assert!(third.contains("refused"), "{third}");
    for region in ["us-east-1", "eu-west-1", "ap-south-1", "sa-east-1", "au-southeast-1"]
    {
        assert!(said.contains(region), "{region} is named: {said}");
    }
}
