//! Forgetting what was deleted, once everybody knows that it was (F50).
//!
//! A value that shows nothing still says what was removed. It may go when every member has
//! received everything that this replica had when the value came to show nothing, and
//! everything that the value knows of is part of that: then no member can hand back what it
//! removed. Such values wait in rounds. A round has one *cut*,
//! what had been received when it was closed, and goes as a whole when every member, in this
//! epoch, says that it has durably received the cut; and, where values go by stamps, when this
//! replica has everything that was ever stamped earlier: an older write that still came would
//! find nothing to lose against.
//!
//! What is left of a round is its cut, in `collected`: a whole state from a replica that has
//! not received that much is refused from then on, however late it comes.
//!
//! A member that is away blocks only what it has not seen. Rejected: forgetting after a time,
//! which brings deleted things back whenever somebody was away for longer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Hlc, ReplicaId};
use crate::frontier::{Frontier, Position};
use crate::replica::Replica;
use crate::replica::config::Sabotage;
use crate::replica::input::Key;
use crate::replica::store::Doom;

/// What is on its way out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collection {
    /// What came to show nothing since the waiting round was closed.
    open: BTreeSet<Key>,
    /// What those values contain beyond what came by push.
    open_beyond: Frontier,
    waiting: BTreeSet<Key>,
    cut: Frontier,
    /// The latest deletion among those that go by stamps.
    cut_stamp: Hlc,
    closed_at: Duration,
    /// What every member had received of what was collected.
    pub(crate) collected: Frontier,
    /// How far some other replica had this one's log before this membership and this start.
    pub(crate) spread: Position,
}

impl Collection {
    /// Everything that shows nothing.
    pub(crate) fn doomed(&self) -> Vec<Key> {
        self.open.iter().chain(&self.waiting).map(Arc::clone).collect()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.waiting.len()
    }
}

impl Replica {
    /// Puts a value that shows nothing into the open round, and takes one that shows something
    /// out. To be called whenever anything about a key was received, also when it changed
    /// nothing: what the value removes may have come again just now.
    pub(super) fn doom(&mut self, key: &Key, beyond: Option<&Frontier>) {
        let Some(entry) = self.store.get_mut(key) else { return };
        let before = entry.doom;
        entry.doom = if entry.value.is_bottom() { Doom::Open } else { Doom::None };
        if entry.doom == Doom::Open
            && let Some(beyond) = beyond
        {
            self.collection.open_beyond.join(beyond);
        }
        if before == entry.doom {
            return;
        }
        match before {
            Doom::None => false,
            Doom::Open => self.collection.open.remove(key),
            Doom::Waiting => self.collection.waiting.remove(key),
        };
        if entry.doom == Doom::Open {
            self.collection.open.insert(Arc::clone(key));
        }
    }

    /// Forgets the waiting round if everybody knows of it, and closes the open one.
    pub(super) fn collect(&mut self) {
        if !self.collection.waiting.is_empty() && self.is_known_to_all() {
            self.forget_round();
        }
        if self.collection.waiting.is_empty() && !self.collection.open.is_empty() {
            self.close_round();
        }
    }

    fn is_known_to_all(&self) -> bool {
        if self.config.breaks(Sabotage::CollectsByTime) {
            let waited = self.now.mono.saturating_sub(self.collection.closed_at);
            return waited > Duration::from_secs(2);
        }
        self.durable.covers(&self.collection.cut)
            && self.pulls.settled().epoch == self.view.epoch()
            && self.blockers().is_empty()
    }

    /// The members that have not received what waits to be forgotten.
    pub(super) fn blockers(&self) -> Vec<ReplicaId> {
        if self.collection.waiting.is_empty() {
            return Vec::new();
        }
        let (cut, stamp) = (&self.collection.cut, self.collection.cut_stamp);
        let blocks = |id: &ReplicaId| {
            let Some(peer) = self.peers.get(id) else { return true };
            let heard = peer.report_epoch == self.view.epoch() && peer.report.covers(cut);
            let closed = peer.closed >= stamp || !self.view.membership.is_active(*id);
            // One that holds keys since this epoch counts their past as received, and has it
            // when it has settled.
            let settled = peer.settled >= self.view.epoch();
            !heard || !closed || !settled
        };
        self.view.others().filter(blocks).collect()
    }

    fn forget_round(&mut self) {
        let cut = std::mem::take(&mut self.collection.cut);
        self.collection.collected.join(&cut);
        let open = self.desk.open();
        for key in std::mem::take(&mut self.collection.waiting) {
            if let Some(entry) = self.store.remove(&key)
                && entry.batch != open
            {
                // Its row goes with the batch: a key without an entry is a row to delete.
                self.desk.keys.push(key);
            }
            self.counts.collected += 1;
        }
        self.desk.places_changed = true;
    }

    /// Closes the open round over those values whose every removal is of something that has
    /// arrived. A removal can overtake what it removes, from another author: forgotten then,
    /// the removed would come as new. The others stay open.
    fn close_round(&mut self) {
        let open = std::mem::take(&mut self.collection.open);
        let (ready, early) = open.into_iter().partition(|key| self.has_all_of(key));
        (self.collection.waiting, self.collection.open) = (ready, early);
        if self.collection.waiting.is_empty() {
            return;
        }
        self.collection.cut = self.applied.clone();
        self.collection.cut.join(&self.collection.open_beyond);
        if self.collection.open.is_empty() {
            self.collection.open_beyond = Frontier::new();
        }
        self.collection.closed_at = self.now.mono;
        self.collection.cut_stamp = Hlc::ZERO;
        for key in &self.collection.waiting {
            if let Some(entry) = self.store.get_mut(key) {
                entry.doom = Doom::Waiting;
                let stamp = entry.value.stamp().unwrap_or_default();
                self.collection.cut_stamp = self.collection.cut_stamp.max(stamp);
            }
        }
    }

    /// Whether everything that a value knows of has been received here.
    fn has_all_of(&self, key: &Key) -> bool {
        let Some(entry) = self.store.get(key) else { return true };
        entry.value.is_covered(|dot| {
            let at = Position::new(dot.actor.incarnation, dot.seq);
            self.applied.get(dot.actor.replica) >= at
        })
    }
}
