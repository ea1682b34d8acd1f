//! The region's books: the one task that owns the ledger, and the way to reach it.
//!
//! Order kept: decide, persist, answer. The task takes all requests that wait, lets the ledger
//! decide each, stores the changes of all of them in one durable batch, and only then answers
//! any of them. While one batch is on its way to the disk the next one gathers, so the cost of
//! an fsync is shared, and throughput rises with load.
//!
//! When a batch cannot be stored the ledger is ahead of its disk: it is loaded again, and every
//! request of the batch is told that nothing was done.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::ledger::{
    CancelDenied, Change, Changed, CommitDenied, ConfirmDenied, HostReport, Ledger,
    LoadError, Mark, ParkDenied, Reconciled, Reservation, Reserve, ReserveDenied, Row,
};
use dwcp_controller::ownership::VmRecord;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::store::{Change as Write, LocalStore, StoreError};
use dwcp_types::{HostId, HostView, RegionId, ReservationId, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

/// Requests that wait before their callers do.
const ASKS_MAX: usize = 8_192;

/// Requests that share one durable batch.
const BATCH_MAX: usize = 2_048;

/// How often lapsed reservations are looked for when nothing else happens.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Pause before a store that failed is read again.
const RELOAD_PAUSE: Duration = Duration::from_millis(500);

/// Why the books do not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BooksError {
    /// The change could not be stored; nothing was done.
    #[error("the region cannot store its reservations: {reason}")]
    NotStored {
        /// Why, and what to do.
        reason: String,
    },
    /// The daemon is stopping.
    #[error("the region's daemon is stopping")]
    Stopping,
}

/// Why the books cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store does not give its rows.
    #[error("the stored reservations cannot be read")]
    Store(#[from] StoreError),
    /// A row cannot be understood.
    #[error(
        "the stored row {key} cannot be read: {reason}; restore the region's data or remove the row"
    )]
    Row {
        /// Its key.
        key: String,
        /// Why.
        reason: serde_json::Error,
    },
    /// The rows contradict each other.
    #[error(transparent)]
    Rows(#[from] LoadError),
}

/// The hosts as of the last batch, to be seen without asking.
pub type Shown = Arc<Vec<HostView>>;

/// Tells the caller what came of its request, once it is known whether it was stored.
type Answer = Box<dyn FnOnce(Result<(), BooksError>) + Send>;

/// Decides one request: what to store, and how to answer.
type Ask = Box<dyn FnOnce(&mut Ledger, Timestamp) -> (Vec<Change>, Answer) + Send>;

/// The way to the books; cheap to clone.
#[derive(Clone)]
pub struct Books {
    asks: mpsc::Sender<Ask>,
    shown: watch::Receiver<Shown>,
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Books").finish_non_exhaustive()
    }
}

impl Books {
    /// Holds capacity ([`Ledger::reserve`]).
    ///
    /// # Errors
    ///
    /// The outer when nothing could be stored, the inner when the ledger says no.
    pub async fn reserve(
        &self,
        ask: Reserve,
    ) -> Result<Result<Arc<Reservation>, ReserveDenied>, BooksError> {
        self.ask(move |ledger, now| flat(ledger.reserve(now, ask))).await
    }

    /// Begins a commit ([`Ledger::begin_commit`]); `record` is made from the reservation.
    ///
    /// # Errors
    ///
    /// The outer when nothing could be stored, the inner when the ledger says no.
    pub async fn begin_commit(
        &self,
        id: ReservationId,
        record: impl FnOnce(&Reservation, Timestamp) -> VmRecord + Send + 'static,
    ) -> Result<Result<Arc<Reservation>, CommitDenied>, BooksError> {
        self.ask(move |ledger, now| {
            let Some(row) = ledger.get(&id).cloned() else {
                return unchanged(Err(CommitDenied::Unknown { id }));
            };
            flat(ledger.begin_commit(now, &id, record(&row, now)))
        })
        .await
    }

    /// The engine has the VM ([`Ledger::confirm`]).
    ///
    /// # Errors
    ///
    /// The outer when nothing could be stored, the inner when the ledger says no.
    pub async fn confirm(
        &self,
        id: ReservationId,
    ) -> Result<Result<Arc<Reservation>, ConfirmDenied>, BooksError> {
        self.ask(move |ledger, _| flat(ledger.confirm(&id))).await
    }

    /// Holds what is held for longer ([`Ledger::renew`]).
    ///
    /// # Errors
    ///
    /// The outer when nothing could be stored, the inner when it is not held any more.
    pub async fn renew(
        &self,
        id: ReservationId,
    ) -> Result<Result<Arc<Reservation>, ConfirmDenied>, BooksError> {
        self.ask(move |ledger, now| flat(ledger.renew(now, &id))).await
    }

    /// Gives capacity back ([`Ledger::release`]).
    ///
    /// # Errors
    ///
    /// When nothing could be stored.
    pub async fn release(&self, id: ReservationId) -> Result<(), BooksError> {
        self.ask(move |ledger, _| ledger.release(&id)).await
    }

    /// Gives back all but the disk's storage ([`Ledger::park`]).
    ///
    /// # Errors
    ///
    /// The outer when nothing could be stored, the inner when there is nothing to park.
    pub async fn park(
        &self,
        id: ReservationId,
    ) -> Result<Result<Arc<Reservation>, ParkDenied>, BooksError> {
        self.ask(move |ledger, _| flat(ledger.park(&id))).await
    }

    /// Makes what is held the storage of a replica ([`Ledger::keep_for_replica`]).
    ///
    /// # Errors
    ///
    /// The outer when nothing could be stored, the inner when it is not held any more.
    pub async fn keep_for_replica(
        &self,
        id: ReservationId,
    ) -> Result<Result<Arc<Reservation>, ParkDenied>, BooksError> {
        self.ask(move |ledger, now| flat(ledger.keep_for_replica(now, &id))).await
    }

    /// Takes it again ([`Ledger::unpark`]).
    ///
    /// # Errors
    ///
    /// The outer when nothing could be stored, the inner when there is no room.
    pub async fn unpark(
        &self,
        id: ReservationId,
    ) -> Result<Result<Arc<Reservation>, ParkDenied>, BooksError> {
        self.ask(move |ledger, _| flat(ledger.unpark(&id))).await
    }

    /// A coordinator takes back what it only holds ([`Ledger::cancel`]).
    ///
    /// # Errors
    ///
    /// The outer when nothing could be stored, the inner when it is past that.
    pub async fn cancel(
        &self,
        id: ReservationId,
    ) -> Result<Result<(), CancelDenied>, BooksError> {
        self.ask(move |ledger, _| flat(ledger.cancel(&id))).await
    }

    /// Whether something is held, or more, under this id.
    ///
    /// # Errors
    ///
    /// When the daemon is stopping.
    pub async fn has(&self, id: ReservationId) -> Result<bool, BooksError> {
        self.ask(move |ledger, _| unchanged(ledger.get(&id).is_some())).await
    }

    /// A host says what it has ([`Ledger::report_host`]).
    ///
    /// # Errors
    ///
    /// When the daemon is stopping.
    pub async fn report_host(&self, report: HostReport) -> Result<(), BooksError> {
        self.ask(move |ledger, _| {
            if let Err(reason) = ledger.report_host(report) {
                warn!(%reason, "a host is not taken into the books");
            }
            unchanged(())
        })
        .await
    }

    /// A host does not answer ([`Ledger::host_silent`]).
    ///
    /// # Errors
    ///
    /// When the daemon is stopping.
    pub async fn host_silent(&self, host: HostId) -> Result<(), BooksError> {
        self.ask(move |ledger, _| {
            ledger.host_silent(&host);
            unchanged(())
        })
        .await
    }

    /// Take this before reading the records for [`Self::reconcile`].
    ///
    /// # Errors
    ///
    /// When the daemon is stopping.
    pub async fn mark(&self) -> Result<Mark, BooksError> {
        self.ask(|ledger, _| unchanged(ledger.mark())).await
    }

    /// Brings the books in line with the engine's records ([`Ledger::reconcile`]).
    ///
    /// # Errors
    ///
    /// When nothing could be stored.
    pub async fn reconcile(
        &self,
        mark: Mark,
        records: Vec<VmRecord>,
    ) -> Result<Reconciled, BooksError> {
        self.ask(move |ledger, now| ledger.reconcile(now, mark, &records)).await
    }

    /// What is being committed and must be rolled forward.
    ///
    /// # Errors
    ///
    /// When the daemon is stopping.
    pub async fn committing(&self) -> Result<Vec<Arc<Reservation>>, BooksError> {
        self.ask(|ledger, _| unchanged(ledger.committing().cloned().collect())).await
    }

    /// The hosts as of the last batch.
    #[must_use]
    pub fn hosts(&self) -> Shown {
        self.shown.borrow().clone()
    }

    /// Follows the hosts.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Shown> {
        self.shown.clone()
    }

    async fn ask<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Ledger, Timestamp) -> Changed<T> + Send + 'static,
    ) -> Result<T, BooksError> {
        let (tx, answered) = oneshot::channel();
        let ask: Ask = Box::new(move |ledger, now| {
            let Changed { value, changes } = decide(ledger, now);
            // A caller that went away does not want its answer.
            let answer = |stored: Result<(), BooksError>| {
                tx.send(stored.map(|()| value)).unwrap_or_default();
            };
            (changes, Box::new(answer))
        });
        self.asks.send(ask).await.map_err(|_| BooksError::Stopping)?;
        answered.await.map_err(|_| BooksError::Stopping)?
    }
}

fn flat<T, E>(result: Result<Changed<T>, E>) -> Changed<Result<T, E>> {
    match result {
        Ok(Changed { value, changes }) => Changed { value: Ok(value), changes },
        Err(denied) => unchanged(Err(denied)),
    }
}

const fn unchanged<T>(value: T) -> Changed<T> {
    Changed { value, changes: Vec::new() }
}

/// The task that owns the ledger.
pub struct BooksTask {
    region: RegionId,
    ledger: Ledger,
    store: Arc<LocalStore>,
    clock: Arc<dyn Clock>,
    asks: mpsc::Receiver<Ask>,
    shown: watch::Sender<Shown>,
}

impl fmt::Debug for BooksTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BooksTask").field("region", &self.region).finish_non_exhaustive()
    }
}

impl BooksTask {
    /// Loads the books from the region's store.
    ///
    /// # Errors
    ///
    /// When the store cannot be read or its rows are no ledger.
    pub fn open(
        region: RegionId,
        store: Arc<LocalStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Books), OpenError> {
        let ledger = load(&region, &store)?;
        info!(%region, reservations = ledger.totals().reservations, "books opened");
        let (tx, asks) = mpsc::channel(ASKS_MAX);
        let (shown, seen) = watch::channel(Shown::default());
        let task = Self { region, ledger, store, clock, asks, shown };
        task.show();
        Ok((task, Books { asks: tx, shown: seen }))
    }

    /// Runs until every handle is gone.
    pub async fn run(mut self) {
        let mut asks = Vec::new();
        loop {
            tokio::select! {
                taken = self.asks.recv_many(&mut asks, BATCH_MAX) => {
                    if taken == 0 {
                        return;
                    }
                }
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
            self.serve(asks.drain(..)).await;
        }
    }

    async fn serve(&mut self, asks: impl Iterator<Item = Ask> + Send) {
        let now = self.clock.now();
        let mut changes = self.ledger.expire(now).changes;
        let mut answers = Vec::new();
        for ask in asks {
            let (more, answer) = ask(&mut self.ledger, now);
            changes.extend(more);
            answers.push(answer);
        }
        let stored = self.persist(&changes).await;
        if stored.is_err() {
            self.reload().await;
        }
        // Shown before answered: who has its answer sees at least its own change.
        self.show();
        for answer in answers {
            answer(stored.clone());
        }
    }

    async fn persist(&self, changes: &[Change]) -> Result<(), BooksError> {
        if changes.is_empty() {
            return Ok(());
        }
        let refused = |reason: String| BooksError::NotStored { reason };
        let writes: Result<Vec<_>, _> = changes.iter().map(write_of).collect();
        let writes = writes.map_err(|error| refused(error.to_string()))?;
        self.store.apply(writes).await.map_err(|error| refused(error.to_string()))
    }

    /// Begins again from what is on disk. Until that can be read nothing is answered: an
    /// answer from a ledger that is ahead of its disk could sell capacity twice.
    async fn reload(&mut self) {
        let reports = self.ledger.host_reports();
        loop {
            match load(&self.region, &self.store) {
                Ok(mut ledger) => {
                    ledger.go_on_after(self.ledger.mark());
                    self.ledger = ledger;
                    break;
                }
                Err(reason) => {
                    warn!(%reason, "the region's books cannot be read back yet");
                    tokio::time::sleep(RELOAD_PAUSE).await;
                }
            }
        }
        for report in reports {
            if let Err(reason) = self.ledger.report_host(report) {
                warn!(%reason, "a host is not taken into the books again");
            }
        }
    }

    fn show(&self) {
        self.shown.send_replace(Arc::new(self.ledger.hosts()));
    }
}

fn write_of(change: &Change) -> Result<Write, serde_json::Error> {
    let key = change.key().text();
    Ok(match change {
        Change::Put(row) => Write::Put { key, value: serde_json::to_vec(row)?.into() },
        Change::Delete(_) => Write::Delete { key },
    })
}

fn load(region: &RegionId, store: &LocalStore) -> Result<Ledger, OpenError> {
    let mut rows = Vec::new();
    for prefix in ["reservation/", "cordon/"] {
        for (key, value) in store.scan(prefix)? {
            let row: Row = serde_json::from_slice(&value)
                .map_err(|reason| OpenError::Row { key, reason })?;
            rows.push(row);
        }
    }
    Ok(Ledger::load(region.clone(), rows)?)
}
