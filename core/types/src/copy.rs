//! The name of one copy of a VM's disk.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Epoch;

/// Names one copy of a VM's disk: the epoch of the owner who began it, and a number that rises
/// with each copy that this owner begins. The pair orders all writers of one VM's replica: a
/// host that keeps it never goes back to an earlier one.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct CopyId {
    /// Which owner began it.
    pub epoch: Epoch,
    /// Its how manieth of this owner, from 1.
    pub number: u32,
}

impl CopyId {
    /// The first of an owner.
    #[must_use]
    pub const fn first_of(epoch: Epoch) -> Self {
        Self { epoch, number: 1 }
    }

    /// The next of the same owner.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }
}

/// `EPOCH-NUMBER`: also a part of file names and of names inside the hypervisor.
impl fmt::Display for CopyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// How a copy is made that follows later: in rounds, each of which is the disk as it was at one
/// moment. A round brings what changed since an earlier one, or everything.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// The round that this one adds to; absent when it brings everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<CopyId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_owner_comes_after_every_copy_of_an_earlier_one() {
        let first = CopyId::first_of(Epoch::new(2));
        assert!(first < first.next());
        let earlier = CopyId { epoch: Epoch::FIRST, number: u32::MAX };
        assert!(earlier < first && earlier.next() < first);
        assert_eq!(first.next().to_string(), "2-2");
    }
}
