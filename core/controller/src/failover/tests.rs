//! Plans against the oracle of placement, and the record's change of owners.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dwcp_types::{
    Capacity, Epoch, FleetView, Generation, HostId, OnRegionLoss, PlacedVm, Power,
    RegionId, ReservationId, Strategy, Tier, Timestamp, VmId, ZoneId,
};
use proptest::prelude::*;

use super::*;
use crate::lease::LeaseRecord;
use crate::ownership::tests::record;
use crate::ownership::{
    Loss, Place, Proof, Recovered, Recovery, VmRecord, begin_replica, judge_recovery,
    part, recover, seal, trust,
};
use crate::placement::tests::oracle::judge;
use crate::placement::tests::random::{Random, fleet, request};
use crate::placement::{Fleet, Policy, need, validate};

const LATER: Timestamp = Timestamp::from_millis(9_000);

fn protected(vm: &str) -> VmRecord {
    let mut record = record(vm, "r-1");
    record.request.tier = Tier::Protected;
    record.request.on_region_loss = OnRegionLoss::RestartFromImage;
    record
}

fn recovered(by: &str) -> Recovered {
    Recovered {
        failover: by.to_owned(),
        from: RegionId::new("eu-west-1").unwrap(),
        proof: Proof::LeaseLapsed { term: 3, watched_ms: 7_100 },
        loss: Loss::DiskAndMemory { since: Timestamp::from_millis(1_000) },
        at: LATER,
    }
}

fn place() -> Place {
    Place {
        region: RegionId::new("us-east-1").unwrap(),
        zone: ZoneId::new("us-east-1a").unwrap(),
        host: HostId::new("h9").unwrap(),
    }
}

fn lease() -> LeaseRecord {
    LeaseRecord::acquired(None, &RegionId::new("eu-west-1").unwrap())
}

#[test]
fn a_recovered_vm_has_an_epoch_past_moves_and_remembers_why() {
    let before = VmRecord { generation: Generation::new(7), ..protected("vm-1") };
    let after = recover(&before, &place(), recovered("fo-1"));
    assert_eq!(after.owner.epoch, before.owner.epoch.past_moves());
    assert!(after.version() > before.version());
    assert_eq!(after.owner.region.as_str(), "us-east-1");
    assert_eq!(after.recovered, Some(Box::new(recovered("fo-1"))));
    assert_eq!((after.power, &after.reservation), (before.power, &before.reservation));
    let json = serde_json::to_string(&after).unwrap();
    assert_eq!(serde_json::from_str::<VmRecord>(&json).unwrap(), after);
}

#[test]
fn it_is_open_only_while_the_fence_stands_and_the_record_has_not_moved_on() {
    let before = protected("vm-1");
    let wanted = recover(&before, &place(), recovered("fo-1"));
    let fenced = lease().fenced("fo-1");
    let judged = |vm: Option<&VmRecord>, lease: Option<&LeaseRecord>| {
        judge_recovery(&wanted, vm, lease)
    };
    let open = Recovery::Open(Box::new(wanted.clone()));
    assert_eq!(judged(Some(&before), Some(&fenced)), open);
    assert_eq!(judged(Some(&wanted), Some(&fenced)), Recovery::Done);
    assert_eq!(judged(Some(&wanted), None), Recovery::Done, "done is done");
    let gone = Recovery::Superseded;
    assert_eq!(judged(None, Some(&fenced)), gone, "deleted");
    assert_eq!(judged(Some(&before), None), gone, "no lease");
    assert_eq!(judged(Some(&before), Some(&lease())), gone, "never fenced");
    let back = LeaseRecord::acquired(Some(&fenced), &fenced.region);
    assert_eq!(judged(Some(&before), Some(&back)), gone, "the region is back");
    let other = lease().fenced("fo-2");
    assert_eq!(judged(Some(&before), Some(&other)), gone, "another failover's fence");
    let moved = recover(&before, &place(), recovered("fo-2"));
    assert_eq!(judged(Some(&moved), Some(&fenced)), gone, "another failover moved it");
    let deleted = VmRecord { power: Power::Deleted, ..before.clone() };
    assert_eq!(judged(Some(&deleted), Some(&fenced)), gone, "being deleted");
    let again =
        VmRecord { reservation: ReservationId::new("r-2").unwrap(), ..before.clone() };
    assert_eq!(judged(Some(&again), Some(&fenced)), gone, "another incarnation");
}

#[test]
fn what_was_wanted_meanwhile_is_kept() {
    let before = protected("vm-1");
    let wanted = recover(&before, &place(), recovered("fo-1"));
    let stopped = VmRecord {
        power: Power::Stopped,
        generation: before.generation.next(),
        ..before
    };
    let fenced = lease().fenced("fo-1");
    let Recovery::Open(next) = judge_recovery(&wanted, Some(&stopped), Some(&fenced))
    else {
        panic!("it is open");
    };
    assert_eq!((next.power, next.owner.epoch), (Power::Stopped, Epoch::new(3)));
}

#[test]
fn whoever_may_not_start_elsewhere_stays_down_and_the_plan_says_why() {
    let mut view = crate::placement::tests::source::fleet();
    let lost = RegionId::new("eu-west-1").unwrap();
    let mut standard = record("standard", "r-1");
    standard.request.tier = Tier::Standard;
    let mut kept = protected("kept");
    kept.request.on_region_loss = OnRegionLoss::StayDown;
    let going = VmRecord { power: Power::Deleted, ..protected("going") };
    let urgent = VmId::new("urgent").unwrap();
    let parked = VmRecord { preempted_by: Some(urgent.clone()), ..protected("parked") };
    let mut european = protected("european");
    european.request.constraints.data_locality = Some("EU".to_owned());
    let free = protected("free");
    let all = [standard, kept, going, parked, european, free];
    view.vms = all.iter().map(|record| Arc::new(record.placed())).collect();
    let records: Vec<_> = all.iter().collect();
    let plan =
        plan(&Fleet::new(&view), &lost, &records, Leave::default(), &Policy::default());
    let moves: Vec<_> = plan.moves.iter().map(|it| it.vm.as_str()).collect();
    assert_eq!(moves, ["free"]);
    let down: BTreeMap<_, _> =
        plan.down.iter().map(|it| (it.vm.as_str(), &it.why)).collect();
    assert_eq!(down["standard"], &Unrecovered::NotProtected { tier: Tier::Standard });
    assert_eq!(down["kept"], &Unrecovered::NoReplica);
    assert_eq!(down["going"], &Unrecovered::BeingDeleted);
    assert_eq!(down["parked"], &Unrecovered::GaveWay { to: urgent });
    // F11: the only region of the EU is the one that is lost.
    let Unrecovered::NoLegalTarget { refusals } = down["european"] else {
        panic!("{:?}", down["european"])
    };
    assert!(!refusals.is_empty());
}

fn only_in(regions: &BTreeSet<RegionId>) -> Leave<'_> {
    Leave { only: Some(regions), ..Leave::default() }
}

/// A protected VM with a replica in `us-east-1`.
fn mirrored(vm: &str) -> VmRecord {
    let mut record = protected(vm);
    record.request.on_region_loss = OnRegionLoss::SyncReplica;
    begin_replica(&record, place(), ReservationId::new("r-9").unwrap(), LATER)
}

fn in_sync(vm: &str) -> VmRecord {
    let begun = mirrored(vm);
    let copy = begun.replica.as_ref().unwrap().copy;
    trust(&begun, copy, LATER).unwrap()
}

#[test]
fn a_vm_with_a_replica_starts_where_that_is_or_stays_down() {
    let mut view = crate::placement::tests::source::fleet();
    let lost = RegionId::new("eu-west-1").unwrap();
    let parted = part(&in_sync("behind"), LATER).unwrap();
    // F31: where it was legal when it was made and is not any more, it is not started.
    let mut illegal = in_sync("illegal");
    illegal.request.constraints.data_locality = Some("EU".to_owned());
    let all = [in_sync("whole"), parted, mirrored("begun"), illegal];
    view.vms = all.iter().map(|record| Arc::new(record.placed())).collect();
    let records: Vec<_> = all.iter().collect();
    let fleet = Fleet::new(&view);
    let planned = plan(&fleet, &lost, &records, Leave::default(), &Policy::default());
    let whole = &planned.moves[0];
    assert_eq!((planned.moves.len(), whole.loss), (1, Loss::Memory));
    assert_eq!(whole.to.len(), 1, "{whole:?}");
    assert_eq!(whole.first().unwrap().2, &place().host, "where its disk is");
    let down: BTreeMap<_, _> =
        planned.down.iter().map(|it| (it.vm.as_str(), &it.why)).collect();
    assert_eq!(down["behind"], &Unrecovered::ReplicaBehind { since: LATER });
    assert_eq!(down["begun"], &Unrecovered::NoReplica);
    assert!(matches!(down["illegal"], Unrecovered::NoLegalTarget { .. }));
    let accepted = Leave { accept_data_loss: true, ..Leave::default() };
    let planned = plan(&fleet, &lost, &records, accepted, &Policy::default());
    let losses: Vec<_> = planned.moves.iter().map(|it| it.loss).collect();
    assert_eq!(losses.len(), 2);
    assert!(losses.contains(&Loss::Latest { since: LATER }));
}

#[test]
fn a_vm_is_recovered_from_what_was_planned_or_not_at_all() {
    let fenced = lease().fenced("fo-1");
    let whole = in_sync("vm-1");
    let planned = Recovered { loss: Loss::Memory, ..recovered("fo-1") };
    let wanted = recover(&whole, &place(), planned);
    let copy = whole.replica.as_ref().unwrap().copy;
    assert_eq!((wanted.disk_from, &wanted.replica), (Some(copy), &None));
    let open = judge_recovery(&wanted, Some(&whole), Some(&fenced));
    assert_eq!(open, Recovery::Open(Box::new(wanted.clone())));
    // Its owner parted from the copy after the plan was made.
    let parted = part(&whole, LATER).unwrap();
    let judged = judge_recovery(&wanted, Some(&parted), Some(&fenced));
    assert_eq!(judged, Recovery::Superseded);
}

#[test]
fn a_plan_keeps_to_the_regions_that_were_named() {
    let mut view = crate::placement::tests::source::fleet();
    let lost = RegionId::new("eu-west-1").unwrap();
    let all = [protected("a"), protected("b")];
    view.vms = all.iter().map(|record| Arc::new(record.placed())).collect();
    let records: Vec<_> = all.iter().collect();
    let only = RegionId::new("sa-east-1").unwrap();
    let named = BTreeSet::from([only.clone()]);
    let fleet = Fleet::new(&view);
    let kept = plan(&fleet, &lost, &records, only_in(&named), &Policy::default());
    assert_eq!(kept.moves.len(), 2);
    for it in &kept.moves {
        assert!(it.to.iter().all(|at| at.region == only), "{it:?}");
    }
    let lost_only = BTreeSet::from([lost.clone()]);
    let none = plan(&fleet, &lost, &records, only_in(&lost_only), &Policy::default());
    assert!(none.moves.is_empty() && none.down.len() == 2);
}

/// A federation whose region loses VMs of all kinds.
fn lost(seed: u64) -> (FleetView, RegionId, Vec<VmRecord>) {
    let mut random = Random::new(seed);
    let mut view = fleet(&mut random, 5, 0);
    let places: Vec<_> = view
        .regions
        .iter()
        .flat_map(|region| {
            let id = &region.region.id;
            region
                .hosts
                .iter()
                .map(|host| (id.clone(), host.zone.clone(), host.id.clone()))
        })
        .collect();
    let mut records = Vec::new();
    for number in 0..if places.is_empty() { 0 } else { 12 } {
        let mut it = record(&format!("vm{number}"), &format!("r-{number}"));
        it.request = request(&mut random, 5);
        it.request.id = VmId::new(&format!("vm{number}")).unwrap();
        it.request.tier =
            if random.below(4) == 0 { Tier::Standard } else { Tier::Protected };
        it.request.on_region_loss = if random.below(4) == 0 {
            OnRegionLoss::StayDown
        } else {
            OnRegionLoss::RestartFromImage
        };
        if random.below(2) == 0 {
            it.request.constraints.required_compliance.clear();
            it.request.constraints.allowed_regions.clear();
            it.request.constraints.max_latency_ms = None;
            it.request.constraints.data_locality = None;
        }
        // Most of them where it hurts.
        let near = places.len() as u64 / (1 + random.below(3));
        let at = usize::try_from(random.below(near.max(1))).unwrap();
        let (region, zone, host) = places[at].clone();
        it.owner.region = region;
        it.owner.zone = zone;
        it.owner.host = host;
        records.push(it);
    }
    view.vms = records.iter().map(|record| Arc::new(record.placed())).collect();
    let region = view.regions.first().map_or_else(
        || RegionId::new("nowhere").unwrap(),
        |region| region.region.id.clone(),
    );
    (view, region, records)
}

/// The fleet without a region.
fn without(view: &FleetView, region: &RegionId) -> FleetView {
    let mut view = view.clone();
    view.vms.retain(|vm| vm.region != *region);
    for it in &mut view.regions {
        if it.region.id == *region {
            let mut closed = it.region.as_ref().clone();
            closed.enabled = false;
            it.region = Arc::new(closed);
        }
    }
    view
}

fn put(view: &mut FleetView, record: &VmRecord, to: (&RegionId, &ZoneId, &HostId)) {
    let (region, zone, host) = (to.0.clone(), to.1.clone(), to.2.clone());
    let at = view.regions.iter_mut().find(|it| it.region.id == region).unwrap();
    let at = at.hosts.iter_mut().find(|it| it.id == host).unwrap();
    let needs: Capacity = need(&record.request);
    at.free = at.free.checked_sub(&needs).expect("the plan has room for it");
    view.vms.push(Arc::new(PlacedVm { region, zone, host, ..record.placed() }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// One after the other by priority, each where the oracle of placement would put it with
    /// those before it in their places.
    #[test]
    fn a_plan_is_one_placement_after_the_other(seed: u64) {
        let (view, region, records) = lost(seed);
        let all: Vec<_> = records.iter().collect();
        let plan = plan(&Fleet::new(&view), &region, &all, Leave::default(), &Policy::default());
        let mut rest = without(&view, &region);
        let mut told: BTreeMap<VmId, &str> = BTreeMap::new();
        for it in &plan.down {
            prop_assert_eq!(told.insert(it.vm.clone(), "down"), None);
        }
        for it in &plan.moves {
            prop_assert_eq!(told.insert(it.vm.clone(), "moves"), None);
        }
        let mut own: Vec<_> =
            records.iter().filter(|it| it.owner.region == region).collect();
        prop_assert_eq!(told.len(), own.len());
        own.sort_by_key(|it| {
            (std::cmp::Reverse((it.request.priority, it.request.shape)), it.request.id.clone())
        });
        for it in own {
            let may = it.request.tier == Tier::Protected
                && it.request.on_region_loss == OnRegionLoss::RestartFromImage;
            let first = plan.moves.iter().find(|to| to.vm == it.request.id);
            let first = first.and_then(Move::first);
            if !may {
                prop_assert_eq!(first, None);
                continue;
            }
            // One that contradicts itself was never placed; here it stays where it is.
            let sound = validate(&it.request).is_ok();
            let places = if sound {
                judge(&rest, &it.request, Strategy::default()).places
            } else {
                Vec::new()
            };
            let best = places.first().map(|(region, zone, host, _)| {
                (region.as_str(), zone.as_str(), host.as_str())
            });
            let names = first.map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str()));
            prop_assert_eq!(names, best, "{}", it.request.id);
            if let Some(to) = first {
                put(&mut rest, it, to);
            }
        }
    }
}

#[test]
fn enough_of_the_random_vms_move_to_mean_something() {
    let (mut moves, mut stranded) = (0, 0);
    for seed in 0..400 {
        let (view, region, records) = lost(seed);
        let all: Vec<_> = records.iter().collect();
        let plan =
            plan(&Fleet::new(&view), &region, &all, Leave::default(), &Policy::default());
        moves += plan.moves.len();
        let no_target =
            |it: &&StaysDown| matches!(it.why, Unrecovered::NoLegalTarget { .. });
        stranded += plan.down.iter().filter(no_target).count();
    }
    assert!(moves > 60 && stranded > 20, "{moves} moves, {stranded} stranded");
}

#[test]
fn a_log_goes_forward_only_and_has_one_spelling() {
    let region = RegionId::new("eu-west-1").unwrap();
    let own = RegionId::new("us-east-1").unwrap();
    let trigger = Trigger::Automatic { by: own.clone() };
    let now = Timestamp::from_millis(5);
    let begun =
        Log::begun("fo-1".to_owned(), region.clone(), trigger, None, (own.clone(), now));
    assert_eq!(begun.phase, Phase::Waiting);
    let proof = Proof::LeaseLapsed { term: 1, watched_ms: 9_000 };
    let proven = begun.proven(proof.clone(), LATER);
    assert_eq!((proven.phase, proven.phase_at), (Phase::Recovering, LATER));
    assert_eq!(proven.advanced(Phase::Waiting, LATER), proven);
    let beaten = proven.beaten(&region);
    assert_eq!((beaten.beats, &beaten.executor), (1, &region));
    let over = beaten.over(Outcome::Recovered, LATER);
    let json = serde_json::to_string(&over).unwrap();
    assert_eq!(serde_json::from_str::<Log>(&json).unwrap(), over);
    let automatic = Log::begun(
        "fo-2".to_owned(),
        region,
        Trigger::Automatic { by: own.clone() },
        Some(proof),
        (own, now),
    );
    assert_eq!(automatic.phase, Phase::Recovering);
}

/// One whose disk follows later, and is there as of a moment.
fn followed(vm: &str, as_of: u64) -> VmRecord {
    let mut record = mirrored(vm);
    record.request.on_region_loss = OnRegionLoss::AsyncReplica;
    let copy = record.replica.as_ref().unwrap().copy;
    seal(&record, copy, Timestamp::from_millis(as_of), LATER).unwrap()
}

#[test]
fn a_vm_whose_disk_follows_later_starts_from_what_is_there_without_anybodys_word() {
    let lost = RegionId::new("eu-west-1").unwrap();
    let mut view = crate::placement::tests::source::fleet();
    let whole = followed("whole", 4_000);
    view.vms = vec![Arc::new(whole.placed())];
    let fleet = Fleet::new(&view);
    let planned = plan(&fleet, &lost, &[&whole], Leave::default(), &Policy::default());
    let point = Loss::Point { as_of: Timestamp::from_millis(4_000), max_age_s: 5 };
    assert_eq!(planned.moves[0].loss, point);
    assert_eq!(planned.moves[0].first().unwrap().2, &place().host, "where its disk is");
    let mut begun = mirrored("begun");
    begun.request.on_region_loss = OnRegionLoss::SnapshotReplica;
    let planned = plan(&fleet, &lost, &[&begun], Leave::default(), &Policy::default());
    assert_eq!(planned.down[0].why, Unrecovered::NoReplica);
    // A later round than was planned with: it is planned anew.
    let recovered = Recovered { loss: point, ..recovered("fo-1") };
    let wanted = recover(&whole, &place(), recovered);
    let later = followed("whole", 5_000);
    let judged = judge_recovery(&wanted, Some(&later), Some(&lease().fenced("fo-1")));
    assert_eq!(judged, Recovery::Superseded);
}

#[test]
fn a_log_says_how_old_the_disks_were_that_follow_later() {
    let region = RegionId::new("eu-west-1").unwrap();
    let trigger = Trigger::Automatic { by: region.clone() };
    let by = (region.clone(), Timestamp::from_millis(30_000));
    let log = Log::begun("fo-1".to_owned(), region, trigger, None, by);
    let log = Log { lost_at: Some(Timestamp::from_millis(20_000)), ..log };
    let came = |vm: &str, loss| {
        recover(&protected(vm), &place(), Recovered { loss, ..recovered("fo-1") })
    };
    let point =
        |as_of| Loss::Point { as_of: Timestamp::from_millis(as_of), max_age_s: 5 };
    let all = [
        came("a", point(17_000)),
        came("b", point(13_500)),
        came("c", Loss::Memory),
        // By a clock that is ahead.
        came("d", point(21_000)),
    ];
    let told = log.points_of(all.iter());
    assert_eq!(told, Some(Points { vms: 3, age_ms_max: 6_500, over: 1 }));
    assert_eq!(log.points_of([came("e", Loss::Memory)].iter()), None);
}

#[test]
fn an_age_is_refused_where_no_replica_has_one_and_out_of_its_range() {
    let mut asked = protected("vm").request;
    asked.replica_max_age_s = Some(5);
    assert!(validate(&asked).unwrap_err()[0].to_string().contains("replica_max_age_s"));
    for (mode, seconds, right) in [
        (OnRegionLoss::SyncReplica, 5, false),
        (OnRegionLoss::AsyncReplica, 1, false),
        (OnRegionLoss::AsyncReplica, 2, true),
        (OnRegionLoss::AsyncReplica, 301, false),
        (OnRegionLoss::SnapshotReplica, 9, false),
        (OnRegionLoss::SnapshotReplica, 86_400, true),
    ] {
        asked.on_region_loss = mode;
        asked.replica_max_age_s = Some(seconds);
        assert_eq!(validate(&asked).is_ok(), right, "{mode:?} {seconds}");
    }
}
