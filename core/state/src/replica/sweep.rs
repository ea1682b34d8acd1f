//! What is not urgent: the log's end that everybody has, lives that are over, ids that may be
//! forgotten, keys that are not held here any more.

use std::sync::Arc;

use dwcp_types::Timestamp;

use crate::clock::{Hlc, ReplicaId};
use crate::frontier::Position;
use crate::replica::command::RowChange;
use crate::replica::input::Key;
use crate::replica::life::Standing;
use crate::replica::store::Place;
use crate::replica::{Replica, rows};
use crate::shard::mix;

/// Most lives that end in one call.
const EXPIRED_PER_CALL_MAX: usize = 256;

impl Replica {
    pub(super) fn sweep(&mut self) {
        self.truncate_log();
        self.collect();
        self.forget_ops();
    }

    /// Drops what every member has of the own log, and the oldest of what is too much.
    fn truncate_log(&mut self) {
        let acked = |id: ReplicaId| {
            self.peers.get(&id).map_or(Position::START, |peer| peer.acked)
        };
        let all = self.view.others().map(acked).min();
        let all = all.unwrap_or_else(|| self.log.durable());
        let too_much = self.log.overflow(self.config.log_bytes_max);
        let upto = too_much.map_or(all, |too_much| too_much.max(all));
        let replica = self.me.replica;
        let gone = self.log.truncate(upto);
        if !gone.is_empty() {
            self.desk.places_changed = true;
        }
        let rows = gone.into_iter().map(|position| rows::delta(replica, position));
        self.desk.rows.extend(rows.map(|row| RowChange::Delete { row }));
    }

    fn forget_ops(&mut self) {
        let kept = self.now.wall.as_millis().saturating_sub(
            u64::try_from(self.config.op_ids_for.as_millis()).unwrap_or(u64::MAX),
        );
        let gone = self.ops.expire(Hlc::at(Timestamp::from_millis(kept)));
        let rows = gone.into_iter().map(rows::op);
        self.desk.rows.extend(rows.map(|row| RowChange::Delete { row }));
    }

    /// Deletes what has outlived its time, where this replica is the one to do so: readers see
    /// nothing of it at once, and one deletion is enough for all.
    pub(super) fn expire(&mut self) {
        if self.standing != Standing::Active {
            return;
        }
        for _ in 0..EXPIRED_PER_CALL_MAX {
            let due = self.expiries.first().filter(|(end, _)| *end <= self.now.wall);
            let Some((end, key)) = due.cloned() else { return };
            self.expiries.remove(&(end, Arc::clone(&key)));
            let Some(place) = self.place_here(&key) else { continue };
            if self.buries(&key, place) {
                self.bury(&key, place);
            }
        }
    }

    /// Whether this replica deletes what is over under a key: one of the active holders, the
    /// same for all.
    fn buries(&self, key: &str, place: Place) -> bool {
        let holders = self.view.at(place.class).map_or(0, |class| class.holders);
        let active = self.view.members(holders);
        let active = active.filter(|id| self.view.membership.is_active(*id));
        let hash = crate::shard::hash(key.as_bytes());
        let first = active.min_by_key(|id| mix(hash ^ u64::from(id.get())));
        first == Some(self.me.replica)
    }

    fn bury(&mut self, key: &Key, place: Place) {
        let entry = self.store.get(key);
        let over = entry.filter(|entry| self.is_over(entry) && !entry.value.is_bottom());
        let Some(entry) = over else { return };
        let ended = entry.value.stamp().unwrap_or(entry.stamp);
        // Kinds that live for a time can be deleted, so nothing refuses.
        if self.delete_ended(key, place, ended).is_ok() {
            self.counts.expired += 1;
        }
    }

    /// A write to a key whose life is over begins with nothing.
    pub(super) fn begin_again_after_expiry(&mut self, key: &Key, place: Place) {
        self.bury(key, place);
    }

    /// Lists the ends of all lives again.
    pub(super) fn list_expiries(&mut self) {
        let timed = self.store.iter().filter_map(|(key, entry)| {
            self.end_of_life(entry.policy, entry.stamp).map(|end| (end, Arc::clone(key)))
        });
        self.expiries = timed.collect();
    }

    /// Drops the keys that this replica does not hold any more. Only when it has settled: until
    /// then its copy may be one that a majority counted.
    pub(super) fn drop_foreign(&mut self) {
        let me = self.me.replica;
        let foreign: Vec<Key> = self
            .store
            .iter()
            .filter(|(_, entry)| !self.view.holds(me, entry.class))
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let open = self.desk.open();
        for key in foreign {
            let entry = self.store.remove(&key);
            if entry.is_some_and(|entry| entry.batch != open) {
                self.desk.keys.push(key);
            }
        }
    }
}
