//! From memory to disk, and what may be said once it is there.

use std::sync::Arc;

use crate::clock::{Hlc, ReplicaId};
use crate::frame::{Ack, Body, Held};
use crate::frontier::Position;
use crate::replica::command::RowChange;
use crate::replica::config::Sabotage;
use crate::replica::desk::{Batch, Effect};
use crate::replica::input::{BatchId, Key};
use crate::replica::refusal::Refusal;
use crate::replica::rows::{self, Places, StateRow};
use crate::replica::{Command, Replica};

impl Replica {
    /// Hands out everything that changed, as one batch.
    pub(super) fn hand_batch(&mut self) {
        if !self.desk.has_changes() || !self.desk.may_hand() {
            return;
        }
        let mut changes = std::mem::take(&mut self.desk.rows);
        for key in std::mem::take(&mut self.desk.keys) {
            changes.push(self.state_row(&key));
        }
        changes.push(rows::put(rows::PLACES.to_owned(), &self.places()));
        self.desk.rows.append(&mut self.desk.late);
        let (batch, changes) =
            self.desk.hand(changes, self.log.end(), self.applied.clone());
        self.counts.batches += 1;
        self.out.push(Command::Persist { batch, changes });
        if self.config.breaks(Sabotage::AcksBeforeDurable) {
            self.persisted(batch);
        }
    }

    fn state_row(&mut self, key: &Key) -> RowChange {
        let name = rows::state(key);
        let Some(entry) = self.store.get(key) else {
            return RowChange::Delete { row: name };
        };
        let row = StateRow {
            stamp: (entry.stamp > Hlc::ZERO).then_some(entry.stamp),
            beyond: entry.beyond.clone(),
            value: Held(Arc::clone(&entry.value)),
        };
        let change = rows::put(name, &row);
        if let RowChange::Put { value, .. } = &change {
            self.store.changed(key, value.len());
        }
        change
    }

    fn places(&self) -> Places {
        Places {
            frontier: self.applied.clone(),
            clock: self.clock.last(),
            log_start: self.log.start(),
            collected: self.collection.collected.clone(),
            spread: self.spread(),
        }
    }

    /// Everything up to a batch is durable.
    pub(super) fn persisted(&mut self, batch: BatchId) {
        let mut any = false;
        while let Some(done) = self.desk.persisted(batch) {
            any = true;
            self.take_durable(&done);
            for effect in done.effects {
                self.run(effect);
            }
        }
        if any && self.standing.is_member() {
            self.push_in_pace();
            self.acknowledge_in_pace();
            self.check_acks();
        }
    }

    fn take_durable(&mut self, batch: &Batch) {
        self.log.persisted(batch.log_end);
        if !self.standing.is_member() {
            return;
        }
        let news: Vec<(ReplicaId, Position)> = batch
            .frontier
            .iter()
            .filter(|(replica, position)| *position > self.durable.get(*replica))
            .collect();
        for (author, upto) in news {
            self.durable.raise(author, upto);
            if author != self.me.replica && self.view.bit(author).is_some() {
                self.owed.insert(author);
            }
        }
    }

    /// Acknowledges what is durable here of the logs of others, unless that was just done.
    pub(super) fn acknowledge_in_pace(&mut self) {
        if self.owed.is_empty() || !self.acks.may_go(self.now.mono) {
            return;
        }
        for author in std::mem::take(&mut self.owed) {
            let upto = self.durable.get(author);
            if self.view.bit(author).is_some() {
                self.send(author, Body::Ack(Ack { upto }));
            }
        }
    }

    /// Does what waited for a batch.
    pub(super) fn run(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { request, outcome } => self.reply(request, outcome),
            Effect::Show { request, answer, taken_at } => {
                let since = self.now.mono.saturating_sub(taken_at);
                self.reply(request, Ok(answer.aged_by(since)));
            }
            Effect::Send { to, body } => self.send(to, body),
            Effect::Written { ticket } => self.waits.queue(ticket),
            Effect::OwnStored { call } => self.own_stored(call),
        }
    }

    /// Runs an effect once a batch is durable.
    pub(super) fn run_after(&mut self, batch: u64, effect: Effect) {
        if let Some(effect) = self.desk.after(batch, effect) {
            self.run(effect);
        }
    }

    /// Runs an effect once everything up to now is durable.
    pub(super) fn run_after_all(&mut self, effect: Effect) {
        if let Some(effect) = self.desk.after_all(effect) {
            self.run(effect);
        }
    }

    /// The store does not take a batch. Whoever waits for it is told; the batch is handed out
    /// again, because memory has it already.
    pub(super) fn persist_failed(&mut self, _batch: BatchId, reason: String) {
        let refusal = Refusal::StoreFailed { reason: reason.clone() };
        self.desk.failed(self.now.mono, reason);
        for request in self.desk.take_replies() {
            self.reply(request, Err(refusal.clone()));
        }
    }
}
