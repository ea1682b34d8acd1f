//! Incidents (M13 to M15): what is wrong, since when, who looks after it, and who was told.
//!
//! ```text
//!   signals, each round ─▶ Detector: hysteresis ─▶ findings ─▶ Book: open, resolve, reopen
//!                                                                │
//!                                     operators: acknowledge, assign, resolve, create
//!                                                                ▼
//!                                                  notices, one a change and receiver
//! ```
//!
//! A finding is a level and not an edge: whoever takes over from another evaluator finds the same
//! and changes nothing. A cause has one incident at most that is not resolved; what comes back
//! within [`REOPENED_WITHIN`] is the same incident once more, so that flapping makes one incident
//! with a count and no flood. While a region is silent its other incidents are children of that
//! one, and nobody is told of them. Nor of what an operator silenced, for as long as that is so.
//! What a receiver is told is the difference between what it was told last and what is so.
//!
//! Rejected: an incident for each alert with a grouping at the receiver. Then every receiver has
//! to know which alerts are one trouble, and each has another answer.

mod book;
mod detect;
mod name;
mod notice;
mod silence;
#[cfg(test)]
mod tests;

pub use book::{Book, Draft, KEPT_MAX, OPENED_PER_STEP, REOPENED_WITHIN, Refused, Step};
pub use detect::{Detector, Finding, Reading, Signal};
pub use name::{IncidentId, IncidentIdError, SilenceId, SilenceIdError};
pub use notice::{
    ATTEMPTS_MAX, Change, Delivery, Headline, Message, NOTICES_MAX, Notice, Outcome,
    Sink, Told,
};
pub use silence::{
    CauseKind, SILENCE_MAX, SILENCES_MAX, Silence, SilenceDraft, SilenceKind,
};

use std::collections::{BTreeMap, VecDeque};

use dwcp_types::{RegionId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Entries of a timeline that are kept: the first, and the newest others. A day of an incident
/// that people work on has fewer, and so many of the longest are 20 KB.
pub const TIMELINE_MAX: usize = 50;
/// Longest text of an entry, title or evidence, in characters: some lines of a terminal.
pub const TEXT_LEN_MAX: usize = 300;

/// How bad it is (M15), the least first.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To know, or part of maintenance.
    #[default]
    Low,
    /// Capacity runs short, or something minor.
    Medium,
    /// An SLA is broken, or a region is degraded.
    High,
    /// Something is down, or data is lost.
    Critical,
}

impl Severity {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What kind of trouble it is (DETAILS 2.4).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Something does not answer.
    Availability,
    /// Something is slow or fails.
    Performance,
    /// Somebody attacks (M13).
    Security,
    /// Something runs short.
    Capacity,
}

impl Category {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::Performance => "performance",
            Self::Security => "security",
            Self::Capacity => "capacity",
        }
    }
}

/// Why there is an incident; with the region, what it is known again by.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// A majority of the other regions does not hear it.
    Silent,
    /// Its health is under 60 (M13).
    Unhealthy,
    /// State does not reach it, though it lives (M13).
    Replication,
    /// An SLA is broken (M13).
    Sla {
        /// Which.
        sla: String,
    },
    /// What an SLA allows to be bad in its period goes too fast.
    Burn {
        /// Which.
        sla: String,
    },
    /// Somebody said so.
    Reported,
}

impl Cause {
    /// How bad it is unless more is known (M15).
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Silent => Severity::Critical,
            Self::Unhealthy
            | Self::Replication
            | Self::Sla { .. }
            | Self::Burn { .. } => Severity::High,
            Self::Reported => Severity::Medium,
        }
    }

    /// The kind of trouble.
    #[must_use]
    pub const fn category(&self) -> Category {
        match self {
            Self::Silent | Self::Replication | Self::Reported => Category::Availability,
            Self::Unhealthy | Self::Sla { .. } | Self::Burn { .. } => {
                Category::Performance
            }
        }
    }

    /// Rounds in a row that it must be bad before there is an incident, and good before it is
    /// over. Silence was counted by the heartbeats already. That a region is unhealthy is also
    /// true for the seconds in which its hosts' agents start, and is not worth a page; that
    /// state does not reach it, for those in which its line comes up.
    #[must_use]
    pub const fn rounds(&self) -> (u32, u32) {
        match self {
            Self::Silent => (1, 3),
            Self::Unhealthy => (2, 3),
            // M13: "3+ consecutive violations".
            Self::Replication | Self::Sla { .. } => (3, 3),
            // Its looks of an hour and five minutes are the hysteresis.
            Self::Burn { .. } => (1, 3),
            Self::Reported => (u32::MAX, u32::MAX),
        }
    }

    fn title(&self, region: &RegionId) -> String {
        match self {
            Self::Silent => format!("Region {region} is silent"),
            Self::Unhealthy => format!("Region {region} is unhealthy"),
            Self::Replication => format!("State does not reach region {region}"),
            Self::Sla { sla } => format!("SLA breach: {sla} in region {region}"),
            Self::Burn { sla } => format!("SLA budget burns: {sla} in region {region}"),
            Self::Reported => format!("Reported of region {region}"),
        }
    }
}

/// Where an incident stands (DETAILS 2.4).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody said that they look after it.
    Open,
    /// Somebody looks after it.
    Acknowledged,
    /// It is over.
    Resolved,
}

/// Who did something, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mark {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What, in words, with what was seen.
    pub what: String,
}

/// An incident (M14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    /// Its name.
    pub id: IncidentId,
    /// Which region it is about; absent when about none alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of trouble it is.
    pub category: Category,
    /// Why there is an incident.
    #[serde(flatten)]
    pub cause: Cause,
    /// In a line.
    pub title: String,
    /// What is seen, as of the last look that saw something else.
    pub description: String,
    /// Where it stands.
    pub status: Status,
    /// When it was first seen.
    pub detected_at: Timestamp,
    /// Who looks after it, once somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Mark>,
    /// When it was last over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// Who is to look after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignee: Option<String>,
    /// Why it came to be, in an operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_cause: Option<String>,
    /// What ended it, in an operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<String>,
    /// The incident that it is part of while that one is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<IncidentId>,
    /// How often it came back after it was over.
    pub flaps: u32,
    /// What happened, the oldest first.
    pub timeline: VecDeque<Entry>,
    /// Entries that are left out after the first, because there were too many.
    pub left_out: u32,
    /// Changes of its status that receivers were to be told.
    pub changes: u32,
    /// Deliveries that were answered with success.
    pub delivered: u32,
    /// Deliveries that were given up.
    pub given_up: u32,
    /// What receivers are still to be told, the oldest first.
    pub notices: VecDeque<Notice>,
    /// What each receiver was told last, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<String, Told>,
    /// The silence for whose time nobody is told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced: Option<SilenceId>,
}

impl Incident {
    /// Whether it is not over.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.status != Status::Resolved
    }

    fn is_of(&self, region: &RegionId, cause: &Cause) -> bool {
        self.region.as_ref() == Some(region) && self.cause == *cause
    }

    /// It is worse than it was. Who looks after what was mild has not said so of this.
    fn raise(&mut self, severity: Severity, at: Timestamp) {
        let what = format!("worse: {}, was {}", severity.word(), self.severity.word());
        self.severity = severity;
        self.status = Status::Open;
        self.acknowledged = None;
        self.note(at, what);
    }

    fn note(&mut self, at: Timestamp, what: impl AsRef<str>) {
        self.timeline.push_back(Entry { at, what: short(what.as_ref()) });
        if self.timeline.len() > TIMELINE_MAX {
            // The first tells how it began.
            self.timeline.remove(1);
            self.left_out = self.left_out.saturating_add(1);
        }
    }
}

/// A text within its bound.
fn short(text: &str) -> String {
    text.chars().take(TEXT_LEN_MAX).collect()
}
