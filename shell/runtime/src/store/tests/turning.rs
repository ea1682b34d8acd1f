//! A journal file is overwritten only when the backend has all of it, however long that takes.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::super::{Absent, Backend, Change, Fault, Journaled, Redb, Syncs, Visitor};
use super::Shipped;
use super::disk::memory_folder;

/// Bytes of a value, and how many of these fill both files of a test's journal.
const VALUE_LEN: usize = 3_900;
const FULL: u64 = 8;
/// How long a commit is watched that must not end. One that waits never does, however slow the
/// machine is; one that does not wait takes a thousandth of this.
const WATCHED: Duration = Duration::from_millis(500);

/// Whether commits get through; shared by all gates of a test.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

/// Opens the gate at the end of a test, also of one that failed: nobody is left waiting.
struct OpensAtTheEnd(Arc<Gate>);

impl Drop for OpensAtTheEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// redb behind a gate.
#[derive(Debug)]
struct Gated {
    redb: Redb,
    gate: Arc<Gate>,
}

impl Gate {
    fn pass(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(open, |open| !*open));
    }

    fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }
}

impl Backend for Gated {
    fn open(path: &Path, absent: Absent, syncs: &Syncs) -> Result<Self, Fault> {
        let redb = Redb::open(path, absent, syncs)?;
        Ok(Self { redb, gate: Arc::default() })
    }

    fn commit(&self, changes: Vec<Change>, count: u64) -> Result<(), Fault> {
        self.gate.pass();
        self.redb.commit(changes, count)
    }

    fn count(&self) -> Result<u64, Fault> {
        self.redb.count()
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        self.redb.get(key)
    }

    fn visit(
        &self,
        prefix: &str,
        after: Option<&str>,
        row: &mut Visitor<'_>,
    ) -> Result<(), Fault> {
        self.redb.visit(prefix, after, row)
    }

    fn disk_len(&self) -> Result<u64, Fault> {
        self.redb.disk_len()
    }
}

fn value(number: u64) -> Bytes {
    vec![u8::try_from(number).unwrap(); VALUE_LEN].into()
}

fn put(number: u64) -> Vec<Change> {
    vec![Change::Put { key: format!("k{number}"), value: value(number) }]
}

fn has_all<B: Backend>(store: &B, upto: u64) {
    for number in 1..=upto {
        assert_eq!(store.get(&format!("k{number}")).unwrap(), Some(value(number)));
    }
}

#[test]
fn a_journal_file_is_not_overwritten_before_the_backend_has_it() {
    let folder = memory_folder();
    let path = folder.path().join("store");
    let store = Journaled::<Gated>::open(&path, Absent::Make, &Syncs::default());
    let store = Arc::new(store.unwrap());
    let gate = OpensAtTheEnd(Arc::clone(&store.backend().gate));
    for number in 1..=FULL {
        store.commit(put(number), number).unwrap();
    }
    has_all(&*store, FULL);
    let (said, heard) = channel();
    let waiting = Arc::clone(&store);
    let next = FULL + 1;
    let writer = std::thread::spawn(move || {
        waiting.commit(put(next), next).unwrap();
        said.send(()).unwrap();
    });
    assert_eq!(heard.recv_timeout(WATCHED), Err(RecvTimeoutError::Timeout));
    // What a kill at this moment leaves.
    let left = memory_folder();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), left.path().join(file.file_name())).unwrap();
    }
    let found =
        Shipped::open(&left.path().join("store"), Absent::Refuse, &Syncs::default());
    has_all(&found.unwrap(), FULL);
    gate.0.open();
    heard.recv().unwrap();
    writer.join().unwrap();
    has_all(&*store, next);
    drop(store);
    let store = Shipped::open(&path, Absent::Refuse, &Syncs::default()).unwrap();
    assert_eq!(store.count(), Ok(next));
    has_all(&store, next);
}

/// Opens a store again and again, with so many commits without changes each time, then one with.
fn goes_on_after_commits_without_changes(empty: u64) {
    let folder = memory_folder();
    let path = folder.path().join("store");
    let mut count = 0;
    for number in 1..=3 {
        let store = Shipped::open(&path, Absent::Make, &Syncs::default()).unwrap();
        assert_eq!(store.count(), Ok(count));
        for _ in 0..empty {
            count += 1;
            store.commit(Vec::new(), count).unwrap();
        }
        drop(store);
        let store = Shipped::open(&path, Absent::Refuse, &Syncs::default()).unwrap();
        count += 1;
        store.commit(put(number), count).unwrap();
        has_all(&store, number);
    }
    let store = Shipped::open(&path, Absent::Refuse, &Syncs::default()).unwrap();
    assert_eq!(store.count(), Ok(count));
    has_all(&store, 3);
}

#[test]
fn a_commit_without_changes_before_a_restart_is_not_overwritten() {
    goes_on_after_commits_without_changes(1);
}

#[test]
fn files_full_of_commits_without_changes_are_not_overwritten_before_their_turn() {
    // 16 bytes each: both of a test's files twice over.
    goes_on_after_commits_without_changes(4_100);
}
