//! ST-17: after faults stop, every active replica that holds a key shows the same: the same
//! bytes, timestamps and versions, as far as a reading tells them.

use super::super::keys::is_inside;
use super::super::world::World;
use super::durable::peek;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-17",
    statement: "after faults stop, all replicas of a key show the same",
};

pub(super) fn check(world: &mut World) -> Found {
    for place in 0..world.keys.len() {
        let key = world.keys[place].clone();
        let mut first = None;
        for node in 0..world.nodes.len() {
            if key.fenced && !is_inside(world.nodes[node].region) {
                continue;
            }
            let now = world.nodes[node].now(world.now.us);
            let replica = world.nodes[node].replica.as_mut();
            let Some((_, reading)) = replica.and_then(|it| peek(it, now, &key)) else {
                return Some((
                    STATEMENT,
                    format!("{node} does not answer for {}", key.name),
                ));
            };
            let (other, expected) = first.get_or_insert_with(|| (node, reading.clone()));
            if *expected != reading {
                let text = format!(
                    "{} is {expected:?} at {other} and {reading:?} at {node}",
                    key.name
                );
                return Some((STATEMENT, text));
            }
        }
    }
    None
}
