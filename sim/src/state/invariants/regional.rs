//! ST-4: a read at level local shows every update that its region acknowledged at that level
//! before it began. Not for reads in a session: those may be served by one replica that has what
//! the session saw.

use dwcp_state::Level;

use super::super::history::Operation;
use super::Statement;
use super::reads::Case;

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-4",
    statement: "a read at level local shows what its region acknowledged at that level",
};

pub(super) fn promises(case: &Case<'_>, update: &Operation) -> bool {
    let region_of = |node: usize| case.world.nodes[node].region;
    let home = region_of(case.told.node);
    let told = case.acknowledged_before(update);
    case.told.level == Level::Local
        && case.read.token.is_none()
        && told.is_some_and(|told| {
            told.level == Level::Local && region_of(told.node) == home
        })
        // A region that lost members has other majorities.
        && !(0..case.world.nodes.len())
            .any(|node| region_of(node) == home && case.world.strong.was_evicted(node))
}
