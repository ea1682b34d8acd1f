//! The embedded engine: the suite of the port, and what only it must do: survive crashes,
//! restarts and full disks.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dwcp_types::Timestamp;

use super::super::conformance::Subject;
use super::super::{
    Compare, LeaseId, Op, OpId, Range, StrongEngine, StrongError, Txn, TxnOutcome,
};
use super::{EmbeddedEngine, OpenError};
use crate::clock::{ManualClock, SystemClock};
use crate::lock::LockError;

async fn subject() -> Subject {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let shared: Arc<ManualClock> = Arc::clone(&clock);
    let engine = EmbeddedEngine::open(&directory.path().join("e.redb"), shared).unwrap();
    Subject { engine: Arc::new(engine), clock, keep: Box::new(directory) }
}

crate::strong_conformance!(subject);

fn open(directory: &std::path::Path) -> Result<EmbeddedEngine, OpenError> {
    EmbeddedEngine::open(&directory.join("e.redb"), Arc::new(SystemClock::new()))
}

fn put(key: impl Into<String>, value: &str) -> Txn {
    Txn { then: vec![Op::put(key, value.to_owned())], ..Txn::default() }
}

#[tokio::test]
async fn a_second_engine_on_the_same_file_is_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Locked(LockError::Held { holder: Some(_), .. })));
    engine.close().await;
    open(directory.path()).unwrap();
}

#[tokio::test]
async fn records_ids_and_revisions_outlive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let once = Txn { op_id: Some(OpId::new("once").unwrap()), ..put("k", "1") };
    let engine = open(directory.path()).unwrap();
    let outcome = engine.txn(once.clone()).await.unwrap();
    engine.txn(put("k", "2")).await.unwrap();
    engine.close().await;
    let engine = open(directory.path()).unwrap();
    assert_eq!(engine.revision(), 2);
    assert_eq!(engine.txn(once).await.unwrap(), outcome);
    assert_eq!(engine.get("k").await.unwrap().unwrap().value, "2");
    let error = engine.watch("", 1).await.unwrap_err();
    assert_eq!(error, StrongError::Compacted { oldest: 3 });
    engine.watch("", 3).await.unwrap();
}

#[tokio::test]
async fn a_lease_outlives_a_restart_and_gets_its_whole_time_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("e.redb");
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let ttl = Duration::from_secs(6);
    let engine = EmbeddedEngine::open(&path, clock.clone()).unwrap();
    let lease = engine.lease_grant(ttl).await.unwrap();
    let op = Op::Put { key: "k".into(), value: "v".into(), lease: Some(lease) };
    engine.txn(Txn { then: vec![op], ..Txn::default() }).await.unwrap();
    clock.advance(ttl / 2);
    engine.close().await;
    let engine = EmbeddedEngine::open(&path, clock.clone()).unwrap();
    clock.advance(ttl / 2);
    assert_eq!(engine.lease_keep_alive(lease).await.unwrap(), ttl);
    let mut watch = engine.watch("k", 0).await.unwrap();
    clock.advance(ttl);
    watch.next().await.unwrap().unwrap();
    assert!(engine.get("k").await.unwrap().is_none());
    assert_ne!(engine.lease_grant(ttl).await.unwrap(), lease, "numbers are not reused");
}

#[tokio::test]
async fn a_watcher_that_is_too_slow_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).unwrap();
    let mut slow = engine.watch("", 0).await.unwrap();
    // Past the 64 MiB of values that are remembered.
    let big = "x".repeat(1 << 20);
    for i in 0..70 {
        engine.txn(put(format!("k/{}", i % 4), &big)).await.unwrap();
    }
    let error = slow.next().await.unwrap().unwrap_err();
    assert!(matches!(error, StrongError::Compacted { oldest } if oldest > 1), "{error}");
    assert!(slow.next().await.is_none());
    engine.watch("", engine.revision()).await.unwrap();
}

#[tokio::test]
async fn closing_ends_the_watches() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).unwrap();
    let mut watch = engine.watch("", 0).await.unwrap();
    engine.close().await;
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("e.redb"), vec![b'x'; 8_192]).unwrap();
    let error = open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("e.redb") && error.contains(';'), "{error}");
}

/// Where the child of the crash test finds its directory.
const CRASH_DIRECTORY: &str = "DWCP_TEST_CRASH_DIRECTORY";
/// How often the child is killed.
const CRASHES: u64 = 12;

/// Not a test: the process that the crash test kills. Four tasks commit and print each
/// acknowledged number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the crash test as a child process"]
async fn crash_child() {
    let Some(directory) = std::env::var_os(CRASH_DIRECTORY) else { return };
    let engine = Arc::new(open(std::path::Path::new(&directory)).unwrap());
    let mut tasks = Vec::new();
    for task in 0..4 {
        let engine = Arc::clone(&engine);
        tasks.push(tokio::spawn(async move {
            for i in 0_u64.. {
                let key = format!("{}/{task}/{i}", std::process::id());
                let pair = vec![
                    Op::put(format!("a/{key}"), "v"),
                    Op::put(format!("b/{key}"), "v"),
                ];
                engine.txn(Txn { then: pair, ..Txn::default() }).await.unwrap();
                println!("acked {key}");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn after_kill_9_every_acknowledged_transaction_is_there_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut acked: Vec<String> = Vec::new();
    // A small generator: the moments differ, and a failure can be run again.
    let mut seed = 0x9e37_79b9_u64;
    for _ in 0..CRASHES {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let lines = 1 + (seed >> 33) % 40;
        acked.extend(run_and_kill(directory.path(), lines));
    }
    let engine = open(directory.path()).unwrap();
    for key in &acked {
        assert!(
            engine.get(&format!("a/{key}")).await.unwrap().is_some(),
            "{key} is lost"
        );
    }
    let (a, b) = (count(&engine, "a/").await, count(&engine, "b/").await);
    assert_eq!(a, b, "a transaction is torn");
    assert!(a >= acked.len() && engine.revision() == u64::try_from(a).unwrap());
}

/// Starts the child, kills it after so many acknowledgements, and returns all it printed.
fn run_and_kill(directory: &std::path::Path, lines: u64) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "strong::embedded::tests::crash_child",
            "--ignored",
            "--nocapture",
        ])
        .env(CRASH_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acked = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(key) = line.strip_prefix("acked ") {
            acked.push(key.to_owned());
        }
        if u64::try_from(acked.len()).unwrap() == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    // The last line may be cut off by the kill.
    acked.retain(|key| key.split('/').count() == 3);
    assert!(!acked.is_empty(), "the child acknowledged nothing");
    acked.pop();
    acked
}

async fn count(engine: &EmbeddedEngine, prefix: &str) -> usize {
    let (mut count, mut after) = (0, None::<String>);
    loop {
        let range = Range { prefix, after: after.as_deref(), limit: 1_000 };
        let page = engine.range(range).await.unwrap();
        count += page.items.len();
        after = page.items.last().map(|record| record.key.clone());
        if !page.more {
            return count;
        }
    }
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where privileges do not allow it.
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "the test disk stays mounted"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_loses_nothing_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount("24m") else {
        println!("skipped: mounting a small tmpfs needs privileges");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    let engine = open(disk.0.path()).unwrap();
    engine.txn(put("before", "1")).await.unwrap();
    let used = std::fs::metadata(disk.0.path().join("e.redb")).unwrap().len();
    let fill = (24_u64 << 20).saturating_sub(used + (2 << 20));
    std::fs::write(&ballast, vec![1; usize::try_from(fill).unwrap()]).unwrap();

    let value = "x".repeat(256 << 10);
    let mut acked = Vec::new();
    let refused = loop {
        let key = format!("k/{:03}", acked.len());
        match engine.txn(put(key.clone(), &value)).await {
            Ok(_) => acked.push(key),
            Err(error) => break error,
        }
        assert!(acked.len() < 200, "the disk never fills");
    };
    let StrongError::Unavailable { reason } = &refused else { panic!("{refused:?}") };
    assert!(reason.contains("e.redb") && reason.contains("free space"), "{reason}");

    // Reads go on, and everything acknowledged is there.
    for key in &acked {
        assert!(engine.get(key).await.unwrap().is_some(), "{key} is lost");
    }
    let lost = format!("k/{:03}", acked.len());
    assert!(engine.get(&lost).await.unwrap().is_none(), "a refused write is there");
    let before = engine.revision();

    std::fs::remove_file(&ballast).unwrap();
    let outcome = engine.txn(put(lost.clone(), &value)).await.unwrap();
    assert_eq!(outcome, TxnOutcome::Committed { revision: before + 1 });
    engine.close().await;
    let engine = open(disk.0.path()).unwrap();
    assert!(engine.get(&lost).await.unwrap().is_some());
    assert!(engine.get("before").await.unwrap().is_some());
    assert_eq!(count(&engine, "k/").await, acked.len() + 1);
    engine.close().await;
}

#[tokio::test]
async fn a_new_engine_has_revision_zero_and_no_leases() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).unwrap();
    let lease = LeaseId::new(1);
    let error = engine.lease_keep_alive(lease).await.unwrap_err();
    assert_eq!(error, StrongError::LeaseNotFound { lease });
    let txn = Txn { compare: vec![Compare::absent("k")], ..Txn::default() };
    assert_eq!(
        engine.txn(txn).await.unwrap(),
        TxnOutcome::Committed { revision: 0 },
        "a transaction that changes nothing is answered with the current revision"
    );
}
