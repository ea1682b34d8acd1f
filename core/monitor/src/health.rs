//! The health score of a region and the band it falls in (M11, M12).
//!
//! The table of M11 is read literally: every threshold is passed only by more than it, so
//! exactly 80 %, 90 %, 0.5 %, 1.0 %, 50 ms and 100 ms deduct the smaller amount or nothing
//! (F95). The bands leave no gap: 80 and over, 60 and over, the rest.
//!
//! The score speaks of load, never of life. A region that nothing was heard from is unknown,
//! not a hundred (F6), and whether it lives is decided by its heartbeats elsewhere. Latency is
//! the region's own service latency; what a far user sees is the distance's fault (F69).
//!
//! The deductions add up to 90 at most, so the least score is 10; "floor 0" of M11 holds
//! without a floor. Steps flap around their thresholds: whoever acts on the score smooths the
//! samples first. That is left out here so that this stays the table, to be tested as one.

use dwcp_types::{Bps, Health, HealthState, Micros};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Least score of a healthy region (M12).
pub const HEALTHY_MIN: u8 = 80;
/// Least score of a degraded region (M12); under it is unhealthy.
pub const DEGRADED_MIN: u8 = 60;

/// M11: "CPU > 90 %", "memory > 90 %".
const LOAD_HIGH: u16 = 9_000;
/// M11: "> 80 %".
const LOAD_RAISED: u16 = 8_000;
/// M11: "error rate > 1.0 %".
const ERRORS_HIGH: u16 = 100;
/// M11: "> 0.5 %".
const ERRORS_RAISED: u16 = 50;
/// M11: "p99 latency > 100 ms".
pub const LATENCY_HIGH: Micros = Micros::from_millis(100);
/// M11: "> 50 ms".
pub const LATENCY_RAISED: Micros = Micros::from_millis(50);
/// What a score starts from (M11).
const FULL: u8 = 100;

/// What a region reports of itself, over one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Share of the CPUs that is busy.
    pub cpu: Bps,
    /// Share of the memory that is used.
    pub memory: Bps,
    /// Requests that were served, in any way.
    pub requests: u64,
    /// Those of them that failed. The rate is judged exactly from the two counts, because a
    /// rate that is rounded first would hide 1.004 % in 1.00 %.
    pub failed: u64,
    /// The region's own service latency, 99th percentile.
    pub p99: Micros,
}

/// What is known of a region when its health is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Observation {
    /// Nothing recent. Its last values are not its values (F6).
    Silent,
    /// A recent sample.
    Heard(Sample),
    /// Its operator works on it; the sample is still scored.
    Maintenance(Option<Sample>),
}

/// Why points were taken off.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// CPU over 90 %.
    CpuHigh,
    /// CPU over 80 %.
    CpuRaised,
    /// Memory over 90 %.
    MemoryHigh,
    /// Memory over 80 %.
    MemoryRaised,
    /// More than 1.0 % of the requests failed.
    ErrorsHigh,
    /// More than 0.5 % of the requests failed.
    ErrorsRaised,
    /// 99th percentile of latency over 100 ms.
    LatencyHigh,
    /// 99th percentile of latency over 50 ms.
    LatencyRaised,
}

impl Reason {
    /// The points that M11 takes off for it.
    #[must_use]
    pub const fn points(self) -> u8 {
        match self {
            Self::ErrorsHigh => 30,
            Self::CpuHigh | Self::MemoryHigh | Self::LatencyHigh => 20,
            Self::ErrorsRaised => 15,
            Self::CpuRaised | Self::MemoryRaised | Self::LatencyRaised => 10,
        }
    }

    /// In words, for an operator.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::CpuHigh => "CPU over 90 %",
            Self::CpuRaised => "CPU over 80 %",
            Self::MemoryHigh => "memory over 90 %",
            Self::MemoryRaised => "memory over 80 %",
            Self::ErrorsHigh => "more than 1.0 % of requests failed",
            Self::ErrorsRaised => "more than 0.5 % of requests failed",
            Self::LatencyHigh => "p99 latency over 100 ms",
            Self::LatencyRaised => "p99 latency over 50 ms",
        }
    }
}

/// Points that were taken off, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deduction {
    /// Why.
    pub reason: Reason,
    /// How many.
    pub points: u8,
}

/// A region's health with everything that speaks against it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The score and its band.
    pub health: Health,
    /// What was taken off, in the order of M11.
    pub deductions: Vec<Deduction>,
}

/// The health of a region by a sample.
#[must_use]
pub fn health(sample: &Sample) -> Health {
    reported(&Observation::Heard(*sample)).health
}

/// The health of a region by what is known of it, with the deductions by name.
#[must_use]
pub fn reported(observation: &Observation) -> HealthReport {
    match observation {
        Observation::Silent => HealthReport::default(),
        Observation::Heard(sample) => scored(sample, None),
        Observation::Maintenance(Some(sample)) => {
            scored(sample, Some(HealthState::Maintenance))
        }
        Observation::Maintenance(None) => {
            let state = HealthState::Maintenance;
            let health = Health { state, score: 0 };
            HealthReport { health, deductions: Vec::new() }
        }
    }
}

fn scored(sample: &Sample, state: Option<HealthState>) -> HealthReport {
    let deductions: Vec<Deduction> = reasons(sample)
        .into_iter()
        .flatten()
        .map(|reason| Deduction { reason, points: reason.points() })
        .collect();
    let score = deductions.iter().fold(FULL, |score, d| score.saturating_sub(d.points));
    let state = state.unwrap_or_else(|| band(score));
    HealthReport { health: Health { state, score }, deductions }
}

const fn band(score: u8) -> HealthState {
    match score {
        HEALTHY_MIN.. => HealthState::Healthy,
        DEGRADED_MIN.. => HealthState::Degraded,
        _ => HealthState::Unhealthy,
    }
}

/// The table of M11.
fn reasons(sample: &Sample) -> [Option<Reason>; 4] {
    let errors = |bps| more_than(sample.failed, sample.requests, bps);
    [
        step(sample.cpu.get() > LOAD_HIGH, Reason::CpuHigh)
            .or_else(|| step(sample.cpu.get() > LOAD_RAISED, Reason::CpuRaised)),
        step(sample.memory.get() > LOAD_HIGH, Reason::MemoryHigh)
            .or_else(|| step(sample.memory.get() > LOAD_RAISED, Reason::MemoryRaised)),
        step(errors(ERRORS_HIGH), Reason::ErrorsHigh)
            .or_else(|| step(errors(ERRORS_RAISED), Reason::ErrorsRaised)),
        step(sample.p99 > LATENCY_HIGH, Reason::LatencyHigh)
            .or_else(|| step(sample.p99 > LATENCY_RAISED, Reason::LatencyRaised)),
    ]
}

fn step(passed: bool, reason: Reason) -> Option<Reason> {
    passed.then_some(reason)
}

/// Whether `part` is more than `bps` basis points of `whole`, without rounding. Of no requests
/// none failed; a count of failures without requests is all of them.
fn more_than(part: u64, whole: u64, bps: u16) -> bool {
    u128::from(part) * u128::from(Bps::ONE.get()) > u128::from(whole) * u128::from(bps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bps(points: u16) -> Bps {
        Bps::new(points).unwrap()
    }

    fn score(change: impl FnOnce(&mut Sample)) -> u8 {
        let mut sample = Sample { requests: 100_000, ..Sample::default() };
        change(&mut sample);
        health(&sample).score
    }

    #[test]
    fn each_threshold_is_passed_only_by_more_than_it() {
        for (points, expected) in
            [(0, 100), (8_000, 100), (8_001, 90), (9_000, 90), (9_001, 80), (10_000, 80)]
        {
            assert_eq!(
                score(|sample| sample.cpu = bps(points)),
                expected,
                "CPU {points}"
            );
            let memory = score(|sample| sample.memory = bps(points));
            assert_eq!(memory, expected, "memory {points}");
        }
        for (failed, expected) in [(500, 100), (501, 85), (1_000, 85), (1_001, 70)] {
            assert_eq!(
                score(|sample| sample.failed = failed),
                expected,
                "{failed} failed"
            );
        }
        for (micros, expected) in
            [(50_000, 100), (50_001, 90), (100_000, 90), (100_001, 80)]
        {
            let latency = score(|sample| sample.p99 = Micros::new(micros));
            assert_eq!(latency, expected, "{micros} us");
        }
    }

    #[test]
    fn the_bands_begin_at_80_and_60_and_leave_no_gap() {
        let bands: Vec<HealthState> = (0..=FULL).map(band).collect();
        assert!(bands[..60].iter().all(|state| *state == HealthState::Unhealthy));
        assert!(bands[60..80].iter().all(|state| *state == HealthState::Degraded));
        assert!(bands[80..].iter().all(|state| *state == HealthState::Healthy));
    }

    /// F6 works this one out: only busy, and under the source's failover threshold of 70.
    #[test]
    fn a_region_that_is_only_busy_is_degraded() {
        let busy = Sample { cpu: bps(9_500), memory: bps(9_500), ..Sample::default() };
        let expected = Health { state: HealthState::Degraded, score: 60 };
        assert_eq!(health(&busy), expected);
    }

    #[test]
    fn a_region_that_is_not_heard_is_unknown_and_never_a_hundred() {
        let silent = reported(&Observation::Silent);
        assert_eq!(silent.health, Health { state: HealthState::Unknown, score: 0 });
        assert_ne!(silent.health, health(&Sample::default()));
    }

    #[test]
    fn maintenance_keeps_the_score_and_hides_the_band() {
        let sample = Sample { cpu: bps(8_500), ..Sample::default() };
        let report = reported(&Observation::Maintenance(Some(sample)));
        let expected = Health { state: HealthState::Maintenance, score: 90 };
        assert_eq!(report.health, expected);
        let silent = reported(&Observation::Maintenance(None)).health;
        assert_eq!(silent.state, HealthState::Maintenance);
    }

    #[test]
    fn everything_at_once_leaves_ten_points_and_names_four_reasons() {
        let worst = Sample {
            cpu: Bps::ONE,
            memory: Bps::ONE,
            requests: 1,
            failed: 1,
            p99: Micros::from_millis(1_000),
        };
        let report = reported(&Observation::Heard(worst));
        let expected = Health { state: HealthState::Unhealthy, score: 10 };
        assert_eq!(report.health, expected);
        let named: Vec<(Reason, u8)> =
            report.deductions.iter().map(|d| (d.reason, d.points)).collect();
        assert_eq!(
            named,
            [
                (Reason::CpuHigh, 20),
                (Reason::MemoryHigh, 20),
                (Reason::ErrorsHigh, 30),
                (Reason::LatencyHigh, 20),
            ]
        );
    }

    #[test]
    fn a_failure_rate_is_not_rounded_before_it_is_judged() {
        // 1.004 % and 0.996 %, both 1.00 % when rounded to basis points.
        let rate = |failed| {
            health(&Sample { requests: 100_000, failed, ..Sample::default() }).score
        };
        assert_eq!((rate(1_004), rate(996)), (70, 85));
        assert_eq!(health(&Sample::default()).score, 100, "no requests, no failures");
    }

    /// The table again, in per cent and milliseconds as the source writes it.
    fn by_the_source(cpu: f64, memory: f64, errors: f64, p99_ms: f64) -> i32 {
        let mut score = 100;
        score -= if cpu > 90.0 { 20 } else { i32::from(cpu > 80.0) * 10 };
        score -= if memory > 90.0 { 20 } else { i32::from(memory > 80.0) * 10 };
        score -= if errors > 1.0 { 30 } else { i32::from(errors > 0.5) * 15 };
        score -= if p99_ms > 100.0 { 20 } else { i32::from(p99_ms > 50.0) * 10 };
        score.max(0)
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_table_of_the_source(
            cpu in 0u16..=100, memory in 0u16..=100, failed in 0u32..=400, p99_ms in 0u32..=200,
        ) {
            // Of 20,000 requests each is 0.005 %, so every rate is exact in both.
            let sample = Sample {
                cpu: bps(cpu * 100),
                memory: bps(memory * 100),
                requests: 20_000,
                failed: failed.into(),
                p99: Micros::from_millis(p99_ms),
            };
            let errors = f64::from(failed) * 100.0 / 20_000.0;
            let expected =
                by_the_source(cpu.into(), memory.into(), errors, p99_ms.into());
            prop_assert_eq!(i32::from(health(&sample).score), expected);
        }

        #[test]
        fn the_deductions_are_exactly_what_is_missing_to_a_hundred(
            cpu in 0u16..=10_000, memory in 0u16..=10_000, requests: u64, failed: u64, p99: u32,
        ) {
            let (cpu, memory) = (bps(cpu), bps(memory));
            let sample = Sample { cpu, memory, requests, failed, p99: Micros::new(p99) };
            let report = reported(&Observation::Heard(sample));
            let off: u8 = report.deductions.iter().map(|d| d.points).sum();
            prop_assert_eq!(report.health.score + off, 100);
            prop_assert_eq!(report.health, health(&sample));
        }
    }
}
