//! Majorities: asking what replicas have, and storing what the fastest of them agreed on.
//!
//! A call asks every replica of the key at once and goes on with the first majority, so one
//! that is slow or gone costs nothing.
//!
//! ```text
//!   Gather --majority, all alike--> answer
//!      |
//!      +---majority, unlike---> Spread: store the join where it is not --majority--> answer
//!      |
//!      +---majority, to write a register---> its timestamp: above all of theirs. The write
//!                                            goes the way of every other (log, push, ack).
//! ```
//!
//! So a read never shows what a later read by another majority might not (F37). A register's
//! timestamp is taken only when the write is made, above what this replica then knows: nothing
//! that it was told meanwhile is overwritten unseen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::bytes::Bytes;
use crate::clock::{Hlc, ReplicaId};
use crate::crdt::{Update, UpdateError, Value};
use crate::frame::{Ask, Body, Held, State, Store, Stored, Tell};
use crate::frontier::Frontier;
use crate::level::Level;
use crate::replica::Replica;
use crate::replica::command::{Answer, Read};
use crate::replica::config::Sabotage;
use crate::replica::desk::Effect;
use crate::replica::input::{Key, Request, Token};
use crate::replica::refusal::{QuorumPhase, Refusal};
use crate::replica::serve::Target;
use crate::replica::store::{ABSENT, Place, digest_of};
use crate::replica::view::Mask;
use crate::replica::wait::{Pending, Scope, Ticket, Waiting};
use crate::replica::write::Change;

/// What a call is for.
#[derive(Clone, Debug)]
enum Purpose {
    Read { session: Option<Token> },
    Register { change: Box<Change>, value: Option<Bytes> },
}

/// A question to a majority.
#[derive(Clone, Debug)]
struct Call {
    ticket: Ticket,
    key: Key,
    place: Place,
    scope: Scope,
    level: Level,
    purpose: Purpose,
    spreading: bool,
    /// Who answered, with the digest of what it has.
    told: BTreeMap<ReplicaId, u64>,
    /// The join of what they have.
    joined: Arc<Value>,
    stamp: Hlc,
    /// How old what is here may be, as of when this replica's own value was taken.
    staleness: Duration,
    taken_at: Duration,
    /// What all of them had received.
    floor: Frontier,
    /// What any of them had, of this key.
    seen: Frontier,
    /// Who has the join, durably.
    stored: Mask,
}

/// The calls that run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    last: u64,
    running: BTreeMap<u64, Call>,
}

impl Calls {
    pub(crate) fn clear(&mut self) {
        self.running.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }
}

impl Replica {
    /// Begins to read by a majority.
    pub(super) fn begin_read(
        &mut self,
        request: &Request,
        target: Target,
        scope: Scope,
        deadline: Duration,
    ) -> Result<(), Refusal> {
        self.room_to_wait()?;
        self.check_reachable(target.place.class, scope)?;
        let waiting = Waiting::Call { call: 0 };
        let ticket = self.waits.add(Pending { request: request.id, deadline, waiting });
        let purpose = Purpose::Read { session: request.session.clone() };
        self.begin_call(ticket, request.op.key(), (target, scope), purpose);
        Ok(())
    }

    /// Begins to write a register: first its timestamp.
    pub(super) fn begin_register(&mut self, change: Change) -> Result<(), Refusal> {
        let value = register_value(&change)?;
        if let Some(op_id) = change.op_id
            && !self.ops.begin(op_id)
        {
            return Err(Refusal::Busy { what: "the runs of this operation", max: 1 });
        }
        let waiting = Waiting::Call { call: 0 };
        let pending =
            Pending { request: change.request, deadline: change.deadline, waiting };
        let ticket = self.waits.add(pending);
        let (key, target) = (Key::clone(&change.key), change.target);
        let purpose = Purpose::Register { change: Box::new(change), value };
        if self.config.breaks(Sabotage::SkipsRegisterPhaseOne) {
            let call = self.call(ticket, &key, (target, Scope::Regions), purpose);
            self.store_register(call);
            return Ok(());
        }
        self.begin_call(ticket, &key, (target, Scope::Regions), purpose);
        Ok(())
    }

    fn call(
        &mut self,
        ticket: Ticket,
        key: &Key,
        (target, scope): (Target, Scope),
        purpose: Purpose,
    ) -> Call {
        let entry = self.store.get(key);
        let bottom = || Arc::new(Value::bottom(target.place.kind));
        Call {
            ticket,
            key: Key::clone(key),
            place: target.place,
            scope,
            level: target.level,
            purpose,
            spreading: false,
            told: BTreeMap::new(),
            joined: entry.map_or_else(bottom, |entry| Arc::clone(&entry.value)),
            stamp: entry.map_or(Hlc::ZERO, |entry| entry.stamp),
            staleness: self.staleness(key),
            taken_at: self.now.mono,
            floor: self.applied.clone(),
            seen: self.seen_with(entry),
            stored: 0,
        }
    }

    fn begin_call(
        &mut self,
        ticket: Ticket,
        key: &Key,
        target: (Target, Scope),
        purpose: Purpose,
    ) {
        self.calls.last += 1;
        // Calls of a former incarnation must not be answered as if they were of this one.
        let number = (u64::from(self.me.incarnation) << 32) | self.calls.last;
        let mut call = self.call(ticket, key, target, purpose);
        let digest = self.own_digest(key);
        call.told.insert(self.me.replica, digest);
        self.waits.turn(ticket, Waiting::Call { call: number });
        for replica in self.asked(&call) {
            self.send(
                replica,
                Body::Ask(Ask { call: number, key: Key::clone(key), digest }),
            );
        }
        self.calls.running.insert(number, call);
        self.check_call(number);
    }

    /// Who takes part in a call, besides this replica.
    fn asked(&self, call: &Call) -> Vec<ReplicaId> {
        let mask = match call.scope {
            Scope::Region => self.view.home().active(),
            Scope::Regions => {
                self.view.at(call.place.class).map_or(0, |class| class.voters())
            }
        };
        self.view.members(mask).filter(|id| *id != self.me.replica).collect()
    }

    fn own_digest(&mut self, key: &Key) -> u64 {
        self.store.get_mut(key).map_or(ABSENT, |entry| entry.digest())
    }

    /// A peer said what it has.
    pub(super) fn take_tell(&mut self, from: ReplicaId, epoch: u64, tell: &Tell) {
        let known = self.calls.running.contains_key(&tell.call);
        if !known || epoch != self.view.epoch() || !self.knows_deletions(&tell.frontier) {
            return;
        }
        if !self.observe(from, tell.at) {
            return;
        }
        let Some(call) = self.calls.running.get_mut(&tell.call) else { return };
        if call.spreading {
            return;
        }
        call.floor.meet(&tell.frontier);
        call.seen.join(&tell.frontier);
        if let Some(state) = &tell.state {
            if Arc::make_mut(&mut call.joined).join(&state.value.0).is_err() {
                return;
            }
            call.stamp = call.stamp.max(state.stamp.unwrap_or_default());
            if let Some(beyond) = &state.beyond {
                call.seen.join(beyond);
            }
        }
        call.told.insert(from, tell.digest);
        self.check_call(tell.call);
    }

    /// Whether whoever had received this much knows of everything that was collected here: else
    /// it may hold what was deleted.
    pub(super) fn knows_deletions(&mut self, frontier: &Frontier) -> bool {
        let knows = frontier.covers(&self.collection.collected)
            || self.config.breaks(Sabotage::TakesStaleStates);
        if !knows {
            self.counts.stale_states += 1;
        }
        knows
    }

    /// Goes on with a call once a majority has answered.
    fn check_call(&mut self, number: u64) {
        let Some(call) = self.calls.running.get(&number).filter(|call| !call.spreading)
        else {
            return;
        };
        let told = self.mask(call.told.keys().copied());
        if !self.is_majority(call.place.class, call.scope, told) {
            return;
        }
        if matches!(call.purpose, Purpose::Register { .. }) {
            if let Some(call) = self.calls.running.remove(&number) {
                self.store_register(call);
            }
            return;
        }
        self.spread_call(number);
    }

    fn mask(&self, replicas: impl Iterator<Item = ReplicaId>) -> Mask {
        replicas.filter_map(|id| self.view.bit(id)).fold(0, |mask, bit| mask | bit)
    }

    /// Takes the join in here, and has it stored by those who do not have it.
    fn spread_call(&mut self, number: u64) {
        let Some(call) = self.calls.running.get_mut(&number) else { return };
        call.spreading = true;
        let mut call = call.clone();
        let nothing =
            call.joined.is_bottom() && call.told.values().all(|told| *told == ABSENT);
        if !nothing {
            let joined = Held(Arc::clone(&call.joined));
            let stamp = (call.stamp > Hlc::ZERO).then_some(call.stamp);
            self.merge(&call.key, &joined, stamp, Some(&call.seen));
        }
        let digest = if nothing { ABSENT } else { digest_of(&call.joined) };
        // Peers answer with what is durable; this replica has to make it so first.
        let others = call.told.iter().filter(|(id, _)| **id != self.me.replica);
        let alike = others.filter(|(_, told)| **told == digest).map(|(id, _)| *id);
        call.stored = self.mask(alike);
        if let Some(running) = self.calls.running.get_mut(&number) {
            running.stored = call.stored;
        }
        let known = call.stored | self.own_bit();
        let alone = self.is_majority(call.place.class, call.scope, known);
        if !alone && !self.config.breaks(Sabotage::SkipsWriteBack) {
            self.counts.write_backs += 1;
            self.ask_to_store(number, &call);
        }
        let batch = self.store.get(&call.key).map_or(0, |entry| entry.batch);
        self.run_after(batch, Effect::OwnStored { call: number });
    }

    pub(super) fn own_bit(&self) -> Mask {
        self.view.bit(self.me.replica).unwrap_or(0)
    }

    fn ask_to_store(&mut self, number: u64, call: &Call) {
        let value = Held(Arc::clone(&call.joined));
        let stamp = (call.stamp > Hlc::ZERO).then_some(call.stamp);
        let at = self.clock.tick(self.now.wall);
        for replica in self.asked(call) {
            if self.view.bit(replica).is_none_or(|bit| call.stored & bit != 0) {
                continue;
            }
            let beyond = Some(call.seen.clone());
            let state = State { value: value.clone(), stamp, beyond };
            let (key, floor) = (Key::clone(&call.key), call.floor.clone());
            let store = Store { call: number, key, state, floor, at };
            self.send(replica, Body::Store(store));
        }
    }

    /// Asks those again who have not answered: frames may be lost.
    pub(super) fn ask_again(&mut self) {
        for (number, call) in self.calls.running.clone() {
            if call.spreading {
                if !self.config.breaks(Sabotage::SkipsWriteBack) {
                    self.ask_to_store(number, &call);
                }
                continue;
            }
            let digest = call.told.get(&self.me.replica).copied().unwrap_or(ABSENT);
            for replica in self.asked(&call) {
                if !call.told.contains_key(&replica) {
                    let key = Key::clone(&call.key);
                    self.send(replica, Body::Ask(Ask { call: number, key, digest }));
                }
            }
        }
    }

    /// This replica has the join, durably.
    pub(super) fn own_stored(&mut self, call: u64) {
        let own = self.own_bit();
        self.note_stored(call, own);
    }

    /// A peer has the join, durably.
    pub(super) fn take_stored(&mut self, from: ReplicaId, epoch: u64, stored: Stored) {
        if epoch == self.view.epoch() {
            let bit = self.view.bit(from).unwrap_or(0);
            self.note_stored(stored.call, bit);
        }
    }

    fn note_stored(&mut self, number: u64, bit: Mask) {
        let Some(call) =
            self.calls.running.get_mut(&number).filter(|call| call.spreading)
        else {
            return;
        };
        call.stored |= bit;
        let (class, scope, stored) = (call.place.class, call.scope, call.stored);
        let enough = self.is_majority(class, scope, stored)
            || (self.config.breaks(Sabotage::SkipsWriteBack)
                && stored & self.own_bit() != 0);
        if enough && let Some(call) = self.calls.running.remove(&number) {
            self.finish_read(call);
        }
    }

    fn finish_read(&mut self, call: Call) {
        let Purpose::Read { session } = call.purpose else { return };
        let Some(pending) = self.waits.remove(call.ticket) else { return };
        let over = self
            .end_of_life(call.place.policy, call.stamp)
            .is_some_and(|end| end <= self.now.wall);
        let shown = !call.joined.is_bottom() && !over;
        // What has come here since the value was taken is not in it: no majority may have that.
        let since = self.now.mono.saturating_sub(call.taken_at);
        let mut seen = call.seen;
        if let Some(session) = session {
            seen.join(&session.0);
        }
        let read = Read {
            reading: shown.then(|| self.reading(call.place.policy, &call.joined)),
            level: call.level,
            staleness: call.staleness.saturating_add(since),
            token: Token(seen),
        };
        self.answer(pending.request, Answer::Read(read));
    }

    /// A majority has said which timestamps there are: the write gets one above them.
    fn store_register(&mut self, call: Call) {
        let Purpose::Register { change, value } = call.purpose else { return };
        let lamport = |value: Option<&Value>| match value {
            Some(Value::Register(register)) => register.lamport(),
            _ => 0,
        };
        let here = lamport(self.store.get(&call.key).map(|entry| &*entry.value));
        let lamport = lamport(Some(&call.joined)).max(here) + 1;
        let mut change = *change;
        change.update = Update::Store { lamport, value };
        let request = change.request;
        if let Some(op_id) = change.op_id {
            self.ops.end(op_id);
        }
        match self.change(&change) {
            Ok(written) => {
                let batch = self.batch_of(&change.key, written.position);
                let (key, class) = (Key::clone(&change.key), change.target.place.class);
                let (scope, op_id) = (Scope::Regions, change.op_id);
                let waiting = Waiting::Acks { key, class, scope, op_id, written };
                self.waits.turn(call.ticket, waiting);
                self.wait_for_acks(call.ticket, batch);
            }
            Err(refusal) => {
                self.waits.remove(call.ticket);
                self.reply(request, Err(refusal));
            }
        }
    }

    /// A peer does not take part in a call.
    pub(super) fn take_refused_call(&mut self, _from: ReplicaId, _call: u64) {
        self.counts.refused_calls += 1;
    }

    /// The time of a call is over: how far it had got.
    pub(super) fn fail_call(&mut self, number: u64) -> Refusal {
        let Some(call) = self.calls.running.remove(&number) else {
            return Refusal::Indeterminate { op_id: None };
        };
        self.end_op(&call);
        let (answered, phase) = match call.spreading {
            true => (call.stored, QuorumPhase::WriteBack),
            false => (self.mask(call.told.keys().copied()), QuorumPhase::Gather),
        };
        self.unavailable(call.place.class, call.scope, answered, phase)
    }

    /// The operation of a call is not under way any more, and may be begun again.
    fn end_op(&mut self, call: &Call) {
        if let Purpose::Register { change, .. } = &call.purpose
            && let Some(op_id) = change.op_id
        {
            self.ops.end(op_id);
        }
    }

    /// Begins every call again, in the epoch that is followed now.
    pub(super) fn restart_calls(&mut self) {
        for (_, call) in std::mem::take(&mut self.calls.running) {
            match self.target(&call.key, Some(call.level)) {
                Ok(target) => {
                    let target = (target, call.scope);
                    self.begin_call(call.ticket, &call.key, target, call.purpose);
                }
                Err(refusal) => {
                    self.end_op(&call);
                    if let Some(pending) = self.waits.remove(call.ticket) {
                        self.reply(pending.request, Err(refusal));
                    }
                }
            }
        }
    }
}

/// The bytes that a change wants a register to have.
fn register_value(change: &Change) -> Result<Option<Bytes>, Refusal> {
    if let Update::Set(value) = &change.update {
        return Ok(Some(value.clone()));
    }
    if let Update::Store { value, .. } = &change.update {
        return Ok(value.clone());
    }
    if change.update == Update::Delete {
        return Ok(None);
    }
    let (kind, update) = (change.target.place.kind, change.update.name());
    let reason = UpdateError::WrongKind { kind, update };
    Err(Refusal::Update { key: change.key.to_string(), reason })
}
