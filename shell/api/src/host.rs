//! What a region's daemon asks of a host's agent (F92): give an instruction, read what the
//! host sees, read a guest's console.
//!
//! The region pushes instructions and pulls reports; an agent never calls out, so it needs no
//! credentials towards the region. A report is a level, not a stream of events: whoever lost
//! track reads it whole again.

use std::net::Ipv4Addr;

use dwcp_types::{
    Capacity, Epoch, Generation, HostId, Mib, Power, RegionId, Timestamp, VmId, VmPhase,
    VmShape, ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operations;

operations! {
    /// Refused with 409 when a later instruction is in force; `details` is an [`InForce`].
    PutInstance = Put "/host/v1/instances/{vm}" "put_instance"
        "Says what is wanted of a VM on this host; it is on disk before it is acknowledged.",
        InstanceParams, Instruction => Acknowledged;
    /// A long poll: answers at once when there is news after `after`.
    ReadHostReport = Get "/host/v1/report" "read_host_report"
        "Reports the host and what changed on it.",
        ReportParams, () => HostReport;
    /// 404 when the host has no record of the VM.
    ReadConsole = Get "/host/v1/instances/{vm}/console" "read_console"
        "Reads what the guest printed on its serial console.",
        ConsoleParams, () => Console;
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
    /// This report begins anew: forget what earlier ones said of this host's VMs.
    pub complete: bool,
    /// There is more: read on at once. After a `complete` report, what is missing is known to
    /// be missing only when `more` was false.
    pub more: bool,
}

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
