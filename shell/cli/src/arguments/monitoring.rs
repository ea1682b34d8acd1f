//! Arguments of `monitoring` (M13 to M15, DETAILS 2.4).

use clap::{Args, Subcommand, ValueEnum};
use dwcp_monitor::incident::{Category, IncidentId, Severity, Status};
use dwcp_types::RegionId;

use super::WatchArgs;

/// What is done with monitoring.
#[derive(Debug, Subcommand)]
pub(crate) enum MonitoringCommand {
    /// See what is wrong, since when, and who was told; look after it
    #[command(subcommand)]
    Incidents(IncidentsCommand),
}

/// What is done with incidents.
#[derive(Debug, Subcommand)]
pub(crate) enum IncidentsCommand {
    /// List incidents, the newest first
    List(ListIncidentsArgs),
    /// Show one with its timeline, and who is still to be told
    Show(ShowIncidentArgs),
    /// Say that somebody looks after it
    Acknowledge(AcknowledgeArgs),
    /// Say who is to look after it
    Assign(AssignArgs),
    /// Say that it is over, and why it was
    Resolve(ResolveArgs),
    /// Report something that nobody measures
    Create(CreateIncidentArgs),
}

/// Arguments of `incidents list`.
#[derive(Debug, Args)]
pub(crate) struct ListIncidentsArgs {
    /// Only those that stand so
    #[arg(long)]
    pub(crate) status: Option<StatusArg>,
    /// Only of this region
    #[arg(long)]
    pub(crate) region: Option<RegionId>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Arguments of `incidents show`.
#[derive(Debug, Args)]
pub(crate) struct ShowIncidentArgs {
    /// Which, such as INC-001
    #[arg(value_name = "INCIDENT")]
    pub(crate) id: IncidentId,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Arguments of `incidents acknowledge`.
#[derive(Debug, Args)]
pub(crate) struct AcknowledgeArgs {
    /// Which, such as INC-001
    #[arg(value_name = "INCIDENT")]
    pub(crate) id: IncidentId,
    /// Who looks after it; whose certificate it is when absent
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
}

/// Arguments of `incidents assign`.
#[derive(Debug, Args)]
pub(crate) struct AssignArgs {
    /// Which, such as INC-001
    #[arg(value_name = "INCIDENT")]
    pub(crate) id: IncidentId,
    /// Who is to look after it
    #[arg(long, value_name = "WHO")]
    pub(crate) to: String,
}

/// Arguments of `incidents resolve`.
#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    /// Which, such as INC-001
    #[arg(value_name = "INCIDENT")]
    pub(crate) id: IncidentId,
    /// Why it came to be
    #[arg(long, value_name = "TEXT")]
    pub(crate) root_cause: String,
    /// What ended it
    #[arg(long, value_name = "TEXT")]
    pub(crate) resolution: String,
}

/// Arguments of `incidents create`.
#[derive(Debug, Args)]
pub(crate) struct CreateIncidentArgs {
    /// What it is, in a line
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: String,
    /// How bad it is
    #[arg(long)]
    pub(crate) severity: SeverityArg,
    /// What kind of trouble it is
    #[arg(long, default_value = "availability")]
    pub(crate) category: CategoryArg,
    /// What is seen
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) description: String,
    /// Which region it is about; none alone when absent
    #[arg(long)]
    pub(crate) region: Option<RegionId>,
}

/// A status as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusArg {
    /// Nobody looks after it yet
    Open,
    /// Somebody looks after it
    Acknowledged,
    /// It is over
    Resolved,
}

impl From<StatusArg> for Status {
    fn from(arg: StatusArg) -> Self {
        match arg {
            StatusArg::Open => Self::Open,
            StatusArg::Acknowledged => Self::Acknowledged,
            StatusArg::Resolved => Self::Resolved,
        }
    }
}

/// A severity as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SeverityArg {
    /// To know, or part of maintenance
    Low,
    /// Capacity runs short, or something minor
    Medium,
    /// An SLA is broken, or a region is degraded
    High,
    /// Something is down, or data is lost
    Critical,
}

impl From<SeverityArg> for Severity {
    fn from(arg: SeverityArg) -> Self {
        match arg {
            SeverityArg::Low => Self::Low,
            SeverityArg::Medium => Self::Medium,
            SeverityArg::High => Self::High,
            SeverityArg::Critical => Self::Critical,
        }
    }
}

/// A category as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CategoryArg {
    /// Something does not answer
    Availability,
    /// Something is slow or fails
    Performance,
    /// Somebody attacks
    Security,
    /// Something runs short
    Capacity,
}

impl From<CategoryArg> for Category {
    fn from(arg: CategoryArg) -> Self {
        match arg {
            CategoryArg::Availability => Self::Availability,
            CategoryArg::Performance => Self::Performance,
            CategoryArg::Security => Self::Security,
            CategoryArg::Capacity => Self::Capacity,
        }
    }
}
