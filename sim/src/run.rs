//! One run: a phase with faults, a phase without, and what came of it.

use std::sync::Arc;

use dwcp_controller::failover::HISTORY_PREFIX;
use dwcp_types::Generation;

use crate::chooser::{Choose, Placement};
use crate::invariants::lives::still_down;
use crate::invariants::{Invariants, Violation};
use crate::message::{Answer, Node};
use crate::options::Options;
use crate::world::World;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The first thing that must never be; the run ends there.
    pub violation: Option<Violation>,
    /// How many events happened.
    pub steps: u64,
    /// How long it was in virtual milliseconds.
    pub virtual_ms: u64,
    /// How long after the last fault the world was at rest for good.
    pub rested_after_ms: Option<u64>,
    /// How often a node crashed.
    pub crashes: u64,
    /// How many placements clients were told of.
    pub placed: usize,
    /// How many wishes were refused.
    pub refused: usize,
    /// How often a VM was stopped for a more urgent one.
    pub displaced: usize,
    /// How often one of them had its capacity again.
    pub reinstated: usize,
    /// How many failovers ended.
    pub failovers: usize,
    /// How many VMs got new owners by them.
    pub recovered: usize,
    /// How often a guest was ended because its lease was over.
    pub fenced: u64,
    /// How long after its region was lost the last of its VMs ran elsewhere, in a drill.
    pub recovered_after_ms: Option<u64>,
    /// Everything that happened, hashed.
    pub trace_hash: u64,
    /// Everything that happened, a line an event, when it was asked for.
    pub trace: Vec<String>,
}

/// Runs a seed's world with the placement core.
#[must_use]
pub fn run(options: &Options, keep_trace: bool) -> Outcome {
    run_with(options, Arc::new(Placement::default()), keep_trace)
}

/// Runs a seed's world with a decision of one's own.
#[must_use]
pub fn run_with(
    options: &Options,
    chooser: Arc<dyn Choose>,
    keep_trace: bool,
) -> Outcome {
    let mut invariants = Invariants::default();
    let mut outcome = Outcome {
        violation: None,
        steps: 0,
        virtual_ms: 0,
        rested_after_ms: None,
        crashes: 0,
        placed: 0,
        refused: 0,
        displaced: 0,
        reinstated: 0,
        failovers: 0,
        recovered: 0,
        fenced: 0,
        recovered_after_ms: None,
        trace_hash: 0,
        trace: Vec::new(),
    };
    match World::new(options, chooser, keep_trace) {
        Ok(mut world) => {
            let ended = both_phases(&mut world, &mut invariants, &mut outcome);
            outcome.violation = ended.err();
            report(&mut world, &mut outcome);
        }
        Err(statement) => outcome.violation = Some(Violation::broken_world(statement, 0)),
    }
    outcome
}

fn both_phases(
    world: &mut World,
    invariants: &mut Invariants,
    outcome: &mut Outcome,
) -> Result<(), Violation> {
    let heal_at = world.options.faults_for_ms;
    let end_at = heal_at + world.options.rest_within_ms;
    let mut restless_at = heal_at;
    let mut look_at = heal_at;
    while world.now < end_at {
        if world.is_faulty() && world.now >= heal_at {
            world.heal();
        }
        let stepped = world.step();
        let touched =
            stepped.map_err(|error| Violation::broken_world(error, world.now))?;
        let Some(touched) = touched else { break };
        outcome.steps += 1;
        invariants.check(world, touched)?;
        if outcome.recovered_after_ms.is_none() && matches!(touched, Node::Agent(_)) {
            outcome.recovered_after_ms = recovered_after(world);
        }
        if world.now >= look_at && !world.is_faulty() {
            // Once a virtual second is often enough to say how long it took.
            look_at = world.now + 1_000;
            if invariants.restless(world).is_some() {
                restless_at = world.now;
            }
        }
    }
    if let Some(violation) = invariants.restless(world) {
        return Err(violation);
    }
    outcome.rested_after_ms = Some(restless_at - heal_at);
    Ok(())
}

/// How long the lost region's VMs have been away, once all of them run elsewhere.
fn recovered_after(world: &World) -> Option<u64> {
    let (_, at) = world.lost?;
    let records = world.engine.rows.values().filter_map(|row| row.value.vm());
    let mut came = records.clone().filter(|record| record.recovered.is_some()).peekable();
    came.peek()?;
    let mut down = records.filter_map(|record| still_down(world, record));
    down.next().is_none().then(|| world.now - at)
}

fn report(world: &mut World, outcome: &mut Outcome) {
    let told = |wanted: fn(&Answer) -> bool| {
        world.told.iter().filter(|told| wanted(&told.answer)).count()
    };
    outcome.placed = told(|answer| matches!(answer, Answer::Placed(_)));
    outcome.refused = told(|answer| matches!(answer, Answer::Refused));
    (outcome.displaced, outcome.reinstated) = world.engine.gave_way();
    for (key, value) in &world.engine.written {
        outcome.failovers += usize::from(key.starts_with(HISTORY_PREFIX));
        let record = value.as_ref().and_then(|value| value.vm());
        let came = record.is_some_and(|record| {
            record.recovered.is_some() && record.generation == Generation::FIRST
        });
        outcome.recovered += usize::from(came);
    }
    outcome.fenced = world.agents.iter().map(|agent| agent.fenced).sum();
    outcome.virtual_ms = world.now;
    outcome.crashes = world.crashes;
    outcome.trace_hash = world.trace.hash;
    outcome.trace = world.trace.lines.take().unwrap_or_default();
}
