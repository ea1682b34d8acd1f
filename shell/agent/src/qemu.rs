//! The adapter that runs guests as QEMU processes, one each, steered by QMP.
//!
//! Everything about a guest is in one folder, `DATA/guests/VM/`. Processes have sessions of
//! their own: they outlive the agent (a service manager must be told to end the agent's process
//! only: `KillMode=process`). What this value holds (the connections) can be lost at any time and is
//! found again from the folder: `observe` reports a process without a connection as detached,
//! `adopt` connects. Two processes for one guest are impossible by the kernel's own locks:
//! QEMU locks its pid file and its disk image, and the second one refuses to start.

pub(crate) mod accel;
pub(crate) mod console;
mod copier;
pub(crate) mod image;
mod mover;
pub(crate) mod network;
pub(crate) mod process;
pub mod qmp;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dwcp_types::{Gib, VmId, VmShape};
use dwcp_vm::{
    Accelerator, Given, GuestSpec, Launch, Monitor, Observation, Process as Seen, Scale,
    Storage, launch, qcow2,
};
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::hypervisor::{
    CHANGES_MAX, ConsolePart, Done, DriverFacts, Hypervisor, HypervisorError, Sighting,
    Usage,
};
use crate::trial::TRIALS;
use network::Wiring;
use process::Process;
use qmp::{COMMAND_LIMIT, Client};

/// Where each guest has its folder.
const GUESTS: &str = "guests";

/// QEMU is there within a second; on a host that starts twenty at once within five.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often a monitor that is not there yet is tried; QEMU needs about 60 ms to make it.
const CONNECT_AGAIN: Duration = Duration::from_millis(10);
/// A process that was told to close its files syncs its disk first.
const QUIT_LIMIT: Duration = Duration::from_secs(3);
/// Its events tell of changes at once; this is for what sends none, such as a killed process
/// whose connection this agent does not hold.
const SWEEP: Duration = Duration::from_secs(3);
/// How far guests stand back for what keeps them (`nice`): a host that is busy with its guests
/// must still renew the lease that they run under. Twenty that started at once on two cores kept
/// agent, daemon and etcd from it, were ended for that, and started again, for ever.
const GUEST_NICE: &str = "10";
const GIB: u64 = 1024 * 1024 * 1024;

/// How a guest's process begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Running,
    /// Its CPUs are halted.
    Halted,
    /// It waits for a guest that another host sends.
    Incoming,
}

/// QEMU on this host.
#[derive(Debug)]
pub struct Qemu {
    program: PathBuf,
    version: String,
    accelerator: Accelerator,
    data: PathBuf,
    guests: PathBuf,
    images: PathBuf,
    wiring: Wiring,
    scale: Scale,
    /// How it takes part in moves; not at all without certificates.
    door: Option<mover::Door>,
    clients: Mutex<BTreeMap<VmId, Arc<Client>>>,
    changes: broadcast::Sender<VmId>,
}

impl Qemu {
    /// Finds QEMU, the image and what accelerates guests here; the last may take five seconds
    /// on the first start after the host booted.
    ///
    /// # Errors
    ///
    /// When QEMU or the image is missing, or the network that is demanded cannot be had.
    pub async fn open(config: &Config) -> Result<Self, HypervisorError> {
        let program = find_program(&config.qemu).ok_or_else(|| {
            HypervisorError::QemuMissing { program: config.qemu.clone() }
        })?;
        let version = version(&program).await?;
        let default = image::find(&config.image_dir, None)?;
        let guests = config.data_dir.join(GUESTS);
        make_folder(&guests)?;
        let accelerator =
            accel::choose(&program, &version, &default, &config.data_dir).await;
        let wiring = Wiring::open(config).await?;
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        Ok(Self {
            program,
            version,
            accelerator,
            data: config.data_dir.clone(),
            guests,
            images: config.image_dir.clone(),
            wiring,
            scale: config.scale,
            door: mover::Door::open(config)?,
            clients: Mutex::default(),
            changes,
        })
    }

    fn folder(&self, vm: &VmId) -> PathBuf {
        self.guests.join(vm.as_str())
    }

    fn storage(&self, vm: &VmId) -> Storage {
        let folder = self.folder(vm);
        if folder.join(launch::file::DISK).is_file() {
            Storage::Ready
        } else if folder.exists() {
            Storage::Partial
        } else {
            Storage::Absent
        }
    }

    fn client(&self, vm: &VmId) -> Option<Arc<Client>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        match clients.get(vm) {
            Some(client) if client.is_open() => Some(Arc::clone(client)),
            Some(_) => {
                clients.remove(vm);
                None
            }
            None => None,
        }
    }

    fn disconnect(&self, vm: &VmId) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(vm);
    }

    async fn connect(&self, vm: &VmId) -> Result<Arc<Client>, HypervisorError> {
        if let Some(client) = self.client(vm) {
            return Ok(client);
        }
        let client = Arc::new(Client::connect(&self.folder(vm), COMMAND_LIMIT).await?);
        tokio::spawn(announce(vm.clone(), client.events(), self.changes.clone()));
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.insert(vm.clone(), Arc::clone(&client));
        Ok(client)
    }

    /// The same QEMU for trials: another folder, no network, and nothing to do with moves.
    fn apart(&self) -> Result<Self, HypervisorError> {
        let guests = self.data.join(TRIALS);
        make_folder(&guests)?;
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        Ok(Self {
            program: self.program.clone(),
            version: self.version.clone(),
            accelerator: self.accelerator,
            data: self.data.clone(),
            guests,
            images: self.images.clone(),
            wiring: Wiring::Isolated,
            scale: self.scale,
            door: None,
            clients: Mutex::default(),
            changes,
        })
    }

    async fn look(&self, vm: &VmId) -> Sighting {
        let storage = self.storage(vm);
        let folder = self.folder(vm);
        let Some(process) = process::find(&folder) else {
            self.disconnect(vm);
            let observation = Observation { storage, process: Seen::Gone };
            return Sighting { observation, ..Sighting::default() };
        };
        if let Err(error) = console::trim(&folder.join(launch::file::CONSOLE)) {
            tracing::warn!(%vm, %error, "the console cannot be kept short");
        }
        let monitor = match self.client(vm) {
            None => Monitor::Detached,
            Some(client) => match client.status().await {
                Ok(state) => Monitor::Says(state),
                Err(qmp::QmpError::Closed | qmp::QmpError::Socket(_)) => {
                    Monitor::Detached
                }
                Err(error) => {
                    tracing::debug!(%vm, %error, "the monitor does not answer");
                    Monitor::Silent
                }
            },
        };
        let observation = Observation { storage, process: Seen::Alive(monitor) };
        Sighting { observation, pid: Some(process.pid), usage: process.usage() }
    }

    fn make_disk(&self, vm: &VmId, guest: &GuestSpec) -> Result<(), HypervisorError> {
        let folder = self.folder(vm);
        make_folder(&folder)?;
        let path = folder.join(launch::file::DISK);
        if path.is_file() {
            return Ok(());
        }
        write_disk(&path, &qcow2::empty(bytes(guest.shape.storage))?)
    }

    async fn launch(
        &self,
        vm: &VmId,
        guest: &GuestSpec,
        begin: Begin,
    ) -> Result<(), HypervisorError> {
        let folder = self.folder(vm);
        if self.storage(vm) != Storage::Ready {
            return Err(HypervisorError::NoDisk);
        }
        if let Some(Process { pid, .. }) = process::find(&folder) {
            return Err(HypervisorError::AlreadyRunning { pid });
        }
        let image = image::find(&self.images, guest.image.as_deref())?;
        private_file(&folder.join(launch::file::CONSOLE), true)?;
        let link = self.wiring.connect(vm, guest).await?;
        let arguments = Launch {
            vm,
            given: self.scale.give(&guest.shape),
            accelerator: self.accelerator,
            kernel: text(&image.kernel)?,
            initrd: text(&image.initrd)?,
            folder: text(&folder)?,
            link,
            paused: begin == Begin::Halted,
            incoming: begin == Begin::Incoming,
        }
        .arguments();
        self.spawn(vm, &folder, &arguments).await
    }

    /// Starts the process in a session of its own, so that it outlives the agent and its
    /// terminal, and waits until its monitor answers or it ends. What it says goes to a file,
    /// not to a pipe: the process must not notice when the agent dies.
    async fn spawn(
        &self,
        vm: &VmId,
        folder: &Path,
        arguments: &[String],
    ) -> Result<(), HypervisorError> {
        if !self.program.is_file() {
            let program = self.program.display().to_string();
            return Err(HypervisorError::QemuMissing { program });
        }
        remove_stale(&folder.join(launch::file::MONITOR))?;
        let log = folder.join(launch::file::LOG);
        let child = Command::new("nice")
            .args(["-n", GUEST_NICE, "setsid"])
            .arg(&self.program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(private_file(&log, false)?)
            .spawn()
            .map_err(|error| HypervisorError::Launch {
                reason: format!("nice (package coreutils) failed: {error}"),
            })?;
        let late = "its monitor did not answer within 30 s";
        let started =
            process::ready(child, self.connected(vm), (START_LIMIT, late)).await;
        let child = started.map_err(|ended| HypervisorError::Launch {
            reason: format!("{ended}: {}", said(&log)),
        })?;
        if let Some(process) = process::find(folder) {
            process.group_stands_back(GUEST_NICE);
        }
        tokio::spawn(reap(child, vm.clone(), self.changes.clone()));
        Ok(())
    }

    /// Waits until the monitor answers.
    async fn connected(&self, vm: &VmId) {
        while self.connect(vm).await.is_err() {
            sleep(CONNECT_AGAIN).await;
        }
    }

    async fn end(&self, vm: &VmId, clean: bool) -> Result<(), HypervisorError> {
        let folder = self.folder(vm);
        let Some(process) = process::find(&folder) else {
            self.disconnect(vm);
            return Ok(());
        };
        if clean && self.quits(vm, &process).await {
            self.disconnect(vm);
            return Ok(());
        }
        let ended = process.end().await;
        self.disconnect(vm);
        ended
    }

    async fn quits(&self, vm: &VmId, process: &Process) -> bool {
        let Ok(client) = self.connect(vm).await else { return false };
        // The answer may be cut off by the end that was asked for.
        if let Err(error) = client.execute::<Value>("quit", Value::Null).await {
            tracing::debug!(%vm, %error, "quit was not answered");
        }
        process.gone_within(QUIT_LIMIT).await
    }

    async fn tell(&self, vm: &VmId, command: &str) -> Result<(), HypervisorError> {
        if process::find(&self.folder(vm)).is_none() {
            return Err(HypervisorError::NotRunning);
        }
        self.connect(vm).await?.execute::<Value>(command, Value::Null).await?;
        Ok(())
    }

    async fn remove(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let folder = self.folder(vm);
        if let Some(Process { pid, .. }) = process::find(&folder) {
            return Err(HypervisorError::AlreadyRunning { pid });
        }
        self.wiring.disconnect(vm).await?;
        remove_folder(&folder)
    }
}

impl Hypervisor for Qemu {
    fn facts(&self) -> DriverFacts {
        DriverFacts {
            driver: "qemu",
            accelerator: self.accelerator.as_str(),
            version: self.version.clone(),
            scaled: self.scale.is_reduced(),
            prefix: self.wiring.prefix(),
            sweep: SWEEP,
        }
    }

    fn give(&self, asked: &VmShape) -> Given {
        self.scale.give(asked)
    }

    fn changes(&self) -> broadcast::Receiver<VmId> {
        self.changes.subscribe()
    }

    fn for_trials(&self) -> Result<Arc<dyn Hypervisor>, HypervisorError> {
        Ok(Arc::new(self.apart()?))
    }

    fn list(&self) -> Result<Vec<VmId>, HypervisorError> {
        list_folders(&self.guests)
    }

    fn observe<'a>(&'a self, vm: &'a VmId) -> BoxFuture<'a, Sighting> {
        Box::pin(self.look(vm))
    }

    fn create_disk<'a>(&'a self, vm: &'a VmId, guest: &'a GuestSpec) -> Done<'a> {
        Box::pin(async move { self.make_disk(vm, guest) })
    }

    fn start<'a>(&'a self, vm: &'a VmId, guest: &'a GuestSpec, paused: bool) -> Done<'a> {
        let begin = if paused { Begin::Halted } else { Begin::Running };
        Box::pin(self.launch(vm, guest, begin))
    }

    fn adopt<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(async move { self.connect(vm).await.map(|_| ()) })
    }

    fn resume<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(self.tell(vm, "cont"))
    }

    fn pause<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(self.tell(vm, "stop"))
    }

    fn power_down<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(self.tell(vm, "system_powerdown"))
    }

    fn kill<'a>(&'a self, vm: &'a VmId, clean: bool) -> Done<'a> {
        Box::pin(self.end(vm, clean))
    }

    fn delete<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(self.remove(vm))
    }

    fn console<'a>(
        &'a self,
        vm: &'a VmId,
        offset: Option<u64>,
        limit: u32,
    ) -> BoxFuture<'a, Result<ConsolePart, HypervisorError>> {
        let path = self.folder(vm).join(launch::file::CONSOLE);
        Box::pin(async move {
            console::read(&path, offset, limit).map_err(|source| HypervisorError::File {
                what: "read",
                path,
                source,
            })
        })
    }
}

/// What this very process uses, read as a guest's process is.
#[must_use]
pub fn own_usage() -> Option<Usage> {
    process::usage_of(std::process::id())
}

/// Tells that a guest changed when QEMU announces something or goes away.
async fn announce(
    vm: VmId,
    mut events: broadcast::Receiver<qmp::Event>,
    changes: broadcast::Sender<VmId>,
) {
    loop {
        let last = match events.recv().await {
            Ok(event) => event.name.is_empty(),
            Err(broadcast::error::RecvError::Lagged(_)) => false,
            Err(broadcast::error::RecvError::Closed) => true,
        };
        // Nobody need listen.
        drop(changes.send(vm.clone()));
        if last {
            return;
        }
    }
}

/// Waits for the end of a process that this agent started, so that none is left behind as a
/// zombie, and tells of it.
async fn reap(mut child: Child, vm: VmId, changes: broadcast::Sender<VmId>) {
    match child.wait().await {
        Ok(status) => tracing::info!(%vm, %status, "the guest's process ended"),
        Err(error) => {
            tracing::warn!(%vm, %error, "the guest's process cannot be awaited");
        }
    }
    // Nobody need listen.
    drop(changes.send(vm));
}

/// A file for its owner only; QEMU itself would make it readable by all.
fn private_file(path: &Path, append: bool) -> Result<fs::File, HypervisorError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).append(append).truncate(!append).mode(0o600);
    options.open(path).map_err(|source| HypervisorError::File {
        what: "make",
        path: path.to_owned(),
        source,
    })
}

const fn bytes(size: Gib) -> u64 {
    size.get().saturating_mul(GIB)
}

/// Makes an empty disk, thin, whole or not at all.
fn write_disk(path: &Path, image: &qcow2::Empty) -> Result<(), HypervisorError> {
    let temporary = path.with_extension("tmp");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(&image.head)?;
            file.set_len(image.file_len)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        drop(fs::remove_file(&temporary));
        HypervisorError::File { what: "make the disk", path: path.to_owned(), source }
    })
}

/// What a program said, in short.
fn said(log: &Path) -> String {
    let said = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&said).trim().chars().take(500).collect()
}

/// Removes a folder with all in it; it may be gone already.
pub(crate) fn remove_folder(path: &Path) -> Result<(), HypervisorError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(HypervisorError::File { what: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

pub(crate) fn remove_stale(path: &Path) -> Result<(), HypervisorError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(HypervisorError::File { what: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

pub(crate) fn make_folder(path: &Path) -> Result<(), HypervisorError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| {
        HypervisorError::File { what: "make the folder", path: path.to_owned(), source }
    })
}

/// The folders that are named like VMs.
pub(crate) fn list_folders(guests: &Path) -> Result<Vec<VmId>, HypervisorError> {
    let cannot_read =
        |source| HypervisorError::File { what: "read", path: guests.to_owned(), source };
    let mut vms = Vec::new();
    for entry in fs::read_dir(guests).map_err(cannot_read)? {
        let entry = entry.map_err(cannot_read)?;
        if let Some(name) = entry.file_name().to_str()
            && let Ok(vm) = VmId::new(name)
        {
            vms.push(vm);
        }
    }
    vms.sort();
    Ok(vms)
}

fn text(path: &Path) -> Result<&str, HypervisorError> {
    path.to_str().ok_or_else(|| HypervisorError::File {
        what: "use",
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"),
    })
}

pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        let path = PathBuf::from(program);
        return path.is_file().then_some(path);
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

async fn version(program: &Path) -> Result<String, HypervisorError> {
    let failed = |reason: String| HypervisorError::Launch { reason };
    let running = Command::new(program)
        .arg("--version")
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .output();
    let output = timeout(START_LIMIT, running)
        .await
        .map_err(|_| failed("--version was not answered within 30 s".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.split_whitespace().nth(3).unwrap_or_default();
    if !said.starts_with("QEMU emulator") || version.is_empty() {
        return Err(failed(format!("{} is not QEMU", program.display())));
    }
    Ok(version.to_owned())
}
