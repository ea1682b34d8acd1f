//! What the federation's operator decides about placement: weights, pre-emption, N-1.

use dwcp_types::{Bps, Strategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The operator's choices.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The strategy of requests that name none (C14, C15).
    pub strategy: Strategy,
    /// Whether standard VMs may be pre-empted (C15 `EnablePreemption`, F32). Preemptible ones
    /// always may, protected ones never.
    pub preemption: bool,
    /// What to do with a protected VM whose placement would break N-1 (F12).
    pub n_minus_1: Admission,
}

/// What to do with a protected VM whose placement would leave some protected VM without a
/// legal place were its region to die (F12).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Do not look.
    Off,
    /// Place it and say so.
    #[default]
    Warn,
    /// Refuse it.
    Refuse,
}

/// A factor's index in [`Weights`] and in everything that is ordered like it.
pub(crate) const LATENCY: usize = 0;
pub(crate) const COST: usize = 1;
pub(crate) const CAPACITY: usize = 2;
pub(crate) const HEALTH: usize = 3;
pub(crate) const PRIORITY: usize = 4;
/// How many factors there are (C3).
pub(crate) const FACTORS: usize = 5;

/// Every strategy, at the index that its value has.
pub(crate) const STRATEGIES: [Strategy; 4] =
    [Strategy::Hybrid, Strategy::Latency, Strategy::Cost, Strategy::LoadBalanced];

/// The weights of latency, cost, capacity, health and region priority, in basis points; they
/// add up to 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights(pub(crate) [u16; FACTORS]);

impl Weights {
    /// The weight set of a strategy. Hybrid is C3; the others are 0.7 of their own factor and
    /// 0.3 of the hybrid score (DETAILS 2.1, C15).
    #[must_use]
    pub const fn of(strategy: Strategy) -> Self {
        Self(match strategy {
            Strategy::Hybrid => [3_000, 2_500, 2_000, 1_500, 1_000],
            Strategy::Latency => [7_900, 750, 600, 450, 300],
            Strategy::Cost => [900, 7_750, 600, 450, 300],
            Strategy::LoadBalanced => [900, 750, 7_600, 450, 300],
        })
    }

    /// The weights, in the order latency, cost, capacity, health, region priority.
    #[must_use]
    pub fn shares(&self) -> [Bps; FACTORS] {
        self.0.map(|points| Bps::new(points).unwrap_or(Bps::ONE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_set_adds_up_to_the_whole() {
        for (at, strategy) in STRATEGIES.into_iter().enumerate() {
            assert_eq!(strategy as usize, at);
            assert_eq!(
                Weights::of(strategy).0.iter().sum::<u16>(),
                10_000,
                "{strategy:?}"
            );
        }
    }

    #[test]
    fn the_other_sets_are_seven_tenths_of_their_factor_and_three_of_the_hybrid() {
        let hybrid = Weights::of(Strategy::Hybrid).0;
        let sets = [
            (Strategy::Latency, LATENCY),
            (Strategy::Cost, COST),
            (Strategy::LoadBalanced, CAPACITY),
        ];
        for (strategy, own) in sets {
            let mut expected = hybrid.map(|weight| weight * 3 / 10);
            expected[own] += 7_000;
            assert_eq!(Weights::of(strategy).0, expected, "{strategy:?}");
        }
    }

    #[test]
    fn an_unknown_strategy_is_refused() {
        assert!(serde_json::from_str::<Policy>(r#"{"strategy":"ai"}"#).is_err());
    }
}
