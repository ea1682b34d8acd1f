//! Serves an engine to the other regions.

use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::ownership::VMS_PREFIX;
use dwcp_runtime::crash::crash_point;
use dwcp_runtime::strong::{LeaseId, Op, Range, StrongEngine, Txn};
use dwcp_runtime::tls::Identity;
use tokio::time::timeout;

use super::wire::api_error;
use super::{
    EngineGet, EngineLeaseGrant, EngineLeaseKeepAlive, EngineLeaseRevoke, EngineRange,
    EngineTxn, EngineWatch, KeyParams, LeaseGrant, LeaseGranted, LeaseKept, LeaseParams,
    RangeParams, WatchParams, WireEvents, WireOutcome, WirePage, WireRecord, WireTxn,
};
use crate::{ApiError, Caller, ErrorCode, NoParams, Routes};

/// Longest wait of a long poll: below a client's time for a call (30 s).
const WATCH_TIME_MAX: Duration = Duration::from_secs(20);
/// Largest body: a transaction of 1.5 MiB in base64 with its keys as JSON.
const BODY_LEN_MAX: usize = 4 << 20;

/// The routes of an engine. Everyone but a region is refused.
#[must_use]
pub fn engine_routes(engine: Arc<dyn StrongEngine>) -> Routes {
    let server = Server { engine };
    let bound = |server: &Server| server.clone();
    let (txn, get, range, watch) =
        (bound(&server), bound(&server), bound(&server), bound(&server));
    let (grant, keep, revoke) = (bound(&server), bound(&server), bound(&server));
    Routes::new()
        .with_body_len_max(BODY_LEN_MAX)
        .bind::<EngineTxn, _, _>(move |caller, NoParams {}, body| {
            txn.clone().txn(caller, body)
        })
        .bind::<EngineGet, _, _>(move |caller, params, ()| {
            get.clone().get(caller, params)
        })
        .bind::<EngineRange, _, _>(move |caller, params, ()| {
            range.clone().range(caller, params)
        })
        .bind::<EngineWatch, _, _>(move |caller, params, ()| {
            watch.clone().watch(caller, params)
        })
        .bind::<EngineLeaseGrant, _, _>(move |caller, NoParams {}, body| {
            grant.clone().grant(caller, body)
        })
        .bind::<EngineLeaseKeepAlive, _, _>(move |caller, params, ()| {
            keep.clone().keep_alive(caller, params)
        })
        .bind::<EngineLeaseRevoke, _, _>(move |caller, params, ()| {
            revoke.clone().revoke(caller, params)
        })
}

#[derive(Clone, Debug)]
struct Server {
    engine: Arc<dyn StrongEngine>,
}

impl Server {
    async fn txn(self, caller: Caller, body: WireTxn) -> Result<WireOutcome, ApiError> {
        only_regions(&caller)?;
        let txn = Txn::try_from(body)
            .map_err(|error| ApiError::new(ErrorCode::Invalid, error.to_string()))?;
        let of_a_vm = touches_a_vm(&txn);
        if of_a_vm {
            crash_point("engine-before-txn");
        }
        let outcome = self.engine.txn(txn).await;
        if of_a_vm {
            crash_point("engine-after-txn");
        }
        outcome.map(WireOutcome::from).map_err(api_error)
    }

    async fn get(
        self,
        caller: Caller,
        params: KeyParams,
    ) -> Result<Option<WireRecord>, ApiError> {
        only_regions(&caller)?;
        let record = self.engine.get(&params.key).await.map_err(api_error)?;
        Ok(record.map(WireRecord::from))
    }

    async fn range(
        self,
        caller: Caller,
        params: RangeParams,
    ) -> Result<WirePage, ApiError> {
        only_regions(&caller)?;
        let range = Range {
            prefix: &params.prefix,
            after: params.after.as_deref(),
            limit: usize::try_from(params.limit).unwrap_or(usize::MAX),
        };
        self.engine.range(range).await.map(WirePage::from).map_err(api_error)
    }

    async fn watch(
        self,
        caller: Caller,
        params: WatchParams,
    ) -> Result<WireEvents, ApiError> {
        only_regions(&caller)?;
        let watch = self.engine.watch(&params.prefix, params.from_revision).await;
        let mut watch = watch.map_err(api_error)?;
        let wait = Duration::from_millis(params.wait_ms.into()).min(WATCH_TIME_MAX);
        let nothing =
            WireEvents { events: Vec::new(), next_revision: watch.from_revision() };
        match timeout(wait, watch.next()).await {
            Ok(Some(Ok(batch))) => Ok(WireEvents {
                events: batch.events.into_iter().map(Into::into).collect(),
                next_revision: batch.revision.saturating_add(1),
            }),
            Ok(Some(Err(error))) => Err(api_error(error)),
            Ok(None) => {
                Err(ApiError::new(ErrorCode::Unavailable, "the engine is shutting down"))
            }
            Err(_) => Ok(nothing),
        }
    }

    async fn grant(
        self,
        caller: Caller,
        body: LeaseGrant,
    ) -> Result<LeaseGranted, ApiError> {
        only_regions(&caller)?;
        let ttl = Duration::from_millis(body.ttl_ms);
        let lease = self.engine.lease_grant(ttl).await.map_err(api_error)?;
        Ok(LeaseGranted { lease: lease.get() })
    }

    async fn keep_alive(
        self,
        caller: Caller,
        params: LeaseParams,
    ) -> Result<LeaseKept, ApiError> {
        only_regions(&caller)?;
        let lease = LeaseId::new(params.lease);
        let ttl = self.engine.lease_keep_alive(lease).await.map_err(api_error)?;
        Ok(LeaseKept { ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX) })
    }

    async fn revoke(self, caller: Caller, params: LeaseParams) -> Result<(), ApiError> {
        only_regions(&caller)?;
        self.engine.lease_revoke(LeaseId::new(params.lease)).await.map_err(api_error)
    }
}

/// Regions also announce themselves; those transactions are no step of a placement.
fn touches_a_vm(txn: &Txn) -> bool {
    txn.then.iter().any(|op| match op {
        Op::Put { key, .. } | Op::Delete { key } => key.starts_with(VMS_PREFIX),
    })
}

fn only_regions(caller: &Caller) -> Result<(), ApiError> {
    match caller.identity {
        Identity::Region(_) => Ok(()),
        Identity::Host { .. }
        | Identity::Engine(_)
        | Identity::Admin(_)
        | Identity::Monitor(_) => Err(caller.forbidden("only a region's daemon")),
    }
}
