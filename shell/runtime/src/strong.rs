//! The port of the strong engine: linearizable records, watches and leases.
//!
//! Everything on which two regions must never disagree (who owns a VM, which reservation
//! became which VM) goes through [`StrongEngine`]. Its promises are those of etcd v3, so that
//! nobody above it knows whether [`EmbeddedEngine`] or [`EtcdEngine`] keeps them:
//!
//! - revisions are global and rise by one with every transaction that changes something;
//! - a transaction is atomic and linearizable, and is answered only when it is durable;
//! - a watch sees every event of its prefix, in order, once, or says that it cannot;
//! - a lease that is not kept alive takes its keys with it, by the monotonic clock.
//!
//! Writing to all regions and reading from all (the source's idea of "strong") was rejected:
//! it has no order and stops when one region is down (F36).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod embedded;
pub mod etcd;
mod leases;
mod traced;
mod txn;

pub use embedded::{EmbeddedEngine, OpenError};
pub use etcd::EtcdEngine;
pub use traced::TracedEngine;
pub use txn::{Compare, Op, OpId, OpIdError, Txn, TxnOutcome, may_hold_later};

/// Longest key in bytes. Keys are paths of identifiers of at most 63 bytes.
pub const KEY_LEN_MAX: usize = 512;
/// Longest value in bytes: large enough for a step log, small enough to be read whole.
pub const VALUE_LEN_MAX: usize = 1 << 20;
/// Most operations, and most comparisons, of one transaction: etcd's `--max-txn-ops`.
pub const OPS_MAX: usize = 128;
/// Most bytes of keys and values in one transaction: etcd's `--max-request-bytes`.
pub const TXN_LEN_MAX: usize = 3 << 19;
/// Most records of a page.
pub const PAGE_ITEMS_MAX: usize = 1_000;
/// A page ends when it holds this many bytes, so that it fits one reply.
pub const PAGE_LEN_MAX: usize = 2 << 20;
/// Longest life of a lease. Leases are for liveness, not for storage.
pub const LEASE_TTL_MAX: Duration = Duration::from_hours(24);

/// A future that can cross threads; what makes the port usable as `dyn`.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StrongError>>;

/// Linearizable records, watches and leases.
pub trait StrongEngine: fmt::Debug + Send + Sync + 'static {
    /// Compares, and when every comparison holds, applies all operations as one.
    ///
    /// # Errors
    ///
    /// After [`StrongError::Indeterminate`], asking again with the same `op_id` is safe.
    fn txn(&self, txn: Txn) -> Answer<'_, TxnOutcome>;

    /// The record of one key.
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<KeyValue>>;

    /// The records of a prefix in the order of their keys, a page at a time. Each page is a
    /// snapshot of its own. To follow a prefix: read all pages, then watch from the revision
    /// of the *first* page plus one; applying an event twice does no harm.
    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Page>;

    /// Every event of a prefix from a revision on (inclusive); zero means "from now on".
    ///
    /// # Errors
    ///
    /// [`StrongError::Compacted`] when that revision is no longer remembered: read the pages
    /// again. The watch itself ends with the same error when its reader is too slow.
    fn watch<'a>(&'a self, prefix: &'a str, from_revision: u64) -> Answer<'a, Watch>;

    /// Makes a lease, which lives for `ttl` after its last keep-alive.
    fn lease_grant(&self, ttl: Duration) -> Answer<'_, LeaseId>;

    /// Lets a lease live for its whole TTL again, from now. Answers with that TTL.
    ///
    /// # Errors
    ///
    /// [`StrongError::LeaseNotFound`] when it has expired; it never comes back.
    fn lease_keep_alive(&self, lease: LeaseId) -> Answer<'_, Duration>;

    /// Ends a lease and deletes its keys. Ending one that is gone is no error.
    fn lease_revoke(&self, lease: LeaseId) -> Answer<'_, ()>;

    /// Completes when this process can do nothing more with the engine, and says why; it should
    /// end then. An engine elsewhere may always come back.
    fn ended(&self) -> BoxFuture<'static, String> {
        Box::pin(std::future::pending())
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
    /// The revision at which the key came to be.
    pub create_revision: u64,
    /// The revision of its last change.
    pub mod_revision: u64,
    /// The lease it dies with.
    pub lease: Option<LeaseId>,
}

/// Names a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(u64);

impl LeaseId {
    /// From its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which records to read.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a> {
    /// Only keys that begin with this.
    pub prefix: &'a str,
    /// Only keys after this one.
    pub after: Option<&'a str>,
    /// At most this many; [`PAGE_ITEMS_MAX`] at most.
    pub limit: usize,
}

/// Some records of a prefix, as of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The records, by key.
    pub items: Vec<KeyValue>,
    /// The revision they are as of.
    pub revision: u64,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was written.
    Put(KeyValue),
    /// It was deleted, or its lease ended.
    Delete {
        /// The key.
        key: String,
        /// The revision at which it went.
        mod_revision: u64,
    },
}

impl Event {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(record) => &record.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    #[must_use]
    pub const fn mod_revision(&self) -> u64 {
        match self {
            Self::Put(record) => record.mod_revision,
            Self::Delete { mod_revision, .. } => *mod_revision,
        }
    }
}

/// Whole revisions of a watch: all events up to `revision` that were not in an earlier batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// Nothing at or below this revision is left out.
    pub revision: u64,
    /// In order. Empty when the batch only tells of progress.
    pub events: Vec<Event>,
}

/// A running watch; dropping it ends it.
pub struct Watch {
    from_revision: u64,
    batches: BoxStream<'static, Result<EventBatch, StrongError>>,
}

impl Watch {
    /// A watch from its first revision and its batches.
    #[must_use]
    pub fn new(
        from_revision: u64,
        batches: BoxStream<'static, Result<EventBatch, StrongError>>,
    ) -> Self {
        Self { from_revision, batches }
    }

    /// The first revision that it covers.
    #[must_use]
    pub const fn from_revision(&self) -> u64 {
        self.from_revision
    }

    /// Waits for the next batch; nothing after an error, or when the engine is closed. Safe to
    /// abandon midway: no batch is lost.
    pub async fn next(&mut self) -> Option<Result<EventBatch, StrongError>> {
        self.batches.next().await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("from_revision", &self.from_revision).finish()
    }
}

/// Why the engine does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrongError {
    /// It cannot work now. Nothing was done.
    #[error("the strong engine is unavailable: {reason}")]
    Unavailable {
        /// Why, and what to do.
        reason: String,
    },
    /// It may or may not have been done.
    #[error(
        "the outcome is not known: {reason}; asking again with the same operation id is safe"
    )]
    Indeterminate {
        /// What to ask again with; none when the caller gave none.
        op_id: Option<OpId>,
        /// Why.
        reason: String,
    },
    /// The revision is no longer remembered.
    #[error(
        "events before revision {oldest} are no longer remembered; read the records again and watch from there"
    )]
    Compacted {
        /// The first revision that can be watched from.
        oldest: u64,
    },
    /// The lease expired, was revoked, or never was.
    #[error(
        "lease {lease} is not there: it expired, was revoked or never was; get a new one"
    )]
    LeaseNotFound {
        /// Which.
        lease: LeaseId,
    },
    /// A limit is exceeded.
    #[error("{what} is {size}, more than the {max} allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large.
        size: usize,
        /// How large it may be.
        max: usize,
    },
    /// The request contradicts itself.
    #[error("the request is malformed: {reason}")]
    Malformed {
        /// How.
        reason: String,
    },
}

/// Refuses a size above its limit.
pub(crate) const fn bound(
    what: &'static str,
    size: usize,
    max: usize,
) -> Result<(), StrongError> {
    if size > max { Err(StrongError::TooLarge { what, size, max }) } else { Ok(()) }
}
