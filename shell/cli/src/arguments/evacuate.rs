//! Arguments of `evacuate` and `failback`.

use std::time::Duration;

use clap::{Args, Subcommand};
use dwcp_types::RegionId;

use super::{RegionName, WatchArgs};
use crate::parse::duration;

/// Move all VMs out of a region that lives, for example before its maintenance.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct EvacuateArgs {
    #[command(subcommand)]
    pub(crate) command: Option<EvacuateCommand>,
    /// The region
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<RegionId>,
    /// The only regions that its VMs may go to; any when absent
    #[arg(long, value_name = "REGIONS", value_delimiter = ',')]
    pub(crate) to_regions: Vec<RegionId>,
    /// Why; kept while the region is being emptied
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only show who would go where
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What else is done with evacuations.
#[derive(Debug, Subcommand)]
pub(crate) enum EvacuateCommand {
    /// Show the regions that are being emptied: who leaves, who stays and why
    Status(WatchArgs),
    /// Leave in the region what is still there; it stays closed until it is enabled
    Cancel(RegionName),
}

/// Move back to a region what was driven out of it.
#[derive(Debug, Args)]
pub(crate) struct FailbackArgs {
    /// The region that is back
    #[arg(long, value_name = "REGION")]
    pub(crate) region: RegionId,
    /// The longest halt of each
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) max_downtime: Duration,
    /// Only show who would go back, and how long it would take
    #[arg(long)]
    pub(crate) dry_run: bool,
}
