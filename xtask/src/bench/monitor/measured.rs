//! Merged percentiles against the exact ones, and what digests and the history of all regions cost.
//!
//! The five regions are skewed: one serves nine of ten requests and fast, the others are further
//! away and have longer tails. The peer is what dashboards do, the mean of the regions' own
//! percentiles. Times are of the thread's CPU. Memory is what the process grew by, with
//! everything that the allocator adds.

use std::hint::black_box;
use std::time::Duration;

use dwcp_monitor::Metric;
use dwcp_monitor::digest::{Digest, Gauges, Intake, Recorder, Sketch, Taken};
use dwcp_monitor::history::History;
use dwcp_types::Timestamp;
use rustix::time::ClockId;

use super::super::nanos::{float, now};
use super::super::usage::Usage;
use super::super::{Measurement, Peer};

/// Requests of each region, its least latency in microseconds, and its tail in times that.
const REGIONS: [(u64, u64, u64); 5] = [
    (900_000, 800, 4),
    (60_000, 4_000, 9),
    (25_000, 25_000, 2),
    (10_000, 60_000, 12),
    (5_000, 180_000, 30),
];
/// Requests that are recorded one by one.
const RECORDED: u64 = 20_000_000;
const RECORDED_QUICK: u64 = 1_000_000;
/// Requests in one digest: ten a second.
const REQUESTS: u64 = 100;
/// A federation of this size, and a large one.
const FEW: usize = 5;
const MANY: usize = 50;
/// As many service levels as operators may define.
const SLAS: usize = 32;
/// Rounds that are timed.
const ROUNDS: u64 = 20;
const TEN_S: u64 = 10_000;
const DAY: u64 = 24 * 3_600_000;
/// When the histories begin: a whole number of all steps.
const BEGIN: u64 = 1_800_000_000_000;

/// Measures.
pub(super) fn measure(quick: bool) -> Vec<Measurement> {
    let mut chance = Chance(7);
    let mut found = vec![merged(&mut chance)];
    found.push(recorded(&mut chance, if quick { RECORDED_QUICK } else { RECORDED }));
    let before = resident_mib();
    // Filled once; its copies take as much as it does.
    let mut histories = vec![filled(&mut chance)];
    for (size, regions) in [("few", FEW), ("many", if quick { FEW } else { MANY })] {
        let copy = histories.first().cloned().unwrap_or_default();
        histories.resize(regions, copy);
        found.push(memory(size, regions, resident_mib() - before));
    }
    found.extend(rounds(&mut histories, &mut chance));
    found
}

/// Numbers by chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }

    /// A latency with a long tail.
    fn latency(&mut self, base: u64, tail: u64) -> u64 {
        let x = self.below(1_000);
        base + base * tail * x * x * x / 1_000_000_000
    }
}

fn merged(chance: &mut Chance) -> Measurement {
    let (mut all, mut merged, mut mean) = (Vec::new(), Sketch::default(), 0);
    for (requests, base, tail) in REGIONS {
        let mut own = Sketch::default();
        for _ in 0..requests {
            let latency = chance.latency(base, tail);
            own.record(latency);
            all.push(latency);
        }
        mean += own.percentile(990_000).unwrap_or(0) / 5;
        merged.merge(&own);
    }
    all.sort_unstable();
    let rank = (all.len() * 99).div_ceil(100).max(1) - 1;
    let exact = all.get(rank).copied().unwrap_or(0);
    let got = merged.percentile(990_000).unwrap_or(0);
    let off = |value: u64| float(value.abs_diff(exact)) * 100.0 / float(exact.max(1));
    Measurement {
        name: "monitor.merged_p99_error".to_owned(),
        value: off(got),
        unit: "%",
        method: format!(
            "p99 of {} requests of five skewed regions: merged {got} us, exact {exact} us, mean of the five p99s {mean} us",
            all.len()
        ),
        peer: Some(Peer { name: "mean of p99s".to_owned(), value: off(mean) }),
    }
}

fn recorded(chance: &mut Chance, requests: u64) -> Measurement {
    let latencies: Vec<u64> = (0..4_096).map(|_| chance.latency(800, 100)).collect();
    let mut recorder = Recorder::default();
    let rounds = requests / 4_096;
    let begun = now(ClockId::ThreadCPUTime);
    for _ in 0..rounds {
        latencies.iter().for_each(|micros| recorder.record(black_box(*micros)));
    }
    let took = now(ClockId::ThreadCPUTime) - begun;
    black_box(recorder.take());
    Measurement {
        name: "monitor.record".to_owned(),
        value: float(took) / float(rounds * 4_096),
        unit: "ns",
        method: "thread CPU for one request's latency into the sketch of the next digest"
            .to_owned(),
        peer: None,
    }
}

fn digest(seq: u64, chance: &mut Chance) -> Digest {
    let mut latency = Sketch::default();
    (0..REQUESTS).for_each(|_| latency.record(chance.latency(800, 6)));
    let gauges = Gauges { vms: 10_000, hosts_answering: 100, ..Gauges::default() };
    Digest {
        life: 1,
        seq,
        made_at: Timestamp::from_millis(BEGIN),
        every_ms: TEN_S,
        requests: REQUESTS,
        errors: 1,
        latency,
        gauges,
    }
}

/// A history with every place of every ring filled.
fn filled(chance: &mut Chance) -> History {
    let mut history = History::default();
    let mut at = BEGIN;
    let fill = [(300_000, BEGIN + 83 * DAY), (60_000, BEGIN + 90 * DAY - DAY / 12)];
    for (step, until) in fill.into_iter().chain([(TEN_S, BEGIN + 90 * DAY)]) {
        while at < until {
            history.record(Timestamp::from_millis(at), &digest(1, chance));
            at += step;
        }
    }
    history
}

fn resident_mib() -> f64 {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    Usage::of(pid).map_or(0.0, |usage| usage.resident_mib)
}

fn memory(size: &str, regions: usize, mib: f64) -> Measurement {
    Measurement {
        name: format!("monitor.history_{size}"),
        value: mib,
        unit: "MiB",
        method: format!(
            "{regions} regions, every place of 2 h, 7 d and 90 d filled with digests of {REQUESTS} requests; resident memory"
        ),
        peer: None,
    }
}

/// A collection of all regions, and a look at all service levels in them.
fn rounds(histories: &mut [History], chance: &mut Chance) -> [Measurement; 2] {
    let mut intakes = vec![Intake::default(); histories.len()];
    let (mut collecting, mut evaluating) = (0, 0);
    for round in 1..=ROUNDS {
        let at = Timestamp::from_millis(BEGIN + 90 * DAY + round * TEN_S);
        let digests: Vec<Digest> =
            histories.iter().map(|_| digest(round, chance)).collect();
        let begun = now(ClockId::ThreadCPUTime);
        for ((history, intake), digest) in
            histories.iter_mut().zip(&mut intakes).zip(&digests)
        {
            if let Taken::New { at } = intake.take(digest, at, Duration::ZERO) {
                history.record(at, digest);
            }
        }
        collecting += now(ClockId::ThreadCPUTime) - begun;
        let begun = now(ClockId::ThreadCPUTime);
        for history in histories.iter() {
            // As the daemon does: what all share is merged once.
            let window = history.last(Duration::from_mins(5), at);
            for sla in 0..SLAS {
                let metric = Metric::ALL.get(sla % 6).copied().unwrap_or(Metric::Vms);
                black_box(window.value_milli(metric));
            }
        }
        evaluating += now(ClockId::ThreadCPUTime) - begun;
    }
    let regions = histories.len();
    let of = |name: &str, nanos: u64, what: String| Measurement {
        name: format!("monitor.{name}"),
        value: float(nanos) / float(ROUNDS) / 1e6,
        unit: "ms",
        method: format!("thread CPU of {what} of {regions} regions, mean of {ROUNDS}"),
        peer: None,
    };
    [
        of("collection", collecting, "taking one digest each".to_owned()),
        of(
            "evaluation",
            evaluating,
            format!("holding {SLAS} values over the last 5 min each"),
        ),
    ]
}
