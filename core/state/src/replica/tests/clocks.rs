//! Clocks that are wrong: what is stamped too far ahead is not taken, and is said (F42).

use super::net::{Net, id, latest, membership};
use crate::replica::Notice;

#[test]
fn a_clock_far_ahead_is_refused_and_told_and_heals() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.nodes.get_mut(&id(1)).unwrap().skew_ms = 5_000;
    net.run_secs(1);
    net.set(id(1), "lww/x", "ahead");
    net.run_secs(2);
    assert_eq!(net.see(id(2), "lww/x"), None);
    let skewed = |(of, notice): &(_, Notice)| {
        *of == id(2) && matches!(notice, Notice::Skewed { peer, .. } if *peer == id(1))
    };
    assert!(net.notices.iter().any(skewed));
    assert!(net.replica(id(1)).stats().counts.skew_told > 0);
    // The other way there is nothing to refuse.
    net.set(id(2), "lww/y", "right");
    net.run_secs(1);
    assert_eq!(net.see(id(1), "lww/y"), latest("right"));
    net.nodes.get_mut(&id(1)).unwrap().skew_ms = 0;
    net.run_secs(8);
    assert_eq!(net.see(id(2), "lww/x"), latest("ahead"));
    net.assert_alike();
}

#[test]
fn a_clock_that_steps_back_does_not_lose_the_newer_write() {
    let mut net = Net::new(1, membership(&["a", "b"]));
    net.nodes.get_mut(&id(1)).unwrap().skew_ms = 400;
    net.run_secs(1);
    net.set(id(1), "lww/x", "first");
    net.run_secs(1);
    net.crash(id(1));
    net.nodes.get_mut(&id(1)).unwrap().skew_ms = 0;
    net.start(id(1));
    net.set(id(1), "lww/x", "second");
    assert_eq!(net.see(id(1), "lww/x"), latest("second"));
    net.run_secs(1);
    assert_eq!(net.see(id(2), "lww/x"), latest("second"));
}
