//! Silences: of what nobody is told for a while, who wanted that, and why.
//!
//! A silenced incident is opened, judged and shown as ever. Only the telling waits: what receivers
//! were told last is held against what is so when the silence is over, and they are told of the
//! difference once. So an incident that came and went meanwhile is told to nobody, one that stands
//! is told then, and one of which they knew and that is over is told to be over. Changes of before
//! a silence, which still wait for a receiver that does not answer, are told.
//!
//! Only the steps of who is on duty let silences end, by one clock. An operator's daemon whose
//! clock is ahead so ends none: what it does, and what it makes, only ever silences more.

use std::time::Duration;

use dwcp_types::{RegionId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::book::said;
use super::{Book, Cause, Incident, IncidentId, Refused, Severity, SilenceId};

/// Silences that are kept: more than people can have in mind.
pub const SILENCES_MAX: usize = 100;
/// Longest: what is silent for longer should be judged otherwise.
pub const SILENCE_MAX: Duration = Duration::from_hours(30 * 24);

/// Why there is a silence.
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
pub enum SilenceKind {
    /// Somebody knows of it.
    #[default]
    Silence,
    /// Somebody works there (M15).
    Maintenance,
}

/// A cause without what it is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// A region is not heard.
    Silent,
    /// Its health is low.
    Unhealthy,
    /// State does not reach it.
    Replication,
    /// A service level is broken.
    Sla,
    /// What a service level allows goes too fast.
    Burn,
    /// Somebody said so.
    Reported,
}

impl CauseKind {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Unhealthy => "unhealthy",
            Self::Replication => "replication",
            Self::Sla => "sla",
            Self::Burn => "burn",
            Self::Reported => "reported",
        }
    }
}

impl Cause {
    /// What kind of cause it is.
    #[must_use]
    pub const fn kind(&self) -> CauseKind {
        match self {
            Self::Silent => CauseKind::Silent,
            Self::Unhealthy => CauseKind::Unhealthy,
            Self::Replication => CauseKind::Replication,
            Self::Sla { .. } => CauseKind::Sla,
            Self::Burn { .. } => CauseKind::Burn,
            Self::Reported => CauseKind::Reported,
        }
    }
}

/// Of what nobody is to be told, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilenceDraft {
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
    /// From when on.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Why, in words.
    pub reason: String,
}

/// A silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Silence {
    /// Its name.
    pub id: SilenceId,
    /// Of what, when and why.
    #[serde(flatten)]
    pub of: SilenceDraft,
    /// Who wanted it.
    pub by: String,
    /// When they did.
    pub made_at: Timestamp,
}

impl Silence {
    /// Whether it begins later.
    #[must_use]
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        now < self.of.from
    }

    fn covers(&self, incident: &Incident, now: Timestamp) -> bool {
        let SilenceDraft { region, cause, severity_below, from, until, .. } = &self.of;
        (incident.stands() || incident.is_believed())
            && incident.region.as_ref() == Some(region)
            && cause.is_none_or(|cause| incident.cause.kind() == cause)
            && severity_below.is_none_or(|below| incident.severity < below)
            && (*from..*until).contains(&now)
    }

    /// Has nobody told of an incident, and notes that.
    fn cover(&self, incident: &mut Incident, now: Timestamp) {
        incident.silenced = Some(self.id);
        let what =
            format!("{} of {}: nobody is told ({})", self.id, self.by, self.of.reason);
        incident.note(now, what);
    }
}

impl Incident {
    /// Nothing silences it any more.
    fn let_go(&mut self, now: Timestamp) {
        self.silenced = None;
        if self.stands() {
            self.note(now, "silenced no more");
        }
    }
}

impl Book {
    /// Checks and makes a silence. What it covers is silenced at once.
    ///
    /// # Errors
    ///
    /// When it says nothing of why, is over, ends before it begins, is too long, covers nothing,
    /// or there are too many.
    pub fn silence(
        &mut self,
        draft: &SilenceDraft,
        by: &str,
        now: Timestamp,
    ) -> Result<SilenceId, Refused> {
        let reason = said(&draft.reason, "the reason")?;
        let by = said(by, "who wants it")?;
        let SilenceDraft { from, until, severity_below, .. } = draft;
        if from >= until {
            return Err(Refused::Backwards);
        } else if *until <= now {
            return Err(Refused::Past);
        } else if until.since(*from) > SILENCE_MAX {
            return Err(Refused::TooLong);
        } else if *severity_below == Some(Severity::Low) {
            return Err(Refused::Covers);
        }
        if self.silences.len() >= SILENCES_MAX {
            return Err(Refused::SilencesFull);
        }
        self.last_silence =
            self.last_silence.checked_add(1).ok_or(Refused::SilencesFull)?;
        let id = SilenceId::new(self.last_silence);
        let of = SilenceDraft { reason, ..draft.clone() };
        let silence = Silence { id, of, by, made_at: now };
        for incident in self.incidents.values_mut() {
            if incident.silenced.is_none() && silence.covers(incident, now) {
                silence.cover(incident, now);
            }
        }
        self.silences.insert(id, silence);
        Ok(id)
    }

    /// Ends a silence before its time. What it covered is told in the next step, unless another
    /// one covers it.
    ///
    /// # Errors
    ///
    /// When there is none of this name.
    pub fn end_silence(
        &mut self,
        id: SilenceId,
        by: &str,
        now: Timestamp,
    ) -> Result<Silence, Refused> {
        let by = said(by, "who ends it")?;
        let gone = self.silences.remove(&id).ok_or(Refused::NoSuchSilence { id })?;
        let silenced = self.incidents.values_mut();
        for incident in silenced.filter(|it| it.silenced == Some(id)) {
            incident.note(now, format!("{id} was ended by {by}"));
        }
        Ok(gone)
    }

    /// Forgets silences that are over and marks what the others cover.
    pub(super) fn mark(&mut self, now: Timestamp) {
        self.silences.retain(|_, silence| now < silence.of.until);
        for incident in self.incidents.values_mut() {
            let by = self.silences.values().find(|it| it.covers(incident, now));
            if incident.silenced == by.map(|silence| silence.id) {
                continue;
            }
            match by {
                Some(silence) => silence.cover(incident, now),
                None => incident.let_go(now),
            }
        }
    }

    /// Marks an incident that is new, without ending any silence.
    pub(super) fn mark_new(&mut self, id: IncidentId, now: Timestamp) {
        let Some(incident) = self.incidents.get_mut(&id) else { return };
        if let Some(by) = self.silences.values().find(|it| it.covers(incident, now)) {
            by.cover(incident, now);
        }
    }
}
