//! What a state has seen, also where pieces are missing: a version vector with the dots beyond
//! its gaps.
//!
//! Kept as spans of each actor's numbers. Numbers count over the whole store, so most of them
//! are of other values; a writer knows all of its own mutations of a value, and its delta covers
//! the span from the last of them. Deltas that come in order make one span of each actor,
//! whatever comes early waits as a span of its own. No two spans touch, so equal versions have
//! one form.

use std::collections::BTreeMap;

use super::Causality;
use super::dot::Dot;

/// A set of dots, compact where they follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DottedVersion {
    /// From the dot before a span to the last number of it.
    spans: BTreeMap<Dot, u64>,
}

impl DottedVersion {
    /// Has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { spans: BTreeMap::new() }
    }

    /// Whether a mutation has been seen.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        let before = self.spans.range(..dot).next_back();
        before.is_some_and(|(after, upto)| after.actor == dot.actor && dot.seq <= *upto)
    }

    /// The last mutation of the same actor before this one that has been seen; number 0 where
    /// there is none.
    #[must_use]
    pub fn before(&self, dot: Dot) -> Dot {
        let earlier = Dot::new(dot.actor, dot.seq.saturating_sub(1));
        let span = self.spans.range(..earlier).next_back();
        let last = span.filter(|(after, _)| after.actor == dot.actor);
        Dot::new(
            dot.actor,
            last.map_or(0, |(_, upto)| *upto).min(dot.seq.saturating_sub(1)),
        )
    }

    /// Sees one mutation. Whether it is new.
    pub fn add(&mut self, dot: Dot) -> bool {
        self.extend(Dot::new(dot.actor, dot.seq.saturating_sub(1)), dot.seq)
    }

    /// Sees every mutation of `after.actor` later than `after`, up to `upto`. Whether any is new.
    pub fn extend(&mut self, after: Dot, upto: u64) -> bool {
        if upto <= after.seq {
            return false;
        }
        let (actor, mut low, mut high) = (after.actor, after.seq, upto);
        let before = self.spans.range(..=after).next_back();
        if let Some((start, end)) =
            before.filter(|(at, end)| at.actor == actor && **end >= low)
        {
            if *end >= upto {
                return false;
            }
            low = start.seq;
        }
        let touched = Dot::new(actor, low)..=Dot::new(actor, upto);
        while let Some((start, end)) =
            self.spans.range(touched.clone()).next().map(|(start, end)| (*start, *end))
        {
            self.spans.remove(&start);
            high = high.max(end);
        }
        self.spans.insert(Dot::new(actor, low), high);
        true
    }

    /// Sees also what the other has seen. Whether anything is new.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut new = false;
        for (after, upto) in &other.spans {
            new |= self.extend(*after, *upto);
        }
        new
    }

    /// Whether everything that the other has seen has been seen here.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.spans.iter().all(|(after, upto)| {
            let own = self.spans.range(..=*after).next_back();
            own.is_some_and(|(start, end)| start.actor == after.actor && end >= upto)
        })
    }

    /// How this relates to the other.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Causality {
        Causality::of(other.contains(self), self.contains(other))
    }

    /// The spans in order: the dot before each, and its last number.
    pub fn spans(&self) -> impl Iterator<Item = (Dot, u64)> {
        self.spans.iter().map(|(after, upto)| (*after, *upto))
    }

    /// How many spans there are: one for each actor, and one more for each gap.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether nothing has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

impl FromIterator<Dot> for DottedVersion {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut version = Self::new();
        for dot in dots {
            version.add(dot);
        }
        version
    }
}
