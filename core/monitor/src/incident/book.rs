//! All incidents of a federation: one that stands for each cause at most, numbered, bounded.
//!
//! Every change is a function of the book, of what was found or asked, and of the time that is
//! handed in. Whoever keeps the book stores it by compare-and-set, so that a number is given
//! once and two evaluators cannot open the same incident twice.

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_types::{RegionId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Category, Cause, Finding, Incident, IncidentId, Mark, Notice, Outcome, SILENCES_MAX,
    Severity, Silence, SilenceId, Sink, Status, short,
};

/// What comes back within so long after it was over is the same incident (MONITORING 6.4).
pub const REOPENED_WITHIN: Duration = Duration::from_mins(30);
/// Incidents that are kept: months of them, and 10 MB if all are as long as they can be.
pub const KEPT_MAX: usize = 500;
/// Incidents that one step changes: what it writes fits one transaction. The rest is found again
/// in the next one.
pub const OPENED_PER_STEP: usize = 32;
/// How often what is seen is noted while an incident stands.
const SEEN_EVERY: Duration = Duration::from_secs(10);

/// All incidents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// The number that was given last.
    pub last: u32,
    /// By name.
    pub incidents: BTreeMap<IncidentId, Incident>,
    /// The number that a silence was given last.
    #[serde(default)]
    pub last_silence: u32,
    /// Of what nobody is told for a while, by name.
    #[serde(default)]
    pub silences: BTreeMap<SilenceId, Silence>,
}

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Incidents that are new.
    pub opened: Vec<IncidentId>,
    /// Findings that have no incident because the book is full of those that stand.
    pub unopened: u32,
}

/// An incident that somebody reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Which region it is about.
    pub region: Option<RegionId>,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of trouble it is.
    pub category: Category,
    /// In a line.
    pub title: String,
    /// What is seen.
    pub description: String,
}

/// Why an incident is not changed as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none of this name.
    #[error("there is no incident {id}")]
    NoSuchIncident {
        /// Which.
        id: IncidentId,
    },
    /// It is over.
    #[error("incident {id} is resolved")]
    Resolved {
        /// Which.
        id: IncidentId,
    },
    /// Somebody looks after it already.
    #[error("incident {id} is acknowledged by {by}")]
    Acknowledged {
        /// Which.
        id: IncidentId,
        /// Who.
        by: String,
    },
    /// A text is empty.
    #[error("{what} is empty")]
    Empty {
        /// Which.
        what: &'static str,
    },
    /// As many stand as are kept.
    #[error("{KEPT_MAX} incidents stand, and no more are kept")]
    Full,
    /// There is no silence of this name.
    #[error("there is no silence {id}, or it is over")]
    NoSuchSilence {
        /// Which.
        id: SilenceId,
    },
    /// A silence ends before it begins.
    #[error("the silence ends before it begins")]
    Backwards,
    /// A silence is over before it is made.
    #[error("the time of the silence is over already")]
    Past,
    /// A silence is too long.
    #[error("the silence is longer than 30 days")]
    TooLong,
    /// A silence covers nothing.
    #[error("nothing is less severe than low, so the silence covers nothing")]
    Covers,
    /// As many silences are kept as may be.
    #[error("there are {SILENCES_MAX} silences, and no more are kept")]
    SilencesFull,
}

impl Book {
    /// Takes what one round found.
    pub fn step(&mut self, findings: &[Finding], sinks: &[Sink], now: Timestamp) -> Step {
        let mut step = Step::default();
        for incident in self.incidents.values_mut() {
            incident.forget_sinks(sinks, now);
        }
        let mut changed = 0;
        for finding in findings {
            if changed == OPENED_PER_STEP {
                break;
            }
            let standing = self.standing(&finding.region, &finding.cause);
            match (finding.stands, standing) {
                (true, None) => {
                    changed += 1;
                    match self.begin(finding, now) {
                        Some((id, true)) => step.opened.push(id),
                        Some((_, false)) => {}
                        None => step.unopened += 1,
                    }
                }
                (true, Some(id)) => self.see(id, finding, now),
                (false, Some(id)) => {
                    changed += 1;
                    let what = format!("it is over: {}", finding.evidence);
                    self.end(id, &what, now);
                }
                (false, None) => {}
            }
        }
        self.mark(now);
        self.catch_up(sinks, now);
        self.forget_old();
        step
    }

    /// The incident of a region and cause that is not over.
    #[must_use]
    pub fn standing(&self, region: &RegionId, cause: &Cause) -> Option<IncidentId> {
        let found = self
            .incidents
            .values()
            .rev()
            .find(|incident| incident.stands() && incident.is_of(region, cause));
        found.map(|incident| incident.id)
    }

    /// Opens an incident, or reopens the one that was over lately; says whether it is new.
    fn begin(&mut self, finding: &Finding, now: Timestamp) -> Option<(IncidentId, bool)> {
        let Finding { region, cause, .. } = finding;
        let back = self.incidents.values().rev().find(|incident| {
            let ended = incident.resolved_at.map(|at| now.since(at));
            incident.is_of(region, cause)
                && ended.is_some_and(|ago| ago <= REOPENED_WITHIN)
        });
        let (id, is_new) = match back {
            Some(incident) => (incident.id, false),
            None => (self.number()?, true),
        };
        let parent = match cause {
            Cause::Silent => None,
            Cause::Unhealthy
            | Cause::Replication
            | Cause::Sla { .. }
            | Cause::Burn { .. }
            | Cause::Reported => self.standing(region, &Cause::Silent),
        };
        if is_new {
            self.incidents.insert(id, opened(id, finding, now));
        }
        let incident = self.incidents.get_mut(&id)?;
        incident.parent = parent;
        incident.description.clone_from(&finding.evidence);
        incident.severity = finding.severity;
        if is_new {
            incident.note(now, format!("opened: {}", finding.evidence));
        } else {
            incident.status = Status::Open;
            incident.resolved_at = None;
            incident.acknowledged = None;
            incident.flaps = incident.flaps.saturating_add(1);
            incident.note(now, format!("back again: {}", finding.evidence));
        }
        if let Some(parent) = parent {
            incident.note(now, format!("part of {parent}: nobody is told"));
        }
        if *cause == Cause::Silent {
            self.adopt(id, region, now);
        }
        Some((id, is_new))
    }

    /// The next number; none when the book is full of incidents that stand.
    fn number(&mut self) -> Option<IncidentId> {
        if self.incidents.values().filter(|incident| incident.stands()).count()
            >= KEPT_MAX
        {
            return None;
        }
        self.last = self.last.checked_add(1)?;
        Some(IncidentId::new(self.last))
    }

    /// Makes a silent region's other incidents part of its silence.
    fn adopt(&mut self, parent: IncidentId, region: &RegionId, now: Timestamp) {
        let theirs = self.incidents.values_mut().filter(|incident| {
            incident.stands()
                && incident.id != parent
                && incident.region.as_ref() == Some(region)
                && incident.cause != Cause::Reported
        });
        for child in theirs {
            child.parent = Some(parent);
            child.note(now, format!("part of {parent} while that stands"));
        }
    }

    /// What stands is seen once more.
    fn see(&mut self, id: IncidentId, finding: &Finding, now: Timestamp) {
        let Some(incident) = self.incidents.get_mut(&id) else { return };
        if finding.severity > incident.severity {
            incident.raise(finding.severity, now);
        }
        let last = incident.timeline.back().map(|it| it.at).unwrap_or_default();
        let same = incident.description == finding.evidence;
        if same || now.since(last) < SEEN_EVERY {
            return;
        }
        incident.description.clone_from(&finding.evidence);
        incident.note(now, format!("seen: {}", finding.evidence));
    }

    /// Ends an incident, and lets go what was part of it.
    fn end(&mut self, id: IncidentId, what: &str, now: Timestamp) {
        let Some(incident) = self.incidents.get_mut(&id) else { return };
        incident.status = Status::Resolved;
        incident.resolved_at = Some(now);
        incident.parent = None;
        incident.note(now, what);
        for child in self.incidents.values_mut().filter(|it| it.parent == Some(id)) {
            child.parent = None;
            child.note(now, format!("{id} is over and this one is not"));
        }
    }

    /// Has receivers told where what they were told is not so any more.
    fn catch_up(&mut self, sinks: &[Sink], now: Timestamp) {
        let mut told = 0;
        for incident in self.incidents.values_mut() {
            if told == OPENED_PER_STEP {
                // The rest is told in the next round.
                return;
            }
            told += usize::from(incident.catch_up(sinks, now));
        }
    }

    /// Somebody looks after it.
    ///
    /// # Errors
    ///
    /// When there is none of this name, it is over, or somebody does already.
    pub fn acknowledge(
        &mut self,
        id: IncidentId,
        by: &str,
        sinks: &[Sink],
        now: Timestamp,
    ) -> Result<(), Refused> {
        let by = said(by, "who acknowledges it")?;
        let incident = self.open_one(id)?;
        if let Some(mark) = &incident.acknowledged {
            return Err(Refused::Acknowledged { id, by: mark.by.clone() });
        }
        incident.status = Status::Acknowledged;
        incident.note(now, format!("acknowledged by {by}"));
        incident.acknowledged = Some(Mark { by, at: now });
        self.catch_up(sinks, now);
        Ok(())
    }

    /// Somebody is to look after it.
    ///
    /// # Errors
    ///
    /// When there is none of this name or it is over.
    pub fn assign(
        &mut self,
        id: IncidentId,
        to: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let to = said(to, "to whom it is assigned")?;
        let incident = self.open_one(id)?;
        incident.note(now, format!("assigned to {to} by {by}"));
        incident.assignee = Some(to);
        Ok(())
    }

    /// Somebody says that it is over. If its cause is found again it comes back.
    ///
    /// # Errors
    ///
    /// When there is none of this name, it is over, or nothing is said of why.
    pub fn resolve(
        &mut self,
        id: IncidentId,
        (root_cause, resolution): (&str, &str),
        by: &str,
        (sinks, now): (&[Sink], Timestamp),
    ) -> Result<(), Refused> {
        let root_cause = said(root_cause, "the root cause")?;
        let resolution = said(resolution, "the resolution")?;
        let incident = self.open_one(id)?;
        let what = format!("resolved by {by}: {resolution} (because: {root_cause})");
        incident.root_cause = Some(root_cause);
        incident.resolution = Some(resolution);
        self.end(id, &what, now);
        self.catch_up(sinks, now);
        Ok(())
    }

    /// Somebody reports something that nobody measures.
    ///
    /// # Errors
    ///
    /// When it has no title, or too many stand.
    pub fn report(
        &mut self,
        draft: &Draft,
        by: &str,
        sinks: &[Sink],
        now: Timestamp,
    ) -> Result<IncidentId, Refused> {
        let title = said(&draft.title, "the title")?;
        let id = self.number().ok_or(Refused::Full)?;
        let mut incident = Incident {
            region: draft.region.clone(),
            category: draft.category,
            title,
            description: short(&draft.description),
            ..blank(id, Cause::Reported, draft.severity, now)
        };
        incident.note(now, format!("reported by {by}"));
        self.incidents.insert(id, incident);
        self.mark_new(id, now);
        self.catch_up(sinks, now);
        self.forget_old();
        Ok(id)
    }

    /// What a receiver is to be told next: of the incident whose notice is the oldest.
    #[must_use]
    pub fn waiting(&self, sink: &str) -> Option<(&Incident, &Notice)> {
        let of = |incident| Some((incident, Incident::waiting(incident, sink)?));
        let found = self.incidents.values().filter_map(of);
        found.min_by_key(|(incident, notice)| (notice.at, incident.id))
    }

    /// What stands and a receiver was told of: to be said again to one that forgets.
    pub fn known_to(&self, sink: &Sink) -> impl Iterator<Item = &Incident> {
        self.incidents.values().filter(|incident| incident.is_known_to(sink))
    }

    /// Notes what came of an attempt to tell a receiver; says whether that was waited for.
    pub fn settle(
        &mut self,
        id: IncidentId,
        of: (u32, &str),
        outcome: Outcome,
        now: Timestamp,
    ) -> bool {
        let incident = self.incidents.get_mut(&id);
        incident.is_some_and(|incident| incident.settle(of, outcome, now))
    }

    fn open_one(&mut self, id: IncidentId) -> Result<&mut Incident, Refused> {
        let incident =
            self.incidents.get_mut(&id).ok_or(Refused::NoSuchIncident { id })?;
        if incident.stands() { Ok(incident) } else { Err(Refused::Resolved { id }) }
    }

    /// Forgets those that are over, the oldest first, and of those first the ones of which
    /// everybody was told.
    fn forget_old(&mut self) {
        let surplus = self.incidents.len().saturating_sub(KEPT_MAX);
        if surplus == 0 {
            return;
        }
        let over = self.incidents.values().filter(|incident| !incident.stands());
        let mut over: Vec<_> = over
            .map(|it| (!it.notices.is_empty() || it.is_believed(), it.resolved_at, it.id))
            .collect();
        over.sort();
        for (_, _, id) in over.into_iter().take(surplus) {
            self.incidents.remove(&id);
        }
    }
}

fn blank(id: IncidentId, cause: Cause, severity: Severity, now: Timestamp) -> Incident {
    Incident {
        id,
        region: None,
        severity,
        category: cause.category(),
        cause,
        title: String::new(),
        description: String::new(),
        status: Status::Open,
        detected_at: now,
        acknowledged: None,
        resolved_at: None,
        assignee: None,
        root_cause: None,
        resolution: None,
        parent: None,
        flaps: 0,
        timeline: std::collections::VecDeque::new(),
        left_out: 0,
        changes: 0,
        delivered: 0,
        given_up: 0,
        notices: std::collections::VecDeque::new(),
        told: BTreeMap::new(),
        silenced: None,
    }
}

fn opened(id: IncidentId, finding: &Finding, now: Timestamp) -> Incident {
    Incident {
        region: Some(finding.region.clone()),
        title: short(&finding.cause.title(&finding.region)),
        ..blank(id, finding.cause.clone(), finding.severity, now)
    }
}

/// A text that must say something, within its bound.
pub(super) fn said(text: &str, what: &'static str) -> Result<String, Refused> {
    let text = text.trim();
    if text.is_empty() { Err(Refused::Empty { what }) } else { Ok(short(text)) }
}
