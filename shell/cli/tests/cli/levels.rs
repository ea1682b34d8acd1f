//! `monitoring metrics` and `monitoring sla`: what is shown and what is sent.

use std::collections::BTreeMap;

use dwcp_api::ErrorCode;
use dwcp_api::measured::{
    HistoryPoint, HistoryReply, MetricsReply, RegionMetrics, Together,
};
use dwcp_api::sla::{
    NewSla, SlaCreated, SlaHistory, SlaItem, SlaList, SlaRun, SlaStanding,
};
use dwcp_monitor::Metric;
use dwcp_monitor::incident::Severity;
use dwcp_monitor::sla::{Operator, Standing};
use dwcp_types::{RegionId, Timestamp};

use crate::snapshot::{check, without_moments};
use crate::stage::{Stage, error, now, reply};

fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

fn measured(id: &str, age_ms: Option<u64>, values: &[(Metric, u64)]) -> RegionMetrics {
    RegionMetrics {
        region: region(id),
        age_ms,
        lost: 2,
        refused: 0,
        clock_offset_ms: -40,
        values_milli: values.iter().copied().collect::<BTreeMap<_, _>>(),
    }
}

fn metrics() -> MetricsReply {
    let values = [
        (Metric::P50Latency, 1_200),
        (Metric::P99Latency, 48_750),
        (Metric::Availability, 99_950),
        (Metric::Throughput, 12_500),
    ];
    let together = Together {
        over_s: 300,
        p50_us: Some(1_200),
        p95_us: Some(9_000),
        p99_us: Some(48_750),
        requests: 3_750,
        measured: 1,
        regions: 2,
        age_ms: Some(4_000),
    };
    MetricsReply {
        answered_by: region("eu-west-1"),
        over_s: 300,
        regions: vec![
            measured("eu-west-1", Some(4_000), &values),
            measured("us-east-1", None, &[]),
        ],
        together,
    }
}

fn history() -> HistoryReply {
    let point = |(at, value): (u64, Option<u64>)| HistoryPoint {
        at: Timestamp::from_millis(now().as_millis() + at * 10_000),
        value_milli: value,
        min_milli: value,
        max_milli: value,
    };
    let values = [Some(3_000), Some(4_000), None, None, Some(8_000)];
    HistoryReply {
        answered_by: region("eu-west-1"),
        region: region("us-east-1"),
        metric: Metric::Vms,
        unit: String::new(),
        step_ms: 10_000,
        age_ms: Some(3_000),
        points: (0..).zip(values).map(point).collect(),
    }
}

fn promised() -> NewSla {
    NewSla {
        id: Some("sla-latency-001".to_owned()),
        name: "P99 Latency".to_owned(),
        metric: Metric::P99Latency,
        target_milli: 100_000,
        operator: Operator::LessThan,
        compliance_ppm: 999_000,
        severity: Severity::High,
        window_s: 300,
        period_s: 2_592_000,
        region: None,
    }
}

fn slas() -> SlaList {
    let standing = SlaStanding {
        region: region("eu-west-1"),
        value_milli: Some(140_500),
        holds: Some(false),
        standing: Standing::Warning,
        compliance_ppm: Some(998_263),
        coverage_ppm: 1_000_000,
        spent_ppm: 578_703,
        windows_good: 2_875,
        windows_bad: 5,
        windows_unmeasured: 0,
        gone_in_s: Some(12_600),
        burns: false,
        explained: vec!["compliance: 2875 good of 2880 windows = 99.8263 %".to_owned()],
    };
    let item = SlaItem { promised: promised(), from_file: true, regions: vec![standing] };
    SlaList {
        items: vec![item],
        answered_by: region("eu-west-1"),
        evaluated_by: Some(region("us-east-1")),
        age_ms: Some(0),
    }
}

fn windows() -> SlaHistory {
    let run = |from: u64, windows: u64, kept| SlaRun {
        from: Timestamp::from_millis(from * 300_000),
        until: Timestamp::from_millis((from + windows) * 300_000),
        windows,
        kept,
    };
    SlaHistory {
        sla: "sla-latency-001".to_owned(),
        region: region("eu-west-1"),
        window_s: 300,
        runs: vec![run(0, 9, Some(true)), run(9, 2, Some(false)), run(11, 1, None)],
    }
}

#[tokio::test]
async fn measurements_and_service_levels_are_shown_as_written() {
    let none = SlaList { items: Vec::new(), evaluated_by: None, ..slas() };
    let refused = "there is no service level x";
    let answers = vec![
        ("get_metrics", reply(&metrics())),
        ("get_metric_history", reply(&history())),
        ("get_metric_history", reply(&history())),
        ("list_slas", reply(&slas())),
        ("list_slas", reply(&slas())),
        ("list_slas", reply(&slas())),
        ("list_slas", reply(&slas())),
        ("list_slas", reply(&slas())),
        ("list_slas", reply(&none)),
        ("get_sla_history", reply(&windows())),
        ("list_slas", error(ErrorCode::NotFound, refused, "see the list")),
    ];
    let stage = Stage::with(answers).await;
    let of = ["--region", "us-east-1", "--metric", "vms", "--range", "2h"];
    let history: Vec<&str> =
        ["monitoring", "metrics", "history"].into_iter().chain(of).collect();
    let csv: Vec<&str> = history.iter().copied().chain(["--csv"]).collect();
    let sla = ["monitoring", "sla"];
    let report = |format| [sla[0], sla[1], "report", "--format", format];
    let windows = [sla[0], sla[1], "history", "sla-latency-001", "--region", "eu-west-1"];
    let (markdown, as_csv) = (report("markdown"), report("csv"));
    let cases: [(&str, &[&str], u8); 11] = [
        ("metrics-show", &["federation", "monitoring", "metrics", "show"], 0),
        ("metrics-history", &history, 0),
        ("metrics-history-csv", &csv, 0),
        ("sla-list", &["monitoring", "sla", "list"], 0),
        ("sla-status", &["monitoring", "sla", "status"], 0),
        ("sla-explain", &["monitoring", "sla", "explain", "sla-latency-001"], 0),
        ("sla-report", &markdown, 0),
        ("sla-report-csv", &as_csv, 0),
        ("sla-list-none", &["monitoring", "sla", "list"], 0),
        ("sla-history", &windows, 0),
        ("sla-none", &["monitoring", "sla", "status", "x"], 4),
    ];
    for (name, words, code) in cases {
        let ran = stage.run(words).await;
        let shown = without_moments(&ran.shown());
        assert_eq!(ran.code, code, "{words:?}: {shown}");
        check(&format!("answer-{name}"), &shown);
    }
    let asked = stage.asked();
    assert_eq!(asked[1].params["range_s"], 7_200);
    assert_eq!(asked[5].params["sla"], "sla-latency-001");
}

/// O5, word for word.
#[tokio::test]
async fn a_service_level_is_promised_with_the_words_of_the_source() {
    let made = SlaCreated { id: "sla-p99-latency-001".to_owned() };
    let stage = Stage::with(vec![("create_sla", reply(&made))]).await;
    let words = "federation monitoring sla create --metric p99_latency --target 100 \
                 --operator less_than --compliance 99.9 --name";
    let words: Vec<&str> = words.split(' ').chain(["P99 Latency"]).collect();
    let ran = stage.run(&words).await;
    assert_eq!(ran.code, 0, "{}", ran.shown());
    let sent = serde_json::to_value(NewSla { id: None, ..promised() }).unwrap();
    assert_eq!(stage.asked()[0].body, sent);
    let wrong = ["monitoring", "sla", "create", "--metric", "p98_latency"];
    let ran = stage.run(&wrong).await;
    assert_eq!(ran.code, 2, "{}", ran.shown());
    assert!(ran.shown().contains("p99_latency"), "{}", ran.shown());
}
