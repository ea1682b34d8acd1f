//! The kinds of values.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a value is, and so how it joins. The policy of a key's prefix chooses it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A counter that only grows.
    GCounter,
    /// A counter that goes up and down. For statistics: it may go below zero (F38).
    PnCounter,
    /// A set that only grows.
    GSet,
    /// A set whose elements can be removed; an addition the remover had not seen stays (F39).
    OrSet,
    /// The bytes with the latest stamp (F42).
    Lww,
    /// All bytes that nobody has overwritten knowingly.
    Mv,
    /// Named fields, each a value; a change the remover had not seen stays.
    OrMap,
    /// A counter of rights that cannot be overspent (F38).
    Bounded,
    /// Bytes with a timestamp for quorum reads and writes (F37).
    Register,
}

impl Kind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::GCounter,
        Self::PnCounter,
        Self::GSet,
        Self::OrSet,
        Self::Lww,
        Self::Mv,
        Self::OrMap,
        Self::Bounded,
        Self::Register,
    ];

    /// The byte that stands for it in encodings. Never changed, never used again.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::GCounter => 0,
            Self::PnCounter => 1,
            Self::GSet => 2,
            Self::OrSet => 3,
            Self::Lww => 4,
            Self::Mv => 5,
            Self::OrMap => 6,
            Self::Bounded => 7,
            Self::Register => 8,
        }
    }

    /// The kind of a code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The name that policies and messages use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GCounter => "g_counter",
            Self::PnCounter => "pn_counter",
            Self::GSet => "g_set",
            Self::OrSet => "or_set",
            Self::Lww => "lww",
            Self::Mv => "mv",
            Self::OrMap => "or_map",
            Self::Bounded => "bounded",
            Self::Register => "register",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
