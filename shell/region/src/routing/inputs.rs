//! What this daemon knows, in the words of the router's core.
//!
//! Round trips are those that the configuration states; each is trusted by half and its
//! distance by the other half, until somebody measures. A region's load is the share of its
//! CPU or bandwidth that is reserved, whichever is more: what requests themselves take is not
//! counted yet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use dwcp_api::public::RegionItem;
use dwcp_edge::Network;
use dwcp_router::{Aged, Cell, Inputs, Link, Protocols, RoundTrip, Service, Site, Spot};
use dwcp_types::{Bps, Mbps, Micros, RegionId, Timestamp, UserZoneId};

use super::Parts;
use super::settings::Settings;
use crate::config::{ClientPlace, FrontSpec, Prefix};

/// Bandwidth of a region of which nobody says it: the source's larger endpoints (DETAILS 2.3).
const CAPACITY_UNSTATED: Mbps = Mbps::new(10_000);
/// The cell of clients of whom no place is known.
pub(super) const NOWHERE: u32 = 0;

/// Which cell is which place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(super) zones: BTreeMap<UserZoneId, u32>,
    pub(super) regions: BTreeMap<RegionId, u32>,
    /// Networks, those that fix most bits first.
    networks: Vec<(Prefix, u32)>,
}

impl Places {
    /// The network that an address is in, and its cell.
    pub(super) fn network(&self, address: IpAddr) -> Option<(Prefix, u32)> {
        self.networks.iter().find(|(prefix, _)| prefix.contains(address)).copied()
    }

    /// Every network, as the planes have them.
    pub(super) fn networks(&self) -> Vec<Network> {
        let network = |(prefix, cell): &(Prefix, u32)| Network {
            address: prefix.base(),
            len: prefix.bits(),
            cell: *cell,
        };
        self.networks.iter().map(network).collect()
    }
}

/// Makes inputs. Remembers the order in which it saw regions, so that cells keep their places.
#[derive(Debug, Default)]
pub(super) struct Maker {
    seen: Vec<(RegionId, Spot)>,
}

impl Maker {
    pub(super) fn inputs(
        &mut self,
        parts: &Parts,
        settings: &Settings,
    ) -> (Inputs, Places) {
        let now = parts.inventory.clock.now();
        let items = parts.inventory.regions();
        for item in &items {
            let id = &item.region.id;
            if self.seen.iter().all(|(seen, _)| seen != id) {
                self.seen.push((id.clone(), spot(item)));
            }
        }
        let (cells, places) = self.cells(parts, &items);
        let inputs = Inputs {
            now,
            sites: items.iter().map(|item| site(item, parts, settings, now)).collect(),
            links: items.iter().flat_map(links).collect(),
            cells,
            services: services(parts, settings),
        };
        (inputs, places)
    }

    /// Nowhere, the user zones, the networks that have a place of their own, the regions: what
    /// may grow while the daemon runs is last.
    fn cells(&self, parts: &Parts, items: &[RegionItem]) -> (Vec<Cell>, Places) {
        let mut cells = vec![Cell::default()];
        let mut places = Places::default();
        let mut add = |cell: Cell| {
            let at = u32::try_from(cells.len()).unwrap_or(NOWHERE);
            cells.push(cell);
            at
        };
        for zone in &parts.zones {
            let spot = zone.location.as_ref().map(|place| Spot {
                latitude: place.latitude,
                longitude: place.longitude,
            });
            let trips = zone.view.latency.iter();
            let trips = trips.map(|(region, rtt)| (region.clone(), stated(*rtt)));
            let at = add(Cell { spot, trips: trips.collect() });
            places.zones.insert(zone.view.id.clone(), at);
        }
        let mut at_regions = Vec::new();
        for client in &parts.config.clients {
            let at = match &client.place {
                ClientPlace::UserZone(zone) => places.zones.get(zone).copied(),
                ClientPlace::Region(region) => {
                    at_regions.push((client.cidr, region));
                    continue;
                }
                ClientPlace::Spot(spot) => {
                    Some(add(Cell { spot: Some(*spot), trips: BTreeMap::new() }))
                }
            };
            places.networks.push((client.cidr, at.unwrap_or(NOWHERE)));
        }
        for (region, spot) in &self.seen {
            let item = items.iter().find(|item| item.region.id == *region);
            let trips = item.into_iter().flat_map(|item| &item.region.network_latency);
            let trips = trips.map(|(to, rtt)| (to.clone(), stated(*rtt)));
            let at = add(Cell { spot: Some(*spot), trips: trips.collect() });
            places.regions.insert(region.clone(), at);
        }
        for (cidr, region) in at_regions {
            let at = places.regions.get(region).copied().unwrap_or(NOWHERE);
            places.networks.push((cidr, at));
        }
        places.networks.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.bits()));
        (cells, places)
    }
}

fn spot(item: &RegionItem) -> Spot {
    let place = &item.region.location;
    Spot { latitude: place.latitude, longitude: place.longitude }
}

/// A round trip that is written down.
const fn stated(rtt: Micros) -> RoundTrip {
    RoundTrip { rtt, loss_ppm: 0, at: None }
}

fn links(item: &RegionItem) -> Vec<Link> {
    let region = &item.region;
    let link = |(to, rtt): (&RegionId, &Micros)| Link {
        from: region.id.clone(),
        to: to.clone(),
        trip: stated(*rtt),
        egress_gb: None,
    };
    region.network_latency.iter().map(link).collect()
}

/// The services of the file, ranked as was chosen where they follow the federation.
pub(super) fn services(parts: &Parts, settings: &Settings) -> Vec<Service> {
    let specs = parts.config.services.iter();
    specs
        .map(|spec| {
            let mut service = spec.service.clone();
            if let (Some(algorithm), true) = (settings.algorithm, spec.follows) {
                service.algorithm = algorithm;
                service.weights = None;
            }
            service
        })
        .collect()
}

/// The bandwidth that a region is reckoned with.
pub(super) fn capacity(item: &RegionItem, parts: &Parts, settings: &Settings) -> Mbps {
    let id = &item.region.id;
    let live = settings.endpoints.get(id).and_then(|endpoint| endpoint.capacity);
    let stated = live.or_else(|| front(parts, id).and_then(|front| front.capacity));
    let of_hosts = item.total.bandwidth;
    let unstated = if of_hosts.get() > 0 { of_hosts } else { CAPACITY_UNSTATED };
    stated.unwrap_or(unstated)
}

pub(super) fn front<'a>(parts: &'a Parts, id: &RegionId) -> Option<&'a FrontSpec> {
    parts.config.fronts.iter().find(|front| front.region == *id)
}

fn site(item: &RegionItem, parts: &Parts, settings: &Settings, now: Timestamp) -> Site {
    let region = &item.region;
    let front = front(parts, &region.id);
    let live = settings.endpoints.get(&region.id);
    let age = Duration::from_millis(item.age_ms.unwrap_or_default());
    let heard = now
        .as_millis()
        .saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let heard = Timestamp::from_millis(heard);
    let weight = live.map(|live| live.weight).or_else(|| front.map(|front| front.weight));
    Site {
        id: region.id.clone(),
        spot: spot(item),
        country: region.location.country.clone(),
        continent: region.location.continent.clone(),
        laws: region.compliance_zones.clone(),
        health: Aged { value: item.health, at: heard },
        capacity: capacity(item, parts, settings),
        load: item.age_ms.and_then(|_| load(item)).map(|value| Aged { value, at: heard }),
        cpu_hour: region.cost.cpu_hour,
        egress_gb: region.cost.egress_gb,
        protocols: front.map_or(Protocols::ALL, |front| front.protocols),
        encrypts: front.is_none_or(|front| front.encrypted),
        weight: weight.unwrap_or(100),
    }
}

/// The share that is reserved of CPU or bandwidth, whichever is more; nothing of a region
/// without hosts.
fn load(item: &RegionItem) -> Option<Bps> {
    let used = |total: u64, free: u64| {
        (total > 0).then(|| Bps::ratio(total.saturating_sub(free), total))
    };
    let cpu = used(item.total.cpu, item.free.cpu);
    let bandwidth = used(item.total.bandwidth.get(), item.free.bandwidth.get());
    cpu.max(bandwidth)
}
