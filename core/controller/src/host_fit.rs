//! The one feasibility function of a host.
//!
//! The chooser asks it on a late snapshot, the region's ledger asks it again when it reserves.
//! One function for both, because two that disagree make a plan that is refused for ever.

use std::fmt;

use dwcp_types::Capacity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A resource that is accounted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Virtual CPUs.
    Cpu,
    /// Memory in MiB.
    Memory,
    /// Storage in GiB.
    Storage,
    /// Bandwidth in Mbit/s.
    Bandwidth,
    /// GPUs.
    Gpus,
    /// VM slots.
    Vms,
}

/// Why a host cannot take a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostRefusal {
    /// It is cordoned, or its agent does not answer.
    NotSchedulable,
    /// The first resource, in the order of [`Resource`], of which too little is free.
    Short {
        /// Which.
        resource: Resource,
        /// How much the VM needs.
        need: u64,
        /// How much is free.
        free: u64,
    },
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPUs",
            Self::Memory => "MiB of memory",
            Self::Storage => "GiB of storage",
            Self::Bandwidth => "Mbit/s",
            Self::Gpus => "GPUs",
            Self::Vms => "VM slots",
        })
    }
}

impl fmt::Display for HostRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSchedulable => f.write_str("it takes no VMs"),
            Self::Short { resource, need, free } => {
                write!(f, "it needs {need} {resource} and {free} are free")
            }
        }
    }
}

/// Says why a host with this much free cannot take a VM that needs this much, or nothing when
/// it can.
#[must_use]
pub fn host_refusal(
    schedulable: bool,
    free: &Capacity,
    need: &Capacity,
) -> Option<HostRefusal> {
    if !schedulable {
        return Some(HostRefusal::NotSchedulable);
    }
    let pairs = [
        (Resource::Cpu, need.cpu, free.cpu),
        (Resource::Memory, need.memory.get(), free.memory.get()),
        (Resource::Storage, need.storage.get(), free.storage.get()),
        (Resource::Bandwidth, need.bandwidth.get(), free.bandwidth.get()),
        (Resource::Gpus, need.gpus, free.gpus),
        (Resource::Vms, need.vms, free.vms),
    ];
    pairs
        .into_iter()
        .find(|(_, need, free)| need > free)
        .map(|(resource, need, free)| HostRefusal::Short { resource, need, free })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_types::Mib;

    #[test]
    fn it_agrees_with_the_arithmetic_of_capacity() {
        let free =
            Capacity { cpu: 4, memory: Mib::new(100), vms: 1, ..Capacity::default() };
        let need =
            Capacity { cpu: 4, memory: Mib::new(101), vms: 1, ..Capacity::default() };
        let short =
            HostRefusal::Short { resource: Resource::Memory, need: 101, free: 100 };
        assert_eq!(host_refusal(true, &free, &need), Some(short));
        assert_eq!(host_refusal(true, &free, &free), None);
        assert_eq!(host_refusal(false, &free, &free), Some(HostRefusal::NotSchedulable));
    }
}
