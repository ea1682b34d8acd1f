//! Everything that a request is decided by: what never changes while a daemon runs, and the
//! table with what belongs to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use dwcp_router::{Decision, Key, RegionIx, Standing, Table, decide_by};
use dwcp_types::{RegionId, ServiceId};

use super::group::Group;
use super::pool::{Destination, Pool, Trust};
use super::streams::Passing;
use crate::steering::Steering;

/// A service as the proxy has it.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Its name.
    pub id: ServiceId,
    /// Names of hosts that it is asked by, in small letters.
    pub hosts: Vec<String>,
    /// The regions that have servers of it.
    pub regions: BTreeSet<RegionId>,
    /// Its servers in this region.
    pub group: Option<Arc<Group>>,
    /// How connections to it are passed on, where it has a port of its own.
    pub passing: Option<Passing>,
}

/// What never changes while a daemon runs.
#[derive(Debug)]
pub struct Sites {
    pub(super) own: RegionId,
    hosts: HashMap<Box<str>, usize>,
    services: Vec<ServiceSpec>,
    peers: BTreeMap<RegionId, Arc<Pool>>,
    trust: Option<Arc<dyn Trust>>,
}

impl Sites {
    /// This region, its services, and where the proxies of other regions are (`host:port`).
    /// Without trust no other region is asked, and none is believed.
    #[must_use]
    pub fn new(
        own: RegionId,
        services: Vec<ServiceSpec>,
        peers: BTreeMap<RegionId, Arc<str>>,
        trust: Option<Arc<dyn Trust>>,
    ) -> Self {
        let hosts = services.iter().enumerate().flat_map(|(at, service)| {
            service.hosts.iter().map(move |host| (host.as_str().into(), at))
        });
        let hosts = hosts.collect();
        let peers = peers.into_iter().filter(|(id, _)| *id != own);
        let peers = peers.filter_map(|(id, at)| {
            let region = Some((id.clone(), trust.clone()?));
            Some((id, Pool::new(Destination { at, region })))
        });
        let peers = peers.collect();
        Self { own, hosts, services, peers, trust }
    }

    pub(super) fn trust(&self) -> Option<&Arc<dyn Trust>> {
        self.trust.as_ref()
    }

    /// The service of a host, its place.
    pub(super) fn service(&self, host: &str) -> Option<usize> {
        self.hosts.get(host).copied()
    }

    /// The place of a service.
    pub(super) fn place(&self, id: &ServiceId) -> Option<usize> {
        self.services.iter().position(|service| service.id == *id)
    }

    /// How connections to a service are passed on.
    pub(super) fn passing(&self, service: usize) -> Option<Passing> {
        self.services.get(service)?.passing
    }

    /// Services that have a port of their own.
    pub(super) fn ports(&self) -> impl Iterator<Item = (&ServiceId, u16)> {
        let services = self.services.iter();
        services.filter_map(|service| Some((&service.id, service.passing?.port)))
    }

    /// This region's servers of a service.
    pub(super) fn group(&self, service: usize) -> Option<&Arc<Group>> {
        self.services.get(service)?.group.as_ref()
    }

    pub(super) fn peer(&self, region: &RegionId) -> Option<&Arc<Pool>> {
        self.peers.get(region)
    }

    /// Closes connections to other regions that nobody has used for long.
    pub(super) fn tidy(&self) {
        self.peers.values().for_each(|pool| pool.tidy());
    }
}

/// Everything that a request is decided by.
#[derive(Debug)]
pub struct View {
    pub(super) sites: Arc<Sites>,
    steered: Option<Steered>,
}

#[derive(Debug)]
struct Steered {
    by: Steering,
    own: Option<RegionIx>,
    /// Regions that are up and have a proxy, whatever servers they have.
    relays: Standing,
    /// By service: its number in the table, and the regions that are up and have it.
    services: Vec<(Option<u16>, Standing)>,
}

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) service: usize,
    pub(super) client: std::net::IpAddr,
    /// Any number that differs from the next request's.
    pub(super) request: u64,
}

impl View {
    /// Before there is a table only this region's servers have requests.
    #[must_use]
    pub fn new(sites: Arc<Sites>, steering: Option<Steering>) -> Self {
        let steered = steering.map(|by| Steered::new(&sites, by));
        Self { sites, steered }
    }

    /// Where a request goes; nothing while there is no table.
    pub(super) fn decide(&self, asked: Question) -> Option<(Decision, &Table)> {
        let steered = self.steered.as_ref()?;
        let (number, mut standing) = *steered.services.get(asked.service)?;
        let has_servers =
            self.sites.group(asked.service).is_some_and(|g| g.usable() != 0);
        if let (Some(own), false) = (steered.own, has_servers) {
            standing = standing.without(own);
        }
        let (cell, _) = steered.by.clients.find(asked.client);
        let key = Key {
            cell,
            service: number?,
            client: dwcp_router::client_number(asked.client),
            request: asked.request,
            ..Key::default()
        };
        let table = &*steered.by.table;
        Some((decide_by(table, standing, steered.relays, &key), table))
    }
}

impl Steered {
    fn new(sites: &Sites, by: Steering) -> Self {
        let regions = &by.table.inputs().sites;
        let services = sites.services.iter().map(|service| {
            let mut standing = by.standing;
            for region in regions.iter().map(|site| &site.id) {
                let there = *region == sites.own || sites.peers.contains_key(region);
                if let (false, Some(ix)) = (
                    there && service.regions.contains(region),
                    by.table.region_ix(region),
                ) {
                    standing = standing.without(ix);
                }
            }
            (by.table.service(&service.id), standing)
        });
        let services = services.collect();
        let mut relays = by.standing;
        for region in regions.iter().map(|site| &site.id) {
            if let (false, Some(ix)) =
                (sites.peers.contains_key(region), by.table.region_ix(region))
            {
                relays = relays.without(ix);
            }
        }
        Self { own: by.table.region_ix(&sites.own), relays, services, by }
    }
}
