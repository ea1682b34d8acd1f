//! The operator's API, version 1, of service levels (M7, M8, O5): what is promised, how it stands,
//! and the arithmetic of it.

use dwcp_monitor::Metric;
use dwcp_monitor::incident::Severity;
use dwcp_monitor::sla::{Operator, Standing};
use dwcp_types::{RegionId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NoParams, operations};

operations! {
    /// M8.
    ListSlas = Get "/v1/monitoring/slas" "list_slas"
        "Service levels and how they stand in each region.",
        SlaFilter, () => SlaList;
    /// O5.
    CreateSla = Post "/v1/monitoring/slas" "create_sla"
        "Promise a service level.",
        NoParams, NewSla => SlaCreated;
    /// The reverse of O5.
    DeleteSla = Delete "/v1/monitoring/slas/{sla}" "delete_sla"
        "Promise it no more, and forget what was measured of it.",
        SlaParams, () => ();
    /// DETAILS 2.4.
    GetSlaHistory = Get "/v1/monitoring/slas/{sla}/windows" "get_sla_history"
        "When a service level was kept, when not, and when nothing was measured.",
        SlaHistoryParams, () => SlaHistory;
}

/// Names one service level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlaParams {
    /// Its id.
    pub sla: String,
}

/// Which service levels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlaFilter {
    /// Only this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla: Option<String>,
    /// Only in this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
}

/// What is to be promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSla {
    /// Its id; made from the metric when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name for people.
    pub name: String,
    /// What is measured.
    pub metric: Metric,
    /// The target, in thousandths of the metric's unit.
    pub target_milli: u64,
    /// How values are held against it.
    pub operator: Operator,
    /// How much must be good, in parts per million: 99.9 % is 999,000.
    pub compliance_ppm: u32,
    /// How bad a breach is.
    pub severity: Severity,
    /// Over what one value is measured, in seconds.
    pub window_s: u64,
    /// Over what compliance is promised, in seconds.
    pub period_s: u64,
    /// Of which region; of each when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
}

/// What is promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlaCreated {
    /// Its id.
    pub id: String,
}

/// Service levels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlaList {
    /// By id.
    pub items: Vec<SlaItem>,
    /// Whose daemon answered.
    pub answered_by: RegionId,
    /// Whose daemon evaluates; absent when none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated_by: Option<RegionId>,
    /// How old the records are, in milliseconds; absent before the engine was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// One service level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlaItem {
    /// What is promised, with its id.
    pub promised: NewSla,
    /// Whether `federation.yaml` defines it, which no command changes.
    pub from_file: bool,
    /// How it stands in each region of which it is promised.
    pub regions: Vec<SlaStanding>,
}

/// How a service level stands in one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlaStanding {
    /// Which.
    pub region: RegionId,
    /// The value over the last window, in thousandths of the metric's unit, as this daemon
    /// measured it; absent when nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_milli: Option<u64>,
    /// Whether that keeps the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<bool>,
    /// Whether the promise is kept.
    pub standing: Standing,
    /// Good by measured over the period, in parts per million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance_ppm: Option<u32>,
    /// Measured by all windows since the first, in parts per million.
    pub coverage_ppm: u32,
    /// What is spent of the budget of a period, in parts per million.
    pub spent_ppm: u64,
    /// Windows in which it was kept.
    pub windows_good: u64,
    /// Windows in which it was not.
    pub windows_bad: u64,
    /// Windows of which nothing is known.
    pub windows_unmeasured: u64,
    /// At the rate of the last hour the budget is gone after so many seconds; absent when
    /// nothing of it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_in_s: Option<u64>,
    /// Whether it goes faster than is told of.
    pub burns: bool,
    /// The arithmetic, a line for each figure.
    pub explained: Vec<String>,
}

/// Names one service level in one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlaHistoryParams {
    /// Its id.
    pub sla: String,
    /// Where.
    pub region: RegionId,
}

/// Windows of a service level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlaHistory {
    /// Its id.
    pub sla: String,
    /// Where.
    pub region: RegionId,
    /// Over what one value is measured, in seconds.
    pub window_s: u64,
    /// Equal windows in a row, the oldest first.
    pub runs: Vec<SlaRun>,
}

/// Equal windows in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlaRun {
    /// When the first begins.
    pub from: Timestamp,
    /// When the last ends.
    pub until: Timestamp,
    /// How many.
    pub windows: u64,
    /// Whether it was kept; absent when nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<bool>,
}
