//! Whether and how requests are traced (O6): as the file says, or as an operator said since, in the
//! strong engine for all regions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dwcp_api::trace::Tracing;
use dwcp_api::{ApiError, ErrorCode};
use dwcp_monitor::trace::Rules;
use dwcp_runtime::strong::{
    Event, KeyValue, Op, OpId, StrongEngine, StrongError, Txn, TxnOutcome,
};
use dwcp_runtime::trace::Tracer;
use tracing::{info, warn};

use crate::commit::stored;
use crate::engine::failed;
use crate::mirror::read_pages;

/// Where an operator's choice lies.
const KEY: &str = "/monitor-tracing/chosen";
const PREFIX: &str = "/monitor-tracing/";
/// Pause before the engine is asked again after it failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// All of something, in parts per million.
const WHOLE_PPM: u32 = 1_000_000;
/// Longest that traces are kept: as long as the coarsest ring of the history.
const RETENTION_H_MAX: u32 = 90 * 24;
/// So many of each operation are kept in a minute whatever the rate.
const EACH_MINUTE: u32 = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Settings {
    file: Tracing,
    /// With the revision at which it was so: what was written before changes nothing.
    chosen: Mutex<(u64, Option<Tracing>)>,
    engine: Arc<dyn StrongEngine>,
    tracer: Tracer,
}

impl Settings {
    pub(super) fn new(
        file: Tracing,
        engine: Arc<dyn StrongEngine>,
        tracer: Tracer,
    ) -> Self {
        tracer.turn(file.enabled);
        Self { file, chosen: Mutex::default(), engine, tracer }
    }

    /// What is in force, and whether an operator chose it.
    pub(super) fn now(&self) -> (Tracing, bool) {
        let (_, chosen) = *self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.map_or((self.file, false), |chosen| (chosen, true))
    }

    pub(super) fn rules(&self) -> Rules {
        let (tracing, _) = self.now();
        Rules { rate_ppm: tracing.rate_ppm, each_minute: EACH_MINUTE }
    }

    pub(super) fn retention(&self) -> Duration {
        Duration::from_hours(u64::from(self.now().0.retention_h))
    }

    /// Chooses for all regions.
    pub(super) async fn choose(&self, tracing: Tracing) -> Result<(), ApiError> {
        check(&tracing)?;
        let value = stored(&tracing).map_err(|error| failed(&error))?;
        let put = Op::Put { key: KEY.to_owned(), value, lease: None };
        let txn =
            Txn { compare: Vec::new(), then: vec![put], op_id: Some(OpId::random()) };
        let done = self.engine.txn(txn).await.map_err(|error| failed(&error))?;
        // Others see it by their watch; whoever asked here sees it at once.
        if let TxnOutcome::Committed { revision, .. } = done {
            self.take(revision, Some(tracing));
        }
        Ok(())
    }

    /// Follows what operators choose, for ever.
    pub(super) async fn follow(&self) {
        loop {
            if let Err(reason) = self.follow_once().await {
                info!(%reason, "the settings of tracing are followed again later");
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn follow_once(&self) -> Result<(), StrongError> {
        let mut chosen = None;
        let take = |page: Vec<KeyValue>| {
            chosen = page.iter().rev().find_map(read).or(chosen);
        };
        let revision = read_pages(self.engine.as_ref(), PREFIX, take).await?;
        self.take(revision, chosen);
        let mut watch = self.engine.watch(PREFIX, revision + 1).await?;
        while let Some(batch) = watch.next().await {
            for event in batch?.events {
                let at = event.mod_revision();
                match event {
                    // One that cannot be read leaves what is in force.
                    Event::Put(record) => {
                        if let Some(chosen) = read(&record) {
                            self.take(at, Some(chosen));
                        }
                    }
                    Event::Delete { .. } => self.take(at, None),
                }
            }
        }
        Ok(())
    }

    fn take(&self, revision: u64, chosen: Option<Tracing>) {
        let mut known = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if revision < known.0 {
            return;
        }
        *known = (revision, chosen);
        drop(known);
        self.tracer.turn(self.now().0.enabled);
    }
}

fn read(record: &KeyValue) -> Option<Tracing> {
    let parsed: Result<Tracing, _> = serde_json::from_slice(&record.value);
    parsed
        .inspect_err(|reason| {
            warn!(key = %record.key, %reason, "a choice of tracing cannot be read");
        })
        .ok()
}

fn check(tracing: &Tracing) -> Result<(), ApiError> {
    let invalid = |what: String, remedy: &str| {
        Err(ApiError::new(ErrorCode::Invalid, what).with_remedy(remedy))
    };
    if tracing.rate_ppm > WHOLE_PPM {
        let what = format!("{} parts per million are more than all", tracing.rate_ppm);
        return invalid(what, "choose a rate from 0 to 1");
    }
    if !(1..=RETENTION_H_MAX).contains(&tracing.retention_h) {
        let what = format!("traces are not kept for {} h", tracing.retention_h);
        return invalid(what, "choose a retention from 1h to 90d");
    }
    Ok(())
}
