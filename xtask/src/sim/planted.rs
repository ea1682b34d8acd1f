//! The proof that the simulation of the state plane can fail: every rule of replicas, broken on
//! purpose, and what sees it.

use std::process::ExitCode;

use dwcp_sim::state::hunt;
use dwcp_state::Sabotage;
use serde::Serialize;

use super::SimOptions;

/// So many of the broken rules must be seen.
const SEEN_MIN: usize = 10;

/// What came of one broken rule.
#[derive(Debug, Serialize)]
struct Hunted {
    rule: String,
    /// The first seed that sees it; none when no seed does.
    seed: Option<u64>,
    /// What it broke there.
    invariant: Option<&'static str>,
}

/// Breaks each rule, and looks through the seeds until it is seen.
pub(super) fn run(options: &SimOptions) -> anyhow::Result<ExitCode> {
    let mut all = Vec::new();
    for rule in Sabotage::ALL {
        let seeds = options.range();
        let seen = hunt(rule, seeds);
        let hunted = Hunted {
            rule: format!("{rule:?}"),
            seed: seen.as_ref().map(|(seed, _)| *seed),
            invariant: seen.as_ref().map(|(_, violation)| violation.id),
        };
        if !options.json {
            print(&hunted, options.seeds);
        }
        all.push(hunted);
    }
    if options.json {
        println!("{}", serde_json::to_string(&all)?);
    }
    let seen = all.iter().filter(|hunted| hunted.seed.is_some()).count();
    Ok(if seen >= SEEN_MIN { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(hunted: &Hunted, seeds: u64) {
    match (hunted.seed, hunted.invariant) {
        (Some(seed), Some(invariant)) => {
            println!("{}: {invariant} in seed {seed}", hunted.rule);
        }
        _ => println!("{}: not seen in {seeds} seeds", hunted.rule),
    }
}
