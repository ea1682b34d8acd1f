//! How far apart regions are.
//!
//! Mean round trips between metros, 18 July to 16 August 2026, from IBM Cloud's published
//! network latency tables, directed, as measured; zones of one metro from the same source
//! (`deploy/t1` carries numbers of these tables with the same attribution). A message takes
//! half a round trip and a jitter.

use crate::rng::Rng;

/// Round trips in milliseconds, from the metro of the row to that of the column: Washington,
/// London, Frankfurt, Mumbai, São Paulo, Sydney, Tokyo. Near ones and far ones from the start.
const ROUND_TRIP_MS: [[u64; 7]; 7] = [
    [1, 76, 86, 218, 122, 215, 142],
    [76, 1, 13, 118, 181, 261, 238],
    [86, 13, 1, 118, 191, 250, 229],
    [219, 120, 121, 1, 343, 152, 132],
    [124, 181, 192, 338, 1, 325, 283],
    [216, 260, 249, 152, 327, 1, 101],
    [139, 239, 228, 131, 284, 101, 1],
];

/// How much longer than half a round trip a message takes, in percent, when nothing is wrong.
const JITTER_PERCENT_MAX: u64 = 10;

/// How long a message takes from a region to another, or within one, in microseconds.
pub(super) fn one_way_us(rng: &mut Rng, from: usize, to: usize) -> u64 {
    let half = ROUND_TRIP_MS[from % 7][to % 7] * 1_000 / 2;
    half + rng.between(0, half * JITTER_PERCENT_MAX / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_half_a_round_trip_and_little_more() {
        let mut rng = Rng::new(1);
        for _ in 0..1_000 {
            let delay = one_way_us(&mut rng, 0, 5);
            assert!((107_500..=118_250).contains(&delay), "{delay}");
        }
    }
}
