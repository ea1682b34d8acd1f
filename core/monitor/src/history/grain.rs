//! The steps by which measurements are kept, the segments that each step's places lie in, and which
//! of those an answer needs.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use dwcp_types::{Timestamp, millis};

use super::POINTS_MAX;

/// Segments that are kept beyond those that a grain's reach takes: the one that grows, and one
/// that lies half in it.
const SEGMENTS_SPARE: u64 = 2;

/// One step, and how far back places of it are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grain {
    /// 10 s for 2 h.
    TenSeconds,
    /// 1 min for 7 days.
    Minute,
    /// 5 min for 90 days.
    FiveMinutes,
}

impl Grain {
    /// The finest first.
    pub const ALL: [Self; 3] = [Self::TenSeconds, Self::Minute, Self::FiveMinutes];

    /// From one place to the next.
    #[must_use]
    pub const fn step(self) -> Duration {
        match self {
            Self::TenSeconds => Duration::from_secs(10),
            Self::Minute => Duration::from_mins(1),
            Self::FiveMinutes => Duration::from_mins(5),
        }
    }

    /// Places that are kept.
    #[must_use]
    pub const fn kept(self) -> u64 {
        match self {
            Self::TenSeconds => 720,
            Self::Minute => 10_080,
            Self::FiveMinutes => 25_920,
        }
    }

    /// Places of one segment: 1 h, 12 h and 3 days, so that an answer reads 30 files at most and
    /// what is too old is few files that go as a whole.
    const fn per_segment(self) -> u64 {
        match self {
            Self::TenSeconds => 360,
            Self::Minute => 720,
            Self::FiveMinutes => 864,
        }
    }

    pub(super) fn step_ms(self) -> u64 {
        millis(self.step())
    }

    pub(super) fn reach_ms(self) -> u64 {
        self.step_ms().saturating_mul(self.kept())
    }

    const fn word(self) -> &'static str {
        match self {
            Self::TenSeconds => "10s",
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
        }
    }

    /// The finest that reaches back so far, or the longest.
    fn reaching(back: Duration) -> Self {
        let reaches = |grain: &Self| grain.reach_ms() >= millis(back);
        Self::ALL.into_iter().find(reaches).unwrap_or(Self::FiveMinutes)
    }

    /// Which of the segments that are there are too many: those furthest from now. By their
    /// number and not by their age alone, so that a clock that is wrong for an hour costs one or
    /// two segments and not all.
    #[must_use]
    pub fn surplus(self, mut there: Vec<u64>, now: Timestamp) -> Vec<SegmentId> {
        let current = self.segment_of(now.as_millis() / self.step_ms()).number;
        there.sort_by_key(|number| number.abs_diff(current));
        let max = self.kept() / self.per_segment() + SEGMENTS_SPARE;
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let surplus = there.into_iter().skip(max);
        surplus.map(|number| SegmentId { grain: self, number }).collect()
    }

    pub(super) const fn segment_of(self, place: u64) -> SegmentId {
        SegmentId { grain: self, number: place / self.per_segment() }
    }
}

/// Names one segment of a region's history; as text, its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentId {
    /// Of which step.
    pub grain: Grain,
    /// Which one, counted from the epoch.
    pub number: u64,
}

/// What is no segment's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not the name of a segment")]
pub struct SegmentIdError;

impl SegmentId {
    /// The place that it begins with; nothing when no clock can show it.
    pub(super) fn first(self) -> Option<u64> {
        self.number.checked_mul(self.grain.per_segment())
    }

    /// Whether a place lies in it, as an offset from its first.
    pub(super) fn has(self, offset: u64) -> bool {
        offset < self.grain.per_segment()
    }

    /// Whether all of it is later than now.
    pub(super) fn is_ahead(self, now: Timestamp) -> bool {
        let place = now.as_millis() / self.grain.step_ms();
        self.number > self.grain.segment_of(place).number
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:010}", self.grain.word(), self.number)
    }
}

impl FromStr for SegmentId {
    type Err = SegmentIdError;

    fn from_str(text: &str) -> Result<Self, SegmentIdError> {
        let (word, number) = text.split_once('-').ok_or(SegmentIdError)?;
        let grain = Grain::ALL.into_iter().find(|grain| grain.word() == word);
        let grain = grain.ok_or(SegmentIdError)?;
        let number = number.parse().map_err(|_| SegmentIdError)?;
        let id = Self { grain, number };
        // One name for each: no sign, no other count of zeros.
        if id.to_string() == text { Ok(id) } else { Err(SegmentIdError) }
    }
}

/// What somebody asks: places of one grain, some of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub(super) grain: Grain,
    /// Numbers of places.
    pub(super) places: Range<u64>,
    /// Places of one point.
    pub(super) group: u64,
}

impl Query {
    /// All from a moment on and before another, in whole steps of the finest grain that reaches
    /// back so far.
    #[must_use]
    pub fn between(from: Timestamp, until: Timestamp, now: Timestamp) -> Self {
        let grain = Grain::reaching(now.since(from));
        let step = grain.step_ms();
        let places = from.as_millis() / step..until.as_millis().div_ceil(step);
        Self { grain, places, group: 1 }
    }

    /// All of the last time.
    #[must_use]
    pub fn last(back: Duration, now: Timestamp) -> Self {
        let from = now.as_millis().saturating_sub(millis(back)).saturating_add(1);
        let until = now.plus(Duration::from_millis(1));
        Self::between(Timestamp::from_millis(from), until, now)
    }

    /// The points of a chart of the last time: some places together where there are more than
    /// [`POINTS_MAX`].
    #[must_use]
    pub fn chart(back: Duration, now: Timestamp) -> Self {
        let grain = Grain::reaching(back);
        let wanted = millis(back).div_ceil(grain.step_ms()).clamp(1, grain.kept());
        let group = wanted.div_ceil(POINTS_MAX);
        let last = now.as_millis() / grain.step_ms() / group;
        let first = (last + 1).saturating_sub(wanted.div_ceil(group));
        Self { grain, places: first * group..(last + 1) * group, group }
    }

    /// The segments that hold what it asks and memory does not, the oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentId> {
        // The finest is in memory as far as it reaches.
        if self.grain == Grain::TenSeconds || self.places.is_empty() {
            return Vec::new();
        }
        // Nothing that is asked for may make a list without an end.
        let first = self
            .places
            .start
            .max(self.places.end.saturating_sub(self.grain.kept() + self.group));
        let [first, last] =
            [first, self.places.end - 1].map(|place| self.grain.segment_of(place).number);
        (first..=last).map(|number| SegmentId { grain: self.grain, number }).collect()
    }
}
