//! Everything of each actor up to a number: cursors, acknowledgements and session tokens.
//!
//! An actor of which nothing is covered has no entry, so equal vectors have equal bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Causality;
use super::actor::Actor;
use super::dot::Dot;

/// How far each actor's mutations are covered, without gaps.
///
/// ```
/// use dwcp_state::{Actor, ReplicaId, VersionVector};
///
/// let us_east_1 = Actor::new(ReplicaId::new(1), 1);
/// let eu_west_1 = Actor::new(ReplicaId::new(2), 1);
/// let mut clock = VersionVector::new();
/// clock.increment(us_east_1);
/// clock.increment(us_east_1);
/// clock.increment(eu_west_1);
/// assert_eq!((clock.get(us_east_1), clock.get(eu_west_1)), (2, 1)); // S6: {2, 1}
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<Actor, u64>", into = "BTreeMap<Actor, u64>")]
pub struct VersionVector(BTreeMap<Actor, u64>);

impl VersionVector {
    /// Covers nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Up to where this actor is covered; 0 where nothing is.
    #[must_use]
    pub fn get(&self, actor: Actor) -> u64 {
        self.0.get(&actor).copied().unwrap_or(0)
    }

    /// Covers this actor up to `seq`, unless it is covered further already. Whether it rose.
    pub fn raise(&mut self, actor: Actor, seq: u64) -> bool {
        if seq <= self.get(actor) {
            return false;
        }
        self.0.insert(actor, seq);
        true
    }

    /// Covers one more mutation of this actor, and names it.
    pub fn increment(&mut self, actor: Actor) -> Dot {
        let seq = self.get(actor).saturating_add(1);
        self.0.insert(actor, seq);
        Dot::new(actor, seq)
    }

    /// Whether a mutation is covered.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        dot.seq <= self.get(dot.actor)
    }

    /// Covers also what the other covers: the greater of each. Whether anything rose.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut rose = false;
        for (actor, seq) in &other.0 {
            rose |= self.raise(*actor, *seq);
        }
        rose
    }

    /// What both cover: the smaller of each. Of all members, the causally stable cut (F50).
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let smaller =
            |(actor, seq): (&Actor, &u64)| (*actor, (*seq).min(other.get(*actor)));
        Self(self.0.iter().map(smaller).filter(|(_, seq)| *seq > 0).collect())
    }

    /// Whether everything that the other covers is covered here.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|(actor, seq)| *seq <= self.get(*actor))
    }

    /// How this relates to the other.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Causality {
        Causality::of(other.contains(self), self.contains(other))
    }

    /// Takes an actor out that will not be heard of again.
    pub fn forget(&mut self, actor: Actor) {
        self.0.remove(&actor);
    }

    /// The actors of which something is covered, with how far, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Actor, u64)> {
        self.0.iter().map(|(actor, seq)| (*actor, *seq))
    }

    /// How many actors have an entry.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<BTreeMap<Actor, u64>> for VersionVector {
    fn from(mut entries: BTreeMap<Actor, u64>) -> Self {
        entries.retain(|_, seq| *seq > 0);
        Self(entries)
    }
}

impl From<VersionVector> for BTreeMap<Actor, u64> {
    fn from(vector: VersionVector) -> Self {
        vector.0
    }
}

impl FromIterator<(Actor, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (Actor, u64)>>(entries: I) -> Self {
        let mut vector = Self::new();
        for (actor, seq) in entries {
            vector.raise(actor, seq);
        }
        vector
    }
}
