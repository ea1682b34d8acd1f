//! Where VMs may go, what gives way, and what many at once may not break.

use std::collections::BTreeSet;

use dwcp_api::public::PlaceReply;
use dwcp_api::{CallError, ErrorCode};
use dwcp_testbed::{Ask, Federation, HostPlan, Plan, RegionPlan, refusal, until};
use dwcp_types::{AffinityMode, Hardness, Power, Scope, Tier, VmPhase};
use tokio::task::JoinSet;

/// Asks at all daemons in turn, all at once.
async fn place_all(
    federation: &Federation,
    regions: &[&str],
    asks: Vec<Ask>,
) -> Vec<Result<PlaceReply, CallError>> {
    let mut asking = JoinSet::new();
    for (ask, region) in asks.into_iter().zip(regions.iter().cycle()) {
        let door = federation.at(region);
        asking.spawn(async move {
            loop {
                match door.place(&ask).await {
                    // As a client is told to: again, with the same token.
                    Err(error) if is_open(&error) => {}
                    answered => return answered,
                }
            }
        });
    }
    asking.join_all().await
}

/// Whether it may have been done, and only asking again tells.
fn is_open(error: &CallError) -> bool {
    let indeterminate = matches!(
        error,
        CallError::Api(error) if error.code == ErrorCode::Indeterminate
    );
    indeterminate || error.may_have_been_done()
}

fn hosts(replies: &[Result<PlaceReply, CallError>]) -> Vec<String> {
    let placed = replies.iter().filter_map(|reply| reply.as_ref().ok());
    placed.map(|reply| reply.vm.as_ref().unwrap().host.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_onto_room_for_150_make_150_and_not_one_more() {
    let names = ["r1", "r2", "r3", "r4", "r5"];
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(30));
    let federation =
        Federation::start(Plan::simulated(names.map(region).to_vec()).patient()).await;
    let asks = (0..200).map(|n| Ask::new(&format!("vm-{n}"))).collect();
    let replies = place_all(&federation, &names, asks).await;
    let placed = hosts(&replies);
    for reply in replies {
        if reply.is_err() {
            let refused = refusal(reply);
            assert_eq!(refused.code, ErrorCode::Refused, "{refused:?}");
        }
    }
    assert_eq!(placed.len(), 150);
    for name in names {
        let here = placed.iter().filter(|host| **host == format!("{name}-h1")).count();
        assert_eq!(here, 30, "{name}");
        federation.reserved(name, 30).await;
    }
    until("every daemon sees all 150 run", || async {
        for name in names {
            let status = federation.at(name).status().await.map_err(|e| e.to_string())?;
            if (status.total_vms, status.running_vms) != (150, 150) {
                return Err(format!("{name}: {status:?}"));
            }
        }
        Ok(())
    })
    .await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_about_groups_hold_however_many_ask_at_once() {
    let names = ["r1", "r2"];
    let region = |id| {
        let host = || HostPlan::of_slots(16);
        RegionPlan::new(id).host(host()).host(host()).host(host().in_zone('b'))
    };
    let federation =
        Federation::start(Plan::simulated(names.map(region).to_vec()).patient()).await;
    let asks = |count: usize, group: &str, mode, scope, hardness| -> Vec<Ask> {
        let name = |n| format!("{group}-{n}");
        (0..count)
            .map(|n| Ask::new(&name(n)).group(group, mode, scope, hardness))
            .collect()
    };
    let (apart, together) = (AffinityMode::Apart, AffinityMode::Together);

    for (scope, group, room) in [
        (Scope::Host, "by-host", 6),
        (Scope::Zone, "by-zone", 4),
        (Scope::Region, "by-region", 2),
    ] {
        let asks = asks(10, group, apart, scope, Hardness::Required);
        let replies = place_all(&federation, &names, asks).await;
        let placed: Vec<_> = replies
            .iter()
            .filter_map(|reply| reply.as_ref().ok()?.vm.as_ref())
            .map(|vm| match scope {
                Scope::Host => vm.host.to_string(),
                Scope::Zone => vm.zone.to_string(),
                Scope::Region => vm.region.to_string(),
            })
            .collect();
        let distinct: BTreeSet<_> = placed.iter().collect();
        assert_eq!(distinct.len(), placed.len(), "{group}: two in one of {placed:?}");
        assert_eq!(placed.len(), room, "{group}: {placed:?}");
        for reply in replies.into_iter().filter(Result::is_err) {
            let refused = refusal(reply);
            assert_eq!(refused.code, ErrorCode::Refused, "{refused:?}");
        }
    }

    // A wish refuses nobody: there are more members than hosts.
    let soft = asks(8, "rather-apart", apart, Scope::Host, Hardness::Preferred);
    let placed = hosts(&place_all(&federation, &names, soft).await);
    assert_eq!(placed.len(), 8);
    assert!(placed.iter().collect::<BTreeSet<_>>().len() > 1, "{placed:?}");

    for (scope, group) in [
        (Scope::Host, "one-host"),
        (Scope::Zone, "one-zone"),
        (Scope::Region, "one-region"),
    ] {
        let mut places = BTreeSet::new();
        for ask in asks(4, group, together, scope, Hardness::Required) {
            let vm = federation.at("r2").place(&ask).await.unwrap().vm.unwrap();
            federation.in_phase("r2", vm.id.as_str(), VmPhase::Running).await;
            places.insert(match scope {
                Scope::Host => vm.host.to_string(),
                Scope::Zone => vm.zone.to_string(),
                Scope::Region => vm.region.to_string(),
            });
        }
        assert_eq!(places.len(), 1, "{group}: {places:?}");
    }
    federation.end();
}

/// What victims free is for the VM that they were stopped for, however many others want it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_the_room_that_a_pre_emption_makes() {
    const SLOTS: usize = 6;
    let host = HostPlan::of_slots(u64::try_from(SLOTS).unwrap());
    let regions = vec![
        RegionPlan::new("full").host(host),
        RegionPlan::new("other").host(HostPlan::of_slots(1)),
    ];
    let federation =
        Federation::start(Plan::simulated(regions).preempting().patient()).await;
    let lows: Vec<_> = (0..SLOTS).map(|n| format!("low-{n}")).collect();
    for low in &lows {
        let ask = Ask::new(low).only_in("full").priority(2);
        federation.at("full").place(&ask).await.unwrap();
        federation.in_phase("other", low, VmPhase::Running).await;
    }
    let mut pressure = JoinSet::new();
    for (n, region) in ["full", "other", "full", "other"].iter().enumerate() {
        let door = federation.at(region);
        let ask = Ask::new(&format!("squatter-{n}")).only_in("full").priority(1);
        pressure.spawn(async move { while door.place(&ask).await.is_err() {} });
    }
    let door = federation.at("other");
    let wanted = lows.clone();
    pressure.spawn(async move {
        for low in wanted.iter().cycle() {
            door.want(low, Power::Running).await.unwrap();
        }
    });
    let mut victims = BTreeSet::new();
    for n in 0..SLOTS {
        let door = federation.at(if n % 2 == 0 { "full" } else { "other" });
        let ask = Ask::new(&format!("urgent-{n}")).only_in("full").priority(9);
        let placed = door.place(&ask.preempting()).await.unwrap();
        victims.extend(placed.victims.iter().map(ToString::to_string));
    }
    assert_eq!(victims, lows.iter().cloned().collect(), "each was stopped for one");
    assert!(pressure.try_join_next().is_none(), "another took the room");
    pressure.abort_all();
    for n in 0..SLOTS {
        federation.in_phase("other", &format!("urgent-{n}"), VmPhase::Running).await;
    }
    federation.reserved("full", u64::try_from(SLOTS).unwrap()).await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn less_urgent_vms_give_way_and_come_back_and_protected_ones_never_do() {
    let regions = vec![RegionPlan::new("only").host(HostPlan::of_slots(3))];
    let federation =
        Federation::start(Plan::simulated(regions).preempting().patient()).await;
    let door = federation.at("only");
    let guarded = Ask::new("guarded").priority(1).tier(Tier::Protected);
    for ask in [guarded, Ask::new("low").priority(2), Ask::new("middle").priority(4)] {
        door.place(&ask).await.unwrap();
        let name = ask.body().request.id.to_string();
        federation.in_phase("only", &name, VmPhase::Running).await;
    }
    federation.reserved("only", 3).await;

    let urgent = Ask::new("urgent").priority(9);
    // Without leave to pre-empt it is refused; of equal urgency nobody gives way.
    assert_eq!(refusal(door.place(&urgent).await).code, ErrorCode::Refused);
    let equal = Ask::new("equal").priority(2).preempting();
    assert_eq!(refusal(door.place(&equal).await).code, ErrorCode::Refused);

    let plan = door.place(&urgent.clone().preempting().dry_run()).await.unwrap();
    assert_eq!(plan.victims.iter().map(ToString::to_string).collect::<Vec<_>>(), ["low"]);
    assert!(plan.vm.is_none());
    for vm in ["guarded", "low", "middle"] {
        federation.in_phase("only", vm, VmPhase::Running).await;
    }

    let placed = door.place(&urgent.clone().preempting()).await.unwrap();
    assert_eq!(placed.victims, plan.victims, "who was named is who gives way");
    federation.in_phase("only", "urgent", VmPhase::Running).await;
    federation.in_phase("only", "low", VmPhase::Stopped).await;
    federation.reserved("only", 3).await;

    // Wanted again while there is no room, it waits and takes nothing.
    door.want("low", Power::Running).await.unwrap();
    until("it is told that it waits", || async {
        let events = door.events("low").await.map_err(|error| error.to_string())?;
        let waits =
            events.iter().any(|event| event.what.contains("waits to start again"));
        if waits { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    let low = door.vm("low").await.unwrap().observed.unwrap();
    assert_eq!(low.phase, VmPhase::Stopped);
    federation.in_phase("only", "urgent", VmPhase::Running).await;
    door.delete("urgent").await.unwrap();
    federation.in_phase("only", "low", VmPhase::Running).await;
    federation.reserved("only", 3).await;

    // With all others more urgent, only the protected one is left: it does not give way.
    for vm in ["low", "middle"] {
        door.delete(vm).await.unwrap();
    }
    federation.reserved("only", 1).await;
    for name in ["eager-1", "eager-2"] {
        door.place(&Ask::new(name).priority(10)).await.unwrap();
    }
    federation.reserved("only", 3).await;
    let last = Ask::new("last").priority(10).preempting();
    assert_eq!(refusal(door.place(&last).await).code, ErrorCode::Refused);
    federation.in_phase("only", "guarded", VmPhase::Running).await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_vm_that_would_not_survive_its_region_is_told_of_or_refused() {
    let names = |reply: &PlaceReply| -> Vec<String> {
        let stranded = reply.n_minus_1.iter().flat_map(|loss| &loss.stranded);
        stranded.map(|stranded| stranded.vm.to_string()).collect()
    };
    let regions = || {
        let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(4));
        vec![region("here"), region("there")]
    };
    let guarded = |name| Ask::new(name).only_in("here").tier(Tier::Protected);

    // The constraint to one region leaves no place after its loss, whatever is free.
    let federation = Federation::start(Plan::simulated(regions()).patient()).await;
    let door = federation.at("there");
    let free = door.place(&Ask::new("free").tier(Tier::Protected)).await.unwrap();
    assert_eq!(names(&free), Vec::<String>::new());
    let bound = door.place(&guarded("bound").dry_run()).await.unwrap();
    assert_eq!(names(&bound), ["bound"]);
    let bound = door.place(&guarded("bound")).await.unwrap();
    assert_eq!(names(&bound), ["bound"]);
    let usual = door.place(&Ask::new("usual").only_in("here")).await.unwrap();
    assert_eq!(names(&usual), Vec::<String>::new(), "it is not protected");
    federation.end();

    let federation =
        Federation::start(Plan::simulated(regions()).patient().keeping_n_minus_1()).await;
    let door = federation.at("there");
    let refused = refusal(door.place(&guarded("bound")).await);
    assert_eq!(refused.code, ErrorCode::Refused);
    assert!(refused.message.contains("the loss of here would strand bound"), "{refused}");
    let free = Ask::new("free").tier(Tier::Protected);
    door.place(&free).await.unwrap();
    // The answer that was given is given again, whatever has changed.
    assert!(door.place(&free).await.unwrap().repeated);
    federation.end();
}
