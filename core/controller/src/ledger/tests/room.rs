//! Room that victims make: for whom it is held, and for how long.

use super::*;

fn vm_id(vm: &str) -> VmId {
    VmId::new(vm).unwrap()
}

fn urgent(reservation: &str, vm: &str, cpu: u32, victims: &[&str]) -> Reserve {
    let mut ask = ask(reservation, vm, cpu);
    ask.proposal.host = Some(host_id("h1"));
    ask.priority = 9;
    ask.hold_for = ROOM_HOLD_FOR;
    ask.victims = victims.iter().map(|vm| vm_id(vm)).collect();
    ask
}

/// A host with 4 CPUs that two VMs of 2 CPUs fill.
fn full() -> Ledger {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    confirmed(&mut ledger, ask("r1", "low", 2));
    confirmed(&mut ledger, ask("r2", "middle", 2));
    ledger
}

fn free(ledger: &Ledger) -> u64 {
    ledger.host(&host_id("h1")).unwrap().free.cpu
}

#[test]
fn what_a_victim_frees_goes_to_the_vm_that_awaits_it_and_to_nobody_else() {
    let mut ledger = full();
    let waiting = held(&mut ledger, urgent("r9", "urgent", 2, &["low"]));
    assert_eq!(waiting.awaits.keys().collect::<Vec<_>>(), [&vm_id("low")]);
    assert_eq!(ledger.totals().allocated.cpu, 4, "the victim still holds it");
    let record = record_for(&waiting);
    let early = ledger.begin_commit(START, &waiting.ask.id, record.clone());
    assert_eq!(early.unwrap_err(), CommitDenied::AwaitsRoom { id: id("r9"), vms: 1 });

    let parked = ledger.park(&id("r1")).unwrap();
    assert_eq!(parked.changes.len(), 2, "the victim and who awaits it, in one batch");
    assert_eq!(free(&ledger), 0);
    assert!(ledger.reserve(START, ask("r3", "other", 1)).is_err());
    assert!(matches!(ledger.unpark(&id("r1")), Err(ParkDenied::NoRoom { .. })));
    assert!(ledger.begin_commit(START, &waiting.ask.id, record).is_ok());
    assert_eq!(ledger.lint(), []);
}

#[test]
fn a_victim_that_is_wanted_again_before_it_stopped_makes_room_first() {
    let mut ledger = full();
    held(&mut ledger, urgent("r9", "urgent", 2, &["low"]));
    let denied = ledger.unpark(&id("r1")).unwrap_err();
    assert_eq!(denied, ParkDenied::MakesRoom { to: vm_id("urgent") });
    drop(ledger.cancel(&id("r9")).unwrap());
    assert!(ledger.unpark(&id("r1")).unwrap().changes.is_empty(), "it never gave it");
}

#[test]
fn what_is_freed_beyond_the_need_is_free_for_all() {
    let mut ledger = full();
    held(&mut ledger, urgent("r9", "urgent", 1, &["low"]));
    drop(ledger.park(&id("r1")).unwrap());
    assert_eq!(free(&ledger), 1);
}

#[test]
fn a_victim_that_is_deleted_makes_room_as_well() {
    let mut ledger = full();
    held(&mut ledger, urgent("r9", "urgent", 4, &["low", "middle"]));
    drop(ledger.release(&id("r1")));
    assert!(ledger.reserve(START, ask("r3", "other", 1)).is_err());
    drop(ledger.park(&id("r2")).unwrap());
    let waiting = ledger.get(&id("r9")).unwrap();
    assert!(waiting.awaits.is_empty());
    assert_eq!(waiting.holds(), waiting.ask.need());
}

#[test]
fn room_that_is_not_taken_in_time_is_free_for_all() {
    let mut ledger = full();
    held(&mut ledger, urgent("r9", "urgent", 2, &["low"]));
    drop(ledger.park(&id("r1")).unwrap());
    assert_eq!(ledger.expire(at(90)).value, [id("r9")]);
    assert!(!ledger.unpark(&id("r1")).unwrap().value.parked);
}

#[test]
fn nobody_makes_room_for_two() {
    let mut ledger = full();
    held(&mut ledger, urgent("r9", "urgent", 2, &["low"]));
    let denied = ledger.reserve(START, urgent("r8", "rival", 2, &["low"])).unwrap_err();
    let taken = ReserveDenied::VictimTaken { vm: vm_id("low"), to: vm_id("urgent") };
    assert_eq!(denied, taken);
    assert!(ledger.reserve(START, urgent("r8", "rival", 2, &["middle"])).is_ok());
}

#[test]
fn who_is_protected_or_as_urgent_makes_no_room() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    let guarded = Reserve { tier: Tier::Protected, ..ask("r1", "guarded", 2) };
    confirmed(&mut ledger, guarded);
    confirmed(&mut ledger, Reserve { priority: 9, ..ask("r2", "equal", 2) });
    for victim in ["guarded", "equal"] {
        let ask = urgent("r9", "urgent", 2, &[victim]);
        let denied = ledger.reserve(START, ask).unwrap_err();
        assert_eq!(denied, ReserveDenied::VictimGuarded { vm: vm_id(victim) });
    }
}

#[test]
fn who_need_not_stop_is_spared_the_most_urgent_first() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    for (n, priority) in [(1, 2), (2, 4), (3, 3), (4, 1)] {
        let ask = ask(&format!("r{n}"), &format!("vm{n}"), 1);
        confirmed(&mut ledger, Reserve { priority, ..ask });
    }
    let all = ["vm1", "vm2", "vm3", "vm4"];
    let waiting = held(&mut ledger, urgent("r9", "urgent", 2, &all));
    let chosen: Vec<_> = waiting.awaits.keys().map(ToString::to_string).collect();
    assert_eq!(chosen, ["vm1", "vm4"]);
    drop(ledger.release(&id("r9")));
    drop(ledger.release(&id("r2")));
    drop(ledger.release(&id("r3")));
    let fits = held(&mut ledger, urgent("r8", "urgent", 2, &all));
    assert!(fits.awaits.is_empty(), "there is room by now");
}

#[test]
fn a_second_attempt_takes_the_room_of_the_first_over() {
    let mut ledger = full();
    held(&mut ledger, urgent("r9", "urgent", 2, &["low"]));
    drop(ledger.park(&id("r1")).unwrap());
    let again = ledger.reserve(at(20), urgent("r10", "urgent", 2, &["low"])).unwrap();
    assert!(again.value.awaits.is_empty());
    assert_eq!(again.changes.len(), 2, "the first is deleted");
    assert_eq!(ledger.lint(), []);
}

#[test]
fn waiting_survives_a_restart() {
    let mut before = full();
    held(&mut before, urgent("r9", "urgent", 2, &["low"]));
    let text = serde_json::to_string(&before.rows().collect::<Vec<_>>()).unwrap();
    let rows: Vec<Row> = serde_json::from_str(&text).unwrap();
    let mut loaded = Ledger::load(region(), rows).unwrap();
    loaded.report_host(report("h1", "a", 4)).unwrap();
    assert_eq!(loaded.lint(), []);
    assert_eq!(loaded.hosts(), before.hosts());
    drop(loaded.park(&id("r1")).unwrap());
    assert!(loaded.reserve(START, ask("r3", "other", 1)).is_err());
}

#[test]
fn a_list_that_is_older_than_a_parking_does_not_undo_it() {
    let mut ledger = full();
    let victim = ledger.get(&id("r1")).unwrap().clone();
    let other = ledger.get(&id("r2")).unwrap().clone();
    let mark = ledger.mark();
    let old = [record_for(&victim), record_for(&other)];
    held(&mut ledger, urgent("r9", "urgent", 2, &["low"]));
    drop(ledger.park(&id("r1")).unwrap());
    assert_eq!(ledger.reconcile(at(1), mark, &old).value, Reconciled::default());
    assert!(ledger.get(&id("r1")).unwrap().parked);
    assert!(ledger.overcommitted().is_empty());
}

#[test]
fn a_list_that_is_older_than_a_deletion_does_not_take_the_room_of_the_deleted_back() {
    let mut ledger = full();
    let victim = ledger.get(&id("r1")).unwrap().clone();
    let other = ledger.get(&id("r2")).unwrap().clone();
    let mark = ledger.mark();
    let old = [record_for(&victim), record_for(&other)];
    held(&mut ledger, urgent("r9", "urgent", 2, &["low"]));
    drop(ledger.release(&id("r1")));
    let found = ledger.reconcile(at(1), mark, &old).value;
    assert_eq!(found.postponed, [id("r1")]);
    assert_eq!(ledger.overcommitted(), Vec::<HostId>::new());
    assert!(ledger.get(&id("r1")).is_none());

    // One that is asked for afterwards and still has it is believed: it was no deletion.
    let mark = ledger.mark();
    assert_eq!(ledger.reconcile(at(2), mark, &old).value.adopted, [id("r1")]);
}

#[test]
fn a_list_from_before_the_books_were_read_again_takes_nothing_in_and_gives_nothing_back()
{
    let mut before = full();
    let mark = before.mark();
    let old = [record_for(before.get(&id("r1")).unwrap())];
    drop(before.release(&id("r1")));
    let mut again = Ledger::load(region(), before.rows()).unwrap();
    again.go_on_after(before.mark());
    again.report_host(report("h1", "a", 4)).unwrap();
    confirmed(&mut again, ask("r3", "new", 2));
    let found = again.reconcile(at(1), mark, &old).value;
    assert_eq!(found.postponed, [id("r1")]);
    assert_eq!(found.released, []);
    assert!(again.overcommitted().is_empty());
}
