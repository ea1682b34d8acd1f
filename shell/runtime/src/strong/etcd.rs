//! The strong engine across machines: an etcd cluster with a member in each voting region.
//!
//! etcd decides and keeps; this is its client. What it adds to etcd's own promises: operation
//! ids, so that a lost answer can be asked for again ([`transact`]); pages bounded in bytes
//! ([`pages`]); watches that outlive their member ([`watch`]); leases that end by the clock of
//! whoever holds them, also when etcd would let them live on; and an exact word on whether a
//! write that failed may have been done ([`grpc`]).
//!
//! Order kept: a lease's time runs from before it was asked for, so its holder never believes
//! in it longer than etcd does. Reads are linearizable always; a member without a majority
//! refuses them, and callers show their mirror.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;

pub mod command;
mod grpc;
mod keys;
mod member;
mod members;
mod ops;
mod pages;
mod proto;
mod raw;
mod survey;
mod transact;
mod version;
mod watch;

use grpc::Failure;
use keys::KeySpace;
use member::describe;
use members::{Again, Answer, Members};
use ops::OpLease;
use proto::{
    GrantCall, KeepAliveCall, LeaseGrantRequest, LeaseRequest, RangeCall, RangeRequest,
    RevokeCall, signed, unsigned,
};

use super::leases::{LeaseClock, check_ttl};
use super::txn::check_key;
use super::{
    Answer as Promise, KEY_LEN_MAX, KeyValue, LeaseId, Page, Range, StrongEngine,
    StrongError, Txn, TxnOutcome, Watch, bound,
};
use crate::clock::Clock;

pub use member::MemberAddress;
pub use raw::Raw;
pub use survey::{MemberState, MoveError, Said};

/// Why an engine cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    /// There is nobody to ask.
    #[error("no etcd member is given; name at least one")]
    NoMembers,
    /// The namespace is no plain word.
    #[error(
        "the namespace {0:?} is not 1 to 63 letters, digits and `-`; keys of etcd begin with it"
    )]
    Namespace(String),
}

/// A strong engine on an etcd cluster.
pub struct EtcdEngine {
    shared: Arc<Shared>,
    expiry: JoinHandle<()>,
}

/// What calls, watches and the expiry of leases share.
struct Shared {
    members: Members,
    keys: KeySpace,
    ops: OpLease,
    leases: Arc<LeaseClock>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for EtcdEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdEngine")
            .field("members", &self.shared.members)
            .finish_non_exhaustive()
    }
}

impl EtcdEngine {
    /// An engine on these members, the nearest first. Connects when it is first asked. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When there are no members, or the namespace is no plain word.
    pub fn new(
        members: Vec<MemberAddress>,
        namespace: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EtcdError> {
        if members.is_empty() {
            return Err(EtcdError::NoMembers);
        }
        let keys = KeySpace::new(namespace)
            .ok_or_else(|| EtcdError::Namespace(namespace.chars().take(64).collect()))?;
        let leases = Arc::new(LeaseClock::new(Arc::clone(&clock)));
        let shared = Arc::new(Shared {
            members: Members::new(members),
            keys,
            ops: OpLease::new(Arc::clone(&clock)),
            leases: Arc::clone(&leases),
            clock: Arc::clone(&clock),
        });
        let expiry = tokio::spawn(expire(Arc::downgrade(&shared), leases, clock));
        Ok(Self { shared, expiry })
    }

    /// What each member says of itself, in the order in which they were given.
    pub async fn survey(&self) -> Vec<MemberState> {
        survey::survey(&self.shared.members).await
    }

    /// Makes another member the leader; asks the one that leads now.
    ///
    /// # Errors
    ///
    /// When nobody leads, or the target cannot take over.
    pub async fn move_leader(&self, target: &MemberState) -> Result<(), MoveError> {
        survey::move_leader(&self.shared.members, target).await
    }
}

impl Drop for EtcdEngine {
    fn drop(&mut self) {
        self.expiry.abort();
    }
}

impl StrongEngine for EtcdEngine {
    fn txn(&self, txn: Txn) -> Promise<'_, TxnOutcome> {
        Box::pin(async move {
            txn.check()?;
            transact::transact(&self.shared, txn).await
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> Promise<'a, Option<KeyValue>> {
        Box::pin(async move {
            check_key(key)?;
            let key = self.shared.keys.record(key);
            let request = RangeRequest { key, ..RangeRequest::default() };
            let call = self.shared.members.call::<RangeCall>(&request, Again::Harmless);
            let response = call.await.result.map_err(|failure| read_error(&failure))?;
            let found = response.kvs.into_iter().next();
            found.map(|kv| self.shared.keys.parse(kv)).transpose()
        })
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Promise<'a, Page> {
        Box::pin(async move {
            bound("a prefix's size in bytes", range.prefix.len(), KEY_LEN_MAX)?;
            bound("a key's size in bytes", range.after.map_or(0, str::len), KEY_LEN_MAX)?;
            pages::read(&self.shared, &range).await
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, from_revision: u64) -> Promise<'a, Watch> {
        Box::pin(async move {
            bound("a prefix's size in bytes", prefix.len(), KEY_LEN_MAX)?;
            watch::watch(Arc::clone(&self.shared), prefix, from_revision).await
        })
    }

    fn lease_grant(&self, ttl: Duration) -> Promise<'_, LeaseId> {
        Box::pin(async move {
            check_ttl(ttl)?;
            let asked = self.shared.clock.monotonic();
            let request = LeaseGrantRequest { ttl: transact::seconds(ttl) };
            // A lease whose grant got lost ends by itself.
            let call = self.shared.members.call::<GrantCall>(&request, Again::Harmless);
            let Answer { result, lost } = call.await;
            let granted =
                result.map_err(|failure| transact::error(&failure, None, lost))?;
            let lease = LeaseId::new(unsigned(granted.id));
            self.shared.leases.begin_at(lease, ttl, asked);
            Ok(lease)
        })
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> Promise<'_, Duration> {
        Box::pin(self.shared.keep_alive(lease))
    }

    fn lease_revoke(&self, lease: LeaseId) -> Promise<'_, ()> {
        Box::pin(async move {
            let Answer { result, lost } = self.shared.revoke(lease).await;
            match result {
                Ok(()) => Ok(()),
                Err(failure) => Err(transact::error(&failure, None, lost)),
            }
        })
    }
}

impl Shared {
    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StrongError> {
        let gone = StrongError::LeaseNotFound { lease };
        if self.leases.is_over(lease) {
            return Err(gone);
        }
        let asked = self.clock.monotonic();
        let request = LeaseRequest { id: signed(lease.get()) };
        let call = self.members.call::<KeepAliveCall>(&request, Again::Harmless);
        let kept = call.await.result.map_err(|failure| read_error(&failure))?;
        if kept.ttl <= 0 {
            self.leases.end(lease);
            return Err(gone);
        }
        if self.leases.knows(lease) {
            return self.leases.keep_alive_at(lease, asked).ok_or(gone);
        }
        // Of another client, or of a former life of this one: etcd keeps its time.
        Ok(Duration::from_secs(unsigned(kept.ttl)))
    }

    async fn revoke(&self, lease: LeaseId) -> Answer<()> {
        let request = LeaseRequest { id: signed(lease.get()) };
        let answer = self.members.call::<RevokeCall>(&request, Again::Harmless).await;
        let result = match answer.result {
            Ok(_) | Err(Failure::Refused(grpc::Status { code: 5, .. })) => Ok(()),
            Err(failure) => Err(failure),
        };
        if result.is_ok() {
            self.leases.end(lease);
        }
        Answer { result, lost: answer.lost }
    }
}

/// Ends leases whose time is up by the clock of their holder. What etcd cannot be told now is
/// told later; in between it cannot be kept alive, and etcd ends it by itself besides.
async fn expire(shared: Weak<Shared>, leases: Arc<LeaseClock>, clock: Arc<dyn Clock>) {
    /// How long a failed end waits for the next try.
    const RETRY_PAUSE: Duration = Duration::from_secs(1);
    loop {
        let expired = leases.next_expired().await;
        let Some(shared) = shared.upgrade() else { return };
        let mut failed = None;
        for lease in expired {
            if let Err(failure) = shared.revoke(lease).await.result {
                failed = Some(failure);
            }
        }
        drop(shared);
        if let Some(failure) = failed {
            let reason = describe(&failure);
            tracing::warn!(reason, "expired leases cannot be ended yet");
            clock.sleep_until(clock.monotonic().saturating_add(RETRY_PAUSE)).await;
        }
    }
}

/// A failure of what changes nothing: then nothing is indeterminate.
fn unavailable(failure: &Failure) -> StrongError {
    StrongError::Unavailable { reason: describe(failure) }
}

/// As [`unavailable`]; the name says why.
fn read_error(failure: &Failure) -> StrongError {
    unavailable(failure)
}
