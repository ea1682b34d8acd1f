//! ST-19: after faults stop, every node is a member that votes and has settled in the newest
//! epoch, every client was answered, every log is everywhere and dropped, and what was deleted is
//! forgotten.

use super::super::world::World;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-19",
    statement: "after faults stop, everybody is a member, everything is exchanged, and what is deleted is forgotten",
};

pub(super) fn check(world: &World) -> Found {
    restless(world).map(|found| (STATEMENT, found))
}

fn restless(world: &World) -> Option<String> {
    if !world.strong.is_idle() {
        return Some(format!("the strong plane still has to do {:?}", world.strong));
    }
    let waiting = world.clients.iter().filter(|client| client.waiting.is_some()).count();
    if waiting > 0 {
        return Some(format!("{waiting} clients still wait for an answer"));
    }
    let newest = world.strong.newest().epoch;
    let first = world.nodes.first()?.replica.as_ref()?.frontier();
    for (node, it) in world.nodes.iter().enumerate() {
        let Some(replica) = &it.replica else { return Some(format!("{node} is down")) };
        let stats = replica.stats();
        if !world.strong.is_active(node) || stats.epoch != newest {
            return Some(format!(
                "{node} is {} in epoch {}",
                stats.standing, stats.epoch
            ));
        }
        if newest > 1 && stats.settled.epoch != newest {
            return Some(format!("{node} has settled in {:?}", stats.settled));
        }
        if !first.covers(replica.frontier()) || !replica.frontier().covers(first) {
            return Some(format!(
                "0 has {first:?} and {node} has {:?}",
                replica.frontier()
            ));
        }
        if stats.waiting + stats.calls > 0 {
            return Some(format!("{node} has requests that wait: {stats:?}"));
        }
        if stats.log_records > 0 {
            return Some(format!("{node} keeps {} records", stats.log_records));
        }
        if stats.doomed > 0 {
            return Some(format!("{node} keeps {} deleted values", stats.doomed));
        }
    }
    None
}
