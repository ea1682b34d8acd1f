//! The rules one by one, and all of it against a model: a record, a host, a disk and the files
//! of a standby that go their ways in any order, with blocks instead of a counter. What a
//! failover would start from is always a disk that there was, and the one of the moment that
//! the record says.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_types::{HostId, OnRegionLoss, RegionId, ReservationId, Tier, ZoneId};
use proptest::prelude::*;

use super::*;
use crate::ownership::tests::record;
use crate::ownership::{Loss, Place, Whole, begin_replica, loss_of, seal, skip};
use crate::replica::{HostSeen, is_relied_on};

const NOW: Timestamp = Timestamp::from_millis(7_000);

fn begun() -> VmRecord {
    let mut vm = record("vm", "r-1");
    vm.request.tier = Tier::Protected;
    vm.request.on_region_loss = OnRegionLoss::AsyncReplica;
    let at = Place {
        region: RegionId::new("eu-north-1").unwrap(),
        zone: ZoneId::new("a").unwrap(),
        host: HostId::new("h").unwrap(),
    };
    begin_replica(&vm, at, ReservationId::new("r-2").unwrap(), NOW)
}

fn replica(record: &VmRecord) -> &Replica {
    record.replica.as_deref().unwrap()
}

fn judged(record: &VmRecord, host: HostSeen) -> Next {
    silent(record, host, None)
}

fn silent(record: &VmRecord, host: HostSeen, for_s: Option<u64>) -> Next {
    let standby_silent_for = for_s.map(Duration::from_secs);
    let seen = Seen { host: Some(host), standby_silent_for, moves: false };
    crate::replica::next(record, replica(record), &seen)
}

fn ordered(record: &VmRecord) -> HostSeen {
    HostSeen { ordered: Some(replica(record).copy), ..HostSeen::default() }
}

#[test]
fn a_round_is_sealed_when_all_of_it_is_there_and_holds_no_guest_back() {
    let vm = begun();
    let written = HostSeen { written: Some(replica(&vm).copy), ..ordered(&vm) };
    assert_eq!(judged(&vm, written), Next::Keep);
    let all = HostSeen { equal: true, as_of: Some(NOW), ..written };
    assert_eq!(judged(&vm, all), Next::Seal(NOW));
    let seen = Seen { host: Some(all), ..Seen::default() };
    assert!(!is_relied_on(&vm, replica(&vm), &seen));
    // It is all there, also when the host that keeps it went away since.
    assert_eq!(silent(&vm, all, Some(400)), Next::Seal(NOW));
    let sealed = seal(&vm, replica(&vm).copy, NOW, NOW).unwrap();
    assert_eq!(judged(&sealed, all), Next::Keep, "what is said of the one before");
    let loss = Loss::Point { as_of: NOW, max_age_s: 5 };
    assert_eq!((loss_of(&vm), loss_of(&sealed)), (None, Some(loss)));
}

#[test]
fn a_round_that_fails_is_skipped_and_a_place_that_is_silent_is_left() {
    let vm = begun();
    let lost = HostSeen { lost: true, ..ordered(&vm) };
    assert_eq!(judged(&vm, lost), Next::Part(Parted::Lost));
    let written = HostSeen { written: Some(replica(&vm).copy), ..ordered(&vm) };
    assert_eq!(silent(&vm, written, Some(9)), Next::Keep);
    assert_eq!(silent(&vm, written, Some(10)), Next::Part(Parted::StandbySilent));
    assert_eq!(silent(&vm, ordered(&vm), Some(299)), Next::Keep);
    assert_eq!(silent(&vm, ordered(&vm), Some(300)), Next::Replace);
    let mut moved = vm.clone();
    moved.owner.epoch = moved.owner.epoch.next();
    let all = HostSeen { equal: true, as_of: Some(NOW), ..written };
    assert_eq!(judged(&moved, all), Next::Part(Parted::OtherOwner));
    let seen = Seen { host: Some(lost), moves: true, ..Seen::default() };
    assert_eq!(crate::replica::next(&vm, replica(&vm), &seen), Next::Keep);
}

#[test]
fn a_round_is_due_so_early_that_what_is_there_does_not_become_too_old() {
    let age = Duration::from_secs(10);
    let due = |whole_at: u64, took: u64, now: u64| {
        let mut it = replica(&begun()).clone();
        let until = Timestamp::from_millis(whole_at);
        it.whole = Some(Whole { copy: it.copy, until });
        is_due(&it, age, Duration::from_millis(took), Timestamp::from_millis(now))
    };
    assert!(is_due(replica(&begun()), age, Duration::ZERO, NOW), "there is none");
    assert!(!due(50_000, 1_000, 57_499) && due(50_000, 1_000, 57_500));
    assert!(!due(50_000, 60_000, 54_999) && due(50_000, 60_000, 55_000), "half");
    assert!(due(50_000, 0, 49_000), "the clock was put back");
    assert!(!is_late(age * 2, age) && is_late(age * 2 + Duration::from_millis(1), age));
}

/// Blocks with what is in them; one that is absent reads as nothing.
type Disk = BTreeMap<u8, u64>;

#[derive(Clone, Copy, Debug)]
enum Event {
    Decide,
    Tell,
    TellStandby,
    Send,
    Merge,
    GuestWrites(u8),
    JobFails,
    ProcessDies,
    StandbySilent(bool),
    Moves(bool),
    OwnerChanges,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Decide),
        6 => Just(Event::Tell),
        6 => Just(Event::TellStandby),
        8 => Just(Event::Send),
        4 => Just(Event::Merge),
        6 => (0..4_u8).prop_map(Event::GuestWrites),
        1 => Just(Event::JobFails),
        1 => Just(Event::ProcessDies),
        1 => any::<bool>().prop_map(Event::StandbySilent),
        1 => any::<bool>().prop_map(Event::Moves),
        1 => Just(Event::OwnerChanges),
    ]
}

/// What is taken of the disk and being sent.
#[derive(Debug)]
struct Job {
    copy: CopyId,
    as_of: Timestamp,
    left: Disk,
}

/// The guest's host as `dwcp_vm::decide_copy` says, in short.
#[derive(Debug, Default)]
struct Host {
    disk: Disk,
    order: Option<(CopyId, Option<CopyId>)>,
    begun: Option<CopyId>,
    job: Option<Job>,
    /// What changed since each round that is known.
    since: BTreeMap<CopyId, BTreeSet<u8>>,
}

impl Host {
    fn seen(&self) -> HostSeen {
        let ordered = self.order.map(|(copy, _)| copy);
        let written = self.job.as_ref().map(|job| job.copy);
        let earlier = self.since.keys().rev().find(|copy| Some(**copy) != written);
        HostSeen {
            ordered,
            written,
            equal: self.job.as_ref().is_some_and(|job| job.left.is_empty()),
            lost: ordered.is_some() && self.begun == ordered && written != ordered,
            as_of: self.job.as_ref().map(|job| job.as_of),
            since: earlier.copied(),
            ..HostSeen::default()
        }
    }

    fn take(&mut self, copy: CopyId, base: Option<CopyId>, due: bool, now: Timestamp) {
        if self.order.is_some_and(|(old, _)| copy < old) {
            return;
        }
        self.order = Some((copy, base));
        if self.job.as_ref().is_some_and(|job| job.copy != copy || !due) {
            self.end();
        }
        if !due || self.job.is_some() || self.begun == Some(copy) {
            return;
        }
        self.begun = Some(copy);
        let all = || self.disk.clone();
        let left = match base {
            None => all(),
            Some(base) => {
                let Some(changed) = self.since.get(&base) else { return };
                let kept = |block: &u8| self.disk.get(block).copied().unwrap_or(0);
                changed.iter().map(|block| (*block, kept(block))).collect()
            }
        };
        self.since.insert(copy, BTreeSet::new());
        self.job = Some(Job { copy, as_of: now, left });
    }

    /// Ends what is written and forgets all but what the order adds to.
    fn end(&mut self) {
        self.job = None;
        let base = self.order.and_then(|(_, base)| base);
        self.since.retain(|copy, _| Some(*copy) == base);
    }
}

/// A file of the standby.
#[derive(Clone, Debug, Default)]
struct File {
    on: Option<CopyId>,
    blocks: Disk,
}

#[derive(Debug, Default)]
struct Standby {
    kept: CopyId,
    files: BTreeMap<CopyId, File>,
    /// The door takes in this one.
    open: Option<CopyId>,
}

impl Standby {
    fn read(&self, copy: CopyId) -> Option<Disk> {
        let file = self.files.get(&copy)?;
        let mut disk = file.on.map_or(Some(Disk::new()), |base| self.read(base))?;
        disk.extend(file.blocks.clone());
        Some(disk)
    }

    /// One step of bringing a whole copy into one file: a block of it into what it is on, and
    /// when all are there, that file in its place.
    fn merge(&mut self, whole: CopyId, blocks: usize) {
        let Some(file) = self.files.get(&whole).cloned() else { return };
        let Some(base) = file.on else { return };
        let mut into = self.files.get(&base).cloned().unwrap();
        for (block, what) in file.blocks.iter().take(blocks) {
            into.blocks.insert(*block, *what);
        }
        if blocks < file.blocks.len() {
            self.files.insert(base, into);
        } else {
            self.files.remove(&base);
            self.files.insert(whole, into);
        }
    }

    /// What a host does that is told to keep a round.
    fn keep(&mut self, copy: CopyId, whole: Option<CopyId>, base: Option<CopyId>) {
        if copy < self.kept {
            return;
        }
        self.kept = copy;
        self.open = None;
        if let Some(whole) = whole {
            self.merge(whole, usize::MAX);
        }
        self.files.retain(|file, _| *file == copy || Some(*file) == whole);
        if base.is_some_and(|base| !self.files.contains_key(&base)) {
            return;
        }
        self.files.entry(copy).or_insert(File { on: base, blocks: Disk::new() });
        self.open = Some(copy);
    }
}

struct World {
    vm: VmRecord,
    host: Host,
    standby: Standby,
    silent: Option<Duration>,
    moves: bool,
    /// Every disk that there was, by the moment from which on.
    history: BTreeMap<Timestamp, Disk>,
    now: Timestamp,
}

impl World {
    fn seen(&self) -> Seen {
        let host = Some(self.host.seen());
        Seen { host, standby_silent_for: self.silent, moves: self.moves }
    }

    fn step(&mut self, event: Event) {
        self.now = self.now.plus(Duration::from_secs(1));
        let (now, seen) = (self.now, self.seen());
        let it = replica(&self.vm).clone();
        match event {
            Event::Decide => match next(&self.vm, &it, &seen) {
                Next::Seal(as_of) => {
                    self.vm = seal(&self.vm, it.copy, as_of, now).unwrap();
                }
                Next::Part(_) => {
                    self.vm = skip(&self.vm, it.copy, adds(&it, &seen), now).unwrap();
                }
                Next::Trust => panic!("nothing is in sync"),
                Next::Keep | Next::Replace => {}
            },
            // An owner tells only its own host, under its own epoch.
            Event::Tell if it.copy.epoch == self.vm.owner.epoch => {
                let open = self.standby.open == Some(it.copy) && self.silent.is_none();
                let known = self.host.job.as_ref().is_some_and(|job| job.copy == it.copy);
                self.host.take(it.copy, it.base, (open || known) && !self.moves, now);
            }
            Event::Tell => {}
            Event::TellStandby if self.silent.is_none() => {
                self.standby.keep(it.copy, it.whole.map(|it| it.copy), it.base);
            }
            Event::TellStandby => {}
            Event::Send => {
                if let Some(job) = &mut self.host.job
                    && self.standby.open == Some(job.copy)
                    && let Some((block, what)) = job.left.pop_first()
                {
                    let file = self.standby.files.get_mut(&job.copy).unwrap();
                    file.blocks.insert(block, what);
                }
            }
            Event::Merge => {
                if let Some(whole) = it.whole {
                    self.standby.merge(whole.copy, 1);
                }
            }
            Event::GuestWrites(block) => self.write(block),
            Event::JobFails => self.host.end(),
            Event::ProcessDies => {
                self.host.job = None;
                self.host.since.clear();
            }
            Event::StandbySilent(is) => self.silent = is.then_some(PART_AFTER),
            Event::Moves(is) => self.moves = is,
            Event::OwnerChanges => {
                // To another process on another host, with the disk as it is.
                self.vm.owner.epoch = self.vm.owner.epoch.next();
                let disk = std::mem::take(&mut self.host.disk);
                self.host = Host { disk, ..Host::default() };
            }
        }
    }

    fn write(&mut self, block: u8) {
        let what = self.now.as_millis();
        self.host.disk.insert(block, what);
        for changed in self.host.since.values_mut() {
            changed.insert(block);
        }
        self.history.insert(self.now, self.host.disk.clone());
    }
}

proptest! {
    #[test]
    fn whatever_is_sealed_is_the_disk_of_the_moment_that_the_record_says(
        events in prop::collection::vec(event(), 1..160),
    ) {
        let mut world = World {
            vm: begun(),
            host: Host::default(),
            standby: Standby::default(),
            silent: None,
            moves: false,
            history: BTreeMap::from([(NOW, Disk::new())]),
            now: NOW,
        };
        for event in events {
            world.step(event);
            let Some(whole) = replica(&world.vm).whole else { continue };
            let (_, then) = world.history.range(..=whole.until).next_back().unwrap();
            let mut kept = world.standby.read(whole.copy);
            // A block of nothing is as one that is absent.
            if let Some(disk) = &mut kept {
                disk.retain(|_, what| *what != 0);
            }
            prop_assert_eq!(kept.as_ref(), Some(then), "{:?} {:?}", event, world.standby);
        }
    }
}
