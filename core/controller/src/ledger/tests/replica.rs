//! Storage that is held for the replica of a VM which runs in another region.

use std::slice;

use super::*;
use crate::ledger::Reconciled;
use crate::ownership::{begin_replica, part, trust};

/// A VM of `us-east-1` with its replica on `h1` here, under reservation `r-2`.
fn kept_here() -> VmRecord {
    let mut vm = record("vm1", "r1");
    vm.request.shape = ask("r1", "vm1", 4).shape;
    vm.owner.region = RegionId::new("us-east-1").unwrap();
    let at = Place { region: region(), zone: zone_id("a"), host: host_id("h1") };
    begin_replica(&vm, at, id("r2"), START)
}

fn kept(ledger: &mut Ledger) -> Arc<Reservation> {
    held(ledger, ask("r2", "vm1", 4));
    ledger.keep_for_replica(START, &id("r2")).unwrap().value
}

fn reconciled(ledger: &mut Ledger, records: &[VmRecord]) -> Reconciled {
    let mark = ledger.mark();
    ledger.reconcile(at(60), mark, records).value
}

fn allocated(ledger: &Ledger) -> (u64, u64) {
    let totals = ledger.totals().allocated;
    (totals.cpu, totals.storage.get())
}

#[test]
fn a_replica_holds_storage_only_and_does_not_lapse() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    let row = kept(&mut ledger);
    assert!(row.parked && row.expires_at().is_none());
    assert_eq!(allocated(&ledger), (0, 10));
    assert!(ledger.expire(at(1_000)).value.is_empty());
    assert!(ledger.keep_for_replica(at(1_000), &id("r2")).unwrap().changes.is_empty());
    // Others may use its processors meanwhile.
    held(&mut ledger, ask("r3", "vm3", 4));
}

#[test]
fn what_is_not_held_any_more_is_not_kept() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    held(&mut ledger, ask("r2", "vm1", 4));
    let denied = ledger.keep_for_replica(at(31), &id("r2")).unwrap_err();
    assert_eq!(denied, ParkDenied::NotHeld { id: id("r2") });
    let row = held(&mut ledger, ask("r4", "vm4", 2));
    begin(&mut ledger, &row);
    assert!(ledger.keep_for_replica(START, &id("r4")).is_err());
}

#[test]
fn the_vm_takes_its_replicas_place_on_the_same_host_or_none() {
    let mut ledger = ledger(&[("h1", "a", 4), ("h2", "a", 4)]);
    kept(&mut ledger);
    let plain = ledger.reserve(START, ask("r1", "vm1", 4)).unwrap_err();
    assert!(matches!(plain, ReserveDenied::VmReserved { .. }), "{plain}");
    let mut start = ask("r1", "vm1", 4);
    start.replaces = Some(id("r2"));
    start.bounds.host = Some(host_id("h1"));
    // Its processors are another's by now: the replica keeps what it has.
    let other = held(&mut ledger, {
        let mut other = ask("r3", "vm3", 4);
        other.bounds.host = Some(host_id("h1"));
        other
    });
    assert!(ledger.reserve(START, start.clone()).is_err());
    assert_eq!(allocated(&ledger), (4, 20));
    drop(ledger.release(&other.ask.id));
    let row = held(&mut ledger, start.clone());
    assert_eq!(row.host, host_id("h1"));
    assert_eq!(allocated(&ledger), (4, 10));
    assert!(ledger.get(&id("r2")).is_none());
    assert_eq!(held(&mut ledger, start), row);
}

#[test]
fn the_records_say_what_is_kept() {
    let vm = kept_here();
    let mut books = ledger(&[("h1", "a", 4)]);
    // The word that it is kept was lost: the record says so.
    held(&mut books, ask("r2", "vm1", 4));
    assert_eq!(reconciled(&mut books, slice::from_ref(&vm)).confirmed, [id("r2")]);
    assert_eq!(allocated(&books), (0, 10));
    assert_eq!(reconciled(&mut books, slice::from_ref(&vm)), Reconciled::default());
    for still in [part(&vm, START), trust(&vm, vm.replica.as_ref().unwrap().copy, START)]
    {
        assert_eq!(reconciled(&mut books, &[still.unwrap()]), Reconciled::default());
    }
    // It was lost altogether.
    let mut empty = ledger(&[("h1", "a", 4)]);
    assert_eq!(reconciled(&mut empty, slice::from_ref(&vm)).adopted, [id("r2")]);
    assert_eq!(allocated(&empty), (0, 10));
    // Its VM was deleted, or has its replica elsewhere.
    assert_eq!(reconciled(&mut empty, &[]).released, [id("r2")]);
    let mut elsewhere = vm;
    elsewhere.replica.as_mut().unwrap().at.region = RegionId::new("sa-east-1").unwrap();
    assert_eq!(reconciled(&mut books, &[elsewhere]).released, [id("r2")]);
    assert_eq!(allocated(&books), (0, 0));
}
