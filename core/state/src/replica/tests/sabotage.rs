//! Rules broken on purpose: what the tests beside this watch for is seen when it happens.

use std::time::Duration;

use super::net::{Net, bytes, id, key, latest, membership, read, written};
use crate::crdt::{Reading, Update};
use crate::level::Level;
use crate::membership::Membership;
use crate::replica::{Op, OpId, Sabotage};

fn broken(view: Membership, sabotage: Sabotage) -> Net {
    let mut net = Net::new(1, view);
    let all: Vec<_> = net.nodes.keys().copied().collect();
    for at in all {
        net.nodes.get_mut(&at).unwrap().config.sabotage = sabotage;
        net.crash(at);
        net.start(at);
    }
    net.run_secs(1);
    net
}

fn set(name: &str, text: &str) -> Op {
    Op::Update { key: key(name), update: Update::Set(bytes(text)), op_id: None }
}

#[test]
fn an_answer_before_durability_is_lost_in_a_crash() {
    let mut net = broken(membership(&["a"]), Sabotage::AcksBeforeDurable);
    net.nodes.get_mut(&id(1)).unwrap().stalled = true;
    let request = net.ask(id(1), set("lww/x", "one"), None, None);
    written(net.wait(request));
    net.crash(id(1));
    net.start(id(1));
    assert_eq!(net.see(id(1), "lww/x"), None);
}

#[test]
fn a_reused_incarnation_is_not_heard() {
    let mut net = broken(membership(&["a", "b"]), Sabotage::ReusesIncarnation);
    for _ in 0..3 {
        net.set(id(1), "lww/x", "one");
    }
    net.run_secs(1);
    net.crash(id(1));
    net.start(id(1));
    net.set(id(1), "lww/y", "lost");
    net.run(Duration::from_millis(500));
    assert_eq!(net.see(id(2), "lww/y"), None);
}

#[test]
fn a_read_that_is_not_written_back_is_unseen_later() {
    let mut net = broken(membership(&["a", "b", "c"]), Sabotage::SkipsWriteBack);
    net.cut_off(id(1));
    net.ask(id(1), set("quorum/x", "one"), None, None);
    net.run(Duration::from_millis(50));
    net.heal();
    net.cut(id(1), id(3));
    let seen = read(net.get(id(1), "quorum/x", Some(Level::Quorum))).reading;
    assert_eq!(seen, latest("one"));
    net.heal();
    net.cut_off(id(1));
    assert_eq!(read(net.get(id(3), "quorum/x", Some(Level::Quorum))).reading, None);
}

#[test]
fn a_majority_of_replicas_is_no_majority_of_regions() {
    let view = membership(&["a", "a", "a", "b", "c"]);
    let mut net = broken(view, Sabotage::CountsReplicas);
    net.cut_off(id(4));
    net.cut_off(id(5));
    net.run_secs(4);
    let update = Update::Set(bytes("one"));
    written(net.update(id(1), "quorum/x", update, None));
}

#[test]
fn what_is_forgotten_by_time_comes_back() {
    let mut net = broken(membership(&["a", "b", "c"]), Sabotage::CollectsByTime);
    net.set(id(1), "lww/x", "one");
    net.run_secs(1);
    net.cut_off(id(3));
    written(net.update(id(1), "lww/x", Update::Delete, None));
    net.run_secs(10);
    assert_eq!(net.replica(id(1)).stats().keys, 0);
}

#[test]
fn a_gap_that_is_passed_loses_what_was_in_it() {
    let mut net = broken(membership(&["a", "b"]), Sabotage::AppliesPastGap);
    net.cut(id(1), id(2));
    net.set(id(1), "lww/x", "lost");
    net.heal();
    net.set(id(1), "lww/y", "next");
    net.run(Duration::from_millis(300));
    assert_eq!(net.see(id(2), "lww/y"), latest("next"));
    assert_eq!(net.see(id(2), "lww/x"), None);
}

#[test]
fn without_the_fence_the_canary_escapes() {
    let mut net = broken(super::fence::fenced(), Sabotage::IgnoresFence);
    net.record = true;
    net.set(id(1), "eu/lww/x", "canary");
    net.run_secs(1);
    let escaped = net.sent.iter().any(|(_, to, bytes)| {
        to.get() > 3 && bytes.windows(6).any(|window| window == b"canary")
    });
    assert!(escaped);
}

#[test]
fn a_session_that_is_ignored_sees_less() {
    let mut net = broken(membership(&["a", "b"]), Sabotage::IgnoresSession);
    net.cut(id(1), id(2));
    let token = net.set(id(1), "lww/x", "one").token;
    let op = Op::Get { key: key("lww/x"), max_staleness: None };
    let request = net.ask(id(2), op, None, Some(token));
    assert_eq!(read(net.wait(request)).reading, None);
}

#[test]
fn an_operation_that_is_not_remembered_is_done_twice() {
    let op_id = OpId { client: 1, number: 1 };
    for (sabotage, crash) in
        [(Sabotage::ForgetsOpIds, false), (Sabotage::StoresOpIdsLate, true)]
    {
        let mut net = broken(membership(&["a"]), sabotage);
        written(net.update_once(id(1), "count/x", Update::Increment(1), op_id));
        if crash {
            net.crash(id(1));
            net.start(id(1));
        }
        written(net.update_once(id(1), "count/x", Update::Increment(1), op_id));
        assert_eq!(net.see(id(1), "count/x"), Some(Reading::Count(2)), "{sabotage:?}");
    }
}

#[test]
fn what_is_shown_before_it_is_durable_never_was() {
    let mut net = broken(membership(&["a"]), Sabotage::ShowsUndurable);
    net.nodes.get_mut(&id(1)).unwrap().stalled = true;
    net.ask(id(1), set("lww/x", "one"), None, None);
    assert_eq!(net.see(id(1), "lww/x"), latest("one"));
    net.crash(id(1));
    net.start(id(1));
    assert_eq!(net.see(id(1), "lww/x"), None);
}

#[test]
fn a_stamp_far_ahead_is_taken() {
    let mut net = broken(membership(&["a", "b"]), Sabotage::TakesAnyStamp);
    net.nodes.get_mut(&id(1)).unwrap().skew_ms = 5_000;
    net.set(id(1), "lww/x", "ahead");
    net.run_secs(1);
    net.set(id(2), "lww/x", "right and later");
    net.run_secs(1);
    assert_eq!(net.see(id(2), "lww/x"), latest("ahead"));
}

#[test]
fn a_level_that_was_not_reached_is_answered_as_if_it_were() {
    let mut net = broken(membership(&["a", "b", "c"]), Sabotage::AnswersWeaker);
    net.cut_off(id(1));
    let request = net.ask(id(1), set("quorum/x", "one"), None, None);
    assert_eq!(written(net.wait(request)).level, Level::Quorum);
    assert_eq!(net.see(id(2), "quorum/x"), None);
}

#[test]
fn a_replica_that_rejoins_with_its_old_state_brings_it_back() {
    let view = membership(&["a", "b", "c"]);
    let mut net = broken(view, Sabotage::RejoinsWithOldState);
    net.cut_off(id(3));
    net.set(id(3), "lww/unsent", "two");
    net.follow(net.view.evicting(id(3)));
    net.run_secs(5);
    net.heal();
    net.follow(net.view.admitting(id(3), super::net::region("c")));
    net.run_secs(15);
    assert_eq!(net.see(id(1), "lww/unsent"), latest("two"));
}
