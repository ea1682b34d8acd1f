//! Slots move while they are used: first a learner, then a voter, then the old one goes.

use std::collections::{BTreeMap, BTreeSet};

use crate::bytes::Bytes;

use super::net::{Net, bytes, id, membership, read, region, written};
use crate::crdt::{Reading, Update};
use crate::membership::{ChangeDenied, Membership, Settled};
use crate::replica::Refusal;
use crate::shard::{Jurisdiction, Placement, Wanted};

/// Regions a, b, c hold everything, d nothing yet.
fn three_of_four() -> Membership {
    let mut view = membership(&["a", "b", "c", "d"]);
    let mut area = Jurisdiction::everywhere(["a", "b", "c", "d"].map(region));
    area.usual = Placement::of(["a", "b", "c"].map(region));
    view.shards.jurisdictions.insert("global".into(), area);
    view
}

fn with(view: &Membership, voters: &[&str], learners: &[&str]) -> Membership {
    let mut next = view.clone();
    next.epoch += 1;
    let names = |names: &[&str]| names.iter().map(|name| region(name)).collect();
    let placement = Placement { voters: names(voters), learners: names(learners) };
    let area = next.shards.jurisdictions.get_mut(&"global".into()).unwrap();
    area.usual = placement;
    next
}

/// Moves on to the next membership when everybody is ready for it.
fn advance(net: &mut Net, next: Membership) {
    let settled = |net: &Net| {
        let all = net.nodes.keys();
        all.map(|member| (*member, net.replica(*member).stats().settled)).collect()
    };
    let end = net.now + std::time::Duration::from_secs(30);
    while net.view.ready_for(&next, &settled(net)).is_err() {
        assert!(net.now < end, "{:?}", net.view.ready_for(&next, &settled(net)));
        net.step();
    }
    net.follow(next);
}

#[test]
fn a_slot_moves_under_writes_and_loses_nothing() {
    let mut net = Net::new(1, three_of_four());
    net.run_secs(1);
    for number in 0..40 {
        let set = Update::Set(bytes(&number.to_string()));
        written(net.update(id(1), &format!("reg/{number}"), set, None));
    }
    let refused = net.get(id(4), "reg/1", None).unwrap_err();
    assert!(matches!(refused, Refusal::NotHeld { .. }), "{refused}");
    let steps: [(&[&str], &[&str]); 4] = [
        (&["a", "b", "c"], &["d"]),
        (&["a", "b", "c", "d"], &[]),
        (&["b", "c", "d"], &["a"]),
        (&["b", "c", "d"], &[]),
    ];
    for (step, (voters, learners)) in steps.into_iter().enumerate() {
        let next = with(&net.view, voters, learners);
        advance(&mut net, next);
        let set = Update::Set(bytes(&format!("step {step}")));
        net.run_secs(1);
        written(net.update(id(2), &format!("reg/{step}"), set, None));
    }
    net.run_secs(5);
    // Two of the three regions that held it first are gone, and nothing is lost.
    net.cut_off(id(1));
    net.cut_off(id(2));
    for number in 4..40 {
        let seen = read(net.get(id(4), &format!("reg/{number}"), None)).reading;
        let Some(Reading::Register { value, .. }) = seen else { panic!("{seen:?}") };
        assert_eq!(value, Some(bytes(&number.to_string())));
    }
    let left: BTreeSet<_> = net.contents(id(1)).into_keys().collect();
    assert!(left.is_empty(), "what is not held any more is dropped: {left:?}");
}

#[test]
fn slots_walk_to_where_they_are_wanted_under_writes() {
    let mut net = Net::new(2, membership(&["a", "b", "c", "d"]));
    net.run_secs(1);
    let wanted = Wanted::spread(BTreeSet::new(), 2, &net.view.voting()).unwrap();
    let wanted = BTreeMap::from([("global".into(), wanted)]);
    let mut round = 0;
    let mut last = BTreeMap::new();
    loop {
        for number in 0..40 {
            let (key, value) = (format!("reg/{number}"), bytes(&format!("{round}")));
            assert!(set_anywhere(&mut net, &key, &value), "{key} is nowhere");
            last.insert(key, value);
        }
        let Some(next) = net.view.rebalanced(&wanted) else { break };
        advance(&mut net, next);
        round += 1;
    }
    assert_eq!(round, 2, "one region of each slot stops at a time");
    net.run_secs(5);
    let mut copies = 0;
    for (key, value) in last {
        for node in 1..=4 {
            let seen = match net.get(id(node), &key, None) {
                Err(Refusal::NotHeld { .. }) => continue,
                seen => read(seen).reading,
            };
            let Some(Reading::Register { value: found, .. }) = seen else {
                panic!("{seen:?}")
            };
            assert_eq!(found, Some(value.clone()), "{key} at {node}");
            copies += 1;
        }
    }
    assert_eq!(copies, 80, "each key is in two regions");
}

/// Has the first replica that holds the key take a write; says whether one did.
fn set_anywhere(net: &mut Net, key: &str, value: &Bytes) -> bool {
    (1..=4).any(|node| {
        match net.update(id(node), key, Update::Set(value.clone()), None) {
            Err(Refusal::NotHeld { .. }) => false,
            done => {
                written(done);
                true
            }
        }
    })
}

#[test]
fn steps_that_could_lose_a_majority_are_refused() {
    let view = three_of_four();
    let two = with(&view, &["a", "d"], &[]);
    let denied = view.may_follow(&two).unwrap_err();
    assert!(matches!(denied, ChangeDenied::SlotTooFar { .. }), "{denied}");
    let unlearned = with(&view, &["a", "b", "c", "d"], &[]);
    let denied = view.may_follow(&unlearned).unwrap_err();
    assert!(matches!(denied, ChangeDenied::NotLearned { .. }), "{denied}");
    let mut both = with(&view, &["a", "b"], &[]);
    both.members.remove(&id(4));
    both.evicted.insert(id(4), 1);
    let denied = view.may_follow(&both).unwrap_err();
    assert!(matches!(denied, ChangeDenied::TooManyVotes { .. }), "{denied}");
    let next = with(&view, &["a", "b"], &["c"]);
    let denied =
        view.ready_for(&next, &[(id(1), Settled::in_epoch(1))].into()).unwrap_err();
    assert!(matches!(denied, ChangeDenied::NotSettled { .. }), "{denied}");
    let mut reused = view.evicting(id(4));
    reused.evicted.clear();
    let denied = view.may_follow(&reused).unwrap_err();
    assert!(matches!(denied, ChangeDenied::SameAdmission { .. }), "{denied}");
}
