//! Arguments of `routing` (O4, DETAILS 2.3).

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use dwcp_router::{Algorithm, Class};
use dwcp_types::{RegionId, ServiceId, UserZoneId};

use super::WatchArgs;
use crate::parse::duration;

/// What is done with routing.
#[derive(Debug, Subcommand)]
pub(crate) enum RoutingCommand {
    /// Choose how regions are ranked
    #[command(subcommand)]
    Algorithm(AlgorithmCommand),
    /// Choose how regions are ranked: the source's form of `algorithm set`
    Configure(SetAlgorithmArgs),
    /// Say where regions answer requests; list it
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Show every region's score for a request, or what speaks against it
    Scores(ScoresArgs),
    /// Say where a request would go, and why
    Explain(QuestionArgs),
    /// Say where a request from an address would go
    Simulate(SimulateArgs),
    /// Run recorded requests against another algorithm, and print what would differ
    Replay(ReplayArgs),
    /// Show the ways between places
    #[command(subcommand)]
    Latency(LatencyCommand),
    /// Show addresses that regions share, and who announces them
    #[command(subcommand)]
    Anycast(AnycastCommand),
    /// Show the settings in use
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What is done with shared addresses.
#[derive(Debug, Subcommand)]
pub(crate) enum AnycastCommand {
    /// List them, each in each of its regions
    List(WatchArgs),
}

/// What is done with the algorithm.
#[derive(Debug, Subcommand)]
pub(crate) enum AlgorithmCommand {
    /// Set it, in all regions at once
    Set(SetAlgorithmArgs),
}

/// Arguments of `routing algorithm set`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SetAlgorithmArgs {
    /// How regions are ranked for services that name no algorithm of their own
    #[arg(long)]
    pub(crate) algorithm: AlgorithmArg,
}

/// An algorithm as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AlgorithmArg {
    /// The shortest way counts 70 %, health 20 %, capacity 10 %
    Latency,
    /// The price counts 70 %, capacity 20 %, the way 10 %
    Cost,
    /// The idle share counts 70 %, capacity 20 %, health 10 %
    #[value(alias = "load-balanced")]
    Load,
    /// Only the distance counts
    #[value(alias = "geo-proximity")]
    Geo,
    /// The way counts 40 %, the price 30 %, the idle share 30 %
    Hybrid,
    /// What the configuration file says
    File,
}

impl AlgorithmArg {
    /// The algorithm; nothing for the file's.
    pub(crate) const fn chosen(self) -> Option<Algorithm> {
        Some(match self {
            Self::Latency => Algorithm::Latency,
            Self::Cost => Algorithm::Cost,
            Self::Load => Algorithm::Load,
            Self::Geo => Algorithm::Geo,
            Self::Hybrid => Algorithm::Hybrid,
            Self::File => return None,
        })
    }
}

/// What is done with endpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// Say where a region answers, or change it; weight 0 drains the region
    Add(EndpointArgs),
    /// List where regions answer
    List,
}

/// Arguments of `routing endpoint add`.
#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// The region
    #[arg(long)]
    pub(crate) region: RegionId,
    /// Its IPv4 address
    #[arg(long)]
    pub(crate) ip: IpAddr,
    /// Its IPv6 address
    #[arg(long)]
    pub(crate) ipv6: Option<IpAddr>,
    /// Its port
    #[arg(long, default_value_t = 443, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// Its bandwidth in Mbit/s; that of the region's hosts when absent
    #[arg(long, value_name = "MBPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) capacity: Option<u64>,
    /// The share of its requests that it may have, in percent; 0 drains it
    #[arg(long, value_name = "PERCENT", default_value_t = 100,
        value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) weight: u8,
}

/// A request.
#[derive(Debug, Args)]
pub(crate) struct QuestionArgs {
    /// The service; the first when absent
    #[arg(long)]
    pub(crate) service: Option<ServiceId>,
    /// What kind of traffic
    #[arg(long, default_value = "interactive")]
    pub(crate) class: ClassArg,
    /// The client's address, looked up in `routing.clients`
    #[arg(long, value_name = "IP", group = "from")]
    pub(crate) source_ip: Option<IpAddr>,
    /// Or the place that it comes from
    #[arg(long, value_name = "ZONE", group = "from")]
    pub(crate) user_zone: Option<UserZoneId>,
    /// Or the region that it is at
    #[arg(long, value_name = "REGION", group = "from")]
    pub(crate) from_region: Option<RegionId>,
    /// As if these regions were down
    #[arg(long, value_name = "REGIONS", value_delimiter = ',')]
    pub(crate) without: Vec<RegionId>,
    #[command(flatten)]
    pub(crate) limits: LimitsArgs,
}

/// Limits of a request, instead of its class's.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Longest round trip, for example 50ms; with any limit, those of the class do not count
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_latency: Option<Duration>,
    /// Least bandwidth left, in Mbit/s
    #[arg(long, value_name = "MBPS")]
    pub(crate) min_bandwidth: Option<u64>,
    /// Most packets lost, in percent
    #[arg(long, value_name = "PERCENT")]
    pub(crate) max_loss: Option<f64>,
    /// The way must be encrypted
    #[arg(long)]
    pub(crate) encrypted: bool,
}

/// Arguments of `routing scores`.
#[derive(Debug, Args)]
pub(crate) struct ScoresArgs {
    #[command(flatten)]
    pub(crate) question: QuestionArgs,
    /// With every factor, as `-o wide`
    #[arg(long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Arguments of `routing simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The client's address
    #[arg(long, value_name = "IP")]
    pub(crate) source_ip: IpAddr,
    /// The service
    #[arg(long, value_name = "SERVICE")]
    pub(crate) destination: ServiceId,
    /// What kind of traffic
    #[arg(long, default_value = "interactive")]
    pub(crate) class: ClassArg,
}

/// A class as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClassArg {
    /// 10 ms, 100 Mbit/s and 0.01 % of loss unless the service says otherwise
    Realtime,
    /// 100 ms, 10 Mbit/s, 1 %
    Interactive,
    /// 1 s, 1 Mbit/s, 5 %
    Bulk,
}

impl From<ClassArg> for Class {
    fn from(arg: ClassArg) -> Self {
        match arg {
            ClassArg::Realtime => Self::Realtime,
            ClassArg::Interactive => Self::Interactive,
            ClassArg::Bulk => Self::Bulk,
        }
    }
}

/// Arguments of `routing replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The requests, one a line under the heading `time,source,service,class`: seconds; an
    /// address, user zone or region; a service or nothing; a class or nothing
    #[arg(value_name = "LOG")]
    pub(crate) log: PathBuf,
    /// How regions are ranked in the other case, for every service
    #[arg(long)]
    pub(crate) algorithm: AlgorithmArg,
}

/// What is done with ways.
#[derive(Debug, Subcommand)]
pub(crate) enum LatencyCommand {
    /// The round trips from regions and user zones to regions
    Matrix(WatchArgs),
}

/// What is done with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Algorithm, services, endpoints, and the table in use
    Show,
}
