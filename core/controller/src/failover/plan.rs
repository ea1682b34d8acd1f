//! Who goes where, and who stays down for which reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dwcp_types::{
    HostId, OnRegionLoss, PlacementRequest, Power, RegionId, Tier, VmId, ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ownership::{Loss, VmRecord};
use crate::placement::{
    Alternative, Decision, Fleet, Policy, RefusalCount, place_elsewhere,
};

/// What becomes of every VM of a region that is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The region.
    pub region: RegionId,
    /// Who goes where: the most urgent first, then the largest.
    pub moves: Vec<Move>,
    /// Who stays down, by name.
    pub down: Vec<StaysDown>,
}

/// A VM that goes to another region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Move {
    /// Which.
    pub vm: VmId,
    /// How urgent, 1 to 10.
    pub priority: u8,
    /// Where to, best first, each in another region.
    pub to: Vec<Alternative>,
    /// What it loses.
    pub loss: Loss,
}

/// A VM that stays down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StaysDown {
    /// Which.
    pub vm: VmId,
    /// Why.
    #[serde(flatten)]
    pub why: Unrecovered,
}

/// Why a VM is not started elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Unrecovered {
    /// Only protected VMs are.
    NotProtected {
        /// Its tier.
        tier: Tier,
    },
    /// Its disk is in the lost region only, and it may not start from its image.
    NoReplica,
    /// It is being deleted: that is finished when its region is back.
    BeingDeleted,
    /// It made room for a more urgent VM and waits to have its own back.
    GaveWay {
        /// For which.
        to: VmId,
    },
    /// No region may take it, or none has room (F11: availability never overrides residency).
    NoLegalTarget {
        /// How many regions were refused for each reason.
        refusals: Vec<RefusalCount>,
    },
    /// Each region where it had a place refused it several times when it was asked.
    RefusedThere,
}

impl fmt::Display for Unrecovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProtected { .. } => f.write_str("it is not of tier protected"),
            Self::NoReplica => f.write_str(
                "its disk is in the lost region only; `--on-region-loss restart-from-image` \
                 would start it anew",
            ),
            Self::BeingDeleted => f.write_str("it is being deleted"),
            Self::GaveWay { to } => write!(f, "it made room for {to}"),
            Self::NoLegalTarget { .. } => f.write_str("no region may take it and has room"),
            Self::RefusedThere => {
                f.write_str("every region where it had a place refused it when it was asked")
            }
        }
    }
}

impl Move {
    /// The first place.
    #[must_use]
    pub fn first(&self) -> Option<(&RegionId, &ZoneId, &HostId)> {
        self.to.first().map(|at| (&at.region, &at.zone, &at.host))
    }
}

/// Plans the recovery of a region's VMs: the full placement filter for each (F11), one after
/// the other by priority, so that what little room is left goes to the most urgent. `records`
/// of other regions are passed over; `only` limits the targets. A region that the fleet does
/// not know has no VMs in it, and so every candidate stays down.
#[must_use]
pub fn plan(
    fleet: &Fleet,
    region: &RegionId,
    records: &[&VmRecord],
    only: Option<&BTreeSet<RegionId>>,
    policy: &Policy,
) -> Plan {
    let mut down = Vec::new();
    let mut candidates = Vec::new();
    for record in records.iter().filter(|record| record.owner.region == *region) {
        match barrier(record) {
            Some(why) => down.push(StaysDown { vm: record.request.id.clone(), why }),
            None => candidates.push(*record),
        }
    }
    candidates.sort_by(|a, b| order(&a.request).cmp(&order(&b.request)));
    let requests: Vec<_> = candidates.iter().map(|record| &record.request).collect();
    let decisions = place_elsewhere(fleet, region, &requests, only, policy);
    let decisions = decisions.unwrap_or_default().into_iter();
    let mut decisions: BTreeMap<VmId, Decision> =
        decisions.map(|decision| (decision.request.clone(), decision)).collect();
    let mut moves = Vec::new();
    for record in candidates {
        let vm = record.request.id.clone();
        match decisions.remove(&vm) {
            Some(decision) if decision.chosen.is_some() => {
                let loss = Loss::DiskAndMemory { since: record.created_at };
                let priority = record.request.priority;
                moves.push(Move { vm, priority, to: places(decision), loss });
            }
            refused => {
                let refusals = refused.map_or_else(Vec::new, |refused| refused.refusals);
                down.push(StaysDown { vm, why: Unrecovered::NoLegalTarget { refusals } });
            }
        }
    }
    down.sort_by(|a, b| a.vm.cmp(&b.vm));
    Plan { region: region.clone(), moves, down }
}

/// What keeps a VM where it is, whatever room there is elsewhere.
fn barrier(record: &VmRecord) -> Option<Unrecovered> {
    let request = &record.request;
    if record.power == Power::Deleted {
        return Some(Unrecovered::BeingDeleted);
    }
    if request.tier != Tier::Protected {
        return Some(Unrecovered::NotProtected { tier: request.tier });
    }
    if request.on_region_loss == OnRegionLoss::StayDown {
        return Some(Unrecovered::NoReplica);
    }
    record.preempted_by.clone().map(|to| Unrecovered::GaveWay { to })
}

/// The most urgent first, then the largest, which finds room last.
fn order(
    request: &PlacementRequest,
) -> (std::cmp::Reverse<(u8, dwcp_types::VmShape)>, &VmId) {
    (std::cmp::Reverse((request.priority, request.shape)), &request.id)
}

fn places(decision: Decision) -> Vec<Alternative> {
    let chosen = decision.chosen.map(|chosen| Alternative {
        region: chosen.region,
        zone: chosen.zone,
        host: chosen.host,
        score: chosen.score,
    });
    chosen.into_iter().chain(decision.alternatives).collect()
}
