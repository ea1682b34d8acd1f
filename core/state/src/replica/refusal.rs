//! Why a client is refused: each variant is something that it can act on.

use std::fmt;
use std::time::Duration;

use dwcp_types::RegionId;

use crate::clock::ReplicaId;
use crate::crdt::UpdateError;
use crate::level::Level;
use crate::policy::Plane;
use crate::replica::input::OpId;

/// How far a quorum had got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumPhase {
    /// Nothing was done yet.
    Before,
    /// Replicas were asked what they have.
    Gather,
    /// Replicas were asked to store what was found.
    WriteBack,
}

impl fmt::Display for QuorumPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before anything was done",
            Self::Gather => "while asking what they have",
            Self::WriteBack => "while writing back what they had",
        })
    }
}

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This replica serves nobody now.
    #[error("replica {replica} does not serve: {standing}; ask another replica")]
    NotServing {
        /// Which replica.
        replica: ReplicaId,
        /// What it is instead.
        standing: &'static str,
    },
    /// The request is out of range.
    #[error("{what} must be {range}")]
    OutOfRange {
        /// Which part.
        what: &'static str,
        /// What it may be.
        range: &'static str,
    },
    /// No policy says what the key is.
    #[error("no policy covers the key {key:?}; add one for a prefix of it")]
    NoPolicy {
        /// Which key.
        key: String,
    },
    /// The level that was asked for is not served by the plane that the key lives in.
    #[error("{key:?} lives in the plane of {}", place(*.plane))]
    WrongPlane {
        /// Which key.
        key: String,
        /// Where it lives.
        plane: Plane,
    },
    /// Values that join cannot compare and set.
    #[error(
        "compare-and-set of {key:?} needs one order of all writes; use the strong engine"
    )]
    UseStrong {
        /// Which key.
        key: String,
    },
    /// Its policy wants stronger writes.
    #[error("writes of {key:?} need at least level {floor}, {asked} was asked")]
    LevelBelowFloor {
        /// Which key.
        key: String,
        /// What was asked.
        asked: Level,
        /// What is needed.
        floor: Level,
    },
    /// This region may not have the key, or does not hold its slot.
    #[error("this region does not hold {key:?}; ask one of {holders:?}")]
    NotHeld {
        /// Which key.
        key: String,
        /// Who holds it.
        holders: Vec<RegionId>,
    },
    /// The change does not fit the value.
    #[error("{key:?} was not changed: {reason}")]
    Update {
        /// Which key.
        key: String,
        /// Why not.
        reason: UpdateError,
    },
    /// The value would become too large.
    #[error("{key:?} would be {len} bytes, more than the {max} allowed; split it")]
    TooLarge {
        /// Which key.
        key: String,
        /// How many bytes, about.
        len: usize,
        /// How many there may be.
        max: usize,
    },
    /// The operation id was used for something else.
    #[error("operation {op_id:?} was something else; use a new id for another change")]
    OpIdReused {
        /// Which id.
        op_id: OpId,
    },
    /// A bound is reached; nothing was done.
    #[error("{what} are full ({max}); ask again later")]
    Busy {
        /// What is full.
        what: &'static str,
        /// Its bound.
        max: usize,
    },
    /// The disk does not take it.
    #[error(
        "the local store failed: {reason}; what was asked may still be done when it works again: ask again with the same operation id"
    )]
    StoreFailed {
        /// What the store says.
        reason: String,
    },
    /// Too few replicas of this region answer. Nothing was done.
    #[error(
        "{have} of this region's replicas answer, {need} are needed; ask at level eventual, or wait"
    )]
    RegionUnavailable {
        /// How many answer.
        have: usize,
        /// How many are needed.
        need: usize,
    },
    /// The change is made and durable here, and was not seen to reach its level in time. It
    /// will spread; asking again with the same id waits for it.
    #[error(
        "the change is held at level {reached}, {wanted} was not reached in time; ask again with the same operation id"
    )]
    LevelNotReached {
        /// Its id, where it had one.
        op_id: Option<OpId>,
        /// The level it is held at.
        reached: Level,
        /// The level that was asked for.
        wanted: Level,
    },
    /// Too few regions answer. Nothing was done.
    #[error(
        "{reachable} regions of the key answer, {need} are needed ({phase}); wait, or ask at a weaker level"
    )]
    QuorumUnavailable {
        /// How many answer.
        reachable: usize,
        /// How many are needed.
        need: usize,
        /// How far it had got.
        phase: QuorumPhase,
    },
    /// It is not known whether the change reached a majority, or will.
    #[error(
        "it is not known whether the change is held by a majority; ask this region again with the same operation id"
    )]
    Indeterminate {
        /// Its id, where it had one.
        op_id: Option<OpId>,
    },
    /// This replica has not yet what the session has seen, or is older than was allowed.
    #[error(
        "this replica is {actual:?} behind, or has not yet seen what the session saw; ask another region, or wait"
    )]
    TooStale {
        /// How old its answer would be.
        actual: Duration,
    },
}

const fn place(plane: Plane) -> &'static str {
    match plane {
        Plane::Replicated => "replicated values; ask at level quorum or weaker",
        Plane::Engine => "the strong engine; ask the engine",
    }
}

impl Refusal {
    /// Whether asking again later, without changing anything, may be served.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self {
            Self::NotServing { .. }
            | Self::Busy { .. }
            | Self::StoreFailed { .. }
            | Self::RegionUnavailable { .. }
            | Self::LevelNotReached { .. }
            | Self::QuorumUnavailable { .. }
            | Self::Indeterminate { .. }
            | Self::TooStale { .. } => true,
            Self::OutOfRange { .. }
            | Self::NoPolicy { .. }
            | Self::WrongPlane { .. }
            | Self::UseStrong { .. }
            | Self::LevelBelowFloor { .. }
            | Self::NotHeld { .. }
            | Self::Update { .. }
            | Self::TooLarge { .. }
            | Self::OpIdReused { .. } => false,
        }
    }

    /// Whether what was asked may have been done, or may still be.
    #[must_use]
    pub const fn may_be_done(&self) -> bool {
        matches!(
            self,
            Self::StoreFailed { .. }
                | Self::LevelNotReached { .. }
                | Self::Indeterminate { .. }
        )
    }
}
