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

use super::bits::each;
use super::fleet::{Ceiling, FINE, Fleet, UNKNOWN, ratio};
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
        (std::cmp::Reverse((score, kept)), cost, region)
    }
}

/// How a value becomes a factor: `high` is worth nothing, `high - range` everything.
#[derive(Clone, Copy, Debug)]
struct Scale {
    high: u64,
    range: u64,
    /// `high` and weight / range, for the bound: the weight in fixed point, rounded up. Where
    /// all are equal, the range is taken as one unit that each of them has.
    bound_high: u64,
    per_unit: u64,
}

/// Binary digits after the point of bounds: a weight of up to 10,000 x 2^40, spread over a range
/// of up to 2^58, multiplies with a part of that range within 64 bits.
const FRACTION: u32 = 40;

impl Scale {
    /// From a limit (1 - value / limit), or else from the extremes of what stands (F23).
    fn new(weight: u16, limit: Option<u64>, standing: &[u64], values: &[u64]) -> Self {
        let (mut low, mut high) = (u64::MAX, 0);
        if let Some(limit) = limit {
            (low, high) = (0, limit);
        } else {
            each(standing, |region| {
                let value = values[region];
                low = low.min(value);
                high = high.max(if value == UNKNOWN { 0 } else { value });
            });
        }
        let range = high.saturating_sub(low);
        let bound_high = if range == 0 { high.saturating_add(1) } else { high };
        let per_unit = (u64::from(weight) << FRACTION) / range.max(1) + 1;
        Self { high, range, bound_high, per_unit }
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

    /// No less than what the factor adds to the score, without dividing; nothing for what is
    /// unknown, which is above any `high`.
    const fn bound(&self, value: u64) -> u64 {
        let above = self.bound_high.saturating_sub(value);
        above.wrapping_mul(self.per_unit) >> FRACTION
    }
}

/// A ranking under way.
pub(crate) struct Ranking<'a> {
    query: &'a Query<'a>,
    latency: Scale,
    cost: Scale,
    /// Each standing region's bound in the upper half and its index, inverted so that the
    /// lower index is the larger number, in the lower half.
    bounds: Vec<u64>,
}

/// How many regions are taken by their bound at first, a few times what counts; how many when
/// those do not settle it; then all. Tests take so few that their small fleets walk all three.
const FIRST_TAKEN: usize = if cfg!(test) { 1 } else { 24 };
const NEXT_TAKEN: usize = if cfg!(test) { 12 } else { 128 };

impl<'a> Ranking<'a> {
    /// Bounds every region that stands.
    pub(crate) fn new(query: &'a Query<'a>, screen: &Screen) -> Self {
        let (sums, costs) = (query.latency_sums(), query.costs());
        let limits = &query.request.constraints;
        let cost_limit = limits.cost_limit.map(dwcp_types::MicroUsd::get);
        let (standing, weights) = (screen.standing(), &query.weights);
        let latency = Scale::new(weights[LATENCY], query.latency_limit(), standing, sums);
        let cost = Scale::new(weights[COST], cost_limit, standing, &costs);
        let mut bounds = Vec::with_capacity(costs.len());
        let capacity = CapacityBound::new(query);
        let strategy = query.strategy as usize;
        let ceilings = &query.fleet.hot.ceilings;
        each(standing, |region| {
            let ceiling = &ceilings[region];
            // The same sum of the same parts as the score, each no less than it will be.
            let sum = latency.bound(sums[region])
                + cost.bound(costs[region])
                + capacity.of(ceiling)
                + u64::from(ceiling.steady[strategy]);
            bounds.push(sum << 32 | (u64::from(u32::MAX) - region as u64));
        });
        Self { query, latency, cost, bounds }
    }

    /// The best `most` places in order, with zones and hosts.
    pub(crate) fn best(mut self, most: usize) -> Vec<Candidate> {
        let mut best = Vec::with_capacity(most.min(self.bounds.len()) + 1);
        let mut from = 0;
        let mut bounds = std::mem::take(&mut self.bounds);
        for taken in [FIRST_TAKEN, NEXT_TAKEN, usize::MAX] {
            let to = taken.max(most).min(bounds.len());
            let rest = bring_forward(&mut bounds[from..], to - from);
            self.score_in_order(&bounds[from..to], most, &mut best);
            if to == bounds.len() || settled(&best, most, rest) {
                break;
            }
            from = to;
        }
        for candidate in &mut best {
            let host = candidate.host;
            candidate.host = host.or_else(|| best_host(self.query, candidate.zone));
        }
        best
    }

    /// Scores regions in falling order of bound, until no bound left can matter.
    fn score_in_order(&self, bounds: &[u64], most: usize, best: &mut Vec<Candidate>) {
        for bound in bounds {
            if settled(best, most, *bound) {
                return;
            }
            let region = region_of(*bound);
            let Some(candidate) = self.score(region) else { continue };
            let at = best.partition_point(|other| other.key() < candidate.key());
            if at < most {
                best.insert(at, candidate);
                best.truncate(most);
            }
        }
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
        factors[LATENCY] = self.latency.factor(query.latency_sums()[region]);
        factors[COST] = self.cost.factor(cost);
        factors[CAPACITY] = capacity;
        factors[HEALTH] = u16::from(hot.health[region]) * 100;
        factors[PRIORITY] = u16::from(hot.priority[region]) * 100;
        let score = contributions(&query.weights, &factors).iter().sum();
        let kept = rules * 2 + usize::from(is_preferred_provider(query, region));
        Some(Candidate { region, zone, host, score, factors, kept, cost })
    }
}

/// What bounds the part of the capacity factor.
struct CapacityBound {
    cpu: u64,
    gib: u64,
    /// What one of [`FINE`] parts adds to the score, in fixed point, rounded up.
    per_part: u64,
}

impl CapacityBound {
    const fn new(query: &Query<'_>) -> Self {
        let [cpu, memory, ..] = query.amounts;
        let weight = query.weights[CAPACITY] as u64;
        Self { cpu, gib: memory / 1024, per_part: (weight << FRACTION) / FINE + 1 }
    }

    /// No zone of the region can add more: its free share before, less what the VM is of the
    /// largest zone.
    fn of(&self, ceiling: &Ceiling) -> u64 {
        let rest = |share: u32, part: u32, amount: u64| {
            u64::from(share).saturating_sub(u64::from(part) * amount)
        };
        let cpu = rest(ceiling.cpu_share, ceiling.cpu_part, self.cpu);
        let memory = rest(ceiling.memory_share, ceiling.gib_part, self.gib);
        let parts = cpu.min(memory).min(u64::from(ceiling.headroom));
        parts.wrapping_mul(self.per_part) >> FRACTION
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

/// The index of the region that a bound is of.
fn region_of(bound: u64) -> usize {
    u32::try_from(bound & u64::from(u32::MAX)).map_or(0, |low| (u32::MAX - low) as usize)
}

/// Whether a bound, and with it every lower one, can no longer change the first places. An
/// equal score could still win by a preference, so only a lower one settles it.
fn settled(best: &[Candidate], most: usize, bound: u64) -> bool {
    let last = if best.len() < most { None } else { best.last() };
    last.is_some_and(|last| bound >> 32 < u64::from(last.score))
}

/// Brings the `taken` largest to the front, in falling order, and gives the largest of the
/// others.
fn bring_forward(bounds: &mut [u64], taken: usize) -> u64 {
    let mut rest = 0;
    if taken < bounds.len() {
        let (_, next, _) = bounds.select_nth_unstable_by(taken, |a, b| b.cmp(a));
        rest = *next;
    }
    bounds[..taken].sort_unstable_by(|a, b| b.cmp(a));
    rest
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
