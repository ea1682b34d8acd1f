//! Checks that no lint can make, benchmarks, the simulation's entry, and generated files.
//! Run as `cargo xtask --help`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool prints"
)]

mod asked;
mod bench;
mod check;
mod dictionary;
mod docs;
mod files;
mod layers;
mod nemesis;
mod programs;
mod shape;
mod sim;
mod specification;
mod topology;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "checks, benchmarks and generated files")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure something and print value, unit and method.
    Bench(bench::Options),
    /// Make the checks that no lint can make.
    Check,
    /// Train the compression dictionary of the frames between regions.
    Dictionary(dictionary::Options),
    /// Strike a whole federation with faults in pairs; exit 1 when a promise breaks.
    Nemesis(nemesis::Options),
    /// Run the cores in seeded worlds with faults; exit 1 when an invariant breaks.
    Sim(sim::SimOptions),
    /// Write the example federations of deploy/ from tables of real inputs.
    Topology(topology::Options),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Bench(options) => bench::run(&options),
        Command::Check => check::run(),
        Command::Dictionary(options) => dictionary::run(&options),
        Command::Nemesis(options) => nemesis::run(&options),
        Command::Sim(options) => sim::run_seeds(&options),
        Command::Topology(options) => topology::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the project.
fn root() -> anyhow::Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.parent().context("xtask is not in a folder of the project")?;
    Ok(root.to_path_buf())
}
