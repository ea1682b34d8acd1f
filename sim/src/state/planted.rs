//! Rules that are broken on purpose: which invariant sees it, and in which seed.

use dwcp_state::Sabotage;

use super::options::Options;
use super::run::run;
use crate::invariants::Violation;

/// Looks through seeds for the first in which a broken rule is seen.
#[must_use]
pub fn hunt(
    sabotage: Sabotage,
    seeds: impl IntoIterator<Item = u64>,
) -> Option<(u64, Violation)> {
    seeds.into_iter().find_map(|seed| {
        let outcome = run(&Options::from_seed(seed).broken(sabotage), false);
        outcome.violation.map(|violation| (seed, violation))
    })
}
