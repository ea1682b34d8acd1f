//! ST-9: what an answer shows is durable: what only the answering replica has, at that replica;
//! at level local and quorum, where a write of that level is.
//!
//! Judged on sets that only grow, whose elements name the updates that brought them.

use dwcp_state::{Kind, Level, Read};

use super::super::history::Wish;
use super::super::keys::{Seen, seen};
use super::super::oracle::{Change, Number};
use super::super::world::World;
use super::durable::Disks;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement =
    Statement { id: "ST-9", statement: "what is shown is durable where its level says" };

pub(super) fn check(
    world: &mut World,
    disks: &mut Disks,
    (node, number): (usize, Number),
    read: &Read,
) -> Found {
    let inspects = world.options.inspects;
    if world.keys[world.history.get(number).key].kind != Kind::GSet
        || !world.rng.chance(inspects)
    {
        return None;
    }
    let world = &*world;
    let key = world.history.get(number).key;
    let spec = &world.keys[key];
    let Ok(Seen::Values(elements)) = seen(spec, read.reading.as_ref()) else {
        return None;
    };
    // An element is shown durably by a majority of the region only when no session vouches.
    let by_region =
        read.level == Level::Local && world.history.get(number).token.is_none();
    let missing = elements.into_iter().find(|element| {
        let holds = |disks: &mut Disks, place: usize| {
            let held = disks.of(world, place);
            held.shows(key, *element)
        };
        match read.level {
            Level::Eventual | Level::Local if !by_region => {
                let own =
                    is_of(world, (node, key), *element) || read.level == Level::Local;
                own && !holds(disks, node)
            }
            level @ (Level::Eventual | Level::Local | Level::Quorum | Level::Strong) => {
                !disks.is_held(world, (node, spec.fenced, level), holds)
            }
        }
    })?;
    let level = read.level;
    Some((STATEMENT, format!("operation {number} shows {missing} at level {level}")))
}

/// Whether a node itself took the update that brought an element.
fn is_of(world: &World, (node, key): (usize, usize), element: u64) -> bool {
    let brought = Wish::Change(Change::Insert(element));
    let mut updates = world.history.of_key(key).filter(|it| it.wish == brought);
    updates.any(|update| update.attempts.iter().any(|attempt| attempt.node == node))
}
