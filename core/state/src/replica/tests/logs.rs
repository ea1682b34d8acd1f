//! Logs that do not reach back far enough, disks that went back in time, and traffic.

use super::net::{Net, bytes, id, key, latest, membership};
use crate::crdt::Update;
use crate::replica::{Notice, Op};

#[test]
fn a_peer_that_was_away_for_longer_than_the_log_pulls_states() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.nodes.get_mut(&id(1)).unwrap().config.log_bytes_max = 500;
    net.crash(id(1));
    net.start(id(1));
    net.run_secs(1);
    net.set(id(1), "lww/gone", "x");
    net.run_secs(1);
    net.cut(id(1), id(2));
    for number in 0..50 {
        net.set(id(1), &format!("lww/{number}"), "new");
    }
    net.update(id(1), "lww/gone", Update::Delete, None).unwrap();
    net.run_secs(1);
    assert!(net.replica(id(1)).stats().log_records < 20);
    net.heal();
    net.run_secs(3);
    net.assert_alike();
    assert_eq!(net.see(id(2), "lww/gone"), None);
    assert!(net.replica(id(2)).stats().counts.pulled >= 50);
    // From here on the log is enough again.
    net.set(id(1), "lww/0", "newer");
    net.run_secs(1);
    assert_eq!(net.see(id(2), "lww/0"), latest("newer"));
    net.run_secs(5);
    assert_eq!(net.replica(id(1)).stats().log_records, 0);
}

#[test]
fn differences_that_should_not_be_are_found_and_repaired() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.run_secs(1);
    net.set(id(1), "lww/x", "one");
    net.set(id(1), "lww/y", "one");
    net.run_secs(1);
    // A disk that forgets a row.
    net.crash(id(2));
    net.nodes.get_mut(&id(2)).unwrap().disk.remove("s/lww/x").unwrap();
    net.start(id(2));
    assert_eq!(net.see(id(2), "lww/x"), None);
    net.run_secs(12);
    assert_eq!(net.see(id(2), "lww/x"), latest("one"));
    net.assert_alike();
}

#[test]
fn a_disk_that_went_back_in_time_stops_its_replica() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.run_secs(1);
    let before = net.nodes[&id(1)].disk.clone();
    net.set(id(1), "lww/x", "one");
    net.run_secs(1);
    net.crash(id(1));
    net.nodes.get_mut(&id(1)).unwrap().disk = before;
    net.start(id(1));
    net.run_secs(2);
    let lost = |(of, notice): &(_, Notice)| {
        *of == id(1) && matches!(notice, Notice::LogLost { .. })
    };
    // The incarnation it takes was used: what it would write would be mixed up with that.
    assert!(net.notices.iter().any(lost), "{:?}", net.notices);
    assert!(net.get(id(1), "lww/x", None).is_err());
    assert_eq!(net.see(id(2), "lww/x"), latest("one"));
}

#[test]
fn credit_bounds_what_is_on_its_way() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.nodes.get_mut(&id(1)).unwrap().config.credit_bytes = 1_000;
    net.crash(id(1));
    net.start(id(1));
    net.run_secs(1);
    net.cut(id(2), id(1));
    net.cuts.remove(&(id(1), id(2)));
    net.record = true;
    for number in 0..100 {
        let update = Update::Set(bytes(&"x".repeat(100)));
        let op = Op::Update { key: key(&format!("lww/{number}")), update, op_id: None };
        net.ask(id(1), op, None, None);
        net.step();
    }
    let bytes: usize = net.sent.iter().map(|(_, _, bytes)| bytes.len()).sum();
    assert!(bytes < 4_000, "{bytes} bytes without an acknowledgement");
    net.heal();
    net.run_secs(10);
    net.assert_alike();
}

#[test]
fn a_small_update_costs_few_bytes_beyond_key_and_value() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.run_secs(2);
    net.record = true;
    for number in 0..100 {
        let update = Update::Set(bytes(&format!("{number:0>128}")));
        let op =
            Op::Update { key: key(&format!("lww/{number:0>6}")), update, op_id: None };
        net.ask(id(1), op, None, None);
    }
    net.run(std::time::Duration::from_millis(300));
    let pushed = |(from, _, bytes): &&(crate::clock::ReplicaId, _, Vec<u8>)| {
        *from == id(1) && bytes.len() > 1_000
    };
    let bytes: usize =
        net.sent.iter().filter(pushed).map(|(_, _, bytes)| bytes.len()).sum();
    let beyond = bytes / 100 - 128 - "lww/000000".len();
    // 22 at present: lengths 5, stamp 9, actor 4, the rest what is of which kind.
    assert!(beyond <= 22, "{beyond} bytes an update");
}
