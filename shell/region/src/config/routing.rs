//! Reads the block `routing` (O37, DETAILS 2.3): how requests find their region.
//!
//! Keys of the source that nothing here obeys yet are told so and never silently taken: whoever
//! writes `ddos_protection` must not believe to be protected.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use dwcp_router::{
    Algorithm, Class, FailMode, Protocol, Protocols, Requirement, Service, Weights,
};
use dwcp_types::{ComplianceZone, Mbps, Micros, RegionId, ServiceId};

use super::anycast::{self, AnycastConfig, Beside};
use super::capacity::all_or_none;
use super::clients;
use super::dns;
use super::duration::display;
use super::federation::UserZoneSpec;
use super::field::Field;
use super::front::{FrontSpec, RoundTrips, RoutingConfig, ServiceSpec};
use super::names::Names;
use super::problem::{Related, Report};
use super::proxy;
use super::quantity::Unit;
use super::section::{Section, each};

const KEYS: &[&str] = &[
    "algorithm",
    "weight_factors",
    "round_trips",
    "table_interval",
    "routing_table_cache_ttl",
    "region_endpoints",
    "services",
    "clients",
    "dns",
    "proxy",
    "latency_measurement_interval",
    "latency_measurement",
    "health_check",
    "ddos_protection",
    "enable_ddos_protection",
    "enable_traffic_shaping",
    "enable_qos",
    "enable_anycast",
    "anycast",
];
/// Keys of the source that nothing obeys yet.
const WITHOUT_EFFECT: [(&str, &str); 7] = [
    (
        "latency_measurement_interval",
        "lines between regions are measured twice a second, whatever is written here",
    ),
    (
        "latency_measurement",
        "lines between regions are measured twice a second, whatever is written here",
    ),
    (
        "health_check",
        "a region is known to be down 2 s after it falls silent, whatever is written here",
    ),
    ("ddos_protection", "nothing is limited or blocked yet"),
    ("enable_ddos_protection", "nothing is limited or blocked yet"),
    ("enable_traffic_shaping", "nothing is shaped yet"),
    ("enable_anycast", "what `anycast` says is announced, and nothing without it"),
];
const WEIGHT_KEYS: &[&str] =
    &["latency", "cost", "load", "capacity", "health", "distance"];
const FRONT_KEYS: &[&str] =
    &["region", "ip", "ipv6", "port", "protocols", "capacity", "weight", "encrypted"];
const SERVICE_KEYS: &[&str] = &[
    "id",
    "algorithm",
    "weight_factors",
    "regions",
    "residency",
    "compliance",
    "protocol",
    "qos",
    "fail",
    "sticky_sessions",
    "session_timeout",
    "ttl",
    "hosts",
    "domains",
    "upstreams",
    "health_path",
    "listen_port",
    "idle_timeout",
    "send_proxy_protocol",
    "kb_per_request",
    "cpu_us_per_request",
];
const QOS_KEYS: &[&str] = &["realtime", "interactive", "bulk"];
const CLASS_KEYS: &[&str] =
    &["max_latency", "min_bandwidth_mbps", "max_packet_loss", "require_encryption"];

/// Algorithms by their names; the long ones are the source's constants (R3 to R7).
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("latency", Algorithm::Latency),
    ("cost", Algorithm::Cost),
    ("load", Algorithm::Load),
    ("geo", Algorithm::Geo),
    ("hybrid", Algorithm::Hybrid),
    ("latency-based", Algorithm::Latency),
    ("cost-optimized", Algorithm::Cost),
    ("load-balanced", Algorithm::Load),
    ("geo-proximity", Algorithm::Geo),
];
const ROUND_TRIPS: [(&str, RoundTrips); 2] =
    [("measured", RoundTrips::Measured), ("stated", RoundTrips::Stated)];
const PROTOCOLS: [(&str, Protocol); 3] =
    [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("quic", Protocol::Quic)];
const FAIL_MODES: [(&str, FailMode); 3] = [
    ("open", FailMode::Open),
    ("static", FailMode::Static),
    ("closed", FailMode::Closed),
];

/// Most services, and regions of a service.
const SERVICES_MAX: usize = 256;
const LISTED_MAX: usize = 64;
/// 100 Tbit/s: more is a mistyped unit.
const CAPACITY_MBPS_MAX: u64 = 100_000_000;
/// What one request may be: a gigabyte, and a minute of CPU.
const KB_MAX: u64 = 1_000_000;
const CPU_US_MAX: u64 = 60_000_000;
/// Longest round trip that may be asked for, as `network_latency` has it.
const RTT_MAX: Duration = Duration::from_secs(2);

/// Reads the block, or takes the defaults when there is none.
pub(super) fn routing(
    root: &Section<'_>,
    zones: Option<&[UserZoneSpec]>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<RoutingConfig> {
    let default = RoutingConfig::default();
    let Some(field) = root.get("routing") else { return Some(default) };
    let section = Section::open(field.node, "`routing`", KEYS, report)?;
    for (key, instead) in WITHOUT_EFFECT {
        if let Some(field) = section.get(key) {
            let reason = format!("`{key}` has no effect: {instead}");
            report.warn(field.key_at, reason, "leave it out");
        }
    }
    if let Some(field) = section.get("enable_qos")
        && field.truth(report) == Some(false)
    {
        let reason = "`enable_qos: false` has no effect: limits are always kept";
        report.warn(field.key_at, reason, "write no limits under `qos` instead");
    }
    let algorithm = section
        .get("algorithm")
        .map_or(Some(default.algorithm), |field| field.choice(&ALGORITHMS, report));
    let weights = weights(&section, report);
    let round_trips = section
        .get("round_trips")
        .map_or(Some(default.round_trips), |field| field.choice(&ROUND_TRIPS, report));
    let interval = interval(&section, default.table_interval, report);
    let fronts = fronts(&section, names, report);
    let clients = clients::clients(&section, zones, names, report);
    let dns = dns::dns(&section, report);
    let proxy = proxy::proxy(&section, report);
    let (clients, places) = clients?;
    let mut config = RoutingConfig {
        algorithm: algorithm?,
        weights: weights?,
        round_trips: round_trips?,
        table_interval: interval?,
        fronts: fronts?,
        services: Vec::new(),
        clients,
        places,
        dns: dns?,
        proxy: proxy?,
        anycast: AnycastConfig::default(),
    };
    config.services = services(&section, &config, names, report)?;
    let beside = Beside { services: &config.services, fronts: &config.fronts };
    config.anycast = anycast::anycast(&section, &beside, names, report)?;
    Some(config)
}

/// How often tables are made; the source calls it the life of its cache.
fn interval(
    section: &Section<'_>,
    default: Duration,
    report: &mut Report<'_>,
) -> Option<Duration> {
    let range = Duration::from_millis(100)..=Duration::from_secs(60);
    let alias = section.get("routing_table_cache_ttl");
    let own = section.get("table_interval");
    if let (Some(own), Some(alias)) = (own, alias) {
        let related = Related { at: own.key_at, what: "`table_interval`".to_owned() };
        let reason = "`routing_table_cache_ttl` and `table_interval` are one setting";
        report.clash(alias.key_at, related, reason, "keep one of the two");
        return None;
    }
    if let Some(field) = own {
        return field.duration(range, report);
    }
    let Some(alias) = alias else { return Some(default) };
    let asked =
        alias.duration(Duration::from_millis(100)..=Duration::from_hours(1), report)?;
    report.warn(
        alias.key_at,
        format!(
            "nothing is cached: `routing_table_cache_ttl` {} is not obeyed, and tables are made \
             every {}, because a region that dies must be left within seconds",
            display(asked),
            display(default)
        ),
        "write `table_interval: 1s` instead",
    );
    Some(default)
}

/// Own weights, as parts of one.
#[expect(clippy::option_option, reason = "absent, wrong and right are three states")]
fn weights(section: &Section<'_>, report: &mut Report<'_>) -> Option<Option<Weights>> {
    let Some(field) = section.get("weight_factors") else { return Some(None) };
    let own = Section::open(field.node, "`weight_factors`", WEIGHT_KEYS, report)?;
    let mut weights = [0_u16; WEIGHT_KEYS.len()];
    let mut right = true;
    for (key, weight) in WEIGHT_KEYS.iter().zip(&mut weights) {
        let Some(field) = own.get(key) else { continue };
        match field.decimal("a part of one", 0.0..=1.0, report) {
            Some(part) => *weight = parts(part, 10_000.0),
            None => right = false,
        }
    }
    if !right {
        return None;
    }
    let weights = Weights(weights);
    if !weights.is_whole() {
        let sum: u32 = weights.0.iter().map(|weight| u32::from(*weight)).sum();
        let reason = format!(
            "the weights add up to {}.{:04}, and must to 1",
            sum / 10_000,
            sum % 10_000
        );
        report.error(
            field.at(),
            reason,
            "for example `{ latency: 0.4, cost: 0.3, load: 0.3 }`",
        );
        return None;
    }
    Some(Some(weights))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 10,000 by the range of the value that was read"
)]
fn parts(part: f64, whole: f64) -> u16 {
    (part * whole).round() as u16
}

fn fronts(
    section: &Section<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Vec<FrontSpec>> {
    let Some(field) = section.get("region_endpoints") else { return Some(Vec::new()) };
    let items = field.list(0..=super::REGIONS_MAX, report)?;
    let twice = |one: &FrontSpec, other: &FrontSpec| {
        let of = &one.region;
        (of == &other.region).then(|| format!("two endpoints are of the region `{of}`"))
    };
    each(&items, |item, report| front(item, names, report), report, twice)
}

fn front(
    item: &Field<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<FrontSpec> {
    let section = Section::open(item.node, "an endpoint", FRONT_KEYS, report)?;
    let region = section.need("region", "us-east-1", report);
    let region = region.and_then(|field| {
        let region: RegionId = field.parsed(report)?;
        names.refer(&region, field.at(), "routing.region_endpoints.region");
        Some(region)
    });
    let ip = section.need("ip", "203.0.113.10", report);
    let ip = ip.and_then(|field| address(field, false, report));
    let ipv6 = section.get("ipv6").map(|field| address(field, true, report));
    let port =
        section.get("port").map_or(Some(443), |field| field.count(1..=65_535, report));
    let capacity = section.get("capacity").map_or(Some(None), |field| {
        field.amount(Unit::Mbps, 1..=CAPACITY_MBPS_MAX, report).map(Some)
    });
    let weight =
        section.get("weight").map_or(Some(100), |field| field.count(0..=100, report));
    let encrypted =
        section.get("encrypted").map_or(Some(true), |field| field.truth(report));
    let protocols = protocols(&section, report);
    Some(FrontSpec {
        region: region?,
        ip: ip?,
        ipv6: match ipv6 {
            None => None,
            Some(ipv6) => Some(ipv6?),
        },
        port: u16::try_from(port?).ok()?,
        protocols: protocols?,
        capacity: capacity?.map(Mbps::new),
        weight: u8::try_from(weight?).ok()?,
        encrypted: encrypted?,
    })
}

pub(super) fn address(
    field: Field<'_>,
    six: bool,
    report: &mut Report<'_>,
) -> Option<IpAddr> {
    let text = field.text(report)?;
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_ipv6() == six && !ip.is_unspecified() => Some(ip),
        Ok(_) | Err(_) if six => {
            field.refuse("an IPv6 address", "for example `2001:db8::1`", report)
        }
        Ok(_) | Err(_) => {
            field.refuse("an IPv4 address", "for example `203.0.113.10`", report)
        }
    }
}

fn protocols(section: &Section<'_>, report: &mut Report<'_>) -> Option<Protocols> {
    let Some(field) = section.get("protocols") else { return Some(Protocols::ALL) };
    let items = field.list(1..=PROTOCOLS.len(), report)?;
    let mut all = Protocols::NONE;
    for item in items {
        all = all.with(item.choice(&PROTOCOLS, report)?);
    }
    Some(all)
}

fn services(
    section: &Section<'_>,
    config: &RoutingConfig,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Vec<ServiceSpec>> {
    let Some(field) = section.get("services") else {
        return Some(vec![config.usual_service()]);
    };
    let items = field.list(1..=SERVICES_MAX, report)?;
    let mut services: Vec<ServiceSpec> = Vec::new();
    let mut hosts = dns::Hosts::of(config.dns.as_ref());
    let mut right = true;
    for item in items {
        match service(&item, config, &mut hosts, names, report) {
            Some(spec) if services.iter().any(|o| o.service.id == spec.service.id) => {
                let reason = format!("the service `{}` is there twice", spec.service.id);
                report.error(item.at(), reason, "keep one of the two");
                right = false;
            }
            Some(spec) => services.push(spec),
            None => right = false,
        }
    }
    right.then_some(services)
}

fn service(
    item: &Field<'_>,
    config: &RoutingConfig,
    hosts: &mut dns::Hosts<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<ServiceSpec> {
    let section = Section::open(item.node, "a service", SERVICE_KEYS, report)?;
    let id = section.need("id", "api.example.com", report);
    let id: Option<ServiceId> = id.and_then(|field| field.parsed(report));
    let algorithm =
        section.get("algorithm").map(|field| field.choice(&ALGORITHMS, report));
    let weights = weights(&section, report);
    let regions = regions(&section, names, report);
    let residency = words(&section, "residency", report);
    let laws = words(&section, "compliance", report);
    let protocol = section
        .get("protocol")
        .map_or(Some(Protocol::Tcp), |field| field.choice(&PROTOCOLS, report));
    let fail = section
        .get("fail")
        .map_or(Some(FailMode::Open), |field| field.choice(&FAIL_MODES, report));
    let sticky =
        section.get("sticky_sessions").map_or(Some(false), |field| field.truth(report));
    let requirements = requirements(&section, report);
    let hosts = hosts.read(section.get("hosts"), report);
    let reach = proxy::reach(&section, protocol, names, report);
    let mut service = Service::new(id?, config.algorithm);
    service.weights = config.weights;
    let weights = weights?;
    let follows = algorithm.is_none() && weights.is_none();
    if let Some(algorithm) = algorithm {
        // Whoever names an algorithm wants its weights, not the federation's own.
        service.algorithm = algorithm?;
        service.weights = None;
    }
    service.weights = weights.or(service.weights);
    let ttl = section.get("ttl").map_or(Some(service.ttl_s), |field| ttl(field, report));
    let mut number = |key: &str, default: u32, most: u64| {
        let field = section.get(key);
        field.map_or(Some(default), |field| {
            field.count(0..=most, report).and_then(|number| u32::try_from(number).ok())
        })
    };
    let kb = number("kb_per_request", service.kb_per_request, KB_MAX);
    let cpu = number("cpu_us_per_request", service.cpu_us_per_request, CPU_US_MAX);
    let service = Service {
        regions: regions?,
        residency: residency?.into_iter().collect(),
        laws: laws?.iter().map(|law| ComplianceZone::new(law)).collect(),
        protocol: protocol?,
        requirements: requirements?,
        fail: fail?,
        sticky: sticky?,
        ttl_s: ttl?,
        kb_per_request: kb?,
        cpu_us_per_request: cpu?,
        ..service
    };
    Some(ServiceSpec { service, follows, hosts: hosts?, reach: reach? })
}

/// Whole seconds, as DNS has them.
fn ttl(field: Field<'_>, report: &mut Report<'_>) -> Option<u8> {
    let span =
        field.duration(Duration::from_secs(1)..=Duration::from_secs(255), report)?;
    u8::try_from(span.as_secs()).ok()
}

fn regions(
    section: &Section<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<BTreeSet<RegionId>> {
    let Some(field) = section.get("regions") else { return Some(BTreeSet::new()) };
    let mut regions = BTreeSet::new();
    for item in field.list(1..=LISTED_MAX, report)? {
        let region: RegionId = item.parsed(report)?;
        names.refer(&region, item.at(), "routing.services.regions");
        regions.insert(region);
    }
    Some(regions)
}

fn words(
    section: &Section<'_>,
    key: &str,
    report: &mut Report<'_>,
) -> Option<Vec<String>> {
    let Some(field) = section.get(key) else { return Some(Vec::new()) };
    let items = field.list(1..=LISTED_MAX, report)?;
    items.iter().map(|item| item.text(report).map(str::to_owned)).collect()
}

fn requirements(
    section: &Section<'_>,
    report: &mut Report<'_>,
) -> Option<[Requirement; Class::ALL.len()]> {
    let mut all = Class::ALL.map(Class::profile);
    let Some(field) = section.get("qos") else { return Some(all) };
    let section = Section::open(field.node, "`qos`", QOS_KEYS, report)?;
    for (class, wanted) in Class::ALL.into_iter().zip(&mut all) {
        if let Some(field) = section.get(class.as_str()) {
            *wanted = requirement(field, report)?;
        }
    }
    Some(all)
}

/// What a class must have; a limit that is not written is none.
fn requirement(field: Field<'_>, report: &mut Report<'_>) -> Option<Requirement> {
    let section = Section::open(field.node, "a class", CLASS_KEYS, report)?;
    let latency = section.get("max_latency").map(|field| {
        let span = field.duration(Duration::from_millis(1)..=RTT_MAX, report)?;
        u32::try_from(span.as_micros()).ok().map(Micros::new)
    });
    let bandwidth = section.get("min_bandwidth_mbps").map(|field| {
        field.amount(Unit::Mbps, 1..=CAPACITY_MBPS_MAX, report).map(Mbps::new)
    });
    let loss = section.get("max_packet_loss").map(|field| {
        field.decimal("packets lost, in percent", 0.0..=100.0, report).map(ppm)
    });
    let encryption = section
        .get("require_encryption")
        .map_or(Some(false), |field| field.truth(report));
    Some(Requirement {
        latency_max: all_or_none(latency)?,
        bandwidth_min: all_or_none(bandwidth)?,
        loss_ppm_max: all_or_none(loss)?,
        encryption: encryption?,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 1,000,000 by the range of the value that was read"
)]
pub(super) fn ppm(percent: f64) -> u32 {
    (percent * 10_000.0).round() as u32
}
