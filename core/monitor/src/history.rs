//! What was measured of one region, for charts and service levels: each 10 s for 2 h, each minute
//! for 7 days, each 5 minutes for 90 days.
//!
//! A digest is put into all three rings as it comes, so nothing is rolled up later and nothing can
//! be forgotten in between. A place keeps counts, sums, least and greatest values and the merged
//! sketch, from which any figure of any longer time follows without averaging (F68). A place of
//! which nothing is known is a gap and stays one: never zero, never the value before.
//!
//! Sketches of the rings that are kept for long are made coarser once they have more buckets than
//! [`BUCKETS_KEPT`]; a region whose latencies lie within a factor of eight or so keeps the finest.

#[cfg(test)]
mod tests;
mod window;

pub use window::{Spread, Window};

use std::collections::VecDeque;
use std::time::Duration;

use dwcp_types::{Timestamp, millis};

use self::window::Figures;
use crate::digest::{Digest, Sketch};
use crate::metric::Metric;

/// Steps of the rings and how many of each are kept: 2 h, 7 d and 90 d.
pub const RINGS: [(Duration, usize); 3] = [
    (Duration::from_secs(10), 720),
    (Duration::from_mins(1), 10_080),
    (Duration::from_mins(5), 25_920),
];
/// Buckets of a sketch in the rings of minutes: about 400 bytes.
pub const BUCKETS_KEPT: usize = 192;
/// Points of one answer: more than a wide chart has columns, and some 60 KB.
pub const POINTS_MAX: u64 = 1_000;

/// One place of a ring.
#[derive(Clone, Debug, Default)]
struct Slot {
    figures: Figures,
    latency: Box<[u8]>,
}

impl Slot {
    fn add(&mut self, figures: &Figures, latency: &Sketch, buckets_max: usize) {
        self.figures.merge(figures);
        if latency.buckets() > 0 {
            let mut sketch = Sketch::unpack(&self.latency);
            sketch.merge(latency);
            sketch.fit(buckets_max);
            self.latency = sketch.pack();
        }
    }

    fn add_to(&self, window: &mut Window) {
        window.figures.merge(&self.figures);
        window.latency.merge(&Sketch::unpack(&self.latency));
    }
}

/// Places of one step; the newest is the last. A gap costs a pointer.
#[derive(Clone, Debug)]
struct Ring {
    step_ms: u64,
    max: u64,
    buckets_max: usize,
    /// The number of the newest place since the epoch.
    newest: u64,
    slots: VecDeque<Option<Box<Slot>>>,
}

impl Ring {
    /// The place of a moment, made when it is not there.
    fn slot(&mut self, at: Timestamp) -> Option<&mut Slot> {
        let number = at.as_millis() / self.step_ms;
        if self.slots.is_empty() || number.abs_diff(self.newest) >= self.max {
            // Nothing that is kept is left. Nor does what is that far in the past come late: the
            // clock was ahead and is right again.
            self.slots.clear();
            self.slots.push_back(None);
            self.newest = number;
        }
        while self.newest < number {
            self.slots.push_back(None);
            self.newest += 1;
        }
        while self.count() > self.max {
            self.slots.pop_front();
        }
        let back = self.newest - number;
        while self.count() <= back {
            self.slots.push_front(None);
        }
        let place = usize::try_from(self.count() - 1 - back).ok()?;
        let slot = self.slots.get_mut(place)?;
        Some(slot.get_or_insert_default())
    }

    fn oldest(&self) -> u64 {
        (self.newest + 1).saturating_sub(self.count())
    }

    /// Adds up the places with these numbers.
    fn sum(&self, from: u64, until: u64) -> Window {
        let mut window = Window::default();
        let first = self.oldest();
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let take = usize::try_from(until.saturating_sub(from.max(first))).unwrap_or(0);
        for slot in self.slots.iter().skip(skip).take(take).flatten() {
            slot.add_to(&mut window);
        }
        window
    }

    fn count(&self) -> u64 {
        u64::try_from(self.slots.len()).unwrap_or(u64::MAX)
    }
}

/// One point of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When it begins.
    pub at: Timestamp,
    /// The value over its step, in thousandths of the metric's unit; nothing is a gap.
    pub value_milli: Option<u64>,
    /// The least value of a gauge in it.
    pub min_milli: Option<u64>,
    /// The greatest value of a gauge in it.
    pub max_milli: Option<u64>,
}

/// Points of a chart, and how far apart they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    /// From one point to the next.
    pub step: Duration,
    /// The oldest first.
    pub points: Vec<Point>,
}

/// What was measured of one region.
#[derive(Clone, Debug)]
pub struct History {
    rings: Vec<Ring>,
}

impl Default for History {
    fn default() -> Self {
        let ring = |(step, max): (Duration, usize)| Ring {
            step_ms: millis(step),
            max: u64::try_from(max).unwrap_or(u64::MAX),
            // The ring of 10 s is short: it keeps what came.
            buckets_max: if max <= RINGS[0].1 { usize::MAX } else { BUCKETS_KEPT },
            newest: 0,
            slots: VecDeque::new(),
        };
        Self { rings: RINGS.map(ring).into() }
    }
}

impl History {
    /// Adds a digest that belongs to this moment.
    pub fn record(&mut self, at: Timestamp, digest: &Digest) {
        self.add(at, &Figures::of(digest), &digest.latency);
    }

    /// Adds one look of the others at the region.
    pub fn observe(&mut self, at: Timestamp, heard: bool) {
        self.add(at, &Figures::of_look(heard), &Sketch::default());
    }

    fn add(&mut self, at: Timestamp, figures: &Figures, latency: &Sketch) {
        for ring in &mut self.rings {
            let buckets_max = ring.buckets_max;
            if let Some(slot) = ring.slot(at) {
                slot.add(figures, latency, buckets_max);
            }
        }
    }

    /// All that was measured from a moment on and before another, in whole steps of the finest
    /// ring that reaches back so far.
    #[must_use]
    pub fn between(&self, from: Timestamp, until: Timestamp, now: Timestamp) -> Window {
        let Some(ring) = self.reaching(now.since(from)) else { return Window::default() };
        let step = ring.step_ms;
        ring.sum(from.as_millis() / step, until.as_millis().div_ceil(step))
    }

    /// All that was measured in the last time.
    #[must_use]
    pub fn last(&self, back: Duration, now: Timestamp) -> Window {
        let from = now.as_millis().saturating_sub(millis(back)).saturating_add(1);
        self.between(
            Timestamp::from_millis(from),
            now.plus(Duration::from_millis(1)),
            now,
        )
    }

    /// A chart of the last time: of the finest ring that reaches back so far, some places
    /// together where there are more than [`POINTS_MAX`].
    #[must_use]
    pub fn chart(&self, metric: Metric, back: Duration, now: Timestamp) -> Chart {
        let Some(ring) = self.reaching(back) else {
            return Chart { step: RINGS[0].0, points: Vec::new() };
        };
        let wanted = millis(back).div_ceil(ring.step_ms).clamp(1, ring.max);
        let group = wanted.div_ceil(POINTS_MAX);
        let last = now.as_millis() / ring.step_ms / group;
        let first = (last + 1).saturating_sub(wanted.div_ceil(group));
        let step_ms = ring.step_ms * group;
        let point = |number: u64| {
            let window = ring.sum(number * group, (number + 1) * group);
            let spread = window.spread_milli(metric);
            Point {
                at: Timestamp::from_millis(number * step_ms),
                value_milli: window.value_milli(metric),
                min_milli: spread.map(|(least, _)| least),
                max_milli: spread.map(|(_, greatest)| greatest),
            }
        };
        let points = (first..=last).map(point).collect();
        Chart { step: Duration::from_millis(step_ms), points }
    }

    /// The finest ring that reaches back so far, or the longest.
    fn reaching(&self, back: Duration) -> Option<&Ring> {
        let reaches =
            |ring: &&Ring| ring.step_ms.saturating_mul(ring.max) >= millis(back);
        self.rings.iter().find(reaches).or_else(|| self.rings.last())
    }

    /// Bytes that it takes, about: what allocators add is not counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let slot = |slot: &Slot| size_of::<Slot>() + slot.latency.len();
        let ring = |ring: &Ring| {
            let filled: usize = ring.slots.iter().flatten().map(|it| slot(it)).sum();
            filled + ring.slots.capacity() * size_of::<Option<Box<Slot>>>()
        };
        self.rings.iter().map(ring).sum()
    }
}
