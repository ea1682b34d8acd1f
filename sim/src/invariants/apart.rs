//! PL-3: members of a group that must be apart never hold capacity of the same host, however
//! many decisions were made at once.

use std::collections::BTreeMap;

use dwcp_types::{AffinityMode, Hardness, Scope};

use super::Statement;
use crate::world::World;

pub(super) const STATEMENT: Statement = Statement {
    id: "PL-3",
    statement: "two VMs that must be apart never hold capacity of one host",
};

pub(super) fn check(world: &World, index: usize) -> Option<String> {
    let daemon = world.regions[index].daemon.as_ref()?;
    let mut first = BTreeMap::new();
    for row in daemon.ledger.iter() {
        for rule in &row.ask.rules {
            let counts = rule.mode == AffinityMode::Apart
                && rule.scope == Scope::Host
                && rule.hardness == Hardness::Required;
            if !counts {
                continue;
            }
            let place = (&row.ask.tenant, &rule.group, &row.host);
            if let Some(other) = first.insert(place, &row.ask.vm) {
                return Some(format!("{other} and {} share {}", row.ask.vm, row.host));
            }
        }
    }
    None
}
