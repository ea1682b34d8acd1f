//! Fixed replies: three regions, one VM, and reasons that the real controller gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::host::InstanceReport;
use dwcp_api::measured::Together;
use dwcp_api::public::{
    ConsoleReply, EngineMember, EngineStatus, Event, EventList, FlavourFit, HostItem,
    NMinusOne, PlaceReply, RegionCapacityReply, RegionItem, RegionList, RegionStatus,
    StatusReply, VmDetail, VmItem, VmList,
};
use dwcp_controller::placement::{
    self, Explanation, Fleet, Policy, RegionLoss, Stranded,
};
use dwcp_types::{
    Bps, Capacity, ComplianceZone, Constraints, CostProfile, Epoch, FleetView,
    Generation, Gib, Health, HealthState, HostView, Location, Mbps, Mib, MicroUsd,
    Micros, Origin, Overcommit, PlacementRequest, Power, Region, RegionKind, RegionView,
    Strategy, Tier, Timestamp, UserZoneView, VmPhase, VmShape, VmType,
};

use crate::stage::now;

fn usd(micros: u64) -> MicroUsd {
    MicroUsd::new(micros)
}

fn capacity(cpu: u64, memory_gib: u64, storage: u64) -> Capacity {
    Capacity {
        cpu,
        memory: Mib::new(memory_gib * 1024),
        storage: Gib::new(storage),
        bandwidth: Mbps::new(10_000),
        gpus: 0,
        vms: 64,
    }
}

fn region_of(id: &str, kind: RegionKind, laws: &[&str], country: &str) -> Region {
    Region {
        id: id.parse().unwrap(),
        name: format!("Region {id}"),
        location: Location {
            latitude: 38.9072,
            longitude: -77.0369,
            country: country.to_owned(),
            continent: if country == "US" { "North America" } else { "Europe" }
                .to_owned(),
        },
        kind,
        cloud_provider: "aws".to_owned(),
        availability_zones: vec![
            format!("{id}a").parse().unwrap(),
            format!("{id}b").parse().unwrap(),
        ],
        compliance_zones: laws.iter().map(|law| ComplianceZone::new(law)).collect(),
        overcommit: Overcommit { cpu: 1 },
        cost: CostProfile {
            cpu_hour: usd(50_000),
            memory_gib_hour: usd(10_000),
            storage_gib_month: usd(100_000),
            egress_gb: usd(50_000),
        },
        network_latency: BTreeMap::new(),
        priority: 90,
        enabled: true,
    }
}

fn all() -> Vec<Region> {
    let mut dear = region_of("eu-west-1", RegionKind::Cloud, &["GDPR"], "IE");
    dear.cost.cpu_hour = usd(150_000);
    vec![
        region_of("edge-lon-1", RegionKind::Edge, &["GDPR"], "GB"),
        dear,
        region_of("us-east-1", RegionKind::Cloud, &["HIPAA", "SOC2"], "US"),
    ]
}

pub(crate) fn healthy(score: u8) -> Health {
    Health { state: HealthState::Healthy, score }
}

/// The fleet that explanations are made on.
fn fleet() -> Fleet {
    let host = |id: &str, zone: &str, free: Capacity| HostView {
        id: id.parse().unwrap(),
        zone: zone.parse().unwrap(),
        total: capacity(64, 256, 2_000),
        free,
        schedulable: true,
    };
    let rooms = [capacity(2, 4, 20), capacity(32, 128, 1_000), capacity(48, 192, 1_500)];
    let regions = all().into_iter().zip(rooms).map(|(region, free)| {
        let zone = region.availability_zones[0].to_string();
        RegionView {
            hosts: vec![host(&format!("{}-h1", region.id), &zone, free)],
            health: healthy(97),
            observed_at: Timestamp::from_millis(1_000),
            region: Arc::new(region),
        }
    });
    let latency = [("edge-lon-1", 4_200), ("eu-west-1", 12_500), ("us-east-1", 76_300)];
    let latency = latency.map(|(id, micros)| (id.parse().unwrap(), Micros::new(micros)));
    Fleet::new(&FleetView {
        generation: 7,
        taken_at: Timestamp::from_millis(1_000),
        regions: regions.collect(),
        user_zones: vec![UserZoneView {
            id: "london".parse().unwrap(),
            latency: latency.into_iter().collect(),
        }],
        vms: Vec::new(),
    })
}

/// The source's first example (C11).
pub(crate) fn request() -> PlacementRequest {
    PlacementRequest {
        id: "vm-web-001".parse().unwrap(),
        tenant: "customer-123".parse().unwrap(),
        shape: VmShape {
            cpu: 4,
            memory: Mib::new(8_192),
            storage: Gib::new(100),
            bandwidth: Mbps::new(1_000),
            gpus: 0,
        },
        vm_type: VmType::Compute,
        constraints: Constraints {
            max_latency_ms: Some(100),
            min_health_score: Some(80),
            cost_limit: Some(usd(500_000)),
            ..Constraints::default()
        },
        origins: Vec::new(),
        strategy: None,
        priority: 5,
        tier: Tier::Standard,
        on_region_loss: dwcp_types::OnRegionLoss::StayDown,
        replica_max_age_s: None,
        labels: BTreeMap::new(),
    }
}

fn explain(request: &PlacementRequest) -> Explanation {
    placement::explain(&fleet(), request, &Policy::default())
}

/// One region fits, two do not.
pub(crate) fn explanation() -> Explanation {
    explain(&request())
}

/// No region fits.
pub(crate) fn refusal() -> Explanation {
    let mut request = request();
    request.constraints.max_latency_ms = Some(2);
    request.constraints.required_compliance =
        BTreeSet::from([ComplianceZone::new("GDPR")]);
    explain(&request)
}

pub(crate) fn item() -> VmItem {
    VmItem {
        id: "vm-web-001".parse().unwrap(),
        tenant: "customer-123".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        zone: "us-east-1a".parse().unwrap(),
        host: "us-east-1-h1".parse().unwrap(),
        epoch: Epoch::FIRST,
        power: Power::Running,
        phase: VmPhase::Running,
        shape: request().shape,
        priority: 5,
        tier: Tier::Standard,
        home: None,
        labels: BTreeMap::from([("env".to_owned(), "production".to_owned())]),
        created_at: Timestamp::from_millis(
            now().as_millis() - Duration::from_mins(150).as_secs() * 1_000,
        ),
    }
}

pub(crate) fn stopping() -> VmItem {
    VmItem { power: Power::Stopped, phase: VmPhase::Stopping, ..item() }
}

pub(crate) fn named(name: &str) -> VmItem {
    VmItem { id: name.parse().unwrap(), ..item() }
}

pub(crate) fn list(names: &[&str], next: Option<&str>) -> VmList {
    VmList {
        items: names.iter().map(|name| named(name)).collect(),
        next: next.map(|next| next.parse().unwrap()),
        age_ms: 12,
    }
}

/// A VM that is seen in a phase in answer to its newest instruction.
pub(crate) fn detail(phase: VmPhase) -> VmDetail {
    let constraints = request().constraints;
    VmDetail {
        item: VmItem { phase, ..item() },
        generation: Generation::new(2),
        vm_type: VmType::Compute,
        replica: None,
        replica_age_ms: None,
        recovered: None,
        on_region_loss: dwcp_types::OnRegionLoss::StayDown,
        replica_max_age_s: None,
        constraints,
        origins: vec![Origin { user_zone: "london".parse().unwrap(), weight: 3 }],
        strategy: Strategy::Hybrid,
        score: Bps::new(8_231).unwrap(),
        hourly_cost: usd(293_698),
        expected_latency: Some(Micros::new(76_300)),
        observed: Some(InstanceReport {
            lease_bound: false,
            vm: "vm-web-001".parse().unwrap(),
            epoch: Epoch::FIRST,
            generation: Generation::new(2),
            power: Power::Running,
            phase,
            asked: request().shape,
            given_cpu: 1,
            given_memory: Mib::new(96),
            address: Some([10, 1, 0, 5].into()),
            pid: Some(4_711),
            uptime_ms: 8_940_000,
            cpu_ms: 61_500,
            resident: Mib::new(88),
            restarts: 0,
            error: None,
            copy: None,
            events: Vec::new(),
        }),
        observed_age_ms: Some(350),
    }
}

pub(crate) fn placed() -> PlaceReply {
    PlaceReply {
        vm: Some(VmItem { phase: VmPhase::Pending, ..item() }),
        repeated: false,
        explanation: explanation(),
        victims: Vec::new(),
        n_minus_1: Vec::new(),
        decide_us: 14,
        commit_us: 3_240,
    }
}

pub(crate) fn dry_run() -> PlaceReply {
    let victims = vec!["vm-batch-7".parse().unwrap()];
    let stranded = Stranded { vm: "vm-ledger-2".parse().unwrap(), refusals: Vec::new() };
    let loss = RegionLoss {
        region: "eu-west-1".parse().unwrap(),
        protected: 3,
        need: Capacity::default(),
        free_elsewhere: Capacity::default(),
        stranded: vec![stranded],
    };
    PlaceReply { vm: None, victims, n_minus_1: vec![loss], commit_us: 0, ..placed() }
}

pub(crate) fn region(id: &str) -> RegionItem {
    let region = all().into_iter().find(|region| region.id.as_str() == id).unwrap();
    let host = |name: &str, answers| HostItem {
        id: format!("{id}-{name}").parse().unwrap(),
        zone: region.availability_zones[0].clone(),
        driver: "qemu".to_owned(),
        accel: "tcg".to_owned(),
        answers,
        schedulable: answers,
        total: capacity(64, 256, 2_000),
        free: capacity(48, 192, 1_500),
    };
    RegionItem {
        endpoint: "127.0.0.1:8443".to_owned(),
        evacuation: None,
        health: healthy(97),
        age_ms: Some(800),
        hosts: vec![host("h1", true), host("h2", false)],
        total: capacity(128, 512, 4_000),
        free: capacity(48, 192, 1_500),
        vms: 12_345,
        region,
    }
}

pub(crate) fn regions() -> RegionList {
    let mut never = region("eu-west-1");
    never.age_ms = None;
    never.health = Health::default();
    never.hosts.clear();
    let mut degraded = region("edge-lon-1");
    degraded.health = Health { state: HealthState::Degraded, score: 71 };
    degraded.region.enabled = false;
    RegionList { items: vec![degraded, never, region("us-east-1")] }
}

pub(crate) fn room() -> RegionCapacityReply {
    RegionCapacityReply {
        region: "us-east-1".parse().unwrap(),
        total: capacity(128, 512, 4_000),
        reserved: capacity(80, 320, 2_500),
        free: capacity(48, 192, 1_500),
        flavours: vec![FlavourFit {
            name: "small".to_owned(),
            shape: request().shape,
            fits: 1_234,
        }],
        n_minus_1: NMinusOne {
            protected: 3,
            fit_elsewhere: 2,
            stranded: vec!["vm-db-001".parse().unwrap()],
            slack: capacity(10, 20, 300),
        },
    }
}

/// The figures of the source's block (O10).
pub(crate) fn status() -> StatusReply {
    let region = |id: &str, health, notes: &[&str]| RegionStatus {
        id: id.parse().unwrap(),
        kind: RegionKind::Cloud,
        provider: "aws".to_owned(),
        enabled: true,
        health,
        age_ms: Some(1_200),
        hosts_up: 1,
        hosts: 2,
        vms: 6_000,
        running: 5_999,
        drivers: vec!["qemu/tcg".to_owned()],
        notes: notes.iter().map(|note| (*note).to_owned()).collect(),
    };
    let note = "simulated driver: no real VMs run here";
    StatusReply {
        answered_by: "us-east-1".parse().unwrap(),
        version: "0.1.0".to_owned(),
        engine: EngineStatus {
            leader: None,
            leader_at_home: None,
            members: Vec::new(),
            kind: "embedded".to_owned(),
            host: "us-east-1".parse().unwrap(),
            reachable: true,
            revision: 4_711,
        },
        total_regions: 5,
        healthy: 4,
        degraded: 1,
        unhealthy: 0,
        unknown: 0,
        total_vms: 30_142,
        running_vms: 30_140,
        latency_avg_us: Some(45_000),
        throughput_milli_rps: 125_000_000,
        error_rate: Some(Bps::new(8).unwrap()),
        sla_compliance: Some(Bps::new(9_992).unwrap()),
        latency: Together {
            over_s: 300,
            p50_us: Some(31_200),
            p95_us: Some(88_000),
            p99_us: Some(142_300),
            requests: 37_500_000,
            measured: 4,
            regions: 5,
            age_ms: Some(7_000),
        },
        regions: vec![
            region(
                "eu-west-1",
                Health { state: HealthState::Degraded, score: 71 },
                &[note],
            ),
            region("us-east-1", healthy(97), &[]),
        ],
    }
}

/// On etcd, with a member that is away and a leader that is not at home.
pub(crate) fn etcd_status() -> StatusReply {
    let member = |id: &str, problem: Option<&str>| EngineMember {
        name: id.to_owned(),
        region: id.parse().unwrap(),
        endpoint: "127.0.0.11:8446".to_owned(),
        answers: problem.is_none(),
        leads: id == "eu-west-1",
        version: problem.is_none().then(|| "3.4.23".to_owned()),
        problem: problem.map(str::to_owned),
    };
    let engine = EngineStatus {
        kind: "etcd".to_owned(),
        leader: Some("eu-west-1".parse().unwrap()),
        leader_at_home: Some(false),
        members: vec![
            member("us-east-1", Some("etcd member us-east-1 cannot be reached in time")),
            member("eu-west-1", None),
            member("ap-south-1", None),
        ],
        ..status().engine
    };
    StatusReply { engine, ..status() }
}

/// A federation that has just begun.
pub(crate) fn young_status() -> StatusReply {
    let engine = EngineStatus { reachable: false, ..status().engine };
    StatusReply {
        engine,
        healthy: 0,
        degraded: 0,
        unknown: 5,
        total_vms: 0,
        running_vms: 0,
        latency_avg_us: None,
        throughput_milli_rps: 0,
        error_rate: None,
        sla_compliance: None,
        latency: Together::default(),
        regions: Vec::new(),
        ..status()
    }
}

pub(crate) fn events() -> EventList {
    let event = |millis, vm: Option<&str>, what: &str| Event {
        at: Timestamp::from_millis(millis),
        region: "us-east-1".parse().unwrap(),
        vm: vm.map(|vm| vm.parse().unwrap()),
        what: what.to_owned(),
    };
    EventList {
        items: vec![
            event(1_772_366_400_000, None, "the region's daemon started"),
            event(
                1_772_366_401_000,
                Some("vm-web-001"),
                "it runs\x1b[31m on us-east-1-h1",
            ),
        ],
        missing: vec!["eu-west-1".parse().unwrap()],
    }
}

pub(crate) fn console(offset: u64, text: &str) -> ConsoleReply {
    let next = offset + u64::try_from(text.len()).unwrap();
    ConsoleReply { offset, next, text: text.to_owned() }
}
