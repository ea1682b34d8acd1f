//! ST-2: what a node acknowledged, at whatever level, that node shows from then on, over all its
//! crashes, as long as it is the same member.

use super::super::history::Operation;
use super::Statement;
use super::reads::Case;

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-2",
    statement: "what a replica acknowledged, it shows from then on",
};

pub(super) fn promises(case: &Case<'_>, update: &Operation) -> bool {
    let told = case.acknowledged_before(update);
    told.is_some_and(|told| told.node == case.told.node) && !case.is_doubtful(update)
}
