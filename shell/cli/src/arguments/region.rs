//! Arguments of `region`.
//!
//! The source's example (O7) has no place, prices or zones; without them a region cannot be
//! scored, so they are asked for here (F82).

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand, ValueEnum};
use dwcp_types::{MicroUsd, Micros, RegionId, ZoneId};

use super::WatchArgs;
use crate::parse::{dollars, latency_entry};

/// What is done with regions.
#[derive(Debug, Subcommand)]
pub(crate) enum RegionCommand {
    /// Add a region
    Add(Box<AddRegionArgs>),
    /// List all regions
    List(WatchArgs),
    /// Show one region in full
    Describe(RegionName),
    /// Let new VMs be placed in a region
    Enable(RegionName),
    /// Place no new VMs in a region; those that are there stay
    Disable(RegionName),
    /// Show what a region can still take, and what were lost with it
    Capacity(RegionName),
}

/// Names one region, in either of the source's ways.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RegionName {
    /// The region
    #[arg(value_name = "REGION")]
    positional: Option<RegionId>,
    /// The region
    #[arg(long = "region", value_name = "REGION")]
    named: Option<RegionId>,
}

impl RegionName {
    /// The region; clap sees to it that one is named.
    pub(crate) fn id(self) -> Option<RegionId> {
        self.positional.or(self.named)
    }
}

/// What kind of place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArg {
    /// A cloud provider's region.
    #[default]
    Cloud,
    /// A small place near users.
    Edge,
    /// An own data centre.
    Hybrid,
}

/// Shown below the options of `region add`.
const ADD_EXAMPLES: &str = "\
Example:
  dwcp-cli region add --id ap-southeast-1 --name \"Asia Pacific (Singapore)\" --provider aws \\
    --priority 80 --latitude 1.3521 --longitude 103.8198 --country SG --continent Asia \\
    --zones ap-southeast-1a,ap-southeast-1b --endpoint-addr 10.0.0.7:8443 \\
    --cpu-cost 0.05 --memory-cost 0.01 --storage-cost 0.10";

/// Arguments of `region add`.
#[derive(Debug, Args)]
#[command(after_help = ADD_EXAMPLES)]
pub(crate) struct AddRegionArgs {
    /// File with the region and its endpoint in YAML or JSON, `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "name",
        "provider", "priority", "latitude", "longitude", "country", "continent", "zones",
        "endpoint_addr", "cpu_cost", "memory_cost", "storage_cost"])]
    pub(crate) config: Option<PathBuf>,
    /// Its id, for example ap-southeast-1
    #[arg(long)]
    pub(crate) id: Option<RegionId>,
    /// Its name for people, for example "Asia Pacific (Singapore)"
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Whose it is: aws, azure, gcp, or a name of your own
    #[arg(long)]
    pub(crate) provider: Option<String>,
    /// Whether new VMs may be placed there
    #[arg(long, value_name = "true|false", default_value_t = true,
        action = ArgAction::Set, conflicts_with = "config")]
    pub(crate) enabled: bool,
    /// How much you prefer it, 1 to 100
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) priority: Option<u8>,
    /// Degrees north, -90 to 90
    #[arg(long, allow_negative_numbers = true, value_parser = latitude)]
    pub(crate) latitude: Option<f64>,
    /// Degrees east, -180 to 180
    #[arg(long, allow_negative_numbers = true, value_parser = longitude)]
    pub(crate) longitude: Option<f64>,
    /// Country code of two letters, for example SG
    #[arg(long, value_parser = country)]
    pub(crate) country: Option<String>,
    /// Continent, for example Asia
    #[arg(long)]
    pub(crate) continent: Option<String>,
    /// Its zones, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) zones: Vec<ZoneId>,
    /// What kind of place it is
    #[arg(long, default_value = "cloud", conflicts_with = "config")]
    pub(crate) kind: KindArg,
    /// Laws that it stands under, separated by commas, for example GDPR,HIPAA
    #[arg(long, value_delimiter = ',', conflicts_with = "config")]
    pub(crate) compliance: Vec<String>,
    /// Where its daemon answers
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) endpoint_addr: Option<String>,
    /// US dollars for one virtual CPU an hour
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub(crate) cpu_cost: Option<MicroUsd>,
    /// US dollars for one GiB of memory an hour
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub(crate) memory_cost: Option<MicroUsd>,
    /// US dollars for one GiB of storage a month
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub(crate) storage_cost: Option<MicroUsd>,
    /// US dollars for one GB out to the network
    #[arg(long, value_name = "USD", value_parser = dollars, default_value = "0",
        conflicts_with = "config")]
    pub(crate) egress_cost: MicroUsd,
    /// Virtual CPUs sold for each real one, 1 to 16
    #[arg(long, default_value_t = 1, conflicts_with = "config",
        value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) cpu_overcommit: u32,
    /// Round trip to another region in milliseconds; may be repeated
    #[arg(long, value_name = "REGION=MS", value_parser = latency_entry,
        conflicts_with = "config")]
    pub(crate) latency: Vec<(RegionId, Micros)>,
}

fn degrees(text: &str, most: f64) -> Result<f64, String> {
    let parsed = text.parse::<f64>().ok().filter(|degrees| degrees.abs() <= most);
    parsed.ok_or_else(|| format!("write degrees of -{most} to {most}"))
}

fn latitude(text: &str) -> Result<f64, String> {
    degrees(text, 90.0)
}

fn longitude(text: &str) -> Result<f64, String> {
    degrees(text, 180.0)
}

fn country(text: &str) -> Result<String, String> {
    if text.len() == 2 && text.bytes().all(|letter| letter.is_ascii_alphabetic()) {
        return Ok(text.to_ascii_uppercase());
    }
    Err("write a country code of two letters, such as SG".to_owned())
}
