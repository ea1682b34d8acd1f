//! Arguments of `controller` (O12, O13).

use clap::{Args, Subcommand};
use dwcp_types::RegionId;

use super::WatchArgs;

/// What is looked at when placements are slow.
#[derive(Debug, Subcommand)]
pub(crate) enum ControllerCommand {
    /// Show how busy a region's daemon is and how long it decides
    Metrics(ControllerArgs),
    /// Show what it keeps ready for decisions; decisions themselves are never kept
    #[command(name = "cache-stats")]
    CacheStats(ControllerArgs),
}

/// Arguments of both.
#[derive(Debug, Args)]
pub(crate) struct ControllerArgs {
    /// Of this region; of the one that answers when absent
    #[arg(long)]
    pub(crate) region: Option<RegionId>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}
