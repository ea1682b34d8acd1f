//! The name of one mutation.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::actor::Actor;

/// An actor's mutation number `seq`, counted from 1 over everything that the actor writes.
///
/// The same numbers name mutations in the log and inside values. Rejected: counting within each
/// value. A value that was emptied and collected would begin again at 1, and a replica that had
/// not collected it yet would take the new write for one that was removed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Dot {
    /// Who wrote.
    pub actor: Actor,
    /// Which of its mutations; 0 stands for none.
    pub seq: u64,
}

impl Dot {
    /// The mutation `seq` of `actor`.
    #[must_use]
    pub const fn new(actor: Actor, seq: u64) -> Self {
        Self { actor, seq }
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.seq)
    }
}
