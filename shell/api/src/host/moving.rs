//! What a host is told of a VM that moves, and what it says of it.

use std::net::Ipv4Addr;

use dwcp_types::{Epoch, Mib, MigrationId, VmId, VmShape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is to be done about a VM that moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum MoveOrder {
    /// Send it, halted before the last pages, and keep it halted from then on.
    Send(SendOrder),
    /// Wait for it.
    Receive(ReceiveOrder),
    /// The move is off: run on at the source, leave nothing at the target. Only the move's region
    /// may say so, from its log: after the commit the guest may run at its target.
    Abandon {
        /// The move.
        id: MigrationId,
    },
    /// The source surely runs nothing any more and will send nothing: the target, which owns the
    /// VM, starts it anew from its disk.
    SourceLost {
        /// The move.
        id: MigrationId,
    },
}

/// Where and how a VM is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendOrder {
    /// The move.
    pub id: MigrationId,
    /// The epoch of its present owner.
    pub epoch: Epoch,
    /// The address at which the target waits.
    pub address: String,
    /// Its port for the disk.
    pub disk_port: u16,
    /// Its port for the memory.
    pub memory_port: u16,
    /// The name that its certificate must bear.
    pub name: String,
    /// Most that memory may take of the link, in bytes a second.
    pub bandwidth: u64,
    /// The longest halt for the last pages, in milliseconds.
    pub downtime_ms: u64,
    /// The guest is off, and only its disk moves.
    pub cold: bool,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiveOrder {
    /// The move.
    pub id: MigrationId,
    /// The epoch under which the VM is this host's once the move is committed.
    pub epoch: Epoch,
    /// The size that was asked for.
    pub shape: VmShape,
    /// The image's name in the host's image folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The address that the guest has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// What it runs on at the source.
    pub machine: Machine,
    /// The subject of the source's certificate.
    pub from: String,
    /// The guest is off, and only its disk moves.
    pub cold: bool,
}

/// What both hosts of a move must have alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// `kvm`, `tcg` or `none`.
    pub accelerator: String,
    /// Virtual CPUs that the guest gets.
    pub cpu: u32,
    /// Memory that it gets.
    pub memory: Mib,
    /// It has a network card.
    pub wired: bool,
}

/// Which VM, and what is known of its move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoveParams {
    /// The VM.
    pub vm: VmId,
    /// The stage that is known; the answer is held back while it is that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<MoveStage>,
    /// How long to hold the answer back, at most 10,000 ms; not at all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Which VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineParams {
    /// The VM.
    pub vm: VmId,
    /// Virtual CPUs that were asked for, for a VM that is not here.
    pub cpu: u32,
    /// Memory that was asked for, for a VM that is not here.
    pub memory: Mib,
    /// Also measure how fast the memory of the running guest changes.
    #[serde(default)]
    pub measure: bool,
    /// The image that must be here; the host's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// What a VM runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineReport {
    /// What it runs on, or would.
    pub machine: Machine,
    /// How fast its memory changes, in bytes a second, when it was measured: not of an emulated
    /// guest, whose memory is sent while it is halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty_rate: Option<u64>,
    /// What its disk takes on this host, in bytes.
    pub disk: u64,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Where this host waits for guests.
    pub host_address: String,
    /// The name that this host's certificate bears for those that send to it.
    pub name: String,
    /// The subject of this host's certificate.
    pub subject: String,
}

/// How far a move is on one host.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MoveStage {
    /// There is none, or it is over and nothing of it is left.
    #[default]
    None,
    /// Target: the disk and the process are being made.
    Preparing,
    /// Target: it waits for the source.
    Listening,
    /// Source: the disk is copied.
    Mirroring,
    /// Source: the memory is sent.
    Sending,
    /// Source: halted and promised, and the rest is sent; the region may commit.
    Ready,
    /// Target: the guest is whole here.
    Arrived,
    /// It cannot go on: see the error. A source that had not promised runs on.
    Failed,
    /// What was begun is being undone.
    Undoing,
}

/// How far a move is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoveReport {
    /// Which move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MigrationId>,
    /// How far.
    pub stage: MoveStage,
    /// Source: bound by its promise. Its CPUs stay halted, whatever else it says, until the region
    /// tells of a later epoch or that the move is off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promised: bool,
    /// Nothing of the VM is on the host but, at most, its tombstone.
    pub gone: bool,
    /// The epoch that the host obeys for this VM, when it has a record of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// Target: where it waits for the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_port: Option<u16>,
    /// Target: where it waits for the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_port: Option<u16>,
    /// Bytes of the disk that are copied.
    pub disk_done: u64,
    /// Bytes of the disk in all.
    pub disk_total: u64,
    /// Bytes of memory that were sent.
    pub memory_sent: u64,
    /// Bytes of memory that are left, as far as is known.
    pub memory_left: u64,
    /// Why it cannot go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
