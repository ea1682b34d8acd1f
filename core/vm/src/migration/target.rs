//! The side that a guest comes to.

use dwcp_types::{Epoch, MigrationId, Timestamp};
use serde::{Deserialize, Serialize};

use super::pace::{Pace, wait};
use super::{MoveAction, MoveDecision, StreamStatus, Traffic};
use crate::{
    Accelerator, Given, GuestSpec, Monitor, Observation, Process, RunState, Storage,
};

/// What both sides must have alike for one's state to be the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What executes the guest; nothing for a simulated one.
    pub accelerator: Option<Accelerator>,
    /// What the guest is given.
    pub given: Given,
    /// It has a network card.
    pub wired: bool,
}

/// What the target is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// The move.
    pub id: MigrationId,
    /// The epoch under which the VM is the target's, once it is.
    pub epoch: Epoch,
    /// The guest.
    pub guest: GuestSpec,
    /// What it runs on at the source.
    pub machine: Machine,
    /// The subject of the source's certificate: nobody else may send.
    pub from: String,
    /// Its guest is off, and only the disk moves.
    pub cold: bool,
}

/// How far a target is; on disk before what it allows is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetStep {
    /// The disk is being made.
    Preparing,
    /// The process was started, once: one that ended is not started again.
    Started,
    /// The guest is whole here and may have run.
    Arrived,
    /// The source is lost with the rest of the guest's memory. The disk is whole, because all of
    /// it was here before the source promised: the guest is started anew from it.
    SourceLost,
    /// Given up: nothing is to be left.
    Dropped,
}

/// A target.
#[derive(Clone, Debug)]
pub struct Target {
    order: Incoming,
    step: TargetStep,
    memory: Memory,
}

#[derive(Clone, Debug, Default)]
struct Memory {
    lost: Option<String>,
    settled: bool,
    traffic: Traffic,
    pace: Pace,
}

impl Target {
    /// A target that has done nothing yet.
    #[must_use]
    pub fn new(order: Incoming) -> Self {
        Self::restore(order, TargetStep::Preparing)
    }

    /// A target as an earlier agent left it.
    #[must_use]
    pub fn restore(order: Incoming, step: TargetStep) -> Self {
        Self { order, step, memory: Memory::default() }
    }

    /// What it was told.
    #[must_use]
    pub const fn order(&self) -> &Incoming {
        &self.order
    }

    /// How far it is.
    #[must_use]
    pub const fn step(&self) -> TargetStep {
        self.step
    }

    /// What it saw last.
    #[must_use]
    pub const fn traffic(&self) -> &Traffic {
        &self.memory.traffic
    }

    /// Why the guest cannot come. It surely never ran here then.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.memory.lost.as_deref()
    }

    pub(super) fn drop_it(&mut self) {
        self.go(TargetStep::Dropped);
    }

    pub(super) fn lose_source(&mut self) {
        self.go(TargetStep::SourceLost);
    }

    fn go(&mut self, step: TargetStep) {
        self.step = step;
        self.memory = Memory::default();
    }

    /// Takes note that the action of the last decision failed.
    pub fn failed(&mut self, reason: &str) {
        if matches!(self.step, TargetStep::Preparing | TargetStep::Started) {
            self.memory.lost = Some(reason.to_owned());
        }
    }

    /// Takes note that the action of the last decision was done.
    pub fn done(&mut self, action: MoveAction) {
        if action == MoveAction::Settle {
            self.memory.settled = true;
        }
    }

    /// Says what to do next. `committed`: this host holds an instruction of the new epoch;
    /// `runs`: it says that the CPUs are to run.
    pub fn decide(
        &mut self,
        now: Timestamp,
        seen: &Observation,
        traffic: &Traffic,
        (committed, runs): (bool, bool),
    ) -> MoveDecision {
        self.memory.traffic = traffic.clone();
        let decision = match self.step {
            TargetStep::Dropped => Self::dropping(seen),
            TargetStep::SourceLost => Self::starting_anew(seen),
            _ if self.memory.lost.is_some() => wait(now),
            TargetStep::Preparing => self.preparing(seen),
            TargetStep::Started => self.started(now, seen, traffic, (committed, runs)),
            TargetStep::Arrived => self.arrived(now, seen),
        };
        self.memory.pace.keep(now, decision)
    }

    fn preparing(&mut self, seen: &Observation) -> MoveDecision {
        if seen.storage != Storage::Ready {
            return MoveDecision::act(MoveAction::CreateDisk);
        }
        self.step = TargetStep::Started;
        MoveDecision::act(MoveAction::StartWaiting).persisted()
    }

    fn lose(&mut self, now: Timestamp, reason: &str) -> MoveDecision {
        self.memory.lost = Some(reason.to_owned());
        wait(now)
    }

    fn started(
        &mut self,
        now: Timestamp,
        seen: &Observation,
        traffic: &Traffic,
        (committed, runs): (bool, bool),
    ) -> MoveDecision {
        let Process::Alive(monitor) = seen.process else {
            return self.lose(now, "the process that waited for the guest ended");
        };
        if monitor == Monitor::Detached {
            return MoveDecision::act(MoveAction::Adopt);
        }
        let status = traffic.stream.status;
        if status == StreamStatus::Completed && committed {
            self.step = TargetStep::Arrived;
            let runs = runs && !self.order.cold;
            let action = if runs { MoveAction::Cont } else { MoveAction::Nothing };
            let arrived = MoveDecision::act(action).persisted();
            return MoveDecision { deadline: Some(now), ..arrived };
        }
        if status == StreamStatus::Failed {
            let told = traffic.stream.error.as_deref().unwrap_or("the stream broke");
            return self.lose(now, told);
        }
        let waits = monitor == Monitor::Says(RunState::InMigrate);
        if waits && traffic.ports.is_none() {
            return MoveDecision::act(MoveAction::Listen);
        }
        wait(now)
    }

    fn arrived(&self, now: Timestamp, seen: &Observation) -> MoveDecision {
        let over = MoveDecision::over().persisted();
        match seen.process {
            Process::Gone => over,
            Process::Alive(Monitor::Detached) => MoveDecision::act(MoveAction::Adopt),
            // Its disk came; the memory of a machine that never ran is of no use.
            Process::Alive(_) if self.order.cold => MoveDecision::act(MoveAction::Kill),
            Process::Alive(Monitor::Silent) => wait(now),
            Process::Alive(Monitor::Says(_)) if self.memory.settled => over,
            Process::Alive(Monitor::Says(_)) => MoveDecision::act(MoveAction::Settle),
        }
    }

    /// What waited for the memory is ended, cleanly, so that the disk is as it was written; the
    /// record starts the guest then.
    fn starting_anew(seen: &Observation) -> MoveDecision {
        match seen.process {
            Process::Gone => MoveDecision::over().persisted(),
            Process::Alive(_) => MoveDecision::act(MoveAction::Quit),
        }
    }

    fn dropping(seen: &Observation) -> MoveDecision {
        match (seen.process, seen.storage) {
            (Process::Alive(_), _) => MoveDecision::act(MoveAction::Kill),
            (Process::Gone, Storage::Absent) => MoveDecision::over().persisted(),
            (Process::Gone, _) => MoveDecision::act(MoveAction::DeleteDisk),
        }
    }
}
