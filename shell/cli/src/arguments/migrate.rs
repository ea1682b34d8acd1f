//! Arguments of `migrate`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use dwcp_controller::migration::Cause;
use dwcp_types::{MigrationId, RegionId, VmId};

use super::WatchArgs;
use crate::parse::{duration, label_filter};

/// `migrate VM --target REGION`, or one of its subcommands.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct MigrateArgs {
    #[command(subcommand)]
    pub(crate) command: Option<MigrateCommand>,
    #[command(flatten)]
    pub(crate) begin: BeginArgs,
}

/// What is done with moves.
#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// List moves that wait or are under way, with progress and time left
    Queue(QueueArgs),
    /// Show one move with its log, or all of them, also those that are over
    Status(StatusOfArgs),
    /// Call a move off; the VM stays where it is
    Cancel {
        /// The move
        migration: MigrationId,
    },
}

/// Arguments of `migrate queue`.
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// Only from this region
    #[arg(long)]
    pub(crate) source: Option<RegionId>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Arguments of `migrate status`.
#[derive(Debug, Args)]
pub(crate) struct StatusOfArgs {
    /// The move; all when absent
    pub(crate) migration: Option<MigrationId>,
    /// Only of this VM
    #[arg(long, conflicts_with = "migration")]
    pub(crate) vm: Option<VmId>,
    /// Only from this region
    #[arg(long, conflicts_with = "migration")]
    pub(crate) source: Option<RegionId>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Arguments of `migrate` itself.
#[derive(Debug, Args)]
pub(crate) struct BeginArgs {
    /// The VM
    pub(crate) vm: Option<VmId>,
    /// The VM, by a flag
    #[arg(long = "vm", id = "vm_flag", value_name = "VM", conflicts_with = "vm")]
    pub(crate) vm_flag: Option<VmId>,
    /// All VMs with this label
    #[arg(long, value_name = "tag:KEY=VALUE", value_parser = label_filter,
        conflicts_with_all = ["vm", "vm_flag"])]
    pub(crate) vm_filter: Option<String>,
    /// Also when that is every VM of the source
    #[arg(long, conflicts_with_all = ["vm", "vm_flag"])]
    pub(crate) all: bool,
    /// Where it is
    #[arg(long)]
    pub(crate) source: Option<RegionId>,
    /// Where it is to be
    #[arg(long)]
    pub(crate) target: Option<RegionId>,
    /// Why
    #[arg(long, default_value = "manual")]
    pub(crate) reason: ReasonArg,
    /// The longest halt
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) max_downtime: Duration,
    /// Most that it may take of the link, in Mbit/s [default: 1000]
    #[arg(long, value_name = "MBPS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) bandwidth: Option<u32>,
    /// How urgent; the VM's own priority when absent
    #[arg(long, value_name = "1-10", value_parser = clap::value_parser!(u8).range(1..=10))]
    pub(crate) priority: Option<u8>,
    /// Give up when it has not committed within this time from now
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    /// Move only the disk of a VM that is stopped
    #[arg(long)]
    pub(crate) cold: bool,
    /// Only say how long it would take, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Why a VM moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReasonArg {
    /// Someone wants it.
    Manual,
    /// Its region is to be emptied.
    Maintenance,
    /// Its region is about to fail.
    Failover,
    /// Another region has more room.
    Rebalance,
    /// Another region is cheaper.
    CostOptimization,
}

impl ReasonArg {
    /// The same as the API says it.
    pub(crate) const fn cause(self) -> Cause {
        match self {
            Self::Manual => Cause::Manual,
            Self::Maintenance => Cause::Maintenance,
            Self::Failover => Cause::Failover,
            Self::Rebalance => Cause::Rebalance,
            Self::CostOptimization => Cause::CostOptimization,
        }
    }
}
