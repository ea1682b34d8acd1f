//! redb as a database that the writer commits to; the embedded engine and the rows of a store
//! lie in it.
//!
//! Three things are not left to redb's defaults. A file is settled before it is opened, so
//! that what the disk lost is seen (`settle.rs`). The whole file is verified at every open:
//! redb has a checksum for every page but compares them only when told to, and without that a
//! flipped bit is returned as data or panics. And a failed sync is told apart from a failed
//! write, because only after the latter may the same process go on.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    BackendError, Database, ReadableDatabase, StorageBackend, TableDefinition,
    WriteTransaction,
};

use super::draft::make_whole;
use super::settle::settle_file;
use super::{Absent, Disk, Fault, Syncs};

/// Cache of the database in bytes; redb's default of 1 GiB is too much for five regions on
/// one machine.
const CACHE_LEN_MAX: usize = 64 << 20;

/// Counts the transactions; the one row tells whether the last one arrived.
const COUNTER: TableDefinition<'_, (), u64> = TableDefinition::new("commit");

/// An open redb file.
pub(crate) struct RedbDisk {
    database: Database,
}

impl RedbDisk {
    pub(crate) const fn database(&self) -> &Database {
        &self.database
    }

    fn open_file(path: &Path, syncs: &Syncs) -> Result<Self, Fault> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| Fault::of_io(&error))?;
        let backend = Watched {
            inner: FileBackend::new(file).map_err(fault)?,
            syncs: syncs.clone(),
        };
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_LEN_MAX);
        builder.set_check_integrity_on_open(true);
        let database = builder.create_with_backend(backend).map_err(fault)?;
        Ok(Self { database })
    }
}

impl fmt::Debug for RedbDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbDisk").finish_non_exhaustive()
    }
}

impl Disk for RedbDisk {
    type Transaction<'d> = WriteTransaction;

    fn open(path: &Path, absent: Absent, syncs: &Syncs) -> Result<Self, Fault> {
        match (path.metadata().map(|found| found.len()), absent) {
            // An empty file counts as none: a stop may leave one in place of a name.
            (Ok(0), Absent::Make) => make_whole(path, make)?,
            (Ok(0), Absent::Refuse) => {
                return Err(Fault::Damaged("the file is empty".to_owned()));
            }
            (Err(error), Absent::Make) if error.kind() == io::ErrorKind::NotFound => {
                make_whole(path, make)?;
            }
            (Err(error), _) => return Err(Fault::of_io(&error)),
            (Ok(_), _) => {}
        }
        settle_file(path)?;
        Self::open_file(path, syncs)
    }

    fn begin(&self) -> Result<WriteTransaction, Fault> {
        self.database.begin_write().map_err(fault)
    }

    fn commit(&self, transaction: WriteTransaction, count: u64) -> Result<(), Fault> {
        let staged = || -> Result<(), Fault> {
            let mut counter = transaction.open_table(COUNTER).map_err(fault)?;
            counter.insert((), count).map_err(fault)?;
            Ok(())
        };
        staged()?;
        transaction.commit().map_err(fault)
    }

    fn count(&self) -> Result<u64, Fault> {
        let transaction = self.database.begin_read().map_err(fault)?;
        let counter = match transaction.open_table(COUNTER) {
            Ok(counter) => counter,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(0),
            Err(error) => return Err(fault(error)),
        };
        Ok(counter.get(()).map_err(fault)?.map_or(0, |row| row.value()))
    }
}

/// Makes an empty database; closing it syncs it.
fn make(path: &Path) -> Result<(), Fault> {
    Database::create(path).map_err(fault)?.close().map_err(fault)
}

/// Sorts any of redb's errors.
pub(crate) fn fault(error: impl Into<redb::Error>) -> Fault {
    let error = error.into();
    #[expect(clippy::wildcard_enum_match_arm, reason = "redb may add errors")]
    match &error {
        redb::Error::Io(error) => Fault::of_io(error),
        redb::Error::Corrupted(_) => Fault::Damaged(error.to_string()),
        redb::Error::UpgradeRequired(_) => Fault::Foreign(error.to_string()),
        _ => Fault::Io(error.to_string()),
    }
}

/// A file that notes when a sync of it fails.
#[derive(Debug)]
struct Watched {
    inner: FileBackend,
    syncs: Syncs,
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data().inspect_err(|_| self.syncs.fail())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(
        &self,
        from: Bound<u64>,
        to: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_range(from, to)
    }

    fn try_lock_shared_range(
        &self,
        from: Bound<u64>,
        to: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(from, to)
    }

    fn lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(from, to)
    }

    fn lock_shared_range(
        &self,
        from: Bound<u64>,
        to: Bound<u64>,
    ) -> Result<(), BackendError> {
        self.inner.lock_shared_range(from, to)
    }

    fn unlock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(from, to)
    }

    fn query_lock_range(
        &self,
        from: Bound<u64>,
        to: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.query_lock_range(from, to)
    }
}
