//! How a replica begins, whom it listens to, and how it comes and goes as a member.
//!
//! ```text
//!   Unknown --view--> Joining --view--> Active --view without it, or told so--> Evicted
//!                        ^                                                         |
//!                        +------------- view with a new admission -----------------+
//! ```
//!
//! Coming back from `Evicted` means beginning empty: what the others collected meanwhile
//! would come to life again if old values were merged. What nobody else had is reported.

use std::sync::Arc;

use crate::clock::{Actor, ReplicaId};
use crate::frame::{Body, Held, Refuse};
use crate::frontier::{Frontier, Position};
use crate::membership::{Member, Membership, Phase, RESTARTS_MAX};
use crate::policy::Conflict;
use crate::replica::command::{Notice, RowChange, Unsent};
use crate::replica::config::Sabotage;
use crate::replica::log::{Log, Record};
use crate::replica::refusal::Refusal;
use crate::replica::rows::{self, DeltaRow, RecoverError, Recovered};
use crate::replica::view::{ClassId, View};
use crate::replica::wait::Waiting;
use crate::replica::{Command, Replica};

/// What a replica is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not been shown a membership.
    Unknown,
    /// It receives and does not serve.
    Joining,
    /// It serves.
    Active,
    /// It is no member.
    Evicted,
    /// It has less of its own log than others have.
    LogLost,
}

impl Standing {
    /// Whether it talks to peers.
    pub(crate) const fn is_member(self) -> bool {
        matches!(self, Self::Joining | Self::Active)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "it has not been shown a membership yet",
            Self::Joining => "it is joining and has not everything yet",
            Self::Active => "it is active",
            Self::Evicted => "it is evicted; admit it again",
            Self::LogLost => "its disk went back in time; evict it and admit it again",
        }
    }
}

impl Replica {
    /// Takes in what the rows say, and begins the next incarnation.
    pub(super) fn recover(&mut self, found: Recovered) -> Result<(), RecoverError> {
        let Recovered { incarnation, places, view, states, deltas, ops } = found;
        let Some(before) = incarnation else { return Ok(()) };
        if before & RESTARTS_MAX == RESTARTS_MAX {
            let (replica, max) = (self.config.replica, RESTARTS_MAX);
            return Err(RecoverError::RestartedTooOften { replica, max });
        }
        self.applied = places.frontier;
        self.collection.collected = places.collected;
        self.collection.spread = places.spread;
        let records = deltas.into_iter().map(record).collect();
        let end = Position::new(before, 0);
        self.log = Log::recover(places.log_start, end, records);
        for (key, row) in states {
            self.restore(&key, row);
        }
        for (id, row) in ops {
            self.ops.insert(id, row);
        }
        if self.config.breaks(Sabotage::ReusesIncarnation) {
            self.me = Actor::new(self.config.replica, before);
            self.log = Log::recover(end, end, Vec::new());
        } else {
            self.begin_life(before + 1);
        }
        self.durable = self.applied.clone();
        if let Some(membership) = view {
            self.follow(membership);
        }
        Ok(())
    }

    /// Goes on under another incarnation, which is durable before anything of it leaves.
    fn begin_life(&mut self, incarnation: u32) {
        self.me = Actor::new(self.config.replica, incarnation);
        let begin = Position::new(incarnation, 0);
        self.log.begin(begin);
        self.applied.raise(self.me.replica, begin);
        self.desk.rows.push(rows::put(rows::INCARNATION.to_owned(), &incarnation));
        self.desk.places_changed = true;
    }

    /// Follows a membership, unless it follows a newer one.
    pub(super) fn follow(&mut self, membership: Arc<Membership>) {
        if membership.epoch <= self.view.epoch() {
            return;
        }
        if let Some(reason) = self.unfit(&membership) {
            let epoch = membership.epoch;
            return self.out.push(Command::Notice(Notice::BadView { epoch, reason }));
        }
        self.desk.rows.push(rows::put(rows::VIEW.to_owned(), &*membership));
        // Who is put out by it has nobody to ask any more.
        self.collection.spread = self.spread();
        self.view = View::new(membership, self.config.replica);
        match self.view.own().cloned() {
            Some(member) => self.be_member(&member),
            None => self.be_evicted(self.view.epoch()),
        }
        self.reclassify();
        self.new_epoch();
    }

    fn unfit(&self, membership: &Membership) -> Option<String> {
        if membership.cluster != self.config.cluster {
            return Some(format!("it is of federation {}", membership.cluster));
        }
        let unknown = membership.policies.iter().find_map(|(prefix, policy)| {
            let Conflict::Merge(rule) = &policy.conflict else { return None };
            let known = self.config.rules.get(rule).is_some();
            (!known).then(|| format!("policy {prefix:?} names the rule {rule:?}, which this program does not have"))
        });
        unknown.or_else(|| membership.check().err().map(|error| error.to_string()))
    }

    fn be_member(&mut self, member: &Member) {
        let admitted = Membership::base(member.admission).incarnation;
        let fresh = self.me.incarnation == 0;
        if fresh && member.phase == Phase::Active && self.view.epoch() > 1 {
            // It should have joined first: whatever it had as a member is gone.
            self.lose_log(self.me.replica, Position::new(admitted, 0));
            return;
        }
        if fresh {
            self.log =
                Log::recover(Position::new(admitted, 0), Position::START, Vec::new());
            self.begin_life(admitted + 1);
        } else if self.me.incarnation >> 16 < admitted >> 16 {
            self.rejoin(admitted);
        } else if self.standing == Standing::LogLost {
            return;
        }
        self.standing = match member.phase {
            Phase::Joining => Standing::Joining,
            Phase::Active => Standing::Active,
        };
        if self.standing == Standing::Joining {
            self.dismiss();
        }
    }

    fn be_evicted(&mut self, epoch: u64) {
        if self.standing != Standing::Evicted {
            self.standing = Standing::Evicted;
            self.out.push(Command::Notice(Notice::Evicted { epoch }));
        }
        self.dismiss();
    }

    fn lose_log(&mut self, by: ReplicaId, theirs: Position) {
        if self.standing != Standing::LogLost {
            self.standing = Standing::LogLost;
            let ours = self.log.durable();
            self.out.push(Command::Notice(Notice::LogLost { by, theirs, ours }));
        }
        self.dismiss();
    }

    /// Nobody who waits is served any more.
    fn dismiss(&mut self) {
        self.calls.clear();
        self.ops.end_all();
        self.pulls.clear();
        for ticket in self.waits.tickets() {
            let Some(pending) = self.waits.remove(ticket) else { continue };
            let refusal = match pending.waiting {
                // The change is made, and others may have it by now.
                Waiting::Acks { op_id, .. } => Refusal::Indeterminate { op_id },
                Waiting::Call { .. } | Waiting::Parked { .. } => self.not_serving(),
            };
            self.reply(pending.request, Err(refusal));
        }
    }

    pub(super) const fn not_serving(&self) -> Refusal {
        Refusal::NotServing { replica: self.me.replica, standing: self.standing.as_str() }
    }

    /// Begins empty under a new admission, and reports what only this replica had.
    fn rejoin(&mut self, admitted: u32) {
        let only_here: Vec<&Record> =
            self.log.records().filter(|record| !self.is_spread(record)).collect();
        let unsent: Vec<Unsent> = only_here.iter().copied().map(unsent).collect();
        for record in only_here {
            let row = rows::unsent(record.position);
            self.desk.rows.push(rows::put(row, &row_of(record)));
        }
        if !self.config.breaks(Sabotage::RejoinsWithOldState) {
            self.wipe();
        }
        // A clock that was far ahead is why some are put out; its stamps went with the log.
        self.clock.rein_in(self.now.wall);
        let base = Position::new(admitted, 0);
        self.log = Log::recover(base, base, Vec::new());
        self.begin_life(admitted + 1);
        if !unsent.is_empty() {
            self.out.push(Command::Notice(Notice::Unsent(unsent)));
        }
    }

    fn wipe(&mut self) {
        let delete = |row: String| RowChange::Delete { row };
        let replica = self.me.replica;
        let keys = self.store.iter().map(|(key, _)| rows::state(key));
        let deltas =
            self.log.records().map(|record| rows::delta(replica, record.position));
        self.desk.rows.extend(keys.chain(deltas).map(delete));
        let ops = self.ops.clear();
        self.desk.rows.extend(ops.into_iter().map(rows::op).map(delete));
        // What is still to be written of the old life is not.
        self.desk.keys.clear();
        self.store.clear();
        self.expiries.clear();
        self.collection.clear();
        self.applied = Frontier::new();
        self.durable = Frontier::new();
        for peer in self.peers.values_mut() {
            let up = peer.up;
            *peer = super::peer::Peer { up, ..Default::default() };
        }
    }

    /// How far, of every class of keys, some other member that may hold it has this one's log,
    /// durably. What a member may not hold it acknowledges without having it.
    pub(super) fn spread(&self) -> Position {
        let classes = self.view.held_with_others();
        let least = classes.map(|class| self.spread_of(class)).min();
        least.unwrap_or(self.collection.spread)
    }

    fn spread_of(&self, class: ClassId) -> Position {
        let holders = self.peers.iter().filter(|(id, _)| self.view.holds(**id, class));
        let acked = holders.map(|(_, peer)| peer.acked).max();
        acked.unwrap_or_default().max(self.collection.spread)
    }

    /// Whether some other member has a record, durably. The record's own class may be that of
    /// an earlier view.
    fn is_spread(&self, record: &Record) -> bool {
        let place = self.view.policy(&record.key).map(|(place, _)| place);
        let class = place.and_then(|place| self.view.class_of(&record.key, place));
        class.is_some_and(|class| record.position <= self.spread_of(class))
    }

    /// Finds the class of everything again, as the view has other ones.
    fn reclassify(&mut self) {
        let view = &self.view;
        let class_of = |key: &str| {
            let (place, _) = view.policy(key)?;
            view.class_of(key, place)
        };
        self.store.reclassify(view);
        self.log.reclassify(class_of);
        self.waits.reclassify(class_of);
        self.list_expiries();
    }

    /// Acknowledgements of another epoch count no more, calls begin again, and what was spread
    /// in the epochs before has to reach everybody.
    fn new_epoch(&mut self) {
        for peer in self.peers.values_mut() {
            peer.acked_in_epoch = Position::START;
        }
        let members: Vec<ReplicaId> = self.view.others().collect();
        for member in members {
            self.peers.entry(member).or_default();
        }
        self.pulls.new_epoch();
        if self.standing.is_member() {
            self.restart_calls();
            self.check_settled();
            self.beat();
            self.retry_parked();
        }
    }

    /// Whether to listen to a peer; one that is evicted is told so.
    pub(super) fn hears(&mut self, from: ReplicaId, epoch: u64) -> bool {
        if !self.standing.is_member() || from == self.me.replica {
            return false;
        }
        if self.view.bit(from).is_some() || self.config.breaks(Sabotage::HearsEvicted) {
            return true;
        }
        // One that follows a newer epoch may have joined in it.
        if epoch <= self.view.epoch() {
            self.counts.evicted_frames += 1;
            let epoch = self.view.epoch();
            self.send(from, Body::Refuse(Refuse::Evicted { epoch }));
        }
        false
    }

    pub(super) fn take_refuse(&mut self, from: ReplicaId, refuse: Refuse) {
        match refuse {
            Refuse::Evicted { epoch } if epoch > self.view.epoch() => {
                self.be_evicted(epoch);
            }
            Refuse::LogLost { mine } if mine > self.log.durable() => {
                self.lose_log(from, mine);
            }
            Refuse::Call { call } => self.take_refused_call(from, call),
            Refuse::Skewed { ahead_ms } => self.counts.skew_told(ahead_ms),
            Refuse::Evicted { .. }
            | Refuse::LogLost { .. }
            | Refuse::OtherCluster { .. } => {}
        }
    }

    pub(super) fn peer_up(&mut self, peer: ReplicaId) {
        self.peers.entry(peer).or_default().reconnect(true);
        if self.standing.is_member() && self.view.bit(peer).is_some() {
            self.send_beat(peer);
        }
    }

    pub(super) fn peer_down(&mut self, peer: ReplicaId) {
        self.peers.entry(peer).or_default().reconnect(false);
        self.pulls.peer_down(peer);
    }
}

fn record(row: DeltaRow) -> Record {
    let mut bytes = Vec::new();
    row.value.0.encode(&mut bytes);
    Record {
        position: row.position,
        len: row.key.len() + bytes.len(),
        key: row.key,
        value: row.value,
        stamp: row.stamp,
        timed: row.timed,
        class: ClassId::MAX,
    }
}

pub(super) fn row_of(record: &Record) -> DeltaRow {
    DeltaRow {
        position: record.position,
        stamp: record.stamp,
        timed: record.timed,
        key: Arc::clone(&record.key),
        value: Held::clone(&record.value),
    }
}

fn unsent(record: &Record) -> Unsent {
    Unsent {
        position: record.position,
        key: Arc::clone(&record.key),
        delta: Arc::clone(&record.value.0),
        stamp: record.stamp,
    }
}
