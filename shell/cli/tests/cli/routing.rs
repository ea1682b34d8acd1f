//! `routing`: what is shown, and what is asked.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_api::routing::{
    AnycastBfd, AnycastItem, AnycastReply, Endpoint, EndpointItem, LatencyRow,
    ReplayReply, RoutingAnswer, RoutingLatency, RoutingReply, ServiceItem, TableItem,
};
use dwcp_router::{
    Algorithm, Candidate, Chosen, Class, Explanation, Factor, FactorView, FailMode,
    LegView, Outcome, Protocol, Reason, Refusal,
};
use dwcp_types::{Bps, Mbps, MicroUsd, Micros, RegionId, ServiceId, Timestamp};
use serde_json::json;

use crate::snapshot::check;
use crate::stage::{Answer, Stage, reply};

fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

fn bps(points: u16) -> Bps {
    Bps::new(points).unwrap()
}

fn service() -> ServiceId {
    ServiceId::new("api.example.com").unwrap()
}

fn leg(millis: u32, via: Option<&str>) -> LegView {
    LegView {
        via: via.map(region),
        rtt: Some(Micros::from_millis(millis)),
        direct_rtt: Some(Micros::from_millis(244)),
        loss_ppm: 0,
        measured: bps(5_000),
        distance_km: Some(1_000),
    }
}

fn candidate(id: &str, score: u16, share: u16, way: LegView) -> Candidate {
    let factor = |factor, value, weight: u16| FactorView {
        factor,
        value: bps(value),
        weight: bps(weight),
        contribution: bps(2_000),
    };
    Candidate {
        region: region(id),
        refused: Vec::new(),
        share: bps(share),
        score: bps(score),
        factors: vec![
            factor(Factor::Latency, 9_000, 4_000),
            factor(Factor::Cost, 5_500, 3_000),
            factor(Factor::Load, 8_100, 3_000),
        ],
        way,
        cost_per_million: MicroUsd::new(4_527_777),
        spare: Mbps::new(8_100),
        health_age_ms: 300,
        load_age_ms: Some(300),
    }
}

fn answer() -> RoutingAnswer {
    let mut dead = candidate("ap-south-1", 7_000, 0, leg(130, None));
    dead.refused = vec![Refusal::Health, Refusal::Latency];
    dead.load_age_ms = None;
    RoutingAnswer {
        answered_by: region("eu-west-1"),
        table_age_ms: 420,
        client: "203.0.113.9 in 203.0.113.0/24 of routing.clients".to_owned(),
        endpoint: Some(endpoint()),
        explanation: Explanation {
            generation: 17,
            built_at: Timestamp::from_millis(1_000),
            service: service(),
            class: Class::Interactive,
            algorithm: Algorithm::Hybrid,
            requirement: Class::Interactive.profile(),
            decision: Chosen {
                region: Some(region("us-east-1")),
                via: Some(region("eu-west-1")),
                fallbacks: vec![region("eu-west-1")],
                ttl_s: 30,
                meets: true,
                failed: Vec::new(),
                reasons: vec![Reason::Shared, Reason::Relayed],
            },
            candidates: vec![
                candidate("us-east-1", 8_205, 6_588, leg(216, Some("eu-west-1"))),
                candidate("eu-west-1", 8_100, 3_411, leg(40, None)),
                dead,
            ],
        },
        decide_ns: 180,
        notes: vec!["nothing probes yet".to_owned()],
    }
}

/// Nothing keeps every limit.
fn degraded() -> RoutingAnswer {
    let mut answer = answer();
    answer.endpoint = None;
    let decision = &mut answer.explanation.decision;
    (decision.via, decision.meets) = (None, false);
    decision.failed = vec![Refusal::Capacity];
    decision.reasons = vec![Reason::FailOpen];
    decision.ttl_s = 5;
    answer
}

fn endpoint() -> Endpoint {
    Endpoint {
        ip: "203.0.113.10".parse().unwrap(),
        ipv6: Some("2001:db8::1".parse().unwrap()),
        port: 443,
        capacity: Some(Mbps::new(10_000)),
        weight: 50,
    }
}

fn settings() -> RoutingReply {
    let item = |id: &str, endpoint: Option<Endpoint>, set_live| EndpointItem {
        region: region(id),
        endpoint,
        capacity: Mbps::new(10_000),
        set_live,
    };
    RoutingReply {
        answered_by: region("eu-west-1"),
        algorithm: Algorithm::Hybrid,
        weights: Some(Algorithm::Hybrid.weights()),
        chosen_live: false,
        services: vec![ServiceItem {
            id: service(),
            algorithm: Algorithm::Latency,
            weights: Algorithm::Latency.weights(),
            regions: BTreeSet::from([region("us-east-1"), region("eu-west-1")]),
            residency: BTreeSet::from(["Europe".to_owned()]),
            protocol: Protocol::Tcp,
            fail: FailMode::Static,
            sticky: true,
            ttl_s: 30,
            classes: Class::ALL.into_iter().map(|c| (c, c.profile())).collect(),
        }],
        endpoints: vec![
            item("eu-west-1", None, false),
            item("us-east-1", Some(endpoint()), true),
        ],
        table: Some(TableItem { generation: 17, age_ms: 420, answers: 33, took_us: 71 }),
        refused: vec!["requests for service x would go nowhere".to_owned()],
        notes: vec!["nothing probes yet".to_owned()],
    }
}

fn ways() -> RoutingLatency {
    let guessed = LegView { measured: Bps::ZERO, ..leg(85, None) };
    let unknown = LegView { rtt: None, direct_rtt: None, ..guessed.clone() };
    let row = |from: &str, is_region, legs: [LegView; 2]| LatencyRow {
        from: from.to_owned(),
        is_region,
        to: BTreeMap::from_iter(
            ["eu-west-1", "us-east-1"].map(region).into_iter().zip(legs),
        ),
    };
    RoutingLatency {
        answered_by: region("eu-west-1"),
        rows: vec![
            row("eu-west-1", true, [leg(1, None), leg(76, None)]),
            row("us-east-1", true, [guessed, leg(1, None)]),
            row("chennai", false, [unknown, leg(216, Some("eu-west-1"))]),
        ],
        notes: vec!["nothing probes yet".to_owned()],
    }
}

fn shared() -> AnycastReply {
    let item =
        |of: &str, announced, wanted, reason: Option<&str>, why: &str| AnycastItem {
            group: "api".to_owned(),
            service: ServiceId::new("api.example.com").unwrap(),
            address: "203.0.113.10".parse().unwrap(),
            region: region(of),
            announced,
            wanted,
            fit: wanted,
            why: why.to_owned(),
            router: "10.0.0.1:179".to_owned(),
            reason: reason.map(str::to_owned),
            bfd: None,
            warning: None,
        };
    let up = AnycastBfd {
        state: "up".to_owned(),
        remote_state: Some("up".to_owned()),
        transmit_ms: Some(300),
        detection_ms: Some(900),
        diagnostic: None,
        remote_diagnostic: None,
        failures: 0,
        discarded: 0,
        reason: None,
    };
    let down = AnycastBfd {
        state: "down".to_owned(),
        remote_state: None,
        transmit_ms: Some(1_000),
        detection_ms: None,
        diagnostic: Some("nothing was heard for the detection time".to_owned()),
        failures: 1,
        discarded: 12,
        ..up.clone()
    };
    let over = |bfd: &AnycastBfd, item| AnycastItem { bfd: Some(bfd.clone()), ..item };
    AnycastReply {
        answered_by: region("eu-west-1"),
        items: vec![
            AnycastItem {
                warning: Some("the machine does not have 203.0.113.10".to_owned()),
                ..item("ap-south-1", true, false, None, "draining; others answer")
            },
            over(&up, item("eu-west-1", true, true, None, "it answers")),
            over(
                &down,
                item("us-east-1", false, true, Some("connection refused"), "it answers"),
            ),
        ],
        missing: vec![region("sa-east-1")],
    }
}

fn answers() -> Vec<(&'static str, Answer)> {
    vec![
        ("explain_routing", reply(&answer())),
        ("get_routing", reply(&settings())),
        ("configure_routing", reply(&settings())),
        ("set_routing_endpoint", reply(&settings())),
        ("routing_latency", reply(&ways())),
        ("routing_anycast", reply(&shared())),
    ]
}

#[tokio::test]
async fn every_table_of_it_is_as_written() {
    let stage = Stage::with(answers()).await;
    for (name, words) in [
        ("explain", &["routing", "explain", "--source-ip", "203.0.113.9"][..]),
        ("explain-wide", &["routing", "explain", "-o", "wide"]),
        ("scores", &["routing", "scores"]),
        ("scores-verbose", &["routing", "scores", "--verbose"]),
        (
            "simulate",
            &[
                "routing",
                "simulate",
                "--source-ip",
                "203.0.113.9",
                "--destination",
                "api.example.com",
            ],
        ),
        ("latency", &["routing", "latency", "matrix"]),
        ("anycast", &["routing", "anycast", "list"]),
        ("anycast-wide", &["routing", "anycast", "list", "-o", "wide"]),
        ("config", &["federation", "routing", "config", "show"]),
        ("endpoint-list", &["routing", "endpoint", "list"]),
    ] {
        let ran = stage.run(words).await;
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        check(&format!("routing-{name}"), &ran.shown());
    }
}

#[tokio::test]
async fn a_replay_counts_the_log_and_shows_both_policies() {
    let outcome = |cost, to: &str| Outcome {
        requests: 3,
        nowhere: 0,
        broken: 1,
        unknown: 0,
        latency_mean: Some(Micros::from_millis(12)),
        latency_p95: Some(Micros::from_millis(80)),
        cost_nano_usd: cost,
        by_region: BTreeMap::from([(region(to), 3)]),
    };
    let compared = ReplayReply {
        answered_by: region("eu-west-1"),
        now: outcome(30_000_000_000, "us-east-1"),
        algorithm: Algorithm::Cost,
        then: outcome(4_000_000_000, "eu-west-1"),
        notes: Vec::new(),
    };
    let stage = Stage::with(vec![("replay_routing", reply(&compared))]).await;
    let log = stage.folder.path().join("log.csv");
    let lines = "time,source,service,class\n0,203.0.113.9,,\n43200,203.0.113.8,,\n9,london,,bulk\n";
    std::fs::write(&log, lines).unwrap();
    let words = ["routing", "replay", log.to_str().unwrap(), "--algorithm", "cost"];
    check("routing-replay", &stage.run(&words).await.shown());
    let sent = &stage.sent("replay_routing")[0];
    let group = |source, class, requests| json!({ "source": source, "class": class, "requests": requests });
    let groups =
        json!([group("203.0.113.0", "interactive", 2), group("london", "bulk", 1)]);
    assert_eq!(sent, &json!({ "algorithm": "cost", "groups": groups }));
}

#[tokio::test]
async fn an_answer_that_breaks_limits_says_which() {
    let stage = Stage::with(vec![("explain_routing", reply(&degraded()))]).await;
    check("routing-degraded", &stage.run(&["routing", "explain"]).await.shown());
}

#[tokio::test]
async fn a_question_is_asked_as_it_was_put() {
    let stage = Stage::with(answers()).await;
    let words = "routing explain --service api.example.com --class realtime --user-zone \
                 chennai --without us-east-1,eu-west-1 --max-latency 50ms --max-loss 0.01 \
                 --min-bandwidth 500 --encrypted";
    let words: Vec<&str> = words.split_ascii_whitespace().collect();
    assert_eq!(stage.run(&words).await.code, 0);
    let asked = &stage.sent("explain_routing")[0];
    assert_eq!(asked["service"], json!("api.example.com"));
    assert_eq!(asked["class"], json!("realtime"));
    assert_eq!(asked["user_zone"], json!("chennai"));
    assert_eq!(asked["without"], json!(["eu-west-1", "us-east-1"]));
    let wanted = json!({
        "latency_max": 50_000, "bandwidth_min": 500, "loss_ppm_max": 100, "encryption": true
    });
    assert_eq!(asked["requirement"], wanted);
}

#[tokio::test]
async fn settings_are_sent_as_they_were_given() {
    let stage = Stage::with(answers()).await;
    for words in [
        &["routing", "algorithm", "set", "--algorithm", "cost"][..],
        &["federation", "routing", "configure", "--algorithm", "hybrid"],
        &["routing", "configure", "--algorithm", "file"],
    ] {
        assert_eq!(stage.run(words).await.code, 0, "{words:?}");
    }
    let sent = stage.sent("configure_routing");
    let algorithms: Vec<_> = sent.iter().map(|body| body["algorithm"].clone()).collect();
    assert_eq!(algorithms, [json!("cost"), json!("hybrid"), json!(null)]);
    let words = "routing endpoint add --region us-east-1 --ip 203.0.113.10 --capacity 10000 \
                 --weight 0";
    let words: Vec<&str> = words.split_ascii_whitespace().collect();
    assert_eq!(stage.run(&words).await.code, 0);
    let sent = &stage.sent("set_routing_endpoint")[0];
    let wanted =
        json!({ "ip": "203.0.113.10", "port": 443, "capacity": 10_000, "weight": 0 });
    assert_eq!(sent, &wanted);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_it_is_asked() {
    let stage = Stage::with(answers()).await;
    for words in [
        &["routing", "explain", "--max-loss", "101"][..],
        &["routing", "explain", "--source-ip", "x"],
        &["routing", "explain", "--source-ip", "192.0.2.1", "--user-zone", "london"],
        &["routing", "algorithm", "set", "--algorithm", "ai"],
        &[
            "routing", "endpoint", "add", "--region", "a", "--ip", "1.2.3.4", "--weight",
            "101",
        ],
    ] {
        assert_eq!(stage.run(words).await.code, 2, "{words:?}");
    }
    assert!(stage.asked().is_empty());
}
