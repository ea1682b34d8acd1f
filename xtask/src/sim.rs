//! The simulation's entry: runs seeds, says what came of each, and fails on a violation with
//! all that is needed to see it again.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use dwcp_sim::{Options, Outcome, run};
use serde::Serialize;

/// Which seeds to run and what to print.
#[derive(Clone, Debug, Args)]
pub(crate) struct SimOptions {
    /// How many seeds.
    #[arg(long, default_value_t = 64)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// One JSON object at the end instead of lines.
    #[arg(long)]
    json: bool,
    /// Print every event; only with one seed.
    #[arg(long)]
    trace: bool,
}

/// What came of all seeds.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// How many seeds were run.
    seeds: u64,
    /// The first of them.
    first: u64,
    /// How many ended in a violation.
    violations: u64,
    /// The seeds that did, with what was found.
    found: Vec<Found>,
    /// Events over all seeds.
    steps: u64,
    /// Crashes that were injected.
    crashes: u64,
    /// Placements that clients were told of.
    placed: usize,
    /// Wishes that were refused.
    refused: usize,
    /// VMs that were stopped for more urgent ones.
    displaced: usize,
    /// Those of them that had their capacity again.
    reinstated: usize,
    /// Virtual time over all seeds, in hours.
    virtual_hours: f64,
    /// The longest that a world took to come to rest after its last fault.
    rested_after_ms_max: u64,
    /// Wall-clock time.
    seconds: f64,
    /// The commit that was run.
    commit: String,
}

/// One violation.
#[derive(Debug, Serialize)]
struct Found {
    seed: u64,
    invariant: &'static str,
    found: String,
    at_ms: u64,
    replay: String,
}

/// Runs the seeds.
pub(crate) fn run_seeds(options: &SimOptions) -> anyhow::Result<ExitCode> {
    ensure!(options.seeds > 0, "nothing to run; give --seeds 1 or more");
    ensure!(!options.trace || options.seeds == 1, "--trace needs --seeds 1");
    let started = tokio::time::Instant::now();
    let mut summary = Summary {
        seeds: options.seeds,
        first: options.first,
        commit: commit(),
        ..Summary::default()
    };
    for seed in (options.first..).take(usize::try_from(options.seeds)?) {
        let world = Options::from_seed(seed);
        let outcome = run(&world, options.trace);
        if !options.json {
            print(&world, &outcome);
        }
        summary.add(seed, &outcome);
    }
    summary.seconds = started.elapsed().as_secs_f64();
    summary.print(options.json)?;
    Ok(if summary.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.steps += outcome.steps;
        self.crashes += outcome.crashes;
        self.placed += outcome.placed;
        self.refused += outcome.refused;
        self.displaced += outcome.displaced;
        self.reinstated += outcome.reinstated;
        self.virtual_hours +=
            Duration::from_millis(outcome.virtual_ms).as_secs_f64() / 3_600.0;
        let rested = outcome.rested_after_ms.unwrap_or(0);
        self.rested_after_ms_max = self.rested_after_ms_max.max(rested);
        if let Some(violation) = &outcome.violation {
            self.violations += 1;
            self.found.push(Found {
                seed,
                invariant: violation.id,
                found: violation.found.clone(),
                at_ms: violation.at_ms,
                replay: format!("cargo xtask sim --first {seed} --seeds 1 --trace"),
            });
        }
    }

    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        println!(
            "{} seeds from {}: {} violations, {} steps, {} crashes, {} placed, {} refused, \
             {} displaced, {} of them back, {:.1} virtual hours in {:.1} s, at rest within {} ms",
            self.seeds,
            self.first,
            self.violations,
            self.steps,
            self.crashes,
            self.placed,
            self.refused,
            self.displaced,
            self.reinstated,
            self.virtual_hours,
            self.seconds,
            self.rested_after_ms_max,
        );
        for Found { seed, invariant, found, at_ms, replay } in &self.found {
            eprintln!(
                "seed {seed}, commit {}: {invariant} at {at_ms} ms: {found}",
                self.commit
            );
            eprintln!("  replay: {replay}");
        }
        Ok(())
    }
}

fn print(world: &Options, outcome: &Outcome) {
    for line in &outcome.trace {
        println!("{line}");
    }
    let ended = match &outcome.violation {
        Some(violation) => format!("VIOLATION {} {}", violation.id, violation.found),
        None => format!("at rest after {} ms", outcome.rested_after_ms.unwrap_or(0)),
    };
    println!(
        "{world}: {} steps, {} crashes, {} placed, {} refused, {} displaced, trace {:016x}, \
         {ended}",
        outcome.steps,
        outcome.crashes,
        outcome.placed,
        outcome.refused,
        outcome.displaced,
        outcome.trace_hash,
    );
}

/// The commit, with a mark where the tree was changed since.
fn commit() -> String {
    let described =
        Command::new("git").args(["describe", "--always", "--dirty"]).output();
    match described {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_sim::Breakage;

    #[test]
    fn a_violation_is_counted_and_says_how_to_see_it_again() {
        let world = Options::from_seed(7).broken(Breakage::AnswersBeforeStoring);
        let mut summary = Summary::default();
        summary.add(7, &run(&world, false));
        assert_eq!(summary.violations, 1);
        assert_eq!(summary.found[0].invariant, "ACK-1");
        assert!(summary.found[0].replay.contains("--first 7 --seeds 1 --trace"));
    }

    #[test]
    fn no_seeds_is_an_error_and_not_a_success() {
        let none = SimOptions { seeds: 0, first: 0, json: false, trace: false };
        assert!(run_seeds(&none).is_err());
    }
}
