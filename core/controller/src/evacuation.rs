//! Emptying a region that lives: who leaves for where, and who stays for which reason (C16, C22,
//! F1). What a region that is dead needs is [`crate::failover`].
//!
//! The wish is a level, kept with the region's record: while it stands, the region's own daemon
//! asks for a move of every VM that it owns, and asks again for those whose move failed. Nothing
//! of its progress has to be kept: what has left is not the region's any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use dwcp_types::{MigrationId, Power, RegionId, Timestamp, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failover::by_urgency;
use crate::migration::{Migration, Outcome};
use crate::ownership::VmRecord;
use crate::placement::{Alternative, Fleet, Policy, RefusalCount, places_elsewhere};

/// After how long a move that failed is asked for again.
pub const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// That a region is to be emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evacuation {
    /// Who wants so, by certificate.
    pub by: String,
    /// In whose words.
    pub reason: String,
    /// The only regions that its VMs may go to; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<BTreeSet<RegionId>>,
    /// Since when.
    pub at: Timestamp,
}

/// What becomes of every VM of a region that is emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The region.
    pub region: RegionId,
    /// Who leaves: the most urgent first, then the largest.
    pub leave: Vec<Leaves>,
    /// Who is on the way, by name.
    pub moving: Vec<OnTheWay>,
    /// Who stays, by name.
    pub stay: Vec<Stays>,
}

impl Plan {
    /// Whether nothing is left in the region.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.leave.is_empty() && self.moving.is_empty() && self.stay.is_empty()
    }
}

/// A VM that can leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leaves {
    /// Which.
    pub vm: VmId,
    /// How urgent, 1 to 10.
    pub priority: u8,
    /// Where to, best first, each in another region.
    pub to: Vec<Alternative>,
    /// Its guest is off: only its disk moves.
    pub cold: bool,
    /// Why its last move failed, and until when it is not asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedMove>,
}

/// A move that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedMove {
    /// Which.
    pub id: MigrationId,
    /// Why.
    pub why: String,
    /// It is asked for again from this moment on.
    pub again_at: Timestamp,
}

/// A VM whose move waits or is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OnTheWay {
    /// Which.
    pub vm: VmId,
    /// Where to.
    pub to: RegionId,
    /// By which move.
    pub id: MigrationId,
}

/// A VM that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stays {
    /// Which.
    pub vm: VmId,
    /// Why.
    #[serde(flatten)]
    pub why: Why,
}

/// Why a VM stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Why {
    /// It is being deleted, and is gone soon.
    BeingDeleted,
    /// It is stopped for a more urgent VM and has no capacity of its own to take along.
    GaveWay {
        /// For which.
        to: VmId,
    },
    /// No region may take it, or none has room (F11).
    NoLegalTarget {
        /// How many regions were refused for each reason.
        refusals: Vec<RefusalCount>,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeingDeleted => f.write_str("it is being deleted"),
            Self::GaveWay { to } => write!(f, "it made room for {to}"),
            Self::NoLegalTarget { .. } => {
                f.write_str("no other region may take it and has room")
            }
        }
    }
}

/// Plans how a region is emptied: the full placement filter for each of its VMs, one after the
/// other by priority. `records` of other regions are passed over. A region that the fleet does
/// not know has no VMs in it, and so each stays. `moves` are all that are known, those that are
/// over too.
#[must_use]
pub fn plan(
    fleet: &Fleet,
    region: &RegionId,
    (records, moves): (&[&VmRecord], &[&Migration]),
    only: Option<&BTreeSet<RegionId>>,
    policy: &Policy,
) -> Plan {
    let moves = of_each(moves);
    let mut moving = Vec::new();
    let mut stay = Vec::new();
    let mut candidates = Vec::new();
    for record in records.iter().filter(|record| record.owner.region == *region) {
        let vm = record.request.id.clone();
        let last = moves.get(&vm).copied();
        if let Some(on) = last.filter(|it| !it.is_done()) {
            moving.push(OnTheWay { vm, to: on.ask.target.clone(), id: on.id.clone() });
        } else if record.power == Power::Deleted {
            stay.push(Stays { vm, why: Why::BeingDeleted });
        } else if let Some(to) = record.preempted_by.clone() {
            stay.push(Stays { vm, why: Why::GaveWay { to } });
        } else {
            candidates.push((*record, last.and_then(|last| failed(last, record))));
        }
    }
    candidates
        .sort_by(|(a, _), (b, _)| by_urgency(&a.request).cmp(&by_urgency(&b.request)));
    let requests: Vec<_> = candidates.iter().map(|(it, _)| &it.request).collect();
    let mut places = places_elsewhere(fleet, region, &requests, only, policy);
    let mut leave = Vec::new();
    for (record, failed) in candidates {
        let vm = record.request.id.clone();
        match places(&vm) {
            Ok(to) => leave.push(Leaves {
                vm,
                priority: record.request.priority,
                to,
                cold: record.power == Power::Stopped,
                failed,
            }),
            Err(refusals) => {
                stay.push(Stays { vm, why: Why::NoLegalTarget { refusals } });
            }
        }
    }
    moving.sort_by(|a, b| a.vm.cmp(&b.vm));
    stay.sort_by(|a, b| a.vm.cmp(&b.vm));
    Plan { region: region.clone(), leave, moving, stay }
}

/// VMs whose move was refused when it was asked for, and until when each rests.
pub type Refused = BTreeMap<VmId, Timestamp>;

/// Which of those that leave are asked for now: as many as may be on the way at a time, and none
/// whose last move failed, or was refused, just now: others must not wait for these.
pub fn due<'a>(
    plan: &'a Plan,
    refused: &Refused,
    at_once: usize,
    now: Timestamp,
) -> impl Iterator<Item = (&'a Leaves, &'a RegionId)> {
    let rests = move |it: &&Leaves| {
        let failed = it.failed.as_ref().map(|it| it.again_at);
        failed.max(refused.get(&it.vm).copied()).is_some_and(|again_at| again_at > now)
    };
    let room = at_once.saturating_sub(plan.moving.len());
    let first = |it: &'a Leaves| Some((it, it.first()?));
    plan.leave.iter().filter(move |it| !rests(it)).filter_map(first).take(room)
}

impl Leaves {
    /// The region that it goes to.
    #[must_use]
    pub fn first(&self) -> Option<&RegionId> {
        self.to.first().map(|to| &to.region)
    }
}

/// The move of each VM that is not over, or else the one that ended last.
fn of_each<'a>(moves: &[&'a Migration]) -> BTreeMap<VmId, &'a Migration> {
    let rank = |it: &Migration| (!it.is_done(), it.ended_at);
    let mut each: BTreeMap<VmId, &Migration> = BTreeMap::new();
    for it in moves {
        let last = each.entry(it.ask.vm.clone()).or_insert(it);
        if rank(it) > rank(last) {
            *last = it;
        }
    }
    each
}

/// Whether the last move of a VM failed where it still is.
fn failed(last: &Migration, record: &VmRecord) -> Option<FailedMove> {
    let here = last.ask.source.region == record.owner.region;
    let failed = last.outcome == Some(Outcome::Failed) && here;
    let ended_at = last.ended_at.filter(|_| failed)?;
    Some(FailedMove {
        id: last.id.clone(),
        why: last.failure.clone().unwrap_or_default(),
        again_at: ended_at.plus(AGAIN_AFTER),
    })
}

#[cfg(test)]
mod tests;
