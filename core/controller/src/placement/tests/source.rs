//! The three requests of the source (C11-C13) on a fleet like its Topology 1 (T1).

use std::collections::BTreeMap;
use std::sync::Arc;

use dwcp_types::{
    Capacity, ComplianceZone, Constraints, CostProfile, Epoch, FleetView, Gib, Health,
    HealthState, HostId, HostView, Location, Mbps, Mib, MicroUsd, Micros, Origin,
    Overcommit, PlacedVm, PlacementRequest, Region, RegionId, RegionKind, RegionView,
    TenantId, Tier, Timestamp, UserZoneId, UserZoneView, VmId, VmShape, VmType, ZoneId,
};

use crate::placement::{Fleet, Policy, ReasonKind, Verdict, decide, explain};

/// Region, country, continent, provider, laws, priority, CPU price, health; then the round
/// trip from london, washington-dc and mumbai in milliseconds.
type Row = (
    &'static str,
    (&'static str, &'static str),
    &'static str,
    &'static [&'static str],
    (u8, u64, u8),
    [u32; 3],
);

const T1: [Row; 5] = [
    (
        "us-east-1",
        ("US", "North America"),
        "aws",
        &["HIPAA"],
        (100, 50_000, 98),
        [76, 1, 190],
    ),
    ("eu-west-1", ("IE", "Europe"), "azure", &["GDPR"], (90, 60_000, 96), [1, 76, 110]),
    ("ap-south-1", ("IN", "Asia"), "gcp", &[], (70, 40_000, 92), [110, 190, 1]),
    (
        "sa-east-1",
        ("BR", "South America"),
        "aws",
        &["LGPD"],
        (60, 70_000, 90),
        [185, 115, 300],
    ),
    (
        "au-southeast-1",
        ("AU", "Oceania"),
        "azure",
        &[],
        (50, 65_000, 91),
        [270, 200, 150],
    ),
];
const USERS: [&str; 3] = ["london", "washington-dc", "mumbai"];

fn host(region: &str, zone: &str, at: usize) -> HostView {
    let total = Capacity {
        cpu: 32,
        memory: Mib::new(131_072),
        storage: Gib::new(4_000),
        bandwidth: Mbps::new(10_000),
        gpus: 0,
        vms: 100,
    };
    HostView {
        id: HostId::new(&format!("{zone}{at}")).unwrap(),
        zone: ZoneId::new(&format!("{region}{zone}")).unwrap(),
        total,
        free: total,
        schedulable: true,
    }
}

fn region(row: &Row) -> RegionView {
    let (id, (country, continent), provider, laws, (priority, cpu_price, health), _) =
        *row;
    let hosts: Vec<_> = ["a", "b", "c"].iter().map(|zone| host(id, zone, 1)).collect();
    let region = Region {
        id: RegionId::new(id).unwrap(),
        name: id.to_owned(),
        location: Location {
            latitude: 0.0,
            longitude: 0.0,
            country: country.to_owned(),
            continent: continent.to_owned(),
        },
        kind: RegionKind::Cloud,
        cloud_provider: provider.to_owned(),
        availability_zones: hosts.iter().map(|host| host.zone.clone()).collect(),
        compliance_zones: laws.iter().map(|law| ComplianceZone::new(law)).collect(),
        overcommit: Overcommit::default(),
        cost: CostProfile {
            cpu_hour: MicroUsd::new(cpu_price),
            memory_gib_hour: MicroUsd::new(10_000),
            storage_gib_month: MicroUsd::new(94_000),
            egress_gb: MicroUsd::new(50_000),
        },
        network_latency: BTreeMap::new(),
        priority,
        enabled: true,
    };
    RegionView {
        region: Arc::new(region),
        health: Health { state: HealthState::Healthy, score: health },
        observed_at: Timestamp::default(),
        hosts,
    }
}

/// Topology 1, empty, three hosts a region.
pub(crate) fn fleet() -> FleetView {
    let zone = |at: usize| {
        let latency = T1
            .iter()
            .map(|row| (RegionId::new(row.0).unwrap(), Micros::from_millis(row.5[at])));
        UserZoneView {
            id: UserZoneId::new(USERS[at]).unwrap(),
            latency: latency.collect(),
        }
    };
    FleetView {
        generation: 7,
        taken_at: Timestamp::from_millis(1_000),
        regions: T1.iter().map(region).collect(),
        user_zones: (0..USERS.len()).map(zone).collect(),
        vms: Vec::new(),
    }
}

/// C11 without its limits.
pub(super) fn request() -> PlacementRequest {
    PlacementRequest {
        id: VmId::new("vm-web-001").unwrap(),
        tenant: TenantId::new("customer-123").unwrap(),
        shape: VmShape {
            cpu: 4,
            memory: Mib::new(8_192),
            storage: Gib::new(100),
            ..VmShape::default()
        },
        vm_type: VmType::Compute,
        constraints: Constraints::default(),
        origins: Vec::new(),
        strategy: None,
        priority: 5,
        tier: Tier::Standard,
        on_region_loss: dwcp_types::OnRegionLoss::StayDown,
        replica_max_age_s: None,
        labels: BTreeMap::new(),
    }
}

/// A VM of the same tenant on a host.
pub(super) fn placed(id: &str, at: (&str, &str, &str)) -> PlacedVm {
    PlacedVm {
        id: VmId::new(id).unwrap(),
        tenant: TenantId::new("customer-123").unwrap(),
        region: RegionId::new(at.0).unwrap(),
        zone: ZoneId::new(at.1).unwrap(),
        host: HostId::new(at.2).unwrap(),
        epoch: Epoch::FIRST,
        shape: request().shape,
        priority: 5,
        tier: Tier::Standard,
        groups: Vec::new(),
    }
}

fn users_in(zone: &str) -> Vec<Origin> {
    vec![Origin { user_zone: UserZoneId::new(zone).unwrap(), weight: 1 }]
}

/// C11: 4 CPUs, 8 GiB, 100 GB, 1 Gbit/s; at most 100 ms and 0.50 USD; health 80.
fn web() -> PlacementRequest {
    let mut web = request();
    web.shape.bandwidth = Mbps::new(1_000);
    web.origins = users_in("washington-dc");
    web.constraints.max_latency_ms = Some(100);
    web.constraints.min_health_score = Some(80);
    web.constraints.cost_limit = Some(MicroUsd::new(500_000));
    web
}

/// C12: 16 CPUs, 64 GiB, 1 TB, GDPR, in the EU; no limit on latency or cost.
fn database() -> PlacementRequest {
    let region = |id| RegionId::new(id).unwrap();
    PlacementRequest {
        id: VmId::new("vm-db-001").unwrap(),
        tenant: TenantId::new("customer-456").unwrap(),
        shape: VmShape {
            cpu: 16,
            memory: Mib::new(65_536),
            storage: Gib::new(1_000),
            ..VmShape::default()
        },
        vm_type: VmType::Storage,
        constraints: Constraints {
            allowed_regions: [region("eu-west-1"), region("eu-central-1")].into(),
            required_compliance: [ComplianceZone::new("GDPR")].into(),
            data_locality: Some("EU".to_owned()),
            min_health_score: Some(95),
            ..Constraints::default()
        },
        priority: 10,
        ..request()
    }
}

/// C13: 2 CPUs, 4 GiB, 50 GB at the edge, at most 10 ms; health 85.
fn iot() -> PlacementRequest {
    PlacementRequest {
        id: VmId::new("vm-iot-001").unwrap(),
        tenant: TenantId::new("customer-789").unwrap(),
        shape: VmShape {
            cpu: 2,
            memory: Mib::new(4_096),
            storage: Gib::new(50),
            ..VmShape::default()
        },
        constraints: Constraints {
            require_edge: true,
            max_latency_ms: Some(10),
            min_health_score: Some(85),
            ..Constraints::default()
        },
        origins: users_in("london"),
        priority: 8,
        ..request()
    }
}

#[test]
fn the_web_server_goes_near_its_users_and_the_factors_add_up() {
    let decision = decide(&Fleet::new(&fleet()), &web(), &Policy::default());
    let chosen = decision.chosen.unwrap();
    assert_eq!(chosen.region.as_str(), "us-east-1");
    assert_eq!(chosen.zone.as_str(), "us-east-1a");
    assert_eq!(chosen.expected_latency, Some(Micros::from_millis(1)));
    // 4 x 0.05 + 8 x 0.01 + 100 x 0.094 / 730
    assert_eq!(chosen.hourly_cost, MicroUsd::new(292_876));
    let factors = &chosen.factors;
    let parts = [
        factors.latency,
        factors.cost,
        factors.capacity,
        factors.health,
        factors.priority,
    ];
    // 1 - 1/100; 1 - 0.292876/0.5; CPU 28/32 is the scarcest; 98; 100.
    assert_eq!(parts.map(|part| part.value.get()), [9_900, 4_142, 8_750, 9_800, 10_000]);
    let sum: u16 = parts.iter().map(|part| part.contribution.get()).sum();
    assert_eq!((sum, chosen.score.get()), (2_970 + 1_035 + 1_750 + 1_470 + 1_000, sum));
    let others: Vec<_> =
        decision.alternatives.iter().map(|at| at.region.as_str()).collect();
    assert_eq!(others, ["eu-west-1"]);
    assert_eq!(
        (decision.generation, decision.taken_at),
        (7, Timestamp::from_millis(1_000))
    );
}

#[test]
fn the_database_lands_in_the_union_without_any_limit_set() {
    let decision = decide(&Fleet::new(&fleet()), &database(), &Policy::default());
    let chosen = decision.chosen.unwrap();
    assert_eq!(chosen.region.as_str(), "eu-west-1");
    assert_eq!(
        chosen.factors.latency.value.get(),
        10_000,
        "the only candidate is the best"
    );
    assert_eq!(chosen.factors.cost.value.get(), 10_000);
    assert!(decision.alternatives.is_empty());
}

#[test]
fn the_sensor_needs_an_edge_region_and_takes_the_one_there_is() {
    let mut view = fleet();
    let decision = decide(&Fleet::new(&view), &iot(), &Policy::default());
    assert_eq!(decision.chosen, None);
    let no_edge = decision.refusals.iter().find(|no| no.reason == ReasonKind::NotEdge);
    assert_eq!(no_edge.map(|no| no.regions), Some(5));
    let explanation = explain(&Fleet::new(&view), &iot(), &Policy::default());
    let relaxation = explanation.relaxation.unwrap().to_string();
    assert_eq!(relaxation, "for eu-west-1: drop require_edge");

    let mut edge = region(&(
        "eu-edge-1",
        ("GB", "Europe"),
        "edge",
        &[],
        (10, 90_000, 90),
        [4, 80, 110],
    ));
    Arc::make_mut(&mut edge.region).kind = RegionKind::Edge;
    view.regions.push(edge);
    let id = RegionId::new("eu-edge-1").unwrap();
    view.user_zones[0].latency.insert(id.clone(), Micros::from_millis(4));
    let decision = decide(&Fleet::new(&view), &iot(), &Policy::default());
    assert_eq!(decision.chosen.map(|chosen| chosen.region), Some(id.clone()));

    view.user_zones[0].latency.insert(id, Micros::from_millis(34));
    let explanation = explain(&Fleet::new(&view), &iot(), &Policy::default());
    let relaxations: Vec<_> = explanation
        .regions
        .iter()
        .map(|at| match &at.verdict {
            Verdict::Refused { relaxation: Some(relaxed), .. } => relaxed.to_string(),
            fits @ (Verdict::Fits { .. } | Verdict::Refused { .. }) => panic!("{fits:?}"),
        })
        .collect();
    assert!(
        relaxations
            .contains(&"for eu-edge-1: raise max_latency_ms from 10 to 34".to_owned()),
        "an edge region that is too far is measured like any other: {relaxations:?}"
    );
}
