//! The places of the finest step, in memory.

use std::collections::VecDeque;

use dwcp_types::Timestamp;

use super::slot::Slot;
use super::{Grain, Window};

/// Places by 10 s for 2 h; the newest is the last. A gap costs a pointer.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    /// The number of the newest place since the epoch.
    newest: u64,
    slots: VecDeque<Option<Box<Slot>>>,
}

impl Ring {
    pub(super) const MAX: u64 = Grain::TenSeconds.kept();

    /// The number of a moment's place.
    pub(super) fn number(at: Timestamp) -> u64 {
        at.as_millis() / Grain::TenSeconds.step_ms()
    }

    /// Whether a place with this number leaves nothing of what is kept. Nor does what is that far
    /// in the past come late: the clock was ahead and is right again.
    pub(super) fn is_far(&self, number: u64) -> bool {
        !self.slots.is_empty() && number.abs_diff(self.newest) >= Self::MAX
    }

    /// A place, made when it is not there.
    pub(super) fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        if self.slots.is_empty() || self.is_far(number) {
            self.slots.clear();
            self.slots.push_back(None);
            self.newest = number;
        }
        while self.newest < number {
            self.slots.push_back(None);
            self.newest += 1;
        }
        while self.count() > Self::MAX {
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

    /// A place of which something is known.
    pub(super) fn get(&self, number: u64) -> Option<&Slot> {
        let place = usize::try_from(number.checked_sub(self.oldest())?).ok()?;
        self.slots.get(place)?.as_deref()
    }

    /// The number of the oldest place.
    pub(super) fn oldest(&self) -> u64 {
        (self.newest + 1).saturating_sub(self.count())
    }

    /// One more than the number of the newest place.
    pub(super) const fn end(&self) -> u64 {
        self.newest + 1
    }

    /// Adds up the places with these numbers; says whether anything is known of one.
    pub(super) fn sum(&self, from: u64, until: u64, window: &mut Window) -> bool {
        let first = self.oldest();
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let take = usize::try_from(until.saturating_sub(from.max(first))).unwrap_or(0);
        let mut known = false;
        for slot in self.slots.iter().skip(skip).take(take).flatten() {
            slot.add_to(window);
            known = true;
        }
        known
    }

    /// Those of these places of which something is known, as one; nothing when there is none.
    pub(super) fn merged(
        &self,
        from: u64,
        until: u64,
        buckets_max: usize,
    ) -> Option<Slot> {
        let mut window = Window::default();
        self.sum(from, until, &mut window).then(|| Slot::of(window, buckets_max))
    }

    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.slots.len()).unwrap_or(u64::MAX)
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let filled: usize = self.slots.iter().flatten().map(|it| it.bytes()).sum();
        filled + self.slots.capacity() * size_of::<Option<Box<Slot>>>()
    }
}
