//! Which operations were done, so that asking again does nothing twice.
//!
//! An id is made durable in the batch of its change, and kept for a time that is promised. When
//! there are too many, new ones are refused: forgetting one early would make a promise void
//! that a client still counts on.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Hlc;
use crate::replica::input::OpId;
use crate::replica::rows::OpRow;

/// The ids and what they stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ops {
    done: BTreeMap<OpId, OpRow>,
    by_age: BTreeSet<(Hlc, OpId)>,
    /// Those whose change is not made yet: a register's first phase runs.
    begun: BTreeSet<OpId>,
}

impl Ops {
    pub(crate) fn get(&self, id: OpId) -> Option<OpRow> {
        self.done.get(&id).copied()
    }

    pub(crate) fn insert(&mut self, id: OpId, row: OpRow) {
        self.begun.remove(&id);
        self.by_age.insert((row.stamp, id));
        self.done.insert(id, row);
    }

    /// Notes that a change is under way. False when it is already.
    pub(crate) fn begin(&mut self, id: OpId) -> bool {
        self.begun.insert(id)
    }

    /// Notes that a change will not be made.
    pub(crate) fn end(&mut self, id: OpId) {
        self.begun.remove(&id);
    }

    /// No change is under way any more.
    pub(crate) fn end_all(&mut self) {
        self.begun.clear();
    }

    /// Forgets what is older than `before`, and says which.
    pub(crate) fn expire(&mut self, before: Hlc) -> Vec<OpId> {
        let mut gone = Vec::new();
        while let Some((_, id)) = self.by_age.first().filter(|(stamp, _)| *stamp < before)
        {
            let id = *id;
            self.by_age.pop_first();
            self.done.remove(&id);
            gone.push(id);
        }
        gone
    }

    pub(crate) fn clear(&mut self) -> Vec<OpId> {
        let gone = self.done.keys().copied().collect();
        *self = Self::default();
        gone
    }

    pub(crate) fn len(&self) -> usize {
        self.done.len() + self.begun.len()
    }
}
