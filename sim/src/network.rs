//! What the network does to a message: lose it, delay it, hold it up, deliver it twice.
//!
//! Each copy is delayed for itself, so messages overtake each other.

use crate::options::Options;
use crate::rng::Rng;

/// Delay of a message that nothing happens to, in milliseconds: within a region up to across
/// an ocean (shared tables of round trips go to 300 ms).
const DELAY_MS: (u64, u64) = (1, 150);

/// The delays after which copies of one message arrive; none when it is lost.
pub(crate) fn deliveries(rng: &mut Rng, options: &Options, faults: bool) -> Vec<u64> {
    let mut delays = Vec::new();
    if !(faults && rng.chance(options.loss)) {
        delays.push(delay(rng, options, faults));
    }
    if faults && rng.chance(options.duplicates) {
        delays.push(delay(rng, options, faults));
    }
    delays
}

fn delay(rng: &mut Rng, options: &Options, faults: bool) -> u64 {
    let usual = rng.between(DELAY_MS.0, DELAY_MS.1);
    if faults && rng.chance(options.held_up) {
        return usual + rng.between(0, options.held_up_ms);
    }
    usual
}
