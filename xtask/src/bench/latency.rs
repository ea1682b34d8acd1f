//! What many timed calls come to: their middle and the one that 99 in a hundred stay below.
//! Exact, from all of them sorted; nothing is sampled.

use std::time::Duration;

/// How long each of many calls took.
#[derive(Debug, Default)]
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(super) fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The latency that `percent` in a hundred stay at or below, in milliseconds.
    pub(super) fn percentile_ms(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let at = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let mut all = Latencies::default();
        for ms in (1..=200).rev() {
            all.add(Duration::from_millis(ms));
        }
        assert!((all.percentile_ms(50) - 100.0).abs() < 1e-9);
        assert!((all.percentile_ms(99) - 198.0).abs() < 1e-9);
        assert!(Latencies::default().percentile_ms(99).abs() < 1e-9);
    }
}
