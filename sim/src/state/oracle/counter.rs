//! Whether the value of a counter can be explained: all that is promised, and any selection of
//! what is allowed.
//!
//! A lost acknowledged addition, an addition that counted twice and one that nobody asked for
//! all give a sum that no selection reaches, as long as additions differ in size.

use super::{Change, Unexplained, Update};

/// Judges a counter's value.
///
/// # Errors
///
/// [`Unexplained::Sum`] when no selection gives it.
pub fn explain(updates: &[Update], seen: i128) -> Result<(), Unexplained> {
    let amount = |update: &Update| match update.change {
        Change::Add(amount) => i128::from(amount),
        Change::Insert(_)
        | Change::Remove(_)
        | Change::RemoveField(_)
        | Change::Write(_)
        | Change::Clear => 0,
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
/// large together, a bit each, so small amounts keep this small.
fn reaches(wanted: i128, amounts: &[i128]) -> bool {
    let up: i128 = amounts.iter().filter(|amount| **amount > 0).sum();
    let down: i128 = amounts.iter().filter(|amount| **amount < 0).sum();
    if wanted == 0 || !(down..=up).contains(&wanted) {
        return wanted == 0;
    }
    // To leave a negative amount out of the sum of all of them is to add its size to that sum.
    let place = |sum: i128| usize::try_from(sum).unwrap_or(usize::MAX);
    let mut sums = Sums::new(place(up - down));
    amounts.iter().for_each(|amount| sums.raise(place(amount.abs())));
    sums.has(place(wanted - down))
}

/// Which sums can be reached, a bit each from zero on.
struct Sums(Vec<u64>);

impl Sums {
    fn new(highest: usize) -> Self {
        let mut words = vec![0; highest / 64 + 1];
        words[0] = 1;
        Self(words)
    }

    /// Every sum also with `by` more.
    fn raise(&mut self, by: usize) {
        let (words, bits) = (by / 64, by % 64);
        for place in (words..self.0.len()).rev() {
            let low = self.0[place - words] << bits;
            let high = match (place.checked_sub(words + 1), bits) {
                (Some(before), 1..) => self.0[before] >> (64 - bits),
                _ => 0,
            };
            self.0[place] |= low | high;
        }
    }

    fn has(&self, sum: usize) -> bool {
        self.0.get(sum / 64).is_some_and(|word| word >> (sum % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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

    #[test]
    fn the_reachable_sums_are_those_of_all_selections() {
        let mut rng = crate::rng::Rng::new(3);
        for _ in 0..200 {
            let count = rng.index(9);
            let amounts: Vec<i128> =
                (0..count).map(|_| i128::from(rng.between(0, 300)) - 150).collect();
            let sum = |chosen: u32| {
                let amounts = amounts.iter().enumerate();
                amounts.filter(|(at, _)| chosen >> at & 1 == 1).map(|it| it.1).sum()
            };
            let sums: BTreeSet<i128> = (0..1 << count).map(sum).collect();
            for wanted in -1_400..1_400 {
                assert_eq!(reaches(wanted, &amounts), sums.contains(&wanted), "{wanted}");
            }
        }
    }
}
