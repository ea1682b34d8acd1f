//! A journal in front of a backend: a commit costs one write and one sync, not a tree's worth.
//!
//! ```text
//!   commit --record--> journal a or b (synced) --> answered
//!                 \--> recent rows in memory --.
//!                                               >-- the full half, as one commit --> backend
//!   get, visit <-- recent rows over the backend
//! ```
//!
//! Two files of fixed length take turns. When one is full its rows go to the backend as one
//! commit, in the background and each row once, however often it was written; then the file is
//! free. So the backend has what it always had, rows and the number of a commit, only later;
//! the journal has every commit after that number. Both together are the store:
//!
//! - every number from the backend's to the newest is in a run of one of the files, or the store
//!   is damaged; the newest is compared with what was confirmed (`commit/confirmed.rs`);
//! - a file is overwritten only after the backend has all of its run;
//! - what readers see does not depend on where a row lies: the newer half, the full half, the
//!   backend, in this order.
//!
//! A batch that would fill a file goes to the backend itself, behind everything before it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::{Absent, Backend, Change, Fault, Syncs, Visitor, start_of};
use crate::commit::beside;

mod file;
mod overlay;
mod record;

use file::{CAPACITY, JournalFile, Run};

/// Longest record that goes through the journal: a file holds several.
const RECORD_LEN_MAX: usize = CAPACITY / 4;
/// The files' endings, behind the backend's name.
const ENDINGS: [&str; 2] = ["journal-a", "journal-b"];

/// Rows that the backend may not have yet; none is a row that was deleted.
type Rows = BTreeMap<String, Option<Bytes>>;

/// What was committed and is not in the backend yet, or just arrives there.
#[derive(Debug, Default)]
struct Recent {
    /// Of the file that is written to.
    newer: Rows,
    /// Of the full one, until the backend has them.
    full: Arc<Rows>,
    /// The number of the last commit in the full one.
    full_upto: u64,
    /// The number of the newest commit.
    count: u64,
}

/// What the writer and the thread that carries rows to the backend share with readers.
#[derive(Debug)]
struct Shared<B> {
    backend: B,
    recent: RwLock<Recent>,
    /// Held for reading by who needs one moment of backend and recent rows, for writing while
    /// rows go from the one to the other.
    landing: RwLock<()>,
}

/// The writer's side.
#[derive(Debug)]
struct Journal {
    /// The one that is written to, then the other.
    files: [JournalFile; 2],
    /// Carries the rows of the full file to the backend.
    carrier: Option<JoinHandle<Result<(), Fault>>>,
    /// The record in hand; kept for its memory.
    record: Vec<u8>,
}

/// A backend with a journal in front.
pub struct Journaled<B> {
    shared: Arc<Shared<B>>,
    journal: Mutex<Journal>,
}

impl<B: Backend> fmt::Debug for Journaled<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journaled")
            .field("backend", &self.shared.backend)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> Backend for Journaled<B> {
    fn open(path: &Path, absent: Absent, syncs: &Syncs) -> Result<Self, Fault> {
        let backend = B::open(path, absent, syncs)?;
        let count = backend.count()?;
        let open = |ending| JournalFile::open(&beside(path, ending), absent, syncs);
        let [a, b] = ENDINGS;
        let (a, b) = (open(a)?, open(b)?);
        // The newer run goes on, unless the backend has all of it.
        let (newer, older) = if a.1.last() >= b.1.last() { (a, b) } else { (b, a) };
        let is_free = newer.1.last().is_none_or(|last| last <= count);
        let mut recent = Recent { count, ..Recent::default() };
        recent.full = Arc::new(recent.replay(older.1)?);
        recent.full_upto = recent.count;
        recent.newer = recent.replay(newer.1)?;
        let mut files = [newer.0, older.0];
        if is_free {
            files[0].begin();
        }
        let shared =
            Shared { backend, recent: RwLock::new(recent), landing: RwLock::new(()) };
        let journal = Journal { files, carrier: None, record: Vec::new() };
        Ok(Self { shared: Arc::new(shared), journal: Mutex::new(journal) })
    }

    fn commit(&self, changes: Vec<Change>, count: u64) -> Result<(), Fault> {
        let mut journal = self.journal();
        journal.check()?;
        journal.record.clear();
        let mut record = std::mem::take(&mut journal.record);
        let is_record = record::encode(count, &changes, &mut record);
        let done = if is_record && record.len() <= RECORD_LEN_MAX {
            journal.log(&self.shared, &record).map(|()| {
                self.shared.recent_mut().take_in(changes, count);
            })
        } else {
            journal.commit_behind(&self.shared, changes, count)
        };
        journal.record = record;
        done
    }

    fn count(&self) -> Result<u64, Fault> {
        Ok(self.shared.recent().count)
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        // A row goes from here to the backend, never back: it is found in one of them.
        let recent = self.shared.recent().row(key).cloned();
        recent.map_or_else(|| self.shared.backend.get(key), Ok)
    }

    fn visit(
        &self,
        prefix: &str,
        after: Option<&str>,
        row: &mut Visitor<'_>,
    ) -> Result<(), Fault> {
        let _one_moment =
            self.shared.landing.read().unwrap_or_else(PoisonError::into_inner);
        let recent = self.shared.recent().below(prefix, after);
        overlay::visit(&self.shared.backend, recent, prefix, after, row)
    }

    fn disk_len(&self) -> Result<u64, Fault> {
        let journal = self.journal();
        let [a, b] = &journal.files;
        Ok(self.shared.backend.disk_len()? + a.disk_len()? + b.disk_len()?)
    }
}

impl<B> Journaled<B> {
    #[cfg(test)]
    pub(super) fn backend(&self) -> &B {
        &self.shared.backend
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backend> Shared<B> {
    fn recent(&self) -> RwLockReadGuard<'_, Recent> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent_mut(&self) -> RwLockWriteGuard<'_, Recent> {
        self.recent.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the rows of the full file to the backend, as one commit. A commit without rows
    /// counts too: the file may be overwritten only once the backend has its number.
    fn carry(&self) -> Result<(), Fault> {
        let (full, upto) = {
            let recent = self.recent();
            (Arc::clone(&recent.full), recent.full_upto)
        };
        if self.backend.count()? >= upto {
            return Ok(());
        }
        let change = |(key, value): (&String, &Option<Bytes>)| {
            let key = key.clone();
            match value.clone() {
                Some(value) => Change::Put { key, value },
                None => Change::Delete { key },
            }
        };
        let changes = full.iter().map(change).collect();
        let _landing = self.landing.write().unwrap_or_else(PoisonError::into_inner);
        self.backend.commit(changes, upto)?;
        self.recent_mut().full = Arc::default();
        Ok(())
    }
}

impl Recent {
    /// Takes the rows of a run that the backend does not have.
    fn replay(&mut self, run: Run) -> Result<Rows, Fault> {
        let mut rows = Rows::new();
        for (count, changes) in run.records {
            if count <= self.count {
                continue;
            }
            if count - self.count > 1 {
                return Err(Fault::Damaged(format!(
                    "its journal has transaction {count}, and {} is the last before it",
                    self.count
                )));
            }
            self.count = count;
            rows.extend(changes.into_iter().map(row_of));
        }
        Ok(rows)
    }

    /// Takes a commit in that the journal has.
    fn take_in(&mut self, changes: Vec<Change>, count: u64) {
        self.newer.extend(changes.into_iter().map(row_of));
        self.count = count;
    }

    /// From now on the newer rows are those of the full file.
    fn turn(&mut self) {
        self.full = Arc::new(std::mem::take(&mut self.newer));
        self.full_upto = self.count;
    }

    fn row(&self, key: &str) -> Option<&Option<Bytes>> {
        self.newer.get(key).or_else(|| self.full.get(key))
    }

    /// The rows of a prefix after a key.
    fn below(&self, prefix: &str, after: Option<&str>) -> Rows {
        let range = (start_of(prefix, after), Bound::Unbounded);
        let of = |rows: &Rows| -> Vec<(String, Option<Bytes>)> {
            let rows = rows.range::<str, _>(range);
            let below = rows.take_while(|(key, _)| key.starts_with(prefix));
            below.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        of(&self.full).into_iter().chain(of(&self.newer)).collect()
    }
}

fn row_of(change: Change) -> (String, Option<Bytes>) {
    match change {
        Change::Put { key, value } => (key, Some(value)),
        Change::Delete { key } => (key, None),
    }
}

impl Journal {
    /// Makes a record durable, in the other file when this one is full.
    fn log<B: Backend>(
        &mut self,
        shared: &Arc<Shared<B>>,
        record: &[u8],
    ) -> Result<(), Fault> {
        if !self.files[0].has_room(record.len()) {
            // The other file is free once the backend has what it holds.
            self.wait(shared)?;
            self.turn(shared);
            let carried = Arc::clone(shared);
            let carrier = std::thread::Builder::new().name("dwcp-journal".to_owned());
            let carrier = carrier.spawn(move || carried.carry());
            self.carrier = Some(carrier.map_err(|error| Fault::of_io(&error))?);
        }
        self.files[0].append(record)
    }

    /// Commits what is too long for the journal, behind everything that it has.
    fn commit_behind<B: Backend>(
        &mut self,
        shared: &Arc<Shared<B>>,
        changes: Vec<Change>,
        count: u64,
    ) -> Result<(), Fault> {
        self.wait(shared)?;
        self.turn(shared);
        shared.carry()?;
        let _landing = shared.landing.write().unwrap_or_else(PoisonError::into_inner);
        shared.backend.commit(changes, count)?;
        shared.recent_mut().count = count;
        Ok(())
    }

    /// The other file is written to from now on, from its start.
    fn turn<B: Backend>(&mut self, shared: &Shared<B>) {
        shared.recent_mut().turn();
        self.files.swap(0, 1);
        self.files[0].begin();
    }

    /// Waits until the backend has all of the full file.
    fn wait<B: Backend>(&mut self, shared: &Shared<B>) -> Result<(), Fault> {
        self.join()?;
        // What the process before this one had not brought there.
        shared.carry()
    }

    /// Fails when the rows of the full file could not be brought to the backend.
    fn check(&mut self) -> Result<(), Fault> {
        if self.carrier.as_ref().is_some_and(JoinHandle::is_finished) {
            return self.join();
        }
        Ok(())
    }

    fn join(&mut self) -> Result<(), Fault> {
        let Some(carrier) = self.carrier.take() else { return Ok(()) };
        let panicked =
            |_| Err(Fault::Io("the thread that carries rows panicked".to_owned()));
        carrier.join().unwrap_or_else(panicked)
    }
}

impl Drop for Journal {
    /// Nothing touches the backend's file after it was closed.
    fn drop(&mut self) {
        if let Err(fault) = self.join() {
            tracing::debug!(%fault, "the rows of a full journal stay there for the next start");
        }
    }
}
