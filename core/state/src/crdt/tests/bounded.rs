//! Rights are never overspent, whatever is lost, repeated or restarted.

use proptest::prelude::*;

use super::world::{World, events};
use super::{actor, apply, writer};
use crate::crdt::{Kind, MintId, Reading, Update, UpdateError, Value, Writer};

fn mint(id: u128, to: u16, amount: u64) -> Update {
    Update::Mint { id: MintId::new(id), to: actor(to, 1), amount }
}

fn rights(value: &Value, replica: u16, incarnation: u32) -> u64 {
    let Reading::Bounded(reading) = value.read() else { unreachable!("bounded") };
    reading.rights.get(&actor(replica, incarnation)).copied().unwrap_or(0)
}

proptest! {
    // What is lost is never delivered, what is repeated is delivered twice; restarts keep what was
    // durable. All replicas together know exactly what is in use.
    #[test]
    fn what_is_in_use_never_exceeds_what_was_minted(events in events()) {
        let mut world = World::new(Kind::Bounded);
        for event in &events {
            world.step(event);
            let mut all = Value::bottom(Kind::Bounded);
            for replica in &world.replicas {
                all.join(&replica.value).unwrap();
            }
            let Reading::Bounded(all) = all.read() else { unreachable!("bounded") };
            let idle: u64 = all.rights.values().sum();
            prop_assert_eq!(all.used + idle, all.minted, "every right is used or somebody's");
        }
    }
}

#[test]
fn a_spend_beyond_the_rights_says_who_has_more() {
    let mut counter = Value::bottom(Kind::Bounded);
    apply(&mut counter, &mint(1, 1, 10), &writer(1, 1));
    apply(&mut counter, &mint(2, 2, 7), &writer(1, 2));
    apply(&mut counter, &Update::Spend(4), &writer(1, 3));
    let refused = counter.update(&Update::Spend(7), &writer(1, 4));
    let (have, wanted, elsewhere) = (6, 7, 7);
    let expected =
        UpdateError::RightsExhausted { actor: actor(1, 1), have, wanted, elsewhere };
    assert_eq!(refused, Err(expected));
    assert!(counter.update(&Update::Spend(6), &writer(1, 4)).is_ok());
}

#[test]
fn one_operation_mints_once_and_says_one_thing() {
    let mut counter = Value::bottom(Kind::Bounded);
    apply(&mut counter, &mint(1, 1, 10), &writer(1, 1));
    apply(&mut counter, &mint(1, 1, 10), &writer(1, 2));
    assert_eq!(rights(&counter, 1, 1), 10);
    let other = counter.update(&mint(1, 1, 11), &writer(1, 3));
    assert_eq!(other, Err(UpdateError::MintDiffers { id: MintId::new(1) }));
    let Value::Bounded(_) =
        counter.update(&mint(2, 1, u64::MAX - 10), &writer(1, 3)).unwrap()
    else {
        unreachable!("bounded")
    };
    let over = counter.update(&mint(2, 1, u64::MAX - 9), &writer(1, 3));
    assert_eq!(over, Err(UpdateError::Overflow { kind: Kind::Bounded }));
}

#[test]
fn a_restarted_replica_inherits_and_gives_back_what_its_earlier_lives_held() {
    let mut counter = Value::bottom(Kind::Bounded);
    apply(&mut counter, &mint(1, 1, 10), &writer(1, 1));
    apply(&mut counter, &Update::Spend(3), &writer(1, 2));
    let second = Writer { actor: actor(1, 2), ..writer(1, 1) };
    assert!(
        counter.update(&Update::Spend(1), &second).is_err(),
        "a new actor has nothing"
    );
    {
        let Value::Bounded(counter) = &counter else { unreachable!("bounded") };
        assert_eq!(counter.heritage(second.actor).collect::<Vec<_>>(), [actor(1, 1)]);
    }
    let inherit = Update::Inherit { from: actor(1, 1) };
    apply(&mut counter, &inherit, &second);
    assert_eq!((rights(&counter, 1, 1), rights(&counter, 1, 2)), (0, 7));
    apply(&mut counter, &inherit, &second);
    assert_eq!(rights(&counter, 1, 2), 7, "a second time there is nothing left");

    let release = Update::Release { by: actor(1, 1), amount: 3 };
    apply(&mut counter, &release, &second);
    let again = counter.update(&release, &second);
    assert_eq!(again, Err(UpdateError::NotUsed { by: actor(1, 1), used: 0, amount: 3 }));
    apply(&mut counter, &inherit, &second);
    assert_eq!(rights(&counter, 1, 2), 10);
}

#[test]
fn nobody_decides_for_another_replica_or_a_later_life() {
    let mut counter = Value::bottom(Kind::Bounded);
    apply(&mut counter, &mint(1, 1, 10), &writer(1, 1));
    apply(&mut counter, &Update::Spend(3), &writer(1, 2));
    let refused = |update, by| {
        let answer = counter.update(&update, &by);
        assert!(matches!(answer, Err(UpdateError::NotTheOwner { .. })), "{answer:?}");
    };
    refused(Update::Inherit { from: actor(1, 1) }, writer(2, 1));
    refused(Update::Inherit { from: actor(1, 2) }, writer(1, 3));
    refused(Update::Inherit { from: actor(1, 1) }, writer(1, 3));
    refused(Update::Release { by: actor(1, 1), amount: 1 }, writer(2, 1));
}

#[test]
fn rights_that_were_passed_on_before_they_are_known_here_do_not_count() {
    let mut whole = Value::bottom(Kind::Bounded);
    apply(&mut whole, &mint(1, 1, 10), &writer(1, 1));
    let passed = apply(
        &mut whole,
        &Update::Transfer { to: actor(2, 1), amount: 4 },
        &writer(1, 2),
    );
    let mut part = Value::bottom(Kind::Bounded);
    part.join(&passed).unwrap();
    assert_eq!((rights(&part, 1, 1), rights(&part, 2, 1)), (0, 4));
    part.join(&whole).unwrap();
    assert_eq!((rights(&part, 1, 1), rights(&part, 2, 1)), (6, 4));
}
