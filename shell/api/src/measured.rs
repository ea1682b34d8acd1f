//! The operator's API, version 1, of what is measured of regions (M3 to M6): now, and before. Any
//! region's daemon answers from what the others told it, and says how old that is.

use std::collections::BTreeMap;

use dwcp_monitor::Metric;
use dwcp_types::{RegionId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operations;

operations! {
    /// M3, M4.
    GetMetrics = Get "/v1/monitoring/metrics" "get_metrics"
        "What is measured of every region, and of all together.",
        MetricsParams, () => MetricsReply;
    /// M3.
    GetHistory = Get "/v1/monitoring/metrics/{metric}" "get_metric_history"
        "What was measured of one region, for a chart.",
        HistoryParams, () => HistoryReply;
}

/// Over what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricsParams {
    /// Only of this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// Over the last so many seconds; 300 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_s: Option<u64>,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricsReply {
    /// Whose daemon answered.
    pub answered_by: RegionId,
    /// Over the last so many seconds.
    pub over_s: u64,
    /// Each region.
    pub regions: Vec<RegionMetrics>,
    /// All together.
    pub together: Together,
}

/// What is measured of one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionMetrics {
    /// Which.
    pub region: RegionId,
    /// How old the newest of it is, in milliseconds; absent when it never said anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Digests that never came.
    pub lost: u64,
    /// Digests that could not be true.
    pub refused: u64,
    /// How far its clock is ahead of this daemon's, in milliseconds, with the time on the way.
    pub clock_offset_ms: i64,
    /// Values by metric, in thousandths of the metric's unit; what was not measured is absent.
    pub values_milli: BTreeMap<Metric, u64>,
}

/// Latency over all regions, from merged sketches: weighted by requests, never averaged (F68).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct Together {
    /// Over the last so many seconds.
    pub over_s: u64,
    /// The latency that half of the requests do not exceed, in microseconds.
    pub p50_us: Option<u64>,
    /// The latency that 95 of 100 do not exceed.
    pub p95_us: Option<u64>,
    /// The latency that 99 of 100 do not exceed.
    pub p99_us: Option<u64>,
    /// Requests behind it.
    pub requests: u64,
    /// Regions that were measured in that time.
    pub measured: u64,
    /// Regions in all.
    pub regions: u64,
    /// The age of the oldest of the newest of each measured region, in milliseconds.
    pub age_ms: Option<u64>,
}

/// Which chart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryParams {
    /// Of what.
    pub metric: Metric,
    /// Of which region.
    pub region: RegionId,
    /// Over the last so many seconds; an hour when absent, 90 days at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_s: Option<u64>,
}

/// A chart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryReply {
    /// Whose daemon answered; each keeps its own since it was started.
    pub answered_by: RegionId,
    /// Of which region.
    pub region: RegionId,
    /// Of what.
    pub metric: Metric,
    /// The unit of which values are thousandths; empty for a plain count.
    pub unit: String,
    /// From one point to the next, in milliseconds.
    pub step_ms: u64,
    /// How old the newest is, in milliseconds; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// The oldest first, without hole.
    pub points: Vec<HistoryPoint>,
}

/// One point of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryPoint {
    /// When it begins.
    pub at: Timestamp,
    /// The value over the step; absent is a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_milli: Option<u64>,
    /// The least value of a gauge within the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_milli: Option<u64>,
    /// The greatest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_milli: Option<u64>,
}
