//! Whether the value of a counter can be explained: all that is promised, and any selection of
//! what is allowed.
//!
//! A lost acknowledged addition, an addition that counted twice and one that nobody asked for
//! all give a sum that no selection reaches, as long as additions differ in size.

use std::collections::BTreeSet;

use super::{Change, Unexplained, Update};

/// Judges a counter's value.
///
/// # Errors
///
/// [`Unexplained::Sum`] when no selection gives it.
pub fn explain(updates: &[Update], seen: i128) -> Result<(), Unexplained> {
    let amount = |update: &Update| match update.change {
        Change::Add(amount) => i128::from(amount),
        Change::Insert(_) | Change::Remove(_) | Change::Write(_) | Change::Clear => 0,
    };
    let required: i128 =
        updates.iter().filter(|update| update.is_required()).map(amount).sum();
    let allowed: Vec<i128> = updates
        .iter()
        .filter(|update| !update.is_required())
        .map(amount)
        .filter(|amount| *amount != 0)
        .collect();
    if reaches(seen - required, &allowed) {
        return Ok(());
    }
    Err(Unexplained::Sum { seen, required, allowed: allowed.len() })
}

/// Whether a selection of the amounts sums up to `wanted`. Sums are as many as the amounts are
/// large together, so small amounts keep this small.
fn reaches(wanted: i128, amounts: &[i128]) -> bool {
    let up: i128 = amounts.iter().filter(|amount| **amount > 0).sum();
    let down: i128 = amounts.iter().filter(|amount| **amount < 0).sum();
    if wanted == 0 || !(down..=up).contains(&wanted) {
        return wanted == 0;
    }
    let mut sums = BTreeSet::from([0]);
    for amount in amounts {
        let raised: Vec<i128> = sums.iter().map(|sum| sum + amount).collect();
        sums.extend(raised);
    }
    sums.contains(&wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::oracle::tests::{allowed, required};

    fn three() -> [Update; 3] {
        [
            required(1, Change::Add(5)),
            required(2, Change::Add(-2)),
            allowed(3, Change::Add(100)),
        ]
    }

    #[test]
    fn what_is_promised_with_and_without_what_is_allowed_is_accepted() {
        assert_eq!(explain(&three(), 3), Ok(()));
        assert_eq!(explain(&three(), 103), Ok(()));
        assert_eq!(explain(&[], 0), Ok(()));
    }

    #[test]
    fn lost_doubled_and_unasked_additions_are_found() {
        for (seen, why) in
            [(5, "lost"), (8, "twice"), (203, "twice"), (4, "unasked"), (-2, "lost")]
        {
            assert!(explain(&three(), seen).is_err(), "{why}: {seen}");
        }
    }

    #[test]
    fn an_addition_of_either_sign_may_be_missing() {
        let updates = [allowed(1, Change::Add(7)), allowed(2, Change::Add(-3))];
        for seen in [0, 7, -3, 4] {
            assert_eq!(explain(&updates, seen), Ok(()));
        }
        assert!(explain(&updates, 3).is_err());
    }
}
