//! Reads the block `routing.proxy`, and of each service how it is reached: more hosts, servers in
//! each region, what they are probed by.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dwcp_edge::dns::Name;
use dwcp_edge::proxy::{Announce, Carried, Limits, Passing};
use dwcp_router::Protocol;
use dwcp_router::session::SESSION_TIME;
use dwcp_types::RegionId;
use serde::Serialize;

use super::endpoint::Endpoint;
use super::federation::Federation;
use super::field::Field;
use super::monitoring::file;
use super::names::Names;
use super::prefix::Prefix;
use super::problem::{Position, Report};
use super::section::Section;
use super::yaml::Content;

const KEYS: &[&str] = &[
    "max_connections",
    "max_connections_per_network",
    "header_timeout",
    "connect_timeout",
    "response_timeout",
    "body_timeout",
    "drain_timeout",
    "max_body_mb",
    "trusted_proxies",
    "proxy_protocol_from",
    "explain_to",
    "access_log",
    "tls",
];
const TLS_KEYS: &[&str] = &["certificate", "key"];
const UPSTREAM_KEYS: &[&str] = &["region", "servers"];

/// Keys that say nothing without `listen_port`.
const PASSING_KEYS: [&str; 2] = ["idle_timeout", "send_proxy_protocol"];
const ANNOUNCES: [(&str, Announce); 2] =
    [("v1", Announce::Text), ("v2", Announce::Binary)];
/// How long a connection may be silent: longer than what databases and brokers ping in.
const IDLE_TIME: Duration = Duration::from_mins(10);
/// How long no datagram may come either way: nobody says that a flow has ended (Envoy's default).
const FLOW_IDLE_TIME: Duration = Duration::from_mins(1);
const IDLE_TIME_MIN: Duration = Duration::from_secs(1);
const IDLE_TIME_MAX: Duration = Duration::from_hours(24);

/// Most hosts, networks and servers in a list.
const LISTED_MAX: usize = 64;
/// Sockets that one process may have are seldom more than a million.
const CONNECTIONS_MAX: u64 = 1_000_000;
/// How long sessions may be kept: a token is given anew once a minute.
const SESSION_MIN: Duration = Duration::from_mins(2);
const SESSION_MAX: Duration = Duration::from_hours(24);
/// A terabyte.
const BODY_MB_MAX: u64 = 1_000_000;

/// How proxies behave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProxyConfig {
    /// How much each takes on.
    #[serde(skip)]
    pub limits: Limits,
    /// Networks of proxies that are believed what they say of clients.
    pub trusted: Vec<Prefix>,
    /// Networks of load balancers that begin each connection with a PROXY header.
    pub preface: Vec<Prefix>,
    /// Networks that are told why, when they ask.
    pub explains: Vec<Prefix>,
    /// Whether each request becomes a line in the daemon's data.
    pub access_log: bool,
    /// What clients are shown; none: TLS is for other regions only.
    pub tls: Option<TlsFiles>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsFiles {
    /// The chain, in PEM.
    pub certificate: PathBuf,
    /// The key, in PEM, which only its owner may read.
    pub key: PathBuf,
}

/// How a service is reached by proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// Hosts that it is asked by besides its names in the zone.
    pub domains: Vec<Name>,
    /// Its servers, by region.
    pub upstreams: BTreeMap<RegionId, Vec<Endpoint>>,
    /// What a server is asked to see whether it is there; a connection when nothing is.
    pub health_path: Option<String>,
    /// How its connections are passed on as they are, where it has a port of its own.
    #[serde(skip)]
    pub passing: Option<Passing>,
    /// How long a session is kept for a client that is not heard of, where sessions are sticky.
    pub session_timeout: Duration,
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            upstreams: BTreeMap::new(),
            health_path: None,
            passing: None,
            session_timeout: SESSION_TIME,
        }
    }
}

/// Reads the block, or takes the defaults when there is none.
pub(super) fn proxy(
    routing: &Section<'_>,
    report: &mut Report<'_>,
) -> Option<ProxyConfig> {
    let Some(field) = routing.get("proxy") else { return Some(ProxyConfig::default()) };
    let section = Section::open(field.node, "`proxy`", KEYS, report)?;
    let limits = limits(&section, report);
    let trusted = networks(&section, "trusted_proxies", report);
    let preface = networks(&section, "proxy_protocol_from", report);
    let explains = networks(&section, "explain_to", report);
    let access_log =
        section.get("access_log").map_or(Some(false), |field| field.truth(report));
    let tls = section.get("tls").map(|field| tls(&field, report));
    Some(ProxyConfig {
        limits: limits?,
        trusted: trusted?,
        preface: preface?,
        explains: explains?,
        access_log: access_log?,
        tls: match tls {
            None => None,
            Some(tls) => Some(tls?),
        },
    })
}

fn limits(section: &Section<'_>, report: &mut Report<'_>) -> Option<Limits> {
    let usual = Limits::default();
    let mut count = |key: &str, usual: usize, most: u64| {
        let field = section.get(key);
        field.map_or(Some(usual), |field| {
            field.count(1..=most, report).and_then(|count| usize::try_from(count).ok())
        })
    };
    let connections = count("max_connections", usual.connections_max, CONNECTIONS_MAX);
    let per_network =
        count("max_connections_per_network", usual.per_network_max, CONNECTIONS_MAX);
    let body_mb = count("max_body_mb", 0, BODY_MB_MAX);
    let mut time = |key: &str, usual: Duration, most: Duration| {
        let least = Duration::from_millis(100);
        let field = section.get(key);
        field.map_or(Some(usual), |field| field.duration(least..=most, report))
    };
    let minute = Duration::from_mins(1);
    let header = time("header_timeout", usual.header_time_max, 5 * minute);
    let connect = time("connect_timeout", usual.connect_time_max, minute);
    let response = time("response_timeout", usual.response_time_max, 60 * minute);
    let body = time("body_timeout", usual.body_time_max, 60 * minute);
    let drain = time("drain_timeout", usual.drain_time_max, 5 * minute);
    let body_len_max = match u64::try_from(body_mb?).ok()? {
        0 => usual.body_len_max,
        megabytes => megabytes * 1_000_000,
    };
    Some(Limits {
        connections_max: connections?,
        per_network_max: per_network?,
        header_time_max: header?,
        connect_time_max: connect?,
        response_time_max: response?,
        body_time_max: body?,
        body_len_max,
        drain_time_max: drain?,
    })
}

fn networks(
    section: &Section<'_>,
    key: &str,
    report: &mut Report<'_>,
) -> Option<Vec<Prefix>> {
    let Some(field) = section.get(key) else { return Some(Vec::new()) };
    let items = field.list(0..=LISTED_MAX, report)?;
    let read: Vec<_> = items.iter().map(|item| item.parsed(report)).collect();
    read.into_iter().collect()
}

fn tls(field: &Field<'_>, report: &mut Report<'_>) -> Option<TlsFiles> {
    let section = Section::open(field.node, "`tls`", TLS_KEYS, report)?;
    let certificate = section.need("certificate", "/etc/dwcp/front.crt", report);
    let certificate = certificate.and_then(|field| file(field, report));
    let key = section.need("key", "/etc/dwcp/front.key", report);
    let key = key.and_then(|field| file(field, report));
    Some(TlsFiles { certificate: certificate?, key: key? })
}

/// Reads how a service is reached.
pub(super) fn reach(
    service: &Section<'_>,
    protocol: Option<Protocol>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Reach> {
    let domains = domains(service, report);
    let upstreams = upstreams(service, names, report);
    let health_path = service.get("health_path").map(|field| path(&field, report));
    let passing = passing(service, protocol, names, report);
    let lasts = session_timeout(service, report);
    Some(Reach {
        passing: passing?,
        session_timeout: lasts?,
        domains: domains?,
        upstreams: upstreams?,
        health_path: match health_path {
            None => None,
            Some(path) => Some(path?),
        },
    })
}

/// How connections are passed on, when the service has a port of its own.
#[expect(clippy::option_option, reason = "absent, wrong and right are three states")]
fn passing(
    service: &Section<'_>,
    protocol: Option<Protocol>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Option<Passing>> {
    let Some(field) = service.get("listen_port") else {
        let mut right = true;
        for key in PASSING_KEYS {
            if let Some(field) = service.get(key) {
                let reason = format!("`{key}` is of connections that are passed on");
                report.error(field.key_at, reason, "add `listen_port` to the service");
                right = false;
            }
        }
        return right.then_some(None);
    };
    let port = field.count(1..=65_535, report);
    let port = port.and_then(|port| u16::try_from(port).ok());
    let (carried, idle_time) = match protocol {
        None | Some(Protocol::Tcp) => (Carried::Connections, IDLE_TIME),
        // QUIC keeps its own connections, whoever passes its datagrams on.
        Some(Protocol::Udp | Protocol::Quic) => (Carried::Datagrams, FLOW_IDLE_TIME),
    };
    if let Some(port) = port {
        names.port((carried, port), field.at(), report);
    }
    let idle = service.get("idle_timeout").map_or(Some(idle_time), |field| {
        field.duration(IDLE_TIME_MIN..=IDLE_TIME_MAX, report)
    });
    let announce = service
        .get("send_proxy_protocol")
        .map_or(Some(None), |field| field.choice(&ANNOUNCES, report).map(Some));
    let fits = carried == Carried::Connections || no_streams(service, report);
    let has_servers = service.get("upstreams").is_some();
    if !has_servers {
        let reason = "`listen_port` is of a service that has no servers";
        let help = "add `upstreams: [{ region: us-east-1, servers: [10.0.0.7:5432] }]`";
        report.error(field.key_at, reason, help);
    }
    if !(fits && has_servers) {
        return None;
    }
    Some(Some(Passing {
        carried,
        port: port?,
        idle_time_max: idle?,
        announce: announce?,
    }))
}

/// Whether a service that has datagrams asks for nothing that only connections have.
fn no_streams(service: &Section<'_>, report: &mut Report<'_>) -> bool {
    let mut right = true;
    for (key, help) in [
        ("send_proxy_protocol", "leave it out: servers are not told who sent a datagram"),
        ("health_path", "leave it out: servers are sent an empty datagram"),
    ] {
        if let Some(field) = service.get(key) {
            let reason =
                format!("`{key}` is of connections, and the service has datagrams");
            report.error(field.key_at, reason, help);
            right = false;
        }
    }
    right
}

fn session_timeout(service: &Section<'_>, report: &mut Report<'_>) -> Option<Duration> {
    let Some(field) = service.get("session_timeout") else { return Some(SESSION_TIME) };
    let lasts = field.duration(SESSION_MIN..=SESSION_MAX, report)?;
    let sticky = service.get("sticky_sessions").map(|field| &field.node.content);
    if matches!(sticky, Some(Content::Truth(true))) {
        return Some(lasts);
    }
    let reason = "`session_timeout` is of a service whose sessions are not kept";
    report.error(field.at(), reason, "add `sticky_sessions: true`, or leave it out");
    None
}

fn domains(service: &Section<'_>, report: &mut Report<'_>) -> Option<Vec<Name>> {
    let Some(field) = service.get("domains") else { return Some(Vec::new()) };
    let items = field.list(1..=LISTED_MAX, report)?;
    let read: Vec<_> = items.iter().map(|item| item.parsed(report)).collect();
    read.into_iter().collect()
}

fn path(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text(report)?;
    let plain = text.bytes().all(|c| c.is_ascii_graphic());
    if plain && text.starts_with('/') {
        return Some(text.to_owned());
    }
    field.refuse("a path", "begin it with `/`, for example `/healthz`", report)
}

fn upstreams(
    service: &Section<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<BTreeMap<RegionId, Vec<Endpoint>>> {
    let Some(field) = service.get("upstreams") else { return Some(BTreeMap::new()) };
    let items = field.list(1..=super::REGIONS_MAX, report)?;
    let mut all = BTreeMap::new();
    let mut right = true;
    for item in items {
        let Some((region, servers)) = upstream(&item, names, report) else {
            right = false;
            continue;
        };
        if all.insert(region.clone(), servers).is_some() {
            let reason = format!("the servers of the region `{region}` are there twice");
            report.error(item.at(), reason, "put them in one list");
            right = false;
        }
    }
    right.then_some(all)
}

fn upstream(
    item: &Field<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<(RegionId, Vec<Endpoint>)> {
    let section = Section::open(item.node, "servers of a region", UPSTREAM_KEYS, report)?;
    let region = section.need("region", "us-east-1", report);
    let region = region.and_then(|field| {
        let region: RegionId = field.parsed(report)?;
        names.refer(&region, field.at(), "routing.services.upstreams.region");
        Some(region)
    });
    let servers = section.need("servers", "[10.0.0.7:8080]", report);
    let servers = servers.and_then(|field| {
        let items = field.list(1..=LISTED_MAX, report)?;
        let read: Vec<Option<Endpoint>> =
            items.iter().map(|item| item.parsed(report)).collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    Some((region?, servers?))
}

/// Servers that nobody asks, proxies that have none, and hosts of two services.
pub(super) fn warn_of_half(
    federation: &Federation,
    at: Position,
    report: &mut Report<'_>,
) {
    let proxies = federation.regions.iter().any(|spec| spec.proxy_endpoint.is_some());
    let services = &federation.routing.services;
    let has_servers = services.iter().any(|spec| !spec.reach.upstreams.is_empty());
    if proxies && !has_servers {
        let reason = "`proxy_endpoint` has no effect: no service has servers";
        report.warn(at, reason, "add `upstreams` to the services in `routing`");
    }
    if has_servers && !proxies {
        let reason = "nobody asks the servers in `upstreams`";
        report.warn(at, reason, "add `proxy_endpoint` to the regions that shall");
    }
    for spec in services.iter().filter(|spec| !spec.reach.upstreams.is_empty()) {
        let has_port = spec.reach.passing.is_some();
        if spec.hosts.is_empty() && spec.reach.domains.is_empty() && !has_port {
            let reason = format!("nobody can ask for the service `{}`", spec.service.id);
            let help = "add `domains` to it, or `hosts` in a zone, or a `listen_port`";
            report.warn(at, reason, help);
        }
    }
    let mut given = BTreeMap::new();
    for spec in services {
        for name in spec.hosts.iter().chain(&spec.reach.domains) {
            if given.insert(name, &spec.service.id).is_some() {
                let reason = format!("the host `{name}` is there twice");
                report.error(at, reason, "give each service its own");
            }
        }
    }
}
