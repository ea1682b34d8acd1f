//! What a user asks for (C8-C13), with the corrections: optional limits are options (F23),
//! users have origins (F25), affinity has a scope and a hardness (F30).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ComplianceZone, GroupId, Mbps, MicroUsd, RegionId, TenantId, UserZoneId, VmId,
    VmShape, VmType,
};

/// A request to place one VM (C9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacementRequest {
    /// The VM's name.
    pub id: VmId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its size.
    #[serde(rename = "spec")]
    pub shape: VmShape,
    /// What it is for.
    #[serde(default)]
    pub vm_type: VmType,
    /// What must and what should hold of its place.
    #[serde(default)]
    pub constraints: Constraints,
    /// Where its users are. Empty means users spread evenly over every user zone that the
    /// federation knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
    /// How the five factors are weighed; the federation's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Urgency, 1 to 10 with 10 the highest. Orders queues and drives pre-emption; it is no
    /// factor of the score (F27).
    #[serde(default = "middle_priority")]
    pub priority: u8,
    /// How well it is guarded against pre-emption and region loss.
    #[serde(default)]
    pub tier: Tier,
    /// What becomes of it when its region is lost; counts for tier `protected` only.
    #[serde(default, skip_serializing_if = "OnRegionLoss::is_default")]
    pub on_region_loss: OnRegionLoss,
    /// How old what another region has of its disk may become, in seconds; for replicas that
    /// follow later only, and theirs when absent ([`OnRegionLoss::replica_age_s`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_max_age_s: Option<u32>,
    /// Free labels, such as `env=production`; lists and migration filters select by them
    /// (O38).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl PlacementRequest {
    /// Whether it runs only while its region holds its lease, because another region may start
    /// it when that lease has lapsed (DESIGN 4). Every other VM runs on whatever its region
    /// and the strong engine do: nobody else will ever start it while its record stands.
    #[must_use]
    pub fn is_failover_protected(&self) -> bool {
        self.tier == Tier::Protected && self.on_region_loss != OnRegionLoss::StayDown
    }

    /// Whether its disk is kept in another region too.
    #[must_use]
    pub fn keeps_replica(&self) -> bool {
        self.tier == Tier::Protected && self.on_region_loss.is_replica()
    }

    /// How old what another region has of its disk may become, when that follows later; nothing
    /// when each write is there before it is acknowledged, or nothing is kept there.
    #[must_use]
    pub fn replica_age_max(&self) -> Option<Duration> {
        let ages =
            self.on_region_loss.replica_age_s().filter(|_| self.keeps_replica())?;
        let seconds = self.replica_max_age_s.unwrap_or(ages.usual);
        Some(Duration::from_secs(seconds.into()))
    }
}

const fn middle_priority() -> u8 {
    5
}

/// Every limit on where a VM may go (C8). An absent limit does not limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Constraints {
    /// C8.1: only these regions; empty means any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allowed_regions: BTreeSet<RegionId>,
    /// C8.2: none of these regions.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub forbidden_regions: BTreeSet<RegionId>,
    /// C8.3: only a region of kind edge.
    #[serde(skip_serializing_if = "is_false")]
    pub require_edge: bool,
    /// C8.4: the region must stand under all of these.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub required_compliance: BTreeSet<ComplianceZone>,
    /// C8.5: the data must stay in this country (ISO alpha-2), `EU`, or continent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_locality: Option<String>,
    /// C8.6: longest round trip to the users, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_latency_ms: Option<u32>,
    /// C8.7: least health score of the region, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_health_score: Option<u8>,
    /// C8.8: bandwidth that must be free and is then set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_bandwidth_mbps: Option<Mbps>,
    /// C8.9: most that one hour may cost, in millionths of a US dollar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_limit: Option<MicroUsd>,
    /// C8.10: a provider that wins among otherwise equal scores; never a filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_provider: Option<String>,
    /// C8.11, C8.12: what it must or should be near to, or apart from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<Affinity>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A rule about a group of VMs of one tenant (F30). A VM that names a group is a member of it.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Affinity {
    /// The group.
    pub group: GroupId,
    /// Together or apart.
    pub mode: AffinityMode,
    /// Within which bounds.
    pub scope: Scope,
    /// Whether it must hold or only should.
    #[serde(default)]
    pub hardness: Hardness,
}

/// Together or apart.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AffinityMode {
    /// In the same scope as every member that is placed already (C8.11).
    Together,
    /// In a scope with no other member (C8.12).
    Apart,
}

/// The bounds of an affinity rule, smallest first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One host.
    Host,
    /// One availability zone.
    Zone,
    /// One region.
    Region,
}

/// Whether a rule filters or only ranks.
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
pub enum Hardness {
    /// A place that breaks it is refused.
    #[default]
    Required,
    /// A place that breaks it loses to an equal one that keeps it.
    Preferred,
}

/// A share of a VM's users (F25).
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Where they are.
    pub user_zone: UserZoneId,
    /// How many, in proportion to the other origins' weights; at least 1.
    #[serde(default = "one")]
    pub weight: u32,
}

const fn one() -> u32 {
    1
}

/// How the five factors are weighed: named weight sets (C14). Placement's own names; the
/// router's algorithms are another enum (F33).
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
pub enum Strategy {
    /// The source's weights: latency 0.30, cost 0.25, capacity 0.20, health 0.15, region
    /// priority 0.10 (C3).
    #[default]
    Hybrid,
    /// Latency above all.
    Latency,
    /// Cost above all.
    Cost,
    /// Free capacity above all, so that load spreads evenly.
    LoadBalanced,
}

/// How well a VM is guarded.
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
pub enum Tier {
    /// May be pre-empted by any VM of higher priority.
    Preemptible,
    /// May be pre-empted by a VM of strictly higher priority when pre-emption is on.
    #[default]
    Standard,
    /// Is never pre-empted, and counts for N-1 admission: were its region to die, it must fit
    /// elsewhere (F12, F32).
    Protected,
}

/// What becomes of a protected VM when its region is lost. Its memory is lost with the region
/// in any case (F2).
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
pub enum OnRegionLoss {
    /// It stays down until its region is back with its disk.
    #[default]
    StayDown,
    /// It starts in another region from its image: what it wrote to its disk is lost. For VMs
    /// that keep nothing there.
    RestartFromImage,
    /// Its disk is mirrored to another region, and a write is acknowledged when both have it;
    /// it starts there from that disk, with all that was acknowledged (D2). Its writes wait a
    /// round trip.
    SyncReplica,
    /// Its disk follows in another region within seconds, and it starts there as its disk was
    /// then. Its writes wait for nothing.
    AsyncReplica,
    /// Its disk is copied to another region every quarter of an hour, or as is said, and it
    /// starts there as its disk was then. Its writes wait for nothing.
    SnapshotReplica,
}

/// How old a replica may become, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaAge {
    /// When nothing is said: the tiers of `RELIABILITY.md` (R3).
    pub usual: u32,
    /// The least that may be asked for: a round takes about a second.
    pub least: u32,
    /// The most.
    pub most: u32,
}

impl OnRegionLoss {
    /// Whether its disk is kept in another region too.
    #[must_use]
    pub const fn is_replica(self) -> bool {
        match self {
            Self::StayDown | Self::RestartFromImage => false,
            Self::SyncReplica | Self::AsyncReplica | Self::SnapshotReplica => true,
        }
    }

    /// How old the replica may become, where it follows later.
    #[must_use]
    pub const fn replica_age_s(self) -> Option<ReplicaAge> {
        match self {
            Self::StayDown | Self::RestartFromImage | Self::SyncReplica => None,
            Self::AsyncReplica => Some(ReplicaAge { usual: 5, least: 2, most: 300 }),
            Self::SnapshotReplica => {
                Some(ReplicaAge { usual: 900, least: 10, most: 86_400 })
            }
        }
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
