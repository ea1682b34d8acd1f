//! `controller` and `monitoring metrics query`: what is shown, and what a Prometheus is asked.

use std::io::{Read, Write};
use std::net::TcpListener;

use dwcp_api::controller::{ControllerReply, Decisions, KeptFleet, ProcessLoad};
use serde_json::{Value, json};

use crate::snapshot::check;
use crate::stage::{Stage, plain, reply, run_in};

fn controller() -> ControllerReply {
    ControllerReply {
        region: "us-east-1".parse().unwrap(),
        version: "0.1.0".to_owned(),
        process: ProcessLoad {
            up_ms: 7_300_000,
            cpu_ms: Some(91_000),
            cpu_milli: Some(1_250),
            over_ms: 60_000,
            memory_bytes: Some(157 << 20),
        },
        decisions: Decisions {
            by_result: [("placed".to_owned(), 1_204), ("refused".to_owned(), 3)].into(),
            p50_us: Some(3_200),
            p95_us: Some(9_000),
            p99_us: None,
        },
        kept: KeptFleet {
            regions: 5,
            hosts: 400,
            vms: 30_142,
            age_ms: 120,
            changed: 90_000,
            rebuilt: 7,
            ahead: 2,
        },
    }
}

/// O12 and O13, word for word.
#[tokio::test]
async fn a_controller_is_shown() {
    let stage = Stage::with(vec![("get_controller", reply(&controller()))]).await;
    let metrics = ["federation", "controller", "metrics", "--region", "us-east-1"];
    let ran = stage.run(&metrics).await;
    check("controller-metrics", &ran.shown());
    assert_eq!(stage.asked()[0].params, json!({ "region": "us-east-1" }));
    let ran = stage.run(&["federation", "controller", "cache-stats"]).await;
    check("controller-cache-stats", &ran.shown());
    assert_eq!(stage.asked()[1].params, json!({}));
}

/// Asks somebody who answers once.
async fn query(status: &str, body: Value, more: &[&str]) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n{body}");
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4_096];
        let len = stream.read(&mut head).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(head[..len].to_vec()).unwrap()
    });
    let url = format!("http://{address}/prom/");
    let promql = "max by (region) (dwcp_federation_region_health_score{a=\"é\"})";
    let words = ["monitoring", "metrics", "query", promql, "--prometheus", &url];
    let words: Vec<&str> = words.iter().chain(more).copied().collect();
    let ran = run_in(plain(), &words).await;
    (ran.shown().replace(&address.to_string(), "<address>"), served.join().unwrap())
}

#[tokio::test]
async fn a_prometheus_is_asked_and_its_answer_shown() {
    let series = json!([
        { "metric": { "region": "us-east-1" }, "value": [1_764_417_000.5, "97"] },
        { "metric": { "__name__": "up" }, "value": [1_764_417_000.5, "NaN"] },
    ]);
    let answer = |kind: &str, result: Value| json!({ "status": "success", "data": { "resultType": kind, "result": result } });
    let (shown, asked) = query("200 OK", answer("vector", series), &[]).await;
    assert!(
        asked.starts_with(
            "GET /prom/api/v1/query?query=max%20by%20%28region%29%20%28dwcp_federation_region_\
             health_score%7Ba%3D%22%C3%A9%22%7D%29 HTTP/1.1"
        ),
        "{asked}"
    );
    let mut all = shown;
    let wrong = json!({ "status": "error", "errorType": "bad_data", "error": "parse error: 1:5" });
    for (status, body) in [
        ("200 OK", answer("scalar", json!([1.5, "42"]))),
        ("200 OK", answer("vector", json!([]))),
        (
            "200 OK",
            answer(
                "matrix",
                json!([{ "metric": {}, "values": [[1.0, "1"], [2.0, "3"]] }]),
            ),
        ),
        ("400 Bad Request", wrong),
        ("404 Not Found", json!("nothing here")),
    ] {
        all.push_str(&query(status, body, &[]).await.0);
    }
    check("metrics-query", &all);
}

#[tokio::test]
async fn without_a_prometheus_it_is_said_what_to_do() {
    let ran = run_in(plain(), &["monitoring", "metrics", "query", "up"]).await;
    assert_eq!(ran.code, 2);
    check("metrics-query-nowhere", &ran.shown());
}
