//! What every adapter of the strong engine must do; one suite for all of them.
//!
//! Each property is a function over a [`Subject`]; `strong_conformance!` makes a test of each.
//! Where the engine cannot be had, its maker says why and gives none, and nothing is tested.
//! A property waits for conditions, never for time: time is the subject's [`ManualClock`].

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a suite of tests: panicking is how it speaks"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Compare, Event, KeyValue, LeaseId, Op, OpId, Page, Range, StrongEngine, StrongError,
    Txn, TxnOutcome, VALUE_LEN_MAX, Watch,
};
use crate::clock::ManualClock;

/// An empty engine, the clock its leases go by, and whatever must live as long.
pub struct Subject {
    /// The engine.
    pub engine: Arc<dyn StrongEngine>,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// Kept until the end: servers, directories.
    pub keep: Box<dyn Send>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Makes one test of each property. The argument is an async function that makes a
/// [`Subject`], or an option of one.
#[macro_export]
macro_rules! strong_conformance {
    ($make:path) => {
        $crate::strong_conformance! { $make:
            a_transaction_happens_whole_or_not_at_all
            revisions_rise_by_one_with_each_change
            a_conflict_shows_what_is_there
            values_can_be_compared
            concurrent_increments_lose_no_update
            a_watch_sees_every_event_once_and_in_order
            a_watch_can_begin_in_the_past
            a_watch_sees_only_its_prefix
            pages_cover_a_prefix_without_gap_or_repetition
            an_operation_id_is_carried_out_once
            an_operation_id_cannot_mean_two_things
            concurrent_tries_under_one_id_happen_once
            a_lease_takes_its_keys_with_it
            a_lease_that_is_kept_alive_keeps_its_keys
            an_expired_lease_never_comes_back
            a_key_can_leave_its_lease
            a_lease_that_is_not_there_is_refused
            what_is_too_large_is_refused
            bytes_and_odd_keys_survive
        }
    };
    ($make:path: $($property:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $property() {
            let subject: Option<$crate::strong::conformance::Subject> =
                $make().await.into();
            let Some(subject) = subject else { return };
            $crate::strong::conformance::$property(&subject).await;
        }
    )*};
}

fn txn(compare: Vec<Compare>, then: Vec<Op>) -> Txn {
    Txn { compare, then, op_id: None }
}

async fn put(subject: &Subject, key: &str, value: &str) -> u64 {
    committed(subject, txn(vec![], vec![Op::put(key, value.to_owned())])).await
}

async fn committed(subject: &Subject, txn: Txn) -> u64 {
    match subject.engine.txn(txn).await.unwrap() {
        TxnOutcome::Committed { revision } => revision,
        TxnOutcome::Conflict { current } => panic!("conflict with {current:?}"),
    }
}

async fn get(subject: &Subject, key: &str) -> Option<KeyValue> {
    subject.engine.get(key).await.unwrap()
}

async fn page(
    subject: &Subject,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Page {
    subject.engine.range(Range { prefix, after, limit }).await.unwrap()
}

/// Reads a watch until it has seen a revision.
async fn read_until(watch: &mut Watch, revision: u64) -> Vec<Event> {
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Event| event.mod_revision() < revision) {
        events.extend(watch.next().await.unwrap().unwrap().events);
    }
    events
}

/// Waits until a key is deleted, by watching it.
async fn deleted(watch: &mut Watch, key: &str) -> u64 {
    loop {
        for event in watch.next().await.unwrap().unwrap().events {
            if let Event::Delete { key: gone, mod_revision } = event
                && gone == key
            {
                return mod_revision;
            }
        }
    }
}

/// All operations of a transaction happen, or none.
pub async fn a_transaction_happens_whole_or_not_at_all(subject: &Subject) {
    let both = vec![Op::put("a", "1"), Op::put("b", "1")];
    committed(subject, txn(vec![Compare::absent("a"), Compare::absent("b")], both)).await;
    let swap = vec![Op::delete("a"), Op::put("c", "1")];
    let outcome = subject
        .engine
        .txn(txn(vec![Compare::absent("c"), Compare::absent("b")], swap.clone()))
        .await
        .unwrap();
    assert!(matches!(outcome, TxnOutcome::Conflict { .. }));
    assert!(get(subject, "a").await.is_some() && get(subject, "c").await.is_none());
    let revision = committed(subject, txn(vec![Compare::absent("c")], swap)).await;
    assert!(get(subject, "a").await.is_none());
    assert_eq!(get(subject, "c").await.unwrap().mod_revision, revision);
}

/// Only what changes something raises the revision, and by one.
pub async fn revisions_rise_by_one_with_each_change(subject: &Subject) {
    let first = put(subject, "k", "1").await;
    let second = put(subject, "k", "2").await;
    assert_eq!(second, first + 1);
    let nothing = committed(subject, txn(vec![], vec![Op::delete("absent")])).await;
    assert_eq!(nothing, second, "deleting what is not there changes nothing");
    let record = get(subject, "k").await.unwrap();
    assert_eq!((record.create_revision, record.mod_revision), (first, second));
    let third = committed(subject, txn(vec![], vec![Op::delete("k")])).await;
    let fourth = put(subject, "k", "3").await;
    assert_eq!((third, fourth), (second + 1, second + 2));
    assert_eq!(get(subject, "k").await.unwrap().create_revision, fourth);
    assert_eq!(page(subject, "", None, 10).await.revision, fourth);
}

/// A conflict answers with the compared keys, so that no second read is needed.
pub async fn a_conflict_shows_what_is_there(subject: &Subject) {
    put(subject, "there", "1").await;
    let compare = vec![Compare::absent("there"), Compare::absent("absent")];
    let outcome =
        subject.engine.txn(txn(compare, vec![Op::put("x", "1")])).await.unwrap();
    let there = get(subject, "there").await;
    let current = vec![("there".to_owned(), there), ("absent".to_owned(), None)];
    assert_eq!(outcome, TxnOutcome::Conflict { current });
}

/// A value can be compared; an absent key has none.
pub async fn values_can_be_compared(subject: &Subject) {
    let is =
        |value: &'static str| Compare::Value { key: "k".into(), value: value.into() };
    let change = |compare| txn(vec![compare], vec![Op::put("k", "2")]);
    let outcome = subject.engine.txn(change(is(""))).await.unwrap();
    assert!(matches!(outcome, TxnOutcome::Conflict { .. }));
    put(subject, "k", "1").await;
    committed(subject, change(is("1"))).await;
    let outcome = subject.engine.txn(change(is("1"))).await.unwrap();
    assert!(matches!(outcome, TxnOutcome::Conflict { .. }));
}

/// Compare-and-set increments from many tasks add up.
pub async fn concurrent_increments_lose_no_update(subject: &Subject) {
    const TASKS: usize = 8;
    const EACH: usize = 25;
    put(subject, "count", "0").await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| tokio::spawn(increment(Arc::clone(&subject.engine), EACH)))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let count = get(subject, "count").await.unwrap();
    assert_eq!(count.value, (TASKS * EACH).to_string().into_bytes());
    let changes = u64::try_from(TASKS * EACH).unwrap();
    assert_eq!(count.mod_revision, count.create_revision + changes);
}

async fn increment(engine: Arc<dyn StrongEngine>, times: usize) {
    for _ in 0..times {
        let mut current = engine.get("count").await.unwrap().unwrap();
        loop {
            let count: u64 =
                std::str::from_utf8(&current.value).unwrap().parse().unwrap();
            let next = Op::put("count", (count + 1).to_string());
            let change = txn(vec![Compare::unchanged(&current)], vec![next]);
            match engine.txn(change).await.unwrap() {
                TxnOutcome::Committed { .. } => break,
                TxnOutcome::Conflict { current: mut now } => {
                    current = now.pop().unwrap().1.unwrap();
                }
            }
        }
    }
}

/// Writers race, and a watch sees each of their changes once, in the order of revisions.
pub async fn a_watch_sees_every_event_once_and_in_order(subject: &Subject) {
    const TASKS: usize = 4;
    const EACH: usize = 50;
    let mut watch = subject.engine.watch("w/", 0).await.unwrap();
    let start = page(subject, "", None, 1).await.revision;
    assert_eq!(watch.from_revision(), start + 1);
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let engine = Arc::clone(&subject.engine);
        tasks.push(tokio::spawn(async move {
            let mut last = 0;
            for i in 0..EACH {
                // Two events of one revision must stay together.
                let ops = vec![
                    Op::put(format!("w/{task}/{i}"), "v"),
                    Op::put(format!("w/{task}"), i.to_string()),
                ];
                let outcome = engine.txn(txn(vec![], ops)).await.unwrap();
                let TxnOutcome::Committed { revision } = outcome else { panic!() };
                last = last.max(revision);
            }
            last
        }));
    }
    let mut last = 0;
    for task in tasks {
        last = last.max(task.await.unwrap());
    }
    let events = read_until(&mut watch, last).await;
    assert_eq!(events.len(), 2 * TASKS * EACH);
    let revisions: Vec<_> = events.iter().map(Event::mod_revision).collect();
    let expected: Vec<_> =
        (start + 1..=last).flat_map(|revision| [revision; 2]).collect();
    assert_eq!(revisions, expected);
}

/// A watch from an earlier revision sees what happened since, and then goes on.
pub async fn a_watch_can_begin_in_the_past(subject: &Subject) {
    put(subject, "k", "1").await;
    let second = put(subject, "k", "2").await;
    let third = committed(subject, txn(vec![], vec![Op::delete("k")])).await;
    let mut watch = subject.engine.watch("k", second).await.unwrap();
    assert_eq!(watch.from_revision(), second);
    let fourth = put(subject, "k", "4").await;
    let events = read_until(&mut watch, fourth).await;
    let seen: Vec<_> = events.iter().map(Event::mod_revision).collect();
    assert_eq!(seen, [second, third, fourth]);
    assert!(matches!(events.get(1), Some(Event::Delete { key, .. }) if key == "k"));
    assert!(matches!(events.first(), Some(Event::Put(record)) if record.value == "2"));
}

/// Events of other keys are left out.
pub async fn a_watch_sees_only_its_prefix(subject: &Subject) {
    let mut watch = subject.engine.watch("a/", 0).await.unwrap();
    put(subject, "a", "1").await;
    put(subject, "a/x", "1").await;
    put(subject, "b/x", "1").await;
    let last = put(subject, "a/y", "1").await;
    let events = read_until(&mut watch, last).await;
    let keys: Vec<_> = events.iter().map(Event::key).collect();
    assert_eq!(keys, ["a/x", "a/y"]);
}

/// While others write, pages name every key that was there all the time, once, in order.
pub async fn pages_cover_a_prefix_without_gap_or_repetition(subject: &Subject) {
    let keys: Vec<_> = (0..100).map(|i| format!("p/{i:03}")).collect();
    let all = keys.iter().map(|key| Op::put(key, "1")).collect();
    let revision = committed(subject, txn(vec![], all)).await;
    put(subject, "o", "before the prefix").await;
    put(subject, "p0", "after the prefix").await;
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = page(subject, "p/", after.as_deref(), 7).await;
        assert!(page.revision >= revision && page.items.len() <= 7);
        seen.extend(page.items.iter().map(|record| record.key.clone()));
        if !page.more {
            break;
        }
        after = seen.last().cloned();
        // Changes of what was read already, and of other prefixes, move nothing.
        put(subject, "p/000", "2").await;
        put(subject, "q", "2").await;
    }
    assert_eq!(seen, keys);
    let page = page(subject, "p/", Some("p/099"), 7).await;
    assert!(page.items.is_empty() && !page.more);
}

/// Asking again with the same id answers as it was answered, and does nothing.
pub async fn an_operation_id_is_carried_out_once(subject: &Subject) {
    let once = Txn {
        compare: vec![Compare::absent("k")],
        then: vec![Op::put("k", "1")],
        op_id: Some(OpId::new("create/k").unwrap()),
    };
    let revision = committed(subject, once.clone()).await;
    let later = put(subject, "k", "2").await;
    assert_eq!(committed(subject, once.clone()).await, revision);
    assert_eq!(get(subject, "k").await.unwrap().mod_revision, later);
    // A conflict did nothing, so the same id may be tried until it succeeds.
    let retried = Txn { op_id: Some(OpId::new("again").unwrap()), ..once };
    let outcome = subject.engine.txn(retried.clone()).await.unwrap();
    assert!(matches!(outcome, TxnOutcome::Conflict { .. }));
    committed(subject, txn(vec![], vec![Op::delete("k")])).await;
    committed(subject, retried).await;
}

/// An id that was used for another transaction is refused, not answered with that one's
/// outcome.
pub async fn an_operation_id_cannot_mean_two_things(subject: &Subject) {
    let op_id = Some(OpId::random());
    let first = Txn { then: vec![Op::put("k", "1")], op_id, ..Txn::default() };
    committed(subject, first.clone()).await;
    let other = Txn { then: vec![Op::put("k", "2")], ..first };
    let error = subject.engine.txn(other).await.unwrap_err();
    assert!(matches!(error, StrongError::Malformed { .. }), "{error}");
    assert_eq!(get(subject, "k").await.unwrap().value, "1");
}

/// Tries that overlap are one.
pub async fn concurrent_tries_under_one_id_happen_once(subject: &Subject) {
    let once = Txn {
        then: vec![Op::put("k", "1")],
        op_id: Some(OpId::random()),
        ..Txn::default()
    };
    let tries: Vec<_> = (0..16)
        .map(|_| {
            let (engine, once) = (Arc::clone(&subject.engine), once.clone());
            tokio::spawn(async move { engine.txn(once).await.unwrap() })
        })
        .collect();
    let mut outcomes = Vec::new();
    for one in tries {
        outcomes.push(one.await.unwrap());
    }
    outcomes.dedup();
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    let record = get(subject, "k").await.unwrap();
    assert_eq!(record.create_revision, record.mod_revision);
}

const TTL: Duration = Duration::from_secs(6);

async fn grant(subject: &Subject) -> LeaseId {
    subject.engine.lease_grant(TTL).await.unwrap()
}

fn leased(key: &str, lease: LeaseId) -> Op {
    Op::Put { key: key.to_owned(), value: "v".into(), lease: Some(lease) }
}

/// When a lease ends, by time or by hand, its keys are deleted as one, and watchers see it.
pub async fn a_lease_takes_its_keys_with_it(subject: &Subject) {
    let by_time = grant(subject).await;
    let by_hand = grant(subject).await;
    assert_ne!(by_time, by_hand);
    let ops = vec![leased("t/1", by_time), leased("t/2", by_time), leased("h", by_hand)];
    committed(subject, txn(vec![], ops)).await;
    assert_eq!(get(subject, "t/1").await.unwrap().lease, Some(by_time));
    let mut watch = subject.engine.watch("", 0).await.unwrap();
    subject.engine.lease_revoke(by_hand).await.unwrap();
    deleted(&mut watch, "h").await;
    assert!(get(subject, "t/2").await.is_some());
    subject.clock.advance(TTL);
    deleted(&mut watch, "t/2").await;
    assert!(get(subject, "t/1").await.is_none());
    subject.engine.lease_revoke(by_time).await.unwrap();
}

/// Keeping a lease alive restarts its time.
pub async fn a_lease_that_is_kept_alive_keeps_its_keys(subject: &Subject) {
    let kept = grant(subject).await;
    let left = grant(subject).await;
    committed(subject, txn(vec![], vec![leased("kept", kept), leased("left", left)]))
        .await;
    let mut watch = subject.engine.watch("left", 0).await.unwrap();
    let almost = TTL - Duration::from_secs(1);
    subject.clock.advance(almost);
    assert_eq!(subject.engine.lease_keep_alive(kept).await.unwrap(), TTL);
    subject.clock.advance(almost);
    // The lease beside it is over, so the engine has looked at the clock.
    deleted(&mut watch, "left").await;
    assert!(get(subject, "kept").await.is_some());
    subject.engine.lease_keep_alive(kept).await.unwrap();
}

/// From the moment its time is up, a lease can be neither kept alive nor used.
pub async fn an_expired_lease_never_comes_back(subject: &Subject) {
    let lease = grant(subject).await;
    subject.clock.advance(TTL);
    let error = subject.engine.lease_keep_alive(lease).await.unwrap_err();
    assert_eq!(error, StrongError::LeaseNotFound { lease });
    let used = subject.engine.txn(txn(vec![], vec![leased("k", lease)])).await;
    assert_eq!(used.unwrap_err(), StrongError::LeaseNotFound { lease });
    assert!(get(subject, "k").await.is_none());
}

/// A key written without a lease, or with another, does not die with the old one.
pub async fn a_key_can_leave_its_lease(subject: &Subject) {
    let old = grant(subject).await;
    let new = subject.engine.lease_grant(TTL * 10).await.unwrap();
    let all = ["stays", "freed", "moved"].map(|key| leased(key, old)).to_vec();
    committed(subject, txn(vec![], all)).await;
    put(subject, "freed", "v").await;
    committed(subject, txn(vec![], vec![leased("moved", new)])).await;
    let mut watch = subject.engine.watch("", 0).await.unwrap();
    subject.clock.advance(TTL);
    deleted(&mut watch, "stays").await;
    assert_eq!(get(subject, "freed").await.unwrap().lease, None);
    assert_eq!(get(subject, "moved").await.unwrap().lease, Some(new));
}

/// A lease that never was is refused, and with it the whole transaction.
pub async fn a_lease_that_is_not_there_is_refused(subject: &Subject) {
    let lease = LeaseId::new(1 << 40);
    let ops = vec![Op::put("a", "1"), leased("b", lease)];
    let error = subject.engine.txn(txn(vec![], ops)).await.unwrap_err();
    assert_eq!(error, StrongError::LeaseNotFound { lease });
    assert!(get(subject, "a").await.is_none());
    let error = subject.engine.lease_keep_alive(lease).await.unwrap_err();
    assert_eq!(error, StrongError::LeaseNotFound { lease });
    for ttl in [Duration::ZERO, Duration::from_hours(25)] {
        let error = subject.engine.lease_grant(ttl).await.unwrap_err();
        assert!(matches!(error, StrongError::Malformed { .. }), "{error}");
    }
}

/// Limits hold, and the largest that is allowed works.
pub async fn what_is_too_large_is_refused(subject: &Subject) {
    let large = txn(vec![], vec![Op::put("k", vec![7; VALUE_LEN_MAX + 1])]);
    let error = subject.engine.txn(large).await.unwrap_err();
    assert!(matches!(error, StrongError::TooLarge { .. }), "{error}");
    let fits = txn(vec![], vec![Op::put("k", vec![7; VALUE_LEN_MAX])]);
    committed(subject, fits).await;
    assert_eq!(get(subject, "k").await.unwrap().value.len(), VALUE_LEN_MAX);
    let error = subject.engine.get("").await.unwrap_err();
    assert!(matches!(error, StrongError::Malformed { .. }), "{error}");
}

/// Values are bytes, keys any text.
pub async fn bytes_and_odd_keys_survive(subject: &Subject) {
    let all: BTreeMap<String, Vec<u8>> = [
        ("spaces and % & = ? # +", vec![0, 255, 128]),
        ("../ü/日本\u{7f}", vec![]),
        ("\u{10ffff}", b"\r\n".to_vec()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let ops = all.iter().map(|(key, value)| Op::put(key, value.clone())).collect();
    committed(subject, txn(vec![], ops)).await;
    for (key, value) in &all {
        assert_eq!(get(subject, key).await.unwrap().value, *value);
    }
    let keys: Vec<_> =
        page(subject, "", None, 10).await.items.into_iter().map(|r| r.key).collect();
    assert_eq!(keys, all.into_keys().collect::<Vec<_>>());
}
