//! ACK-1: from the moment that a client is told of a placement, its record is in the engine
//! under that reservation and its capacity is stored at its region, until its deletion is
//! wished.

use std::collections::BTreeSet;

use dwcp_controller::ownership::vm_key;
use dwcp_types::{Power, ReservationId, VmId};

use super::Statement;
use crate::message::{Answer, Wish};
use crate::world::World;

pub(super) const STATEMENT: Statement = Statement {
    id: "ACK-1",
    statement: "a placement that a client was told of stays until its deletion is wished",
};

#[derive(Debug, Default)]
pub(super) struct ToldIsKept {
    told_read: usize,
    written_read: usize,
    kept: BTreeSet<(VmId, ReservationId)>,
    deleted: BTreeSet<ReservationId>,
}

impl ToldIsKept {
    pub(super) fn check(&mut self, world: &World) -> Option<String> {
        for (_, value) in world.engine.written.iter().skip(self.written_read) {
            let record = value.as_ref().and_then(|value| value.vm());
            let gone = record.filter(|record| record.power == Power::Deleted);
            self.deleted.extend(gone.map(|record| record.reservation.clone()));
        }
        self.written_read = world.engine.written.len();
        for told in world.told.iter().skip(self.told_read) {
            let wish = world.wishes.get(&(told.to, told.op));
            if let (Answer::Placed(reservation), Some(Wish::Place { request, .. })) =
                (&told.answer, wish)
            {
                self.kept.insert((request.id.clone(), reservation.clone()));
            }
        }
        self.told_read = world.told.len();
        self.kept.retain(|(_, reservation)| !self.deleted.contains(reservation));
        self.kept.iter().find_map(|(vm, reservation)| lost(world, vm, reservation))
    }
}

fn lost(world: &World, vm: &VmId, reservation: &ReservationId) -> Option<String> {
    let row = world.engine.rows.get(&vm_key(vm));
    let record = row.and_then(|row| row.value.vm());
    let Some(record) = record.filter(|record| record.reservation == *reservation) else {
        return Some(format!("{vm} of {reservation} has no record any more"));
    };
    let region = world.regions.iter().find(|region| region.id == record.owner.region)?;
    let stored = region.disk.contains_key(&format!("reservation/{reservation}"));
    (!stored).then(|| format!("{vm} of {reservation} holds no capacity in {}", region.id))
}
