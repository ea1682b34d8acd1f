//! ST-18: after faults stop, a key is explained by all that was acknowledged and any of what was
//! not known.
//!
//! Let off is only what a replica reported that was put out: what it had written and nobody else
//! had (F49). What was acknowledged at level quorum is never let off.

use std::collections::BTreeSet;

use dwcp_state::{Level, Position};

use super::super::history::{End, Operation};
use super::super::judge::explain;
use super::super::oracle::Standing;
use super::super::world::World;
use super::durable::peek;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-18",
    statement: "after faults stop, a key is the join of all that was acknowledged, and of some of what was not known",
};

pub(super) fn check(world: &mut World, unsent: &BTreeSet<(usize, Position)>) -> Found {
    for place in 0..world.keys.len() {
        let key = world.keys[place].clone();
        let holder = (0..world.nodes.len()).find(|node| {
            !key.fenced || super::super::keys::is_inside(world.nodes[*node].region)
        })?;
        let now = world.nodes[holder].now(world.now.us);
        let replica = world.nodes[holder].replica.as_mut()?;
        let Some((Some(seen), _)) = peek(replica, now, &key) else {
            return Some((STATEMENT, format!("{} cannot be read", key.name)));
        };
        let standing = |update: &Operation| standing(update, key.mortal, unsent);
        if let Err(found) = explain(world, place, &seen, standing) {
            return Some((STATEMENT, found));
        }
    }
    None
}

fn standing(
    update: &Operation,
    mortal: bool,
    unsent: &BTreeSet<(usize, Position)>,
) -> Option<Standing> {
    if !update.is_update() || matches!(update.end, End::Refused) {
        return None;
    }
    let Some(told) = update.told() else { return Some(Standing::Allowed) };
    let reported = told.position.is_some_and(|at| unsent.contains(&(told.node, at)));
    let let_off = reported && told.level < Level::Quorum;
    Some(if let_off || mortal { Standing::Allowed } else { Standing::Required })
}
