//! The simulation's entry: runs seeds of one world or all, says what came of each, and fails on
//! a violation with all that is needed to see it again.

mod planted;
mod regions;
mod spine;
mod state;

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use serde::Serialize;

/// A simulated world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum World {
    /// Placements: regions, agents, the strong engine.
    Spine,
    /// Replicated state.
    State,
    /// Regions that die, freeze, are cut off, or only seem so.
    Regions,
    /// All, one after the other.
    All,
}

/// Which seeds to run and what to print.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct SimOptions {
    /// Which world.
    #[arg(long, value_enum, default_value_t = World::All)]
    world: World,
    /// How many seeds.
    #[arg(long, default_value_t = 64)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// One JSON object at the end instead of lines.
    #[arg(long)]
    json: bool,
    /// Print every event; only with one seed and one world.
    #[arg(long)]
    trace: bool,
    /// Faults of the plan that do not strike, by their place in it; only in the world of state.
    #[arg(long, value_delimiter = ',')]
    spare: Vec<usize>,
    /// Find the faults without which a seed still fails; only in the world of state.
    #[arg(long)]
    reduce: bool,
    /// Break each rule of replicas on purpose, and say which invariant sees it in which seed.
    #[arg(long, conflicts_with_all = ["trace", "spare", "reduce"])]
    planted: bool,
}

impl SimOptions {
    fn range(&self) -> std::ops::Range<u64> {
        self.first..self.first.saturating_add(self.seeds)
    }
}

/// What came of all seeds of one world.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Of which world.
    world: &'static str,
    /// How many seeds were run.
    seeds: u64,
    /// How many ended in a violation.
    violations: u64,
    /// The seeds that did, with what was found.
    found: Vec<Found>,
    /// Events over all seeds.
    steps: u64,
    /// Crashes that were injected.
    crashes: u64,
    /// What clients were told is done.
    done: u64,
    /// What was refused.
    refused: u64,
    /// VMs that were stopped for more urgent ones.
    displaced: u64,
    /// Those of them that had their capacity again.
    reinstated: u64,
    /// Failovers that ended.
    failovers: u64,
    /// VMs that they gave new owners.
    recovered: u64,
    /// Guests that were ended because their lease was over.
    fenced: u64,
    /// The longest that the VMs of a lost region were away, in drills.
    recovered_after_ms_max: u64,
    /// Virtual time over all seeds, in hours.
    virtual_hours: f64,
    /// The longest that a world took to come to rest after its last fault.
    rested_after_ms_max: u64,
    /// Time of the CPU; one thread.
    cpu_seconds: f64,
    /// Virtual hours in a minute of one CPU.
    virtual_hours_per_minute: f64,
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

/// What came of all worlds.
#[derive(Debug, Serialize)]
struct Report {
    /// The first seed.
    first: u64,
    /// Violations in all worlds.
    violations: u64,
    /// Each world.
    worlds: Vec<Summary>,
    /// The commit that was run.
    commit: String,
}

/// Runs the seeds.
pub(crate) fn run_seeds(options: &SimOptions) -> anyhow::Result<ExitCode> {
    ensure!(options.seeds > 0, "nothing to run; give --seeds 1 or more");
    ensure!(
        !options.trace || (options.seeds == 1 && options.world != World::All),
        "--trace needs --seeds 1 and one world"
    );
    if options.planted {
        return planted::run(options);
    }
    let only_state = options.world == World::State;
    ensure!(
        only_state || (options.spare.is_empty() && !options.reduce),
        "--spare and --reduce need --world state"
    );
    let mut worlds = Vec::new();
    let wanted = |world| options.world == World::All || options.world == world;
    if wanted(World::Spine) {
        worlds.push(timed(|summary| spine::run_seeds(options, summary)));
    }
    if wanted(World::Regions) {
        worlds.push(timed(|summary| regions::run_seeds(options, summary)));
    }
    if wanted(World::State) {
        worlds.push(timed(|summary| state::run_seeds(options, summary)));
    }
    let violations = worlds.iter().map(|world| world.violations).sum();
    let report = Report { first: options.first, violations, worlds, commit: commit() };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        report.print();
    }
    Ok(if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn timed(run: impl FnOnce(&mut Summary)) -> Summary {
    let started = cpu_time();
    let mut summary = Summary::default();
    run(&mut summary);
    summary.cpu_seconds = cpu_time().saturating_sub(started).as_secs_f64();
    let minutes = summary.cpu_seconds / 60.0;
    summary.virtual_hours_per_minute = summary.virtual_hours / minutes.max(1e-6);
    summary
}

/// What this process has used of the CPU: others on the machine do not change it.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Summary {
    fn rested(&mut self, virtual_ms: u64, rested_after_ms: Option<u64>) {
        self.seeds += 1;
        self.virtual_hours += Duration::from_millis(virtual_ms).as_secs_f64() / 3_600.0;
        let rested = rested_after_ms.unwrap_or(0);
        self.rested_after_ms_max = self.rested_after_ms_max.max(rested);
    }

    /// What every world of placements counts.
    fn placed(&mut self, seed: u64, outcome: &dwcp_sim::Outcome) {
        self.steps += outcome.steps;
        self.crashes += outcome.crashes;
        self.done += outcome.placed as u64;
        self.refused += outcome.refused as u64;
        self.rested(outcome.virtual_ms, outcome.rested_after_ms);
        if let Some(violation) = &outcome.violation {
            self.violated(seed, violation);
        }
    }

    fn violated(&mut self, seed: u64, violation: &dwcp_sim::Violation) {
        self.violations += 1;
        let world = self.world;
        self.found.push(Found {
            seed,
            invariant: violation.id,
            found: violation.found.clone(),
            at_ms: violation.at_ms,
            replay: format!(
                "cargo xtask sim --world {world} --first {seed} --seeds 1 --trace"
            ),
        });
    }
}

impl Report {
    fn print(&self) {
        for world in &self.worlds {
            println!(
                "{}: {} seeds from {}: {} violations, {} steps, {} crashes, {} done, {} \
                 refused, {:.1} virtual hours in {:.1} s of CPU ({:.0} a minute), at rest within {} ms",
                world.world,
                world.seeds,
                self.first,
                world.violations,
                world.steps,
                world.crashes,
                world.done,
                world.refused,
                world.virtual_hours,
                world.cpu_seconds,
                world.virtual_hours_per_minute,
                world.rested_after_ms_max,
            );
            if world.failovers > 0 {
                println!(
                    "  {} failovers, {} VMs recovered, in drills within {} ms, {} guests fenced",
                    world.failovers,
                    world.recovered,
                    world.recovered_after_ms_max,
                    world.fenced,
                );
            }
            for Found { seed, invariant, found, at_ms, replay } in &world.found {
                eprintln!(
                    "seed {seed}, commit {}: {invariant} at {at_ms} ms: {found}",
                    self.commit
                );
                eprintln!("  replay: {replay}");
            }
        }
    }
}

/// How a seed ended, in words.
fn ended(
    violation: Option<&dwcp_sim::Violation>,
    rested_after_ms: Option<u64>,
) -> String {
    match violation {
        Some(violation) => format!("VIOLATION {} {}", violation.id, violation.found),
        None => format!("at rest after {} ms", rested_after_ms.unwrap_or(0)),
    }
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

    fn few(world: World) -> SimOptions {
        SimOptions {
            world,
            seeds: 1,
            first: 0,
            json: false,
            trace: false,
            spare: Vec::new(),
            reduce: false,
            planted: false,
        }
    }

    #[test]
    fn no_seeds_is_an_error_and_not_a_success() {
        assert!(run_seeds(&SimOptions { seeds: 0, ..few(World::Spine) }).is_err());
    }

    #[test]
    fn what_one_world_does_not_have_is_an_error() {
        let reduced = SimOptions { reduce: true, ..few(World::All) };
        assert!(run_seeds(&reduced).is_err());
        let traced = SimOptions { trace: true, ..few(World::All) };
        assert!(run_seeds(&traced).is_err());
    }

    #[test]
    fn a_violation_says_how_to_see_it_again() {
        let mut summary = Summary { world: "state", ..Summary::default() };
        let statement = "a statement";
        let found = "something".to_owned();
        let violation = dwcp_sim::Violation { id: "X-1", statement, found, at_ms: 5 };
        summary.violated(7, &violation);
        assert_eq!(summary.violations, 1);
        assert!(summary.found[0].replay.contains("--world state --first 7 --seeds 1"));
    }
}
