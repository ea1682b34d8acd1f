//! Writes: decided in memory, logged, and answered when they are held where their level says.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Hlc;
use crate::crdt::{Kind, Update, UpdateError, Value, Writer};
use crate::frame::Held;
use crate::frontier::Position;
use crate::level::Level;
use crate::replica::Replica;
use crate::replica::command::{Answer, RowChange, Written};
use crate::replica::config::Sabotage;
use crate::replica::desk::Effect;
use crate::replica::input::{Key, Op, OpId, Request, RequestId, Token};
use crate::replica::life::row_of;
use crate::replica::log::Record;
use crate::replica::refusal::Refusal;
use crate::replica::rows::{self, OpRow};
use crate::replica::serve::Target;
use crate::replica::store::Place;
use crate::replica::view::ClassId;
use crate::replica::wait::{Pending, Scope, Ticket, Waiting};

/// A change that a client waits for.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) request: RequestId,
    pub(crate) deadline: Duration,
    pub(crate) key: Key,
    pub(crate) update: Update,
    pub(crate) op_id: Option<OpId>,
    /// Of key and update as they were asked for.
    pub(crate) digest: u64,
    pub(crate) session: Option<Token>,
    pub(crate) target: Target,
}

impl Change {
    /// Whose majority it waits for.
    pub(crate) const fn scope(&self) -> Option<Scope> {
        match self.target.level {
            Level::Eventual => None,
            Level::Local => Some(Scope::Region),
            Level::Quorum | Level::Strong => Some(Scope::Regions),
        }
    }
}

/// The stamps of a mutation.
struct Times {
    /// When it is made: later than every mutation before.
    stamp: Hlc,
    /// When it counts as made, against other writes of the key.
    valid: Hlc,
    /// Whether the key's life begins anew.
    timed: bool,
}

/// The same change of the same key has the same digest; only operations with an id need one.
fn digest(key: &str, update: &Update, op_id: Option<OpId>) -> u64 {
    op_id.map_or(0, |_| crate::shard::hash(format!("{key} {update:?}").as_bytes()))
}

impl Replica {
    /// Changes a key, or says why not.
    pub(super) fn update(
        &mut self,
        request: Request,
        deadline: Duration,
    ) -> Result<(), Refusal> {
        let Op::Update { key, update, op_id } = request.op else { return Ok(()) };
        let target = self.target(&key, request.level)?;
        if target.level < target.floor {
            let (asked, floor) = (target.level, target.floor);
            return Err(Refusal::LevelBelowFloor { key: key.to_string(), asked, floor });
        }
        let (request, session) = (request.id, request.session);
        let digest = digest(&key, &update, op_id);
        let change =
            Change { request, deadline, key, update, op_id, digest, session, target };
        if self.is_known(&change)? {
            return Ok(());
        }
        self.room_for(&change)?;
        if let Some(scope) = change.scope() {
            self.check_reachable(target.place.class, scope)?;
        }
        if target.place.kind == Kind::Register {
            return self.begin_register(change);
        }
        let written = self.change(&change)?;
        self.acknowledge_later(change, written)
    }

    /// Whether the operation was done before; then its outcome is waited for again.
    fn is_known(&mut self, change: &Change) -> Result<bool, Refusal> {
        let Some(op_id) = change.op_id else { return Ok(false) };
        let Some(row) = self.ops.get(op_id) else { return Ok(false) };
        if row.digest != change.digest {
            return Err(Refusal::OpIdReused { op_id });
        }
        let written = self.written(change, row.position, row.stamp);
        self.acknowledge_later(change.clone(), written)?;
        Ok(true)
    }

    fn room_for(&self, change: &Change) -> Result<(), Refusal> {
        if let Some(failure) = &self.desk.failure {
            return Err(Refusal::StoreFailed { reason: failure.reason.clone() });
        }
        let max = self.config.store_bytes_max;
        if self.store.bytes() >= max {
            return Err(Refusal::Busy { what: "the bytes of the store", max });
        }
        let max = self.config.op_ids_max;
        if change.op_id.is_some() && self.ops.len() >= max {
            return Err(Refusal::Busy { what: "the operation ids", max });
        }
        let max = self.config.waiting_max;
        if self.desk.effects.len() >= max {
            return Err(Refusal::Busy { what: "the writes to disk", max });
        }
        if change.scope().is_some() { self.room_to_wait() } else { Ok(()) }
    }

    /// Makes a change in memory and in the log, with its operation id.
    pub(super) fn change(&mut self, change: &Change) -> Result<Written, Refusal> {
        let refuse = |reason| Refusal::Update { key: change.key.to_string(), reason };
        self.begin_again_after_expiry(&change.key, change.target.place);
        if change.target.place.kind == Kind::Bounded {
            self.inherit_rights(&change.key, change.target.place, &change.update);
        }
        let (position, stamp) = self
            .mutate(&change.key, change.target.place, &change.update)
            .map_err(refuse)?;
        if let Some(op_id) = change.op_id
            && !self.config.breaks(Sabotage::ForgetsOpIds)
        {
            let row = OpRow { position, stamp, digest: change.digest };
            self.ops.insert(op_id, row);
            let row = rows::put(rows::op(op_id), &row);
            let late = self.config.breaks(Sabotage::StoresOpIdsLate);
            if late { self.desk.late.push(row) } else { self.desk.rows.push(row) }
        }
        Ok(self.written(change, position, stamp))
    }

    fn written(&self, change: &Change, position: Position, stamp: Hlc) -> Written {
        let token = self.token(change.session.as_ref(), self.store.get(&change.key));
        Written { position, stamp, level: change.target.level, token }
    }

    /// One mutation: its delta joined here and appended to the log.
    pub(super) fn mutate(
        &mut self,
        key: &Key,
        place: Place,
        update: &Update,
    ) -> Result<(Position, Hlc), UpdateError> {
        let stamp = self.clock.tick(self.now.wall);
        let timed =
            self.view.policy_at(place.policy).is_some_and(|policy| policy.ttl.is_some());
        let position =
            self.record(key, place, update, Times { stamp, valid: stamp, timed })?;
        Ok((position, stamp))
    }

    /// Deletes a value whose life is over. The deletion counts as made right after the write
    /// that ended, so that it wins over that one and over nothing that was written later and
    /// has not come here; nor does it begin a new life.
    ///
    /// The promise of what stamps will not come any more is not kept for it, and need not be:
    /// readers saw nothing of the value before it came.
    pub(super) fn delete_ended(
        &mut self,
        key: &Key,
        place: Place,
        ended: Hlc,
    ) -> Result<(), UpdateError> {
        let stamp = self.clock.tick(self.now.wall);
        let valid = Hlc::from_bits(ended.bits().saturating_add(1));
        self.record(key, place, &Update::Delete, Times { stamp, valid, timed: false })?;
        Ok(())
    }

    fn record(
        &mut self,
        key: &Key,
        place: Place,
        update: &Update,
        Times { stamp, valid, timed }: Times,
    ) -> Result<Position, UpdateError> {
        let position = self.log.next();
        let writer = Writer { actor: self.me, seq: position.seq, stamp: valid };
        let delta = match self.store.get(key) {
            Some(entry) => entry.value.update(update, &writer)?,
            None => Value::bottom(place.kind).update(update, &writer)?,
        };
        let (key, class, value) = (Arc::clone(key), place.class, Held::new(delta));
        self.append(Record { position, key, value, stamp, timed, class, len: 0 }, place);
        Ok(position)
    }

    fn append(&mut self, mut record: Record, place: Place) {
        let key = Arc::clone(&record.key);
        match self.store.get_mut(&key) {
            None => self.store.insert(&key, Arc::clone(&record.value.0), place),
            // The delta was made from this value, so it is of its kind.
            Some(entry) => {
                let _same_kind = Arc::make_mut(&mut entry.value).join(&record.value.0);
            }
        }
        if record.timed {
            self.raise_stamp(&key, record.stamp);
        }
        self.touch(&key, true);
        self.doom(&key, None);
        let row = rows::delta(self.me.replica, record.position);
        let row = rows::put(row, &row_of(&record));
        if let RowChange::Put { value, .. } = &row {
            record.len = value.len();
        }
        self.desk.rows.push(row);
        self.applied.raise(self.me.replica, record.position);
        self.log.append(record);
        self.desk.places_changed = true;
    }

    /// Answers a change that is made, once it is held where its level says.
    pub(super) fn acknowledge_later(
        &mut self,
        change: Change,
        written: Written,
    ) -> Result<(), Refusal> {
        let batch = self.batch_of(&change.key, written.position);
        let Some(scope) = change.scope() else {
            let outcome = Ok(Answer::Written(written));
            let reply = Effect::Reply { request: change.request, outcome };
            self.run_after(batch, reply);
            return Ok(());
        };
        self.room_to_wait()?;
        let Change { request, deadline, key, op_id, target, .. } = change;
        let class = target.place.class;
        let waiting = Waiting::Acks { key, class, scope, op_id, written };
        let ticket = self.waits.add(Pending { request, deadline, waiting });
        self.wait_for_acks(ticket, batch);
        Ok(())
    }

    /// Queues a change behind its durability, and looks whether it is held already.
    pub(super) fn wait_for_acks(&mut self, ticket: Ticket, batch: u64) {
        self.run_after(batch, Effect::Written { ticket });
        self.check_acks();
    }

    /// The batch that makes a position durable, at the latest.
    pub(super) fn batch_of(&self, key: &Key, position: Position) -> u64 {
        if position <= self.log.durable() {
            return 0;
        }
        self.store.get(key).map_or_else(|| self.desk.open(), |entry| entry.own_batch)
    }

    /// Answers the changes that enough replicas have by now.
    pub(super) fn check_acks(&mut self) {
        for queue in self.waits.queues() {
            while let Some((position, ticket)) = self.waits.first(queue) {
                if !self.is_held(queue.0, queue.1, position) {
                    break;
                }
                if let Some(pending) = self.waits.remove(ticket)
                    && let Waiting::Acks { written, .. } = pending.waiting
                {
                    self.answer(pending.request, Answer::Written(written));
                }
            }
        }
    }

    fn is_held(&self, class: ClassId, scope: Scope, position: Position) -> bool {
        let own = match position <= self.log.durable() {
            true => self.view.bit(self.me.replica).unwrap_or(0),
            false => 0,
        };
        let any_epoch = self.config.breaks(Sabotage::CountsOtherEpochs);
        let has = |peer: &&super::peer::Peer| {
            let acked = if any_epoch { peer.acked } else { peer.acked_in_epoch };
            acked >= position
        };
        let peers = self.peers.iter().filter(|(_, peer)| has(peer));
        let mask = peers
            .filter_map(|(id, _)| self.view.bit(*id))
            .fold(own, |all, bit| all | bit);
        self.is_majority(class, scope, mask)
    }
}

impl Replica {
    /// The time of a request is over.
    pub(super) fn give_up(&mut self, ticket: Ticket) {
        let Some(pending) = self.waits.remove(ticket) else { return };
        let refusal = match pending.waiting {
            Waiting::Acks { scope: Scope::Region, op_id, written, .. } => {
                if self.config.breaks(Sabotage::AnswersWeaker) {
                    return self.answer(pending.request, Answer::Written(written));
                }
                let (reached, wanted) = (Level::Eventual, Level::Local);
                Refusal::LevelNotReached { op_id, reached, wanted }
            }
            Waiting::Acks { scope: Scope::Regions, op_id, written, .. } => {
                if self.config.breaks(Sabotage::AnswersWeaker) {
                    return self.answer(pending.request, Answer::Written(written));
                }
                Refusal::Indeterminate { op_id }
            }
            Waiting::Call { call } => self.fail_call(call),
            Waiting::Parked { request } => self.too_stale(request.op.key()),
        };
        self.reply(pending.request, Err(refusal));
    }
}
