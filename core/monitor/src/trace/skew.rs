//! Whose clock is wrong, as far as the spans prove it.
//!
//! A server's span lies within the span of the client that waits for it. Where the times say
//! otherwise one of the two clocks is wrong, and by how much at least and at most follows from
//! the two ends. Nothing is corrected that is not proved wrong (F70).

use std::collections::{BTreeMap, VecDeque};

use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// Who has a clock: a process of a region.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Lane {
    /// The region.
    pub region: RegionId,
    /// The process there.
    pub process: String,
}

impl Lane {
    /// Whose span it is.
    #[must_use]
    pub fn of(span: &Span) -> Self {
        Self { region: span.region.clone(), process: span.process.clone() }
    }
}

/// How wrong a clock is against the clock of the trace's first span.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct Offset {
    /// It is ahead by so much, in microseconds; behind when negative. Zero while nothing proves
    /// that it is wrong.
    pub ahead_us: i64,
    /// And that by so much more or less, in microseconds.
    pub within_us: u64,
    /// Nothing in the trace ties this clock to the first one's.
    pub unknown: bool,
}

/// A clock that shows 1970 is that far off; no two are further apart.
const FAR: i128 = 1 << 60;
/// Where nothing says how far.
const UNBOUND: i64 = 1 << 61;

/// How far a clock may be ahead of another, from the spans of calls between the two.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    least: i64,
    most: i64,
}

impl Bounds {
    fn of(client: &Span, server: &Span) -> Self {
        let less = |a: u64, b: u64| {
            let gap = i128::from(a) - i128::from(b);
            i64::try_from(gap.clamp(-FAR, FAR)).unwrap_or(0)
        };
        let most = less(server.start_us, client.start_us);
        // A client that gave up has left before its server ended: only the begins say something.
        let waited = server.took_us <= client.took_us;
        let least =
            if waited { less(server.end_us(), client.end_us()) } else { -UNBOUND };
        Self { least, most }
    }

    /// What both allow; the newer where they contradict each other, for a clock may step.
    fn and(self, newer: Self) -> Self {
        let both =
            Self { least: self.least.max(newer.least), most: self.most.min(newer.most) };
        if both.least <= both.most { both } else { newer }
    }

    fn reversed(self) -> Self {
        Self { least: -self.most, most: -self.least }
    }

    fn offset(self) -> (i64, u64) {
        if self.least <= 0 && self.most >= 0 {
            return (0, 0);
        }
        // Where only one end is known the clock is wrong by that at least.
        if self.least <= -UNBOUND {
            return (self.most, 0);
        }
        if self.most >= UNBOUND {
            return (self.least, 0);
        }
        let middle = self.least + (self.most - self.least) / 2;
        (middle, (self.most - self.least).unsigned_abs().div_ceil(2))
    }
}

/// Every clock of a trace against that of `first`. `calls` are pairs of client and server.
pub(super) fn offsets<'a>(
    first: Option<&Lane>,
    spans: impl Iterator<Item = &'a Span>,
    calls: impl Iterator<Item = (&'a Span, &'a Span)>,
) -> BTreeMap<Lane, Offset> {
    let mut found: BTreeMap<Lane, Offset> = spans
        .map(|span| (Lane::of(span), Offset { unknown: true, ..Offset::default() }))
        .collect();
    let mut ties: BTreeMap<Lane, BTreeMap<Lane, Bounds>> = BTreeMap::new();
    for (client, server) in calls {
        let (a, b) = (Lane::of(client), Lane::of(server));
        if a == b {
            continue;
        }
        let bounds = Bounds::of(client, server);
        tie(&mut ties, (&a, &b), bounds);
        tie(&mut ties, (&b, &a), bounds.reversed());
    }
    let mut next: VecDeque<(Lane, Offset)> =
        first.map(|lane| (lane.clone(), Offset::default())).into_iter().collect();
    while let Some((lane, offset)) = next.pop_front() {
        match found.get_mut(&lane) {
            Some(unknown) if unknown.unknown => *unknown = offset,
            _ => continue,
        }
        for (other, bounds) in ties.get(&lane).into_iter().flatten() {
            let (ahead, within) = bounds.offset();
            let offset = Offset {
                ahead_us: offset.ahead_us.saturating_add(ahead),
                within_us: offset.within_us.saturating_add(within),
                unknown: false,
            };
            next.push_back((other.clone(), offset));
        }
    }
    found
}

fn tie(
    ties: &mut BTreeMap<Lane, BTreeMap<Lane, Bounds>>,
    (from, to): (&Lane, &Lane),
    bounds: Bounds,
) {
    let of = ties.entry(from.clone()).or_default();
    let all = of.get(to).map_or(bounds, |before| before.and(bounds));
    of.insert(to.clone(), all);
}
