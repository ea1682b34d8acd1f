//! What is on its way to the disk, and what waits for it.
//!
//! Between two turns of whoever drives the replica everything that changed is one batch:
//! a key that was written often is one row. Batches are durable in the order of their numbers,
//! so "durable up to batch n" is one number. Whatever must follow durability is an [`Effect`]
//! of the batch and runs when the batch is reported.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::ReplicaId;
use crate::frame::Body;
use crate::frontier::{Frontier, Position};
use crate::replica::command::{Answer, Outcome, RowChange};
use crate::replica::input::{BatchId, Key, RequestId};
use crate::replica::wait::Ticket;

/// Batches handed out and not reported: one that is written while the next is made.
pub(crate) const FLYING_MAX: usize = 2;
/// How long a failed store is left alone before the batch is handed out again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What happens when a batch is durable.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// A client is answered.
    Reply { request: RequestId, outcome: Outcome },
    /// A client is shown what was here at `taken_at`, which is older when it is shown.
    Show { request: RequestId, answer: Box<Answer>, taken_at: Duration },
    /// A peer is told.
    Send { to: ReplicaId, body: Body },
    /// A write begins to wait for peers.
    Written { ticket: Ticket },
    /// This replica itself has stored what a call asks of a majority.
    OwnStored { call: u64 },
}

/// What is made durable as one.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) changes: Arc<Vec<RowChange>>,
    pub(crate) effects: Vec<Effect>,
    /// The end of the own log with this batch.
    pub(crate) log_end: Position,
    /// What has been received with this batch.
    pub(crate) frontier: Frontier,
}

/// Why nothing is handed to the store.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) retry_at: Duration,
}

/// The batches and what the next will hold.
#[derive(Debug)]
pub(crate) struct Desk {
    /// The number of the batch that is being filled.
    open: u64,
    /// Every batch up to this one is durable.
    persisted: u64,
    /// Keys whose values changed, each once.
    pub(crate) keys: Vec<Key>,
    /// Rows besides values and log.
    pub(crate) rows: Vec<RowChange>,
    /// Rows that a sabotage holds back for a batch.
    pub(crate) late: Vec<RowChange>,
    /// Whether positions or clocks changed.
    pub(crate) places_changed: bool,
    pub(crate) effects: Vec<Effect>,
    pub(crate) flying: VecDeque<Batch>,
    pub(crate) failure: Option<Failure>,
}

impl Desk {
    pub(crate) const fn new() -> Self {
        Self {
            open: 1,
            persisted: 0,
            keys: Vec::new(),
            rows: Vec::new(),
            late: Vec::new(),
            places_changed: false,
            effects: Vec::new(),
            flying: VecDeque::new(),
            failure: None,
        }
    }

    /// The batch that is being filled.
    pub(crate) const fn open(&self) -> u64 {
        self.open
    }

    /// Whether what a batch holds is durable.
    pub(crate) const fn is_durable(&self, batch: u64) -> bool {
        batch <= self.persisted
    }

    /// Runs an effect when a batch is durable; gives it back when it is already.
    pub(crate) fn after(&mut self, batch: u64, effect: Effect) -> Option<Effect> {
        if self.is_durable(batch) {
            return Some(effect);
        }
        match self.flying.iter_mut().find(|flying| flying.number >= batch) {
            Some(flying) => flying.effects.push(effect),
            None => self.effects.push(effect),
        }
        None
    }

    /// Runs an effect when everything up to now is durable; gives it back when it is already.
    pub(crate) fn after_all(&mut self, effect: Effect) -> Option<Effect> {
        if self.has_changes() {
            self.effects.push(effect);
            return None;
        }
        match self.flying.back_mut() {
            Some(flying) => flying.effects.push(effect),
            None => return Some(effect),
        }
        None
    }

    /// Whether there is anything to make durable.
    pub(crate) fn has_changes(&self) -> bool {
        !self.keys.is_empty() || !self.rows.is_empty() || self.places_changed
    }

    /// Whether a batch may be handed out now.
    pub(crate) fn may_hand(&self) -> bool {
        self.flying.len() < FLYING_MAX && self.failure.is_none()
    }

    /// Hands out what was collected.
    pub(crate) fn hand(
        &mut self,
        changes: Vec<RowChange>,
        log_end: Position,
        frontier: Frontier,
    ) -> (BatchId, Arc<Vec<RowChange>>) {
        let changes = Arc::new(changes);
        let number = self.open;
        self.open += 1;
        self.places_changed = false;
        self.flying.push_back(Batch {
            number,
            changes: Arc::clone(&changes),
            effects: std::mem::take(&mut self.effects),
            log_end,
            frontier,
        });
        (BatchId(number), changes)
    }

    /// The next batch that is durable, when all up to `batch` are.
    pub(crate) fn persisted(&mut self, batch: BatchId) -> Option<Batch> {
        self.failure = None;
        if self.flying.front()?.number > batch.0 {
            return None;
        }
        let done = self.flying.pop_front()?;
        self.persisted = done.number;
        Some(done)
    }

    /// Notes that the store failed; everything in flight is handed out again later.
    pub(crate) fn failed(&mut self, now: Duration, reason: String) {
        self.failure =
            Some(Failure { reason, retry_at: now.saturating_add(RETRY_AFTER) });
    }

    /// The clients that wait for nothing but the store.
    pub(crate) fn take_replies(&mut self) -> Vec<RequestId> {
        let flying = self.flying.iter_mut().map(|batch| &mut batch.effects);
        let mut requests = Vec::new();
        for effects in flying.chain([&mut self.effects]) {
            effects.retain(|effect| {
                let (Effect::Reply { request, .. } | Effect::Show { request, .. }) =
                    effect
                else {
                    return true;
                };
                requests.push(*request);
                false
            });
        }
        requests
    }

    /// What to hand out again, when it is time.
    pub(crate) fn retry(&mut self, now: Duration) -> Vec<(BatchId, Arc<Vec<RowChange>>)> {
        let due = self.failure.as_mut().filter(|failure| failure.retry_at <= now);
        let Some(failure) = due else {
            return Vec::new();
        };
        failure.retry_at = now.saturating_add(RETRY_AFTER);
        let flying = self.flying.iter();
        flying.map(|batch| (BatchId(batch.number), Arc::clone(&batch.changes))).collect()
    }
}
