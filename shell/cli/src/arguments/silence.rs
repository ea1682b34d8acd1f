//! Arguments of `monitoring silence` and `monitoring maintenance` (M15).

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use dwcp_monitor::incident::{CauseKind, SilenceId};
use dwcp_types::{RegionId, Timestamp};

use super::WatchArgs;
use super::monitoring::SeverityArg;
use crate::parse::{duration, moment};

/// What is done with silences.
#[derive(Debug, Subcommand)]
pub(crate) enum SilenceCommand {
    /// Have nobody told of a region's incidents for a while; they are shown as ever
    Create(CreateSilenceArgs),
    /// List those that are not over, the oldest first
    List(ListSilencesArgs),
    /// Show one, and what it silences now
    Show(ShowSilenceArgs),
    /// End one before its time; what stands is told then
    End(EndSilenceArgs),
}

/// Arguments of `silence create`.
#[derive(Debug, Args)]
pub(crate) struct CreateSilenceArgs {
    /// Only of this cause
    #[arg(long)]
    pub(crate) cause: Option<CauseArg>,
    /// Only of what is less severe than this
    #[arg(long, value_name = "SEVERITY")]
    pub(crate) severity_below: Option<SeverityArg>,
    #[command(flatten)]
    pub(crate) window: WindowArgs,
}

/// Announce that somebody works in a region: a silence of all its incidents.
#[derive(Debug, Args)]
pub(crate) struct MaintenanceArgs {
    #[command(flatten)]
    pub(crate) window: WindowArgs,
}

/// Where, when and why.
#[derive(Debug, Args)]
pub(crate) struct WindowArgs {
    /// Of which region
    #[arg(long)]
    pub(crate) region: RegionId,
    /// For how long, such as 2h; at most 30d
    #[arg(
        long = "for",
        value_name = "TIME",
        value_parser = duration,
        conflicts_with = "until",
        required_unless_present = "until"
    )]
    pub(crate) lasts: Option<Duration>,
    /// From when on, such as 2026-03-01T12:00:00Z; from now on when absent
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    pub(crate) from: Option<Timestamp>,
    /// Until when, by the clock of the daemon on duty
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    pub(crate) until: Option<Timestamp>,
    /// Why; shown with everything that it silences
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Only show what would be silenced now
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Arguments of `silence list`.
#[derive(Debug, Args)]
pub(crate) struct ListSilencesArgs {
    /// Only of this region
    #[arg(long)]
    pub(crate) region: Option<RegionId>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Arguments of `silence show`.
#[derive(Debug, Args)]
pub(crate) struct ShowSilenceArgs {
    /// Which, such as SIL-001
    #[arg(value_name = "SILENCE")]
    pub(crate) id: SilenceId,
}

/// Arguments of `silence end`.
#[derive(Debug, Args)]
pub(crate) struct EndSilenceArgs {
    /// Which, such as SIL-001
    #[arg(value_name = "SILENCE")]
    pub(crate) id: SilenceId,
    /// Only show what would be told again
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A cause as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CauseArg {
    /// It is not heard
    Silent,
    /// Its health is low
    Unhealthy,
    /// State does not reach it
    Replication,
    /// A service level is broken
    Sla,
    /// What a service level allows goes too fast
    Burn,
    /// Somebody reported it
    Reported,
}

impl From<CauseArg> for CauseKind {
    fn from(arg: CauseArg) -> Self {
        match arg {
            CauseArg::Silent => Self::Silent,
            CauseArg::Unhealthy => Self::Unhealthy,
            CauseArg::Replication => Self::Replication,
            CauseArg::Sla => Self::Sla,
            CauseArg::Burn => Self::Burn,
            CauseArg::Reported => Self::Reported,
        }
    }
}
