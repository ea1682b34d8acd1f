//! What clients and the world saw, judged: pure functions that know the promises of the four
//! levels and nothing of how replicas keep them.
//!
//! An oracle that shares code with what it judges shares its mistakes, so none of these names a
//! type of `core/state`. Updates are numbered, what they do is a [`Change`], and which update
//! may have seen which comes from outside as a [`Sight`].
//!
//! A simulated run knows two bounds for "saw". *Surely*: the replica that took the update had,
//! by its own word, the earlier one. *Possibly*: messages could have carried it there. The truth
//! lies between, so a verdict is given only where both bounds agree, and a replica that claims
//! to have what it does not have is caught.

pub mod counter;
pub mod latest;
pub mod register;
pub mod rights;
pub mod set;

use std::fmt;

/// The number of an update among those of one run.
pub type Number = u32;

/// What an update does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds to a counter, or takes away.
    Add(i64),
    /// Puts an element into a set.
    Insert(u64),
    /// Takes an element out of a set, as far as it is seen.
    Remove(u64),
    /// Takes every element of a field out of a map of sets, as far as it is seen.
    RemoveField(u32),
    /// Writes a value over what is seen; values are unique in a run.
    Write(u64),
    /// Deletes all that is seen.
    Clear,
}

/// Whether an update has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was acknowledged at a level that promises it to this reader.
    Required,
    /// It may have taken effect: still under way, unknown, or not yet promised here.
    Allowed,
}

/// One update of the key that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Its number.
    pub number: Number,
    /// What it does.
    pub change: Change,
    /// Whether it has to show.
    pub standing: Standing,
}

impl Update {
    /// Whether it has to show.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.standing == Standing::Required
    }
}

/// The element of a map of sets that is an element of one of its fields.
#[must_use]
pub const fn in_field(field: u32, element: u32) -> u64 {
    (field as u64) << 32 | element as u64
}

/// Which update may have seen which.
pub trait Sight {
    /// Whether the place that took `later` had `earlier` for sure.
    fn surely(&self, later: Number, earlier: Number) -> bool;
    /// Whether it could have had it.
    fn possibly(&self, later: Number, earlier: Number) -> bool;
}

/// Why no set of updates that contains the required and only allowed ones explains what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unexplained {
    /// Something that no update brought.
    Phantom(u64),
    /// Something that is promised is not there; the update that brought it.
    Missing(Number),
    /// Something that is surely gone is there; the update that took it away.
    BackAgain(u64, Number),
    /// A number that no allowed sum gives.
    Sum {
        /// What was read.
        seen: i128,
        /// The sum of all that has to show.
        required: i128,
        /// What else may be in it.
        allowed: usize,
    },
    /// More than one value where only the latest is kept.
    Several(usize),
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phantom(value) => write!(f, "{value} was never written"),
            Self::Missing(number) => write!(f, "update {number} does not show"),
            Self::BackAgain(value, by) => {
                write!(f, "{value} shows although update {by} took it away")
            }
            Self::Sum { seen, required, allowed } => write!(
                f,
                "{seen} is not {required} and a selection of {allowed} further updates"
            ),
            Self::Several(count) => write!(f, "{count} values show where one may"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! A sight for hand-made cases: pairs `(later, earlier)`, seen for sure or possibly.

    use std::collections::BTreeSet;

    use super::{Change, Number, Sight, Standing, Update};

    #[derive(Debug, Default)]
    pub(crate) struct Pairs {
        pub(crate) sure: BTreeSet<(Number, Number)>,
        pub(crate) possible: BTreeSet<(Number, Number)>,
    }

    impl Pairs {
        pub(crate) fn sure(pairs: &[(Number, Number)]) -> Self {
            let pairs: BTreeSet<_> = pairs.iter().copied().collect();
            Self { sure: pairs.clone(), possible: pairs }
        }
    }

    impl Sight for Pairs {
        fn surely(&self, later: Number, earlier: Number) -> bool {
            self.sure.contains(&(later, earlier))
        }

        fn possibly(&self, later: Number, earlier: Number) -> bool {
            self.possible.contains(&(later, earlier))
        }
    }

    pub(crate) fn required(number: Number, change: Change) -> Update {
        Update { number, change, standing: Standing::Required }
    }

    pub(crate) fn allowed(number: Number, change: Change) -> Update {
        Update { number, change, standing: Standing::Allowed }
    }
}
