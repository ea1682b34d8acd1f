//! Answers operators who ask for traces, and takes spans of other regions.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::otlp::{self, OtlpReply, OtlpRequest, PutOtlp};
use dwcp_api::trace::peer::{
    BATCH_MAX, GetKept, KeptTrace, ListKept, PutSpans, SpanBatch,
};
use dwcp_api::trace::{
    GetTrace, GetTracing, ListTraces, PutTracing, TRACES_MAX, TraceFilter, TraceList,
    TraceParams, TraceReply, Tracing, TracingReply,
};
use dwcp_api::{ApiError, Caller, ErrorCode, NoParams, Operation, Routes};
use dwcp_monitor::trace::{Span, Trace};
use dwcp_runtime::tls::Identity;
use dwcp_types::RegionId;

use super::Traces;
use super::index::together;
use crate::bind::bind;
use crate::fan::ask_each;
use crate::peer_api;
use crate::public_api::admit;

/// Bytes of one batch: as many spans as it has, each as long as any may be.
const BATCH_LEN_MAX: usize = 8 << 20;
/// Traces of one answer when nobody says.
const LIMIT: u32 = 20;
/// Time for another region's part of an answer.
const PART_TIME_MAX: Duration = Duration::from_secs(3);

/// The routes of operators and of peers.
pub(super) fn routes(api: &Arc<Traces>) -> Routes {
    let operators = bind! { api, admit,
        ListTraces => list;
        GetTrace => show;
        GetTracing => tracing;
        PutTracing => set_tracing;
    };
    let peers = bind! { api, peer_api::admit,
        ListKept => list_kept;
        GetKept => get_kept;
    };
    let others = bind! { api, anybody,
        PutOtlp => put_otlp;
    };
    operators.merge(peers).merge(others).merge(spans(api))
}

/// The door of other regions' spans: each speaks of itself only.
fn spans(api: &Arc<Traces>) -> Routes {
    let api = Arc::clone(api);
    let take = move |caller: Caller, _: NoParams, batch: SpanBatch| {
        let api = Arc::clone(&api);
        async move {
            peer_api::admit(&caller)?;
            let own =
                |span: &Span| caller.identity == Identity::Region(span.region.clone());
            if batch.spans.len() > BATCH_MAX || !batch.spans.iter().all(own) {
                let message =
                    format!("a batch has {BATCH_MAX} spans of its sender at most");
                return Err(ApiError::new(ErrorCode::Invalid, message)
                    .with_remedy("send the rest in another, and others' not at all"));
            }
            api.take(batch.spans);
            Ok(())
        }
    };
    Routes::new().with_body_len_max(BATCH_LEN_MAX).bind::<PutSpans, _, _>(take)
}

/// Whoever has a certificate of this federation may hand spans in; a monitor's opens nothing more.
const fn anybody(_: &Caller) -> Result<(), ApiError> {
    Ok(())
}

impl Traces {
    async fn list(&self, filter: TraceFilter, (): ()) -> Result<TraceList, ApiError> {
        let limit = limit_of(&filter)?;
        let (parts, mut missing) = self.ask_all::<ListKept>(&filter).await;
        let own = self.shelf.list(&filter, limit);
        if own.is_none() {
            missing.push(self.region.clone());
        }
        let mut items = own.unwrap_or_default();
        items.extend(parts.into_iter().flat_map(|part| part.items));
        let (items, more) = together(items, limit);
        Ok(TraceList { answered_by: self.region.clone(), items, missing, more })
    }

    async fn show(&self, asked: TraceParams, (): ()) -> Result<TraceReply, ApiError> {
        let (parts, mut missing) = self.ask_all::<GetKept>(&asked).await;
        let own = self.kept(&asked).await;
        if own.is_none() {
            missing.push(self.region.clone());
        }
        let mut all = own.unwrap_or_default();
        for part in parts {
            all.why = all.why.into_iter().chain(part.why).min();
            all.spans.extend(part.spans);
        }
        let Some(trace) = Trace::of(all.spans) else {
            return Err(nowhere(&asked, &missing));
        };
        Ok(TraceReply { answered_by: self.region.clone(), why: all.why, missing, trace })
    }

    /// Asks every other region for its part; says who did not answer.
    async fn ask_all<O>(&self, params: &O::Params) -> (Vec<O::Reply>, Vec<RegionId>)
    where
        O: Operation<Body = ()>,
    {
        ask_each::<O>(self.peers.iter(), params, PART_TIME_MAX).await
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn tracing(&self, _: NoParams, (): ()) -> Result<TracingReply, ApiError> {
        Ok(self.standing())
    }

    async fn set_tracing(
        &self,
        _: NoParams,
        tracing: Tracing,
    ) -> Result<TracingReply, ApiError> {
        self.settings.choose(tracing).await?;
        Ok(self.standing())
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn put_otlp(
        &self,
        _: NoParams,
        request: OtlpRequest,
    ) -> Result<OtlpReply, ApiError> {
        let (spans, rejected, why) = otlp::read(request, &self.region);
        for span in spans {
            self.tracer.hand_on(span);
        }
        Ok(OtlpReply::refusing(rejected, why))
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn list_kept(
        &self,
        filter: TraceFilter,
        (): (),
    ) -> Result<TraceList, ApiError> {
        let limit = limit_of(&filter)?;
        let items = self.shelf.list(&filter, limit).ok_or_else(still_reading)?;
        let more = items.len() > limit;
        let answered_by = self.region.clone();
        Ok(TraceList { answered_by, items, missing: Vec::new(), more })
    }

    async fn get_kept(&self, asked: TraceParams, (): ()) -> Result<KeptTrace, ApiError> {
        self.kept(&asked).await.ok_or_else(still_reading)
    }

    /// What this region has of a trace, decided or not; nothing while its shelf is read, or hangs.
    async fn kept(&self, asked: &TraceParams) -> Option<KeptTrace> {
        let read = self.shelf.read(asked.trace);
        let mut kept = tokio::time::timeout(PART_TIME_MAX, read).await.ok()??;
        kept.spans.extend(self.waiting(asked.trace));
        Some(kept)
    }
}

fn still_reading() -> ApiError {
    let message =
        "this region's traces cannot be had yet, or its folder of them is unusable";
    ApiError::new(ErrorCode::Unavailable, message)
        .with_remedy("ask again in a moment; its log says when they are read")
}

fn limit_of(filter: &TraceFilter) -> Result<usize, ApiError> {
    let limit = filter.limit.unwrap_or(LIMIT);
    if !(1..=TRACES_MAX).contains(&limit) {
        let message = format!("{limit} is no number of traces to list");
        return Err(ApiError::new(ErrorCode::Invalid, message)
            .with_remedy(format!("ask for 1 to {TRACES_MAX}")));
    }
    usize::try_from(limit)
        .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))
}

fn nowhere(asked: &TraceParams, missing: &[RegionId]) -> ApiError {
    let mut message = format!("no region keeps a trace {}", asked.trace);
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(RegionId::as_str).collect();
        message += &format!(", as far as known without {}", names.join(", "));
    }
    ApiError::new(ErrorCode::NotFound, message).with_remedy(
        "`monitoring trace list` has those that are kept; what is sampled out is gone",
    )
}
