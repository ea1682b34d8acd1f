//! Whether the value of a last-writer-wins register can be explained: a write that saw another
//! is later than it, whatever the clocks say (F42).
//!
//! Which of two writes that did not see each other wins is the clocks' choice and not judged
//! here; that all replicas choose alike is.

use std::collections::BTreeSet;

use super::{Change, Sight, Unexplained, Update};

/// Judges the value that was seen; none means that nothing was.
///
/// # Errors
///
/// The value that may not show, or the write that has to.
pub fn explain(
    updates: &[Update],
    sight: &dyn Sight,
    seen: &BTreeSet<u64>,
) -> Result<(), Unexplained> {
    let writes = |update: &&Update, value: u64| update.change == Change::Write(value);
    let clears = |update: &&Update| update.change == Change::Clear;
    let required = || updates.iter().filter(|update| update.is_required());
    // A promised update that saw every candidate makes each of them old.
    let beaten = |update: &Update| {
        required().find(|later| {
            later.number != update.number
                && is_write(later)
                && sight.surely(later.number, update.number)
        })
    };
    match (seen.len(), seen.first()) {
        (0, _) => {
            let emptied = updates.iter().filter(clears).any(|it| beaten(it).is_none());
            let write = required().rfind(|it| matches!(it.change, Change::Write(_)));
            match write {
                Some(write) if !emptied => Err(Unexplained::Missing(write.number)),
                _ => Ok(()),
            }
        }
        (1, Some(value)) => {
            let write = updates.iter().find(|update| writes(update, *value));
            let write = write.ok_or(Unexplained::Phantom(*value))?;
            let later = beaten(write);
            later.map_or(Ok(()), |it| Err(Unexplained::BackAgain(*value, it.number)))
        }
        (several, _) => Err(Unexplained::Several(several)),
    }
}

const fn is_write(update: &Update) -> bool {
    matches!(update.change, Change::Write(_) | Change::Clear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::oracle::tests::{Pairs, allowed, required};

    fn judge(updates: &[Update], sight: &Pairs, seen: &[u64]) -> Result<(), Unexplained> {
        explain(updates, sight, &seen.iter().copied().collect())
    }

    #[test]
    fn a_write_that_saw_another_wins() {
        let updates = [required(1, Change::Write(1)), required(2, Change::Write(2))];
        let sight = Pairs::sure(&[(2, 1)]);
        assert_eq!(judge(&updates, &sight, &[2]), Ok(()));
        assert_eq!(judge(&updates, &sight, &[1]), Err(Unexplained::BackAgain(1, 2)));
        assert_eq!(judge(&updates, &sight, &[]), Err(Unexplained::Missing(2)));
    }

    #[test]
    fn of_two_at_once_either_may_win_and_only_one() {
        let updates = [required(1, Change::Write(1)), required(2, Change::Write(2))];
        assert_eq!(judge(&updates, &Pairs::default(), &[1]), Ok(()));
        assert_eq!(judge(&updates, &Pairs::default(), &[2]), Ok(()));
        assert_eq!(
            judge(&updates, &Pairs::default(), &[1, 2]),
            Err(Unexplained::Several(2))
        );
    }

    #[test]
    fn nothing_shows_before_the_first_write_and_after_a_deletion() {
        assert_eq!(judge(&[], &Pairs::default(), &[]), Ok(()));
        let updates = [required(1, Change::Write(1)), required(2, Change::Clear)];
        let sight = Pairs::sure(&[(2, 1)]);
        assert_eq!(judge(&updates, &sight, &[]), Ok(()));
        assert_eq!(judge(&updates, &sight, &[1]), Err(Unexplained::BackAgain(1, 2)));
    }

    #[test]
    fn a_deletion_that_a_later_write_saw_explains_nothing() {
        let updates = [required(1, Change::Clear), required(2, Change::Write(2))];
        let sight = Pairs::sure(&[(2, 1)]);
        assert_eq!(judge(&updates, &sight, &[]), Err(Unexplained::Missing(2)));
    }

    #[test]
    fn a_write_of_unknown_outcome_may_win_or_not() {
        let updates = [required(1, Change::Write(1)), allowed(2, Change::Write(2))];
        let sight = Pairs::sure(&[(2, 1)]);
        assert_eq!(judge(&updates, &sight, &[1]), Ok(()));
        assert_eq!(judge(&updates, &sight, &[2]), Ok(()));
        assert_eq!(judge(&updates, &sight, &[3]), Err(Unexplained::Phantom(3)));
    }
}
