//! What all observers together say of one region, and on what it rests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Abstention, Sight, View};

/// What is true of a region.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RegionState {
    /// Nobody who may say so says anything.
    Unknown,
    /// Everybody who says something hears it.
    Alive,
    /// Somebody does not hear it, or it is silent to a majority and its lease has not lapsed.
    Suspect,
    /// Some hear it and some do not.
    Partitioned,
    /// A majority does not hear it and its lease has lapsed.
    Dead,
}

impl fmt::Display for RegionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Partitioned => "partitioned",
            Self::Dead => "dead",
        })
    }
}

/// What is seen of a region's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "lease", rename_all = "snake_case")]
pub enum LeaseSight {
    /// The strong engine was not read lately, so nobody can say.
    Unread,
    /// It never had one: it has never run, or not since leases are kept.
    Never,
    /// It is renewed, or was too short a time ago.
    Held {
        /// In how many milliseconds it has surely lapsed, unless it is renewed.
        lapses_in_ms: u64,
    },
    /// It was not renewed for so long that no guest can run under it.
    Lapsed,
    /// A failover took it.
    Fenced {
        /// Which.
        by: String,
    },
}

impl LeaseSight {
    /// Whether no guest can run under it, by its time alone.
    #[must_use]
    pub const fn has_lapsed(&self) -> bool {
        matches!(self, Self::Lapsed)
    }
}

/// What is true of a region and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Which.
    pub region: RegionId,
    /// What.
    pub state: RegionState,
    /// Who does not hear it.
    pub silent_to: BTreeSet<RegionId>,
    /// Who hears it.
    pub reachable_from: BTreeSet<RegionId>,
    /// Who does not say, and why.
    pub abstaining: BTreeMap<RegionId, Abstention>,
    /// Who was not heard from, or has not listened for long enough.
    pub unheard: BTreeSet<RegionId>,
    /// How many must not hear it: a majority of all other regions, also of those that say
    /// nothing.
    pub silent_needed: u32,
    /// What is seen of its lease.
    pub lease: LeaseSight,
}

/// What the observers say of one region.
#[derive(Debug, Default)]
pub(super) struct Votes {
    silent: BTreeSet<RegionId>,
    reachable: BTreeSet<RegionId>,
    abstaining: BTreeMap<RegionId, Abstention>,
    unheard: BTreeSet<RegionId>,
}

impl Votes {
    /// Counts what one observer says of a region.
    pub(super) fn count(
        &mut self,
        observer: &RegionId,
        view: Option<&View>,
        region: &RegionId,
    ) {
        let Some(view) = view else {
            self.unheard.insert(observer.clone());
            return;
        };
        match view.sees.get(region).copied().unwrap_or_default() {
            // That it hears a region is a fact, also when its ears are in doubt.
            Sight::Reachable => drop(self.reachable.insert(observer.clone())),
            Sight::Silent => match view.abstains {
                Some(why) => drop(self.abstaining.insert(observer.clone(), why)),
                None => drop(self.silent.insert(observer.clone())),
            },
            Sight::Unknown => drop(self.unheard.insert(observer.clone())),
        }
    }

    fn observers(&self) -> usize {
        self.silent.len()
            + self.reachable.len()
            + self.abstaining.len()
            + self.unheard.len()
    }
}

impl Verdict {
    pub(super) fn of(region: RegionId, votes: Votes, lease: LeaseSight) -> Self {
        let needed = votes.observers() / 2 + 1;
        let majority = votes.silent.len() >= needed;
        let state = match (votes.silent.is_empty(), votes.reachable.is_empty()) {
            _ if majority && lease.has_lapsed() => RegionState::Dead,
            (false, false) => RegionState::Partitioned,
            (false, true) => RegionState::Suspect,
            (true, false) => RegionState::Alive,
            (true, true) => RegionState::Unknown,
        };
        Self {
            region,
            state,
            silent_to: votes.silent,
            reachable_from: votes.reachable,
            abstaining: votes.abstaining,
            unheard: votes.unheard,
            silent_needed: u32::try_from(needed).unwrap_or(u32::MAX),
            lease,
        }
    }
}
