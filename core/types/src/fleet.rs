//! The fleet as it was seen at one moment: the snapshot that decisions are taken on.
//!
//! A view is immutable and knowingly late. Nothing is booked on it: the region that owns the
//! capacity decides again, with the same feasibility function, when it reserves (F21).

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Capacity, Epoch, GroupId, HostId, Micros, Region, RegionId, TenantId, Tier,
    Timestamp, UserZoneId, VmId, VmShape, ZoneId,
};

/// How a region fares (M12, F95).
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
pub enum HealthState {
    /// Nothing was heard from it lately; never read as healthy (F6).
    #[default]
    Unknown,
    /// Score under 60.
    Unhealthy,
    /// Score 60 to under 80.
    Degraded,
    /// Score 80 and over.
    Healthy,
    /// Its operator said that it is being worked on.
    Maintenance,
}

/// A region's health as a value (M11): a state and a score of 0 to 100.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct Health {
    /// The state.
    pub state: HealthState,
    /// The score; 0 while the state is unknown.
    pub score: u8,
}

/// A host as its region's ledger sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostView {
    /// The host.
    pub id: HostId,
    /// The zone that it stands in.
    pub zone: ZoneId,
    /// All it has, after overcommitment.
    pub total: Capacity,
    /// What is neither reserved nor used.
    pub free: Capacity,
    /// Whether its agent answers and it takes new VMs.
    pub schedulable: bool,
}

/// A region as it was last heard from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegionView {
    /// Its configuration.
    pub region: Arc<Region>,
    /// Its health.
    pub health: Health,
    /// When this was observed.
    pub observed_at: Timestamp,
    /// Its hosts.
    pub hosts: Vec<HostView>,
}

/// A place that users come from, with its round trip to each region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserZoneView {
    /// Its name.
    pub id: UserZoneId,
    /// The round trip to each region, p95 where it is measured; a region that is missing here
    /// has no known latency, which fails a latency limit (F52).
    pub latency: BTreeMap<RegionId, Micros>,
}

/// A VM that is placed, as far as placement of others must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlacedVm {
    /// The VM.
    pub id: VmId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it is.
    pub region: RegionId,
    /// In which zone.
    pub zone: ZoneId,
    /// On which host.
    pub host: HostId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// How big.
    pub shape: VmShape,
    /// How urgent, 1 to 10.
    pub priority: u8,
    /// How well guarded.
    pub tier: Tier,
    /// The groups that it is a member of.
    pub groups: Vec<GroupId>,
}

/// Everything that a placement decision looks at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FleetView {
    /// Rises with every view that one daemon makes.
    pub generation: u64,
    /// When it was made.
    pub taken_at: Timestamp,
    /// The regions, by id.
    pub regions: Vec<RegionView>,
    /// Where users come from, by id.
    pub user_zones: Vec<UserZoneView>,
    /// The VMs that are placed.
    pub vms: Vec<Arc<PlacedVm>>,
}
