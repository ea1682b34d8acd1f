//! Makes the replica's batches durable, in their order.
//!
//! Batches that come while the disk is busy are written as one: each alone would be waited for
//! by all behind it. After a failure nothing is written until the batch that failed is handed
//! out again, because a later one that succeeds would say that all before it are durable.

use std::sync::Arc;

use dwcp_runtime::store::{Change, LocalStore};
use dwcp_state::{BatchId, RowChange};
use tokio::sync::mpsc;

/// Batches under way; the replica keeps fewer.
pub(super) const BATCHES_MAX: usize = 16;
/// Changes that are written as one, at most.
const JOINED_MAX: usize = 8_192;

/// Something to be made durable.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) batch: BatchId,
    pub(super) changes: Arc<Vec<RowChange>>,
}

/// What became of a batch, and with it of all before.
#[derive(Debug)]
pub(super) struct Persisted {
    pub(super) batch: BatchId,
    pub(super) result: Result<(), String>,
}

/// Writes until there is nothing more to come.
pub(super) async fn write(
    store: Arc<LocalStore>,
    mut batches: mpsc::Receiver<Batch>,
    persisted: mpsc::Sender<Persisted>,
) {
    let mut failed: Option<BatchId> = None;
    while let Some(first) = batches.recv().await {
        if failed.is_some_and(|failed| failed != first.batch) {
            continue;
        }
        let mut last = first.batch;
        let mut changes: Vec<Change> = first.changes.iter().map(change).collect();
        while changes.len() < JOINED_MAX
            && let Ok(next) = batches.try_recv()
        {
            last = next.batch;
            changes.extend(next.changes.iter().map(change));
        }
        let result = store.apply(changes).await.map_err(|reason| reason.to_string());
        failed = result.is_err().then_some(first.batch);
        let batch = if result.is_err() { first.batch } else { last };
        if persisted.send(Persisted { batch, result }).await.is_err() {
            return;
        }
    }
}

fn change(change: &RowChange) -> Change {
    match change {
        RowChange::Put { row, value } => {
            Change::Put { key: row.clone(), value: value.clone().into() }
        }
        RowChange::Delete { row } => Change::Delete { key: row.clone() },
    }
}
