//! Clocks against sets and maps that keep every single mutation.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use dwcp_types::Timestamp;

use super::{
    AHEAD_MAX, Actor, Causality, Dot, DottedVersion, Hlc, HlcClock, ReplicaId,
    VersionVector,
};

fn actor(number: u8) -> Actor {
    Actor::new(ReplicaId::new(u16::from(number % 2)), u32::from(number / 2 % 2))
}

fn dots() -> impl Strategy<Value = BTreeSet<Dot>> {
    let dot = (0..4_u8, 1..12_u64).prop_map(|(at, seq)| Dot::new(actor(at), seq));
    proptest::collection::btree_set(dot, 0..20)
}

fn vectors() -> impl Strategy<Value = VersionVector> {
    let entry = (0..4_u8, 0..6_u64).prop_map(|(at, seq)| (actor(at), seq));
    vec(entry, 0..6).prop_map(|entries| entries.into_iter().collect())
}

/// Every mutation that a vector covers.
fn spelled(vector: &VersionVector) -> BTreeSet<Dot> {
    let spelled = |(actor, upto)| (1..=upto).map(move |seq| Dot::new(actor, seq));
    vector.iter().flat_map(spelled).collect()
}

fn relation(one: &BTreeSet<Dot>, other: &BTreeSet<Dot>) -> Causality {
    match (one.is_subset(other), one.is_superset(other)) {
        (true, true) => Causality::Equal,
        (true, false) => Causality::Before,
        (false, true) => Causality::After,
        (false, false) => Causality::Concurrent,
    }
}

proptest! {
    #[test]
    fn a_vector_is_the_set_of_what_it_covers(a in vectors(), b in vectors()) {
        let (all_a, all_b) = (spelled(&a), spelled(&b));
        let mut joined = a.clone();
        prop_assert_eq!(joined.join(&b), joined != a);
        prop_assert_eq!(spelled(&joined), &all_a | &all_b);
        prop_assert_eq!(spelled(&a.meet(&b)), &all_a & &all_b);
        prop_assert_eq!(a.compare(&b), relation(&all_a, &all_b));
        prop_assert_eq!(a.contains(&b), all_a.is_superset(&all_b));
        prop_assert!(all_a.iter().all(|dot| a.covers(*dot)));
        prop_assert_eq!(a == b, all_a == all_b, "no entry stands for nothing");
    }

    #[test]
    fn a_vector_survives_bytes_and_text(vector in vectors()) {
        let bytes = postcard::to_allocvec(&vector).unwrap();
        prop_assert_eq!(&postcard::from_bytes::<VersionVector>(&bytes).unwrap(), &vector);
        let text = serde_json::to_string(&vector).unwrap();
        prop_assert_eq!(serde_json::from_str::<VersionVector>(&text).unwrap(), vector);
    }

    #[test]
    fn a_dotted_version_is_the_set_of_what_it_saw(
        a in dots(),
        order in any::<prop::sample::Index>(),
        b in dots(),
    ) {
        // Added from somewhere in the middle on, so that spans grow and meet in every way.
        let (late, early): (Vec<_>, Vec<_>) =
            a.iter().enumerate().partition(|(at, _)| *at < order.index(a.len() + 1));
        let mut version = DottedVersion::new();
        for (_, dot) in early.iter().chain(&late) {
            prop_assert!(version.add(**dot));
            prop_assert!(!version.add(**dot));
        }
        let straight: DottedVersion = a.iter().copied().collect();
        prop_assert_eq!(&version, &straight, "one form for one set");
        let other: DottedVersion = b.iter().copied().collect();
        prop_assert_eq!(version.compare(&other), relation(&a, &b));
        let mut joined = version.clone();
        prop_assert_eq!(joined.join(&other), joined != version);
        prop_assert_eq!(&joined, &a.union(&b).copied().collect::<DottedVersion>());
        for seq in 0..14 {
            let dot = Dot::new(actor(1), seq);
            prop_assert_eq!(version.covers(dot), a.contains(&dot));
            let before = a.range(..dot).rfind(|known| known.actor == dot.actor);
            let before = before.map_or(0, |before| before.seq);
            prop_assert_eq!(version.before(dot).seq, before);
        }
    }

    #[test]
    fn a_span_is_all_its_mutations(saw in dots(), after in 0..12_u64, len in 0..12_u64) {
        let mut span: DottedVersion = saw.iter().copied().collect();
        let mut single = span.clone();
        let mut new = false;
        for seq in after + 1..=after + len {
            new |= single.add(Dot::new(actor(0), seq));
        }
        prop_assert_eq!(span.extend(Dot::new(actor(0), after), after + len), new);
        prop_assert_eq!(span, single);
    }

    #[test]
    fn a_token_is_what_it_was(saw in dots()) {
        let version: DottedVersion = saw.into_iter().collect();
        prop_assert_eq!(&version.to_string().parse::<DottedVersion>().unwrap(), &version);
        let text = serde_json::to_string(&version).unwrap();
        prop_assert_eq!(&serde_json::from_str::<DottedVersion>(&text).unwrap(), &version);
        let bytes = postcard::to_allocvec(&version).unwrap();
        prop_assert_eq!(&postcard::from_bytes::<DottedVersion>(&bytes).unwrap(), &version);
    }

    #[test]
    fn a_clock_only_rises_whatever_the_wall_clock_does(
        steps in vec((0..3_000_u64, prop::option::of(0..3_000_u64)), 1..200),
    ) {
        let mut clock = HlcClock::new(Hlc::ZERO, AHEAD_MAX);
        let mut latest_wall = 0;
        for (wall, remote) in steps {
            let now = Timestamp::from_millis(wall);
            let before = clock.last();
            latest_wall = latest_wall.max(wall);
            if let Some(remote) = remote {
                let stamp = Hlc::at(Timestamp::from_millis(remote));
                let near = remote <= wall + 500;
                prop_assert_eq!(clock.observe(now, stamp).is_ok(), near);
                let expected = if near { before.max(stamp) } else { before };
                prop_assert_eq!(clock.last(), expected);
            }
            let stamp = clock.tick(now);
            prop_assert!(stamp > before);
            let ahead = stamp.time().since(Timestamp::from_millis(latest_wall));
            prop_assert!(ahead <= AHEAD_MAX, "nobody drags it further than the limit");
        }
    }
}

#[test]
fn a_full_counter_runs_over_into_the_next_millisecond() {
    let now = Timestamp::from_millis(7);
    let mut clock = HlcClock::new(Hlc::ZERO, AHEAD_MAX);
    let stamps: Vec<_> = (0..65_537).map(|_| clock.tick(now)).collect();
    assert!(stamps.is_sorted_by(|one, next| one < next));
    assert_eq!(stamps[65_535].to_string(), "7+65535");
    assert_eq!(stamps[65_536].to_string(), "8+0");
}

#[test]
fn the_limit_ahead_is_configured_and_named() {
    let mut clock = HlcClock::new(Hlc::ZERO, Duration::from_millis(10));
    let remote = Hlc::at(Timestamp::from_millis(111));
    let refused = clock.observe(Timestamp::from_millis(100), remote).unwrap_err();
    assert_eq!(refused.ahead, Duration::from_millis(11));
    assert!(refused.to_string().contains("set the clock"));
    assert!(clock.observe(Timestamp::from_millis(101), remote).is_ok());
}

#[test]
fn time_beyond_48_bits_is_the_end_of_time() {
    let end = Hlc::at(Timestamp::from_millis(u64::MAX));
    assert_eq!(end.time().as_millis(), (1 << 48) - 1);
}

#[test]
fn an_actor_has_one_spelling_and_two_bytes() {
    let actor = Actor::new(ReplicaId::new(3), 7);
    assert_eq!("3.7".parse(), Ok(actor));
    assert_eq!(postcard::to_allocvec(&actor).unwrap(), [3, 7]);
    assert_eq!(serde_json::to_string(&actor).unwrap(), "\"3.7\"");
    for text in ["", "3", "3.", ".7", "03.7", "3.7.1", "+3.7", "65536.1", "3.4294967296"]
    {
        assert!(text.parse::<Actor>().is_err(), "{text}");
    }
}

#[test]
fn a_later_life_of_the_same_replica_succeeds() {
    let life = |replica, incarnation| Actor::new(ReplicaId::new(replica), incarnation);
    assert!(life(1, 2).succeeds(life(1, 1)));
    assert!(!life(1, 1).succeeds(life(1, 1)));
    assert!(!life(1, 1).succeeds(life(1, 2)));
    assert!(!life(2, 2).succeeds(life(1, 1)));
}

#[test]
fn what_is_no_token_says_what_to_do() {
    for text in ["0", "zz", "AB", "ffffffff", "0100", "é"] {
        let refused = text.parse::<DottedVersion>().unwrap_err();
        assert!(refused.to_string().contains("pass on what the reading gave"), "{text}");
    }
    assert_eq!("00".parse(), Ok(DottedVersion::new()));
}
