//! `monitoring silence` and `monitoring maintenance`: what is shown and what is sent.

use std::time::Duration;

use dwcp_api::ErrorCode;
use dwcp_api::monitoring::{IncidentList, IncidentReply};
use dwcp_api::silence::{SilenceItem, SilenceList, SilenceReply};
use dwcp_monitor::incident::{
    Book, Cause, CauseKind, Finding, Severity, SilenceDraft, SilenceKind, Sink,
};
use dwcp_types::{RegionId, Timestamp};

use crate::snapshot::{check, without_moments};
use crate::stage::{Stage, error, now, reply};

fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

fn ago(minutes: u64) -> Timestamp {
    Timestamp::from_millis(now().as_millis() - minutes * 60_000)
}

/// A silenced region that is lost, and a window of tomorrow.
fn book() -> Book {
    let mut book = Book::default();
    let hour = Duration::from_hours(1);
    let of = SilenceDraft {
        kind: SilenceKind::Silence,
        region: region("us-east-1"),
        cause: Some(CauseKind::Silent),
        severity_below: None,
        from: ago(30),
        until: now().plus(hour * 2 + hour / 2),
        reason: "the provider moves a cable".to_owned(),
    };
    book.silence(&of, "alice", ago(30)).unwrap();
    let tomorrow = SilenceDraft {
        kind: SilenceKind::Maintenance,
        region: region("eu-west-1"),
        cause: None,
        severity_below: Some(Severity::Critical),
        from: now().plus(hour * 24 + hour / 2),
        until: now().plus(hour * 30 + hour / 2),
        reason: "new\u{1b}[2J switches".to_owned(),
    };
    book.silence(&tomorrow, "bob", ago(29)).unwrap();
    let lost = Finding {
        region: region("us-east-1"),
        cause: Cause::Silent,
        stands: true,
        severity: Severity::Critical,
        evidence: "silent to eu-west-1".to_owned(),
    };
    let pager = Sink { name: "pager".to_owned(), min_severity: Severity::Low };
    book.step(&[lost], &[pager], ago(12));
    book
}

fn items() -> Vec<SilenceItem> {
    let book = book();
    let item = |silence: &dwcp_monitor::incident::Silence| SilenceItem {
        silence: silence.clone(),
        silences: book
            .incidents
            .values()
            .filter(|it| it.silenced == Some(silence.id))
            .map(|it| it.id)
            .collect(),
    };
    book.silences.values().map(item).collect()
}

fn list(items: Vec<SilenceItem>) -> SilenceList {
    SilenceList { items, answered_by: region("eu-west-1"), age_ms: Some(0) }
}

fn one(dry_run: bool) -> SilenceReply {
    let item = items().remove(0);
    SilenceReply { item, dry_run, answered_by: region("eu-west-1"), age_ms: Some(0) }
}

#[tokio::test]
async fn silences_are_shown_as_written() {
    let over = error(
        ErrorCode::Invalid,
        "the time of the silence is over already",
        "give an end that is later, or `--for 2h`",
    );
    let incidents = IncidentList {
        items: book().incidents.into_values().collect(),
        answered_by: region("eu-west-1"),
        evaluated_by: None,
        age_ms: Some(0),
    };
    let incident = IncidentReply {
        incident: incidents.items[0].clone(),
        answered_by: region("eu-west-1"),
        age_ms: Some(0),
    };
    let answers = vec![
        ("list_silences", reply(&list(items()))),
        ("list_silences", reply(&list(Vec::new()))),
        ("get_silence", reply(&one(false))),
        ("create_silence", reply(&one(false))),
        ("create_silence", reply(&one(true))),
        ("create_silence", over),
        ("end_silence", reply(&one(false))),
        ("end_silence", reply(&one(true))),
        ("list_incidents", reply(&incidents)),
        ("get_incident", reply(&incident)),
    ];
    let stage = Stage::with(answers).await;
    let create = ["monitoring", "silence", "create", "--region", "us-east-1"];
    let with = |more: &[&'static str]| [&create[..], more].concat();
    let made = with(&["--cause", "silent", "--for", "2h", "--reason", "a cable"]);
    let tried = with(&["--for", "2h", "--reason", "a cable", "--dry-run"]);
    let past = with(&["--until", "2020-01-01T00:00:00Z", "--reason", "a cable"]);
    for (name, words, code) in [
        ("silence-list", &["federation", "monitoring", "silence", "list"][..], 0),
        ("silence-list-none", &["monitoring", "silence", "list", "--region", "x"], 0),
        ("silence-show", &["monitoring", "silence", "show", "SIL-001"], 0),
        ("silence-create", &made, 0),
        ("silence-create-dry-run", &tried, 0),
        ("silence-create-past", &past, 2),
        ("silence-end", &["monitoring", "silence", "end", "1"], 0),
        ("silence-end-dry-run", &["monitoring", "silence", "end", "1", "--dry-run"], 0),
        ("incidents-list-silenced", &["monitoring", "incidents", "list"], 0),
        ("incidents-show-silenced", &["monitoring", "incidents", "show", "1"], 0),
    ] {
        let ran = stage.run(words).await;
        let shown = without_moments(&ran.shown());
        assert_eq!(ran.code, code, "{words:?}: {shown}");
        check(&format!("answer-{name}"), &shown);
    }
    let sent = stage.sent("create_silence");
    assert_eq!((&sent[0]["for_s"], &sent[0]["cause"]), (&7_200.into(), &"silent".into()));
    assert_eq!(sent[1]["dry_run"], true);
    assert_eq!(sent[2]["until"], 1_577_836_800_000_u64);
    assert_eq!(stage.sent("end_silence")[1]["dry_run"], true);
}

#[tokio::test]
async fn maintenance_is_a_silence_of_its_kind_and_json_is_the_api_s() {
    let made = one(false);
    let answers = [0; 2].map(|_| ("create_silence", reply(&made)));
    let stage = Stage::with(answers.to_vec()).await;
    let words = [
        "monitoring",
        "maintenance",
        "--region",
        "eu-west-1",
        "--from",
        "2030-01-01T00:00:00Z",
        "--until",
        "2030-01-01T06:00:00Z",
        "--reason",
        "switches",
    ];
    assert_eq!(stage.run(&words).await.code, 0);
    let sent = &stage.sent("create_silence")[0];
    assert_eq!(sent["kind"], "maintenance");
    assert_eq!(sent["from"], 1_893_456_000_000_u64);
    let json = stage.run(&[&words[..], &["-o", "json"]].concat()).await;
    let read: SilenceReply = serde_json::from_str(&json.out).unwrap();
    assert_eq!(read, made);
}

#[tokio::test]
async fn a_silence_without_end_or_reason_is_refused_before_anybody_is_asked() {
    let stage = Stage::with(Vec::new()).await;
    let create = ["monitoring", "silence", "create", "--region", "us-east-1"];
    let mut shown = String::new();
    for more in [
        &["--reason", "x"][..],
        &["--for", "2h"],
        &["--for", "2h", "--until", "2030-01-01T00:00:00Z", "--reason", "x"],
        &["--until", "tomorrow", "--reason", "x"],
        &["--for", "2h", "--reason", "x", "--cause", "fire"],
    ] {
        let ran = stage.run(&[&create[..], more].concat()).await;
        assert_eq!(ran.code, 2, "{more:?}");
        shown += &format!("$ {}\n{}\n", more.join(" "), ran.err);
    }
    check("usage-silences", &shown);
}
