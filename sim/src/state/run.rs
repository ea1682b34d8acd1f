//! One run: a phase with faults, a phase without, and what came of it.

use super::invariants::Invariants;
use super::options::Options;
use super::world::World;
use crate::invariants::Violation;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The first thing that must never be; the run ends there.
    pub violation: Option<Violation>,
    /// How many things happened.
    pub steps: u64,
    /// How long it was in virtual milliseconds.
    pub virtual_ms: u64,
    /// How long after the last fault the world was at rest.
    pub rested_after_ms: Option<u64>,
    /// How often a node crashed.
    pub crashes: u64,
    /// Memberships after the first.
    pub epochs: u64,
    /// Operations that clients were told are done.
    pub done: u64,
    /// Operations that were refused.
    pub refused: u64,
    /// Operations of which clients never knew.
    pub unknown: u64,
    /// How many faults the plan has.
    pub planned: usize,
    /// Everything that happened, hashed.
    pub trace_hash: u64,
    /// Everything that happened, a line an event, when it was asked for.
    pub trace: Vec<String>,
}

/// How often the world is looked at for rest once faults are over.
const LOOK_EVERY_US: u64 = 500_000;

/// Runs a seed's world.
#[must_use]
pub fn run(options: &Options, keep_trace: bool) -> Outcome {
    let mut world = World::new(options, keep_trace);
    let mut invariants = Invariants::new(&world);
    let ended = both_phases(&mut world, &mut invariants);
    let (violation, rested_after_ms) = match ended {
        Ok(rested) => (None, Some(rested)),
        Err(violation) => (Some(violation), None),
    };
    Outcome {
        violation,
        steps: world.now.step,
        virtual_ms: world.now.us / 1_000,
        rested_after_ms,
        crashes: world.counts.crashes,
        epochs: world.counts.epochs,
        done: world.counts.done,
        refused: world.counts.refused,
        unknown: world.counts.unknown,
        planned: world.plan.len(),
        trace_hash: world.trace.hash,
        trace: world.trace.lines.take().unwrap_or_default(),
    }
}

/// How long it took to come to rest, in milliseconds.
fn both_phases(world: &mut World, invariants: &mut Invariants) -> Result<u64, Violation> {
    let heal_at = world.options.faults_for_ms * 1_000;
    let end_at = heal_at + world.options.rest_within_ms * 1_000;
    let mut look_at = heal_at;
    loop {
        if world.faults && world.now.us >= heal_at {
            world.heal();
        }
        if !world.step() || world.now.us >= end_at {
            break;
        }
        invariants.check(world)?;
        if !world.faults && world.now.us >= look_at {
            look_at = world.now.us + LOOK_EVERY_US;
            if invariants.restless(world).is_none() {
                invariants.at_rest(world)?;
                return Ok((world.now.us - heal_at) / 1_000);
            }
        }
    }
    match invariants.restless(world) {
        Some(violation) => Err(violation),
        None => invariants.at_rest(world).map(|()| world.options.rest_within_ms),
    }
}
