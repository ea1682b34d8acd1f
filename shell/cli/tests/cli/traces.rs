//! `monitoring trace` and `monitoring tracing`: what is shown and what is sent.

use std::collections::BTreeMap;

use dwcp_api::ErrorCode;
use dwcp_api::trace::{TraceItem, TraceList, TraceReply, Tracing, TracingReply};
use dwcp_monitor::trace::{Kind, Span, SpanId, Trace, TraceId, Why};
use dwcp_types::RegionId;

use crate::snapshot::{check, without_moments};
use crate::stage::{Stage, error, now, reply};

/// When the example began.
const START_US: u64 = 1_764_417_000_000_000;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

fn trace_id() -> TraceId {
    TRACE.parse().unwrap()
}

fn item(failed: Option<&str>) -> TraceItem {
    TraceItem {
        trace: trace_id(),
        operation: "place_vm".to_owned(),
        region: region("us-east-1"),
        vm: Some("vm-web-001".to_owned()),
        start_us: START_US,
        took_us: 182_400,
        spans: 9,
        regions: ["us-east-1", "eu-west-1"].map(region).into(),
        failed: failed.map(str::to_owned),
        why: if failed.is_some() { Why::Failed } else { Why::Rare },
        headless: failed.is_some(),
    }
}

fn list() -> TraceList {
    TraceList {
        answered_by: region("us-east-1"),
        items: vec![item(None), item(Some("no region takes it"))],
        missing: vec![region("ap-south-1")],
        more: true,
    }
}

/// A span of `from` to `until` in microseconds after the first.
fn span(id: u64, parent: u64, name: &str, at: (&str, &str), time: (u64, u64)) -> Span {
    let kind = match at.1 {
        "asks" => Kind::Client,
        "dwcpd" | "eu-west-1-h1" => Kind::Server,
        _ => Kind::Internal,
    };
    let process = if at.1 == "eu-west-1-h1" { at.1 } else { "dwcpd" };
    let tags = [("caller".to_owned(), "spiffe://dwcp/admin/alice".to_owned())];
    Span {
        trace: trace_id(),
        id: SpanId::new(id).unwrap(),
        parent: SpanId::new(parent),
        entry: parent == 0,
        keep: false,
        name: name.to_owned(),
        kind,
        region: region(at.0),
        process: process.to_owned(),
        start_us: START_US + time.0,
        took_us: time.1 - time.0,
        failed: None,
        tags: if parent == 0 { tags.into() } else { BTreeMap::new() },
    }
}

/// A placement from one region in another, whose clock is two seconds ahead.
fn placement() -> TraceReply {
    let (one, two) = ("us-east-1", "eu-west-1");
    let ahead = 2_000_000;
    let mut spans = vec![
        span(1, 0, "place_vm", (one, "dwcpd"), (0, 182_400)),
        span(2, 1, "decide", (one, "self"), (300, 700)),
        span(3, 1, "reserve", (one, "asks"), (900, 80_100)),
        span(4, 3, "reserve", (two, "dwcpd"), (ahead + 39_000, ahead + 42_200)),
        span(5, 1, "commit_reservation", (one, "asks"), (80_400, 182_000)),
        span(
            6,
            5,
            "commit_reservation",
            (two, "dwcpd"),
            (ahead + 118_000, ahead + 144_000),
        ),
        span(7, 6, "put_instance", (two, "asks"), (ahead + 143_000, ahead + 150_000)),
        span(
            8,
            7,
            "put_instance",
            (two, "eu-west-1-h1"),
            (ahead + 145_000, ahead + 149_000),
        ),
    ];
    spans[7].failed = Some("the disk is full".to_owned());
    TraceReply {
        answered_by: region(one),
        why: Some(Why::Failed),
        missing: Vec::new(),
        trace: Trace::of(spans).unwrap(),
    }
}

fn tracing() -> TracingReply {
    TracingReply {
        answered_by: region("us-east-1"),
        tracing: Tracing { enabled: true, rate_ppm: 10_000, retention_h: 168 },
        by_operator: false,
        traces: 1_204,
        disk_bytes: 3 << 20,
        disk_bytes_max: 1 << 30,
        decided: BTreeMap::from([
            ("rare".to_owned(), 12),
            ("unsampled".to_owned(), 9_000),
        ]),
        dropped: BTreeMap::new(),
    }
}

#[tokio::test]
async fn traces_are_shown_as_written() {
    let none =
        TraceList { items: Vec::new(), more: false, missing: Vec::new(), ..list() };
    let gone = format!("no region keeps a trace {TRACE}");
    let answers = vec![
        ("list_traces", reply(&list())),
        ("list_traces", reply(&none)),
        ("get_trace", reply(&placement())),
        ("get_trace", reply(&placement())),
        ("get_trace", error(ErrorCode::NotFound, &gone, "see the list")),
        ("get_tracing", reply(&tracing())),
    ];
    let stage = Stage::with(answers).await;
    let trace = ["monitoring", "trace"];
    let cases: [(&str, &[&str], u8); 6] = [
        ("trace-list", &["federation", "monitoring", "trace", "list"], 0),
        (
            "trace-list-none",
            &[trace[0], trace[1], "list", "--since", "1h", "--failed"],
            0,
        ),
        ("trace-show", &[trace[0], trace[1], "show", TRACE], 0),
        ("trace-show-aligned", &[trace[0], trace[1], "show", TRACE, "--align"], 0),
        ("trace-gone", &[trace[0], trace[1], "show", TRACE], 4),
        ("tracing-status", &["monitoring", "tracing", "status"], 0),
    ];
    for (name, words, code) in cases {
        let ran = stage.run(words).await;
        let shown = without_moments(&ran.shown());
        assert_eq!(ran.code, code, "{words:?}: {shown}");
        check(&format!("answer-{name}"), &shown);
    }
    let asked = stage.asked();
    assert_eq!(asked[1].params["failed"], true);
    let since = now().as_millis() - 3_600_000;
    assert!(asked[1].params["since"].as_u64().unwrap() <= since, "an hour ago or before");
    assert_eq!(asked[2].params["trace"], TRACE);
}

/// O6, word for word; what is not said stays.
#[tokio::test]
async fn tracing_is_enabled_with_the_words_of_the_source() {
    let answers = vec![
        ("get_tracing", reply(&tracing())),
        ("put_tracing", reply(&tracing())),
        ("get_tracing", reply(&tracing())),
        ("put_tracing", reply(&tracing())),
        ("get_tracing", reply(&tracing())),
    ];
    let stage = Stage::with(answers).await;
    let words = "federation monitoring tracing enable --sampling-rate 0.1 --retention 7d";
    let words: Vec<&str> = words.split(' ').collect();
    let ran = stage.run(&words).await;
    assert_eq!(ran.code, 0, "{}", ran.shown());
    let wanted = Tracing { enabled: true, rate_ppm: 100_000, retention_h: 168 };
    assert_eq!(stage.sent("put_tracing"), [serde_json::to_value(wanted).unwrap()]);
    let ran = stage.run(&["monitoring", "tracing", "disable"]).await;
    assert_eq!(ran.code, 0, "{}", ran.shown());
    let off = Tracing { enabled: false, ..tracing().tracing };
    assert_eq!(stage.sent("put_tracing")[1], serde_json::to_value(off).unwrap());
    let dry: Vec<&str> = words.iter().copied().chain(["--dry-run"]).collect();
    let ran = stage.run(&dry).await;
    assert_eq!(ran.code, 0, "{}", ran.shown());
    assert_eq!(stage.sent("put_tracing").len(), 2);
    let wrong = ["monitoring", "tracing", "enable", "--sampling-rate", "2"];
    let ran = stage.run(&wrong).await;
    assert!(
        ran.code != 0 && ran.shown().contains("a share from 0 to 1"),
        "{}",
        ran.shown()
    );
}
