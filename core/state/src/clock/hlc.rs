//! A clock that follows causality and stays near the wall clock (F42).
//!
//! Invariants: each stamp of a clock is later than the ones it gave and saw before, also when
//! the wall clock steps back; a peer whose clock runs ahead cannot drag this one along further
//! than the limit. It orders writes for last-writer-wins and expiry. It never decides who owns
//! something: epochs do that.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use dwcp_types::Timestamp;

/// How far a remote stamp may be ahead of the local wall clock, unless configured otherwise.
pub const AHEAD_MAX: Duration = Duration::from_millis(500);

/// Bits of the counter that orders stamps within one millisecond.
const COUNTER_BITS: u32 = 16;
/// The last millisecond that 48 bits can tell, in the year 10889.
const MILLIS_MAX: u64 = (1 << 48) - 1;

/// A stamp: 48 bits of milliseconds since the epoch and a counter of 16 bits.
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
#[serde(transparent)]
pub struct Hlc(u64);

impl Hlc {
    /// Before every stamp that a clock gives.
    pub const ZERO: Self = Self(0);

    /// From its 64 bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its 64 bits; later stamps have greater ones.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The first stamp of a millisecond.
    #[must_use]
    pub fn at(time: Timestamp) -> Self {
        Self(time.as_millis().min(MILLIS_MAX) << COUNTER_BITS)
    }

    /// The millisecond it lies in.
    #[must_use]
    pub const fn time(self) -> Timestamp {
        Timestamp::from_millis(self.0 >> COUNTER_BITS)
    }

    /// The next one: a full counter runs over into the next millisecond.
    const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counter = self.0 & ((1 << COUNTER_BITS) - 1);
        write!(f, "{}+{counter}", self.time().as_millis())
    }
}

/// A remote stamp that would drag the local clock into the future.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the stamp {remote} is {ahead:?} ahead of the local clock, over {limit:?}; set the clock of whoever sent it, or this one"
)]
pub struct TooFarAhead {
    /// The stamp that was refused.
    pub remote: Hlc,
    /// How far it is ahead.
    pub ahead: Duration,
    /// How far it may be.
    pub limit: Duration,
}

/// Gives stamps that only rise.
#[derive(Clone, Debug)]
pub struct HlcClock {
    last: Hlc,
    ahead_max: Duration,
}

impl HlcClock {
    /// A clock that goes on after the last stamp it gave or saw; [`Hlc::ZERO`] for a new one.
    #[must_use]
    pub const fn new(last: Hlc, ahead_max: Duration) -> Self {
        Self { last, ahead_max }
    }

    /// The latest stamp that was given or seen.
    #[must_use]
    pub const fn last(&self) -> Hlc {
        self.last
    }

    /// Forgets stamps that are too far ahead of `now` for anybody to take. Only for a clock
    /// whose stamps are all forgotten elsewhere: what is stamped from now on may be earlier.
    pub fn rein_in(&mut self, now: Timestamp) {
        let latest = Hlc::at(now.plus(self.ahead_max));
        self.last = self.last.min(latest);
    }

    /// A stamp later than all before.
    pub fn tick(&mut self, now: Timestamp) -> Hlc {
        self.last = Hlc::at(now).max(self.last.next());
        self.last
    }

    /// Takes notice of a remote stamp, so that what is written from now on is later.
    ///
    /// # Errors
    ///
    /// When it is further ahead of `now` than the limit; then nothing changes.
    pub fn observe(&mut self, now: Timestamp, remote: Hlc) -> Result<(), TooFarAhead> {
        let ahead = remote.time().since(now);
        if ahead > self.ahead_max {
            return Err(TooFarAhead { remote, ahead, limit: self.ahead_max });
        }
        self.last = self.last.max(remote);
        Ok(())
    }
}
