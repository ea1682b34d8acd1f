//! What this daemon knows, in the words of the router's core.
//!
//! Round trips between regions are those that lines between them measure, unless the
//! configuration says `round_trips: stated`. What nobody measured is what the configuration
//! states, trusted by half and its distance by the other half. A region's load is the share of its
//! CPU or bandwidth that is reserved, whichever is more: what requests themselves take is not
//! counted yet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::public::RegionItem;
use dwcp_edge::{Clients, Network};
use dwcp_router::{Aged, Cell, Inputs, Link, Protocols, RoundTrip, Service, Site, Spot};
use dwcp_types::{Bps, HealthState, Mbps, RegionId, Timestamp, UserZoneId};

use super::Parts;
use super::atlas::Atlas;
use super::memory::Known;
use super::settings::Settings;
use crate::config::{ClientPlace, FrontSpec, Prefix, RoundTrips};
use crate::inventory::reserved;

/// Bandwidth of a region of which nobody says it: the source's larger endpoints (DETAILS 2.3).
const CAPACITY_UNSTATED: Mbps = Mbps::new(10_000);
/// Round trips from each region to others.
type TripsFrom = BTreeMap<RegionId, BTreeMap<RegionId, RoundTrip>>;

/// In millionths: a line that is down carries nothing.
const ALL_LOST: u32 = 1_000_000;
/// The cell of clients of whom no place is known.
pub(super) const NOWHERE: u32 = 0;

/// Which cell is which place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(super) zones: BTreeMap<UserZoneId, u32>,
    pub(super) regions: BTreeMap<RegionId, u32>,
    /// Networks, those that fix most bits first.
    networks: Vec<(Prefix, u32)>,
    /// What a file says of the others, and the number of its first cell.
    pub(super) atlas: Option<(Arc<Atlas>, u32)>,
    /// All of this, as the planes have it.
    pub(super) clients: Arc<Clients>,
}

impl Places {
    /// The network that an address is in, and its cell.
    pub(super) fn network(&self, address: IpAddr) -> Option<(Prefix, u32)> {
        self.networks.iter().find(|(prefix, _)| prefix.contains(address)).copied()
    }

    /// Every network, as the planes have them.
    fn networks(&self) -> Vec<Network> {
        let network = |(prefix, cell): &(Prefix, u32)| Network {
            address: prefix.base(),
            len: prefix.bits(),
            cell: *cell,
        };
        self.networks.iter().map(network).collect()
    }
}

/// Where clients are: put together again only when networks, cells or the file are others.
#[derive(Debug, Default)]
struct Shown {
    networks: Vec<Network>,
    atlas: Option<(Arc<Atlas>, u32)>,
    clients: Option<Arc<Clients>>,
}

impl Shown {
    fn of(&mut self, places: &Places) -> Arc<Clients> {
        let networks = places.networks();
        let same_file = match (&self.atlas, &places.atlas) {
            (Some((one, at)), Some((other, there))) => {
                Arc::ptr_eq(one, other) && at == there
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        match &self.clients {
            Some(clients) if same_file && self.networks == networks => clients.clone(),
            Some(_) | None => {
                let clients = Arc::new(match &places.atlas {
                    Some((atlas, first)) => atlas.under(&networks, *first, NOWHERE),
                    None => Clients::new(&networks, NOWHERE),
                });
                self.clients = Some(clients.clone());
                (self.networks, self.atlas) = (networks, places.atlas.clone());
                clients
            }
        }
    }
}

/// Makes inputs. Remembers the order in which it saw regions, so that cells keep their places.
#[derive(Debug)]
pub(super) struct Maker {
    seen: Vec<(RegionId, Spot)>,
    /// What was known before this daemon started, until the regions' records are read.
    recalled: Option<Known>,
    shown: Shown,
}

impl Maker {
    pub(super) fn new(recalled: Option<Known>) -> Self {
        let seen = recalled.as_ref().map(|known| known.seen.clone()).unwrap_or_default();
        Self { seen, recalled, shown: Shown::default() }
    }

    /// Regions in the order of their cells.
    pub(super) fn seen(&self) -> &[(RegionId, Spot)] {
        &self.seen
    }

    /// Inputs, which cell is which place, and when that was known if it is from before the
    /// start.
    pub(super) fn inputs(
        &mut self,
        parts: &Parts,
        settings: &Settings,
    ) -> (Inputs, Places, Option<Timestamp>) {
        let now = parts.inventory.clock.now();
        let items = parts.inventory.regions();
        if items.is_empty() {
            return self.recall(parts, settings, now);
        }
        self.recalled = None;
        for item in &items {
            let id = &item.region.id;
            if self.seen.iter().all(|(seen, _)| seen != id) {
                self.seen.push((id.clone(), spot(item)));
            }
        }
        let trips = |item: &RegionItem| (item.region.id.clone(), trips(item, parts, now));
        let trips: TripsFrom = items.iter().map(trips).collect();
        let links = links(&trips);
        let (cells, mut places) = self.cells(parts, trips);
        places.clients = self.shown.of(&places);
        let inputs = Inputs {
            now,
            sites: items.iter().map(|item| site(item, parts, settings, now)).collect(),
            links,
            cells,
            services: services(parts, settings),
        };
        (inputs, places, None)
    }

    /// The same of what was known before the start, and of what is heard of it since.
    fn recall(
        &mut self,
        parts: &Parts,
        settings: &Settings,
        now: Timestamp,
    ) -> (Inputs, Places, Option<Timestamp>) {
        let Some(known) = self.recalled.clone() else {
            let nothing = (Inputs { now, ..Inputs::default() }, Places::default(), None);
            return nothing;
        };
        let mut sites = known.sites;
        for site in &mut sites {
            let heard = parts.inventory.fleet.health(&site.id);
            if heard.state != HealthState::Unknown {
                site.health = Aged { value: heard, at: now };
            }
        }
        let mut trips = TripsFrom::new();
        for link in &known.links {
            let from = trips.entry(link.from.clone()).or_default();
            from.insert(link.to.clone(), link.trip);
        }
        let (cells, mut places) = self.cells(parts, trips);
        places.clients = self.shown.of(&places);
        let services = services(parts, settings);
        let inputs = Inputs { now, sites, links: known.links, cells, services };
        (inputs, places, Some(known.at))
    }

    /// Nowhere, the user zones, the networks that have a place of their own, those of the file, the
    /// regions: what may grow while the daemon runs is last.
    fn cells(&self, parts: &Parts, mut trips: TripsFrom) -> (Vec<Cell>, Places) {
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
            let trips =
                trips.map(|(region, rtt)| (region.clone(), RoundTrip::stated(*rtt)));
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
        if let Some(file) = &parts.atlas {
            let atlas = file.atlas();
            let cells = atlas
                .spots()
                .iter()
                .map(|spot| add(Cell { spot: Some(*spot), trips: BTreeMap::new() }));
            let first = cells.fold(u32::MAX, u32::min);
            places.atlas = Some((atlas, first));
        }
        for (region, spot) in &self.seen {
            let trips = trips.remove(region).unwrap_or_default();
            let at = add(Cell { spot: Some(*spot), trips });
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

/// The round trips from a region to others: as they are measured, and where that was long ago
/// or never as they are written down.
fn trips(
    item: &RegionItem,
    parts: &Parts,
    now: Timestamp,
) -> BTreeMap<RegionId, RoundTrip> {
    let region = &item.region;
    let stated = region.network_latency.iter();
    let stated = stated.map(|(to, rtt)| (to.clone(), RoundTrip::stated(*rtt)));
    let mut trips: BTreeMap<_, _> = stated.collect();
    if parts.config.round_trips == RoundTrips::Stated {
        return trips;
    }
    let measured = parts.inventory.world.region(&region.id, |known| {
        known.map(|known| known.trips.clone()).unwrap_or_default()
    });
    let monotonic = parts.inventory.clock.monotonic();
    for (to, trip) in measured {
        let age = monotonic.saturating_sub(trip.at);
        let measured = RoundTrip {
            rtt: trip.rtt,
            loss_ppm: if trip.up { 0 } else { ALL_LOST },
            at: Some(now.minus(age)),
        };
        let known = measured.or_stated(trips.get(&to).copied(), now);
        trips.insert(to, known);
    }
    trips
}

fn links(trips: &TripsFrom) -> Vec<Link> {
    let mut links = Vec::new();
    for (from, trips) in trips {
        links.extend(trips.iter().map(|(to, trip)| Link {
            from: from.clone(),
            to: to.clone(),
            trip: *trip,
            egress_gb: None,
        }));
    }
    links
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
    let heard = now.minus(Duration::from_millis(item.age_ms.unwrap_or_default()));
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
    let cpu = reserved(item.total.cpu, item.free.cpu);
    let bandwidth = reserved(item.total.bandwidth.get(), item.free.bandwidth.get());
    cpu.max(bandwidth)
}
