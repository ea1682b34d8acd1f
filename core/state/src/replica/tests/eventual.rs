//! Level eventual: writes are durable here at once, and everywhere in the end.

use std::time::Duration;

use proptest::prelude::*;

use super::net::{Net, bytes, id, latest, membership, written};
use crate::crdt::{Reading, Update};
use crate::level::Level;
use crate::replica::Refusal;

#[test]
fn a_write_is_seen_here_at_once_and_elsewhere_after_a_push() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    net.set(id(1), "lww/x", "one");
    assert_eq!(net.see(id(1), "lww/x"), latest("one"));
    net.run(Duration::from_millis(100));
    assert_eq!(net.see(id(2), "lww/x"), latest("one"));
    assert_eq!(net.see(id(3), "lww/x"), latest("one"));
}

#[test]
fn a_write_is_answered_when_it_is_durable_and_not_before() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.run_secs(1);
    net.nodes.get_mut(&id(1)).unwrap().stalled = true;
    let op = crate::replica::Op::Update {
        key: super::net::key("lww/x"),
        update: Update::Set(bytes("one")),
        op_id: None,
    };
    let request = net.ask(id(1), op, None, None);
    net.run_secs(2);
    assert!(!net.outcomes.contains_key(&request));
    assert_eq!(net.see(id(2), "lww/x"), None);
    net.nodes.get_mut(&id(1)).unwrap().stalled = false;
    written(net.wait(request));
}

#[test]
fn keys_of_no_policy_and_of_the_engine_are_refused_by_name() {
    let mut net = Net::new(1, membership(&["a"]));
    net.run_secs(1);
    let set = || Update::Set(bytes("one"));
    let refused = net.update(id(1), "none/x", set(), None).unwrap_err();
    assert!(matches!(refused, Refusal::NoPolicy { .. }), "{refused}");
    let refused = net.update(id(1), "engine/x", set(), None).unwrap_err();
    assert!(matches!(refused, Refusal::WrongPlane { .. }), "{refused}");
    let refused = net.get(id(1), "lww/x", Some(Level::Strong)).unwrap_err();
    assert!(matches!(refused, Refusal::WrongPlane { .. }), "{refused}");
    let refused = net.update(id(1), "quorum/x", set(), Some(Level::Local)).unwrap_err();
    assert!(matches!(refused, Refusal::LevelBelowFloor { .. }), "{refused}");
}

/// One thing that happens in a run.
#[derive(Clone, Debug)]
enum Event {
    Set(u16, u8, u8),
    Count(u16, u8, u64),
    Delete(u16, u8),
    Crash(u16),
    Start(u16),
    Cut(u16, u16),
    Heal,
    Run(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let replica = || 1_u16..=4;
    let event = prop_oneof![
        4 => (replica(), 0_u8..4, any::<u8>()).prop_map(|(at, key, to)| Event::Set(at, key, to)),
        4 => (replica(), 0_u8..2, 1_u64..5).prop_map(|(at, key, by)| Event::Count(at, key, by)),
        2 => (replica(), 0_u8..4).prop_map(|(at, key)| Event::Delete(at, key)),
        1 => replica().prop_map(Event::Crash),
        2 => replica().prop_map(Event::Start),
        1 => (replica(), replica()).prop_map(|(one, other)| Event::Cut(one, other)),
        1 => Just(Event::Heal),
        4 => (1_u64..400).prop_map(Event::Run),
    ];
    proptest::collection::vec(event, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// After the faults end all show the same, and every acknowledged increment is in it.
    #[test]
    fn replicas_converge_and_lose_nothing_acknowledged(
        seed in any::<u64>(),
        loss in 0_u64..1_500,
        events in events(),
    ) {
        let mut net = Net::new(seed, membership(&["a", "b", "c", "c"]));
        (net.loss, net.doubles, net.delay_ms) = (loss, 500, 60);
        net.run_secs(1);
        let mut asked = Vec::new();
        for event in events {
            match event {
                Event::Set(at, name, to) => {
                    let update = Update::Set(bytes(&to.to_string()));
                    request(&mut net, at, &format!("lww/{name}"), update);
                }
                Event::Count(at, name, by) => {
                    let name = format!("count/{name}");
                    let update = Update::Increment(by);
                    asked.push((request(&mut net, at, &name, update), name, by));
                }
                Event::Delete(at, name) => {
                    request(&mut net, at, &format!("lww/{name}"), Update::Delete);
                }
                Event::Crash(at) => net.crash(id(at)),
                Event::Start(at) => start(&mut net, at),
                Event::Cut(one, other) => net.cut(id(one), id(other)),
                Event::Heal => net.heal(),
                Event::Run(millis) => net.run(Duration::from_millis(millis)),
            }
        }
        net.heal();
        net.loss = 0;
        for at in 1..=4 {
            start(&mut net, at);
        }
        net.run_secs(20);
        net.assert_alike();
        for name in ["count/0", "count/1"] {
            let of_name = asked.iter().filter(|(_, of, _)| of == name);
            let (mut acked, mut all) = (0, 0);
            for (request, _, by) in of_name {
                all += by;
                acked += if matches!(net.outcomes.get(request), Some(Ok(_))) { *by } else { 0 };
            }
            let seen = match net.see(id(1), name) {
                Some(Reading::Count(seen)) => seen,
                None => 0,
                other => panic!("{other:?}"),
            };
            prop_assert!((acked..=all).contains(&seen), "{acked} <= {seen} <= {all}");
        }
    }
}

fn request(
    net: &mut Net,
    at: u16,
    name: &str,
    update: Update,
) -> crate::replica::RequestId {
    let op =
        crate::replica::Op::Update { key: super::net::key(name), update, op_id: None };
    net.ask(id(at), op, None, None)
}

fn start(net: &mut Net, at: u16) {
    if net.nodes[&id(at)].replica.is_none() {
        net.start(id(at));
    }
}

#[test]
fn a_restart_that_writes_at_once_is_heard_to_the_end() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.run_secs(1);
    net.set(id(1), "lww/x", "one");
    net.crash(id(1));
    net.start(id(1));
    // The new incarnation is durable before its first write is.
    net.step();
    let update = Update::Set(bytes("two"));
    request(&mut net, 1, "lww/x", update);
    net.run_secs(2);
    assert_eq!(net.see(id(2), "lww/x"), latest("two"));
}
