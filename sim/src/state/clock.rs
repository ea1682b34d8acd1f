//! The clocks of a node: one that shows the time of day and may run wrong or jump, and one that
//! only measures.
//!
//! Both run at the node's own rate, because they count the same crystal; only the first jumps.

/// Where clocks of the day begin, in microseconds: late enough that a clock that is set back
/// stays above zero.
pub(super) const DAY_START_US: u64 = 1_000_000_000_000;

/// The clocks of one node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clocks {
    /// By how many millionths they run fast.
    rate_ppm: i64,
    /// By how many microseconds the time of day was set wrong.
    offset_us: i64,
    /// The time of the world and of the node at which the rate last changed.
    turned: (u64, u64),
}

impl Clocks {
    /// Clocks that run wrong by so many millionths from the start.
    pub(super) const fn new(rate_ppm: i64, offset_us: i64) -> Self {
        Self { rate_ppm, offset_us, turned: (0, 0) }
    }

    /// What the measuring clock shows, in microseconds.
    pub(super) fn measured_us(&self, now: u64) -> u64 {
        let passed = i128::from(now - self.turned.0);
        let wrong = passed * i128::from(self.rate_ppm) / 1_000_000;
        let shown = i128::from(self.turned.1) + passed + wrong;
        u64::try_from(shown).unwrap_or(0)
    }

    /// When, by the world's time, the measuring clock will show `measured`, at the earliest.
    pub(super) fn world_us(&self, measured: u64) -> u64 {
        let ahead = i128::from(measured) - i128::from(self.turned.1);
        let rate = i128::from(1_000_000 + self.rate_ppm);
        let passed = (ahead * 1_000_000 + rate - 1) / rate.max(1);
        self.turned.0 + u64::try_from(passed).unwrap_or(0)
    }

    /// What the clock of the day shows, in microseconds.
    pub(super) fn day_us(&self, now: u64) -> u64 {
        (DAY_START_US + self.measured_us(now)).saturating_add_signed(self.offset_us)
    }

    /// By how much the clock of the day is wrong, in microseconds.
    pub(super) fn error_us(&self, now: u64) -> u64 {
        self.day_us(now).abs_diff(DAY_START_US + now)
    }

    /// Sets the clock of the day forward or back.
    pub(super) const fn jump(&mut self, by_us: i64) {
        self.offset_us += by_us;
    }

    /// Sets the clock of the day right and lets both run at the right rate from now on.
    pub(super) fn repair(&mut self, now: u64) {
        let measured = self.measured_us(now);
        *self = Self { rate_ppm: 0, offset_us: 0, turned: (now, measured) };
        self.offset_us =
            (i128::from(now) - i128::from(measured)).try_into().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_gains_and_a_jump_moves_only_the_day() {
        let mut clocks = Clocks::new(20_000, 0);
        assert_eq!(clocks.measured_us(1_000_000), 1_020_000);
        assert_eq!(clocks.day_us(1_000_000), DAY_START_US + 1_020_000);
        clocks.jump(-1_000_000);
        assert_eq!(clocks.day_us(1_000_000), DAY_START_US + 20_000);
        assert_eq!(clocks.measured_us(1_000_000), 1_020_000);
    }

    #[test]
    fn the_moment_that_the_world_waits_for_is_not_too_early() {
        for rate in [-20_000, -7, 0, 13, 20_000] {
            let mut clocks = Clocks::new(rate, 0);
            for measured in [0, 1, 999, 1_000_000, 123_456_789] {
                let at = clocks.world_us(measured);
                assert!(clocks.measured_us(at) >= measured, "{rate} {measured}");
            }
            clocks.repair(5_000_000);
            let at = clocks.world_us(9_000_000);
            assert!(clocks.measured_us(at) >= 9_000_000);
        }
    }

    #[test]
    fn a_repaired_clock_shows_the_day_and_never_measures_backwards() {
        let mut clocks = Clocks::new(20_000, 3_600_000_000);
        let before = clocks.measured_us(10_000_000);
        clocks.repair(10_000_000);
        assert_eq!(clocks.measured_us(10_000_000), before);
        assert_eq!(clocks.error_us(10_000_000), 0);
        assert_eq!(clocks.error_us(90_000_000), 0);
    }
}
