//! Rows in a fjall folder: a journal that is synced with every commit, and sorted tables that
//! are written from it in the background.
//!
//! Not shipped: it is the second adapter that keeps the port honest and the peer of
//! `cargo xtask bench store`. What it survives and what it does not is in docs/adr/0008.
//!
//! fjall does not say whether a write or a sync has failed, so every failed commit counts as a
//! failed sync: after a full disk the process must start again.

use std::fmt;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::{Absent, Backend, Change, Fault, Syncs, Visitor, start_of};
use crate::commit::{make_whole, settle_folder};

/// Cache of blocks in bytes, as for redb.
const CACHE_LEN_MAX: u64 = 64 << 20;
/// Threads that flush and compact.
const WORKERS: usize = 1;
/// Bytes of rows in memory before they become a table; fjall's default.
const MEMTABLE_LEN_MAX: u64 = 64 << 20;
/// The same in tests, so that a few batches make tables and compact them.
const MEMTABLE_LEN_MAX_IN_TESTS: u64 = 8 << 10;
/// Before every key: fjall has no empty key.
const KEY_HEAD: &str = "k";
/// The key of the one row of the counter.
const COUNT: &str = "count";
/// Bytes of a block in `stat`.
const BLOCK_LEN: u64 = 512;

/// Rows in a fjall folder.
pub struct Fjall {
    path: PathBuf,
    syncs: Syncs,
    database: Database,
    rows: Keyspace,
    counter: Keyspace,
}

impl fmt::Debug for Fjall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fjall").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Backend for Fjall {
    fn open(path: &Path, absent: Absent, syncs: &Syncs) -> Result<Self, Fault> {
        let there = path.try_exists().map_err(|error| Fault::of_io(&error))?;
        match absent {
            Absent::Make if !there => {
                make_whole(path, |draft| open(draft, syncs).map(drop))?;
            }
            Absent::Refuse if !there => {
                return Err(Fault::Io("the folder is gone".to_owned()));
            }
            Absent::Make | Absent::Refuse => {}
        }
        settle_folder(path)?;
        open(path, syncs)
    }

    fn commit(&self, changes: Vec<Change>, count: u64) -> Result<(), Fault> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for change in changes {
            match change {
                Change::Put { key, value } => {
                    batch.insert(&self.rows, stored(&key), value.as_ref());
                }
                Change::Delete { key } => batch.remove(&self.rows, stored(&key)),
            }
        }
        batch.insert(&self.counter, COUNT, count.to_le_bytes());
        batch.commit().map_err(fault).inspect_err(|_| self.syncs.fail())
    }

    fn count(&self) -> Result<u64, Fault> {
        let Some(stored) = self.counter.get(COUNT).map_err(fault)? else { return Ok(0) };
        let bytes = (*stored).try_into();
        let bytes = bytes.map_err(|_| Fault::Damaged("the counter".to_owned()))?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        let value =
            self.database.snapshot().get(&self.rows, stored(key)).map_err(fault)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn visit(
        &self,
        prefix: &str,
        after: Option<&str>,
        row: &mut Visitor<'_>,
    ) -> Result<(), Fault> {
        let start = start_of(prefix, after).map(stored);
        // A plain read can see half of a commit.
        let snapshot = self.database.snapshot();
        for found in snapshot.range::<String, _>(&self.rows, (start, Bound::Unbounded)) {
            let (key, value) = found.into_inner().map_err(fault)?;
            let key = text(&key)?;
            let past = !key.starts_with(prefix);
            if past || row(key, &value)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn disk_len(&self) -> Result<u64, Fault> {
        len_below(&self.path).map_err(|error| Fault::of_io(&error))
    }
}

fn open(path: &Path, syncs: &Syncs) -> Result<Fjall, Fault> {
    let builder = Database::builder(path)
        .cache_size(CACHE_LEN_MAX)
        .worker_threads(WORKERS)
        .manual_journal_persist(true);
    let database = builder.open().map_err(fault)?;
    let options = || {
        let len = if cfg!(test) { MEMTABLE_LEN_MAX_IN_TESTS } else { MEMTABLE_LEN_MAX };
        KeyspaceCreateOptions::default().max_memtable_size(len)
    };
    let rows = database.keyspace("rows", options).map_err(fault)?;
    let counter = database.keyspace("commit", options).map_err(fault)?;
    Ok(Fjall { path: path.to_owned(), syncs: syncs.clone(), database, rows, counter })
}

fn stored(key: &str) -> String {
    format!("{KEY_HEAD}{key}")
}

fn text(stored: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(stored).ok();
    text.and_then(|text| text.strip_prefix(KEY_HEAD))
        .ok_or_else(|| Fault::Damaged(format!("the key {stored:?}")))
}

fn fault(error: fjall::Error) -> Fault {
    let reason = error.to_string();
    #[expect(clippy::wildcard_enum_match_arm, reason = "fjall may add errors")]
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            Fault::of_io(&error)
        }
        fjall::Error::Storage(_)
        | fjall::Error::JournalRecovery(_)
        | fjall::Error::Decompress(_)
        | fjall::Error::InvalidTrailer
        | fjall::Error::InvalidTag(_)
        | fjall::Error::Unrecoverable => Fault::Damaged(reason),
        fjall::Error::InvalidVersion(_) => Fault::Foreign(reason),
        fjall::Error::Poisoned => Fault::Unsynced(reason),
        _ => Fault::Io(reason),
    }
}

fn len_below(path: &Path) -> io::Result<u64> {
    let mut len = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        len += if entry.file_type()?.is_dir() {
            len_below(&entry.path())?
        } else {
            entry.metadata()?.blocks() * BLOCK_LEN
        };
    }
    Ok(len)
}
