//! Every order of events of one move, by brute force: two hosts with a model of QEMU each, a
//! region that decides, agents that die before and after each action, processes and links that
//! fail. In every state at most one guest runs; from every state, when nothing fails any more,
//! exactly one comes to run and the other side holds nothing.
//!
//! The model of the region is the protocol in its shortest form; the region's own workflow
//! must keep to the same order.

#![allow(clippy::wildcard_enum_match_arm, reason = "a model names what it models")]
#![allow(clippy::struct_excessive_bools, reason = "facts about the world")]

use std::collections::{BTreeSet, VecDeque};

use dwcp_types::{Epoch, Generation, MigrationId, Power};

use super::*;
use crate::{
    Accelerator, Given, GuestSpec, Instruction, Monitor, Observation, Process, Record,
    RunState, Storage,
};

/// What a process is at, in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Qemu {
    Gone,
    Running,
    Halted,
    Waiting,
}

/// Where the region stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Region {
    Moving,
    Abandoning,
    Committed,
    /// The target said that the guest never ran there: ownership is back.
    TakenBack,
}

/// The whole world; what the agents remember only in memory is left out, as if each of them
/// died after each step. That is the harshest case: memory is about patience.
#[derive(Clone, Debug, PartialEq, Eq)]
struct World {
    source: Qemu,
    stream: StreamStatus,
    mirror: bool,
    target: Qemu,
    arriving: StreamStatus,
    listens: bool,
    disk: bool,
    source_record: Record,
    out: Option<Moving>,
    target_record: Option<Record>,
    into: Option<Moving>,
    region: Region,
    linked: bool,
    faults: u8,
    /// Where the guest's memory is after the switch; never in two places.
    ran_at_target: bool,
    /// The source's region is lost, and fenced: nothing runs there, nobody can be told anything.
    lost: bool,
    /// The guest is halted before its memory is sent, and nothing but its agent lets it go on.
    emulated: bool,
}

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn instruction(epoch: u64, power: Power) -> Instruction {
    Instruction {
        epoch: Epoch::new(epoch),
        generation: Generation::FIRST,
        power,
        guest: GuestSpec::default(),
    }
}

fn id() -> MigrationId {
    MigrationId::new("m").unwrap()
}

fn outgoing() -> Outgoing {
    Outgoing {
        id: id(),
        epoch: Epoch::new(1),
        address: "127.0.0.1".to_owned(),
        ports: Ports { disk: 1, memory: 2 },
        name: "host-b".to_owned(),
        bandwidth: 1,
        downtime_ms: 300,
        cold: false,
    }
}

fn incoming() -> Incoming {
    let given = Given { cpu: 1, memory: dwcp_types::Mib::new(96) };
    Incoming {
        id: id(),
        epoch: Epoch::new(2),
        guest: GuestSpec::default(),
        machine: Machine { accelerator: Some(Accelerator::Tcg), given, wired: true },
        from: "CN=a".to_owned(),
        cold: false,
    }
}

impl World {
    fn new(emulated: bool) -> Self {
        Self {
            emulated,
            source: Qemu::Running,
            stream: StreamStatus::None,
            mirror: false,
            target: Qemu::Gone,
            arriving: StreamStatus::None,
            listens: false,
            disk: false,
            source_record: Record::new(instruction(1, Power::Running)),
            out: None,
            target_record: None,
            into: None,
            region: Region::Moving,
            linked: true,
            faults: 0,
            ran_at_target: false,
            lost: false,
        }
    }

    fn key(&self) -> String {
        format!("{self:?}")
    }

    /// What can happen next: each step of the region, each agent's turn with or without its
    /// action, what QEMU does by itself, and, while there may be faults, what fails.
    fn next(&self, faults_max: u8) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |world: Option<Self>| all.extend(world.filter(|it| it != self));
        add(self.region_step());
        add(self.source_turn(true));
        add(self.target_turn(true));
        add(self.by_itself());
        if self.faults < faults_max {
            for fault in [
                Self::cut,
                Self::source_dies,
                Self::source_is_lost,
                Self::target_dies,
                Self::region_gives_up,
                // The agent wrote its step and died before the action.
                |world: &Self| world.source_turn(false),
                |world: &Self| world.target_turn(false),
            ] {
                add(fault(self).map(|world| Self { faults: self.faults + 1, ..world }));
            }
        }
        all
    }

    fn cut(&self) -> Option<Self> {
        self.linked.then(|| Self { linked: false, ..self.clone() }.torn())
    }

    /// A stream whose other end is gone fails; QEMU then lets its guest go on by itself.
    fn torn(mut self) -> Self {
        if self.stream.is_under_way() {
            if self.stream != StreamStatus::PreSwitchover {
                self.stream = StreamStatus::Failed;
                if self.source == Qemu::Halted && !self.emulated {
                    self.source = Qemu::Running;
                }
            }
            if self.target == Qemu::Waiting {
                self.arriving = StreamStatus::Failed;
                self.target = Qemu::Gone;
            }
        }
        self
    }

    fn source_dies(&self) -> Option<Self> {
        let world = Self { source: Qemu::Gone, mirror: false, ..self.clone() };
        // The region does not take back what is lost; the guest is started again from disk.
        (self.source != Qemu::Gone).then(|| world.torn()).map(|mut world| {
            world.stream = StreamStatus::None;
            world
        })
    }

    /// In silence: the target's process hears of no end of the stream and waits.
    fn source_is_lost(&self) -> Option<Self> {
        (!self.lost).then(|| Self {
            lost: true,
            linked: false,
            source: Qemu::Gone,
            mirror: false,
            stream: StreamStatus::None,
            ..self.clone()
        })
    }

    fn target_dies(&self) -> Option<Self> {
        let world = Self { target: Qemu::Gone, listens: false, ..self.clone() };
        (self.target != Qemu::Gone).then(|| {
            let mut world = world.torn();
            world.arriving = StreamStatus::None;
            world
        })
    }

    fn region_gives_up(&self) -> Option<Self> {
        (self.region == Region::Moving)
            .then(|| Self { region: Region::Abandoning, ..self.clone() })
    }

    fn by_itself(&self) -> Option<Self> {
        let mut world = self.clone();
        match self.stream {
            StreamStatus::Active if self.linked && self.target == Qemu::Waiting => {
                world.stream = StreamStatus::PreSwitchover;
                world.source = Qemu::Halted;
            }
            StreamStatus::Device if self.linked && self.target == Qemu::Waiting => {
                world.stream = StreamStatus::Completed;
                world.arriving = StreamStatus::Completed;
                world.target = Qemu::Halted;
            }
            StreamStatus::Active | StreamStatus::Device => {
                return Some(world.torn());
            }
            _ => return None,
        }
        Some(world)
    }

    fn order(
        record: Option<&Record>,
        moving: &Option<Moving>,
        order: &MoveOrder,
    ) -> Option<Option<Moving>> {
        match take(record, moving.as_ref(), order) {
            Ok(Taken::New(next)) => Some(next.map(|moving| *moving)),
            Ok(Taken::Same) | Err(_) => None,
        }
    }

    fn tell_source(&mut self, order: &MoveOrder) -> bool {
        if self.lost {
            return false;
        }
        let next = Self::order(Some(&self.source_record), &self.out, order);
        next.map(|next| self.out = next).is_some()
    }

    fn tell_target(&mut self, order: &MoveOrder) -> bool {
        let next = Self::order(self.target_record.as_ref(), &self.into, order);
        next.map(|next| self.into = next).is_some()
    }

    fn instruct(
        record: &mut Option<Record>,
        moving: &mut Option<Moving>,
        instruction: Instruction,
    ) -> bool {
        let fresh = record.as_ref().is_none_or(|record| {
            matches!(record.judge(&instruction), Ok(crate::Accepted::New))
        });
        if !fresh {
            return false;
        }
        let Ok(next) = admit(moving.as_ref(), &instruction) else { return false };
        *moving = next;
        *record = Some(Record::new(instruction));
        true
    }

    fn source_is_ready(&self) -> bool {
        let Some(Moving::Out(source)) = &self.out else { return false };
        *source.step() == SourceStep::Promised && self.stream.is_whole()
    }

    fn source_gave_up(&self) -> bool {
        let Some(Moving::Out(source)) = &self.out else { return false };
        let ended = self.source == Qemu::Gone || self.stream.is_broken();
        let broken = *source.step() == SourceStep::Promised && ended;
        broken || matches!(source.step(), SourceStep::Abandoned { .. })
    }

    fn target_lost(&self) -> bool {
        let Some(Moving::In(target)) = &self.into else { return false };
        target.step() == TargetStep::Started && self.target == Qemu::Gone
    }

    /// The region's next order that is not obeyed yet.
    fn region_step(&self) -> Option<Self> {
        let mut world = self.clone();
        let told = match self.region {
            Region::Moving => {
                if self.source_gave_up() || self.target_lost() {
                    world.region = Region::Abandoning;
                    true
                } else if self.source_is_ready() {
                    world.region = Region::Committed;
                    true
                } else if self.into.is_none() && self.target_record.is_none() {
                    world.tell_target(&MoveOrder::In(Box::new(incoming())))
                } else {
                    self.listens
                        && self.out.is_none()
                        && world.tell_source(&MoveOrder::Out(Box::new(outgoing())))
                }
            }
            Region::Abandoning => {
                world.tell_source(&MoveOrder::Abandon(id()))
                    || world.tell_target(&MoveOrder::Abandon(id()))
            }
            Region::Committed => {
                let arrived = self.target_arrived();
                if self.lost && !arrived && self.target_committed() {
                    world.tell_target(&MoveOrder::SourceLost(id()))
                } else if self.target_lost() && self.target_committed() {
                    world.region = Region::TakenBack;
                    true
                } else {
                    let wanted = instruction(2, Power::Running);
                    Self::instruct(&mut world.target_record, &mut world.into, wanted)
                        || (arrived && world.release_source())
                }
            }
            Region::TakenBack => {
                let back = instruction(3, Power::Running);
                let gone = instruction(3, Power::Deleted);
                let mut record = Some(world.source_record.clone());
                let told =
                    !self.lost && Self::instruct(&mut record, &mut world.out, back);
                world.source_record = record?;
                told || Self::instruct(&mut world.target_record, &mut world.into, gone)
            }
        };
        told.then_some(world)
    }

    fn target_committed(&self) -> bool {
        let epoch = Epoch::new(2);
        self.target_record.as_ref().is_some_and(|it| it.instruction.epoch == epoch)
    }

    fn target_arrived(&self) -> bool {
        let arrived = match &self.into {
            Some(Moving::In(target)) => target.step() == TargetStep::Arrived,
            _ => true,
        };
        self.target_committed() && arrived
    }

    fn release_source(&mut self) -> bool {
        if self.lost {
            return false;
        }
        let mut record = Some(self.source_record.clone());
        let gone = instruction(2, Power::Deleted);
        let told = Self::instruct(&mut record, &mut self.out, gone);
        self.source_record = record.unwrap();
        told
    }

    fn source_turn(&self, acts: bool) -> Option<Self> {
        if self.lost {
            return None;
        }
        let mut world = self.clone();
        let Some(Moving::Out(source)) = &self.out else {
            return acts.then(|| world.plain_source()).flatten();
        };
        let mut source = Source::restore(source.order().clone(), source.step().clone());
        let process = match (self.source, self.stream) {
            (Qemu::Gone, _) => Process::Gone,
            (Qemu::Running, _) => says(RunState::Running),
            (_, StreamStatus::PreSwitchover) => says(RunState::FinishMigrate),
            (_, StreamStatus::Completed) => says(RunState::PostMigrate),
            (Qemu::Halted | Qemu::Waiting, _) => says(RunState::Paused),
        };
        let mirror = self.mirror.then_some(Mirror {
            ready: true,
            sound: self.linked && self.target != Qemu::Gone,
            copied: 1,
            total: 1,
        });
        let stream = Stream { status: self.stream, ..Stream::default() };
        let traffic = Traffic { stream, mirror, ports: None };
        let mut decision = source.decide(NOW, process, &traffic, true);
        if decision.action == MoveAction::Undo && acts {
            // Undone and seen to be undone within the same life of the agent.
            world.undo();
            source.done(MoveAction::Undo);
            let process = if world.source == Qemu::Gone {
                Process::Gone
            } else if world.stream == StreamStatus::Completed {
                says(RunState::PostMigrate)
            } else if world.source == Qemu::Halted {
                says(RunState::Paused)
            } else {
                says(RunState::Running)
            };
            let stream = Stream { status: world.stream, ..Stream::default() };
            let traffic = Traffic { stream, mirror: None, ports: None };
            decision = source.decide(NOW, process, &traffic, true);
        }
        let over = decision.over;
        let taken_back = *source.step() == SourceStep::TakingBack;
        let gave_up = matches!(source.step(), SourceStep::Abandoned { .. });
        world.out = Some(Moving::Out(source));
        if acts {
            world.act_at_source(decision.action);
        }
        if over && taken_back {
            world.out = None;
        }
        if over && gave_up && acts {
            // The guest is decided about as any other again.
            return Some(world.clone().plain_source().unwrap_or(world));
        }
        Some(world)
    }

    fn undo(&mut self) {
        if self.stream.is_under_way() {
            self.stream = StreamStatus::Cancelled;
            if self.source == Qemu::Halted && !self.emulated {
                self.source = Qemu::Running;
            }
            if self.target == Qemu::Waiting {
                self.target = Qemu::Gone;
            }
        }
        self.mirror = false;
    }

    /// The source's guest as the instance decides about it.
    fn plain_source(mut self) -> Option<Self> {
        let running = self.source_record.instruction.power == Power::Running;
        self.source = match (self.source, running) {
            (Qemu::Gone | Qemu::Halted, true) => Qemu::Running,
            (Qemu::Running | Qemu::Halted, false) => Qemu::Gone,
            _ => return None,
        };
        if self.source == Qemu::Running {
            self.stream = StreamStatus::None;
        }
        Some(self)
    }

    fn act_at_source(&mut self, action: MoveAction) {
        let reachable = self.linked && self.target == Qemu::Waiting;
        match action {
            MoveAction::Mirror => self.mirror = reachable,
            MoveAction::Send if reachable => {
                self.stream = StreamStatus::Active;
                if self.emulated {
                    self.source = Qemu::Halted;
                }
            }
            MoveAction::Send => self.stream = StreamStatus::Failed,
            MoveAction::EndMirror => self.mirror = false,
            MoveAction::Continue => self.stream = StreamStatus::Device,
            MoveAction::Pause => self.source = Qemu::Halted,
            MoveAction::Cont => self.source = Qemu::Running,
            _ => {}
        }
        if action == MoveAction::Mirror && !reachable {
            // The action failed, which the source is told.
            if let Some(Moving::Out(source)) = &mut self.out {
                source.failed("unreachable");
            }
        }
    }

    fn target_turn(&self, acts: bool) -> Option<Self> {
        let mut world = self.clone();
        let Some(Moving::In(target)) = &self.into else {
            return acts.then(|| world.plain_target()).flatten();
        };
        let mut target = Target::restore(target.order().clone(), target.step());
        let process = match self.target {
            Qemu::Gone => Process::Gone,
            Qemu::Running => says(RunState::Running),
            Qemu::Halted => says(RunState::Paused),
            Qemu::Waiting => says(RunState::InMigrate),
        };
        let storage = if self.disk { Storage::Ready } else { Storage::Absent };
        let stream = Stream { status: self.arriving, ..Stream::default() };
        let ports = self.listens.then_some(Ports { disk: 1, memory: 2 });
        let traffic = Traffic { stream, mirror: None, ports };
        let seen = Observation { storage, process };
        let decision =
            target.decide(NOW, &seen, &traffic, (self.target_committed(), true));
        let mut over = decision.over;
        if acts {
            match decision.action {
                MoveAction::CreateDisk => world.disk = true,
                MoveAction::StartWaiting => world.target = Qemu::Waiting,
                MoveAction::Listen => world.listens = true,
                MoveAction::Cont => world.target = Qemu::Running,
                MoveAction::Settle => {
                    world.listens = false;
                    over = true;
                }
                MoveAction::Kill | MoveAction::Quit => {
                    world = world.target_dies().unwrap_or(world);
                }
                MoveAction::DeleteDisk => world.disk = false,
                _ => {}
            }
        }
        world.into = (!over).then_some(Moving::In(target));
        world.ran_at_target |= world.target == Qemu::Running;
        Some(world)
    }

    fn plain_target(mut self) -> Option<Self> {
        let power = self.target_record.as_ref()?.instruction.power;
        match (power, self.target) {
            (Power::Running, Qemu::Gone | Qemu::Halted) => {
                self.target = Qemu::Running;
                self.ran_at_target = true;
            }
            (Power::Deleted, Qemu::Gone) if self.disk => self.disk = false,
            (Power::Deleted, Qemu::Gone) => return None,
            (Power::Deleted, _) => return self.target_dies(),
            _ => return None,
        }
        Some(self)
    }

    fn check(&self) {
        let running =
            [self.source, self.target].into_iter().filter(|it| *it == Qemu::Running);
        assert!(running.count() <= 1, "two run: {self:#?}");
        let without_disk = self.target == Qemu::Running && !self.disk;
        assert!(!without_disk, "its disk is gone: {self:#?}");
        // Whoever took it back knows that it never ran there.
        assert!(
            !(self.region == Region::TakenBack && self.ran_at_target),
            "it went back in time: {self:#?}"
        );
        let owned_elsewhere =
            matches!(self.region, Region::Committed) && self.source == Qemu::Running;
        // QEMU itself lets a guest go on whose stream broke; the agent halts it at its next
        // turn, and such a stream can never arrive.
        assert!(
            !owned_elsewhere || self.stream == StreamStatus::Failed,
            "the source runs what is not its own: {self:#?}"
        );
    }

    fn is_settled(&self) -> bool {
        let source_runs = self.source == Qemu::Running
            && self.target == Qemu::Gone
            && !self.disk
            && !self.mirror;
        let target_runs = self.target == Qemu::Running
            && self.source == Qemu::Gone
            && self.into.is_none();
        source_runs || target_runs
    }
}

const fn says(state: RunState) -> Process {
    Process::Alive(Monitor::Says(state))
}

/// Lets everybody take turns without faults until nothing changes; a region whose move cannot
/// go on gives up, as it does when its patience ends.
fn settle(mut world: World) -> World {
    if world.lost {
        world = rest(world);
        // The VM that the target owns does not wait for a region that may never come back.
        let owned = world.region == Region::Committed;
        let runs = world.target == Qemu::Running && world.into.is_none();
        assert!(!owned || runs, "it waits for who is gone: {world:#?}");
        world.lost = false;
    }
    world.linked = true;
    let end = rest(world);
    assert!(end.is_settled(), "stuck: {end:#?}");
    end
}

fn rest(mut world: World) -> World {
    for _ in 0..200 {
        let mut next = world.clone();
        for step in [World::region_step, World::by_itself] {
            next = step(&next).unwrap_or(next);
            next.check();
        }
        next = next.source_turn(true).unwrap_or(next);
        next.check();
        next = next.target_turn(true).unwrap_or(next);
        next.check();
        if next == world {
            if next.is_settled() {
                return next;
            }
            let Some(impatient) = next.region_gives_up() else { return next };
            next = impatient;
        }
        world = next;
    }
    panic!("never settles: {world:#?}");
}

fn explore(faults_max: u8, emulated: bool) -> (usize, usize, usize) {
    let mut seen = BTreeSet::new();
    let mut queue = VecDeque::from([World::new(emulated)]);
    let (mut moved, mut stayed) = (0, 0);
    while let Some(world) = queue.pop_front() {
        if !seen.insert(world.key()) {
            continue;
        }
        world.check();
        let end = settle(world.clone());
        assert!(end.is_settled());
        if end.target == Qemu::Running {
            moved += 1;
        } else {
            stayed += 1;
        }
        queue.extend(world.next(faults_max));
    }
    (seen.len(), moved, stayed)
}

#[test]
fn without_faults_every_order_of_turns_ends_at_the_target() {
    for emulated in [false, true] {
        let end = settle(World::new(emulated));
        assert_eq!((end.source, end.target), (Qemu::Gone, Qemu::Running));
        let (states, moved, stayed) = explore(0, emulated);
        assert!(states > 10 && moved == states, "{states} {moved} {stayed}");
    }
}

#[test]
fn with_three_faults_anywhere_exactly_one_side_runs_in_the_end() {
    for emulated in [false, true] {
        let (states, moved, stayed) = explore(3, emulated);
        let enough = states > 1_000 && moved > 100 && stayed > 100;
        assert!(enough, "{states} {moved} {stayed}");
    }
}

fn promised() -> Source {
    Source::restore(outgoing(), SourceStep::Promised)
}

#[test]
fn wishes_of_its_own_epoch_wait_for_a_promise_and_end_a_move_before_it() {
    let stop =
        Instruction { generation: Generation::new(2), ..instruction(1, Power::Stopped) };
    let bound = Moving::Out(promised());
    assert!(matches!(admit(Some(&bound), &stop), Err(Refused::Busy { .. })));
    let free = Moving::Out(Source::new(outgoing()));
    let Ok(Some(Moving::Out(source))) = admit(Some(&free), &stop) else { panic!() };
    assert!(source.failure().unwrap().contains("meanwhile"));
}

#[test]
fn what_the_target_owns_is_not_abandoned() {
    let record = Record::new(instruction(1, Power::Running));
    let off = MoveOrder::Abandon(id());
    let back = Moving::Out(Source::restore(outgoing(), SourceStep::TakingBack));
    let refused = Err(Refused::Committed { id: id() });
    assert_eq!(take(Some(&record), Some(&back), &off), refused);
    let target = Moving::In(Target::restore(incoming(), TargetStep::Started));
    let owner = Record::new(instruction(2, Power::Running));
    assert_eq!(take(Some(&owner), Some(&target), &off), refused);
    let Ok(Taken::New(Some(_))) = take(None, Some(&target), &off) else { panic!() };
}

/// The last pages of a line that is cut: QEMU says nothing until TCP gives up.
#[test]
fn what_is_called_off_is_cut_loose_from_a_silent_monitor_and_a_promise_holds() {
    let silent = Process::Alive(Monitor::Silent);
    let action = |step, may_run| {
        let mut source = Source::restore(outgoing(), step);
        source.decide(NOW, silent, &Traffic::default(), may_run).action
    };
    let off = || SourceStep::Abandoned { reason: "off".to_owned() };
    assert_eq!(action(off(), false), MoveAction::Undo);
    assert_eq!(action(SourceStep::TakingBack, true), MoveAction::Undo);
    assert_eq!(action(SourceStep::TakingBack, false), MoveAction::Nothing);
    assert_eq!(action(SourceStep::Promised, true), MoveAction::Nothing);
}

/// What a monitor does not say is no end of the stream.
#[test]
fn a_promise_is_broken_by_what_is_seen_only() {
    let mut source = promised();
    let mut look = |process, status| {
        let stream = Stream { status, ..Stream::default() };
        let traffic = Traffic { stream, ..Traffic::default() };
        source.decide(NOW, process, &traffic, true);
        (source.is_ready(), source.failure().is_some())
    };
    let halted = says(RunState::FinishMigrate);
    assert_eq!(look(halted, StreamStatus::PreSwitchover), (true, false));
    let silent = Process::Alive(Monitor::Silent);
    assert_eq!(look(silent, StreamStatus::None), (true, false), "as it was seen last");
    assert_eq!(look(halted, StreamStatus::Other), (false, false));
    assert_eq!(look(halted, StreamStatus::Completed), (true, false));
    assert_eq!(look(halted, StreamStatus::Failed), (false, true));
}

#[test]
fn a_stream_that_stands_still_is_given_up_and_one_that_creeps_is_not() {
    let mut source = Source::restore(outgoing(), SourceStep::Sending);
    let at = |seconds: u64| NOW.plus(std::time::Duration::from_secs(seconds));
    let look = |source: &mut Source, seconds: u64, transferred: u64| {
        let stream =
            Stream { status: StreamStatus::Active, transferred, ..Stream::default() };
        let mirror = Some(Mirror { ready: true, sound: true, copied: 1, total: 1 });
        let traffic = Traffic { stream, mirror, ports: None };
        source.decide(at(seconds), says(RunState::Running), &traffic, true)
    };
    for second in 0..100 {
        assert!(!look(&mut source, second, second).persist);
    }
    assert!(!look(&mut source, 118, 99).persist);
    assert!(look(&mut source, 119, 99).persist);
    assert!(source.failure().unwrap().contains("no progress for 20 s"));
}

/// A guest that is bound to a lease comes back under an epoch that no grant names yet.
#[test]
fn a_guest_that_comes_back_stays_halted_until_the_lease_names_it() {
    let mut source = Source::restore(outgoing(), SourceStep::TakingBack);
    let stream = |status| Stream { status, ..Stream::default() };
    let mut action = |status, state, may_run| {
        let traffic = Traffic { stream: stream(status), ..Traffic::default() };
        source.decide(NOW, says(state), &traffic, may_run).action
    };
    let kept_back = StreamStatus::PreSwitchover;
    let halted = RunState::FinishMigrate;
    assert_eq!(action(kept_back, halted, false), MoveAction::Nothing);
    // A stream that broke lets it go on; it is halted again.
    let broken = StreamStatus::Failed;
    assert_eq!(action(broken, RunState::Running, false), MoveAction::Pause);
    assert_eq!(action(kept_back, halted, true), MoveAction::Undo);
    let holding = |step| Moving::Out(Source::restore(outgoing(), step)).holding();
    for step in [SourceStep::Promised, SourceStep::TakingBack] {
        assert_eq!(holding(step), Some(Holding::Leaving));
    }
    for step in [SourceStep::Mirroring, SourceStep::Sending] {
        assert_eq!(holding(step), None);
    }
}

/// Its region was failed over to the very host that a guest did not reach.
#[test]
fn an_epoch_after_the_moves_own_drops_what_did_not_arrive() {
    let at = |step| Moving::In(Target::restore(incoming(), step));
    let later = instruction(4, Power::Running);
    let step = |from| match admit(Some(&at(from)), &later) {
        Ok(Some(Moving::In(target))) => target.step(),
        other => panic!("{other:?}"),
    };
    assert_eq!(step(TargetStep::Started), TargetStep::Dropped);
    assert_eq!(step(TargetStep::Arrived), TargetStep::Arrived);
}

#[test]
fn what_is_on_disk_is_the_order_and_the_step() {
    let moving = Moving::Out(promised());
    let text = serde_json::to_string(&moving).unwrap();
    let read: Moving = serde_json::from_str(&text).unwrap();
    assert_eq!(read, moving);
    let target = Moving::In(Target::restore(incoming(), TargetStep::Arrived));
    let text = serde_json::to_string(&target).unwrap();
    assert_eq!(serde_json::from_str::<Moving>(&text).unwrap(), target);
}
