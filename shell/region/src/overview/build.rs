//! An overview made of what the daemon's parts hold at one moment. Pure: no clock, no locks.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::overview::{
    EngineGlance, FailoverGlance, IncidentGlance, IncidentsGlance, LevelGlance,
    LevelsGlance, MoveGlance, MovesGlance, Overview, RegionGlance, SHOWN_MAX,
    TEXT_LEN_MAX, TrafficGlance,
};
use dwcp_controller::failover::Log;
use dwcp_controller::migration::{Migration, Step};
use dwcp_monitor::HealthReport;
use dwcp_monitor::incident::{Book, Incident};
use dwcp_monitor::sla::{Definition, Report, Standing};
use dwcp_types::{Bps, RegionId};

use super::links::{links, steady};
use crate::inventory::reserved;
use crate::world::Trip;

/// All of a budget, in parts per million.
const WHOLE_PPM: u64 = 1_000_000;

/// What is known of one region.
#[derive(Clone, Debug)]
pub(crate) struct RegionFacts {
    pub(crate) id: RegionId,
    pub(crate) disabled: bool,
    pub(crate) emptied: bool,
    pub(crate) health: HealthReport,
    /// By this daemon's monotonic clock; nothing when it never was.
    pub(crate) heard_at: Option<Duration>,
    pub(crate) up: u64,
    pub(crate) hosts: u64,
    pub(crate) vms: u64,
    pub(crate) running: u64,
    /// All and free.
    pub(crate) cpu: (u64, u64),
    pub(crate) memory: (u64, u64),
    pub(crate) trips: BTreeMap<RegionId, Trip>,
}

/// Everything that an overview is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// By this daemon's monotonic clock.
    pub(crate) now: Duration,
    pub(crate) engine: EngineGlance,
    /// By name.
    pub(crate) regions: Vec<RegionFacts>,
    pub(crate) incidents: IncidentsGlance,
    pub(crate) moves: Vec<Arc<Migration>>,
    pub(crate) failover: Option<FailoverGlance>,
    pub(crate) slow: Slow,
}

/// What changes by the digest only, every 10 s, and takes long to sum up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slow {
    pub(crate) levels: LevelsGlance,
    pub(crate) traffic: TrafficGlance,
}

/// The overview of these facts; `before` steadies what only jitters. It has no version yet.
pub(super) fn overview(
    answered_by: &RegionId,
    facts: &Facts,
    before: Option<&Overview>,
) -> Overview {
    let glance = |it: &RegionFacts| (it.id.clone(), region(it, facts.now));
    let mut links = links(&facts.regions, facts.now);
    for (id, row) in &mut links {
        if let Some(was) = before.and_then(|before| before.links.get(id)) {
            steady(was, row);
        }
    }
    Overview {
        version: String::new(),
        answered_by: Some(answered_by.clone()),
        engine: facts.engine.clone(),
        regions: facts.regions.iter().map(glance).collect(),
        links,
        incidents: facts.incidents.clone(),
        moves: moves(&facts.moves),
        failover: facts.failover.clone(),
        levels: facts.slow.levels.clone(),
        traffic: facts.slow.traffic.clone(),
    }
}

fn region(facts: &RegionFacts, now: Duration) -> RegionGlance {
    RegionGlance {
        health: facts.health.health,
        deductions: facts.health.deductions.clone(),
        age_s: facts.heard_at.map(|at| steps_s(now.saturating_sub(at))),
        disabled: facts.disabled,
        emptied: facts.emptied,
        up: facts.up,
        hosts: facts.hosts,
        vms: facts.vms,
        running: facts.running,
        cpu: reserved(facts.cpu.0, facts.cpu.1),
        memory: reserved(facts.memory.0, facts.memory.1),
    }
}

/// An age in whole seconds that seldom changes: steps of 10 s, from two minutes on minutes, from
/// two hours on hours.
pub(super) const fn steps_s(age: Duration) -> u64 {
    let seconds = age.as_secs();
    let step = match seconds {
        0..120 => 10,
        120..7_200 => 60,
        _ => 3_600,
    };
    seconds - seconds % step
}

/// What stands and is no part of another incident.
pub(crate) fn incidents(book: &Book, age: Option<Duration>) -> IncidentsGlance {
    let stands = |id| book.incidents.get(&id).is_some_and(Incident::stands);
    let is_own = |it: &&Incident| it.stands() && !it.parent.is_some_and(stands);
    let mut open: Vec<&Incident> = book.incidents.values().filter(is_own).collect();
    open.sort_by_key(|it| (Reverse(it.severity), Reverse(it.detected_at), it.id));
    let glance = |it: &&Incident| IncidentGlance {
        id: it.id,
        region: it.region.clone(),
        severity: it.severity,
        status: it.status,
        title: it.title.chars().take(TEXT_LEN_MAX).collect(),
        since: it.detected_at,
        flaps: it.flaps,
    };
    IncidentsGlance {
        open: count(open.len()),
        age_s: age.map(steps_s),
        shown: open.iter().take(SHOWN_MAX).map(glance).collect(),
    }
}

fn moves(all: &[Arc<Migration>]) -> MovesGlance {
    let mut going: Vec<_> = all.iter().filter(|it| !it.is_done()).collect();
    going.sort_by(|one, other| {
        let key = |it: &Migration| (it.step == Step::Queued, it.ask.at);
        key(one).cmp(&key(other)).then_with(|| one.id.cmp(&other.id))
    });
    let waiting = going.iter().filter(|it| it.step == Step::Queued).count();
    let glance = |it: &&Arc<Migration>| MoveGlance {
        id: it.id.clone(),
        vm: it.ask.vm.clone(),
        from: it.ask.source.region.clone(),
        to: it.ask.target.clone(),
        step: it.step,
        since: it.ask.at,
    };
    MovesGlance {
        waiting: count(waiting),
        running: count(going.len() - waiting),
        shown: going.iter().take(SHOWN_MAX).map(glance).collect(),
    }
}

/// The failover under way.
pub(super) fn failover(log: &Log) -> FailoverGlance {
    FailoverGlance {
        id: log.id.clone(),
        region: log.region.clone(),
        phase: log.phase,
        owned: log.owned,
        running: log.running,
        down: count(log.down.len()),
        since: log.started_at,
    }
}

/// Each promise by the region where least of its budget is left.
pub(crate) fn levels(all: &[(Definition, Vec<(RegionId, Report)>)]) -> LevelsGlance {
    let sums = all.iter().flat_map(|(_, reports)| reports).map(|(_, it)| it.sum);
    // Sums and no mean of shares (F68).
    let (good, total) = sums.fold((0_u64, 0_u64), |(good, total), sum| {
        (good.saturating_add(sum.good), total.saturating_add(sum.total))
    });
    let mut shown: Vec<_> =
        all.iter().filter_map(|(of, reports)| level(of, reports)).collect();
    shown.sort_by(|one, other| {
        let key = |it: &LevelGlance| (it.standing == Standing::Unmeasured, it.left_ppm);
        let worst = key(one).cmp(&key(other));
        worst.then_with(|| one.compliance_ppm.cmp(&other.compliance_ppm))
    });
    shown.truncate(SHOWN_MAX);
    let compliance = (total > 0).then(|| Bps::ratio(good, total));
    LevelsGlance { promised: count(all.len()), compliance, shown }
}

fn level(of: &Definition, reports: &[(RegionId, Report)]) -> Option<LevelGlance> {
    // What nothing was measured of has spent nothing and says nothing.
    let (worst, report) = reports.iter().max_by_key(|(region, report)| {
        let measured = report.standing != Standing::Unmeasured;
        (measured, report.spent_ppm, Reverse(region.clone()))
    })?;
    let broken = |(_, it): &&(RegionId, Report)| it.standing == Standing::Breach;
    Some(LevelGlance {
        id: of.id.clone(),
        standing: report.standing,
        worst: worst.clone(),
        compliance_ppm: report.compliance_ppm,
        promised_ppm: of.compliance_ppm,
        left_ppm: WHOLE_PPM.saturating_sub(report.spent_ppm),
        broken: count(reports.iter().filter(broken).count()),
        regions: count(reports.len()),
    })
}

pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
