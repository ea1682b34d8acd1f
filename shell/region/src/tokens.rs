//! Forgets clients' tokens that are older than any message can be.
//!
//! Run by the daemon that keeps the strong engine, so that one sweeps. The last epoch of a
//! deleted VM (`/epochs/`) is kept for ever: some thirty bytes for each name that was ever
//! used, and without it a name that comes back could be instructed by its own past.

use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::ownership::TokenRecord;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::{Compare, KeyValue, Op, OpId, StrongEngine, StrongError, Txn};
use dwcp_types::Timestamp;
use tracing::{info, warn};

use crate::mirror::read_pages;

/// Where tokens lie.
const PREFIX: &str = "/tokens/";

/// How long a token is remembered (PLACEMENT 4.2).
const KEPT_FOR: Duration = Duration::from_hours(7 * 24);

/// How often they are looked through.
const EVERY: Duration = Duration::from_hours(1);

/// Sweeps for ever.
pub async fn sweep(engine: Arc<dyn StrongEngine>, clock: Arc<dyn Clock>) {
    loop {
        match once(engine.as_ref(), clock.now()).await {
            Ok(0) => {}
            Ok(forgotten) => info!(forgotten, "old client tokens are forgotten"),
            Err(reason) => warn!(%reason, "old client tokens are forgotten later"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Forgets what is old at `now`; says how many.
async fn once(engine: &dyn StrongEngine, now: Timestamp) -> Result<usize, StrongError> {
    let mut old = Vec::new();
    let take = |page: Vec<KeyValue>| {
        old.extend(page.into_iter().filter(|kv| is_old(kv, now)));
    };
    read_pages(engine, PREFIX, take).await?;
    for kv in &old {
        let txn = Txn {
            compare: vec![Compare::unchanged(kv)],
            then: vec![Op::Delete { key: kv.key.clone() }],
            op_id: Some(OpId::random()),
        };
        engine.txn(txn).await?;
    }
    Ok(old.len())
}

/// One that cannot be read is kept: forgetting it could make its VM twice.
fn is_old(kv: &KeyValue, now: Timestamp) -> bool {
    serde_json::from_slice::<TokenRecord>(&kv.value)
        .is_ok_and(|token| now.since(token.used_at) > KEPT_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use dwcp_runtime::clock::SystemClock;
    use dwcp_runtime::strong::EmbeddedEngine;
    use serde_json::json;

    fn token(used_at: u64) -> Bytes {
        let token = json!({
            "request": {
                "id": "vm-1",
                "tenant": "t",
                "spec": { "cpu": 1, "memory": 1, "storage": 1 },
            },
            "reservation": "r-1",
            "used_at": used_at,
        });
        Bytes::from(serde_json::to_vec(&token).unwrap())
    }

    #[tokio::test]
    async fn only_what_is_old_and_readable_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let engine = EmbeddedEngine::open(&folder.path().join("e.redb"), clock).unwrap();
        let week = u64::try_from(KEPT_FOR.as_millis()).unwrap();
        let rows = [
            ("/tokens/t/old", token(0)),
            ("/tokens/t/young", token(2)),
            ("/tokens/t/odd", Bytes::from_static(b"?")),
        ];
        for (key, value) in rows {
            let then = vec![Op::Put { key: key.to_owned(), value, lease: None }];
            engine.txn(Txn { compare: Vec::new(), then, op_id: None }).await.unwrap();
        }
        let now = Timestamp::from_millis(week + 1);
        assert_eq!(once(&engine, now).await.unwrap(), 1);
        assert!(engine.get("/tokens/t/old").await.unwrap().is_none());
        assert!(engine.get("/tokens/t/young").await.unwrap().is_some());
        assert!(engine.get("/tokens/t/odd").await.unwrap().is_some());
    }
}
