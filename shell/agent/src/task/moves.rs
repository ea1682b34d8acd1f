//! Guests that move: their turn is decided by the move and not by the instance, until the move
//! lets go of them.

use dwcp_api::host::{MoveReport, MoveStage};
use dwcp_types::{Power, VmId};
use dwcp_vm::GuestSpec;
use dwcp_vm::migration::{
    MoveAction, MoveDecision, Moving, SourceStep, TargetStep, Traffic,
};
use tokio::sync::oneshot;

use super::{Deed, Task};
use crate::entry::Entry;
use crate::held::Held;

impl Task {
    /// Decides about a guest that a move holds. Says whether it does.
    pub(super) fn seen_moving(&mut self, vm: &VmId, traffic: Option<&Traffic>) -> bool {
        let now = self.clock.now();
        let Some(entry) = self.entries.get(vm) else { return false };
        if !entry.is_moving() {
            return false;
        }
        let Some(traffic) = traffic else {
            // It began to move while it was looked at.
            self.rest(vm, true);
            return true;
        };
        let seen = entry.sighting.observation;
        let instruction = entry.instance.as_ref().map(|it| &it.record().instruction);
        let power = instruction.map(|it| (it.epoch, it.power));
        // Without a grant it is as if the instruction were not here yet.
        let granted = instruction.is_some_and(|it| self.may_run(vm, it));
        let bound = instruction.is_some_and(|it| it.guest.lease_bound);
        let unwatched = granted && bound && !self.is_watched();
        let Some(entry) = self.entries.get_mut(vm) else { return false };
        let Some(moving) = &mut entry.moving else { return false };
        let decision = match moving {
            Moving::Out(source) => source.decide(now, seen.process, traffic, granted),
            Moving::In(target) => {
                let epoch = target.order().epoch;
                let may_start = granted && !unwatched;
                let committed = power.filter(|(held, _)| may_start && *held >= epoch);
                let runs = committed.is_some_and(|(_, power)| power == Power::Running);
                target.decide(now, &seen, traffic, (committed.is_some(), runs))
            }
        };
        let MoveDecision { action, deadline, persist, over } = decision;
        if matches!(&entry.moving, Some(Moving::In(_))) {
            entry.hold(now, unwatched.then_some(Held::Unwatched));
        }
        let let_go = over && entry.let_go();
        let deadline = if over { Some(now) } else { deadline };
        self.follow(vm, Deed::Move(action), deadline, persist || let_go);
        true
    }

    /// Answers how far a move is.
    pub(super) fn read_move(&self, vm: &VmId, reply: oneshot::Sender<MoveReport>) {
        let nothing = || MoveReport { gone: true, ..MoveReport::default() };
        let report = self.entries.get(vm).map_or_else(nothing, Entry::move_report);
        // Whoever asked may have given up.
        drop(reply.send(report));
    }
}

impl Entry {
    /// What its guest is made from.
    pub(super) fn guest(&self) -> Option<GuestSpec> {
        match (&self.moving, &self.instance) {
            (Some(Moving::In(target)), _) => Some(target.order().guest.clone()),
            (_, Some(instance)) => Some(instance.record().instruction.guest.clone()),
            (_, None) => None,
        }
    }

    /// Takes note of what came of an action of its move.
    pub(super) fn moved(&mut self, action: MoveAction, result: Result<(), String>) {
        match (&mut self.moving, result) {
            (Some(Moving::Out(source)), Ok(())) => source.done(action),
            (Some(Moving::In(target)), Ok(())) => target.done(action),
            // What it gave up is written with its next decision.
            (Some(Moving::Out(source)), Err(reason)) => {
                self.unsaved |= source.failed(&reason);
            }
            (Some(Moving::In(target)), Err(reason)) => target.failed(&reason),
            (None, _) => {}
        }
    }

    /// Whether a move decides about it.
    pub(crate) fn is_moving(&self) -> bool {
        self.moving.as_ref().is_some_and(Moving::holds)
    }

    /// The move is over. Says whether that is to be written: a source that gave up keeps why,
    /// for its region to read.
    fn let_go(&mut self) -> bool {
        let kept = matches!(&self.moving, Some(Moving::Out(source))
            if matches!(source.step(), SourceStep::Abandoned { .. }));
        if !kept {
            self.moving = None;
        }
        !kept
    }

    /// How far its move is. A promise and an arrival are told when they are on disk.
    pub(crate) fn move_stage(&self) -> MoveStage {
        let kept = !self.saving && !self.unsaved;
        match &self.moving {
            None => MoveStage::None,
            Some(Moving::Out(source)) => match source.step() {
                SourceStep::Mirroring => MoveStage::Mirroring,
                SourceStep::Sending => MoveStage::Sending,
                SourceStep::Promised if source.is_ready() && kept => MoveStage::Ready,
                SourceStep::Promised if source.failure().is_some() => MoveStage::Failed,
                SourceStep::Promised => MoveStage::Sending,
                SourceStep::Abandoned { .. } => MoveStage::Failed,
                SourceStep::TakingBack => MoveStage::Undoing,
            },
            Some(Moving::In(target)) => match target.step() {
                TargetStep::Dropped | TargetStep::SourceLost => MoveStage::Undoing,
                TargetStep::Arrived if kept => MoveStage::Arrived,
                TargetStep::Arrived => MoveStage::Listening,
                _ if target.failure().is_some() => MoveStage::Failed,
                TargetStep::Started if target.traffic().ports.is_some() => {
                    MoveStage::Listening
                }
                TargetStep::Preparing | TargetStep::Started => MoveStage::Preparing,
            },
        }
    }

    /// What is told about its move.
    pub(crate) fn move_report(&self) -> MoveReport {
        let epoch = self.instance.as_ref().map(|it| it.record().instruction.epoch);
        let Some(moving) = &self.moving else {
            let gone = self.is_buried();
            return MoveReport { epoch, gone, ..MoveReport::default() };
        };
        let (traffic, error) = match moving {
            Moving::Out(source) => (source.traffic(), source.failure()),
            Moving::In(target) => (target.traffic(), target.failure()),
        };
        let mirror = traffic.mirror.unwrap_or_default();
        MoveReport {
            id: Some(moving.id().clone()),
            stage: self.move_stage(),
            promised: matches!(moving, Moving::Out(source) if source.is_bound()),
            gone: false,
            epoch,
            disk_port: traffic.ports.map(|ports| ports.disk),
            memory_port: traffic.ports.map(|ports| ports.memory),
            disk_done: mirror.copied,
            disk_total: mirror.total,
            memory_sent: traffic.stream.transferred,
            memory_left: traffic.stream.remaining,
            error: error.map(str::to_owned),
        }
    }
}
