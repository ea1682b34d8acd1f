//! Hysteresis: what was read in one round becomes a finding when it held for some rounds.
//!
//! The streaks are all that is remembered, and may be lost: another detector counts anew and
//! finds the same some rounds later. What is not read in a round breaks no streak: silence of a
//! source is neither good nor bad.

use std::collections::BTreeMap;

use dwcp_types::RegionId;

use super::{Cause, Severity, short};

/// Keys that are watched: more than 4,096 regions with the causes of each (a larger federation is
/// refused when its configuration is read).
const WATCHED_MAX: usize = 65_536;
/// A health that ends an incident is at least this (MONITORING 6.3: enter under 60, leave at 65).
const HEALTHY_AGAIN: u8 = 65;

/// What one look says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It speaks for an incident.
    Bad,
    /// It speaks neither for nor against one.
    Between,
    /// It speaks against one.
    Good,
}

impl Reading {
    /// Of a health score: bad under 60 (M13), good from 65 on.
    #[must_use]
    pub const fn of_score(score: u8) -> Self {
        match score {
            HEALTHY_AGAIN.. => Self::Good,
            crate::DEGRADED_MIN.. => Self::Between,
            _ => Self::Bad,
        }
    }
}

/// What was read of one region and cause in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Of which region.
    pub region: RegionId,
    /// What would be wrong.
    pub cause: Cause,
    /// What the look says.
    pub reading: Reading,
    /// How bad it would be.
    pub severity: Severity,
    /// What was seen, in words.
    pub evidence: String,
}

impl Signal {
    /// As bad as its cause.
    #[must_use]
    pub fn new(
        region: RegionId,
        cause: Cause,
        reading: Reading,
        evidence: String,
    ) -> Self {
        let severity = cause.severity();
        Self { region, cause, reading, severity, evidence }
    }

    /// Somebody wants it so: maintenance is of the lowest severity (M15).
    #[must_use]
    pub fn in_maintenance(mut self, is: bool) -> Self {
        if is {
            self.severity = Severity::Low;
        }
        self
    }
}

/// What is held to be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Of which region.
    pub region: RegionId,
    /// What is wrong, or is not any more.
    pub cause: Cause,
    /// Whether it is wrong.
    pub stands: bool,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub evidence: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    bad: u32,
    good: u32,
}

/// Counts rounds.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    streaks: BTreeMap<(RegionId, Cause), Streak>,
}

impl Detector {
    /// One round. Gives what held for long enough; of everything else nothing is said.
    pub fn observe(&mut self, signals: Vec<Signal>) -> Vec<Finding> {
        signals.into_iter().filter_map(|signal| self.take(signal)).collect()
    }

    fn take(&mut self, signal: Signal) -> Option<Finding> {
        let Signal { region, cause, reading, severity, evidence } = signal;
        let key = (region.clone(), cause.clone());
        if !self.streaks.contains_key(&key) && self.streaks.len() == WATCHED_MAX {
            return None;
        }
        let streak = self.streaks.entry(key).or_default();
        let (bad, good) = match reading {
            Reading::Bad => (streak.bad.saturating_add(1), 0),
            Reading::Between => (0, 0),
            Reading::Good => (0, streak.good.saturating_add(1)),
        };
        *streak = Streak { bad, good };
        let (enter, leave) = cause.rounds();
        let stands = match (bad >= enter, good >= leave) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => return None,
        };
        Some(Finding { region, cause, stands, severity, evidence: short(&evidence) })
    }
}
