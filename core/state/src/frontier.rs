//! How far a replica has got in the logs of all the others.
//!
//! The log of a replica is one sequence over all its incarnations: a place in it is a
//! [`Position`], and a restart goes on from there under the next incarnation. So a frontier
//! has one entry a replica however often processes restart, where a vector by actor would
//! grow with each (F40). Cursors, acknowledgements, stability and session tokens all speak of
//! frontiers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::ReplicaId;

/// A place in the log of one replica: everything up to and with it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
pub struct Position {
    /// The incarnation that wrote it.
    pub incarnation: u32,
    /// Its number among what that incarnation wrote, from 1; zero is before the first.
    pub seq: u64,
}

impl Position {
    /// Before everything.
    pub const START: Self = Self { incarnation: 0, seq: 0 };

    /// The place `seq` of an incarnation.
    #[must_use]
    pub const fn new(incarnation: u32, seq: u64) -> Self {
        Self { incarnation, seq }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.incarnation, self.seq)
    }
}

/// A position in the log of each replica. A replica without an entry is at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontier(BTreeMap<ReplicaId, Position>);

impl Frontier {
    /// At the start of every log.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Its position in one log.
    #[must_use]
    pub fn get(&self, replica: ReplicaId) -> Position {
        self.0.get(&replica).copied().unwrap_or(Position::START)
    }

    /// Moves on to `position` in one log; never back. Whether that changed anything.
    pub fn raise(&mut self, replica: ReplicaId, position: Position) -> bool {
        if position <= self.get(replica) {
            return false;
        }
        self.0.insert(replica, position);
        true
    }

    /// Moves on to wherever `other` is further.
    pub fn join(&mut self, other: &Self) {
        for (replica, position) in other.iter() {
            self.raise(replica, position);
        }
    }

    /// Falls back to what `other` has reached too.
    pub fn meet(&mut self, other: &Self) {
        self.0.retain(|replica, position| {
            *position = (*position).min(other.get(*replica));
            *position > Position::START
        });
    }

    /// Whether it has reached `other` in every log.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(replica, position)| self.get(replica) >= position)
    }

    /// Forgets the log of a replica.
    pub fn forget(&mut self, replica: ReplicaId) {
        self.0.remove(&replica);
    }

    /// Its positions, by replica.
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, Position)> + '_ {
        self.0.iter().map(|(replica, position)| (*replica, *position))
    }

    /// How many logs it has entered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is at the start of every log.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(ReplicaId, Position)> for Frontier {
    fn from_iter<I: IntoIterator<Item = (ReplicaId, Position)>>(positions: I) -> Self {
        let mut frontier = Self::new();
        for (replica, position) in positions {
            frontier.raise(replica, position);
        }
        frontier
    }
}
