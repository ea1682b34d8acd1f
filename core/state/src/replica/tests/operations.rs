//! Operation ids: asking again does nothing twice, also after a crash.

use super::net::{Net, id, membership, written};
use crate::crdt::{Reading, Update};
use crate::replica::{OpId, Refusal};

const OP: OpId = OpId { client: 9, number: 1 };

#[test]
fn the_same_operation_is_done_once_also_after_a_restart() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.run_secs(1);
    let first = written(net.update_once(id(1), "count/x", Update::Increment(3), OP));
    let again = written(net.update_once(id(1), "count/x", Update::Increment(3), OP));
    assert_eq!(first.position, again.position);
    net.crash(id(1));
    net.start(id(1));
    net.run_secs(1);
    let later = written(net.update_once(id(1), "count/x", Update::Increment(3), OP));
    assert_eq!(first.position, later.position);
    assert_eq!(net.see(id(1), "count/x"), Some(Reading::Count(3)));
}

#[test]
fn an_id_that_was_used_for_something_else_is_refused() {
    let mut net = Net::new(1, membership(&["a"]));
    net.run_secs(1);
    written(net.update_once(id(1), "count/x", Update::Increment(3), OP));
    for (key, by) in [("count/x", 4), ("count/y", 3)] {
        let refused = net.update_once(id(1), key, Update::Increment(by), OP).unwrap_err();
        assert_eq!(refused, Refusal::OpIdReused { op_id: OP });
    }
}

#[test]
fn ids_are_forgotten_after_their_time_and_not_before() {
    let mut net = Net::new(1, membership(&["a"]));
    net.nodes.get_mut(&id(1)).unwrap().config.op_ids_max = 2;
    net.crash(id(1));
    net.start(id(1));
    net.run_secs(1);
    let op = |number| OpId { client: 9, number };
    for number in [1, 2] {
        written(net.update_once(id(1), "count/x", Update::Increment(1), op(number)));
    }
    let refused =
        net.update_once(id(1), "count/x", Update::Increment(1), op(3)).unwrap_err();
    assert!(matches!(refused, Refusal::Busy { .. }), "{refused}");
    net.run_secs(601);
    written(net.update_once(id(1), "count/x", Update::Increment(1), op(3)));
    let rows = net.nodes[&id(1)].disk.keys().filter(|row| row.starts_with("m/op/"));
    assert_eq!(rows.count(), 1);
}
