//! ST-14: a replica's stamps stay near its own clock of the day, whatever other clocks show. A
//! stamp may be ahead by what the rules allow, and by the jumps that the clock itself has made
//! back. The replica whose own clock was far ahead is let off.

use dwcp_state::{AHEAD_MAX, Written};

use super::super::clock::DAY_START_US;
use super::super::world::World;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-14",
    statement: "no stamp is far ahead of the clock of its replica",
};

pub(super) fn check(world: &World, node: usize, written: &Written) -> Found {
    if world.nodes[node].was_ahead {
        return None;
    }
    let true_ms = (DAY_START_US + world.now.us) / 1_000;
    let wrong_ms = 2 * world.clock_error_us / 1_000 + 10;
    let allowed_ms =
        true_ms + wrong_ms + u64::try_from(AHEAD_MAX.as_millis()).unwrap_or(u64::MAX);
    let stamp_ms = written.stamp.time().as_millis();
    (stamp_ms > allowed_ms).then(|| {
        let ahead = stamp_ms - true_ms;
        (STATEMENT, format!("node {node} stamps {ahead} ms ahead of the day"))
    })
}
