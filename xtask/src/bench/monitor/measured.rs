//! Merged percentiles against the exact ones, and what digests and the history of all regions cost.
//!
//! The five regions are skewed: one serves nine of ten requests and fast, the others are further
//! away and have longer tails. The peer is what dashboards do, the mean of the regions' own
//! percentiles. Times are of the thread's CPU. Memory is what the process grew by, with
//! everything that the allocator adds.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use dwcp_monitor::Metric;
use dwcp_monitor::digest::{Digest, Gauges, Intake, Recorder, Sketch, Taken};
use dwcp_monitor::history::{History, Past, Query, Segment, SegmentId};
use dwcp_types::{RegionId, Timestamp};
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
pub(super) fn measure(quick: bool) -> anyhow::Result<Vec<Measurement>> {
    let mut chance = Chance(7);
    let mut found = vec![merged(&mut chance)];
    found.push(recorded(&mut chance, if quick { RECORDED_QUICK } else { RECORDED }));
    let before = resident_mib();
    // Filled once; its copies take as much as it does.
    let (history, files, wrote) = filled(&mut chance)?;
    let mut histories = vec![history];
    // What stands for the disk here is no memory of a daemon.
    let before = before + disk_mib(&files);
    for (size, regions) in [("few", FEW), ("many", if quick { FEW } else { MANY })] {
        let copy = histories.first().cloned().unwrap_or_default();
        histories.resize(regions, copy);
        found.push(memory(size, regions, resident_mib() - before));
    }
    found.extend(on_disk(&files, wrote));
    found.push(charted(&histories, &files)?);
    found.extend(rounds(&mut histories, &mut chance));
    Ok(found)
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

/// The files of one region.
type Files = BTreeMap<SegmentId, Vec<u8>>;

fn region() -> anyhow::Result<RegionId> {
    Ok(RegionId::new("one")?)
}

/// A history of 90 days with every place filled, what it has on disk, and how much of that the
/// last hour wrote.
fn filled(chance: &mut Chance) -> anyhow::Result<(History, Files, usize)> {
    let (mut history, mut files, of) = (History::default(), Files::new(), region()?);
    let (mut at, mut wrote) = (BEGIN, 0);
    let end = BEGIN + 90 * DAY;
    let fill = [(300_000, end - 7 * DAY), (60_000, end - DAY / 12), (TEN_S, end)];
    for (step, until) in fill {
        while at < until {
            history.record(Timestamp::from_millis(at), &digest(1, chance));
            if at.is_multiple_of(60_000) {
                for piece in history.pieces(None, Timestamp::from_millis(at)) {
                    let file = files.entry(piece.segment).or_default();
                    let len = u64::try_from(file.len()).unwrap_or(u64::MAX);
                    let bytes = piece.encode(&of, len);
                    wrote += if at >= end - DAY / 24 { bytes.len() } else { 0 };
                    file.extend(bytes);
                }
                for grain in dwcp_monitor::history::Grain::ALL {
                    let there = files.keys().filter(|id| id.grain == grain);
                    let there = there.map(|id| id.number).collect();
                    for gone in grain.surplus(there, Timestamp::from_millis(at)) {
                        files.remove(&gone);
                    }
                }
            }
            at += step;
        }
    }
    Ok((history, files, wrote))
}

fn disk_mib(files: &Files) -> f64 {
    let bytes: usize = files.values().map(Vec::len).sum();
    float(u64::try_from(bytes).unwrap_or(u64::MAX)) / f64::from(1 << 20)
}

/// What a history of one region has on disk, and what it writes.
fn on_disk(files: &Files, wrote: usize) -> [Measurement; 2] {
    let float = |bytes: usize| float(u64::try_from(bytes).unwrap_or(u64::MAX));
    let what = format!("one region, {} files of 2 h, 7 d and 90 d", files.len());
    let of = |name: &str, value, unit, method| Measurement {
        name: format!("monitor.history_{name}"),
        value,
        unit,
        method,
        peer: None,
    };
    [
        of("disk", disk_mib(files), "MiB", what),
        of(
            "written",
            float(wrote) / 60.0,
            "bytes/min",
            format!("written for one region, a digest of {REQUESTS} requests each 10 s"),
        ),
    ]
}

/// A chart of 90 days, read and decoded from memory that stands for files.
fn charted(histories: &[History], files: &Files) -> anyhow::Result<Measurement> {
    let now_at = Timestamp::from_millis(BEGIN + 90 * DAY - 1);
    let query = Query::chart(Duration::from_secs(90 * DAY / 1_000), now_at);
    let of = region()?;
    let begun = now(ClockId::ThreadCPUTime);
    for history in histories.iter().cycle().take(usize::try_from(ROUNDS)?) {
        let mut past = Past::default();
        for id in query.segments() {
            let bytes = files.get(&id).map(Vec::as_slice).unwrap_or_default();
            past.take(&query, id, Segment::decode(&of, id, bytes));
        }
        black_box(history.chart(Metric::P99Latency, &query, &past));
    }
    let took = now(ClockId::ThreadCPUTime) - begun;
    Ok(Measurement {
        name: "monitor.history_chart".to_owned(),
        value: float(took) / float(ROUNDS) / 1e6,
        unit: "ms",
        method: format!("thread CPU of a chart of 90 d of one region, mean of {ROUNDS}"),
        peer: None,
    })
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
            "{regions} regions, every place of 2 h, 7 d and 90 d filled with digests of {REQUESTS} requests; resident memory, the rest is on disk"
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
            let query = Query::last(Duration::from_mins(5), at);
            let window = history.window(&query, &Past::default());
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
