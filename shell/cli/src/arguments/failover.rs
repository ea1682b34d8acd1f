//! Arguments of `failover`.

use clap::{Args, Subcommand};
use dwcp_types::RegionId;

use super::{TrialArgs, WatchArgs};

/// Start a lost region's VMs elsewhere, or look why nothing does.
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
    /// An operator's word that every host of the region is off, and how that is known: its lease is
    /// not waited for, and what runs there after all runs twice. Another operator must approve it
    #[arg(long, value_name = "HOW", conflicts_with = "even_if_alive")]
    pub(crate) hosts_off: Option<String>,
    /// `true`: it begins only when another operator approves it. `false`: it begins at once and
    /// nothing is asked here, for scripts; refused where `failover.two_persons` is on. Absent: as
    /// that says, and where it is off you are shown who would go where and asked
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub(crate) require_approval: Option<bool>,
    /// Only show who would go where
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What else is done with failovers.
#[derive(Debug, Subcommand)]
pub(crate) enum FailoverCommand {
    /// Show which regions live, who says so, and what keeps each from being failed over
    Status(FailoverStatusArgs),
    /// Try the failover of VMs: each starts from a fork of its copy, connected to nothing
    ///
    /// The VMs run on and their copies go on following. A trial needs the room that the VM would
    /// need, ends by itself, and gives way to whatever is real.
    Test(TrialArgs),
    /// List the failovers that were, the newest first
    History,
    /// List those that were asked for and wait for another operator
    Requests,
    /// Begin one that another operator asked for
    Approve(ApproveArgs),
    /// Remove a request, so that nobody can approve it
    Deny(DenyArgs),
}

/// Arguments of `failover approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Which, as `failover requests` lists it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Arguments of `failover deny`.
#[derive(Debug, Args)]
pub(crate) struct DenyArgs {
    /// Which, as `failover requests` lists it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Why; noted among the events of the region that is asked
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
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
