//! Group commit: one thread turns many small requests into few durable transactions.
//!
//! Whoever asks is answered only after the transaction that holds the request is on disk.
//! While one transaction waits for the disk the next requests gather in a bounded queue, so
//! the cost of an `fsync` is shared by as many callers as there are, with no timer.
//!
//! When the disk fails, nobody is told a lie. After a failed write the database is closed and
//! opened again, which shows what is really there: each transaction raises a counter, and the
//! counter tells whether the failed one arrived. After a failed sync nothing more is carried
//! out by this process: the kernel may have dropped what it could not write and still shows it
//! to readers, and a later success would prove nothing. The next process begins with what the
//! disk has (`settle.rs`).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use crate::lock::{DirLock, LockError};

mod confirmed;
mod draft;
mod fault;
mod redb;
mod settle;
mod syncs;
#[cfg(test)]
mod tests;
mod writer;

pub use fault::Fault;
pub(crate) use redb::{RedbDisk, fault};
#[cfg(any(test, feature = "fjall"))]
pub(crate) use settle::settle_folder;
pub use syncs::Syncs;
pub(crate) use {draft::make_whole, settle::settle_file};

use confirmed::Confirmed;
use writer::Writer;

/// Most requests that wait; more callers wait at the door, holding their request themselves.
const QUEUE_LEN_MAX: usize = 4_096;

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// It cannot be read or is damaged.
    #[error("cannot open the database {}: {fault}; {remedy}", path.display())]
    Database {
        /// Where it is.
        path: PathBuf,
        /// What the store said.
        fault: Fault,
        /// What to do.
        remedy: &'static str,
    },
    /// Its writer thread cannot be started.
    #[error("cannot start the writer of {}: {source}", path.display())]
    Thread {
        /// Where the database is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommitError {
    /// It surely was not.
    #[error("{reason}")]
    NotWritten {
        /// What kind of failure it was.
        fault: Fault,
        /// Why, and what to do.
        reason: String,
    },
    /// Nobody can tell until the database can be opened again.
    #[error("{reason}")]
    Unknown {
        /// Why, and what to do.
        reason: String,
    },
}

/// Whether a database that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It is made.
    Make,
    /// It is an error: an empty database in place of a lost one would be a lie.
    Refuse,
}

/// A database as its one writer sees it.
pub(crate) trait Disk: Send + Sync + Sized + 'static {
    /// What is committed as one.
    type Transaction<'d>;

    /// Opens the database, after making sure that what can be read is what the disk has.
    /// Every sync that fails from then on is noted.
    fn open(path: &Path, absent: Absent, syncs: &Syncs) -> Result<Self, Fault>;

    /// Begins a transaction.
    fn begin(&self) -> Result<Self::Transaction<'_>, Fault>;

    /// Makes a transaction durable, and with it how many there have been.
    fn commit(&self, transaction: Self::Transaction<'_>, count: u64)
    -> Result<(), Fault>;

    /// How many transactions there have been.
    fn count(&self) -> Result<u64, Fault>;
}

/// What the requests of one kind of database do.
pub(crate) trait Machine: Send + 'static {
    /// Where it is kept.
    type Disk: Disk;
    /// What is asked.
    type Request: Send;
    /// What is answered.
    type Reply: Send;

    /// Stages all requests in one transaction, and answers each.
    fn apply(
        &mut self,
        transaction: &mut <Self::Disk as Disk>::Transaction<'_>,
        requests: Vec<Self::Request>,
    ) -> Result<Vec<Self::Reply>, Fault>;

    /// What was staged last is durable now. Runs before anyone is answered.
    fn durable(&mut self) {}

    /// What was staged last did not happen.
    fn discarded(&mut self) {}

    /// Reads again what is kept in memory: the database may be ahead of it.
    fn reload(&mut self, _disk: &Self::Disk) -> Result<(), Fault> {
        Ok(())
    }
}

struct Job<M: Machine> {
    request: M::Request,
    answer: oneshot::Sender<Result<M::Reply, CommitError>>,
}

/// The open database, or why it is not open.
type Slot<D> = RwLock<Result<D, CommitError>>;

/// A database with its one writer. Readers see only what is durable.
pub(crate) struct Ledger<M: Machine> {
    path: PathBuf,
    slot: Arc<Slot<M::Disk>>,
    queue: Option<mpsc::Sender<Job<M>>>,
    /// Why the writer has given up, once it has.
    ended: watch::Receiver<Option<String>>,
    thread: Option<JoinHandle<()>>,
    _lock: DirLock,
}

impl<M: Machine> Ledger<M> {
    /// Opens or makes the database at `path` and starts its writer. `prepare` sees it first.
    pub(crate) fn open(
        path: &Path,
        prepare: impl FnOnce(&M::Disk) -> Result<M, Fault>,
    ) -> Result<Self, OpenError> {
        let lock = DirLock::acquire_file(beside(path, "lock"))?;
        let syncs = Syncs::default();
        let refused = |fault: Fault| unopenable(path, syncs.sort(fault));
        let disk = M::Disk::open(path, Absent::Make, &syncs).map_err(refused)?;
        let count = disk.count().map_err(refused)?;
        let confirmed = Confirmed::open(beside(path, "confirmed"));
        confirmed.check(count).map_err(refused)?;
        let machine = prepare(&disk).map_err(refused)?;
        let slot = Arc::new(RwLock::new(Ok(disk)));
        let (queue, jobs) = mpsc::channel(QUEUE_LEN_MAX);
        let (over, ended) = watch::channel(None);
        let writer = Writer {
            path: path.to_owned(),
            slot: Arc::clone(&slot),
            machine,
            jobs,
            count,
            confirmed,
            syncs,
            over,
        };
        let thread = std::thread::Builder::new()
            .name("dwcp-commit".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Thread { path: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            slot,
            queue: Some(queue),
            ended,
            thread: Some(thread),
            _lock: lock,
        })
    }

    /// Carries out a request and answers when it is durable.
    pub(crate) async fn submit(
        &self,
        request: M::Request,
    ) -> Result<M::Reply, CommitError> {
        let (answer, reply) = oneshot::channel();
        let sent = match &self.queue {
            Some(queue) => queue.send(Job { request, answer }).await.is_ok(),
            None => false,
        };
        if !sent {
            let reason = self.stopped();
            return Err(CommitError::NotWritten {
                fault: Fault::Unsynced(reason.clone()),
                reason,
            });
        }
        reply
            .await
            .unwrap_or_else(|_| Err(CommitError::Unknown { reason: self.stopped() }))
    }

    /// Reads from what is durable.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&M::Disk) -> Result<T, Fault>,
    ) -> Result<T, CommitError> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let disk = slot.as_ref().map_err(Clone::clone)?;
        read(disk).map_err(|fault| refused(&self.path, fault))
    }

    /// Completes when the writer will carry out nothing more, and says why: a sync has failed,
    /// or the writer has. Whoever runs this process should end it; the next one reads back
    /// what the disk has.
    pub(crate) fn ended(&self) -> impl Future<Output = String> + Send + 'static {
        let mut ended = self.ended.clone();
        let stopped = self.stopped();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or(stopped),
                Err(_) => stopped,
            }
        }
    }

    fn stopped(&self) -> String {
        let reason = self.ended.borrow().clone();
        reason.unwrap_or_else(|| {
            format!("the writer of {} has stopped", self.path.display())
        })
    }
}

impl<M: Machine> Drop for Ledger<M> {
    /// Waits for the writer, so that the file is closed before its lock is released.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the writer of a database panicked");
        }
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        *slot = Err(closed(&self.path));
    }
}

impl<M: Machine> fmt::Debug for Ledger<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A path with another ending after its own.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

fn unopenable(path: &Path, fault: Fault) -> OpenError {
    let remedy = fault.remedy_at_open();
    OpenError::Database { path: path.to_owned(), fault, remedy }
}

/// Says where, what and what to do, for the user.
fn advice(path: &Path, fault: &Fault) -> String {
    format!("cannot use {}: {fault}; {}", path.display(), fault.remedy())
}

fn refused(path: &Path, fault: Fault) -> CommitError {
    CommitError::NotWritten { reason: advice(path, &fault), fault }
}

fn closed(path: &Path) -> CommitError {
    let reason = format!("{} is not open at the moment", path.display());
    CommitError::NotWritten { fault: Fault::Io(reason.clone()), reason }
}
