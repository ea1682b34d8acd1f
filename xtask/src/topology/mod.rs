//! Writes `deploy/t1/federation.yaml` and `deploy/t1-edge/federation.yaml`, Topology 1 of the
//! specification (T1), from tables of measured round trips, coordinates and list prices.
//!
//! The files are checked in, so nobody needs the tables to run the example; the tables are
//! needed only to write the files anew. Where the tables have no row for a region, another
//! stands in for it; [`REGIONS`] says which, and `deploy/t1/README.md` says why.

mod tables;
mod write;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use self::tables::Tables;

/// What to write.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// The folder of the tables.
    #[arg(long, value_name = "DIR", default_value = "../shared/data")]
    data: PathBuf,
    /// Change nothing; fail when a file differs from what would be written.
    #[arg(long)]
    check: bool,
}

/// A region of the example, and which rows of the tables describe it.
#[derive(Debug)]
pub(super) struct Row {
    id: &'static str,
    name: &'static str,
    country: &'static str,
    continent: &'static str,
    kind: &'static str,
    cloud_provider: &'static str,
    /// Provider and region in `cloud_regions.csv`.
    place: (&'static str, &'static str),
    /// Metro in `wan_rtt_ms.csv`.
    metro: &'static str,
    /// Region in `vm_prices.csv`.
    price: &'static str,
    /// Region in `egress_usd_per_gb.csv`.
    egress: &'static str,
    compliance: &'static [&'static str],
    priority: u8,
    /// VM slots (T1, T2).
    vms: u64,
    /// Last number of its address in 127.0.0.0/8.
    address: u8,
}

/// T1, and edge-tokyo of T2 for the example that asks for an edge (C13).
const REGIONS: [Row; 6] = [
    Row {
        id: "us-east-1",
        name: "US East (Virginia)",
        country: "US",
        continent: "North America",
        kind: "cloud",
        cloud_provider: "aws",
        place: ("Amazon Web Services", "us-east-1"),
        metro: "washington-dc",
        price: "us-east4",
        egress: "us-east-1",
        compliance: &["HIPAA", "SOC2"],
        priority: 90,
        vms: 10_000,
        address: 11,
    },
    Row {
        id: "eu-west-1",
        name: "EU West (Ireland)",
        country: "IE",
        continent: "Europe",
        kind: "cloud",
        cloud_provider: "azure",
        place: ("Microsoft Azure", "northeurope"),
        metro: "london",
        price: "europe-west2",
        egress: "eu-west-1",
        compliance: &["GDPR", "ISO27001"],
        priority: 90,
        vms: 10_000,
        address: 12,
    },
    Row {
        id: "ap-south-1",
        name: "Asia Pacific (Mumbai)",
        country: "IN",
        continent: "Asia",
        kind: "cloud",
        cloud_provider: "gcp",
        place: ("Google Cloud", "asia-south1"),
        metro: "mumbai",
        price: "asia-south1",
        egress: "ap-south-1",
        compliance: &["DPDP"],
        priority: 70,
        vms: 5_000,
        address: 13,
    },
    Row {
        id: "sa-east-1",
        name: "South America (São Paulo)",
        country: "BR",
        continent: "South America",
        kind: "cloud",
        cloud_provider: "aws",
        place: ("Amazon Web Services", "sa-east-1"),
        metro: "sao-paulo",
        price: "southamerica-east1",
        egress: "sa-east-1",
        compliance: &["LGPD"],
        priority: 60,
        vms: 3_000,
        address: 14,
    },
    Row {
        id: "au-southeast-1",
        name: "Australia Southeast (Sydney)",
        country: "AU",
        continent: "Oceania",
        kind: "cloud",
        cloud_provider: "azure",
        place: ("Microsoft Azure", "australiaeast"),
        metro: "sydney",
        price: "australia-southeast1",
        egress: "ap-southeast-2",
        compliance: &["APP"],
        priority: 60,
        vms: 2_000,
        address: 15,
    },
    Row {
        id: "edge-tokyo",
        name: "Edge Tokyo",
        country: "JP",
        continent: "Asia",
        kind: "edge",
        cloud_provider: "edge",
        place: ("IBM Cloud", "jp-tok"),
        metro: "tokyo",
        price: "asia-northeast1",
        egress: "ap-northeast-1",
        compliance: &["APPI"],
        priority: 50,
        vms: 500,
        address: 16,
    },
];

/// How many of [`REGIONS`] are Topology 1.
const T1: usize = 5;

/// A metro that users come from.
#[derive(Debug)]
pub(super) struct Metro {
    id: &'static str,
    country: &'static str,
    continent: &'static str,
    place: (&'static str, &'static str),
    /// What the names of its zones begin with in `az_rtt_ms.csv`.
    zones: &'static str,
}

const fn metro(
    id: &'static str,
    country: &'static str,
    continent: &'static str,
    place: (&'static str, &'static str),
    zones: &'static str,
) -> Metro {
    Metro { id, country, continent, place, zones }
}

const IBM: &str = "IBM Cloud";

/// The metros of `wan_rtt_ms.csv`.
const METROS: [Metro; 13] = [
    metro("chennai", "IN", "Asia", ("Microsoft Azure", "southindia"), "in-che-"),
    metro("dallas", "US", "North America", (IBM, "us-south"), "us-south-"),
    metro("frankfurt", "DE", "Europe", (IBM, "eu-de"), "eu-de-"),
    metro("london", "GB", "Europe", (IBM, "eu-gb"), "eu-gb-"),
    metro("madrid", "ES", "Europe", (IBM, "eu-sp"), "eu-es-"),
    metro("montreal", "CA", "North America", (IBM, "ca-mon"), "ca-mon-"),
    metro("mumbai", "IN", "Asia", ("Google Cloud", "asia-south1"), "in-mum-"),
    metro("osaka", "JP", "Asia", (IBM, "jp-osa"), "jp-osa-"),
    metro("sao-paulo", "BR", "South America", (IBM, "br-sao"), "br-sao-"),
    metro("sydney", "AU", "Oceania", (IBM, "au-syd"), "au-syd-"),
    metro("tokyo", "JP", "Asia", (IBM, "jp-tok"), "jp-tok-"),
    metro("toronto", "CA", "North America", (IBM, "ca-tor"), "ca-tor-"),
    metro("washington-dc", "US", "North America", (IBM, "us-east"), "us-east-"),
];

/// Writes the files, or compares them.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let tables = Tables::load(&options.data)?;
    let root = crate::root()?;
    let mut stale = 0;
    for (folder, rows) in [("t1", &REGIONS[..T1]), ("t1-edge", &REGIONS[..])] {
        let file = root.join("deploy").join(folder).join("federation.yaml");
        let text = write::federation(rows, &METROS, &tables)?;
        if options.check {
            stale += usize::from(!same(&file, &text));
        } else {
            std::fs::write(&file, text)
                .with_context(|| format!("cannot write {}", file.display()))?;
            println!("wrote {}", file.display());
        }
    }
    if stale > 0 {
        bail!(
            "{stale} of the examples differ from the tables; run `cargo xtask topology`"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn same(file: &Path, text: &str) -> bool {
    let same = std::fs::read_to_string(file).is_ok_and(|old| old == text);
    if !same {
        println!("{} is not what the tables say", file.display());
    }
    same
}
