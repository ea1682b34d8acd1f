//! The wall clock as stamps take it: one that does not step.
//!
//! A clock that follows causality never goes back. So a wall clock that is an hour ahead for a
//! second, by a bad source of time or somebody's hand, would have a replica stamp an hour ahead
//! from then on, and be refused by all of its peers until the hour is over, with all that it
//! acknowledges meanwhile (F42). Time goes by the monotonic clock here, from where the wall clock
//! was; small corrections are followed at once, and a step only when it has lasted.

use std::time::Duration;

use dwcp_types::Timestamp;

/// A difference up to this is a correction and no step: as far as a peer may be ahead.
pub const STEP_MIN: Duration = super::AHEAD_MAX;
/// How long a step must last before it is taken for the truth. Sources of time that are wrong
/// are usually left at the next look at them, a minute later.
pub const STEP_TAKEN_AFTER: Duration = Duration::from_mins(2);

/// A wall clock without steps.
#[derive(Clone, Copy, Debug)]
pub struct SteadyWall {
    /// The wall clock when it was followed last, and when that was by the monotonic one.
    followed: (Timestamp, Duration),
    /// Since when the wall clock has been somewhere else.
    stepped_since: Option<Duration>,
}

impl SteadyWall {
    /// One that shows the wall clock as it is at this moment of the monotonic one.
    #[must_use]
    pub const fn new(wall: Timestamp, mono: Duration) -> Self {
        Self { followed: (wall, mono), stepped_since: None }
    }

    /// The time that stamps take.
    pub fn read(&mut self, wall: Timestamp, mono: Duration) -> Timestamp {
        let (last, at) = self.followed;
        let due = last.plus(mono.saturating_sub(at));
        let off = wall.since(due).max(due.since(wall));
        if off > STEP_MIN {
            let since = *self.stepped_since.get_or_insert(mono);
            if mono.saturating_sub(since) < STEP_TAKEN_AFTER {
                return due;
            }
        }
        self.stepped_since = None;
        self.followed = (wall, mono);
        wall
    }

    /// Whether the wall clock is somewhere else at the moment.
    #[must_use]
    pub const fn is_stepped(&self) -> bool {
        self.stepped_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000_000);
    const HOUR: Duration = Duration::from_hours(1);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_is_an_hour_off_for_a_while_is_not_followed() {
        for (there, back) in [(HOUR, Duration::ZERO), (Duration::ZERO, HOUR)] {
            let base = START.plus(HOUR);
            let mut steady = SteadyWall::new(base, secs(1));
            let true_time = |mono: u64| base.plus(secs(mono - 1));
            let wrong = |mono: u64| {
                let ahead = true_time(mono).plus(there);
                Timestamp::from_millis(
                    ahead.as_millis() - u64::try_from(back.as_millis()).unwrap(),
                )
            };
            for mono in 2..100 {
                let time = steady.read(wrong(mono), secs(mono));
                assert_eq!(time, true_time(mono));
                assert!(steady.is_stepped());
            }
            assert_eq!(steady.read(true_time(100), secs(100)), true_time(100));
            assert!(!steady.is_stepped());
            // Another one begins to count anew.
            assert_eq!(steady.read(wrong(101), secs(101)), true_time(101));
            assert_eq!(steady.read(wrong(200), secs(200)), true_time(200));
        }
    }

    /// Whoever looks more often than the clock counts must not make it stand still.
    #[test]
    fn time_goes_on_however_often_it_is_looked_at() {
        let mut steady = SteadyWall::new(START, secs(0));
        let mut time = START;
        for micros in (0..20_000_000).step_by(300) {
            let mono = Duration::from_micros(micros);
            time = steady.read(START.plus(HOUR).plus(mono), mono);
        }
        assert_eq!(time, START.plus(Duration::from_millis(19_999)));
        assert_eq!(steady.read(START.plus(secs(20)), secs(20)), START.plus(secs(20)));
    }

    #[test]
    fn a_step_that_lasts_is_the_truth() {
        let mut steady = SteadyWall::new(START, secs(0));
        let right = |mono: u64| START.plus(HOUR).plus(secs(mono));
        assert_eq!(steady.read(right(5), secs(5)), START.plus(secs(5)));
        assert_eq!(steady.read(right(124), secs(124)), START.plus(secs(124)));
        assert_eq!(steady.read(right(125), secs(125)), right(125));
        assert_eq!(steady.read(right(126), secs(126)), right(126));
    }

    proptest! {
        /// A wall clock that is slewed, a little more or less at each look, is shown as it is.
        #[test]
        fn corrections_are_followed_at_once(
            steps in prop::collection::vec((1_u64..5_000, 0_u64..1_000), 1..200),
        ) {
            let mut steady = SteadyWall::new(START, Duration::ZERO);
            let (mut mono, mut wall) = (0, START.as_millis());
            for (passed, correction) in steps {
                mono += passed;
                wall = (wall + passed + correction).saturating_sub(500);
                let wall = Timestamp::from_millis(wall);
                prop_assert_eq!(steady.read(wall, Duration::from_millis(mono)), wall);
            }
        }
    }
}
