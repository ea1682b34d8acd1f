//! LIV-1: a lease is taken away only after it stood still for its whole life, by true time and
//! by what the engine was really written; the oracle asks no observer.
//! LIV-2: while every region lives (noise, starving daemons, one that hears nobody) none is
//! failed over.
//! LIV-3: the protected VMs of a region that died run elsewhere within the budget.

use std::collections::BTreeMap;

use dwcp_controller::failover::ACTIVE_KEY;
use dwcp_controller::lease::LeaseState;
use dwcp_controller::ownership::VmRecord;
use dwcp_types::{Generation, Power};

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
}

impl Lives {
    /// Looks at what the engine was written since.
    pub(super) fn leases(&mut self, world: &World) -> Option<String> {
        let mut found = None;
        for (key, value) in world.engine.written.iter().skip(self.read) {
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
pub(super) fn missed(world: &World) -> Option<String> {
    let (_, at) = world.lost?;
    if world.now < at + BUDGET_MS || !world.faults {
        return None;
    }
    let rows = world.engine.rows.values();
    rows.filter_map(|row| row.value.vm()).find_map(|record| still_down(world, record))
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
