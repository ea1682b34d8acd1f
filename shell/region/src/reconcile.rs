//! Brings the books in line with the engine's records: at start, and every while.
//!
//! After a crash the books may hold a reservation whose record is gone, or miss one whose
//! record is there; the records win (`Ledger::reconcile`).

use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::ledger::Reconciled;
use dwcp_controller::ownership::{VMS_PREFIX, VmRecord};
use dwcp_runtime::strong::{KeyValue, StrongEngine, StrongError};
use dwcp_types::RegionId;
use tracing::{info, warn};

use crate::books::Books;
use crate::events::Events;
use crate::mirror::read_all;

/// How often; capacity that a crash left counted is free again after this.
const EVERY: Duration = Duration::from_secs(30);

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
        loop {
            let pause = match self.once().await {
                Ok(found) => {
                    self.tell(&found).await;
                    EVERY
                }
                Err(reason) => {
                    info!(%reason, "books and records are compared later");
                    RETRY_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self) -> Result<Reconciled, StrongError> {
        let unavailable = |reason: crate::books::BooksError| StrongError::Unavailable {
            reason: reason.to_string(),
        };
        let mark = self.books.mark().await.map_err(unavailable)?;
        let (stored, _) = read_all(self.engine.as_ref(), VMS_PREFIX).await?;
        // All or nothing: what is missing from the list would be taken for deleted, and its
        // capacity sold while its guest runs.
        let records: Result<Vec<_>, StrongError> = stored.iter().map(read).collect();
        self.books.reconcile(mark, records?).await.map_err(unavailable)
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
