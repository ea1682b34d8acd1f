//! The operator's API, version 1, of silences and maintenance windows (M15): of what nobody is told
//! for a while. Any region's daemon answers from its own copy and says how old that is.

use dwcp_monitor::incident::{
    CauseKind, IncidentId, Severity, Silence, SilenceId, SilenceKind,
};
use dwcp_types::{RegionId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NoParams, operations};

operations! {
    /// M15.
    ListSilences = Get "/v1/monitoring/silences" "list_silences"
        "Silences that are not over, the oldest first.",
        SilenceFilter, () => SilenceList;
    /// M15.
    GetSilence = Get "/v1/monitoring/silences/{silence}" "get_silence"
        "One silence, and which incidents it silences now.",
        SilenceParams, () => SilenceReply;
    /// M15.
    CreateSilence = Post "/v1/monitoring/silences" "create_silence"
        "Have nobody told of some incidents for a while.",
        NoParams, NewSilence => SilenceReply;
    /// The reverse.
    EndSilence = Post "/v1/monitoring/silences/{silence}/end" "end_silence"
        "End a silence before its time; what stands is told.",
        SilenceParams, SilenceEnd => SilenceReply;
}

/// Names one silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilenceParams {
    /// The silence.
    pub silence: SilenceId,
}

/// Which silences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilenceFilter {
    /// Only of this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
}

/// Silences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilenceList {
    /// The oldest first.
    pub items: Vec<SilenceItem>,
    /// Whose daemon answered.
    pub answered_by: RegionId,
    /// How old this is, in milliseconds; absent before the engine was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// A silence and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilenceItem {
    /// It.
    #[serde(flatten)]
    pub silence: Silence,
    /// Incidents of which nobody is told because of it.
    pub silences: Vec<IncidentId>,
}

/// One silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilenceReply {
    /// It.
    pub item: SilenceItem,
    /// Whether nothing was changed, because only what would be was asked.
    pub dry_run: bool,
    /// Whose daemon answered.
    pub answered_by: RegionId,
    /// How old this is, in milliseconds; absent before the engine was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// Of what nobody is to be told, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    /// Why.
    #[serde(default)]
    pub kind: SilenceKind,
    /// Of which region.
    pub region: RegionId,
    /// Only of this cause; of each when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<CauseKind>,
    /// Only of what is less severe than this; of all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity_below: Option<Severity>,
    /// From when on, in milliseconds since the Unix epoch; from now on when absent, by the clock
    /// of the daemon that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Until when; either this or `for_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// For how long, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// Why, in words.
    pub reason: String,
    /// Only say what would be.
    #[serde(default)]
    pub dry_run: bool,
}

/// How a silence is ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SilenceEnd {
    /// Only say what would be.
    #[serde(default)]
    pub dry_run: bool,
}
