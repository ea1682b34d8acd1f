//! A region's lease: while it is renewed the region's protected VMs are its own, and once it
//! has surely lapsed they may be another's (F4, DESIGN 4).
//!
//! The lease is one record in the strong engine. The holder writes it anew every second, each
//! time comparing the record that it wrote before; whoever wants to take over waits until the
//! record has stood still for long enough by its own clock, and then writes *fenced* over it,
//! comparing the record that stood still. So either the holder's next renewal fails or the
//! fence does, and both sides count on monotonic clocks of their own:
//!
//! ```text
//!   holder   renewal asked ──────── pause (T - 2e) ── kill (T - e) ── T
//!   taker          └── seen ───────────────────────────────────────────── T + e: take
//! ```
//!
//! The holder counts from before it *asked* for its last renewal that was done, the taker from
//! after it *saw* it, so the taker begins later; between kill and take lie 2e for clocks that
//! run at different rates and for the killing itself. A holder that was frozen finds on waking
//! that its time is over, because its clock went on.
//!
//! Rejected: the engine's own leases. Their time is kept by the engine's leader, a third clock,
//! which starts anew at every election; here the engine only has to compare.

use std::time::Duration;

use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where every region's lease lies in the strong engine.
pub const LEASES_PREFIX: &str = "/leases/";

/// Where a region's lease lies.
#[must_use]
pub fn lease_key(region: &RegionId) -> String {
    format!("{LEASES_PREFIX}{region}")
}

/// Renewals that may fail in a row before the time is over.
pub const RENEWALS_IN_TTL: u32 = 8;
/// Drift bounds in a lease at least, so that some time is left to renew in.
pub const DRIFTS_IN_TTL_MIN: u32 = 4;

/// How long a lease lasts, for each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    ttl: Duration,
    drift_bound: Duration,
}

impl Default for Terms {
    /// 8 s and 1 s: pause at 6 s, kill at 7 s, take at 9 s. Two seconds more than DESIGN 4, so
    /// that no guest halts while the engine chooses another leader (ADR 0014).
    fn default() -> Self {
        Self { ttl: Duration::from_secs(8), drift_bound: Duration::from_secs(1) }
    }
}

impl Terms {
    /// A life T and a drift bound e; nothing when T is not at least 4e.
    #[must_use]
    pub fn new(ttl: Duration, drift_bound: Duration) -> Option<Self> {
        let least = drift_bound.saturating_mul(DRIFTS_IN_TTL_MIN);
        (ttl >= least && !ttl.is_zero()).then_some(Self { ttl, drift_bound })
    }

    /// How often the holder renews.
    #[must_use]
    pub fn renew_every(&self) -> Duration {
        self.ttl / RENEWALS_IN_TTL
    }

    /// How long after it asked for its last renewal a holder halts its guests.
    #[must_use]
    pub const fn pause_after(&self) -> Duration {
        self.ttl.saturating_sub(self.drift_bound).saturating_sub(self.drift_bound)
    }

    /// How long after it asked for its last renewal a holder begins to end its guests.
    #[must_use]
    pub const fn kill_after(&self) -> Duration {
        self.ttl.saturating_sub(self.drift_bound)
    }

    /// How long after a taker saw the last renewal no guest can be left.
    #[must_use]
    pub const fn lapsed_after(&self) -> Duration {
        self.ttl.saturating_add(self.drift_bound)
    }
}

/// What is true of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LeaseState {
    /// The region renews it.
    Held {
        /// Counts the renewals of this term.
        renewals: u64,
    },
    /// It was taken away, and no renewal of the term before can be done any more.
    Fenced {
        /// The failover that did it.
        by: String,
    },
}

/// A region's lease, as the strong engine holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseRecord {
    /// Whose it is.
    pub region: RegionId,
    /// Counts how often the region took it, at each start of its daemon and after each fence.
    pub term: u64,
    /// What is true of it.
    #[serde(flatten)]
    pub state: LeaseState,
}

impl LeaseRecord {
    /// The record with which a region takes its own lease, over whatever is there: also over a
    /// fence, because from then on nothing more of it can be taken over under that fence.
    #[must_use]
    pub fn acquired(before: Option<&Self>, region: &RegionId) -> Self {
        Self {
            region: region.clone(),
            term: before.map_or(0, |before| before.term).saturating_add(1),
            state: LeaseState::Held { renewals: 0 },
        }
    }

    /// The record renewed; nothing when it is fenced.
    #[must_use]
    pub fn renewed(&self) -> Option<Self> {
        let LeaseState::Held { renewals } = self.state else { return None };
        let state = LeaseState::Held { renewals: renewals.saturating_add(1) };
        Some(Self { state, ..self.clone() })
    }

    /// The record taken away by a failover.
    #[must_use]
    pub fn fenced(&self, by: &str) -> Self {
        Self { state: LeaseState::Fenced { by: by.to_owned() }, ..self.clone() }
    }

    /// The failover that took it, if nobody has taken it back.
    #[must_use]
    pub fn fenced_by(&self) -> Option<&str> {
        match &self.state {
            LeaseState::Fenced { by } => Some(by),
            LeaseState::Held { .. } => None,
        }
    }

    /// Whether this failover took it and nobody has taken it back.
    #[must_use]
    pub fn is_fenced_by(&self, failover: &str) -> bool {
        self.fenced_by() == Some(failover)
    }
}

/// How a holder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its guests may run.
    Held,
    /// Its guests must be halted: the end is near.
    Pause,
    /// Its guests must be gone.
    Kill,
}

/// The holder's side: when it last asked for a renewal that was done.
#[derive(Clone, Copy, Debug)]
pub struct Holder {
    terms: Terms,
    asked_at: Duration,
}

impl Holder {
    /// A lease that was taken by a request that was sent at `asked_at`, by the own monotonic
    /// clock.
    #[must_use]
    pub const fn new(terms: Terms, asked_at: Duration) -> Self {
        Self { terms, asked_at }
    }

    /// A renewal was done that was asked for at `asked_at`. One that is told late does not
    /// shorten what a later one gave.
    pub fn renewed(&mut self, asked_at: Duration) {
        self.asked_at = self.asked_at.max(asked_at);
    }

    /// When the last renewal that was done was asked for.
    #[must_use]
    pub const fn asked_at(&self) -> Duration {
        self.asked_at
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self, now: Duration) -> Standing {
        let age = now.saturating_sub(self.asked_at);
        if age >= self.terms.kill_after() {
            Standing::Kill
        } else if age >= self.terms.pause_after() {
            Standing::Pause
        } else {
            Standing::Held
        }
    }
}

/// The taker's side: since when a lease's record has stood still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The record.
    pub record: LeaseRecord,
    /// The engine's revision of it; the fence compares it.
    pub revision: u64,
    /// When it was first seen so, by the own monotonic clock.
    since: Duration,
}

impl Watched {
    /// A record that is seen now for the first time.
    #[must_use]
    pub const fn new(record: LeaseRecord, revision: u64, now: Duration) -> Self {
        Self { record, revision, since: now }
    }

    /// A record was seen: a newer one begins the time anew.
    pub fn saw(&mut self, record: &LeaseRecord, revision: u64, now: Duration) {
        if revision > self.revision {
            *self = Self::new(record.clone(), revision, now);
        }
    }

    /// For how long it has stood still.
    #[must_use]
    pub const fn still_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    /// How long until it has surely lapsed; nothing left when it has.
    #[must_use]
    pub fn lapses_in(&self, now: Duration, terms: Terms) -> Duration {
        terms.lapsed_after().saturating_sub(now.saturating_sub(self.since))
    }

    /// Whether no guest that runs under it can be left.
    #[must_use]
    pub fn has_lapsed(&self, now: Duration, terms: Terms) -> bool {
        self.lapses_in(now, terms).is_zero()
    }
}

#[cfg(test)]
mod tests;
