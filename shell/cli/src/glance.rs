//! An overview in words: what `status --watch` prints and `top` draws. Pure.

use std::time::Duration;

use dwcp_api::overview::{
    EngineGlance, FailoverGlance, Link, Overview, RegionGlance, TrafficGlance,
};
use dwcp_monitor::incident::Severity;
use dwcp_monitor::sla::Standing;
use dwcp_types::{HealthState, RegionId};

use crate::terminal::Tone;
use crate::text;

/// Regions, the worst first: what is not in order, then by score, then by name.
pub(crate) fn worst_first(of: &Overview) -> Vec<(&RegionId, &RegionGlance)> {
    let mut regions: Vec<_> = of.regions.iter().collect();
    regions.sort_by_key(|(id, it)| (rank(it.health.state), it.health.score, *id));
    regions
}

const fn rank(state: HealthState) -> u8 {
    match state {
        HealthState::Unknown => 0,
        HealthState::Unhealthy => 1,
        HealthState::Degraded => 2,
        HealthState::Maintenance => 3,
        HealthState::Healthy => 4,
    }
}

/// How a state is coloured; its word says the same.
pub(crate) const fn tone(state: HealthState) -> Tone {
    match state {
        HealthState::Healthy => Tone::Good,
        HealthState::Degraded | HealthState::Maintenance => Tone::Warn,
        HealthState::Unknown | HealthState::Unhealthy => Tone::Bad,
    }
}

/// State and score: `degraded 70`.
pub(crate) fn health(of: &RegionGlance) -> String {
    let word = text::health_word(of.health.state);
    if of.health.state == HealthState::Unknown {
        return word.to_owned();
    }
    format!("{word} {}", of.health.score)
}

/// An age that is told in steps: the first is under 10 s.
pub(crate) fn age(seconds: Option<u64>) -> String {
    match seconds {
        None => text::UNKNOWN.to_owned(),
        Some(0) => "<10s".to_owned(),
        Some(seconds) => text::age(Duration::from_secs(seconds)),
    }
}

/// What there is to say of a region besides its figures.
pub(crate) fn notes(of: &RegionGlance) -> String {
    let mut notes: Vec<String> = of
        .deductions
        .iter()
        .map(|it| format!("-{} {}", it.points, it.reason.text()))
        .collect();
    if of.age_s.is_none() {
        notes.push("never heard from".to_owned());
    } else if of.health.state == HealthState::Unhealthy && of.up == 0 {
        notes.push("no host answers".to_owned());
    }
    if of.emptied {
        notes.push("being emptied".to_owned());
    } else if of.disabled {
        notes.push("disabled".to_owned());
    }
    if notes.is_empty() { "-".to_owned() } else { notes.join(", ") }
}

/// A reserved share, or a dash.
pub(crate) fn share(of: Option<dwcp_types::Bps>) -> String {
    of.map_or_else(|| "-".to_owned(), |share| share.to_string())
}

/// One line about all regions.
pub(crate) fn summary(of: &Overview) -> String {
    let in_state =
        |state| of.regions.values().filter(|it| it.health.state == state).count();
    let mut parts = vec![format!("{} healthy", in_state(HealthState::Healthy))];
    for (state, word) in [
        (HealthState::Degraded, "degraded"),
        (HealthState::Unhealthy, "unhealthy"),
        (HealthState::Unknown, "not heard"),
        (HealthState::Maintenance, "in maintenance"),
    ] {
        let many = in_state(state);
        if many > 0 {
            parts.push(format!("{many} {word}"));
        }
    }
    let sum = |of_region: fn(&RegionGlance) -> u64| -> u64 {
        of.regions.values().map(of_region).sum()
    };
    format!(
        "{} regions: {}; {} VMs, {} seen running",
        of.regions.len(),
        parts.join(", "),
        text::count(sum(|it| it.vms)),
        text::count(sum(|it| it.running)),
    )
}

/// One line about the engine and who is on duty.
pub(crate) fn engine(of: &EngineGlance) -> String {
    let reach = match (of.reachable, of.age_s) {
        (true, _) => "reachable".to_owned(),
        (false, None) => "NOT REACHABLE, nothing was read of it".to_owned(),
        (false, age_s) => format!("NOT REACHABLE, read {} ago", age(age_s)),
    };
    let members = if of.members == 0 {
        String::new()
    } else {
        let leader = match &of.leader {
            Some(leader) => format!("leader in {leader}"),
            None => "NO LEADER".to_owned(),
        };
        format!(", {} of {} members answer, {leader}", of.answering, of.members)
    };
    let duty = match &of.on_duty {
        Some(region) => format!("{region} looks after incidents"),
        None => "NOBODY looks after incidents".to_owned(),
    };
    format!("engine {}, {reach}{members}; {duty}", text::plain(&of.kind))
}

/// One line about what the APIs were asked.
pub(crate) fn traffic(of: &TrafficGlance) -> String {
    let over = text::age(Duration::from_secs(of.over_s));
    let coverage = format!("{} of {} regions in {over}", of.measured, of.regions);
    let (Some(p50), Some(p95), Some(p99)) = (of.p50_us, of.p95_us, of.p99_us) else {
        return format!("no requests were measured ({coverage})");
    };
    let [p50, p95, p99] = [p50, p95, p99].map(text::span_us);
    let errors = of.errors_milli.unwrap_or(0);
    format!(
        "latency p50/p95/p99 {p50} / {p95} / {p99}, {} req/s, {} % failed ({coverage}, {} old)",
        text::thousandths(of.milli_rps),
        text::thousandths(errors),
        age(of.age_s),
    )
}

/// One line about a failover.
pub(crate) fn failover(of: &FailoverGlance) -> String {
    format!(
        "FAILOVER of {}: {}, {} VMs have new owners, {} run, {} stay down",
        of.region,
        text::word(&of.phase),
        of.owned,
        of.running,
        of.down,
    )
}

/// Tenths of a millisecond: `41.2`, `412` from a hundred milliseconds on.
pub(crate) fn rtt(tenths: u32) -> String {
    if tenths >= 1_000 {
        return tenths.div_ceil(10).to_string();
    }
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A cell of the matrix. What is late never looks like what is new, and what is cut is not empty.
pub(crate) fn link(of: Link) -> (String, Tone) {
    match of {
        Link::Measured(tenths) => (rtt(tenths), Tone::Plain),
        Link::Stale(tenths, _) => (format!("{}?", rtt(tenths)), Tone::Warn),
        Link::Cut(_) => ("cut".to_owned(), Tone::Bad),
        Link::Never => ("-".to_owned(), Tone::Plain),
    }
}

/// Pairs of regions, by what is known of the line between them.
#[derive(Debug, Default)]
pub(crate) struct Lines<'a> {
    pub(crate) measured: usize,
    pub(crate) stale: Vec<(&'a RegionId, &'a RegionId)>,
    pub(crate) cut: Vec<(&'a RegionId, &'a RegionId)>,
    pub(crate) never: usize,
    /// The longest that is measured, in tenths of a millisecond.
    pub(crate) slowest: Option<(u32, &'a RegionId, &'a RegionId)>,
}

/// Every pair once.
pub(crate) fn lines(of: &Overview) -> Lines<'_> {
    let mut lines = Lines::default();
    for (one, row) in &of.links {
        let after = of.regions.keys().filter(|id| *id > one);
        for (at, other) in after.enumerate() {
            match row.link(at) {
                Link::Measured(tenths) => {
                    lines.measured += 1;
                    lines.slowest = lines.slowest.max(Some((tenths, one, other)));
                }
                Link::Stale(..) => lines.stale.push((one, other)),
                Link::Cut(_) => lines.cut.push((one, other)),
                Link::Never => lines.never += 1,
            }
        }
    }
    lines
}

/// How bad an incident looks.
pub(crate) const fn severity_tone(severity: Severity) -> Tone {
    match severity {
        Severity::Critical => Tone::Bad,
        Severity::High => Tone::Warn,
        Severity::Medium | Severity::Low => Tone::Plain,
    }
}

/// How a service level looks.
pub(crate) const fn standing_tone(standing: Standing) -> Tone {
    match standing {
        Standing::Breach => Tone::Bad,
        Standing::Warning => Tone::Warn,
        Standing::Compliant => Tone::Good,
        Standing::Unmeasured => Tone::Plain,
    }
}
