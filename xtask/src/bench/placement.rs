//! How many exact placement decisions one core makes in a second, whether they equal the
//! oracle's, and what OpenStack Placement makes of the same question.
//!
//! Time is the thread's CPU time, because what is promised is work and not the quiet of the
//! machine. CPU time still grows when neighbours share the processor's caches and clock, so
//! decisions come in rounds, and the round that was disturbed least is quoted beside the middle
//! one. Every decision is timed alone; two readings of the clock are part of each sample, which
//! makes the numbers a little worse than the truth, never better.

mod load;
mod peer;

#[path = "../../../core/controller/src/placement/tests/oracle.rs"]
#[allow(clippy::unwrap_used, dead_code, reason = "the oracle of the tests, as it is")]
mod oracle;
#[path = "../../../core/controller/src/placement/tests/random.rs"]
#[allow(clippy::unwrap_used, dead_code, reason = "the generator of the tests, as it is")]
mod random;

use std::hint::black_box;

use anyhow::ensure;
use dwcp_controller::placement::{
    ALTERNATIVES_MAX, Decision, Fleet, Policy, decide, explain, need, validate,
};
use dwcp_types::Strategy;
use rustix::time::ClockId;

use self::load::Load;
use self::random::Random;
use super::nanos::{self, float};
use super::{Measurement, Options, Peer};

/// The fleet of the target: 1,000 regions of 100 hosts.
const REGIONS: usize = 1_000;
const HOSTS: usize = 100;
/// Hosts of a region and decisions when only trying out.
const HOSTS_QUICK: usize = 10;
/// Decisions that are timed, in rounds.
const DECISIONS: usize = 200_000;
const DECISIONS_QUICK: usize = 20_000;
/// Decisions of a round: enough for its slowest hundredth.
const ROUND: usize = 10_000;
/// Decisions before timing begins: caches and branch predictors settle.
const WARM_UP: usize = 2_000;
/// Explanations that are timed; each looks at every host.
const EXPLANATIONS: usize = 50;
/// Random cases judged by the oracle, with fleets and VMs up to so many.
const CASES: u64 = 100_000;
const CASES_QUICK: u64 = 5_000;
const CASE_REGIONS: u64 = 40;
const CASE_VMS: u64 = 20;

/// Runs all of it.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let hosts = if options.quick { HOSTS_QUICK } else { HOSTS };
    let mut load = Load::new(options, REGIONS, hosts)?;
    load.fill()?;
    let decisions = if options.quick { DECISIONS_QUICK } else { DECISIONS };
    let samples = time_decisions(&mut load, decisions)?;
    let peer = peer::measure(&load, options.quick);
    if let Err(why) = &peer {
        eprintln!("no peer: {why:#}");
    }
    let peer = peer.ok();
    let method = format!(
        "{decisions} decisions, one at a time, thread CPU time, best round of {ROUND} (middle round: {:.0}/s, p50 {:.1} us, p99 {:.1} us), {REGIONS} regions x {hosts} hosts at {}% of CPU, {}, {:.1}% placed",
        samples.rate(Pick::Middle),
        samples.at(0.50, Pick::Middle),
        samples.at(0.99, Pick::Middle),
        load.cpu_use_percent(),
        load.source,
        samples.placed * 100.0
    );
    let measured = |name: &str, value: f64, unit, peer: Option<f64>| Measurement {
        name: format!("placement.{name}"),
        value,
        unit,
        method: method.clone(),
        peer: peer.map(|value| Peer { name: peer::NAME.to_owned(), value }),
    };
    let mut found = vec![
        measured(
            "decisions",
            samples.rate(Pick::Best),
            "1/s",
            peer.as_ref().map(|p| p.decisions_per_s),
        ),
        measured(
            "decision_p50",
            samples.at(0.50, Pick::Best),
            "us",
            peer.as_ref().map(|p| p.p50_us),
        ),
        measured(
            "decision_p99",
            samples.at(0.99, Pick::Best),
            "us",
            peer.as_ref().map(|p| p.p99_us),
        ),
        measured("update_p50", samples.update_us, "us", None),
        measured("explain_p50", time_explanations(&mut load), "us", None),
    ];
    let cases = if options.quick { CASES_QUICK } else { CASES };
    found.push(Measurement {
        name: "placement.oracle_equal".to_owned(),
        value: oracle_equal(cases),
        unit: "share",
        method: format!(
            "{cases} random fleets of up to {CASE_REGIONS} regions; choice, alternatives, hosts and scores equal those of an oracle that tries everything"
        ),
        peer: None,
    });
    Ok(found)
}

/// Which round's number is told.
#[derive(Clone, Copy)]
enum Pick {
    Best,
    Middle,
}

/// What was timed, in nanoseconds: sorted rounds.
struct Samples {
    rounds: Vec<Vec<u64>>,
    update_us: f64,
    placed: f64,
}

impl Samples {
    fn rate(&self, pick: Pick) -> f64 {
        let mean_ns = |round: &Vec<u64>| {
            float(round.iter().sum()) / float(round.len().max(1) as u64)
        };
        1e9 / self.pick(pick, mean_ns)
    }

    fn at(&self, share: f64, pick: Pick) -> f64 {
        self.pick(pick, |round| percentile_us(round, share))
    }

    /// The number of one round; less is better.
    fn pick(&self, pick: Pick, number: impl Fn(&Vec<u64>) -> f64) -> f64 {
        let mut numbers: Vec<f64> = self.rounds.iter().map(number).collect();
        numbers.sort_unstable_by(f64::total_cmp);
        let at = match pick {
            Pick::Best => 0,
            Pick::Middle => numbers.len() / 2,
        };
        numbers.get(at).copied().unwrap_or(f64::NAN)
    }
}

fn percentile_us(sorted: &[u64], share: f64) -> f64 {
    nanos::at(sorted, share) / 1e3
}

/// CPU time of this thread, in nanoseconds.
fn cpu_now() -> u64 {
    nanos::now(ClockId::ThreadCPUTime)
}

fn time_decisions(load: &mut Load, decisions: usize) -> anyhow::Result<Samples> {
    let policy = Policy::default();
    let mut nanos = Vec::with_capacity(decisions);
    let mut updates = Vec::with_capacity(decisions);
    let mut placed = 0_u64;
    for at in 0..WARM_UP + decisions {
        let (request, lifetime) = load.next_request();
        let start = cpu_now();
        let decision = black_box(decide(&load.fleet, black_box(&request), &policy));
        let spent = cpu_now() - start;
        if at >= WARM_UP {
            nanos.push(spent);
        }
        if let Some(chosen) = &decision.chosen {
            let start = cpu_now();
            let taken = load.fleet.take(&chosen.region, &chosen.host, &need(&request));
            updates.push(cpu_now() - start);
            ensure!(taken, "{} was placed where there is no room", request.id);
            placed += u64::from(at >= WARM_UP);
            load.placed(&request, chosen, lifetime);
        }
        load.release_to_target();
    }
    updates.sort_unstable();
    let update_us = percentile_us(&updates, 0.5);
    let sorted = |round: &[u64]| {
        let mut round = round.to_vec();
        round.sort_unstable();
        round
    };
    let rounds = nanos.chunks(ROUND).map(sorted).collect();
    Ok(Samples { rounds, update_us, placed: float(placed) / float(decisions as u64) })
}

fn time_explanations(load: &mut Load) -> f64 {
    let mut nanos: Vec<_> = (0..EXPLANATIONS)
        .map(|_| {
            let (request, _) = load.next_request();
            let start = cpu_now();
            black_box(explain(&load.fleet, black_box(&request), &Policy::default()));
            cpu_now() - start
        })
        .collect();
    nanos.sort_unstable();
    percentile_us(&nanos, 0.5)
}

/// The share of random cases in which every place is the oracle's.
fn oracle_equal(cases: u64) -> f64 {
    let equal = (0..cases).filter(|seed| equals_oracle(*seed)).count();
    float(equal as u64) / float(cases)
}

fn equals_oracle(seed: u64) -> bool {
    // Far from the seeds of the tests.
    let mut random = Random::new(seed + (1 << 40));
    let view = random::fleet(&mut random, CASE_REGIONS, CASE_VMS);
    let request = loop {
        let request = random::request(&mut random, view.regions.len() as u64);
        if validate(&request).is_ok() {
            break request;
        }
    };
    let decision = decide(&Fleet::new(&view), &request, &Policy::default());
    let mut expected = oracle::judge(&view, &request, Strategy::default()).places;
    expected.truncate(ALTERNATIVES_MAX + 1);
    let equal = places(&decision) == expected;
    if !equal {
        eprintln!("case {seed} differs from the oracle");
    }
    equal
}

fn places(decision: &Decision) -> Vec<oracle::Place> {
    let chosen =
        decision.chosen.iter().map(|at| (&at.region, &at.zone, &at.host, at.score));
    let others = decision.alternatives.iter();
    let others = others.map(|at| (&at.region, &at.zone, &at.host, at.score));
    let all = chosen.chain(others).map(|(region, zone, host, score)| {
        let score = u128::from(score.get());
        (region.to_string(), zone.to_string(), host.to_string(), score)
    });
    all.collect()
}
