//! What is the same for every client of a service and class: limits that depend on the region
//! alone, the fixed part of each region's score, and who may pass its traffic on.
//!
//! Made once for a table, or for a single request that brings its own limits. All of it is in
//! arrays of a fixed size, so that neither allocates.

use dwcp_types::{HealthState, Timestamp};

use crate::age::{self, FULL, HEALTH_MAX, blend};
use crate::input::{Inputs, REGIONS_MAX, Site};
use crate::near::UNKNOWN;
use crate::refusal::{Refusal, Refusals};
use crate::service::{FailMode, Requirement, Service};
use crate::weights::{Algorithm, FACTORS, Factor, Weights};

/// From so much load on a region is full (R5: "over 90 % utilisation avoided").
pub(crate) const LOAD_MAX: u32 = 9_000;
/// The load of a region of which nobody says how busy it is: neither good nor bad.
const LOAD_UNKNOWN: u32 = 5_000;
/// Bandwidth that is everything: the larger endpoints of the source's example have 10 Gbit/s.
const CAPACITY_SCALE_MBPS: u64 = 10_000;
/// Prices that are nothing on the scale of cost, in millionths of a dollar: 0.20 USD a GB,
/// over every price to the Internet in Skyplane's table of AWS, and 0.10 USD a CPU-hour.
const EGRESS_SCALE: u64 = 200_000;
const CPU_SCALE: u64 = 100_000;
/// Microseconds of CPU of a request that are an hour for a million requests.
const CPU_US_PER_HOUR: u64 = 3_600;

/// One region under a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed {
    /// What speaks against it whoever asks.
    pub(crate) refused: Refusals,
    /// Factors that do not depend on the client; the others are 0.
    pub(crate) values: [u16; FACTORS],
    /// Their part of the score, by the usual weights and by those for clients of no known
    /// place, in ten-thousandths of basis points.
    pub(crate) base: [u32; 2],
    /// Bandwidth that is left, in Mbit/s, at least 1.
    pub(crate) spare: u32,
    /// The share of its requests that it may have, in percent.
    pub(crate) weight: u8,
}

impl Fixed {
    const NOTHING: Self = Self {
        refused: Refusals::NONE,
        values: [0; FACTORS],
        base: [0; 2],
        spare: 1,
        weight: 0,
    };
}

/// A service and a class.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) sites: [Fixed; REGIONS_MAX],
    /// The usual weights, and those for clients of no known place.
    pub(crate) weights: [Weights; 2],
    /// Longest round trip in microseconds; [`UNKNOWN`] without a limit.
    pub(crate) latency_max: u32,
    pub(crate) loss_ppm_max: u32,
    pub(crate) requirement: Requirement,
    /// The regions that may pass its traffic on.
    pub(crate) relays: u64,
    pub(crate) fail: FailMode,
    pub(crate) sticky: bool,
    pub(crate) ttl_s: u8,
    kb: u64,
    cpu_us: u64,
}

impl Plan {
    pub(crate) fn new(inputs: &Inputs, service: &Service, wanted: Requirement) -> Self {
        let usual = service.weights.unwrap_or_else(|| service.algorithm.weights());
        let by_place = usual.0[Factor::Distance as usize] > 0;
        let placeless = if by_place { Algorithm::Latency.weights() } else { usual };
        let mut plan = Self {
            sites: [Fixed::NOTHING; REGIONS_MAX],
            weights: [usual, placeless],
            latency_max: wanted.latency_max.map_or(UNKNOWN, |most| most.get()),
            loss_ppm_max: wanted.loss_ppm_max.unwrap_or(u32::MAX),
            requirement: wanted,
            relays: 0,
            fail: service.fail,
            sticky: service.sticky,
            ttl_s: service.ttl_s,
            kb: service.kb_per_request.into(),
            cpu_us: service.cpu_us_per_request.into(),
        };
        for (at, site) in inputs.sites.iter().enumerate() {
            let fixed = plan.fixed(site, service, inputs.now);
            // Whoever passes traffic on need not have the service, and must be as lawful, as
            // encrypted and as well as whoever answers.
            let unserved = Refusals::NONE.with(Refusal::NotServed);
            let only = fixed.refused.and(unserved) == unserved;
            let relays = fixed.refused.is_empty() || only;
            plan.relays |= u64::from(relays) << at;
            plan.sites[at] = fixed;
        }
        plan
    }

    fn fixed(&self, site: &Site, service: &Service, now: Timestamp) -> Fixed {
        let load = load(site, now);
        let spare = spare(site, load);
        let mut values = [0; FACTORS];
        let cost = cost_value(self.cost(site.egress_gb.get(), site), self.cost_scale());
        values[Factor::Cost as usize] = cost;
        values[Factor::Load as usize] = bps(FULL - load.min(FULL));
        let of_scale = u64::from(spare) * 10_000 / CAPACITY_SCALE_MBPS;
        values[Factor::Capacity as usize] = bps(u32::try_from(of_scale).unwrap_or(FULL));
        values[Factor::Health as usize] = bps(u32::from(site.health.value.score) * 100);
        let base = self.weights.map(|weights| {
            let parts = weights.0.iter().zip(values);
            parts.map(|(weight, value)| u32::from(*weight) * u32::from(value)).sum()
        });
        let refused = refused(site, service, self.requirement, (load, spare), now);
        Fixed { refused, values, base, spare, weight: site.weight.min(100) }
    }

    /// What a million requests cost, in millionths of a dollar, when a GB of answers costs so
    /// much on its way: a kilobyte each is a GB for all.
    pub(crate) fn cost(&self, egress_gb: u64, site: &Site) -> u64 {
        let traffic = egress_gb.saturating_mul(self.kb);
        let compute = site.cpu_hour.get().saturating_mul(self.cpu_us) / CPU_US_PER_HOUR;
        traffic.saturating_add(compute)
    }

    fn cost_scale(&self) -> u64 {
        EGRESS_SCALE * self.kb + CPU_SCALE * self.cpu_us / CPU_US_PER_HOUR
    }

    /// The cost factor of a way whose GB costs so much.
    pub(crate) fn cost_of(&self, egress_gb: u64, site: &Site) -> u16 {
        cost_value(self.cost(egress_gb, site), self.cost_scale())
    }
}

fn cost_value(cost: u64, scale: u64) -> u16 {
    if scale == 0 {
        return bps(FULL);
    }
    let of_scale = u128::from(cost) * u128::from(FULL) / u128::from(scale);
    bps(FULL - u32::try_from(of_scale).unwrap_or(FULL).min(FULL))
}

/// How busy a region is, in basis points, as far as that is still known.
fn load(site: &Site, now: Timestamp) -> u32 {
    site.load.map_or(LOAD_UNKNOWN, |load| {
        let trust = age::trust(load.at, now, age::LOAD);
        blend(load.value.get().into(), LOAD_UNKNOWN, trust)
    })
}

fn spare(site: &Site, load: u32) -> u32 {
    let idle = u64::from(FULL - load.min(FULL));
    let spare = u128::from(site.capacity.get()) * u128::from(idle) / u128::from(FULL);
    // A thousand Tbit/s: more than any region has, and sums of shares stay small.
    u32::try_from(spare).unwrap_or(u32::MAX).clamp(1, 1_000_000_000)
}

fn refused(
    site: &Site,
    service: &Service,
    wanted: Requirement,
    (load, spare): (u32, u32),
    now: Timestamp,
) -> Refusals {
    let health = site.health.value.state;
    let well = matches!(health, HealthState::Healthy | HealthState::Degraded)
        && now.since(site.health.at) <= HEALTH_MAX;
    let served = service.regions.is_empty() || service.regions.contains(&site.id);
    let lawful = service.laws.iter().all(|law| site.laws.contains(law));
    let resident = service.residency.is_empty()
        || service.residency.contains(&site.country)
        || service.residency.contains(&site.continent);
    let narrow = wanted.bandwidth_min.is_some_and(|least| u64::from(spare) < least.get());
    Refusals::NONE
        .with_if(Refusal::Health, !well)
        .with_if(Refusal::Capacity, load >= LOAD_MAX)
        .with_if(Refusal::Bandwidth, narrow)
        .with_if(Refusal::Draining, site.weight == 0)
        .with_if(Refusal::Protocol, !site.protocols.has(service.protocol))
        .with_if(Refusal::Residency, !(lawful && resident))
        .with_if(Refusal::Encryption, wanted.encryption && !site.encrypts)
        .with_if(Refusal::NotServed, !served)
}

fn bps(value: u32) -> u16 {
    u16::try_from(value.min(FULL)).unwrap_or(10_000)
}

/// The regions that may pass traffic on for anyone.
pub(crate) fn relays(inputs: &Inputs) -> u64 {
    let may = |site: &Site| {
        let health = site.health.value.state;
        matches!(health, HealthState::Healthy | HealthState::Degraded)
            && inputs.now.since(site.health.at) <= HEALTH_MAX
            && load(site, inputs.now) < LOAD_MAX
            && site.weight > 0
    };
    let bits = inputs.sites.iter().enumerate();
    bits.fold(0, |mask, (at, site)| mask | u64::from(may(site)) << at)
}
