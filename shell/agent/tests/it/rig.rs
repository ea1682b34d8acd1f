//! What the tests stand on: configurations, conditions that are waited for, the agent's
//! program and a client for its local socket.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dwcp_agent::Config;
use dwcp_api::host::{
    Console, HostReport, InstanceReport, Instruction, MachineReport, MoveOrder,
    MoveReport,
};
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::tls::{DevelopmentCa, Identity, NODE_LIFETIME, SubjectName};
use dwcp_types::{Epoch, Generation, Gib, HostId, Mib, Power, RegionId, VmId, VmShape};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// When a condition is given up. Generous: it bounds a broken run, it measures nothing.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until the probe yields something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let looking = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Some(found) = probe().await {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("it never came: {what}"))
}

/// A file system of its own for a test that may mount one.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Twice what a data folder begins with.
    const SIZE: usize = 4 << 20;

    pub(crate) fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={},mode=0700", Self::SIZE))
            .args(["tmpfs".as_ref(), folder.path().as_os_str()])
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes as much as fits; that it does not all fit is the point.
    pub(crate) fn fill(&self) {
        std::fs::write(self.ballast(), vec![0u8; Self::SIZE]).unwrap_err();
    }

    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

pub(crate) fn vm(name: &str) -> VmId {
    VmId::new(name).unwrap()
}

pub(crate) fn shape() -> VmShape {
    VmShape {
        cpu: 16,
        memory: Mib::new(65_536),
        storage: Gib::new(1_000),
        ..VmShape::default()
    }
}

pub(crate) fn instruction(epoch: u64, generation: u64, power: Power) -> Instruction {
    Instruction {
        epoch: Epoch::new(epoch),
        generation: Generation::new(generation),
        power,
        shape: shape(),
        image: None,
        address: None,
        lease_bound: false,
        copied: false,
        disk_from: None,
    }
}

/// The folder of the guest image.
fn image() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest");
    std::env::var_os("DWCP_GUEST_IMAGE").map_or(default, PathBuf::from)
}

/// Why no real guest can run here, or nothing.
pub(crate) fn missing() -> Option<String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let program = "qemu-system-x86_64";
    if !std::env::split_paths(&folders).any(|folder| folder.join(program).is_file()) {
        return Some(format!("SKIPPED: {program} is not installed"));
    }
    let image = image();
    if !image.join("kernel").is_file() || !image.join("initrd").is_file() {
        let image = image.display();
        return Some(format!("SKIPPED: no guest image; run guest/build.sh {image}"));
    }
    None
}

/// A configuration's text.
pub(crate) fn config_text(data: &Path, driver: &str, network: &str) -> String {
    format!(
        "
host: host-a
region: us-east-1
zone: us-east-1a
capacity: {{ cpu: 64, memory: 262144, storage: 4000, vms: 100 }}
data_dir: {}
image_dir: {}
driver: {driver}
network: {network}
scale: {{ cpu_max: 1, memory_max: 96 }}
",
        data.display(),
        image().display()
    )
}

pub(crate) fn config(data: &Path, driver: &str) -> Config {
    let text = config_text(data, driver, "{ mode: user }");
    Config::parse(&text, Path::new("agent.yaml")).unwrap()
}

/// Asks the local socket of the agent whose data folder this is.
pub(crate) async fn ask(
    data: &Path,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(data.join("agent.sock")).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

async fn read<T: DeserializeOwned>(data: &Path, path: &str) -> Option<T> {
    let (status, body) = ask(data, "GET", path, "").await.ok()?;
    if status != 200 {
        return None;
    }
    Some(serde_json::from_value(body).expect("the reply's form"))
}

/// How an agent's program is started beside another one.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) data: PathBuf,
    pub(crate) driver: &'static str,
    pub(crate) tls: PathBuf,
}

impl Host {
    /// A host with a certificate of this authority.
    pub(crate) fn new(
        root: &Path,
        (ca, name): (&DevelopmentCa, &'static str),
        driver: &'static str,
    ) -> Self {
        let region = RegionId::new("us-east-1").unwrap();
        let host = HostId::new(name).unwrap();
        let identity = Identity::Host { region, host };
        let dns = SubjectName::Dns(identity.dns_name().unwrap());
        let tls = root.join(format!("{name}-tls"));
        let now = SystemClock::new().now();
        ca.issue(&identity, &[dns], NODE_LIFETIME, now)
            .unwrap()
            .write(&tls, "agent")
            .unwrap();
        Self { name, data: root.join(name), driver, tls }
    }

    pub(crate) fn config(&self) -> String {
        let Self { name, tls, .. } = self;
        let text = config_text(&self.data, self.driver, "{ mode: user }");
        let tls = tls.display();
        let files = ["ca: ca.crt", "cert: agent.crt", "key: agent.key"]
            .map(|file| file.replacen(' ', &format!(" {tls}/"), 1))
            .join(", ");
        format!(
            "{}tls: {{ {files} }}\n",
            text.replace("host: host-a", &format!("host: {name}"))
        )
    }

    /// Starts the program; it ends itself at the crash point if one is named.
    pub(crate) async fn start(&self, crash_at: Option<&str>) -> Program {
        let file = self.data.with_extension("yaml");
        std::fs::write(&file, self.config()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dwcp-agent"));
        command.arg("run").arg("--config").arg(&file).stdin(Stdio::null());
        if let Some(point) = crash_at {
            command.env("DWCP_CRASH_AT", point);
        }
        let program =
            Program { child: command.spawn().unwrap(), data: self.data.clone() };
        until("the agent answers", || program.report()).await;
        program
    }
}

/// The agent's program, killed at the end.
pub(crate) struct Program {
    child: Child,
    pub(crate) data: PathBuf,
}

impl Program {
    /// Starts the program; `prefix` is what it is started by, such as `ip netns exec X`.
    pub(crate) async fn start(data: &Path, network: &str, prefix: &[&str]) -> Self {
        let file = data.with_extension("yaml");
        std::fs::write(&file, config_text(data, "qemu", network)).unwrap();
        let mut words: Vec<&str> = prefix.to_vec();
        words.push(env!("CARGO_BIN_EXE_dwcp-agent"));
        let child = Command::new(words[0])
            .args(&words[1..])
            .arg("run")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let program = Self { child, data: data.to_owned() };
        until("the agent answers", || program.report()).await;
        program
    }

    /// SIGKILL, as dropping it does.
    pub(crate) fn kill(self) {
        drop(self);
    }

    pub(crate) async fn put(
        &self,
        name: &str,
        instruction: &Instruction,
    ) -> (u16, Value) {
        self.try_put(name, instruction).await.unwrap()
    }

    pub(crate) async fn try_put(
        &self,
        name: &str,
        instruction: &Instruction,
    ) -> Option<(u16, Value)> {
        let body = serde_json::to_string(instruction).unwrap();
        ask(&self.data, "PUT", &format!("/host/v1/instances/{name}"), &body).await.ok()
    }

    /// SIGKILL, and keeps what it was.
    pub(crate) fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it ended.
    pub(crate) fn is_dead(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) async fn order(&self, name: &str, order: &MoveOrder) -> Option<u16> {
        let body = serde_json::to_string(order).unwrap();
        let path = format!("/host/v1/instances/{name}/move");
        ask(&self.data, "PUT", &path, &body).await.ok().map(|(status, _)| status)
    }

    pub(crate) async fn moving(&self, name: &str) -> Option<MoveReport> {
        read(&self.data, &format!("/host/v1/instances/{name}/move")).await
    }

    pub(crate) async fn machine(&self, name: &str) -> MachineReport {
        let path = format!("/host/v1/instances/{name}/machine?cpu=16&memory=65536");
        until("the machine", async || read(&self.data, &path).await).await
    }

    pub(crate) async fn report(&self) -> Option<HostReport> {
        read(&self.data, "/host/v1/report").await
    }

    pub(crate) async fn console(&self, name: &str) -> Option<String> {
        let path = format!("/host/v1/instances/{name}/console");
        read::<Console>(&self.data, &path).await.map(|console| console.text)
    }

    /// Waits until the VM's report fulfils the condition.
    pub(crate) async fn sees(
        &self,
        name: &str,
        what: &str,
        condition: impl Fn(&InstanceReport) -> bool,
    ) -> InstanceReport {
        until(what, async || {
            let found = self.report().await?.changed.into_iter();
            found.into_iter().find(|seen| seen.vm.as_str() == name && condition(seen))
        })
        .await
    }

    /// Waits until the guest has printed the text this many times.
    pub(crate) async fn prints(&self, name: &str, text: &str, times: usize) {
        until(text, async || {
            let console = self.console(name).await?;
            (console.matches(text).count() >= times).then_some(())
        })
        .await;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Ends the guests of a data folder when a test ends, however it ends.
pub(crate) struct Guests(pub(crate) PathBuf);

impl Drop for Guests {
    fn drop(&mut self) {
        let Ok(folders) = std::fs::read_dir(self.0.join("guests")) else { return };
        for folder in folders.flatten() {
            let pid_file = folder.path().join("qemu.pid");
            let Ok(pid) = std::fs::read_to_string(&pid_file) else { continue };
            let pid = pid.trim();
            let own = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&own);
            if text.contains(pid_file.to_str().unwrap()) {
                Command::new("kill").args(["-9", pid]).status().unwrap();
            }
        }
    }
}
