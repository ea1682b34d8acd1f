//! What a replica is told.

use std::sync::Arc;
use std::time::Duration;

use dwcp_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::ReplicaId;
use crate::crdt::Update;
use crate::frame::Frame;
use crate::frontier::Frontier;
use crate::level::Level;
use crate::membership::Membership;

/// A key: a path such as `acme/vm/web-1/status`.
pub type Key = Arc<str>;

/// Longest key in bytes, that of the strong engine.
pub const KEY_LEN_MAX: usize = 512;
/// Longest time that a request may wait.
pub const WITHIN_MAX: Duration = Duration::from_secs(60);
/// Most keys of one page of a list.
pub const PAGE_ITEMS_MAX: usize = 1_000;

/// The two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For stamps and for the life of values. May jump.
    pub wall: Timestamp,
    /// For deadlines: since any fixed moment. Never goes back.
    pub mono: Duration,
}

/// Names a request between the replica and whoever drives it; never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names one thing that a client wants done, however often it asks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct OpId {
    /// The client, or one life of it.
    pub client: u64,
    /// Its number among what the client asks.
    pub number: u64,
}

/// Numbers what is to be made durable as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// What a session has seen. The same client hands it in with its next request, at whatever
/// region, and is not shown less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub Frontier);

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Under which name the reply comes.
    pub id: RequestId,
    /// What it wants.
    pub op: Op,
    /// At which level; without one, at the floor of the key's policy.
    pub level: Option<Level>,
    /// What its session has seen.
    pub session: Option<Token>,
    /// How long it waits at most; no longer than [`WITHIN_MAX`].
    pub within: Duration,
}

/// What a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The value of a key.
    Get {
        /// Which key.
        key: Key,
        /// How old an answer may be: everything written longer ago must be in it.
        max_staleness: Option<Duration>,
    },
    /// Changes a key.
    Update {
        /// Which key.
        key: Key,
        /// The change.
        update: Update,
        /// Makes asking again safe, at this replica.
        op_id: Option<OpId>,
    },
    /// Changes a key if it is what the client thinks. Always refused: the engine does that.
    CompareAndSet {
        /// Which key.
        key: Key,
    },
    /// The keys under a prefix that this replica has, with their values.
    List {
        /// Which prefix.
        prefix: Key,
        /// After which key, to go on with a page.
        after: Option<Key>,
        /// How many at most; no more than [`PAGE_ITEMS_MAX`].
        limit: usize,
    },
}

impl Op {
    /// The key, or the prefix of a list.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Get { key, .. }
            | Self::Update { key, .. }
            | Self::CompareAndSet { key } => key,
            Self::List { prefix, .. } => prefix,
        }
    }
}

/// What happens to a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client asks.
    Client(Request),
    /// A peer says something.
    Frame {
        /// Who; the transport has made sure of it.
        from: ReplicaId,
        /// What.
        frame: Frame,
    },
    /// A batch is durable, and so are all before it.
    Persisted {
        /// Which.
        batch: BatchId,
    },
    /// A batch is not known to be durable. It is handed out again.
    PersistFailed {
        /// Which.
        batch: BatchId,
        /// Why, for people.
        reason: String,
    },
    /// Frames to a peer may arrive from now on.
    PeerUp(ReplicaId),
    /// Frames to a peer will not arrive.
    PeerDown(ReplicaId),
    /// The membership, as the strong plane has it.
    View(Arc<Membership>),
    /// Time has passed.
    Tick,
    /// Somebody wants every peer compared with now, in turn.
    Reconcile,
}
