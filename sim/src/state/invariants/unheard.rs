//! ST-13: once a replica follows an epoch that put another one out, it receives nothing more of
//! that one's log. It may only count the log as over.

use std::collections::BTreeMap;

use dwcp_state::{Membership, Position, ReplicaId};

use super::super::world::World;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-13",
    statement: "nothing that an evicted replica wrote is received after its eviction is known",
};

/// Whose view, in which life, of which replica's which admission.
type Place = (usize, u64, ReplicaId, u16);

#[derive(Debug, Default)]
pub(super) struct Unheard {
    reached: BTreeMap<Place, Position>,
}

impl Unheard {
    pub(super) fn check(&mut self, world: &World, node: usize) -> Found {
        let it = &world.nodes[node];
        let replica = it.replica.as_ref()?;
        for (evicted, admission) in &replica.membership().evicted {
            let now = replica.frontier().get(*evicted);
            let over = Membership::base(admission.saturating_add(1));
            let place = (node, it.boot, *evicted, *admission);
            let first = *self.reached.entry(place).or_insert(now);
            // Whoever begins again with nothing is at the start.
            if now > first && now < over {
                let text = format!("{node} received {evicted} from {first} to {now}");
                return Some((STATEMENT, text));
            }
        }
        None
    }
}
