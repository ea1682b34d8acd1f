//! Who is to be told of what, until they were or it is given up.
//!
//! At least once: what was sent and not noted is sent again under the same key. Nothing is lost
//! in silence: every notice that was made for a receiver is delivered, waits, or is counted as
//! given up. In one incident a receiver is told in the order in which things happened.

use std::collections::BTreeMap;

use dwcp_types::{RegionId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Category, Cause, Incident, IncidentId, Severity, Status, short};

/// Attempts at one delivery: with pauses that double from 1 s to 5 min, about an hour.
pub const ATTEMPTS_MAX: u32 = 20;
/// Notices of one incident that wait: eight times there and back. Older ones are given up.
pub const NOTICES_MAX: usize = 16;

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Its name; its address may be a secret.
    pub name: String,
    /// It is told of nothing less severe.
    pub min_severity: Severity,
}

/// A change that receivers are told.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// There is a new incident.
    Opened,
    /// Somebody looks after it.
    Acknowledged,
    /// It is over.
    Resolved,
    /// It is back, or nobody looks after it any more.
    Reopened,
    /// It is worse than what was told.
    Raised,
}

impl Change {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Reopened => "reopened",
            Self::Raised => "raised",
        }
    }

    /// Where the incident stood after it.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Opened | Self::Reopened | Self::Raised => Status::Open,
            Self::Acknowledged => Status::Acknowledged,
            Self::Resolved => Status::Resolved,
        }
    }
}

/// One change, and who is still to be told of it. All that is said is kept, so that it is the
/// same at each attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// The number of the change in its incident, from 1 on.
    pub seq: u32,
    /// What changed.
    pub change: Change,
    /// When.
    pub at: Timestamp,
    /// How bad it was.
    pub severity: Severity,
    /// What was seen.
    pub description: String,
    /// How often it had come back.
    pub flaps: u32,
    /// Who is to be told, by name.
    pub to: BTreeMap<String, Delivery>,
}

/// What a receiver was told last. What is on its way to it, or was given up, counts as told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// What changed.
    pub change: Change,
    /// How bad it was.
    pub severity: Severity,
}

/// How far one delivery is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// Attempts that failed.
    pub attempts: u32,
    /// Why the last one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered with success.
    Told,
    /// It was not.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What a receiver is told, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same at each attempt, and of no other message: `INC-001.2`.
    pub key: String,
    /// What changed.
    pub event: Change,
    /// When, in milliseconds since the Unix epoch.
    pub at: Timestamp,
    /// What it is about.
    pub incident: Headline,
}

/// An incident as receivers are told of it (M14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headline {
    /// Its name.
    pub id: IncidentId,
    /// Its region.
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
    /// What was seen.
    pub description: String,
    /// Where it stood after the change.
    pub status: Status,
    /// When it was first seen.
    pub detected_at: Timestamp,
    /// How often it had come back.
    pub flaps: u32,
}

impl Incident {
    /// What to tell a receiver of one of its notices.
    #[must_use]
    pub fn message(&self, notice: &Notice) -> Message {
        Message {
            key: format!("{}.{}", self.id, notice.seq),
            event: notice.change,
            at: notice.at,
            incident: Headline {
                id: self.id,
                region: self.region.clone(),
                severity: notice.severity,
                category: self.category,
                cause: self.cause.clone(),
                title: self.title.clone(),
                description: notice.description.clone(),
                status: notice.change.status(),
                detected_at: self.detected_at,
                flaps: notice.flaps,
            },
        }
    }

    /// What a receiver is told again that is to be reminded: what it was told last, which may be
    /// less than what is so, because of that nobody may be told now.
    #[must_use]
    pub fn as_told(&self, sink: &Sink) -> Option<Message> {
        let Told { change, severity } = self.told.get(&sink.name).copied()?;
        Some(self.message(&Notice {
            seq: self.changes,
            change,
            at: self.detected_at,
            severity,
            description: self.description.clone(),
            flaps: self.flaps,
            to: BTreeMap::new(),
        }))
    }

    /// Whether a receiver was told that it stands, it does, and nothing newer waits for it. A
    /// silence changes nothing of that: what it knows is so.
    pub(super) fn is_known_to(&self, sink: &Sink) -> bool {
        self.stands() && self.knows(sink).is_some() && self.waiting(&sink.name).is_none()
    }

    /// Whether anybody was last told that it stands.
    pub(super) fn is_believed(&self) -> bool {
        self.told.values().any(|told| told.change != Change::Resolved)
    }

    /// What a receiver was told last, if that was not that it is over.
    fn knows(&self, sink: &Sink) -> Option<Told> {
        self.told.get(&sink.name).copied().filter(|it| it.change != Change::Resolved)
    }

    /// What a receiver is to be told: the difference between what it was told and what is so. What
    /// it knows of it is told on, also when it takes nothing so mild any more.
    fn news_for(&self, sink: &Sink) -> Option<Change> {
        match (self.stands(), self.knows(sink)) {
            (false, knows) => knows.map(|_| Change::Resolved),
            (true, None) => {
                let wanted = self.parent.is_none() && self.severity >= sink.min_severity;
                let was_told = self.told.contains_key(&sink.name);
                let news = if was_told { Change::Reopened } else { Change::Opened };
                wanted.then_some(news)
            }
            (true, Some(Told { change, severity })) => {
                if self.severity > severity && self.parent.is_none() {
                    return Some(Change::Raised);
                }
                match (change.status(), self.status) {
                    (Status::Open, Status::Acknowledged) => Some(Change::Acknowledged),
                    (Status::Acknowledged, Status::Open) => Some(Change::Reopened),
                    (Status::Open | Status::Acknowledged | Status::Resolved, _) => None,
                }
            }
        }
    }

    /// Has every receiver told what is news to it, unless nobody is to be told; says whether
    /// there was anything.
    pub(super) fn catch_up(&mut self, sinks: &[Sink], at: Timestamp) -> bool {
        if self.silenced.is_some() {
            return false;
        }
        let mut any = false;
        // Whoever is told that it stands may then be told that somebody looks after it.
        loop {
            let mut news: BTreeMap<Change, Vec<String>> = BTreeMap::new();
            for sink in sinks {
                if let Some(change) = self.news_for(sink) {
                    news.entry(change).or_default().push(sink.name.clone());
                }
            }
            if news.is_empty() {
                return any;
            }
            any = true;
            for (change, to) in news {
                self.tell(change, to, at);
            }
        }
    }

    /// Has these receivers told.
    fn tell(&mut self, change: Change, to: Vec<String>, at: Timestamp) {
        self.changes = self.changes.saturating_add(1);
        let told = Told { change, severity: self.severity };
        self.told.extend(to.iter().map(|name| (name.clone(), told)));
        let to = to.into_iter().map(|name| (name, Delivery::default())).collect();
        if self.notices.len() == NOTICES_MAX
            && let Some(oldest) = self.notices.pop_front()
        {
            for (sink, delivery) in oldest.to {
                self.give_up((&sink, oldest.change), &delivery, "too much waits", at);
            }
        }
        self.notices.push_back(Notice {
            seq: self.changes,
            change,
            at,
            severity: self.severity,
            description: self.description.clone(),
            flaps: self.flaps,
            to,
        });
    }

    /// Notes what came of an attempt to tell of a change; says whether that was waited for.
    pub(super) fn settle(
        &mut self,
        (seq, sink): (u32, &str),
        outcome: Outcome,
        at: Timestamp,
    ) -> bool {
        let Some(notice) = self.notices.iter_mut().find(|notice| notice.seq == seq)
        else {
            return false;
        };
        let change = notice.change;
        let Some(delivery) = notice.to.get_mut(sink) else { return false };
        delivery.attempts = delivery.attempts.saturating_add(1);
        match outcome {
            Outcome::Told => {
                let attempt = delivery.attempts;
                notice.to.remove(sink);
                self.delivered = self.delivered.saturating_add(1);
                let what =
                    format!("{sink} was told: {} (attempt {attempt})", change.word());
                self.note(at, what);
            }
            Outcome::Failed { reason } if delivery.attempts >= ATTEMPTS_MAX => {
                let delivery = notice.to.remove(sink).unwrap_or_default();
                self.give_up((sink, change), &delivery, &reason, at);
            }
            Outcome::Failed { reason } => delivery.last_error = Some(short(&reason)),
        }
        self.notices.retain(|notice| !notice.to.is_empty());
        true
    }

    /// Gives up what receivers were to be told that are none any more.
    pub(super) fn forget_sinks(&mut self, sinks: &[Sink], at: Timestamp) {
        // What it was told is kept: another daemon's file may name it still.
        let is_one = |name: &String| sinks.iter().any(|sink| sink.name == *name);
        if self.notices.iter().all(|notice| notice.to.keys().all(is_one)) {
            return;
        }
        let mut gone = Vec::new();
        for notice in &mut self.notices {
            let unknown: Vec<_> =
                notice.to.keys().filter(|n| !is_one(n)).cloned().collect();
            for name in unknown {
                let delivery = notice.to.remove(&name).unwrap_or_default();
                gone.push((name, notice.change, delivery));
            }
        }
        self.notices.retain(|notice| !notice.to.is_empty());
        for (name, change, delivery) in gone {
            let why = "it is not configured any more";
            self.give_up((&name, change), &delivery, why, at);
        }
    }

    fn give_up(
        &mut self,
        (sink, change): (&str, Change),
        delivery: &Delivery,
        why: &str,
        at: Timestamp,
    ) {
        self.given_up = self.given_up.saturating_add(1);
        let times = delivery.attempts;
        let change = change.word();
        let what = format!("{sink} was not told: {change} ({times} attempts): {why}");
        self.note(at, what);
    }

    /// The oldest notice that a receiver was not told yet.
    pub(super) fn waiting(&self, sink: &str) -> Option<&Notice> {
        self.notices.iter().find(|notice| notice.to.contains_key(sink))
    }
}
