//! `dwcp-wan`: the regions of a federation's file as network namespaces behind their round trips,
//! until it is told to end; and a client for its orders.
#![expect(clippy::print_stdout, reason = "what it was asked for")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand};
use dwcp_runtime::shutdown;
use dwcp_testbed::wan::{Bed, BedPlan, Door, Links, OBSERVER, Order, ask};

/// Emulates the WAN between regions. Needs root.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a namespace for each region and joins them, until SIGINT or SIGTERM.
    Up {
        /// The federation, for its regions and round trips.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Where orders are taken.
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        /// The seed of losses and jitter.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Every packet by itself: exact losses, at several times the CPU.
        #[arg(long)]
        packet_by_packet: bool,
    },
    /// Gives an order; prints the report when it asked for one.
    Ask {
        /// Where `up` takes orders.
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        /// As JSON: `{"part":{"side":["us-east-1"]}}`, `"heal_all"`, `"report"`.
        order: String,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().verb {
        Verb::Up { config, socket, seed, packet_by_packet } => {
            let links = Links::of_federation(&config);
            let regions = links.regions();
            let plan = BedPlan::new(links).seed(seed);
            let plan = if packet_by_packet { plan.packet_by_packet() } else { plan };
            up(&regions, &plan, &socket)
        }
        Verb::Ask { socket, order } => {
            let order: Order = serde_json::from_str(&order)
                .context("not an order; `dwcp-wan ask --help` shows some")?;
            let answer = ask(&socket, &order).with_context(|| {
                format!("no `dwcp-wan up` answers at {}", socket.display())
            })?;
            if let Some(report) = answer? {
                println!("{}", serde_json::to_string_pretty(&report)?);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn up(regions: &[String], plan: &BedPlan, socket: &Path) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start tokio")?;
    // Before anything is made, so that no signal comes too early.
    let stop = runtime.block_on(async { shutdown::requested() })?;
    let names: Vec<&str> = regions.iter().map(String::as_str).collect();
    let Some(bed) = Bed::of(&names, plan).map(Arc::new) else {
        return Ok(ExitCode::FAILURE);
    };
    let _door = Door::open(socket, &bed)
        .with_context(|| format!("cannot take orders at {}", socket.display()))?;
    for region in names.into_iter().chain([OBSERVER]) {
        let (address, namespace) = (bed.address(region), bed.namespace(region));
        println!("{region:<16} {address:<12} ip netns exec {namespace}");
    }
    runtime.block_on(stop);
    Ok(ExitCode::SUCCESS)
}
