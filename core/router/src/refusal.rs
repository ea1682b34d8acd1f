//! Why a region may not answer: the limits that it breaks, as bits.
//!
//! Some are broken never, whatever happens: a request that must stay in the EU goes nowhere
//! rather than elsewhere. The others are broken in a set order when nothing keeps them all and
//! the service would rather have a bad answer than none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A limit that a region breaks. The first eight may be broken in need.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It is neither healthy nor degraded, or nobody knows lately (R8, F6).
    Health,
    /// It is 90 % busy or more (R5).
    Capacity,
    /// Its round trip is over the limit (R9 `MaxLatencyMS`).
    Latency,
    /// There is a limit, and its round trip is not known (F52).
    LatencyUnknown,
    /// It has less bandwidth left than is asked for (R9 `MinBandwidthMbps`).
    Bandwidth,
    /// It loses more packets than is allowed (R9 `MaxPacketLoss`).
    Loss,
    /// It is drained.
    Draining,
    /// It does not speak the service's protocol (R8).
    Protocol,
    /// The service's data may not go there (R6, C8.4).
    Residency,
    /// Encryption is asked for and it has none (R9 `RequireEncryption`).
    Encryption,
    /// The service is not there.
    NotServed,
}

impl Refusal {
    /// Every kind, in the order of their bits.
    pub const ALL: [Self; 11] = [
        Self::Health,
        Self::Capacity,
        Self::Latency,
        Self::LatencyUnknown,
        Self::Bandwidth,
        Self::Loss,
        Self::Draining,
        Self::Protocol,
        Self::Residency,
        Self::Encryption,
        Self::NotServed,
    ];

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of limits that are broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals(u16);

/// How far a region is from keeping every limit; less is better.
pub(crate) const TIERS: [u16; 5] = [
    0,
    Refusal::Latency.bit()
        | Refusal::LatencyUnknown.bit()
        | Refusal::Bandwidth.bit()
        | Refusal::Loss.bit(),
    Refusal::Capacity.bit(),
    Refusal::Draining.bit(),
    Refusal::Health.bit(),
];

impl Refusals {
    /// None.
    pub const NONE: Self = Self(0);
    /// Those that are never broken.
    const HARD: u16 = Refusal::Protocol.bit()
        | Refusal::Residency.bit()
        | Refusal::Encryption.bit()
        | Refusal::NotServed.bit();

    pub(crate) const fn with(self, refusal: Refusal) -> Self {
        Self(self.0 | refusal.bit())
    }

    pub(crate) const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Adds one where it holds, without a branch.
    pub(crate) const fn with_if(self, refusal: Refusal, holds: bool) -> Self {
        Self(self.0 | (refusal.bit() * holds as u16))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it has one.
    #[must_use]
    pub const fn has(self, refusal: Refusal) -> bool {
        self.0 & refusal.bit() != 0
    }

    /// Whether it has one that is never broken.
    #[must_use]
    pub const fn is_hard(self) -> bool {
        self.0 & Self::HARD != 0
    }

    /// Which of [`TIERS`] the worst of those that may be broken is in.
    pub(crate) const fn tier(self) -> u8 {
        if self.0 & TIERS[4] != 0 {
            4
        } else if self.0 & TIERS[3] != 0 {
            3
        } else if self.0 & TIERS[2] != 0 {
            2
        } else if self.0 & TIERS[1] != 0 {
            1
        } else {
            0
        }
    }

    /// Those that may be broken, in a byte.
    pub(crate) fn soft(self) -> u8 {
        u8::try_from(self.0 & 0x7f).unwrap_or(0)
    }

    pub(crate) const fn of_soft(bits: u8) -> Self {
        Self(bits as u16)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Refusal> {
        Refusal::ALL.into_iter().filter(move |refusal| self.has(*refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_hard_or_has_a_tier_and_survives_its_byte() {
        for (at, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, at);
            let alone = Refusals::NONE.with(refusal);
            assert_ne!(alone.is_hard(), alone.tier() > 0, "{refusal:?}");
            if !alone.is_hard() {
                assert_eq!(Refusals::of_soft(alone.soft()), alone);
            }
            assert_eq!(alone.iter().collect::<Vec<_>>(), [refusal]);
        }
        assert_eq!(Refusals::NONE.tier(), 0);
    }

    #[test]
    fn the_worst_limit_decides() {
        let both = Refusals::NONE.with(Refusal::Loss).with(Refusal::Capacity);
        assert_eq!(both.tier(), 2);
        assert_eq!(both.with(Refusal::Health).tier(), 4);
    }
}
