//! A region's own records: a small durable map on the local disk.
//!
//! For what only this region decides (its reservations, its events, its share of the state
//! plane). A batch is answered when it is on disk, as one, and batches of many callers share an
//! `fsync` (`commit.rs`). There are no comparisons here: whoever writes is the one owner of the
//! records, and decides in memory before.
//!
//! [`Backend`] is the port to what keeps the rows; [`Redb`] behind a journal ([`Journaled`]) is
//! what we ship (docs/adr/0008, 0013). Whatever the backend, every row carries a checksum of its key and
//! value: a read gives what was written or an error, never something else.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use bytes::Bytes;

use crate::commit::{CommitError, Disk, Ledger, Machine};

#[cfg(any(test, feature = "fjall"))]
mod fjall;
mod journal;
mod redb;
mod row;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "fjall"))]
pub use self::fjall::Fjall;
pub use self::journal::Journaled;
pub use self::redb::Redb;
pub use crate::commit::{Absent, Fault, OpenError, Syncs};

/// Longest key in bytes.
pub const KEY_LEN_MAX: usize = 512;
/// Longest value in bytes.
pub const VALUE_LEN_MAX: usize = 1 << 20;
/// Most bytes of keys and values in one batch: a region that takes all its VMs into its books
/// at once stores some 600 bytes for each of 30,000.
pub const BATCH_LEN_MAX: usize = 64 << 20;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a key.
    Put {
        /// The key.
        key: String,
        /// Its value from now on.
        value: Bytes,
    },
    /// Deletes a key; one that is not there is left alone.
    Delete {
        /// The key.
        key: String,
    },
}

/// Why the store does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot work now. Nothing was done.
    #[error("the local store is unavailable: {reason}")]
    Unavailable {
        /// Why, and what to do.
        reason: String,
    },
    /// The disk is full. Nothing was done.
    #[error("the local store is full: {reason}")]
    Full {
        /// Where, and what to do.
        reason: String,
    },
    /// What was read is not what was written. Nothing was done.
    #[error("the local store is damaged: {reason}")]
    Corrupt {
        /// Where, and what to do.
        reason: String,
    },
    /// The disk did not keep what was written at some moment before, and this process cannot
    /// know what. Nothing was done, and nothing more will be: see [`LocalStore::ended`].
    #[error("the local store has stopped: {reason}")]
    Stopped {
        /// Why, and what to do.
        reason: String,
    },
    /// The batch may or may not be on disk; scan to find out. All of it is, or nothing.
    #[error(
        "it is not known whether the batch is on disk: {reason}; read the records again"
    )]
    Indeterminate {
        /// Why, and what to do.
        reason: String,
    },
    /// A limit is exceeded.
    #[error("{what} is {size}, more than the {max} allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large.
        size: usize,
        /// How large it may be.
        max: usize,
    },
}

/// Sees a row of a scan and says whether to go on.
pub type Visitor<'v> = dyn FnMut(&str, &[u8]) -> Result<ControlFlow<()>, Fault> + 'v;

/// Where the rows of a prefix begin that come after a key.
fn start_of<'k>(prefix: &'k str, after: Option<&'k str>) -> Bound<&'k str> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        Some(_) | None => Bound::Included(prefix),
    }
}

/// What keeps the rows of a store. It is used by one writer and many readers; readers see
/// whole commits.
pub trait Backend: fmt::Debug + Send + Sync + Sized + 'static {
    /// Opens what is at a path, after making sure that what can be read of it is what the disk
    /// has: see `commit/settle.rs`. Notes every sync that fails from then on.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    fn open(path: &Path, absent: Absent, syncs: &Syncs) -> Result<Self, Fault>;

    /// Makes changes in their order, as one, together with the number of this commit. Returns
    /// when they are durable.
    ///
    /// # Errors
    ///
    /// After any error the caller opens the backend again before it uses it, or, when a sync
    /// has failed, never.
    fn commit(&self, changes: Vec<Change>, count: u64) -> Result<(), Fault>;

    /// The number of the last commit; 0 before the first.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    fn count(&self) -> Result<u64, Fault>;

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    fn get(&self, key: &str) -> Result<Option<Bytes>, Fault>;

    /// Shows all rows of a prefix that come after a key, in order, as of one moment, holding a
    /// few of them in memory at a time.
    ///
    /// # Errors
    ///
    /// What the disk or the visitor says.
    fn visit(
        &self,
        prefix: &str,
        after: Option<&str>,
        row: &mut Visitor<'_>,
    ) -> Result<(), Fault>;

    /// Bytes on the disk.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    fn disk_len(&self) -> Result<u64, Fault>;
}

/// A durable map from text to bytes.
#[derive(Debug)]
pub struct LocalStore<B: Backend = Journaled<Redb>> {
    ledger: Ledger<Rows<B>>,
}

impl LocalStore {
    /// Opens the store's file, making it when it is not there.
    ///
    /// # Errors
    ///
    /// When another process uses the file, or it cannot be read or written, or is damaged.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_in(path)
    }
}

impl<B: Backend> LocalStore<B> {
    /// Opens a store of any backend, making it when it is not there.
    ///
    /// # Errors
    ///
    /// When another process uses it, or it cannot be read or written, or is damaged.
    pub fn open_in(path: &Path) -> Result<Self, OpenError> {
        let ledger = Ledger::open(path, |_| Ok(Rows(PhantomData)))?;
        Ok(Self { ledger })
    }

    /// Makes all changes as one, in their order, and returns when they are on disk. Batches
    /// take effect in the order in which they are submitted.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        check(&batch)?;
        self.ledger.submit(batch).await.map_err(told)
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// When the disk cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let read = |backend: &Keeper<B>| {
            let stored = backend.0.get(key)?;
            stored.map(|stored| row::open(key, &stored)).transpose()
        };
        self.ledger.read(read).map_err(told)
    }

    /// Shows all rows of a prefix that come after a key, in order, as of one moment, until
    /// told to stop. Only a few rows are in memory at a time; it blocks while it reads.
    ///
    /// # Errors
    ///
    /// When the disk cannot be read. The rows that were shown before are good.
    pub fn visit(
        &self,
        prefix: &str,
        after: Option<&str>,
        mut row: impl FnMut(&str, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let read = |backend: &Keeper<B>| {
            backend.0.visit(prefix, after, &mut |key, stored| {
                Ok(row(key, row::opened(key, stored)?))
            })
        };
        self.ledger.read(read).map_err(told)
    }

    /// All keys that begin with a prefix, in order, as of one moment. The whole answer is in
    /// memory: for prefixes that are known to be small.
    ///
    /// # Errors
    ///
    /// When the disk cannot be read.
    pub fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        let mut found = Vec::new();
        self.visit(prefix, None, |key, value| {
            found.push((key.to_owned(), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Bytes on the disk.
    ///
    /// # Errors
    ///
    /// When the disk cannot be read.
    pub fn disk_len(&self) -> Result<u64, StoreError> {
        self.ledger.read(|backend| backend.0.disk_len()).map_err(told)
    }

    /// Completes when a sync of the store has failed, and says so. Nothing more is carried out
    /// then; the process should end, and the next one reads back what the disk has.
    pub fn ended(&self) -> impl Future<Output = String> + Send + 'static {
        self.ledger.ended()
    }
}

fn told(error: CommitError) -> StoreError {
    match error {
        CommitError::Unknown { reason } => StoreError::Indeterminate { reason },
        CommitError::NotWritten { fault, reason } => match fault {
            Fault::Full(_) => StoreError::Full { reason },
            Fault::Damaged(_) | Fault::Foreign(_) => StoreError::Corrupt { reason },
            Fault::Unsynced(_) => StoreError::Stopped { reason },
            Fault::Io(_) => StoreError::Unavailable { reason },
        },
    }
}

fn check(batch: &[Change]) -> Result<(), StoreError> {
    let bound = |what, size, max| {
        if size > max { Err(StoreError::TooLarge { what, size, max }) } else { Ok(()) }
    };
    let mut total = 0_usize;
    for change in batch {
        let (key, value) = match change {
            Change::Put { key, value } => (key, value.len()),
            Change::Delete { key } => (key, 0),
        };
        bound("a key's size in bytes", key.len(), KEY_LEN_MAX)?;
        bound("a value's size in bytes", value, VALUE_LEN_MAX)?;
        total = total.saturating_add(key.len()).saturating_add(value);
    }
    bound("the batch's size in bytes", total, BATCH_LEN_MAX)
}

/// Nothing is kept in memory.
struct Rows<B>(PhantomData<fn() -> B>);

/// A backend as the writer sees it: what is committed as one is a list of changes.
struct Keeper<B>(B);

impl<B: Backend> Disk for Keeper<B> {
    type Transaction<'d> = Vec<Change>;

    fn open(path: &Path, absent: Absent, syncs: &Syncs) -> Result<Self, Fault> {
        B::open(path, absent, syncs).map(Self)
    }

    fn begin(&self) -> Result<Vec<Change>, Fault> {
        Ok(Vec::new())
    }

    fn commit(&self, changes: Vec<Change>, count: u64) -> Result<(), Fault> {
        self.0.commit(changes, count)
    }

    fn count(&self) -> Result<u64, Fault> {
        self.0.count()
    }
}

impl<B: Backend> Machine for Rows<B> {
    type Disk = Keeper<B>;
    type Request = Vec<Change>;
    type Reply = ();

    fn apply(
        &mut self,
        transaction: &mut Vec<Change>,
        requests: Vec<Vec<Change>>,
    ) -> Result<Vec<()>, Fault> {
        let replies = vec![(); requests.len()];
        transaction.extend(requests.into_iter().flatten().map(row::sealed));
        Ok(replies)
    }
}
