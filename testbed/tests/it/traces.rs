//! Traces of real daemons: what a request did in every region and on every host it came to is one
//! trace, wherever it is asked for; what failed is kept; a region that is gone takes only what was
//! at home there.

use std::collections::BTreeSet;

use dwcp_api::migration::CreateMigration;
use dwcp_api::trace::{
    GetTrace, GetTracing, ListTraces, PutTracing, TraceFilter, TraceItem, TraceList,
    TraceParams, Tracing,
};
use dwcp_api::{ErrorCode, NoParams};
use dwcp_monitor::trace::{Kind, Row, Trace};
use dwcp_testbed::{
    Ask, Door, Federation, HostPlan, Plan, RegionPlan, refusal, until, wish,
};
use dwcp_types::{RegionId, VmPhase};

const REGIONS: [&str; 3] = ["one", "two", "three"];

fn plan() -> Plan {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(16));
    Plan::simulated(REGIONS.map(region).to_vec()).patient()
}

async fn list(door: &Door, filter: &TraceFilter) -> Result<TraceList, String> {
    door.call::<ListTraces>(filter, &()).await.map_err(|error| error.to_string())
}

/// The only trace that is like that, once it is decided.
pub(crate) async fn only(door: &Door, filter: TraceFilter) -> TraceItem {
    until(&format!("one trace is like {filter:?}"), || async {
        let list = list(door, &filter).await?;
        match list.items.as_slice() {
            [one] if !one.headless => Ok(one.clone()),
            _ => Err(format!("{list:?}")),
        }
    })
    .await
}

pub(crate) fn of(operation: &str) -> TraceFilter {
    TraceFilter { operation: Some(operation.to_owned()), ..TraceFilter::default() }
}

/// The whole of it, once all regions but the one that is lost have told their parts.
pub(crate) async fn read(door: &Door, item: &TraceItem, lost: Option<&str>) -> Trace {
    let asked = TraceParams { trace: item.trace };
    until("the regions tell their parts of a trace", || async {
        let read = door.call::<GetTrace>(&asked, &()).await;
        let read = read.map_err(|error| error.to_string())?;
        let told = read.missing.iter().all(|region| Some(region.as_str()) == lost);
        if told { Ok(read.trace) } else { Err(format!("{read:#?}")) }
    })
    .await
}

/// The row of a span, by name, side and where it is.
fn row<'a>(trace: &'a Trace, name: &str, kind: Kind, place: (&str, &str)) -> &'a Row {
    let (region, process) = place;
    let found = trace.rows.iter().find(|row| {
        let span = &row.span;
        span.name == name
            && span.kind == kind
            && span.region.as_str() == region
            && span.process == process
    });
    found.unwrap_or_else(|| panic!("no {name} {kind:?} in {place:?}: {trace:#?}"))
}

fn is_part_of(part: &Row, of: &Row) {
    assert_eq!(part.span.parent, Some(of.span.id), "{part:?} of {of:?}");
}

/// From the daemon that was asked, over the region that took it, to the guest that runs there.
fn is_whole(trace: &Trace) {
    let (one, two) = (("one", "dwcpd"), ("two", "dwcpd"));
    let host = ("two", "two-h1");
    let place = row(trace, "place_vm", Kind::Server, one);
    assert!(place.span.entry && place.depth == 0);
    is_part_of(row(trace, "decide", Kind::Internal, one), place);
    for step in ["reserve", "commit_reservation"] {
        let asked = row(trace, step, Kind::Client, one);
        is_part_of(asked, place);
        assert!(asked.way_us.is_some());
        is_part_of(row(trace, step, Kind::Server, two), asked);
    }
    let commit = row(trace, "commit_reservation", Kind::Server, two);
    let write = trace.rows.iter().find(|it| {
        it.span.name == "engine_write" && it.span.parent == Some(commit.span.id)
    });
    assert!(write.is_some(), "{trace:#?}");
    let told = row(trace, "put_instance", Kind::Client, two);
    is_part_of(told, commit);
    let put = row(trace, "put_instance", Kind::Server, host);
    is_part_of(put, told);
    is_part_of(row(trace, "start_guest", Kind::Internal, host), put);
    is_part_of(row(trace, "guest_starts", Kind::Internal, two), commit);
    let own: u64 = trace.rows.iter().map(|row| row.critical_us).sum();
    assert_eq!(own, trace.took_us);
    assert!(trace.rows.iter().all(|row| !row.lost_parent), "{trace:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placement_in_another_region_is_one_trace_in_whatever_region_it_is_asked_for() {
    let mut federation = Federation::start(plan()).await;
    let door = federation.at("one");
    door.place(&Ask::new("vm-1").only_in("two")).await.unwrap();
    federation.in_phase("one", "vm-1", VmPhase::Running).await;
    let filter = TraceFilter { vm: Some("vm-1".to_owned()), ..of("place_vm") };
    let item = only(&federation.at("three"), filter.clone()).await;
    let regions: BTreeSet<_> = ["one", "two"].map(|id| RegionId::new(id).unwrap()).into();
    assert_eq!((&item.regions, item.region.as_str()), (&regions, "one"));
    for at in REGIONS {
        let door = federation.at(at);
        until("the guest's start is part of it", || async {
            let trace = read(&door, &item, None).await;
            let starts = trace.rows.iter().any(|it| it.span.name == "guest_starts");
            starts.then_some(()).ok_or_else(|| format!("{trace:#?}"))
        })
        .await;
        is_whole(&read(&door, &item, None).await);
    }

    // What nobody takes failed, and is kept whatever the rate says.
    let nowhere = Ask::new("vm-2").only_in("two").under("FedRAMP");
    let refused = refusal(door.place(&nowhere).await);
    assert_eq!(refused.code, ErrorCode::Refused, "{refused:?}");
    let failed = TraceFilter { failed: true, ..of("place_vm") };
    let item = only(&federation.at("two"), failed).await;
    assert_eq!(item.failed, Some(refused.message));

    // Every daemon is started anew: what is on disk is there.
    until("it is on a disk", || async {
        let all = list(&door, &filter).await?;
        (all.items.len() == 1).then_some(()).ok_or_else(|| format!("{all:?}"))
    })
    .await;
    for region in REGIONS {
        federation.process(region).kill_9();
        federation.process(region).start();
    }
    federation.healthy().await;
    let again = only(&federation.at("three"), filter.clone()).await;
    is_whole(&read(&federation.at("two"), &again, None).await);

    // A region that is gone is said to be.
    federation.process("three").kill_9();
    let left = list(&federation.at("one"), &filter).await.unwrap();
    assert_eq!(left.missing, [RegionId::new("three").unwrap()]);
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_one_trace_of_its_steps_on_both_hosts() {
    let federation = Federation::start(plan()).await;
    let door = federation.at("one");
    door.place(&Ask::new("vm-1").only_in("two").only_in("three")).await.unwrap();
    let at = federation.in_phase("one", "vm-1", VmPhase::Running).await.item.region;
    let to = if at.as_str() == "two" { "three" } else { "two" };
    let asked = until("the move is taken", || async {
        let asked = door.call::<CreateMigration>(&NoParams {}, &wish("vm-1", to)).await;
        asked.map(|reply| reply.migration.id).map_err(|error| error.to_string())
    })
    .await;
    door.move_is_over(&asked).await;
    let item = only(&door, of("move")).await;
    assert_eq!(item.vm.as_deref(), Some("vm-1"));
    let trace = read(&door, &item, None).await;
    let whole = row(&trace, "move", Kind::Internal, (to, "dwcpd"));
    for step in ["move preparing", "move moving", "move committed", "move arrived"] {
        is_part_of(row(&trace, step, Kind::Internal, (to, "dwcpd")), whole);
    }
    for region in [at.as_str(), to] {
        row(&trace, "put_move", Kind::Server, (region, &format!("{region}-h1")));
    }
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_says_of_tracing_holds_in_all_regions() {
    let federation = Federation::start(plan()).await;
    let (door, other) = (federation.at("one"), federation.at("three"));
    let before = door.call::<GetTracing>(&NoParams {}, &()).await.unwrap();
    assert!(before.tracing.enabled && !before.by_operator);
    let wrong = Tracing { rate_ppm: 1_000_001, ..before.tracing };
    let refused = refusal(door.call::<PutTracing>(&NoParams {}, &wrong).await);
    assert_eq!(refused.code, ErrorCode::Invalid, "{refused:?}");
    let off = Tracing { enabled: false, rate_ppm: 100_000, retention_h: 24 };
    door.call::<PutTracing>(&NoParams {}, &off).await.unwrap();
    until("the third region follows", || async {
        let now = other.call::<GetTracing>(&NoParams {}, &()).await;
        let now = now.map_err(|error| error.to_string())?;
        let follows = now.tracing == off && now.by_operator;
        follows.then_some(()).ok_or_else(|| format!("{now:?}"))
    })
    .await;
    other.place(&Ask::new("vm-1")).await.unwrap();
    door.call::<PutTracing>(&NoParams {}, &Tracing { enabled: true, ..off })
        .await
        .unwrap();
    until("the third region traces again", || async {
        let now = other.call::<GetTracing>(&NoParams {}, &()).await;
        let now = now.map_err(|error| error.to_string())?;
        now.tracing.enabled.then_some(()).ok_or_else(|| format!("{now:?}"))
    })
    .await;
    other.place(&Ask::new("vm-2")).await.unwrap();
    let item = only(&door, of("place_vm")).await;
    assert_eq!(item.vm.as_deref(), Some("vm-2"));
    federation.end();
}
