//! Times in whole nanoseconds by a clock of one's choice, and what many of them come to.

use rustix::time::{ClockId, clock_gettime};

/// A clock, in nanoseconds.
pub(super) fn now(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0))
}

/// A number for people.
#[expect(clippy::cast_precision_loss, reason = "a measured number, to be printed")]
pub(super) const fn float(number: u64) -> f64 {
    number as f64
}

/// What this share of the sorted samples stays below, in nanoseconds; 0 without any.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index within the samples"
)]
pub(super) fn at(sorted: &[u64], share: f64) -> f64 {
    let at = (float(sorted.len() as u64) * share) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(at.min(last)).map_or(0.0, |nanos| float(*nanos))
}
