//! What is accepted: the example, the source's own sample, aliases and defaults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dwcp_controller::placement::Admission;
use dwcp_router::bfd::Settings;
use dwcp_router::{Algorithm, Class, FailMode, Protocol, Requirement, Weights};
use dwcp_types::{Micros, RegionId, RegionKind, Strategy, VmShape};

use super::super::{
    ApprovalConfig, ClientPlace, EngineChoice, Federation, LoadError, RoundTrips,
    RoutingConfig, Severity,
};

fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

fn id(text: &str) -> RegionId {
    RegionId::new(text).unwrap()
}

#[test]
fn topology_1_is_accepted_without_a_warning() {
    let (t1, warnings) = Federation::load(&deployed("t1/federation.yaml")).unwrap();
    assert_eq!(warnings, []);
    let slots: Vec<u64> = t1.regions.iter().map(|spec| spec.capacity.vms).collect();
    assert_eq!(slots, [10_000, 10_000, 5_000, 3_000, 2_000]);
    assert_eq!(t1.user_zones.len(), 13);
    assert_eq!(t1.engine.choice(), EngineChoice::Embedded { host: &id("us-east-1") });
    let etcd = t1.engine.etcd().unwrap();
    assert_eq!(etcd.home, id("us-east-1"));
    let voters: Vec<&str> = etcd.voters.iter().map(|voter| voter.name.as_str()).collect();
    let regions: Vec<&str> =
        t1.regions.iter().map(|spec| spec.region.id.as_str()).collect();
    assert_eq!(voters, regions, "one in each region");
    assert_eq!(t1.voters_rtt_max(), Duration::from_millis(343));
    let us = t1.region(&id("us-east-1")).unwrap();
    assert_eq!(us.region.network_latency[&id("eu-west-1")], Micros::from_millis(76));
    assert_eq!(us.capacity.cpu, 40_000, "10,000 CPUs at four to one (F34)");
    for spec in &t1.regions {
        assert_eq!(spec.hosts.len(), 1);
        assert_eq!(spec.hosts[0].capacity, spec.capacity);
        assert_eq!(spec.endpoint.as_ref().map(|endpoint| endpoint.port()), Some(8443));
        assert_eq!(spec.hosts[0].agent.port(), 8444);
    }
}

/// M7 and the samples of M8, as O40 writes them.
#[test]
fn service_levels_are_read_with_their_defaults() {
    let file = deployed("t1/federation.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let slas = "monitoring:
  sla_definitions:
    - { id: sla-latency-001, name: P99 Latency, metric: p99_latency, target: 100, operator: less_than, compliance: 99.9, severity: high }
    - { id: up, metric: availability, target: 99.95, operator: greater_than, compliance: 99.5, severity: critical, window: 1h, period: 7d, region: eu-west-1 }
";
    let text = text.replace("monitoring:\n", slas);
    let (read, warnings) = Federation::parse(&text, "t1").unwrap();
    assert_eq!(warnings, []);
    let [latency, up] = read.monitoring.slas.as_slice() else { panic!("{read:?}") };
    assert_eq!((latency.target_milli, latency.compliance_ppm), (100_000, 999_000));
    let spans = (latency.window, latency.period);
    assert_eq!(spans, (Duration::from_mins(5), Duration::from_hours(720)));
    assert_eq!((latency.name.as_str(), &latency.region), ("P99 Latency", &None));
    assert_eq!((up.target_milli, up.compliance_ppm), (99_950, 995_000));
    assert_eq!((up.name.as_str(), up.region.clone()), ("up", Some(id("eu-west-1"))));
}

#[test]
fn the_edge_example_has_one_edge_region_near_its_users() {
    let (edge, warnings) =
        Federation::load(&deployed("t1-edge/federation.yaml")).unwrap();
    assert_eq!(warnings, []);
    let kinds: Vec<_> = edge.regions.iter().map(|spec| spec.region.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == RegionKind::Edge).count(), 1);
    let tokyo = edge.user_zones.iter().find(|zone| zone.view.id.as_str() == "tokyo");
    let trip = tokyo.unwrap().view.latency[&id("edge-tokyo")];
    assert!(trip < Micros::from_millis(10), "C13 asks for 10 ms; {trip}");
}

/// C11 limits the price to 0.50 USD an hour, C12 needs 64 GiB under GDPR in the EU.
#[test]
fn the_examples_of_the_source_have_a_place_in_topology_1() {
    let (t1, _) = Federation::load(&deployed("t1/federation.yaml")).unwrap();
    let web = VmShape {
        cpu: 4,
        memory: dwcp_types::Mib::new(8_192),
        storage: dwcp_types::Gib::new(100),
        ..VmShape::default()
    };
    for spec in &t1.regions {
        let price = spec.region.cost.hourly(&web);
        assert!(price.get() < 500_000, "{}: {price}", spec.region.id);
    }
    let eu = t1.region(&id("eu-west-1")).unwrap();
    let laws: Vec<&str> =
        eu.region.compliance_zones.iter().map(|law| law.as_str()).collect();
    assert!(laws.contains(&"GDPR"));
    assert!(eu.hosts[0].capacity.memory.get() >= 65_536);
}

/// The sample of the source as it stands there (O2, O35), with its second region filled in.
const SAMPLE: &str = r#"
regions:
  - id: us-east-1
    name: "US East (Virginia)"
    location:
      latitude: 38.9072
      longitude: -77.0369
      country: US
      continent: North America
    cloud_provider: aws
    availability_zones:
      - us-east-1a
      - us-east-1b
      - us-east-1c
    capacity:
      total_cpu: 10000
      total_memory: 102400000  # 100TB
      total_storage: 1024000   # 1PB
    network_latency:
      eu-west-1: 75
    cost_profile:
      cpu_cost_per_hour: 0.05
      memory_cost_per_hour: 0.01
      storage_cost_per_gb: 0.10
      network_cost_per_gb: 0.05
    priority: 90
    enabled: true
  - &other
    id: eu-west-1
    name: "EU West (Ireland)"
    location: { latitude: 53.35, longitude: -6.25, country: "NO", continent: Europe }
    cloud_provider: aws
    availability_zones: [eu-west-1a]
    capacity: { total_cpu: 1, total_memory: 1, total_storage: 1 }
    cost_profile:
      cpu_cost_per_hour: 0
      memory_cost_per_hour: 0
      storage_cost_per_gb: 0
      network_cost_per_gb: 0
    priority: 1
controller:
  placement_cache_ttl: 5m
  parallel_scoring: true
  max_concurrent_migrations: 20
  preemption_enabled: true
  health_check_interval: 30s
"#;

#[test]
fn the_sample_of_the_source_is_accepted_with_a_warning_for_each_thing_it_means_otherwise()
{
    let (federation, warnings) = Federation::parse(SAMPLE, "federation.yaml").unwrap();
    assert_eq!(federation.controller.max_concurrent_migrations, 20);
    assert_eq!(federation.controller.input_refresh_interval, Duration::from_secs(300));
    assert_eq!(federation.controller.health_check_interval, Duration::from_secs(30));
    assert!(!federation.failover.auto_failover, "two regions have no majority (F80)");
    let engine = federation.engine;
    assert_eq!(engine.choice(), EngineChoice::Embedded { host: &id("us-east-1") });
    let about = |word: &str| {
        warnings.iter().filter(|warning| warning.reason.contains(word)).count()
    };
    assert!(warnings.iter().all(|warning| warning.severity == Severity::Warning));
    for (word, count) in [
        ("`placement_cache_ttl`", 1),
        ("`parallel_scoring`", 1),
        ("`total_bandwidth`", 2),
        ("`endpoint`", 2),
        ("automatic failover", 1),
    ] {
        assert_eq!(about(word), count, "{word}: {warnings:#?}");
    }
    assert_eq!(warnings.len(), 7, "{warnings:#?}");
}

#[test]
fn a_second_person_is_asked_where_it_says_so_and_for_as_long_as_it_says() {
    let t1 = std::fs::read_to_string(deployed("t1/federation.yaml")).unwrap();
    let approval =
        |text: &str| Federation::parse(text, "f.yaml").unwrap().0.failover.approval;
    let quarter = Duration::from_mins(15);
    assert_eq!(approval(&t1), ApprovalConfig { two_persons: false, time: quarter });
    let unsaid = t1.replace("  approval_time: 15m\n", "");
    let asked = unsaid.replace("two_persons: false", "two_persons: true");
    assert_eq!(approval(&asked), ApprovalConfig { two_persons: true, time: quarter });
    let hour = t1.replace("approval_time: 15m", "approval_time: 1h");
    assert_eq!(approval(&hour).time, Duration::from_hours(1));
}

#[test]
fn an_unquoted_norway_stays_a_country() {
    let text = SAMPLE.replace("\"NO\"", "NO");
    let (federation, _) = Federation::parse(&text, "federation.yaml").unwrap();
    assert_eq!(federation.regions[1].region.location.country, "NO");
}

#[test]
fn the_block_placement_is_another_name_for_the_same_settings() {
    let text = format!(
        "{SAMPLE}placement:\n  algorithm: load-balanced\n  enable_preemption: true\n  \
         max_concurrent_migrations: 20\n  n_minus_1: refuse\n"
    );
    let (federation, _) = Federation::parse(&text, "federation.yaml").unwrap();
    assert_eq!(federation.controller.strategy, Strategy::LoadBalanced);
    assert_eq!(federation.controller.n_minus_1, Admission::Refuse);
    assert_eq!(federation.controller.max_concurrent_migrations, 20);
}

#[test]
fn hosts_that_state_no_bandwidth_share_what_is_left() {
    let hosts = "    hosts:
      - { id: h1, zone: eu-west-1a, agent: a:1, capacity: { total_cpu: 4, total_memory: 8, total_storage: 8, total_bandwidth: 40 } }
      - { id: h2, zone: eu-west-1a, agent: a:2, capacity: { total_cpu: 4, total_memory: 8, total_storage: 8 } }
      - { id: h3, zone: eu-west-1a, agent: a:3, capacity: { total_cpu: 2, total_memory: 8, total_storage: 8 } }
controller:";
    let whole = "capacity: { total_cpu: 10, total_memory: 24, total_storage: 24, \
                 total_bandwidth: 100, total_vms: 9 }\n    overcommit: { cpu: 2 }";
    let small = "capacity: { total_cpu: 1, total_memory: 1, total_storage: 1 }";
    let text = SAMPLE.replace(small, whole).replace("controller:", hosts);
    let (federation, _) = Federation::parse(&text, "federation.yaml").unwrap();
    let hosts = &federation.regions[1].hosts;
    let of = |amount: fn(&dwcp_types::Capacity) -> u64| {
        hosts.iter().map(|host| amount(&host.capacity)).collect::<Vec<u64>>()
    };
    assert_eq!(of(|capacity| capacity.bandwidth.get()), [40, 30, 30]);
    assert_eq!(of(|capacity| capacity.vms), [3, 3, 3]);
    assert_eq!(of(|capacity| capacity.cpu), [8, 8, 4]);
}

#[test]
fn a_file_that_cannot_be_read_says_which() {
    let missing = Federation::load(&deployed("no-such.yaml")).unwrap_err();
    assert!(matches!(missing, LoadError::Read { .. }));
    assert!(missing.to_string().contains("no-such.yaml"), "{missing}");
    assert!(missing.to_json()["error"].as_str().unwrap().contains("no-such.yaml"));
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("latin1.yaml");
    std::fs::write(&file, b"version: 1\nregions: S\xe3o Paulo\n").unwrap();
    let LoadError::Problems(refused) = Federation::load(&file).unwrap_err() else {
        panic!("it was read");
    };
    assert_eq!(refused.problems.len(), 1);
    let at = refused.problems[0].at;
    assert_eq!((at.line, at.column), (2, 11), "{refused}");
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_read_over() {
    let text = format!("\u{feff}{}", SAMPLE.trim_start().replace('\n', "\r\n"));
    let (federation, _) = Federation::parse(&text, "federation.yaml").unwrap();
    assert_eq!(federation.regions.len(), 2);
}

#[test]
fn a_file_over_the_limit_is_refused_before_it_is_parsed() {
    let limit = usize::try_from(super::super::FILE_BYTES_MAX).unwrap();
    let refused = Federation::parse(&"#".repeat(limit + 1), "big.yaml").unwrap_err();
    assert_eq!(refused.problems.len(), 1);
    assert!(refused.problems[0].reason.contains("8 MiB"));
}

/// As many hosts as are allowed fit within the bounds of the reader.
#[test]
fn the_largest_federation_is_within_the_bounds_of_the_reader() {
    use std::fmt::Write;
    let mut text = String::from("regions:\n");
    for r in 0..512 {
        write!(
            text,
            "- {{id: r{r}, name: r, location: {{latitude: 1, longitude: 1, country: US, \
             continent: Asia}}, cloud_provider: a, availability_zones: [z], capacity: \
             {{total_cpu: 9999, total_memory: 9999, total_storage: 9999, total_bandwidth: 9}}, \
             cost_profile: {{cpu_cost_per_hour: 0, memory_cost_per_hour: 0, \
             storage_cost_per_gb: 0, network_cost_per_gb: 0}}, priority: 1, endpoint: \
             'r{r}:1', hosts: ["
        )
        .unwrap();
        for h in 0..128 {
            write!(
                text,
                "{{id: r{r}h{h}, zone: z, agent: 'r{r}h{h}:1', capacity: {{total_cpu: 9, \
                 total_memory: 9, total_storage: 9}}}},"
            )
            .unwrap();
        }
        text.push_str("]}\n");
    }
    let (federation, _) = Federation::parse(&text, "big.yaml").unwrap();
    let hosts: usize = federation.regions.iter().map(|spec| spec.hosts.len()).sum();
    assert_eq!(hosts, super::super::region::HOSTS_MAX);
}

#[test]
fn more_problems_than_a_screen_holds_are_counted() {
    let text = format!("regions:\n{}", "  - { }\n".repeat(50));
    let refused = Federation::parse(&text, "f.yaml").unwrap_err();
    assert_eq!(refused.problems.len(), super::super::PROBLEMS_MAX);
    assert!(refused.more > 0);
    assert!(refused.to_string().ends_with("nothing was loaded"));
    let json = refused.to_json();
    assert_eq!(json["problems"][0]["line"], 2);
    assert_eq!(json["problems"][0]["severity"], "error");
}

/// Every key of `routing` at once.
const ROUTING: &str = r#"
routing:
  algorithm: latency
  weight_factors: { latency: 0.5, cost: 0.25, health: 0.25 }
  table_interval: 500ms
  region_endpoints:
    - region: us-east-1
      ip: 203.0.113.10
      ipv6: "2001:db8::1"
      port: 8080
      protocols: [tcp, quic]
      capacity: 10000
      weight: 50
  services:
    - id: api.example.com
      regions: [us-east-1, eu-west-1]
      residency: [Europe, US]
      compliance: [gdpr]
      protocol: quic
      fail: static
      sticky_sessions: true
      session_timeout: 45m
      ttl: 10s
      hosts: [www, "@", a.deep]
      qos:
        realtime: { max_latency: 20ms, max_packet_loss: 0.01, require_encryption: true }
      kb_per_request: 8
      cpu_us_per_request: 500
    - id: batch
      algorithm: cost-optimized
  clients:
    - { cidr: 203.0.113.0/24, user_zone: chennai }
    - { cidr: "2001:db8::/32", region: eu-west-1 }
    - { cidr: 198.51.100.0/24, latitude: 51.5, longitude: -0.1 }
  dns:
    zone: CDN.example.com
    contact: dns@example.com
    name_servers:
      - { name: ns1.cdn.example.com, ip: 203.0.113.53, ipv6: "2001:db8::53" }
      - { name: ns.example.net }
    answers: 2
    answers_per_second: 0
"#;

/// Topology 1 with a line more in its first region, and another block `routing`.
fn t1_with(line: &str, routing: &str) -> Federation {
    let t1 = std::fs::read_to_string(deployed("t1/federation.yaml")).unwrap();
    let endpoint = "    endpoint: 127.0.0.11:8443\n";
    let t1 = t1.replacen(endpoint, &format!("{endpoint}    {line}\n"), 1);
    let t1 = t1.replacen("\nrouting:\n  round_trips: stated\n", "\n", 1);
    let (federation, warnings) = Federation::parse(&(t1 + routing), "f.yaml").unwrap();
    assert_eq!(warnings, []);
    federation
}

fn routing() -> RoutingConfig {
    let (of_one_machine, _) = Federation::load(&deployed("t1/federation.yaml")).unwrap();
    assert_eq!(of_one_machine.routing.round_trips, RoundTrips::Stated);
    let federation = t1_with("dns_endpoint: 127.0.0.11:5353", ROUTING);
    let endpoint = federation.regions[0].dns_endpoint.as_ref().unwrap();
    assert_eq!(endpoint.to_string(), "127.0.0.11:5353");
    federation.routing
}

#[test]
fn a_proxy_and_the_servers_behind_it_are_read() {
    let proxy = r#"
routing:
  proxy:
    max_connections: 100
    header_timeout: 5s
    max_body_mb: 1
    trusted_proxies: [10.0.0.0/8]
    access_log: true
    tls: { certificate: /etc/dwcp/front.crt, key: /etc/dwcp/front.key }
  services:
    - id: web
      domains: [WWW.example.com]
      health_path: /healthz
      upstreams:
        - { region: us-east-1, servers: [10.0.0.7:8080, "[2001:db8::1]:80"] }
"#;
    let federation = t1_with("proxy_endpoint: 127.0.0.11:8080", proxy);
    assert_eq!(federation.regions[0].proxy_endpoint, "127.0.0.11:8080".parse().ok());
    let routing = federation.routing;
    let limits = routing.proxy.limits;
    assert_eq!((limits.connections_max, limits.per_network_max), (100, 256));
    assert_eq!(limits.header_time_max, Duration::from_secs(5));
    assert_eq!(limits.body_len_max, 1_000_000);
    assert!(routing.proxy.access_log && routing.proxy.tls.is_some());
    assert_eq!(routing.proxy.trusted, ["10.0.0.0/8".parse().unwrap()]);
    let reach = &routing.services[0].reach;
    assert_eq!(reach.domains[0].to_string(), "www.example.com");
    assert_eq!(reach.health_path.as_deref(), Some("/healthz"));
    let servers = reach.upstreams.values().flatten().map(ToString::to_string);
    let written = ["10.0.0.7:8080", "[2001:db8::1]:80"];
    assert_eq!(servers.collect::<Vec<_>>(), written);
}

#[test]
fn a_zone_and_the_names_in_it_are_read() {
    let routing = routing();
    let dns = routing.dns.unwrap();
    assert_eq!(dns.zone.to_string(), "cdn.example.com");
    assert_eq!(dns.contact.to_string(), "dns.example.com");
    assert_eq!((dns.answers, dns.answers_per_second), (2, None));
    let servers: Vec<_> =
        dns.name_servers.iter().map(|server| server.name.to_string()).collect();
    assert_eq!(servers, ["ns1.cdn.example.com", "ns.example.net"]);
    assert_eq!(dns.name_servers[0].addresses.ipv6, "2001:db8::53".parse().ok());
    let hosts = routing.services[0].hosts.iter().map(ToString::to_string);
    let names = ["www.cdn.example.com", "cdn.example.com", "a.deep.cdn.example.com"];
    assert_eq!(hosts.collect::<Vec<_>>(), names);
    assert!(routing.services[1].hosts.is_empty());
}

#[test]
fn how_requests_are_routed_is_read() {
    let routing = routing();
    assert_eq!(routing.algorithm, Algorithm::Latency);
    assert_eq!(routing.round_trips, RoundTrips::Measured);
    assert_eq!(routing.weights, Some(Weights([5_000, 2_500, 0, 0, 2_500, 0])));
    assert_eq!(routing.table_interval, Duration::from_millis(500));
    let front = &routing.fronts[0];
    assert_eq!((front.port, front.weight), (8_080, 50));
    assert!(front.protocols.has(Protocol::Quic) && !front.protocols.has(Protocol::Udp));
    let places: Vec<_> = routing.clients.iter().map(|client| &client.place).collect();
    assert!(
        matches!(places[0], ClientPlace::UserZone(zone) if zone.as_str() == "chennai")
    );
    assert!(
        matches!(places[1], ClientPlace::Region(region) if *region == id("eu-west-1"))
    );
    assert!(matches!(places[2], ClientPlace::Spot(_)));
}

#[test]
fn services_have_what_they_say_and_else_the_federation_s() {
    let routing = routing();
    let [api, batch] = &routing.services[..] else { panic!("two services") };
    assert!(api.follows && !batch.follows);
    assert_eq!(api.service.weights, routing.weights);
    assert_eq!(api.service.fail, FailMode::Static);
    assert!(api.service.sticky);
    assert_eq!(api.reach.session_timeout, Duration::from_mins(45));
    assert_eq!(batch.reach.session_timeout, Duration::from_mins(30));
    assert_eq!(api.service.ttl_s, 10);
    assert_eq!(batch.service.algorithm, Algorithm::Cost);
    assert_eq!(
        batch.service.weights, None,
        "an algorithm of its own has its own weights"
    );
    let [realtime, interactive, _] = api.service.requirements;
    let wanted = Requirement {
        latency_max: Some(Micros::from_millis(20)),
        bandwidth_min: None,
        loss_ppm_max: Some(100),
        encryption: true,
    };
    assert_eq!(realtime, wanted, "what is not written is no limit");
    assert_eq!(interactive, Class::Interactive.profile());
}

#[test]
fn ways_to_routers_are_watched_as_it_says() {
    let anycast = r#"
routing:
  services:
    - id: api.example.com
      domains: [api.example.com]
      upstreams: [{ region: us-east-1, servers: [10.0.0.7:8080] }]
  anycast:
    groups:
      - { id: api, service: api.example.com, virtual_ip: 203.0.113.99, regions: [us-east-1] }
    routers:
      - { region: us-east-1, address: 10.0.0.1, as: 64500, own_as: 64512, bfd: {} }
      - region: eu-west-1
        address: 10.0.0.5
        as: 64500
        own_as: 64512
        hold_time: 9s
        bfd: { interval: 1s, multiplier: 5, multihop: true }
"#;
    let federation = t1_with("proxy_endpoint: 127.0.0.11:8080", anycast);
    let routers = federation.routing.anycast.routers;
    let bfd = |at: usize| {
        let bfd = routers[at].neighbor.bfd.unwrap();
        let Settings { interval, multiplier } = bfd.settings;
        (interval.as_millis(), multiplier.get(), bfd.multihop)
    };
    assert_eq!(bfd(0), (300, 3, false));
    assert_eq!(bfd(1), (1_000, 5, true));
}

/// Whoever says nothing has one service everywhere, ranked by the recommended algorithm (R7).
#[test]
fn a_federation_that_says_nothing_of_routing_has_a_usual_service() {
    let (t1, _) = Federation::load(&deployed("t1/federation.yaml")).unwrap();
    assert_eq!(t1.routing.services.len(), 1);
    let usual = &t1.routing.services[0];
    assert_eq!(usual.service.id.as_str(), "default");
    assert_eq!(usual.service.algorithm, Algorithm::Hybrid);
    assert!(usual.service.regions.is_empty() && usual.follows);
}
