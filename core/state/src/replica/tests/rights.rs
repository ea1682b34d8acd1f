//! Bounded counters: nothing is spent that nobody has the right to, also across restarts.

use std::sync::Arc;

use super::net::{Net, id, membership, written};
use crate::crdt::{Kind, MintId, Reading, Update};
use crate::level::Level;
use crate::membership::Membership;
use crate::policy::{Policies, Policy};
use crate::replica::Refusal;

fn with_quota() -> Membership {
    let mut view = membership(&["a", "b"]);
    let mut policies = super::net::policies();
    let policy = Policy::of(Kind::Bounded, Level::Eventual, "global".into());
    policies.push((Arc::from("quota/"), policy));
    view.policies = Policies::new(policies);
    view
}

fn used(net: &mut Net, at: u16) -> (u64, u64) {
    match net.see(id(at), "quota/x") {
        Some(Reading::Bounded(reading)) => (reading.minted, reading.used),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rights_are_spent_here_inherited_after_a_restart_and_never_exceeded() {
    let mut net = Net::new(1, with_quota());
    net.run_secs(1);
    let to = net.replica(id(1)).actor();
    let mint = Update::Mint { id: MintId::new(1), to, amount: 10 };
    written(net.update(id(1), "quota/x", mint, None));
    written(net.update(id(1), "quota/x", Update::Spend(4), None));
    let refused = net.update(id(2), "quota/x", Update::Spend(1), None).unwrap_err();
    assert!(matches!(refused, Refusal::Update { .. }), "{refused}");
    for _ in 0..2 {
        net.crash(id(1));
        net.start(id(1));
        net.run_secs(1);
    }
    written(net.update(id(1), "quota/x", Update::Spend(5), None));
    assert!(net.update(id(1), "quota/x", Update::Spend(2), None).is_err());
    let to = net.replica(id(2)).actor();
    written(net.update(id(1), "quota/x", Update::Transfer { to, amount: 1 }, None));
    net.run_secs(1);
    written(net.update(id(2), "quota/x", Update::Spend(1), None));
    net.run_secs(1);
    assert_eq!(used(&mut net, 1), (10, 10));
    net.assert_alike();
}

#[test]
fn an_evicted_replica_does_not_inherit_what_it_may_have_spent_unseen() {
    let mut net = Net::new(1, with_quota());
    net.run_secs(1);
    let to = net.replica(id(2)).actor();
    let mint = Update::Mint { id: MintId::new(1), to, amount: 10 };
    written(net.update(id(1), "quota/x", mint, None));
    net.run_secs(1);
    net.cut_off(id(2));
    written(net.update(id(2), "quota/x", Update::Spend(7), None));
    net.follow(net.view.evicting(id(2)));
    net.run_secs(3);
    net.heal();
    net.follow(net.view.admitting(id(2), super::net::region("b")));
    net.run_secs(5);
    net.follow(net.view.activating(id(2)));
    net.run_secs(5);
    let refused = net.update(id(2), "quota/x", Update::Spend(7), None).unwrap_err();
    assert!(matches!(refused, Refusal::Update { .. }), "{refused}");
}
