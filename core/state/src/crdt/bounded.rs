//! A counter of rights that cannot be overspent (F38).

use std::fmt;

/// An operation of the strong plane that minted rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MintId(u128);

impl MintId {
    /// From the operation's number.
    #[must_use]
    pub const fn new(id: u128) -> Self {
        Self(id)
    }

    /// The operation's number.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for MintId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
