//! How a region makes a reservation into a VM record: read, judge, write, and again until the
//! engine has said what is true.
//!
//! There is no state but what is stored: after a crash, or when an answer is lost, it begins
//! again with reading.

use std::time::Duration;

use dwcp_controller::lease::{LeaseRecord, lease_key};
use dwcp_controller::ledger::Stage;
use dwcp_controller::ownership::{
    ClientToken, Creation, DecisionSummary, EpochFloor, Owner, Recovery, TokenRecord,
    VmRecord, epoch_floor_key, judge_creation, judge_recovery, token_key, vm_key,
};
use dwcp_types::{
    Epoch, Generation, PlacementRequest, Power, RegionId, ReservationId, Timestamp,
};

use crate::engine::{EngineReply, EngineRequest, Rows, Txn, Value};
use crate::message::{Body, CommitReply, Node};
use crate::options::Breakage;
use crate::region::{Daemon, Step};

/// The engine is asked again after this long: many times a usual round trip.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// A creation under way.
#[derive(Debug)]
pub(crate) struct Creating {
    /// Who waits for its end.
    waiting: Vec<(Node, u64)>,
    /// The question to the engine that is open.
    call: u64,
    asked_at: Timestamp,
}

impl Daemon {
    pub(super) fn commit(
        &mut self,
        region: &RegionId,
        to: (Node, u64),
        wish: (ReservationId, PlacementRequest, ClientToken),
        step: &mut Step,
    ) {
        let (from, call) = to;
        let (id, request, token) = wish;
        let mut answer = |reply| step.out.push((from, Body::Committed { call, reply }));
        let Some(row) = self.ledger.get(&id) else { return answer(CommitReply::Lapsed) };
        let record = VmRecord {
            request,
            owner: Owner {
                region: region.clone(),
                zone: row.zone.clone(),
                host: row.host.clone(),
                epoch: Epoch::FIRST,
            },
            power: Power::Running,
            generation: Generation::FIRST,
            preempted_by: None,
            reservation: id.clone(),
            token,
            image: String::new(),
            decision: DecisionSummary::default(),
            recovered: None,
            home: None,
            replica: None,
            disk_from: None,
            created_at: step.now,
            updated_at: step.now,
        };
        let Ok(begun) = self.ledger.begin_commit(step.now, &id, record) else {
            return answer(CommitReply::Lapsed);
        };
        step.changes.extend(begun.changes);
        match &begun.value.stage {
            Stage::Confirmed => answer(CommitReply::Done),
            Stage::Held { .. } | Stage::Committing { .. } => {
                self.begin_creation(&id, step);
                if let Some(creating) = self.creating.get_mut(&id)
                    && !creating.waiting.contains(&(from, call))
                {
                    creating.waiting.push((from, call));
                }
            }
        }
    }

    /// Begins unless it is under way.
    pub(super) fn begin_creation(&mut self, id: &ReservationId, step: &mut Step) {
        if !self.creating.contains_key(id) {
            self.read(id, Vec::new(), step);
        }
    }

    /// Begins what a crash left, and asks again what was not answered.
    pub(super) fn roll_forward(&mut self, step: &mut Step) {
        let ids: Vec<_> =
            self.ledger.committing().map(|row| row.ask.id.clone()).collect();
        for id in ids {
            let fresh =
                |creating: &Creating| step.now.since(creating.asked_at) < ASK_AGAIN_AFTER;
            if self.creating.get(&id).is_some_and(fresh) {
                continue;
            }
            let waiting = self.creating.remove(&id).map(|creating| creating.waiting);
            self.read(&id, waiting.unwrap_or_default(), step);
        }
    }

    pub(super) fn on_creation(&mut self, call: u64, reply: EngineReply, step: &mut Step) {
        let open = self.creating.iter().find(|(_, creating)| creating.call == call);
        let Some(id) = open.map(|(id, _)| id.clone()) else { return };
        match reply {
            EngineReply::Txn(Some(_)) => self.settle(&id, &CommitReply::Done, step),
            EngineReply::Txn(None) => {
                let waiting = self.creating.remove(&id).map(|creating| creating.waiting);
                self.read(&id, waiting.unwrap_or_default(), step);
            }
            EngineReply::Rows(rows) => self.judge(&id, &rows, step),
        }
    }

    fn judge(&mut self, id: &ReservationId, rows: &Rows, step: &mut Step) {
        let Some(wanted) = self.wanted(id) else { return };
        if wanted.recovered.is_some() {
            return self.judge_recovery(id, &wanted, rows, step);
        }
        let [vm, token, floor] = keys(&wanted).map(|key| rows.get(&key));
        let vm = vm.and_then(|row| row.value.vm());
        let token = token.and_then(|row| row.value.token());
        let ours = vm.filter(|vm| vm.reservation == *id);
        let creation = if self.breakage == Breakage::CreatesOverExisting {
            ours.map_or(Creation::Open, |_| Creation::Done)
        } else {
            let compared = self.breakage != Breakage::TokenIsNotCompared;
            judge_creation(&wanted, vm, token.filter(|_| compared))
        };
        match creation {
            Creation::Open => self.write(id, wanted, floor, step),
            Creation::Done => self.settle(id, &CommitReply::Done, step),
            Creation::DoneAndDeleted | Creation::DoneByAnother => {
                self.abandon(id, &CommitReply::Lapsed, step);
            }
            Creation::TokenUsed => self.abandon(id, &CommitReply::TokenUsed, step),
            Creation::NameTaken => {
                let by = vm.map_or_else(|| id.clone(), |vm| vm.reservation.clone());
                self.abandon(id, &CommitReply::NameTaken(by), step);
            }
        }
    }

    /// The same for a VM of a lost region: the lease takes the token's part.
    fn judge_recovery(
        &mut self,
        id: &ReservationId,
        wanted: &VmRecord,
        rows: &Rows,
        step: &mut Step,
    ) {
        let Some(recovered) = &wanted.recovered else { return };
        let vm_key = vm_key(&wanted.request.id);
        let lease_key = lease_key(&recovered.from);
        let (vm, lease) = (rows.get(&vm_key), rows.get(&lease_key));
        let unfenced = self.breakage == Breakage::RecoversUnfenced;
        let fence =
            LeaseRecord::acquired(None, &recovered.from).fenced(&recovered.failover);
        let seen = lease.and_then(|row| row.value.lease());
        let seen = if unfenced { Some(&fence) } else { seen };
        let vm_seen = vm.and_then(|row| row.value.vm());
        match judge_recovery(wanted, vm_seen, seen) {
            Recovery::Done => self.settle(id, &CommitReply::Done, step),
            Recovery::Superseded => self.abandon(id, &CommitReply::Lapsed, step),
            Recovery::Open(next) => {
                let revision = |row: Option<&crate::engine::Versioned>| {
                    row.map_or(0, |row| row.revision)
                };
                let mut compares = vec![(vm_key.clone(), revision(vm))];
                if !unfenced {
                    compares.push((lease_key, revision(lease)));
                }
                let puts = vec![(vm_key, Value::Vm(next))];
                let txn = Txn { compares, puts, deletes: Vec::new() };
                self.ask_for(id, txn, step);
            }
        }
    }

    fn write(
        &mut self,
        id: &ReservationId,
        mut wanted: VmRecord,
        floor: Option<&crate::engine::Versioned>,
        step: &mut Step,
    ) {
        let [vm_key, token_key, floor_key] = keys(&wanted);
        let seen = floor.and_then(|row| row.value.floor());
        let above = seen.filter(|_| self.breakage != Breakage::EpochStartsAgain);
        wanted.owner.epoch = EpochFloor::first_above(above);
        let mut compares = vec![(floor_key, floor.map_or(0, |row| row.revision))];
        if self.breakage != Breakage::CreatesOverExisting {
            compares.push((vm_key.clone(), 0));
            if self.breakage != Breakage::TokenIsNotCompared {
                compares.push((token_key.clone(), 0));
            }
        }
        let token = TokenRecord::of(&wanted);
        let puts = vec![
            (vm_key, Value::Vm(Box::new(wanted))),
            (token_key, Value::Token(Box::new(token))),
        ];
        let txn = Txn { compares, puts, deletes: Vec::new() };
        self.ask_for(id, txn, step);
    }

    fn ask_for(&mut self, id: &ReservationId, txn: Txn, step: &mut Step) {
        let call = self.ask_engine(EngineRequest::Txn(txn), step);
        if let Some(creating) = self.creating.get_mut(id) {
            creating.call = call;
            creating.asked_at = step.now;
        }
    }

    fn read(&mut self, id: &ReservationId, waiting: Vec<(Node, u64)>, step: &mut Step) {
        let Some(wanted) = self.wanted(id) else { return };
        let mut asked = keys(&wanted).to_vec();
        asked.extend(wanted.recovered.iter().map(|it| lease_key(&it.from)));
        let call = self.ask_engine(EngineRequest::Read(asked), step);
        self.creating.insert(id.clone(), Creating { waiting, call, asked_at: step.now });
    }

    fn wanted(&self, id: &ReservationId) -> Option<VmRecord> {
        match &self.ledger.get(id)?.stage {
            Stage::Committing { record } => Some(record.as_ref().clone()),
            Stage::Held { .. } | Stage::Confirmed => None,
        }
    }

    /// The engine has it.
    fn settle(&mut self, id: &ReservationId, reply: &CommitReply, step: &mut Step) {
        if let Ok(confirmed) = self.ledger.confirm(id) {
            step.changes.extend(confirmed.changes);
        }
        self.resolve(id, reply, step);
    }

    /// The engine will never have it.
    fn abandon(&mut self, id: &ReservationId, reply: &CommitReply, step: &mut Step) {
        step.changes.extend(self.ledger.release(id).changes);
        self.resolve(id, reply, step);
    }

    pub(super) fn resolve(
        &mut self,
        id: &ReservationId,
        reply: &CommitReply,
        step: &mut Step,
    ) {
        let Some(creating) = self.creating.remove(id) else { return };
        for (to, call) in creating.waiting {
            step.out.push((to, Body::Committed { call, reply: reply.clone() }));
        }
    }
}

/// The VM, its token and its epoch floor.
fn keys(record: &VmRecord) -> [String; 3] {
    let PlacementRequest { id, tenant, .. } = &record.request;
    [vm_key(id), token_key(tenant, &record.token), epoch_floor_key(id)]
}
