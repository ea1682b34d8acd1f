//! OWN-2: what an agent holds of a VM never falls in epoch or generation, also through its
//! crashes.

use std::collections::BTreeMap;

use dwcp_types::{Epoch, Generation, VmId};

use super::Statement;
use crate::world::World;

pub(super) const STATEMENT: Statement = Statement {
    id: "OWN-2",
    statement: "what an agent holds of a VM never falls in epoch or generation",
};

#[derive(Debug, Default)]
pub(super) struct NoWayBack {
    highest: BTreeMap<(usize, VmId), (Epoch, Generation)>,
}

impl NoWayBack {
    pub(super) fn check(&mut self, world: &World, index: usize) -> Option<String> {
        let agent = &world.agents[index];
        for vm in agent.held.keys() {
            let version = agent.version(vm)?;
            let highest = self.highest.entry((index, vm.clone())).or_insert(version);
            if version < *highest {
                return Some(format!(
                    "{} holds {vm} at {version:?} after {highest:?}",
                    agent.report.id
                ));
            }
            *highest = version;
        }
        None
    }
}
