//! The operator's API, version 1, of what is looked at when placements are slow (O12, O13, O32): how
//! busy a region's daemon is, how long it decides, and what it keeps ready to decide by.

use std::collections::BTreeMap;

use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operations;

operations! {
    /// O12, O13.
    GetController = Get "/v1/controller" "get_controller"
        "How busy a region's daemon is, and what it decides by.",
        ControllerParams, () => ControllerReply;
}

/// Of which region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ControllerParams {
    /// Of this region's daemon, which is asked; of the one that answers when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
}

/// A region's daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ControllerReply {
    /// Whose.
    pub region: RegionId,
    /// The software's version.
    pub version: String,
    /// How busy it is.
    pub process: ProcessLoad,
    /// What it decided since it was started.
    pub decisions: Decisions,
    /// What it keeps ready.
    pub kept: KeptFleet,
}

/// How busy a daemon is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct ProcessLoad {
    /// Since it was started, in milliseconds.
    pub up_ms: u64,
    /// CPU time since then, of all its threads, in milliseconds; absent where the system does not
    /// say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// CPUs that it kept busy over the time below, in thousandths of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u64>,
    /// Over so many milliseconds before now.
    pub over_ms: u64,
    /// Memory that is in use, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// Placements that a daemon was asked for since it was started, without dry runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decisions {
    /// How many by how they ended: `placed`, or the code of the refusal.
    pub by_result: BTreeMap<String, u64>,
    /// Time to decide, reserve and commit that half of them do not exceed, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// The time that 95 of 100 do not exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_us: Option<u64>,
    /// The time that 99 of 100 do not exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
}

/// What a daemon keeps ready for decisions. Decisions themselves are never kept (F20): one is for
/// one request and one moment.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct KeptFleet {
    /// Regions in the fleet that it decides on.
    pub regions: u64,
    /// Hosts in it.
    pub hosts: u64,
    /// VMs that it reckons with.
    pub vms: u64,
    /// How old it is, in milliseconds.
    pub age_ms: u64,
    /// How often it was changed in place.
    pub changed: u64,
    /// How often it was made anew, because there were other regions or hosts.
    pub rebuilt: u64,
    /// Hosts of which something is taken for decisions that are not reserved yet.
    pub ahead: u64,
}
