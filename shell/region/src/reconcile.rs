//! Brings the books in line with the engine's records: at start, and every while.
//!
//! After a crash the books may hold a reservation whose record is gone, or miss one whose
//! record is there; the records win (`Ledger::reconcile`).
//!
//! While the engine's revision stands still nothing can have come between books and records,
//! and the list of all VMs is not read: five regions reading thirty thousand records every
//! half minute is most of what a federation at rest would cost. It is read all the same every
//! few minutes, so that no reasoning here has to be believed for longer than that.

use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::ledger::Reconciled;
use dwcp_controller::ownership::{VMS_PREFIX, VmRecord};
use dwcp_runtime::strong::{KeyValue, Range, StrongEngine, StrongError};
use dwcp_types::RegionId;
use tracing::{info, warn};

use crate::books::Books;
use crate::events::Events;
use crate::mirror::read_pages;

/// How often; capacity that a crash left counted is free again after this.
const EVERY: Duration = Duration::from_secs(30);

/// Rounds in a row that may pass without reading the list: five minutes.
const UNREAD_MAX: u32 = 10;

/// Pause before the engine is asked again after it failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Reconciles one region.
#[derive(Debug)]
pub struct Reconciler {
    /// The region.
    pub region: RegionId,
    /// The engine with the records.
    pub engine: Arc<dyn StrongEngine>,
    /// The books.
    pub books: Books,
    /// Where to note what was found.
    pub events: Events,
}

impl Reconciler {
    /// Reconciles for ever.
    pub async fn run(self) {
        let mut agreed = None;
        let mut unread = 0;
        loop {
            let pause = match self.once(agreed, unread).await {
                Ok(None) => {
                    unread += 1;
                    EVERY
                }
                Ok(Some((found, revision))) => {
                    // What was postponed is looked at again whatever the engine says.
                    agreed = found.postponed.is_empty().then_some(revision);
                    unread = 0;
                    self.tell(&found).await;
                    EVERY
                }
                Err(reason) => {
                    agreed = None;
                    info!(%reason, "books and records are compared later");
                    RETRY_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// What was found, and the revision that books and records agree on; nothing when they
    /// still agree.
    async fn once(
        &self,
        agreed: Option<u64>,
        unread: u32,
    ) -> Result<Option<(Reconciled, u64)>, StrongError> {
        let unavailable = |reason: crate::books::BooksError| StrongError::Unavailable {
            reason: reason.to_string(),
        };
        let one = Range { prefix: VMS_PREFIX, after: None, limit: 1 };
        if unread < UNREAD_MAX
            && agreed.is_some()
            && agreed == Some(self.engine.range(one).await?.revision)
        {
            return Ok(None);
        }
        let mark = self.books.mark().await.map_err(unavailable)?;
        // Page by page, keeping only our own: all regions' records at once are megabytes. But
        // all or nothing: what is missing from the list would be taken for deleted, and its
        // capacity sold while its guest runs.
        let mut records = Vec::new();
        let mut unreadable = None;
        let take = |page: Vec<KeyValue>| {
            for kv in &page {
                match read(kv) {
                    Ok(record) if self.concerns(&record) => records.push(record),
                    Ok(_) => {}
                    Err(reason) => unreadable = Some(reason),
                }
            }
        };
        let revision = read_pages(self.engine.as_ref(), VMS_PREFIX, take).await?;
        if let Some(reason) = unreadable {
            return Err(reason);
        }
        let found = self.books.reconcile(mark, records).await.map_err(unavailable)?;
        Ok(Some((found, revision)))
    }

    /// Whether a record claims something here: its VM's capacity, or its replica's storage.
    fn concerns(&self, record: &VmRecord) -> bool {
        let replica = record.replica.as_ref();
        record.owner.region == self.region
            || replica.is_some_and(|it| it.at.region == self.region)
    }

    async fn tell(&self, found: &Reconciled) {
        for id in &found.released {
            self.events
                .note(None, &format!("reservation {id} had no VM: released"))
                .await;
        }
        for id in &found.adopted {
            let what =
                format!("a VM without reservation was taken into the books as {id}");
            self.events.note(None, &what).await;
        }
        for host in &found.overcommitted {
            let what = format!("host {host} holds more than it has");
            warn!(region = %self.region, %host, "a host holds more than it has");
            self.events.note(None, &what).await;
        }
    }
}

fn read(kv: &KeyValue) -> Result<VmRecord, StrongError> {
    serde_json::from_slice(&kv.value).map_err(|reason| StrongError::Malformed {
        reason: format!("the record {} cannot be read: {reason}", kv.key),
    })
}
