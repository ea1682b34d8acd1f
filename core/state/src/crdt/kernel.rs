//! What every kind with removal is made of: mutations that are present, and all that were seen.
//!
//! Each dot is unknown, then present with its item, then gone; it never goes back. A state says
//! where each dot is: present if it is live, gone if it was seen and is not live, else unknown.
//! Join takes the further of both, dot by dot. That is the greatest of a total order, so join is
//! associative, commutative and idempotent whatever the items are, and a removal needs no
//! tombstone: what was seen, as a few spans, is all that is kept of it.
//!
//! Sets, registers and maps differ only in their items and in which dots an update sends away.
//! Rejected: a store for each nesting (maps of sets of dots) with a join for each. They are the
//! same states, and one join is one thing to get right.
//!
//! Join costs by the size of the other side, so a small delta is cheap on a large value: the dots
//! that it sends away are found by their spans, and digest and size are kept along.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::error::UpdateError;
use super::limit::WRITTEN_BYTES_MAX;
use super::update::Writer;
use crate::clock::{Dot, DottedVersion, wire};
use crate::codec::{DecodeError, Sink, Source, ascending, put_len, put_number};
use crate::digest::Mixer;

/// What a mutation made.
pub(super) trait Item: Clone + Ord {
    fn put(&self, out: &mut impl Sink);
    fn take(from: &mut Source<'_>) -> Result<Self, DecodeError>;
    /// About as many bytes as its encoding has.
    fn size(&self) -> usize;
}

/// About what a dot and a span take in an encoding.
const DOT_SIZE: usize = 8;

/// Which mutations are present, by dot and by item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel<T> {
    /// Every live dot is in it.
    seen: DottedVersion,
    live: BTreeMap<Dot, T>,
    /// The same as `live`, the other way round; dots in order.
    dots: BTreeMap<T, Vec<Dot>>,
    size: usize,
    /// The sum of the digests of what is live, so that it follows each change.
    sum: u64,
}

impl<T: Item> Default for Kernel<T> {
    fn default() -> Self {
        let (seen, live, dots) = (DottedVersion::new(), BTreeMap::new(), BTreeMap::new());
        Self { seen, live, dots, size: 0, sum: 0 }
    }
}

impl<T: Item> Kernel<T> {
    /// What is present, in order, with the dots that made it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&T, &[Dot])> {
        self.dots.iter().map(|(item, dots)| (item, dots.as_slice()))
    }

    /// What is present from an item on.
    pub(super) fn iter_from<'a>(
        &'a self,
        least: &T,
    ) -> impl Iterator<Item = (&'a T, &'a [Dot])> + use<'a, T> {
        let rest = (Bound::Included(least), Bound::Unbounded);
        self.dots.range(rest).map(|(item, dots)| (item, dots.as_slice()))
    }

    /// The dots that made an item, as far as they are present.
    pub(super) fn dots_of<Q: Ord + ?Sized>(&self, item: &Q) -> &[Dot]
    where
        T: Borrow<Q>,
    {
        self.dots.get(item).map_or(&[], Vec::as_slice)
    }

    /// Every dot that is present.
    pub(super) fn live(&self) -> impl Iterator<Item = Dot> {
        self.live.keys().copied()
    }

    /// How many items are present.
    pub(super) fn len(&self) -> usize {
        self.dots.len()
    }

    pub(super) fn is_bottom(&self) -> bool {
        self.live.is_empty()
    }

    /// Whether all that was seen is covered, by something that covers without gaps.
    pub(super) fn is_covered(&self, covers: impl Fn(Dot) -> bool) -> bool {
        self.seen.spans().all(|(after, upto)| covers(Dot::new(after.actor, upto)))
    }

    /// The delta that sends dots away and brings in an item under the writer's dot.
    ///
    /// This value must hold all that the writer's actor did to it before: the delta says that
    /// nothing else of that actor lies between its last dot here and this one.
    pub(super) fn replace(
        &self,
        gone: impl IntoIterator<Item = Dot>,
        item: T,
        by: &Writer,
    ) -> Result<Self, UpdateError> {
        let dot = by.dot();
        let last = self.seen.before(dot);
        if self.seen.covers(dot) || dot.seq == 0 {
            let (actor, seq) = (dot.actor, dot.seq);
            return Err(UpdateError::DotReused { actor, seq });
        }
        let bytes = self.size() + item.size();
        if bytes > WRITTEN_BYTES_MAX {
            let (what, max) = ("the value with this update", WRITTEN_BYTES_MAX);
            return Err(UpdateError::TooLarge { what, bytes, max });
        }
        let mut delta = self.remove(gone);
        delta.seen.extend(last, dot.seq);
        delta.insert(dot, item);
        Ok(delta)
    }

    /// The delta that sends dots away.
    pub(super) fn remove(&self, gone: impl IntoIterator<Item = Dot>) -> Self {
        let mut delta = Self::default();
        for dot in gone {
            delta.seen.add(dot);
        }
        delta
    }

    /// Takes the further of each dot. Whether anything changed.
    pub(super) fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (after, upto) in other.seen.spans() {
            // Later than `after`, and nothing is numbered higher than `u64::MAX`.
            let Some(first) = after.seq.checked_add(1) else { continue };
            let span = Dot::new(after.actor, first)..=Dot::new(after.actor, upto);
            let seen_there = self.live.range(span).map(|(dot, _)| *dot);
            let gone: Vec<_> =
                seen_there.filter(|dot| !other.live.contains_key(dot)).collect();
            for dot in gone {
                self.take_out(dot);
                changed = true;
            }
        }
        for (dot, item) in &other.live {
            let known = self.live.get(dot);
            // Two items of one dot are an actor's that was used twice. Some order must do.
            let further =
                known.map_or_else(|| !self.seen.covers(*dot), |known| known < item);
            if further {
                self.take_out(*dot);
                self.insert(*dot, item.clone());
                changed = true;
            }
        }
        changed | self.seen.join(&other.seen)
    }

    fn insert(&mut self, dot: Dot, item: T) {
        self.size += item.size() + DOT_SIZE;
        self.sum = self.sum.wrapping_add(digest(dot, &item));
        let dots = self.dots.entry(item.clone()).or_default();
        if let Err(at) = dots.binary_search(&dot) {
            dots.insert(at, dot);
        }
        self.live.insert(dot, item);
    }

    fn take_out(&mut self, dot: Dot) {
        let Some(item) = self.live.remove(&dot) else { return };
        self.size -= item.size() + DOT_SIZE;
        self.sum = self.sum.wrapping_sub(digest(dot, &item));
        let Some(dots) = self.dots.get_mut(&item) else { return };
        dots.retain(|other| *other != dot);
        if dots.is_empty() {
            self.dots.remove(&item);
        }
    }

    /// About as many bytes as the encoding has.
    fn size(&self) -> usize {
        self.size + self.seen.len() * DOT_SIZE
    }

    /// Stands for the whole state.
    pub(super) fn put_digest(&self, mixer: &mut Mixer) {
        put_len(mixer, self.live.len());
        put_number(mixer, self.sum);
        wire::put_version(mixer, &self.seen);
    }

    /// What was seen, then each item with its dots.
    pub(super) fn encode(&self, out: &mut impl Sink) {
        let actors = wire::put_version(out, &self.seen);
        put_len(out, self.dots.len());
        for (item, dots) in &self.dots {
            item.put(out);
            put_len(out, dots.len());
            for dot in dots {
                // Every live dot was seen, so its actor is among those just written.
                let actor = actors.binary_search(&dot.actor).unwrap_or_else(|at| at);
                put_len(out, actor);
                put_number(out, dot.seq);
            }
        }
    }

    pub(super) fn decode(from: &mut Source<'_>) -> Result<Self, DecodeError> {
        const REFUSED: DecodeError = DecodeError::NotCanonical("a dot");
        let (seen, actors) = wire::version(from)?;
        let mut kernel = Self { seen, ..Self::default() };
        let mut last_item = None;
        for _ in 0..from.len(4)? {
            let item = ascending(T::take(from)?, &mut last_item, "an item")?;
            let dots = from.len(2)?;
            if dots == 0 {
                return Err(DecodeError::NotCanonical("an item without a dot"));
            }
            let mut last_dot = None;
            for _ in 0..dots {
                let actor = usize::try_from(from.number()?).map_err(|_| REFUSED)?;
                let actor = *actors.get(actor).ok_or(REFUSED)?;
                let dot = Dot::new(actor, from.number()?);
                let dot = ascending(dot, &mut last_dot, "a dot")?;
                if !kernel.seen.covers(dot) || kernel.live.contains_key(&dot) {
                    return Err(REFUSED);
                }
                kernel.insert(dot, item.clone());
            }
        }
        Ok(kernel)
    }
}

fn digest(dot: Dot, item: &impl Item) -> u64 {
    let mut mixer = Mixer::new();
    wire::put_actor(&mut mixer, dot.actor);
    put_number(&mut mixer, dot.seq);
    item.put(&mut mixer);
    mixer.finish()
}
