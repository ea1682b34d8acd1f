//! Who asks: `wrk`, a process of its own.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};

use super::HOST;

/// How long it asks.
pub(super) struct Load {
    pub(super) seconds: u32,
}

impl Load {
    /// Asks for the time agreed; how many were answered, none of them with an error.
    pub(super) fn ask(&self, proxy: SocketAddr) -> anyhow::Result<f64> {
        let output = Command::new("wrk")
            .args(["-t1", "-c64", &format!("-d{}s", self.seconds), "--latency"])
            .args(["-H", &format!("Host: {HOST}"), &format!("http://{proxy}/a")])
            .output()
            .context("cannot run wrk; apt-get install wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk: {text}");
        ensure!(!text.contains("Non-2xx"), "not all was answered well: {text}");
        ensure!(!text.contains("Socket errors"), "connections broke: {text}");
        let mut lines = text.lines().map(str::trim);
        let line = lines.find_map(|line| line.split_once(" requests in "));
        let completed: u32 = line.context("wrk says no number")?.0.parse()?;
        Ok(f64::from(completed))
    }
}
