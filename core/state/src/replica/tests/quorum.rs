//! Level quorum: held by a majority of regions, or refused, or said to be unknown.

use std::time::Duration;

use super::net::{Net, bytes, id, key, latest, membership, read, written};
use crate::crdt::{Reading, Update};
use crate::level::Level;
use crate::replica::{Op, OpId, QuorumPhase, Refusal};

fn set(text: &str) -> Update {
    Update::Set(bytes(text))
}

fn stored(text: &str, reading: Option<Reading>) -> bool {
    matches!(reading, Some(Reading::Register { value: Some(value), .. }) if value == bytes(text))
}

#[test]
fn a_register_is_written_and_read_by_majorities() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    for (at, text) in [(1, "one"), (2, "two"), (3, "three")] {
        written(net.update(id(at), "reg/x", set(text), None));
        for from in [1, 2, 3] {
            let seen = read(net.get(id(from), "reg/x", None));
            assert_eq!(seen.level, Level::Quorum);
            assert!(stored(text, seen.reading));
        }
    }
}

#[test]
fn the_minority_is_refused_at_once_and_serves_weaker_levels() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    written(net.update(id(1), "quorum/x", set("one"), None));
    net.run_secs(1);
    net.cut_off(id(1));
    net.run_secs(4);
    let before = net.now;
    let refused = net.update(id(1), "quorum/x", set("two"), None).unwrap_err();
    let (reachable, need, phase) = (1, 2, QuorumPhase::Before);
    assert_eq!(refused, Refusal::QuorumUnavailable { reachable, need, phase });
    assert!(net.get(id(1), "quorum/x", Some(Level::Quorum)).is_err());
    assert_eq!(net.now, before, "it was not waited for");
    assert_eq!(net.see(id(1), "quorum/x"), latest("one"));
    written(net.update(id(2), "quorum/x", set("three"), None));
}

#[test]
fn a_write_that_a_majority_may_have_is_unknown_and_safe_to_ask_again() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    net.cut_off(id(1));
    let op_id = OpId { client: 1, number: 1 };
    let refused = net.update_once(id(1), "quorum/x", set("one"), op_id).unwrap_err();
    assert_eq!(refused, Refusal::Indeterminate { op_id: Some(op_id) });
    net.heal();
    net.run_secs(2);
    written(net.update_once(id(1), "quorum/x", set("one"), op_id));
    assert_eq!(
        read(net.get(id(3), "quorum/x", Some(Level::Quorum))).reading,
        latest("one")
    );
}

#[test]
fn a_read_writes_back_what_its_majority_did_not_have() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    net.cut_off(id(1));
    let op = Op::Update { key: key("quorum/x"), update: set("one"), op_id: None };
    net.ask(id(1), op, None, None);
    net.run(Duration::from_millis(50));
    // Only region a has it, and what was sent is lost and not sent again for two seconds.
    net.heal();
    net.cut(id(1), id(3));
    let seen = read(net.get(id(1), "quorum/x", Some(Level::Quorum))).reading;
    assert_eq!(seen, latest("one"));
    net.heal();
    net.cut_off(id(1));
    let later = read(net.get(id(3), "quorum/x", Some(Level::Quorum))).reading;
    assert_eq!(later, latest("one"), "a later read may not show less");
}

#[test]
fn region_majorities_count_and_not_replicas() {
    let mut net = Net::new(1, membership(&["a", "a", "a", "b", "c"]));
    net.run_secs(1);
    net.cut_off(id(4));
    net.cut_off(id(5));
    net.run_secs(4);
    let refused = net.update(id(1), "quorum/x", set("one"), None).unwrap_err();
    assert!(
        matches!(refused, Refusal::QuorumUnavailable { reachable: 1, .. }),
        "{refused}"
    );
    written(net.update(id(1), "lww/x", set("one"), Some(Level::Local)));
    let seen = read(net.get(id(2), "lww/x", Some(Level::Local)));
    assert_eq!((seen.reading, seen.level), (latest("one"), Level::Local));
}

#[test]
fn a_read_does_not_claim_what_came_after_its_value_was_taken() {
    let mut net = Net::new(1, membership(&["a", "b", "c", "d", "e"]));
    net.run_secs(1);
    net.set(id(5), "lww/x", "one");
    net.run_secs(1);
    net.crash(id(4));
    for other in [2, 3] {
        net.cut(id(1), id(other));
        net.cut(id(5), id(other));
    }
    let op = Op::Get { key: key("lww/x"), max_staleness: None };
    let asked = net.ask(id(1), op, Some(Level::Quorum), None);
    net.run(Duration::from_millis(100));
    // Two of five have answered. The newer value comes by push before the third answer.
    let newer = net.set(id(5), "lww/x", "two");
    net.run(Duration::from_millis(100));
    assert_eq!(net.see(id(1), "lww/x"), latest("two"));
    net.heal();
    net.cut(id(5), id(2));
    let seen = read(net.wait(asked));
    assert_eq!(seen.reading, latest("one"), "no majority has the newer one");
    assert!(!seen.token.0.covers(&newer.token.0), "{:?}", seen.token);
}
