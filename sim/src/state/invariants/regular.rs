//! ST-5: a read at level quorum shows every update that was acknowledged at that level before it
//! began, wherever, and never less than an earlier such read.
//!
//! The second part is judged on the kinds whose readings only grow, where less is plain to see.

use std::collections::BTreeMap;

use dwcp_state::{Kind, Level};

use super::super::history::Operation;
use super::super::keys::Seen;
use super::reads::Case;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-5",
    statement: "a read at level quorum shows what was acknowledged or shown at that level before it began",
};

pub(super) fn promises(case: &Case<'_>, update: &Operation) -> bool {
    case.told.level == Level::Quorum
        && case
            .acknowledged_before(update)
            .is_some_and(|told| told.level == Level::Quorum)
}

/// What reads at level quorum have shown.
#[derive(Debug, Default)]
pub(super) struct Regular {
    /// Since which step an element of a key has been shown.
    elements: BTreeMap<(usize, u64), u64>,
    /// The sums that were shown of a key, each with its step, in that order.
    sums: BTreeMap<usize, Vec<(u64, i128)>>,
}

impl Regular {
    pub(super) fn check(&mut self, case: &Case<'_>) -> Found {
        let key = case.read.key;
        let grows = matches!(case.world.keys[key].kind, Kind::GCounter | Kind::GSet);
        if case.told.level != Level::Quorum || !grows {
            return None;
        }
        let (begun, ended) = (case.read.begun.step, case.told.at.step);
        let found = match case.told.seen.as_ref()? {
            Seen::Values(values) => {
                let shown = self.elements.range((key, 0)..=(key, u64::MAX));
                let missing = shown
                    .filter(|((_, element), since)| {
                        **since < begun && !values.contains(element)
                    })
                    .map(|((_, element), _)| format!("{element} was shown before"))
                    .next();
                for element in values {
                    self.elements.entry((key, *element)).or_insert(ended);
                }
                missing
            }
            Seen::Sum(sum) => {
                let sums = self.sums.entry(key).or_default();
                let before = sums.iter().filter(|(step, _)| *step < begun);
                let highest = before.map(|(_, sum)| *sum).max().unwrap_or(0);
                sums.push((ended, *sum));
                (*sum < highest).then(|| format!("{sum} after {highest}"))
            }
            Seen::Rights { .. } => None,
        };
        let name = &case.world.keys[key].name;
        let number = case.read.number;
        found.map(|it| (STATEMENT, format!("operation {number} reads {name}: {it}")))
    }
}
