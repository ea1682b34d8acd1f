//! Arguments of `failover`.

use clap::{Args, Subcommand};
use dwcp_types::RegionId;

use super::WatchArgs;

/// Start a lost region's VMs elsewhere, or look why nothing does.
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct FailoverArgs {
    #[command(subcommand)]
    pub(crate) command: Option<FailoverCommand>,
    /// The lost region
    #[arg(long, value_name = "REGION")]
    pub(crate) from_region: Option<RegionId>,
    /// The only regions that its VMs may go to; any when absent
    #[arg(long, value_name = "REGIONS", value_delimiter = ',')]
    pub(crate) to_regions: Vec<RegionId>,
    /// Why; kept with the log
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Also when the region lives: its protected VMs end there and start anew elsewhere
    #[arg(long)]
    pub(crate) even_if_alive: bool,
    /// Start VMs also from a replica that lacks what they wrote last
    #[arg(long)]
    pub(crate) accept_data_loss: bool,
    /// Show who would go where and ask before anything is done; `false` for scripts
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub(crate) require_approval: bool,
    /// Only show who would go where
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What else is done with failovers.
#[derive(Debug, Subcommand)]
pub(crate) enum FailoverCommand {
    /// Show which regions live, who says so, and what keeps each from being failed over
    Status(FailoverStatusArgs),
    /// List the failovers that were, the newest first
    History,
}

/// Arguments of `failover status`.
#[derive(Debug, Args)]
pub(crate) struct FailoverStatusArgs {
    /// Show this failover instead: its phases, and every VM that stays down
    #[arg(long, value_name = "ID", conflicts_with = "watch")]
    pub(crate) failover_id: Option<String>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}
