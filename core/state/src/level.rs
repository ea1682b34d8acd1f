//! How sure an answer is, from the weakest to the strongest.
//!
//! What each level asks of a write and of a read is the table of `docs/design/state.md`. A
//! level is never weakened on the way: what cannot be had at the level that was asked for is
//! refused, and an answer says at which level it was given (S9-S12, F90, F91).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The level of a read or a write, in rising order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// What this replica has; a write is durable here.
    Eventual,
    /// What a majority of this region's replicas has; a write is durable at them.
    Local,
    /// What a majority of the key's regions has; a write is durable in them.
    Quorum,
    /// What the strong engine has. Never served by the plane of replicated values.
    Strong,
}

impl Level {
    /// All of them, in rising order.
    pub const ALL: [Self; 4] = [Self::Eventual, Self::Local, Self::Quorum, Self::Strong];

    /// Its name as people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eventual => "eventual",
            Self::Local => "local",
            Self::Quorum => "quorum",
            Self::Strong => "strong",
        }
    }

    /// The wider of two: what a write at one of them and a read at the other need.
    #[must_use]
    pub fn or_stronger(self, floor: Self) -> Self {
        self.max(floor)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
