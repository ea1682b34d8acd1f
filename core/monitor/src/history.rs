//! What was measured of one region, for charts and service levels: each 10 s for 2 h, each minute
//! for 7 days, each 5 minutes for 90 days.
//!
//! ```text
//!   digests, looks ─▶ 10 s for 2 h, in memory ─▶ pieces, each minute ─▶ segments on a disk
//!                          └─▶ a minute, five minutes, once over ─▶┘          │
//!   an answer ◀── what memory has, else what was read ◀── Query: which segments ┘
//! ```
//!
//! A place keeps counts, sums, least and greatest values and the merged sketch, from which any
//! figure of any longer time follows without averaging (F68). A place of which nothing is known is
//! a gap and stays one: never zero, never the value before. A minute is made of its places of 10 s
//! when no digest of it can come any more, which is an hour and more before memory forgets them;
//! until then an answer makes it for itself. Whoever keeps the history writes the pieces and reads
//! the segments: here is decided which, and what they say.
//!
//! Sketches of the steps that are kept for long are made coarser once they have more buckets than
//! [`BUCKETS_KEPT`]; a region whose latencies lie within a factor of eight or so keeps the finest.
//!
//! Rejected: all three steps in memory, which were 10 MiB a region; a row of the region's store for
//! each segment, because all of that store is read and verified when it is opened.

mod grain;
mod ring;
mod segment;
mod slot;
#[cfg(test)]
mod stored_tests;
#[cfg(test)]
mod tests;
mod window;

pub use grain::{Grain, Query, SegmentId, SegmentIdError};
pub use segment::{Cursor, Piece, Segment};
pub use window::{Spread, Window};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dwcp_types::{Timestamp, millis};

use self::ring::Ring;
use self::slot::Slot;
use self::window::Figures;
use crate::digest::{DIGESTS_KEPT, Digest, EVERY_MAX, Sketch};
use crate::metric::Metric;

/// Buckets of a sketch in the steps of minutes: about 400 bytes.
pub const BUCKETS_KEPT: usize = 192;
/// Points of one answer: more than a wide chart has columns, and some 60 KB.
pub const POINTS_MAX: u64 = 1_000;
/// The steps that are made of the finest, and how many of its places make one.
const COARSE: [(Grain, u64); 2] = [(Grain::Minute, 6), (Grain::FiveMinutes, 30)];

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

/// What was read of one region's segments for an answer.
#[derive(Clone, Debug, Default)]
pub struct Past {
    slots: BTreeMap<u64, Slot>,
}

impl Past {
    /// Takes what a segment has of what is asked; later ones win.
    pub fn take(&mut self, query: &Query, id: SegmentId, segment: Segment) {
        let Some(first) = id.first().filter(|_| id.grain == query.grain) else { return };
        let numbered = segment.slots.into_iter().map(|(at, slot)| (first + at, slot));
        self.slots.extend(numbered.filter(|(number, _)| query.places.contains(number)));
    }
}

/// Which of the segments that are there a daemon reads when it starts: all of the finest step, the
/// oldest first, and the newest of each other. None that is ahead of now: the clock was wrong.
#[must_use]
pub fn restored(there: &[SegmentId], now: Timestamp) -> Vec<SegmentId> {
    let mut all: Vec<_> = there.iter().copied().filter(|id| !id.is_ahead(now)).collect();
    all.sort_unstable();
    let newest = |id: &SegmentId| {
        let later =
            |other: &SegmentId| other.grain == id.grain && other.number > id.number;
        id.grain == Grain::TenSeconds || !all.iter().any(later)
    };
    all.iter().copied().filter(newest).collect()
}

/// What was measured of one region.
#[derive(Clone, Debug, Default)]
pub struct History {
    recent: Ring,
    /// Places of the finest step that changed since they were written.
    unwritten: BTreeSet<u64>,
    /// For each coarser step the number from which on nothing was written.
    next: [u64; COARSE.len()],
    /// Places of coarser steps that are over and of which memory has nothing else: those of
    /// before a leap of the clock, as many as the finest step reaches back.
    left: BTreeMap<(Grain, u64), Slot>,
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
        let number = Ring::number(at);
        if self.recent.is_far(number) {
            let over: Vec<_> = self.over(None).collect();
            self.left.extend(over);
            self.bound_left();
            self.unwritten.clear();
            self.next = COARSE.map(|(_, of)| number / of);
        }
        if let Some(slot) = self.recent.slot(number) {
            slot.add(figures, latency);
            self.unwritten.insert(number);
        }
    }

    /// Places of coarser steps that were not written and of which no digest can come any more;
    /// without a time all that were not.
    fn over(
        &self,
        now: Option<Timestamp>,
    ) -> impl Iterator<Item = ((Grain, u64), Slot)> + '_ {
        let kept = u32::try_from(DIGESTS_KEPT).unwrap_or(u32::MAX).saturating_add(1);
        let late = millis(EVERY_MAX * kept);
        let places =
            COARSE.into_iter().zip(self.next).flat_map(move |((grain, of), next)| {
                let (oldest, end) =
                    (self.recent.oldest() / of, self.recent.end().div_ceil(of));
                // What was written beyond the newest place was written by a clock that was ahead.
                let from = if next > end { oldest } else { next.max(oldest) };
                let over = now.map_or(end, |now| {
                    now.as_millis().saturating_sub(late) / grain.step_ms()
                });
                (from..over.min(end)).map(move |number| (grain, number, of))
            });
        places.filter_map(|(grain, number, of)| {
            let (from, until) = (number * of, (number + 1) * of);
            let slot = self.recent.merged(from, until, BUCKETS_KEPT)?;
            Some(((grain, number), slot))
        })
    }

    /// Hands out what is to be written, the segment that must be first at the front: it tells up
    /// to which digest the history reaches, and a place that is missing after a crash is better
    /// than one that counts twice.
    #[must_use]
    pub fn pieces(&mut self, cursor: Option<Cursor>, now: Timestamp) -> Vec<Piece> {
        let left = std::mem::take(&mut self.left);
        let fine = std::mem::take(&mut self.unwritten);
        let fine = fine.into_iter().filter_map(|number| {
            let slot = self.recent.get(number)?.clone();
            Some(((Grain::TenSeconds, number), slot))
        });
        let coarse = self.over(Some(now));
        let all: Vec<_> = left.into_iter().chain(fine).chain(coarse).collect();
        let mut pieces: BTreeMap<SegmentId, Piece> = BTreeMap::new();
        for ((grain, number), slot) in all {
            self.wrote(grain, number + 1);
            let segment = grain.segment_of(number);
            let piece = || Piece { segment, cursor, slots: BTreeMap::new() };
            let piece = pieces.entry(segment).or_insert_with(piece);
            let first = segment.first().unwrap_or_default();
            piece.slots.insert(number - first, slot);
        }
        let mut pieces: Vec<Piece> = pieces.into_values().collect();
        pieces.sort_by_key(|piece| {
            let SegmentId { grain, number } = piece.segment;
            (grain, std::cmp::Reverse(number))
        });
        pieces
    }

    fn wrote(&mut self, grain: Grain, until: u64) {
        for ((of, _), next) in COARSE.into_iter().zip(&mut self.next) {
            if of == grain {
                *next = until;
            }
        }
    }

    /// Takes back what could not be written.
    pub fn take_back(&mut self, piece: Piece) {
        let Some(first) = piece.segment.first() else { return };
        let grain = piece.segment.grain;
        for (offset, slot) in piece.slots {
            let number = first + offset;
            match COARSE.into_iter().zip(&mut self.next).find(|((of, _), _)| *of == grain)
            {
                None => drop(self.unwritten.insert(number)),
                Some(((_, of), next)) => {
                    *next = number.min(*next);
                    if self.recent.merged(number * of, (number + 1) * of, 0).is_none() {
                        self.left.insert((grain, number), slot);
                    }
                }
            }
        }
        self.bound_left();
    }

    fn bound_left(&mut self) {
        while self.left.len() > usize::try_from(Ring::MAX).unwrap_or(0) {
            self.left.pop_first();
        }
    }

    /// Takes what was read of a segment when a daemon starts, in the order of [`restored`]. Gives
    /// up to which digest it reaches: only the finest step says so, because the others are written
    /// when their places are over, and peers would tell again what the finest has since.
    pub fn restore(&mut self, id: SegmentId, segment: &Segment) -> Option<Cursor> {
        let first = id.first()?;
        for (offset, slot) in &segment.slots {
            let number = first + offset;
            if id.grain == Grain::TenSeconds {
                *self.recent.slot(number)? = slot.clone();
            } else {
                self.wrote(id.grain, number + 1);
            }
        }
        segment.cursor.filter(|_| id.grain == Grain::TenSeconds)
    }

    /// All that a query asks, of what is in memory and what was read.
    #[must_use]
    pub fn window(&self, query: &Query, past: &Past) -> Window {
        self.sum(query, past, query.places.start, query.places.end)
    }

    fn sum(&self, query: &Query, past: &Past, from: u64, until: u64) -> Window {
        let mut window = Window::default();
        let coarse = COARSE.into_iter().find(|(grain, _)| *grain == query.grain);
        let Some((grain, of)) = coarse else {
            self.recent.sum(from, until, &mut window);
            return window;
        };
        // Memory knows best what it knows at all: a place that was written may have changed.
        let (oldest, end) = (self.recent.oldest() / of, self.recent.end().div_ceil(of));
        let mut known = BTreeSet::new();
        for number in from.max(oldest)..until.min(end) {
            let whole = number * of >= self.recent.oldest();
            let has = whole || !past.slots.contains_key(&number);
            if has && self.recent.sum(number * of, (number + 1) * of, &mut window) {
                known.insert(number);
            }
        }
        if from >= until {
            return window;
        }
        for (number, slot) in past.slots.range(from..until) {
            if known.insert(*number) {
                slot.add_to(&mut window);
            }
        }
        for ((_, number), slot) in self.left.range((grain, from)..(grain, until)) {
            if known.insert(*number) {
                slot.add_to(&mut window);
            }
        }
        window
    }

    /// The points that a query asks, of what is in memory and what was read.
    #[must_use]
    pub fn chart(&self, metric: Metric, query: &Query, past: &Past) -> Chart {
        let step_ms = query.grain.step_ms() * query.group;
        let point = |number: u64| {
            let from = number * query.group;
            let window = self.sum(query, past, from, from + query.group);
            let spread = window.spread_milli(metric);
            Point {
                at: Timestamp::from_millis(number * step_ms),
                value_milli: window.value_milli(metric),
                min_milli: spread.map(|(least, _)| least),
                max_milli: spread.map(|(_, greatest)| greatest),
            }
        };
        let [first, end] =
            [query.places.start, query.places.end].map(|place| place / query.group);
        let points = (first..end).map(point).collect();
        Chart { step: Duration::from_millis(step_ms), points }
    }

    /// Bytes that it takes, about: what allocators add is not counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let left: usize = self.left.values().map(Slot::bytes).sum();
        self.recent.bytes() + left
    }
}
