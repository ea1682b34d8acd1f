//! The operator's API, version 1, of incidents (M13 to M15, DETAILS 2.4). Any region's daemon
//! answers from its own copy and says how old that is.

use dwcp_monitor::incident::{Category, Incident, IncidentId, Severity, Status};
use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NoParams, operations};

operations! {
    /// M13.
    ListIncidents = Get "/v1/monitoring/incidents" "list_incidents"
        "Incidents, the newest first.",
        IncidentFilter, () => IncidentList;
    /// M14.
    GetIncident = Get "/v1/monitoring/incidents/{incident}" "get_incident"
        "One incident with its timeline.",
        IncidentParams, () => IncidentReply;
    /// DETAILS 2.4.
    CreateIncident = Post "/v1/monitoring/incidents" "create_incident"
        "Report something that nobody measures.",
        NoParams, ReportIncident => IncidentReply;
    /// DETAILS 2.4.
    AcknowledgeIncident = Post "/v1/monitoring/incidents/{incident}/acknowledge"
        "acknowledge_incident"
        "Say that somebody looks after an incident.",
        IncidentParams, Acknowledge => IncidentReply;
    /// DETAILS 2.4.
    AssignIncident = Post "/v1/monitoring/incidents/{incident}/assign" "assign_incident"
        "Say who is to look after an incident.",
        IncidentParams, Assign => IncidentReply;
    /// DETAILS 2.4. If its cause is still there it comes back.
    ResolveIncident = Post "/v1/monitoring/incidents/{incident}/resolve" "resolve_incident"
        "Say that an incident is over, and why it was.",
        IncidentParams, Resolve => IncidentReply;
}

/// Names one incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentParams {
    /// The incident.
    pub incident: IncidentId,
}

/// Which incidents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentFilter {
    /// Only those that stand so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Only of this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
}

/// Incidents, and what is known of whoever looks after them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentList {
    /// The newest first.
    pub items: Vec<Incident>,
    /// Whose daemon answered.
    pub answered_by: RegionId,
    /// Whose daemon evaluates and tells; absent when none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated_by: Option<RegionId>,
    /// How old this is, in milliseconds; absent before the engine was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentReply {
    /// It.
    pub incident: Incident,
    /// Whose daemon answered.
    pub answered_by: RegionId,
    /// How old this is, in milliseconds; absent before the engine was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// What somebody reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportIncident {
    /// In a line.
    pub title: String,
    /// What is seen.
    #[serde(default)]
    pub description: String,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of trouble it is.
    pub category: Category,
    /// Which region it is about; absent when about none alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
}

/// Who looks after an incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// Who; whoever asks when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Who is to look after an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assign {
    /// Who.
    pub to: String,
}

/// Why an incident is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolve {
    /// Why it came to be.
    pub root_cause: String,
    /// What ended it.
    pub resolution: String,
}
