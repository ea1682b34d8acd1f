//! Seeds of the world of placements.

use dwcp_sim::{Options, Outcome, run};

use super::{SimOptions, Summary, ended};

pub(super) fn run_seeds(options: &SimOptions, summary: &mut Summary) {
    summary.world = "spine";
    for seed in options.range() {
        let world = Options::from_seed(seed);
        let outcome = run(&world, options.trace);
        if !options.json {
            print(&world, &outcome);
        }
        add(summary, seed, &outcome);
    }
}

fn add(summary: &mut Summary, seed: u64, outcome: &Outcome) {
    summary.placed(seed, outcome);
    summary.displaced += outcome.displaced as u64;
    summary.reinstated += outcome.reinstated as u64;
}

fn print(world: &Options, outcome: &Outcome) {
    for line in &outcome.trace {
        println!("{line}");
    }
    let ended = ended(outcome.violation.as_ref(), outcome.rested_after_ms);
    println!(
        "{world}: {} steps, {} crashes, {} placed, {} refused, {} displaced, \
         trace {:016x}, {ended}",
        outcome.steps,
        outcome.crashes,
        outcome.placed,
        outcome.refused,
        outcome.displaced,
        outcome.trace_hash,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_sim::Breakage;

    #[test]
    fn a_violation_is_counted() {
        let world = Options::from_seed(7).broken(Breakage::AnswersBeforeStoring);
        let mut summary = Summary::default();
        add(&mut summary, 7, &run(&world, false));
        assert_eq!(summary.violations, 1);
        assert_eq!(summary.found[0].invariant, "ACK-1");
    }
}
