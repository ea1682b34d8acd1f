//! `status --watch` and `top`: what is printed of an overview and its changes.

use std::collections::BTreeMap;

use dwcp_api::ErrorCode;
use dwcp_api::overview::{
    EngineGlance, FailoverGlance, IncidentGlance, IncidentsGlance, LevelGlance,
    LevelsGlance, LinkRow, MoveGlance, MovesGlance, Overview, RegionGlance,
    TrafficGlance,
};
use dwcp_api::patch::difference;
use dwcp_api::sse::Event;
use dwcp_controller::failover::Phase;
use dwcp_controller::migration::Step;
use dwcp_monitor::incident::{IncidentId, Severity, Status};
use dwcp_monitor::sla::Standing;
use dwcp_monitor::{Deduction, Reason};
use dwcp_types::{Bps, Health, HealthState, RegionId, Timestamp};
use serde_json::Value;

use crate::snapshot::{check, without_moments};
use crate::stage::{Answer, Stage, error, now, plain, run_in};

fn id(text: &str) -> RegionId {
    RegionId::new(text).unwrap()
}

fn ago(hours: u64) -> Timestamp {
    Timestamp::from_millis(now().as_millis() - hours * 3_600_000 - 60_000)
}

fn region(state: HealthState, score: u8) -> RegionGlance {
    RegionGlance {
        health: Health { state, score },
        age_s: Some(0),
        up: 4,
        hosts: 4,
        vms: 1_204,
        running: 1_200,
        cpu: Bps::new(5_498).ok(),
        memory: Bps::new(4_012).ok(),
        ..RegionGlance::default()
    }
}

fn incidents() -> IncidentsGlance {
    let incident = |number, severity, title: &str| IncidentGlance {
        id: IncidentId::new(number),
        region: Some(id("ap-south-1")),
        severity,
        status: Status::Open,
        title: title.to_owned(),
        since: ago(3),
        flaps: 2,
    };
    IncidentsGlance {
        open: 10,
        age_s: Some(0),
        shown: vec![
            incident(4, Severity::Critical, "Region ap-south-1 is silent"),
            incident(2, Severity::High, "Errors \u{1b}[31m over 1 %"),
        ],
    }
}

fn moves() -> MovesGlance {
    MovesGlance {
        waiting: 1,
        running: 1,
        shown: vec![MoveGlance {
            id: "mig-1".parse().unwrap(),
            vm: "db-1".parse().unwrap(),
            from: id("us-east-1"),
            to: id("eu-west-1"),
            step: Step::Moving,
            since: ago(4),
        }],
    }
}

fn levels() -> LevelsGlance {
    LevelsGlance {
        promised: 1,
        compliance: Bps::new(9_992).ok(),
        shown: vec![LevelGlance {
            id: "sla-latency-001".to_owned(),
            standing: Standing::Warning,
            worst: id("us-east-1"),
            compliance_ppm: Some(998_263),
            promised_ppm: 999_000,
            left_ppm: 421_297,
            broken: 0,
            regions: 3,
        }],
    }
}

fn traffic() -> TrafficGlance {
    TrafficGlance {
        over_s: 300,
        p50_us: Some(1_200),
        p95_us: Some(9_000),
        p99_us: Some(48_750),
        milli_rps: 12_500,
        errors_milli: Some(80),
        measured: 2,
        regions: 3,
        age_s: Some(0),
    }
}

/// Three regions of which one is lost, and everything else that there can be.
fn overview() -> Overview {
    let mut lost = region(HealthState::Unknown, 0);
    (lost.age_s, lost.running, lost.disabled) = (Some(60), 0, true);
    let mut ill = region(HealthState::Degraded, 70);
    ill.deductions = vec![Deduction { reason: Reason::ErrorsHigh, points: 30 }];
    ill.up = 3;
    let regions = BTreeMap::from([
        (id("ap-south-1"), lost),
        (id("eu-west-1"), region(HealthState::Healthy, 100)),
        (id("us-east-1"), ill),
    ]);
    let links = BTreeMap::from([
        (
            id("ap-south-1"),
            LinkRow { rtt: vec![None, Some(1_903)], age_s: vec![Some(0), Some(60)] },
        ),
        (id("eu-west-1"), LinkRow { rtt: vec![Some(763)], age_s: Vec::new() }),
    ]);
    Overview {
        version: "18c.1".to_owned(),
        answered_by: Some(id("eu-west-1")),
        engine: EngineGlance {
            kind: "etcd".to_owned(),
            reachable: true,
            age_s: Some(0),
            leader: Some(id("eu-west-1")),
            answering: 2,
            members: 3,
            on_duty: Some(id("us-east-1")),
        },
        regions,
        links,
        incidents: incidents(),
        moves: moves(),
        failover: Some(FailoverGlance {
            id: "fo-1".to_owned(),
            region: id("ap-south-1"),
            phase: Phase::Recovering,
            owned: 7,
            running: 3,
            down: 1,
            since: ago(0),
        }),
        levels: levels(),
        traffic: traffic(),
    }
}

fn whole(of: &Overview) -> Answer {
    let data = serde_json::to_string(of).unwrap();
    let (id, kind) = (of.version.clone(), "overview".to_owned());
    Answer::Event(Event { id, kind, data })
}

fn change(before: &Overview, after: &Overview) -> Answer {
    let [before, value] = [before, after].map(|it| serde_json::to_value(it).unwrap());
    let data = difference(&before, &value).unwrap().to_string();
    let (id, kind) = (after.version.clone(), "changed".to_owned());
    Answer::Event(Event { id, kind, data })
}

/// The same after the region is back, and after that after an incident is over.
fn back(first: &Overview) -> (Overview, Overview) {
    let mut second = first.clone();
    second.version = "18c.2".to_owned();
    second.regions.insert(id("ap-south-1"), region(HealthState::Healthy, 100));
    second.links.insert(
        id("ap-south-1"),
        LinkRow { rtt: vec![Some(1_300), Some(1_903)], age_s: Vec::new() },
    );
    second.failover = None;
    let mut third = second.clone();
    third.version = "18c.3".to_owned();
    third.incidents = IncidentsGlance { age_s: Some(0), ..IncidentsGlance::default() };
    (second, third)
}

fn restarts() -> Answer {
    error(ErrorCode::Unavailable, "the daemon stops", "try again")
}

/// A script: the whole, a change, the end of the stream, and the rest when it is opened again.
async fn stage() -> (Stage, Overview) {
    let first = overview();
    let (second, third) = back(&first);
    let stage = Stage::with(Vec::new()).await;
    let answers = [
        whole(&first),
        change(&first, &second),
        // Ends the stream; then the next one is refused; then it goes on.
        restarts(),
        restarts(),
        change(&second, &third),
        restarts(),
        Answer::Silence,
    ];
    for answer in answers {
        stage.then("watch_overview", answer);
    }
    (stage, first)
}

#[tokio::test]
async fn each_change_is_a_line_also_across_a_broken_stream() {
    let (stage, first) = stage().await;
    let words = ["federation", "status", "--watch", "-o", "json"];
    let ran = stage.run_until(&words, stage.asked_at_least(1)).await;
    assert_eq!(ran.code, 0, "{}", ran.shown());
    let lines: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let word = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let told: Vec<_> =
        lines.iter().map(|it| word(it, "event") + " " + &word(it, "version")).collect();
    assert_eq!(told, ["overview 18c.1", "changed 18c.2", "changed 18c.3"]);
    assert_eq!(lines[0]["data"], serde_json::to_value(first).unwrap());
    assert!(lines[1]["data"]["failover"].is_null());
    let parts: Vec<_> = lines[2]["data"].as_object().unwrap().keys().collect();
    assert_eq!(parts, ["incidents", "version"]);
    // Whoever comes back says what it has.
    let last: Vec<_> = stage.asked().into_iter().map(|asked| asked.params).collect();
    let expected = [None, Some("18c.2"), Some("18c.2"), Some("18c.3")].map(Value::from);
    assert_eq!(last, expected);
    check("status-watch-json-errors", &ran.err);
}

#[tokio::test]
async fn people_see_the_whole_after_each_change() {
    let (stage, _) = stage().await;
    let ran = stage.run_until(&["status", "--watch"], stage.asked_at_least(1)).await;
    assert_eq!(ran.code, 0, "{}", ran.shown());
    check("status-watch", &without_moments(&ran.shown()));
}

#[tokio::test]
async fn an_empty_federation_is_shown_too() {
    let stage = Stage::with(Vec::new()).await;
    stage.then("watch_overview", whole(&Overview::default()));
    stage.then("watch_overview", restarts());
    stage.then("watch_overview", Answer::Silence);
    let words = ["status", "--watch", "-o", "table"];
    let ran = stage.run_until(&words, stage.asked_at_least(1)).await;
    check("status-watch-empty", &without_moments(&ran.shown()));
}

#[tokio::test]
async fn the_first_failure_ends_it_and_says_why() {
    let full = "64 readers follow changes already";
    let stage = Stage::with(Vec::new()).await;
    stage.then(
        "watch_overview",
        error(ErrorCode::Busy, full, "ask another region's daemon"),
    );
    let ran = stage.run(&["status", "--watch"]).await;
    check("status-watch-refused", &ran.shown());
    assert_eq!(ran.code, 6);
}

#[tokio::test]
async fn top_without_a_terminal_says_what_to_use_instead() {
    let ran = run_in(plain(), &["federation", "top"]).await;
    assert_eq!(ran.code, 2);
    check("top-no-terminal", &ran.shown());
}
