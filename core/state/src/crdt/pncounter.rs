//! A counter that goes up and down: two growing numbers for each actor (S4).
//!
//! For statistics. It has no floor: two actors that each take what both see go below zero
//! together. What must not be overspent is a [`super::Bounded`] counter (F38).

use std::collections::BTreeMap;

use super::error::UpdateError;
use super::kind::Kind;
use super::limit::ACTORS_MAX;
use crate::clock::{Actor, wire};
use crate::codec::{DecodeError, Sink, Source, ascending, put_len, put_number};

/// What one actor added and what it subtracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tally {
    pub(super) up: u64,
    pub(super) down: u64,
}

impl Tally {
    /// This and one more addition, or none where a number would not fit.
    pub(super) fn plus(self, amount: i128) -> Option<Self> {
        let step = u64::try_from(amount.unsigned_abs()).ok()?;
        let Self { up, down } = self;
        if amount < 0 {
            Some(Self { up, down: down.checked_add(step)? })
        } else {
            Some(Self { up: up.checked_add(step)?, down })
        }
    }

    pub(super) fn net(self) -> i128 {
        i128::from(self.up) - i128::from(self.down)
    }
}

/// The nearest number that a balance can have.
pub(super) fn balance(net: i128) -> i64 {
    let nearest = net.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    i64::try_from(nearest).unwrap_or(i64::MAX)
}

/// What each actor added and subtracted.
///
/// ```
/// use dwcp_state::{Actor, PnCounter, ReplicaId};
///
/// let us_east_1 = Actor::new(ReplicaId::new(1), 1);
/// let eu_west_1 = Actor::new(ReplicaId::new(2), 1);
/// let mut here = PnCounter::default().add(us_east_1, 100)?;
/// here.join(&PnCounter::default().add(eu_west_1, -20)?);
/// assert_eq!(here.balance(), 80); // S4
/// # Ok::<(), dwcp_state::UpdateError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PnCounter {
    tallies: BTreeMap<Actor, Tally>,
}

impl PnCounter {
    /// The delta that adds `amount` for this actor, or subtracts it where it is negative.
    ///
    /// # Errors
    ///
    /// When a number would not fit, or there are too many actors.
    pub fn add(&self, actor: Actor, amount: i64) -> Result<Self, UpdateError> {
        let kind = Kind::PnCounter;
        if amount == 0 {
            return Ok(Self::default());
        }
        if i64::try_from(self.net() + i128::from(amount)).is_err() {
            return Err(UpdateError::Overflow { kind });
        }
        let own = self.tallies.get(&actor).copied();
        if own.is_none() && self.tallies.len() >= ACTORS_MAX {
            return Err(UpdateError::TooMany { kind, what: "actors", max: ACTORS_MAX });
        }
        let tally = own.unwrap_or_default().plus(amount.into());
        let tally = tally.ok_or(UpdateError::Overflow { kind })?;
        Ok(Self { tallies: BTreeMap::from([(actor, tally)]) })
    }

    /// What was added less what was subtracted; the nearest number that fits where concurrent
    /// updates went beyond.
    #[must_use]
    pub fn balance(&self) -> i64 {
        balance(self.net())
    }

    fn net(&self) -> i128 {
        self.tallies.values().map(|tally| tally.net()).sum()
    }

    /// Takes the greater of each number. Whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (actor, tally) in &other.tallies {
            let own = self.tallies.entry(*actor).or_default();
            let joined =
                Tally { up: own.up.max(tally.up), down: own.down.max(tally.down) };
            changed |= joined != *own;
            *own = joined;
        }
        changed
    }

    pub(super) fn is_bottom(&self) -> bool {
        self.tallies.is_empty()
    }

    pub(super) fn encode(&self, out: &mut impl Sink) {
        put_len(out, self.tallies.len());
        for (actor, tally) in &self.tallies {
            wire::put_actor(out, *actor);
            put_tally(out, *tally);
        }
    }

    pub(super) fn decode(from: &mut Source<'_>) -> Result<Self, DecodeError> {
        let mut tallies = BTreeMap::new();
        let mut last = None;
        for _ in 0..from.len(4)? {
            let actor = ascending(wire::actor(from)?, &mut last, "an actor")?;
            tallies.insert(actor, tally(from)?);
        }
        Ok(Self { tallies })
    }
}

pub(super) fn put_tally(out: &mut impl Sink, tally: Tally) {
    put_number(out, tally.up);
    put_number(out, tally.down);
}

pub(super) fn tally(from: &mut Source<'_>) -> Result<Tally, DecodeError> {
    let tally = Tally { up: from.number()?, down: from.number()? };
    if tally == Tally::default() {
        return Err(DecodeError::NotCanonical("a tally"));
    }
    Ok(tally)
}
