//! What the block `routing` says, as values that are known to be right.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use dwcp_edge::dns::{Name, NameServer};
use dwcp_router::{Algorithm, Protocols, Service, Spot, Weights};
use dwcp_types::{Mbps, RegionId, ServiceId, UserZoneId};
use serde::Serialize;

use super::anycast::AnycastConfig;
use super::prefix::Prefix;
use super::proxy::{ProxyConfig, Reach};

/// The service of a federation that names none.
const USUAL_SERVICE: &str = "default";

/// How requests find their region (O37, DETAILS 2.3).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoutingConfig {
    /// How regions are ranked where a service does not say (O4).
    pub algorithm: Algorithm,
    /// Weights of one's own instead of the algorithm's.
    pub weights: Option<Weights>,
    /// Where round trips between regions come from.
    pub round_trips: RoundTrips,
    /// How often tables are made.
    pub table_interval: Duration,
    /// Where regions answer requests; regions that are not here have the defaults.
    pub fronts: Vec<FrontSpec>,
    /// What is asked for, at least one.
    pub services: Vec<ServiceSpec>,
    /// Where clients are, by their networks.
    pub clients: Vec<ClientSpec>,
    /// A file that says where the others are (mmdb).
    pub places: Option<PathBuf>,
    /// The zone that name servers answer for; none: there is no name server.
    pub dns: Option<DnsConfig>,
    /// How proxies behave.
    pub proxy: ProxyConfig,
    /// Which addresses regions share.
    pub anycast: AnycastConfig,
}

/// Where round trips between regions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundTrips {
    /// From the lines of replicated state, which measure all the time; what was not measured
    /// lately is as stated.
    Measured,
    /// From `network_latency`: for a federation whose regions are all on one machine, where what
    /// is measured says nothing.
    Stated,
}

/// The zone in which clients look for services (R8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DnsConfig {
    /// Its name; names of services are beneath it.
    pub zone: Name,
    /// Who answers for it, as a name.
    pub contact: Name,
    /// Its name servers, as the zone above names them.
    pub name_servers: Vec<NameServer>,
    /// How many regions an answer names.
    pub answers: usize,
    /// Most answers a second to a network by UDP; none: no limit.
    pub answers_per_second: Option<u32>,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        let mut config = Self {
            algorithm: Algorithm::Hybrid,
            weights: None,
            round_trips: RoundTrips::Measured,
            // F89: whatever is known of a region is a second old.
            table_interval: Duration::from_secs(1),
            fronts: Vec::new(),
            services: Vec::new(),
            clients: Vec::new(),
            places: None,
            dns: None,
            proxy: ProxyConfig::default(),
            anycast: AnycastConfig::default(),
        };
        config.services = vec![config.usual_service()];
        config
    }
}

impl RoutingConfig {
    /// The service of a federation that names none: everywhere, with the usual quality.
    #[must_use]
    pub fn usual_service(&self) -> ServiceSpec {
        let id = ServiceId::new(USUAL_SERVICE).expect("a constant that is an id");
        let mut service = Service::new(id, self.algorithm);
        service.weights = self.weights;
        ServiceSpec { service, follows: true, hosts: Vec::new(), reach: Reach::default() }
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceSpec {
    /// What it is.
    pub service: Service,
    /// Whether it is ranked as the federation is, also when that is changed while it runs.
    pub follows: bool,
    /// Its names in the zone.
    pub hosts: Vec<Name>,
    /// How proxies reach it.
    pub reach: Reach,
}

/// Where a region answers requests (DETAILS 2.3 `RegionEndpoint`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FrontSpec {
    /// The region.
    pub region: RegionId,
    /// Its IPv4 address.
    pub ip: IpAddr,
    /// Its IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// What it speaks.
    pub protocols: Protocols,
    /// Its bandwidth; that of its region's hosts when absent.
    pub capacity: Option<Mbps>,
    /// The share of its requests that it may have, in percent; 0 drains it.
    pub weight: u8,
    /// Whether clients reach it encrypted.
    pub encrypted: bool,
}

/// A network of clients.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClientSpec {
    /// The network; the longest that has an address counts.
    pub cidr: Prefix,
    /// Where they are.
    pub place: ClientPlace,
}

/// Where clients are.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientPlace {
    /// In a place that users come from, with the round trips that are stated there.
    UserZone(UserZoneId),
    /// At a region, with its round trips.
    Region(RegionId),
    /// Somewhere, with no round trips but what the distance says.
    Spot(Spot),
}
