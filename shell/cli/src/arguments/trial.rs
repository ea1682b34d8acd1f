//! Arguments of `failover test`.

use std::time::Duration;

use clap::Args;
use dwcp_types::{RegionId, VmId};

use crate::parse::duration;

/// Which failovers are tried, and how.
#[derive(Debug, Args)]
pub(crate) struct TrialArgs {
    /// The VMs
    #[arg(value_name = "VM", required_unless_present = "from_region")]
    pub(crate) vms: Vec<VmId>,
    /// Every protected VM of this region that has a copy elsewhere
    #[arg(long, value_name = "REGION", conflicts_with = "vms")]
    pub(crate) from_region: Option<RegionId>,
    /// What each guest is to print on its console; else it is only seen to run
    #[arg(long, value_name = "TEXT")]
    pub(crate) expect: Option<String>,
    /// Time for each guest, at most 5m; then nothing of it is left
    #[arg(long = "for", value_name = "TIME", default_value = "2m", value_parser = duration)]
    pub(crate) time: Duration,
    /// Let each guest run until its time is over
    #[arg(long)]
    pub(crate) keep: bool,
    /// End what was kept
    #[arg(long, conflicts_with_all = ["expect", "keep"])]
    pub(crate) end: bool,
}
