//! What trials of failovers hold, and that they give way to whatever is real.

use super::*;

fn trial(id_: &str, host: &str, cpu: u32) -> Reserve {
    let like = ask("r9", "vm9", cpu);
    let what = (like.tenant, like.shape);
    Reserve::of_trial(id(id_), what, host_id(host), Duration::from_secs(120)).unwrap()
}

#[test]
fn a_trial_holds_what_the_vm_would_beside_the_storage_of_its_copy() {
    let mut ledger = ledger(&[("h1", "a", 4), ("h2", "a", 4)]);
    held(&mut ledger, ask("r2", "vm1", 4));
    drop(ledger.keep_for_replica(START, &id("r2")).unwrap());
    let row = held(&mut ledger, trial("r3", "h1", 4));
    assert_eq!(row.host, host_id("h1"));
    assert!(row.ask.is_trial());
    let full = ledger.reserve(START, trial("r4", "h1", 1)).unwrap_err();
    assert!(
        matches!(full, ReserveDenied::NoHost { .. }),
        "no other host will do: {full}"
    );
    assert_eq!(ledger.expire(at(120)).value, [id("r3")]);
}

#[test]
fn whatever_is_real_comes_before_a_trial_and_ends_only_those_in_its_way() {
    let mut ledger = ledger(&[("h1", "a", 4), ("h2", "a", 4)]);
    held(&mut ledger, trial("r1", "h1", 3));
    held(&mut ledger, trial("r2", "h2", 3));
    // A user may name a VM like one.
    held(&mut ledger, ask("r3", "trial-r9", 1));
    let free: Vec<_> = ledger.hosts().into_iter().map(|host| host.free.cpu).collect();
    assert_eq!(free, [3, 4], "others see what they can have");
    let other = ledger.reserve(START, trial("r4", "h1", 2)).unwrap_err();
    assert!(matches!(other, ReserveDenied::NoHost { .. }), "no trial ends for another");
    let mut wish = ask("r5", "vm5", 4);
    wish.bounds.host = Some(host_id("h2"));
    let done = ledger.reserve(START, wish).unwrap();
    assert_eq!(done.value.host, host_id("h2"));
    assert_eq!(done.changes.len(), 2, "{:?}", done.changes);
    let there = ["r1", "r2", "r3", "r5"].map(|it| ledger.get(&id(it)).is_some());
    assert_eq!(there, [true, false, true, true]);
    let full = ledger.reserve(START, ask("r6", "vm6", 4)).unwrap_err();
    assert!(matches!(full, ReserveDenied::NoHost { .. }), "not even without: {full}");
    assert!(ledger.get(&id("r1")).is_some(), "and so it stays");
    let mut loaded = Ledger::load(region(), ledger.rows()).unwrap();
    for report in ledger.host_reports() {
        loaded.report_host(report).unwrap();
    }
    assert_eq!(loaded.hosts(), ledger.hosts(), "trials are known again");
}

#[test]
fn a_vm_that_made_room_has_it_back_before_a_trial() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    let row = confirmed(&mut ledger, ask("r1", "vm1", 4));
    drop(ledger.park(&row.ask.id).unwrap());
    held(&mut ledger, trial("r2", "h1", 4));
    let back = ledger.unpark(&row.ask.id).unwrap();
    assert!(!back.value.parked);
    assert!(ledger.get(&id("r2")).is_none());
    assert_eq!(back.changes.len(), 2);
    assert_eq!(ledger.hosts()[0].free.cpu, 0);
}

#[test]
fn nobody_makes_room_where_the_end_of_a_trial_does() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    confirmed(&mut ledger, ask("r1", "vm1", 2));
    held(&mut ledger, trial("r2", "h1", 2));
    let mut urgent = ask("r3", "vm3", 2);
    urgent.priority = 10;
    urgent.proposal.host = Some(host_id("h1"));
    urgent.victims = [VmId::new("vm1").unwrap()].into();
    let row = ledger.reserve(START, urgent).unwrap().value;
    assert!(row.awaits.is_empty(), "{row:?}");
    assert!(ledger.get(&id("r2")).is_none());
}

#[test]
fn an_id_that_is_too_long_to_name_a_trial_is_refused() {
    let like = ask("r9", "vm9", 1);
    let long = id(&"r".repeat(60));
    let what = (like.tenant, like.shape);
    assert!(
        Reserve::of_trial(long, what, host_id("h1"), Duration::from_secs(1)).is_err()
    );
}
