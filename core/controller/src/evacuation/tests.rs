//! Who leaves, who waits, who stays; and where home is.

use std::sync::Arc;

use dwcp_types::{HostId, Tier, ZoneId};

use super::*;
use crate::migration::tests::migration;
use crate::migration::{Ask, Cause, Site, Step, hand_over, take_back};
use crate::ownership::tests::record;
use crate::ownership::{Loss, Place, Proof, Recovered, recover};
use crate::placement::tests::source;

const NOW: Timestamp = Timestamp::from_millis(100_000);

fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

fn emptied() -> RegionId {
    region("eu-west-1")
}

fn vm(id: &str) -> VmId {
    VmId::new(id).unwrap()
}

fn site(id: &str) -> Site {
    Site {
        region: region(id),
        zone: ZoneId::new("z").unwrap(),
        host: HostId::new("h").unwrap(),
    }
}

/// A move of a VM out of the region that is emptied.
fn moving(id: &str, cause: Cause) -> Migration {
    let record = record(id, "r-1");
    let begun = migration();
    let ask = Ask { vm: vm(id), target: region("us-east-1"), cause, ..begun.ask };
    let id = MigrationId::new(&format!("m-{id}")).unwrap();
    from(&record, Migration { id, ask, site: Some(site("us-east-1")), ..begun })
}

/// The same as it is asked for of a VM that is as in this record.
fn from(record: &VmRecord, migration: Migration) -> Migration {
    let owner = record.owner.clone();
    let ask = Ask {
        source: Site { region: owner.region, zone: owner.zone, host: owner.host },
        epoch: owner.epoch,
        generation: record.generation,
        reservation: record.reservation.clone(),
        ..migration.ask
    };
    Migration { ask, ..migration }
}

fn failed_at(id: &str, at: Timestamp) -> Migration {
    let failed = moving(id, Cause::Maintenance).abandon(at, "the link broke").unwrap();
    failed.advance(Step::Done, at, "it stays").unwrap()
}

fn planned(records: &[VmRecord], moves: &[Migration]) -> Plan {
    let mut view = source::fleet();
    view.vms = records.iter().map(|record| Arc::new(record.placed())).collect();
    let records: Vec<_> = records.iter().collect();
    let moves: Vec<_> = moves.iter().collect();
    plan(&Fleet::new(&view), &emptied(), (&records, &moves), None, &Policy::default())
}

#[test]
fn everyone_leaves_or_the_plan_says_why_not() {
    let mut standard = record("standard", "r-1");
    standard.request.tier = Tier::Standard;
    let off = VmRecord { power: Power::Stopped, ..record("off", "r-1") };
    let going = VmRecord { power: Power::Deleted, ..record("going", "r-1") };
    let urgent = vm("urgent");
    let parked =
        VmRecord { preempted_by: Some(urgent.clone()), ..record("parked", "r-1") };
    let mut european = record("european", "r-1");
    european.request.constraints.data_locality = Some("EU".to_owned());
    let mut first = record("first", "r-1");
    first.request.priority = 9;
    let mut elsewhere = record("elsewhere", "r-1");
    elsewhere.owner.region = region("us-east-1");
    let on_the_way = record("on-the-way", "r-1");
    let all = [standard, off, going, parked, european, first, elsewhere, on_the_way];
    let plan = planned(&all, &[moving("on-the-way", Cause::Maintenance)]);
    let leave: Vec<_> = plan.leave.iter().map(|it| (it.vm.as_str(), it.cold)).collect();
    assert_eq!(leave, [("first", false), ("off", true), ("standard", false)]);
    for it in &plan.leave {
        assert!(!it.to.is_empty() && it.to.iter().all(|to| to.region != emptied()));
    }
    let moving: Vec<_> = plan.moving.iter().map(|it| it.vm.as_str()).collect();
    assert_eq!(moving, ["on-the-way"]);
    let stay: BTreeMap<_, _> =
        plan.stay.iter().map(|it| (it.vm.as_str(), &it.why)).collect();
    assert_eq!(stay["going"], &Why::BeingDeleted);
    assert_eq!(stay["parked"], &Why::GaveWay { to: urgent });
    // F11: the only region of the EU is the one that is emptied.
    assert!(
        matches!(stay["european"], Why::NoLegalTarget { refusals } if !refusals.is_empty())
    );
    assert_eq!(stay.len(), 3);
    assert!(!plan.is_empty() && planned(&[], &[]).is_empty());
}

#[test]
fn one_whose_move_failed_is_asked_for_again_after_a_while_and_others_at_once() {
    let records = ["a", "b", "c"].map(|id| record(id, "r-1"));
    // Its older move counts no more.
    let before = failed_at("a", Timestamp::from_millis(1));
    let plan =
        planned(&records, &[failed_at("a", NOW), before, moving("c", Cause::Manual)]);
    let due_to = |refused: &Refused, at_once, now| -> Vec<_> {
        let due = due(&plan, refused, at_once, now);
        due.map(|(it, _)| it.vm.as_str().to_owned()).collect()
    };
    let due_at = |at_once, now| due_to(&Refused::new(), at_once, now);
    assert_eq!(due_at(9, NOW), ["b"]);
    assert_eq!(due_at(9, NOW.plus(AGAIN_AFTER)), ["a", "b"]);
    assert_eq!(due_at(2, NOW.plus(AGAIN_AFTER)), ["a"], "one is on the way");
    assert_eq!(due_at(1, NOW.plus(AGAIN_AFTER)), [] as [&str; 0]);
    // One that was refused does not take the place of another.
    let refused = Refused::from([(vm("a"), NOW.plus(2 * AGAIN_AFTER))]);
    assert_eq!(due_to(&refused, 2, NOW.plus(AGAIN_AFTER)), ["b"]);
    assert_eq!(due_to(&refused, 2, NOW.plus(2 * AGAIN_AFTER)), ["a"]);
    let failed = plan.leave[0].failed.as_ref().unwrap();
    assert_eq!((failed.id.as_str(), failed.why.as_str()), ("m-a", "the link broke"));
    // It failed before the VM came here.
    let mut back = failed_at("b", NOW);
    back.ask.source.region = region("us-east-1");
    assert!(planned(&records, &[back]).leave.iter().all(|it| it.failed.is_none()));
}

#[test]
fn a_vm_that_was_driven_out_knows_its_home_until_it_is_back_or_moved_on_purpose() {
    let here = record("vm", "r-1");
    let home = Some(emptied());
    let out = hand_over(&here, &moving("vm", Cause::Maintenance), NOW).unwrap();
    assert_eq!(out.home, home);
    // Driven out again, it has the same home.
    let again = |cause, record: &VmRecord, to: &str| {
        let next = Migration { site: Some(site(to)), ..moving("vm", cause) };
        let next = from(record, next);
        hand_over(record, &next, NOW).unwrap()
    };
    let further = again(Cause::Maintenance, &out, "sa-east-1");
    assert_eq!(further.home, home);
    assert_eq!(again(Cause::Manual, &further, "eu-west-1").home, None, "it is back");
    assert_eq!(again(Cause::CostOptimization, &out, "sa-east-1").home, None);
    assert_eq!(again(Cause::Maintenance, &out, "eu-west-1").home, None);
    // Its target lost it before it ran there.
    let back = take_back(&out, &moving("vm", Cause::Maintenance), NOW).unwrap();
    assert_eq!(back.home, None);
    let lost = Recovered {
        failover: "fo-1".to_owned(),
        from: emptied(),
        proof: Proof::LeaseLapsed { term: 3, watched_ms: 9_000 },
        loss: Loss::Memory,
        at: NOW,
    };
    let Site { region: there, zone, host } = site("us-east-1");
    let place = Place { region: there, zone, host };
    assert_eq!(recover(&here, &place, lost).home, home);
}
