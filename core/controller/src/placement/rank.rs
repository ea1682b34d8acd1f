//! The score of regions that stand, and the best of them, exactly (F28).
//!
//! Every region gets an upper bound of its score from arrays alone: only its capacity factor
//! is guessed, from above, by the free share before placement. Regions are then scored truly
//! in falling order of the bound until no bound left can reach the last place that counts. So
//! the result is the argmax over all regions, while zones and hosts are looked at in a few.
//!
//! The order is total and has no floats: score, then preferences kept, then the lower cost,
//! then the region's id. Within a region: preferences kept, then the zone's capacity factor,
//! then the zone's id; then best fit by fewest GPUs and least room left behind, then the
//! host's id.

use super::bound::{Bounds, Slope};
use super::fleet::{Fleet, UNKNOWN, ratio};
use super::policy::{CAPACITY, COST, FACTORS, HEALTH, LATENCY, PRIORITY};
use super::query::Query;
use super::room::{CPU, GPUS, MEMORY};
use super::row::{self, Extremes};
use super::screen::Screen;

/// A place with its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) region: usize,
    pub(crate) zone: usize,
    /// The host, once it was looked for.
    pub(crate) host: Option<usize>,
    /// In basis points.
    pub(crate) score: u16,
    pub(crate) factors: [u16; FACTORS],
    /// Preferred rules kept, and within that the preferred provider.
    kept: usize,
    cost: u64,
}

impl Candidate {
    fn key(&self) -> impl Ord + use<> {
        let Self { region, score, kept, cost, .. } = *self;
        (std::cmp::Reverse((score, kept)), cost, region)
    }
}

/// How a value becomes a factor: `high` is worth nothing, `high - range` everything.
#[derive(Clone, Copy, Debug)]
struct Scale {
    high: u64,
    range: u64,
}

impl Scale {
    /// From a limit (1 - value / limit), or else from the extremes of what stands (F23).
    fn new(limit: Option<u64>, extremes: impl FnOnce() -> Extremes) -> Self {
        let (low, high) = limit.map_or_else(extremes, |limit| (0, limit));
        Self { high, range: high.saturating_sub(low) }
    }

    /// The factor, in basis points. Where all are equal each is the best; what is unknown is
    /// the worst.
    fn factor(&self, value: u64) -> u16 {
        if value == UNKNOWN {
            return 0;
        }
        if self.range == 0 {
            return 10_000;
        }
        ratio(self.high.saturating_sub(value), self.range)
    }
}

/// A ranking under way.
pub(crate) struct Ranking<'a> {
    query: &'a Query<'a>,
    latency: Scale,
    cost: Scale,
    bounds: Bounds,
}

impl<'a> Ranking<'a> {
    /// Bounds every region that stands.
    pub(crate) fn new(query: &'a Query<'a>, screen: &Screen) -> Self {
        let limits = &query.request.constraints;
        let cost_limit = limits.cost_limit.map(dwcp_types::MicroUsd::get);
        let standing = screen.standing();
        let lanes = row::lanes(standing, query.fleet.len());
        let latency = Scale::new(query.latency_limit(), || {
            query.latency.extremes(standing, &lanes)
        });
        let cost = Scale::new(cost_limit, || query.costs.extremes(standing, &lanes));
        let of_latency = Slope::new(
            query.weights[LATENCY],
            (latency.high, latency.range),
            &query.latency,
        );
        let of_cost =
            Slope::new(query.weights[COST], (cost.high, cost.range), &query.costs);
        let bounds = Bounds::new(query, &of_latency, &of_cost, lanes);
        Self { query, latency, cost, bounds }
    }

    /// The best `most` places in order, with zones and hosts.
    pub(crate) fn best(mut self, most: usize) -> Vec<Candidate> {
        let mut best = Vec::with_capacity(most.min(self.query.fleet.len()) + 1);
        while let Some((region, bound)) = self.bounds.pop() {
            if settled(&best, most, bound) {
                break;
            }
            let Some(candidate) = self.score(region) else { continue };
            let at =
                best.partition_point(|other: &Candidate| other.key() < candidate.key());
            if at < most {
                best.insert(at, candidate);
                best.truncate(most);
            }
        }
        for candidate in &mut best {
            let host = candidate.host;
            candidate.host = host.or_else(|| best_host(self.query, candidate.zone));
        }
        best
    }

    /// The true score of a region at its best place.
    fn score(&self, region: usize) -> Option<Candidate> {
        let query = self.query;
        let (zone, host, capacity, rules) = if query.touches(region) {
            best_ruled_place(query, region)?
        } else {
            let (zone, capacity) = best_zone(query, region)?;
            let kept = query.preferred.iter().filter(|rule| rule.holds_untouched());
            (zone, None, capacity, kept.count())
        };
        let hot = &query.fleet.hot;
        let cost = query.cost(region);
        let mut factors = [0; FACTORS];
        factors[LATENCY] = self.latency.factor(query.latency.get(region));
        factors[COST] = self.cost.factor(cost);
        factors[CAPACITY] = capacity;
        factors[HEALTH] = u16::from(hot.health[region]) * 100;
        factors[PRIORITY] = u16::from(hot.priority[region]) * 100;
        let score = contributions(&query.weights, &factors).iter().sum();
        let kept = rules * 2 + usize::from(is_preferred_provider(query, region));
        Some(Candidate { region, zone, host, score, factors, kept, cost })
    }
}

/// What each factor adds to the score: weight x factor, rounded down, so that the parts add
/// up to the score exactly.
pub(crate) fn contributions(
    weights: &[u16; FACTORS],
    factors: &[u16; FACTORS],
) -> [u16; FACTORS] {
    std::array::from_fn(|at| {
        let product = u32::from(weights[at]) * u32::from(factors[at]);
        u16::try_from(product / 10_000).unwrap_or(10_000)
    })
}

/// Whether a bound, and with it every lower one, can no longer change the first places. An
/// equal score could still win by a preference, so only a lower one settles it.
fn settled(best: &[Candidate], most: usize, bound: i32) -> bool {
    let last = if best.len() < most { None } else { best.last() };
    last.is_some_and(|last| bound < i32::from(last.score))
}

fn is_preferred_provider(query: &Query<'_>, region: usize) -> bool {
    let preferred = query.request.constraints.preferred_provider.as_ref();
    preferred.is_some_and(|preferred| {
        let provider = &query.fleet.regions[region].region.cloud_provider;
        provider.eq_ignore_ascii_case(preferred)
    })
}

/// The zone with the highest capacity factor of those with a host that fits.
fn best_zone(query: &Query<'_>, region: usize) -> Option<(usize, u16)> {
    let fleet = query.fleet;
    let mut best: Option<(usize, u16)> = None;
    for zone in fleet.regions[region].zones.clone() {
        let row = &fleet.zones[zone];
        let factor = row.capacity_factor(&query.amounts);
        if best.is_some_and(|(_, best)| best >= factor) {
            continue;
        }
        let rooms = &fleet.rooms[row.hosts.clone()];
        let fits = row.ample.fits(&query.need)
            || row.most.fits(&query.need)
                && rooms.iter().any(|room| room.fits(&query.need));
        if fits {
            best = Some((zone, factor));
        }
    }
    best
}

/// The best host where rules differ from host to host: zone, host, capacity factor, and how
/// many preferred rules it keeps.
fn best_ruled_place(
    query: &Query<'_>,
    region: usize,
) -> Option<(usize, Option<usize>, u16, usize)> {
    let fleet = query.fleet;
    let mut best = None;
    for zone in fleet.regions[region].zones.clone() {
        let row = &fleet.zones[zone];
        let factor = row.capacity_factor(&query.amounts);
        for host in row.hosts.clone() {
            let ruled_out =
                query.required.iter().any(|rule| !rule.holds(region, zone, host));
            if ruled_out || !fleet.rooms[host].fits(&query.need) {
                continue;
            }
            let kept = query.preferred.iter();
            let kept = kept.filter(|rule| rule.holds(region, zone, host)).count();
            let least = std::cmp::Reverse((zone, leftover(query, zone, host), host));
            let key = (kept, factor, least);
            if best.is_none_or(|best| key > best) {
                best = Some(key);
            }
        }
    }
    best.map(|(kept, factor, std::cmp::Reverse((zone, _, host)))| {
        (zone, Some(host), factor, kept)
    })
}

/// The best-fitting host of a zone.
fn best_host(query: &Query<'_>, zone: usize) -> Option<usize> {
    let hosts = query.fleet.zones[zone].hosts.clone();
    hosts
        .filter(|host| query.fleet.rooms[*host].fits(&query.need))
        .min_by_key(|host| (leftover(query, zone, *host), *host))
}

/// What would be left free on a host: GPUs first, because they are scarce and a VM without
/// one should not strand them; then CPU and memory, each in proportion to what the zone has,
/// so that the two count alike.
fn leftover(query: &Query<'_>, zone: usize, host: usize) -> (u32, u128) {
    let Fleet { zones, rooms, .. } = query.fleet;
    let (total, room) = (&zones[zone].total, &rooms[host].0);
    let rest = |lane: usize| u128::from(room[lane].saturating_sub(query.need.0[lane]));
    let mix =
        rest(CPU) * u128::from(total[MEMORY]) + rest(MEMORY) * u128::from(total[CPU]);
    (room[GPUS].saturating_sub(query.need.0[GPUS]), mix)
}
