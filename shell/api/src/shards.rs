//! Where the keys of replicated state are (S16, S17, F45): each prefix has 256 slots, each slot
//! is in some of the regions that may hold the prefix.

use std::collections::BTreeMap;

use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NoParams, operations};

/// What of a key decides its slot (S16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ShardBy {
    /// All of it.
    Key,
    /// What comes before its first slash: what is one tenant's is together.
    Tenant,
    /// What comes before its second slash: what is of one tenant and one type is together.
    Type,
}

/// Asks where keys are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskShards {
    /// Where this key is, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardList {
    /// The epoch of the membership: it rises with every step of a slot.
    pub epoch: u64,
    /// By prefix.
    pub items: Vec<ShardItem>,
    /// Where the key is that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyPlace>,
}

/// Where the slots of a prefix are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardItem {
    /// Keys that begin with this.
    pub prefix: String,
    /// What of a key decides its slot.
    pub shard_by: ShardBy,
    /// The regions that may hold them.
    pub regions: Vec<RegionId>,
    /// In how many regions each slot is to be.
    pub copies: u32,
    /// Slots that each region holds and votes on.
    pub slots: BTreeMap<RegionId, u32>,
    /// Slots that each region receives and does not vote on yet.
    pub learning: BTreeMap<RegionId, u32>,
    /// Slots that are not where they are to be.
    pub moving: u32,
    /// Slots whose regions somebody chose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<SlotPlace>,
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyPlace {
    /// The key.
    pub key: String,
    /// Its rule.
    pub prefix: String,
    /// Where its slot is.
    #[serde(flatten)]
    pub at: SlotPlace,
}

/// Where a slot is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotPlace {
    /// Which, 0 to 255.
    pub slot: u8,
    /// The regions that hold it and vote.
    pub regions: Vec<RegionId>,
    /// Those that receive it and do not vote yet.
    pub learning: Vec<RegionId>,
    /// The regions that are to hold it.
    pub wanted: Vec<RegionId>,
}

impl SlotPlace {
    /// Whether it is not where it is to be.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.regions != self.wanted || !self.learning.is_empty()
    }
}

/// A slot that is to leave a region for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveSlot {
    /// Of which prefix.
    pub prefix: String,
    /// Which slot, 0 to 255.
    pub slot: u8,
    /// The region that it leaves.
    pub from: RegionId,
    /// The region that it goes to.
    pub to: RegionId,
}

operations! {
    /// S16, S17.
    GetShards = Get "/v1/state/shards" "state_shards" "Where keys are.",
        AskShards, () => ShardList;
    /// S17.
    PostShardMove = Post "/v1/state/shards/move" "state_move_slot"
        "Have a slot leave a region for another, while it is used.",
        NoParams, MoveSlot => ShardList;
}
