//! What a caller sees of a value.

use std::collections::BTreeMap;

use super::kind::Kind;
use crate::bytes::Bytes;
use crate::clock::{Actor, DottedVersion};

/// What a value holds, without how it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// `GCounter`: the sum, or the largest number where concurrent writers went beyond it.
    Count(u64),
    /// `PnCounter`: the sum, kept within the numbers there are.
    Balance(i64),
    /// `GSet`, `OrSet`: the elements in order.
    Set(Vec<Bytes>),
    /// `Lww`: the bytes, or nothing where there never were any or they were deleted.
    Latest(Option<Bytes>),
    /// `Mv`: every value that nobody has overwritten knowingly, in order, each once.
    Siblings {
        /// The values; more than one is a conflict.
        values: Vec<Bytes>,
        /// What [`super::Update::Write`] takes, so that it replaces these and no others.
        seen: DottedVersion,
    },
    /// `OrMap`: the fields in order.
    Fields(Vec<FieldReading>),
    /// `Bounded`: what there is and who may use it.
    Bounded(BoundedReading),
    /// `Register`: the greatest that was stored.
    Register {
        /// The number part of its timestamp; 0 where nothing was ever stored.
        lamport: u64,
        /// Who stored it.
        actor: Option<Actor>,
        /// The bytes, or nothing where they were deleted.
        value: Option<Bytes>,
    },
}

/// A field of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldReading {
    /// Its name.
    pub name: Bytes,
    /// Its kind. Two fields of one name and different kinds were made concurrently.
    pub kind: Kind,
    /// What it holds.
    pub reading: Reading,
}

/// What is known here of a bounded counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoundedReading {
    /// All rights that the strong plane made.
    pub minted: u64,
    /// Of those, how many are used.
    pub used: u64,
    /// Who may use how many, as far as is known here. Only what an actor knows of its own
    /// rights is binding.
    pub rights: BTreeMap<Actor, u64>,
}
