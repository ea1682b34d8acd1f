//! The suite that every adapter passes, unchanged, on one member.

use std::sync::Arc;

use dwcp_runtime::clock::ManualClock;
use dwcp_runtime::strong::conformance::Subject;
use dwcp_testbed::EtcdCluster;
use dwcp_types::Timestamp;

async fn subject() -> Option<Subject> {
    let cluster = EtcdCluster::start(1).await?;
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let shared: Arc<ManualClock> = Arc::clone(&clock);
    let engine = Arc::new(cluster.engine(&[0], shared));
    Some(Subject { engine, clock, keep: Box::new(cluster) })
}

dwcp_runtime::strong_conformance!(subject);
