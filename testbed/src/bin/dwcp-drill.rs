//! `dwcp-drill`: makes the regions of a federation's file on this machine, behind their round
//! trips, with real guests; loses one of them; and tells what became of its VMs.
#![expect(clippy::print_stdout, reason = "what it was asked for")]
#![expect(clippy::print_stderr, reason = "how far it is")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::{Parser, ValueEnum};
use dwcp_controller::placement::validate;
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::shutdown;
use dwcp_testbed::drill::report::Report;
use dwcp_testbed::drill::{Drill, Loss};
use dwcp_testbed::wan::{Bed, Links};
use dwcp_testbed::{
    Federation, HostPlan, Plan, RegionPlan, etcd_program, guest_image, workspace,
};
use dwcp_types::OnRegionLoss;

/// Loses a region of a test bed on purpose and reports what became of its VMs. Nothing that
/// runs on this machine otherwise is touched. Needs root, QEMU and etcd.
#[derive(Debug, Parser)]
struct Arguments {
    /// The region that is lost
    #[arg(long)]
    region: String,
    /// How it is lost
    #[arg(long, value_enum, default_value_t = How::Power)]
    loss: How,
    /// How many real guests run in it
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=40))]
    vms: u16,
    /// What they start from elsewhere, as `place-vm` has it
    #[arg(long, value_enum, default_value_t = Start::SyncReplica, value_name = "POLICY")]
    on_region_loss: Start,
    /// How old a replica may become that follows later [default: 5, or 900]
    #[arg(long, value_name = "SECONDS")]
    replica_max_age: Option<u32>,
    /// So many drills one after the other, each on a bed of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    drills: u16,
    /// The federation whose regions and round trips are taken
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Each report is added to this file, as a line of JSON
    #[arg(long, value_name = "FILE", default_value = ".dwcp/drills.jsonl")]
    ledger: PathBuf,
    /// How to print the reports
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    /// All its processes are killed
    Power,
    /// All its lines are cut; its processes live
    Lines,
    /// Both, in turns
    Both,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Start {
    /// Their image: what they wrote to their disks is lost
    RestartFromImage,
    /// A disk that has each write that was acknowledged
    SyncReplica,
    /// A disk that follows within seconds
    AsyncReplica,
    /// A disk that is copied now and then
    SnapshotReplica,
}

impl Start {
    const fn policy(self) -> OnRegionLoss {
        match self {
            Self::RestartFromImage => OnRegionLoss::RestartFromImage,
            Self::SyncReplica => OnRegionLoss::SyncReplica,
            Self::AsyncReplica => OnRegionLoss::AsyncReplica,
            Self::SnapshotReplica => OnRegionLoss::SnapshotReplica,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One JSON object a line
    Json,
}

impl How {
    const fn of(self, number: u16) -> Loss {
        match self {
            Self::Power => Loss::Killed,
            Self::Lines => Loss::CutOff,
            Self::Both if number.is_multiple_of(2) => Loss::Killed,
            Self::Both => Loss::CutOff,
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let default = || workspace().join("deploy/t1/federation.yaml");
    let links = Links::of_federation(&arguments.config.clone().unwrap_or_else(default));
    let regions = links.regions();
    if !regions.contains(&arguments.region) {
        bail!(
            "there is no region {:?} in the file; it has {}",
            arguments.region,
            regions.join(", ")
        );
    }
    ensure!(regions.len() > 2, "a majority of the others must say that it is dead");
    ensure!(etcd_program().is_some(), "etcd is missing: run `./dwcp test` once");
    ensure!(
        guest_image().is_some(),
        "no guest image, or no QEMU: run `./dwcp test` once"
    );
    let mut all_held = true;
    for number in 0..arguments.drills {
        let report = drill(&arguments, number, &links, &regions)?;
        write(&arguments.ledger, &report)?;
        match arguments.output {
            Format::Table => println!("{}", report.text()),
            Format::Json => println!("{}", serde_json::to_string(&report)?),
        }
        all_held &= report.held;
    }
    Ok(if all_held { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn drill(
    arguments: &Arguments,
    number: u16,
    links: &Links,
    regions: &[String],
) -> anyhow::Result<Report> {
    let names: Vec<&str> = regions.iter().map(String::as_str).collect();
    let observer =
        names.iter().find(|it| **it != arguments.region).context("one region")?;
    let drill = Drill {
        region: &arguments.region,
        loss: arguments.loss.of(number),
        observer,
        survives: arguments.on_region_loss.policy(),
        replica_max_age_s: arguments.replica_max_age,
    };
    if let Err(wrong) = validate(&drill.ask("vm-0").body().request) {
        let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        bail!(wrong.join("; "));
    }
    let image = guest_image().context("the guest image is gone")?;
    let bed =
        Arc::new(Bed::new(&names, links).context("there is no WAN here: run as root")?);
    let slots = u64::from(arguments.vms);
    let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(slots));
    let plan = Plan::qemu(names.iter().map(region).collect(), image);
    let vms: Vec<String> =
        (0..arguments.vms).map(|number| format!("vm-{number}")).collect();
    eprintln!(
        "drill {} of {}: {} regions, {} guests, {:?} of {}",
        number + 1,
        arguments.drills,
        names.len(),
        vms.len(),
        drill.loss,
        drill.region
    );
    let at = SystemClock::new().now();
    bed.block_on(async {
        let told_to_end = shutdown::requested().context("signals cannot be handled")?;
        let plan = plan.behind(links).on_etcd();
        let drilled = async {
            let mut federation = Federation::start_on(&bed, plan).await;
            let seen = drill.run(&mut federation, &bed, &vms).await;
            federation.end();
            Report::of(&drill, at, &seen)
        };
        tokio::select! {
            report = drilled => Ok(report),
            // What was started ends as it is dropped.
            signal = told_to_end => bail!("{signal}: the drill is over, and its bed is gone"),
        }
    })
}

fn write(ledger: &Path, report: &Report) -> anyhow::Result<()> {
    let cannot = || format!("cannot write the ledger of drills {}", ledger.display());
    if let Some(folder) = ledger.parent() {
        std::fs::create_dir_all(folder).with_context(cannot)?;
    }
    let mut file =
        OpenOptions::new().create(true).append(true).open(ledger).with_context(cannot)?;
    writeln!(file, "{}", serde_json::to_string(report)?).with_context(cannot)
}
