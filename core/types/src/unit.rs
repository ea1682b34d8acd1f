//! Numbers with their unit in the type (F34), so that MiB are not added to GiB, and prices
//! and scores are integers that compare the same on every machine.

use std::fmt;
use std::ops::{Add, Sub};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a number is out of its unit's range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} is out of range: {what} must be {range}")]
pub struct UnitError {
    value: String,
    what: &'static str,
    range: &'static str,
}

macro_rules! quantities {
    ($($(#[$doc:meta])* $name:ident($inner:ty), $suffix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// None of it.
            pub const ZERO: Self = Self(0);

            /// From the plain number.
            #[must_use]
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The plain number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The sum, or the largest value where it would overflow.
            #[must_use]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The difference, or zero where it would be negative.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// The difference, or nothing where it would be negative.
            #[must_use]
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(rest) => Some(Self(rest)),
                    None => None,
                }
            }
        }

        impl Add for $name {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                self.saturating_add(other)
            }
        }

        impl Sub for $name {
            type Output = Self;

            fn sub(self, other: Self) -> Self {
                self.saturating_sub(other)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{}", $suffix), self.0)
            }
        }
    )*};
}

quantities! {
    /// Memory in mebibytes (C10 "Memory (MB)" is read as MiB).
    Mib(u64), " MiB";
    /// Storage in gibibytes (C10 "Storage (GB)" is read as GiB).
    Gib(u64), " GiB";
    /// Bandwidth in megabits a second.
    Mbps(u64), " Mbit/s";
    /// A latency or round trip in microseconds.
    Micros(u32), " us";
    /// Money in millionths of a US dollar.
    MicroUsd(u64), " uUSD";
}

impl Micros {
    /// From whole milliseconds; stops at the largest value.
    #[must_use]
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis.saturating_mul(1000))
    }
}

/// A share in basis points: hundredths of a percent, 0 to 10,000.
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
#[serde(try_from = "u16", into = "u16")]
#[schemars(with = "u16")]
pub struct Bps(u16);

impl Bps {
    /// None of it.
    pub const ZERO: Self = Self(0);
    /// All of it: 100 %.
    pub const ONE: Self = Self(10_000);

    /// Checks and makes a share.
    ///
    /// # Errors
    ///
    /// When it is over 10,000 (100 %).
    pub fn new(points: u16) -> Result<Self, UnitError> {
        if points > Self::ONE.0 {
            return Err(UnitError {
                value: points.to_string(),
                what: "a share",
                range: "0 to 10000 basis points",
            });
        }
        Ok(Self(points))
    }

    /// `part / whole`, rounded down; nothing over nothing is nothing, and more than the whole
    /// is the whole. Never divides by zero (F23).
    #[must_use]
    pub fn ratio(part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self::ZERO;
        }
        let points = u128::from(part) * 10_000 / u128::from(whole);
        Self(u16::try_from(points.min(10_000)).unwrap_or(10_000))
    }

    /// The basis points.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// What is missing to 100 %.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(10_000 - self.0)
    }
}

impl TryFrom<u16> for Bps {
    type Error = UnitError;

    fn try_from(points: u16) -> Result<Self, UnitError> {
        Self::new(points)
    }
}

impl From<Bps> for u16 {
    fn from(share: Bps) -> Self {
        share.0
    }
}

impl fmt::Display for Bps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}%", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_share_prints_as_percent() {
        assert_eq!(Bps::new(9_992).unwrap().to_string(), "99.92%");
        assert_eq!(Bps::ONE.to_string(), "100.00%");
        assert!(Bps::new(10_001).is_err());
    }

    proptest! {
        #[test]
        fn a_ratio_is_the_exact_quotient_rounded_down(part: u32, whole in 1u32..) {
            let part = part.min(whole);
            let exact = f64::from(part) / f64::from(whole) * 10_000.0;
            let got = f64::from(Bps::ratio(part.into(), whole.into()).get());
            prop_assert!(got <= exact + 1e-6 && exact - got < 1.0 + 1e-6);
        }
    }

    #[test]
    fn a_ratio_of_nothing_is_defined() {
        assert_eq!(Bps::ratio(0, 0), Bps::ZERO);
        assert_eq!(Bps::ratio(5, 0), Bps::ZERO);
        assert_eq!(Bps::ratio(u64::MAX, 1), Bps::ONE);
    }
}
