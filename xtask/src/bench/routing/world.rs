//! The world of `bench routing`: thirteen metros, clients on a grid, services of every kind.

use std::collections::BTreeMap;

use dwcp_router::{
    Aged, Algorithm, Cell, FailMode, Inputs, Link, Protocols, RoundTrip, Service, Site,
    Spot, distance_km, expected_rtt,
};
use dwcp_types::{
    Bps, Health, HealthState, Mbps, MicroUsd, Micros, RegionId, ServiceId, Timestamp,
};

/// Metros of IBM Cloud's published latency tables: name, latitude, longitude.
pub(in crate::bench) const METROS: [(&str, f64, f64); 13] = [
    ("chennai", 13.08, 80.27),
    ("dallas", 32.78, -96.80),
    ("frankfurt", 50.11, 8.68),
    ("london", 51.51, -0.13),
    ("madrid", 40.42, -3.70),
    ("montreal", 45.50, -73.57),
    ("mumbai", 19.08, 72.88),
    ("osaka", 34.69, 135.50),
    ("sao-paulo", -23.55, -46.63),
    ("sydney", -33.87, 151.21),
    ("tokyo", 35.68, 139.69),
    ("toronto", 43.65, -79.38),
    ("washington-dc", 38.90, -77.04),
];
/// Cells of 5 degrees.
pub(in crate::bench) const CELLS: u32 = 36 * 72;
/// Services; with three classes and all cells they make 497,664 answers.
pub(in crate::bench) const SERVICES: u16 = 64;

/// Chance from a seed (SplitMix64).
pub(in crate::bench) struct Chance(u64);

impl Chance {
    pub(in crate::bench) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::bench) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An index of so many.
    pub(in crate::bench) fn index(&mut self, len: usize) -> usize {
        let len = u64::try_from(len).unwrap_or(1).max(1);
        usize::try_from(self.next() % len).unwrap_or(0)
    }

    /// Less than `most`.
    pub(in crate::bench) fn below(&mut self, most: u32) -> u32 {
        u32::try_from(self.next() % u64::from(most)).unwrap_or(0)
    }
}

/// The world after so many seconds; loads change, places do not.
pub(in crate::bench) fn world(seconds: u64) -> Inputs {
    let mut chance = Chance::new(seconds);
    let now = Timestamp::from_millis(1_000_000_000 + seconds * 1_000);
    let sites: Vec<Site> = METROS
        .iter()
        .filter_map(|(name, latitude, longitude)| {
            let spot = Spot { latitude: *latitude, longitude: *longitude };
            Some(site(RegionId::new(name).ok()?, spot, now, &mut chance))
        })
        .collect();
    Inputs {
        now,
        links: links(&sites, now, &mut chance),
        cells: cells(&sites, now),
        services: (0..SERVICES).filter_map(service).collect(),
        sites,
    }
}

fn site(id: RegionId, spot: Spot, now: Timestamp, chance: &mut Chance) -> Site {
    let load = Bps::ratio(u64::from(chance.below(85)), 100);
    Site {
        id,
        spot,
        country: "XX".to_owned(),
        continent: "Everywhere".to_owned(),
        laws: Vec::new(),
        health: Aged {
            value: Health { state: HealthState::Healthy, score: 100 },
            at: now,
        },
        capacity: Mbps::new(10_000),
        load: Some(Aged { value: load, at: now }),
        cpu_hour: MicroUsd::new(30_000 + u64::from(chance.below(40_000))),
        egress_gb: MicroUsd::new(20_000 + u64::from(chance.below(130_000))),
        protocols: Protocols::ALL,
        encrypts: true,
        weight: 100,
    }
}

/// Every pair, a fifth above or below what its distance lets one expect: so relays pay.
fn links(sites: &[Site], now: Timestamp, chance: &mut Chance) -> Vec<Link> {
    let mut links = Vec::new();
    for from in sites {
        for to in sites.iter().filter(|to| to.id != from.id) {
            let expected = expected_rtt(distance_km(from.spot, to.spot)).get();
            let rtt = Micros::new(expected * (80 + chance.below(41)) / 100);
            let trip = RoundTrip { rtt, loss_ppm: chance.below(2_000), at: Some(now) };
            let egress_gb = Some(MicroUsd::new(20_000));
            links.push(Link {
                from: from.id.clone(),
                to: to.id.clone(),
                trip,
                egress_gb,
            });
        }
    }
    links
}

/// A grid; clients of every third cell have measured every region.
fn cells(sites: &[Site], now: Timestamp) -> Vec<Cell> {
    (0..CELLS)
        .map(|at| {
            let spot = Spot {
                latitude: f64::from(at / 72) * 5.0 - 87.5,
                longitude: f64::from(at % 72) * 5.0 - 177.5,
            };
            let measured = |site: &Site| {
                let expected = expected_rtt(distance_km(spot, site.spot));
                let trip = RoundTrip { rtt: expected, loss_ppm: 500, at: Some(now) };
                (site.id.clone(), trip)
            };
            let trips: BTreeMap<_, _> = if at % 3 == 0 {
                sites.iter().map(measured).collect()
            } else {
                BTreeMap::new()
            };
            Cell { spot: Some(spot), trips }
        })
        .collect()
}

fn service(at: u16) -> Option<Service> {
    let algorithm = Algorithm::ALL[usize::from(at) % Algorithm::ALL.len()];
    let mut service = Service::new(ServiceId::new(&format!("s{at}")).ok()?, algorithm);
    service.sticky = at.is_multiple_of(2);
    service.fail =
        [FailMode::Open, FailMode::Static, FailMode::Closed][usize::from(at) % 3];
    Some(service)
}
