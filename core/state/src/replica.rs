//! The replica: one state machine for storing, spreading, repairing and forgetting values.
//!
//! ```text
//!   clients, peers, disk, clock --Input--> handle --Command--> disk, peers, clients
//!                                             |
//!                                          turn_end: everything that changed is one batch
//! ```
//!
//! One call at a time; `now` is an argument. Whoever drives it hands in what has happened,
//! ends the turn, and carries the commands out in order. What must follow a durable write (an
//! answer, an acknowledgement, a push) comes only after [`Input::Persisted`] of its batch.
//!
//! Invariants, by which everything else is argued:
//!
//! - RS-1: no peer has more of this replica's log than is durable here.
//! - RS-2: what a frontier covers of an author's log is in the values, for every key that this
//!   replica may hold, or every member had it when it was collected.
//! - RS-3: what an answer shows is durable at as many replicas as its level says.
//! - RS-4: no byte of a key is encoded for a replica that may not hold it.

mod beat;
mod bounded;
mod call;
mod collect;
mod command;
mod config;
mod desk;
mod input;
mod life;
mod log;
mod merge;
mod ops;
mod pace;
mod peer;
mod persist;
mod pull;
mod push;
mod read;
mod refusal;
mod repair;
mod rows;
mod serve;
mod stats;
mod store;
mod sweep;
mod view;
mod wait;
mod write;

#[cfg(test)]
mod tests;

pub use command::{
    Answer, Command, Listed, Notice, Outcome, Read, RowChange, Unsent, Written,
};
pub use config::{BEAT_EVERY, RECONCILE_EVERY, ReplicaConfig, SILENT_AFTER, Sabotage};
pub use input::{
    BatchId, Input, KEY_LEN_MAX, Key, Now, Op, OpId, PAGE_ITEMS_MAX, Request, RequestId,
    Token, WITHIN_MAX,
};
pub use refusal::{QuorumPhase, Refusal};
pub use rows::{RecoverError, Row};
pub use stats::{Counts, PeerStats, Stats};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dwcp_types::Timestamp;

use crate::clock::{Actor, HlcClock, ReplicaId};
use crate::frame::{Body, Frame};
use crate::frontier::Frontier;
use crate::membership::Membership;
use crate::replica::call::Calls;
use crate::replica::collect::Collection;
use crate::replica::desk::Desk;
use crate::replica::life::Standing;
use crate::replica::log::Log;
use crate::replica::ops::Ops;
use crate::replica::pace::Pace;
use crate::replica::peer::Peer;
use crate::replica::pull::Pulls;
use crate::replica::store::Store;
use crate::replica::view::View;
use crate::replica::wait::Waits;

/// One replica of the plane of replicated values.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    me: Actor,
    standing: Standing,
    now: Now,
    clock: HlcClock,
    view: View,
    store: Store,
    log: Log,
    desk: Desk,
    ops: Ops,
    /// What has been received of every log, this replica's own with it.
    applied: Frontier,
    /// The same, as far as it is durable.
    durable: Frontier,
    peers: BTreeMap<ReplicaId, Peer>,
    waits: Waits,
    calls: Calls,
    pulls: Pulls,
    collection: Collection,
    /// When the values end that live for a time.
    expiries: BTreeSet<(Timestamp, Key)>,
    beat_at: Duration,
    /// When the own log may go out again.
    pushes: Pace,
    /// When acknowledgements may, and the authors that wait for one.
    acks: Pace,
    owed: BTreeSet<ReplicaId>,
    counts: Counts,
    out: Vec<Command>,
}

impl Replica {
    /// The replica of this configuration as its rows say, in their order or any other; a new one
    /// has none. It serves once it has been shown a membership in which it is active.
    ///
    /// # Errors
    ///
    /// When a row cannot be read, or it was started too often.
    pub fn new(
        config: ReplicaConfig,
        rows: impl IntoIterator<Item = Row>,
    ) -> Result<Self, RecoverError> {
        let found = rows::Recovered::read(rows)?;
        let mut replica = Self {
            me: Actor::new(config.replica, 0),
            standing: Standing::Unknown,
            now: Now::default(),
            clock: HlcClock::new(found.places.clock, config.ahead_max),
            view: View::new(Arc::new(Membership::default()), config.replica),
            store: Store::default(),
            log: Log::default(),
            desk: Desk::new(),
            ops: Ops::default(),
            applied: Frontier::new(),
            durable: Frontier::new(),
            peers: BTreeMap::new(),
            waits: Waits::default(),
            calls: Calls::default(),
            pulls: Pulls::default(),
            collection: Collection::default(),
            expiries: BTreeSet::new(),
            beat_at: Duration::ZERO,
            pushes: Pace::default(),
            acks: Pace::default(),
            owed: BTreeSet::new(),
            counts: Counts::default(),
            out: Vec::new(),
            config,
        };
        replica.recover(found)?;
        Ok(replica)
    }

    /// Takes in what has happened.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Command>) {
        self.now = now;
        match input {
            Input::Client(request) => self.serve(request),
            Input::Frame { from, frame } => self.receive(from, frame),
            Input::Persisted { batch } => self.persisted(batch),
            Input::PersistFailed { batch, reason } => self.persist_failed(batch, reason),
            Input::PeerUp(peer) => self.peer_up(peer),
            Input::PeerDown(peer) => self.peer_down(peer),
            Input::View(membership) => self.follow(membership),
            Input::Tick => self.tick(),
            Input::Reconcile => self.pull_all(),
        }
        out.append(&mut self.out);
    }

    /// Ends a turn: what has changed since the last is one batch. To be called when no input is
    /// at hand; the more come between two calls, the fewer writes to the disk there are.
    pub fn turn_end(&mut self, now: Now, out: &mut Vec<Command>) {
        self.now = now;
        self.hand_batch();
        out.append(&mut self.out);
    }

    /// When [`Input::Tick`] is due, by the monotonic clock.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let retry = self.desk.failure.as_ref().map(|failure| failure.retry_at);
        // Who is no member sends nothing by itself, so nothing is due.
        let sends = [Some(self.beat_at), self.pushes.deadline(), self.acks.deadline()];
        let sends = sends.into_iter().filter(|_| self.standing.is_member());
        let waits = [self.waits.deadline(), self.pulls.deadline(), retry];
        sends.chain(waits).flatten().min()
    }

    /// Who this is: replica and incarnation.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        self.me
    }

    /// A digest of the keys that every member may hold: equal contents, equal digests. Sums are
    /// brought up to date first, so it costs as much as a comparison with a peer.
    #[must_use]
    pub fn digest(&mut self) -> u64 {
        let view = &self.view;
        let all = view.everybody();
        let held = |class| view.at(class).is_some_and(|class| class.holders == all);
        self.store.sums(held).total()
    }

    /// What it has received of every log.
    #[must_use]
    pub const fn frontier(&self) -> &Frontier {
        &self.applied
    }

    /// The membership that it follows.
    #[must_use]
    pub fn membership(&self) -> &Arc<Membership> {
        &self.view.membership
    }

    fn tick(&mut self) {
        for (batch, changes) in self.desk.retry(self.now.mono) {
            self.out.push(Command::Persist { batch, changes });
        }
        while let Some(ticket) = self.waits.due(self.now.mono) {
            self.give_up(ticket);
        }
        if self.standing.is_member() {
            self.keep_pace();
            if self.beat_at <= self.now.mono {
                self.beat_at = self.now.mono.saturating_add(BEAT_EVERY);
                self.beat();
            }
            self.expire();
            self.drive_pulls();
        }
    }

    fn receive(&mut self, from: ReplicaId, frame: Frame) {
        if !self.hears(from, frame.epoch) {
            return;
        }
        let epoch = frame.epoch;
        match frame.body {
            Body::Beat(beat) => self.take_beat(from, epoch, &beat),
            Body::Push(push) => self.take_push(from, &push),
            Body::Ack(ack) => self.take_ack(from, epoch, ack),
            Body::Gap(gap) => self.take_gap(from, gap),
            Body::Ask(ask) => self.answer_ask(from, epoch, &ask),
            Body::Tell(tell) => self.take_tell(from, epoch, &tell),
            Body::Store(store) => self.answer_store(from, epoch, &store),
            Body::Stored(stored) => self.take_stored(from, epoch, stored),
            Body::Compare(compare) => self.answer_compare(from, epoch, &compare),
            Body::Differ(differ) => self.take_differ(from, &differ),
            Body::Want(want) => self.answer_want(from, epoch, &want),
            Body::States(states) => self.take_states(from, &states),
            Body::Refuse(refuse) => self.take_refuse(from, refuse),
        }
    }

    /// Hands a frame to a peer.
    fn send(&mut self, to: ReplicaId, body: Body) {
        let frame = Frame { epoch: self.view.epoch(), body };
        self.out.push(Command::Send { to, frame });
    }

    fn reply(&mut self, request: RequestId, outcome: Outcome) {
        self.counts.answered(&outcome);
        self.out.push(Command::Reply { request, outcome });
    }
}
