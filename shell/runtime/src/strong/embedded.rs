//! The strong engine of one machine: one durable database, one writer, no consensus.
//!
//! With one writer every transaction is linearizable by construction: transactions take
//! effect in the order of the writer's queue, are answered when durable, and readers see only
//! durable state. What dies with the process is only what etcd would forget by compaction:
//! the events of the past. After a restart every lease gets its whole TTL again, which can
//! lengthen a lease but never cut it short.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use redb::{Database, ReadableDatabase};
use tokio::task::JoinHandle;

mod events;
mod machine;
mod tables;
#[cfg(test)]
mod tests;

use events::EventLog;
use machine::{Reply, Request, TxnMachine};

use super::leases::{LeaseClock, check_ttl};
use super::txn::check_key;
use super::{
    Answer, KEY_LEN_MAX, KeyValue, LeaseId, OpId, PAGE_ITEMS_MAX, PAGE_LEN_MAX, Page,
    Range, StrongEngine, StrongError, Txn, TxnOutcome, Watch, bound,
};
use crate::clock::Clock;
use crate::commit::{CommitError, Fault, Ledger, RedbDisk, fault};

pub use crate::commit::OpenError;

/// A strong engine in this process, on a local file.
#[derive(Debug)]
pub struct EmbeddedEngine {
    shared: Arc<Shared>,
    expiry: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    ledger: Ledger<TxnMachine>,
    events: Arc<EventLog>,
    leases: Arc<LeaseClock>,
    clock: Arc<dyn Clock>,
}

impl EmbeddedEngine {
    /// Opens the engine's file, making it when it is not there, and starts its writer and the
    /// expiry of its leases. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When another process uses the file, or it cannot be read or written.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let leases = Arc::new(LeaseClock::new(Arc::clone(&clock)));
        let events = Arc::new(EventLog::default());
        let ledger = Ledger::open(path, |disk| {
            TxnMachine::load(disk, Arc::clone(&events), Arc::clone(&leases))
        })?;
        let shared = Arc::new(Shared { ledger, events, leases, clock });
        let expiry = tokio::spawn(expire(
            Arc::downgrade(&shared),
            Arc::clone(&shared.leases),
            Arc::clone(&shared.clock),
        ));
        Ok(Self { shared, expiry })
    }

    /// Ends the watches and the writer and closes the file, so that it can be opened again.
    /// Dropping does the same, but a lease that is just ending can delay it.
    pub async fn close(mut self) {
        self.expiry.abort();
        // Aborted is how it ends.
        (&mut self.expiry).await.ok();
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.events.revision()
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        self.expiry.abort();
        self.shared.events.close();
    }
}

impl StrongEngine for EmbeddedEngine {
    fn txn(&self, txn: Txn) -> Answer<'_, TxnOutcome> {
        Box::pin(async move {
            txn.check()?;
            let op_id = txn.op_id.clone();
            match self.shared.submit(Request::Txn(txn), op_id).await? {
                Reply::Txn(outcome) => outcome,
                Reply::Granted(_) | Reply::Ended => Err(mismatch()),
            }
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<KeyValue>> {
        Box::pin(async move {
            check_key(key)?;
            self.shared.read(|database| {
                let transaction = database.begin_read().map_err(fault)?;
                let records = transaction.open_table(tables::RECORDS).map_err(fault)?;
                tables::read_record(&records, key)
            })
        })
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Page> {
        Box::pin(async move {
            bound("a prefix's size in bytes", range.prefix.len(), KEY_LEN_MAX)?;
            bound("a key's size in bytes", range.after.map_or(0, str::len), KEY_LEN_MAX)?;
            self.shared.read(|database| read_page(database, &range))
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, from_revision: u64) -> Answer<'a, Watch> {
        Box::pin(async move {
            bound("a prefix's size in bytes", prefix.len(), KEY_LEN_MAX)?;
            self.shared.events.watch(prefix, from_revision)
        })
    }

    fn lease_grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        Box::pin(async move {
            check_ttl(ttl)?;
            match self.shared.submit(Request::Grant(ttl), None).await? {
                Reply::Granted(lease) => Ok(lease),
                Reply::Txn(_) | Reply::Ended => Err(mismatch()),
            }
        })
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> Answer<'_, Duration> {
        Box::pin(async move {
            self.shared
                .leases
                .keep_alive(lease)
                .ok_or(StrongError::LeaseNotFound { lease })
        })
    }

    fn lease_revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        Box::pin(async move {
            self.shared.submit(Request::End(vec![lease]), None).await.map(|_| ())
        })
    }

    fn ended(&self) -> BoxFuture<'static, String> {
        Box::pin(self.shared.ledger.ended())
    }
}

impl Shared {
    async fn submit(
        &self,
        request: Request,
        op_id: Option<OpId>,
    ) -> Result<Reply, StrongError> {
        self.ledger.submit(request).await.map_err(|error| match error {
            CommitError::NotWritten { reason, .. } => StrongError::Unavailable { reason },
            CommitError::Unknown { reason } => {
                StrongError::Indeterminate { op_id, reason }
            }
        })
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<T, StrongError> {
        self.ledger
            .read(|disk: &RedbDisk| read(disk.database()))
            .map_err(|error| StrongError::Unavailable { reason: error.to_string() })
    }
}

/// Ends leases as their time runs out. A lease whose end cannot be written is ended later; in
/// between it cannot be kept alive.
async fn expire(shared: Weak<Shared>, leases: Arc<LeaseClock>, clock: Arc<dyn Clock>) {
    /// How long a failed end waits for the next try.
    const RETRY_PAUSE: Duration = Duration::from_secs(1);
    loop {
        let expired = leases.next_expired().await;
        let Some(shared) = shared.upgrade() else { return };
        let ended = shared.ledger.submit(Request::End(expired)).await;
        drop(shared);
        if let Err(error) = ended {
            tracing::warn!(%error, "expired leases cannot be ended yet");
            clock.sleep_until(clock.monotonic().saturating_add(RETRY_PAUSE)).await;
        }
    }
}

fn read_page(database: &Database, range: &Range<'_>) -> Result<Page, Fault> {
    let transaction = database.begin_read().map_err(fault)?;
    let records = transaction.open_table(tables::RECORDS).map_err(fault)?;
    let numbers = transaction.open_table(tables::NUMBERS).map_err(fault)?;
    let revision = tables::read_number(&numbers, tables::REVISION)?;
    let limit = range.limit.clamp(1, PAGE_ITEMS_MAX);
    let mut page = Page { items: Vec::new(), revision, more: false };
    let mut size = 0_usize;
    for row in tables::scan(&records, range.prefix, range.after)? {
        let (key, stored) = row.map_err(fault)?;
        if !key.value().starts_with(range.prefix) {
            break;
        }
        if page.items.len() == limit || size >= PAGE_LEN_MAX {
            page.more = true;
            break;
        }
        size = size.saturating_add(key.value().len() + stored.value().len());
        page.items.push(tables::decode(key.value(), stored.value())?);
    }
    Ok(page)
}

/// A reply of another kind than the request: a defect of this module.
fn mismatch() -> StrongError {
    StrongError::Unavailable {
        reason: "the writer gave a reply of the wrong kind".to_owned(),
    }
}
