//! ST-8: when a client is told that an update is made, it is durable: at the replica that took
//! it; at level local at a majority of that region's replicas, at level quorum in a majority of
//! the key's regions, each by a majority of its replicas.
//!
//! "Durable at a node" is what a process would know that started from the node's disk at that
//! moment. Not every answer is looked at, because that takes as long as much of the run.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use dwcp_state::{
    Answer, Command, Frontier, Input, Key, Level, Op, Replica, Request, Written,
};

use super::super::history::{Operation, covers};
use super::super::judge::explain;
use super::super::keys::{KeySpec, Seen, is_inside, seen};
use super::super::oracle::{Number, Standing};
use super::super::serve::PEEK;
use super::super::world::World;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-8",
    statement: "what is acknowledged is durable where its level says",
};

/// What a process would know that started from a disk.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) frontier: Frontier,
    values: BTreeMap<usize, Option<Seen>>,
}

impl Recovered {
    /// Whether it shows an element of a set.
    pub(super) fn shows(&self, key: usize, element: u64) -> bool {
        let seen = self.values.get(&key).and_then(Option::as_ref);
        matches!(seen, Some(Seen::Values(values)) if values.contains(&element))
    }
}

/// Disks as they were looked at last.
#[derive(Debug, Default)]
pub(super) struct Disks {
    looked: BTreeMap<usize, (u64, Rc<Recovered>)>,
}

impl Disks {
    /// What a process would know that started from a node's disk.
    pub(super) fn of(&mut self, world: &World, node: usize) -> Rc<Recovered> {
        let version = world.nodes[node].disk.version();
        if let Some((_, known)) = self.looked.get(&node).filter(|it| it.0 == version) {
            return Rc::clone(known);
        }
        let recovered = Rc::new(recover(world, node));
        self.looked.insert(node, (version, Rc::clone(&recovered)));
        recovered
    }

    /// Looks whether an acknowledged update is where its level says.
    pub(super) fn written(
        &mut self,
        world: &mut World,
        (node, number): (usize, Number),
        written: &Written,
    ) -> Found {
        let inspects = world.options.inspects;
        if !world.rng.chance(inspects) {
            return None;
        }
        let world = &*world;
        let operation = world.history.get(number);
        let fenced = world.keys[operation.key].fenced;
        let holds = |disks: &mut Self, place: usize| {
            let held = disks.of(world, place);
            let elsewhere = place == node && disks.is_elsewhere(world, node, written);
            has(world, (node, operation), written, (place, &held, elsewhere)).is_ok()
        };
        let held = match written.level {
            Level::Eventual => holds(self, node),
            level @ (Level::Local | Level::Quorum | Level::Strong) => {
                self.is_held(world, (node, fenced, level), holds)
            }
        };
        if held {
            return None;
        }
        let (position, level) = (written.position, written.level);
        let each: Vec<String> = (0..world.nodes.len())
            .map(|place| {
                let held = self.of(world, place);
                let elsewhere = place == node && self.is_elsewhere(world, node, written);
                let author = (node, operation);
                match has(world, author, written, (place, &held, elsewhere)) {
                    Ok(()) => format!("{place} has it"),
                    Err(why) => format!("{place}: {why}"),
                }
            })
            .collect();
        let text = format!(
            "operation {number} at {position} of {node}, level {level}: {}",
            each.join("; ")
        );
        Some((STATEMENT, text))
    }

    /// Whether some other disk has an update, or could have had it and was put out since.
    fn is_elsewhere(&mut self, world: &World, node: usize, written: &Written) -> bool {
        if (0..world.nodes.len()).any(|place| world.strong.was_evicted(place)) {
            return true;
        }
        let mut others = (0..world.nodes.len()).filter(|place| *place != node);
        others
            .any(|place| covers(&self.of(world, place).frontier, node, written.position))
    }

    /// Whether enough nodes hold something, as the replica that answers sees its membership.
    pub(super) fn is_held(
        &mut self,
        world: &World,
        (node, fenced, level): (usize, bool, Level),
        mut holds: impl FnMut(&mut Self, usize) -> bool,
    ) -> bool {
        let Some(replica) = &world.nodes[node].replica else { return true };
        let voters = world.strong.voters(replica.membership());
        let home = world.nodes[node].region;
        let regions: Vec<&Vec<usize>> = voters
            .iter()
            .filter(|(region, _)| match level {
                Level::Local => **region == home,
                Level::Eventual | Level::Quorum | Level::Strong => {
                    !fenced || is_inside(**region)
                }
            })
            .map(|(_, nodes)| nodes)
            .collect();
        let mut reached = 0;
        for nodes in &regions {
            let have = nodes.iter().filter(|place| holds(self, **place)).count();
            reached += usize::from(have > nodes.len() / 2);
        }
        reached > regions.len() / 2
    }
}

/// Whether a disk has an update: by what it says of the log of its author, or for the author
/// itself by the record, and by the value.
fn has(
    world: &World,
    (author, operation): (usize, &Operation),
    written: &Written,
    (place, held, elsewhere): (usize, &Recovered, bool),
) -> Result<(), String> {
    let position = written.position;
    let by_log = if place == author {
        // A record that is not there any more has been acknowledged by everybody else.
        world.nodes[author].disk.has_record(author, position) || elsewhere
    } else {
        covers(&held.frontier, author, position)
    };
    if !by_log {
        return Err(format!("is at {}", held.frontier.get(world.nodes[author].id)));
    }
    let Some(Some(seen)) = held.values.get(&operation.key) else { return Ok(()) };
    // What lives for a time may be over, and a process that starts does not show it then.
    if world.keys[operation.key].mortal {
        return Ok(());
    }
    explain(world, operation.key, seen, |other| {
        let own = other.number == operation.number;
        let standing = if own { Standing::Required } else { Standing::Allowed };
        other.is_update().then_some(standing)
    })
}

fn recover(world: &World, node: usize) -> Recovered {
    let Ok(mut replica) = world.nodes[node].recovered() else {
        return Recovered { frontier: Frontier::new(), values: BTreeMap::new() };
    };
    let frontier = replica.frontier().clone();
    let keys = world.keys.iter().enumerate();
    let now = world.nodes[node].now(world.now.us);
    let values = keys.map(|(place, key)| {
        (place, peek(&mut replica, now, key).and_then(|(reading, _)| reading))
    });
    Recovered { values: values.collect(), frontier }
}

/// What a replica answers to a read at the weakest level, if it answers at once.
pub(super) fn peek(
    replica: &mut Replica,
    now: dwcp_state::Now,
    key: &KeySpec,
) -> Option<(Option<Seen>, Option<dwcp_state::Reading>)> {
    let request = Request {
        id: PEEK,
        op: Op::Get { key: Key::clone(&key.name), max_staleness: None },
        level: Some(Level::Eventual),
        session: None,
        within: Duration::ZERO,
    };
    let mut out = Vec::new();
    replica.handle(now, Input::Client(request), &mut out);
    let read = out.into_iter().find_map(|command| {
        let Command::Reply { outcome: Ok(Answer::Read(read)), .. } = command else {
            return None;
        };
        Some(read)
    })?;
    Some((seen(key, read.reading.as_ref()).ok(), read.reading))
}
