//! What is refused, and what concurrent writers may do together all the same.

use super::{actor, apply, encoded, joined, siblings, writer};
use crate::bytes::Bytes;
use crate::clock::{Dot, DottedVersion, Hlc};
use crate::crdt::limit::{
    ACTORS_MAX, DEPTH_MAX, ELEMENT_BYTES_MAX, NAME_BYTES_MAX, SIBLINGS_MAX,
    WRITTEN_BYTES_MAX,
};
use crate::crdt::{Kind, Reading, Update, UpdateError, Value, Writer};

fn bytes(len: usize) -> Bytes {
    vec![b'x'; len].into()
}

fn write(text: &str, seen: DottedVersion) -> Update {
    Update::Write { value: Some(text.into()), seen }
}

fn field(name: &str, kind: Kind, update: Update) -> Update {
    Update::Field { name: name.into(), kind, update: Box::new(update) }
}

fn seen(value: &Value) -> DottedVersion {
    let Reading::Siblings { seen, .. } = value.read() else { unreachable!("siblings") };
    seen
}

#[test]
fn a_growing_counter_stops_at_the_largest_number_and_concurrent_ones_read_as_it() {
    let mut here = Value::bottom(Kind::GCounter);
    let most = Update::Increment(u64::MAX);
    apply(&mut here, &most, &writer(1, 1));
    let over = here.update(&Update::Increment(1), &writer(1, 2));
    assert_eq!(over, Err(UpdateError::Overflow { kind: Kind::GCounter }));
    let over = here.update(&Update::Increment(1), &writer(2, 1));
    assert_eq!(over, Err(UpdateError::Overflow { kind: Kind::GCounter }));
    let there = Value::bottom(Kind::GCounter).update(&most, &writer(2, 1)).unwrap();
    assert_eq!(joined(&here, &there).read(), Reading::Count(u64::MAX));
}

#[test]
fn a_counter_takes_the_least_number_and_stops_at_both_ends() {
    let mut counter = Value::bottom(Kind::PnCounter);
    apply(&mut counter, &Update::Add(i64::MIN), &writer(1, 1));
    assert_eq!(counter.read(), Reading::Balance(i64::MIN));
    let under = counter.update(&Update::Add(-1), &writer(1, 2));
    assert_eq!(under, Err(UpdateError::Overflow { kind: Kind::PnCounter }));
    let other = Value::bottom(Kind::PnCounter);
    let other = other.update(&Update::Add(i64::MIN), &writer(2, 1)).unwrap();
    assert_eq!(joined(&counter, &other).read(), Reading::Balance(i64::MIN));
    apply(&mut counter, &Update::Add(i64::MAX), &writer(1, 2));
    assert_eq!(counter.read(), Reading::Balance(-1));
    apply(&mut counter, &Update::Add(i64::MAX), &writer(2, 1));
    let over = counter.update(&Update::Add(2), &writer(1, 3));
    assert_eq!(over, Err(UpdateError::Overflow { kind: Kind::PnCounter }));
}

#[test]
fn counters_within_a_map_have_the_same_ends() {
    let mut map = Value::bottom(Kind::OrMap);
    let most = field("n", Kind::GCounter, Update::Increment(u64::MAX));
    apply(&mut map, &most, &writer(1, 1));
    let one = field("n", Kind::GCounter, Update::Increment(1));
    let over = map.update(&one, &writer(2, 1));
    assert_eq!(over, Err(UpdateError::Overflow { kind: Kind::GCounter }));
    apply(&mut map, &field("p", Kind::PnCounter, Update::Add(i64::MIN)), &writer(1, 2));
    let over = map.update(&field("p", Kind::PnCounter, Update::Add(-1)), &writer(1, 3));
    assert_eq!(over, Err(UpdateError::Overflow { kind: Kind::PnCounter }));
}

#[test]
fn a_counter_of_too_many_actors_takes_the_known_ones_only() {
    for (kind, update) in
        [(Kind::GCounter, Update::Increment(1)), (Kind::PnCounter, Update::Add(1))]
    {
        let mut counter = Value::bottom(kind);
        for incarnation in 1..=u32::try_from(ACTORS_MAX).unwrap() {
            let by = Writer { actor: actor(1, incarnation), ..writer(1, 1) };
            apply(&mut counter, &update, &by);
        }
        let (what, max) = ("actors", ACTORS_MAX);
        let refused = counter.update(&update, &writer(2, 1));
        assert_eq!(refused, Err(UpdateError::TooMany { kind, what, max }));
        assert!(counter.update(&update, &writer(1, 2)).is_ok());
    }
}

#[test]
fn long_elements_names_and_values_are_refused_at_their_limit() {
    let largest = [
        (Kind::GSet, Update::Insert(bytes(ELEMENT_BYTES_MAX)), true),
        (Kind::GSet, Update::Insert(bytes(ELEMENT_BYTES_MAX + 1)), false),
        (Kind::OrSet, Update::Insert(bytes(ELEMENT_BYTES_MAX)), true),
        (Kind::OrSet, Update::Insert(bytes(ELEMENT_BYTES_MAX + 1)), false),
        (Kind::Lww, Update::Set(bytes(WRITTEN_BYTES_MAX)), true),
        (Kind::Lww, Update::Set(bytes(WRITTEN_BYTES_MAX + 1)), false),
        (Kind::Register, store(bytes(WRITTEN_BYTES_MAX)), true),
        (Kind::Register, store(bytes(WRITTEN_BYTES_MAX + 1)), false),
        (Kind::Mv, written(bytes(WRITTEN_BYTES_MAX)), true),
        (Kind::Mv, written(bytes(WRITTEN_BYTES_MAX + 1)), false),
        (Kind::OrMap, named(NAME_BYTES_MAX), true),
        (Kind::OrMap, named(NAME_BYTES_MAX + 1), false),
    ];
    for (kind, update, fits) in largest {
        let made = Value::bottom(kind).update(&update, &writer(1, 1));
        let large = matches!(made, Err(UpdateError::TooLarge { .. }));
        assert_eq!((made.is_ok(), large), (fits, !fits), "{kind}");
        if let Ok(made) = made {
            assert_eq!(
                Value::decode(&encoded(&made)),
                Ok(made),
                "what is written is read"
            );
        }
    }
}

fn store(value: Bytes) -> Update {
    Update::Store { lamport: 1, value: Some(value) }
}

fn written(value: Bytes) -> Update {
    Update::Write { value: Some(value), seen: DottedVersion::new() }
}

fn named(len: usize) -> Update {
    Update::Field {
        name: bytes(len),
        kind: Kind::Lww,
        update: Box::new(Update::Set("a".into())),
    }
}

#[test]
fn a_full_set_takes_no_more_but_full_ones_join_and_shrink() {
    for kind in [Kind::GSet, Kind::OrSet] {
        let mut full = Vec::new();
        for replica in 1..=2 {
            let mut set = Value::bottom(kind);
            let mut seq = 0;
            let refused = loop {
                seq += 1;
                let element = format!("{replica} {seq:040000}");
                let update = Update::Insert(element.as_str().into());
                match set.update(&update, &writer(replica, seq)) {
                    Ok(delta) => set.join(&delta).unwrap(),
                    Err(refused) => break refused,
                };
            };
            assert!(matches!(refused, UpdateError::TooLarge { .. }), "{refused}");
            assert!(encoded(&set).len() <= WRITTEN_BYTES_MAX);
            assert!(encoded(&set).len() > WRITTEN_BYTES_MAX - 2 * 40_000);
            full.push(set);
        }
        let mut both = joined(&full[0], &full[1]);
        assert_eq!(Value::decode(&encoded(&both)), Ok(both.clone()));
        if kind == Kind::OrSet {
            apply(&mut both, &Update::Delete, &writer(1, 1_000));
            assert!(both.is_bottom());
            apply(&mut both, &Update::Insert("a".into()), &writer(1, 1_001));
        }
    }
}

#[test]
fn maps_lie_only_so_deep() {
    let nested = |maps: usize| {
        let leaf = field("v", Kind::Lww, Update::Set("a".into()));
        (1..maps).fold(leaf, |update, _| field("m", Kind::OrMap, update))
    };
    let map = Value::bottom(Kind::OrMap);
    let deepest = map.update(&nested(DEPTH_MAX), &writer(1, 1)).unwrap();
    assert_eq!(Value::decode(&encoded(&deepest)), Ok(deepest));
    let deeper = map.update(&nested(DEPTH_MAX + 1), &writer(1, 1));
    assert_eq!(deeper, Err(UpdateError::TooDeep { max: DEPTH_MAX }));
}

#[test]
fn what_must_not_forget_is_no_field() {
    let map = Value::bottom(Kind::OrMap);
    for kind in [Kind::GSet, Kind::Bounded, Kind::Register] {
        let update = field("f", kind, Update::Insert("a".into()));
        let refused = map.update(&update, &writer(1, 1));
        assert_eq!(refused, Err(UpdateError::NotAField { kind }));
    }
}

#[test]
fn a_kind_takes_its_own_updates_only() {
    let updates = [
        (Update::Increment(1), vec![Kind::GCounter]),
        (Update::Add(1), vec![Kind::PnCounter]),
        (Update::Insert("a".into()), vec![Kind::GSet, Kind::OrSet]),
        (Update::Remove("a".into()), vec![Kind::OrSet]),
        (Update::Set("a".into()), vec![Kind::Lww]),
        (write("a", DottedVersion::new()), vec![Kind::Mv]),
        (field("f", Kind::Lww, Update::Set("a".into())), vec![Kind::OrMap]),
        (Update::RemoveField("f".into()), vec![Kind::OrMap]),
        (Update::Spend(0), vec![Kind::Bounded]),
        (store("a".into()), vec![Kind::Register]),
        (Update::Delete, vec![Kind::OrSet, Kind::Lww, Kind::Mv, Kind::OrMap]),
    ];
    for (update, kinds) in updates {
        for kind in Kind::ALL {
            let made = Value::bottom(kind).update(&update, &writer(1, 1));
            assert_eq!(
                made.is_ok(),
                kinds.contains(&kind),
                "{} on {kind}",
                update.name()
            );
        }
    }
    let within = field("f", Kind::Lww, Update::Increment(1));
    let refused = Value::bottom(Kind::OrMap).update(&within, &writer(1, 1));
    let (kind, update) = (Kind::Lww, "increment");
    assert_eq!(refused, Err(UpdateError::WrongKind { kind, update }));
}

#[test]
fn writers_that_do_not_read_are_stopped_and_readers_are_not() {
    let mut register = Value::bottom(Kind::Mv);
    for seq in 1..=16 {
        apply(
            &mut register,
            &write(&seq.to_string(), DottedVersion::new()),
            &writer(1, seq),
        );
    }
    assert_eq!(siblings(&register), SIBLINGS_MAX);
    let blind = register.update(&write("17", DottedVersion::new()), &writer(1, 17));
    assert_eq!(blind, Err(UpdateError::TooManySiblings { siblings: SIBLINGS_MAX }));
    // What others wrote at the same time joins all the same.
    let other = Value::bottom(Kind::Mv);
    let other = other.update(&write("18", DottedVersion::new()), &writer(2, 1)).unwrap();
    register.join(&other).unwrap();
    assert_eq!(siblings(&register), SIBLINGS_MAX + 1);
    let all = seen(&register);
    apply(&mut register, &write("merged", all), &writer(1, 17));
    assert_eq!(siblings(&register), 1);
}

#[test]
fn what_was_seen_elsewhere_is_replaced_when_it_comes() {
    let first = Value::bottom(Kind::Mv);
    let first = first.update(&write("a", DottedVersion::new()), &writer(1, 1)).unwrap();
    let mut behind = Value::bottom(Kind::Mv);
    apply(&mut behind, &write("b", seen(&first)), &writer(2, 1));
    behind.join(&first).unwrap();
    assert_eq!(siblings(&behind), 1);
}

#[test]
fn a_made_up_token_harms_no_more_than_a_deletion() {
    let register = Value::bottom(Kind::Mv);
    let mut all = DottedVersion::new();
    all.extend(Dot::new(actor(1, 1), 0), u64::MAX);
    let refused = register.update(&write("a", all), &writer(2, 1));
    assert_eq!(refused, Err(UpdateError::NotSeen));
    // A number that the owner will only reach in a long time: until then it writes as ever.
    let far = [Dot::new(actor(1, 1), 1 << 40)].into_iter().collect();
    let mut poisoned = register.update(&write("a", far), &writer(2, 1)).unwrap();
    for seq in 1..=3 {
        let update = write("b", seen(&poisoned));
        apply(&mut poisoned, &update, &writer(1, seq));
        assert_eq!(siblings(&poisoned), 1);
    }
}

#[test]
fn a_number_that_was_used_is_not_used_again() {
    for (kind, update) in [
        (Kind::OrSet, Update::Insert("a".into())),
        (Kind::Mv, write("a", DottedVersion::new())),
        (Kind::OrMap, field("f", Kind::Lww, Update::Set("a".into()))),
    ] {
        let mut value = Value::bottom(kind);
        apply(&mut value, &update, &writer(1, 5));
        for seq in [1, 5] {
            let (answer, actor) = (value.update(&update, &writer(1, seq)), actor(1, 1));
            assert_eq!(answer, Err(UpdateError::DotReused { actor, seq }), "{kind}");
        }
        assert!(value.update(&update, &writer(1, 6)).is_ok());
        let none = value.update(&update, &writer(2, 0));
        assert!(matches!(none, Err(UpdateError::DotReused { .. })), "0 names nothing");
    }
}

#[test]
fn equal_stamps_are_decided_the_same_way_everywhere() {
    let at = |replica, text: &str| {
        let by = Writer { stamp: Hlc::from_bits(9), ..writer(replica, 1) };
        Value::bottom(Kind::Lww).update(&Update::Set(text.into()), &by).unwrap()
    };
    let (low, high) = (at(1, "z"), at(2, "a"));
    assert_eq!(joined(&low, &high).read(), Reading::Latest(Some("a".into())));
    assert_eq!(joined(&high, &low).read(), Reading::Latest(Some("a".into())));
    let (a, b) = (at(1, "a"), at(1, "b"));
    assert_eq!(joined(&b, &a).read(), Reading::Latest(Some("b".into())));
}

#[test]
fn a_deleted_register_is_remembered_and_a_deleted_last_write_may_go() {
    let gone = Update::Store { lamport: 4, value: None };
    let gone = Value::bottom(Kind::Register).update(&gone, &writer(1, 1)).unwrap();
    assert!(!gone.is_bottom());
    let gone = Value::bottom(Kind::Lww).update(&Update::Delete, &writer(1, 7)).unwrap();
    assert!(gone.is_bottom());
    assert_eq!(gone.stamp(), Some(Hlc::from_bits(7)));
}

/// Found by the suite's world: an insertion at one replica, removed at another whose word arrives
/// first.
#[test]
fn a_removal_that_came_before_what_it_removes_is_not_covered_yet() {
    let mut there = Value::bottom(Kind::OrSet);
    let inserted = apply(&mut there, &Update::Insert("a".into()), &writer(1, 1));
    let removed = apply(&mut there, &Update::Remove("a".into()), &writer(2, 1));
    let mut here = Value::bottom(Kind::OrSet);
    here.join(&removed).unwrap();
    let came = |of_1: u64| move |dot: Dot| dot.actor == actor(1, 1) && dot.seq <= of_1;
    assert!(
        here.is_bottom() && !here.is_covered(came(0)),
        "who forgets this now is wrong"
    );
    here.join(&inserted).unwrap();
    assert!(here.is_bottom() && here.is_covered(came(1)));
    assert!(!joined(&Value::bottom(Kind::OrSet), &inserted).is_bottom(), "as was seen");
}

#[test]
fn fields_of_one_name_and_two_kinds_live_side_by_side_and_go_together() {
    let mut map = Value::bottom(Kind::OrMap);
    apply(&mut map, &field("f", Kind::Lww, Update::Set("a".into())), &writer(1, 1));
    apply(&mut map, &field("f", Kind::OrSet, Update::Insert("b".into())), &writer(2, 1));
    let Reading::Fields(fields) = map.read() else { unreachable!("fields") };
    assert_eq!(
        fields.iter().map(|it| it.kind).collect::<Vec<_>>(),
        [Kind::OrSet, Kind::Lww]
    );
    apply(&mut map, &Update::RemoveField("f".into()), &writer(1, 2));
    assert!(map.is_bottom());
}
