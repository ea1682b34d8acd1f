//! ST-6: whatever a member that can be heard acknowledged longer ago than the staleness that an
//! answer admits, by as much as clocks were wrong, is in the answer.

use dwcp_state::Level;

use super::super::history::Operation;
use super::Statement;
use super::reads::Case;

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-6",
    statement: "everything older than the staleness that an answer admits is in it",
};

/// Stamps and clocks are in milliseconds, and stamps of one millisecond are counted on.
const SLACK_US: u64 = 5_000;

pub(super) fn promises(case: &Case<'_>, update: &Operation) -> bool {
    // A stamp is as wrong as its author's clock, or one that the author had heard of.
    let wrong = 3 * case.world.clock_error_us + SLACK_US;
    let admitted = case.told.staleness_us.saturating_add(wrong);
    let Some(told) = case.acknowledged_before(update) else { return false };
    let replica = &case.world.nodes[case.told.node].replica;
    let is_member = replica.as_ref().is_some_and(|replica| {
        replica.membership().is_active(case.world.nodes[told.node].id)
    });
    // A majority's answer tells of the replica that asked, which has more than it says.
    case.told.level != Level::Strong
        && is_member
        && !case.is_doubtful(update)
        && told.at.us.saturating_add(admitted) < case.told.at.us
}
