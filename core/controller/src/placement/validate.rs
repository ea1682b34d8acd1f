//! What no fleet could satisfy, told before looking at one: contradictions and sizes out of
//! bounds; and, with a fleet, names that it does not know.
//!
//! The bounds also keep the arithmetic of a decision within 64 bits.

use dwcp_types::{
    Affinity, AffinityMode, Hardness, OnRegionLoss, PlacementRequest, RegionId,
    ReplicaAge, Tier, UserZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fleet::Fleet;
use super::locality::canonical;
use super::query::need;
use super::reason::{resource_name, rule_text};
use super::room::{CPU, MEMORY, ORDER, RESOURCES, STORAGE, amounts};
use crate::Resource;

/// The largest VM, in the order of the resources: twice what the largest VM on sale has (1,920
/// CPUs, 32 TiB of memory) rounded up; 1 PiB of storage; 1 Tbit/s; 64 GPUs; one slot.
const NEED_MAX: [u64; RESOURCES] = [4_096, 64 << 20, 1 << 20, 1_000_000, 64, 1];
/// Most origins: every metro that cloud providers sell in (about 60).
pub const ORIGINS_MAX: usize = 64;
/// Largest weight of one origin; with [`ORIGINS_MAX`] and 32-bit latencies sums stay below
/// 2^58.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// Most affinity rules: each costs a look at the hosts of the regions that it names.
pub const AFFINITY_MAX: usize = 16;
/// Lowest and highest priority of a request (DETAILS 2.1).
const PRIORITY_RANGE: std::ops::RangeInclusive<u8> = 1..=10;

/// Why a request cannot be satisfied whatever the fleet is, or what it names wrongly.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error,
)]
#[serde(tag = "contradiction", rename_all = "snake_case")]
pub enum Contradiction {
    /// Every allowed region is forbidden.
    #[error(
        "constraints: every region in allowed_regions is also in forbidden_regions; take one out of forbidden_regions"
    )]
    NothingAllowed,
    /// Together within bounds that another rule wants apart.
    #[error("constraints.affinity: \"{}\" and \"{}\" cannot both hold; drop one or make it preferred", rule_text(.together), rule_text(.apart))]
    TogetherAndApart {
        /// The one rule.
        together: Affinity,
        /// The other.
        apart: Affinity,
    },
    /// A size that must not be zero is.
    #[error("spec: a VM with 0 {} cannot run; ask for at least 1", resource_name(*.resource))]
    ZeroSize {
        /// Of what.
        resource: Resource,
    },
    /// A size is larger than any host.
    #[error("spec: {need} {} are more than the largest VM may have, {max}; ask for less or check the unit", resource_name(*.resource))]
    HugeSize {
        /// Of what.
        resource: Resource,
        /// How much was asked for.
        need: u64,
        /// The bound.
        max: u64,
    },
    /// Priority is out of range.
    #[error("priority: {priority} is not within 1 to 10; 10 is the most urgent")]
    Priority {
        /// What was given.
        priority: u8,
    },
    /// A policy for the loss of its region that only a protected VM may have: nothing is kept
    /// free elsewhere for the others.
    #[error(
        "on_region_loss: only a VM of tier protected is started elsewhere; ask for the tier protected or leave it out"
    )]
    UnguardedRestart,
    /// An age of a replica, where none follows later.
    #[error(
        "replica_max_age_s: only a replica that follows later has an age; ask for on_region_loss async-replica or snapshot-replica, or leave it out"
    )]
    NoReplicaAge,
    /// An age of a replica that is out of range.
    #[error(
        "replica_max_age_s: {seconds} s is not within {least} to {most} s, which such a replica can keep"
    )]
    ReplicaAge {
        /// What was given.
        seconds: u32,
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// A health score over 100.
    #[error(
        "constraints.min_health_score: {min_health_score} is over 100, the best score there is; ask for 100 or less"
    )]
    MinHealth {
        /// What was given.
        min_health_score: u8,
    },
    /// A latency limit of zero.
    #[error(
        "constraints.max_latency_ms: nothing is 0 ms away; raise it or leave it out for no limit"
    )]
    ZeroLatency,
    /// An origin's weight is out of range.
    #[error(
        "origins: {user_zone} has weight {weight}, which is not within 1 to 1000000; leave the origin out if nobody is there"
    )]
    OriginWeight {
        /// Whose.
        user_zone: UserZoneId,
        /// The weight.
        weight: u32,
    },
    /// An origin is named twice.
    #[error("origins: {user_zone} is named twice; add the weights up")]
    OriginTwice {
        /// Which.
        user_zone: UserZoneId,
    },
    /// More of something than is looked at.
    #[error("{field}: {count} entries are more than {max}; name fewer")]
    TooMany {
        /// Of what.
        field: String,
        /// How many there are.
        count: u64,
        /// How many there may be.
        max: u64,
    },
    /// A text that must not be empty is.
    #[error("{field}: it is empty; name a place or leave it out")]
    Empty {
        /// Which.
        field: String,
    },
    /// A region that is not in the fleet.
    #[error("{field}: there is no region {region}{}", suggestion(.nearest.as_ref().map(RegionId::as_str)))]
    UnknownRegion {
        /// Where it is named.
        field: String,
        /// The name.
        region: RegionId,
        /// The region that is spelled most like it.
        nearest: Option<RegionId>,
    },
    /// A user zone that is not known.
    #[error("origins: there is no user zone {user_zone}{}", suggestion(.nearest.as_ref().map(UserZoneId::as_str)))]
    UnknownUserZone {
        /// The name.
        user_zone: UserZoneId,
        /// The user zone that is spelled most like it.
        nearest: Option<UserZoneId>,
    },
    /// A jurisdiction that no region lies in.
    #[error(
        "constraints.data_locality: no region lies in {name}; use a country code such as DE, EU, or a continent such as Europe"
    )]
    UnknownJurisdiction {
        /// The name.
        name: String,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; list the ones there are and correct the name".to_owned(),
        |name| format!("; did you mean {name}?"),
    )
}

/// Looks for what no fleet could satisfy.
///
/// # Errors
///
/// Every contradiction there is.
pub fn validate(request: &PlacementRequest) -> Result<(), Vec<Contradiction>> {
    let mut found = Vec::new();
    check_sizes(request, &mut found);
    check_limits(request, &mut found);
    check_origins(request, &mut found);
    check_rules(&request.constraints.affinity, &mut found);
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Looks for names that a fleet does not know: regions, user zones, jurisdictions.
///
/// # Errors
///
/// Every name that is not known, with the nearest that is.
pub fn validate_names(
    fleet: &Fleet,
    request: &PlacementRequest,
) -> Result<(), Vec<Contradiction>> {
    let limits = &request.constraints;
    let lists = [
        ("constraints.allowed_regions", &limits.allowed_regions),
        ("constraints.forbidden_regions", &limits.forbidden_regions),
    ];
    let mut found = Vec::new();
    for (field, regions) in lists {
        for region in regions.iter().filter(|id| fleet.region_ix(id).is_none()) {
            let known = fleet.regions.iter().map(|row| &row.region.id);
            found.push(Contradiction::UnknownRegion {
                field: field.to_owned(),
                region: region.clone(),
                nearest: nearest(region.as_str(), known, RegionId::as_str),
            });
        }
    }
    for origin in &request.origins {
        if fleet.user_zone(&origin.user_zone).is_none() {
            let known = fleet.user_zones.iter().map(|row| &row.id);
            let name = origin.user_zone.as_str();
            found.push(Contradiction::UnknownUserZone {
                user_zone: origin.user_zone.clone(),
                nearest: nearest(name, known, UserZoneId::as_str),
            });
        }
    }
    let place = limits.data_locality.as_deref().filter(|place| !place.trim().is_empty());
    if let Some(place) = place
        && !fleet.attributes.jurisdiction.contains_key(&canonical(place))
    {
        found.push(Contradiction::UnknownJurisdiction { name: place.to_owned() });
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn check_sizes(request: &PlacementRequest, found: &mut Vec<Contradiction>) {
    let amounts = amounts(&need(request));
    for lane in [CPU, MEMORY, STORAGE] {
        if amounts[lane] == 0 {
            found.push(Contradiction::ZeroSize { resource: ORDER[lane] });
        }
    }
    for ((resource, need), max) in ORDER.into_iter().zip(amounts).zip(NEED_MAX) {
        if need > max {
            found.push(Contradiction::HugeSize { resource, need, max });
        }
    }
}

/// What is wrong with the age that its replica may have.
fn replica_age(request: &PlacementRequest) -> Option<Contradiction> {
    let seconds = request.replica_max_age_s?;
    let Some(ReplicaAge { least, most, .. }) = request.on_region_loss.replica_age_s()
    else {
        return Some(Contradiction::NoReplicaAge);
    };
    let within = (least..=most).contains(&seconds);
    (!within).then_some(Contradiction::ReplicaAge { seconds, least, most })
}

fn check_limits(request: &PlacementRequest, found: &mut Vec<Contradiction>) {
    let limits = &request.constraints;
    if request.on_region_loss != OnRegionLoss::StayDown && request.tier != Tier::Protected
    {
        found.push(Contradiction::UnguardedRestart);
    }
    found.extend(replica_age(request));
    let (allowed, forbidden) = (&limits.allowed_regions, &limits.forbidden_regions);
    if !allowed.is_empty() && allowed.is_subset(forbidden) {
        found.push(Contradiction::NothingAllowed);
    }
    if !PRIORITY_RANGE.contains(&request.priority) {
        found.push(Contradiction::Priority { priority: request.priority });
    }
    if let Some(min_health_score) = limits.min_health_score.filter(|score| *score > 100) {
        found.push(Contradiction::MinHealth { min_health_score });
    }
    if limits.max_latency_ms == Some(0) {
        found.push(Contradiction::ZeroLatency);
    }
    if limits.data_locality.as_ref().is_some_and(|place| place.trim().is_empty()) {
        let field = "constraints.data_locality".to_owned();
        found.push(Contradiction::Empty { field });
    }
    if limits.required_compliance.iter().any(|law| law.as_str().is_empty()) {
        let field = "constraints.required_compliance".to_owned();
        found.push(Contradiction::Empty { field });
    }
}

fn check_origins(request: &PlacementRequest, found: &mut Vec<Contradiction>) {
    let origins = &request.origins;
    check_count("origins", origins.len(), ORIGINS_MAX, found);
    for (at, origin) in origins.iter().enumerate().take(ORIGINS_MAX) {
        let (user_zone, weight) = (origin.user_zone.clone(), origin.weight);
        if origins.iter().take(at).any(|other| other.user_zone == origin.user_zone) {
            found.push(Contradiction::OriginTwice { user_zone });
        } else if !(1..=WEIGHT_MAX).contains(&weight) {
            found.push(Contradiction::OriginWeight { user_zone, weight });
        }
    }
}

fn check_rules(rules: &[Affinity], found: &mut Vec<Contradiction>) {
    check_count("constraints.affinity", rules.len(), AFFINITY_MAX, found);
    let required = |mode: AffinityMode| {
        let rules = rules.iter().take(AFFINITY_MAX);
        rules.filter(move |rule| rule.mode == mode && rule.hardness == Hardness::Required)
    };
    for together in required(AffinityMode::Together) {
        let clashing = required(AffinityMode::Apart).filter(|apart| {
            apart.group == together.group && together.scope <= apart.scope
        });
        for apart in clashing {
            let (together, apart) = (together.clone(), apart.clone());
            found.push(Contradiction::TogetherAndApart { together, apart });
        }
    }
}

fn check_count(field: &str, count: usize, max: usize, found: &mut Vec<Contradiction>) {
    if count > max {
        let (count, max) = (count as u64, max as u64);
        found.push(Contradiction::TooMany { field: field.to_owned(), count, max });
    }
}

/// The name that is spelled most like this one, when it is near enough to be meant.
fn nearest<'a, T: Clone + 'a>(
    name: &str,
    known: impl Iterator<Item = &'a T>,
    text: impl Fn(&T) -> &str,
) -> Option<T> {
    let rated = known.map(|id| (edits(name, text(id)), id));
    let (edits, id) = rated.min_by_key(|(edits, _)| *edits)?;
    (edits * 3 <= name.len()).then(|| id.clone())
}

/// Insertions, deletions and replacements between two texts (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
