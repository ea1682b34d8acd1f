//! The record's transitions, one by one and in random orders.

use super::*;
use dwcp_types::{Constraints, Gib, Mib, Tier, VmPhase, VmType};
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(crate) fn request(vm: &str) -> PlacementRequest {
    PlacementRequest {
        id: VmId::new(vm).unwrap(),
        tenant: TenantId::new("customer-123").unwrap(),
        shape: VmShape {
            cpu: 4,
            memory: Mib::new(8192),
            storage: Gib::new(100),
            ..VmShape::default()
        },
        vm_type: VmType::Compute,
        constraints: Constraints::default(),
        origins: Vec::new(),
        strategy: None,
        priority: 5,
        tier: Tier::Standard,
        on_region_loss: dwcp_types::OnRegionLoss::StayDown,
        replica_max_age_s: None,
        labels: BTreeMap::new(),
    }
}

pub(crate) fn record(vm: &str, reservation: &str) -> VmRecord {
    VmRecord {
        request: request(vm),
        owner: Owner {
            region: RegionId::new("eu-west-1").unwrap(),
            zone: ZoneId::new("eu-west-1a").unwrap(),
            host: HostId::new("h1").unwrap(),
            epoch: Epoch::FIRST,
        },
        power: Power::Running,
        generation: Generation::FIRST,
        preempted_by: None,
        reservation: ReservationId::new(reservation).unwrap(),
        token: ClientToken::new("token-1").unwrap(),
        image: "debian-12".to_owned(),
        decision: DecisionSummary::default(),
        recovered: None,
        home: None,
        replica: None,
        disk_from: None,
        created_at: Timestamp::from_millis(1_000),
        updated_at: Timestamp::from_millis(1_000),
    }
}

const LATER: Timestamp = Timestamp::from_millis(2_000);

#[test]
fn wanting_what_is_wanted_changes_nothing() {
    let before = record("vm-1", "r-1");
    assert_eq!(set_power(&before, Power::Running, LATER).unwrap(), before);
}

#[test]
fn a_change_raises_the_generation_and_leaves_the_owner() {
    let before = record("vm-1", "r-1");
    let after = set_power(&before, Power::Stopped, LATER).unwrap();
    assert_eq!(after.power, Power::Stopped);
    assert_eq!(after.generation, Generation::new(2));
    assert_eq!(after.owner, before.owner);
    assert_eq!(after.updated_at, LATER);
    assert_eq!(newer(&before, &after), &after);
    assert_eq!(newer(&after, &before), &after);
}

#[test]
fn deleted_is_final_and_deleting_twice_is_deleting_once() {
    let deleted = set_power(&record("vm-1", "r-1"), Power::Deleted, LATER).unwrap();
    assert_eq!(set_power(&deleted, Power::Deleted, LATER).unwrap(), deleted);
    for wanted in [Power::Running, Power::Paused, Power::Stopped] {
        let denied = set_power(&deleted, wanted, LATER).unwrap_err();
        assert!(denied.to_string().contains("place a new one"), "{denied}");
    }
}

#[test]
fn a_stopped_vm_cannot_be_paused() {
    let stopped = set_power(&record("vm-1", "r-1"), Power::Stopped, LATER).unwrap();
    let denied = set_power(&stopped, Power::Paused, LATER).unwrap_err();
    assert!(denied.to_string().contains("start it"), "{denied}");
}

#[test]
fn a_vm_that_gave_way_stays_stopped_until_it_has_its_capacity_again() {
    let urgent = VmId::new("urgent").unwrap();
    let gave_way = preempt(&record("vm-1", "r-1"), &urgent, LATER).unwrap();
    assert!(gave_way.is_parked());
    let stopped = set_power(&record("vm-1", "r-1"), Power::Stopped, LATER).unwrap();
    assert!(preempt(&stopped, &urgent, LATER).unwrap().version() > stopped.version());
    assert_eq!(reinstate(&gave_way), gave_way, "it is to stay stopped");
    let wanted = set_power(&gave_way, Power::Running, LATER).unwrap();
    assert_eq!(instruction_for(&wanted).power, Power::Stopped, "it has no capacity");
    assert!(set_power(&wanted, Power::Paused, LATER).is_err());
    let back = reinstate(&wanted);
    assert_eq!(instruction_for(&back).power, Power::Running);
    assert!(
        back.version() > wanted.version(),
        "its host was told to stop under that one"
    );
    assert_eq!(reinstate(&back), back);
    let deleted = set_power(&wanted, Power::Deleted, LATER).unwrap();
    assert_eq!(instruction_for(&deleted).power, Power::Deleted);
}

#[test]
fn a_higher_epoch_is_newer_than_any_generation() {
    let mut moved = record("vm-1", "r-2");
    moved.owner.epoch = Epoch::new(2);
    let mut busy = record("vm-1", "r-1");
    busy.generation = Generation::new(99);
    assert_eq!(newer(&busy, &moved), &moved);
}

fn reported(epoch: u64, phase: VmPhase, at: u64) -> Seen {
    Seen::Reported(Observation {
        epoch: Epoch::new(epoch),
        generation: Generation::FIRST,
        phase,
        at: Timestamp::from_millis(at),
    })
}

#[test]
fn the_phase_never_claims_more_than_was_observed() {
    let mut vm = record("vm-1", "r-1");
    vm.owner.epoch = Epoch::new(2);
    let now = Timestamp::from_millis(100_000);
    for (seen, expected) in [
        (Seen::Unreachable, VmPhase::Unknown),
        (Seen::Never(Timestamp::from_millis(99_000)), VmPhase::Pending),
        // Its region is silent, and placed it after its last word.
        (Seen::Never(Timestamp::from_millis(1_000)), VmPhase::Unknown),
        (reported(2, VmPhase::Running, 99_000), VmPhase::Running),
        (reported(2, VmPhase::Running, 94_999), VmPhase::Unknown),
        (reported(1, VmPhase::Running, 99_000), VmPhase::Pending),
        (reported(3, VmPhase::Running, 99_000), VmPhase::Unknown),
        (reported(2, VmPhase::Stopped, 99_000), VmPhase::Starting),
        (reported(2, VmPhase::Failed, 99_000), VmPhase::Failed),
    ] {
        assert_eq!(phase(&vm, seen, now), expected, "{seen:?}");
    }
    vm.power = Power::Stopped;
    assert_eq!(phase(&vm, reported(2, VmPhase::Running, 99_000), now), VmPhase::Stopping);
    assert_eq!(phase(&vm, reported(2, VmPhase::Stopped, 99_000), now), VmPhase::Stopped);
}

#[test]
fn creation_is_judged_from_what_is_stored() {
    let wanted = record("vm-1", "r-1");
    let ours = TokenRecord::of(&wanted);
    let other = record("vm-1", "r-2");
    let others = TokenRecord::of(&other);
    let mut foreign = others.clone();
    foreign.request.priority = 9;
    for (vm, token, expected) in [
        (None, None, Creation::Open),
        (Some(&wanted), Some(&ours), Creation::Done),
        (None, Some(&ours), Creation::DoneAndDeleted),
        (Some(&other), Some(&ours), Creation::DoneAndDeleted),
        (Some(&other), Some(&others), Creation::DoneByAnother),
        (None, Some(&others), Creation::DoneByAnother),
        (Some(&other), Some(&foreign), Creation::TokenUsed),
        (Some(&other), None, Creation::NameTaken),
    ] {
        assert_eq!(judge_creation(&wanted, vm, token), expected);
    }
}

#[test]
fn a_name_that_is_used_again_starts_above_its_last_epoch() {
    assert_eq!(EpochFloor::first_above(None), Epoch::FIRST);
    let floor = EpochFloor { epoch: Epoch::new(4) };
    assert_eq!(EpochFloor::first_above(Some(floor)), Epoch::new(6));
}

#[test]
fn keys_name_what_they_hold() {
    let vm = record("vm-1", "r-1");
    assert_eq!(vm_key(&vm.request.id), "/vms/vm-1");
    assert_eq!(token_key(&vm.request.tenant, &vm.token), "/tokens/customer-123/token-1");
    assert_eq!(region_key(&vm.owner.region), "/regions/eu-west-1");
    assert_eq!(epoch_floor_key(&vm.request.id), "/epochs/vm-1");
}

#[test]
fn a_token_that_would_need_escaping_is_refused() {
    for text in ["", "a/b", "-a", &"x".repeat(64)] {
        assert!(ClientToken::new(text).is_err(), "{text}");
        let json = serde_json::to_string(text).unwrap();
        assert!(serde_json::from_str::<ClientToken>(&json).is_err(), "{text}");
    }
}

#[test]
fn a_record_survives_being_stored() {
    let vm = record("vm-1", "r-1");
    let json = serde_json::to_string(&vm).unwrap();
    assert_eq!(serde_json::from_str::<VmRecord>(&json).unwrap(), vm);
}

fn any_power() -> impl Strategy<Value = Power> {
    prop::sample::select(vec![
        Power::Running,
        Power::Paused,
        Power::Stopped,
        Power::Deleted,
    ])
}

proptest! {
    #[test]
    fn whatever_is_wanted_the_version_never_falls(
        wishes in prop::collection::vec(any_power(), 0..20),
    ) {
        let mut vm = record("vm-1", "r-1");
        for wanted in wishes {
            let Ok(next) = set_power(&vm, wanted, LATER) else { continue };
            prop_assert!(next.version() >= vm.version());
            prop_assert_eq!(next.version() == vm.version(), next == vm);
            prop_assert_eq!(instruction_for(&next).generation, next.generation);
            vm = next;
        }
    }
}
