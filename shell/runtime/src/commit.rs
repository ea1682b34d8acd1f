//! Group commit: one thread turns many small requests into few durable transactions.
//!
//! Whoever asks is answered only after the transaction that holds the request is on disk.
//! While one transaction waits for the disk the next requests gather in a bounded queue, so
//! the cost of an `fsync` is shared by as many callers as there are, with no timer.
//!
//! When the disk fails, nobody is told a lie. The database is closed and opened again, which
//! shows what is really on disk: each transaction raises a counter, and the counter tells
//! whether the failed one arrived. Only when the database cannot be opened either is the
//! outcome unknown. Carrying on with the old handle was rejected: after a failed `fsync` the
//! kernel may have dropped the dirty pages, and a later success would prove nothing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use tokio::sync::{mpsc, oneshot};

use crate::lock::{DirLock, LockError};

/// Most requests in one transaction: bounds how long the first one waits for the last.
const BATCH_MAX: usize = 512;
/// Most requests that wait; more callers wait at the door, holding their request themselves.
const QUEUE_LEN_MAX: usize = 4_096;
/// How long a database that cannot be opened is left alone before the next try.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);
/// Cache of the database in bytes; redb's default of 1 GiB is too much for five regions on
/// one machine.
const CACHE_LEN_MAX: usize = 64 << 20;

/// Counts the transactions; the one row tells whether the last one arrived.
const COUNTER: TableDefinition<'_, (), u64> = TableDefinition::new("commit");

/// What a database says when it fails.
pub(crate) type Fault = Box<redb::Error>;

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// It cannot be read or is damaged.
    #[error("cannot open the database {}: {reason}; {remedy}", path.display())]
    Database {
        /// Where it is.
        path: PathBuf,
        /// What the store said.
        reason: String,
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

/// What the requests of one kind of database do.
pub(crate) trait Machine: Send + 'static {
    /// What is asked.
    type Request: Send;
    /// What is answered.
    type Reply: Send;

    /// Stages all requests in one transaction, and answers each.
    fn apply(
        &mut self,
        transaction: &WriteTransaction,
        requests: Vec<Self::Request>,
    ) -> Result<Vec<Self::Reply>, Fault>;

    /// What was staged last is durable now. Runs before anyone is answered.
    fn durable(&mut self) {}

    /// What was staged last did not happen.
    fn discarded(&mut self) {}

    /// Reads again what is kept in memory: the database may be ahead of it.
    fn reload(&mut self, _database: &Database) -> Result<(), Fault> {
        Ok(())
    }
}

struct Job<M: Machine> {
    request: M::Request,
    answer: oneshot::Sender<Result<M::Reply, CommitError>>,
}

/// A database with its one writer. Readers see only what is durable.
pub(crate) struct Ledger<M: Machine> {
    path: PathBuf,
    slot: Arc<Slot>,
    queue: Option<mpsc::Sender<Job<M>>>,
    thread: Option<JoinHandle<()>>,
    _lock: DirLock,
}

/// The open database, or none while it cannot be opened.
type Slot = RwLock<Option<Database>>;

impl<M: Machine> Ledger<M> {
    /// Opens or makes the database at `path` and starts its writer. `prepare` sees it first.
    pub(crate) fn open(
        path: &Path,
        prepare: impl FnOnce(&Database) -> Result<M, Fault>,
    ) -> Result<Self, OpenError> {
        let lock = DirLock::acquire_file(lock_path(path))?;
        let refused = |fault: Fault| unopenable(path, &fault);
        let database = open_file(path).map_err(refused)?;
        let count = ensure_counter(&database).map_err(refused)?;
        let machine = prepare(&database).map_err(refused)?;
        let slot = Arc::new(RwLock::new(Some(database)));
        let (queue, jobs) = mpsc::channel(QUEUE_LEN_MAX);
        let writer = Writer {
            path: path.to_owned(),
            slot: Arc::clone(&slot),
            machine,
            jobs,
            count,
        };
        let thread = std::thread::Builder::new()
            .name("dwcp-commit".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Thread { path: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            slot,
            queue: Some(queue),
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
        let stopped = || format!("the writer of {} has stopped", self.path.display());
        let sent = match &self.queue {
            Some(queue) => queue.send(Job { request, answer }).await.is_ok(),
            None => false,
        };
        if !sent {
            return Err(CommitError::NotWritten { reason: stopped() });
        }
        reply.await.unwrap_or_else(|_| Err(CommitError::Unknown { reason: stopped() }))
    }

    /// Reads from what is durable.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<T, CommitError> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &*slot else {
            return Err(CommitError::NotWritten {
                reason: format!("{} cannot be opened at the moment", self.path.display()),
            });
        };
        read(database).map_err(|fault| CommitError::NotWritten {
            reason: advice(&self.path, &fault),
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
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl<M: Machine> fmt::Debug for Ledger<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("path", &self.path).finish_non_exhaustive()
    }
}

struct Writer<M: Machine> {
    path: PathBuf,
    slot: Arc<Slot>,
    machine: M,
    jobs: mpsc::Receiver<Job<M>>,
    /// How many transactions are known to be on disk.
    count: u64,
}

impl<M: Machine> Writer<M> {
    fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(job) = self.jobs.try_recv()
            {
                batch.push(job);
            }
            if let Err(reason) = self.commit(batch) {
                self.reopen_until_it_works(&reason);
            }
        }
    }

    /// Commits a batch and answers it. An error says that the database is closed.
    fn commit(&mut self, batch: Vec<Job<M>>) -> Result<(), String> {
        let (requests, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|job| (job.request, job.answer)).unzip();
        match self.attempt(requests) {
            Attempt::Durable(replies) => {
                self.count += 1;
                self.machine.durable();
                for (answer, reply) in answers.into_iter().zip(replies) {
                    respond(answer, Ok(reply));
                }
                Ok(())
            }
            Attempt::Failed { fault, staged } => self.recover(&fault, staged, answers),
        }
    }

    fn attempt(&mut self, requests: Vec<M::Request>) -> Attempt<M::Reply> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &*slot else {
            let fault = Box::new(redb::Error::DatabaseClosed);
            return Attempt::Failed { fault, staged: None };
        };
        let staged = stage(database, &mut self.machine, requests, self.count + 1);
        let (transaction, replies) = match staged {
            Ok(staged) => staged,
            Err(fault) => return Attempt::Failed { fault, staged: None },
        };
        match transaction.commit() {
            Ok(()) => Attempt::Durable(replies),
            Err(error) => {
                Attempt::Failed { fault: Box::new(error.into()), staged: Some(replies) }
            }
        }
    }

    /// Opens the database again and answers by what is really on disk.
    fn recover(
        &mut self,
        fault: &redb::Error,
        staged: Option<Vec<M::Reply>>,
        answers: Vec<Answer<M>>,
    ) -> Result<(), String> {
        let reason = advice(&self.path, fault);
        tracing::error!(path = %self.path.display(), %reason, "a commit failed");
        let reopened = self.reopen();
        let begun = staged.is_some();
        if let (Ok(count), Some(replies)) = (&reopened, staged)
            && *count == self.count + 1
        {
            self.count = *count;
            self.machine.durable();
            for (answer, reply) in answers.into_iter().zip(replies) {
                respond(answer, Ok(reply));
            }
            return Ok(());
        }
        self.machine.discarded();
        let error = if begun && reopened.is_err() {
            CommitError::Unknown { reason: reason.clone() }
        } else {
            CommitError::NotWritten { reason: reason.clone() }
        };
        for answer in answers {
            respond(answer, Err(error.clone()));
        }
        reopened.map(|_| ()).map_err(|_| reason)
    }

    /// Closes the database, opens it again and reads its counter.
    fn reopen(&mut self) -> Result<u64, Fault> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
        // Not made anew: an empty database in place of a lost one would be a lie.
        let database = builder().open(&self.path).map_err(fault)?;
        let count = read_counter(&database)?;
        *slot = Some(database);
        Ok(count)
    }

    fn reopen_until_it_works(&mut self, reason: &str) {
        while let Err(fault) = self.reopen_and_reload() {
            tracing::debug!(path = %self.path.display(), %fault, "the database stays closed");
            while let Ok(job) = self.jobs.try_recv() {
                let reason = reason.to_owned();
                respond(job.answer, Err(CommitError::NotWritten { reason }));
            }
            if self.jobs.is_closed() {
                return;
            }
            std::thread::sleep(REOPEN_PAUSE);
        }
        tracing::info!(path = %self.path.display(), "the database is open again");
    }

    /// A transaction of unknown outcome may have arrived, so what the machine keeps in memory
    /// may be older than the disk.
    fn reopen_and_reload(&mut self) -> Result<(), Fault> {
        let count = self.reopen()?;
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*slot {
            self.machine.reload(database)?;
        }
        self.count = count;
        Ok(())
    }
}

type Answer<M> = oneshot::Sender<Result<<M as Machine>::Reply, CommitError>>;

/// How an attempt to commit ended. `staged` is there when the commit itself had begun.
enum Attempt<R> {
    Durable(Vec<R>),
    Failed { fault: Fault, staged: Option<Vec<R>> },
}

fn stage<M: Machine>(
    database: &Database,
    machine: &mut M,
    requests: Vec<M::Request>,
    count: u64,
) -> Result<(WriteTransaction, Vec<M::Reply>), Fault> {
    let transaction = database.begin_write().map_err(fault)?;
    let replies = machine.apply(&transaction, requests)?;
    let mut counter = transaction.open_table(COUNTER).map_err(fault)?;
    counter.insert((), count).map_err(fault)?;
    drop(counter);
    Ok((transaction, replies))
}

/// Answers, unless the asker has gone; then nobody minds.
fn respond<T>(answer: oneshot::Sender<T>, reply: T) {
    if answer.send(reply).is_err() {
        tracing::trace!("whoever asked has gone");
    }
}

/// Boxes any of redb's errors: they are large, and failures are rare.
pub(crate) fn fault(error: impl Into<redb::Error>) -> Fault {
    Box::new(error.into())
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn open_file(path: &Path) -> Result<Database, Fault> {
    builder().create(path).map_err(fault)
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_LEN_MAX);
    builder
}

fn ensure_counter(database: &Database) -> Result<u64, Fault> {
    let transaction = database.begin_write().map_err(fault)?;
    let mut counter = transaction.open_table(COUNTER).map_err(fault)?;
    let count = counter.get(()).map_err(fault)?.map_or(0, |row| row.value());
    counter.insert((), count).map_err(fault)?;
    drop(counter);
    transaction.commit().map_err(fault)?;
    Ok(count)
}

fn read_counter(database: &Database) -> Result<u64, Fault> {
    let transaction = database.begin_read().map_err(fault)?;
    let counter = transaction.open_table(COUNTER).map_err(fault)?;
    Ok(counter.get(()).map_err(fault)?.map_or(0, |row| row.value()))
}

fn unopenable(path: &Path, fault: &redb::Error) -> OpenError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "redb may add errors")]
    let remedy = match fault {
        redb::Error::Corrupted(_) => "the file is damaged: restore it from a backup",
        redb::Error::UpgradeRequired(_) => "it was written by another version",
        _ => "check that the directory exists, is writable and has space",
    };
    OpenError::Database { path: path.to_owned(), reason: fault.to_string(), remedy }
}

/// Says where, what and what to do, for the user.
fn advice(path: &Path, fault: &redb::Error) -> String {
    let full = matches!(fault, redb::Error::Io(error)
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
    let remedy = if full {
        "free space there; writes resume by themselves"
    } else {
        "check the disk; writes resume by themselves once it works"
    };
    format!("cannot use {}: {fault}; {remedy}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: TableDefinition<'_, u64, ()> = TableDefinition::new("log");

    /// Writes numbers, and fails when told to.
    struct Faulty {
        /// Moved away when a request says so, which keeps it from being opened again.
        path: PathBuf,
    }

    /// What a request does.
    #[derive(Clone, Copy, PartialEq)]
    enum Ask {
        Write(u64),
        Fail,
        FailAndStayClosed,
    }

    impl Machine for Faulty {
        type Request = Ask;
        type Reply = ();

        fn apply(
            &mut self,
            transaction: &WriteTransaction,
            requests: Vec<Ask>,
        ) -> Result<Vec<()>, Fault> {
            let mut log = transaction.open_table(LOG).map_err(fault)?;
            for ask in &requests {
                match ask {
                    Ask::Write(number) => {
                        log.insert(number, ()).map_err(fault)?;
                    }
                    Ask::Fail => return Err(disk_error()),
                    Ask::FailAndStayClosed => {
                        std::fs::rename(&self.path, self.path.with_extension("away"))
                            .unwrap();
                        std::fs::create_dir(&self.path).unwrap();
                        return Err(disk_error());
                    }
                }
            }
            Ok(vec![(); requests.len()])
        }
    }

    fn disk_error() -> Fault {
        Box::new(redb::Error::Io(io::Error::from(io::ErrorKind::StorageFull)))
    }

    fn open(path: &Path) -> Ledger<Faulty> {
        let faulty = Faulty { path: path.to_owned() };
        Ledger::open(path, |_| Ok(faulty)).unwrap()
    }

    fn written(ledger: &Ledger<Faulty>) -> Result<Vec<u64>, CommitError> {
        ledger.read(|database| {
            let transaction = database.begin_read().map_err(fault)?;
            let log = transaction.open_table(LOG).map_err(fault)?;
            let rows = log.iter().map_err(fault)?;
            rows.map(|row| row.map(|(key, _)| key.value()).map_err(fault)).collect()
        })
    }

    #[tokio::test]
    async fn a_failure_costs_its_batch_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = open(&directory.path().join("l.redb"));
        ledger.submit(Ask::Write(1)).await.unwrap();
        let error = ledger.submit(Ask::Fail).await.unwrap_err();
        assert!(matches!(&error, CommitError::NotWritten { reason }
            if reason.contains("l.redb") && reason.contains("free space")));
        ledger.submit(Ask::Write(2)).await.unwrap();
        assert_eq!(written(&ledger).unwrap(), [1, 2]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_again_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l.redb");
        let ledger = open(&path);
        ledger.submit(Ask::Write(1)).await.unwrap();
        let error = ledger.submit(Ask::FailAndStayClosed).await.unwrap_err();
        assert!(matches!(error, CommitError::NotWritten { .. }), "it never began");
        assert!(matches!(written(&ledger), Err(CommitError::NotWritten { .. })));
        ledger.submit(Ask::Write(2)).await.unwrap_err();
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(path.with_extension("away"), &path).unwrap();
        // It comes back by itself; writes are refused until then.
        while ledger.submit(Ask::Write(3)).await.is_err() {}
        assert_eq!(written(&ledger).unwrap(), [1, 3]);
    }
}
