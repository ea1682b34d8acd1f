//! The smallest change of a request that would let a region take it.
//!
//! Each filter on an attribute or limit can be met in one way only, so those changes are all
//! needed. On hosts there is a choice: the host that needs the fewest changes, counting rules
//! to soften, sizes to shrink and whether the shrunk size is still too dear. So no set with
//! fewer changes would do. What only an operator can change (a disabled, unhealthy or
//! hostless region, a host without a free slot) has no relaxation.

use std::fmt;

use dwcp_types::{
    Affinity, ComplianceZone, Gib, Hardness, Mbps, Mib, MicroUsd, PlacementRequest,
    RegionId, VmShape,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::locality::widened;
use super::query::Query;
use super::reason::{ReasonKind, Shortage, in_usd, resource_name, rule_text};
use super::room::{ORDER, amounts};
use super::screen::{Screen, keeps};
use crate::Resource;

/// One change of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Raise `max_latency_ms`.
    RaiseMaxLatency {
        /// From, in milliseconds.
        from: u32,
        /// To.
        to: u32,
    },
    /// Remove `max_latency_ms`, because the latency is not known.
    RemoveMaxLatency {
        /// What it was.
        from: u32,
    },
    /// Raise `cost_limit`.
    RaiseCostLimit {
        /// From.
        from: MicroUsd,
        /// To.
        to: MicroUsd,
    },
    /// Lower `min_health_score`.
    LowerMinHealth {
        /// From.
        from: u8,
        /// To.
        to: u8,
    },
    /// Ask for less of a resource.
    Shrink {
        /// Of which.
        resource: Resource,
        /// From.
        from: u64,
        /// To.
        to: u64,
    },
    /// Make a required rule preferred.
    Prefer {
        /// The rule.
        rule: Affinity,
    },
    /// Add a region to `allowed_regions`.
    Allow {
        /// Which.
        region: RegionId,
    },
    /// Take a region out of `forbidden_regions`.
    Unforbid {
        /// Which.
        region: RegionId,
    },
    /// Drop `require_edge`.
    DropRequireEdge,
    /// Widen `data_locality`, or remove it.
    WidenDataLocality {
        /// From.
        from: String,
        /// To; nothing removes it.
        to: Option<String>,
    },
    /// Take a law out of `required_compliance`.
    DropCompliance {
        /// Which.
        law: ComplianceZone,
    },
}

impl Change {
    /// How much giving up on it weighs when as many other changes would do: a number before a
    /// wish about neighbours, that before a choice of place, and the law last.
    const fn gravity(&self) -> u32 {
        match self {
            Self::RaiseMaxLatency { .. }
            | Self::RaiseCostLimit { .. }
            | Self::LowerMinHealth { .. } => 1,
            Self::RemoveMaxLatency { .. } | Self::Shrink { .. } | Self::Prefer { .. } => {
                2
            }
            Self::Allow { .. } | Self::Unforbid { .. } | Self::DropRequireEdge => 4,
            Self::WidenDataLocality { .. } | Self::DropCompliance { .. } => 16,
        }
    }

    /// How far it goes, in basis points of what was asked for.
    fn extent(&self) -> u64 {
        let (from, to) = match self {
            Self::RaiseMaxLatency { from, to } => (u64::from(*from), u64::from(*to)),
            Self::RaiseCostLimit { from, to } => (from.get(), to.get()),
            Self::LowerMinHealth { from, to } => (u64::from(*from), u64::from(*to)),
            Self::Shrink { from, to, .. } => (*from, *to),
            Self::RemoveMaxLatency { .. }
            | Self::Prefer { .. }
            | Self::Allow { .. }
            | Self::Unforbid { .. }
            | Self::DropRequireEdge
            | Self::WidenDataLocality { .. }
            | Self::DropCompliance { .. } => return 0,
        };
        from.abs_diff(to).saturating_mul(10_000) / from.max(1)
    }

    fn apply(&self, request: &mut PlacementRequest) {
        let limits = &mut request.constraints;
        match self {
            Self::RaiseMaxLatency { to, .. } => limits.max_latency_ms = Some(*to),
            Self::RemoveMaxLatency { .. } => limits.max_latency_ms = None,
            Self::RaiseCostLimit { to, .. } => limits.cost_limit = Some(*to),
            Self::LowerMinHealth { to, .. } => limits.min_health_score = Some(*to),
            Self::Shrink { resource, to, .. } => shrink(request, *resource, *to),
            Self::Prefer { rule } => {
                let same = limits.affinity.iter_mut().filter(|other| *other == rule);
                same.for_each(|rule| rule.hardness = Hardness::Preferred);
            }
            Self::Allow { region } => {
                limits.allowed_regions.insert(region.clone());
            }
            Self::Unforbid { region } => {
                limits.forbidden_regions.remove(region);
            }
            Self::DropRequireEdge => limits.require_edge = false,
            Self::WidenDataLocality { to, .. } => limits.data_locality.clone_from(to),
            Self::DropCompliance { law } => {
                limits.required_compliance.remove(law);
            }
        }
    }
}

fn shrink(request: &mut PlacementRequest, resource: Resource, to: u64) {
    let narrow = u32::try_from(to).unwrap_or(u32::MAX);
    let VmShape { cpu, memory, storage, bandwidth, gpus } = &mut request.shape;
    match resource {
        Resource::Cpu => *cpu = narrow,
        Resource::Memory => *memory = Mib::new(to),
        Resource::Storage => *storage = Gib::new(to),
        Resource::Bandwidth => {
            *bandwidth = (*bandwidth).min(Mbps::new(to));
            let least = &mut request.constraints.min_bandwidth_mbps;
            *least = least.map(|least| least.min(Mbps::new(to)));
        }
        Resource::Gpus => *gpus = narrow,
        Resource::Vms => {}
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RaiseMaxLatency { from, to } => {
                write!(f, "raise max_latency_ms from {from} to {to}")
            }
            Self::RemoveMaxLatency { from } => {
                write!(f, "remove max_latency_ms {from}: the latency is not measured")
            }
            Self::RaiseCostLimit { from, to } => {
                write!(f, "raise cost_limit from {} to {}", in_usd(*from), in_usd(*to))
            }
            Self::LowerMinHealth { from, to } => {
                write!(f, "lower min_health_score from {from} to {to}")
            }
            Self::Shrink { resource, from, to } => {
                write!(f, "ask for {to} instead of {from} {}", resource_name(*resource))
            }
            Self::Prefer { rule } => {
                write!(f, "make the rule \"{}\" preferred", rule_text(rule))
            }
            Self::Allow { region } => write!(f, "add {region} to allowed_regions"),
            Self::Unforbid { region } => {
                write!(f, "take {region} out of forbidden_regions")
            }
            Self::DropRequireEdge => f.write_str("drop require_edge"),
            Self::WidenDataLocality { from, to: Some(to) } => {
                write!(f, "widen data_locality from {from} to {to}")
            }
            Self::WidenDataLocality { from, to: None } => {
                write!(f, "remove data_locality {from}")
            }
            Self::DropCompliance { law } => {
                write!(f, "take {law} out of required_compliance")
            }
        }
    }
}

/// The fewest changes that let one region take a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Relaxation {
    /// The region.
    pub region: RegionId,
    /// All of these are needed.
    pub changes: Vec<Change>,
}

impl Relaxation {
    /// The request with the changes made.
    #[must_use]
    pub fn apply(&self, request: &PlacementRequest) -> PlacementRequest {
        let mut relaxed = request.clone();
        self.changes.iter().for_each(|change| change.apply(&mut relaxed));
        relaxed
    }

    /// The order of relaxations, the smallest first: the number of changes, then how much
    /// they give up, then how far they go, then the region.
    pub(crate) fn size(&self) -> impl Ord + use<'_> {
        let gravity: u32 = self.changes.iter().map(Change::gravity).sum();
        let extent = self.changes.iter().map(Change::extent);
        let extent = extent.fold(0, u64::saturating_add);
        (self.changes.len(), gravity, extent, &self.region)
    }
}

impl fmt::Display for Relaxation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: Vec<_> = self.changes.iter().map(ToString::to_string).collect();
        write!(f, "for {}: {}", self.region, changes.join("; "))
    }
}

/// The smallest relaxation for a region that a full screen refuses.
pub(crate) fn relaxation(
    query: &Query<'_>,
    screen: &Screen,
    region: usize,
) -> Option<Relaxation> {
    let mut changes = Vec::new();
    for kind in screen.kinds(region) {
        match kind {
            ReasonKind::Disabled | ReasonKind::Health | ReasonKind::NoHost => {
                return None;
            }
            ReasonKind::Cost
            | ReasonKind::Affinity
            | ReasonKind::Bandwidth
            | ReasonKind::Gpu
            | ReasonKind::Capacity => {}
            ReasonKind::NotAllowed
            | ReasonKind::Forbidden
            | ReasonKind::NotEdge
            | ReasonKind::Compliance
            | ReasonKind::DataLocality
            | ReasonKind::LatencyUnknown
            | ReasonKind::Latency
            | ReasonKind::MinHealth => of_region(query, kind, region, &mut changes),
        }
    }
    changes.extend(of_hosts(query, region)?);
    let region = query.fleet.regions[region].region.id.clone();
    Some(Relaxation { region, changes })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other half is about hosts")]
fn of_region(
    query: &Query<'_>,
    kind: ReasonKind,
    region: usize,
    changes: &mut Vec<Change>,
) {
    let limits = &query.request.constraints;
    let row = &query.fleet.regions[region].region;
    let max_latency_ms = limits.max_latency_ms.unwrap_or_default();
    match kind {
        ReasonKind::NotAllowed => changes.push(Change::Allow { region: row.id.clone() }),
        ReasonKind::Forbidden => {
            changes.push(Change::Unforbid { region: row.id.clone() });
        }
        ReasonKind::NotEdge => changes.push(Change::DropRequireEdge),
        ReasonKind::Compliance => {
            let missing = limits.required_compliance.iter();
            let missing = missing.filter(|law| !row.compliance_zones.contains(law));
            changes
                .extend(missing.map(|law| Change::DropCompliance { law: law.clone() }));
        }
        ReasonKind::DataLocality => {
            let from = limits.data_locality.clone().unwrap_or_default();
            let to = widened(&from, &row.location).map(str::to_owned);
            changes.push(Change::WidenDataLocality { from, to });
        }
        ReasonKind::LatencyUnknown => {
            changes.push(Change::RemoveMaxLatency { from: max_latency_ms });
        }
        ReasonKind::Latency => {
            let actual = query.mean_latency(region).unwrap_or_default();
            let to = actual.get().div_ceil(1_000);
            changes.push(Change::RaiseMaxLatency { from: max_latency_ms, to });
        }
        ReasonKind::MinHealth => {
            let from = limits.min_health_score.unwrap_or_default();
            changes.push(Change::LowerMinHealth {
                from,
                to: query.fleet.hot.health[region],
            });
        }
        _ => {}
    }
}

/// The changes for the host of a region that needs the fewest; nothing when no host could
/// ever do.
fn of_hosts(query: &Query<'_>, region: usize) -> Option<Vec<Change>> {
    let hosts = query.fleet.regions[region].hosts.clone();
    let hosts = hosts.filter(|host| query.fleet.hosts[*host].schedulable);
    let options = hosts.filter_map(|host| of_host(query, region, host));
    options.min_by_key(|changes| {
        let gravity: u32 = changes.iter().map(Change::gravity).sum();
        let extent = changes.iter().map(Change::extent);
        (changes.len(), gravity, extent.fold(0, u64::saturating_add))
    })
}

fn of_host(query: &Query<'_>, region: usize, host: usize) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    for (at, rule) in query.required.iter().enumerate() {
        let change = Change::Prefer { rule: rule.rule.clone() };
        if !keeps(query, at, region, host) && !changes.contains(&change) {
            changes.push(change);
        }
    }
    let mut shrunk = query.request.clone();
    for Shortage { resource, need, free } in shortages(query, host) {
        let essential = match resource {
            Resource::Cpu | Resource::Memory | Resource::Storage | Resource::Vms => true,
            Resource::Bandwidth | Resource::Gpus => false,
        };
        if essential && free == 0 {
            return None;
        }
        changes.push(Change::Shrink { resource, from: need, to: free });
        shrink(&mut shrunk, resource, free);
    }
    let hourly = query.fleet.regions[region].region.cost.hourly(&shrunk.shape);
    if let Some(from) =
        query.request.constraints.cost_limit.filter(|limit| hourly > *limit)
    {
        changes.push(Change::RaiseCostLimit { from, to: hourly });
    }
    Some(changes)
}

/// What falls short on a host.
pub(crate) fn shortages(
    query: &Query<'_>,
    host: usize,
) -> impl Iterator<Item = Shortage> + use<> {
    let free = amounts(&query.fleet.hosts[host].free);
    let lanes = ORDER.into_iter().zip(query.amounts).zip(free);
    lanes
        .filter(|((_, need), free)| need > free)
        .map(|((resource, need), free)| Shortage { resource, need, free })
}
