//! The operator's API, version 1, of traces (M10, O6): which are kept, and one of them; and what
//! daemons tell each other of them.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_monitor::trace::{Span, Trace, TraceId, Why};
use dwcp_types::{RegionId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operations;

operations! {
    /// M10.
    ListTraces = Get "/v1/monitoring/traces" "list_traces"
        "Traces that are kept in any region, the newest first.",
        TraceFilter, () => TraceList;
    /// M10.
    GetTrace = Get "/v1/monitoring/traces/{trace}" "get_trace"
        "One trace: all its spans in order, its critical path and its clocks.",
        TraceParams, () => TraceReply;
    /// O6.
    GetTracing = Get "/v1/monitoring/tracing" "get_tracing"
        "Whether and how requests are traced.", crate::NoParams, () => TracingReply;
    /// O6.
    PutTracing = Put "/v1/monitoring/tracing" "put_tracing"
        "Says in all regions whether and how requests are traced.",
        crate::NoParams, Tracing => TracingReply;
}

/// Most traces of one answer.
pub const TRACES_MAX: u32 = 1_000;

/// Which traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceFilter {
    /// Only of this operation, such as `place_vm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Only those that this region took part in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// Only those of this VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// Only those in which something failed.
    #[serde(default)]
    pub failed: bool,
    /// Only those that took so many milliseconds at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ms: Option<u64>,
    /// Only those that began since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// How many at most; 20 when absent, 1,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A line about a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceItem {
    /// Which.
    pub trace: TraceId,
    /// What was asked for.
    pub operation: String,
    /// Where it entered.
    pub region: RegionId,
    /// Which VM it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// When it began, in microseconds since 1970 by the clock of where it entered.
    pub start_us: u64,
    /// How long what was asked for took, in microseconds.
    pub took_us: u64,
    /// How many spans it has.
    pub spans: u32,
    /// The regions that took part.
    pub regions: BTreeSet<RegionId>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Why it is kept.
    pub why: Why,
    /// What was asked for did not end yet, or is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub headless: bool,
}

/// Traces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceList {
    /// Whose daemon answered.
    pub answered_by: RegionId,
    /// The newest first.
    pub items: Vec<TraceItem>,
    /// Regions that did not answer: what only they keep is not here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<RegionId>,
    /// There are more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// Which trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceParams {
    /// Its id.
    pub trace: TraceId,
}

/// One trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceReply {
    /// Whose daemon answered.
    pub answered_by: RegionId,
    /// Why it is kept; absent while it is not decided whether it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// Regions that did not answer: what only they keep is not here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<RegionId>,
    /// It.
    pub trace: Trace,
}

/// Whether and how requests are traced (O6, O40).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tracing {
    /// Whether they are.
    pub enabled: bool,
    /// How many of the traces in which nothing failed or was slow are kept, in parts per million.
    pub rate_ppm: u32,
    /// For how many hours they are kept.
    pub retention_h: u32,
}

/// How requests are traced, and what became of it in the answering region since its daemon
/// started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TracingReply {
    /// Whose daemon answered.
    pub answered_by: RegionId,
    /// What is in force.
    pub tracing: Tracing,
    /// Whether an operator chose it; `federation.yaml` did when not.
    pub by_operator: bool,
    /// Traces that are kept there.
    pub traces: u64,
    /// What they take on its disk, in bytes.
    pub disk_bytes: u64,
    /// And may take.
    pub disk_bytes_max: u64,
    /// Traces that were decided, by why they were kept, `unsampled` for the others.
    pub decided: BTreeMap<String, u64>,
    /// Spans that were lost, by why.
    pub dropped: BTreeMap<String, u64>,
}

/// What daemons tell each other of traces.
pub mod peer {
    use super::{Deserialize, JsonSchema, Serialize, Span, TraceParams, Why};
    use crate::operations;

    operations! {
        /// M10.
        PutSpans = Post "/peer/v1/spans" "put_spans"
            "Spans that ended, for the home of their traces.",
            crate::NoParams, SpanBatch => ();
        /// M10.
        ListKept = Get "/peer/v1/traces" "list_kept_traces"
            "Traces that this region keeps, the newest first.",
            super::TraceFilter, () => super::TraceList;
        /// M10.
        GetKept = Get "/peer/v1/traces/{trace}" "get_kept_trace"
            "What this region keeps of a trace.", TraceParams, () => KeptTrace;
    }

    /// Most spans of one batch (M10).
    pub const BATCH_MAX: usize = 512;

    /// Spans that ended.
    #[derive(
        Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
    )]
    pub struct SpanBatch {
        /// In the order in which they ended; 512 at most.
        pub spans: Vec<Span>,
    }

    /// What one region keeps of a trace.
    #[derive(
        Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
    )]
    pub struct KeptTrace {
        /// Why it is kept; absent when it is not, or not decided.
        pub why: Option<Why>,
        /// Its spans in no order; none when there are none there.
        pub spans: Vec<Span>,
    }
}
