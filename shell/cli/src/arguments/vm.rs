//! Arguments of `vm`.

use clap::{Args, Subcommand};
use dwcp_types::{RegionId, TenantId, VmId};

use super::WatchArgs;
use crate::parse::{label, label_filter};

/// What is done with VMs.
#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// List VMs
    List(VmListArgs),
    /// Show one VM in full
    Describe(VmName),
    /// Start a VM, or let a paused one go on
    Start(PowerArgs),
    /// Shut a VM down; its disk and its reserved capacity stay
    Stop(PowerArgs),
    /// Halt a VM's CPUs and keep its memory
    Pause(PowerArgs),
    /// Let a paused VM go on
    Resume(PowerArgs),
    /// Delete a VM and its disk
    Delete(DeleteArgs),
    /// Print what the guest wrote to its serial console
    Console(ConsoleArgs),
    /// List what happened to a VM, newest last
    Events(VmEventsArgs),
}

/// Arguments of `vm list`.
#[derive(Debug, Args)]
pub(crate) struct VmListArgs {
    /// Only of this tenant
    #[arg(long)]
    pub(crate) tenant: Option<TenantId>,
    /// Only in this region
    #[arg(long)]
    pub(crate) region: Option<RegionId>,
    /// Only with this label
    #[arg(long, value_name = "KEY=VALUE", value_parser = checked_label, conflicts_with = "filter")]
    pub(crate) label: Option<String>,
    /// Only with this label, written as a filter
    #[arg(long, value_name = "tag:KEY=VALUE", value_parser = label_filter)]
    pub(crate) filter: Option<String>,
    /// At most so many; all of them when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

fn checked_label(text: &str) -> Result<String, String> {
    label(text).map(|(key, value)| format!("{key}={value}"))
}

/// Names one VM.
#[derive(Debug, Args)]
pub(crate) struct VmName {
    /// The VM
    pub(crate) vm: VmId,
}

/// Arguments of `vm start` and its like.
#[derive(Debug, Args)]
pub(crate) struct PowerArgs {
    /// The VM
    pub(crate) vm: VmId,
    /// Wait until it is so
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Arguments of `vm delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The VM
    pub(crate) vm: VmId,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Wait until it is gone
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Arguments of `vm console`.
#[derive(Debug, Args)]
pub(crate) struct ConsoleArgs {
    /// The VM
    pub(crate) vm: VmId,
    /// Go on printing until Ctrl-C
    #[arg(long)]
    pub(crate) follow: bool,
    /// Print control characters as they are; a guest can then steer your terminal
    #[arg(long)]
    pub(crate) raw: bool,
}

/// Arguments of `vm events`.
#[derive(Debug, Args)]
pub(crate) struct VmEventsArgs {
    /// The VM
    pub(crate) vm: VmId,
    /// At most so many of the newest
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}
