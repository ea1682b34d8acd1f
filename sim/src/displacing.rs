//! How a coordinator makes room: hold it at the region first, then stop the victims one by one,
//! then ask until all of them have given theirs.

use dwcp_controller::ledger::Reserve;
use dwcp_controller::ownership::{VmRecord, preempt, vm_key};
use dwcp_types::{PlacementRequest, Power, Tier, VmId};

use crate::coordinator::{Coordinator, Errand, Stage, Turn};
use crate::engine::{EngineReply, EngineRequest, Rows, Txn, Value};
use crate::message::{Body, Node, Wish};

/// What is held for a VM while others make room for it.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) region: Node,
    pub(super) ask: Box<Reserve>,
}

impl Coordinator {
    /// Reads the record of the next victim, or waits for them all.
    pub(super) fn stop_next(
        &mut self,
        turn: &mut Turn,
        mut errand: Errand,
        room: Room,
        left: Vec<VmId>,
    ) {
        let Some(victim) = left.last() else {
            let Room { region, ask } = room;
            errand.stage = Stage::Awaiting { ask: ask.clone() };
            return self.ask(turn, errand, region, |call| Body::Reserve { call, ask });
        };
        let request = EngineRequest::Read(vec![vm_key(victim)]);
        errand.stage = Stage::Stopping { room, left };
        self.ask(turn, errand, Node::Engine, |call| Body::ToEngine { call, request });
    }

    pub(super) fn on_victim(
        &mut self,
        turn: &mut Turn,
        errand: Errand,
        reply: &EngineReply,
    ) {
        match (reply, errand.stage.clone()) {
            (EngineReply::Rows(rows), Stage::Stopping { room, left }) => {
                self.stop(turn, errand, rows, (room, left));
            }
            (EngineReply::Txn(Some(_)), Stage::WriteStopped { room, mut left }) => {
                left.pop();
                self.stop_next(turn, errand, room, left);
            }
            (EngineReply::Txn(None), Stage::WriteStopped { room, left }) => {
                self.stop_next(turn, errand, room, left);
            }
            _ => self.again(turn, errand),
        }
    }

    fn stop(
        &mut self,
        turn: &mut Turn,
        mut errand: Errand,
        rows: &Rows,
        (room, mut left): (Room, Vec<VmId>),
    ) {
        let Wish::Place { request, .. } = &errand.wish else { return };
        let key = left.last().map(vm_key).unwrap_or_default();
        let row = rows.get(&key);
        let found = row.and_then(|row| Some((row.value.vm()?, row.revision)));
        let Some((record, revision)) = found.filter(|(it, _)| it.power != Power::Deleted)
        else {
            // It is gone, or going: so is what it holds.
            left.pop();
            return self.stop_next(turn, errand, room, left);
        };
        if !may_stop(record, request, &room.ask) {
            return self.again(turn, errand);
        }
        let Ok(stopped) = preempt(record, &request.id, turn.now) else { return };
        if stopped == *record {
            left.pop();
            return self.stop_next(turn, errand, room, left);
        }
        let txn = Txn {
            compares: vec![(key.clone(), revision)],
            puts: vec![(key, Value::Vm(Box::new(stopped)))],
            deletes: Vec::new(),
        };
        errand.stage = Stage::WriteStopped { room, left };
        let request = EngineRequest::Txn(txn);
        self.ask(turn, errand, Node::Engine, |call| Body::ToEngine { call, request });
    }
}

/// Whether it still is what the plan took it for.
fn may_stop(record: &VmRecord, request: &PlacementRequest, ask: &Reserve) -> bool {
    Some(&record.owner.host) == ask.proposal.host.as_ref()
        && record.request.priority < request.priority
        && record.request.tier != Tier::Protected
}
