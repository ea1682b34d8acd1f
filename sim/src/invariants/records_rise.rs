//! OWN-3: within the engine's history, the version of a VM's record only rises, also from one
//! incarnation of its name to the next.

use std::collections::BTreeMap;

use dwcp_types::{Epoch, Generation};

use super::Statement;
use crate::world::World;

pub(super) const STATEMENT: Statement = Statement {
    id: "OWN-3",
    statement: "the epoch and generation of a VM's record only rise",
};

#[derive(Debug, Default)]
pub(super) struct RecordsRise {
    read: usize,
    highest: BTreeMap<String, (Epoch, Generation)>,
}

impl RecordsRise {
    pub(super) fn check(&mut self, world: &World) -> Option<String> {
        for (key, value) in world.engine.written.iter().skip(self.read) {
            let Some(record) = value.as_ref().and_then(|value| value.vm()) else {
                continue;
            };
            let version = record.version();
            let before = self.highest.insert(key.clone(), version);
            if before.is_some_and(|before| version <= before) {
                return Some(format!(
                    "{key} was written at {version:?} after {before:?}"
                ));
            }
        }
        self.read = world.engine.written.len();
        None
    }
}
