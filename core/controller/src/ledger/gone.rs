//! What was given back lately, so that a list of records from before is not believed about it.
//!
//! A list that was asked for before a VM's record was removed may arrive after the VM's room
//! was given away: to whom it made room for, in the same step (`room`), or to whoever came.
//! Taking the VM in again would count that room twice (PL-1).
//!
//! Only what the engine may have a record of is kept, and no more than [`GONE_MAX`] of it.
//! Beyond that the oldest is forgotten, and a list from before that takes nothing in: the next
//! one does. Not stored: a list is asked for after a restart.

use std::collections::BTreeMap;

use dwcp_types::ReservationId;

use super::Mark;

/// Most that is kept: some twenty for each host of a region of the placement benchmark, between
/// two lists that are half a minute apart.
pub(super) const GONE_MAX: usize = 2_048;

/// Reservations that were given back.
#[derive(Clone, Debug)]
pub(super) struct Gone {
    at: BTreeMap<ReservationId, Mark>,
    order: BTreeMap<Mark, ReservationId>,
    /// What was given back up to here may be forgotten.
    forgotten: Mark,
}

impl Gone {
    /// Nothing was given back since `mark`.
    pub(super) const fn since(mark: Mark) -> Self {
        Self { at: BTreeMap::new(), order: BTreeMap::new(), forgotten: mark }
    }

    /// It was given back, after everything that was before.
    pub(super) fn note(&mut self, id: &ReservationId, mark: Mark) {
        self.recall(id);
        self.at.insert(id.clone(), mark);
        self.order.insert(mark, id.clone());
        if self.order.len() > GONE_MAX
            && let Some((mark, id)) = self.order.pop_first()
        {
            self.at.remove(&id);
            self.forgotten = mark;
        }
    }

    /// It is there again.
    pub(super) fn recall(&mut self, id: &ReservationId) {
        if let Some(mark) = self.at.remove(id) {
            self.order.remove(&mark);
        }
    }

    /// Whether it may have been given back after this mark.
    pub(super) fn since_mark(&self, id: &ReservationId, mark: Mark) -> bool {
        mark < self.forgotten || self.at.get(id).is_some_and(|at| *at > mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_what_is_forgotten_is_taken_for_gone() {
        let mut gone = Gone::since(Mark::START);
        let mut mark = Mark::START;
        let id = |n: usize| ReservationId::new(&format!("r{n}")).unwrap();
        for n in 0..=GONE_MAX {
            mark = mark.next();
            gone.note(&id(n), mark);
        }
        assert_eq!((gone.at.len(), gone.order.len()), (GONE_MAX, GONE_MAX));
        let other = id(GONE_MAX + 1);
        assert!(gone.since_mark(&other, Mark::START), "it may be the forgotten one");
        assert!(!gone.since_mark(&other, Mark::START.next()));
        assert!(gone.since_mark(&id(GONE_MAX), Mark::START.next()));
        gone.recall(&id(GONE_MAX));
        assert!(!gone.since_mark(&id(GONE_MAX), Mark::START.next()));
        assert_eq!(gone.order.len(), GONE_MAX - 1);
    }
}
