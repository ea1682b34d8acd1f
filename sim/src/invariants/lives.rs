//! LIV-1: a lease is taken away only after it stood still for its whole life, by true time and
//! by what the engine was really written; the oracle asks no observer.
//! LIV-2: while every region lives (noise, starving daemons, one that hears nobody) none is
//! failed over.
//! LIV-3: the protected VMs of a region that died run elsewhere within the budget.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_controller::failover::{ACTIVE_KEY, Log};
use dwcp_controller::lease::LeaseState;
use dwcp_controller::ownership::{VmRecord, vm_key};
use dwcp_types::{Affinity, AffinityMode, Generation, Hardness, HostId, Power, VmId};

use super::Statement;
use crate::engine::Value;
use crate::options::Regions;
use crate::world::World;

pub(super) const LEASE: Statement = Statement {
    id: "LIV-1",
    statement: "a lease is taken away only after it stood still for its whole life",
};
pub(super) const FALSE: Statement =
    Statement { id: "LIV-2", statement: "while every region lives, none is failed over" };
pub(super) const MISSED: Statement = Statement {
    id: "LIV-3",
    statement: "the protected VMs of a region that died run elsewhere within 30 s",
};

/// A lease of 8 s, by a taker whose clock is a twentieth too fast.
const STOOD_STILL_MS: u64 = 8_000;
/// C18, D1.
const BUDGET_MS: u64 = 30_000;

/// What was written of leases and failovers, and when.
#[derive(Debug, Default)]
pub(super) struct Lives {
    read: usize,
    renewed_at: BTreeMap<String, u64>,
    /// VMs that a failover left down because they had no place, and had none.
    homeless: BTreeSet<VmId>,
}

impl Lives {
    /// Looks at what the engine was written since.
    pub(super) fn leases(&mut self, world: &World) -> Option<String> {
        let mut found = None;
        for (key, value) in world.engine.written.iter().skip(self.read) {
            if let Some(log) = value.as_ref().and_then(Value::log) {
                self.homeless.extend(homeless(world, log));
            }
            let Some(lease) = value.as_ref().and_then(Value::lease) else { continue };
            match &lease.state {
                LeaseState::Held { .. } => {
                    self.renewed_at.insert(key.clone(), world.now);
                }
                LeaseState::Fenced { by } => {
                    let renewed_at = self.renewed_at.get(key).copied().unwrap_or(0);
                    let stood = world.now - renewed_at;
                    if stood < STOOD_STILL_MS {
                        found = Some(format!(
                            "{by} fenced {} after {stood} ms",
                            lease.region
                        ));
                    }
                }
            }
        }
        self.read = world.engine.written.len();
        found
    }
}

/// Whether a failover is under way where none may be.
pub(super) fn false_failover(world: &World) -> Option<String> {
    if world.options.regions_fail != Regions::Noise {
        return None;
    }
    let log = world.engine.rows.get(ACTIVE_KEY)?.value.log()?;
    Some(format!("{} is failed over by {}", log.region, log.executor))
}

/// Whether the time is over and a VM of the lost region does not run.
pub(super) fn missed(world: &World, lives: &Lives) -> Option<String> {
    let (_, at) = world.lost?;
    if world.now < at + BUDGET_MS || !world.faults {
        return None;
    }
    let rows = world.engine.rows.values().filter_map(|row| row.value.vm());
    let mut rows = rows.filter(|record| !lives.homeless.contains(&record.request.id));
    rows.find_map(|record| still_down(world, record))
}

/// A VM that should have been recovered and is not.
pub(crate) fn still_down(world: &World, record: &VmRecord) -> Option<String> {
    let (region, _) = world.lost?;
    let (vm, owner) = (&record.request.id, &record.owner);
    let wanted = record.request.is_failover_protected()
        && record.power == Power::Running
        && record.preempted_by.is_none();
    if !wanted {
        return None;
    }
    if owner.region == world.regions[region].id {
        return Some(format!("{vm} is still in {}", owner.region));
    }
    // One that was changed since may just be starting.
    if record.recovered.is_none() || record.generation > Generation::FIRST {
        return None;
    }
    let agent = world.agents.iter().find(|agent| agent.report.id == owner.host)?;
    let guest = agent.guests.get(vm);
    let runs = guest.is_some_and(|guest| guest.alive && guest.epoch == owner.epoch);
    (!runs).then(|| format!("{vm} does not run on {}", owner.host))
}

/// Those that a log says have no place, and that have none as it is written.
fn homeless(world: &World, log: &Log) -> Vec<VmId> {
    let Some((lost, _)) = world.lost else { return Vec::new() };
    let down = log.down.iter().map(|it| &it.vm);
    let records = down.filter_map(|vm| world.engine.rows.get(&vm_key(vm))?.value.vm());
    let records = records.filter(|record| !has_place(world, record, lost));
    records.map(|record| record.request.id.clone()).collect()
}

/// Whether some host outside the lost region has no member of the groups from which the VM must
/// be apart. Room there always is, where this is asked.
fn has_place(world: &World, record: &VmRecord, lost: usize) -> bool {
    let rules = &record.request.constraints.affinity;
    let apart = |it: &&Affinity| {
        it.mode == AffinityMode::Apart && it.hardness == Hardness::Required
    };
    let is_free = |host: &HostId| {
        rules.iter().filter(apart).all(|rule| {
            let rows = world.engine.rows.values();
            let others = rows.filter_map(|row| row.value.vm());
            others.filter(|other| other.owner.host == *host).all(|other| {
                let groups = other.request.constraints.affinity.iter();
                groups.map(|it| &it.group).all(|group| *group != rule.group)
            })
        })
    };
    let mut hosts = world.agents.iter().filter(|agent| agent.region != lost);
    hosts.any(|agent| is_free(&agent.report.id))
}
