//! The port to whatever runs guests. Two adapters, [`crate::qemu`] and [`crate::simulated`],
//! pass one conformance suite (`tests/it/conformance.rs`).
//!
//! Rules for an adapter: `observe` reports facts and never fails; every other call is safe to
//! repeat; a guest outlives the adapter; nothing but `kill` ends a guest; a call on one VM
//! never waits for another VM's.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dwcp_runtime::crash::crash_point;
use dwcp_types::{CopyId, Mib, VmId, VmShape};
use dwcp_vm::{Action, Given, GuestSpec, Observation, qcow2};
use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use crate::copier::Copier;
use crate::mover::Mover;
use crate::qemu::qmp;

/// How many signals of change may wait; one that is lost is made good by the next sweep.
pub const CHANGES_MAX: usize = 1024;

/// What drives guests.
pub trait Hypervisor: Mover + Copier {
    /// What it is.
    fn facts(&self) -> DriverFacts;

    /// What a guest of this shape really gets.
    fn give(&self, asked: &VmShape) -> Given;

    /// Names VMs that may have changed by themselves.
    fn changes(&self) -> broadcast::Receiver<VmId>;

    /// The same for guests that are tried: connected to nothing, each in a folder beside those
    /// of the guests proper, and unknown to this one.
    ///
    /// # Errors
    ///
    /// When that folder cannot be made.
    fn for_trials(&self) -> Result<Arc<dyn Hypervisor>, HypervisorError>;

    /// Every VM of which anything is in the data folder.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    fn list(&self) -> Result<Vec<VmId>, HypervisorError>;

    /// What is seen of a VM.
    fn observe<'a>(&'a self, vm: &'a VmId) -> BoxFuture<'a, Sighting>;

    /// Makes its disk, of the size that was asked for, thin.
    fn create_disk<'a>(&'a self, vm: &'a VmId, guest: &'a GuestSpec) -> Done<'a>;

    /// Starts its process; fails when there is one.
    fn start<'a>(&'a self, vm: &'a VmId, guest: &'a GuestSpec, paused: bool) -> Done<'a>;

    /// Connects to the monitor of a process that is there.
    fn adopt<'a>(&'a self, vm: &'a VmId) -> Done<'a>;

    /// Lets its CPUs run.
    fn resume<'a>(&'a self, vm: &'a VmId) -> Done<'a>;

    /// Halts its CPUs.
    fn pause<'a>(&'a self, vm: &'a VmId) -> Done<'a>;

    /// Presses its power button.
    fn power_down<'a>(&'a self, vm: &'a VmId) -> Done<'a>;

    /// Ends its process and waits until it is gone; with `clean` the process may first close
    /// its files.
    fn kill<'a>(&'a self, vm: &'a VmId, clean: bool) -> Done<'a>;

    /// Removes its disk and folder; its process must be gone.
    fn delete<'a>(&'a self, vm: &'a VmId) -> Done<'a>;

    /// Reads what it printed.
    fn console<'a>(
        &'a self,
        vm: &'a VmId,
        offset: Option<u64>,
        limit: u32,
    ) -> BoxFuture<'a, Result<ConsolePart, HypervisorError>>;
}

/// The answer of an action.
pub type Done<'a> = BoxFuture<'a, Result<(), HypervisorError>>;

/// Performs what was decided; `Nothing` and `Bury` are no business of a hypervisor.
///
/// # Errors
///
/// What the adapter says.
pub async fn perform(
    hypervisor: &dyn Hypervisor,
    vm: &VmId,
    guest: &GuestSpec,
    action: Action,
) -> Result<(), HypervisorError> {
    match action {
        Action::Nothing | Action::Bury => Ok(()),
        Action::CreateDisk => {
            crash_point("agent-before-disk");
            let made = match guest.disk_from {
                Some(copy) => hypervisor.take_copy(vm, copy).await,
                None => hypervisor.create_disk(vm, guest).await,
            };
            crash_point("agent-after-disk");
            made
        }
        Action::Start { paused } => {
            crash_point("agent-before-start");
            let started = hypervisor.start(vm, guest, paused).await;
            crash_point("agent-after-start");
            started
        }
        Action::Adopt => hypervisor.adopt(vm).await,
        Action::Cont => hypervisor.resume(vm).await,
        Action::Pause => hypervisor.pause(vm).await,
        Action::PowerDown => {
            crash_point("agent-before-stop");
            let stopped = hypervisor.power_down(vm).await;
            crash_point("agent-after-stop");
            stopped
        }
        Action::Kill { clean } => hypervisor.kill(vm, clean).await,
        Action::DeleteDisk => hypervisor.delete(vm).await,
    }
}

/// What a driver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverFacts {
    /// `qemu` or `simulated`.
    pub driver: &'static str,
    /// `kvm`, `tcg` or `none`.
    pub accelerator: &'static str,
    /// The hypervisor's version.
    pub version: String,
    /// Guests get less than what was asked for.
    pub scaled: bool,
    /// Guests have addresses of this prefix: the network's first address is the gateway's.
    pub prefix: Option<Prefix>,
    /// How often every VM is looked at without a signal.
    pub sweep: Duration,
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The network's address.
    pub network: Ipv4Addr,
    /// The length, 8 to 30.
    pub length: u8,
}

/// What is seen of a VM, and what it uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// What decisions are taken on.
    pub observation: Observation,
    /// Its process.
    pub pid: Option<u32>,
    /// What the process uses.
    pub usage: Usage,
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How long it has been there.
    pub uptime: Duration,
    /// CPU time so far.
    pub cpu: Duration,
    /// Memory that is resident.
    pub resident: Mib,
}

/// A part of a console.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsolePart {
    /// The position of the first byte in all that was ever printed.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Why an action failed. All are worth trying again after a while; the text says what would
/// help meanwhile.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// QEMU is not installed.
    #[error(
        "{program} is not on this host; install it (apt-get install qemu-system-x86) or choose driver: simulated"
    )]
    QemuMissing {
        /// What was looked for.
        program: String,
    },
    /// The image is not there.
    #[error("the guest image {path} is missing; build it with guest/build.sh {folder}")]
    ImageMissing {
        /// The file.
        path: PathBuf,
        /// The image's folder.
        folder: PathBuf,
    },
    /// The image's name could lead out of the image folder.
    #[error("{name:?} is no image name: use letters, digits, '.', '_' and '-'")]
    ImageName {
        /// The name.
        name: String,
    },
    /// No such disk.
    #[error(transparent)]
    DiskSize(#[from] qcow2::SizeError),
    /// A file could not be used.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The guest's process refused to start.
    #[error("QEMU did not start: {reason}")]
    Launch {
        /// Its own words, or why it was not waited for any longer.
        reason: String,
    },
    /// The monitor.
    #[error("QEMU's monitor")]
    Monitor(#[from] qmp::QmpError),
    /// There is a process already.
    #[error("the guest's process {pid} is there already")]
    AlreadyRunning {
        /// Its process.
        pid: u32,
    },
    /// There is no process.
    #[error("the guest has no process")]
    NotRunning,
    /// There is no such VM here.
    #[error("there is no disk of this VM on this host")]
    NoDisk,
    /// The process does not go away.
    #[error(
        "process {pid} is still there {seconds} s after SIGKILL; is its disk hanging?"
    )]
    Unkillable {
        /// The process.
        pid: u32,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Its disk was to be a copy that is not here.
    #[error(
        "copy {copy} of its disk is not on this host (any more); look for it below `standbys` in the data folder"
    )]
    NoCopy {
        /// Which.
        copy: CopyId,
    },
    /// What changed since a round is not known here.
    #[error(
        "what changed since copy {base} is not known: the guest's process is another one; the next copy brings everything"
    )]
    NoBase {
        /// Since which.
        base: CopyId,
    },
    /// A move needs to be sure of the other host.
    #[error(
        "this host has no certificate to be known by in a move; set `tls` in its agent's configuration"
    )]
    NoCertificate,
    /// Its certificate cannot be read.
    #[error("this host's certificate cannot be used in a move: {reason}")]
    Certificate {
        /// Why not.
        reason: String,
    },
    /// All ports for moves are taken.
    #[error(
        "all ports for moves and copies are in use; raise moves.ports_count in the agent's configuration"
    )]
    NoPort,
    /// The state of one machine is nothing to another.
    #[error(
        "the guest runs on {source_has} and would get {target_has} here; choose a host that is alike"
    )]
    OtherMachine {
        /// At the source.
        source_has: String,
        /// Here.
        target_has: String,
    },
    /// The network device could not be made.
    #[error("cannot connect the guest: `ip {command}` says: {reason}")]
    Network {
        /// The arguments.
        command: String,
        /// What the tool said.
        reason: String,
    },
}

impl HypervisorError {
    /// The whole chain in one line.
    #[must_use]
    pub fn told(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
