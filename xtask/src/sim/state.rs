//! Seeds of the world of replicated state, and the reduction of one that fails.

use std::collections::BTreeSet;

use dwcp_sim::state::{Options, Outcome, run};

use super::{SimOptions, Summary, ended};

pub(super) fn run_seeds(options: &SimOptions, summary: &mut Summary) {
    summary.world = "state";
    for seed in options.range() {
        let mut world = Options::from_seed(seed);
        world.spared = options.spare.iter().copied().collect();
        if options.reduce {
            world.spared = reduced(&world);
        }
        let outcome = run(&world, options.trace);
        if !options.json {
            print(&world, &outcome);
        }
        add(summary, seed, &outcome);
    }
}

/// The faults that can be spared while the seed goes on to break the same invariant.
fn reduced(world: &Options) -> BTreeSet<usize> {
    let mut spared = world.spared.clone();
    let first = run(world, false);
    let Some(violation) = first.violation else { return spared };
    for place in 0..first.planned {
        let mut less = spared.clone();
        less.insert(place);
        let tried = run(&Options { spared: less.clone(), ..world.clone() }, false);
        if tried.violation.is_some_and(|found| found.id == violation.id) {
            spared = less;
        }
    }
    spared
}

fn add(summary: &mut Summary, seed: u64, outcome: &Outcome) {
    summary.steps += outcome.steps;
    summary.crashes += outcome.crashes;
    summary.done += outcome.done;
    summary.refused += outcome.refused;
    summary.rested(outcome.virtual_ms, outcome.rested_after_ms);
    if let Some(violation) = &outcome.violation {
        summary.violated(seed, violation);
    }
}

fn print(world: &Options, outcome: &Outcome) {
    for line in &outcome.trace {
        println!("{line}");
    }
    let ended = ended(outcome.violation.as_ref(), outcome.rested_after_ms);
    let spared: Vec<String> = world.spared.iter().map(usize::to_string).collect();
    println!(
        "{world}: {} of {} faults spared ({}), {} steps, {} crashes, {} epochs, {} done, {} \
         refused, {} unknown, trace {:016x}, {ended}",
        spared.len(),
        outcome.planned,
        spared.join(","),
        outcome.steps,
        outcome.crashes,
        outcome.epochs,
        outcome.done,
        outcome.refused,
        outcome.unknown,
        outcome.trace_hash,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_state::Sabotage;

    #[test]
    fn a_violation_is_counted() {
        let world = Options::from_seed(1).broken(Sabotage::AcksBeforeDurable);
        let mut summary = Summary::default();
        add(&mut summary, 1, &run(&world, false));
        assert_eq!(summary.violations, 1);
    }
}
