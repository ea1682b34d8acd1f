//! Arguments of `monitoring trace` and `monitoring tracing` (M10, O6).

use std::time::Duration;

use clap::{Args, Subcommand};
use dwcp_monitor::trace::TraceId;
use dwcp_types::RegionId;

use crate::parse::{duration, share_ppm};

/// What is done with traces.
#[derive(Debug, Subcommand)]
pub(crate) enum TraceCommand {
    /// List traces that are kept in any region, the newest first
    List(ListTracesArgs),
    /// Show one: what was done where, how long it took, and what was waited for
    Show(ShowTraceArgs),
}

/// Arguments of `trace list`.
#[derive(Debug, Args)]
pub(crate) struct ListTracesArgs {
    /// Only of this operation, such as place_vm
    #[arg(long)]
    pub(crate) operation: Option<String>,
    /// Only those that this region took part in
    #[arg(long)]
    pub(crate) region: Option<RegionId>,
    /// Only those of this VM
    #[arg(long)]
    pub(crate) vm: Option<String>,
    /// Only those in which something failed
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only those that took at least so long, such as 500ms
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) min_duration: Option<Duration>,
    /// Only those that began in the last time, such as 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) since: Option<Duration>,
    /// How many at most
    #[arg(long, value_name = "N", default_value = "20")]
    pub(crate) limit: u32,
}

/// Arguments of `trace show`.
#[derive(Debug, Args)]
pub(crate) struct ShowTraceArgs {
    /// Its 32 digits, from `trace list`
    #[arg(value_name = "TRACE")]
    pub(crate) id: TraceId,
    /// Draw clocks that are proved wrong by the clock of the first span
    #[arg(long)]
    pub(crate) align: bool,
}

/// What is done with tracing.
#[derive(Debug, Subcommand)]
pub(crate) enum TracingCommand {
    /// Trace requests, in all regions
    Enable(EnableTracingArgs),
    /// Trace no requests any more; what is kept stays as long as it was to
    Disable,
    /// Show whether and how requests are traced, and what became of it in the answering region
    Status,
}

/// Arguments of `tracing enable` (O6).
#[derive(Debug, Args)]
pub(crate) struct EnableTracingArgs {
    /// How many of the traces in which nothing failed or was slow are kept, 0 to 1; as it was
    /// when absent
    #[arg(long, value_name = "SHARE", value_parser = share_ppm)]
    pub(crate) sampling_rate: Option<u32>,
    /// How long traces are kept, 1h to 90d; as it was when absent
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) retention: Option<Duration>,
    /// Only say what would be in force
    #[arg(long)]
    pub(crate) dry_run: bool,
}
