//! Encodings: small, postcard's, and safe against whoever makes them up.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;

use super::world::{World, events};
use super::{actor, apply, encoded, joined, writer};
use crate::bytes::Bytes;
use crate::clock::{Actor, DottedVersion};
use crate::codec::DecodeError;
use crate::crdt::limit::{JOINED_BYTES_MAX, WRITTEN_BYTES_MAX};
use crate::crdt::{Kind, Update, Value};

/// Bytes that were tampered with are refused, or are the one encoding of some value, with which
/// everything can be done that is done to values.
fn check(bytes: &[u8], honest: &Value) {
    let Ok(value) = Value::decode(bytes) else { return };
    assert_eq!(encoded(&value), bytes, "accepted, so canonical");
    let again = Value::decode(&encoded(&value)).unwrap();
    assert_eq!((value.digest(), value.read()), (again.digest(), again.read()));
    assert_eq!(joined(&value, &value), value);
    if value.kind() == honest.kind() {
        let both = joined(&value, honest);
        assert_eq!(both, joined(honest, &value));
        assert_eq!(joined(&both, &value), both);
        assert_eq!(Value::decode(&encoded(&both)), Ok(both));
    }
    let updates = [
        Update::Increment(1),
        Update::Add(-1),
        Update::Insert("a".into()),
        Update::Spend(1),
        Update::Write { value: Some("a".into()), seen: DottedVersion::new() },
        Update::Delete,
    ];
    for update in updates {
        if let Ok(delta) = value.update(&update, &writer(1, 1 << 40)) {
            assert_eq!(joined(&joined(&value, &delta), &delta), joined(&value, &delta));
        }
    }
}

fn tampered(bytes: &[u8], changes: &[(u8, u16, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (what, at, byte) in changes {
        let at = usize::from(*at) % (bytes.len() + 1);
        match what % 5 {
            0 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            1 if at < bytes.len() => bytes[at] = *byte,
            2 => bytes.insert(at, *byte),
            3 => bytes.truncate(at),
            _ if at < bytes.len() => {
                bytes.remove(at);
            }
            _ => {}
        }
    }
    bytes
}

proptest! {
    #[test]
    fn tampered_bytes_do_no_harm(
        kind in prop::sample::select(&Kind::ALL[..]),
        events in events(),
        changes in vec((any::<u8>(), any::<u16>(), any::<u8>()), 1..4),
        cuts in vec(any::<u16>(), 2),
    ) {
        let world = World::run(kind, &events);
        let honest = &world.replicas[0].value;
        let bytes = encoded(honest);
        check(&tampered(&bytes, &changes), honest);
        // The head of one encoding and the tail of another.
        let other = encoded(&world.replicas[1].value);
        let head = usize::from(cuts[0]) % (bytes.len() + 1);
        let tail = usize::from(cuts[1]) % (other.len() + 1);
        check(&[&bytes[..head], &other[tail..]].concat(), honest);
    }

    #[test]
    fn random_bytes_do_no_harm(code in 0..10_u8, bytes in vec(0..6_u8, 0..60)) {
        let bytes = [&[code], bytes.as_slice()].concat();
        check(&bytes, &Value::bottom(Kind::OrSet));
    }

    #[test]
    fn every_shorter_encoding_is_refused(
        kind in prop::sample::select(&Kind::ALL[..]),
        events in events(),
    ) {
        let bytes = encoded(&World::run(kind, &events).replicas[0].value);
        for len in 0..bytes.len() {
            prop_assert!(Value::decode(&bytes[..len]).is_err());
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        prop_assert_eq!(Value::decode(&longer), Err(DecodeError::Trailing { bytes: 1 }));
    }
}

/// The deltas that the wire is full of.
#[test]
fn small_deltas_are_small() {
    let len = |value: &Value| encoded(value).len();
    let mut counter = Value::bottom(Kind::GCounter);
    for seq in 1..1_000 {
        apply(&mut counter, &Update::Increment(7), &writer(3, seq));
    }
    let delta = counter.update(&Update::Increment(7), &writer(3, 1_000)).unwrap();
    assert_eq!(len(&delta), 6, "kind, length, replica, incarnation, two for 7000");

    let mut set = Value::bottom(Kind::OrSet);
    apply(&mut set, &Update::Insert("x".repeat(16).as_str().into()), &writer(3, 100_000));
    let element = Update::Insert("y".repeat(16).as_str().into());
    let delta = set.update(&element, &writer(3, 100_200)).unwrap();
    assert_eq!(len(&delta), 33, "of which the element is 17");

    let lww = Value::bottom(Kind::Lww).update(&Update::Set("up".into()), &writer(3, 5));
    assert_eq!(len(&lww.unwrap()), 9, "and up to 8 more for a real stamp");
}

#[test]
fn claims_of_huge_lengths_do_no_harm() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for kind in Kind::ALL {
        assert!(Value::decode(&[&[kind.code()][..], &huge].concat()).is_err(), "{kind}");
        for before in 1..8 {
            for filler in [0, 1] {
                // Some of them are numbers and not lengths, and then a value may be read.
                let bytes = [&[kind.code()][..], &vec![filler; before], &huge].concat();
                check(&bytes, &Value::bottom(kind));
            }
        }
    }
}

#[test]
fn what_is_over_a_limit_is_refused_by_size() {
    let over = vec![0; JOINED_BYTES_MAX + 1];
    assert!(matches!(Value::decode(&over), Err(DecodeError::TooLarge { .. })));
    let mut written = vec![Kind::Register.code(), 1, 1, 3, 1, 1, 0x81, 0x80, 0x40];
    written.resize(written.len() + WRITTEN_BYTES_MAX + 1, 0);
    assert!(matches!(Value::decode(&written), Err(DecodeError::TooLarge { .. })));
    assert_eq!(Value::decode(&[9]), Err(DecodeError::UnknownKind(9)));
    assert_eq!(Value::decode(&[]), Err(DecodeError::Truncated));
}

/// The encodings read by postcard, into types that were written for this test.
#[test]
fn postcard_reads_what_we_write() {
    fn read<T: for<'de> Deserialize<'de>>(value: &Value) -> T {
        let (_, read): (u8, T) = postcard::from_bytes(&encoded(value)).unwrap();
        read
    }
    let mut counter = Value::bottom(Kind::GCounter);
    apply(&mut counter, &Update::Increment(300), &writer(1, 1));
    apply(&mut counter, &Update::Increment(2), &writer(9, 1));
    let counts: BTreeMap<Actor, u64> = read(&counter);
    assert_eq!(counts, BTreeMap::from([(actor(1, 1), 300), (actor(9, 1), 2)]));

    let mut lww = Value::bottom(Kind::Lww);
    apply(&mut lww, &Update::Set("up".into()), &writer(1, 70_000));
    let write: Option<(u64, Actor, Option<Bytes>)> = read(&lww);
    assert_eq!(write, Some((70_000, actor(1, 1), Some("up".into()))));

    // Spans as (distance, length), then elements with (place of the actor, number) as dots.
    type Set = (Vec<(Actor, Vec<(u64, u64)>)>, Vec<(Bytes, Vec<(usize, u64)>)>);
    let mut set = Value::bottom(Kind::OrSet);
    apply(&mut set, &Update::Insert("b".into()), &writer(1, 4));
    apply(&mut set, &Update::Insert("a".into()), &writer(2, 300));
    apply(&mut set, &Update::Insert("b".into()), &writer(2, 310));
    let (seen, elements): Set = read(&set);
    assert_eq!(seen, [(actor(1, 1), vec![(0, 4)]), (actor(2, 1), vec![(0, 310)])]);
    assert_eq!(elements, [("a".into(), vec![(1, 300)]), ("b".into(), vec![(1, 310)])]);
}
