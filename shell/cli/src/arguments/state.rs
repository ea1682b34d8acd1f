//! Arguments of `state` (O3, O14, O15, O33).

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use dwcp_api::shards::ShardBy;
use dwcp_api::state::{StateKind, StateLevel};
use dwcp_types::RegionId;

use super::WatchArgs;
use crate::parse::duration;

/// Arguments of `state`.
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// Ask the replica of this region; whichever answers first when absent
    #[arg(long, global = true, value_name = "REGION")]
    pub(crate) at: Option<RegionId>,
    #[command(subcommand)]
    pub(crate) command: StateCommand,
}

/// What is done with replicated state.
#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Set the default rule of all keys, after checking it against the federation
    Init(InitArgs),
    /// Show what a key holds
    Get(GetArgs),
    #[command(flatten)]
    Change(ChangeCommand),
    /// List keys and values, as the answering region's replica has them
    List(ListArgs),
    /// Print keys as they change, until Ctrl-C
    Watch(WatchKeysArgs),
    /// Show the round trips between the regions' replicas (O14)
    LatencyMatrix(WatchArgs),
    /// Show how far each region is behind each other (O33)
    LagMatrix(WatchArgs),
    /// Show what waits for acknowledgement, for each pair of regions (O15)
    QueueDepth(WatchArgs),
    /// Show each region's replica: keys, digest, log, answers by level
    Replicas(WatchArgs),
    /// Say whether all regions hold the same
    VerifySync(VerifyArgs),
    /// Compare with every peer now and fetch what differs
    ForceSync,
    /// Put a region's replica out, for one that is gone for ever or has to begin anew
    Evict(EvictArgs),
    /// Show merges, writes that lost, and siblings
    Conflicts(WatchArgs),
    /// Show which regions hold the keys of each prefix, and move slots between them (S17)
    Shards(ShardsArgs),
    /// Show the rules of key prefixes
    Policies,
    /// Set the rule of a key prefix
    Configure(ConfigureArgs),
}

/// Arguments of `state shards`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ShardsArgs {
    /// Also say where this key is
    #[arg(long)]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
    #[command(subcommand)]
    pub(crate) command: Option<ShardsCommand>,
}

/// What is done with slots.
#[derive(Debug, Subcommand)]
pub(crate) enum ShardsCommand {
    /// Have a slot leave a region for another, while it is used
    Move(MoveSlotArgs),
}

/// Arguments of `state shards move`.
#[derive(Debug, Args)]
pub(crate) struct MoveSlotArgs {
    /// The prefix whose slot it is; its rule keeps a number of copies
    #[arg(long)]
    pub(crate) prefix: String,
    /// Which slot, 0 to 255: `state shards --key KEY` says which is a key's
    #[arg(long)]
    pub(crate) slot: u8,
    /// The region that it leaves
    #[arg(long, value_name = "REGION")]
    pub(crate) from: RegionId,
    /// The region that it goes to
    #[arg(long, value_name = "REGION")]
    pub(crate) to: RegionId,
    /// Wait until it is there
    #[arg(long)]
    pub(crate) wait: bool,
}

/// What of a key decides its slot, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShardByArg {
    /// All of it
    Key,
    /// What comes before its first slash: what is one tenant's is together
    Tenant,
    /// What comes before its second slash: what is of one tenant and type is together
    Type,
}

impl From<ShardByArg> for ShardBy {
    fn from(arg: ShardByArg) -> Self {
        match arg {
            ShardByArg::Key => Self::Key,
            ShardByArg::Tenant => Self::Tenant,
            ShardByArg::Type => Self::Type,
        }
    }
}

/// Arguments of `state evict`.
#[derive(Debug, Args)]
pub(crate) struct EvictArgs {
    /// The region whose replica goes
    pub(crate) region: RegionId,
    /// Do it: what that replica alone has is not merged any more
    #[arg(long)]
    pub(crate) yes: bool,
}

/// What changes a key.
#[derive(Debug, Subcommand)]
pub(crate) enum ChangeCommand {
    /// Set the content of a key
    Put(PutArgs),
    /// Add to a counter; negative numbers where it may fall
    #[command(allow_negative_numbers = true)]
    Increment(IncrementArgs),
    /// Add elements to a set
    Add(ElementsArgs),
    /// Remove elements from a set
    Remove(ElementsArgs),
    /// Spend from a bounded counter; refused rather than overdrawn
    Spend(AmountArgs),
    /// Raise the limit of a bounded counter
    Mint(AmountArgs),
    /// Hand a part of this region's rights in a bounded counter to another region
    Transfer(TransferArgs),
    /// Remove the value of a key
    Delete(KeyArgs),
}

/// A level as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LevelArg {
    /// Durable on the answering replica; the others follow
    Eventual,
    /// Durable on a majority of the region's replicas
    Local,
    /// Durable in a majority of the key's regions
    Quorum,
    /// Linearizable, by the strong engine
    Strong,
}

impl From<LevelArg> for StateLevel {
    fn from(arg: LevelArg) -> Self {
        match arg {
            LevelArg::Eventual => Self::Eventual,
            LevelArg::Local => Self::Local,
            LevelArg::Quorum => Self::Quorum,
            LevelArg::Strong => Self::Strong,
        }
    }
}

/// A kind as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArg {
    /// A counter that only rises
    Counter,
    /// A counter that rises and falls; for statistics, not for credit
    UpDownCounter,
    /// A set that is only added to
    GrowSet,
    /// A set that forgets what was removed
    Set,
    /// The last write wins
    Last,
    /// Concurrent writes are kept side by side
    Siblings,
    /// Fields, each with a value of its own
    Map,
    /// A counter that is never overdrawn
    Bounded,
    /// A register that is linearizable at level quorum
    Register,
    /// A record of the strong engine
    Strong,
}

impl From<KindArg> for StateKind {
    fn from(arg: KindArg) -> Self {
        match arg {
            KindArg::Counter => Self::Counter,
            KindArg::UpDownCounter => Self::UpDownCounter,
            KindArg::GrowSet => Self::GrowSet,
            KindArg::Set => Self::Set,
            KindArg::Last => Self::Last,
            KindArg::Siblings => Self::Siblings,
            KindArg::Map => Self::Map,
            KindArg::Bounded => Self::Bounded,
            KindArg::Register => Self::Register,
            KindArg::Strong => Self::Strong,
        }
    }
}

/// Arguments of `state init`, as the source has them (O3).
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The region whose replica is asked; must be one of the federation
    #[arg(long, value_name = "REGION")]
    pub(crate) local_region: Option<RegionId>,
    /// The regions that hold the keys; all of the federation when absent
    #[arg(long, value_name = "REGION,...", value_delimiter = ',')]
    pub(crate) regions: Vec<RegionId>,
    /// How many of them hold each key; all when absent
    #[arg(long, value_name = "N")]
    pub(crate) replication_factor: Option<u32>,
    /// The weakest level of a write, and the level of a read that names none
    #[arg(long, value_enum, default_value = "quorum")]
    pub(crate) consistency: LevelArg,
    /// What keys without a rule of their own hold
    #[arg(long, value_enum, default_value = "register")]
    pub(crate) kind: KindArg,
    /// Only check
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How a key is read.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The key, for example vm:config:001
    pub(crate) key: String,
    /// How sure the answer must be; what the key's rule says when absent
    #[arg(long, value_enum)]
    pub(crate) level: Option<LevelArg>,
    /// The session token of an earlier answer: nothing older is shown
    #[arg(long, value_name = "TOKEN")]
    pub(crate) session: Option<String>,
    /// The answer may lack writes of at most the last so long: 500ms, 10s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_staleness: Option<Duration>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// How a key is changed.
#[derive(Clone, Debug, Args)]
pub(crate) struct HowArgs {
    /// How sure it must be before it is acknowledged; what the key's rule says when absent
    #[arg(long, value_enum)]
    pub(crate) level: Option<LevelArg>,
    /// Makes asking again safe: one id, one change
    #[arg(long, value_name = "ID")]
    pub(crate) op_id: Option<String>,
    /// The session token of an earlier answer
    #[arg(long, value_name = "TOKEN")]
    pub(crate) session: Option<String>,
}

/// A key alone.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// The key
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// Arguments of `state put`.
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The key, for example vm:config:001
    pub(crate) key: String,
    /// The content
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    /// Only when the record's revision is this one, 0 for "only when there is none"; strong keys
    #[arg(long, value_name = "N")]
    pub(crate) if_revision: Option<u64>,
    /// The `context` of the answer that this replaces; keys that keep siblings
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// Arguments of `state increment`.
#[derive(Debug, Args)]
pub(crate) struct IncrementArgs {
    /// The key
    pub(crate) key: String,
    /// By how much
    #[arg(default_value_t = 1)]
    pub(crate) by: i64,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// Arguments of `state add` and `state remove`.
#[derive(Debug, Args)]
pub(crate) struct ElementsArgs {
    /// The key
    pub(crate) key: String,
    /// The elements
    #[arg(required = true)]
    pub(crate) elements: Vec<String>,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// Arguments of `state spend` and `state mint`.
#[derive(Debug, Args)]
pub(crate) struct AmountArgs {
    /// The key
    pub(crate) key: String,
    /// How much
    pub(crate) amount: u64,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// Arguments of `state transfer`.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// The key
    pub(crate) key: String,
    /// How much
    pub(crate) amount: u64,
    /// To which region
    #[arg(long)]
    pub(crate) to: RegionId,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// Arguments of `state list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only keys that begin with this
    pub(crate) prefix: Option<String>,
    /// At most so many; all of them when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

/// Arguments of `state watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchKeysArgs {
    /// Only keys that begin with this
    pub(crate) prefix: Option<String>,
    /// Go on after this token of an earlier answer
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
}

/// Arguments of `state verify-sync`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Only this region against the others
    #[arg(long)]
    pub(crate) region: Option<RegionId>,
}

/// Arguments of `state configure`.
#[derive(Debug, Args)]
pub(crate) struct ConfigureArgs {
    /// Keys that begin with this; the longest rule counts
    #[arg(long)]
    pub(crate) prefix: String,
    /// What they hold
    #[arg(long, value_enum)]
    pub(crate) kind: KindArg,
    /// The weakest level of a write, and the level of a read that names none
    #[arg(long, value_enum)]
    pub(crate) level: LevelArg,
    /// Only these regions may hold them (F45)
    #[arg(long, value_name = "REGION,...", value_delimiter = ',')]
    pub(crate) regions: Vec<RegionId>,
    /// Forget a value so long after its last write: 30s, 24h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    /// Keep each key in so many of the regions; in all when absent (S17)
    #[arg(long, value_name = "N")]
    pub(crate) copies: Option<u32>,
    /// What of a key decides which regions these are (S16); as it is when absent
    #[arg(long, value_enum)]
    pub(crate) shard_by: Option<ShardByArg>,
}
