//! Who goes where, and who stays down for which reason.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use dwcp_types::{
    HostId, OnRegionLoss, PlacementRequest, Power, RegionId, Tier, Timestamp, VmId,
    ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Log;
use crate::ownership::{Loss, Place, Replica, VmRecord, loss_of};
use crate::placement::{Alternative, Fleet, Policy, RefusalCount, places_elsewhere};

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
    /// Its replica lacks what was acknowledged since: only an operator may say that this is to
    /// be lost.
    ReplicaBehind {
        /// Since when, by the clock of the lost region.
        since: Timestamp,
    },
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
                "its disk is in the lost region only; `--on-region-loss sync-replica`, \
                 `async-replica` or `snapshot-replica` would have kept it elsewhere too, `restart-from-image` would start it anew",
            ),
            Self::ReplicaBehind { .. } => f.write_str(
                "its replica lacks what it wrote last; `failover --accept-data-loss` starts \
                 it without",
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

/// What an operator allows a failover.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leave<'a> {
    /// The only regions that VMs may go to; any when absent.
    pub only: Option<&'a BTreeSet<RegionId>>,
    /// Start VMs also from a replica that lacks what was acknowledged last.
    pub accept_data_loss: bool,
}

impl<'a> From<&'a Log> for Leave<'a> {
    fn from(log: &'a Log) -> Self {
        Self { only: log.only.as_ref(), accept_data_loss: log.accept_data_loss }
    }
}

/// A VM that may start elsewhere.
struct Candidate<'a> {
    record: &'a VmRecord,
    /// As it is asked for elsewhere: in the region of its replica when it has one.
    request: Cow<'a, PlacementRequest>,
    /// Where it must start; anywhere that is legal without one.
    replica: Option<&'a Replica>,
    loss: Loss,
}

/// Plans the recovery of a region's VMs: the full placement filter for each (F11), one after
/// the other by priority, so that what little room is left goes to the most urgent. A VM with a
/// replica starts where that is kept, or nowhere. `records` of other regions are passed over. A
/// region that the fleet does not know has no VMs in it, and so every candidate stays down.
#[must_use]
pub fn plan(
    fleet: &Fleet,
    region: &RegionId,
    records: &[&VmRecord],
    leave: Leave<'_>,
    policy: &Policy,
) -> Plan {
    let mut down = Vec::new();
    let mut candidates = Vec::new();
    for record in records.iter().filter(|record| record.owner.region == *region) {
        match candidate(record, leave) {
            Err(why) => down.push(StaysDown { vm: record.request.id.clone(), why }),
            Ok(candidate) => candidates.push(candidate),
        }
    }
    candidates.sort_by(|a, b| by_urgency(&a.request).cmp(&by_urgency(&b.request)));
    let requests: Vec<_> = candidates.iter().map(|it| it.request.as_ref()).collect();
    let mut places = places_elsewhere(fleet, region, &requests, leave.only, policy);
    let mut moves = Vec::new();
    for Candidate { record, replica, loss, .. } in candidates {
        let vm = record.request.id.clone();
        match places(&vm) {
            Ok(to) => {
                let priority = record.request.priority;
                let to = at_replica(replica, to);
                moves.push(Move { vm, priority, to, loss });
            }
            Err(refusals) => {
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

/// What a VM is started elsewhere with, or what keeps it where it is.
fn candidate<'a>(
    record: &'a VmRecord,
    leave: Leave<'_>,
) -> Result<Candidate<'a>, Unrecovered> {
    if let Some(why) = barrier(record) {
        return Err(why);
    }
    let loss = loss_of(record).ok_or(Unrecovered::NoReplica)?;
    if let Loss::Latest { since } = loss
        && !leave.accept_data_loss
    {
        return Err(Unrecovered::ReplicaBehind { since });
    }
    let mut request = Cow::Borrowed(&record.request);
    let replica = record.replica.as_deref();
    if let Some(replica) = replica {
        let only = BTreeSet::from([replica.at.region.clone()]);
        let allowed = &record.request.constraints.allowed_regions;
        // What was legal when it was chosen may not be any more: then it is refused (F11).
        if allowed.is_empty() || allowed.contains(&replica.at.region) {
            request.to_mut().constraints.allowed_regions = only;
        } else {
            return Err(Unrecovered::NoLegalTarget { refusals: Vec::new() });
        }
    }
    Ok(Candidate { record, request, replica, loss })
}

/// The places that would do; for a VM with a replica the host that keeps it, whichever of that
/// region's was chosen.
fn at_replica(replica: Option<&Replica>, places: Vec<Alternative>) -> Vec<Alternative> {
    let Some(replica) = replica else { return places };
    let Place { region, zone, host } = replica.at.clone();
    let score = places.first().map_or(dwcp_types::Bps::ZERO, |first| first.score);
    vec![Alternative { region, zone, host, score }]
}

/// The most urgent first, then the largest, which finds room last.
pub(crate) fn by_urgency(
    request: &PlacementRequest,
) -> (std::cmp::Reverse<(u8, dwcp_types::VmShape)>, &VmId) {
    (std::cmp::Reverse((request.priority, request.shape)), &request.id)
}
