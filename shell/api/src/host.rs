//! What a region's daemon asks of a host's agent (F92): give an instruction, read what the
//! host sees, read a guest's console.
//!
//! The region pushes instructions and pulls reports; an agent never calls out, so it needs no
//! credentials towards the region. A report is a level, not a stream of events: whoever lost
//! track reads it whole again.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dwcp_monitor::trace::Span;
use dwcp_types::{
    Capacity, CopyId, Epoch, Generation, Gib, HostId, Mib, Power, RegionId, Round,
    Timestamp, VmId, VmPhase, VmShape, ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NoParams, operations};

mod moving;
mod trial;

pub use moving::{
    Machine, MachineParams, MachineReport, MoveOrder, MoveParams, MoveReport, MoveStage,
    ReceiveOrder, SendOrder,
};
pub use trial::{
    TRIAL_EXPECT_MAX, TRIAL_SECONDS_DEFAULT, TRIAL_SECONDS_MAX, TrialBody, TrialParams,
    TrialReport, TrialStage,
};

operations! {
    /// Refused with 409 when a later instruction is in force; `details` is an [`InForce`].
    PutInstance = Put "/host/v1/instances/{vm}" "put_instance"
        "Says what is wanted of a VM on this host; it is on disk before it is acknowledged.",
        InstanceParams, Instruction => Acknowledged;
    /// A long poll: answers at once when there is news after `after`.
    ReadHostReport = Get "/host/v1/report" "read_host_report"
        "Reports the host and what changed on it.",
        ReportParams, () => HostReport;
    /// A grant from another start of the machine, or an older one, is passed over.
    GrantLease = Put "/host/v1/lease" "grant_lease"
        "Lets guests that are bound to the region's lease run for a while, and reads the clock.",
        NoParams, LeaseBody => ClockReading;
    /// 404 when the host has no record of the VM.
    ReadConsole = Get "/host/v1/instances/{vm}/console" "read_console"
        "Reads what the guest printed on its serial console.",
        ConsoleParams, () => Console;
    /// Refused with 409 when it contradicts what is in force.
    PutMove = Put "/host/v1/instances/{vm}/move" "put_move"
        "Says what is to be done about a VM that moves; it is on disk before it is acknowledged.",
        InstanceParams, MoveOrder => Acknowledged;
    /// A long poll: answers at once when the stage is not the one that is known.
    GetMove = Get "/host/v1/instances/{vm}/move" "get_move"
        "How far the move of a VM is on this host.", MoveParams, () => MoveReport;
    /// Takes a second.
    GetMachine = Get "/host/v1/instances/{vm}/machine" "get_machine"
        "What a VM runs on here, or would, and how fast its memory changes.",
        MachineParams, () => MachineReport;
    /// D2. Refused with 409 when a later copy is in force, or one that is relied on.
    PutCopy = Put "/host/v1/instances/{vm}/copy" "put_copy"
        "Says what is to become of the copy of a VM's disk in another region.",
        InstanceParams, CopyOrder => ();
    /// D2. Refused with 409 when a later copy is kept, or the VM is on this host.
    PutStandby = Put "/host/v1/standbys/{vm}" "put_standby"
        "Keeps a copy of a VM that runs elsewhere, and says where it takes in writes.",
        InstanceParams, StandbyBody => CopyPlace;
    /// Refused with 409 when a later copy is kept.
    DropStandby = Delete "/host/v1/standbys/{vm}" "drop_standby"
        "Removes the copies of a VM that runs elsewhere.", StandbyParams, () => ();
    /// D2.
    ListStandbys = Get "/host/v1/standbys" "list_standbys"
        "The copies that the host keeps of VMs that run elsewhere.",
        NoParams, () => StandbyList;
    /// Refused with 409 when another trial of the VM is under way.
    PutTrial = Put "/host/v1/trials/{vm}" "put_trial"
        "Starts a VM from the copy that is kept here, connected to nothing, for a while.",
        InstanceParams, TrialBody => TrialReport;
    /// 404 when there is none.
    GetTrial = Get "/host/v1/trials/{vm}" "get_trial"
        "How far a trial is.", InstanceParams, () => TrialReport;
    /// Answers when nothing of it is left.
    DropTrial = Delete "/host/v1/trials/{vm}" "drop_trial"
        "Ends a trial.", TrialParams, () => ();
}

/// Which VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceParams {
    /// The VM.
    pub vm: VmId,
}

/// What is wanted of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instruction {
    /// Which owner says so (F4).
    pub epoch: Epoch,
    /// How often that owner changed its mind.
    pub generation: Generation,
    /// What is wanted.
    pub power: Power,
    /// The size that was asked for.
    pub shape: VmShape,
    /// The image's name in the host's image folder; the host's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Its address; one of the host's prefix when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// It runs only while the region holds its lease, as the last [`LeaseGrant`] says (F4). This
    /// alone may change within a generation; a guest that was not bound is bound only under a
    /// grant that names it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lease_bound: bool,
    /// It runs only as the copy of its disk allows, as the last [`CopyOrder`] says (D2).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copied: bool,
    /// Its disk is this copy, which the host kept; made anew when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_from: Option<CopyId>,
}

/// What is to become of the copy of a VM's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyOrder {
    /// Which copy.
    pub copy: CopyId,
    /// The VM would be started from it, so no write goes on without it.
    pub relied_on: bool,
    /// Where it is written to; nowhere for now when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<CopyPlace>,
    /// It follows later, in this round; each write goes there before it is acknowledged when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<Round>,
}

/// Where a copy takes in writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyPlace {
    /// The address.
    pub address: String,
    /// The port.
    pub port: u16,
    /// The name that its host's certificate bears.
    pub name: String,
}

/// What a host is to keep of a VM that runs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandbyBody {
    /// The copy that is written.
    pub copy: CopyId,
    /// A whole one beside it, to be kept until the other is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<CopyId>,
    /// It was made before: it is not made anew when its disk is gone.
    #[serde(default)]
    pub exists: bool,
    /// What it is on top of, when it is a round of a copy that follows later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<Round>,
    /// The size of the disk.
    pub storage: Gib,
    /// The subject of the certificate of the host that writes it.
    pub from: String,
}

/// Which VM, and the last copy that is not to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandbyParams {
    /// The VM.
    pub vm: VmId,
    /// The copy's epoch.
    pub epoch: Epoch,
    /// The copy's number.
    pub number: u32,
}

/// What a host keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandbyList {
    /// By VM.
    pub items: Vec<StandbyItem>,
}

/// A VM that runs elsewhere and has copies here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandbyItem {
    /// The VM.
    pub vm: VmId,
    /// The copy that is written.
    pub copy: CopyId,
    /// A whole one beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<CopyId>,
}

/// What a host sees of the copy of a VM's disk.
#[expect(clippy::struct_excessive_bools, reason = "facts that do not exclude each other")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyReport {
    /// The copy of the order in force; none since the agent started when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<CopyId>,
    /// Whether that one is relied on.
    pub relied_on: bool,
    /// The copy that is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<CopyId>,
    /// Both disks hold the same, and each write goes to both; or all of the round is there.
    pub equal: bool,
    /// The moment that the round that is written is the disk of, by the host's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// The last earlier round of which the host knows what changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<CopyId>,
    /// The copy of the order was begun and is not written any more, or a write of it failed.
    pub lost: bool,
    /// Bytes that are copied.
    pub done: u64,
    /// Bytes to copy in all.
    pub total: u64,
    /// The guest must not run, because its copy is relied on and does not follow.
    pub held: bool,
    /// Why it could not be begun or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The region's lease, passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseBody {
    /// Who may run; absent when only the clock is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<LeaseGrant>,
}

/// Which guests that are bound to the region's lease may run, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseGrant {
    /// The moment of the host's clock from which the time counts: a reading that the region had
    /// before it asked for the renewal that this rests on.
    pub from: ClockReading,
    /// How long after it, in milliseconds, guests are halted.
    pub pause_after_ms: u64,
    /// How long after it, in milliseconds, guests are ended.
    pub kill_after_ms: u64,
    /// The guests, with the epochs of their owners.
    pub vms: BTreeMap<VmId, Epoch>,
}

/// What a host's monotonic clock shows. It goes on while the machine is suspended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockReading {
    /// Names the start of the machine that it counts from.
    pub boot: String,
    /// Microseconds since then.
    pub now_us: u64,
}

/// That an instruction is on the host's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acknowledged {
    /// It was in force already.
    pub repeated: bool,
}

/// What a host obeys instead of an instruction that it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InForce {
    /// The epoch.
    pub epoch: Epoch,
    /// The generation.
    pub generation: Generation,
}

/// Which report.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct ReportParams {
    /// The incarnation of the last report that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// The `begun` of the last report that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<u64>,
    /// The `seq` of the last report that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How long to wait for news, at most 60,000 ms; not at all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// What a host sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostReport {
    /// Rises with each start of the agent.
    pub incarnation: u64,
    /// Where to go on reading, as `after`.
    pub seq: u64,
    /// From when on the reader hears of every end, as `begun`.
    pub begun: u64,
    /// The host.
    pub host: HostFacts,
    /// The VMs that changed after `after`, oldest change first. Usage figures (uptime, CPU,
    /// memory) are as of the last observation and are no change by themselves.
    pub changed: Vec<InstanceReport>,
    /// The VMs that are gone since.
    pub removed: Vec<VmId>,
    /// Spans of traces that ended on the host since the last report; 256 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
    /// This report begins anew: forget what earlier ones said of this host's VMs.
    pub complete: bool,
    /// There is more: read on at once. After a `complete` report, what is missing is known to
    /// be missing only when `more` was false.
    pub more: bool,
}

/// Spans of one report.
pub const SPANS_MAX: usize = 256;

/// What a host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    /// Its name.
    pub host: HostId,
    /// Its region.
    pub region: RegionId,
    /// Its zone.
    pub zone: ZoneId,
    /// All it has, as its configuration says.
    pub capacity: Capacity,
    /// `qemu` or `simulated`.
    pub driver: String,
    /// `kvm`, `tcg` or `none`.
    pub accelerator: String,
    /// The hypervisor's version; empty for the simulated one.
    pub hypervisor_version: String,
    /// The agent's version.
    pub version: String,
    /// Guests get less than what was asked for (development scale).
    pub scaled: bool,
    /// Guests that are in the data folder without an instruction; they are left alone.
    pub strangers: Vec<String>,
}

/// What a host sees of one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceReport {
    /// The VM.
    pub vm: VmId,
    /// The epoch that is obeyed.
    pub epoch: Epoch,
    /// The generation that is obeyed.
    pub generation: Generation,
    /// What is wanted.
    pub power: Power,
    /// What is seen.
    pub phase: VmPhase,
    /// It runs only while its region holds its lease.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lease_bound: bool,
    /// The size that was asked for.
    pub asked: VmShape,
    /// Virtual CPUs that the guest really gets.
    pub given_cpu: u32,
    /// Memory that the guest really gets.
    pub given_memory: Mib,
    /// Its address, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How long its process has been there.
    pub uptime_ms: u64,
    /// CPU time that its process used.
    pub cpu_ms: u64,
    /// Memory that its process holds.
    pub resident: Mib,
    /// How often it died by itself since the agent started.
    pub restarts: u32,
    /// The last failure, until the VM is in order again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The copy of its disk in another region, when it is to have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyReport>,
    /// The last 32 things that happened to it, oldest first.
    pub events: Vec<InstanceEvent>,
}

/// Something that happened to a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceEvent {
    /// When, by the host's clock.
    pub at: Timestamp,
    /// What, in one sentence.
    pub what: String,
}

/// Which part of a console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsoleParams {
    /// The VM.
    pub vm: VmId,
    /// From which byte of all that was ever printed; the last `limit` bytes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// At most how many bytes; 65,536 when absent, which is also the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A part of a console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Console {
    /// Where the text begins; later than what was asked for when that is no longer kept.
    pub offset: u64,
    /// Where to read on.
    pub next: u64,
    /// What was printed; bytes that are no UTF-8 are replaced.
    pub text: String,
}
