//! The one thread that writes to a database, and what it does when the disk fails.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::confirmed::Confirmed;
use super::{
    Absent, CommitError, Disk, Fault, Job, Machine, Slot, Syncs, closed, refused,
};

/// Most requests in one transaction: bounds how long the first one waits for the last.
const BATCH_MAX: usize = 512;
/// How long a database that cannot be opened is left alone before the next try; in tests
/// nothing is gained by leaving it alone.
const REOPEN_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 200 });

pub(super) struct Writer<M: Machine> {
    pub(super) path: PathBuf,
    pub(super) slot: Arc<Slot<M::Disk>>,
    pub(super) machine: M,
    pub(super) jobs: mpsc::Receiver<Job<M>>,
    /// How many transactions are known to be on disk.
    pub(super) count: u64,
    pub(super) confirmed: Confirmed,
    pub(super) syncs: Syncs,
    /// Told why, when nothing more will be written.
    pub(super) over: watch::Sender<Option<String>>,
}

/// What a database is like after a failure.
enum Aftermath {
    /// Open again.
    Usable,
    /// Closed; it may be opened later.
    Closed,
    /// Closed for as long as this process lives.
    Over(CommitError),
}

type Answer<M> = oneshot::Sender<Result<<M as Machine>::Reply, CommitError>>;

/// How an attempt to commit ended. `staged` is there when the commit itself had begun.
enum Attempt<R> {
    Durable(Vec<R>),
    Failed { fault: Fault, staged: Option<Vec<R>> },
}

impl<M: Machine> Writer<M> {
    pub(super) fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(job) = self.jobs.try_recv()
            {
                batch.push(job);
            }
            match self.commit(batch) {
                Aftermath::Usable => {}
                Aftermath::Closed => self.reopen_until_it_works(),
                Aftermath::Over(error) => self.refuse_for_ever(&error),
            }
        }
    }

    /// Commits a batch and answers it.
    fn commit(&mut self, batch: Vec<Job<M>>) -> Aftermath {
        let (requests, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|job| (job.request, job.answer)).unzip();
        match self.attempt(requests) {
            Attempt::Durable(replies) => {
                self.succeed(self.count + 1, replies, answers);
                Aftermath::Usable
            }
            Attempt::Failed { fault, staged } => self.recover(fault, staged, answers),
        }
    }

    fn attempt(&mut self, requests: Vec<M::Request>) -> Attempt<M::Reply> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let Ok(disk) = &*slot else {
            let fault = Fault::Io("it is not open".to_owned());
            return Attempt::Failed { fault, staged: None };
        };
        let staged = disk.begin().and_then(|mut transaction| {
            let replies = self.machine.apply(&mut transaction, requests)?;
            Ok((transaction, replies))
        });
        let (transaction, replies) = match staged {
            Ok(staged) => staged,
            Err(fault) => return Attempt::Failed { fault, staged: None },
        };
        match disk.commit(transaction, self.count + 1) {
            Ok(()) => Attempt::Durable(replies),
            Err(fault) => Attempt::Failed { fault, staged: Some(replies) },
        }
    }

    fn succeed(&mut self, count: u64, replies: Vec<M::Reply>, answers: Vec<Answer<M>>) {
        self.count = count;
        // Before the answers: whoever was answered may rely on the number that is noted.
        self.confirmed.note(count);
        self.machine.durable();
        for (answer, reply) in answers.into_iter().zip(replies) {
            respond(answer, Ok(reply));
        }
    }

    /// Opens the database again and answers by what is really on disk.
    fn recover(
        &mut self,
        fault: Fault,
        staged: Option<Vec<M::Reply>>,
        answers: Vec<Answer<M>>,
    ) -> Aftermath {
        let begun = staged.is_some();
        let fault = self.syncs.sort(fault);
        let failed = refused(&self.path, fault.clone());
        tracing::error!(reason = %failed, "a commit failed");
        let reopened = match fault {
            Fault::Unsynced(_) => Err(fault),
            Fault::Full(_) | Fault::Damaged(_) | Fault::Foreign(_) | Fault::Io(_) => {
                self.reopen()
            }
        };
        if let (Ok(count), Some(replies)) = (&reopened, staged)
            && *count == self.count + 1
        {
            self.succeed(*count, replies, answers);
            return Aftermath::Usable;
        }
        self.machine.discarded();
        let error = if begun && reopened.is_err() {
            CommitError::Unknown { reason: failed.to_string() }
        } else {
            failed.clone()
        };
        let aftermath = match reopened {
            Ok(_) => Aftermath::Usable,
            Err(fault) if is_final(&fault) => {
                let error = refused(&self.path, fault);
                self.shut(error.clone());
                Aftermath::Over(error)
            }
            Err(_) => Aftermath::Closed,
        };
        for answer in answers {
            respond(answer, Err(error.clone()));
        }
        aftermath
    }

    /// Closes the database and says why to who reads.
    fn shut(&self, error: CommitError) {
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = Err(error);
    }

    /// Closes the database, opens it again and reads its counter.
    fn reopen(&self) -> Result<u64, Fault> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        // First: nobody opens a database that is open.
        *slot = Err(closed(&self.path));
        let opened = self.open().map_err(|fault| self.syncs.sort(fault));
        let count = opened.as_ref().map(|(_, count)| *count).map_err(Clone::clone);
        *slot = opened.map(|(disk, _)| disk).map_err(|fault| refused(&self.path, fault));
        count
    }

    fn open(&self) -> Result<(M::Disk, u64), Fault> {
        if self.syncs.failed() {
            return Err(Fault::Unsynced("a sync failed when it was closed".to_owned()));
        }
        let disk = M::Disk::open(&self.path, Absent::Refuse, &self.syncs)?;
        let count = disk.count()?;
        self.confirmed.check(count)?;
        Ok((disk, count))
    }

    fn reopen_until_it_works(&mut self) {
        while let Err(fault) = self.reopen_and_reload() {
            let is_final = is_final(&fault);
            let error = refused(&self.path, fault);
            tracing::debug!(reason = %error, "the database stays closed");
            if is_final {
                self.refuse_for_ever(&error);
                return;
            }
            while let Ok(job) = self.jobs.try_recv() {
                respond(job.answer, Err(error.clone()));
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
        if let Ok(disk) = &*slot {
            self.machine.reload(disk)?;
        }
        self.count = count;
        Ok(())
    }

    /// Refuses readers and writers until nobody asks any more.
    fn refuse_for_ever(&mut self, error: &CommitError) {
        self.shut(error.clone());
        self.over.send_replace(Some(error.to_string()));
        while let Some(job) = self.jobs.blocking_recv() {
            respond(job.answer, Err(error.clone()));
        }
    }
}

/// Whether opening the database again in this process is of no use: it cannot know what the
/// disk has, or what the disk has is of no use.
const fn is_final(fault: &Fault) -> bool {
    match fault {
        Fault::Unsynced(_) | Fault::Damaged(_) | Fault::Foreign(_) => true,
        Fault::Full(_) | Fault::Io(_) => false,
    }
}

/// Answers, unless the asker has gone; then nobody minds.
fn respond<T>(answer: oneshot::Sender<T>, reply: T) {
    if answer.send(reply).is_err() {
        tracing::trace!("whoever asked has gone");
    }
}
