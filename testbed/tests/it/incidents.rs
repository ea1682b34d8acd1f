//! A region is lost: it is one incident, every region that lives shows it, a receiver hears of
//! each change once under one key, and it is over when the region is back. Whoever looks after
//! incidents may die over it.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_api::monitoring::{
    Acknowledge, AcknowledgeIncident, Assign, AssignIncident, CreateIncident,
    GetIncident, IncidentFilter, IncidentList, IncidentParams, ListIncidents,
    ReportIncident, Resolve, ResolveIncident,
};
use dwcp_api::{ErrorCode, NoParams};
use dwcp_monitor::incident::{
    Category, Cause, Change, Incident, IncidentId, Message, Severity, Status,
};
use dwcp_runtime::tls::Identity;
use dwcp_runtime::webhook::{KEY_HEADER, SIGNATURE_HEADER, signature};
use dwcp_testbed::{
    Answers, Door, Federation, HostPlan, Knock, Plan, Received, Receiver, RegionPlan,
    etcd_program, refusal, until,
};
use dwcp_types::RegionId;
use tempfile::TempDir;

const REGIONS: [&str; 5] = ["one", "two", "three", "four", "five"];
const SECRET: &str = "a secret of the test";

fn plan() -> Plan {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(2));
    Plan::simulated(REGIONS.map(region).to_vec())
}

/// A plan that tells this receiver, and the folder of their secret.
fn telling(plan: Plan, receiver: &Receiver) -> (Plan, TempDir) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    (plan.telling(&receiver.url(), &file), folder)
}

async fn list(door: &Door) -> Result<IncidentList, String> {
    let all = IncidentFilter::default();
    door.call::<ListIncidents>(&all, &()).await.map_err(|error| error.to_string())
}

/// The incidents of a region's silence, as this door shows them.
fn of(list: &IncidentList, region: &str) -> Vec<Incident> {
    let about = |it: &&Incident| {
        it.cause == Cause::Silent
            && it.region.as_ref().is_some_and(|it| it.as_str() == region)
    };
    list.items.iter().filter(about).cloned().collect()
}

/// Whose daemon is on duty.
async fn on_duty(door: &Door, not: &[&str]) -> String {
    until("somebody looks after incidents", || async {
        let by = list(door).await?.evaluated_by.ok_or("nobody does")?.to_string();
        if not.contains(&by.as_str()) { Err(format!("{by} still does")) } else { Ok(by) }
    })
    .await
}

/// A federation on etcd that tells this receiver and has run, and whose daemon is on duty.
async fn on_etcd(receiver: &Receiver) -> Option<(Federation, TempDir, String)> {
    etcd_program()?;
    let (plan, folder) = telling(plan().on_etcd(), receiver);
    let federation = Federation::start(plan).await;
    federation.have_run().await;
    let duty = on_duty(&federation.at("one"), &[]).await;
    Some((federation, folder, duty))
}

/// The one incident of a region's silence, once it is so.
async fn stands_so(door: &Door, region: &str, status: Status) -> Incident {
    until(&format!("the silence of {region} is {status:?}"), || async {
        let found = of(&list(door).await?, region);
        match found.as_slice() {
            [one] if one.status == status => Ok(one.clone()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// The messages that were answered with success, each checked for its key and signature.
fn told(receiver: &Receiver) -> Vec<Message> {
    let taken = |it: &Received| it.answered == Answers::Status(204);
    let read = |it: &Received| {
        let signed = signature(SECRET.as_bytes(), &it.body);
        assert_eq!(it.header(SIGNATURE_HEADER), Some(signed.as_str()));
        let message: Message = serde_json::from_slice(&it.body).unwrap();
        let key = message.key.to_lowercase();
        assert_eq!(it.header(KEY_HEADER), Some(key.as_str()));
        message
    };
    receiver.received().iter().filter(|it| taken(it)).map(read).collect()
}

/// What was told of an incident, in order.
fn changes(receiver: &Receiver, id: IncidentId) -> Vec<Change> {
    let told = told(receiver);
    let keys: BTreeSet<_> = told.iter().map(|it| it.key.clone()).collect();
    assert_eq!(keys.len(), told.len(), "each once: {told:?}");
    told.into_iter().filter(|it| it.incident.id == id).map(|it| it.event).collect()
}

async fn heard(receiver: &Receiver, id: IncidentId, expected: &[Change]) {
    until(&format!("the receiver heard {expected:?} of {id}"), || async {
        let heard = changes(receiver, id);
        if heard == expected { Ok(()) } else { Err(heard) }
    })
    .await;
}

/// How many critical incidents of a region the metrics of all others count.
async fn counted(federation: &Federation, region: &str) -> u32 {
    let sample = format!(
        "dwcp_federation_incidents_total{{region=\"{region}\",severity=\"critical\",\
         category=\"availability\"}} "
    );
    let mut count = 0;
    for other in REGIONS.iter().filter(|it| **it != region) {
        let server = Identity::Region(RegionId::new(other).unwrap());
        let knock = Knock::new(federation.socket(other), server, federation.admin());
        let (status, text) = knock.text("/metrics").await.unwrap();
        assert_eq!(status, 200, "{text}");
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(&sample));
        count += found.map_or(0, |value| value.parse::<u32>().unwrap());
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_region_is_one_incident_that_all_show_and_the_receiver_hears_of_once() {
    let receiver = Receiver::start(Answers::Status(204)).await;
    let (plan, _folder) = telling(plan(), &receiver);
    let mut federation = Federation::start(plan).await;
    federation.have_run().await;
    let door = federation.at("one");
    let duty = on_duty(&door, &[]).await;
    let lost = *REGIONS.iter().rev().find(|it| **it != duty).unwrap();
    federation.lose(lost);

    let opened = stands_so(&door, lost, Status::Open).await;
    assert_eq!(opened.severity, Severity::Critical);
    assert!(opened.description.contains("silent to"), "{opened:?}");
    for region in REGIONS.iter().filter(|it| **it != lost) {
        let there = stands_so(&federation.at(region), lost, Status::Open).await;
        assert_eq!(there.id, opened.id);
        let list = list(&federation.at(region)).await.unwrap();
        assert_eq!(list.answered_by.as_str(), *region);
    }
    heard(&receiver, opened.id, &[Change::Opened]).await;
    assert_eq!(counted(&federation, lost).await, 1, "by all who live");

    let params = IncidentParams { incident: opened.id };
    let by = Acknowledge { by: Some("alice".to_owned()) };
    let two = federation.at(if lost == "two" { "three" } else { "two" });
    let seen = two.call::<AcknowledgeIncident>(&params, &by).await.unwrap().incident;
    assert_eq!(
        (seen.status, seen.acknowledged.unwrap().by.as_str()),
        (Status::Acknowledged, "alice")
    );
    let again = refusal(two.call::<AcknowledgeIncident>(&params, &by).await);
    assert_eq!(again.code, ErrorCode::Conflict, "{again:?}");
    heard(&receiver, opened.id, &[Change::Opened, Change::Acknowledged]).await;

    // Its agent first: a region whose hosts do not answer is unhealthy, which is another matter.
    federation.process(&format!("{lost}-h1")).start();
    federation.process(lost).start();
    let over = stands_so(&door, lost, Status::Resolved).await;
    assert_eq!((over.id, over.flaps), (opened.id, 0));
    let all = [Change::Opened, Change::Acknowledged, Change::Resolved];
    heard(&receiver, opened.id, &all).await;
    let whole = until("it is noted that the receiver was told", || async {
        let seen = door.call::<GetIncident>(&params, &()).await;
        let seen = seen.map_err(|error| error.to_string())?.incident;
        if seen.delivered == 3 { Ok(seen) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert!(whole.notices.is_empty() && whole.given_up == 0, "{whole:?}");
    assert!(whole.timeline.iter().any(|it| it.what.contains("webhook-1 was told")));
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_after_incidents_dies_and_another_goes_on_with_the_same() {
    let receiver = Receiver::start(Answers::Status(204)).await;
    let Some((mut federation, _folder, duty)) = on_etcd(&receiver).await else { return };
    let others: Vec<_> = REGIONS.into_iter().filter(|it| *it != duty).collect();
    let (first, left) = (others[0], others[1]);
    federation.lose(first);
    let door = federation.at(left);
    let one = stands_so(&door, first, Status::Open).await;
    heard(&receiver, one.id, &[Change::Opened]).await;
    until("it is noted that the receiver was told", || async {
        let seen = stands_so(&door, first, Status::Open).await;
        if seen.delivered == 1 { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;

    federation.lose(&duty);
    on_duty(&door, &[&duty]).await;
    let two = stands_so(&door, &duty, Status::Open).await;
    assert_ne!(one.id, two.id);
    heard(&receiver, two.id, &[Change::Opened]).await;
    assert_eq!(stands_so(&door, first, Status::Open).await.id, one.id);

    for region in [first, duty.as_str()] {
        federation.process(&format!("etcd-{region}")).start();
        federation.process(&format!("{region}-h1")).start();
        federation.process(region).start();
    }
    for (region, id) in [(first, one.id), (duty.as_str(), two.id)] {
        assert_eq!(stands_so(&door, region, Status::Resolved).await.id, id);
        heard(&receiver, id, &[Change::Opened, Change::Resolved]).await;
    }
    federation.end();
}

/// Its old lease outlives the key that another has put in place of its own.
#[tokio::test(flavor = "multi_thread")]
async fn who_stalls_leaves_the_duty_to_who_took_it_and_nothing_is_told_by_both() {
    let receiver = Receiver::start(Answers::Status(204)).await;
    let Some((mut federation, _folder, duty)) = on_etcd(&receiver).await else { return };
    let left = REGIONS.into_iter().find(|it| *it != duty).unwrap();
    let door = federation.at(left);
    federation.process(&duty).freeze();
    on_duty(&door, &[&duty]).await;
    stands_so(&door, &duty, Status::Open).await;
    federation.process(&duty).thaw();
    let silence = stands_so(&door, &duty, Status::Resolved).await;
    heard(&receiver, silence.id, &[Change::Opened, Change::Resolved]).await;

    let body = ReportIncident {
        title: "a drill".to_owned(),
        description: String::new(),
        severity: Severity::High,
        category: Category::Security,
        region: None,
    };
    let mut expected = Vec::new();
    for _ in 0..3 {
        let made = door.call::<CreateIncident>(&NoParams {}, &body).await.unwrap();
        let of = IncidentParams { incident: made.incident.id };
        expected.push((of.incident, vec![Change::Opened, Change::Acknowledged]));
        let by = Acknowledge { by: None };
        door.call::<AcknowledgeIncident>(&of, &by).await.unwrap();
    }
    // Each message of each, and none twice.
    for (id, changes) in expected {
        heard(&receiver, id, &changes).await;
    }
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_is_told_again_under_the_same_key_until_it_is_well() {
    let receiver = Receiver::start(Answers::Status(500)).await;
    let (plan, _folder) = telling(plan(), &receiver);
    let federation = Federation::start(plan).await;
    let door = federation.at("one");
    let body = ReportIncident {
        title: "odd log-ins".to_owned(),
        description: "from nowhere".to_owned(),
        severity: Severity::Medium,
        category: Category::Security,
        region: Some(RegionId::new("two").unwrap()),
    };
    let created = door.call::<CreateIncident>(&NoParams {}, &body).await.unwrap();
    let params = IncidentParams { incident: created.incident.id };
    let failed = |wanted: &'static str| {
        let (door, params) = (door.clone(), params.clone());
        async move {
            until("it is shown why the receiver was not told", || async {
                let seen = door.call::<GetIncident>(&params, &()).await;
                let seen = seen.map_err(|error| error.to_string())?.incident;
                let delivery = seen.notices.front().and_then(|it| it.to.values().next());
                let error = delivery.and_then(|it| it.last_error.clone());
                match error.filter(|error| error.contains(wanted)) {
                    Some(_) => Ok(()),
                    None => Err(format!("{seen:?}")),
                }
            })
            .await;
        }
    };
    failed("500").await;
    receiver.answer(Answers::Nothing);
    failed("closed").await;
    receiver.answer(Answers::Status(204));
    heard(&receiver, created.incident.id, &[Change::Opened]).await;
    let keys: BTreeMap<_, _> = receiver
        .received()
        .into_iter()
        .map(|it| (it.header(KEY_HEADER).map(str::to_owned), it.body))
        .collect();
    assert_eq!(keys.len(), 1, "one key and one body: {keys:?}");

    let to = Assign { to: "carol".to_owned() };
    let two = federation.at("two");
    two.call::<AssignIncident>(&params, &to).await.unwrap();
    let why =
        Resolve { root_cause: "a robot".to_owned(), resolution: "shut out".to_owned() };
    let over = two.call::<ResolveIncident>(&params, &why).await.unwrap().incident;
    assert_eq!(
        (over.status, over.assignee.as_deref()),
        (Status::Resolved, Some("carol"))
    );
    heard(&receiver, over.id, &[Change::Opened, Change::Resolved]).await;
    let done = refusal(two.call::<ResolveIncident>(&params, &why).await);
    assert_eq!(done.code, ErrorCode::Conflict);
    let none = IncidentParams { incident: IncidentId::new(99) };
    let unknown = refusal(two.call::<AssignIncident>(&none, &to).await);
    assert_eq!(unknown.code, ErrorCode::NotFound);
    let nowhere = Some(RegionId::new("nowhere").unwrap());
    let nowhere = ReportIncident { region: nowhere, ..body };
    let refused = refusal(two.call::<CreateIncident>(&NoParams {}, &nowhere).await);
    assert_eq!(refused.code, ErrorCode::NotFound);
    federation.end();
}
