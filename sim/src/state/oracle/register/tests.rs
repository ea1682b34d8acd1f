//! Planted histories, good and bad, and a comparison with every order there is.

use proptest::prelude::*;

use super::*;

fn write(value: u64, begun: u64, ended: u64) -> Access {
    Access { begun, ended: Some(ended), effect: Effect::Write(value) }
}

fn unknown(value: u64, begun: u64) -> Access {
    Access { begun, ended: None, effect: Effect::Write(value) }
}

fn read(value: impl Into<Option<u64>>, begun: u64, ended: u64) -> Access {
    Access { begun, ended: Some(ended), effect: Effect::Read(value.into()) }
}

#[test]
fn what_follows_one_order_is_accepted() {
    let histories = [
        vec![],
        vec![read(None, 0, 1), write(1, 2, 3), read(1, 4, 5)],
        // Overlapping: either value may be read while the write is open.
        vec![write(1, 0, 1), write(2, 2, 9), read(1, 3, 4), read(2, 5, 6), read(2, 7, 8)],
        // Two writes at once, seen in one order.
        vec![write(1, 0, 9), write(2, 0, 9), read(2, 10, 11), read(2, 12, 13)],
        // At the same moment is at once.
        vec![write(1, 0, 5), read(None, 5, 6)],
    ];
    for history in histories {
        assert_eq!(linearizable(&history), Ok(()), "{history:?}");
    }
}

#[test]
fn an_acknowledged_write_that_is_not_read_is_found() {
    let history = [write(1, 0, 1), read(None, 2, 3)];
    assert_eq!(linearizable(&history), Err(Verdict::Unordered(1)));
}

#[test]
fn new_and_then_old_is_found() {
    let history = [write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6)];
    assert_eq!(linearizable(&history), Err(Verdict::Unordered(3)));
}

#[test]
fn two_readers_that_disagree_about_the_order_are_found() {
    let history = [write(1, 0, 1), write(2, 0, 1), read(1, 2, 3), read(2, 4, 5)];
    assert_eq!(linearizable(&history), Err(Verdict::Unordered(3)));
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    assert_eq!(linearizable(&[read(7, 0, 1)]), Err(Verdict::Phantom(0)));
}

#[test]
fn an_unknown_write_may_show_or_not_but_never_vanish() {
    let never = [write(1, 0, 1), unknown(2, 2), read(1, 3, 4), read(1, 99, 100)];
    let late = [write(1, 0, 1), unknown(2, 2), read(1, 3, 4), read(2, 99, 100)];
    let vanishes = [write(1, 0, 1), unknown(2, 2), read(2, 3, 4), read(1, 99, 100)];
    assert_eq!(linearizable(&never), Ok(()));
    assert_eq!(linearizable(&late), Ok(()));
    assert_eq!(linearizable(&vanishes), Err(Verdict::Unordered(3)));
}

#[test]
fn an_unknown_write_that_takes_effect_twice_is_found() {
    // Asked again and applied again, it would come back over a later write.
    let history =
        [unknown(1, 0), read(1, 1, 2), write(2, 3, 4), read(2, 5, 6), read(1, 7, 8)];
    assert_eq!(linearizable(&history), Err(Verdict::Unordered(4)));
}

#[test]
fn a_deletion_takes_effect_once_and_may_be_unknown() {
    let erase = |begun, ended| Access { begun, ended, effect: Effect::Erase };
    let gone = [write(1, 0, 1), erase(2, Some(3)), read(None, 4, 5)];
    assert_eq!(linearizable(&gone), Ok(()));
    let back = [write(1, 0, 1), erase(2, Some(3)), read(1, 4, 5)];
    assert_eq!(linearizable(&back), Err(Verdict::Unordered(2)));
    let late = [write(1, 0, 1), erase(2, None), read(1, 3, 4), read(None, 8, 9)];
    assert_eq!(linearizable(&late), Ok(()));
    let twice = [
        write(1, 0, 1),
        erase(2, None),
        read(None, 3, 4),
        write(2, 5, 6),
        read(None, 7, 8),
    ];
    assert_eq!(linearizable(&twice), Err(Verdict::Unordered(4)));
}

#[test]
fn a_value_that_is_read_before_it_is_written_is_found() {
    let history = [read(1, 0, 1), unknown(1, 2)];
    assert_eq!(linearizable(&history), Err(Verdict::Unordered(0)));
}

#[test]
fn a_value_that_is_written_twice_is_not_judged() {
    let history = [write(1, 0, 1), write(1, 2, 3)];
    assert_eq!(linearizable(&history), Err(Verdict::WrittenTwice(1)));
}

#[test]
fn a_long_history_of_many_at_once_is_judged() {
    let mut history = Vec::new();
    for round in 0..500 {
        let begun = round * 10;
        for client in 0..6 {
            history.push(write(round * 6 + client, begun, begun + 9));
        }
        history.push(read(round * 6 + 3, begun + 9, begun + 10));
    }
    assert_eq!(linearizable(&history), Ok(()));
}

/// Every order of every selection of unknown writes, tried one by one.
fn has_an_order(history: &[Access]) -> bool {
    fn extend(history: &[Access], left: &mut Vec<usize>, value: Option<u64>) -> bool {
        if left.iter().all(|index| history[*index].ended.is_none()) {
            return true;
        }
        for place in 0..left.len() {
            let index = left[place];
            let begun = history[index].begun;
            let comes_too_early = left
                .iter()
                .any(|other| history[*other].ended.is_some_and(|ended| ended < begun));
            let next = match history[index].effect {
                Effect::Write(value) => Some(value),
                Effect::Erase => None,
                Effect::Read(seen) if seen == value => value,
                Effect::Read(_) => continue,
            };
            if comes_too_early {
                continue;
            }
            left.remove(place);
            let found = extend(history, left, next);
            left.insert(place, index);
            if found {
                return true;
            }
        }
        false
    }
    let counted = |index: &usize| {
        let access = &history[*index];
        access.ended.is_some() || !matches!(access.effect, Effect::Read(_))
    };
    extend(history, &mut (0..history.len()).filter(counted).collect(), None)
}

fn small_history() -> impl Strategy<Value = Vec<Access>> {
    let access = (0_u64..12, 1_u64..6, any::<bool>(), any::<bool>(), 0_u64..6);
    prop::collection::vec(access, 1..7).prop_map(|accesses| {
        type Drawn = (u64, u64, bool, bool, u64);
        let build = |(place, drawn): (usize, Drawn)| {
            let (begun, lasts, writes, known, value) = drawn;
            let place = u64::try_from(place).unwrap_or(0);
            let effect = match (writes, value) {
                (true, 5) => Effect::Erase,
                (true, _) => Effect::Write(place),
                (false, 5) => Effect::Read(None),
                (false, _) => Effect::Read(Some(value)),
            };
            Access { begun, ended: known.then_some(begun + lasts), effect }
        };
        accesses.into_iter().enumerate().map(build).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_verdict_is_that_of_every_order_tried(history in small_history()) {
        let verdict = linearizable(&history);
        prop_assert_ne!(verdict.clone(), Err(Verdict::TooWide));
        prop_assert_eq!(verdict.is_ok(), has_an_order(&history), "{:?}", verdict);
    }
}
