//! One suite of laws for every kind, over states that replicas really reach.

use proptest::prelude::*;

use super::world::{Event, World, events};
use super::{encoded, joined};
use crate::crdt::{Kind, Value};

/// States, deltas, and joins of some of them.
fn pool(world: &World) -> Vec<Value> {
    let mut pool: Vec<_> = world.replicas.iter().map(|at| at.value.clone()).collect();
    pool.extend(world.deltas.iter().cloned());
    let partial: Vec<_> = pool.windows(2).map(|two| joined(&two[0], &two[1])).collect();
    pool.extend(partial);
    pool
}

fn check_joins(pool: &[Value], picks: &[[u16; 3]]) {
    for pick in picks {
        let [a, b, c] = pick.map(|at| &pool[usize::from(at) % pool.len()]);
        assert_eq!(joined(&joined(a, b), c), joined(a, &joined(b, c)), "associative");
        assert_eq!(joined(a, b), joined(b, a), "commutative");
        assert_eq!(joined(a, a), *a, "idempotent");
        assert_eq!(joined(&joined(a, b), a), joined(a, b), "what was joined is below");
        assert_eq!(joined(a, &Value::bottom(a.kind())), *a, "bottom adds nothing");
    }
}

fn check_bytes(pool: &[Value]) {
    for value in pool {
        let bytes = encoded(value);
        let read = Value::decode(&bytes).unwrap();
        assert_eq!(read, *value, "decode undoes encode");
        assert_eq!(encoded(&read), bytes);
        assert_eq!(read.digest(), value.digest(), "a kept digest is the true one");
    }
    for (one, other) in pool.iter().zip(pool.iter().skip(1)) {
        assert_eq!(one == other, encoded(one) == encoded(other), "one encoding a state");
        assert_eq!(one == other, one.digest() == other.digest(), "one digest a state");
    }
}

/// Deltas in an order of their own, some of them twice, make what all states together make.
fn check_deltas(world: &World, order: &[u8]) {
    let mut states = Value::bottom(world.replicas[0].value.kind());
    for replica in &world.replicas {
        states.join(&replica.value).unwrap();
    }
    let rank = |at: &usize| {
        order[at % order.len()].wrapping_mul(31) ^ order[at / 7 % order.len()]
    };
    let mut indices: Vec<_> = (0..world.deltas.len()).collect();
    indices.sort_by_key(rank);
    let mut deltas = Value::bottom(states.kind());
    for at in indices.iter().chain(indices.iter().step_by(3)) {
        deltas.join(&world.deltas[*at]).unwrap();
    }
    assert_eq!(deltas, states, "deltas joined are states joined");
    assert_eq!(encoded(&deltas), encoded(&states));
}

/// When everybody has heard of everything, everybody holds the same bytes.
fn check_convergence(mut world: World) {
    for from in 0..world.replicas.len() {
        for to in 0..world.replicas.len() {
            world.sync(from, to);
        }
    }
    for to in 0..world.replicas.len() {
        world.sync(0, to);
        world.sync(2, to);
    }
    world.check();
    let bytes: Vec<_> = world.replicas.iter().map(|at| encoded(&at.value)).collect();
    assert!(bytes.iter().all(|other| *other == bytes[0]), "replicas converge");
}

fn check_laws(kind: Kind, events: &[Event], picks: &[[u16; 3]], order: &[u8]) {
    let world = World::run(kind, events);
    let pool = pool(&world);
    check_joins(&pool, picks);
    check_bytes(&pool);
    if !world.collected {
        check_deltas(&world, order);
    }
    check_convergence(world);
}

macro_rules! laws {
    ($($name:ident, $kind:expr;)*) => {$(
        proptest! {
            #[test]
            fn $name(
                events in events(),
                picks in proptest::collection::vec(any::<[u16; 3]>(), 8),
                order in proptest::collection::vec(any::<u8>(), 16),
            ) {
                check_laws($kind, &events, &picks, &order);
            }
        }
    )*};
}

laws! {
    a_growing_counter_keeps_the_laws, Kind::GCounter;
    a_counter_keeps_the_laws, Kind::PnCounter;
    a_growing_set_keeps_the_laws, Kind::GSet;
    a_set_keeps_the_laws, Kind::OrSet;
    a_last_write_keeps_the_laws, Kind::Lww;
    values_side_by_side_keep_the_laws, Kind::Mv;
    a_map_keeps_the_laws, Kind::OrMap;
    rights_keep_the_laws, Kind::Bounded;
    a_register_keeps_the_laws, Kind::Register;
}

#[test]
fn kinds_do_not_mix() {
    for one in Kind::ALL {
        for other in Kind::ALL {
            let mixed = Value::bottom(one).join(&Value::bottom(other));
            assert_eq!(mixed.is_ok(), one == other, "{one} and {other}");
        }
    }
}

#[test]
fn codes_and_kinds_stand_for_each_other() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_code(kind.code()), Some(kind));
    }
    assert_eq!(Kind::from_code(9), None);
}
