//! END-1: after faults stop, every VM that has a record is on its host, under its epoch, as
//! wanted, or waits for room that is not there after it gave way; every deleted one is gone
//! with its record; every reservation belongs to a record; no host has a guest that no record
//! explains; nobody else waits.

use std::collections::BTreeSet;

use dwcp_controller::failover::ACTIVE_KEY;
use dwcp_controller::ledger::Stage;
use dwcp_controller::ownership::{VmRecord, epoch_floor_key, vm_key};
use dwcp_types::{Power, VmId};

use super::Statement;
use crate::agent::{Agent, Guest};
use crate::world::World;

pub(super) const STATEMENT: Statement = Statement {
    id: "END-1",
    statement: "after faults stop, what is wanted runs, once, and nothing is left over",
};

pub(super) fn check(world: &World) -> Option<String> {
    let waiting = world.clients.iter().filter(|client| !client.is_idle()).count();
    if waiting > 0 {
        return Some(format!("{waiting} clients still wait for an answer"));
    }
    if world.engine.rows.contains_key(ACTIVE_KEY) {
        return Some("a failover is still under way".to_owned());
    }
    let rows = world.engine.rows.values();
    let records: Vec<&VmRecord> = rows.filter_map(|row| row.value.vm()).collect();
    records
        .iter()
        .find_map(|record| astray(world, record))
        .or_else(|| left_over(world, &records))
        .or_else(|| orphan(world, &records))
}

fn astray(world: &World, record: &VmRecord) -> Option<String> {
    let (vm, owner) = (&record.request.id, &record.owner);
    if record.power == Power::Deleted {
        return Some(format!("{vm} is deleted and its record is still there"));
    }
    let agent = world.agents.iter().find(|agent| agent.report.id == owner.host)?;
    let Some(guest) = agent.guests.get(vm) else {
        return Some(format!("{vm} is not on its host {}", owner.host));
    };
    if record.preempted_by.is_some() {
        return gave_way_for_nothing(world, record)
            .or_else(|| guest.alive.then(|| format!("{vm} gave way and runs")));
    }
    let as_wanted = guest.epoch == owner.epoch
        && guest.alive == (record.power != Power::Stopped)
        && guest.paused == (record.power == Power::Paused);
    (!as_wanted).then(|| {
        format!(
            "{vm} is wanted {:?} at epoch {} and is {guest:?}",
            record.power, owner.epoch
        )
    })
}

/// One that gave way has given its capacity, and waits for it only as long as it must.
fn gave_way_for_nothing(world: &World, record: &VmRecord) -> Option<String> {
    let vm = &record.request.id;
    let region = world.regions.iter().find(|it| it.id == record.owner.region)?;
    let ledger = &region.daemon.as_ref()?.ledger;
    let row = ledger.get(&record.reservation)?;
    if !row.parked {
        return Some(format!("{vm} gave way and still holds its capacity"));
    }
    let host = ledger.host(&record.owner.host)?;
    let waits = record.power == Power::Stopped || !host.free.fits(&row.frees());
    (!waits).then(|| format!("{vm} waits for room that is there: {:?}", host.free))
}

fn left_over(world: &World, records: &[&VmRecord]) -> Option<String> {
    let mut owed: BTreeSet<_> =
        records.iter().map(|record| &record.reservation).collect();
    for region in &world.regions {
        let Some(daemon) = &region.daemon else {
            return Some(format!("{} is still down", region.id));
        };
        for row in daemon.ledger.iter() {
            let id = &row.ask.id;
            if row.stage != Stage::Confirmed || !owed.remove(id) {
                return Some(format!("{id} is {:?} and has no record", row.stage));
            }
        }
        if daemon.ledger.rows().count() != region.disk.len() {
            return Some(format!("{} stores what it does not know", region.id));
        }
    }
    owed.first().map(|id| format!("the record of {id} holds no capacity"))
}

/// The disk of a VM that another region took over: it is kept, and never runs.
fn stays_behind(world: &World, agent: &Agent, vm: &VmId, guest: &Guest) -> bool {
    let bound = agent.held.get(vm).is_some_and(|held| held.lease_bound);
    let value = |key: String| world.engine.rows.get(&key).map(|row| &row.value);
    let record = value(vm_key(vm)).and_then(|value| value.vm());
    let floor = value(epoch_floor_key(vm)).and_then(|value| value.floor());
    let later = record.is_some_and(|record| record.owner.epoch > guest.epoch)
        || floor.is_some_and(|floor| floor.epoch > guest.epoch);
    bound && !guest.alive && later
}

fn orphan(world: &World, records: &[&VmRecord]) -> Option<String> {
    for agent in &world.agents {
        for (vm, guest) in &agent.guests {
            if stays_behind(world, agent, vm, guest) {
                continue;
            }
            let explained = |record: &&&VmRecord| {
                record.request.id == *vm && record.owner.host == agent.report.id
            };
            if !records.iter().any(|record| explained(&record)) {
                return Some(format!(
                    "{} has {vm}, which has no record",
                    agent.report.id
                ));
            }
        }
    }
    None
}
