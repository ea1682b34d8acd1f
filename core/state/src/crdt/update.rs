//! What can be asked of a value, and by whom.

use super::bounded::MintId;
use super::kind::Kind;
use crate::bytes::Bytes;
use crate::clock::{Actor, Dot, DottedVersion, Hlc};

/// Who writes, as what number of its mutations, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// This life of this replica.
    pub actor: Actor,
    /// The number this mutation gets in the replica's log. Each mutation has its own.
    pub seq: u64,
    /// From the replica's clock, later than all that it gave before.
    pub stamp: Hlc,
}

impl Writer {
    /// The name of this mutation.
    #[must_use]
    pub const fn dot(&self) -> Dot {
        Dot::new(self.actor, self.seq)
    }
}

/// A change that a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// `GCounter`: counts this many more.
    Increment(u64),
    /// `PnCounter`: adds, or subtracts what is negative.
    Add(i64),
    /// `GSet`, `OrSet`: puts an element in.
    Insert(Bytes),
    /// `OrSet`: takes an element out, as far as its insertions were seen here.
    Remove(Bytes),
    /// `Lww`: replaces the bytes.
    Set(Bytes),
    /// `Mv`: replaces what the caller saw; with nothing, deletes it.
    Write {
        /// The new bytes.
        value: Option<Bytes>,
        /// What came with the reading that the caller decided on.
        seen: DottedVersion,
    },
    /// `OrMap`: changes a field, which comes into being by it.
    Field {
        /// Its name.
        name: Bytes,
        /// Its kind; a field of the same name and another kind is another field.
        kind: Kind,
        /// The change.
        update: Box<Self>,
    },
    /// `OrMap`: takes out every field of this name, as far as its changes were seen here.
    RemoveField(Bytes),
    /// `Bounded`: new rights. Only by what the strong plane decided (F38).
    Mint {
        /// The operation in the strong plane; the same one counts once.
        id: MintId,
        /// Who gets them.
        to: Actor,
        /// How many.
        amount: u64,
    },
    /// `Bounded`: uses rights of the writer.
    Spend(u64),
    /// `Bounded`: gives back what the writer, or an earlier life of its replica, has used.
    Release {
        /// Who used them.
        by: Actor,
        /// How many.
        amount: u64,
    },
    /// `Bounded`: gives rights of the writer to another.
    Transfer {
        /// Who gets them.
        to: Actor,
        /// How many.
        amount: u64,
    },
    /// `Bounded`: takes over all rights of an earlier life of the writer's replica.
    Inherit {
        /// That earlier life.
        from: Actor,
    },
    /// `Register`: stores under a timestamp that a majority allowed; with nothing, deletes.
    Store {
        /// The number part of the timestamp; the writer's actor is the other part.
        lamport: u64,
        /// The new bytes.
        value: Option<Bytes>,
    },
    /// Every kind that can forget: forgets what was seen here.
    Delete,
}

impl Update {
    /// What it is called in messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Increment(_) => "increment",
            Self::Add(_) => "add",
            Self::Insert(_) => "insert",
            Self::Remove(_) => "remove",
            Self::Set(_) => "set",
            Self::Write { .. } => "write",
            Self::Field { .. } => "field",
            Self::RemoveField(_) => "remove_field",
            Self::Mint { .. } => "mint",
            Self::Spend(_) => "spend",
            Self::Release { .. } => "release",
            Self::Transfer { .. } => "transfer",
            Self::Inherit { .. } => "inherit",
            Self::Store { .. } => "store",
            Self::Delete => "delete",
        }
    }
}
