//! The phase of a VM as users see it: what is wanted, read together with what was last seen.
//!
//! Never claims more than was observed: what cannot be reached is unknown, not running, and
//! what an earlier owner reported says nothing about this one.

use std::time::Duration;

use dwcp_types::{Epoch, Generation, Power, Timestamp, VmPhase};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::VmRecord;

/// How long a report speaks for the present: ten of the heartbeats of 500 ms (DESIGN 4), so
/// that one lost packet does not make a VM unknown.
pub const OBSERVATION_FRESH_FOR: Duration = Duration::from_secs(5);

/// What an agent reported of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// The epoch that the agent holds the VM under.
    pub epoch: Epoch,
    /// The generation that it last accepted.
    pub generation: Generation,
    /// What it sees.
    pub phase: VmPhase,
    /// When the region heard it, by the region's clock.
    pub at: Timestamp,
}

/// What is known of a VM from its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its host is reached and has not reported it yet, in what the region heard last at this
    /// moment by its own clock.
    Never(Timestamp),
    /// Its host or region cannot be reached.
    Unreachable,
    /// It was reported.
    Reported(Observation),
}

/// The phase to show.
#[must_use]
pub fn phase(record: &VmRecord, seen: Seen, now: Timestamp) -> VmPhase {
    let is_stale = |at| now.since(at) > OBSERVATION_FRESH_FOR;
    let observation = match seen {
        Seen::Unreachable => return VmPhase::Unknown,
        Seen::Never(at) if is_stale(at) => return VmPhase::Unknown,
        Seen::Never(_) => return VmPhase::Pending,
        Seen::Reported(observation) => observation,
    };
    if is_stale(observation.at) || observation.epoch > record.owner.epoch {
        return VmPhase::Unknown;
    }
    if observation.epoch < record.owner.epoch {
        return VmPhase::Pending;
    }
    on_the_way(record.power, observation.phase)
}

/// What is seen, in the light of what is wanted.
const fn on_the_way(wanted: Power, seen: VmPhase) -> VmPhase {
    match (wanted, seen) {
        (Power::Stopped | Power::Deleted, VmPhase::Running | VmPhase::Paused) => {
            VmPhase::Stopping
        }
        (Power::Running | Power::Paused, VmPhase::Stopped | VmPhase::Pending) => {
            VmPhase::Starting
        }
        _ => seen,
    }
}
