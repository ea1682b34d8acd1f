//! Faults in pairs against a whole federation of real processes, until it is whole again, and
//! what must be true meanwhile and after (`docs/design/nemesis.md`).
//!
//! ```text
//!   seed ─▶ pair: two faults, who, when, for how long
//!   strike one ─▶ strike the other ─▶ hold ─▶ heal both ─▶ whole again, within a bound
//!        └───────────── watched all the time: guests, epochs, processes, writes ────────┘
//! ```
//!
//! Everything that is chosen comes from a seed that is printed, a seed of its own for each pair:
//! a pair strikes in the same way whichever pairs are before it. What the federation makes of it
//! is its own and the machine's; so a seed repeats the faults, not always the failure.

mod fault;
mod load;
mod pair;
mod report;
mod seen;
mod whole;
mod world;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::wan::{Bed, Links};
use crate::{etcd_program, stepped, workspace};

pub use fault::{Fault, Kind, Part};
pub use pair::{Pair, PairSeed, Span, all_pairs};
pub use report::{PairReport, Summary, Violation};
pub use world::World;

/// The regions, that of the engine's leader first.
pub const REGIONS: [&str; 5] =
    ["us-east-1", "eu-west-1", "ap-south-1", "sa-east-1", "au-southeast-1"];

/// Pairs for a test of every day: a region that is lost while another's process hangs, and a disk
/// and a clock.
pub const QUICK: [(Kind, Kind); 2] =
    [(Kind::Freeze, Kind::TwoWay), (Kind::Disk, Kind::Clock)];

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The first round: each draws by its own number.
    pub first: u32,
    /// How many rounds, each with all pairs.
    pub rounds: u32,
    /// What everything is chosen by.
    pub seed: u64,
    /// Which pairs, in this order.
    pub pairs: Vec<(Kind, Kind)>,
    /// How long faults last.
    pub hold: Span,
}

/// What this machine has not that a nemesis needs; nothing when it has all.
///
/// # Errors
///
/// What is missing, and what to do.
pub fn missing() -> Result<(), String> {
    stepped::library()?;
    if !rustix::process::geteuid().is_root() {
        return Err("namespaces and small disks need root".to_owned());
    }
    etcd_program()
        .map(drop)
        .ok_or_else(|| "etcd is missing: run `./dwcp test` once".to_owned())
}

/// Runs all of it; a federation whose promise was broken is given up, its files kept, and the
/// next pair has a new one.
///
/// # Errors
///
/// When no bed can be made here.
///
/// # Panics
///
/// When a federation does not come up with nothing struck.
pub fn run(campaign: &Campaign, tell: &(dyn Fn(&str) + Sync)) -> Result<Summary, String> {
    missing()?;
    let links = Links::of_federation(&workspace().join("deploy/t1/federation.yaml"));
    let mut summary = Summary::of(campaign.seed);
    let last = campaign.first.saturating_add(campaign.rounds.saturating_sub(1));
    for round in campaign.first..=last {
        let seed = PairSeed { seed: campaign.seed, round };
        let drawn = campaign.pairs.iter();
        let mut left: VecDeque<Pair> =
            drawn.map(|kinds| Pair::drawn(*kinds, seed, campaign.hold)).collect();
        while !left.is_empty() {
            let bed = Bed::new(&REGIONS, &links).ok_or("there is no WAN here")?;
            let bed = Arc::new(bed);
            bed.block_on(async {
                let mut world = World::start(&bed, &links).await;
                while let Some(pair) = left.pop_front() {
                    let mut report = world.play(&pair).await;
                    if !report.violations.is_empty() {
                        let told = report.line(round, last);
                        report.kept = world.keep_files(seed, (&pair.name(), &told));
                    }
                    tell(&report.line(round, last));
                    let broken = !report.violations.is_empty();
                    summary.add(report);
                    if broken {
                        return;
                    }
                }
                if let Some(ill) = world.stays_ill().await {
                    let mut told = format!("round {round}/{last}\n  VIOLATION {ill}");
                    if let Some(kept) = world.keep_files(seed, ("end", &told)) {
                        told += &format!("\n  files: {}", kept.display());
                    }
                    tell(&told);
                    summary.violations.push(ill);
                }
                world.end().await;
            });
        }
        summary.rounds += 1;
    }
    Ok(summary)
}
