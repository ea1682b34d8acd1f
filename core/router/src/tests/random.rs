//! Random regions, lines, cells and services, small enough that every rule meets every other.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_types::{
    Bps, ComplianceZone, Health, HealthState, Mbps, MicroUsd, Micros, RegionId,
    ServiceId, Timestamp,
};

use crate::input::{Aged, Cell, Inputs, Link, RoundTrip, Site, Spot};
use crate::service::{Class, FailMode, Protocol, Protocols, Requirement, Service};
use crate::weights::{Algorithm, Weights};

/// Chance from a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        crate::rendezvous::mix(self.0)
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.next() % most.max(1)
    }

    pub(crate) fn small(&mut self, most: u32) -> u32 {
        u32::try_from(self.below(most.into())).unwrap()
    }

    pub(crate) fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

fn ago(random: &mut Random) -> Timestamp {
    // Around every bound of trust: 10 s, 60 s, 600 s.
    let most = random.pick(&[5_000, 15_000, 90_000, 900_000]);
    Timestamp::from_millis(NOW.as_millis() - random.below(most))
}

fn spot(random: &mut Random) -> Spot {
    Spot {
        latitude: f64::from(random.small(181)) - 90.0,
        longitude: f64::from(random.small(361)) - 180.0,
    }
}

fn trip(random: &mut Random) -> RoundTrip {
    RoundTrip {
        rtt: Micros::new(random.small(350_000)),
        loss_ppm: if random.one_in(3) { random.small(60_000) } else { 0 },
        at: (!random.one_in(3)).then(|| ago(random)),
    }
}

fn site(random: &mut Random, id: RegionId) -> Site {
    use HealthState::{Degraded, Healthy, Maintenance, Unhealthy, Unknown};
    let state = if random.one_in(4) {
        random.pick(&[Unknown, Unhealthy, Maintenance, Degraded])
    } else {
        Healthy
    };
    let health = Health { state, score: u8::try_from(random.below(101)).unwrap() };
    let age = if random.one_in(6) { random.below(20_000) } else { random.below(3_000) };
    let load = Bps::new(u16::try_from(random.below(10_001)).unwrap()).unwrap();
    Site {
        id,
        spot: spot(random),
        country: random.pick(&["DE", "US", "IN"]).to_owned(),
        continent: random.pick(&["Europe", "Asia"]).to_owned(),
        laws: if random.one_in(2) { vec![ComplianceZone::new("GDPR")] } else { vec![] },
        health: Aged { value: health, at: Timestamp::from_millis(NOW.as_millis() - age) },
        capacity: Mbps::new(1 + random.below(12_000)),
        load: (!random.one_in(4)).then(|| Aged { value: load, at: ago(random) }),
        cpu_hour: MicroUsd::new(random.below(150_000)),
        egress_gb: MicroUsd::new(random.below(250_000)),
        protocols: if random.one_in(8) {
            Protocols::NONE.with(Protocol::Udp)
        } else {
            Protocols::ALL
        },
        encrypts: !random.one_in(8),
        weight: if random.one_in(4) {
            u8::try_from(random.below(101)).unwrap()
        } else {
            100
        },
    }
}

fn requirement(random: &mut Random) -> Requirement {
    let usual = random.pick(&Class::ALL).profile();
    Requirement {
        latency_max: (!random.one_in(3))
            .then(|| Micros::new(20_000 + random.small(300_000))),
        bandwidth_min: usual.bandwidth_min.filter(|_| random.one_in(2)),
        loss_ppm_max: usual.loss_ppm_max.filter(|_| random.one_in(2)),
        encryption: random.one_in(4),
    }
}

pub(crate) fn own(random: &mut Random) -> Requirement {
    requirement(random)
}

fn weights(random: &mut Random) -> Weights {
    let mut weights = [0_u16; 6];
    let mut left = 10_000;
    for weight in weights.iter_mut().skip(1) {
        *weight = u16::try_from(random.below(left + 1)).unwrap();
        left -= u64::from(*weight);
    }
    weights[0] = u16::try_from(left).unwrap();
    Weights(weights)
}

fn service(random: &mut Random, id: ServiceId, regions: &[RegionId]) -> Service {
    let mut service = Service::new(id, random.pick(&Algorithm::ALL));
    if random.one_in(4) {
        service.weights = Some(weights(random));
    }
    if random.one_in(3) {
        service.regions = regions
            .iter()
            .filter(|_| !random.one_in(3))
            .cloned()
            .collect::<BTreeSet<_>>();
    }
    if random.one_in(4) {
        service.residency = [random.pick(&["DE", "Europe", "Asia"]).to_owned()].into();
    }
    if random.one_in(5) {
        service.laws = [ComplianceZone::new("gdpr")].into();
    }
    service.requirements = Class::ALL.map(|class| {
        if random.one_in(2) { requirement(random) } else { class.profile() }
    });
    service.fail = random.pick(&[FailMode::Open, FailMode::Static, FailMode::Closed]);
    service.sticky = random.one_in(2);
    service.kb_per_request = random.pick(&[0, 1, 50, 1_000]);
    service.cpu_us_per_request = random.pick(&[0, 100, 2_000, 1_000_000]);
    service
}

/// Inputs that may or may not make a table.
pub(crate) fn inputs(random: &mut Random) -> Inputs {
    let regions: Vec<RegionId> = (0..1 + random.below(9))
        .map(|at| RegionId::new(&format!("r{at}")).unwrap())
        .collect();
    let sites: Vec<Site> = regions.iter().map(|id| site(random, id.clone())).collect();
    let mut links = Vec::new();
    for from in &regions {
        for to in regions.iter().filter(|to| *to != from) {
            if random.one_in(2) {
                let egress_gb =
                    random.one_in(2).then(|| MicroUsd::new(random.below(60_000)));
                let trip = trip(random);
                links.push(Link { from: from.clone(), to: to.clone(), trip, egress_gb });
            }
        }
    }
    let cells = (0..1 + random.below(4))
        .map(|_| Cell {
            spot: (!random.one_in(4)).then(|| spot(random)),
            trips: {
                let some: Vec<_> = regions.iter().filter(|_| random.one_in(2)).collect();
                let trips = some.into_iter().map(|id| (id.clone(), trip(random)));
                trips.collect::<BTreeMap<_, _>>()
            },
        })
        .collect();
    let services = (0..1 + random.below(3))
        .map(|at| {
            let id = ServiceId::new(&format!("s{at}")).unwrap();
            service(random, id, &regions)
        })
        .collect();
    Inputs { now: NOW, sites, links, cells, services }
}

/// The same world a little later: loads and health are others, perhaps a region has gone.
pub(crate) fn later(random: &mut Random, before: &Inputs) -> Inputs {
    let mut inputs = before.clone();
    let passed = random.pick(&[100, 500, 2_000, 20_000]);
    inputs.now = Timestamp::from_millis(before.now.as_millis() + passed);
    for site in &mut inputs.sites {
        if random.one_in(2) {
            let load = Bps::new(u16::try_from(random.below(10_001)).unwrap()).unwrap();
            site.load = Some(Aged { value: load, at: inputs.now });
        }
        site.health.at = inputs.now;
        if random.one_in(4) {
            site.health.value.state =
                random.pick(&[HealthState::Unknown, HealthState::Healthy]);
        }
    }
    if random.one_in(3) && inputs.sites.len() > 1 {
        let gone = usize::try_from(random.below(inputs.sites.len() as u64)).unwrap();
        inputs.sites.remove(gone);
    }
    inputs
}
