//! Who wrote, in which order, and what a state has seen (S6, F40-F42).
//!
//! A [`Dot`] names one mutation. A [`VersionVector`] says "everything of each actor up to here",
//! a [`DottedVersion`] says the same where pieces may be missing, an [`Hlc`] puts writes of
//! different actors into one order that follows causality.

mod actor;
mod dot;
mod dotted_version;
mod hlc;
mod steady;
mod token;
mod version_vector;
pub(crate) mod wire;

pub use actor::{Actor, ActorError, ReplicaId};
pub use dot::Dot;
pub use dotted_version::DottedVersion;
pub use hlc::{AHEAD_MAX, Hlc, HlcClock, TooFarAhead};
pub use steady::{STEP_MIN, STEP_TAKEN_AFTER, SteadyWall};
pub use token::TokenError;
pub use version_vector::VersionVector;

/// How two versions relate (F41).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Causality {
    /// The other has seen everything of this and more.
    Before,
    /// This has seen everything of the other and more.
    After,
    /// Both have seen the same.
    Equal,
    /// Each has seen something that the other has not.
    Concurrent,
}

impl Causality {
    /// From whether this is contained in the other, and the other in this.
    const fn of(within: bool, contains: bool) -> Self {
        match (within, contains) {
            (true, true) => Self::Equal,
            (true, false) => Self::Before,
            (false, true) => Self::After,
            (false, false) => Self::Concurrent,
        }
    }
}

#[cfg(test)]
mod tests;
