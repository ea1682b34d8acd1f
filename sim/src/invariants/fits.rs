//! PL-1: the guests of a host never need more than it has, counted from the guests that are
//! there, not from any ledger. A stopped one counts: its capacity stays its own, but for one
//! that gave way to a more urgent VM, which keeps its disk only.

use dwcp_controller::ownership::vm_key;
use dwcp_types::{Capacity, VmId};

use super::Statement;
use crate::world::World;

pub(super) const STATEMENT: Statement = Statement {
    id: "PL-1",
    statement: "the guests of a host never need more than it has",
};

pub(super) fn check(world: &World, index: usize) -> Option<String> {
    let agent = &world.agents[index];
    // What it holds here is its disk only: it made room, or is another host's by now.
    let gave_way = |vm: &VmId| {
        let row = world.engine.rows.get(&vm_key(vm));
        let record = row.and_then(|row| row.value.vm());
        record.is_none_or(|record| {
            record.preempted_by.is_some() || record.owner.host != agent.report.id
        })
    };
    let needs = agent.guests.iter().map(|(vm, guest)| {
        let need = Capacity::of(&guest.shape);
        if guest.alive || !gave_way(vm) {
            return need;
        }
        Capacity { storage: need.storage, ..Capacity::default() }
    });
    let sum = needs.fold(Capacity::default(), |sum, need| sum.plus(&need));
    let (id, total) = (&agent.report.id, &agent.report.total);
    (!total.fits(&sum)).then(|| format!("{id} has {total:?} and its guests need {sum:?}"))
}
