//! Stores that fail: nobody is told what is not durable, and nothing is forgotten.

use super::net::{Net, bytes, id, key, latest, membership, written};
use crate::crdt::Update;
use crate::replica::{Input, Op, Refusal};

#[test]
fn a_failing_store_refuses_writes_serves_reads_and_goes_on_when_it_works_again() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.run_secs(1);
    net.set(id(1), "lww/x", "one");
    net.nodes.get_mut(&id(1)).unwrap().stalled = true;
    let update = Update::Set(bytes("two"));
    let op = Op::Update { key: key("lww/y"), update, op_id: None };
    let request = net.ask(id(1), op, None, None);
    net.step();
    let (batch, _) = net.nodes[&id(1)].writes.front().cloned().unwrap();
    net.nodes.get_mut(&id(1)).unwrap().writes.clear();
    let reason = "no space left".to_owned();
    net.give(id(1), Input::PersistFailed { batch, reason });
    let refused = net.wait(request).unwrap_err();
    assert!(matches!(refused, Refusal::StoreFailed { .. }) && refused.may_be_done());
    assert_eq!(net.see(id(1), "lww/x"), latest("one"));
    let refused =
        net.update(id(1), "lww/z", Update::Set(bytes("three")), None).unwrap_err();
    assert!(matches!(refused, Refusal::StoreFailed { .. }), "{refused}");
    assert_eq!(net.see(id(2), "lww/y"), None, "nobody has what is not durable");
    // The same batch is handed out again, and is taken.
    net.nodes.get_mut(&id(1)).unwrap().stalled = false;
    net.run_secs(3);
    written(net.update(id(1), "lww/z", Update::Set(bytes("three")), None));
    net.run_secs(1);
    assert_eq!(net.see(id(2), "lww/y"), latest("two"));
    net.assert_alike();
}

#[test]
fn what_only_this_replica_has_is_not_shown_before_it_is_durable() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.run_secs(1);
    net.nodes.get_mut(&id(1)).unwrap().stalled = true;
    let update = Update::Set(bytes("one"));
    let op = Op::Update { key: key("lww/x"), update, op_id: None };
    net.ask(id(1), op, None, None);
    let op = Op::Get { key: key("lww/x"), max_staleness: None };
    let request = net.ask(id(1), op, None, None);
    net.run_secs(1);
    assert!(!net.outcomes.contains_key(&request));
    net.crash(id(1));
    net.start(id(1));
    assert_eq!(net.see(id(1), "lww/x"), None);
}

#[test]
fn rows_that_cannot_be_read_stop_the_start() {
    let mut net = Net::new(1, membership(&["a"]));
    net.run_secs(1);
    net.set(id(1), "lww/x", "one");
    let node = &net.nodes[&id(1)];
    let rows = || {
        node.disk.iter().map(|(row, value)| crate::replica::Row {
            row: row.clone(),
            value: value.clone(),
        })
    };
    for spoiled in ["s/lww/x", "m/places", "m/view", "m/incarnation"] {
        let spoil = |mut row: crate::replica::Row| {
            if row.row == spoiled {
                row.value.truncate(1);
            }
            row
        };
        let error = crate::replica::Replica::new(node.config.clone(), rows().map(spoil));
        assert!(error.unwrap_err().to_string().contains(spoiled));
    }
}
