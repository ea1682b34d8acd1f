//! `monitoring incidents`: what is shown and what is sent.

use std::time::Duration;

use dwcp_api::ErrorCode;
use dwcp_api::monitoring::{IncidentList, IncidentReply};
use dwcp_monitor::incident::{
    Book, Cause, Finding, Incident, IncidentId, Outcome, Severity, Sink,
};
use dwcp_types::{RegionId, Timestamp};

use crate::snapshot::{check, without_moments};
use crate::stage::{Stage, error, now, reply};

fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

fn ago(span: Duration) -> Timestamp {
    let span = u64::try_from(span.as_millis()).unwrap();
    Timestamp::from_millis(now().as_millis() - span)
}

/// A silent region, an SLA of its own that is part of that, and one that is over.
fn incidents() -> Vec<Incident> {
    let pager = Sink { name: "pager".to_owned(), min_severity: Severity::Low };
    let sinks = [pager];
    let found = |id: &str, cause, stands, evidence: &str| Finding {
        region: region(id),
        severity: Cause::severity(&cause),
        cause,
        stands,
        evidence: evidence.to_owned(),
    };
    let sla = Cause::Sla { sla: "sla-latency-001".to_owned() };
    let mut book = Book::default();
    let then = ago(Duration::from_mins(50));
    let full = found("eu-west-1", Cause::Unhealthy, true, "health 40 of 100");
    let well = found("eu-west-1", Cause::Unhealthy, false, "health 90 of 100");
    book.step(&[full], &sinks, then);
    book.settle(IncidentId::new(1), (1, "pager"), Outcome::Told, then);
    book.step(&[well], &sinks, then.plus(Duration::from_mins(1)));
    let why = Outcome::Failed { reason: "it answered 500".to_owned() };
    book.settle(IncidentId::new(1), (2, "pager"), why, then);
    let silent = "silent to eu-west-1, us-west-1; its lease is held";
    let lost = found("us-east-1", Cause::Silent, true, silent);
    book.step(&[lost], &sinks, ago(Duration::from_mins(12)));
    let slow = found("us-east-1", sla, true, "p99 140 ms, target < 100 ms");
    book.step(&[slow], &sinks, ago(Duration::from_mins(11)));
    book.acknowledge(IncidentId::new(2), "alice", &[], ago(Duration::from_mins(10)))
        .unwrap();
    book.assign(IncidentId::new(2), "bob", "alice", ago(Duration::from_mins(9))).unwrap();
    book.incidents.into_values().rev().collect()
}

fn list(items: Vec<Incident>) -> IncidentList {
    let by = Some(region("us-west-1"));
    IncidentList {
        items,
        answered_by: region("eu-west-1"),
        evaluated_by: by,
        age_ms: Some(0),
    }
}

fn one(number: usize) -> IncidentReply {
    let incident = incidents().into_iter().rev().nth(number - 1).unwrap();
    let answered_by = region("eu-west-1");
    IncidentReply { incident, answered_by, age_ms: Some(4_000) }
}

#[tokio::test]
async fn incidents_are_shown_as_written() {
    let none = IncidentList { evaluated_by: None, age_ms: None, ..list(Vec::new()) };
    let answers = vec![
        ("list_incidents", reply(&list(incidents()))),
        ("list_incidents", reply(&list(incidents()))),
        ("list_incidents", reply(&none)),
        ("get_incident", reply(&one(2))),
        ("get_incident", reply(&one(1))),
        ("get_incident", error(ErrorCode::NotFound, "there is no incident INC-009", "x")),
    ];
    let stage = Stage::with(answers).await;
    let list: &[&str] = &["federation", "monitoring", "incidents", "list"];
    for (name, words, code) in [
        ("list", list, 0),
        ("list-wide", &["monitoring", "incidents", "list", "-o", "wide"], 0),
        ("list-none", &["monitoring", "incidents", "list", "--status", "open"], 0),
        ("show", &["monitoring", "incidents", "show", "INC-002"], 0),
        ("show-over", &["monitoring", "incidents", "show", "1"], 0),
        ("show-none", &["monitoring", "incidents", "show", "INC-009"], 4),
    ] {
        let ran = stage.run(words).await;
        let shown = without_moments(&ran.shown());
        assert_eq!(ran.code, code, "{words:?}: {shown}");
        check(&format!("answer-incidents-{name}"), &shown);
    }
    let asked = stage.asked();
    assert_eq!(asked[2].params["status"], "open");
    assert_eq!(asked[3].params["incident"], "INC-002");
}

#[tokio::test]
async fn what_operators_say_is_sent_as_they_said_it() {
    let answers = [
        "acknowledge_incident",
        "assign_incident",
        "resolve_incident",
        "create_incident",
    ];
    let answers = answers.map(|operation| (operation, reply(&one(2))));
    let stage = Stage::with(answers.to_vec()).await;
    for words in [
        &["monitoring", "incidents", "acknowledge", "INC-002", "--by", "alice"][..],
        &["monitoring", "incidents", "assign", "INC-002", "--to", "bob"],
        &[
            "monitoring",
            "incidents",
            "resolve",
            "INC-002",
            "--root-cause",
            "a fibre",
            "--resolution",
            "spliced",
        ],
        &[
            "monitoring",
            "incidents",
            "create",
            "--title",
            "odd log-ins",
            "--severity",
            "high",
            "--category",
            "security",
        ],
    ] {
        let ran = stage.run(words).await;
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
    }
    assert_eq!(stage.sent("acknowledge_incident")[0]["by"], "alice");
    assert_eq!(stage.sent("assign_incident")[0]["to"], "bob");
    assert_eq!(stage.sent("resolve_incident")[0]["root_cause"], "a fibre");
    let created = &stage.sent("create_incident")[0];
    assert_eq!(
        (&created["severity"], &created["category"]),
        (&"high".into(), &"security".into())
    );
    let json = stage
        .run(&["monitoring", "incidents", "assign", "2", "--to", "x", "-o", "json"])
        .await;
    let told: IncidentReply = serde_json::from_str(&json.out).unwrap();
    assert_eq!(told.incident.id, IncidentId::new(2));
    let wrong = stage.run(&["monitoring", "incidents", "show", "INC-x"]).await;
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    check("usage-incidents", &wrong.shown());
}
