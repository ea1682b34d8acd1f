//! The log of one VM's move from region to region, and which step may follow which (C20-C22,
//! F4, F18).
//!
//! ```text
//!   Queued ─▶ Preparing ─▶ Moving ─▶ Committed ─▶ Arrived ─▶ Done(moved)
//!     │           │           │          └──────▶ TakingBack ─▶ Done(failed)
//!     └───────────┴───────────┴─▶ Abandoning ─▶ Done(failed or cancelled)
//! ```
//!
//! The record lies in the strong engine and each step is a compare-and-set of it, so two
//! controllers that drive the same move cannot disagree on where it stands. The step that
//! commits puts the VM's new owner in the same transaction. A step is written before what it
//! allows is done: after a crash the step is done again, and everything that is done is safe
//! to repeat.

mod turns;

pub use turns::{Entrant, Limits, going, waves};

use dwcp_types::{
    Epoch, Generation, HostId, MigrationId, Power, RegionId, ReservationId, Timestamp,
    VmId, ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ownership::{Owner, VmRecord};

/// Where the log of every move lies in the strong engine.
pub const MIGRATIONS_PREFIX: &str = "/migrations/";
/// Moves that wait or are under way, of the whole federation (DETAILS, O21).
pub const QUEUE_MAX: usize = 1_000;
/// Lines of one log: each step and its failures, many times over.
const LOG_MAX: usize = 64;

/// Why a VM moves (C22).
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
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Someone wants it.
    #[default]
    Manual,
    /// Its region is to be emptied.
    Maintenance,
    /// Its region is about to fail.
    Failover,
    /// Another region has more room.
    Rebalance,
    /// Another region is cheaper.
    CostOptimization,
}

/// How far a move is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It waits for its turn.
    Queued,
    /// Capacity is held, and the target is made ready.
    Preparing,
    /// Disk and memory flow.
    Moving,
    /// The target owns the VM: what is left of it is on its way.
    Committed,
    /// The source is lost with what was left: the target, whose disk is whole, starts the guest
    /// anew from it.
    SourceLost,
    /// The guest runs at the target; the source is cleaned.
    Arrived,
    /// The target lost the guest before it ran there: the source has it again.
    TakingBack,
    /// It is off: the source runs on, the target is cleaned.
    Abandoning,
    /// It is over; see the outcome.
    Done,
}

/// How a move ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The VM is at the target.
    Moved,
    /// It stayed; the failure says why.
    Failed,
    /// It stayed because someone wanted so.
    Cancelled,
}

/// Where a VM is, or is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The region.
    pub region: RegionId,
    /// The zone.
    pub zone: ZoneId,
    /// The host.
    pub host: HostId,
}

/// A move that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The VM.
    pub vm: VmId,
    /// Where it is.
    pub source: Site,
    /// Where it is to be.
    pub target: RegionId,
    /// The epoch that it leaves.
    pub epoch: Epoch,
    /// What was wanted of it then: another wish ends the move.
    pub generation: Generation,
    /// What holds its capacity at the source.
    pub reservation: ReservationId,
    /// Only its disk moves; its guest is off.
    pub cold: bool,
    /// Its disk has a copy in another region, which is let go before the disk leaves, and made
    /// anew by the new owner.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replicated: bool,
    /// Why.
    pub cause: Cause,
    /// How urgent, 1 to 10.
    pub priority: u8,
    /// The longest halt, in milliseconds.
    pub downtime_ms_max: u64,
    /// Most that it may take of the link, in bytes a second.
    pub bandwidth: u64,
    /// The round trip between the regions, in milliseconds.
    pub rtt_ms: u64,
    /// It is given up when it has not committed by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// When it was asked for.
    pub at: Timestamp,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// When, by the clock of who wrote it.
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// One move, as the strong engine holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// Which.
    pub id: MigrationId,
    /// What was asked for.
    pub ask: Ask,
    /// How far it is.
    pub step: Step,
    /// Where it goes, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<Site>,
    /// What holds its capacity at the target.
    pub reservation: ReservationId,
    /// How long all of it was foretold to take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foretold_ms: Option<u64>,
    /// The halt that was foretold, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foretold_downtime_ms: Option<u64>,
    /// It is emulated, and so halted while its memory is sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emulated: bool,
    /// From the promise, or from the first of its memory when it is emulated, until the guest ran
    /// at the target, as its controller saw it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_ms: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What happened, oldest first.
    pub log: Vec<Line>,
}

/// A step that does not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a move that is {from:?} cannot become {to:?}")]
pub struct StepDenied {
    from: Step,
    to: Step,
}

impl Migration {
    /// A move that waits.
    #[must_use]
    pub fn new(id: MigrationId, ask: Ask, reservation: ReservationId) -> Self {
        let log = vec![Line { at: ask.at, what: "asked for".to_owned() }];
        Self {
            id,
            ask,
            step: Step::Queued,
            site: None,
            reservation,
            foretold_ms: None,
            foretold_downtime_ms: None,
            emulated: false,
            downtime_ms: None,
            failure: None,
            outcome: None,
            ended_at: None,
            log,
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// Whether its VM's disk is on its way, or about to be: no other copy of it is made then.
    #[must_use]
    pub const fn takes_disk(&self) -> bool {
        matches!(self.step, Step::Preparing | Step::Moving)
    }

    /// Whether it may still be given up: nothing is committed, and it is not given up yet.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        matches!(self.step, Step::Queued | Step::Preparing | Step::Moving)
    }

    /// The same a step further.
    ///
    /// # Errors
    ///
    /// When the step does not follow, for example a cancel after the commit.
    pub fn advance(
        &self,
        to: Step,
        now: Timestamp,
        what: &str,
    ) -> Result<Self, StepDenied> {
        let follows = matches!(
            (self.step, to),
            (Step::Queued, Step::Preparing | Step::Abandoning)
                | (Step::Preparing, Step::Moving | Step::Abandoning)
                | (Step::Moving, Step::Committed | Step::Abandoning)
                | (Step::Committed, Step::SourceLost)
                | (Step::Committed | Step::SourceLost, Step::Arrived | Step::TakingBack)
                | (Step::Arrived | Step::TakingBack | Step::Abandoning, Step::Done)
        );
        if !follows {
            return Err(StepDenied { from: self.step, to });
        }
        let mut next = self.clone();
        next.step = to;
        next.note(now, what);
        if to == Step::Done {
            next.ended_at = Some(now);
            let stayed = self.outcome.unwrap_or(Outcome::Failed);
            let moved = self.step == Step::Arrived;
            next.outcome = Some(if moved { Outcome::Moved } else { stayed });
        }
        Ok(next)
    }

    /// The same, given up.
    ///
    /// # Errors
    ///
    /// When it is committed or over.
    pub fn abandon(&self, now: Timestamp, reason: &str) -> Result<Self, StepDenied> {
        let mut next = self.advance(Step::Abandoning, now, reason)?;
        next.failure = Some(reason.to_owned());
        Ok(next)
    }

    /// The same, given up because someone wants so.
    ///
    /// # Errors
    ///
    /// As [`Self::abandon`].
    pub fn cancel(&self, now: Timestamp) -> Result<Self, StepDenied> {
        let mut next = self.abandon(now, "cancelled")?;
        next.outcome = Some(Outcome::Cancelled);
        Ok(next)
    }

    fn note(&mut self, at: Timestamp, what: &str) {
        if self.log.len() >= LOG_MAX {
            self.log.remove(1);
        }
        self.log.push(Line { at, what: what.to_owned() });
    }
}

/// Why a VM does not move.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmovable {
    /// It has another owner, or is wanted otherwise, than when it was asked for.
    #[error(
        "the VM has another owner or is wanted otherwise since the move was asked for"
    )]
    Changed,
    /// It is there.
    #[error("the VM is in {region} already")]
    There {
        /// Where.
        region: RegionId,
    },
    /// Its record still relies on the copy of its disk in another region: that has to be let go
    /// before the disk leaves, because a disk has one mirror at a time.
    #[error("the VM's record still relies on its replica")]
    Mirrored,
    /// It makes room for another.
    #[error("the VM is stopped for a more urgent one and has no capacity of its own")]
    Preempted,
    /// A live move needs a guest, a cold one none.
    #[error(
        "the VM is wanted {power:?}; a live move needs it running or paused, a cold one (--cold) stopped"
    )]
    Power {
        /// What is wanted.
        power: Power,
    },
}

/// Says whether a VM may be moved so.
///
/// # Errors
///
/// The reason why not.
pub fn check_movable(
    record: &VmRecord,
    target: &RegionId,
    cold: bool,
) -> Result<(), Unmovable> {
    if record.owner.region == *target {
        return Err(Unmovable::There { region: target.clone() });
    }
    if record.preempted_by.is_some() {
        return Err(Unmovable::Preempted);
    }
    let fits = match record.power {
        Power::Running | Power::Paused => !cold,
        Power::Stopped => cold,
        Power::Deleted => false,
    };
    if fits { Ok(()) } else { Err(Unmovable::Power { power: record.power }) }
}

/// The VM's record with another owner under the next epoch, if it is still as it was when the
/// move was asked for: whatever was wanted of it since ends the move instead.
///
/// # Errors
///
/// When it is not.
pub fn hand_over(
    record: &VmRecord,
    migration: &Migration,
    now: Timestamp,
) -> Result<VmRecord, Unmovable> {
    let ask = &migration.ask;
    let site = migration.site.as_ref().ok_or(Unmovable::Changed)?;
    let same = record.version() == (ask.epoch, ask.generation)
        && record.owner.region == ask.source.region
        && record.owner.host == ask.source.host
        && record.reservation == ask.reservation;
    if !same {
        return Err(Unmovable::Changed);
    }
    if record.replica.as_ref().is_some_and(|replica| replica.is_in_sync()) {
        return Err(Unmovable::Mirrored);
    }
    let driven_out = matches!(ask.cause, Cause::Maintenance | Cause::Failover);
    let home = if driven_out { record.home_from(&site.region) } else { None };
    Ok(VmRecord { home, ..owned(record, site, &migration.reservation, now) })
}

/// The record with its old owner again, under yet another epoch, because the guest never ran
/// at the new one.
///
/// # Errors
///
/// When the target does not own it any more.
pub fn take_back(
    record: &VmRecord,
    migration: &Migration,
    now: Timestamp,
) -> Result<VmRecord, Unmovable> {
    let target = migration.site.as_ref();
    let same = record.owner.epoch == migration.ask.epoch.next()
        && target.is_some_and(|site| site.host == record.owner.host);
    if !same {
        return Err(Unmovable::Changed);
    }
    let source = &migration.ask.source;
    let home = record.home.clone().filter(|home| *home != source.region);
    Ok(VmRecord { home, ..owned(record, source, &migration.ask.reservation, now) })
}

/// Whether others have decided about a VM since its target became its owner: it was deleted,
/// or its new region was failed over.
#[must_use]
pub fn is_overtaken(record: Option<&VmRecord>, migration: &Migration) -> bool {
    let committed = migration.ask.epoch.next();
    record.is_none_or(|record| record.owner.epoch > committed)
}

/// The record with another owner. The disk that it had went along, so it is no copy of before
/// any more; and a copy in the VM's own region would be lost with it.
fn owned(
    record: &VmRecord,
    site: &Site,
    reservation: &ReservationId,
    now: Timestamp,
) -> VmRecord {
    VmRecord {
        owner: Owner {
            region: site.region.clone(),
            zone: site.zone.clone(),
            host: site.host.clone(),
            epoch: record.owner.epoch.next(),
        },
        generation: record.generation.next(),
        reservation: reservation.clone(),
        disk_from: None,
        replica: record.replica.clone().filter(|it| it.at.region != site.region),
        updated_at: now.max(record.updated_at),
        ..record.clone()
    }
}

/// Where the log of a move lies.
#[must_use]
pub fn migration_key(id: &MigrationId) -> String {
    format!("{MIGRATIONS_PREFIX}{id}")
}

/// What keeps a VM from moving twice at a time: it holds the id of its move.
#[must_use]
pub fn moving_key(vm: &VmId) -> String {
    format!("/moving/{vm}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A move of `web` from `a` to `b` that waits.
    pub(crate) fn migration() -> Migration {
        let site = |region: &str| Site {
            region: RegionId::new(region).unwrap(),
            zone: ZoneId::new("z").unwrap(),
            host: HostId::new("h").unwrap(),
        };
        let ask = Ask {
            vm: VmId::new("web").unwrap(),
            source: site("a"),
            target: RegionId::new("b").unwrap(),
            epoch: Epoch::FIRST,
            generation: Generation::FIRST,
            reservation: ReservationId::new("r-1").unwrap(),
            cold: false,
            replicated: false,
            cause: Cause::Manual,
            priority: 5,
            downtime_ms_max: 5_000,
            bandwidth: 1,
            rtt_ms: 1,
            deadline: None,
            at: Timestamp::from_millis(1),
        };
        let reservation = ReservationId::new("r-2").unwrap();
        Migration::new(MigrationId::new("m").unwrap(), ask, reservation)
    }

    const STEPS: [Step; 9] = [
        Step::Queued,
        Step::Preparing,
        Step::Moving,
        Step::Committed,
        Step::SourceLost,
        Step::Arrived,
        Step::TakingBack,
        Step::Abandoning,
        Step::Done,
    ];

    /// Walks every path: nothing that was committed is abandoned, nothing that was abandoned
    /// is committed, and every path ends with an outcome.
    #[test]
    fn every_path_ends_and_none_goes_both_ways() {
        let now = Timestamp::from_millis(5);
        let mut paths = vec![vec![migration()]];
        let mut ends = Vec::new();
        while let Some(path) = paths.pop() {
            let here = path.last().unwrap();
            if here.is_done() {
                let committed = path.iter().any(|m| m.step == Step::Committed);
                let abandoned = path.iter().any(|m| m.step == Step::Abandoning);
                assert!(committed != abandoned);
                let arrived = path.iter().any(|m| m.step == Step::Arrived);
                assert_eq!(here.outcome == Some(Outcome::Moved), arrived);
                ends.push(here.outcome.unwrap());
                continue;
            }
            for to in STEPS {
                if let Ok(next) = here.advance(to, now, "x") {
                    paths.push([path.clone(), vec![next]].concat());
                }
            }
            let committed = here.step >= Step::Committed && here.step < Step::Abandoning
                || here.outcome == Some(Outcome::Moved);
            assert_eq!(here.cancel(now).is_ok(), here.is_free());
            if let Ok(next) = here.cancel(now) {
                assert!(!committed);
                paths.push([path.clone(), vec![next]].concat());
            }
        }
        assert!(ends.contains(&Outcome::Cancelled) && ends.contains(&Outcome::Failed));
    }

    #[test]
    fn a_log_keeps_its_beginning_and_its_end() {
        let mut migration = migration();
        for number in 0..1_000 {
            migration.note(Timestamp::from_millis(number), &format!("line {number}"));
        }
        assert_eq!(migration.log.len(), LOG_MAX);
        assert_eq!(migration.log[0].what, "asked for");
        assert_eq!(migration.log[LOG_MAX - 1].what, "line 999");
    }
}
