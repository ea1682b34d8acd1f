//! Reads one of `regions`: what it is, how big, how dear, how far, and its hosts.

use std::sync::Arc;

use dwcp_types::{
    ComplianceZone, CostProfile, HostId, Overcommit, Region, RegionId, RegionKind, ZoneId,
};

use super::capacity::{self, Whole, Written};
use super::endpoint::Endpoint;
use super::federation::{HostSpec, RegionSpec};
use super::field::Field;
use super::names::Names;
use super::place;
use super::problem::{Position, Report};
use super::section::Section;
use super::yaml::Node;

const KEYS: &[&str] = &[
    "id",
    "name",
    "location",
    "type",
    "cloud_provider",
    "provider_region",
    "availability_zones",
    "compliance_zones",
    "capacity",
    "overcommit",
    "network_latency",
    "cost_profile",
    "priority",
    "enabled",
    "endpoint",
    "state_endpoint",
    "dns_endpoint",
    "proxy_endpoint",
    "hosts",
];

/// Most zones of a region: more than any provider has.
const ZONES_MAX: usize = 16;
/// Most laws that a region stands under.
const COMPLIANCE_MAX: usize = 32;
/// Most hosts of a federation.
pub(super) const HOSTS_MAX: usize = 65_536;
/// Most virtual CPUs for each real one: more is no longer a host but a hope.
const OVERCOMMIT_MAX: u64 = 16;

/// Reads a region. `None` when anything is wrong with it; every name it gives or uses is noted
/// all the same, so that the others' references are judged rightly.
pub(super) fn region(
    node: &Node,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<RegionSpec> {
    let section = Section::open(node, "a region", KEYS, report)?;
    let id = section.need("id", "eu-west-1", report);
    let id = id.and_then(|field| {
        let id: RegionId = field.parsed(report)?;
        names.region(&id, field.at(), report);
        Some(id)
    });
    let overcommit = overcommit(&section, report);
    let zones = zones(&section, report);
    let whole = whole(&section, overcommit, report);
    let hosts = hosts(&section, whole.as_ref(), zones.as_deref(), names, report);
    let endpoint = endpoint(&section, names, report);
    let state_endpoint = other_endpoint("state_endpoint", &section, names, report);
    let dns_endpoint = other_endpoint("dns_endpoint", &section, names, report);
    let proxy_endpoint = other_endpoint("proxy_endpoint", &section, names, report);
    if let Some(Some(endpoint)) = &proxy_endpoint {
        names.proxy(endpoint);
    }
    let region = description(&section, id, zones, names, report);
    let mut region = region?;
    region.overcommit = overcommit?;
    let capacity = whole?.capacity;
    Some(RegionSpec {
        region: Arc::new(region),
        capacity,
        endpoint: endpoint?,
        state_endpoint: state_endpoint?,
        dns_endpoint: dns_endpoint?,
        proxy_endpoint: proxy_endpoint?,
        hosts: hosts?,
    })
}

fn description(
    section: &Section<'_>,
    id: Option<RegionId>,
    zones: Option<Vec<ZoneId>>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Region> {
    let name = section.need("name", "\"EU West (Ireland)\"", report);
    let name = name.and_then(|field| field.text(report));
    let location = section.need(
        "location",
        "{ latitude: 53.35, longitude: -6.25, country: IE, continent: Europe }",
        report,
    );
    let location = location.and_then(|field| place::location(field, report));
    let kind = section.get("type").map_or(Some(RegionKind::Cloud), |field| {
        let words = [
            ("cloud", RegionKind::Cloud),
            ("edge", RegionKind::Edge),
            ("hybrid", RegionKind::Hybrid),
        ];
        field.choice(&words, report)
    });
    let provider = section.need("cloud_provider", "aws", report);
    let provider = provider.and_then(|field| provider_name(field, section, report));
    let laws = compliance(section, report);
    let cost = section.need(
        "cost_profile",
        "{ cpu_cost_per_hour: 0.05, memory_cost_per_hour: 0.01, storage_cost_per_gb: 0.10, \
         network_cost_per_gb: 0.05 }",
        report,
    );
    let cost = cost.and_then(|field| cost_profile(field, report));
    let network_latency = network_latency(section, id.as_ref(), names, report);
    let priority = section.need("priority", "50", report);
    let priority = priority.and_then(|field| field.count(1..=100, report));
    let enabled = section.get("enabled").map_or(Some(true), |field| field.truth(report));
    Some(Region {
        id: id?,
        name: name?.to_owned(),
        location: location?,
        kind: kind?,
        cloud_provider: provider?,
        availability_zones: zones?,
        compliance_zones: laws?,
        overcommit: Overcommit::default(),
        cost: cost?,
        network_latency: network_latency?,
        priority: u8::try_from(priority?).ok()?,
        enabled: enabled?,
    })
}

/// The provider's name in small letters. `provider_region` is the provider's own name of the
/// region (F84): accepted for people to read, and read by nobody.
fn provider_name(
    field: Field<'_>,
    section: &Section<'_>,
    report: &mut Report<'_>,
) -> Option<String> {
    let name = field.text(report)?.to_ascii_lowercase();
    if name == "edge" && section.get("type").is_none() {
        report.warn(
            field.at(),
            "the provider `edge` does not make this an edge region",
            "add `type: edge`; the provider is whose it is",
        );
    }
    match section.get("provider_region") {
        Some(field) => field.text(report).map(|_| name),
        None => Some(name),
    }
}

fn overcommit(section: &Section<'_>, report: &mut Report<'_>) -> Option<Overcommit> {
    let Some(field) = section.get("overcommit") else {
        return Some(Overcommit::default());
    };
    let section = Section::open(field.node, "an overcommitment", &["cpu"], report)?;
    let cpu = section.need("cpu", "4", report)?.count(1..=OVERCOMMIT_MAX, report)?;
    Some(Overcommit { cpu: u32::try_from(cpu).ok()? })
}

fn zones(section: &Section<'_>, report: &mut Report<'_>) -> Option<Vec<ZoneId>> {
    let field = section.need("availability_zones", "[eu-west-1a, eu-west-1b]", report)?;
    let items = field.list(1..=ZONES_MAX, report)?;
    let mut zones: Vec<ZoneId> = Vec::new();
    let mut right = true;
    for item in items {
        match item.parsed::<ZoneId>(report) {
            Some(zone) if zones.contains(&zone) => {
                let help = "keep one of the two";
                report.error(
                    item.at(),
                    format!("the zone `{zone}` is there twice"),
                    help,
                );
                right = false;
            }
            Some(zone) => zones.push(zone),
            None => right = false,
        }
    }
    right.then_some(zones)
}

fn compliance(
    section: &Section<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<ComplianceZone>> {
    let Some(field) = section.get("compliance_zones") else { return Some(Vec::new()) };
    let items = field.list(0..=COMPLIANCE_MAX, report)?;
    let read = |item: &Field<'_>, report: &mut Report<'_>| {
        item.text(report).map(ComplianceZone::new)
    };
    let laws: Vec<Option<_>> = items.iter().map(|item| read(item, report)).collect();
    let laws: Option<Vec<_>> = laws.into_iter().collect();
    let mut laws = laws?;
    laws.sort();
    laws.dedup();
    Some(laws)
}

fn cost_profile(field: Field<'_>, report: &mut Report<'_>) -> Option<CostProfile> {
    const KEYS: &[&str] = &[
        "cpu_cost_per_hour",
        "memory_cost_per_hour",
        "storage_cost_per_gb",
        "network_cost_per_gb",
        "currency",
    ];
    let section = Section::open(field.node, "a cost profile", KEYS, report)?;
    let mut price = |key: &str, example: &str| {
        let field = section.need(key, example, report);
        field.and_then(|field| field.price(report))
    };
    let cpu = price("cpu_cost_per_hour", "0.05");
    let memory = price("memory_cost_per_hour", "0.01");
    let storage = price("storage_cost_per_gb", "0.10");
    let egress = price("network_cost_per_gb", "0.05");
    let currency = section
        .get("currency")
        .map_or(Some(()), |field| field.choice(&[("USD", ())], report));
    currency?;
    Some(CostProfile {
        cpu_hour: cpu?,
        memory_gib_hour: memory?,
        storage_gib_month: storage?,
        egress_gb: egress?,
    })
}

fn network_latency(
    section: &Section<'_>,
    own: Option<&RegionId>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<std::collections::BTreeMap<RegionId, dwcp_types::Micros>> {
    let Some(field) = section.get("network_latency") else {
        return Some(std::collections::BTreeMap::new());
    };
    let trips = place::round_trips(field, names, report)?;
    if let Some(own) = own.filter(|own| trips.contains_key(*own)) {
        report.error(
            field.key_at,
            format!("the region `{own}` has a round trip to itself"),
            "list the other regions only",
        );
    }
    Some(trips)
}

#[expect(clippy::option_option, reason = "absent, wrong and right are three states")]
fn endpoint(
    section: &Section<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Option<Endpoint>> {
    let Some(field) = section.get("endpoint") else {
        report.warn(
            section.at,
            "this region has no `endpoint`: nothing can be placed there",
            "add where its dwcpd listens, for example `endpoint: 10.0.0.1:8443`",
        );
        return Some(None);
    };
    let endpoint: Endpoint = field.parsed(report)?;
    names.endpoint(&endpoint, field.at(), report);
    Some(Some(endpoint))
}

/// Where a part of the daemon listens that a region need not have: without `state_endpoint` it
/// takes no part in replicated state, without `dns_endpoint` it has no name server,
/// without `proxy_endpoint` no proxy.
#[expect(clippy::option_option, reason = "absent, wrong and right are three states")]
fn other_endpoint(
    key: &str,
    section: &Section<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Option<Endpoint>> {
    let Some(field) = section.get(key) else { return Some(None) };
    let endpoint: Endpoint = field.parsed(report)?;
    names.endpoint(&endpoint, field.at(), report);
    Some(Some(endpoint))
}

fn whole<'n>(
    section: &Section<'n>,
    overcommit: Option<Overcommit>,
    report: &mut Report<'_>,
) -> Option<Whole<'n>> {
    let example = "{ total_cpu: 64, total_memory: 262144, total_storage: 4000 }";
    let field = section.need("capacity", example, report)?;
    let written = capacity::written(field, report)?;
    let overcommit = overcommit?.cpu;
    let capacity = capacity::of_region(&written, overcommit, field, report);
    Some(Whole { written, capacity, overcommit, field })
}

fn hosts(
    section: &Section<'_>,
    whole: Option<&Whole<'_>>,
    zones: Option<&[ZoneId]>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Vec<HostSpec>> {
    let Some(field) = section.get("hosts") else { return Some(Vec::new()) };
    let items = field.list(0..=HOSTS_MAX, report)?;
    let read: Vec<Option<HostRead>> =
        items.iter().map(|item| host(item, zones, names, report)).collect();
    let read: Option<Vec<HostRead>> = read.into_iter().collect();
    let (read, whole) = (read?, whole?);
    let written: Vec<Written> = read.iter().map(|host| host.written).collect();
    let capacities = capacity::of_hosts(&written, whole, report);
    let spec = |(host, capacity): (HostRead, _)| HostSpec {
        id: host.id,
        zone: host.zone,
        agent: host.agent,
        capacity,
    };
    Some(read.into_iter().zip(capacities).map(spec).collect())
}

struct HostRead {
    id: HostId,
    zone: ZoneId,
    agent: Endpoint,
    written: Written,
}

fn host(
    item: &Field<'_>,
    zones: Option<&[ZoneId]>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<HostRead> {
    const KEYS: &[&str] = &["id", "zone", "agent", "capacity"];
    let section = Section::open(item.node, "a host", KEYS, report)?;
    let id = section.need("id", "host-1", report).and_then(|field| {
        let id: HostId = field.parsed(report)?;
        names.host(&id, field.at(), report);
        Some(id)
    });
    let zone = section.need("zone", "eu-west-1a", report);
    let zone = zone.and_then(|field| zone_of(field, zones, report));
    let agent = section.need("agent", "10.0.0.2:8444", report).and_then(|field| {
        let agent: Endpoint = field.parsed(report)?;
        names.endpoint(&agent, field.at(), report);
        Some(agent)
    });
    let example = "{ total_cpu: 64, total_memory: 262144, total_storage: 4000 }";
    let written = section.need("capacity", example, report);
    let written = written.and_then(|field| capacity::written(field, report));
    Some(HostRead { id: id?, zone: zone?, agent: agent?, written: written? })
}

/// The zone of a host, which must be one of its region's.
fn zone_of(
    field: Field<'_>,
    zones: Option<&[ZoneId]>,
    report: &mut Report<'_>,
) -> Option<ZoneId> {
    let zone: ZoneId = field.parsed(report)?;
    // When the zones themselves are wrong, that is told once and not for each host.
    let Some(zones) = zones else { return Some(zone) };
    if !zones.contains(&zone) {
        let known = zones.iter().map(ZoneId::as_str);
        let help = super::suggest::advice(zone.as_str(), "zones of this region", known);
        let reason = format!("`{zone}` is no zone of this host's region");
        report.error(field.at(), reason, help);
        return None;
    }
    Some(zone)
}

/// Refuses a federation with too many hosts in all.
pub(super) fn check_host_count(
    regions: &[RegionSpec],
    at: Position,
    report: &mut Report<'_>,
) {
    let hosts = regions.iter().map(|spec| spec.hosts.len()).sum::<usize>();
    if hosts > HOSTS_MAX {
        let reason = format!("{hosts} hosts are more than {HOSTS_MAX}");
        report.error(at, reason, "split the federation");
    }
}
