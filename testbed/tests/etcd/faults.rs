//! Three members; they are killed, frozen and started again.
//!
//! | members that work | reads | writes | watches |
//! |---|---|---|---|
//! | 3, 2 | linearizable | acknowledged | go on, each event once |
//! | 1, 0 | refused: `Unavailable` | refused, or `Indeterminate` when one was under way | end with `Unavailable` |
//!
//! Whatever was acknowledged is there when a majority is back. Lists and explanations are served
//! meanwhile by each daemon's mirror (`tests/it/engine.rs`).

use std::sync::Arc;

use dwcp_runtime::clock::SystemClock;
use dwcp_runtime::strong::{
    Compare, EtcdEngine, Op, OpId, StrongEngine, StrongError, Txn, TxnOutcome, Watch,
};
use dwcp_testbed::{EtcdCluster, until};

/// A write that may be asked again.
fn put(key: &str, value: &str) -> Txn {
    Txn {
        then: vec![Op::put(key, value.to_owned())],
        op_id: Some(OpId::random()),
        ..Txn::default()
    }
}

/// Asks until the outcome is known, always under the same id.
async fn settled(engine: &EtcdEngine, txn: &Txn) -> u64 {
    let outcome = until("the transaction is settled", || engine.txn(txn.clone())).await;
    let TxnOutcome::Committed { revision } = outcome else { panic!("{outcome:?}") };
    revision
}

async fn keys(watch: &mut Watch, last: &str) -> Vec<String> {
    let mut keys = Vec::new();
    while keys.last().is_none_or(|key| key != last) {
        let batch = watch.next().await.unwrap().unwrap();
        keys.extend(batch.events.iter().map(|event| event.key().to_owned()));
    }
    keys
}

fn others(of: usize) -> Vec<usize> {
    (0..3).filter(|n| *n != of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_die_one_by_one_and_nothing_acknowledged_is_lost() {
    let Some(mut cluster) = EtcdCluster::start(3).await else { return };
    let engine = cluster.engine_on_all();
    settled(&engine, &put("k/3", "three work")).await;

    cluster.process(0).kill_9();
    settled(&engine, &put("k/2", "two work")).await;
    assert!(engine.get("k/3").await.unwrap().is_some());

    let mut watch = engine.watch("k/", 0).await.unwrap();
    cluster.process(1).kill_9();
    // The last one may take a write before it notices that it is alone.
    let left = until("a write is refused for certain", || async {
        match engine.txn(put("k/1", "one works")).await {
            Err(StrongError::Unavailable { reason }) => Ok(reason),
            other => Err(other),
        }
    })
    .await;
    assert!(left.contains("etcd member"), "{left}");
    let read = engine.get("k/3").await.unwrap_err();
    assert!(matches!(read, StrongError::Unavailable { .. }), "{read}");
    // The member says by itself that it has no leader any more.
    let ended = watch.next().await.unwrap().unwrap_err();
    assert!(matches!(ended, StrongError::Unavailable { .. }), "{ended}");
    let states = engine.survey().await;
    let lives: Vec<_> = states.iter().map(|state| state.said.is_ok()).collect();
    assert_eq!(lives, [false, false, true]);
    assert!(!states[2].leads());

    cluster.process(0).start();
    let back = put("k/back", "two work again");
    settled(&engine, &back).await;
    for key in ["k/3", "k/2", "k/back"] {
        assert!(engine.get(key).await.unwrap().is_some(), "{key} is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_and_writes_and_watches_go_on() {
    let Some(mut cluster) = EtcdCluster::start(3).await else { return };
    let leader = cluster.leader().await;
    // Asks the leader first, so that its death is met by every call and by the watch.
    let mut order = vec![leader];
    order.extend(others(leader));
    let engine = cluster.engine(&order, Arc::new(SystemClock::new()));
    let mut watch = engine.watch("w/", 0).await.unwrap();
    let mut revisions = Vec::new();
    for n in 0..10 {
        if n == 5 {
            cluster.process(leader).kill_9();
        }
        revisions.push(settled(&engine, &put(&format!("w/{n}"), "v")).await);
    }
    let seen = keys(&mut watch, "w/9").await;
    let wanted: Vec<_> = (0..10).map(|n| format!("w/{n}")).collect();
    assert_eq!(seen, wanted, "each event once, in order, over the change of members");
    assert!(revisions.is_sorted());
    assert_ne!(cluster.leader().await, leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_leaves_an_outcome_open_and_the_same_id_settles_it() {
    let Some(mut cluster) = EtcdCluster::start(3).await else { return };
    let leader = cluster.leader().await;
    let only_leader = cluster.engine(&[leader], Arc::new(SystemClock::new()));
    only_leader.get("k").await.unwrap();
    cluster.process(leader).freeze();

    // Sent, and never answered: without an id nobody may ask again.
    let no_id = Txn { op_id: None, ..put("open", "1") };
    let open = only_leader.txn(no_id).await.unwrap_err();
    assert!(matches!(open, StrongError::Indeterminate { op_id: None, .. }), "{open}");

    // Under an id the same question goes to the others, and is settled.
    let mut order = vec![leader];
    order.extend(others(leader));
    let engine = cluster.engine(&order, Arc::new(SystemClock::new()));
    let create = Txn { compare: vec![Compare::absent("once")], ..put("once", "1") };
    let first = settled(&engine, &create).await;
    cluster.process(leader).thaw();
    let record =
        until("the thawed one answers", || only_leader.get("once")).await.unwrap();
    assert_eq!((record.create_revision, record.mod_revision), (first, first));
    assert_eq!(
        settled(&only_leader, &create).await,
        first,
        "asked again at the thawed one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_freeze_and_the_same_id_is_done_once() {
    let Some(mut cluster) = EtcdCluster::start(3).await else { return };
    let engine = cluster.engine_on_all();
    settled(&engine, &put("before", "1")).await;
    for n in 0..3 {
        cluster.process(n).freeze();
    }
    let create = Txn { compare: vec![Compare::absent("once")], ..put("once", "1") };
    let open = engine.txn(create.clone()).await.unwrap_err();
    let StrongError::Indeterminate { op_id, .. } = &open else { panic!("{open}") };
    assert_eq!(*op_id, create.op_id);
    for n in 0..3 {
        cluster.process(n).thaw();
    }
    let revision = settled(&engine, &create).await;
    let record = engine.get("once").await.unwrap().unwrap();
    assert_eq!((record.create_revision, record.mod_revision), (revision, revision));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_die_at_once_and_everything_acknowledged_is_there_again() {
    let Some(mut cluster) = EtcdCluster::start(3).await else { return };
    let engine = Arc::new(cluster.engine_on_all());
    let mut acked = Vec::new();
    for round in 0..3 {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let engine = Arc::clone(&engine);
                tokio::spawn(async move {
                    let mut acked = Vec::new();
                    // Until the members are gone.
                    for n in 0.. {
                        let key = format!("a/{round}/{writer}/{n}");
                        if engine.txn(put(&key, "v")).await.is_err() {
                            break;
                        }
                        acked.push(key);
                    }
                    acked
                })
            })
            .collect();
        until("the writers are at work", || async {
            let written = engine.get(&format!("a/{round}/7/3")).await;
            written.ok().flatten().ok_or("not yet")
        })
        .await;
        for n in 0..3 {
            cluster.process(n).kill_9();
        }
        for writer in writers {
            acked.extend(writer.await.unwrap());
        }
        for n in 0..3 {
            cluster.process(n).start();
        }
        cluster.leader().await;
    }
    assert!(acked.len() > 3 * 8);
    for key in &acked {
        let there = until("the engine reads again", || engine.get(key)).await;
        assert!(there.is_some(), "{key} is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_moved_to_where_it_belongs() {
    let Some(cluster) = EtcdCluster::start(3).await else { return };
    let engine = cluster.engine_on_all();
    for home in [2, 0, 1] {
        let states = engine.survey().await;
        if !states[home].leads() {
            engine.move_leader(&states[home]).await.unwrap();
        }
        assert_eq!(cluster.leader().await, home);
        settled(&engine, &put("k", "v")).await;
    }
    let nobody = dwcp_runtime::strong::etcd::MemberState {
        said: Err("it is dead".to_owned()),
        ..engine.survey().await.remove(0)
    };
    let refused = engine.move_leader(&nobody).await.unwrap_err();
    assert!(refused.to_string().contains("it is dead"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_that_is_compacted_is_said_to_be_and_running_watches_go_on() {
    let Some(cluster) = EtcdCluster::start(1).await else { return };
    let engine = cluster.engine_on_all();
    let mut running = engine.watch("k", 0).await.unwrap();
    let mut last = 0;
    for n in 0..5 {
        last = settled(&engine, &put("k", &n.to_string())).await;
    }
    cluster.raw(&[0]).compact(last).await.unwrap();
    for from in [1, last - 1, last] {
        let error = engine.watch("k", from).await.unwrap_err();
        assert_eq!(error, StrongError::Compacted { oldest: last + 1 }, "from {from}");
    }
    let mut future = engine.watch("k", last + 2).await.unwrap();
    engine.watch("k", last + 1).await.unwrap();
    let next = settled(&engine, &put("k", "next")).await;
    let after = settled(&engine, &put("k", "after")).await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|revision| *revision < after) {
        let batch = running.next().await.unwrap().unwrap();
        seen.extend(batch.events.iter().map(|event| event.mod_revision()));
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
    let first = future.next().await.unwrap().unwrap();
    assert_eq!(first.events[0].mod_revision(), after, "{next} is before its start");
}
