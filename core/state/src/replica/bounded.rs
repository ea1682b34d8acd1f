//! Rights of bounded counters that a former incarnation left behind (F38).
//!
//! Nobody else may use them, so the successor takes them over before it uses any: one more
//! mutation in the same batch, durable before the use is acknowledged. Only within one
//! admission: what an evicted replica used and told nobody would be used twice. Those rights
//! are minted again by the strong plane.

use crate::clock::Actor;
use crate::crdt::{Reading, Update, Writer};
use crate::frame::Held;
use crate::replica::Replica;
use crate::replica::config::Sabotage;
use crate::replica::input::Key;
use crate::replica::store::Place;

impl Replica {
    /// Takes over what former incarnations left, before rights are used.
    pub(super) fn inherit_rights(&mut self, key: &Key, place: Place, update: &Update) {
        if !matches!(update, Update::Spend(_) | Update::Transfer { .. }) {
            return;
        }
        for (from, _) in self.rights(key, |actor| self.me.succeeds(actor)) {
            if from.incarnation >> 16 == self.me.incarnation >> 16 {
                // A refusal leaves the rights where they are, and the use is refused for it.
                let _inherited = self.mutate(key, place, &Update::Inherit { from });
            }
        }
        if self.config.breaks(Sabotage::SpendsForeignRights) {
            self.rob(key, place);
        }
    }

    fn rights(&self, key: &Key, wanted: impl Fn(Actor) -> bool) -> Vec<(Actor, u64)> {
        let Some(entry) = self.store.get(key) else { return Vec::new() };
        let Reading::Bounded(reading) = entry.value.read() else { return Vec::new() };
        let all = reading.rights.into_iter();
        all.filter(|(actor, amount)| *amount > 0 && wanted(*actor)).collect()
    }

    /// Decides for the owners of rights that they give them to this replica.
    fn rob(&mut self, key: &Key, place: Place) {
        for (owner, amount) in self.rights(key, |actor| actor.replica != self.me.replica)
        {
            let seq = self.log.next().seq;
            let stamp = self.clock.last();
            let robbed = Update::Transfer { to: self.me, amount };
            let writer = Writer { actor: owner, seq, stamp };
            let delta =
                self.store.get(key).map(|entry| entry.value.update(&robbed, &writer));
            if let Some(Ok(delta)) = delta {
                self.merge(key, &Held::new(delta), None, None);
            }
        }
        let _ = place;
    }
}
