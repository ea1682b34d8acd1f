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

use std::cmp::Reverse;

use super::bound::{Bounds, Slope};
use super::fleet::{Fleet, UNKNOWN, ratio};
use super::group::RuleView;
use super::near::{Extremes, Near};
use super::policy::{CAPACITY, COST, FACTORS, HEALTH, LATENCY, PRIORITY};
use super::query::Query;
use super::room::{CPU, GPUS, MEMORY};
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
        (Reverse((score, kept)), cost, region)
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
    /// Whether no preference can decide between equal scores.
    impartial: bool,
}

impl<'a> Ranking<'a> {
    /// Bounds every region that stands.
    pub(crate) fn new(query: &'a Query<'a>, screen: &Screen) -> Self {
        let limits = &query.request.constraints;
        let cost_limit = limits.cost_limit.map(dwcp_types::MicroUsd::get);
        let standing = screen.standing();
        let latency = Scale::new(query.latency_limit(), || {
            let sums = &query.latency;
            sums.near.extremes(standing, |region| sums.get(region))
        });
        let cost = Scale::new(cost_limit, || {
            query.costs.extremes(standing, |region| query.cost(region))
        });
        let slope = |factor: usize, scale: Scale, near: &Near| {
            Slope::new(query.weights[factor], (scale.high, scale.range), near)
        };
        let of_latency = slope(LATENCY, latency, &query.latency.near);
        let of_cost = slope(COST, cost, &query.costs);
        let bounds = Bounds::new(query, &of_latency, &of_cost, standing);
        let impartial = query.preferred.is_empty() && limits.preferred_provider.is_none();
        Self { query, latency, cost, bounds, impartial }
    }

    /// The best `most` places in order, with zones and hosts.
    pub(crate) fn best(mut self, most: usize) -> Vec<Candidate> {
        let mut best = Vec::with_capacity(most.min(self.query.fleet.len()) + 1);
        while let Some((region, bound)) = self.bounds.pop() {
            let last = if best.len() < most { None } else { best.last() };
            if last.is_some_and(|last: &Candidate| bound < last.score) {
                break;
            }
            let Some(candidate) = self.score(region, last) else { continue };
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

    /// The true score of a region at its best place; nothing when there is none or when it
    /// surely comes after `last`.
    fn score(&self, region: usize, last: Option<&Candidate>) -> Option<Candidate> {
        let query = self.query;
        let hot = &query.fleet.hot;
        let cost = query.cost(region);
        let mut factors = [0; FACTORS];
        factors[LATENCY] = self.latency.factor(query.latency.get(region));
        factors[COST] = self.cost.factor(cost);
        factors[HEALTH] = u16::from(hot.health[region]) * 100;
        factors[PRIORITY] = u16::from(hot.priority[region]) * 100;
        if let Some(last) = last {
            let rest: u16 = contributions(&query.weights, &factors).iter().sum();
            let bound = rest + self.bounds.capacity(query, region);
            let late = (cost, region) > (last.cost, last.region);
            if bound < last.score || bound == last.score && late && self.impartial {
                return None;
            }
        }
        let (zone, host, capacity, rules) = if query.touches(region) {
            best_ruled_place(query, region)?
        } else {
            let (zone, capacity) = best_zone(query, region)?;
            let kept = query.preferred.iter().filter(|rule| rule.holds_untouched());
            (zone, None, capacity, kept.count())
        };
        factors[CAPACITY] = capacity;
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
        if row.fits(&fleet.rooms, &query.need) {
            best = Some((zone, factor));
        }
    }
    best
}

/// Preferred rules kept, capacity factor, then zone, what is left over, and host: the larger
/// the better.
type RuledPlace = (usize, u16, Reverse<(usize, Leftover, usize)>);

/// The best host where rules differ from host to host: zone, host, capacity factor, and how
/// many preferred rules it keeps. Rules cost the most to look at and come last.
fn best_ruled_place(
    query: &Query<'_>,
    region: usize,
) -> Option<(usize, Option<usize>, u16, usize)> {
    let rules = query.preferred.len();
    let mut best: Option<RuledPlace> = None;
    for zone in query.fleet.regions[region].zones.clone() {
        let factor = query.fleet.zones[zone].capacity_factor(&query.amounts);
        if best.is_some_and(|(kept, most, _)| (rules, factor) <= (kept, most)) {
            continue;
        }
        for (host, leftover) in roomy_hosts(query, zone) {
            let key = |kept: usize| (kept, factor, Reverse((zone, leftover, host)));
            let holds = |rule: &&RuleView<'_>| rule.holds(region, zone, host);
            if best.is_some_and(|best| key(rules) <= best)
                || !query.required.iter().all(|rule| holds(&rule))
            {
                continue;
            }
            let found = key(query.preferred.iter().filter(holds).count());
            best = Some(best.map_or(found, |best| best.max(found)));
        }
    }
    best.map(|(kept, factor, Reverse((zone, _, host)))| (zone, Some(host), factor, kept))
}

/// The best-fitting host of a zone.
fn best_host(query: &Query<'_>, zone: usize) -> Option<usize> {
    let hosts = roomy_hosts(query, zone);
    hosts.min_by_key(|(_, leftover)| *leftover).map(|(host, _)| host)
}

/// What would be left free on a host: GPUs first, because they are scarce and a VM without
/// one should not strand them; then CPU and memory, each in proportion to what the zone has,
/// so that the two count alike. All in one number: the latter two together stay below 2^96,
/// because what is left of one thing on a host has 31 bits.
type Leftover = u128;

/// The hosts of a zone with room, in order, and what would be left free on them.
fn roomy_hosts<'a>(
    query: &'a Query<'_>,
    zone: usize,
) -> impl Iterator<Item = (usize, Leftover)> + 'a {
    let Fleet { zones, rooms, .. } = query.fleet;
    let row = &zones[zone];
    let (cpus, memory) = (u128::from(row.total[CPU]), u128::from(row.total[MEMORY]));
    let first = row.hosts.start;
    let rooms = rooms[row.hosts.clone()].iter().enumerate();
    let roomy = rooms.filter(|(_, room)| room.fits(&query.need));
    roomy.map(move |(at, room)| {
        let rest =
            |lane: usize| u128::from(room.0[lane].wrapping_sub(query.need.0[lane]));
        let mix = rest(CPU) * memory + rest(MEMORY) * cpus;
        (first + at, (rest(GPUS) << 96) + mix)
    })
}

#[cfg(test)]
mod tests {
    use super::super::screen::Depth;
    use super::super::tests::random::{self, Random};
    use super::super::validate::validate;
    use super::super::{Fleet, Policy};
    use super::*;

    #[test]
    fn no_region_scores_above_its_bound() {
        let mut regions = 0;
        for seed in 0..1_000 {
            let mut random = Random::new(seed);
            let mut view = random::fleet(&mut random, 100, 10);
            let empty = random.below(4) == 0;
            for host in view.regions.iter_mut().flat_map(|region| &mut region.hosts) {
                if empty {
                    host.free = host.total;
                } else if random.below(10) == 0 {
                    // More is free than there is, as after an overcommit was lowered.
                    host.total.cpu = host.free.cpu / 2;
                }
            }
            let request = random::request(&mut random, view.regions.len() as u64);
            if validate(&request).is_err() {
                continue;
            }
            let fleet = Fleet::new(&view);
            let query = Query::new(&fleet, &request, &Policy::default());
            let screen = Screen::of(&query, Depth::Standing);
            let mut ranking = Ranking::new(&query, &screen);
            while let Some((region, bound)) = ranking.bounds.pop() {
                let found = ranking.score(region, None);
                let score = found.map(|found| found.score).expect("it stands");
                assert!(score <= bound, "seed {seed} region {region}: {score} {bound}");
                let capacity = found.map_or(0, |found| found.factors[CAPACITY]);
                let part = u32::from(capacity) * u32::from(query.weights[CAPACITY]);
                assert!(part / 10_000 <= ranking.bounds.capacity(&query, region).into());
                regions += 1;
            }
        }
        assert!(regions > 2_000, "{regions}");
    }
}
