//! Who writes: one life of one state node.
//!
//! Not a region: a region has several nodes, and two that write one slot lose increments (F40).
//! Not a node either: a process that lost un-synced writes in a crash would number its next ones
//! the same. The incarnation is durable before anything is written under it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A state node, numbered by its membership record; never given to another.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ReplicaId(u16);

impl ReplicaId {
    /// From its number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A replica and which of its lives. Written `replica.incarnation`, in text formats too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// The state node.
    pub replica: ReplicaId,
    /// Counts the starts of that node; durable before it is used.
    pub incarnation: u32,
}

/// Why a text names no actor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an actor; write the replica and its incarnation as in 3.7")]
pub struct ActorError(String);

impl Actor {
    /// One life of a replica.
    #[must_use]
    pub const fn new(replica: ReplicaId, incarnation: u32) -> Self {
        Self { replica, incarnation }
    }

    /// Whether this is a later life of the same replica.
    #[must_use]
    pub fn succeeds(self, other: Self) -> bool {
        self.replica == other.replica && self.incarnation > other.incarnation
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.replica, self.incarnation)
    }
}

impl FromStr for Actor {
    type Err = ActorError;

    fn from_str(text: &str) -> Result<Self, ActorError> {
        let refuse = || ActorError(text.chars().take(40).collect());
        let (replica, incarnation) = text.split_once('.').ok_or_else(refuse)?;
        let replica = replica.parse().map_err(|_| refuse())?;
        let incarnation = incarnation.parse().map_err(|_| refuse())?;
        let actor = Self::new(ReplicaId(replica), incarnation);
        // One spelling each: they are parts of keys.
        if actor.to_string() == text { Ok(actor) } else { Err(refuse()) }
    }
}

// Two small numbers where bytes count, a text where it must be a key of a JSON object.
impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.replica, self.incarnation).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            let (replica, incarnation) = Deserialize::deserialize(deserializer)?;
            Ok(Self::new(replica, incarnation))
        }
    }
}
