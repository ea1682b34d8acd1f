//! A large fleet under a real load: hosts and arrivals from the traces, regions drawn by a
//! seed.
//!
//! The fleet is filled by deciding, so that it looks as our own decisions would leave it, to a
//! set share of its CPUs, and is held there: before each decision VMs whose lifetimes end
//! soonest are released until it is back at that share.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use dwcp_controller::placement::{Choice, Fleet, Policy, decide, need};
use dwcp_types::{
    Affinity, AffinityMode, Capacity, ComplianceZone, Constraints, CostProfile, Epoch,
    FleetView, Gib, GroupId, Hardness, Health, HealthState, HostId, HostView, Location,
    Mbps, Mib, MicroUsd, Micros, Origin, Overcommit, PlacedVm, PlacementRequest, Region,
    RegionId, RegionKind, RegionView, Scope, TenantId, Tier, Timestamp, UserZoneId,
    UserZoneView, VmId, VmShape, VmType, ZoneId,
};

use super::super::Options;
use super::random::Random;

/// Where the traces are when no file is named.
const ARRIVALS: &str = "../shared/data/workload/arrivals.csv";
const NODES: &str = "../shared/data/workload/nodes.csv";
/// The share of CPUs that is kept in use, in percent: what large fleets are run at.
const CPU_USE_PERCENT: u64 = 70;
/// Zones of a region.
const ZONES: usize = 3;
/// Metros that users come from.
const METROS: u64 = 13;
/// Tenants.
const TENANTS: u64 = 500;
/// The trace has no disks; 25 GiB for each CPU.
const STORAGE_GIB_PER_CPU: u64 = 25;

struct Arrival {
    cpu: u32,
    memory: Mib,
    lifetime_s: u64,
}

/// A VM that will end: when, and what it holds where.
type Ending = Reverse<(u64, VmId, RegionId, HostId, VmShape)>;

/// A fleet under load.
pub(super) struct Load {
    pub(super) fleet: Fleet,
    /// Where hosts and arrivals come from, for the method line.
    pub(super) source: String,
    /// CPUs, MiB and GiB of each kind of host.
    pub(super) nodes: Vec<[u64; 3]>,
    arrivals: Vec<Arrival>,
    random: Random,
    next: usize,
    cpus: u64,
    used: u64,
    endings: BinaryHeap<Ending>,
}

fn text(named: Option<&PathBuf>, default: &str) -> anyhow::Result<String> {
    let path = named.map_or_else(|| Path::new(default), PathBuf::as_path);
    fs::read_to_string(path).with_context(|| {
        format!("cannot read {}; name another file of the same columns", path.display())
    })
}

/// The columns of each line below the header, as texts.
fn rows(text: &str, columns: [&str; 3]) -> anyhow::Result<Vec<[String; 3]>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let mut at = [0; 3];
    for (at, column) in at.iter_mut().zip(columns) {
        let found = header.iter().position(|name| *name == column);
        *at = found.with_context(|| format!("the header has no column {column}"))?;
    }
    let rows = lines.map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        at.map(|at| cells.get(at).copied().unwrap_or_default().to_owned())
    });
    Ok(rows.collect())
}

fn read_arrivals(text: &str) -> anyhow::Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    for [cpu, gib, lifetime] in rows(text, ["vcpus", "memory_gib", "lifetime_s"])? {
        arrivals.push(Arrival {
            cpu: cpu.parse().with_context(|| format!("vcpus {cpu:?}"))?,
            memory: Mib::new(mib(&gib).with_context(|| format!("memory_gib {gib:?}"))?),
            lifetime_s: lifetime
                .parse()
                .with_context(|| format!("lifetime_s {lifetime:?}"))?,
        });
    }
    ensure!(!arrivals.is_empty(), "there are no arrivals");
    Ok(arrivals)
}

/// GiB with up to two decimals as MiB.
fn mib(gib: &str) -> Option<u64> {
    let (whole, part) = gib.split_once('.').unwrap_or((gib, "0"));
    let hundredths: u64 = format!("{part:0<2}").get(..2)?.parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1024 + hundredths * 1024 / 100)
}

fn read_nodes(text: &str) -> anyhow::Result<Vec<[u64; 3]>> {
    let mut nodes = Vec::new();
    for [milli, memory, _] in rows(text, ["cpu_milli", "memory_mib", "gpu"])? {
        let cpu: u64 = milli.parse().with_context(|| format!("cpu_milli {milli:?}"))?;
        let memory = memory.parse().with_context(|| format!("memory_mib {memory:?}"))?;
        nodes.push([cpu / 1000, memory, 2 * STORAGE_GIB_PER_CPU * cpu / 1000]);
    }
    ensure!(!nodes.is_empty(), "there are no nodes");
    Ok(nodes)
}

impl Load {
    /// An empty fleet of so many regions of so many hosts.
    pub(super) fn new(
        options: &Options,
        regions: usize,
        hosts: usize,
    ) -> anyhow::Result<Self> {
        let arrivals = read_arrivals(&text(options.arrivals.as_ref(), ARRIVALS)?)?;
        let nodes = read_nodes(&text(options.nodes.as_ref(), NODES)?)?;
        let mut random = Random::new(1);
        let view = view(&mut random, (regions, hosts), &nodes)?;
        let all = view.regions.iter().flat_map(|region| &region.hosts);
        let cpus = all.map(|host| host.total.cpu).sum();
        Ok(Self {
            fleet: Fleet::new(&view),
            source: format!("{} arrivals, {} kinds of host", arrivals.len(), nodes.len()),
            nodes,
            arrivals,
            random,
            next: 0,
            cpus,
            used: 0,
            endings: BinaryHeap::new(),
        })
    }

    /// CPUs, MiB and GiB of the first arrivals.
    pub(super) fn shapes(&self, count: usize) -> Vec<[u64; 3]> {
        let first = self.arrivals.iter().take(count);
        let shapes = first.map(|arrival| {
            let cpu = u64::from(arrival.cpu);
            [cpu, arrival.memory.get(), cpu * STORAGE_GIB_PER_CPU]
        });
        shapes.collect()
    }

    pub(super) const fn cpu_use_percent(&self) -> u64 {
        self.used * 100 / self.cpus
    }

    /// Places arrivals until the fleet is loaded.
    pub(super) fn fill(&mut self) -> anyhow::Result<()> {
        while self.used * 100 < self.cpus * CPU_USE_PERCENT {
            let (request, lifetime) = self.next_request();
            let decision = decide(&self.fleet, &request, &Policy::default());
            let Some(chosen) = decision.chosen else { continue };
            let taken = self.fleet.take(&chosen.region, &chosen.host, &need(&request));
            ensure!(taken, "{} was placed where there is no room", request.id);
            self.placed(&request, &chosen, lifetime);
        }
        Ok(())
    }

    /// Notes a VM that was placed, and when it will end.
    pub(super) fn placed(
        &mut self,
        request: &PlacementRequest,
        at: &Choice,
        lifetime: u64,
    ) {
        self.used += u64::from(request.shape.cpu);
        let end = self.next as u64 + lifetime;
        let (region, host) = (at.region.clone(), at.host.clone());
        self.endings.push(Reverse((
            end,
            request.id.clone(),
            region,
            host,
            request.shape,
        )));
        if request.constraints.affinity.is_empty() {
            return;
        }
        let groups = request.constraints.affinity.iter().map(|rule| rule.group.clone());
        self.fleet.insert_vm(Arc::new(PlacedVm {
            id: request.id.clone(),
            tenant: request.tenant.clone(),
            region: at.region.clone(),
            zone: at.zone.clone(),
            host: at.host.clone(),
            epoch: Epoch::FIRST,
            shape: request.shape,
            priority: request.priority,
            tier: request.tier,
            groups: groups.collect(),
        }));
    }

    /// Ends the VMs that end soonest until the load is back at its share.
    pub(super) fn release_to_target(&mut self) {
        while self.used * 100 > self.cpus * CPU_USE_PERCENT {
            let Some(Reverse((_, id, region, host, shape))) = self.endings.pop() else {
                return;
            };
            self.used -= u64::from(shape.cpu);
            self.fleet.give(&region, &host, &Capacity::of(&shape));
            self.fleet.remove_vm(&id);
        }
    }

    /// The next arrival as a request, and how long it lives. The trace says how big; who asks
    /// and within which limits is drawn: half have no limit, a quarter a latency, an eighth a
    /// cost limit and health, a sixteenth each residency with GDPR, and a rule to be apart.
    pub(super) fn next_request(&mut self) -> (PlacementRequest, u64) {
        let arrival = &self.arrivals[self.next % self.arrivals.len()];
        self.next += 1;
        let shape = VmShape {
            cpu: arrival.cpu,
            memory: arrival.memory,
            storage: Gib::new(u64::from(arrival.cpu) * STORAGE_GIB_PER_CPU),
            ..VmShape::default()
        };
        let lifetime = arrival.lifetime_s;
        let random = &mut self.random;
        let mut constraints = Constraints::default();
        match random.below(16) {
            0..=3 => constraints.max_latency_ms = Some(100),
            4 | 5 => {
                let limit = u64::from(shape.cpu) * 120_000;
                constraints.cost_limit = Some(MicroUsd::new(limit));
                constraints.min_health_score = Some(85);
            }
            6 => {
                constraints.data_locality = Some("EU".to_owned());
                constraints.required_compliance = [ComplianceZone::new("GDPR")].into();
            }
            7 => constraints.affinity = vec![apart(random)],
            _ => {}
        }
        let request = PlacementRequest {
            id: id(VmId::new, "vm", self.next as u64),
            tenant: id(TenantId::new, "tenant", random.below(TENANTS)),
            shape,
            vm_type: VmType::Compute,
            constraints,
            origins: vec![Origin {
                user_zone: id(UserZoneId::new, "metro", random.below(METROS)),
                weight: 1,
            }],
            strategy: None,
            priority: 5,
            tier: Tier::Standard,
            on_region_loss: dwcp_types::OnRegionLoss::StayDown,
            replica_max_age_s: None,
            labels: BTreeMap::new(),
        };
        (request, lifetime)
    }
}

fn apart(random: &mut Random) -> Affinity {
    Affinity {
        group: id(GroupId::new, "group", random.below(20)),
        mode: AffinityMode::Apart,
        scope: Scope::Host,
        hardness: Hardness::Required,
    }
}

/// An identifier that is made of a word and a number, which are always allowed.
fn id<T, E: std::fmt::Debug>(
    make: impl Fn(&str) -> Result<T, E>,
    word: &str,
    number: u64,
) -> T {
    make(&format!("{word}-{number:07}")).expect("a word, a dash and digits")
}

const COUNTRIES: [(&str, &str); 8] = [
    ("US", "North America"),
    ("CA", "North America"),
    ("DE", "Europe"),
    ("IE", "Europe"),
    ("GB", "Europe"),
    ("IN", "Asia"),
    ("JP", "Asia"),
    ("BR", "South America"),
];

/// So many regions of so many hosts, on a square of 200 ms across, with the metros.
fn view(
    random: &mut Random,
    (regions, hosts): (usize, usize),
    nodes: &[[u64; 3]],
) -> anyhow::Result<FleetView> {
    let point = |random: &mut Random| (random.below(200_000), random.below(200_000));
    let metros: Vec<_> = (0..METROS).map(|_| point(random)).collect();
    let mut zones: Vec<_> = (0..METROS)
        .map(|at| UserZoneView {
            id: id(UserZoneId::new, "metro", at),
            latency: BTreeMap::new(),
        })
        .collect();
    let mut views = Vec::with_capacity(regions);
    for at in 0..regions {
        let here = point(random);
        let region = region(random, at as u64);
        for (zone, metro) in zones.iter_mut().zip(&metros) {
            let apart = here.0.abs_diff(metro.0).max(here.1.abs_diff(metro.1));
            let micros = u32::try_from(1_000 + apart).context("a latency")?;
            zone.latency.insert(region.id.clone(), Micros::new(micros));
        }
        let hosts = (0..hosts).map(|host| {
            host_view(&region, host, &nodes[(at * hosts + host) % nodes.len()])
        });
        let score = u8::try_from(80 + random.below(21)).context("a score")?;
        views.push(RegionView {
            hosts: hosts.collect(),
            region: Arc::new(region),
            health: Health { state: HealthState::Healthy, score },
            observed_at: Timestamp::default(),
        });
    }
    let taken_at = Timestamp::default();
    Ok(FleetView {
        generation: 1,
        taken_at,
        regions: views,
        user_zones: zones,
        vms: vec![],
    })
}

fn region(random: &mut Random, at: u64) -> Region {
    let country = usize::try_from(random.below(COUNTRIES.len() as u64)).unwrap_or(0);
    let (country, continent) = COUNTRIES[country];
    let mut price = |around: u64| MicroUsd::new(around / 2 + random.below(around));
    Region {
        id: id(RegionId::new, "region", at),
        name: String::new(),
        location: Location {
            latitude: 0.0,
            longitude: 0.0,
            country: country.to_owned(),
            continent: continent.to_owned(),
        },
        kind: RegionKind::Cloud,
        cloud_provider: "aws".to_owned(),
        availability_zones: (0..ZONES)
            .map(|zone| id(ZoneId::new, "zone", zone as u64))
            .collect(),
        compliance_zones: vec![ComplianceZone::new("GDPR")],
        overcommit: Overcommit::default(),
        cost: CostProfile {
            cpu_hour: price(50_000),
            memory_gib_hour: price(10_000),
            storage_gib_month: price(100_000),
            egress_gb: price(50_000),
        },
        network_latency: BTreeMap::new(),
        priority: u8::try_from(random.below(100) + 1).unwrap_or(1),
        enabled: true,
    }
}

fn host_view(region: &Region, at: usize, node: &[u64; 3]) -> HostView {
    let [cpu, memory, storage] = *node;
    let total = Capacity {
        cpu,
        memory: Mib::new(memory),
        storage: Gib::new(storage),
        bandwidth: Mbps::new(25_000),
        gpus: 0,
        vms: 1_000,
    };
    HostView {
        id: id(HostId::new, "host", at as u64),
        zone: region.availability_zones[at % ZONES].clone(),
        total,
        free: total,
        schedulable: true,
    }
}
