//! Replies about replicated state, with something odd in each.

use std::collections::BTreeMap;

use dwcp_api::shards::{KeyPlace, ShardBy, ShardItem, ShardList, SlotPlace};
use dwcp_api::state::{
    Budget, KeyChanges, KeyPage, PeerState, ReplicaReport, ReplicaReports, StateEntry,
    StateKind, StateLevel, StatePolicies, StatePolicy, StateValue, Text, Written,
};
use dwcp_types::RegionId;

fn region(name: &str) -> RegionId {
    name.parse().unwrap()
}

/// A key, with a value that would steer a terminal.
pub(crate) fn entry(key: &str, kind: StateKind, value: Option<StateValue>) -> StateEntry {
    StateEntry {
        key: key.to_owned(),
        kind,
        value,
        level: StateLevel::Quorum,
        served_by: region("eu-west-1"),
        staleness_ms: Some(1_500),
        revision: None,
        context: None,
        session: "s1".to_owned(),
    }
}

pub(crate) fn page() -> KeyPage {
    let fields = [("cpu".to_owned(), StateValue::Number(4))];
    let budget = Budget { available_here: 10, available: 70, used: 30 };
    KeyPage {
        items: vec![
            entry(
                "billing:credits",
                StateKind::Bounded,
                Some(StateValue::Budget(budget)),
            ),
            entry("count", StateKind::UpDownCounter, Some(StateValue::Number(-80))),
            entry("gone", StateKind::Last, None),
            entry(
                "map",
                StateKind::Map,
                Some(StateValue::Fields(fields.into_iter().collect())),
            ),
            entry(
                "tags",
                StateKind::Set,
                Some(StateValue::Many(vec![Text::of(b"a\x1b[31m"), Text::of(b"\xff")])),
            ),
            entry(
                "vm:config:001",
                StateKind::Register,
                Some(StateValue::Content(Text::of("x".repeat(80).as_bytes()))),
            ),
        ],
        next: None,
    }
}

pub(crate) fn written() -> Written {
    Written {
        key: "vm:config:001".to_owned(),
        level: StateLevel::Strong,
        region: region("us-east-1"),
        op_id: Some("op-1".to_owned()),
        revision: Some(7),
        session: "s2".to_owned(),
    }
}

pub(crate) fn changes() -> KeyChanges {
    KeyChanges { items: page().items, reset: true, token: "t9".to_owned() }
}

fn peer(name: &str, connected: bool) -> PeerState {
    PeerState {
        region: region(name),
        connected,
        transport: connected.then(|| "quic".to_owned()),
        rtt_p50_us: connected.then_some(76_400),
        rtt_p99_us: connected.then_some(81_000),
        lag_ms: Some(if connected { 38 } else { 12_000 }),
        queue_deltas: if connected { 0 } else { 1_234 },
        queue_bytes: if connected { 0 } else { 98_765 },
        queue_age_ms: 12_000,
        sent_bytes: 1_000,
        received_bytes: 2_000,
        last_error: (!connected).then(|| "timed out".to_owned()),
    }
}

fn replica(name: &str, digest: &str, peers: Vec<PeerState>) -> ReplicaReport {
    ReplicaReport {
        region: region(name),
        actor: "1.3".to_owned(),
        standing: "serving".to_owned(),
        epoch: 1,
        settled: 1,
        keys: 10_000,
        state_bytes: 2_345_678,
        log_deltas: 12,
        lww_discarded: 2,
        conflicts: BTreeMap::from([("set".to_owned(), 3)]),
        siblings_max: 2,
        collection_blocked_by: BTreeMap::from([(region("ap-south-1"), 5)]),
        served: BTreeMap::from([("eventual".to_owned(), 100), ("quorum".to_owned(), 7)]),
        digest: digest.to_owned(),
        peers,
    }
}

/// Two regions that hold the same and are not both reached, and one that did not answer.
pub(crate) fn replicas() -> ReplicaReports {
    ReplicaReports {
        items: vec![
            replica(
                "us-east-1",
                "0f1e2d3c4b5a6978",
                vec![peer("eu-west-1", true), peer("ap-south-1", false)],
            ),
            replica("eu-west-1", "0f1e2d3c4b5a6978", vec![peer("us-east-1", true)]),
        ],
        missing: vec![region("ap-south-1")],
    }
}

/// Two that hold different things.
pub(crate) fn apart() -> ReplicaReports {
    let mut reports = replicas();
    reports.missing.clear();
    reports.items[1].digest = "ffffffffffffffff".to_owned();
    reports
}

pub(crate) fn policies() -> StatePolicies {
    let policy = |prefix: &str, kind, level| StatePolicy {
        prefix: prefix.to_owned(),
        kind,
        level,
        regions: Vec::new(),
        ttl_ms: None,
        copies: None,
        shard_by: None,
    };
    let fenced = StatePolicy {
        regions: vec![region("eu-west-1")],
        ttl_ms: Some(86_400_000),
        ..policy("eu:", StateKind::Last, StateLevel::Local)
    };
    let spread = StatePolicy {
        copies: Some(3),
        shard_by: Some(ShardBy::Tenant),
        ..policy("orders:", StateKind::Last, StateLevel::Local)
    };
    StatePolicies {
        items: vec![policy("", StateKind::Register, StateLevel::Quorum), fenced, spread],
    }
}

/// Three of four regions hold each slot, and one slot is on its way.
pub(crate) fn shards() -> ShardList {
    let regions = ["ap-south-1", "eu-west-1", "sa-east-1", "us-east-1"].map(region);
    let counts = |counts: [u32; 4]| regions.iter().cloned().zip(counts).collect();
    let all = ShardItem {
        prefix: String::new(),
        shard_by: ShardBy::Key,
        regions: regions.to_vec(),
        copies: 4,
        slots: counts([256; 4]),
        learning: BTreeMap::new(),
        moving: 0,
        moved: Vec::new(),
    };
    let spread = ShardItem {
        prefix: "orders:".to_owned(),
        shard_by: ShardBy::Tenant,
        copies: 3,
        slots: counts([190, 197, 188, 193]),
        learning: [(region("sa-east-1"), 1)].into(),
        moving: 1,
        ..all.clone()
    };
    let at = SlotPlace {
        slot: 17,
        regions: vec![region("ap-south-1"), region("eu-west-1"), region("us-east-1")],
        learning: vec![region("sa-east-1")],
        wanted: vec![region("eu-west-1"), region("sa-east-1"), region("us-east-1")],
    };
    let spread = ShardItem { moved: vec![at.clone()], ..spread };
    let (key, prefix) = ("orders:acme/7".to_owned(), "orders:".to_owned());
    let key = KeyPlace { key, prefix, at };
    ShardList { epoch: 9, items: vec![all, spread], key: Some(key) }
}
