//! The federation at a glance, in exactly the source's block (O10).

use std::time::Duration;

use dwcp_api::measured::Together;
use dwcp_api::public::{EngineStatus, StatusReply};

use super::{Look, health};
use crate::table::{Cell, Table, row};
use crate::terminal::Tone;
use crate::text;

/// Below this a latency or a rate is shown with a decimal: rounding would lose what matters.
const FINE_BELOW: u64 = 10_000;

/// The block of O10.
pub(crate) fn global_status(status: &StatusReply, _look: Look) -> String {
    let known = |value: Option<String>| value.unwrap_or_else(|| text::UNKNOWN.to_owned());
    let share =
        |share: Option<dwcp_types::Bps>| known(share.map(|share| share.to_string()));
    format!(
        "Global Federation Status:
  Total Regions: {}
  Healthy: {}
  Degraded: {}
  Unhealthy: {}

  Total VMs: {}
  Global Latency (avg): {}
  Global Throughput: {} req/s
  Global Error Rate: {}
  SLA Compliance: {}
{}",
        text::count(status.total_regions),
        text::count(status.healthy),
        text::count(status.degraded),
        text::count(status.unhealthy),
        text::count(status.total_vms),
        known(status.latency_avg_us.map(|us| format!("{}ms", in_thousands(us)))),
        in_thousands(status.throughput_milli_rps),
        share(status.error_rate),
        share(status.sla_compliance),
        percentiles(&status.latency),
    )
}

/// What the mean hides (F68): percentiles over all regions together, and how much of the federation
/// they are of.
fn percentiles(together: &Together) -> String {
    let Together { p50_us: Some(p50), p95_us: Some(p95), p99_us: Some(p99), .. } =
        together
    else {
        return String::new();
    };
    let [p50, p95, p99] = [*p50, *p95, *p99].map(text::span_us);
    let age = text::age_ms(together.age_ms);
    format!(
        "  Global Latency (p50/p95/p99): {p50} / {p95} / {p99} ({} requests in {}, {} of {} \
         regions, {age} old)\n",
        text::count(together.requests),
        text::age(Duration::from_secs(together.over_s)),
        together.measured,
        together.regions,
    )
}

/// Thousandths as whole numbers; with one decimal when they are few.
fn in_thousands(thousandths: u64) -> String {
    if thousandths < FINE_BELOW && !thousandths.is_multiple_of(1_000) {
        let tenths = thousandths.div_ceil(100);
        return format!("{}.{}", tenths / 10, tenths % 10);
    }
    text::count(thousandths.saturating_add(500) / 1_000)
}

/// The block, then what stands behind it.
pub(crate) fn status(status: &StatusReply, look: Look) -> String {
    let mut table = Table::new(&[
        "REGION", "KIND", "ENABLED", "HEALTH", ">AGE", ">HOSTS", ">VMS", ">RUNNING",
        "DRIVERS", "NOTES",
    ]);
    for region in &status.regions {
        let hosts = format!("{}/{}", region.hosts_up, region.hosts);
        let hosts = if region.hosts_up < region.hosts {
            Cell::toned(hosts, Tone::Warn)
        } else {
            Cell::from(hosts)
        };
        table.push(row![
            &region.id,
            text::word(&region.kind),
            text::yes(region.enabled),
            health(region.health),
            text::age_ms(region.age_ms),
            hosts,
            text::count(region.vms),
            text::count(region.running),
            text::listed(&region.drivers),
            text::listed(&region.notes),
        ]);
    }
    let unknown = match status.unknown {
        0 => String::new(),
        unknown => format!(
            "not heard from or in maintenance: {} regions\n",
            text::count(unknown)
        ),
    };
    format!(
        "{}\n{}\n{unknown}{}answered by {} (version {}); {} VMs are seen running\n",
        global_status(status, look),
        if status.regions.is_empty() {
            "no regions\n".to_owned()
        } else {
            table.render(look.colored)
        },
        engine(&status.engine),
        status.answered_by,
        text::plain(&status.version),
        text::count(status.running_vms),
    )
}

fn engine(engine: &EngineStatus) -> String {
    let reach = if engine.reachable {
        "reachable"
    } else {
        "NOT REACHABLE: nothing can be placed or changed"
    };
    let revision = text::count(engine.revision);
    let kind = text::plain(&engine.kind);
    if engine.members.is_empty() {
        return format!(
            "engine: {kind} on {}, {reach}, revision {revision}\n",
            engine.host
        );
    }
    let answering = engine.members.iter().filter(|member| member.answers).count();
    let members = engine.members.len();
    let leader = match &engine.leader {
        None => "NO LEADER".to_owned(),
        Some(leader) if *leader == engine.host => format!("leader at home in {leader}"),
        Some(leader) => format!("leader in {leader}, AWAY from its home {}", engine.host),
    };
    let silent: String = engine
        .members
        .iter()
        .filter_map(|member| Some((member, member.problem.as_ref()?)))
        .map(|(member, why)| format!("  {}: {}\n", member.name, text::plain(why)))
        .collect();
    format!(
        "engine: {kind}, {answering} of {members} members answer, {leader}, {reach}, \
         revision {revision}\n{silent}"
    )
}
