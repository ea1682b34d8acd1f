//! The side that a guest leaves.

use std::time::Duration;

use dwcp_types::{Epoch, MigrationId, Timestamp};
use serde::{Deserialize, Serialize};

use super::pace::{Pace, wait};
use super::{Mirror, MoveAction, MoveDecision, Ports, Stream, StreamStatus, Traffic};
use crate::{Monitor, Process, RunState};

/// Without progress for so long a move is given up: four times the longest pause that was
/// seen in a stream that went on by itself (a link cut for 4 s, HYPERVISOR.md section 2).
pub const STALL: Duration = Duration::from_secs(20);

/// What the source is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The move.
    pub id: MigrationId,
    /// The epoch that the VM leaves: that of its present owner.
    pub epoch: Epoch,
    /// Where the target waits: an address.
    pub address: String,
    /// At which ports.
    pub ports: Ports,
    /// The name that the target's certificate must bear.
    pub name: String,
    /// Most that memory may take of the link, in bytes a second.
    pub bandwidth: u64,
    /// The longest halt for the last pages, in milliseconds.
    pub downtime_ms: u64,
    /// Its guest is off, and only the disk moves.
    pub cold: bool,
}

/// How far a source is; on disk before what it allows is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceStep {
    /// The disk is being copied.
    Mirroring,
    /// The memory is being sent.
    Sending,
    /// Halted, and it stays so until the region has decided; the rest of the memory goes
    /// meanwhile. (Agents of before waited for the region's word, and called what followed
    /// `handing_over`.)
    #[serde(alias = "handing_over")]
    Promised,
    /// Given up, by the region or by itself.
    Abandoned {
        /// Why.
        reason: String,
    },
    /// The target had owned it, and ownership came back.
    TakingBack,
}

/// A source; what it remembers beside its order and step is about patience only.
#[derive(Clone, Debug)]
pub struct Source {
    order: Outgoing,
    step: SourceStep,
    memory: Memory,
}

#[derive(Clone, Debug, Default)]
struct Memory {
    /// What was undone by this agent; undoing twice does no harm.
    undone: bool,
    /// The last progress that was seen, and when.
    progress: Option<(u64, Timestamp)>,
    /// What broke after the promise.
    broken: Option<String>,
    traffic: Traffic,
    pace: Pace,
}

impl Source {
    /// A source that has done nothing yet.
    #[must_use]
    pub fn new(order: Outgoing) -> Self {
        Self::restore(order, SourceStep::Mirroring)
    }

    /// A source as an earlier agent left it.
    #[must_use]
    pub fn restore(order: Outgoing, step: SourceStep) -> Self {
        Self { order, step, memory: Memory::default() }
    }

    /// What it was told.
    #[must_use]
    pub const fn order(&self) -> &Outgoing {
        &self.order
    }

    /// How far it is.
    #[must_use]
    pub const fn step(&self) -> &SourceStep {
        &self.step
    }

    /// What it saw of memory and disk last.
    #[must_use]
    pub const fn traffic(&self) -> &Traffic {
        &self.memory.traffic
    }

    /// Whether the region may commit: promised, and nothing broke on the way since.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.step == SourceStep::Promised
            && self.memory.broken.is_none()
            && self.memory.traffic.stream.status.is_whole()
    }

    /// Why it cannot go on.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match &self.step {
            SourceStep::Abandoned { reason } => Some(reason),
            SourceStep::Mirroring
            | SourceStep::Sending
            | SourceStep::Promised
            | SourceStep::TakingBack => self.memory.broken.as_deref(),
        }
    }

    /// Whether it gave up and nothing of the move is left: only the reason is kept.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.step, SourceStep::Abandoned { .. }) && self.memory.undone
    }

    /// Whether the guest's halt is bound to the region's word.
    #[must_use]
    pub const fn is_bound(&self) -> bool {
        matches!(self.step, SourceStep::Promised)
    }

    pub(super) fn go(&mut self, step: SourceStep) {
        self.step = step;
        self.memory =
            Memory { traffic: self.memory.traffic.clone(), ..Memory::default() };
    }

    /// Gives the move up, unless it is promised.
    pub(super) fn abandon(&mut self, reason: &str) -> bool {
        let free = matches!(self.step, SourceStep::Mirroring | SourceStep::Sending);
        if free {
            self.go(SourceStep::Abandoned { reason: reason.to_owned() });
        }
        free
    }

    /// Takes note that the action of the last decision failed; says whether to write that.
    pub fn failed(&mut self, reason: &str) -> bool {
        if self.abandon(reason) {
            return true;
        }
        if self.is_bound() {
            self.memory.broken = Some(reason.to_owned());
        }
        false
    }

    /// Takes note that the action of the last decision was done.
    pub fn done(&mut self, action: MoveAction) {
        if action == MoveAction::Undo {
            self.memory.undone = true;
        }
    }

    /// Says what to do next. `may_run`: the lease of the host's region lets the CPUs run under
    /// the epoch that this host holds; a guest that comes back stays halted until it does.
    pub fn decide(
        &mut self,
        now: Timestamp,
        process: Process,
        traffic: &Traffic,
        may_run: bool,
    ) -> MoveDecision {
        let state = match process {
            Process::Alive(Monitor::Detached) => {
                return self.memory.pace.keep(now, MoveDecision::act(MoveAction::Adopt));
            }
            Process::Alive(Monitor::Silent) => return self.silent(now, may_run),
            Process::Alive(Monitor::Says(state)) => Some(state),
            Process::Gone => None,
        };
        self.memory.traffic = traffic.clone();
        let decision = match self.step.clone() {
            SourceStep::Mirroring => self.mirroring(now, state, traffic),
            SourceStep::Sending => self.sending(now, state, traffic),
            SourceStep::Promised => self.promised(now, state, traffic),
            SourceStep::Abandoned { .. } => self.undoing(state, traffic),
            SourceStep::TakingBack if !may_run => Self::held(now, state),
            SourceStep::TakingBack => self.undoing(state, traffic),
        };
        self.memory.pace.keep(now, decision)
    }

    fn give_up(&mut self, now: Timestamp, reason: &str) -> MoveDecision {
        self.abandon(reason);
        Self::again(now)
    }

    /// The step changed: write it and look again at once.
    fn again(now: Timestamp) -> MoveDecision {
        let deadline = Some(now);
        MoveDecision { deadline, ..MoveDecision::act(MoveAction::Nothing) }.persisted()
    }

    /// A monitor is silent while the last pages are sent, for as long as a line that is cut holds
    /// them up: what is called off then is cut loose without waiting for it.
    fn silent(&mut self, now: Timestamp, may_run: bool) -> MoveDecision {
        let off = match self.step {
            SourceStep::Abandoned { .. } => true,
            SourceStep::TakingBack => may_run,
            SourceStep::Mirroring | SourceStep::Sending | SourceStep::Promised => false,
        };
        if off {
            return self.memory.pace.keep(now, MoveDecision::act(MoveAction::Undo));
        }
        if self.is_stalled(now, u64::MAX) && self.abandon("the monitor does not answer") {
            return Self::again(now);
        }
        wait(now)
    }

    /// Whether this measure of progress stands still for too long.
    fn is_stalled(&mut self, now: Timestamp, progress: u64) -> bool {
        match self.memory.progress {
            Some((last, at)) if last == progress => now.since(at) >= STALL,
            _ => {
                self.memory.progress = Some((progress, now));
                false
            }
        }
    }

    fn mirroring(
        &mut self,
        now: Timestamp,
        state: Option<RunState>,
        traffic: &Traffic,
    ) -> MoveDecision {
        match state {
            None if self.order.cold => {
                return MoveDecision::act(MoveAction::StartHalted);
            }
            None => return self.give_up(now, "the guest's process ended"),
            Some(state) if is_off(state) => return self.give_up(now, "the guest is off"),
            Some(_) => {}
        }
        match traffic.mirror {
            None => MoveDecision::act(MoveAction::Mirror),
            Some(Mirror { sound: false, .. }) => {
                self.give_up(now, "a write to the copy of the disk failed")
            }
            Some(mirror) if mirror.ready => {
                self.go(SourceStep::Sending);
                MoveDecision::act(MoveAction::Send).persisted()
            }
            Some(mirror) if self.is_stalled(now, mirror.copied) => {
                self.give_up(now, "the copy of the disk made no progress for 20 s")
            }
            Some(_) => wait(now),
        }
    }

    fn sending(
        &mut self,
        now: Timestamp,
        state: Option<RunState>,
        traffic: &Traffic,
    ) -> MoveDecision {
        let Some(mirror) = traffic.mirror.filter(|_| state.is_some()) else {
            return self
                .give_up(now, "the guest's process or the copy of its disk ended");
        };
        let Stream { status, transferred, error, .. } = &traffic.stream;
        match status {
            StreamStatus::PreSwitchover if mirror.is_equal() => {
                self.go(SourceStep::Promised);
                Self::again(now)
            }
            StreamStatus::PreSwitchover => {
                self.give_up(now, "the disks were not equal when the guest was halted")
            }
            _ if !mirror.sound => {
                self.give_up(now, "a write to the copy of the disk failed")
            }
            StreamStatus::Setup | StreamStatus::Active => {
                if self.is_stalled(now, *transferred) {
                    return self.give_up(now, "the memory made no progress for 20 s");
                }
                wait(now)
            }
            StreamStatus::None
            | StreamStatus::Device
            | StreamStatus::Completed
            | StreamStatus::Failed
            | StreamStatus::Cancelling
            | StreamStatus::Cancelled
            | StreamStatus::Other => {
                let reason = error.as_deref().unwrap_or("the stream of memory ended");
                self.give_up(now, reason)
            }
        }
    }

    /// Sends the rest, whichever way the region decides: the target's CPUs start by its word
    /// only, and a guest that was sent can still run on here.
    fn promised(
        &mut self,
        now: Timestamp,
        state: Option<RunState>,
        traffic: &Traffic,
    ) -> MoveDecision {
        let status = traffic.stream.status;
        if state.is_none() || status.is_broken() {
            self.note_broken(traffic);
        } else if status == StreamStatus::PreSwitchover {
            let action = match traffic.mirror {
                Some(_) => MoveAction::EndMirror,
                None => MoveAction::Continue,
            };
            return MoveDecision::act(action);
        }
        Self::held(now, state)
    }

    /// A promise binds also when QEMU lets the guest go on by itself, as it does when a stream
    /// breaks: it is halted again.
    fn held(now: Timestamp, state: Option<RunState>) -> MoveDecision {
        if state == Some(RunState::Running) {
            return MoveDecision::act(MoveAction::Pause);
        }
        wait(now)
    }

    fn note_broken(&mut self, traffic: &Traffic) {
        let told = traffic.stream.error.as_deref();
        let reason = told.unwrap_or("the halted guest's process or its stream ended");
        self.memory.broken.get_or_insert_with(|| reason.to_owned());
    }

    fn undoing(&mut self, state: Option<RunState>, traffic: &Traffic) -> MoveDecision {
        // What was undone went with the process.
        self.memory.undone |= state.is_none();
        let left = traffic.stream.status.is_under_way() || traffic.mirror.is_some();
        if self.memory.undone && (state.is_none() || !left) {
            return MoveDecision::over();
        }
        MoveDecision::act(MoveAction::Undo)
    }
}

const fn is_off(state: RunState) -> bool {
    matches!(
        state,
        RunState::Shutdown | RunState::GuestPanicked | RunState::InternalError
    )
}
