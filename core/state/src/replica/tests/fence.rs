//! The fence: no byte of a key reaches a region that may not have it (F45).

use std::sync::Arc;

use proptest::prelude::*;

use super::net::{Net, bytes, id, key, latest, membership, region};
use crate::crdt::{Kind, Update};
use crate::level::Level;
use crate::membership::Membership;
use crate::policy::{Policies, Policy};
use crate::replica::{Op, Refusal};
use crate::shard::Jurisdiction;

const CANARY: &str = "personal-data";

/// Regions a and b are in the law's area, c is not.
pub(super) fn fenced() -> Membership {
    let mut view = membership(&["a", "b", "b", "c", "c"]);
    let eu = Jurisdiction::everywhere([region("a"), region("b")]);
    view.shards.jurisdictions.insert("eu".into(), eu);
    let mut policies = super::net::policies();
    for (prefix, kind) in [("eu/lww/", Kind::Lww), ("eu/set/", Kind::OrSet)] {
        policies
            .push((Arc::from(prefix), Policy::of(kind, Level::Eventual, "eu".into())));
    }
    view.policies = Policies::new(policies);
    view
}

#[test]
fn a_region_outside_serves_nothing_of_it_and_names_those_that_do() {
    let mut net = Net::new(1, fenced());
    net.run_secs(1);
    net.set(id(1), "eu/lww/x", CANARY);
    let refused = net.get(id(4), "eu/lww/x", None).unwrap_err();
    let holders = vec![region("a"), region("b")];
    assert_eq!(refused, Refusal::NotHeld { key: "eu/lww/x".to_owned(), holders });
    let refused =
        net.update(id(4), "eu/lww/x", Update::Set(bytes("x")), None).unwrap_err();
    assert!(matches!(refused, Refusal::NotHeld { .. }), "{refused}");
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Fenced(u16, u8),
    Add(u16, u8),
    Free(u16, u8),
    Read(u16, u8),
    Crash(u16),
    CutOff(u16),
    Heal,
    Run(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let inside = || 1_u16..=3;
    let all = || 1_u16..=5;
    let event = prop_oneof![
        4 => (inside(), 0_u8..3).prop_map(|(at, name)| Event::Fenced(at, name)),
        2 => (inside(), 0_u8..3).prop_map(|(at, name)| Event::Add(at, name)),
        4 => (all(), 0_u8..3).prop_map(|(at, name)| Event::Free(at, name)),
        2 => (inside(), 0_u8..3).prop_map(|(at, name)| Event::Read(at, name)),
        1 => all().prop_map(Event::Crash),
        1 => all().prop_map(Event::CutOff),
        1 => Just(Event::Heal),
        3 => (1_u64..3_000).prop_map(Event::Run),
    ];
    proptest::collection::vec(event, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn no_byte_of_a_fenced_value_or_key_is_sent_outside(
        seed in any::<u64>(),
        events in events(),
    ) {
        let mut net = Net::new(seed, fenced());
        // A small log, so that peers that were away pull states.
        for node in net.nodes.values_mut() {
            node.config.log_bytes_max = 400;
        }
        for at in 1..=5 {
            net.crash(id(at));
            net.start(id(at));
        }
        (net.record, net.loss) = (true, 500);
        net.run_secs(1);
        for event in events {
            happen(&mut net, event);
        }
        net.heal();
        net.run_secs(15);
        let fenced = |bytes: &[u8]| {
            [CANARY.as_bytes(), b"eu/"].iter().any(|canary| {
                bytes.windows(canary.len()).any(|window| window == *canary)
            })
        };
        let escaped = net.sent.iter().find(|(_, to, bytes)| to.get() > 3 && fenced(bytes));
        prop_assert!(escaped.is_none(), "{escaped:?}");
        let inside = [1, 2, 3].map(|at| net.contents(id(at)));
        prop_assert!(inside.iter().all(|contents| *contents == inside[0]));
    }
}

fn happen(net: &mut Net, event: Event) {
    let mut write = |at: u16, name: String, update: Update| {
        net.ask(id(at), Op::Update { key: key(&name), update, op_id: None }, None, None);
    };
    match event {
        Event::Fenced(at, name) => {
            write(at, format!("eu/lww/{name}"), Update::Set(bytes(CANARY)));
        }
        Event::Add(at, name) => {
            write(at, format!("eu/set/{name}"), Update::Insert(bytes(CANARY)));
        }
        Event::Free(at, name) => {
            write(at, format!("lww/{name}"), Update::Set(bytes("free")));
        }
        Event::Read(at, name) => {
            let op = Op::Get { key: key(&format!("eu/lww/{name}")), max_staleness: None };
            net.ask(id(at), op, Some(Level::Quorum), None);
        }
        Event::Crash(at) => {
            net.crash(id(at));
            net.start(id(at));
        }
        Event::CutOff(at) => net.cut_off(id(at)),
        Event::Heal => net.heal(),
        Event::Run(millis) => net.run(std::time::Duration::from_millis(millis)),
    }
}

#[test]
fn cursors_move_past_what_is_fenced() {
    let mut net = Net::new(1, fenced());
    net.run_secs(1);
    for _ in 0..10 {
        net.set(id(1), "eu/lww/x", CANARY);
    }
    net.set(id(1), "lww/x", "free");
    net.run_secs(2);
    assert_eq!(net.see(id(4), "lww/x"), latest("free"));
    let stats = net.replica(id(1)).stats();
    assert_eq!((stats.log_records, stats.peers[&id(4)].queue_records), (0, 0));
}
