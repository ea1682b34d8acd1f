//! The key by which regions believe each other where a client's session is (R12): one record of the
//! strong engine, made by whoever needs it first, and followed by all.
//!
//! Without it, before the engine was reached, sessions are kept by clients' addresses alone.

use std::sync::{Arc, PoisonError, RwLock};

use dwcp_edge::proxy;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::seal::{SEAL_LEN, Seal, secret};
use dwcp_runtime::strong::{Compare, Op, OpId, StrongEngine, Txn};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tracing::warn;

use super::settings::RETRY_PAUSE;
use crate::commit::encoded;

/// Where the record lies.
const KEY: &str = "/routing/session-key";

/// The record.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    secret: [u8; SEAL_LEN],
}

/// Signs with the newest key.
#[derive(Debug)]
pub(super) struct Sealer {
    key: RwLock<Option<Seal>>,
    clock: Arc<dyn Clock>,
}

impl Sealer {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { key: RwLock::default(), clock })
    }

    /// Follows the record for ever.
    pub(super) async fn follow(self: Arc<Self>, engine: Arc<dyn StrongEngine>) {
        let mut told = false;
        loop {
            match self.follow_once(&*engine).await {
                Ok(()) => told = false,
                Err(reason) if !told => {
                    warn!(%reason, "the key of sessions is not followed");
                    told = true;
                }
                Err(_) => {}
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn follow_once(&self, engine: &dyn StrongEngine) -> Result<(), String> {
        let failed = |error: dwcp_runtime::strong::StrongError| error.to_string();
        let Some(found) = engine.get(KEY).await.map_err(failed)? else {
            let value = encoded(&Record { secret: secret()? })?;
            let txn = Txn {
                compare: vec![Compare::absent(KEY)],
                then: vec![Op::Put { key: KEY.to_owned(), value, lease: None }],
                op_id: Some(OpId::random()),
            };
            // Whoever is first wins, and all read what it wrote.
            drop(engine.txn(txn).await.map_err(failed)?);
            return Ok(());
        };
        let record: Record =
            serde_json::from_slice(&found.value).map_err(|error| error.to_string())?;
        self.take(Seal::new(&record.secret));
        let mut watch =
            engine.watch(KEY, found.mod_revision + 1).await.map_err(failed)?;
        if let Some(batch) = watch.next().await {
            batch.map_err(failed)?;
        }
        Ok(())
    }

    fn take(&self, key: Seal) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    fn key(&self) -> Option<Seal> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl proxy::Seal for Sealer {
    fn sign(&self, text: &[u8]) -> Option<[u8; SEAL_LEN]> {
        self.key().map(|key| key.sign(text))
    }

    fn is_signed(&self, text: &[u8], tag: &[u8; SEAL_LEN]) -> bool {
        self.key().is_some_and(|key| key.is_signed(text, tag))
    }

    fn now_s(&self) -> u64 {
        self.clock.now().as_millis() / 1_000
    }
}
