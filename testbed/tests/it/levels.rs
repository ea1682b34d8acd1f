//! Service levels of real daemons: one that is broken is one incident that is told, its figures are
//! what follows from its windows, a dead region is a gap and its silence swallows the rest, and
//! whoever is on duty next goes on with the same ledger.

use dwcp_api::measured::{GetHistory, GetMetrics, HistoryParams, MetricsParams};
use dwcp_api::monitoring::{IncidentFilter, ListIncidents};
use dwcp_api::sla::{
    CreateSla, DeleteSla, GetSlaHistory, ListSlas, NewSla, SlaFilter, SlaHistory,
    SlaHistoryParams, SlaParams, SlaStanding,
};
use dwcp_api::{ErrorCode, NoParams};
use dwcp_monitor::Metric;
use dwcp_monitor::incident::{Cause, Change, Incident, Message, Severity};
use dwcp_monitor::sla::{Operator, Standing};
use dwcp_testbed::{
    Answers, Door, Federation, HostPlan, Plan, Receiver, RegionPlan, etcd_program,
    refusal, until,
};
use dwcp_types::RegionId;
use serde_json::{Value, json};

const REGIONS: [&str; 3] = ["one", "two", "three"];
/// Windows of one period: ten minutes by ten seconds.
const WINDOWS: u128 = 60;

fn id(region: &str) -> RegionId {
    RegionId::new(region).unwrap()
}

fn sla(id: &str, region: &str, metric: &str, target: f64) -> Value {
    json!({
        "id": id, "region": region, "metric": metric, "target": target,
        "operator": "greater_than", "compliance": 90, "severity": "medium",
        "window": "10s", "period": "10m",
    })
}

/// Nobody asks a region a million times a second; a region is heard as long as it is there.
fn plan(of: &str) -> Plan {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(2));
    let plan = Plan::simulated(REGIONS.map(region).to_vec()).patient();
    let fast = sla("fast", of, "throughput", 1e6);
    plan.promising(vec![fast, sla("heard", of, "availability", 99.9)])
}

async fn windows(door: &Door, sla: &str, region: &str) -> Result<SlaHistory, String> {
    let of = SlaHistoryParams { sla: sla.to_owned(), region: id(region) };
    door.call::<GetSlaHistory>(&of, &()).await.map_err(|error| error.to_string())
}

/// Windows that were kept, that were not, and of which nothing is known.
fn counts(history: &SlaHistory) -> [u128; 3] {
    let of = |kept| {
        let runs = history.runs.iter().filter(|run| run.kept == kept);
        runs.map(|run| u128::from(run.windows)).sum()
    };
    [of(Some(true)), of(Some(false)), of(None)]
}

/// A service level's windows with how it stands, of the same moment.
async fn stands(door: &Door, sla: &str, region: &str) -> ([u128; 3], SlaStanding) {
    until(&format!("two windows of {sla} are over"), || async {
        let before = windows(door, sla, region).await?;
        let filter = SlaFilter { sla: Some(sla.to_owned()), region: Some(id(region)) };
        let list =
            door.call::<ListSlas>(&filter, &()).await.map_err(|e| e.to_string())?;
        let counts = counts(&before);
        if windows(door, sla, region).await? != before || counts[0] + counts[1] < 2 {
            return Err(format!("{before:?}"));
        }
        Ok((counts, list.items[0].regions[0].clone()))
    })
    .await
}

/// The figures, computed here from the windows: 90 % of 60 may be bad in 6.
fn holds([good, bad, unmeasured]: [u128; 3], standing: &SlaStanding) {
    let ppm = |part: u128, whole: u128| u64::try_from(part * 1_000_000 / whole).unwrap();
    let measured = good + bad;
    assert_eq!(standing.compliance_ppm.map(u64::from), Some(ppm(good, measured)));
    let coverage = ppm(measured, measured + unmeasured);
    assert_eq!(u64::from(standing.coverage_ppm), coverage, "{standing:?}");
    assert_eq!(standing.spent_ppm, ppm(bad * 10, WINDOWS), "{standing:?}");
    let said = [standing.windows_good, standing.windows_bad, standing.windows_unmeasured];
    assert_eq!(said.map(u128::from), [good, bad, unmeasured]);
    let text = standing.explained.join("\n");
    assert!(text.contains(&format!("{good} good of {measured} windows")), "{text}");
    assert!(text.contains(&format!("{bad} bad of what may be bad")), "{text}");
}

async fn of_cause(door: &Door, cause: &Cause, region: &str) -> Incident {
    until(&format!("{cause:?} of {region} is an incident"), || async {
        let all = IncidentFilter { status: None, region: Some(id(region)) };
        let list = door.call::<ListIncidents>(&all, &()).await;
        let list = list.map_err(|error| error.to_string())?;
        let found: Vec<_> = list.items.iter().filter(|it| it.cause == *cause).collect();
        match found.as_slice() {
            [one] => Ok(Incident::clone(one)),
            _ => Err(format!("{list:?}")),
        }
    })
    .await
}

/// What the receiver was told of a region, in order.
fn told(receiver: &Receiver, of: &Incident) -> Vec<Change> {
    let all = receiver.received();
    let read = all.iter().map(|it| serde_json::from_slice::<Message>(&it.body).unwrap());
    read.filter(|it| it.incident.id == of.id).map(|it| it.event).collect()
}

/// One that an operator makes is known to every daemon, and to none any more when deleted.
async fn makes_one_of_ones_own(door: &Door, other: &Door) {
    let new = NewSla {
        id: None,
        name: "P99 Latency".to_owned(),
        metric: Metric::P99Latency,
        target_milli: 100_000_000,
        operator: Operator::LessThan,
        compliance_ppm: 999_000,
        severity: Severity::High,
        window_s: 300,
        period_s: 2_592_000,
        region: None,
    };
    let made = door.call::<CreateSla>(&NoParams {}, &new).await.unwrap();
    assert_eq!(made.id, "sla-p99-latency-001");
    let again = NewSla { id: Some(made.id.clone()), ..new.clone() };
    let refused = refusal(door.call::<CreateSla>(&NoParams {}, &again).await);
    assert_eq!(refused.code, ErrorCode::Conflict, "{refused:?}");
    let impossible = NewSla { compliance_ppm: 1_000_000, ..new };
    let refused = refusal(door.call::<CreateSla>(&NoParams {}, &impossible).await);
    assert_eq!(refused.code, ErrorCode::Invalid, "{refused:?}");
    let filter = SlaFilter { sla: Some(made.id.clone()), region: None };
    until("another daemon measures it in each region", || async {
        let list =
            other.call::<ListSlas>(&filter, &()).await.map_err(|e| e.to_string())?;
        let regions = &list.items.first().ok_or("it is not there yet")?.regions;
        // Nobody asked the third one anything.
        let measured = regions.iter().filter(|it| it.holds == Some(true)).count();
        if regions.len() == 3 && measured >= 2 {
            Ok(())
        } else {
            Err(format!("{list:?}"))
        }
    })
    .await;
    let of = SlaParams { sla: made.id.clone() };
    other.call::<DeleteSla>(&of, &()).await.unwrap();
    let of = SlaParams { sla: "fast".to_owned() };
    let refused = refusal(other.call::<DeleteSla>(&of, &()).await);
    assert_eq!(refused.code, ErrorCode::Refused, "the file promises it: {refused:?}");
}

/// A region that died is a gap, one incident that is told, and its others are part of it.
async fn is_a_gap_and_swallows(door: &Door, receiver: &Receiver, fast: &Cause) {
    let silent = of_cause(door, &Cause::Silent, "three").await;
    let heard = Cause::Sla { sla: "heard".to_owned() };
    let unheard = of_cause(door, &heard, "three").await;
    assert_eq!(unheard.parent, Some(silent.id), "{unheard:?}");
    assert_eq!(of_cause(door, fast, "three").await.parent, Some(silent.id));
    assert_eq!(told(receiver, &unheard), [], "its silence was told");
    let chart =
        |metric| HistoryParams { metric, region: id("three"), range_s: Some(600) };
    until("its history shows a gap", || async {
        let asked = door.call::<GetHistory>(&chart(Metric::HostsAnswering), &()).await;
        let history = asked.map_err(|error| error.to_string())?;
        let values: Vec<_> = history.points.iter().map(|it| it.value_milli).collect();
        let newest = values.iter().rev().take(2).all(Option::is_none);
        if newest && values.contains(&Some(1_000)) {
            return Ok(());
        }
        Err(format!("{values:?}"))
    })
    .await;
    until("the others look and do not hear it", || async {
        let looks = door.call::<GetHistory>(&chart(Metric::Availability), &()).await;
        let looks = looks.map_err(|error| error.to_string())?;
        let last = looks.points.iter().rev().find_map(|point| point.value_milli);
        if last == Some(0) { Ok(()) } else { Err(format!("{last:?}")) }
    })
    .await;
    let now = door.call::<GetMetrics>(&MetricsParams::default(), &()).await.unwrap();
    assert_eq!((now.together.measured, now.together.regions), (2, 3), "{now:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_service_level_is_told_and_a_dead_region_is_a_gap_that_swallows_it() {
    let receiver = Receiver::start(Answers::Status(204)).await;
    let folder = tempfile::TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s").unwrap();
    let plan = plan("three").telling(&receiver.url(), &secret);
    let mut federation = Federation::start(plan).await;
    federation.have_run().await;
    let door = federation.at("two");

    let fast = Cause::Sla { sla: "fast".to_owned() };
    let broken = of_cause(&door, &fast, "three").await;
    assert_eq!(broken.severity, Severity::Medium, "as the definition says");
    assert!(broken.description.contains("promised > 1000000 req/s"), "{broken:?}");
    until("the receiver heard of it", || async {
        let heard = told(&receiver, &broken);
        if heard == [Change::Opened] { Ok(()) } else { Err(heard) }
    })
    .await;

    // Both are measured, one is kept and the other is not, and the figures are what follows.
    let ([good, bad, _], standing) = stands(&door, "fast", "three").await;
    assert_eq!((good, standing.holds), (0, Some(false)));
    holds([good, bad, u128::from(standing.windows_unmeasured)], &standing);
    let (kept, standing) = stands(&door, "heard", "three").await;
    assert_eq!((kept[1], standing.value_milli), (0, Some(100_000)), "{standing:?}");
    holds(kept, &standing);
    assert_eq!(standing.standing, Standing::Compliant);

    makes_one_of_ones_own(&door, &federation.at("one")).await;
    federation.lose("three");
    is_a_gap_and_swallows(&door, &receiver, &fast).await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_on_duty_next_goes_on_with_the_same_ledger() {
    if etcd_program().is_none() {
        return;
    }
    let mut federation = Federation::start(plan("one").on_etcd()).await;
    federation.have_run().await;
    let door = federation.at("one");
    let ([_, bad, _], _) = stands(&door, "fast", "one").await;
    let first = windows(&door, "fast", "one").await.unwrap().runs[0];
    let duty = |door: Door, not: Option<String>| async move {
        until("somebody is on duty", || async {
            let all = SlaFilter::default();
            let list =
                door.call::<ListSlas>(&all, &()).await.map_err(|e| e.to_string())?;
            let by = list.evaluated_by.ok_or("nobody is")?.to_string();
            if Some(&by) == not.as_ref() { Err(format!("{by} still is")) } else { Ok(by) }
        })
        .await
    };
    let before = duty(federation.at("one"), None).await;
    federation.lose(&before);
    let left = *REGIONS.iter().find(|it| **it != before).unwrap();
    let door = federation.at(left);
    duty(federation.at(left), Some(before.clone())).await;
    // Of a region that is dead itself, windows are over too, and nothing is measured in them.
    let after = until("the ledger goes on", || async {
        let history = windows(&door, "fast", "one").await?;
        let all: u128 = counts(&history).iter().sum();
        if all >= bad + 2 { Ok(history) } else { Err(format!("{history:?}")) }
    })
    .await;
    assert_eq!(after.runs[0].from, first.from, "{after:?}");
    assert!(counts(&after)[1] >= bad, "what was measured is not forgotten: {after:?}");
    federation.end();
}
