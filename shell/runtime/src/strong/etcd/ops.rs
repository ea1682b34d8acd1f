//! How long etcd remembers operation ids.
//!
//! Each id is a key that dies with a lease of this client. The lease is never kept alive, and a
//! new one is taken after [`ROTATE_AFTER`] or [`IDS_MAX`] ids, so ids go a few at a time, by
//! etcd itself, also when the client is gone. Sweeping them by hand was rejected: it needs one
//! sweeper, and a scan of all ids each time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::grpc::Failure;
use super::members::{Again, Members};
use super::proto::{GrantCall, LeaseGrantRequest};
use crate::clock::Clock;

/// Life of a lease. An id lives this long, less the time that its lease was in use before.
const LIFE: Duration = Duration::from_mins(10);
/// How long a lease is used for new ids.
const ROTATE_AFTER: Duration = Duration::from_mins(1);
/// Most ids of one lease: their deletion is one step of etcd, and everybody waits for it.
const IDS_MAX: u32 = 1_024;

/// The lease that new ids die with.
#[derive(Debug)]
pub(super) struct OpLease {
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Current>>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    lease: i64,
    since: Duration,
    ids: u32,
}

impl OpLease {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, current: Mutex::default() }
    }

    /// A lease for one more id. Those who ask while one is being granted wait for it.
    pub(super) async fn next(&self, members: &Members) -> Result<i64, Failure> {
        let mut current = self.current.lock().await;
        let now = self.clock.monotonic();
        if let Some(held) = current.as_mut()
            && held.ids < IDS_MAX
            && now.saturating_sub(held.since) < ROTATE_AFTER
        {
            held.ids += 1;
            return Ok(held.lease);
        }
        let ttl = i64::try_from(LIFE.as_secs()).unwrap_or(i64::MAX);
        // A lease whose grant got lost ends by itself.
        let granted =
            members.call::<GrantCall>(&LeaseGrantRequest { ttl }, Again::Harmless).await;
        let lease = granted.result?.id;
        *current = Some(Current { lease, since: now, ids: 1 });
        Ok(lease)
    }

    /// This lease turned out to be gone.
    pub(super) async fn forget(&self, lease: i64) {
        let mut current = self.current.lock().await;
        if current.is_some_and(|held| held.lease == lease) {
            *current = None;
        }
    }
}
