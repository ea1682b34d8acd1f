//! When leases end, by the monotonic clock.
//!
//! Which leases there are is on disk; when each ends is only in memory, because a deadline of
//! a monotonic clock means nothing after a restart. A lease whose deadline has passed cannot
//! be kept alive any more, even while its end is not yet written: whoever holds it and whoever
//! waits for it must never both be right. Both adapters keep time by this: etcd lengthens its
//! leases when its leader changes, and counts from when it heard, not from when it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{LEASE_TTL_MAX, LeaseId, StrongError};
use crate::clock::Clock;

/// Refuses lives that no lease may have.
pub(super) fn check_ttl(ttl: Duration) -> Result<(), StrongError> {
    if ttl.is_zero() || ttl > LEASE_TTL_MAX {
        let reason = format!(
            "a lease lives more than 0 s and at most {LEASE_TTL_MAX:?}, not {ttl:?}"
        );
        return Err(StrongError::Malformed { reason });
    }
    Ok(())
}

#[derive(Debug)]
pub(super) struct LeaseClock {
    clock: Arc<dyn Clock>,
    leases: Mutex<BTreeMap<LeaseId, Lease>>,
    changed: Notify,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Duration,
}

impl LeaseClock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, leases: Mutex::default(), changed: Notify::new() }
    }

    /// A lease begins, or begins anew after a restart.
    pub(super) fn begin(&self, id: LeaseId, ttl: Duration) {
        self.begin_at(id, ttl, self.clock.monotonic());
    }

    /// A lease began at a moment that has passed: when it was asked for.
    pub(super) fn begin_at(&self, id: LeaseId, ttl: Duration, moment: Duration) {
        let deadline = moment.saturating_add(ttl);
        self.lock().insert(id, Lease { ttl, deadline });
        self.changed.notify_one();
    }

    /// A lease that is on disk; one whose deadline is known keeps it.
    pub(super) fn restore(&self, id: LeaseId, ttl: Duration) {
        let known = self.lock().contains_key(&id);
        if !known {
            self.begin(id, ttl);
        }
    }

    pub(super) fn end(&self, id: LeaseId) {
        self.lock().remove(&id);
    }

    pub(super) fn keep_alive(&self, id: LeaseId) -> Option<Duration> {
        self.keep_alive_at(id, self.clock.monotonic())
    }

    /// Keeps a lease alive from a moment that has passed: when that was asked for. Nothing when
    /// the lease is not known or was over before now.
    pub(super) fn keep_alive_at(
        &self,
        id: LeaseId,
        moment: Duration,
    ) -> Option<Duration> {
        let mut leases = self.lock();
        let now = self.clock.monotonic();
        let lease = leases.get_mut(&id).filter(|lease| lease.deadline > now)?;
        lease.deadline = moment.saturating_add(lease.ttl);
        Some(lease.ttl)
    }

    /// Whether this lease's time is kept here.
    pub(super) fn knows(&self, id: LeaseId) -> bool {
        self.lock().contains_key(&id)
    }

    /// Whether a lease's time is up though its end is not written yet.
    pub(super) fn is_over(&self, id: LeaseId) -> bool {
        let now = self.clock.monotonic();
        self.lock().get(&id).is_some_and(|lease| lease.deadline <= now)
    }

    /// Waits until some leases are over, and names them.
    pub(super) async fn next_expired(&self) -> Vec<LeaseId> {
        loop {
            let changed = self.changed.notified();
            let (expired, next) = self.look();
            if !expired.is_empty() {
                return expired;
            }
            let sleep = async {
                match next {
                    Some(deadline) => self.clock.sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = sleep => {}
            }
        }
    }

    /// The leases that are over, and the next deadline.
    fn look(&self) -> (Vec<LeaseId>, Option<Duration>) {
        let now = self.clock.monotonic();
        let leases = self.lock();
        let expired = leases.iter().filter(|(_, lease)| lease.deadline <= now);
        let expired = expired.map(|(id, _)| *id).collect();
        (expired, leases.values().map(|lease| lease.deadline).min())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
