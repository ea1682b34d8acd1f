//! What a region says of itself every 10 s (M6), and what others make of it.
//!
//! Counters travel as what was counted since the digest before, so that one that is lost is a gap
//! and never a negative rate. A digest that comes again, late, or from an earlier life of its
//! daemon is known and changes nothing; one that cannot be true is refused. When it was is told by
//! its age on the way and the reader's clock: a region whose clock is wrong is shown with its
//! offset and at the right place.
//!
//! Lives are told apart and never ordered: the clock that numbers them may go back.

mod sketch;
#[cfg(test)]
mod tests;

pub use sketch::{Recorder, Sketch, SketchError};

use std::collections::VecDeque;
use std::time::Duration;

use dwcp_types::{Timestamp, millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Digests that a region keeps for those who did not hear the last ones: five minutes of them.
pub const DIGESTS_KEPT: usize = 30;
/// Longest time between two digests (M2.1), which is also the finest step of the history.
pub const EVERY_MAX: Duration = Duration::from_secs(10);
/// Shortest time between two.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// More requests than this in one digest are no truth: 10^8 a second for 10 s.
const REQUESTS_MAX: u64 = 1_000_000_000;
/// Digests that may be missing in between: more than a week of them at one a second.
const LOST_MAX: u64 = 1_000_000;
/// Earlier lives of a daemon whose digests may still be on their way.
const LIVES_MAX: usize = 8;
/// All of something, in parts per million.
const WHOLE_PPM: u32 = 1_000_000;

/// What is true of a region at a moment.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct Gauges {
    /// VMs that its hosts report.
    pub vms: u32,
    /// Hosts that answer.
    pub hosts_answering: u32,
    /// Processors that are reserved, of all, in parts per million.
    pub cpu_reserved_ppm: u32,
    /// Memory that is reserved, of all, in parts per million.
    pub memory_reserved_ppm: u32,
}

/// What a region says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Digest {
    /// Which life of its daemon speaks.
    pub life: u64,
    /// The first of a life is 1, and each is one more.
    pub seq: u64,
    /// When it was made, by the region's own clock; for showing how wrong that is.
    pub made_at: Timestamp,
    /// Over what it counts, in milliseconds.
    pub every_ms: u64,
    /// Requests answered since the one before.
    pub requests: u64,
    /// Those of them that failed through the region's fault.
    pub errors: u64,
    /// How long they took.
    pub latency: Sketch,
    /// What was true when it was made.
    pub gauges: Gauges,
}

/// Why a digest is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A count or a share that nothing has.
    #[error("it counts more than there can be")]
    Huge,
    /// Its figures contradict each other.
    #[error("its figures contradict each other")]
    Contradiction,
    /// It is made too often or too rarely.
    #[error("it is not made every 1 s to 10 s")]
    Every,
    /// It is older than what is kept, or not made yet.
    #[error("it is too old")]
    Old,
    /// Too many are missing before it.
    #[error("too many are missing before it")]
    Jump,
}

impl Digest {
    fn check(&self) -> Result<(), Refused> {
        let every = Duration::from_millis(self.every_ms);
        let Gauges { cpu_reserved_ppm, memory_reserved_ppm, .. } = self.gauges;
        if !(EVERY_MIN..=EVERY_MAX).contains(&every) {
            Err(Refused::Every)
        } else if self.requests > REQUESTS_MAX
            || cpu_reserved_ppm.max(memory_reserved_ppm) > WHOLE_PPM
        {
            Err(Refused::Huge)
        } else if self.errors > self.requests || self.latency.count() != self.requests {
            Err(Refused::Contradiction)
        } else {
            Ok(())
        }
    }
}

/// What became of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is new, and belongs to this moment of the reader's clock.
    New {
        /// When it was made.
        at: Timestamp,
    },
    /// It, or a later one, came before, or its daemon has another life by now.
    Known,
    /// It cannot be true.
    Refused(Refused),
}

/// What is known of the digests of one region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    lives: VecDeque<u64>,
    seq: u64,
    at: Option<Timestamp>,
    lost: u64,
    refused: u64,
    offset_ms: i64,
}

impl Intake {
    /// Of a daemon that knows from before which digest of a region was the newest that came.
    #[must_use]
    pub fn resumed(life: u64, seq: u64, at: Timestamp) -> Self {
        Self { lives: [life].into(), seq, at: Some(at), ..Self::default() }
    }

    /// Takes one that was made `age` ago, by its region's steady clock and the way here.
    pub fn take(&mut self, digest: &Digest, now: Timestamp, age: Duration) -> Taken {
        match self.judge(digest, now, age) {
            Ok(taken) => taken,
            Err(refused) => {
                self.refused = self.refused.saturating_add(1);
                Taken::Refused(refused)
            }
        }
    }

    fn judge(
        &mut self,
        digest: &Digest,
        now: Timestamp,
        age: Duration,
    ) -> Result<Taken, Refused> {
        digest.check()?;
        let kept = u32::try_from(DIGESTS_KEPT).unwrap_or(u32::MAX).saturating_add(1);
        if age > EVERY_MAX * kept || digest.seq == 0 {
            return Err(Refused::Old);
        }
        let same_life = self.lives.back() == Some(&digest.life);
        if (same_life && digest.seq <= self.seq)
            || (!same_life && self.lives.contains(&digest.life))
        {
            return Ok(Taken::Known);
        }
        let measured =
            Timestamp::from_millis(now.as_millis().saturating_sub(millis(age)));
        let mut at = measured;
        if same_life {
            let steps = digest.seq - self.seq;
            if steps > LOST_MAX {
                return Err(Refused::Jump);
            }
            self.lost = self.lost.saturating_add(steps - 1);
            at = self.evenly(measured, steps.saturating_mul(digest.every_ms), digest);
        } else {
            self.lives.push_back(digest.life);
            if self.lives.len() > LIVES_MAX {
                self.lives.pop_front();
            }
        }
        self.seq = digest.seq;
        self.at = Some(at);
        self.offset_ms = difference(digest.made_at, measured);
        Ok(Taken::New { at })
    }

    /// The moment one step after the last when what was measured is near to that: else one that
    /// came some milliseconds early or late would fall into a neighbour's place in the history
    /// and leave a gap in its own.
    fn evenly(&self, measured: Timestamp, after_ms: u64, of: &Digest) -> Timestamp {
        let Some(last) = self.at else { return measured };
        let expected = last.plus(Duration::from_millis(after_ms));
        let off = expected.as_millis().abs_diff(measured.as_millis());
        if off <= of.every_ms { expected } else { measured }
    }

    /// The life and the number of the newest, to ask for what came after it.
    #[must_use]
    pub fn cursor(&self) -> (u64, u64) {
        (self.lives.back().copied().unwrap_or(0), self.seq)
    }

    /// When the newest was made; nothing before the first.
    #[must_use]
    pub const fn newest(&self) -> Option<Timestamp> {
        self.at
    }

    /// Digests that never came.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Digests that were refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// How far the region's clock is ahead of the reader's, in milliseconds, with the time on the
    /// way.
    #[must_use]
    pub const fn offset_ms(&self) -> i64 {
        self.offset_ms
    }
}

fn difference(one: Timestamp, other: Timestamp) -> i64 {
    let off = one.as_millis().abs_diff(other.as_millis());
    let off = i64::try_from(off).unwrap_or(i64::MAX);
    if one < other { -off } else { off }
}
