//! Values that live for a time.

use std::sync::Arc;
use std::time::Duration;

use super::net::{Net, bytes, id, latest, membership, written};
use crate::crdt::{Kind, Reading, Update};
use crate::level::Level;
use crate::membership::Membership;
use crate::policy::{Policies, Policy};

fn timed() -> Membership {
    let mut view = membership(&["a", "b", "c"]);
    let mut policies = super::net::policies();
    for (prefix, kind) in [("session/", Kind::Lww), ("tags/", Kind::OrSet)] {
        let mut policy = Policy::of(kind, Level::Eventual, "global".into());
        policy.ttl = Some(Duration::from_secs(10));
        policies.push((Arc::from(prefix), policy));
    }
    view.policies = Policies::new(policies);
    view
}

#[test]
fn a_value_ends_after_its_time_everywhere_and_leaves_nothing() {
    let mut net = Net::new(1, timed());
    net.run_secs(1);
    net.set(id(1), "session/x", "one");
    net.run_secs(8);
    assert_eq!(net.see(id(3), "session/x"), latest("one"));
    net.set(id(2), "session/x", "two");
    net.run_secs(8);
    assert_eq!(net.see(id(1), "session/x"), latest("two"));
    net.run_secs(3);
    for at in 1..=3 {
        assert_eq!(net.see(id(at), "session/x"), None);
    }
    net.run_secs(10);
    for at in 1..=3 {
        let stats = net.replica(id(at)).stats();
        assert_eq!((stats.keys, stats.log_records), (0, 0), "at {at}");
    }
    let expired: u64 = (1..=3).map(|at| net.replica(id(at)).stats().counts.expired).sum();
    assert_eq!(expired, 1, "one deletion is enough");
}

#[test]
fn a_write_after_the_end_begins_with_nothing() {
    let mut net = Net::new(1, timed());
    net.run_secs(1);
    let insert = |text: &str| Update::Insert(bytes(text));
    written(net.update(id(1), "tags/x", insert("old"), None));
    // Whoever is to delete it is away.
    for at in 2..=3 {
        net.crash(id(at));
    }
    net.run_secs(11);
    written(net.update(id(1), "tags/x", insert("new"), None));
    assert_eq!(net.see(id(1), "tags/x"), Some(Reading::Set(vec![bytes("new")])));
    net.run_secs(5);
    assert_eq!(net.see(id(1), "tags/x"), Some(Reading::Set(vec![bytes("new")])));
}

#[test]
fn a_restart_remembers_when_it_ends() {
    let mut net = Net::new(1, timed());
    net.run_secs(1);
    net.set(id(1), "session/x", "one");
    net.run_secs(1);
    for at in 1..=3 {
        net.crash(id(at));
        net.start(id(at));
    }
    net.run_secs(7);
    assert_eq!(net.see(id(2), "session/x"), latest("one"));
    net.run_secs(4);
    assert_eq!(net.see(id(2), "session/x"), None);
}

#[test]
fn the_end_of_a_life_takes_nothing_that_was_written_later() {
    for number in 0..8 {
        let key = format!("session/{number}");
        let mut net = Net::new(1, timed());
        net.run_secs(1);
        net.set(id(1), &key, "one");
        net.run_secs(1);
        net.cut_off(id(3));
        net.run_secs(7);
        // Written within the life, and not known to those who end it.
        net.set(id(3), &key, "two");
        net.run_secs(3);
        assert_eq!(net.see(id(1), &key), None);
        net.heal();
        net.run_secs(3);
        for at in 1..=3 {
            assert_eq!(net.see(id(at), &key), latest("two"), "{key} at {at}");
        }
        net.run_secs(6);
        assert_eq!(net.see(id(2), &key), None, "its own life is not longer for that");
        net.run_secs(10);
        net.assert_alike();
        assert_eq!(net.replica(id(2)).stats().keys, 0);
    }
}
