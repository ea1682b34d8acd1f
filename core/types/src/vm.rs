//! What a VM is made of and what state it is in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Gib, Mbps, Mib};

/// The size of a VM as its user asked for it (C10). All accounting uses these numbers; a
/// development host may give the guest less (see the agent's scale) and says so.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct VmShape {
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory in MiB.
    pub memory: Mib,
    /// Disk in GiB.
    pub storage: Gib,
    /// Network bandwidth in Mbit/s that is set aside for it; nothing means best effort.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bandwidth: Mbps,
    /// GPUs.
    #[serde(default, skip_serializing_if = "is_no_gpu")]
    pub gpus: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(bandwidth: &Mbps) -> bool {
    *bandwidth == Mbps::ZERO
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_no_gpu(gpus: &u32) -> bool {
    *gpus == 0
}

/// What a VM is mainly for (C10, DETAILS 2.1).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum VmType {
    /// Mostly CPU.
    #[default]
    Compute,
    /// Mostly memory.
    Memory,
    /// Mostly disk.
    Storage,
    /// Needs a GPU.
    Gpu,
}

/// What is wanted of a VM.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// It runs.
    #[default]
    Running,
    /// It is there, with its CPUs halted and its memory kept.
    Paused,
    /// It is shut down; its disk and its reserved capacity stay.
    Stopped,
    /// It is gone, with its disk.
    Deleted,
}

/// What is seen of a VM.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum VmPhase {
    /// Owned, and its host has not reported it yet.
    #[default]
    Pending,
    /// Its disk is being made or its guest is being started.
    Starting,
    /// The guest's CPUs run.
    Running,
    /// The guest's CPUs are halted and its memory is kept.
    Paused,
    /// It was asked to shut down and has not yet.
    Stopping,
    /// Shut down; the disk is there.
    Stopped,
    /// The host tried and could not; the report says why, and what happens next.
    Failed,
    /// It has no process because its host must not run it now: its region does not hold its lease
    /// there, or nobody would end it if that lapsed. The report says which; it starts by itself.
    Fenced,
    /// Its host or region cannot be reached, so nobody can say.
    Unknown,
}
