//! ST-10: an operation id takes effect once in the log of a replica. A second effect is right
//! only when the first was lost in a crash before it was durable, which the disk shows.

use super::super::history::admission_of;
use super::super::oracle::Number;
use super::super::world::World;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-10",
    statement: "asking again under one operation id does nothing twice",
};

pub(super) fn check(world: &World, number: Number) -> Found {
    let attempts = &world.history.get(number).attempts;
    let (last, before) = attempts.split_last()?;
    let again = last.position?;
    for attempt in before.iter().filter(|before| before.node == last.node) {
        let Some(first) = attempt.position else { continue };
        let same_life = first.incarnation == again.incarnation;
        let kept = || world.nodes[last.node].disk.has_record(last.node, first);
        let same_member = admission_of(first) == admission_of(again);
        if same_life || (same_member && kept()) {
            let text = format!("operation {number} took effect at {first} and {again}");
            return Some((STATEMENT, text));
        }
    }
    None
}
