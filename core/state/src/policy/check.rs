//! Policies that cannot hold are refused before any replica follows them.

use std::time::Duration;

use crate::crdt::Kind;
use crate::level::Level;
use crate::policy::{Conflict, Plane, Policies, Policy};

/// Shortest life of a value: clocks may differ by half a second, and a life of less than a few
/// of those would end at random.
const TTL_MIN: Duration = Duration::from_secs(5);

/// Why a policy cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Too many.
    #[error("there are {count} policies, more than the {max} allowed; merge prefixes")]
    TooMany {
        /// How many.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The floor belongs to the other plane.
    #[error(
        "policy {prefix:?}: level strong is the engine's and the other levels are not; set plane and floor alike"
    )]
    FloorOfOtherPlane {
        /// Whose policy.
        prefix: String,
    },
    /// A register that takes writes below quorum is not linearizable.
    #[error("policy {prefix:?}: registers need the floor quorum, this one has {floor}")]
    RegisterBelowQuorum {
        /// Whose policy.
        prefix: String,
        /// Its floor.
        floor: Level,
    },
    /// The strategy does not go with the kind.
    #[error(
        "policy {prefix:?}: this strategy for conflicts does not go with {kind:?}; last-writer-wins needs Lww, siblings and merge need Mv, all other kinds join"
    )]
    ConflictOfOtherKind {
        /// Whose policy.
        prefix: String,
        /// Its kind.
        kind: Kind,
    },
    /// The kind cannot forget, or the life is too short.
    #[error(
        "policy {prefix:?}: a time to live needs a kind that can be deleted and at least {} s",
        TTL_MIN.as_secs()
    )]
    Ttl {
        /// Whose policy.
        prefix: String,
    },
}

/// Whether values of a kind can be deleted.
const fn forgets(kind: Kind) -> bool {
    match kind {
        Kind::OrSet | Kind::Lww | Kind::Mv | Kind::OrMap | Kind::Register => true,
        Kind::GCounter | Kind::PnCounter | Kind::GSet | Kind::Bounded => false,
    }
}

impl Policies {
    /// Whether all of them can hold.
    ///
    /// # Errors
    ///
    /// Names the first that cannot.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.len() > super::POLICIES_MAX {
            return Err(PolicyError::TooMany {
                count: self.len(),
                max: super::POLICIES_MAX,
            });
        }
        self.iter().try_for_each(|(prefix, policy)| check(prefix, policy))
    }
}

fn check(prefix: &str, policy: &Policy) -> Result<(), PolicyError> {
    let prefix = prefix.to_owned();
    let engine = policy.plane == Plane::Engine;
    if engine != (policy.floor == Level::Strong) {
        return Err(PolicyError::FloorOfOtherPlane { prefix });
    }
    if engine {
        return Ok(());
    }
    if policy.kind == Kind::Register && policy.floor != Level::Quorum {
        return Err(PolicyError::RegisterBelowQuorum { prefix, floor: policy.floor });
    }
    let fits = match policy.conflict {
        Conflict::LastWriterWins => policy.kind == Kind::Lww,
        Conflict::Siblings | Conflict::Merge(_) => policy.kind == Kind::Mv,
        Conflict::Join => !matches!(policy.kind, Kind::Lww | Kind::Mv),
    };
    if !fits {
        return Err(PolicyError::ConflictOfOtherKind { prefix, kind: policy.kind });
    }
    if policy.ttl.is_some_and(|ttl| ttl < TTL_MIN || !forgets(policy.kind)) {
        return Err(PolicyError::Ttl { prefix });
    }
    Ok(())
}
