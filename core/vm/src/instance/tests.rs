//! A model host beside the instance: transitions by table, then random histories with an
//! agent that dies before or after any action.

use std::time::Duration;

use dwcp_types::{Epoch, Generation};
use proptest::prelude::*;

use super::*;
use crate::GuestSpec;

fn instruction(generation: u64, power: Power) -> Instruction {
    Instruction {
        epoch: Epoch::FIRST,
        generation: Generation::new(generation),
        power,
        guest: GuestSpec::default(),
    }
}

const GONE: Process = Process::Gone;
const DETACHED: Process = Process::Alive(Monitor::Detached);
const SILENT: Process = Process::Alive(Monitor::Silent);

const fn says(state: RunState) -> Process {
    Process::Alive(Monitor::Says(state))
}

fn first_action(power: Power, storage: Storage, process: Process) -> Action {
    let mut instance = Instance::new(instruction(1, power));
    let seen = Observation { storage, process };
    let now = Timestamp::from_millis(1_000_000);
    instance.decide(now, &seen, &Policy::default()).action
}

#[test]
fn one_that_was_fenced_did_not_die_and_starts_at_once_when_it_may() {
    let mut instance = Instance::new(instruction(1, Power::Running));
    let now = Timestamp::from_millis(1_000_000);
    let policy = Policy::default();
    let runs = Observation { storage: Storage::Ready, process: says(RunState::Running) };
    let gone = Observation { storage: Storage::Ready, process: GONE };
    let _adopted = instance.decide(now, &runs, &policy);
    let mut died = instance.clone();
    instance.fenced();
    let decision = instance.decide(now, &gone, &policy);
    assert_eq!(decision.action, Action::Start { paused: false });
    assert_eq!(decision.notes, []);
    assert_eq!((instance.restarts(), instance.error()), (0, None));
    let decision = died.decide(now, &gone, &policy);
    assert_eq!((decision.action, died.restarts()), (Action::Nothing, 1), "{decision:?}");
}

/// It was here, left, and comes back under a later epoch by a move: until that is over nothing is
/// decided about it, and what is told meanwhile is not of its first stay.
#[test]
fn one_that_comes_back_to_a_host_has_nothing_of_the_life_that_ended_there() {
    let mut host = Host::new(Power::Running);
    host.settle();
    host.instruct(instruction(2, Power::Deleted));
    host.settle();
    assert!(host.instance.record().buried);
    host.instruct(Instruction { epoch: Epoch::new(9), ..instruction(1, Power::Running) });
    assert_eq!(host.instance.phase(), VmPhase::default());
}

#[test]
fn every_state_has_its_one_next_action() {
    use Action as A;
    use Power as P;
    use RunState as R;
    use Storage::{Absent, Partial, Ready};
    let kill = A::Kill { clean: false };
    let clean = A::Kill { clean: true };
    for (power, storage, process, expected) in [
        (P::Running, Absent, GONE, A::CreateDisk),
        (P::Running, Partial, GONE, A::CreateDisk),
        (P::Running, Ready, GONE, A::Start { paused: false }),
        (P::Running, Ready, DETACHED, A::Adopt),
        (P::Running, Ready, SILENT, A::Nothing),
        (P::Running, Ready, says(R::Running), A::Nothing),
        (P::Running, Ready, says(R::Suspended), A::Nothing),
        (P::Running, Ready, says(R::Other), A::Nothing),
        (P::Running, Ready, says(R::Paused), A::Cont),
        (P::Running, Ready, says(R::Prelaunch), A::Cont),
        (P::Running, Ready, says(R::Shutdown), clean),
        (P::Running, Ready, says(R::GuestPanicked), kill),
        (P::Running, Ready, says(R::InternalError), kill),
        (P::Paused, Ready, GONE, A::Start { paused: true }),
        (P::Paused, Ready, says(R::Running), A::Pause),
        (P::Paused, Ready, says(R::Paused), A::Nothing),
        (P::Paused, Ready, says(R::Prelaunch), A::Nothing),
        (P::Paused, Ready, says(R::Shutdown), clean),
        (P::Stopped, Absent, GONE, A::Nothing),
        (P::Stopped, Ready, GONE, A::Nothing),
        (P::Stopped, Ready, DETACHED, A::Adopt),
        (P::Stopped, Ready, SILENT, A::Nothing),
        (P::Stopped, Ready, says(R::Running), A::PowerDown),
        (P::Stopped, Ready, says(R::Paused), A::Cont),
        (P::Stopped, Ready, says(R::IoError), A::Cont),
        (P::Stopped, Ready, says(R::Prelaunch), kill),
        (P::Stopped, Ready, says(R::Shutdown), clean),
        (P::Stopped, Ready, says(R::GuestPanicked), kill),
        (P::Deleted, Ready, says(R::Running), kill),
        (P::Deleted, Ready, DETACHED, kill),
        (P::Deleted, Ready, GONE, A::DeleteDisk),
        (P::Deleted, Partial, GONE, A::DeleteDisk),
        (P::Deleted, Absent, GONE, A::Bury),
    ] {
        let action = first_action(power, storage, process);
        assert_eq!(action, expected, "{power:?} {storage:?} {process:?}");
    }
}

/// What a host does when it is told to: enough of QEMU to close the loop.
#[derive(Clone, Debug)]
struct Host {
    instance: Instance,
    now: Timestamp,
    policy: Policy,
    storage: Storage,
    process: Option<RunState>,
    attached: bool,
    /// The guest hears the power button.
    obedient: bool,
    starts: u32,
    notes: Vec<Note>,
    /// What is on disk: only what was persisted survives a crash.
    durable: Record,
}

impl Host {
    fn new(power: Power) -> Self {
        let instance = Instance::new(instruction(1, power));
        let durable = instance.record().clone();
        Self {
            instance,
            now: Timestamp::from_millis(1_000_000),
            policy: Policy::default(),
            storage: Storage::Absent,
            process: None,
            attached: false,
            obedient: true,
            starts: 0,
            notes: Vec::new(),
            durable,
        }
    }

    fn instruct(&mut self, instruction: Instruction) {
        if self.instance.accept(instruction) == Ok(Accepted::New) {
            self.durable = self.instance.record().clone();
        }
    }

    fn crash_agent(&mut self) {
        self.instance = Instance::restore(self.durable.clone());
        self.attached = false;
    }

    fn seen(&self) -> Observation {
        let process = match self.process {
            None => Process::Gone,
            Some(_) if !self.attached => DETACHED,
            Some(state) => says(state),
        };
        Observation { storage: self.storage, process }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.plus(span);
    }

    fn decide(&mut self) -> Decision {
        let seen = self.seen();
        let mut decision = self.instance.decide(self.now, &seen, &self.policy);
        if decision.persist {
            self.durable = self.instance.record().clone();
        }
        self.notes.append(&mut decision.notes);
        decision
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Nothing | Action::Bury => {}
            Action::CreateDisk => self.storage = Storage::Ready,
            Action::Start { paused } => {
                assert!(self.process.is_none(), "started twice");
                assert_eq!(self.storage, Storage::Ready, "started without a disk");
                self.starts += 1;
                self.attached = true;
                self.process =
                    Some(if paused { RunState::Prelaunch } else { RunState::Running });
            }
            Action::Adopt => self.attached = true,
            Action::Cont => self.process = Some(RunState::Running),
            Action::Pause => self.process = Some(RunState::Paused),
            Action::PowerDown if self.obedient => {
                self.process = Some(RunState::Shutdown);
            }
            Action::PowerDown => {}
            Action::Kill { .. } => self.end_process(),
            Action::DeleteDisk => {
                assert!(self.process.is_none(), "deleted under a living guest");
                self.storage = Storage::Absent;
            }
        }
    }

    fn end_process(&mut self) {
        self.process = None;
        self.attached = false;
    }

    /// Decides and acts, letting time pass to each deadline, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..200 {
            let decision = self.decide();
            self.perform(decision.action);
            match (decision.action, decision.deadline) {
                (Action::Nothing, None) => return,
                (Action::Nothing, Some(deadline)) => {
                    assert!(deadline > self.now, "a deadline that is over already");
                    self.now = deadline;
                }
                _ => {}
            }
        }
        panic!("it does not come to rest: {self:?}");
    }

    fn is_as_wanted(&self) -> bool {
        let phase = self.instance.phase();
        match self.instance.record().instruction.power {
            _ if self.instance.record().buried => {
                self.process.is_none() && self.storage == Storage::Absent
            }
            Power::Running | Power::Paused if self.instance.record().halted => {
                self.process.is_none() && phase == VmPhase::Stopped
            }
            Power::Running => {
                self.process == Some(RunState::Running) && phase == VmPhase::Running
            }
            Power::Paused => {
                matches!(self.process, Some(RunState::Paused | RunState::Prelaunch))
                    && phase == VmPhase::Paused
            }
            Power::Stopped => self.process.is_none() && phase == VmPhase::Stopped,
            Power::Deleted => false,
        }
    }
}

#[test]
fn a_guest_is_made_started_and_left_alone() {
    let mut host = Host::new(Power::Running);
    host.settle();
    assert!(host.is_as_wanted() && host.starts == 1);
    assert_eq!(host.decide().action, Action::Nothing);
}

#[test]
fn a_guest_that_dies_is_started_again_later_each_time() {
    let mut host = Host::new(Power::Running);
    host.settle();
    let mut waits = Vec::new();
    for _ in 0..9 {
        host.end_process();
        let died_at = host.now;
        while host.process.is_none() {
            let decision = host.decide();
            host.perform(decision.action);
            if let (Action::Nothing, Some(deadline)) =
                (decision.action, decision.deadline)
            {
                assert_eq!(host.instance.phase(), VmPhase::Failed);
                host.now = deadline;
            }
        }
        waits.push(host.now.since(died_at).as_secs());
        host.decide();
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(host.instance.restarts(), 9);
    host.settle();
    host.end_process();
    let died_at = host.now;
    host.settle();
    assert!(host.now.since(died_at) >= Duration::from_secs(1));
    assert!(host.is_as_wanted(), "and after a stable minute the wait is short again");
}

#[test]
fn a_guest_that_shuts_itself_down_stays_down_even_over_a_restart_of_the_agent() {
    let mut host = Host::new(Power::Running);
    host.settle();
    host.process = Some(RunState::Shutdown);
    host.crash_agent();
    host.settle();
    assert_eq!(host.instance.phase(), VmPhase::Stopped);
    assert!(host.notes.contains(&Note::GuestPoweredOff));
    host.crash_agent();
    host.settle();
    assert_eq!((host.starts, host.process), (1, None));
    host.instruct(instruction(2, Power::Running));
    host.settle();
    assert_eq!((host.starts, host.process), (2, Some(RunState::Running)));
}

#[test]
fn a_shutdown_that_the_host_asked_for_is_not_the_guests_wish() {
    let mut host = Host::new(Power::Running);
    host.settle();
    host.instruct(instruction(2, Power::Stopped));
    let decision = host.decide();
    assert!(decision.persist && decision.action == Action::PowerDown);
    host.perform(decision.action);
    host.crash_agent();
    host.instruct(instruction(3, Power::Running));
    host.settle();
    assert_eq!((host.starts, host.process), (2, Some(RunState::Running)));
}

#[test]
fn a_start_that_arrives_while_a_halted_guest_is_cleared_away_is_obeyed() {
    let mut host = Host::new(Power::Running);
    host.settle();
    host.process = Some(RunState::Shutdown);
    assert_eq!(host.decide().action, Action::Kill { clean: true });
    host.instruct(instruction(2, Power::Running));
    host.settle();
    assert_eq!((host.starts, host.process), (2, Some(RunState::Running)));
}

#[test]
fn a_late_answer_to_a_button_that_was_taken_back_is_not_the_guests_wish() {
    let mut host = Host::new(Power::Running);
    host.obedient = false;
    host.settle();
    host.pass(Duration::from_hours(1));
    host.decide();
    host.instruct(instruction(2, Power::Stopped));
    assert_eq!(host.decide().action, Action::PowerDown);
    host.instruct(instruction(3, Power::Running));
    host.decide();
    host.process = Some(RunState::Shutdown);
    host.settle();
    assert_eq!((host.starts, host.process), (2, Some(RunState::Running)));

    host.settle();
    host.pass(host.policy.stable_after);
    host.decide();
    host.process = Some(RunState::Shutdown);
    host.settle();
    assert_eq!((host.starts, host.process), (2, None), "but this one is its own");
}

#[test]
fn a_deaf_guest_is_killed_when_the_grace_is_over() {
    let mut host = Host::new(Power::Running);
    host.obedient = false;
    host.settle();
    host.instruct(instruction(2, Power::Stopped));
    let asked_at = host.now;
    host.settle();
    assert_eq!(host.now.since(asked_at), host.policy.grace);
    assert!(host.is_as_wanted() && host.notes.contains(&Note::GraceOver));
}

#[test]
fn a_failed_start_is_told_and_tried_again_with_patience() {
    let mut host = Host::new(Power::Running);
    host.storage = Storage::Ready;
    assert_eq!(host.decide().action, Action::Start { paused: false });
    host.instance.failed(host.now, "the image is missing", &host.policy);
    assert_eq!(host.instance.phase(), VmPhase::Failed);
    assert_eq!(host.instance.error(), Some("the image is missing"));
    let decision = host.decide();
    assert_eq!(decision.action, Action::Nothing);
    assert_eq!(decision.deadline, Some(host.now.plus(Duration::from_secs(1))));
    host.settle();
    assert!(host.is_as_wanted() && host.instance.error().is_none());
}

#[test]
fn a_halted_disk_is_tried_again_and_each_time_later() {
    let mut host = Host::new(Power::Running);
    host.settle();
    for wait in [1, 2, 4] {
        host.process = Some(RunState::IoError);
        let decision = host.decide();
        let due = host.now.plus(Duration::from_secs(wait));
        assert_eq!((decision.action, decision.deadline), (Action::Nothing, Some(due)));
        assert_eq!(host.instance.phase(), VmPhase::Failed);
        host.now = due;
        let decision = host.decide();
        assert_eq!(decision.action, Action::Cont);
        host.perform(decision.action);
        host.decide();
        assert_eq!(host.instance.phase(), VmPhase::Running);
    }
}

#[test]
fn a_silent_monitor_is_told_once_and_its_guest_is_not_touched() {
    let mut instance = Instance::new(instruction(1, Power::Running));
    let seen = Observation { storage: Storage::Ready, process: SILENT };
    let policy = Policy::default();
    let mut now = Timestamp::from_millis(1_000_000);
    let mut told = 0;
    for _ in 0..100 {
        let decision = instance.decide(now, &seen, &policy);
        assert_eq!(decision.action, Action::Nothing);
        told += decision.notes.len();
        now = now.plus(Duration::from_secs(5));
    }
    assert_eq!((told, instance.phase()), (1, VmPhase::Unknown));
}

#[test]
fn a_monitor_that_cannot_be_reached_does_not_save_a_guest_from_being_stopped() {
    let mut instance = Instance::new(instruction(1, Power::Stopped));
    let seen = Observation { storage: Storage::Ready, process: DETACHED };
    let policy = Policy::default();
    let started = Timestamp::from_millis(1_000_000);
    let mut now = started;
    loop {
        let decision = instance.decide(now, &seen, &policy);
        if decision.action == (Action::Kill { clean: false }) {
            break;
        } else if decision.action == Action::Adopt {
            instance.failed(now, "connection refused", &policy);
        } else {
            assert_eq!(decision.action, Action::Nothing);
            now = decision.deadline.expect("a deadline");
        }
    }
    assert_eq!(now.since(started), policy.grace);
}

#[test]
fn an_agent_that_dies_before_or_after_any_step_of_a_life_comes_to_the_same_end() {
    for (storage, process, power) in [
        (Storage::Absent, None, Power::Running),
        (Storage::Absent, None, Power::Paused),
        (Storage::Ready, Some(RunState::Running), Power::Stopped),
        (Storage::Ready, Some(RunState::Paused), Power::Stopped),
        (Storage::Ready, Some(RunState::Running), Power::Deleted),
    ] {
        for crash_at in 0..8 {
            for done_first in [false, true] {
                let mut host = Host::new(power);
                (host.storage, host.process) = (storage, process);
                for step in 0..20 {
                    let decision = host.decide();
                    if step == crash_at {
                        if done_first {
                            host.perform(decision.action);
                        }
                        host.crash_agent();
                        continue;
                    }
                    host.perform(decision.action);
                }
                host.settle();
                assert!(
                    host.is_as_wanted(),
                    "{power:?} {crash_at} {done_first} {host:?}"
                );
                assert!(host.starts <= 1, "started twice");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Instruct(Power),
    GuestDies,
    GuestPowersOff,
    GuestPanics,
    DiskFull,
    AgentDies,
    AgentDiesAfterActing,
    ActionFails,
    Step,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let power = prop::sample::select(vec![Power::Running, Power::Paused, Power::Stopped]);
    prop_oneof![
        2 => power.prop_map(Event::Instruct),
        1 => Just(Event::GuestDies),
        1 => Just(Event::GuestPowersOff),
        1 => Just(Event::GuestPanics),
        1 => Just(Event::DiskFull),
        2 => Just(Event::AgentDies),
        2 => Just(Event::AgentDiesAfterActing),
        1 => Just(Event::ActionFails),
        8 => Just(Event::Step),
        2 => (0..90u64).prop_map(Event::Wait),
    ]
}

impl Host {
    fn apply(&mut self, event: &Event, generation: u64) {
        match event {
            Event::Instruct(power) => self.instruct(instruction(generation, *power)),
            Event::GuestDies => self.end_process(),
            Event::GuestPowersOff => self.turn_into(RunState::Shutdown),
            Event::GuestPanics => self.turn_into(RunState::GuestPanicked),
            Event::DiskFull => self.turn_into(RunState::IoError),
            Event::AgentDies => {
                self.decide();
                self.crash_agent();
            }
            Event::AgentDiesAfterActing => {
                let action = self.decide().action;
                self.perform(action);
                self.crash_agent();
            }
            Event::ActionFails => {
                if self.decide().action != Action::Nothing {
                    self.instance.failed(self.now, "no", &self.policy.clone());
                }
            }
            Event::Step => {
                let action = self.decide().action;
                self.perform(action);
            }
            Event::Wait(seconds) => self.pass(Duration::from_secs(*seconds)),
        }
    }

    fn turn_into(&mut self, state: RunState) {
        if self.process == Some(RunState::Running) {
            self.process = Some(state);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// `Host::perform` asserts that nothing is started twice and no disk is deleted under a
    /// living guest; here the history ends and the host must come to what is wanted.
    #[test]
    fn any_history_ends_as_wanted(events in prop::collection::vec(event(), 0..60)) {
        let mut host = Host::new(Power::Running);
        for (at, event) in events.iter().enumerate() {
            host.apply(event, at as u64 + 2);
        }
        host.settle();
        prop_assert!(host.is_as_wanted(), "{:?}", host);
        let generation = events.len() as u64 + 2;
        host.instruct(instruction(generation, Power::Deleted));
        host.settle();
        prop_assert!(host.instance.record().buried && host.is_as_wanted());
    }
}
