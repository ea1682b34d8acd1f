//! A counter that only grows: a number for each actor, joined by the greater (S3, F40).

use std::collections::BTreeMap;

use super::error::UpdateError;
use super::kind::Kind;
use super::limit::ACTORS_MAX;
use crate::clock::{Actor, wire};
use crate::codec::{DecodeError, Sink, Source, ascending, positive, put_len, put_number};

/// How much each actor counted.
///
/// ```
/// use dwcp_state::{Actor, GCounter, ReplicaId};
///
/// let us_east_1 = Actor::new(ReplicaId::new(1), 1);
/// let eu_west_1 = Actor::new(ReplicaId::new(2), 1);
/// let mut here = GCounter::default().increment(us_east_1, 10)?;
/// let there = GCounter::default().increment(eu_west_1, 5)?;
/// here.join(&there);
/// here.join(&there); // once more changes nothing
/// assert_eq!(here.total(), 15); // S3
/// # Ok::<(), dwcp_state::UpdateError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GCounter {
    counts: BTreeMap<Actor, u64>,
}

impl GCounter {
    /// The delta that counts `amount` more for this actor.
    ///
    /// # Errors
    ///
    /// When the sum would not fit, or there are too many actors.
    pub fn increment(&self, actor: Actor, amount: u64) -> Result<Self, UpdateError> {
        if amount == 0 {
            return Ok(Self::default());
        }
        if self.sum() + u128::from(amount) > u128::from(u64::MAX) {
            return Err(UpdateError::Overflow { kind: Kind::GCounter });
        }
        let own = self.counts.get(&actor).copied();
        if own.is_none() && self.counts.len() >= ACTORS_MAX {
            let (kind, max) = (Kind::GCounter, ACTORS_MAX);
            return Err(UpdateError::TooMany { kind, what: "actors", max });
        }
        let count = own.unwrap_or(0) + amount;
        Ok(Self { counts: BTreeMap::from([(actor, count)]) })
    }

    /// The sum; the largest number where concurrent increments went beyond it.
    #[must_use]
    pub fn total(&self) -> u64 {
        u64::try_from(self.sum()).unwrap_or(u64::MAX)
    }

    fn sum(&self) -> u128 {
        self.counts.values().map(|count| u128::from(*count)).sum()
    }

    /// Takes the greater of each actor's numbers. Whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (actor, count) in &other.counts {
            let own = self.counts.entry(*actor).or_insert(0);
            changed |= *count > *own;
            *own = (*own).max(*count);
        }
        changed
    }

    pub(super) fn is_bottom(&self) -> bool {
        self.counts.is_empty()
    }

    pub(super) fn encode(&self, out: &mut impl Sink) {
        put_len(out, self.counts.len());
        for (actor, count) in &self.counts {
            wire::put_actor(out, *actor);
            put_number(out, *count);
        }
    }

    pub(super) fn decode(from: &mut Source<'_>) -> Result<Self, DecodeError> {
        let mut counts = BTreeMap::new();
        let mut last = None;
        for _ in 0..from.len(3)? {
            let actor = ascending(wire::actor(from)?, &mut last, "an actor")?;
            let count = positive(from.number()?, "a count")?;
            counts.insert(actor, count);
        }
        Ok(Self { counts })
    }
}
