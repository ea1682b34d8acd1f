//! How much later than it should a packet left: what the emulator's precision is known by.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Width of a step of the histogram.
const STEP: Duration = Duration::from_micros(20);
/// Steps: up to 40 ms; what is later is in the last one.
const STEPS: usize = 2_000;

/// A histogram of lateness.
#[derive(Debug)]
pub(crate) struct Lateness {
    counts: Vec<u64>,
    max: Duration,
}

/// How late packets left the emulator since the last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatenessReport {
    /// Packets that left.
    pub packets: u64,
    /// Half of them left no later than this after their time, in microseconds.
    pub p50_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// The latest.
    pub max_us: u64,
}

impl Lateness {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; STEPS], max: Duration::ZERO }
    }

    pub(crate) fn add(&mut self, late: Duration) {
        let step = late.as_nanos() / STEP.as_nanos();
        let step = usize::try_from(step).unwrap_or(usize::MAX).min(STEPS - 1);
        self.counts[step] += 1;
        self.max = self.max.max(late);
    }

    /// What was added so far, and begins anew.
    pub(crate) fn take(&mut self) -> LatenessReport {
        let packets = self.counts.iter().sum();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let report = LatenessReport {
            packets,
            p50_us: micros(self.percentile(packets, 50)),
            p99_us: micros(self.percentile(packets, 99)),
            max_us: micros(self.max),
        };
        *self = Self::new();
        report
    }

    /// The upper end of the step that holds it; the last step has no end but the maximum.
    fn percentile(&self, packets: u64, percent: u64) -> Duration {
        let wanted = (packets * percent).div_ceil(100);
        let mut seen = 0;
        for (count, upper) in self.counts[..STEPS - 1].iter().zip(1..) {
            seen += count;
            if seen >= wanted {
                return (STEP * upper).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_added_since_the_last_report() {
        let mut lateness = Lateness::new();
        assert_eq!(lateness.take(), LatenessReport::default());
        for number in 1..=100 {
            lateness.add(Duration::from_micros(number * 100));
        }
        let report = lateness.take();
        assert_eq!(report.packets, 100);
        assert!(report.p50_us.abs_diff(5_000) <= 20, "{report:?}");
        assert!(report.p99_us.abs_diff(9_900) <= 20, "{report:?}");
        assert_eq!(report.max_us, 10_000);
        lateness.add(Duration::from_secs(9));
        assert_eq!(lateness.take().p50_us, 9_000_000);
    }
}
