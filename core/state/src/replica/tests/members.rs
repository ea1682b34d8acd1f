//! Coming and going: nothing that was deleted comes back, nothing that was acknowledged by a
//! majority is lost, and what only an evicted replica had is reported.

use super::net::{Net, bytes, id, latest, membership, read, region, written};
use crate::clock::ReplicaId;
use crate::crdt::Update;
use crate::level::Level;
use crate::membership::{ChangeDenied, Settled};
use crate::replica::{Notice, Refusal};

fn stats(net: &Net, of: ReplicaId) -> crate::replica::Stats {
    net.replica(of).stats()
}

#[test]
fn what_was_deleted_is_forgotten_when_everybody_knows_and_not_before() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    net.set(id(1), "lww/x", "one");
    net.run_secs(1);
    net.cut_off(id(3));
    written(net.update(id(1), "lww/x", Update::Delete, None));
    net.run_secs(30);
    assert_eq!(stats(&net, id(1)).keys, 1);
    assert_eq!(stats(&net, id(1)).collection_blocked_by, vec![id(3)]);
    net.heal();
    net.run_secs(5);
    for at in 1..=3 {
        assert_eq!(stats(&net, id(at)).keys, 0, "at {at}");
        assert_eq!(
            net.nodes[&id(at)].disk.keys().filter(|row| row.starts_with("s/")).count(),
            0
        );
    }
    net.run_secs(20);
    assert_eq!(net.see(id(2), "lww/x"), None);
}

#[test]
fn an_evicted_replica_blocks_nothing_and_brings_nothing_back() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    net.set(id(3), "lww/old", "one");
    net.run_secs(1);
    net.cut_off(id(3));
    net.set(id(3), "lww/unsent", "two");
    written(net.update(id(1), "lww/old", Update::Delete, None));
    let evicted = net.view.evicting(id(3));
    let (shown, away) = (net.view.may_follow(&evicted), id(3));
    shown.unwrap();
    net.view = std::sync::Arc::new(evicted);
    for at in [1, 2] {
        let view = std::sync::Arc::clone(&net.view);
        net.give(id(at), crate::replica::Input::View(view));
    }
    net.run_secs(10);
    assert_eq!(stats(&net, id(1)).keys, 0);
    assert_eq!(stats(&net, id(1)).settled, Settled::in_epoch(2));
    net.heal();
    net.run_secs(10);
    assert_eq!(net.see(id(1), "lww/old"), None);
    assert_eq!(net.see(id(1), "lww/unsent"), None);
    let refused = net.get(away, "lww/old", None).unwrap_err();
    assert!(matches!(refused, Refusal::NotServing { .. }), "{refused}");
    assert!(net.notices.contains(&(away, Notice::Evicted { epoch: 2 })));
}

#[test]
fn who_is_no_member_lets_its_process_sleep() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    net.follow(net.view.evicting(id(3)));
    net.run_secs(5);
    net.give(id(3), crate::replica::Input::Tick);
    let (now, deadline) = (net.clocks(id(3)).mono, net.replica(id(3)).next_deadline());
    assert!(deadline.is_none_or(|deadline| deadline > now), "{deadline:?} at {now:?}");
}

#[test]
fn it_comes_back_empty_and_reports_what_nobody_else_had() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    net.set(id(3), "lww/shared", "zero");
    net.run_secs(1);
    net.cut_off(id(3));
    net.set(id(3), "lww/unsent", "two");
    net.follow(net.view.evicting(id(3)));
    net.run_secs(5);
    net.heal();
    net.follow(net.view.admitting(id(3), region("c")));
    net.run_secs(10);
    let reported = net.notices.iter().find_map(|(of, notice)| {
        let Notice::Unsent(unsent) = notice else { return None };
        (*of == id(3)).then(|| unsent.clone())
    });
    let keys: Vec<_> =
        reported.unwrap().iter().map(|unsent| unsent.key.to_string()).collect();
    assert_eq!(keys, vec!["lww/unsent"]);
    assert_eq!(stats(&net, id(3)).settled.epoch, 3);
    net.follow(net.view.activating(id(3)));
    net.run_secs(5);
    assert_eq!(net.see(id(3), "lww/shared"), latest("zero"));
    assert_eq!(net.see(id(1), "lww/unsent"), None);
    written(net.update(id(3), "lww/new", Update::Set(bytes("new")), None));
    net.run_secs(1);
    assert_eq!(net.see(id(1), "lww/new"), latest("new"));
    net.assert_alike();
}

#[test]
fn who_may_not_hold_a_key_does_not_count_for_its_records() {
    let mut net = Net::new(1, super::fence::fenced());
    net.run_secs(1);
    net.cut(id(1), id(2));
    net.cut(id(1), id(3));
    net.set(id(1), "eu/lww/x", "unsent");
    net.set(id(1), "lww/x", "sent");
    net.run_secs(2);
    assert_eq!(net.see(id(4), "lww/x"), latest("sent"));
    net.follow(net.view.evicting(id(1)));
    net.run_secs(5);
    net.heal();
    net.follow(net.view.admitting(id(1), region("a")));
    net.run_secs(10);
    let reported = net.notices.iter().filter_map(|(_, notice)| {
        let Notice::Unsent(unsent) = notice else { return None };
        Some(unsent.iter().map(|unsent| unsent.key.to_string()))
    });
    assert_eq!(reported.flatten().collect::<Vec<_>>(), vec!["eu/lww/x"]);
}

#[test]
fn one_that_was_put_out_for_its_clock_comes_back_with_a_right_one() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.nodes.get_mut(&id(3)).unwrap().skew_ms = 3_600_000;
    net.run_secs(2);
    net.set(id(3), "lww/x", "ahead");
    net.nodes.get_mut(&id(3)).unwrap().skew_ms = 0;
    net.follow(net.view.evicting(id(3)));
    net.run_secs(5);
    net.follow(net.view.admitting(id(3), region("c")));
    net.run_secs(10);
    net.follow(net.view.activating(id(3)));
    net.run_secs(5);
    net.set(id(3), "lww/y", "right");
    net.run_secs(2);
    assert_eq!(net.see(id(1), "lww/y"), latest("right"));
    assert_eq!(net.see(id(1), "lww/x"), None);
    net.assert_alike();
}

#[test]
fn before_the_first_epoch_was_nothing_that_anybody_could_miss() {
    // In a later epoch one of two in a region has to have settled.
    let mut net = Net::new(1, membership(&["a", "b", "b"]));
    net.crash(id(3));
    net.run_secs(5);
    let evicting = net.view.evicting(id(3));
    net.view.ready_for(&evicting, &settled(&net)).unwrap();
}

/// How far the replicas have settled that run.
fn settled(net: &Net) -> std::collections::BTreeMap<ReplicaId, Settled> {
    let running = net.nodes.iter().filter(|(_, node)| node.replica.is_some());
    running.map(|(of, _)| (*of, stats(net, *of).settled)).collect()
}

#[test]
fn one_that_died_before_an_epoch_settled_can_be_evicted_and_loses_nothing() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    net.cut(id(1), id(2));
    written(net.update(id(3), "quorum/x", Update::Set(bytes("one")), None));
    net.crash(id(3));
    let mut rules = (*net.view).clone();
    rules.epoch += 1;
    net.follow(rules.clone());
    net.run_secs(5);
    let evicting = net.view.evicting(id(3));
    let denied = net.view.ready_for(&evicting, &settled(&net)).unwrap_err();
    assert!(matches!(denied, ChangeDenied::NotSettled { .. }), "{denied}");
    net.heal();
    net.run_secs(5);
    // Any other change has to wait for the dead one, and says for whom.
    rules.epoch += 1;
    let denied = net.view.ready_for(&rules, &settled(&net)).unwrap_err().to_string();
    assert!(denied.contains("evict 3 if that one does not come back"), "{denied}");
    net.view.ready_for(&evicting, &settled(&net)).unwrap();
    net.follow(evicting);
    net.run_secs(5);
    assert_eq!(stats(&net, id(1)).settled, Settled::in_epoch(3));
    for at in [1, 2] {
        let seen = read(net.get(id(at), "quorum/x", Some(Level::Quorum))).reading;
        assert_eq!(seen, latest("one"));
    }
}

#[test]
fn one_that_alone_may_have_what_was_acknowledged_is_not_evicted_unsettled() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    net.follow(net.view.evicting(id(2)));
    net.crash(id(2));
    net.crash(id(3));
    net.run_secs(5);
    assert_eq!(stats(&net, id(1)).settled.but, Some((2, id(3))));
    // A majority of the three may have been 2 and 3.
    let evicting = net.view.evicting(id(3));
    let denied = net.view.ready_for(&evicting, &settled(&net)).unwrap_err();
    assert!(matches!(denied, ChangeDenied::NotSettled { .. }), "{denied}");
}
