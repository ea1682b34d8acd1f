//! Arguments of `monitoring` (M3 to M8, M13 to M15, O5, DETAILS 2.4).

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use dwcp_monitor::Metric;
use dwcp_monitor::incident::{Category, IncidentId, Severity, Status};
use dwcp_monitor::sla::Operator;
use dwcp_types::RegionId;

use super::silence::{MaintenanceArgs, SilenceCommand};
use super::{DashboardCommand, TraceCommand, TracingCommand, WatchArgs};
use crate::parse::{duration, thousandths};

/// What is done with monitoring.
#[derive(Debug, Subcommand)]
pub(crate) enum MonitoringCommand {
    /// See what is wrong, since when, and who was told; look after it
    #[command(subcommand)]
    Incidents(IncidentsCommand),
    /// See what is measured of regions, now and before
    #[command(subcommand)]
    Metrics(MetricsCommand),
    /// Announce that somebody works in a region: a silence of all its incidents
    Maintenance(MaintenanceArgs),
    /// Have nobody told of some incidents for a while
    #[command(subcommand)]
    Silence(SilenceCommand),
    /// Promise service levels, and see whether they are kept
    #[command(subcommand)]
    Sla(SlaCommand),
    /// See what a request did, in every region and process that it went through
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Say whether and how requests are traced
    #[command(subcommand)]
    Tracing(TracingCommand),
    /// Put the dashboards that come with the tool, or others, into a Grafana
    #[command(subcommand)]
    Dashboard(DashboardCommand),
}

/// What is done with measurements.
#[derive(Debug, Subcommand)]
pub(crate) enum MetricsCommand {
    /// Show every region's values, and the latency over all together
    Show(ShowMetricsArgs),
    /// Show one value of one region over time; what was not measured is a gap
    History(HistoryArgs),
    /// Ask a Prometheus in its own language
    Query(QueryArgs),
}

/// Arguments of `metrics query`.
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// What is asked, such as 'max by (region) (dwcp_federation_region_health_score)'
    #[arg(value_name = "PROMQL")]
    pub(crate) promql: String,
    /// The Prometheus, such as `https://prometheus.example.com`
    #[arg(long, value_name = "URL", env = "DWCP_PROMETHEUS")]
    pub(crate) prometheus: Option<String>,
    /// A file with a token that it asks for
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates to trust instead of the system's, a PEM file
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Arguments of `metrics show`.
#[derive(Debug, Args)]
pub(crate) struct ShowMetricsArgs {
    /// Only of this region
    #[arg(long)]
    pub(crate) region: Option<RegionId>,
    /// Over the last time, such as 5m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
    pub(crate) over: Duration,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Arguments of `metrics history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Of which region
    #[arg(long)]
    pub(crate) region: RegionId,
    /// Of what
    #[arg(long, value_parser = metric())]
    pub(crate) metric: Metric,
    /// How far back: 2h is kept by 10 s, 7d by the minute, 90d by five
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h")]
    pub(crate) range: Duration,
    /// Every point as comma-separated values
    #[arg(long)]
    pub(crate) csv: bool,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// What is done with service levels.
#[derive(Debug, Subcommand)]
pub(crate) enum SlaCommand {
    /// Promise one
    Create(CreateSlaArgs),
    /// List what is promised
    List(SlaArgs),
    /// Show whether it is kept, in each region
    Status(SlaArgs),
    /// Print the arithmetic of each figure
    Explain(SlaArgs),
    /// Show when one was kept, when not, and when nothing was measured
    History(SlaHistoryArgs),
    /// Print a report of all of them
    Report(SlaReportArgs),
    /// Promise one no more, and forget what was measured of it
    Delete(DeleteSlaArgs),
}

/// Arguments of `sla create` (O5).
#[derive(Debug, Args)]
pub(crate) struct CreateSlaArgs {
    /// Its name for people
    #[arg(long)]
    pub(crate) name: String,
    /// What is measured
    #[arg(long, value_parser = metric())]
    pub(crate) metric: Metric,
    /// The target, in the metric's unit: ms, %, req/s
    #[arg(long, value_name = "NUMBER", value_parser = thousandths)]
    pub(crate) target: u64,
    /// How values are held against it
    #[arg(long)]
    pub(crate) operator: OperatorArg,
    /// How much must be good, in per cent, such as 99.9
    #[arg(long, value_name = "PERCENT", value_parser = thousandths, default_value = "99.9")]
    pub(crate) compliance: u64,
    /// Over what one value is measured
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
    pub(crate) window: Duration,
    /// Over what compliance is promised
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30d")]
    pub(crate) period: Duration,
    /// How bad a breach is
    #[arg(long, default_value = "high")]
    pub(crate) severity: SeverityArg,
    /// Only of this region; of each when absent
    #[arg(long)]
    pub(crate) region: Option<RegionId>,
    /// Its id; made from the metric when absent
    #[arg(long)]
    pub(crate) id: Option<String>,
}

/// Arguments of `sla list`, `status` and `explain`.
#[derive(Debug, Args)]
pub(crate) struct SlaArgs {
    /// Only this one, such as sla-latency-001
    #[arg(value_name = "SLA")]
    pub(crate) id: Option<String>,
    /// Only in this region
    #[arg(long)]
    pub(crate) region: Option<RegionId>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Arguments of `sla history`.
#[derive(Debug, Args)]
pub(crate) struct SlaHistoryArgs {
    /// Which, such as sla-latency-001
    #[arg(value_name = "SLA")]
    pub(crate) id: String,
    /// Where
    #[arg(long)]
    pub(crate) region: RegionId,
}

/// Arguments of `sla report`.
#[derive(Debug, Args)]
pub(crate) struct SlaReportArgs {
    /// Only in this region
    #[arg(long)]
    pub(crate) region: Option<RegionId>,
    /// How it is written
    #[arg(long, default_value = "markdown")]
    pub(crate) format: ReportFormat,
}

/// Arguments of `sla delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteSlaArgs {
    /// Which, such as sla-latency-001
    #[arg(value_name = "SLA")]
    pub(crate) id: String,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// A table to paste
    Markdown,
    /// As the API has it
    Json,
    /// For a spreadsheet
    Csv,
}

/// An operator as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum OperatorArg {
    /// Values must be less
    LessThan,
    /// Values must be more
    GreaterThan,
    /// Values must be exactly so
    Equals,
}

impl From<OperatorArg> for Operator {
    fn from(arg: OperatorArg) -> Self {
        match arg {
            OperatorArg::LessThan => Self::LessThan,
            OperatorArg::GreaterThan => Self::GreaterThan,
            OperatorArg::Equals => Self::Equals,
        }
    }
}

/// A metric by its name; clap lists them and says which is near.
fn metric() -> impl TypedValueParser<Value = Metric> {
    PossibleValuesParser::new(Metric::ALL.map(Metric::word))
        .try_map(|word| word.parse::<Metric>())
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
