//! How far a value is trusted that was true some time ago.
//!
//! Fully at first, then less and less, then not at all: a feed that dies takes its numbers with
//! it, and nothing jumps when it does (F52, F56).

use std::time::Duration;

use dwcp_types::Timestamp;

/// Parts of full trust.
pub(crate) const FULL: u32 = 10_000;
/// Trust in a round trip that somebody wrote down and nobody measured: half, so that the
/// distance has a say.
pub(crate) const CONFIGURED: u32 = 5_000;

/// How long values of one kind are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Until then they are as good as new.
    pub(crate) fresh: Duration,
    /// From then on they say nothing.
    pub(crate) end: Duration,
}

/// Round trips: two rounds of the source's probes of 30 s (P5.1, `latency_cache_ttl` of
/// DETAILS 2.3), and ten minutes (the longest memory of ROUTING 6.2).
pub(crate) const ROUND_TRIP: Life =
    Life { fresh: Duration::from_secs(60), end: Duration::from_secs(600) };
/// How busy a region is: the interval of slow inputs (P1.2), and two rounds of the source's
/// health checks, after which it may have doubled.
pub(crate) const LOAD: Life =
    Life { fresh: Duration::from_secs(10), end: Duration::from_secs(60) };
/// Health is a verdict and fades to no half of it: it is believed for ten of the checks of
/// 1 s (F89) and then unknown (F6).
pub(crate) const HEALTH_MAX: Duration = Duration::from_secs(10);

/// The trust in a value, 0 to [`FULL`]. A value from the future is new.
pub(crate) fn trust(at: Timestamp, now: Timestamp, life: Life) -> u32 {
    let age = now.since(at);
    if age <= life.fresh {
        return FULL;
    }
    if age >= life.end {
        return 0;
    }
    let left = life.end.saturating_sub(age).as_millis();
    let span = life.end.saturating_sub(life.fresh).as_millis().max(1);
    u32::try_from(left * u128::from(FULL) / span).unwrap_or(FULL)
}

/// Between two values: all of the first at full trust, all of the second at none.
pub(crate) fn blend(first: u32, second: u32, trust: u32) -> u32 {
    let (trust, rest) = (u64::from(trust.min(FULL)), u64::from(FULL - trust.min(FULL)));
    let sum = u64::from(first) * trust + u64::from(second) * rest;
    u32::try_from(sum / u64::from(FULL)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_full_then_falls_then_is_none() {
        let at = Timestamp::from_millis(1_000_000);
        let after =
            |seconds| trust(at, at.plus(Duration::from_secs(seconds)), ROUND_TRIP);
        assert_eq!([after(0), after(60)], [FULL, FULL]);
        assert_eq!(after(330), FULL / 2);
        assert_eq!([after(600), after(6_000)], [0, 0]);
        assert_eq!(trust(at, Timestamp::from_millis(0), ROUND_TRIP), FULL);
    }

    #[test]
    fn a_blend_is_between_its_parts() {
        assert_eq!(blend(100, 300, FULL), 100);
        assert_eq!(blend(100, 300, 0), 300);
        assert_eq!(blend(100, 300, FULL / 2), 200);
        assert_eq!(blend(u32::MAX, u32::MAX, 3), u32::MAX);
    }
}
