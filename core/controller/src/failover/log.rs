//! The log of the one failover that is under way.

use std::collections::BTreeSet;
use std::time::Duration;

use dwcp_types::{RegionId, Timestamp, millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StaysDown;
use crate::ownership::{Loss, Proof, VmRecord};

/// Where the log of the failover under way lies in the strong engine. One key: while it is
/// there no other failover can begin.
pub const ACTIVE_KEY: &str = "/failovers/active";

/// Where the logs of those that ended lie.
pub const HISTORY_PREFIX: &str = "/failovers/done/";

/// Where the log of one that ended lies.
#[must_use]
pub fn history_key(id: &str) -> String {
    format!("{HISTORY_PREFIX}{id}")
}

/// After how long without a new beat a log has lost its executor: three beats of a second.
pub const EXECUTOR_SILENT_AFTER: Duration = Duration::from_secs(3);

/// Most names of VMs that stay down in one log: enough to act on, and few enough for a record.
const DOWN_MAX: usize = 1_000;

/// What began a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "trigger", rename_all = "snake_case")]
pub enum Trigger {
    /// The verdict of this region's daemon.
    Automatic {
        /// Which.
        by: RegionId,
    },
    /// A person.
    Operator {
        /// Who.
        name: String,
        /// Why.
        reason: String,
        /// Which other person agreed; absent where nobody had to (F17).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approved_by: Option<String>,
    },
}

/// How far it is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Until the fenced lease has surely lapsed.
    Waiting,
    /// VMs get their new owners.
    Recovering,
    /// They are started.
    Verifying,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every VM that had a place runs there.
    Recovered,
    /// Some VM that has its new owner did not run in time; its owner goes on trying.
    NotAllRunning,
    /// The region took its lease again; what was not taken over by then is its own.
    RegionReturned,
}

/// When and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// When, by the clock of its executor.
    pub at: Timestamp,
}

/// What was lost of disks that follow later: the RPO that was had (F2). The clocks of two regions
/// are in it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Points {
    /// VMs that started from such a disk.
    pub vms: u32,
    /// How old the oldest of their disks was when the region was lost, in milliseconds.
    pub age_ms_max: u64,
    /// Of how many it was older than it was to become.
    pub over: u32,
}

/// The log of a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Names it: the fence and the recovered VMs carry it.
    pub id: String,
    /// The region that is lost.
    pub region: RegionId,
    /// The only regions that its VMs may go to; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<BTreeSet<RegionId>>,
    /// VMs start also from a replica that lacks what was acknowledged last; only an operator
    /// says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_data_loss: bool,
    /// What began it.
    pub trigger: Trigger,
    /// Why the region surely runs nothing any more; absent while that is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// How far it is.
    pub phase: Phase,
    /// Whose daemon carries it out.
    pub executor: RegionId,
    /// Rises with every second that the executor lives.
    pub beats: u64,
    /// VMs that have their new owner.
    pub owned: u32,
    /// VMs that were seen running there.
    pub running: u32,
    /// VMs that stay down, at most 1,000 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<StaysDown>,
    /// When the region can have run last, by the clock of who began it: when its lease was seen
    /// renewed last, and one renewal more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
    /// What was lost by VMs whose disks follow later; absent when there was none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<Points>,
    /// When it began, by the clock of who began it.
    pub started_at: Timestamp,
    /// When each phase was entered, by the clock of its executor then.
    pub phase_at: Timestamp,
    /// Absent while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

impl Log {
    /// A failover that begins. With a proof it recovers at once; without one it waits for the
    /// lease to lapse.
    #[must_use]
    pub fn begun(
        id: String,
        region: RegionId,
        trigger: Trigger,
        proof: Option<Proof>,
        (executor, now): (RegionId, Timestamp),
    ) -> Self {
        let phase = if proof.is_some() { Phase::Recovering } else { Phase::Waiting };
        Self {
            id,
            region,
            only: None,
            accept_data_loss: false,
            trigger,
            proof,
            phase,
            executor,
            beats: 0,
            owned: 0,
            running: 0,
            down: Vec::new(),
            lost_at: None,
            points: None,
            started_at: now,
            phase_at: now,
            ended: None,
        }
    }

    /// The log with another beat, by whoever carries it out now.
    #[must_use]
    pub fn beaten(&self, executor: &RegionId) -> Self {
        Self {
            executor: executor.clone(),
            beats: self.beats.saturating_add(1),
            ..self.clone()
        }
    }

    /// The log in a later phase; an earlier one changes nothing.
    #[must_use]
    pub fn advanced(&self, phase: Phase, now: Timestamp) -> Self {
        if phase <= self.phase {
            return self.clone();
        }
        Self { phase, phase_at: now, ..self.clone() }
    }

    /// The log with its proof: it recovers from now on.
    #[must_use]
    pub fn proven(&self, proof: Proof, now: Timestamp) -> Self {
        Self { proof: Some(proof), ..self.advanced(Phase::Recovering, now) }
    }

    /// The log with those that stay down.
    #[must_use]
    pub fn with_down(&self, mut down: Vec<StaysDown>) -> Self {
        down.truncate(DOWN_MAX);
        Self { down, ..self.clone() }
    }

    /// What VMs lost whose disks follow later, of those that have their new owner.
    #[must_use]
    pub fn points_of<'a>(
        &self,
        owned: impl Iterator<Item = &'a VmRecord>,
    ) -> Option<Points> {
        let lost_at = self.lost_at.unwrap_or(self.started_at);
        let mut points: Option<Points> = None;
        for record in owned {
            let loss = record.recovered.as_ref().map(|recovered| recovered.loss);
            let Some(Loss::Point { as_of, max_age_s }) = loss else { continue };
            let age = lost_at.since(as_of);
            let all = points.get_or_insert_default();
            all.vms = all.vms.saturating_add(1);
            all.age_ms_max = all.age_ms_max.max(millis(age));
            all.over = all.over.saturating_add(u32::from(age.as_secs() > max_age_s));
        }
        points
    }

    /// The log at its end.
    #[must_use]
    pub fn over(&self, outcome: Outcome, now: Timestamp) -> Self {
        Self { ended: Some(Ended { outcome, at: now }), ..self.clone() }
    }
}
