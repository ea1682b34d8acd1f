//! Everything that a request is decided by: what never changes while a daemon runs, and the
//! table with what belongs to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use dwcp_router::session::{TAG_LEN, Token};
use dwcp_router::{Decision, Key, Refusal, RegionIx, Standing, Table, decide_by};
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
    /// How long a client that is not heard of keeps its region and server; nothing when it does not.
    pub session: Option<Duration>,
}

/// Signs where sessions are, with a key that all regions have, and says when it is.
pub trait Seal: std::fmt::Debug + Send + Sync {
    /// The signature of a text; nothing while there is no key.
    fn sign(&self, text: &[u8]) -> Option<[u8; TAG_LEN]>;
    /// Whether it is that, in a time that says nothing of what it should be.
    fn is_signed(&self, text: &[u8], tag: &[u8; TAG_LEN]) -> bool;
    /// Seconds since 1970.
    fn now_s(&self) -> u64;
}

/// What never changes while a daemon runs.
#[derive(Debug)]
pub struct Sites {
    pub(super) own: RegionId,
    hosts: HashMap<Box<str>, usize>,
    services: Vec<ServiceSpec>,
    peers: BTreeMap<RegionId, Arc<Pool>>,
    trust: Option<Arc<dyn Trust>>,
    seal: Option<Arc<dyn Seal>>,
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
        Self { own, hosts, services, peers, trust, seal: None }
    }

    /// With sessions that are written down, and not only kept by clients' addresses.
    #[must_use]
    pub fn sealed_by(mut self, seal: Arc<dyn Seal>) -> Self {
        self.seal = Some(seal);
        self
    }

    /// How long a service's sessions last; nothing when it has none.
    pub(super) fn session(&self, service: usize) -> Option<Duration> {
        self.services.get(service)?.session
    }

    /// A token of a service that is signed and stands.
    pub(super) fn read_token(&self, service: usize, text: &str) -> Option<Token> {
        let (spec, seal) = (self.services.get(service)?, self.seal.as_ref()?);
        let (token, tag) = Token::read(text)?;
        let stands = token.stands(seal.now_s(), spec.session?);
        let claim = token.claim(&spec.id);
        (stands && seal.is_signed(claim.as_bytes(), &tag)).then_some(token)
    }

    /// What a client is given that was answered there, unless what it has will do.
    pub(super) fn write_token(
        &self,
        service: usize,
        (region, server): (&RegionId, u32),
        has: Option<&Token>,
    ) -> Option<String> {
        let (spec, seal) = (self.services.get(service)?, self.seal.as_ref()?);
        let now_s = seal.now_s();
        let does = |token: &&Token| {
            token.region == *region && token.server == server && !token.is_old(now_s)
        };
        if has.filter(does).is_some() {
            return None;
        }
        let token = Token { region: region.clone(), server, at_s: now_s };
        let tag = seal.sign(token.claim(&spec.id).as_bytes())?;
        Some(token.write(&tag))
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
    pub(super) fn ports(&self) -> impl Iterator<Item = (&ServiceId, Passing)> {
        let services = self.services.iter();
        services.filter_map(|service| Some((&service.id, service.passing?)))
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
        self.decide_among(asked, Standing::ALL)
    }

    /// Whether a region may answer, if a client's session is there: it is up, keeps what must never
    /// be broken, and is neither ill nor being emptied.
    pub(super) fn may_answer(&self, asked: Question, region: &RegionId) -> bool {
        let Some(steered) = &self.steered else { return false };
        let Some(ix) = steered.by.table.region_ix(region) else { return false };
        let only = self.decide_among(asked, Standing::NONE.with(ix));
        only.is_some_and(|(decision, _)| {
            decision.region == Some(ix)
                && !decision.failed.has(Refusal::Health)
                && !decision.failed.has(Refusal::Draining)
        })
    }

    fn decide_among(
        &self,
        asked: Question,
        among: Standing,
    ) -> Option<(Decision, &Table)> {
        let steered = self.steered.as_ref()?;
        let (number, standing) = *steered.services.get(asked.service)?;
        let mut standing = standing.and(among);
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
