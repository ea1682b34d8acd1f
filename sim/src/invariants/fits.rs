//! PL-1: the guests of a host never need more than it has, counted from the guests that are
//! there, not from any ledger. A stopped one counts: its capacity stays its own.

use dwcp_types::Capacity;

use super::Statement;
use crate::world::World;

pub(super) const STATEMENT: Statement = Statement {
    id: "PL-1",
    statement: "the guests of a host never need more than it has",
};

pub(super) fn check(world: &World, index: usize) -> Option<String> {
    let agent = &world.agents[index];
    let needs = agent.guests.values().map(|guest| Capacity::of(&guest.shape));
    let sum = needs.fold(Capacity::default(), |sum, need| sum.plus(&need));
    let (id, total) = (&agent.report.id, &agent.report.total);
    (!total.fits(&sum)).then(|| format!("{id} has {total:?} and its guests need {sum:?}"))
}
