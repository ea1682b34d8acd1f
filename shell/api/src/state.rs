//! The state plane's API: one key space, a consistency level for each operation (S13, F91).
//!
//! Values travel as JSON that a person can read: counters are numbers, sets are lists, maps are
//! objects. Bytes that are no UTF-8 are an object with one member, `base64`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::public::RegionParams;
use crate::shards::ShardBy;
use crate::{NoParams, operations};

/// Most operations of one batch.
pub const BATCH_MAX: usize = 256;
/// Most keys of one page.
pub const KEYS_MAX: u32 = 1_000;
/// Longest that a watch is held open for news, in milliseconds.
pub const WATCH_MAX_MS: u64 = 30_000;

/// How sure an answer is (S9 to S12).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum StateLevel {
    /// Durable on this replica; the others follow.
    Eventual,
    /// Durable on a majority of this region's replicas.
    Local,
    /// Durable in a majority of the key's regions.
    Quorum,
    /// Linearizable, by the strong engine.
    Strong,
}

/// What a key holds (S3 to S5, F36 to F42).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StateKind {
    /// A counter that only rises.
    Counter,
    /// A counter that rises and falls; for statistics, never for credit (F38).
    UpDownCounter,
    /// A set that is only added to.
    GrowSet,
    /// A set that forgets what was removed.
    Set,
    /// The last write wins, by hybrid clock.
    Last,
    /// Concurrent writes are kept side by side.
    Siblings,
    /// Fields, each with a value of its own.
    Map,
    /// A counter that is never overdrawn (F38).
    Bounded,
    /// A register that is linearizable at level quorum.
    Register,
    /// A record of the strong engine.
    Strong,
}

/// A byte string: UTF-8 as it is, anything else in base64.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(untagged)]
pub enum Text {
    /// UTF-8.
    Plain(String),
    /// Anything.
    Binary {
        /// The bytes in base64 with padding.
        base64: String,
    },
}

impl Text {
    /// From bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Plain(text.to_owned()),
            Err(_) => Self::Binary { base64: STANDARD.encode(bytes) },
        }
    }

    /// The bytes; nothing when the base64 is none.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(text) => Some(text.as_bytes().to_vec()),
            Self::Binary { base64 } => STANDARD.decode(base64).ok(),
        }
    }
}

/// What a key shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StateValue {
    /// A counter's sum.
    Number(i64),
    /// A register's content.
    Content(Text),
    /// A set's elements, or the siblings of concurrent writes.
    Many(Vec<Text>),
    /// A bounded counter.
    Budget(Budget),
    /// A map's fields.
    Fields(BTreeMap<String, StateValue>),
}

/// What is left of a bounded counter (F38).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What this replica may spend by itself.
    pub available_here: u64,
    /// What all replicas together have left, as far as is known here.
    pub available: u64,
    /// What was spent in all, as far as is known here.
    pub used: u64,
}

/// Which key, and how sure the answer must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReadKey {
    /// The key, such as `vm:config:001` (S18).
    pub key: String,
    /// How sure; what the key's policy says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<StateLevel>,
    /// The token of an earlier answer: nothing older than that one is returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The answer may lack writes of at most the last so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_staleness_ms: Option<u64>,
    /// How long to try, in milliseconds; 5,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl ReadKey {
    /// A key at the level of its rule, with nothing special about it.
    #[must_use]
    pub fn of(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            level: None,
            session: None,
            max_staleness_ms: None,
            timeout_ms: None,
        }
    }
}

/// A key and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateEntry {
    /// The key.
    pub key: String,
    /// What kind of value.
    pub kind: StateKind,
    /// The value; absent when nothing is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<StateValue>,
    /// By which level it was served, never weaker than was asked.
    pub level: StateLevel,
    /// The region that answered.
    pub served_by: RegionId,
    /// At most so old, in milliseconds; absent where every acknowledged write is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staleness_ms: Option<u64>,
    /// The revision of the strong engine, for a compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// What this answer saw, to hand in with the write that replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Hand it in with the next question to see nothing older.
    pub session: String,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum StateUpdate {
    /// Sets the content of a register, of a last-write-wins or sibling value, or of a record.
    Set {
        /// The content.
        value: Text,
    },
    /// Adds to a counter; negative where it may fall.
    Increment {
        /// How much.
        by: i64,
    },
    /// Adds elements to a set.
    Add {
        /// Which.
        elements: Vec<Text>,
    },
    /// Removes elements that were seen from a set.
    Remove {
        /// Which.
        elements: Vec<Text>,
    },
    /// Changes one field of a map.
    Field {
        /// Its name.
        field: String,
        /// What kind of value it holds.
        kind: StateKind,
        /// How it changes.
        update: Box<StateUpdate>,
    },
    /// Removes a field of a map as far as it was seen.
    RemoveField {
        /// Its name.
        field: String,
    },
    /// Spends from a bounded counter, or refuses.
    Spend {
        /// How much.
        amount: u64,
    },
    /// Gives back to a bounded counter what was spent here.
    Refund {
        /// How much.
        amount: u64,
    },
    /// Hands a part of this region's rights to another region.
    Transfer {
        /// How much.
        amount: u64,
        /// To which region.
        to: RegionId,
    },
    /// Raises a bounded counter's limit; agreed upon in the strong engine first.
    Mint {
        /// By how much.
        amount: u64,
    },
    /// Removes the value.
    Delete,
}

/// Which key is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyParams {
    /// The key.
    pub key: String,
}

/// A change and how sure it must be before it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteKey {
    /// The change.
    pub update: StateUpdate,
    /// How sure; what the key's policy says when absent, and never less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<StateLevel>,
    /// Makes asking again safe: the same id at the same region is done once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op_id: Option<String>,
    /// The token of an earlier answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The `context` of the answer that this write replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Only when the record's revision is this one; 0: only when there is none. Strong keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<u64>,
    /// How long to try, in milliseconds; 5,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl WriteKey {
    /// A change at the level of the key's rule, with nothing special about it.
    #[must_use]
    pub const fn of(update: StateUpdate) -> Self {
        Self {
            update,
            level: None,
            op_id: None,
            session: None,
            context: None,
            if_revision: None,
            timeout_ms: None,
        }
    }
}

/// A change that is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Written {
    /// The key.
    pub key: String,
    /// By which level it is acknowledged.
    pub level: StateLevel,
    /// The region that took it.
    pub region: RegionId,
    /// The id under which asking again does nothing twice. Absent from eventual writes that were
    /// given none: none is remembered for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op_id: Option<String>,
    /// The new revision of a strong record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Hand it in with the next question to see this write.
    pub session: String,
}

/// Several changes and questions at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// At most 256, each for itself: they are not one transaction.
    pub items: Vec<BatchItem>,
}

/// One of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BatchItem {
    /// Reads a key.
    Read(ReadKey),
    /// Changes a key.
    Write {
        /// The key.
        key: String,
        /// The change.
        write: WriteKey,
    },
}

/// What became of a batch, in its order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchReply {
    /// One for each item.
    pub items: Vec<BatchResult>,
}

/// What became of one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchResult {
    /// It was read.
    Read(StateEntry),
    /// It was written.
    Written(Written),
    /// It was not done, and why.
    Error(crate::ApiError),
}

/// Which keys to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListKeys {
    /// Only those that begin with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Only those after this one: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, up to 1,000; 1,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of keys of the replicated plane, as this replica has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyPage {
    /// By key.
    pub items: Vec<StateEntry>,
    /// Where the next page begins, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Asks for what changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WatchKeys {
    /// Only keys that begin with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The `token` of the answer before; from now on when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// How long to wait for news, in milliseconds; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// What changed since the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyChanges {
    /// Each changed key once, as it is now.
    pub items: Vec<StateEntry>,
    /// More changed than is remembered, or the replica started anew: read the keys again.
    pub reset: bool,
    /// Ask with it the next time.
    pub token: String,
}

/// One peer of a replica, as the replica sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerState {
    /// The peer's region.
    pub region: RegionId,
    /// Whether there is a connection.
    pub connected: bool,
    /// `quic` or `tcp`; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Median round trip in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_p50_us: Option<u64>,
    /// 99th percentile of the round trip in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_p99_us: Option<u64>,
    /// What this replica has of the peer's writes is at most so old, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// Own writes that the peer has not acknowledged.
    pub queue_deltas: u64,
    /// Their bytes.
    pub queue_bytes: u64,
    /// How long the oldest of them waits, in milliseconds.
    pub queue_age_ms: u64,
    /// Bytes sent to the peer on the wire.
    pub sent_bytes: u64,
    /// Bytes received from it on the wire.
    pub received_bytes: u64,
    /// Why the last connection ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// One region's replica at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaReport {
    /// Its region.
    pub region: RegionId,
    /// Its number and incarnation, `number.incarnation`.
    pub actor: String,
    /// Whether it serves, and if not, why.
    pub standing: String,
    /// The membership's epoch.
    pub epoch: u64,
    /// The newest epoch in which it has reconciled with every voter.
    pub settled: u64,
    /// Keys that it holds.
    pub keys: u64,
    /// Bytes of them in memory, as encoded.
    pub state_bytes: u64,
    /// Deltas that some member has not acknowledged.
    pub log_deltas: u64,
    /// Writes that lost to a later one (S14.1).
    pub lww_discarded: u64,
    /// What it took to make replicas agree: reads that wrote back, differences that were found.
    pub conflicts: BTreeMap<String, u64>,
    /// Most siblings under one key now.
    pub siblings_max: u64,
    /// Removed values that wait for somebody's acknowledgement, and whose.
    pub collection_blocked_by: BTreeMap<RegionId, u64>,
    /// Answers by level.
    pub served: BTreeMap<String, u64>,
    /// A digest of all keys that every region may hold: equal replicas, equal digests.
    pub digest: String,
    /// Its peers.
    pub peers: Vec<PeerState>,
}

/// Every region's replica, and the regions that did not answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaReports {
    /// By region.
    pub items: Vec<ReplicaReport>,
    /// Regions that did not answer in time.
    pub missing: Vec<RegionId>,
}

/// The rule of a key prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatePolicy {
    /// Keys that begin with this; the longest one counts.
    pub prefix: String,
    /// What they hold.
    pub kind: StateKind,
    /// The weakest level of a write, and the level of a read that names none.
    pub level: StateLevel,
    /// Only these regions may hold them; all when empty (F45).
    #[serde(default)]
    pub regions: Vec<RegionId>,
    /// Values are forgotten so long after their last write, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// In how many of the regions each key is (S17); in all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<u32>,
    /// What of a key decides which these are (S16); as it is when absent, the whole key at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_by: Option<ShardBy>,
}

/// All rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatePolicies {
    /// By prefix.
    pub items: Vec<StatePolicy>,
}

/// A replica that is no member any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Eviction {
    /// Whose.
    pub region: RegionId,
    /// The epoch of the membership without it.
    pub epoch: u64,
}

operations! {
    /// O3.
    GetStateKey = Get "/v1/state/keys/{key}" "state_get" "What a key holds.",
        ReadKey, () => StateEntry;
    /// O3, F91.
    PostStateKey = Post "/v1/state/keys/{key}" "state_update" "Change a key.",
        KeyParams, WriteKey => Written;
    /// F47.
    PostStateBatch = Post "/v1/state/batch" "state_batch"
        "Several reads and changes, each for itself.",
        NoParams, Batch => BatchReply;
    /// O3.
    ListStateKeys = Get "/v1/state/keys" "state_list" "A page of keys.",
        ListKeys, () => KeyPage;
    /// O3.
    WatchStateKeys = Get "/v1/state/watch" "state_watch" "What changed since a token.",
        WatchKeys, () => KeyChanges;
    /// O14, O15, O33.
    GetReplicas = Get "/v1/state/replicas" "state_replicas"
        "Every region's replica: round trips, lag, queues, digests.",
        NoParams, () => ReplicaReports;
    /// O33.
    ForceStateSync = Post "/v1/state/sync" "state_force_sync"
        "Compare with every peer now and fetch what differs.",
        NoParams, () => ();
    /// O3, F90.
    PutStatePolicy = Put "/v1/state/policies" "state_set_policy" "Set the rule of a prefix.",
        NoParams, StatePolicy => StatePolicies;
    /// F49, F50.
    EvictReplica = Post "/v1/state/replicas/{region}/evict" "state_evict"
        "Put a region's replica out; it comes back empty.",
        RegionParams, () => Eviction;
    /// O36, F90.
    GetStatePolicies = Get "/v1/state/policies" "state_policies" "The rules of key prefixes.",
        NoParams, () => StatePolicies;
}

/// What a region says of its replica to another region's daemon.
pub mod peer {
    use super::ReplicaReport;
    use crate::{NoParams, operations};

    operations! {
        /// O14.
        GetReplica = Get "/peer/v1/state/replica" "peer_replica" "This region's replica.",
            NoParams, () => ReplicaReport;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_text_are_shown_as_text_and_the_rest_survives() {
        for bytes in [&b"plain"[..], b"", b"\xff\x00"] {
            let text = Text::of(bytes);
            let json = serde_json::to_string(&text).unwrap();
            let back: Text = serde_json::from_str(&json).unwrap();
            assert_eq!(back.bytes().unwrap(), bytes);
        }
        assert_eq!(Text::Binary { base64: "?".to_owned() }.bytes(), None);
    }

    #[test]
    fn each_value_comes_back_as_the_kind_that_it_was() {
        let budget = Budget { available_here: 1, available: 3, used: 2 };
        let fields = [("a".to_owned(), StateValue::Number(1))];
        for value in [
            StateValue::Number(-3),
            StateValue::Content(Text::of(b"x")),
            StateValue::Content(Text::of(b"\xff")),
            StateValue::Many(vec![Text::of(b"x"), Text::of(b"\xff")]),
            StateValue::Many(Vec::new()),
            StateValue::Budget(budget),
            StateValue::Fields(fields.into_iter().collect()),
        ] {
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(
                serde_json::from_str::<StateValue>(&json).unwrap(),
                value,
                "{json}"
            );
        }
    }

    #[test]
    fn a_misspelt_part_of_a_change_is_refused() {
        let json = r#"{"update":{"op":"set","valu":"x"}}"#;
        assert!(serde_json::from_str::<WriteKey>(json).is_err());
        let json = r#"{"update":{"op":"increment","by":2},"lvl":"quorum"}"#;
        assert!(serde_json::from_str::<WriteKey>(json).is_err());
    }
}
