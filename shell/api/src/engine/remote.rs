//! The strong engine of another daemon, as if it were here.
//!
//! The one thing a network adds is the lost reply. Every transaction is sent under an
//! operation id (the caller's, or a new one), so sending it again is safe, and that is done a
//! bounded number of times. What is still unknown then is `Indeterminate`.

use std::collections::VecDeque;
use std::time::Duration;

use dwcp_runtime::strong::{
    Answer, Event, EventBatch, KeyValue, LeaseId, OpId, Page, Range, StrongEngine,
    StrongError, Txn, TxnOutcome, Watch, may_hold_later,
};
use futures_util::stream;

use super::{
    EngineGet, EngineLeaseGrant, EngineLeaseKeepAlive, EngineLeaseRevoke, EngineRange,
    EngineTxn, EngineWatch, KeyParams, LeaseGrant, LeaseParams, RangeParams, WatchParams,
    WireError, WireEvents, WireTxn,
};
use crate::{CallError, Client, ErrorCode, NoParams, Operation};

/// How often a request is sent in all.
const TRIES_MAX: u32 = 4;
/// Pause before the second try; it doubles each time (100 + 200 + 400 ms in all).
const PAUSE: Duration = Duration::from_millis(100);
/// How long the server may hold a poll; below the client's time for a call.
const POLL_MS: u32 = 15_000;

/// An engine that another daemon hosts.
#[derive(Clone, Debug)]
pub struct RemoteEngine {
    client: Client,
}

impl RemoteEngine {
    /// The engine of the daemon that this client calls.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Calls what can be repeated without harm, more than once if needed.
    async fn read<O: Operation<Body = ()>>(
        &self,
        params: &O::Params,
    ) -> Result<O::Reply, StrongError> {
        let mut tries = 1;
        loop {
            match self.client.call::<O>(params, &()).await {
                Ok(reply) => return Ok(reply),
                Err(error) if error.may_have_been_done() && tries < TRIES_MAX => {
                    pause(tries).await;
                    tries += 1;
                }
                // Nothing was changed, so nothing is indeterminate.
                Err(error) => {
                    let error = translate(error, None);
                    return Err(match error {
                        StrongError::Indeterminate { reason, .. } => {
                            StrongError::Unavailable { reason }
                        }
                        StrongError::Unavailable { .. }
                        | StrongError::Compacted { .. }
                        | StrongError::LeaseNotFound { .. }
                        | StrongError::TooLarge { .. }
                        | StrongError::Malformed { .. } => error,
                    });
                }
            }
        }
    }

    async fn send(&self, mut txn: Txn) -> Result<TxnOutcome, StrongError> {
        txn.check()?;
        let op_id = txn.op_id.get_or_insert_with(OpId::random).clone();
        let compare = txn.compare.clone();
        let wire = WireTxn::from(txn);
        let mut lost = false;
        let mut tries = 1;
        loop {
            let sent = self.client.call::<EngineTxn>(&NoParams {}, &wire).await;
            let error = match sent.map(TxnOutcome::from) {
                Ok(TxnOutcome::Conflict { current })
                    if lost && may_hold_later(&compare, &current) =>
                {
                    // The lost one may still be on its way, and might yet succeed.
                    let reason =
                        "an earlier try got no reply and a later one met a conflict"
                            .to_owned();
                    return Err(StrongError::Indeterminate {
                        op_id: Some(op_id),
                        reason,
                    });
                }
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            let unknown = is_unknown(&error);
            lost |= unknown;
            if !lost || is_answer(&error) {
                return Err(translate(error, Some(op_id)));
            }
            if tries == TRIES_MAX {
                let reason = error.to_string();
                return Err(StrongError::Indeterminate { op_id: Some(op_id), reason });
            }
            pause(tries).await;
            tries += 1;
        }
    }

    async fn poll(
        &self,
        prefix: &str,
        from_revision: u64,
        wait_ms: u32,
    ) -> Result<WireEvents, StrongError> {
        let params = WatchParams { prefix: prefix.to_owned(), from_revision, wait_ms };
        self.read::<EngineWatch>(&params).await
    }
}

impl StrongEngine for RemoteEngine {
    fn txn(&self, txn: Txn) -> Answer<'_, TxnOutcome> {
        Box::pin(self.send(txn))
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<KeyValue>> {
        Box::pin(async move {
            let record =
                self.read::<EngineGet>(&KeyParams { key: key.to_owned() }).await?;
            Ok(record.map(KeyValue::from))
        })
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Page> {
        Box::pin(async move {
            let params = RangeParams {
                prefix: range.prefix.to_owned(),
                after: range.after.map(str::to_owned),
                limit: u32::try_from(range.limit).unwrap_or(u32::MAX),
            };
            self.read::<EngineRange>(&params).await.map(Page::from)
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, from_revision: u64) -> Answer<'a, Watch> {
        Box::pin(async move {
            // Finds out at once whether the past is remembered, and what "now" is.
            let first = self.poll(prefix, from_revision, 0).await?;
            let from =
                if from_revision == 0 { first.next_revision } else { from_revision };
            let poller = Poller {
                engine: self.clone(),
                prefix: prefix.to_owned(),
                next: first.next_revision,
                ready: VecDeque::from_iter(batch(first)),
            };
            let batches = stream::unfold(Some(poller), |poller| async {
                let mut poller = poller?;
                match poller.next().await {
                    Ok(batch) => Some((Ok(batch), Some(poller))),
                    Err(error) => Some((Err(error), None)),
                }
            });
            Ok(Watch::new(from, Box::pin(batches)))
        })
    }

    fn lease_grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        Box::pin(async move {
            let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            let body = LeaseGrant { ttl_ms };
            // Not repeated: a lease whose grant got lost expires by itself.
            let granted = self.client.call::<EngineLeaseGrant>(&NoParams {}, &body).await;
            granted
                .map(|granted| LeaseId::new(granted.lease))
                .map_err(|error| translate(error, None))
        })
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> Answer<'_, Duration> {
        Box::pin(async move {
            let params = LeaseParams { lease: lease.get() };
            let kept = self.read::<EngineLeaseKeepAlive>(&params).await?;
            Ok(Duration::from_millis(kept.ttl_ms))
        })
    }

    fn lease_revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        Box::pin(async move {
            let params = LeaseParams { lease: lease.get() };
            self.read::<EngineLeaseRevoke>(&params).await
        })
    }
}

struct Poller {
    engine: RemoteEngine,
    prefix: String,
    next: u64,
    ready: VecDeque<EventBatch>,
}

impl Poller {
    async fn next(&mut self) -> Result<EventBatch, StrongError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let events = self.engine.poll(&self.prefix, self.next, POLL_MS).await?;
            if events.next_revision > self.next {
                self.next = events.next_revision;
                self.ready.extend(batch(events));
            }
        }
    }
}

/// The batch of a poll, if it tells anything.
fn batch(events: WireEvents) -> Option<EventBatch> {
    let revision = events.next_revision.checked_sub(1)?;
    let all: Vec<_> = events.events.into_iter().map(Event::from).collect();
    (!all.is_empty()).then_some(EventBatch { revision, events: all })
}

async fn pause(tries: u32) {
    tokio::time::sleep(PAUSE.saturating_mul(1 << (tries - 1).min(8))).await;
}

/// Whether it may have been carried out without us knowing.
fn is_unknown(error: &CallError) -> bool {
    let told =
        matches!(error, CallError::Api(error) if error.code == ErrorCode::Indeterminate);
    told || error.may_have_been_done()
}

/// Whether the engine itself answered, and with a final no.
fn is_answer(error: &CallError) -> bool {
    matches!(error, CallError::Api(error)
        if !matches!(error.code, ErrorCode::Indeterminate | ErrorCode::Unavailable | ErrorCode::Busy))
}

fn translate(error: CallError, op_id: Option<OpId>) -> StrongError {
    let reason = error.to_string();
    match error {
        CallError::Api(error) => {
            let details =
                error.details.and_then(|details| serde_json::from_value(details).ok());
            match details {
                Some(details) => WireError::into_strong(details, op_id),
                None => StrongError::Unavailable { reason },
            }
        }
        CallError::Unreachable { .. } | CallError::Tls { .. } => {
            StrongError::Unavailable { reason }
        }
        CallError::Timeout { .. } | CallError::Protocol { .. } => {
            StrongError::Indeterminate { op_id, reason }
        }
    }
}
