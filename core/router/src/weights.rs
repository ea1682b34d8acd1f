//! The five algorithms as weights of one chain (R3 to R7).
//!
//! The source says "0.70 + other 0.30"; what the other is, the guide says (DETAILS 2.3, F54).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many factors there are.
pub const FACTORS: usize = 6;

/// A factor of a region's score, each 0 to 10,000, more is better, on a fixed scale.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// 0 ms is everything, 400 ms and more nothing; over the longest round trip of IBM Cloud's
    /// table, 369 ms.
    Latency,
    /// Free is everything; the reference prices and more nothing.
    Cost,
    /// The share that is idle.
    Load,
    /// The bandwidth that is left; 10 Gbit/s, the source's large endpoint, is everything.
    Capacity,
    /// The health score.
    Health,
    /// Next door is everything, the other side of the earth nothing.
    Distance,
}

impl Factor {
    /// Every factor, in the order of weights.
    pub const ALL: [Self; FACTORS] = [
        Self::Latency,
        Self::Cost,
        Self::Load,
        Self::Capacity,
        Self::Health,
        Self::Distance,
    ];
}

/// How much each factor counts, in basis points, in the order of [`Factor::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Weights(pub [u16; FACTORS]);

impl Weights {
    /// Whether they add up to 10,000.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.iter().map(|weight| u32::from(*weight)).sum::<u32>() == 10_000
    }
}

/// The named sets of weights.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// R3: gaming, video, real-time interfaces.
    Latency,
    /// R4: batch, analytics.
    Cost,
    /// R5: microservices, many tenants.
    Load,
    /// R6: content, and whatever must be near. Clients of whom no place is known are routed by
    /// latency (DETAILS 2.3).
    Geo,
    /// R7: the recommended one.
    #[default]
    Hybrid,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] =
        [Self::Latency, Self::Cost, Self::Load, Self::Geo, Self::Hybrid];

    /// Its weights.
    #[must_use]
    pub const fn weights(self) -> Weights {
        Weights(match self {
            Self::Latency => [7_000, 0, 0, 1_000, 2_000, 0],
            Self::Cost => [1_000, 7_000, 0, 2_000, 0, 0],
            Self::Load => [0, 0, 7_000, 2_000, 1_000, 0],
            Self::Geo => [0, 0, 0, 0, 0, 10_000],
            Self::Hybrid => [4_000, 3_000, 3_000, 0, 0, 0],
        })
    }

    /// Its word in files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Cost => "cost",
            Self::Load => "load",
            Self::Geo => "geo",
            Self::Hybrid => "hybrid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_whole_and_its_own_factor_rules() {
        for algorithm in Algorithm::ALL {
            assert!(algorithm.weights().is_whole(), "{algorithm:?}");
        }
        let of =
            |algorithm: Algorithm, factor: Factor| algorithm.weights().0[factor as usize];
        assert_eq!(of(Algorithm::Latency, Factor::Latency), 7_000);
        assert_eq!(of(Algorithm::Cost, Factor::Cost), 7_000);
        assert_eq!(of(Algorithm::Load, Factor::Load), 7_000);
        assert_eq!(of(Algorithm::Geo, Factor::Distance), 10_000);
        for (at, factor) in Factor::ALL.into_iter().enumerate() {
            assert_eq!(factor as usize, at);
        }
    }
}
