//! Why a VM goes where it goes and not elsewhere: the decision, and for every region its five
//! factors or all its reasons with the smallest relaxation.
//!
//! The same query, screen and ranking as `decide`, run over every region; a dry run is this.

use dwcp_types::{PlacementRequest, RegionId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bits::{has, ones};
use super::decision::{Choice, Decision, assemble, choice, impossible};
use super::fleet::{Fleet, UNKNOWN};
use super::policy::Policy;
use super::query::Query;
use super::rank::Ranking;
use super::reason::{Reason, ReasonKind};
use super::relax::{Relaxation, relaxation, shortages};
use super::room::{BANDWIDTH, GPUS, RESOURCES};
use super::screen::{Depth, Lack, Screen, base_hosts, keeps};
use super::validate::validate;

/// A decision with the verdict on every region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// What was decided.
    pub decision: Decision,
    /// Every region: those that fit from best to worst, then the refused ones from the
    /// smallest relaxation to none.
    pub regions: Vec<RegionVerdict>,
    /// When nothing fits: the smallest relaxation of all.
    pub relaxation: Option<Relaxation>,
}

/// The verdict on one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionVerdict {
    /// The region.
    pub region: RegionId,
    /// The verdict.
    pub verdict: Verdict,
}

/// Whether a region would take a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It would, here and with these factors.
    Fits {
        /// The best place in it.
        place: Choice,
    },
    /// It would not.
    Refused {
        /// All the reasons.
        reasons: Vec<Reason>,
        /// The smallest change of the request that would let it; nothing when only the
        /// region's operator can help.
        relaxation: Option<Relaxation>,
    },
}

/// Explains where a VM would go (C23). Looks at every host, so it costs a few hundred
/// decisions; nothing is cached and nothing is booked.
#[must_use]
pub fn explain(
    fleet: &Fleet,
    request: &PlacementRequest,
    policy: &Policy,
) -> Explanation {
    if let Err(contradictions) = validate(request) {
        let decision = impossible(fleet, request, policy, contradictions);
        return Explanation { decision, regions: Vec::new(), relaxation: None };
    }
    let query = Query::new(fleet, request, policy);
    let screen = Screen::of(&query, Depth::Everything);
    let ranked = Ranking::new(&query, &screen).best(fleet.len());
    let mut regions = Vec::with_capacity(fleet.len());
    for place in ranked.iter().filter_map(|candidate| choice(&query, candidate)) {
        let region = place.region.clone();
        regions.push(RegionVerdict { region, verdict: Verdict::Fits { place } });
    }
    let all = ones(fleet.attributes.all.as_words());
    let mut refused: Vec<_> = all
        .filter(|region| !has(screen.standing(), *region))
        .map(|region| (relaxation(&query, &screen, region), region))
        .collect();
    refused.sort_by(|(a, _), (b, _)| by_size(a.as_ref(), b.as_ref()));
    let smallest = refused.first().and_then(|(relaxation, _)| relaxation.clone());
    for (relaxation, region) in refused {
        let reasons = reasons(&query, &screen, region);
        let verdict = Verdict::Refused { reasons, relaxation };
        let region = fleet.regions[region].region.id.clone();
        regions.push(RegionVerdict { region, verdict });
    }
    let relaxation = if ranked.is_empty() { smallest } else { None };
    Explanation { decision: assemble(&query, screen, &ranked), regions, relaxation }
}

/// Smallest first, none last.
fn by_size(a: Option<&Relaxation>, b: Option<&Relaxation>) -> std::cmp::Ordering {
    let (a, b) = (a.map(Relaxation::size), b.map(Relaxation::size));
    b.is_some().cmp(&a.is_some()).then_with(|| a.cmp(&b))
}

fn reasons(query: &Query<'_>, screen: &Screen, region: usize) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for kind in screen.kinds(region) {
        match kind {
            ReasonKind::Affinity => affinity_reasons(query, region, &mut reasons),
            ReasonKind::Bandwidth => {
                let (need, free) = lane(query, region, BANDWIDTH);
                reasons.push(Reason::Bandwidth { need, free });
            }
            ReasonKind::Gpu => {
                let (need, free) = lane(query, region, GPUS);
                reasons.push(Reason::Gpu { need, free });
            }
            ReasonKind::Capacity => reasons.extend(capacity_reason(query, region)),
            ReasonKind::NoHost => {
                let hosts = query.fleet.regions[region].hosts.len() as u64;
                reasons.push(Reason::NoHost { hosts });
            }
            ReasonKind::Disabled
            | ReasonKind::Health
            | ReasonKind::NotAllowed
            | ReasonKind::Forbidden
            | ReasonKind::NotEdge
            | ReasonKind::Compliance
            | ReasonKind::DataLocality
            | ReasonKind::LatencyUnknown
            | ReasonKind::Latency
            | ReasonKind::MinHealth
            | ReasonKind::Cost => reasons.push(region_reason(query, kind, region)),
        }
    }
    reasons
}

fn region_reason(query: &Query<'_>, kind: ReasonKind, region: usize) -> Reason {
    let row = &query.fleet.regions[region];
    let (at, limits) = (&row.region, &query.request.constraints);
    match kind {
        ReasonKind::Disabled => Reason::Disabled,
        ReasonKind::NotAllowed => Reason::NotAllowed,
        ReasonKind::Forbidden => Reason::Forbidden,
        ReasonKind::NotEdge => Reason::NotEdge { kind: at.kind },
        ReasonKind::Compliance => {
            let laws = limits.required_compliance.iter();
            let missing = laws.filter(|law| !at.compliance_zones.contains(law));
            Reason::Compliance { missing: missing.cloned().collect() }
        }
        ReasonKind::DataLocality => Reason::DataLocality {
            limit: limits.data_locality.clone().unwrap_or_default(),
            country: at.location.country.clone(),
            continent: at.location.continent.clone(),
        },
        ReasonKind::LatencyUnknown => Reason::LatencyUnknown {
            limit_ms: limits.max_latency_ms.unwrap_or_default(),
            user_zone: first_unknown(query, region),
        },
        ReasonKind::Latency => Reason::Latency {
            limit_ms: limits.max_latency_ms.unwrap_or_default(),
            actual: query.mean_latency(region).unwrap_or_default(),
        },
        ReasonKind::MinHealth => Reason::MinHealth {
            limit: limits.min_health_score.unwrap_or_default(),
            actual: query.fleet.hot.health[region],
        },
        ReasonKind::Cost => Reason::Cost {
            limit: limits.cost_limit.unwrap_or_default(),
            actual: dwcp_types::MicroUsd::new(query.cost(region)),
        },
        ReasonKind::Health
        | ReasonKind::Affinity
        | ReasonKind::Bandwidth
        | ReasonKind::Gpu
        | ReasonKind::Capacity
        | ReasonKind::NoHost => Reason::Health { health: row.health },
    }
}

fn first_unknown(query: &Query<'_>, region: usize) -> Option<dwcp_types::UserZoneId> {
    let fleet = query.fleet;
    let origins = &query.request.origins;
    if origins.is_empty() {
        let zones = fleet.user_zones.iter();
        let unknown = zones.filter(|zone| zone.latency.get(region) == UNKNOWN);
        return unknown.map(|zone| zone.id.clone()).next();
    }
    let zones = origins.iter().map(|origin| &origin.user_zone);
    let mut unknown = zones.filter(|id| {
        fleet.user_zone(id).is_none_or(|zone| zone.latency.get(region) == UNKNOWN)
    });
    unknown.next().cloned()
}

/// What is needed of a resource and the most of it that is free on one host.
fn lane(query: &Query<'_>, region: usize, lane: usize) -> (u64, u64) {
    (query.amounts[lane], u64::from(query.fleet.hot.most[region].0[lane]))
}

/// The host that comes nearest to having room: the one whose worst shortage is the least.
fn capacity_reason(query: &Query<'_>, region: usize) -> Option<Reason> {
    let row = &query.fleet.regions[region];
    let hosts = row.hosts.clone();
    let schedulable = hosts.filter(|host| query.fleet.hosts[*host].schedulable);
    let worst = |host: usize| {
        let lacks = shortages(query, host)
            .map(|short| (short.need - short.free).saturating_mul(10_000) / short.need);
        lacks.max().unwrap_or(0)
    };
    let nearest = schedulable.min_by_key(|host| (worst(*host), *host))?;
    let mut sums = [0_u64; RESOURCES];
    for zone in &query.fleet.zones[row.zones.clone()] {
        let lanes = sums.iter_mut().zip(zone.free);
        lanes.for_each(|(sum, free)| *sum = sum.saturating_add(free));
    }
    Some(Reason::Capacity {
        host: query.fleet.hosts[nearest].id.clone(),
        short: shortages(query, nearest).collect(),
        fragmented: query.amounts.iter().zip(sums).all(|(need, sum)| *need <= sum),
    })
}

/// Each rule that every host with room breaks; when there is none, all rules together.
fn affinity_reasons(query: &Query<'_>, region: usize, reasons: &mut Vec<Reason>) {
    let roomy = Lack::of(query, region).nothing();
    let before = reasons.len();
    for (at, rule) in query.required.iter().enumerate() {
        let mut base = base_hosts(query, region, roomy);
        if base.all(|host| !keeps(query, at, region, host)) {
            let (members, here) = (rule.total(), rule.in_region(region));
            reasons.push(Reason::Affinity { rule: rule.rule.clone(), members, here });
        }
    }
    if reasons.len() == before {
        let rules = query.required.iter().map(|rule| rule.rule.clone()).collect();
        reasons.push(Reason::AffinityTogether { rules });
    }
}
