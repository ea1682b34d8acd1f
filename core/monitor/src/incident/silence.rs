//! Silences: of what nobody is told for a while, who wanted that, and why.
//!
//! A silenced incident is opened, judged and shown as ever. Only the telling waits: what receivers
//! believe (`announced`) is held against what is so when the silence is over, and they are told of
//! the difference once. So an incident that came and went meanwhile is told to nobody, one that
//! stands is told then, and one of which they knew and that is over is told to be over. Changes of
//! before a silence, which still wait for a receiver that does not answer, are told.
//!
//! Moments are by the clock of whoever changes the book: the daemon on duty in its rounds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use dwcp_types::{RegionId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::book::said;
use super::{Book, Cause, Change, Incident, OPENED_PER_STEP, Refused, Severity, Sink};

/// Silences that are kept: more than people can have in mind.
pub const SILENCES_MAX: usize = 100;
/// Longest: what is silent for longer should be judged otherwise.
pub const SILENCE_MAX: Duration = Duration::from_hours(30 * 24);

/// Names a silence, `SIL-001`. Numbers are given once, as those of incidents are.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct SilenceId(u32);

/// What is no silence's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a silence; write one such as SIL-001")]
pub struct SilenceIdError(String);

impl SilenceId {
    /// From its number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for SilenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("SIL-{:03}", self.0))
    }
}

impl FromStr for SilenceId {
    type Err = SilenceIdError;

    fn from_str(text: &str) -> Result<Self, SilenceIdError> {
        let refused = || SilenceIdError(text.chars().take(40).collect());
        let digits = text.strip_prefix("SIL-").unwrap_or(text);
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        digits.parse().map(Self).map_err(|_| refused())
    }
}

impl TryFrom<String> for SilenceId {
    type Error = SilenceIdError;

    fn try_from(text: String) -> Result<Self, SilenceIdError> {
        text.parse()
    }
}

impl From<SilenceId> for String {
    fn from(id: SilenceId) -> Self {
        id.to_string()
    }
}

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
        incident.region.as_ref() == Some(region)
            && cause.is_none_or(|cause| incident.cause.kind() == cause)
            && severity_below.is_none_or(|below| incident.severity < below)
            && (*from..*until).contains(&now)
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
        self.forget_silences(now);
        if self.silences.len() >= SILENCES_MAX {
            return Err(Refused::SilencesFull);
        }
        self.last_silence =
            self.last_silence.checked_add(1).ok_or(Refused::SilencesFull)?;
        let id = SilenceId::new(self.last_silence);
        let of = SilenceDraft { reason, ..draft.clone() };
        self.silences.insert(id, Silence { id, of, by, made_at: now });
        self.mark(now);
        Ok(id)
    }

    /// Ends a silence before its time, and has told what waited for that.
    ///
    /// # Errors
    ///
    /// When there is none of this name.
    pub fn end_silence(
        &mut self,
        id: SilenceId,
        sinks: &[Sink],
        now: Timestamp,
    ) -> Result<Silence, Refused> {
        let gone = self.silences.remove(&id).ok_or(Refused::NoSuchSilence { id })?;
        self.mark(now);
        self.catch_up(sinks, now);
        Ok(gone)
    }

    /// Forgets silences that are over and marks what the others cover.
    pub(super) fn mark(&mut self, now: Timestamp) {
        self.forget_silences(now);
        for incident in self.incidents.values_mut() {
            let by = if incident.stands() || incident.announced {
                self.silences.values().find(|silence| silence.covers(incident, now))
            } else {
                None
            };
            let id = by.map(|silence| silence.id);
            if incident.silenced == id {
                continue;
            }
            incident.silenced = id;
            match by {
                Some(Silence { id, by, of, .. }) => {
                    let what = format!("{id} of {by}: nobody is told ({})", of.reason);
                    incident.note(now, what);
                }
                None if incident.stands() => incident.note(now, "silenced no more"),
                None => {}
            }
        }
    }

    fn forget_silences(&mut self, now: Timestamp) {
        self.silences.retain(|_, silence| now < silence.of.until);
    }

    /// Has receivers told where what they believe is not so any more and nothing silences it.
    pub(super) fn catch_up(&mut self, sinks: &[Sink], now: Timestamp) {
        let differs = |it: &&mut Incident| {
            it.silenced.is_none()
                && match it.stands() {
                    true => it.parent.is_none() && !it.announced,
                    false => it.announced,
                }
        };
        // The rest is told in the next round.
        for incident in self.incidents.values_mut().filter(differs).take(OPENED_PER_STEP)
        {
            let stands = incident.stands();
            incident.tell(
                if stands { Change::Opened } else { Change::Resolved },
                sinks,
                now,
            );
        }
    }
}
