//! What an operator chose of routing while the federation runs: one record of the strong
//! engine, changed by compare-and-set, followed by every daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_api::routing::Endpoint;
use dwcp_api::{ApiError, ErrorCode};
use dwcp_router::Algorithm;
use dwcp_runtime::strong::{Compare, KeyValue, Op, OpId, StrongError, Txn, TxnOutcome};
use dwcp_types::RegionId;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::Router;
use crate::commit::encoded;
use crate::engine;

/// Where the record lies.
const KEY: &str = "/routing/settings";
/// Attempts when others change it at the same time.
const ATTEMPTS_MAX: u32 = 16;
/// Pause before the engine is asked again after it failed.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What was chosen; the file's where nothing was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// How regions are ranked where a service does not say.
    pub(crate) algorithm: Option<Algorithm>,
    /// Where regions answer.
    pub(crate) endpoints: BTreeMap<RegionId, Endpoint>,
}

impl Router {
    /// Keeps what was chosen true, for ever.
    pub(super) async fn follow(&self) {
        let mut told = false;
        loop {
            if let Err(reason) = self.follow_once(&mut told).await
                && !told
            {
                warn!(%reason, "what was chosen of routing is not followed any more");
                told = true;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn follow_once(&self, told: &mut bool) -> Result<(), StrongError> {
        let engine = &self.parts.engine;
        let found = engine.get(KEY).await?;
        let revision = found.as_ref().map_or(0, |kv| kv.mod_revision);
        self.choose(decoded(found.as_ref()));
        *told = false;
        let mut watch = engine.watch(KEY, revision + 1).await?;
        while let Some(batch) = watch.next().await {
            batch?;
            self.choose(decoded(engine.get(KEY).await?.as_ref()));
        }
        Ok(())
    }

    /// Changes what was chosen, in all regions.
    pub(super) async fn change(
        &self,
        change: impl Fn(&mut Settings),
    ) -> Result<(), ApiError> {
        let failed = |error: StrongError| engine::failed(&error);
        for _ in 0..ATTEMPTS_MAX {
            let found = self.parts.engine.get(KEY).await.map_err(failed)?;
            let mut settings = decoded(found.as_ref());
            change(&mut settings);
            let value = encoded(&settings)
                .map_err(|message| ApiError::new(ErrorCode::Internal, message))?;
            let txn = Txn {
                compare: vec![Compare::as_found(KEY, found.as_ref())],
                then: vec![Op::Put { key: KEY.to_owned(), value, lease: None }],
                op_id: Some(OpId::random()),
            };
            let outcome = self.parts.engine.txn(txn).await.map_err(failed)?;
            if matches!(outcome, TxnOutcome::Committed { .. }) {
                self.choose(settings);
                return Ok(());
            }
        }
        let message = "routing is being configured by others all the time";
        Err(ApiError::new(ErrorCode::Conflict, message).with_remedy("try again"))
    }
}

/// A record that cannot be read counts as none, and is told.
fn decoded(found: Option<&KeyValue>) -> Settings {
    let Some(kv) = found else { return Settings::default() };
    serde_json::from_slice(&kv.value)
        .inspect_err(|reason| error!(key = KEY, %reason, "a record is unreadable"))
        .unwrap_or_default()
}
