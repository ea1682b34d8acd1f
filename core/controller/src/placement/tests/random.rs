//! Random fleets and requests from a seed: small enough for the oracle, and narrow enough in
//! their numbers that ties, exact limits and full hosts are common. The benchmark includes
//! this file too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dwcp_types::{
    Affinity, AffinityMode, Capacity, ComplianceZone, Constraints, CostProfile, Epoch,
    FleetView, Gib, GroupId, Hardness, Health, HealthState, HostId, HostView, Location,
    Mbps, Mib, MicroUsd, Micros, Origin, Overcommit, PlacedVm, PlacementRequest, Region,
    RegionId, RegionKind, RegionView, Scope, Strategy, TenantId, Tier, Timestamp,
    UserZoneId, UserZoneView, VmId, VmShape, VmType, ZoneId,
};

/// Xorshift64*: a full period, good enough to choose cases.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn in_range(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True once in so many.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn of<T: Clone>(&mut self, options: &[T]) -> T {
        let at = usize::try_from(self.below(options.len() as u64)).unwrap();
        options[at].clone()
    }

    fn byte(&mut self, first: u64, last: u64) -> u8 {
        u8::try_from(self.in_range(first, last)).unwrap()
    }

    fn word(&mut self, first: u64, last: u64) -> u32 {
        u32::try_from(self.in_range(first, last)).unwrap()
    }
}

const PLACES: [(&str, &str); 6] = [
    ("US", "North America"),
    ("IE", "Europe"),
    ("GB", "Europe"),
    ("de", "Europe"),
    ("IN", "Asia"),
    ("BR", "South America"),
];
const LAWS: [&str; 3] = ["GDPR", "HIPAA", "PCI"];
const PROVIDERS: [&str; 3] = ["aws", "azure", "gcp"];

fn region_id(at: u64) -> RegionId {
    RegionId::new(&format!("r{at}")).unwrap()
}

fn user_zone_id(at: u64) -> UserZoneId {
    UserZoneId::new(&format!("u{at}")).unwrap()
}

fn group_id(at: u64) -> GroupId {
    GroupId::new(&format!("g{at}")).unwrap()
}

fn tenant_id(at: u64) -> TenantId {
    TenantId::new(&format!("t{at}")).unwrap()
}

fn laws(random: &mut Random, once_in: u64) -> Vec<ComplianceZone> {
    let mut laws: Vec<_> = LAWS.iter().map(|law| ComplianceZone::new(law)).collect();
    laws.retain(|_| random.once_in(once_in));
    laws
}

fn region(random: &mut Random, at: u64) -> Region {
    let (country, continent) = random.of(&PLACES);
    let zones = random.in_range(1, 3);
    // Round, so that costs tie, or not, so that they round.
    let odd = if random.once_in(3) { 9_999 } else { 0 };
    let price = |random: &mut Random| {
        MicroUsd::new(random.in_range(1, 4) * 10_000 + random.below(odd + 1))
    };
    Region {
        id: region_id(at),
        name: String::new(),
        location: Location {
            latitude: 0.0,
            longitude: 0.0,
            country: country.to_owned(),
            continent: continent.to_owned(),
        },
        kind: random.of(&[
            RegionKind::Cloud,
            RegionKind::Cloud,
            RegionKind::Edge,
            RegionKind::Hybrid,
        ]),
        cloud_provider: random.of(&PROVIDERS).to_owned(),
        availability_zones: (0..zones)
            .map(|zone| ZoneId::new(&format!("r{at}-{zone}")).unwrap())
            .collect(),
        compliance_zones: laws(random, 2),
        overcommit: Overcommit::default(),
        cost: CostProfile {
            cpu_hour: price(random),
            memory_gib_hour: price(random),
            storage_gib_month: price(random),
            egress_gb: MicroUsd::ZERO,
        },
        network_latency: BTreeMap::new(),
        priority: random.of(&[1, 50, 100]),
        enabled: !random.once_in(12),
    }
}

fn host(random: &mut Random, region: &Region, at: u64) -> HostView {
    let total = Capacity {
        cpu: random.of(&[4, 8, 16]),
        memory: Mib::new(random.of(&[8_192, 16_384, 262_147])),
        storage: Gib::new(100),
        bandwidth: Mbps::new(random.of(&[0, 1_000])),
        gpus: random.of(&[0, 0, 2]),
        vms: 8,
    };
    let part = random.in_range(0, 4);
    let free = Capacity {
        cpu: total.cpu * part / 4,
        memory: Mib::new(total.memory.get() * random.in_range(0, 4) / 4),
        storage: Gib::new(random.of(&[20, 100])),
        bandwidth: Mbps::new(total.bandwidth.get() * random.in_range(0, 2) / 2),
        gpus: random.below(total.gpus + 1),
        vms: random.of(&[0, 1, 8, 8]),
    };
    HostView {
        id: HostId::new(&format!("h{at}")).unwrap(),
        zone: random.of(&region.availability_zones),
        total,
        free,
        schedulable: !random.once_in(8),
    }
}

fn health(random: &mut Random) -> Health {
    let states = [
        HealthState::Unknown,
        HealthState::Unhealthy,
        HealthState::Maintenance,
        HealthState::Degraded,
    ];
    let mut state = HealthState::Healthy;
    if random.once_in(4) {
        state = random.of(&states);
    }
    Health { state, score: random.of(&[0, 60, 79, 80, 95, 100]) }
}

/// A region with hosts; often the twin of the one before under another name, so that scores
/// tie.
fn region_view(random: &mut Random, at: u64, before: Option<&RegionView>) -> RegionView {
    if let Some(before) = before.filter(|_| !random.once_in(3)) {
        let mut twin = before.clone();
        let region = Arc::make_mut(&mut twin.region);
        region.id = region_id(at);
        region.cloud_provider = random.of(&PROVIDERS).to_owned();
        return twin;
    }
    let region = region(random, at);
    let hosts = random.in_range(0, 6);
    let hosts = (0..hosts).map(|at| host(random, &region, at)).collect();
    RegionView {
        region: Arc::new(region),
        health: health(random),
        observed_at: Timestamp::default(),
        hosts,
    }
}

fn user_zone(random: &mut Random, at: u64, regions: u64) -> UserZoneView {
    let mut latency = BTreeMap::new();
    let mut ms = 100;
    for region in 0..regions {
        if random.once_in(3) {
            ms = random.of(&[5, 10, 34, 50, 100, 150]);
        }
        if !random.once_in(30) {
            latency.insert(region_id(region), Micros::from_millis(ms));
        }
    }
    UserZoneView { id: user_zone_id(at), latency }
}

/// A fleet of up to so many regions and VMs.
pub(crate) fn fleet(random: &mut Random, regions: u64, vms: u64) -> FleetView {
    let count = random.in_range(0, regions);
    let mut views: Vec<RegionView> = Vec::new();
    for at in 0..count {
        let view = region_view(random, at, views.last());
        views.push(view);
    }
    let zones = random.in_range(0, 3);
    let user_zones = (0..zones).map(|at| user_zone(random, at, count)).collect();
    let vms = random.in_range(0, vms);
    let vms = (0..vms).filter_map(|at| vm(random, &views, at)).collect();
    FleetView {
        generation: random.below(100),
        taken_at: Timestamp::from_millis(random.below(1_000)),
        regions: views,
        user_zones,
        vms,
    }
}

/// A VM on some host; nothing when the region that chance chose has none.
pub(crate) fn vm(
    random: &mut Random,
    regions: &[RegionView],
    at: u64,
) -> Option<Arc<PlacedVm>> {
    if regions.is_empty() {
        return None;
    }
    let region = random.of(regions);
    if region.hosts.is_empty() {
        return None;
    }
    let host = random.of(&region.hosts);
    let mut groups: Vec<_> = (0..3).map(group_id).collect();
    groups.retain(|_| random.once_in(2));
    Some(Arc::new(PlacedVm {
        id: VmId::new(&format!("vm{at}")).unwrap(),
        tenant: tenant_id(random.below(2)),
        region: region.region.id.clone(),
        zone: host.zone.clone(),
        host: host.id.clone(),
        epoch: Epoch::FIRST,
        shape: VmShape {
            cpu: random.word(1, 4),
            memory: Mib::new(random.in_range(1, 4) * 1024),
            storage: Gib::new(10),
            ..VmShape::default()
        },
        priority: random.byte(1, 10),
        tier: random.of(&[
            Tier::Preemptible,
            Tier::Standard,
            Tier::Standard,
            Tier::Protected,
        ]),
        groups,
    }))
}

fn rule(random: &mut Random) -> Affinity {
    Affinity {
        group: group_id(random.below(3)),
        mode: random.of(&[AffinityMode::Together, AffinityMode::Apart]),
        scope: random.of(&[Scope::Host, Scope::Zone, Scope::Region]),
        hardness: random.of(&[Hardness::Required, Hardness::Preferred]),
    }
}

fn some<T>(
    random: &mut Random,
    once_in: u64,
    make: impl FnOnce(&mut Random) -> T,
) -> Option<T> {
    random.once_in(once_in).then(|| make(random))
}

fn regions(random: &mut Random, of: u64) -> BTreeSet<RegionId> {
    (0..random.in_range(1, 4)).map(|_| region_id(random.below(of + 1))).collect()
}

fn constraints(random: &mut Random, of: u64) -> Constraints {
    let rules = if random.once_in(2) { random.in_range(1, 3) } else { 0 };
    Constraints {
        allowed_regions: some(random, 5, |r| regions(r, of)).unwrap_or_default(),
        forbidden_regions: some(random, 5, |r| regions(r, of)).unwrap_or_default(),
        require_edge: random.once_in(8),
        required_compliance: laws(random, 10).into_iter().collect(),
        data_locality: some(random, 8, |r| {
            r.of(&["EU", "europe", "DE", "ie", "GB", "North America", "XX"]).to_owned()
        }),
        max_latency_ms: some(random, 4, |r| r.of(&[10, 34, 50, 100])),
        min_health_score: some(random, 4, |r| r.of(&[60, 80, 95, 100])),
        min_bandwidth_mbps: some(random, 8, |r| Mbps::new(r.of(&[0, 500, 1_000]))),
        cost_limit: some(random, 4, |r| MicroUsd::new(r.in_range(1, 30) * 10_000)),
        preferred_provider: some(random, 3, |r| r.of(&["AWS", "gcp"]).to_owned()),
        affinity: (0..rules).map(|_| rule(random)).collect(),
    }
}

/// A request; may contradict itself. Half of them have few limits.
pub(crate) fn request(random: &mut Random, of: u64) -> PlacementRequest {
    let mut constraints = constraints(random, of);
    if random.once_in(2) {
        let preferred_provider = constraints.preferred_provider.take();
        let affinity = std::mem::take(&mut constraints.affinity);
        constraints =
            Constraints { preferred_provider, affinity, ..Constraints::default() };
    }
    let mut origins = Vec::new();
    if random.once_in(2) {
        for zone in 0..random.in_range(1, 3) {
            let user_zone = user_zone_id(zone);
            origins.push(Origin { user_zone, weight: random.word(1, 3) });
        }
    }
    PlacementRequest {
        // One in twenty is a VM that is placed already and is placed again.
        id: VmId::new(&format!("vm{}", random.below(400))).unwrap(),
        tenant: tenant_id(random.below(2)),
        shape: VmShape {
            cpu: random.of(&[1, 2, 4, 8]),
            memory: Mib::new(random.of(&[1_024, 4_096, 8_192])),
            storage: Gib::new(random.of(&[10, 20, 100])),
            bandwidth: Mbps::new(random.of(&[0, 0, 0, 500])),
            gpus: random.of(&[0, 0, 0, 1]),
        },
        vm_type: VmType::Compute,
        constraints,
        origins,
        strategy: random.of(&[
            None,
            Some(Strategy::Latency),
            Some(Strategy::Cost),
            Some(Strategy::LoadBalanced),
        ]),
        priority: random.byte(1, 10),
        tier: Tier::Standard,
        on_region_loss: dwcp_types::OnRegionLoss::StayDown,
        replica_max_age_s: None,
        labels: BTreeMap::new(),
    }
}
