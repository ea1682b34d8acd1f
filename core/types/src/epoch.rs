//! The two numbers that keep the past from instructing the present.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The first one that is ever given out; the default, zero, means "none yet".
            pub const FIRST: Self = Self(1);

            /// From its number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Its number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

counters! {
    /// Counts the owners of a VM. It rises whenever the VM gets another owner, and an agent
    /// refuses an instruction with a lower one (F4).
    Epoch;
    /// Counts what its owner wants of a VM within one epoch: each change of the desired state
    /// raises it, and an agent refuses a lower one.
    Generation;
}

impl Epoch {
    /// The epoch of a later owner that does not come by a move. A move that was under way would
    /// bring the very next epoch, and its target may wait under that already; no host can take the
    /// one after for the end of that move.
    #[must_use]
    pub const fn past_moves(self) -> Self {
        self.next().next()
    }
}
