//! Moves of VMs between regions (C20 to C22, O8, O16): ask for one, see them, call one off.
//!
//! Any region's daemon answers. The target's daemon brings a move about; how far it is comes
//! from the hosts at the moment of asking.

use dwcp_controller::migration::{Cause, Line, Outcome, Site, Step};
use dwcp_types::{MigrationId, RegionId, Timestamp, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NoParams, operations};

operations! {
    /// O8.
    CreateMigration = Post "/v1/migrations" "create_migration"
        "Move a VM to another region, or say how long it would take.",
        NoParams, AskMigration => MigrationReply;
    /// O16.
    ListMigrations = Get "/v1/migrations" "list_migrations"
        "Moves, those that wait or are under way first.",
        MigrationFilter, () => MigrationList;
    /// O16.
    GetMigration = Get "/v1/migrations/{migration}" "get_migration" "One move.",
        MigrationParams, () => MigrationItem;
    /// Refused with 409 once the target owns the VM.
    CancelMigration = Delete "/v1/migrations/{migration}" "cancel_migration"
        "Call a move off: the VM stays where it is.",
        MigrationParams, () => MigrationItem;
}

/// Names one move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationParams {
    /// The move.
    pub migration: MigrationId,
}

/// Which moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationFilter {
    /// Only of this VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmId>,
    /// Only from this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<RegionId>,
    /// Also those that are over.
    #[serde(default)]
    pub all: bool,
    /// At most so many, up to 1,000; 1,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A move that is wanted (C22).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskMigration {
    /// The VM.
    pub vm: VmId,
    /// Where it is thought to be; refused when it is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<RegionId>,
    /// Where it is to be.
    pub target: RegionId,
    /// Why.
    #[serde(default)]
    pub cause: Cause,
    /// How urgent, 1 to 10; the VM's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The longest halt in milliseconds; 5,000 when absent (C21).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_ms_max: Option<u64>,
    /// Most that it may take of the link, in Mbit/s; 1,000 when absent (T6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_mbps: Option<u32>,
    /// Given up when it has not committed by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Move only the disk of a VM that is stopped.
    #[serde(default)]
    pub cold: bool,
    /// Only say how long it would take, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

impl AskMigration {
    /// A move of a VM to a region, and nothing else said of it.
    #[must_use]
    pub const fn new(vm: VmId, target: RegionId) -> Self {
        Self {
            vm,
            source: None,
            target,
            cause: Cause::Manual,
            priority: None,
            downtime_ms_max: None,
            bandwidth_mbps: None,
            deadline: None,
            cold: false,
            dry_run: false,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationReply {
    /// The move; in a dry run as it would be.
    pub migration: MigrationItem,
    /// Nothing was begun.
    pub dry_run: bool,
}

/// Moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationList {
    /// Unfinished ones first, then the newest.
    pub items: Vec<MigrationItem>,
}

/// A move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationItem {
    /// Its name.
    pub id: MigrationId,
    /// The VM.
    pub vm: VmId,
    /// From where.
    pub source: Site,
    /// To where.
    pub target: RegionId,
    /// Where there, once that is known.
    pub site: Option<Site>,
    /// Only the disk moves.
    pub cold: bool,
    /// Its disk has a replica, which is let go before the disk leaves, and made anew after.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replicated: bool,
    /// Why.
    pub cause: Cause,
    /// How urgent.
    pub priority: u8,
    /// How far.
    pub step: Step,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it failed.
    pub failure: Option<String>,
    /// In which wave it goes while it waits: 1 as soon as it is seen that its turn has come,
    /// 2 once all of those are over, and so on (F16).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<u32>,
    /// How much of disk and memory is there, in percent, while it is under way.
    pub percent: Option<u8>,
    /// How long it still takes, in milliseconds, as far as is known.
    pub eta_ms: Option<u64>,
    /// How long all of it was foretold to take, in milliseconds.
    pub foretold_ms: Option<u64>,
    /// The halt that was foretold, in milliseconds.
    pub foretold_downtime_ms: Option<u64>,
    /// The halt as its controller saw it, in milliseconds.
    pub downtime_ms: Option<u64>,
    /// The longest halt that is allowed, in milliseconds.
    pub downtime_ms_max: u64,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What happened, oldest first.
    pub log: Vec<Line>,
}
