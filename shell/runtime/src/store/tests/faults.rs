//! What every backend must survive: a disk that fails at any operation, in any way.
//!
//! A child process writes on a disk that is told to fail at its n-th operation; then the store
//! is opened on what the disk has, and compared with the oracle: every acknowledged batch is
//! there, every other is there whole or not at all, and writing goes on. For ours the machine
//! stops at every n, each time in one of nine ways; with `DWCP_STORE_FAULTS=all`, in all of them.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use redb::Durability;

use super::super::{
    Absent, Backend, Change, Fault, Fjall, Journaled, LocalStore, Redb, Syncs, Visitor,
};
use super::child::{End, Named, Task, Told};
use super::disk::{Act, CHANGE, Disk, EIO, ENOSPC, Keep, NAME, Plan, READ, SYNC, WRITE};
use super::{Shipped, all, model};
use crate::commit::{Disk as _, fault};

/// Operations that make a store: more of them are tried than of those after.
const MAKING: u64 = 28;
/// Operations of a kind that fail, when not all do. All syncs always do.
const FAILURES: u64 = 12;
/// Kills of one store, when not everything is tried, and when it is.
const KILLS: u64 = 8;
const KILLS_OF_ALL: u64 = 200;
/// Times that what is left to chance is tried, when everything is.
const SEEDS: u64 = 3;
/// How long a full disk stays full, in operations.
const FULL_FOR: u64 = 6;

/// The store is there and cannot be used.
const CANNOT_OPEN: &str = "it cannot be opened";

/// What went wrong, how often, and an example.
type Failures = BTreeMap<String, (u64, String)>;

/// The operations that are tried of so many: `sample` of those that make the store and of those
/// after, or every one.
pub(super) fn tried(operations: u64, sample: u64) -> impl Iterator<Item = u64> {
    let steps = |count: u64| {
        let step = if all() { 1 } else { count.div_ceil(sample).max(1) };
        usize::try_from(step).unwrap()
    };
    let making = operations.min(MAKING);
    let after = making + 1..=operations;
    (1..=making).step_by(steps(making)).chain(after.step_by(steps(operations - making)))
}

/// One child, one plan, one verdict.
struct Trial<'t> {
    disk: &'t Disk,
    failures: Failures,
    trials: u64,
}

impl<'t> Trial<'t> {
    const fn new(disk: &'t Disk) -> Self {
        Self { disk, failures: Failures::new(), trials: 0 }
    }

    fn run<B: Named>(&mut self, task: &Task, plan: &Plan) -> Told {
        let told = task.run(&self.disk.environment(plan));
        self.trials += 1;
        if let Err(wrong) = judge::<B>(task, &told) {
            self.note(&wrong, plan, &told);
        }
        told
    }

    fn note(&mut self, wrong: &str, plan: &Plan, told: &Told) {
        let kind = wrong.split(':').next().unwrap_or_default().to_owned();
        let (count, example) = self.failures.entry(kind).or_default();
        *count += 1;
        if example.is_empty() {
            *example = format!("{wrong}; {plan:?}; {told:?}");
        }
    }

    fn end(self, what: &str) -> Failures {
        println!("{what}: {} trials, failures: {:#?}", self.trials, self.failures);
        self.failures
    }
}

/// Opens what a child left, compares it with what it said, and writes one more batch of each
/// writer. Answers with the newest batches then.
fn judge<B: Named>(task: &Task, told: &Told) -> Result<Vec<u64>, String> {
    let open = || {
        std::panic::catch_unwind(|| LocalStore::<B>::open_in(&task.path))
            .map_err(|_| "it panics when it is opened: see above".to_owned())?
            .map_err(|error| format!("{CANNOT_OPEN}: {error}"))
    };
    let store = open()?;
    let held = (0..task.writers)
        .map(|writer| compare(&store, writer, told))
        .collect::<Result<Vec<u64>, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (writer, last) in (0..).zip(&held) {
        let next = store.apply(model::batch(writer, last + 1));
        runtime.block_on(next).map_err(|error| format!("it takes no more: {error}"))?;
    }
    drop(store);
    let store = open()?;
    for (writer, last) in (0..).zip(&held) {
        if compare(&store, writer, told) != Ok(last + 1) {
            return Err(format!(
                "it is not healthy: the batch after {last} is not there"
            ));
        }
    }
    Ok(held.into_iter().map(|last| last + 1).collect())
}

/// The newest batch of a writer in a store, if everything of it is as it must be.
fn compare<B: Backend>(
    store: &LocalStore<B>,
    writer: u32,
    told: &Told,
) -> Result<u64, String> {
    let failed = |error| format!("it cannot be read: {error}");
    let last = model::last_of(store, writer).map_err(failed)?;
    let (acked, asked) = (told.acked(writer), told.asked(writer));
    if last < acked {
        return Err(format!("acknowledged batches are lost: {acked}, and it has {last}"));
    }
    // One more is what the judge itself writes.
    if last > asked + 1 {
        return Err(format!("it has what nobody wrote: {last}, and {asked} was asked"));
    }
    let found: model::Map =
        store.scan(&model::prefix(writer)).map_err(failed)?.into_iter().collect();
    if found != model::rows(writer, last) {
        return Err(format!("a batch is torn: at {last}"));
    }
    Ok(last)
}

/// How many operations of a class a task makes when nothing fails.
fn operations<B: Named>(disk: &Disk, task: &Task, watch: u32) -> u64 {
    disk.fresh();
    let told = task.run(&disk.environment(&Plan { watch, ..Plan::NONE }));
    assert_eq!(judge::<B>(task, &told), Ok(vec![task.batches + 1]), "{told:?}");
    assert_eq!(told.acked(0), task.batches);
    disk.counted()
}

/// The machine stops, or only the process, before, in and after every operation.
fn stop_at_every_operation<B: Named>(disk: &Disk) -> Failures {
    let task = Task::of::<B>(&disk.root());
    let count = operations::<B>(disk, &task, CHANGE);
    let mut trial = Trial::new(disk);
    for at in tried(count, B::STOPS) {
        for (act, keep) in stops(at) {
            let seeds = if all() && keep == Keep::Some { SEEDS } else { 1 };
            for seed in 0..seeds {
                disk.fresh();
                let seed = at * SEEDS + seed;
                trial.run::<B>(&task, &Plan { at, act, keep, seed, ..Plan::NONE });
            }
        }
    }
    trial.end(&format!("{}: stopped at {count} operations", B::NAME))
}

/// How the machine stops at an operation: in every way, or in one of them, by turns.
pub(super) fn stops(at: u64) -> impl Iterator<Item = (Act, Keep)> {
    const ACTS: [Act; 3] = [Act::Before, Act::Torn, Act::After];
    const KEEPS: [Keep; 3] = [Keep::Nothing, Keep::Some, Keep::All];
    let ways = || ACTS.into_iter().flat_map(|act| KEEPS.map(|keep| (act, keep)));
    let turn = usize::try_from(at).unwrap() % ways().count();
    let (from, count) = if all() { (0, ways().count()) } else { (turn, 1) };
    ways().skip(from).take(count)
}

/// An operation fails; the process goes on as it can, and then the power goes.
fn fail_at_every_operation<B: Named>(disk: &Disk) -> Failures {
    let kinds = [
        (WRITE, EIO, 1),
        (WRITE, ENOSPC, FULL_FOR),
        (SYNC, EIO, 1),
        (SYNC, ENOSPC, 1),
        (WRITE | SYNC, EIO, FULL_FOR),
        (NAME, EIO, 1),
        (NAME, ENOSPC, FULL_FOR),
        (READ, EIO, 1),
    ];
    let mut trial = Trial::new(disk);
    for (watch, errno, times) in kinds {
        let mut task = Task::of::<B>(&disk.root());
        let count = operations::<B>(disk, &task, watch);
        let sample = if watch == SYNC { count } else { FAILURES };
        for at in tried(count, sample) {
            task.end = if at.is_multiple_of(2) { End::Close } else { End::Leave };
            disk.fresh();
            let keep = if at.is_multiple_of(3) { Keep::Some } else { Keep::Nothing };
            let fails = Plan { watch, at, times, errno, keep, ..Plan::NONE };
            let plan = Plan { cut: true, seed: at, ..fails };
            let told = trial.run::<B>(&task, &plan);
            if watch == SYNC && told.acked_after_error {
                trial.note("it goes on after a failed sync", &plan, &told);
            }
            let was_open = told.acked(0) > 0 && told.acked(0) < task.batches;
            if watch == SYNC && was_open && !told.over {
                trial.note("it does not end after a failed sync", &plan, &told);
            }
            if watch == WRITE && errno == ENOSPC && told.acked(0) > 0 {
                let resumed = told.acked(0) == task.batches;
                if !resumed && B::NAME == Shipped::NAME {
                    trial.note("it does not resume when there is space", &plan, &told);
                }
            }
        }
    }
    trial.end(&format!("{}: failing operations", B::NAME))
}

/// A store that is there already is opened and read on a disk that fails to read.
fn fail_to_read<B: Named>(disk: &Disk) -> Failures {
    let mut trial = Trial::new(disk);
    let task = Task::of::<B>(&disk.root());
    disk.fresh();
    task.run(&[]);
    task.run(&disk.environment(&Plan { watch: READ, ..Plan::NONE }));
    let count = disk.counted();
    for at in tried(count, FAILURES) {
        disk.fresh();
        let before = task.run(&[]);
        let plan = Plan { watch: READ, at, ..Plan::NONE };
        let mut told = task.run(&disk.environment(&plan));
        told.acked.entry(0).or_insert_with(|| before.acked(0));
        trial.trials += 1;
        if let Err(wrong) = judge::<B>(&task, &told) {
            trial.note(&wrong, &plan, &told);
        }
    }
    trial.end(&format!("{}: {count} failing reads", B::NAME))
}

/// Many writers share commits; the process is killed again and again over one store.
fn kill_and_go_on<B: Named>(disk: &Disk) -> Failures {
    let rounds = if all() { KILLS_OF_ALL } else { KILLS };
    let mut trial = Trial::new(disk);
    let task = Task { writers: 4, batches: 400, ..Task::of::<B>(&disk.root()) };
    disk.fresh();
    let mut held = vec![0; 4];
    let mut random = model::Random(7);
    for seed in 1..=rounds {
        let keep = if seed.is_multiple_of(2) { Keep::Some } else { Keep::All };
        let at = 60 + random.below(300);
        let plan = Plan { at, act: Act::Torn, keep, seed, ..Plan::NONE };
        let mut told = task.run(&disk.environment(&plan));
        for (writer, last) in (0..).zip(&held) {
            told.acked.entry(writer).or_insert(*last);
        }
        trial.trials += 1;
        match judge::<B>(&task, &told) {
            Ok(now) => held = now,
            Err(wrong) => {
                trial.note(&wrong, &plan, &told);
                break;
            }
        }
    }
    assert!(!trial.failures.is_empty() || held.iter().all(|last| *last > rounds));
    trial.end(&format!("{}: killed {rounds} times", B::NAME))
}

#[test]
fn the_store_survives_a_stop_at_any_operation() {
    let Some(disk) = Disk::new() else { return };
    assert_eq!(stop_at_every_operation::<Shipped>(&disk), Failures::new());
}

#[test]
fn the_store_survives_any_failing_operation() {
    let Some(disk) = Disk::new() else { return };
    assert_eq!(fail_at_every_operation::<Shipped>(&disk), Failures::new());
}

#[test]
fn the_store_survives_failing_reads() {
    let Some(disk) = Disk::new() else { return };
    assert_eq!(fail_to_read::<Shipped>(&disk), Failures::new());
}

#[test]
fn the_store_keeps_the_batches_of_many_writers_over_many_kills() {
    let Some(disk) = Disk::new() else { return };
    assert_eq!(kill_and_go_on::<Shipped>(&disk), Failures::new());
}

/// fjall keeps what it acknowledged, but does not always open again: docs/adr/0008.
#[test]
fn fjall_loses_nothing_that_it_acknowledged() {
    let Some(disk) = Disk::new() else { return };
    let failures =
        [stop_at_every_operation::<Fjall>(&disk), kill_and_go_on::<Fjall>(&disk)];
    let kinds: Vec<_> = failures.iter().flat_map(BTreeMap::keys).collect();
    assert!(kinds.iter().all(|kind| *kind == CANNOT_OPEN), "{failures:#?}");
}

/// The suite can fail: a backend that answers before its data are durable is found out.
#[test]
fn a_backend_that_does_not_sync_is_found_out() {
    let Some(disk) = Disk::new() else { return };
    let failures = stop_at_every_operation::<Hasty>(&disk);
    assert!(failures.contains_key("acknowledged batches are lost"), "{failures:#?}");
}

/// The same of a journal that is overwritten before what it held is durable elsewhere.
#[test]
fn a_journal_before_a_backend_that_does_not_sync_is_found_out() {
    let Some(disk) = Disk::new() else { return };
    let failures = stop_at_every_operation::<HastyBehind>(&disk);
    assert!(!failures.is_empty(), "{failures:#?}");
}

/// A journal before a backend that does not sync.
pub(super) type HastyBehind = Journaled<Hasty>;

impl Named for HastyBehind {
    const NAME: &'static str = "hasty-behind";
    const STOPS: u64 = 40;
}

/// redb, told not to sync.
#[derive(Debug)]
pub(super) struct Hasty(Redb);

impl Named for Hasty {
    const NAME: &'static str = "hasty";
    const STOPS: u64 = 40;
}

impl Backend for Hasty {
    fn open(path: &Path, absent: Absent, syncs: &Syncs) -> Result<Self, Fault> {
        Redb::open(path, absent, syncs).map(Self)
    }

    fn commit(&self, changes: Vec<Change>, count: u64) -> Result<(), Fault> {
        let mut transaction = self.0.staged(changes)?;
        transaction.set_durability(Durability::None).map_err(fault)?;
        self.0.disk.commit(transaction, count)
    }

    fn count(&self) -> Result<u64, Fault> {
        self.0.count()
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        self.0.get(key)
    }

    fn visit(
        &self,
        prefix: &str,
        after: Option<&str>,
        row: &mut Visitor<'_>,
    ) -> Result<(), Fault> {
        self.0.visit(prefix, after, row)
    }

    fn disk_len(&self) -> Result<u64, Fault> {
        self.0.disk_len()
    }
}
