//! OpenStack Placement, from the Python package index, in a virtual environment of its own
//! under `target/peers`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::load::Load;

/// How the peer is named beside the numbers.
pub(super) const NAME: &str =
    "OpenStack Placement, 1,000 empty hosts of the same kinds, one core, SQLite";
/// Hosts: a hundredth of ours, because at more it takes seconds for one answer.
const HOSTS: usize = 1_000;
const REQUESTS: usize = 200;
const REQUESTS_QUICK: usize = 20;
/// Where its packages go.
const VENV: &str = "target/peers/openstack";
/// What is run in it.
const SCRIPT: &str = include_str!("../openstack_placement.py");

/// What the script prints.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Numbers {
    pub(super) decisions_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// Installs the peer when it is not there, and asks it for hosts for our arrivals.
pub(super) fn measure(load: &Load, quick: bool) -> anyhow::Result<Numbers> {
    install()?;
    let hosts = load.nodes.iter().cycle().take(HOSTS);
    let requests = if quick { REQUESTS_QUICK } else { REQUESTS };
    let job = serde_json::json!({
        "hosts": hosts.collect::<Vec<_>>(),
        "requests": load.shapes(requests),
    });
    let script = Path::new(VENV).join("measure.py");
    fs::write(&script, SCRIPT).context("cannot write the peer's script")?;
    let mut child = Command::new(Path::new(VENV).join("bin/python"))
        .arg(&script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the peer's python")?;
    let mut input = child.stdin.take().context("the peer has no input")?;
    input.write_all(job.to_string().as_bytes()).context("the peer reads nothing")?;
    drop(input);
    let output = child.wait_with_output().context("the peer broke off")?;
    ensure!(output.status.success(), "the peer failed: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("the peer printed {line:?}"))
}

fn install() -> anyhow::Result<()> {
    let installed = Path::new(VENV).join("installed");
    if installed.exists() {
        return Ok(());
    }
    eprintln!("installing the peer, openstack-placement, into {VENV}");
    run(Command::new("python3").args(["-m", "venv", VENV]))?;
    let pip = Path::new(VENV).join("bin/pip");
    run(Command::new(pip).args(["install", "--quiet", "openstack-placement"]))?;
    fs::write(installed, "").context("cannot note that the peer is installed")
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
