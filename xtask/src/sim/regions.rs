//! Seeds of the worlds in which regions fail, or only seem to: each seed is a storm, every fourth
//! a drill beside it, and every eighth noise.

use dwcp_sim::{Options, Outcome, run};

use super::{SimOptions, Summary, ended};

/// A drill on every so many seeds.
const DRILL_EVERY: u64 = 4;
/// Noise, which is longest, on every so many.
const NOISE_EVERY: u64 = 8;

pub(super) fn run_seeds(options: &SimOptions, summary: &mut Summary) {
    summary.world = "regions";
    for seed in options.range() {
        one(options, summary, "storm", &Options::storm(seed));
        if seed % DRILL_EVERY == 0 {
            one(options, summary, "drill", &Options::drill(seed));
        }
        if seed % NOISE_EVERY == 0 {
            one(options, summary, "noise", &Options::noise(seed));
        }
    }
}

fn one(options: &SimOptions, summary: &mut Summary, name: &str, world: &Options) {
    let outcome = run(world, options.trace);
    if !options.json {
        print(name, world, &outcome);
    }
    summary.placed(world.seed, &outcome);
    summary.failovers += outcome.failovers as u64;
    summary.recovered += outcome.recovered as u64;
    summary.fenced += outcome.fenced;
    let longest = outcome.recovered_after_ms.unwrap_or(0);
    summary.recovered_after_ms_max = summary.recovered_after_ms_max.max(longest);
}

fn print(name: &str, world: &Options, outcome: &Outcome) {
    for line in &outcome.trace {
        println!("{line}");
    }
    let ended = ended(outcome.violation.as_ref(), outcome.rested_after_ms);
    println!(
        "{name}, {world}: {} steps, {} crashes, {} failovers, {} recovered ({:?} ms), {} \
         fenced, trace {:016x}, {ended}",
        outcome.steps,
        outcome.crashes,
        outcome.failovers,
        outcome.recovered,
        outcome.recovered_after_ms,
        outcome.fenced,
        outcome.trace_hash,
    );
}
