//! A daemon that takes requests: looks the token up, decides on its late view, reserves,
//! commits. It stores nothing; what it forgets in a crash is found again by token or lapses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::ledger::{ROOM_HOLD_FOR, Reserve};
use dwcp_controller::ownership::{set_power, token_key, vm_key};
use dwcp_types::{FleetView, PlacedVm, Power, RegionId, ReservationId, Timestamp, VmId};

use crate::chooser::{Choose, Proposed};
use crate::displacing::Room;
use crate::engine::{EngineReply, EngineRequest, Rows, Txn, Value};
use crate::message::{Answer, Body, CommitReply, Node, Wish};

/// A question is asked again after this long, some round trips of a slow network.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// And so many times, before it is given up.
const ASKED_MAX: u32 = 4;
/// And so many times whether room is there that others make.
const ROOM_ASKED_MAX: u32 = 20;
/// How often a placement begins anew, because its hold lapsed or its token was used meanwhile.
const ROUNDS_MAX: u32 = 3;

/// Where a wish stands.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    LookUp,
    Reserving {
        left: Vec<Proposed>,
        ask: Box<Reserve>,
    },
    /// Reads the record of the last of those who have to stop.
    Stopping {
        room: Room,
        left: Vec<VmId>,
    },
    /// Writes it.
    WriteStopped {
        room: Room,
        left: Vec<VmId>,
    },
    /// Asks again and again whether all of them have.
    Awaiting {
        ask: Box<Reserve>,
    },
    Committing {
        reservation: ReservationId,
    },
    ReadRecord,
    WriteRecord,
}

/// A wish under way.
#[derive(Debug)]
pub(super) struct Errand {
    client: Node,
    op: u64,
    pub(super) wish: Wish,
    pub(super) stage: Stage,
    rounds: u32,
    /// Whether others were asked to make room already.
    displaced: bool,
    /// The open question, to ask again.
    pub(super) question: (Node, Body),
    asked: u32,
    asked_at: Timestamp,
}

/// A coordinator while it lives.
pub(crate) struct Coordinator {
    pub(crate) index: usize,
    pub(crate) boot: u64,
    pub(crate) regions: Vec<RegionId>,
    pub(crate) view: FleetView,
    pub(crate) chooser: Arc<dyn Choose>,
    /// The VMs of each region, as it last said.
    vms: BTreeMap<usize, Vec<Arc<PlacedVm>>>,
    errands: BTreeMap<u64, Errand>,
    calls: u64,
}

type Out = Vec<(Node, Body)>;

/// One call: when it is, and what is to be sent.
pub(super) struct Turn {
    pub(super) now: Timestamp,
    out: Out,
}

impl Coordinator {
    pub(crate) fn new(
        index: usize,
        boot: u64,
        view: FleetView,
        chooser: Arc<dyn Choose>,
    ) -> Self {
        let regions =
            view.regions.iter().map(|region| region.region.id.clone()).collect();
        let calls = boot << 32;
        let (vms, errands) = (BTreeMap::new(), BTreeMap::new());
        Self { index, boot, regions, view, chooser, vms, errands, calls }
    }

    pub(crate) fn handle(&mut self, now: Timestamp, from: Node, body: Body) -> Out {
        let mut turn = Turn { now, out: Out::new() };
        match body {
            Body::Ask { op, wish } => self.begin(&mut turn, from, op, *wish),
            Body::View { hosts, vms } => {
                if let Node::Region(index) = from
                    && let Some(view) = self.view.regions.get_mut(index)
                {
                    view.hosts = hosts;
                    view.observed_at = now;
                    self.vms.insert(index, vms);
                    self.view.vms = self.vms.values().flatten().cloned().collect();
                }
            }
            Body::FromEngine { call, reply } => {
                if let Some(errand) = self.errands.remove(&call) {
                    self.on_engine(&mut turn, errand, &reply);
                }
            }
            Body::Reserved { call, held } => {
                if let Some(errand) = self.errands.remove(&call) {
                    self.on_reserved(&mut turn, errand, held);
                }
            }
            Body::Committed { call, reply } => {
                if let Some(errand) = self.errands.remove(&call) {
                    self.on_committed(&mut turn, errand, reply);
                }
            }
            Body::Answer { .. }
            | Body::Reserve { .. }
            | Body::Commit { .. }
            | Body::ToEngine { .. }
            | Body::Instruct(_)
            | Body::Grant(_)
            | Body::Beat { .. }
            | Body::Beaten { .. }
            | Body::Recover { .. }
            | Body::NoRoom { .. }
            | Body::Report { .. } => {}
        }
        turn.out
    }

    /// Asks again what was not answered, or gives it up.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Out {
        let mut turn = Turn { now, out: Out::new() };
        let late = |errand: &Errand| now.since(errand.asked_at) >= ASK_AGAIN_AFTER;
        let calls: Vec<_> = self
            .errands
            .iter()
            .filter(|(_, it)| late(it))
            .map(|(call, _)| *call)
            .collect();
        for call in calls {
            let Some(mut errand) = self.errands.remove(&call) else { continue };
            let waits = matches!(errand.stage, Stage::Awaiting { .. });
            if errand.asked < if waits { ROOM_ASKED_MAX } else { ASKED_MAX } {
                errand.asked += 1;
                errand.asked_at = now;
                turn.out.push(errand.question.clone());
                self.errands.insert(call, errand);
            } else if let Stage::Reserving { left, .. } = errand.stage.clone() {
                self.next_region(&mut turn, errand, left);
            } else {
                finish(&errand, Answer::Unsure, &mut turn);
            }
        }
        turn.out
    }

    fn begin(&mut self, turn: &mut Turn, client: Node, op: u64, wish: Wish) {
        let stage = match wish {
            Wish::Place { .. } => Stage::LookUp,
            Wish::Power { .. } => Stage::ReadRecord,
        };
        let nothing = EngineRequest::Read(Vec::new());
        let errand = Errand {
            client,
            op,
            wish,
            stage,
            rounds: 0,
            displaced: false,
            question: (Node::Engine, Body::ToEngine { call: 0, request: nothing }),
            asked: 0,
            asked_at: turn.now,
        };
        self.read(turn, errand);
    }

    /// Reads the token of a placement, or the record of another wish.
    fn read(&mut self, turn: &mut Turn, mut errand: Errand) {
        let key = match &errand.wish {
            Wish::Place { token, request, .. } => {
                errand.stage = Stage::LookUp;
                token_key(&request.tenant, token)
            }
            Wish::Power { vm, .. } => {
                errand.stage = Stage::ReadRecord;
                vm_key(vm)
            }
        };
        let request = EngineRequest::Read(vec![key]);
        self.ask(turn, errand, Node::Engine, |call| Body::ToEngine { call, request });
    }

    pub(super) fn again(&mut self, turn: &mut Turn, mut errand: Errand) {
        errand.rounds += 1;
        if errand.rounds >= ROUNDS_MAX {
            return finish(&errand, Answer::Unsure, turn);
        }
        self.read(turn, errand);
    }

    fn on_engine(&mut self, turn: &mut Turn, errand: Errand, reply: &EngineReply) {
        if matches!(errand.stage, Stage::Stopping { .. } | Stage::WriteStopped { .. }) {
            return self.on_victim(turn, errand, reply);
        }
        match (reply, errand.wish.clone()) {
            (EngineReply::Rows(rows), Wish::Place { .. }) => {
                self.on_token(turn, errand, rows);
            }
            (EngineReply::Rows(rows), Wish::Power { vm, reservation, wanted }) => {
                self.on_record(turn, errand, rows, (&vm, &reservation, wanted));
            }
            (EngineReply::Txn(Some(_)), _) => finish(&errand, Answer::Done, turn),
            (EngineReply::Txn(None), _) => self.again(turn, errand),
        }
    }

    fn on_token(&mut self, turn: &mut Turn, errand: Errand, rows: &Rows) {
        let Wish::Place { token, request, .. } = &errand.wish else { return };
        let used = rows.get(&token_key(&request.tenant, token));
        if let Some(used) = used.and_then(|row| row.value.token()) {
            let answer = if used.request == **request {
                Answer::Placed(used.reservation.clone())
            } else {
                Answer::Refused
            };
            return finish(&errand, answer, turn);
        }
        let mut left = self.chooser.choose(&self.view, request);
        left.reverse();
        self.next_region(turn, errand, left);
    }

    fn next_region(
        &mut self,
        turn: &mut Turn,
        mut errand: Errand,
        mut left: Vec<Proposed>,
    ) {
        let Wish::Place { request, preempt, .. } = &errand.wish else { return };
        let best = left.pop().or_else(|| {
            let may = *preempt && !std::mem::replace(&mut errand.displaced, true);
            may.then(|| self.chooser.displace(&self.view, request)).flatten()
        });
        let Some(best) = best else {
            return finish(&errand, Answer::Refused, turn);
        };
        let region = self.regions.iter().position(|id| *id == best.region);
        let name = format!("c{}-{}-{}", self.index, self.boot, self.calls + 1);
        let (Some(region), Ok(reservation)) = (region, ReservationId::new(&name)) else {
            return finish(&errand, Answer::Refused, turn);
        };
        let mut ask = Box::new(Reserve::of(reservation, request));
        ask.proposal = best.proposal;
        if !best.victims.is_empty() {
            ask.hold_for = ROOM_HOLD_FOR;
            ask.victims = best.victims;
        }
        errand.stage = Stage::Reserving { left, ask: ask.clone() };
        let node = Node::Region(region);
        self.ask(turn, errand, node, |call| Body::Reserve { call, ask });
    }

    fn on_reserved(&mut self, turn: &mut Turn, errand: Errand, held: Option<Vec<VmId>>) {
        match (errand.stage.clone(), held) {
            (Stage::Reserving { left, .. }, None) => self.next_region(turn, errand, left),
            (Stage::Reserving { ask, .. } | Stage::Awaiting { ask }, Some(victims))
                if victims.is_empty() =>
            {
                self.commit(turn, errand, ask.id);
            }
            (Stage::Reserving { ask, .. }, Some(victims)) => {
                let room = Room { region: errand.question.0, ask };
                self.stop_next(turn, errand, room, victims);
            }
            (Stage::Awaiting { .. }, Some(_)) => self.look_later(turn, errand),
            // What was held has lapsed, and nobody holds it for this VM any more.
            _ => self.again(turn, errand),
        }
    }

    fn commit(&mut self, turn: &mut Turn, mut errand: Errand, id: ReservationId) {
        let Wish::Place { token, request, .. } = errand.wish.clone() else { return };
        let region = errand.question.0;
        errand.stage = Stage::Committing { reservation: id.clone() };
        self.ask(turn, errand, region, |call| Body::Commit { call, id, request, token });
    }

    /// Leaves the question open, to be asked again in a while.
    fn look_later(&mut self, turn: &Turn, mut errand: Errand) {
        let Body::Reserve { call, .. } = errand.question.1 else { return };
        errand.asked_at = turn.now;
        self.errands.insert(call, errand);
    }

    fn on_committed(&mut self, turn: &mut Turn, errand: Errand, reply: CommitReply) {
        let Stage::Committing { reservation } = errand.stage.clone() else { return };
        match reply {
            CommitReply::Done => finish(&errand, Answer::Placed(reservation), turn),
            CommitReply::Lapsed => self.again(turn, errand),
            CommitReply::NameTaken(by) => finish(&errand, Answer::NameTaken(by), turn),
            CommitReply::TokenUsed => finish(&errand, Answer::Refused, turn),
        }
    }

    fn on_record(
        &mut self,
        turn: &mut Turn,
        mut errand: Errand,
        rows: &Rows,
        wish: (&VmId, &ReservationId, Power),
    ) {
        let (vm, reservation, wanted) = wish;
        let row = rows.get(&vm_key(vm));
        let found = row.and_then(|row| Some((row.value.vm()?, row.revision)));
        let found = found.filter(|(record, _)| record.reservation == *reservation);
        let Some((record, revision)) = found else {
            return finish(&errand, Answer::Gone, turn);
        };
        let next = match set_power(record, wanted, turn.now) {
            Ok(next) if next == *record => return finish(&errand, Answer::Done, turn),
            Ok(next) => next,
            Err(_) => return finish(&errand, Answer::Refused, turn),
        };
        errand.stage = Stage::WriteRecord;
        let txn = Txn {
            compares: vec![(vm_key(vm), revision)],
            puts: vec![(vm_key(vm), Value::Vm(Box::new(next)))],
            deletes: Vec::new(),
        };
        let request = EngineRequest::Txn(txn);
        self.ask(turn, errand, Node::Engine, |call| Body::ToEngine { call, request });
    }

    pub(super) fn ask(
        &mut self,
        turn: &mut Turn,
        mut errand: Errand,
        to: Node,
        body: impl FnOnce(u64) -> Body,
    ) {
        self.calls += 1;
        errand.question = (to, body(self.calls));
        errand.asked = 1;
        errand.asked_at = turn.now;
        turn.out.push(errand.question.clone());
        self.errands.insert(self.calls, errand);
    }
}

fn finish(errand: &Errand, answer: Answer, turn: &mut Turn) {
    turn.out.push((errand.client, Body::Answer { op: errand.op, answer }));
}
