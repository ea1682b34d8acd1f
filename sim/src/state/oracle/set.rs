//! Whether the elements of a set, or the siblings of a multi-value register, can be explained:
//! an addition stays until a removal that saw it, and no longer.
//!
//! An element *has to* show when a promised addition was possibly seen by no removal that may
//! have taken effect. It *must not* show when every addition that may have taken effect was
//! surely seen by a promised removal, with nothing in between that is not promised: a removal
//! takes what it sees, and an addition that another update took or replaced before is not among
//! that, so it goes only where that other update comes. In between either answer is right. A write to a
//! multi-value register is the addition of its value and the removal of all that it saw. A map of
//! sets is a set of elements with their fields, and a removal of a field one of all of those.
//!
//! A set that only grows is the same without removals. Additions are looked at from the newest
//! on: that one mostly decides.

use std::collections::BTreeSet;

use super::{Change, Sight, Unexplained, Update};

/// Judges the elements that were seen.
///
/// # Errors
///
/// The first element that shows and may not, or the first addition that has to show.
pub fn explain(
    updates: &[Update],
    sight: &dyn Sight,
    seen: &BTreeSet<u64>,
) -> Result<(), Unexplained> {
    let mut left = seen.clone();
    for update in updates {
        let Some(element) = brought(update) else { continue };
        let shows = seen.contains(&element);
        if update.is_required() && !shows && survives(updates, sight, update, element) {
            return Err(Unexplained::Missing(update.number));
        }
        left.remove(&element);
    }
    if let Some(phantom) = left.first() {
        return Err(Unexplained::Phantom(*phantom));
    }
    seen.iter().try_for_each(|element| may_show(updates, sight, *element))
}

/// Judges only that nothing shows which nobody brought.
///
/// # Errors
///
/// The first such element.
pub fn known(updates: &[Update], seen: &BTreeSet<u64>) -> Result<(), Unexplained> {
    let brings = |element: u64| updates.iter().any(|it| brought(it) == Some(element));
    let phantom = seen.iter().find(|element| !brings(**element));
    phantom.map_or(Ok(()), |phantom| Err(Unexplained::Phantom(*phantom)))
}

/// The element that an update brings.
fn brought(update: &Update) -> Option<u64> {
    match update.change {
        Change::Insert(element) | Change::Write(element) => Some(element),
        Change::Add(_) | Change::Remove(_) | Change::RemoveField(_) | Change::Clear => {
            None
        }
    }
}

/// Whether an update takes the element away, if it sees it.
fn takes(update: &Update, element: u64) -> bool {
    match update.change {
        Change::Remove(removed) => removed == element,
        Change::RemoveField(field) => u64::from(field) == element >> 32,
        Change::Write(_) | Change::Clear => true,
        Change::Add(_) | Change::Insert(_) => false,
    }
}

fn survives(
    updates: &[Update],
    sight: &dyn Sight,
    addition: &Update,
    element: u64,
) -> bool {
    updates
        .iter()
        .filter(|other| other.number != addition.number && takes(other, element))
        .all(|removal| !sight.possibly(removal.number, addition.number))
}

fn may_show(
    updates: &[Update],
    sight: &dyn Sight,
    element: u64,
) -> Result<(), Unexplained> {
    let removals: Vec<_> = updates
        .iter()
        .filter(|update| update.is_required() && takes(update, element))
        .collect();
    let mut gone_by = None;
    let additions = updates.iter().rev().filter(|it| brought(it) == Some(element));
    for addition in additions {
        let removal = removals.iter().find(|removal| {
            removal.number != addition.number
                && sight.surely(removal.number, addition.number)
                && !lies_between(updates, sight, (addition, removal), element)
        });
        match removal {
            Some(removal) => gone_by = Some(removal.number),
            None => return Ok(()),
        }
    }
    gone_by.map_or(Ok(()), |by| Err(Unexplained::BackAgain(element, by)))
}

/// Whether an update that is not promised may have taken or replaced the addition before the
/// removal.
fn lies_between(
    updates: &[Update],
    sight: &dyn Sight,
    (addition, removal): (&Update, &Update),
    element: u64,
) -> bool {
    let others = updates.iter().filter(|other| {
        !other.is_required()
            && other.number != addition.number
            && (takes(other, element) || brought(other) == Some(element))
    });
    let mut others = others.filter(|it| sight.possibly(removal.number, it.number));
    others.any(|other| sight.possibly(other.number, addition.number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::oracle::in_field;
    use crate::state::oracle::tests::{Pairs, allowed, required};

    fn judge(updates: &[Update], sight: &Pairs, seen: &[u64]) -> Result<(), Unexplained> {
        explain(updates, sight, &seen.iter().copied().collect())
    }

    #[test]
    fn an_addition_shows_until_a_removal_that_saw_it() {
        let updates = [required(1, Change::Insert(7)), required(2, Change::Remove(7))];
        let seen = Pairs::sure(&[(2, 1)]);
        assert_eq!(judge(&updates, &seen, &[]), Ok(()));
        assert_eq!(judge(&updates, &seen, &[7]), Err(Unexplained::BackAgain(7, 2)));
        let unseen = Pairs::default();
        assert_eq!(judge(&updates, &unseen, &[7]), Ok(()));
        assert_eq!(judge(&updates, &unseen, &[]), Err(Unexplained::Missing(1)));
    }

    #[test]
    fn between_sure_and_possible_both_answers_are_right() {
        let updates = [required(1, Change::Insert(7)), required(2, Change::Remove(7))];
        let sight = Pairs { possible: BTreeSet::from([(2, 1)]), ..Pairs::default() };
        assert_eq!(judge(&updates, &sight, &[7]), Ok(()));
        assert_eq!(judge(&updates, &sight, &[]), Ok(()));
    }

    #[test]
    fn a_removal_of_unknown_outcome_excuses_and_never_accuses() {
        let updates = [required(1, Change::Insert(7)), allowed(2, Change::Remove(7))];
        let sight = Pairs::sure(&[(2, 1)]);
        assert_eq!(judge(&updates, &sight, &[7]), Ok(()));
        assert_eq!(judge(&updates, &sight, &[]), Ok(()));
    }

    #[test]
    fn a_removal_that_came_after_another_accuses_only_with_it() {
        let other = [Change::Remove(7), Change::Clear, Change::Insert(7)];
        for between in other {
            let updates = |between| {
                [required(1, Change::Insert(7)), between, required(3, Change::Remove(7))]
            };
            let sight = Pairs::sure(&[(2, 1), (3, 1), (3, 2)]);
            let unpromised = updates(allowed(2, between));
            assert_eq!(judge(&unpromised, &sight, &[7]), Ok(()));
            let promised = updates(required(2, between));
            assert!(judge(&promised, &sight, &[7]).is_err(), "{between:?}");
        }
        // One that the removal cannot have seen changes nothing.
        let updates = [
            required(1, Change::Insert(7)),
            allowed(2, Change::Remove(7)),
            required(3, Change::Remove(7)),
        ];
        let sight = Pairs::sure(&[(2, 1), (3, 1)]);
        assert_eq!(judge(&updates, &sight, &[7]), Err(Unexplained::BackAgain(7, 3)));
    }

    #[test]
    fn an_addition_after_the_removal_brings_the_element_back_rightly() {
        let updates = [
            required(1, Change::Insert(7)),
            required(2, Change::Remove(7)),
            required(3, Change::Insert(7)),
        ];
        let sight = Pairs::sure(&[(2, 1), (3, 1), (3, 2)]);
        assert_eq!(judge(&updates, &sight, &[7]), Ok(()));
        assert_eq!(judge(&updates, &sight, &[]), Err(Unexplained::Missing(3)));
    }

    #[test]
    fn what_nobody_added_is_found() {
        assert_eq!(judge(&[], &Pairs::default(), &[9]), Err(Unexplained::Phantom(9)));
        let one = [required(1, Change::Write(1))];
        assert_eq!(known(&one, &BTreeSet::from([1])), Ok(()));
        assert_eq!(known(&one, &BTreeSet::from([1, 9])), Err(Unexplained::Phantom(9)));
    }

    #[test]
    fn the_removal_of_a_field_takes_its_elements_and_no_others() {
        let (here, there) = (in_field(1, 7), in_field(2, 7));
        let updates = [
            required(1, Change::Insert(here)),
            required(2, Change::Insert(there)),
            required(3, Change::RemoveField(1)),
        ];
        let sight = Pairs::sure(&[(3, 1), (3, 2)]);
        assert_eq!(judge(&updates, &sight, &[there]), Ok(()));
        assert_eq!(judge(&updates, &sight, &[]), Err(Unexplained::Missing(2)));
        assert_eq!(
            judge(&updates, &sight, &[here, there]),
            Err(Unexplained::BackAgain(here, 3))
        );
    }

    #[test]
    fn siblings_stand_until_a_write_that_saw_them() {
        let updates = [
            required(1, Change::Write(1)),
            required(2, Change::Write(2)),
            required(3, Change::Write(3)),
        ];
        let sight = Pairs::sure(&[(3, 1)]);
        assert_eq!(judge(&updates, &sight, &[2, 3]), Ok(()));
        assert_eq!(judge(&updates, &sight, &[3]), Err(Unexplained::Missing(2)));
        assert_eq!(
            judge(&updates, &sight, &[1, 2, 3]),
            Err(Unexplained::BackAgain(1, 3))
        );
    }
}
