//! A sketch of latencies: how many fell into each of some buckets, so that percentiles of many
//! regions are merged and never averaged (F68).
//!
//! Buckets are 64 to a doubling of the value, of equal width within it, so that whole numbers and
//! shifts are all it takes and a value is within a hundredth of its bucket's middle. A sketch that
//! is kept for long may be made coarser, each level with half of the buckets and twice the error.
//! Merging adds counts, at the coarser level of the two: in any order, the same comes out.
//!
//! Rejected: buckets by logarithm (the usual `DDSketch`), which needs floating-point numbers that
//! two machines may round differently; centroids (t-digest), whose merge depends on the order.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::varint::{put, take};

/// Buckets of one doubling: half of one's width is 0.8 % of the least value in it.
const PER_DOUBLING: u64 = 64;
const PER_DOUBLING_BITS: u32 = 6;
/// Greatest value that is told apart: 2^36 microseconds are 19 hours, longer than any call may
/// take.
const VALUE_MAX: u64 = (1 << 36) - 1;
/// Buckets of the finest level.
const BUCKETS: u64 = 31 * PER_DOUBLING;
/// The coarsest level has one bucket for each doubling.
const LEVEL_MAX: u8 = 6;
/// All of something, in parts per million.
const WHOLE_PPM: u128 = 1_000_000;

/// How many values fell where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Wire", into = "Wire")]
#[schemars(with = "Wire")]
pub struct Sketch {
    level: u8,
    counts: BTreeMap<u16, u64>,
}

/// What is no sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    /// It is coarser than any is.
    #[error("a sketch has levels 0 to {LEVEL_MAX}, not {0}")]
    Level(u8),
    /// There is no such bucket.
    #[error("there is no bucket {0} at level {1}")]
    Bucket(u16, u8),
}

/// A sketch as it travels.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Sketch")]
struct Wire {
    /// How coarse it is: 0 has 64 buckets for each doubling, each level more half as many.
    #[serde(default)]
    level: u8,
    /// Buckets by number, and how many values fell into each.
    #[serde(default)]
    counts: Vec<(u16, u64)>,
}

impl TryFrom<Wire> for Sketch {
    type Error = SketchError;

    fn try_from(wire: Wire) -> Result<Self, SketchError> {
        let Wire { level, counts: wired } = wire;
        if level > LEVEL_MAX {
            return Err(SketchError::Level(level));
        }
        let mut sketch = Self { level, counts: BTreeMap::new() };
        for (bucket, count) in wired {
            if u64::from(bucket) >= BUCKETS >> level {
                return Err(SketchError::Bucket(bucket, level));
            }
            sketch.add(bucket, count);
        }
        Ok(sketch)
    }
}

impl From<Sketch> for Wire {
    fn from(sketch: Sketch) -> Self {
        Self { level: sketch.level, counts: sketch.counts.into_iter().collect() }
    }
}

impl Sketch {
    /// Adds one value, in microseconds.
    pub fn record(&mut self, micros: u64) {
        let bucket = bucket_of(micros) >> self.level;
        self.add(number(bucket), 1);
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Self) {
        while self.level < other.level {
            self.coarsen();
        }
        let by = self.level - other.level;
        for (bucket, count) in &other.counts {
            self.add(bucket >> by, *count);
        }
    }

    /// Values in it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Buckets that are not empty.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.counts.len()
    }

    /// The least value that at least this share of all are not over, in parts per million, as
    /// the middle of its bucket in microseconds; nothing of nothing.
    #[must_use]
    pub fn percentile(&self, share_ppm: u32) -> Option<u64> {
        let all: u128 = self.counts.values().map(|count| u128::from(*count)).sum();
        let rank = (all * u128::from(share_ppm)).div_ceil(WHOLE_PPM).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.counts {
            seen += u128::from(*count);
            if seen >= rank {
                let first = u64::from(*bucket) << self.level;
                let end = lowest(first + (1 << self.level));
                return Some(lowest(first).midpoint(end - 1));
            }
        }
        None
    }

    /// Makes it coarser until it has no more buckets than this, of which there must be 31 at
    /// least: the coarsest has no more.
    pub fn fit(&mut self, buckets_max: usize) {
        while self.counts.len() > buckets_max && self.level < LEVEL_MAX {
            self.coarsen();
        }
    }

    pub(super) fn coarsen(&mut self) {
        let fine = std::mem::take(&mut self.counts);
        self.level += 1;
        for (bucket, count) in fine {
            self.add(bucket >> 1, count);
        }
    }

    pub(super) fn add(&mut self, bucket: u16, count: u64) {
        if count > 0 {
            let kept = self.counts.entry(bucket).or_default();
            *kept = kept.saturating_add(count);
        }
    }

    /// As few bytes: the level, then gaps between buckets and their counts, seven bits a byte.
    pub(crate) fn pack(&self) -> Box<[u8]> {
        if self.counts.is_empty() {
            return Box::default();
        }
        let mut bytes = vec![self.level];
        let mut last = 0;
        for (bucket, count) in &self.counts {
            put(&mut bytes, u64::from(bucket - last));
            put(&mut bytes, *count);
            last = *bucket;
        }
        bytes.into_boxed_slice()
    }

    /// What was packed here.
    pub(crate) fn unpack(bytes: &[u8]) -> Self {
        let mut sketch = Self::default();
        let Some((level, rest)) = bytes.split_first() else { return sketch };
        sketch.level = (*level).min(LEVEL_MAX);
        let (mut rest, mut bucket) = (rest, 0_u16);
        while let (Some(gap), Some(count)) = (take(&mut rest), take(&mut rest)) {
            bucket = bucket.saturating_add(number(gap));
            sketch.add(bucket, count);
        }
        sketch
    }

    /// Whether these bytes are what [`Self::pack`] makes of a sketch, and all of them.
    pub(crate) fn is_packed(bytes: &[u8]) -> bool {
        let sketch = Self::unpack(bytes);
        let end = BUCKETS >> sketch.level;
        let last = sketch.counts.last_key_value();
        last.is_none_or(|(bucket, _)| u64::from(*bucket) < end)
            && *sketch.pack() == *bytes
    }
}

/// Counts values as they come: a shift and an addition each, without allocation.
#[derive(Clone, Debug)]
pub struct Recorder {
    counts: Vec<u64>,
}

impl Default for Recorder {
    fn default() -> Self {
        let buckets = usize::try_from(BUCKETS).unwrap_or(0);
        Self { counts: vec![0; buckets] }
    }
}

impl Recorder {
    /// Adds one value, in microseconds.
    pub fn record(&mut self, micros: u64) {
        let bucket = usize::try_from(bucket_of(micros)).unwrap_or(usize::MAX);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
    }

    /// Hands out what was counted, and begins anew.
    pub fn take(&mut self) -> Sketch {
        let mut sketch = Sketch::default();
        for (bucket, count) in (0_u16..).zip(&mut self.counts) {
            sketch.add(bucket, std::mem::take(count));
        }
        sketch
    }
}

/// In which bucket of the finest level a value is.
fn bucket_of(value: u64) -> u64 {
    let value = value.min(VALUE_MAX);
    let doublings = (value | 1).ilog2().saturating_sub(PER_DOUBLING_BITS);
    u64::from(doublings) * PER_DOUBLING + (value >> doublings)
}

/// The least value of a bucket of the finest level.
const fn lowest(bucket: u64) -> u64 {
    if bucket < 2 * PER_DOUBLING {
        return bucket;
    }
    let doublings = bucket / PER_DOUBLING - 1;
    (bucket - doublings * PER_DOUBLING) << doublings
}

/// A bucket's number; there are fewer than 2,048.
fn number(bucket: u64) -> u16 {
    u16::try_from(bucket).unwrap_or(u16::MAX)
}
