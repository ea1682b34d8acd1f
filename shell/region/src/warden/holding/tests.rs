//! A lease whose records take long to read.

use std::collections::BTreeSet;

use dwcp_controller::lease::LEASES_PREFIX;
use dwcp_controller::liveness::{Policy, Timing};
use dwcp_runtime::clock::SystemClock;
use dwcp_runtime::strong::{
    Answer, EmbeddedEngine, Event, LeaseId, Page, Range, Watch as EngineWatch,
};
use tokio::sync::Semaphore;

use super::*;
use crate::mirror::Mirror;
use crate::warden::Warden;

/// An engine that gives no records of VMs without a permit.
#[derive(Debug)]
struct Slow {
    engine: EmbeddedEngine,
    permits: Semaphore,
}

impl StrongEngine for Slow {
    fn txn(&self, txn: Txn) -> Answer<'_, TxnOutcome> {
        self.engine.txn(txn)
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<KeyValue>> {
        self.engine.get(key)
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Page> {
        Box::pin(async move {
            if range.prefix == VMS_PREFIX {
                self.permits.acquire().await.unwrap().forget();
            }
            self.engine.range(range).await
        })
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from_revision: u64,
    ) -> Answer<'a, EngineWatch> {
        self.engine.watch(prefix, from_revision)
    }

    fn lease_grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        self.engine.lease_grant(ttl)
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> Answer<'_, Duration> {
        self.engine.lease_keep_alive(lease)
    }

    fn lease_revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.engine.lease_revoke(lease)
    }
}

fn region() -> RegionId {
    RegionId::new("eu-west-1").unwrap()
}

fn tenure(engine: Arc<Slow>) -> Tenure {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let ttl = Duration::from_millis(400);
    let terms = Terms::new(ttl, Duration::from_millis(100)).unwrap();
    let mirror = Mirror::new(Arc::clone(&clock));
    Tenure::new(region(), terms, (engine, mirror), BTreeMap::new(), clock)
}

fn slow(folder: &tempfile::TempDir, permits: usize) -> Arc<Slow> {
    let clock = Arc::new(SystemClock::new());
    let engine = EmbeddedEngine::open(&folder.path().join("e.redb"), clock).unwrap();
    Arc::new(Slow { engine, permits: Semaphore::new(permits) })
}

#[tokio::test]
async fn a_lease_is_renewed_while_all_records_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let engine = slow(&folder, 0);
    let mut watch = engine.watch(LEASES_PREFIX, 1).await.unwrap();
    let tenure = tenure(Arc::clone(&engine));
    let warden = Warden {
        region: region(),
        regions: BTreeSet::from([region()]),
        timing: Timing { interval: Duration::from_millis(20), misses: 4 },
        clock: Arc::clone(&tenure.clock),
        tenure,
        policy: Policy {
            enabled: true,
            automatic: false,
            spread: false,
            needs_approval: false,
            min_healthy: 0,
        },
        reach: BTreeMap::new(),
        peers: BTreeMap::new(),
        wanted: Arc::default(),
        written: Arc::default(),
        shown: tokio::sync::watch::channel(Arc::default()).0,
    };
    let warden = tokio::spawn(warden.run());
    let mut renewals = 0;
    while renewals < 3 {
        let batch = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
        let batch = batch.expect("it is renewed").unwrap().unwrap();
        for event in batch.events {
            let Event::Put(kv) = event else { panic!("the lease is deleted") };
            let LeaseRecord {
                term: 1, state: LeaseState::Held { renewals: count }, ..
            } = read(&kv).unwrap()
            else {
                panic!("another term: {kv:?}")
            };
            renewals = count;
        }
    }
    warden.abort();
}

#[tokio::test]
async fn only_what_was_read_after_the_term_began_counts_and_a_renewal_does_not_lose_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenure = tenure(slow(&folder, 2));
    let of_term = |number| Renewed {
        term: Some(Term { number, records: None }),
        asked_at: None,
        readings: Readings::default(),
    };
    assert!(tenure.reading().is_none(), "there is no term");
    tenure.settle(of_term(1));
    let early = tenure.reading().unwrap().await;
    tenure.settle(of_term(2));
    assert!(!tenure.take(early), "it is older than the term");
    let read = tenure.reading().unwrap().await;
    assert!(tenure.take(read));
    // It was begun before the records were there.
    tenure.settle(of_term(2));
    assert!(tenure.reading().is_none(), "they are there");
    tenure.settle(of_term(3));
    assert!(tenure.reading().is_some());
}
