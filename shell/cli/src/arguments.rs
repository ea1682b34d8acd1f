//! The command line as types: what may be said, and with which words.
//!
//! Every federation command is reached with and without the word `federation` (F82), because
//! the source uses both.

mod controller;
mod dashboard;
mod evacuate;
mod failover;
mod migrate;
mod monitoring;
mod region;
mod request;
mod routing;
mod silence;
mod state;
mod trace;
mod trial;
mod vm;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use controller::ControllerCommand;
pub(crate) use dashboard::{DashboardCommand, ExportArgs, ImportArgs};
pub(crate) use evacuate::{EvacuateArgs, EvacuateCommand, FailbackArgs};
pub(crate) use failover::{FailoverArgs, FailoverCommand};
pub(crate) use migrate::{
    BeginArgs, MigrateArgs, MigrateCommand, QueueArgs, StatusOfArgs,
};
pub(crate) use monitoring::{
    CreateIncidentArgs, CreateSlaArgs, HistoryArgs, IncidentsCommand, MetricsCommand,
    MonitoringCommand, QueryArgs, ReportFormat, SlaArgs, SlaCommand, SlaReportArgs,
};
pub(crate) use region::{AddRegionArgs, KindArg, RegionCommand, RegionName};
pub(crate) use request::{
    ExplainArgs, LimitArgs, OnRegionLossArg, PlaceArgs, RequestArgs, SizeArgs,
    StrategyArg, TierArg, TypeArg,
};
pub(crate) use routing::{
    AlgorithmCommand, AnycastCommand, ConfigCommand, EndpointArgs, EndpointCommand,
    LatencyCommand, LimitsArgs, QuestionArgs, ReplayArgs, RoutingCommand, ScoresArgs,
    SetAlgorithmArgs, SimulateArgs,
};
pub(crate) use silence::{MaintenanceArgs, SilenceCommand, WindowArgs};
pub(crate) use state::{
    ChangeCommand, ConfigureArgs, EvictArgs, GetArgs, HowArgs, InitArgs, ListArgs,
    MoveSlotArgs, PutArgs, ShardsArgs, ShardsCommand, StateArgs, StateCommand,
    VerifyArgs, WatchKeysArgs,
};
pub(crate) use trace::{
    EnableTracingArgs, ListTracesArgs, ShowTraceArgs, TraceCommand, TracingCommand,
};
pub(crate) use trial::TrialArgs;
pub(crate) use vm::{
    ConsoleArgs, DeleteArgs, PowerArgs, VmCommand, VmEventsArgs, VmListArgs, VmName,
};

use crate::failure::EXIT_CODES;
use crate::parse::{WatchEvery, duration, watch_every};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "dwcp-cli",
    version,
    about = "See and steer a DWCP federation: regions, placements, virtual machines",
    after_help = EXIT_CODES,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Folder with ca.crt, admin.crt, admin.key and `endpoints` (one https://HOST:PORT a
    /// line) [env: DWCP_CREDENTIALS] [default: ~/.config/dwcp]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) credentials: Option<PathBuf>,
    /// Address to ask instead of those in the `endpoints` file; may be repeated, tried in
    /// order
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint: Vec<String>,
    /// How to print the answer; json and yaml are the API's reply as it is
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// No colours [env: NO_COLOR]
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Longest time for one call, and with --wait for the whole wait: 500ms, 30s, 5m
    /// [default: 30s a call, 10m a wait]
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Keep the trace of this command, and print its id on standard error; a `TRACEPARENT` in
    /// the environment is gone on with
    #[arg(long, global = true)]
    pub(crate) trace: bool,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For people with wide screens.
    Wide,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

impl Format {
    /// Whether people read it.
    pub(crate) const fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// All commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The federation's commands; the word itself may be left out
    #[command(subcommand)]
    Federation(FederationCommand),
    #[command(flatten)]
    Direct(FederationCommand),
    /// Print a completion script, for example `source <(dwcp-cli completion bash)`
    Completion {
        /// For which shell
        shell: Shell,
    },
    /// Say who you are to the federation, and until when
    Credentials,
    /// Print the version
    Version,
}

/// Shells that can complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}

/// What is done with a federation.
#[derive(Debug, Subcommand)]
pub(crate) enum FederationCommand {
    /// Add, list, enable, disable regions; see what they can take
    #[command(subcommand)]
    Region(RegionCommand),
    /// Place a virtual machine and start it
    #[command(name = "place-vm")]
    PlaceVm(Box<PlaceArgs>),
    /// List, start, stop, delete virtual machines; read their consoles
    #[command(subcommand)]
    Vm(VmCommand),
    /// Move a virtual machine to another region while it runs; see and call off moves
    Migrate(Box<MigrateArgs>),
    /// Say for every region why it would or would not take a VM
    Explain(Box<ExplainArgs>),
    /// List what happened, newest last
    Events(EventsArgs),
    /// Show the federation at a glance
    Status(StatusArgs),
    /// Show the federation on the whole terminal as it changes: regions, links, incidents, moves,
    /// service levels
    Top,
    /// Start a lost region's VMs elsewhere; see which regions live and who says so
    Failover(Box<FailoverArgs>),
    /// Move all VMs out of a region that lives; see who stays and why; call it off
    Evacuate(Box<EvacuateArgs>),
    /// Move back to a region what was driven out of it
    Failback(FailbackArgs),
    /// Lose a region of a test bed on this machine on purpose, with real guests, and report what
    /// became of its VMs
    Drill(DrillArgs),
    /// Read and write replicated state; see how far regions are behind each other
    State(Box<StateArgs>),
    /// See what is wrong, since when, and who was told; look after it
    #[command(subcommand)]
    Monitoring(Box<MonitoringCommand>),
    /// See how busy a region's daemon is, and what it decides placements by
    #[command(subcommand)]
    Controller(Box<ControllerCommand>),
    /// See where requests go and why; choose how regions are ranked
    #[command(subcommand)]
    Routing(Box<RoutingCommand>),
}

/// Arguments of `drill`: the test bed's program reads them.
#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    /// What the test bed's program takes, such as `--region us-east-1 --vms 4 --loss lines`;
    /// `drill -- --help` lists all of it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) rest: Vec<std::ffi::OsString>,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only of this region
    #[arg(long)]
    pub(crate) region: Option<dwcp_types::RegionId>,
    /// At most so many of the newest
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only the figures of the whole federation
    #[arg(long)]
    pub(crate) global: bool,
    /// Show it as it changes until Ctrl-C, with `-o json` a line for each change; with an interval,
    /// or with `--global`, ask again and again
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, value_parser = watch_every)]
    #[expect(
        clippy::option_option,
        reason = "clap's way to say: named, perhaps with a value"
    )]
    pub(crate) watch: Option<Option<WatchEvery>>,
}

/// Whether the answer is asked for again and again.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct WatchArgs {
    /// Show it again and again until Ctrl-C
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s",
        value_parser = watch_every)]
    pub(crate) watch: Option<WatchEvery>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_has_no_contradictions() {
        CommandLine::command().debug_assert();
    }
}
