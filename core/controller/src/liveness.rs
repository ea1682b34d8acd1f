//! Whether a region lives, as all regions together see it (C16, F5, F6, F19).
//!
//! Every region's daemon hears every other's heartbeats and says in its own which regions it
//! hears: its [`View`]. An [`Observer`] puts the views together to a [`Verdict`]:
//!
//! ```text
//!   alive ──▶ suspect: somebody does not hear it, and nobody else says more
//!               ├──▶ partitioned: some hear it, some do not
//!               └──▶ dead: a majority of all other regions does not hear it, AND its lease
//!                          has surely lapsed
//! ```
//!
//! Silence alone never kills: a region that is cut off from its peers and still renews its
//! lease in the strong engine lives, and one whose lease has lapsed while its peers hear it is
//! the strong engine's trouble. An observer whose own ears are in doubt abstains: one that does
//! not hear a majority, and one that did not run for a while itself. Busy is no state here: how
//! loaded a region is only steers placement (F6).
//!
//! Rejected: one prober with three misses (F19), and phi-accrual detectors, whose threshold
//! nobody can check against the time budget when the configuration is read.

mod blocked;
mod observer;
mod verdict;

pub use blocked::{Blocked, Circumstances, EngineReach, Policy};
pub use observer::{Observer, Timing};
pub use verdict::{LeaseSight, RegionState, Verdict};

use std::collections::BTreeMap;

use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one region's daemon hears of another.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// It has not listened for long enough to say.
    #[default]
    Unknown,
    /// It hears its heartbeats.
    Reachable,
    /// It missed so many that it says so.
    Silent,
}

/// Why an observer says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Abstention {
    /// It has just begun to listen, or did not run for a while: what it missed says nothing.
    Starved,
    /// It hears no majority of all regions, so the fault may be its own.
    Isolated {
        /// How many regions it hears, itself included.
        hears: u32,
        /// How many there are.
        of: u32,
    },
}

/// What one region's daemon says in its heartbeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct View {
    /// Why what it sees must not be counted; absent when it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abstains: Option<Abstention>,
    /// What it hears of each other region.
    pub sees: BTreeMap<RegionId, Sight>,
}

#[cfg(test)]
mod tests;
