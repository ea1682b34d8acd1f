//! Sessions: at whatever replica, nobody is shown less than before; and staleness as a number.

use std::time::Duration;

use proptest::prelude::*;

use super::net::{Net, bytes, id, key, latest, membership, read, written};
use crate::crdt::{Reading, Update};
use crate::level::Level;
use crate::replica::{Op, Refusal, Token};

fn get(name: &str) -> Op {
    Op::Get { key: key(name), max_staleness: None }
}

#[test]
fn a_session_reads_its_own_write_at_another_region_or_waits_for_it() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.run_secs(1);
    net.cut(id(1), id(2));
    let token = net.set(id(1), "lww/x", "one").token;
    assert_eq!(net.see(id(2), "lww/x"), None);
    let request = net.ask(id(2), get("lww/x"), None, Some(token.clone()));
    net.run_secs(2);
    assert!(!net.outcomes.contains_key(&request));
    net.heal();
    assert_eq!(read(net.wait(request)).reading, latest("one"));
    net.cut(id(1), id(2));
    let token = net.set(id(1), "lww/x", "two").token;
    let request = net.ask(id(2), get("lww/x"), None, Some(token));
    let refused = net.wait(request).unwrap_err();
    assert!(matches!(refused, Refusal::TooStale { .. }), "{refused}");
}

#[test]
fn what_a_majority_showed_is_not_unseen_by_a_weaker_read() {
    let mut net = Net::new(1, membership(&["a", "b", "c"]));
    net.run_secs(1);
    // Region a has it, region b learns of it by a read of a majority only.
    net.cut_off(id(1));
    let op =
        Op::Update { key: key("lww/x"), update: Update::Set(bytes("one")), op_id: None };
    net.ask(id(1), op, None, None);
    net.run(Duration::from_millis(50));
    net.heal();
    net.cut(id(1), id(3));
    net.cut(id(2), id(3));
    let seen = read(net.get(id(2), "lww/x", Some(Level::Quorum)));
    assert_eq!(seen.reading, latest("one"));
    // Region c is not shown the session less: it waits until it has it.
    net.heal();
    net.cut(id(1), id(3));
    let request = net.ask(id(3), get("lww/x"), Some(Level::Eventual), Some(seen.token));
    net.run_secs(3);
    net.heal();
    assert_eq!(read(net.wait(request)).reading, latest("one"));
}

#[test]
fn staleness_is_told_and_bounded() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.run_secs(2);
    let fresh = read(net.get(id(2), "lww/x", None)).staleness;
    assert!(fresh <= Duration::from_secs(1), "{fresh:?}");
    net.cut(id(1), id(2));
    net.run_secs(10);
    let stale = read(net.get(id(2), "lww/x", None)).staleness;
    assert!(stale >= Duration::from_secs(9), "{stale:?}");
    let op = Op::Get { key: key("lww/x"), max_staleness: Some(Duration::from_secs(2)) };
    let request = net.ask(id(2), op.clone(), None, None);
    let refused = net.wait(request).unwrap_err();
    assert!(matches!(refused, Refusal::TooStale { .. }), "{refused}");
    let request = net.ask(id(2), op, None, None);
    net.heal();
    let seen = read(net.wait(request));
    assert!(seen.staleness <= Duration::from_secs(2));
}

#[test]
fn what_waits_for_the_disk_grows_older_meanwhile() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.run_secs(2);
    net.nodes.get_mut(&id(2)).unwrap().stalled = true;
    let set =
        Op::Update { key: key("lww/x"), update: Update::Set(bytes("x")), op_id: None };
    let written = net.ask(id(2), set, None, None);
    let get = Op::Get { key: key("lww/x"), max_staleness: None };
    let asked = net.ask(id(2), get, None, None);
    net.run_secs(5);
    assert!(!net.outcomes.contains_key(&asked));
    net.nodes.get_mut(&id(2)).unwrap().stalled = false;
    net.wait(written).unwrap();
    let seen = read(net.wait(asked));
    assert!(seen.staleness >= Duration::from_secs(5), "{:?}", seen.staleness);
}

#[derive(Clone, Debug)]
enum Event {
    Write(u16),
    Read(u16, bool),
    Crash(u16),
    Cut(u16, u16),
    Heal,
    Run(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let replica = || 1_u16..=3;
    let event = prop_oneof![
        4 => replica().prop_map(Event::Write),
        6 => (replica(), any::<bool>()).prop_map(|(at, all)| Event::Read(at, all)),
        1 => replica().prop_map(Event::Crash),
        1 => (replica(), replica()).prop_map(|(one, other)| Event::Cut(one, other)),
        1 => Just(Event::Heal),
        3 => (1_u64..200).prop_map(Event::Run),
    ];
    proptest::collection::vec(event, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// One session that wanders between replicas and counts: its reads never fall, and contain
    /// its own writes.
    #[test]
    fn a_session_never_sees_less(
        seed in any::<u64>(),
        loss in 0_u64..1_500,
        events in events(),
    ) {
        let mut net = Net::new(seed, membership(&["a", "b", "c"]));
        net.loss = loss;
        net.run_secs(1);
        let (mut token, mut least) = (Token::default(), 0);
        for event in events {
            match event {
                Event::Write(at) => {
                    let update = Update::Increment(1);
                    let op = Op::Update { key: key("count/x"), update, op_id: None };
                    let request = net.ask(id(at), op, None, Some(token.clone()));
                    if net.wait(request).is_ok() {
                        token = written(net.outcomes[&request].clone()).token;
                        least += 1;
                    }
                }
                Event::Read(at, all) => {
                    let level = if all { Level::Quorum } else { Level::Eventual };
                    let request =
                        net.ask(id(at), get("count/x"), Some(level), Some(token.clone()));
                    if net.wait(request).is_ok() {
                        let seen = read(net.outcomes[&request].clone());
                        let count = match seen.reading {
                            Some(Reading::Count(count)) => count,
                            _ => 0,
                        };
                        prop_assert!(count >= least, "{count} < {least}");
                        (token, least) = (seen.token, count);
                    }
                }
                Event::Crash(at) => {
                    net.crash(id(at));
                    net.start(id(at));
                }
                Event::Cut(one, other) => net.cut(id(one), id(other)),
                Event::Heal => net.heal(),
                Event::Run(millis) => net.run(Duration::from_millis(millis)),
            }
        }
    }
}
