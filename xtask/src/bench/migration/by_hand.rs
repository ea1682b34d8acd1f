//! The same guest moved by hand: two QEMUs on the same line, told by one who sits in both regions
//! and asks nobody: what a move costs when nothing decides who owns the VM.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use dwcp_testbed::wan::Bed;
use dwcp_vm::{launch, qcow2};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::pulse::{Gap, Watch};

/// As agents have it.
const PRIORITY: &str = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM";
const DISK_BYTES: u64 = 10 << 30;
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const DISK_PORT: u16 = 49_001;
const MEMORY_PORT: u16 = 49_002;

/// One end of the move.
pub(super) struct End<'a> {
    /// Its region.
    pub(super) region: &'a str,
    /// A folder with the certificates of its host, as its agent gives them to QEMU.
    pub(super) credentials: PathBuf,
    /// The name in them.
    pub(super) name: String,
}

/// What QEMU is told of the stream.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) bandwidth: u64,
    pub(super) downtime_ms: u64,
}

/// A QEMU and its monitor; it is killed at the end.
struct Qemu {
    child: Child,
    monitor: BufReader<UnixStream>,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Moves a guest that is started with the arguments of one of an agent's, whose folder was
/// `agents`. The time of all of it and the gap.
pub(super) fn moved(
    bed: &Bed,
    (from, to): (&End<'_>, &End<'_>),
    (arguments, agents): (&[String], &str),
    limits: Limits,
) -> anyhow::Result<(Duration, Gap)> {
    let scratch = super::scratch("hand")?;
    let folder = |side: &str| scratch.join(side);
    let mut source = start(bed, from.region, (arguments, agents), &folder("a"), &[])?;
    let console = |side: &str| folder(side).join(launch::file::CONSOLE);
    has_said(&console("a"), 100)?;
    let incoming = ["-S", "-incoming", "defer"];
    let mut target = start(bed, to.region, (arguments, agents), &folder("b"), &incoming)?;
    let address = bed.address(to.region);
    open(&mut target, to, address)?;
    let watch = Watch::begin(console("a"), console("b"));
    let began = Instant::now();
    leave(&mut source, (from, to), address, limits)?;
    target.waits_until(|it| it.stream_is("completed"))?;
    target.execute("nbd-server-stop", Value::Null)?;
    target.execute("cont", Value::Null)?;
    let took = began.elapsed();
    has_said(&console("b"), 2)?;
    let gap = watch.end()?;
    drop((source, target));
    fs::remove_dir_all(&scratch)?;
    Ok((took, gap))
}

/// Waits for so many numbers. The last one may be half of one yet.
fn has_said(console: &Path, count: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    let said = || fs::read_to_string(console).unwrap_or_default();
    while said().matches("pulse ").count() < count {
        let seen = console.display();
        ensure!(began.elapsed() < PATIENCE, "{seen} has no {count} numbers");
        sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn start(
    bed: &Bed,
    region: &str,
    (arguments, agents): (&[String], &str),
    folder: &Path,
    more: &[&str],
) -> anyhow::Result<Qemu> {
    fs::create_dir_all(folder)?;
    let own = folder.to_str().context("a path of text")?;
    let disk = qcow2::empty(DISK_BYTES)?;
    let path = folder.join(launch::file::DISK);
    fs::write(&path, &disk.head)?;
    fs::File::options().write(true).open(&path)?.set_len(disk.file_len)?;
    let mut command = Command::new("nice");
    command.args(["-n", "10"]).args(arguments.iter().map(|it| it.replace(agents, own)));
    command.args(more).current_dir(folder).stdin(Stdio::null());
    let mut child = bed.run_in(region, &mut command)?;
    let began = Instant::now();
    let stream = loop {
        match UnixStream::connect(folder.join(launch::file::MONITOR)) {
            Ok(stream) => break stream,
            Err(error) if began.elapsed() > PATIENCE => {
                child.kill().ok();
                return Err(error).context("QEMU's monitor does not open");
            }
            Err(_) => sleep(LOOK_AGAIN),
        }
    };
    let mut qemu = Qemu { child, monitor: BufReader::new(stream) };
    qemu.line()?;
    qemu.execute("qmp_capabilities", Value::Null)?;
    Ok(qemu)
}

fn credentials(qemu: &mut Qemu, end: &End<'_>, endpoint: &str) -> anyhow::Result<()> {
    let object = json!({
        "qom-type": "tls-creds-x509", "id": "tls", "dir": end.credentials,
        "endpoint": endpoint, "verify-peer": true, "priority": PRIORITY,
    });
    qemu.execute("object-add", object).map(drop)
}

/// The target's doors.
fn open(target: &mut Qemu, end: &End<'_>, address: Ipv4Addr) -> anyhow::Result<()> {
    credentials(target, end, "server")?;
    let data = json!({ "host": address, "port": DISK_PORT.to_string() });
    let server = json!({ "addr": { "type": "inet", "data": data }, "tls-creds": "tls" });
    target.execute("nbd-server-start", server)?;
    let export = json!({
        "type": "nbd", "id": "disk", "node-name": "disk", "name": "disk",
        "writable": true, "writethrough": true,
    });
    target.execute("block-export-add", export)?;
    target.capabilities()?;
    target.execute("migrate-set-parameters", json!({ "tls-creds": "tls" }))?;
    let uri = format!("tcp:{address}:{MEMORY_PORT}");
    target.execute("migrate-incoming", json!({ "uri": uri })).map(drop)
}

/// Everything that the source does.
fn leave(
    source: &mut Qemu,
    (from, to): (&End<'_>, &End<'_>),
    address: Ipv4Addr,
    limits: Limits,
) -> anyhow::Result<()> {
    credentials(source, from, "client")?;
    let node = json!({
        "driver": "nbd", "node-name": "target", "export": "disk", "tls-creds": "tls",
        "server": { "type": "inet", "host": address, "port": DISK_PORT.to_string() },
        "tls-hostname": to.name,
    });
    source.execute("blockdev-add", node)?;
    let mirror = json!({
        "job-id": "mirror", "device": "disk", "target": "target", "sync": "top",
        "copy-mode": "write-blocking",
    });
    source.execute("blockdev-mirror", mirror)?;
    source.waits_until(|it| {
        let jobs = it.execute("query-block-jobs", Value::Null)?;
        Ok(jobs.pointer("/0/ready") == Some(&Value::Bool(true)))
    })?;
    source.capabilities()?;
    let parameters = json!({
        "tls-creds": "tls", "tls-hostname": to.name,
        "max-bandwidth": limits.bandwidth, "downtime-limit": limits.downtime_ms,
    });
    source.execute("migrate-set-parameters", parameters)?;
    let uri = format!("tcp:{address}:{MEMORY_PORT}");
    // As agents do with a guest that is emulated.
    source.execute("stop", Value::Null)?;
    source.execute("migrate", json!({ "uri": uri }))?;
    source.waits_until(|it| it.stream_is("pre-switchover"))?;
    source.execute("block-job-cancel", json!({ "device": "mirror" }))?;
    source.waits_until(|it| {
        Ok(it.execute("query-block-jobs", Value::Null)? == json!([]))
    })?;
    source.execute("migrate-continue", json!({ "state": "pre-switchover" })).map(drop)
}

impl Qemu {
    fn line(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        ensure!(self.monitor.read_line(&mut line)? > 0, "QEMU ended");
        serde_json::from_str(&line).context("the monitor speaks JSON")
    }

    fn execute(&mut self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        let mut order = json!({ "execute": command });
        if !arguments.is_null() {
            order["arguments"] = arguments;
        }
        writeln!(self.monitor.get_mut(), "{order}")?;
        loop {
            let mut answer = self.line()?;
            if let Some(error) = answer.get("error") {
                bail!("{command}: {error}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            // An event.
        }
    }

    fn capabilities(&mut self) -> anyhow::Result<()> {
        let on = |name: &str| json!({ "capability": name, "state": true });
        let all = ["pause-before-switchover", "auto-converge", "events"].map(on);
        self.execute("migrate-set-capabilities", json!({ "capabilities": all })).map(drop)
    }

    fn stream_is(&mut self, wanted: &str) -> anyhow::Result<bool> {
        let seen = self.execute("query-migrate", Value::Null)?;
        let status = seen.get("status").and_then(Value::as_str).unwrap_or_default();
        ensure!(status != "failed" && status != "cancelled", "the stream: {seen}");
        Ok(status == wanted)
    }

    fn waits_until(
        &mut self,
        is: impl Fn(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        while !is(self)? {
            ensure!(began.elapsed() < PATIENCE, "a step of a move by hand is too late");
            sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}
