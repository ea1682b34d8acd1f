//! Questions for many clients, and who asks them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::{NAMES, ZONE};
use crate::bench::routing::world::Chance;

const QUESTIONS: usize = 100_000;

/// Questions in a file.
pub(super) struct Load {
    file: PathBuf,
    seconds: u32,
}

impl Load {
    pub(super) fn write(
        folder: &Path,
        seconds: u32,
        chance: &mut Chance,
    ) -> anyhow::Result<Self> {
        let mut bytes = Vec::new();
        for _ in 0..QUESTIONS {
            let question = question(chance);
            bytes.extend(u16::try_from(question.len())?.to_be_bytes());
            bytes.extend(question);
        }
        let file = folder.join("questions");
        fs::write(&file, bytes)?;
        Ok(Self { file, seconds })
    }

    /// Asks for the time agreed; how many were answered.
    pub(super) fn ask(&self, server: SocketAddr) -> anyhow::Result<f64> {
        let output = Command::new("dnsperf")
            .args(["-B", "-d"])
            .arg(&self.file)
            .args(["-s", &server.ip().to_string(), "-p", &server.port().to_string()])
            .args(["-l", &self.seconds.to_string(), "-c", "4", "-q", "200"])
            .output()
            .context("cannot run dnsperf; apt-get install dnsperf")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "dnsperf: {text}");
        ensure!(text.contains("NOERROR"), "no question was answered: {text}");
        let line = text.lines().find_map(|line| {
            line.trim_start()
                .strip_prefix("Queries completed:")?
                .split_whitespace()
                .next()
        });
        let completed: u32 = line.context("dnsperf says no number")?.parse()?;
        Ok(f64::from(completed))
    }
}

/// The bytes of a question: one name, and the /24 of a client.
fn question(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    let name = format!("s{}.{ZONE}", chance.below(NAMES.into()));
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    // OPT of 1,232 bytes with one option of 7: IPv4, 24 bits.
    let [one, two, three, _] = chance.below(u32::MAX).to_be_bytes();
    bytes.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0]);
    bytes.extend([one, two, three]);
    bytes
}
