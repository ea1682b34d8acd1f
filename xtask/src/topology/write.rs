//! The text of the example: what the tables say, in the form of `federation.yaml`.

use std::fmt::Write;

use super::tables::Tables;
use super::{METROS, Metro, Row};

/// Memory for each VM slot in MiB, storage in GiB: the source's us-east-1 has 102,400,000 MB
/// and 1,024,000 GB for its 10,000 VMs (O2, T1).
const MEMORY_MIB_PER_VM: u64 = 10_240;
const STORAGE_TENTHS_GIB_PER_VM: u64 = 1_024;
/// Bandwidth for each VM slot in Mbit/s: ten VMs share a gigabit.
const BANDWIDTH_MBPS_PER_VM: u64 = 100;
/// CPUs sold for each real one: 10,000 CPUs for 10,000 VMs of 4 (F34).
const OVERCOMMIT: u64 = 4;
/// The tables have no storage price; this is the source's own (O2).
const STORAGE_USD_PER_GIB_MONTH: &str = "0.10";

const HEAD: &str = "\
# Written by `cargo xtask topology` from the tables that README.md of deploy/t1 names.
# Prices are list prices at the time the tables were made: check before quoting them.
version: 1
";

const TAIL: &str = "
controller:
  strategy: hybrid
  preemption_enabled: true
  n_minus_1: warn
  max_concurrent_migrations: 10
  input_refresh_interval: 10s
  health_check_interval: 10s

# How long a failover may take: 500ms x 4 + 8s + 1s + 1s + 10s + 5s = 27s, under 30s.
failover:
  enabled: true
  auto_failover: true
  failover_threshold: 70.0
  max_failover_time: 30s
  heartbeat_interval: 500ms
  heartbeat_misses: 4
  lease_ttl: 8s
  lease_drift_bound: 1s
  decision_budget: 1s
  start_budget: 10s
  traffic_budget: 5s
  min_healthy_regions: 2
  primary_regions: [us-east-1, eu-west-1]
  secondary_regions: [ap-south-1, sa-east-1, au-southeast-1]
  require_manual_approval: false
  # With `two_persons: true` an operator's failover begins when another operator approves it,
  # within this time.
  two_persons: false
  approval_time: 15m

# Where the strong records are. `dwcpd run` takes `kind`; `./dwcp up` takes etcd where it is
# installed, with the members that `voters` names, and else the daemon of `host`.
engine:
  kind: embedded
  host: us-east-1
  home: us-east-1
  voters:
    - { region: us-east-1, client: 127.0.0.11:8446, peer: 127.0.0.11:8447 }
    - { region: eu-west-1, client: 127.0.0.12:8446, peer: 127.0.0.12:8447 }
    - { region: ap-south-1, client: 127.0.0.13:8446, peer: 127.0.0.13:8447 }
    - { region: sa-east-1, client: 127.0.0.14:8446, peer: 127.0.0.14:8447 }
    - { region: au-southeast-1, client: 127.0.0.15:8446, peer: 127.0.0.15:8447 }

# Here all regions are on one machine, whose round trips say nothing of the regions: those
# above count. Leave it out where regions are apart, and the lines between them are measured.
routing:
  round_trips: stated

# How often health and replication are looked at, who is told of incidents, and what is promised
# of each region.
monitoring:
  interval: 10s
  webhooks: []
  # - { url: https://example.com/incidents, name: pager, secret_file: /etc/dwcp/pager.secret, min_severity: high }
  # sla_definitions:
  #   - { id: sla-latency-001, name: P99 Latency, metric: p99_latency, target: 100, operator: less_than, compliance: 99.9, severity: high, window: 5m, period: 30d }
";

/// The whole file.
pub(super) fn federation(
    rows: &[Row],
    metros: &[Metro],
    tables: &Tables,
) -> anyhow::Result<String> {
    let mut text = HEAD.to_owned();
    text.push_str("\nregions:\n");
    for row in rows {
        region(row, rows, tables, &mut text)?;
    }
    text.push_str("\n# The metros whose round trips are measured.\nuser_zones:\n");
    for metro in metros {
        user_zone(metro, rows, tables, &mut text)?;
    }
    text.push_str(TAIL);
    Ok(text)
}

fn region(
    row: &Row,
    rows: &[Row],
    tables: &Tables,
    text: &mut String,
) -> anyhow::Result<()> {
    let (latitude, longitude) = tables.place(row.place)?;
    let price = tables.price(row.price)?;
    let egress = tables.egress(row.egress)?;
    let id = row.id;
    let zones = ["a", "b", "c"].map(|letter| format!("{id}{letter}"));
    writeln!(text, "  - id: {id}")?;
    writeln!(text, "    name: \"{}\"", row.name)?;
    writeln!(text, "    location:")?;
    writeln!(text, "      latitude: {latitude}")?;
    writeln!(text, "      longitude: {longitude}")?;
    writeln!(text, "      country: {}", row.country)?;
    writeln!(text, "      continent: {}", row.continent)?;
    writeln!(text, "    type: {}", row.kind)?;
    writeln!(text, "    cloud_provider: {}", row.cloud_provider)?;
    writeln!(text, "    provider_region: {}", row.place.1)?;
    writeln!(text, "    availability_zones: [{}]", zones.join(", "))?;
    writeln!(text, "    compliance_zones: [{}]", row.compliance.join(", "))?;
    writeln!(text, "    capacity:")?;
    capacity(row, "      ", text)?;
    writeln!(text, "    overcommit: {{ cpu: {OVERCOMMIT} }}")?;
    writeln!(text, "    network_latency:")?;
    for other in rows.iter().filter(|other| other.id != id) {
        let rtt = tables.rtt(row.metro, other.metro, zones_of(row.metro))?;
        writeln!(text, "      {}: {rtt}", other.id)?;
    }
    writeln!(text, "    cost_profile:")?;
    writeln!(text, "      cpu_cost_per_hour: {:.6}", price.cpu_hour)?;
    writeln!(text, "      memory_cost_per_hour: {:.6}", price.memory_gib_hour)?;
    writeln!(text, "      storage_cost_per_gb: {STORAGE_USD_PER_GIB_MONTH}")?;
    writeln!(text, "      network_cost_per_gb: {egress}")?;
    writeln!(text, "      currency: USD")?;
    writeln!(text, "    priority: {}", row.priority)?;
    writeln!(text, "    enabled: true")?;
    writeln!(text, "    endpoint: 127.0.0.{}:8443", row.address)?;
    writeln!(text, "    state_endpoint: 127.0.0.{}:8445", row.address)?;
    writeln!(text, "    hosts:")?;
    writeln!(text, "      - id: {id}-host-1")?;
    writeln!(text, "        zone: {}", zones[0])?;
    writeln!(text, "        agent: 127.0.0.{}:8444", row.address)?;
    writeln!(text, "        capacity:")?;
    capacity(row, "          ", text)
}

fn capacity(row: &Row, indent: &str, text: &mut String) -> anyhow::Result<()> {
    let vms = row.vms;
    writeln!(text, "{indent}total_cpu: {vms}")?;
    writeln!(text, "{indent}total_memory: {}", vms * MEMORY_MIB_PER_VM)?;
    writeln!(text, "{indent}total_storage: {}", vms * STORAGE_TENTHS_GIB_PER_VM / 10)?;
    writeln!(text, "{indent}total_bandwidth: {}", vms * BANDWIDTH_MBPS_PER_VM)?;
    writeln!(text, "{indent}total_vms: {vms}")?;
    Ok(())
}

fn user_zone(
    metro: &Metro,
    rows: &[Row],
    tables: &Tables,
    text: &mut String,
) -> anyhow::Result<()> {
    let (latitude, longitude) = tables.place(metro.place)?;
    writeln!(text, "  - id: {}", metro.id)?;
    writeln!(text, "    location:")?;
    writeln!(text, "      latitude: {latitude}")?;
    writeln!(text, "      longitude: {longitude}")?;
    writeln!(text, "      country: {}", metro.country)?;
    writeln!(text, "      continent: {}", metro.continent)?;
    writeln!(text, "    latency:")?;
    for row in rows {
        let rtt = tables.rtt(metro.id, row.metro, metro.zones)?;
        writeln!(text, "      {}: {rtt}", row.id)?;
    }
    Ok(())
}

/// What the names of a metro's zones begin with.
fn zones_of(metro: &str) -> &'static str {
    METROS.iter().find(|known| known.id == metro).map_or("", |known| known.zones)
}
