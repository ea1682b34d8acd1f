//! What a test wants its federation to be: regions, hosts, capacities, as `federation.yaml`.
//!
//! Written as JSON, which is YAML. Places, prices and latencies are made up and equal unless a
//! test says otherwise, so that a test shows in its plan what its outcome depends on.

use std::net::SocketAddr;

use dwcp_types::{Capacity, Gib, Mbps, Mib};
use serde_json::{Map, Value, json};

use crate::wan::Links;

/// Round trip to every user zone and region, when a test does not care.
const LATENCY_MS: u64 = 10;

/// Of half a second each.
const PATIENT_MISSES: u32 = 20;
/// Where a region is, when a test does not care: Dublin.
const SPOT: (f64, f64) = (53.3, -6.2);

/// A host.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// The letter of its zone: `a` is zone `REGION-a`.
    pub zone: char,
    /// What it offers.
    pub capacity: Capacity,
}

impl HostPlan {
    /// A host in zone `a` with so many CPUs and slots, and 4 GiB of memory, 100 GiB of storage
    /// and 1 Gbit/s for each.
    #[must_use]
    pub const fn of_slots(slots: u64) -> Self {
        let capacity = Capacity {
            cpu: slots,
            memory: Mib::new(slots * 4_096),
            storage: Gib::new(slots * 100),
            bandwidth: Mbps::new(slots * 1_000),
            gpus: 0,
            vms: slots,
        };
        Self { zone: 'a', capacity }
    }

    /// The same in another zone.
    #[must_use]
    pub const fn in_zone(mut self, zone: char) -> Self {
        self.zone = zone;
        self
    }
}

/// A region.
#[derive(Clone, Debug)]
pub struct RegionPlan {
    pub(crate) id: String,
    pub(crate) hosts: Vec<HostPlan>,
    compliance: Vec<String>,
    country: String,
    continent: String,
    edge: bool,
    latency_ms: u64,
    cpu_price: f64,
    /// Degrees north and east.
    spot: (f64, f64),
}

impl RegionPlan {
    /// A cloud region in Ireland without a host.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            hosts: Vec::new(),
            compliance: Vec::new(),
            country: "IE".to_owned(),
            continent: "Europe".to_owned(),
            edge: false,
            latency_ms: LATENCY_MS,
            cpu_price: 0.04,
            spot: SPOT,
        }
    }

    /// One host more.
    #[must_use]
    pub fn host(mut self, host: HostPlan) -> Self {
        self.hosts.push(host);
        self
    }

    /// Under this law.
    #[must_use]
    pub fn under(mut self, law: &str) -> Self {
        self.compliance.push(law.to_owned());
        self
    }

    /// In this country and continent.
    #[must_use]
    pub fn country(mut self, country: &str, continent: &str) -> Self {
        (self.country, self.continent) = (country.to_owned(), continent.to_owned());
        self
    }

    /// There, in degrees north and east.
    #[must_use]
    pub const fn at(mut self, latitude: f64, longitude: f64) -> Self {
        self.spot = (latitude, longitude);
        self
    }

    /// With this round trip to all users.
    #[must_use]
    pub const fn latency_ms(mut self, latency_ms: u64) -> Self {
        self.latency_ms = latency_ms;
        self
    }

    /// What a CPU costs an hour, in US dollars.
    #[must_use]
    pub const fn cpu_price(mut self, usd: f64) -> Self {
        self.cpu_price = usd;
        self
    }

    pub(crate) fn host_id(&self, index: usize) -> String {
        format!("{}-h{}", self.id, index + 1)
    }

    pub(crate) fn zone_id(&self, host: &HostPlan) -> String {
        format!("{}-{}", self.id, host.zone)
    }

    fn zones(&self) -> Vec<String> {
        let mut zones: Vec<_> =
            self.hosts.iter().map(|host| self.zone_id(host)).collect();
        zones.sort();
        zones.dedup();
        zones
    }

    fn total(&self) -> Capacity {
        let capacities = self.hosts.iter().map(|host| &host.capacity);
        capacities.fold(Capacity::default(), |sum, part| sum.plus(part))
    }
}

/// A whole federation. The first region's daemon hosts the strong engine.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) regions: Vec<RegionPlan>,
    pub(crate) driver: &'static str,
    pub(crate) image: std::path::PathBuf,
    preemption: bool,
    n_minus_1: &'static str,
    /// Regions with a member of etcd; none: the embedded engine.
    pub(crate) voters: Vec<String>,
    /// The round trips that it states; none: equal ones.
    links: Option<Links>,
    /// How long leases last; none: as long as by default.
    lease_s: Option<u64>,
    /// How many heartbeats are missed until a region is silent; none: as many as by default.
    misses: Option<u32>,
    /// Two persons must agree to a failover; for so many seconds a request waits.
    approval_s: Option<u64>,
    /// Who is told of incidents, and where the secret of both is.
    receiver: Option<(String, std::path::PathBuf)>,
    /// An Alertmanager that is told of them.
    alertmanager: Option<String>,
    looked_at_every_s: Option<u64>,
    mail: Option<Value>,
    /// What is promised of regions, looked at each second.
    slas: Vec<Value>,
    /// What runs in place of QEMU.
    pub(crate) qemu: Option<std::path::PathBuf>,
    /// Mebibytes of the small disk that every daemon and agent has; none: the machine's.
    pub(crate) disk_mib: Option<u32>,
    /// Daemons and agents have wall clocks of their own.
    pub(crate) own_clocks: bool,
    /// The block `routing`.
    routing: Option<Value>,
    /// What faces clients in every region: `dns`, `proxy`.
    planes: Vec<&'static str>,
    /// Proxies have an address of their own in each region, so that they may have the same ports.
    proxies_apart: bool,
}

impl Plan {
    /// On the simulated driver.
    #[must_use]
    pub fn simulated(regions: Vec<RegionPlan>) -> Self {
        let image = "/nonexistent".into();
        Self::on(regions, "simulated", image)
    }

    /// With real guests from this image folder.
    #[must_use]
    pub fn qemu(regions: Vec<RegionPlan>, image: std::path::PathBuf) -> Self {
        Self::on(regions, "qemu", image)
    }

    const fn on(
        regions: Vec<RegionPlan>,
        driver: &'static str,
        image: std::path::PathBuf,
    ) -> Self {
        let voters = Vec::new();
        Self {
            regions,
            driver,
            image,
            preemption: false,
            n_minus_1: "warn",
            voters,
            links: None,
            lease_s: None,
            misses: None,
            approval_s: None,
            receiver: None,
            alertmanager: None,
            looked_at_every_s: None,
            mail: None,
            slas: Vec::new(),
            qemu: None,
            disk_mib: None,
            own_clocks: false,
            routing: None,
            planes: Vec::new(),
            proxies_apart: false,
        }
    }

    /// With guests that are processes and run nothing ([`crate::stand_in`]).
    ///
    /// # Panics
    ///
    /// When their program was not built.
    #[must_use]
    pub fn standing_in(regions: Vec<RegionPlan>) -> Self {
        let qemu = Some(crate::layout::program("dwcp-stand-in"));
        Self { qemu, ..Self::on(regions, "qemu", std::path::PathBuf::new()) }
    }

    /// Every daemon and agent has a disk of so many mebibytes to itself, which can be filled.
    /// Needs root.
    #[must_use]
    pub const fn on_small_disks(mut self, mib: u32) -> Self {
        self.disk_mib = Some(mib);
        self
    }

    /// Every daemon and agent has a wall clock to itself, which can be stepped. Needs
    /// libfaketime ([`crate::stepped`]).
    #[must_use]
    pub const fn with_own_clocks(mut self) -> Self {
        self.own_clocks = true;
        self
    }

    /// With pre-emption switched on.
    #[must_use]
    pub const fn preempting(mut self) -> Self {
        self.preemption = true;
        self
    }

    /// Refusing what would break N-1.
    #[must_use]
    pub const fn keeping_n_minus_1(mut self) -> Self {
        self.n_minus_1 = "refuse";
        self
    }

    /// With a name server in each region, at the socket `REGION/dns`, and this block `routing`.
    #[must_use]
    pub fn answering_names(mut self, routing: Value) -> Self {
        self.routing = Some(routing);
        self.planes.push("dns");
        self
    }

    /// With a proxy in each region, at the socket `REGION/proxy`, and this block `routing`.
    #[must_use]
    pub fn taking_requests(mut self, routing: Value) -> Self {
        self.routing = Some(routing);
        self.planes.push("proxy");
        self
    }

    /// The same, at an address of its own in each region: services have ports there.
    #[must_use]
    pub fn taking_connections(mut self, routing: Value) -> Self {
        self.proxies_apart = true;
        self.taking_requests(routing)
    }

    /// Which region has its proxy at an address of its own, counted from the first.
    pub(crate) fn proxy_apart(&self, socket: &str) -> Option<usize> {
        let regions = self.regions.iter();
        let mut names = regions.map(|region| plane_name(&region.id, "proxy"));
        names.position(|name| name == socket).filter(|_| self.proxies_apart)
    }

    /// On etcd, with a member in each region; the leader belongs in the first.
    #[must_use]
    pub fn on_etcd(mut self) -> Self {
        self.voters = self.regions.iter().map(|region| region.id.clone()).collect();
        self
    }

    /// Stating the round trips of these links.
    #[must_use]
    pub fn behind(mut self, links: &Links) -> Self {
        self.links = Some(links.clone());
        self
    }

    /// The names of a region's hosts.
    pub(crate) fn hosts_of(&self, region: &str) -> impl Iterator<Item = String> {
        let found = self.regions.iter().find(|other| other.id == region);
        let found = found.expect("a region of the plan");
        (0..found.hosts.len()).map(|index| found.host_id(index))
    }

    /// Telling a receiver of incidents, signed with the secret in a file.
    #[must_use]
    pub fn telling(mut self, url: &str, secret_file: &std::path::Path) -> Self {
        self.receiver = Some((url.to_owned(), secret_file.to_owned()));
        self
    }

    /// How often health and service levels are looked at.
    #[must_use]
    pub const fn looked_at_every(mut self, seconds: u64) -> Self {
        self.looked_at_every_s = Some(seconds);
        self
    }

    /// Telling an Alertmanager of incidents.
    #[must_use]
    pub fn alerting(mut self, alertmanager: &crate::Alertmanager) -> Self {
        self.alertmanager = Some(format!("{}/api/v2/alerts", alertmanager.url()));
        self
    }

    /// Tells whoever answers there as if it were an Alertmanager.
    #[must_use]
    pub fn alerting_at(mut self, url: &str) -> Self {
        self.alertmanager = Some(url.to_owned());
        self
    }

    /// Telling these addresses by mail, through a mailbox.
    #[must_use]
    pub fn mailing(mut self, mailbox: &crate::Mailbox, to: &[&str]) -> Self {
        self.mail = Some(json!({
            "server": mailbox.server(), "tls": "none", "from": "dwcp@example.com", "to": to,
        }));
        self
    }

    /// Promising these `sla_definitions`, with a look at them each second.
    #[must_use]
    pub fn promising(mut self, slas: Vec<Value>) -> Self {
        self.slas = slas;
        self
    }

    /// With leases of so many seconds, for a machine that is late.
    #[must_use]
    pub const fn leased_for(mut self, seconds: u64) -> Self {
        self.lease_s = Some(seconds);
        self
    }

    /// A region may be still for ten seconds before it is taken for silent: for a machine that
    /// stalls, and a test in which being silent for less means nothing.
    #[must_use]
    pub const fn patient(mut self) -> Self {
        self.misses = Some(PATIENT_MISSES);
        self
    }

    /// An operator's failover waits for a second one, for so many seconds.
    #[must_use]
    pub const fn agreed_by_two_within(mut self, seconds: u64) -> Self {
        self.approval_s = Some(seconds);
        self
    }

    /// What all hosts of a region offer.
    pub(crate) fn total(&self, region: &str) -> Capacity {
        let region = self.regions.iter().find(|other| other.id == region);
        region.map(RegionPlan::total).unwrap_or_default()
    }

    /// The names of all sockets, each with its region before it: two a daemon, for its doors
    /// and its replica, one a plane that faces clients, one an agent, two a member of etcd.
    pub(crate) fn sockets(&self) -> Vec<(String, String)> {
        let regions = self.regions.iter().flat_map(|region| {
            let hosts = (0..region.hosts.len()).map(|index| region.host_id(index));
            let daemon = [region.id.clone(), replica_name(&region.id)];
            let planes = self.planes.iter().map(|plane| plane_name(&region.id, plane));
            daemon
                .into_iter()
                .chain(planes)
                .chain(hosts)
                .map(|name| (region.id.clone(), name))
        });
        let voters = self.voters.iter().flat_map(|voter| {
            [client_door(voter), peer_door(voter)].map(|door| (voter.clone(), door))
        });
        regions.chain(voters).collect()
    }

    /// `federation.yaml`; `socket` gives the address of a daemon or agent by its name.
    pub(crate) fn federation(&self, socket: &dyn Fn(&str) -> SocketAddr) -> Value {
        let regions: Vec<_> =
            self.regions.iter().map(|region| self.region(region, socket)).collect();
        let latency: Map<_, _> = self
            .regions
            .iter()
            .map(|region| (region.id.clone(), region.latency_ms.into()))
            .collect();
        let mut federation = json!({
            "version": 1,
            "regions": regions,
            "user_zones": [{
                "id": "home",
                "location": location(SPOT, "IE", "Europe"),
                "latency": latency,
            }],
            "controller": {
                "strategy": "hybrid",
                "preemption_enabled": self.preemption,
                "n_minus_1": self.n_minus_1,
            },
            "failover": self.failover(),
            "monitoring": self.monitoring(),
            "engine": self.engine(socket),
        });
        let mut routing = self.routing.clone().unwrap_or_else(|| json!({}));
        if self.links.is_none() {
            // All on this machine: what is measured there says nothing of the regions.
            routing["round_trips"] = "stated".into();
        }
        federation["routing"] = routing;
        federation
    }

    fn monitoring(&self) -> Value {
        let hook = |(url, secret_file): &(String, std::path::PathBuf)| json!({ "url": url, "secret_file": secret_file });
        let alerts = self.alertmanager.iter();
        let alerts = alerts
            .map(|url| json!({ "url": url, "format": "alertmanager", "repeat": "10s" }));
        let hooks: Vec<_> = self.receiver.iter().map(hook).chain(alerts).collect();
        let mut monitoring = json!({ "webhooks": hooks });
        if let Some(mail) = &self.mail {
            monitoring["mail"] = mail.clone();
        }
        if !self.slas.is_empty() {
            monitoring["sla_definitions"] = Value::Array(self.slas.clone());
            monitoring["interval"] = json!("1s");
        }
        if let Some(seconds) = self.looked_at_every_s {
            monitoring["interval"] = json!(format!("{seconds}s"));
        }
        monitoring
    }

    fn failover(&self) -> Value {
        let mut failover = Map::new();
        if let Some(seconds) = self.lease_s {
            failover.insert("lease_ttl".to_owned(), format!("{seconds}s").into());
        }
        if let Some(misses) = self.misses {
            failover.insert("heartbeat_misses".to_owned(), misses.into());
        }
        if !failover.is_empty() {
            let longest = format!("{}s", self.lease_s.unwrap_or_default() + 60);
            failover.insert("max_failover_time".to_owned(), longest.into());
        }
        if let Some(seconds) = self.approval_s {
            failover.insert("two_persons".to_owned(), true.into());
            failover.insert("approval_time".to_owned(), format!("{seconds}s").into());
        }
        failover.into()
    }

    fn engine(&self, socket: &dyn Fn(&str) -> SocketAddr) -> Value {
        if self.voters.is_empty() {
            return json!({ "kind": "embedded", "host": self.regions[0].id });
        }
        let voters = self.voters.iter().map(|voter| {
            json!({
                "region": voter,
                "client": socket(&client_door(voter)).to_string(),
                "peer": socket(&peer_door(voter)).to_string(),
            })
        });
        json!({ "kind": "etcd", "voters": voters.collect::<Vec<_>>() })
    }

    fn rtt_ms(&self, one: &RegionPlan, other: &RegionPlan) -> u64 {
        self.links.as_ref().map_or(LATENCY_MS, |links| {
            u64::try_from(links.rtt(&one.id, &other.id).as_millis())
                .expect("some seconds")
        })
    }

    fn region(&self, region: &RegionPlan, socket: &dyn Fn(&str) -> SocketAddr) -> Value {
        let others = self.regions.iter().filter(|other| other.id != region.id);
        let latency: Map<_, _> = others
            .map(|other| (other.id.clone(), self.rtt_ms(region, other).into()))
            .collect();
        let hosts = region.hosts.iter().enumerate().map(|(index, host)| {
            let id = region.host_id(index);
            json!({
                "id": id,
                "zone": region.zone_id(host),
                "agent": socket(&id).to_string(),
                "capacity": totals(&host.capacity),
            })
        });
        let mut described = json!({
            "id": region.id,
            "name": region.id,
            "location": location(region.spot, &region.country, &region.continent),
            "type": if region.edge { "edge" } else { "cloud" },
            "cloud_provider": "test",
            "provider_region": region.id,
            "availability_zones": region.zones(),
            "compliance_zones": region.compliance,
            "capacity": totals(&region.total()),
            "overcommit": { "cpu": 1 },
            "network_latency": latency,
            "cost_profile": {
                "cpu_cost_per_hour": region.cpu_price,
                "memory_cost_per_hour": 0.005,
                "storage_cost_per_gb": 0.1,
                "network_cost_per_gb": 0.1,
                "currency": "USD",
            },
            "priority": 50,
            "enabled": true,
            "endpoint": socket(&region.id).to_string(),
            "state_endpoint": socket(&replica_name(&region.id)).to_string(),
            "hosts": hosts.collect::<Vec<_>>(),
        });
        for plane in &self.planes {
            let at = socket(&plane_name(&region.id, plane));
            described[format!("{plane}_endpoint")] = at.to_string().into();
        }
        described
    }
}

/// The name of a region's plane among sockets.
fn plane_name(region: &str, plane: &str) -> String {
    format!("{region}/{plane}")
}

/// The name of a region's replica among sockets.
pub(crate) fn replica_name(region: &str) -> String {
    format!("{region}/state")
}

/// The name of a member of etcd, as a process.
pub(crate) fn member(region: &str) -> String {
    format!("etcd-{region}")
}

pub(crate) fn client_door(region: &str) -> String {
    format!("etcd-{region}-client")
}

pub(crate) fn peer_door(region: &str) -> String {
    format!("etcd-{region}-peer")
}

fn location((latitude, longitude): (f64, f64), country: &str, continent: &str) -> Value {
    json!({
        "latitude": latitude,
        "longitude": longitude,
        "country": country,
        "continent": continent,
    })
}

fn totals(capacity: &Capacity) -> Value {
    json!({
        "total_cpu": capacity.cpu,
        "total_memory": capacity.memory.get(),
        "total_storage": capacity.storage.get(),
        "total_bandwidth": capacity.bandwidth.get(),
        "total_vms": capacity.vms,
    })
}
