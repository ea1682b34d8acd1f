//! Arguments that describe a VM to place or explain.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dwcp_controller::ownership::ClientToken;
use dwcp_types::{Affinity, MicroUsd, Origin, RegionId, TenantId, VmId};

use crate::parse::{
    ConstraintPatch, Quantity, SpecPatch, Unit, affinity, dollars, health_score, label,
    milliseconds, origin,
};

/// What is asked for. Flags win over --spec and --constraints, and these over the file.
#[derive(Debug, Default, Args)]
pub(crate) struct RequestArgs {
    /// File with the request in YAML or JSON, `-` for standard input; flags win over it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Its name; a new one when absent
    #[arg(long, visible_alias = "name", value_name = "NAME")]
    pub(crate) id: Option<VmId>,
    /// Whose it is [default: default]
    #[arg(long)]
    pub(crate) tenant: Option<TenantId>,
    // As an attribute: rustdoc would take the brackets for a link.
    #[arg(
        long,
        help = "Its size: \"cpu:4,memory:8192,storage:100[,bandwidth:1000,gpus:1]\"; memory in MiB, \
                storage in GiB, bandwidth in Mbit/s, or with units like 8GiB"
    )]
    pub(crate) spec: Option<SpecPatch>,
    /// Its limits: "max-latency:50,min-health:80,cost-limit:0.50,allowed-regions:a|b,
    /// forbidden-regions:c,require-edge:true,compliance:GDPR|HIPAA,data-locality:EU,
    /// min-bandwidth:100,preferred-provider:aws"
    #[arg(long)]
    pub(crate) constraints: Option<ConstraintPatch>,
    /// What it is for
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) vm_type: Option<TypeArg>,
    /// Urgency, 1 to 10 with 10 the highest [default: 5]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub(crate) priority: Option<u8>,
    /// How well it is guarded against pre-emption and the loss of a region
    #[arg(long)]
    pub(crate) tier: Option<TierArg>,
    /// What becomes of it when its region is lost; anything but staying down needs the tier
    /// `protected`
    #[arg(long, value_name = "POLICY")]
    pub(crate) on_region_loss: Option<OnRegionLossArg>,
    /// How old its replica may become, where that follows later
    #[arg(long, value_name = "SECONDS")]
    pub(crate) replica_max_age: Option<u32>,
    /// How latency, cost, capacity, health and priority are weighed
    #[arg(long)]
    pub(crate) strategy: Option<StrategyArg>,
    /// Where its users are, and how many in proportion; may be repeated
    #[arg(long, value_name = "ZONE[:WEIGHT]", value_parser = origin)]
    pub(crate) origin: Vec<Origin>,
    /// A label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) label: Vec<(String, String)>,
    /// A rule about a group of VMs: GROUP:together|apart:host|zone|region[:required|preferred];
    /// may be repeated
    #[arg(long, value_name = "RULE", value_parser = affinity)]
    pub(crate) affinity: Vec<Affinity>,
    // A heading holds for all that follows, so what has one comes last.
    #[command(flatten)]
    pub(crate) sizes: SizeArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// Sizes one by one.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Sizes")]
pub(crate) struct SizeArgs {
    /// Virtual CPUs
    #[arg(long, value_name = "N", value_parser = cpus, allow_negative_numbers = true)]
    pub(crate) cpu: Option<Quantity>,
    /// Memory in MiB, or with a unit
    #[arg(long, value_name = "SIZE", value_parser = mib, allow_negative_numbers = true)]
    pub(crate) memory: Option<Quantity>,
    /// Storage in GiB, or with a unit
    #[arg(long, value_name = "SIZE", value_parser = gib, allow_negative_numbers = true)]
    pub(crate) storage: Option<Quantity>,
    /// Bandwidth that is set aside, in Mbit/s, or with a unit
    #[arg(long, value_name = "RATE", value_parser = mbps, allow_negative_numbers = true)]
    pub(crate) bandwidth: Option<Quantity>,
    /// GPUs
    #[arg(long, value_name = "N", value_parser = gpus, allow_negative_numbers = true)]
    pub(crate) gpus: Option<Quantity>,
}

/// Limits one by one.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Longest round trip to its users, in milliseconds
    #[arg(long, value_name = "MS", value_parser = milliseconds, allow_negative_numbers = true)]
    pub(crate) max_latency: Option<u32>,
    /// Least health score of the region, 0 to 100
    #[arg(long, value_name = "SCORE", value_parser = health_score, allow_negative_numbers = true)]
    pub(crate) min_health: Option<u8>,
    /// Most that an hour may cost, in US dollars
    #[arg(long, value_name = "USD", value_parser = dollars, allow_negative_numbers = true)]
    pub(crate) cost_limit: Option<MicroUsd>,
    /// Only these regions, separated by commas
    #[arg(long, value_name = "REGIONS", value_delimiter = ',')]
    pub(crate) allowed_regions: Vec<RegionId>,
    /// None of these regions, separated by commas
    #[arg(long, value_name = "REGIONS", value_delimiter = ',')]
    pub(crate) forbidden_regions: Vec<RegionId>,
    /// Only a region of kind edge
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    pub(crate) require_edge: Option<bool>,
    /// Laws that the region must stand under, separated by commas
    #[arg(long, value_name = "LAWS", value_delimiter = ',')]
    pub(crate) compliance: Vec<String>,
    /// Country, EU or continent that the data must stay in
    #[arg(long, value_name = "PLACE")]
    pub(crate) data_locality: Option<String>,
    /// Bandwidth that must be free, in Mbit/s, or with a unit
    #[arg(long, value_name = "RATE", value_parser = mbps, allow_negative_numbers = true)]
    pub(crate) min_bandwidth: Option<Quantity>,
    /// Provider that wins among equal scores
    #[arg(long, value_name = "NAME")]
    pub(crate) preferred_provider: Option<String>,
}

/// Shown below the options of `place-vm`.
const PLACE_EXAMPLES: &str = "\
Examples:
  dwcp-cli place-vm --spec \"cpu:4,memory:8GiB,storage:100\" --constraints \"max-latency:50\" --wait
  dwcp-cli place-vm --id vm-db-001 --cpu 16 --memory 64GiB --storage 1000 --compliance GDPR --dry-run
  dwcp-cli place-vm -f vm.yaml --priority 8";

/// Arguments of `place-vm`.
#[derive(Debug, Args)]
#[command(after_help = PLACE_EXAMPLES)]
pub(crate) struct PlaceArgs {
    /// Guest image; the host's own default when absent
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<String>,
    /// Makes asking again safe: the same token with the same request is done once; a new one
    /// when absent
    #[arg(long)]
    pub(crate) token: Option<ClientToken>,
    /// Only say where it would go and why; book nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Stop VMs of strictly lower priority when nothing else makes room
    #[arg(long)]
    pub(crate) preempt: bool,
    /// Wait until it runs
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A VM that is placed: why is it there?
    #[arg(value_name = "VM", conflicts_with_all = ["file", "id", "tenant", "spec",
        "constraints", "cpu", "memory", "storage"])]
    pub(crate) vm: Option<VmId>,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
}

/// What a VM is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypeArg {
    /// Mostly CPU.
    Compute,
    /// Mostly memory.
    Memory,
    /// Mostly disk.
    Storage,
    /// Needs a GPU.
    Gpu,
}

/// How well a VM is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierArg {
    /// May be pre-empted by any VM of higher priority.
    Preemptible,
    /// May be pre-empted by a VM of higher priority when pre-emption is on.
    Standard,
    /// Is never pre-empted and must fit elsewhere were its region to die.
    Protected,
}

/// What becomes of a protected VM when its region is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnRegionLossArg {
    /// It stays down until its region is back with its disk.
    StayDown,
    /// It starts elsewhere from its image; what it wrote to its disk is lost.
    RestartFromImage,
    /// Its disk is mirrored to another region, and it starts there with every write that was
    /// acknowledged; each write waits for that region.
    SyncReplica,
    /// Its disk follows in another region within 5 s, or as --replica-max-age says, and it starts
    /// there as its disk was then; no write waits.
    AsyncReplica,
    /// Its disk is copied to another region every 15 min, or as --replica-max-age says, and it
    /// starts there as its disk was then; no write waits.
    SnapshotReplica,
}

/// How the factors are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StrategyArg {
    /// Latency 30 %, cost 25 %, capacity 20 %, health 15 %, the region's priority 10 %.
    Hybrid,
    /// Latency above all.
    Latency,
    /// Cost above all.
    Cost,
    /// Free capacity above all.
    LoadBalanced,
}

fn cpus(text: &str) -> Result<Quantity, String> {
    Quantity::parse(text, Unit::Cpus)
}

fn mib(text: &str) -> Result<Quantity, String> {
    Quantity::parse(text, Unit::Mib)
}

fn gib(text: &str) -> Result<Quantity, String> {
    Quantity::parse(text, Unit::Gib)
}

fn mbps(text: &str) -> Result<Quantity, String> {
    Quantity::parse(text, Unit::Mbps)
}

fn gpus(text: &str) -> Result<Quantity, String> {
    Quantity::parse(text, Unit::Gpus)
}
