//! How a value changes: by a delta, by another state; and what must be noted each time.

use std::sync::Arc;

use dwcp_types::Timestamp;

use crate::clock::Hlc;
use crate::crdt::{Kind, Value};
use crate::frame::Held;
use crate::frontier::Frontier;
use crate::policy::Conflict;
use crate::replica::Replica;
use crate::replica::config::Sabotage;
use crate::replica::input::Key;
use crate::replica::rows::StateRow;
use crate::replica::store::{Entry, Place};
use crate::replica::view::ClassId;

impl Replica {
    /// Where a key belongs, if this replica may hold it.
    pub(super) fn place_here(&self, key: &str) -> Option<Place> {
        let place = Place::of(&self.view, key)?;
        self.view.holds(self.me.replica, place.class).then_some(place)
    }

    /// Joins what came from a peer. `knowledge` is what a whole state contains, of this key;
    /// a delta has none of its own. Whether anything changed.
    pub(super) fn merge(
        &mut self,
        key: &Key,
        value: &Held,
        stamp: Option<Hlc>,
        knowledge: Option<&Frontier>,
    ) -> bool {
        let Some(place) =
            self.place_here(key).filter(|place| place.kind == value.0.kind())
        else {
            self.counts.foreign_entries += 1;
            return false;
        };
        let changed = self.join(key, value, place);
        let later = stamp.is_some_and(|stamp| self.raise_stamp(key, stamp));
        if changed {
            self.note_beyond(key, knowledge);
        }
        if changed || later {
            self.touch(key, false);
        }
        self.note_conflict(key, value, changed);
        self.doom(key, knowledge);
        changed
    }

    fn join(&mut self, key: &Key, value: &Held, place: Place) -> bool {
        if self.store.get(key).is_none() {
            self.store.insert(key, Arc::clone(&value.0), place);
            return true;
        }
        let entry = self.store.entry(key, place);
        let arrives = matches!(place.kind, Kind::Lww | Kind::Register);
        if arrives && self.config.breaks(Sabotage::LastArrivalWins) {
            entry.value = Arc::clone(&value.0);
            return true;
        }
        // Kinds are equal by the place, so nothing else can be wrong.
        Arc::make_mut(&mut entry.value).join(&value.0).unwrap_or(false)
    }

    /// Counts what two writers did without knowing of each other, where the values show it.
    fn note_conflict(&mut self, key: &Key, came: &Held, changed: bool) {
        let Some(entry) = self.store.get(key) else { return };
        match (&*entry.value, &*came.0) {
            (Value::Lww(_), theirs) if !changed && *theirs != *entry.value => {
                self.counts.lww_discarded += 1;
                self.counts.conflict(Kind::Lww, "last_writer_wins");
            }
            (Value::Mv(ours), _) if changed && ours.values().len() > 1 => {
                let policy = self.view.policy_at(entry.policy);
                let merges = policy
                    .is_some_and(|policy| matches!(policy.conflict, Conflict::Merge(_)));
                let strategy = if merges { "merge" } else { "siblings" };
                self.counts.conflict(Kind::Mv, strategy);
            }
            _ => {}
        }
    }

    /// What the value contains beyond what came by push, as far as it is still beyond.
    fn note_beyond(&mut self, key: &Key, knowledge: Option<&Frontier>) {
        let Some(knowledge) = knowledge else { return };
        if self.applied.covers(knowledge) {
            return;
        }
        if let Some(entry) = self.store.get_mut(key) {
            entry.beyond.get_or_insert_default().join(knowledge);
        }
    }

    /// What is seen with an entry: what came by push, and what it contains beyond.
    pub(super) fn seen_with(&self, entry: Option<&Entry>) -> Frontier {
        let mut seen = self.applied.clone();
        if let Some(beyond) = entry.and_then(|entry| entry.beyond.as_deref()) {
            seen.join(beyond);
        }
        seen
    }

    /// A value has changed and has to become durable.
    pub(super) fn touch(&mut self, key: &Key, own: bool) {
        let (open, mono) = (self.desk.open(), self.now.mono);
        let Some(entry) = self.store.get_mut(key) else { return };
        if entry.batch != open {
            entry.batch = open;
            self.desk.keys.push(Arc::clone(key));
        }
        if own {
            entry.own_batch = open;
        }
        entry.changed = mono;
        let len = entry.len;
        self.store.changed(key, len);
    }

    /// Notes when a key that lives for a time was last written. Whether that is later.
    pub(super) fn raise_stamp(&mut self, key: &Key, stamp: Hlc) -> bool {
        let Some(entry) = self.store.get_mut(key).filter(|entry| entry.stamp < stamp)
        else {
            return false;
        };
        let before = entry.stamp;
        entry.stamp = stamp;
        let policy = entry.policy;
        if let Some(end) = self.end_of_life(policy, before) {
            self.expiries.remove(&(end, Arc::clone(key)));
        }
        if let Some(end) = self.end_of_life(policy, stamp) {
            self.expiries.insert((end, Arc::clone(key)));
        }
        true
    }

    /// When a value of a policy ends that was last written at `stamp`.
    pub(super) fn end_of_life(&self, policy: u16, stamp: Hlc) -> Option<Timestamp> {
        let ttl = self.view.policy_at(policy)?.ttl?;
        Some(stamp.time().plus(ttl))
    }

    /// Puts a value back that a row has.
    pub(super) fn restore(&mut self, key: &Key, row: StateRow) {
        let place =
            Place { kind: row.value.0.kind(), class: ClassId::MAX, policy: u16::MAX };
        self.store.insert(key, Arc::clone(&row.value.0), place);
        if let Some(entry) = self.store.get_mut(key) {
            entry.stamp = row.stamp.unwrap_or(Hlc::ZERO);
            entry.beyond = row.beyond;
        }
        self.doom(key, None);
    }
}
