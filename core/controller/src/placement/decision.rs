//! One request, one fleet, one answer (C9, C23, C24).
//!
//! A decision proposes; the region that owns the capacity disposes (F21), so it carries
//! alternatives in order. It is exact on the view that it names (F28) and has no state: the
//! same inputs give the same bytes.

use dwcp_types::{
    Bps, HostId, MicroUsd, Micros, PlacementRequest, RegionId, Strategy, Timestamp, VmId,
    ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fleet::Fleet;
use super::policy::{CAPACITY, COST, FACTORS, HEALTH, LATENCY, PRIORITY, Policy};
use super::query::Query;
use super::rank::{Candidate, Ranking, contributions};
use super::reason::ReasonKind;
use super::screen::{Depth, Screen};
use super::validate::{Contradiction, validate};

/// Alternatives beside the choice: the source has 3 (DETAILS 2.1); seven let a burst that
/// agrees on one host find room without a second decision.
pub const ALTERNATIVES_MAX: usize = 7;

/// Where a VM should go, or why nowhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// The request.
    pub request: VmId,
    /// The generation of the view that it was decided on.
    pub generation: u64,
    /// When that view was taken (C23): how late the decision's knowledge is.
    pub taken_at: Timestamp,
    /// The weight set.
    pub strategy: Strategy,
    /// The place; nothing when no region fits.
    pub chosen: Option<Choice>,
    /// What to try next, best first, each in another region.
    pub alternatives: Vec<Alternative>,
    /// How many regions were refused for each reason; one region may count under several.
    /// Hosts were looked at only in regions that nothing else refused.
    pub refusals: Vec<RefusalCount>,
    /// What makes the request impossible whatever the fleet is; then nothing was ranked.
    pub contradictions: Vec<Contradiction>,
    #[serde(skip)]
    screen: Screen,
}

/// The place that was chosen and what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    /// The region.
    pub region: RegionId,
    /// The zone (C24).
    pub zone: ZoneId,
    /// The host.
    pub host: HostId,
    /// The score: the sum of the contributions.
    pub score: Bps,
    /// What it is made of (C3).
    pub factors: Factors,
    /// What an hour costs (F34).
    pub hourly_cost: MicroUsd,
    /// The mean round trip to the users, weighted; nothing when it is not known.
    pub expected_latency: Option<Micros>,
}

/// A place that was not chosen and would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alternative {
    /// The region.
    pub region: RegionId,
    /// The zone.
    pub zone: ZoneId,
    /// The host.
    pub host: HostId,
    /// The score.
    pub score: Bps,
}

/// The five factors of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Factors {
    /// C4 as corrected by F23 and F25.
    pub latency: Factor,
    /// C5 as corrected by F23 and F34.
    pub cost: Factor,
    /// C6 as corrected by F26.
    pub capacity: Factor,
    /// The health score (C7).
    pub health: Factor,
    /// The region's priority (C7, F27).
    pub priority: Factor,
}

/// One factor of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Factor {
    /// How good the place is in this respect.
    pub value: Bps,
    /// How much that counts.
    pub weight: Bps,
    /// What it adds to the score: value x weight, rounded down.
    pub contribution: Bps,
}

/// How many regions a reason refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusalCount {
    /// The reason.
    pub reason: ReasonKind,
    /// How many.
    pub regions: u32,
}

impl Decision {
    /// Every place that would do, the chosen one first; each in another region.
    #[must_use]
    pub fn places(self) -> Vec<Alternative> {
        let chosen = self.chosen.map(|chosen| Alternative {
            region: chosen.region,
            zone: chosen.zone,
            host: chosen.host,
            score: chosen.score,
        });
        chosen.into_iter().chain(self.alternatives).collect()
    }

    /// The reasons that were found against a region; none for one that stood. `fleet` must be
    /// the one that was decided on. All reasons with their numbers are in the explanation.
    #[must_use]
    pub fn reasons(&self, fleet: &Fleet, region: &RegionId) -> Vec<ReasonKind> {
        let region = fleet.region_ix(region);
        region.map_or_else(Vec::new, |region| self.screen.kinds(region).collect())
    }
}

/// Decides where a VM should go (C3-C8, C14).
#[must_use]
pub fn decide(fleet: &Fleet, request: &PlacementRequest, policy: &Policy) -> Decision {
    if let Err(contradictions) = validate(request) {
        return impossible(fleet, request, policy, contradictions);
    }
    let query = Query::new(fleet, request, policy);
    let screen = Screen::of(&query, Depth::Standing);
    let ranked = Ranking::new(&query, &screen).best(ALTERNATIVES_MAX + 1);
    assemble(&query, screen, &ranked)
}

/// The answer to a request that contradicts itself.
pub(crate) fn impossible(
    fleet: &Fleet,
    request: &PlacementRequest,
    policy: &Policy,
    contradictions: Vec<Contradiction>,
) -> Decision {
    Decision {
        request: request.id.clone(),
        generation: fleet.generation,
        taken_at: fleet.taken_at,
        strategy: request.strategy.unwrap_or(policy.strategy),
        chosen: None,
        alternatives: Vec::new(),
        refusals: Vec::new(),
        contradictions,
        screen: Screen::default(),
    }
}

/// Writes a decision down.
pub(crate) fn assemble(
    query: &Query<'_>,
    screen: Screen,
    ranked: &[Candidate],
) -> Decision {
    let others = ranked.iter().skip(1).take(ALTERNATIVES_MAX);
    Decision {
        request: query.request.id.clone(),
        generation: query.fleet.generation,
        taken_at: query.fleet.taken_at,
        strategy: query.strategy,
        chosen: ranked.first().and_then(|best| choice(query, best)),
        alternatives: others
            .filter_map(|other| alternative(query.fleet, other))
            .collect(),
        refusals: counts(&screen),
        contradictions: Vec::new(),
        screen,
    }
}

fn counts(screen: &Screen) -> Vec<RefusalCount> {
    let counted = ReasonKind::ALL.iter().filter_map(|reason| {
        let refused = screen.refused(*reason)?.iter();
        let regions = refused.map(|word| word.count_ones()).sum();
        Some(RefusalCount { reason: *reason, regions })
    });
    counted.filter(|count| count.regions > 0).collect()
}

fn bps(points: u16) -> Bps {
    Bps::new(points).unwrap_or(Bps::ONE)
}

/// A candidate with everything that speaks for it.
pub(crate) fn choice(query: &Query<'_>, candidate: &Candidate) -> Option<Choice> {
    let Alternative { region, zone, host, score } = alternative(query.fleet, candidate)?;
    Some(Choice {
        region,
        zone,
        host,
        score,
        factors: factors(&query.weights, &candidate.factors),
        hourly_cost: MicroUsd::new(query.cost(candidate.region)),
        expected_latency: query.mean_latency(candidate.region),
    })
}

fn factors(weights: &[u16; FACTORS], values: &[u16; FACTORS]) -> Factors {
    let parts = contributions(weights, values);
    let factor = |at: usize| Factor {
        value: bps(values[at]),
        weight: bps(weights[at]),
        contribution: bps(parts[at]),
    };
    Factors {
        latency: factor(LATENCY),
        cost: factor(COST),
        capacity: factor(CAPACITY),
        health: factor(HEALTH),
        priority: factor(PRIORITY),
    }
}

fn alternative(fleet: &Fleet, candidate: &Candidate) -> Option<Alternative> {
    Some(Alternative {
        region: fleet.regions.get(candidate.region)?.region.id.clone(),
        zone: fleet.zones.get(candidate.zone)?.id.clone(),
        host: fleet.hosts.get(candidate.host?)?.id.clone(),
        score: bps(candidate.score),
    })
}
