//! The ledger by its transitions; `model` runs it against a naive one.

mod model;
mod replica;
mod room;
mod trials;

use super::*;
use crate::HostRefusal;
use crate::ownership::tests::record;
use crate::ownership::{Loss, Owner, Place, Proof, Recovered, VmRecord, recover};
use dwcp_types::{
    Affinity, AffinityMode, Capacity, Epoch, Generation, Gib, Hardness, Mib, RegionId,
    Scope, Tier, VmShape,
};
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_000_000);

fn at(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

fn region() -> RegionId {
    RegionId::new("eu-west-1").unwrap()
}

fn host_id(id: &str) -> HostId {
    HostId::new(id).unwrap()
}

fn zone_id(id: &str) -> ZoneId {
    ZoneId::new(id).unwrap()
}

fn id(id: &str) -> ReservationId {
    ReservationId::new(id).unwrap()
}

fn capacity(cpu: u64) -> Capacity {
    Capacity {
        cpu,
        memory: Mib::new(cpu * 2048),
        storage: Gib::new(cpu * 100),
        vms: cpu,
        ..Capacity::default()
    }
}

fn report(host: &str, zone: &str, cpu: u64) -> HostReport {
    HostReport {
        id: host_id(host),
        zone: zone_id(zone),
        total: capacity(cpu),
        ready: true,
    }
}

fn ledger(hosts: &[(&str, &str, u64)]) -> Ledger {
    let mut ledger = Ledger::new(region());
    for (host, zone, cpu) in hosts {
        ledger.report_host(report(host, zone, *cpu)).unwrap();
    }
    ledger
}

fn ask(reservation: &str, vm: &str, cpu: u32) -> Reserve {
    Reserve {
        id: id(reservation),
        vm: VmId::new(vm).unwrap(),
        tenant: TenantId::new("customer-123").unwrap(),
        shape: VmShape {
            cpu,
            memory: Mib::new(u64::from(cpu) * 2048),
            storage: Gib::new(10),
            ..VmShape::default()
        },
        proposal: Proposal::default(),
        bounds: Bounds::default(),
        rules: Vec::new(),
        hold_for: HOLD_FOR,
        priority: 5,
        tier: Tier::Standard,
        victims: BTreeSet::new(),
        replaces: None,
    }
}

fn record_for(row: &Reservation) -> VmRecord {
    let mut vm = record(row.ask.vm.as_str(), row.ask.id.as_str());
    vm.request.shape = row.ask.shape;
    vm.request.tenant = row.ask.tenant.clone();
    vm.owner.zone = row.zone.clone();
    vm.owner.host = row.host.clone();
    vm
}

fn held(ledger: &mut Ledger, ask: Reserve) -> Arc<Reservation> {
    ledger.reserve(START, ask).unwrap().value
}

fn begin(ledger: &mut Ledger, row: &Reservation) {
    let record = record_for(row);
    assert!(!ledger.begin_commit(START, &row.ask.id, record).unwrap().changes.is_empty());
}

fn confirmed(ledger: &mut Ledger, ask: Reserve) -> Arc<Reservation> {
    let row = held(ledger, ask);
    begin(ledger, &row);
    ledger.confirm(&row.ask.id).unwrap().value
}

fn rule(mode: AffinityMode, scope: Scope) -> Vec<Affinity> {
    let group = GroupId::new("web").unwrap();
    vec![Affinity { group, mode, scope, hardness: Hardness::Required }]
}

#[test]
fn the_same_id_is_answered_the_same_and_changes_nothing() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    let first = ledger.reserve(START, ask("r1", "vm1", 4)).unwrap();
    let again = ledger.reserve(at(5), ask("r1", "vm1", 4)).unwrap();
    assert_eq!(first.value, again.value);
    assert_eq!(first.changes.len(), 1);
    assert!(again.changes.is_empty());
    assert_eq!(ledger.totals().allocated.cpu, 4);
}

#[test]
fn the_same_id_with_other_content_is_refused() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    held(&mut ledger, ask("r1", "vm1", 4));
    let denied = ledger.reserve(START, ask("r1", "vm1", 2)).unwrap_err();
    assert_eq!(denied, ReserveDenied::OtherContent { id: id("r1") });
}

#[test]
fn the_proposed_host_is_taken_if_it_fits_else_the_tightest_of_its_zone() {
    let mut ledger =
        ledger(&[("h1", "a", 4), ("h2", "a", 16), ("h3", "a", 8), ("h4", "b", 4)]);
    let mut proposing = |reservation: &str, host: &str| {
        let mut ask = ask(reservation, reservation, 4);
        ask.proposal.host = Some(host_id(host));
        held(&mut ledger, ask).host.clone()
    };
    assert_eq!(proposing("r1", "h2"), host_id("h2"));
    assert_eq!(proposing("r2", "h1"), host_id("h1"));
    assert_eq!(proposing("r3", "h1"), host_id("h3"), "h1 is full; h3 is tighter than h2");
    assert_eq!(proposing("r4", "nowhere"), host_id("h3"), "the tightest anywhere");
}

#[test]
fn another_zone_is_used_unless_the_zone_is_a_bound() {
    let mut ledger = ledger(&[("h1", "a", 2), ("h2", "b", 8)]);
    let mut pinned = ask("r1", "vm1", 4);
    pinned.bounds.zone = Some(zone_id("a"));
    let denied = ledger.reserve(START, pinned).unwrap_err();
    assert!(matches!(denied, ReserveDenied::NoHost { schedulable: 2, .. }), "{denied}");
    let mut free = ask("r1", "vm1", 4);
    free.proposal.zone = Some(zone_id("a"));
    assert_eq!(held(&mut ledger, free).host, host_id("h2"));
}

#[test]
fn a_vm_without_a_gpu_leaves_the_hosts_that_have_some() {
    let mut ledger = ledger(&[("h2", "a", 16)]);
    let mut with_gpus = report("h1", "a", 8);
    with_gpus.total.gpus = 4;
    ledger.report_host(with_gpus).unwrap();
    assert_eq!(held(&mut ledger, ask("r1", "vm1", 4)).host, host_id("h2"));
    let mut needs = ask("r2", "vm2", 4);
    needs.shape.gpus = 1;
    assert_eq!(held(&mut ledger, needs).host, host_id("h1"));
}

#[test]
fn a_refusal_says_why_the_proposed_host_is_not_taken() {
    let mut ledger = ledger(&[("h1", "a", 2)]);
    let mut asked = ask("r1", "vm1", 4);
    asked.proposal.host = Some(host_id("h1"));
    let denied = ledger.reserve(START, asked).unwrap_err();
    let ReserveDenied::NoHost { proposed, .. } = &denied else { panic!("{denied}") };
    assert!(matches!(proposed, Some(HostRefusal::Short { need: 4, free: 2, .. })));
    assert!(denied.to_string().contains("next region"), "{denied}");
}

#[test]
fn a_hold_ends_when_its_time_is_over_and_not_before() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    held(&mut ledger, ask("r1", "vm1", 4));
    assert_eq!(ledger.next_deadline(), Some(at(30)));
    assert!(ledger.expire(at(29)).value.is_empty());
    let ended = ledger.expire(at(30));
    assert_eq!(ended.value, [id("r1")]);
    assert_eq!(ended.changes, [Change::Delete(RowKey::Reservation(id("r1")))]);
    assert_eq!(ledger.totals().free, capacity(4));
    assert_eq!(ledger.next_deadline(), None);
}

#[test]
fn a_lapsed_hold_cannot_be_committed_even_before_it_is_swept() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    let row = held(&mut ledger, ask("r1", "vm1", 4));
    let denied = ledger.begin_commit(at(30), &id("r1"), record_for(&row)).unwrap_err();
    assert_eq!(denied, CommitDenied::Unknown { id: id("r1") });
}

#[test]
fn what_is_being_committed_never_ends_by_time() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    let row = held(&mut ledger, ask("r1", "vm1", 4));
    begin(&mut ledger, &row);
    assert_eq!(ledger.next_deadline(), None);
    assert!(ledger.expire(at(1_000_000)).value.is_empty());
    assert_eq!(ledger.committing().count(), 1);
}

#[test]
fn every_step_of_a_commit_may_be_repeated() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    let row = held(&mut ledger, ask("r1", "vm1", 4));
    begin(&mut ledger, &row);
    let again = ledger.begin_commit(at(60), &id("r1"), record_for(&row)).unwrap();
    assert!(again.changes.is_empty());
    assert_eq!(ledger.confirm(&id("r1")).unwrap().changes.len(), 1);
    assert!(ledger.confirm(&id("r1")).unwrap().changes.is_empty());
    let late = ledger.begin_commit(at(60), &id("r1"), record_for(&row)).unwrap();
    assert_eq!(late.value.stage, Stage::Confirmed);
    assert_eq!(ledger.release(&id("r1")).changes.len(), 1);
    assert!(ledger.release(&id("r1")).changes.is_empty());
}

#[test]
fn a_record_that_is_not_what_was_reserved_is_refused() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    let row = held(&mut ledger, ask("r1", "vm1", 4));
    let mut bigger = record_for(&row);
    bigger.request.shape.cpu = 8;
    let mut elsewhere = record_for(&row);
    elsewhere.owner.host = host_id("h9");
    for (record, what) in [(bigger, "shape"), (elsewhere, "host")] {
        let denied = ledger.begin_commit(START, &id("r1"), record).unwrap_err();
        assert_eq!(denied, CommitDenied::OtherRecord { id: id("r1"), what });
    }
    begin(&mut ledger, &row);
    let mut other_token = record_for(&row);
    other_token.token = crate::ownership::ClientToken::new("another").unwrap();
    let denied = ledger.begin_commit(START, &id("r1"), other_token).unwrap_err();
    assert!(matches!(denied, CommitDenied::OtherRecord { .. }));
}

#[test]
fn only_what_is_held_can_be_cancelled() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    held(&mut ledger, ask("r1", "vm1", 4));
    assert_eq!(ledger.cancel(&id("r1")).unwrap().changes.len(), 1);
    assert!(ledger.cancel(&id("r1")).unwrap().changes.is_empty());
    let row = held(&mut ledger, ask("r2", "vm1", 4));
    begin(&mut ledger, &row);
    assert!(matches!(ledger.cancel(&id("r2")), Err(CancelDenied::Committed { .. })));
    assert_eq!(ledger.totals().allocated.cpu, 4);
}

#[test]
fn what_is_held_for_a_move_can_be_held_for_longer_and_what_lapsed_cannot() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    held(&mut ledger, ask("r1", "vm1", 4));
    assert_eq!(ledger.next_deadline(), Some(at(30)));
    let renewed = ledger.renew(at(29), &id("r1")).unwrap();
    assert_eq!(renewed.changes.len(), 1);
    assert_eq!(ledger.next_deadline(), Some(at(59)));
    assert!(ledger.expire(at(58)).value.is_empty());
    assert!(ledger.renew(at(59), &id("r1")).is_err());
    assert_eq!(ledger.expire(at(59)).value, [id("r1")]);
    assert_eq!(ledger.lint(), []);
}

#[test]
fn a_later_attempt_takes_the_place_of_one_that_is_only_held() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    held(&mut ledger, ask("r1", "vm1", 4));
    let second = ledger.reserve(START, ask("r2", "vm1", 4)).unwrap();
    assert_eq!(second.changes.len(), 2, "one goes and one comes, in one batch");
    assert!(ledger.get(&id("r1")).is_none());
    begin(&mut ledger, &second.value);
    let denied = ledger.reserve(START, ask("r3", "vm1", 1)).unwrap_err();
    assert!(matches!(denied, ReserveDenied::VmReserved { .. }));
}

#[test]
fn an_attempt_that_fails_does_not_lose_the_one_it_would_replace() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    held(&mut ledger, ask("r1", "vm1", 4));
    let denied = ledger.reserve(START, ask("r2", "vm1", 5)).unwrap_err();
    assert!(matches!(denied, ReserveDenied::NoHost { .. }));
    assert!(ledger.get(&id("r1")).is_some());
    assert_eq!(ledger.next_deadline(), Some(at(30)));
    assert_eq!(ledger.lint(), []);
}

#[test]
fn another_tenant_cannot_take_the_name_of_a_held_vm() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    held(&mut ledger, ask("r1", "vm1", 4));
    let mut foreign = ask("r2", "vm1", 1);
    foreign.tenant = TenantId::new("mallory").unwrap();
    let denied = ledger.reserve(START, foreign).unwrap_err();
    assert_eq!(
        denied,
        ReserveDenied::VmReserved { vm: VmId::new("vm1").unwrap(), by: id("r1") }
    );
}

#[test]
fn members_that_must_be_apart_meet_here_even_when_the_chooser_saw_neither() {
    let mut ledger = ledger(&[("h1", "a", 8), ("h2", "a", 8), ("h3", "b", 8)]);
    let mut apart = |reservation: &str, scope| {
        let mut ask = ask(reservation, reservation, 1);
        ask.rules = rule(AffinityMode::Apart, scope);
        ask.proposal.host = Some(host_id("h1"));
        ledger.reserve(START, ask).map(|row| row.value.host.clone())
    };
    assert_eq!(apart("r1", Scope::Host).unwrap(), host_id("h1"));
    assert_eq!(apart("r2", Scope::Host).unwrap(), host_id("h2"));
    assert_eq!(apart("r3", Scope::Zone).unwrap(), host_id("h3"));
    assert!(matches!(apart("r4", Scope::Zone), Err(ReserveDenied::NoHost { .. })));
    let elsewhere = apart("r5", Scope::Region);
    assert!(matches!(elsewhere, Err(ReserveDenied::RulesContradict { .. })));
}

#[test]
fn a_member_that_asked_to_be_alone_stays_alone() {
    let mut ledger = ledger(&[("h1", "a", 8), ("h2", "a", 16)]);
    let mut alone = ask("r1", "vm1", 1);
    alone.rules = rule(AffinityMode::Apart, Scope::Host);
    assert_eq!(held(&mut ledger, alone).host, host_id("h1"));
    let mut sociable = ask("r2", "vm2", 1);
    sociable.rules = rule(AffinityMode::Together, Scope::Region);
    assert_eq!(held(&mut ledger, sociable).host, host_id("h2"));
}

#[test]
fn members_that_must_be_together_are_and_contradictions_are_named() {
    let mut ledger = ledger(&[("h1", "a", 8), ("h2", "b", 4)]);
    for (name, scope) in [("r1", Scope::Zone), ("r2", Scope::Host)] {
        let mut ask = ask(name, name, 2);
        ask.rules = rule(AffinityMode::Together, scope);
        ask.proposal.host = Some(host_id("h1"));
        assert_eq!(held(&mut ledger, ask).host, host_id("h1"));
    }
    let mut torn = ask("r3", "vm3", 1);
    torn.rules = rule(AffinityMode::Together, Scope::Zone);
    torn.bounds.zone = Some(zone_id("b"));
    let denied = ledger.reserve(START, torn).unwrap_err();
    assert!(matches!(denied, ReserveDenied::RulesContradict { .. }), "{denied}");
}

#[test]
fn a_cordon_keeps_new_vms_away_and_outlives_a_restart() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    let closed = ledger.cordon(&host_id("h1"), true).unwrap();
    assert_eq!(closed.changes.len(), 1);
    assert!(ledger.cordon(&host_id("h1"), true).unwrap().changes.is_empty());
    assert!(ledger.reserve(START, ask("r1", "vm1", 1)).is_err());
    let rows: Vec<_> = ledger.rows().collect();
    let mut restarted = Ledger::load(region(), rows).unwrap();
    restarted.report_host(report("h1", "a", 8)).unwrap();
    assert!(restarted.reserve(START, ask("r1", "vm1", 1)).is_err());
    assert_eq!(restarted.cordon(&host_id("h1"), false).unwrap().changes.len(), 1);
    assert!(restarted.reserve(START, ask("r1", "vm1", 1)).is_ok());
}

#[test]
fn a_silent_host_keeps_what_it_holds_and_gets_no_more() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    held(&mut ledger, ask("r1", "vm1", 1));
    ledger.host_silent(&host_id("h1"));
    assert!(ledger.reserve(START, ask("r2", "vm2", 1)).is_err());
    assert_eq!(ledger.totals().allocated.cpu, 1);
    ledger.report_host(report("h1", "a", 8)).unwrap();
    assert!(ledger.reserve(START, ask("r2", "vm2", 1)).is_ok());
}

#[test]
fn a_host_that_shrinks_is_named_and_gets_no_more() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    held(&mut ledger, ask("r1", "vm1", 6));
    ledger.report_host(report("h1", "a", 4)).unwrap();
    assert_eq!(ledger.overcommitted(), [host_id("h1")]);
    assert!(ledger.reserve(START, ask("r2", "vm2", 1)).is_err());
}

#[test]
fn a_host_that_holds_something_cannot_be_forgotten() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    held(&mut ledger, ask("r1", "vm1", 1));
    let denied = ledger.remove_host(&host_id("h1")).unwrap_err();
    assert_eq!(denied, HostDenied::InUse { host: host_id("h1"), reservations: 1 });
    drop(ledger.release(&id("r1")));
    assert!(ledger.remove_host(&host_id("h1")).is_ok());
    assert!(ledger.hosts().is_empty());
}

#[test]
fn what_is_out_of_range_is_refused_with_the_range() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    let mut too_long = ask("r1", "vm1", 1);
    too_long.hold_for = Duration::from_secs(301);
    let mut no_cpu = ask("r1", "vm1", 1);
    no_cpu.shape.cpu = 0;
    let mut rules = ask("r1", "vm1", 1);
    rules.rules = vec![rule(AffinityMode::Apart, Scope::Host)[0].clone(); 33];
    for ask in [too_long, no_cpu, rules] {
        let denied = ledger.reserve(START, ask).unwrap_err();
        assert!(matches!(denied, ReserveDenied::OutOfRange { .. }), "{denied}");
    }
}

#[test]
fn one_call_ends_a_bounded_number_of_holds() {
    let mut ledger = ledger(&[("h1", "a", 2_000)]);
    for n in 0..EXPIRED_PER_CALL_MAX + 1 {
        held(&mut ledger, ask(&format!("r{n}"), &format!("vm{n}"), 1));
    }
    assert_eq!(ledger.expire(at(30)).value.len(), EXPIRED_PER_CALL_MAX);
    assert_eq!(ledger.next_deadline(), Some(at(30)), "so it is called again");
    assert_eq!(ledger.expire(at(30)).value.len(), 1);
    assert_eq!(ledger.totals().free, capacity(2_000));
}

#[test]
fn a_confirmed_reservation_without_a_record_is_given_back() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    confirmed(&mut ledger, ask("r1", "vm1", 4));
    let mark = ledger.mark();
    let done = ledger.reconcile(at(1), mark, &[]);
    assert_eq!(done.value.released, [id("r1")]);
    assert_eq!(done.changes, [Change::Delete(RowKey::Reservation(id("r1")))]);
}

#[test]
fn what_was_confirmed_after_the_list_was_asked_for_is_not_given_back() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    let mark = ledger.mark();
    confirmed(&mut ledger, ask("r1", "vm1", 4));
    assert_eq!(ledger.reconcile(at(1), mark, &[]).value, Reconciled::default());
}

#[test]
fn what_is_held_or_being_committed_is_left_to_its_own_course() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    held(&mut ledger, ask("r1", "vm1", 1));
    let row = held(&mut ledger, ask("r2", "vm2", 1));
    begin(&mut ledger, &row);
    let mut former = record_for(&row);
    former.reservation = id("r0");
    let mark = ledger.mark();
    let done = ledger.reconcile(at(1), mark, &[former]).value;
    assert_eq!(done, Reconciled { postponed: vec![id("r0")], ..Reconciled::default() });
    assert_eq!(ledger.totals().reservations, 2);
}

#[test]
fn a_commit_that_the_engine_has_is_confirmed() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    let row = held(&mut ledger, ask("r1", "vm1", 1));
    begin(&mut ledger, &row);
    let mark = ledger.mark();
    let done = ledger.reconcile(at(1), mark, &[record_for(&row)]);
    assert_eq!(done.value.confirmed, [id("r1")]);
    assert_eq!(ledger.get(&id("r1")).unwrap().stage, Stage::Confirmed);
}

#[test]
fn a_record_without_a_reservation_is_taken_in_even_when_it_over_commits() {
    let mut ledger = ledger(&[("h1", "a", 2)]);
    let lost = record("vm1", "r1");
    let mut foreign = record("vm2", "r2");
    foreign.owner.region = RegionId::new("us-east-1").unwrap();
    let mark = ledger.mark();
    let done = ledger.reconcile(at(1), mark, &[lost, foreign]).value;
    assert_eq!(done.adopted, [id("r1")]);
    assert_eq!(done.overcommitted, [host_id("h1")]);
    assert_eq!(ledger.totals().allocated.cpu, 4);
    assert!(ledger.reserve(at(1), ask("r3", "vm3", 1)).is_err());
    assert_eq!(ledger.lint(), []);
}

#[test]
fn what_was_taken_in_by_a_late_list_is_given_back_by_the_next() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    let mark = ledger.mark();
    drop(ledger.reconcile(at(1), mark, &[record("vm1", "r1")]));
    let mark = ledger.mark();
    assert_eq!(ledger.reconcile(at(2), mark, &[]).value.released, [id("r1")]);
}

#[test]
fn a_row_that_disagrees_with_its_record_gives_way_to_it() {
    let mut ledger = ledger(&[("h1", "a", 8), ("h2", "a", 16)]);
    let row = confirmed(&mut ledger, ask("r1", "vm1", 4));
    let mut moved = record_for(&row);
    moved.owner.host = host_id("h2");
    moved.owner.epoch = Epoch::new(2);
    let mark = ledger.mark();
    assert_eq!(ledger.reconcile(at(1), mark, &[moved]).value.adopted, [id("r1")]);
    assert_eq!(ledger.host(&host_id("h1")).unwrap().free, capacity(8));
    assert_eq!(ledger.host(&host_id("h2")).unwrap().free.cpu, 12);
}

#[test]
fn rows_that_hold_one_vm_twice_are_not_loaded() {
    let mut one = ledger(&[("h1", "a", 8)]);
    held(&mut one, ask("r1", "vm1", 1));
    let mut other = ledger(&[("h1", "a", 8)]);
    held(&mut other, ask("r2", "vm1", 1));
    let rows: Vec<_> = one.rows().chain(other.rows()).collect();
    let error = Ledger::load(region(), rows).unwrap_err();
    assert!(error.to_string().contains("vm1"), "{error}");
}

#[test]
fn rows_survive_being_stored() {
    let mut ledger = ledger(&[("h1", "a", 8)]);
    held(&mut ledger, ask("r1", "vm1", 1));
    let row = held(&mut ledger, ask("r2", "vm2", 1));
    begin(&mut ledger, &row);
    confirmed(&mut ledger, ask("r3", "vm3", 1));
    drop(ledger.cordon(&host_id("h1"), true).unwrap());
    for row in ledger.rows() {
        let json = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&json).unwrap(), row);
    }
}

#[test]
fn a_parked_vm_holds_only_its_disk_and_comes_back_when_there_is_room() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    let victim = confirmed(&mut ledger, ask("r1", "victim", 4));
    assert_eq!(ledger.park(&victim.ask.id).unwrap().changes.len(), 1);
    assert!(ledger.park(&victim.ask.id).unwrap().changes.is_empty());
    let urgent = confirmed(
        &mut ledger,
        Reserve {
            shape: VmShape { storage: Gib::new(1), ..ask("r2", "urgent", 4).shape },
            ..ask("r2", "urgent", 4)
        },
    );
    assert!(matches!(ledger.unpark(&victim.ask.id), Err(ParkDenied::NoRoom { .. })));
    assert_eq!(ledger.release(&urgent.ask.id).changes.len(), 1);
    let back = ledger.unpark(&victim.ask.id).unwrap();
    assert!(!back.value.parked);
    assert_eq!(ledger.host(&host_id("h1")).unwrap().free.cpu, 0);
    assert_eq!(ledger.lint(), Vec::new());
}

#[test]
fn what_is_not_confirmed_cannot_be_parked() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    let row = held(&mut ledger, ask("r1", "vm", 1));
    assert!(matches!(ledger.park(&row.ask.id), Err(ParkDenied::NotConfirmed { .. })));
    assert!(matches!(ledger.park(&id("none")), Err(ParkDenied::NotConfirmed { .. })));
}

#[test]
fn a_parked_row_is_loaded_as_it_was() {
    let mut ledger = ledger(&[("h1", "a", 4)]);
    let row = confirmed(&mut ledger, ask("r1", "victim", 4));
    assert!(ledger.park(&row.ask.id).unwrap().value.parked);
    let rows: Vec<Row> = ledger.rows().collect();
    let text = serde_json::to_string(&rows).unwrap();
    let rows: Vec<Row> = serde_json::from_str(&text).unwrap();
    let mut loaded = Ledger::load(region(), rows).unwrap();
    loaded.report_host(report("h1", "a", 4)).unwrap();
    assert_eq!(loaded.hosts(), ledger.hosts());
}

/// A commit that a crash cut short is finished by the books, also that of a recovered VM; only a
/// move has a log of its own.
#[test]
fn only_the_commit_of_a_move_is_left_to_its_log() {
    let row = held(&mut ledger(&[("h1", "a", 4)]), ask("r1", "vm1", 4));
    let made = record_for(&row);
    let recovered = recover(
        &VmRecord { generation: Generation::new(7), ..made.clone() },
        &Place {
            region: made.owner.region.clone(),
            zone: made.owner.zone.clone(),
            host: made.owner.host.clone(),
        },
        Recovered {
            failover: "fo-1".to_owned(),
            from: RegionId::new("us-east-1").unwrap(),
            proof: Proof::LeaseLapsed { term: 1, watched_ms: 9_000 },
            loss: Loss::DiskAndMemory { since: START },
            at: START,
        },
    );
    let owner = Owner { epoch: made.owner.epoch.next(), ..made.owner.clone() };
    let generation = made.generation.next();
    let moved = VmRecord { owner, generation, ..made.clone() };
    for (record, is_move) in [(made, false), (recovered, false), (moved, true)] {
        let mut ledger = ledger(&[("h1", "a", 4)]);
        held(&mut ledger, ask("r1", "vm1", 4));
        assert!(ledger.begin_commit(START, &id("r1"), record.clone()).is_ok());
        assert_eq!(ledger.get(&id("r1")).unwrap().is_move(), is_move, "{record:?}");
    }
}
