//! The failovers that were: read for people, and forgotten when there are many.

use std::cmp::Reverse;

use dwcp_controller::failover::{HISTORY_PREFIX, Log, history_key};
use dwcp_runtime::strong::{KeyValue, Op, StrongError, Txn};
use tracing::warn;

use super::Rescuer;
use crate::mirror::read_pages;

/// Logs that are kept: years of drills.
const KEPT_MAX: usize = 500;

impl Rescuer {
    /// All that are kept, the newest first, with the one under way.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub async fn history(&self) -> Result<Vec<Log>, StrongError> {
        let mut logs = self.ended().await?;
        let active = self.seen.borrow().active.clone();
        let running = active.map(|(log, _)| log);
        let running = running.filter(|log| logs.iter().all(|ended| ended.id != log.id));
        logs.extend(running);
        logs.sort_by_key(|log| Reverse(log.started_at));
        Ok(logs)
    }

    async fn ended(&self) -> Result<Vec<Log>, StrongError> {
        let mut logs = Vec::new();
        let take = |page: Vec<KeyValue>| {
            for kv in page {
                match serde_json::from_slice::<Log>(&kv.value) {
                    Ok(log) => logs.push(log),
                    Err(reason) => {
                        warn!(key = kv.key, %reason, "a failover's log is unreadable");
                    }
                }
            }
        };
        read_pages(self.engine.as_ref(), HISTORY_PREFIX, take).await?;
        Ok(logs)
    }

    /// Forgets the oldest of too many.
    pub(super) async fn forget_old(&self) -> Result<(), StrongError> {
        let mut logs = self.ended().await?;
        let surplus = logs.len().saturating_sub(KEPT_MAX);
        logs.sort_by_key(|log| log.started_at);
        for log in logs.into_iter().take(surplus) {
            let then = vec![Op::Delete { key: history_key(&log.id) }];
            let compare = Vec::new();
            self.engine.txn(Txn { compare, then, op_id: None }).await?;
        }
        Ok(())
    }
}
