//! Requests that wait: for acknowledgements, for answers of a majority, for what a session has
//! seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::frontier::Position;
use crate::replica::command::Written;
use crate::replica::input::{Key, OpId, Request, RequestId};
use crate::replica::view::ClassId;

/// Numbers requests that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// Whose majority is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// This region's replicas.
    Region,
    /// The regions of the key.
    Regions,
}

/// What a request waits for.
#[derive(Clone, Debug)]
pub(crate) enum Waiting {
    /// A change that is made, for a majority to have it.
    Acks { key: Key, class: ClassId, scope: Scope, op_id: Option<OpId>, written: Written },
    /// A call.
    Call { call: u64 },
    /// This replica has not yet what it needs.
    Parked { request: Box<Request> },
}

/// A request that waits.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) request: RequestId,
    pub(crate) deadline: Duration,
    pub(crate) waiting: Waiting,
}

/// All requests that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits {
    next: u64,
    pending: BTreeMap<Ticket, Pending>,
    deadlines: BTreeSet<(Duration, Ticket)>,
    parked: BTreeSet<Ticket>,
    /// Durable changes by whom they wait for, the earliest first.
    acks: BTreeMap<(ClassId, Scope), BTreeSet<(Position, Ticket)>>,
}

impl Waits {
    /// A ticket for a request that begins to wait.
    pub(crate) fn add(&mut self, pending: Pending) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.deadlines.insert((pending.deadline, ticket));
        if matches!(pending.waiting, Waiting::Parked { .. }) {
            self.parked.insert(ticket);
        }
        self.pending.insert(ticket, pending);
        ticket
    }

    pub(crate) fn get(&self, ticket: Ticket) -> Option<&Pending> {
        self.pending.get(&ticket)
    }

    /// The request waits for something else from now on.
    pub(crate) fn turn(&mut self, ticket: Ticket, waiting: Waiting) {
        if let Some(pending) = self.pending.get_mut(&ticket) {
            pending.waiting = waiting;
        }
    }

    /// The request does not wait any more.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Pending> {
        let pending = self.pending.remove(&ticket)?;
        self.deadlines.remove(&(pending.deadline, ticket));
        match &pending.waiting {
            Waiting::Acks { class, scope, written, .. } => {
                if let Some(queue) = self.acks.get_mut(&(*class, *scope)) {
                    queue.remove(&(written.position, ticket));
                    if queue.is_empty() {
                        self.acks.remove(&(*class, *scope));
                    }
                }
            }
            Waiting::Parked { .. } => {
                self.parked.remove(&ticket);
            }
            Waiting::Call { .. } => {}
        }
        Some(pending)
    }

    /// A change that waits is durable here, and may be acknowledged by others.
    pub(crate) fn queue(&mut self, ticket: Ticket) {
        let Some(pending) = self.pending.get(&ticket) else { return };
        if let Waiting::Acks { class, scope, written, .. } = &pending.waiting {
            let queue = self.acks.entry((*class, *scope)).or_default();
            queue.insert((written.position, ticket));
        }
    }

    /// Whose acknowledgements are waited for.
    pub(crate) fn queues(&self) -> Vec<(ClassId, Scope)> {
        self.acks.keys().copied().collect()
    }

    /// The earliest change of a queue.
    pub(crate) fn first(&self, queue: (ClassId, Scope)) -> Option<(Position, Ticket)> {
        self.acks.get(&queue)?.first().copied()
    }

    /// Sorts what waits for acknowledgements again, as classes have other numbers now.
    pub(crate) fn reclassify(&mut self, class_of: impl Fn(&str) -> Option<ClassId>) {
        let queued: Vec<Ticket> =
            self.acks.values().flatten().map(|(_, ticket)| *ticket).collect();
        self.acks.clear();
        for pending in self.pending.values_mut() {
            if let Waiting::Acks { key, class, .. } = &mut pending.waiting {
                *class = class_of(key).unwrap_or(ClassId::MAX);
            }
        }
        for ticket in queued {
            self.queue(ticket);
        }
    }

    /// What is parked, the longest first.
    pub(crate) fn parked(&self) -> Vec<Ticket> {
        self.parked.iter().copied().collect()
    }

    /// Whether anything is parked.
    pub(crate) fn any_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// The first deadline.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A request whose time is over.
    pub(crate) fn due(&self, now: Duration) -> Option<Ticket> {
        self.deadlines
            .first()
            .filter(|(deadline, _)| *deadline <= now)
            .map(|(_, ticket)| *ticket)
    }

    /// Every request that waits.
    pub(crate) fn tickets(&self) -> Vec<Ticket> {
        self.pending.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }
}
