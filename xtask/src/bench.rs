//! Benchmarks: each prints value, unit, method, and the peer from the same run.
//!
//! A benchmark is a function in `bench/`, listed in [`BENCHMARKS`]. They are always run in
//! the release profile: started from a debug build, this re-runs itself.

mod anycast;
mod boot;
mod claims;
mod dns;
mod engine;
mod engine_etcd;
mod failover;
mod federation;
mod inventory;
mod latency;
mod mesh;
mod migration;
mod monitor;
mod moves;
mod nanos;
mod placement;
mod proxy;
mod routing;
mod scratch;
mod state;
mod store;
mod usage;
mod wan;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

/// One benchmark.
type Measure = fn(&Options) -> anyhow::Result<Vec<Measurement>>;

/// Every benchmark, by name.
const BENCHMARKS: &[(&str, Measure)] = &[
    ("anycast", anycast::measure),
    ("boot", boot::measure),
    ("claims", claims::measure),
    ("dns", dns::measure),
    ("engine", engine::run),
    ("failover", failover::measure),
    ("inventory", inventory::measure),
    ("mesh", mesh::measure),
    ("migration", migration::measure),
    ("monitor", monitor::measure),
    ("moves", moves::measure),
    ("placement", placement::measure),
    ("proxy", proxy::measure),
    ("routing", routing::measure),
    ("state", state::measure),
    ("store", store::measure),
    ("wan", wan::measure),
];

/// What to measure and how.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Which benchmark; `list` names them.
    pub(crate) name: String,
    /// Fewer rounds: for trying out, not for quoting.
    #[arg(long)]
    pub(crate) quick: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Arrivals of the placement benchmarks, with the columns of arrivals.csv.
    #[arg(long, value_name = "FILE")]
    pub(crate) arrivals: Option<PathBuf>,
    /// Hosts of the placement benchmarks, with the columns of nodes.csv.
    #[arg(long, value_name = "FILE")]
    pub(crate) nodes: Option<PathBuf>,
}

/// One measured number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    /// Its name, `area.what`.
    pub(crate) name: String,
    /// The number.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// How it was measured, in one line.
    pub(crate) method: String,
    /// The same of a peer, from the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<Peer>,
}

/// The same number of a peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Peer {
    /// Which peer.
    pub(crate) name: String,
    /// Its number, in the unit of the measurement.
    pub(crate) value: f64,
}

/// Runs a benchmark and prints what it measured.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if options.name == "list" {
        for (name, _) in BENCHMARKS {
            println!("{name}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let Some((_, measure)) = BENCHMARKS.iter().find(|(name, _)| *name == options.name)
    else {
        bail!("no benchmark {:?}; `cargo xtask bench list` names them", options.name);
    };
    if cfg!(debug_assertions) {
        return rerun_in_release(&options.name);
    }
    for measurement in measure(options)? {
        print(&measurement, options.json)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(measurement: &Measurement, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(measurement)?);
        return Ok(());
    }
    let Measurement { name, value, unit, method, peer } = measurement;
    println!("{name:<40} {value:>16.2} {unit:<8} {method}");
    if let Some(peer) = peer {
        println!("{:<40} {:>16.2} {unit:<8} peer: {}", "", peer.value, peer.name);
    }
    Ok(())
}

fn rerun_in_release(name: &str) -> anyhow::Result<ExitCode> {
    let mut again = if name == "store" {
        // Its peer is not part of any other build.
        let mut cargo = Command::new("cargo");
        cargo.args(["run", "--quiet", "--release", "--package", "xtask"]);
        cargo.args(["--features", "fjall", "--"]);
        cargo
    } else {
        Command::new(crate::programs::released()?)
    };
    let status = again
        .args(std::env::args_os().skip(1))
        .status()
        .context("cannot start this program in the release profile")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The names of the benchmarks.
pub(crate) fn names() -> Vec<&'static str> {
    BENCHMARKS.iter().map(|(name, _)| *name).collect()
}
