//! Checks that no lint can make, benchmarks, the simulation's entry, and generated files.
//! Run as `cargo xtask --help`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool prints"
)]

mod bench;
mod sim;

use std::process::ExitCode;

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
    /// Run the cores in seeded worlds with faults; exit 1 when an invariant breaks.
    Sim(sim::SimOptions),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Bench(options) => bench::run(&options),
        Command::Sim(options) => sim::run_seeds(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
