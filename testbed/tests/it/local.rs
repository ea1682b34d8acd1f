//! A federation that `dwcpd local up` started, with its supervisor, on addresses of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dwcp_testbed::{etcd_program, program, workspace};

/// A local federation; `down` when it goes.
pub(crate) struct Local {
    folder: tempfile::TempDir,
    config: PathBuf,
    image: Option<PathBuf>,
    _claim: TcpListener,
}

impl Local {
    /// A topology of `deploy/`, moved to addresses that nobody uses.
    pub(crate) fn of(topology: &str, image: Option<PathBuf>) -> Self {
        let (network, claim) = network();
        let folder = tempfile::Builder::new().prefix("dwcp-").tempdir().unwrap();
        let file = workspace().join("deploy").join(topology).join("federation.yaml");
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains("127.0.0.11:8443"), "{topology} is where it was");
        let config = folder.path().join("federation.yaml");
        std::fs::write(&config, text.replace("127.0.0.", &network)).unwrap();
        Self { folder, config, image, _claim: claim }
    }

    /// Where everything of it is.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// `dwcpd local WHAT`.
    pub(crate) fn command(&self, what: &str) -> Command {
        let image = self.image.as_deref().unwrap_or_else(|| Path::new("/nonexistent"));
        let mut command = Command::new(program("dwcpd"));
        command.args(["local", what]);
        command.arg("--config").arg(&self.config).arg("--state").arg(self.state());
        command.arg("--image").arg(image);
        let driver = if self.image.is_some() { "qemu" } else { "simulated" };
        command.args(["--driver", driver]);
        if let Some(etcd) = etcd_program() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::env::split_paths(&path);
            let folders = folders.chain(etcd.parent().map(Path::to_owned));
            command.env("PATH", std::env::join_paths(folders).unwrap());
        }
        command
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

/// What was said, when it went well.
pub(crate) fn succeeded(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{said}\n{complained}", output.status);
    format!("{said}\n{complained}")
}
