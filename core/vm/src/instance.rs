//! One VM on one host: what to do next, given what is wanted and what is seen.
//!
//! ```text
//!                       CreateDisk          Start
//!   wanted Running:  Absent ─────▶ disk ─────────▶ process ──▶ Running ◀──Cont── Paused
//!                                   ▲                │  │
//!          backoff 1 s, 2 s … 1 min └── died ◀───────┘  └─ guest powered off ─▶ Kill(clean)
//!                                                            └▶ halted: Stopped, not restarted
//!   wanted Paused:   the same with Start(paused), and Pause when it runs
//!   wanted Stopped:  process ─PowerDown, again each 3 s─▶ guest powers off ─▶ Kill(clean)
//!                          └──────── grace is over ─────────────────────────▶ Kill
//!   wanted Deleted:  process ─Kill─▶ DeleteDisk ─▶ Bury: only the tombstone is left
//!   any process nobody is connected to: Adopt first
//! ```
//!
//! It is level-triggered: [`Instance::decide`] looks at an observation, not at what happened
//! since the last one, and yields ONE action. What must survive the agent is in the
//! [`Record`] and is written before the action (`Decision::persist`); all else (backoff,
//! grace) starts anew after a restart of the agent, which costs patience and never safety.
//! `Start` is decided only when no process is seen; the kernel's locks on the pid file and
//! the disk image close the gap between seeing and starting. A queue of pending actions was
//! rejected: after a crash nobody knows how much of it was done.

use dwcp_types::{Power, Timestamp, VmPhase};

use crate::{
    Accepted, Instruction, Monitor, Observation, Policy, Process, Record, Refused,
    RunState, Storage,
};

/// The single next thing to do about a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until the deadline or a new observation.
    Nothing,
    /// Make its disk.
    CreateDisk,
    /// Start its process.
    Start {
        /// Load it and leave its CPUs halted.
        paused: bool,
    },
    /// Connect to the monitor of the process that is there.
    Adopt,
    /// Let its CPUs run.
    Cont,
    /// Halt its CPUs.
    Pause,
    /// Press its power button.
    PowerDown,
    /// End its process.
    Kill {
        /// The guest is off already: let the process close its files.
        clean: bool,
    },
    /// Remove its disk and folder.
    DeleteDisk,
    /// Nothing is left of it: keep the record as a tombstone only.
    Bury,
}

/// Something worth telling the VM's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A process that was there before the agent is under its control again.
    Adopted,
    /// Its process ended without being asked to.
    Died,
    /// The guest shut itself down; it stays down until the next instruction.
    GuestPoweredOff,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// The accelerator gave up.
    InternalError,
    /// A write to its disk failed; it is halted and tried again.
    DiskError,
    /// It did not shut down within the grace and is killed.
    GraceOver,
    /// Its monitor does not answer.
    MonitorSilent,
}

impl Note {
    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Adopted => "adopted: the guest ran on while the agent was away",
            Self::Died => "the guest's process ended by itself",
            Self::GuestPoweredOff => {
                "the guest shut itself down; start it to run it again"
            }
            Self::GuestPanicked => "the guest's kernel panicked",
            Self::InternalError => "the accelerator gave up (QEMU internal error)",
            Self::DiskError => "a write to the disk failed; is the host's disk full?",
            Self::GraceOver => "the guest did not shut down in time and is killed",
            Self::MonitorSilent => "the monitor does not answer",
        }
    }
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The action.
    pub action: Action,
    /// When to decide again if nothing is observed before; nothing means no hurry.
    pub deadline: Option<Timestamp>,
    /// The record changed: write it before the action.
    pub persist: bool,
    /// What to tell.
    pub notes: Vec<Note>,
}

/// One VM on one host.
#[derive(Clone, Debug)]
pub struct Instance {
    record: Record,
    memory: Memory,
}

/// What may be forgotten with the agent.
#[derive(Clone, Debug, Default)]
struct Memory {
    phase: VmPhase,
    /// A process was started or seen and not asked to end.
    alive: bool,
    running_since: Option<Timestamp>,
    failures: u32,
    restarts: u32,
    retry_at: Option<Timestamp>,
    grace_until: Option<Timestamp>,
    press_at: Option<Timestamp>,
    last: Option<(Action, Timestamp)>,
    told: Option<Note>,
    error: Option<String>,
}

impl Instance {
    /// A VM that this host was just told about.
    #[must_use]
    pub fn new(instruction: Instruction) -> Self {
        Self::restore(Record::new(instruction))
    }

    /// A VM from the record that an earlier agent left.
    #[must_use]
    pub fn restore(record: Record) -> Self {
        Self { record, memory: Memory::default() }
    }

    /// What must be kept on disk.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// The state to report.
    #[must_use]
    pub const fn phase(&self) -> VmPhase {
        self.memory.phase
    }

    /// How often it was started again after it died, since the agent is there.
    #[must_use]
    pub const fn restarts(&self) -> u32 {
        self.memory.restarts
    }

    /// The last failure, until the VM is in order again.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.memory.error.as_deref()
    }

    /// Takes an instruction, or says why not. What is not [`Accepted::Same`] must be persisted
    /// before it is acknowledged or acted on.
    ///
    /// # Errors
    ///
    /// The reason, when it is older than the one in force or clashes with it.
    pub fn accept(&mut self, instruction: Instruction) -> Result<Accepted, Refused> {
        let accepted = self.record.judge(&instruction)?;
        if accepted == Accepted::New {
            let Record { halted, shutdown_expected, buried, .. } = self.record;
            self.record = Record {
                // A guest that is off by an earlier wish must not be read as off by its own.
                shutdown_expected: (shutdown_expected || halted) && !buried,
                ..Record::new(instruction)
            };
            // One that comes back to a host has nothing of the life that ended there.
            let before =
                if buried { Memory::default() } else { std::mem::take(&mut self.memory) };
            let Memory { phase, alive, restarts, running_since, .. } = before;
            self.memory =
                Memory { phase, alive, restarts, running_since, ..Memory::default() };
        } else if accepted == Accepted::Rebound {
            // Its guest does not notice.
            self.record.instruction = instruction;
        }
        Ok(accepted)
    }

    /// Says what to do next.
    #[must_use]
    pub fn decide(
        &mut self,
        now: Timestamp,
        seen: &Observation,
        policy: &Policy,
    ) -> Decision {
        let mut turn = Turn { now, seen, policy, persist: false, notes: Vec::new() };
        let (action, deadline) = if self.record.buried {
            (Action::Nothing, None)
        } else {
            match self.record.instruction.power {
                Power::Running => self.run(false, &mut turn),
                Power::Paused => self.run(true, &mut turn),
                Power::Stopped => self.stop(&mut turn),
                Power::Deleted => self.delete(&mut turn),
            }
        };
        let (action, deadline) = self.paced(action, deadline, &turn);
        if action == Action::Bury {
            self.record.buried = true;
            turn.persist = true;
        }
        if let Action::Start { .. } = action {
            self.memory.alive = true;
            self.memory.phase = VmPhase::Starting;
        }
        Decision { action, deadline, persist: turn.persist, notes: turn.notes }
    }

    /// Takes note that the action of the last decision failed.
    pub fn failed(&mut self, now: Timestamp, reason: &str, policy: &Policy) {
        let memory = &mut self.memory;
        if let Some((Action::Start { .. } | Action::CreateDisk, _)) = memory.last {
            memory.alive = false;
            memory.phase = VmPhase::Failed;
        }
        memory.error = Some(reason.to_owned());
        memory.last = None;
        self.back_off(now, policy);
    }

    /// Takes note that its process was ended from outside because it must not run (F4): it did not
    /// die, and is started again at once when it may.
    pub fn fenced(&mut self) {
        let memory = &mut self.memory;
        memory.alive = false;
        memory.running_since = None;
        memory.last = None;
        memory.phase = VmPhase::Starting;
    }

    fn back_off(&mut self, now: Timestamp, policy: &Policy) {
        let memory = &mut self.memory;
        memory.failures = memory.failures.saturating_add(1);
        memory.retry_at = Some(now.plus(policy.backoff(memory.failures)));
    }

    /// Holds an action back while a failed one waits, and one that was just done and changed
    /// nothing: a decision is never repeated in a hot loop.
    fn paced(
        &mut self,
        action: Action,
        deadline: Option<Timestamp>,
        turn: &Turn<'_>,
    ) -> (Action, Option<Timestamp>) {
        if action == Action::Nothing {
            return (action, deadline);
        }
        if let Some(retry_at) = self.memory.retry_at
            && retry_at > turn.now
        {
            let wake = deadline.map_or(retry_at, |deadline| deadline.min(retry_at));
            return (Action::Nothing, Some(wake));
        }
        if let Some((last, at)) = self.memory.last
            && last == action
        {
            let again = at.plus(turn.policy.repeat_after);
            if again > turn.now {
                return (Action::Nothing, Some(again));
            }
        }
        self.memory.last = Some((action, turn.now));
        (action, deadline)
    }

    /// ## wanted Running or Paused
    fn run(&mut self, paused: bool, turn: &mut Turn<'_>) -> (Action, Option<Timestamp>) {
        match turn.seen.process {
            Process::Gone => self.run_gone(paused, turn),
            Process::Alive(Monitor::Detached) => (Action::Adopt, None),
            Process::Alive(Monitor::Silent) => {
                self.memory.alive = true;
                self.memory.phase = VmPhase::Unknown;
                self.tell_once(Note::MonitorSilent, turn);
                (Action::Nothing, Some(turn.now.plus(turn.policy.repeat_after)))
            }
            Process::Alive(Monitor::Says(state)) => {
                self.note_adoption(turn);
                self.run_alive(paused, state, turn)
            }
        }
    }

    fn run_gone(
        &mut self,
        paused: bool,
        turn: &mut Turn<'_>,
    ) -> (Action, Option<Timestamp>) {
        self.memory.running_since = None;
        if self.record.shutdown_expected {
            self.record.shutdown_expected = false;
            self.memory.alive = false;
            turn.persist = true;
        }
        if self.record.halted {
            self.memory.alive = false;
            self.memory.phase = VmPhase::Stopped;
            return (Action::Nothing, None);
        }
        if self.memory.alive {
            self.memory.alive = false;
            self.memory.last = None;
            self.memory.phase = VmPhase::Failed;
            self.memory.restarts = self.memory.restarts.saturating_add(1);
            if self.memory.error.is_none() {
                self.memory.error = Some(Note::Died.text().to_owned());
            }
            self.back_off(turn.now, turn.policy);
            turn.notes.push(Note::Died);
        }
        match turn.seen.storage {
            Storage::Ready => (Action::Start { paused }, None),
            Storage::Absent | Storage::Partial => {
                if self.memory.phase != VmPhase::Failed {
                    self.memory.phase = VmPhase::Starting;
                }
                (Action::CreateDisk, None)
            }
        }
    }

    fn run_alive(
        &mut self,
        paused: bool,
        state: RunState,
        turn: &mut Turn<'_>,
    ) -> (Action, Option<Timestamp>) {
        match state {
            RunState::Running | RunState::Suspended if paused => (Action::Pause, None),
            RunState::Running | RunState::Suspended => self.run_well(turn),
            // After a move that was given up it is halted if it was halted before.
            RunState::Paused | RunState::Prelaunch | RunState::PostMigrate if paused => {
                self.in_order(VmPhase::Paused)
            }
            RunState::Paused | RunState::Prelaunch | RunState::PostMigrate => {
                (Action::Cont, None)
            }
            RunState::Shutdown => self.run_shut_down(turn),
            RunState::GuestPanicked => self.broken(Note::GuestPanicked, turn),
            RunState::InternalError => self.broken(Note::InternalError, turn),
            RunState::IoError => {
                self.memory.phase = VmPhase::Failed;
                self.memory.error = Some(Note::DiskError.text().to_owned());
                if self.memory.retry_at.is_none() {
                    self.back_off(turn.now, turn.policy);
                    turn.notes.push(Note::DiskError);
                }
                (Action::Cont, None)
            }
            RunState::InMigrate | RunState::FinishMigrate | RunState::Other => {
                (Action::Nothing, Some(turn.now.plus(turn.policy.repeat_after)))
            }
        }
    }

    fn run_well(&mut self, turn: &mut Turn<'_>) -> (Action, Option<Timestamp>) {
        let since = *self.memory.running_since.get_or_insert(turn.now);
        let stable_at = since.plus(turn.policy.stable_after);
        let nothing = self.in_order(VmPhase::Running);
        if stable_at > turn.now {
            let waits = self.memory.failures > 0 || self.record.shutdown_expected;
            return (Action::Nothing, waits.then_some(stable_at));
        }
        self.memory.failures = 0;
        // The button of an earlier instruction had its effect long ago, or has none.
        if self.record.shutdown_expected {
            self.record.shutdown_expected = false;
            turn.persist = true;
        }
        nothing
    }

    fn in_order(&mut self, phase: VmPhase) -> (Action, Option<Timestamp>) {
        self.memory.phase = phase;
        self.memory.error = None;
        self.memory.told = None;
        self.memory.retry_at = None;
        (Action::Nothing, None)
    }

    fn run_shut_down(&mut self, turn: &mut Turn<'_>) -> (Action, Option<Timestamp>) {
        if !self.record.shutdown_expected && !self.record.halted {
            self.record.halted = true;
            turn.persist = true;
            turn.notes.push(Note::GuestPoweredOff);
        }
        self.memory.phase = VmPhase::Stopping;
        (Action::Kill { clean: true }, None)
    }

    fn broken(&mut self, note: Note, turn: &mut Turn<'_>) -> (Action, Option<Timestamp>) {
        self.memory.phase = VmPhase::Failed;
        self.memory.error = Some(note.text().to_owned());
        self.tell_once(note, turn);
        (Action::Kill { clean: false }, None)
    }

    fn note_adoption(&mut self, turn: &mut Turn<'_>) {
        if !self.memory.alive {
            self.memory.alive = true;
            turn.notes.push(Note::Adopted);
        }
    }

    fn tell_once(&mut self, note: Note, turn: &mut Turn<'_>) {
        if self.memory.told != Some(note) {
            self.memory.told = Some(note);
            turn.notes.push(note);
        }
    }

    /// ## wanted Stopped
    fn stop(&mut self, turn: &mut Turn<'_>) -> (Action, Option<Timestamp>) {
        let Process::Alive(monitor) = turn.seen.process else {
            if self.record.shutdown_expected {
                self.record.shutdown_expected = false;
                turn.persist = true;
            }
            let Memory { restarts, .. } = self.memory;
            let phase = VmPhase::Stopped;
            self.memory = Memory { phase, restarts, ..Memory::default() };
            return (Action::Nothing, None);
        };
        if !self.record.shutdown_expected {
            self.record.shutdown_expected = true;
            turn.persist = true;
        }
        self.memory.phase = VmPhase::Stopping;
        self.memory.alive = true;
        self.memory.running_since = None;
        let grace = turn.now.plus(turn.policy.grace);
        let grace_until = *self.memory.grace_until.get_or_insert(grace);
        match monitor {
            Monitor::Says(RunState::Shutdown) => (Action::Kill { clean: true }, None),
            Monitor::Says(
                RunState::Prelaunch | RunState::InternalError | RunState::GuestPanicked,
            ) => (Action::Kill { clean: false }, None),
            _ if grace_until <= turn.now => {
                self.tell_once(Note::GraceOver, turn);
                self.memory.retry_at = None;
                (Action::Kill { clean: false }, None)
            }
            Monitor::Detached => (Action::Adopt, Some(grace_until)),
            // A halted guest cannot hear the button.
            Monitor::Says(
                RunState::Paused | RunState::PostMigrate | RunState::IoError,
            ) => (Action::Cont, Some(grace_until)),
            Monitor::Says(RunState::Running | RunState::Suspended) => {
                self.press(turn, grace_until)
            }
            Monitor::Silent
            | Monitor::Says(
                RunState::InMigrate | RunState::FinishMigrate | RunState::Other,
            ) => (Action::Nothing, Some(grace_until)),
        }
    }

    fn press(
        &mut self,
        turn: &Turn<'_>,
        grace_until: Timestamp,
    ) -> (Action, Option<Timestamp>) {
        if let Some(press_at) = self.memory.press_at
            && press_at > turn.now
        {
            return (Action::Nothing, Some(press_at.min(grace_until)));
        }
        let again = turn.now.plus(turn.policy.press_again);
        self.memory.press_at = Some(again);
        (Action::PowerDown, Some(again.min(grace_until)))
    }

    /// ## wanted Deleted
    fn delete(&mut self, turn: &mut Turn<'_>) -> (Action, Option<Timestamp>) {
        self.memory.phase = VmPhase::Stopping;
        match (turn.seen.process, turn.seen.storage) {
            (Process::Alive(_), _) => (Action::Kill { clean: false }, None),
            (Process::Gone, Storage::Absent) => (Action::Bury, None),
            (Process::Gone, _) => (Action::DeleteDisk, None),
        }
    }
}

/// What one decision is taken on, and what comes out beside the action.
struct Turn<'a> {
    now: Timestamp,
    seen: &'a Observation,
    policy: &'a Policy,
    persist: bool,
    notes: Vec<Note>,
}

#[cfg(test)]
mod tests;
