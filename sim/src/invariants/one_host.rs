//! OWN-1: a VM has a process on at most one host. A process that is being started or paused
//! counts: it may write to the disk.

use super::Statement;
use crate::world::World;

pub(super) const STATEMENT: Statement =
    Statement { id: "OWN-1", statement: "a VM has a process on at most one host" };

pub(super) fn check(world: &World, index: usize) -> Option<String> {
    let here = &world.agents[index];
    for (vm, guest) in here.guests.iter().filter(|(_, guest)| guest.alive) {
        for (other, agent) in world.agents.iter().enumerate() {
            let twin = agent.guests.get(vm).filter(|twin| twin.alive && other != index);
            if let Some(twin) = twin {
                return Some(format!(
                    "{vm} runs on {} under epoch {} and on {} under epoch {}",
                    here.report.id, guest.epoch, agent.report.id, twin.epoch
                ));
            }
        }
    }
    None
}
