//! `failover`: what is shown, what is asked before anything is done, and what is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dwcp_api::failover::{
    FailoverList, FailoverReply, FailoverRequestItem, FailoverRequestList,
    FailoverStatus, RegionLiveness, WhyNot,
};
use dwcp_api::public::VmDetail;
use dwcp_controller::failover::{
    Log, Move, Outcome, Plan, Request, StaysDown, Trigger, Unrecovered,
};
use dwcp_controller::liveness::{Blocked, LeaseSight, RegionState, Verdict};
use dwcp_controller::ownership::{Loss, Proof, Recovered};
use dwcp_controller::placement::Alternative;
use dwcp_types::{Bps, HostId, RegionId, Tier, Timestamp, VmId, VmPhase, ZoneId};
use serde_json::json;

use crate::fixtures::detail;
use crate::snapshot::{check, without_moments};
use crate::stage::{Answer, Stage, now, reply, run_in, with_input};

const START: &[&str] = &[
    "federation",
    "failover",
    "--from-region",
    "us-east-1",
    "--to-regions",
    "us-west-1,eu-west-1",
    "--reason",
    "maintenance",
];

fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

/// A failover that an operator began and that ended.
fn log() -> Log {
    let hour = Duration::from_hours(1).as_millis();
    let began = Timestamp::from_millis(now().as_millis() - u64::try_from(hour).unwrap());
    let trigger = Trigger::Operator {
        name: "operator/admin".to_owned(),
        reason: "the building burns".to_owned(),
        approved_by: None,
    };
    let proof = Proof::LeaseLapsed { term: 3, watched_ms: 6_300 };
    let by = (region("us-west-1"), began);
    let log =
        Log::begun("fo-1".to_owned(), region("us-east-1"), trigger, Some(proof), by);
    let why = Unrecovered::NotProtected { tier: Tier::Standard };
    let down = vec![StaysDown { vm: VmId::new("vm-batch-7").unwrap(), why }];
    let log = Log { owned: 12, running: 12, ..log.with_down(down) };
    log.over(Outcome::Recovered, began.plus(Duration::from_secs(9)))
}

fn under_way() -> Log {
    Log { ended: None, ..log() }
}

/// One that a second person approved.
fn approved() -> Log {
    let trigger = Trigger::Operator {
        name: "operator/alice".to_owned(),
        reason: "the building burns".to_owned(),
        approved_by: Some("operator/bob".to_owned()),
    };
    Log { id: "fo-2".to_owned(), trigger, ..under_way() }
}

/// One that waits for a second person, for so many seconds more.
fn request(id: &str, seconds: u64) -> Request {
    Request {
        id: id.to_owned(),
        from_region: region("us-east-1"),
        to_regions: None,
        accept_data_loss: false,
        even_if_alive: false,
        hosts_off: None,
        reason: "the building burns".to_owned(),
        asked_by: "operator/alice".to_owned(),
        asked_at: now(),
        until: now().plus(Duration::from_secs(seconds)),
    }
}

/// One region is dead and failed over, the other lives.
fn status() -> FailoverStatus {
    let living = |name: &str| RegionLiveness {
        verdict: Verdict {
            region: region(name),
            state: RegionState::Alive,
            silent_to: BTreeSet::new(),
            reachable_from: BTreeSet::from([region("eu-west-1")]),
            abstaining: BTreeMap::new(),
            unheard: BTreeSet::new(),
            silent_needed: 2,
            lease: LeaseSight::Held { lapses_in_ms: 5_200 },
        },
        not_failed_over_because: Vec::new(),
    };
    let mut dead = living("us-east-1");
    dead.verdict.state = RegionState::Dead;
    dead.verdict.lease = LeaseSight::Fenced { by: "fo-1".to_owned() };
    dead.verdict.silent_to = BTreeSet::from(["eu-west-1", "us-west-1"].map(region));
    dead.verdict.reachable_from = BTreeSet::new();
    let condition = Blocked::Running { region: region("us-east-1") };
    let text = condition.to_string();
    dead.not_failed_over_because = vec![WhyNot { condition, text }];
    let regions = vec![dead, living("us-west-1")];
    FailoverStatus { enabled: true, regions, active: Some(under_way()) }
}

fn plan(log: Option<Log>) -> FailoverReply {
    let to = Alternative {
        region: region("us-west-1"),
        zone: ZoneId::new("us-west-1a").unwrap(),
        host: HostId::new("us-west-1-h1").unwrap(),
        score: Bps::new(8_000).unwrap(),
    };
    let loss = Loss::DiskAndMemory { since: Timestamp::from_millis(1) };
    let vm = VmId::new("vm-web-001").unwrap();
    let moves = vec![Move { vm, priority: 9, to: vec![to], loss }];
    let down = under_way().down;
    let plan = Plan { region: region("us-east-1"), moves, down };
    FailoverReply { log, ..FailoverReply::planned(plan, false) }
}

fn answers() -> Vec<(&'static str, Answer)> {
    vec![
        ("get_failover", reply(&status())),
        ("start_failover", reply(&plan(None))),
        ("start_failover", reply(&plan(Some(under_way())))),
        ("list_failovers", reply(&FailoverList { items: vec![under_way(), log()] })),
    ]
}

#[tokio::test]
async fn every_table_of_it_is_as_written() {
    let stage = Stage::with(answers()).await;
    for (name, words) in [
        ("failover-status", &["failover", "status"][..]),
        ("failover-history", &["failover", "history"]),
        ("failover-log", &["failover", "status", "--failover-id", "fo-1"]),
        ("failover-dry-run", &["failover", "--from-region", "us-east-1", "--dry-run"]),
    ] {
        let ran = stage.run(words).await;
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        check(name, &without_moments(&ran.shown()));
    }
    let unknown = stage.run(&["failover", "status", "--failover-id", "fo-9"]).await;
    assert_eq!(unknown.code, 4);
    check("failover-unknown", &unknown.shown());
}

#[tokio::test]
async fn it_shows_the_plan_and_asks_before_anything_is_done() {
    for (answer, code, asked) in [("n\n", 2, 1), ("", 2, 1), ("y\n", 0, 2)] {
        let stage = Stage::with(answers()).await;
        let mut surroundings = with_input(answer);
        surroundings.interactive = true;
        surroundings.credentials = Some(stage.credentials());
        let ran = run_in(surroundings, START).await;
        assert_eq!((ran.code, stage.asked().len()), (code, asked), "{answer:?}");
        assert_eq!(stage.asked()[0].body["dry_run"], json!(true));
        assert!(ran.err.contains("vm-web-001"), "the plan is shown: {}", ran.err);
        assert!(ran.err.contains("fail us-east-1 over like this? [y/N] "));
        if let Some(begun) = stage.asked().get(1) {
            assert_eq!(begun.body["dry_run"], json!(false));
        }
    }
}

#[tokio::test]
async fn the_command_of_the_source_is_sent_as_it_means_and_nobody_is_asked() {
    let begun = vec![("start_failover", reply(&plan(Some(under_way()))))];
    let stage = Stage::with(begun).await;
    let words = [START, &["--require-approval", "false"]].concat();
    let ran = stage.run(&words).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    check("failover-begun", &without_moments(&ran.shown()));
    let sent = json!({
        "from_region": "us-east-1",
        "to_regions": ["eu-west-1", "us-west-1"],
        "reason": "maintenance",
        "even_if_alive": false,
        "accept_data_loss": false,
        "dry_run": false,
        "require_approval": false,
    });
    assert_eq!(stage.asked()[0].body, sent);
}

#[tokio::test]
async fn what_is_missing_is_said_before_anything_is_sent() {
    let stage = Stage::with(answers()).await;
    for (name, words) in [
        ("failover-without-region", &["failover"][..]),
        ("failover-without-reason", &["failover", "--from-region", "us-east-1"]),
    ] {
        let ran = stage.run(words).await;
        assert_eq!((ran.code, stage.asked().len()), (2, 0), "{words:?}");
        check(name, &ran.shown());
    }
}

#[tokio::test]
async fn where_nobody_can_be_asked_only_a_rehearsal_is() {
    let stage = Stage::with(answers()).await;
    let ran = stage.run(START).await;
    assert_eq!((ran.code, stage.asked().len()), (2, 1));
    assert_eq!(stage.asked()[0].body["dry_run"], json!(true));
    check("failover-unapproved", &ran.shown());
}

/// Where two persons must agree, the question here is left out: the second one is asked.
#[tokio::test]
async fn where_two_must_agree_it_is_asked_for_and_the_second_one_is_told_how() {
    let rehearsed = FailoverReply { two_persons: true, ..plan(None) };
    let waits = Some(request("fr-1", 630));
    let asked = FailoverReply { request: waits, ..rehearsed.clone() };
    let answers =
        || vec![("start_failover", reply(&rehearsed)), ("start_failover", reply(&asked))];
    let stage = Stage::with(answers()).await;
    let ran = stage.run(START).await;
    assert_eq!((ran.code, stage.asked().len()), (0, 2), "{}", ran.err);
    check("failover-asked", &without_moments(&ran.shown()));
    assert_eq!(stage.asked()[1].body["dry_run"], json!(false));
    // Another daemon may answer, which goes by a configuration of its own.
    assert_eq!(stage.asked()[1].body["require_approval"], json!(true));

    let stage = Stage::with(answers()).await;
    let words = ["failover", "--from-region", "us-east-1", "--dry-run"];
    check("failover-dry-run-two-persons", &stage.run(&words).await.shown());

    // Whoever says so rehearses nothing first.
    for words in [&["--require-approval"][..], &["--require-approval", "true"]] {
        let stage = Stage::with(vec![("start_failover", reply(&asked))]).await;
        let ran = stage.run(&[START, words].concat()).await;
        assert_eq!((ran.code, stage.asked().len()), (0, 1), "{}", ran.err);
        assert_eq!(stage.asked()[0].body["require_approval"], json!(true));
    }
}

#[tokio::test]
async fn what_waits_is_listed_approved_and_denied() {
    let wide = Request {
        to_regions: Some(BTreeSet::from(["eu-west-1", "us-west-1"].map(region))),
        even_if_alive: true,
        accept_data_loss: true,
        hosts_off: Some("the breaker is open".to_owned()),
        ..request("fr-2", 0)
    };
    let waits = FailoverRequestItem { request: request("fr-1", 630), expired: false };
    let over = FailoverRequestItem { request: wide, expired: true };
    let list = FailoverRequestList { items: vec![waits.clone(), over] };
    let begun = FailoverReply { two_persons: true, ..plan(Some(approved())) };
    let stage = Stage::with(vec![
        ("list_failover_requests", reply(&list)),
        ("approve_failover", reply(&begun)),
        ("deny_failover", reply(&waits)),
        ("list_failovers", reply(&FailoverList { items: vec![approved()] })),
    ])
    .await;
    for (name, words) in [
        ("failover-requests", &["failover", "requests"][..]),
        ("failover-approve", &["failover", "approve", "fr-1"]),
        ("failover-deny", &["failover", "deny", "fr-1", "--reason", "it is back"]),
        ("failover-history-approved", &["failover", "history"]),
        ("failover-log-approved", &["failover", "status", "--failover-id", "fo-2"]),
    ] {
        let ran = stage.run(words).await;
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        check(name, &without_moments(&ran.shown()));
    }
    let [of, denied] = [1, 2].map(|at: usize| stage.asked()[at].clone());
    assert_eq!((of.params["request"].as_str(), of.body), (Some("fr-1"), json!(null)));
    assert_eq!(denied.body, json!({ "reason": "it is back" }));
    let json = stage.run(&["failover", "requests", "-o", "json"]).await;
    let told: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(told["items"][1]["request"]["id"], "fr-2");
    assert_eq!(told["items"][1]["expired"], true);
    let none = Stage::with(vec![(
        "list_failover_requests",
        reply(&FailoverRequestList::default()),
    )])
    .await;
    check("failover-requests-none", &none.run(&["failover", "requests"]).await.shown());
}

#[tokio::test]
async fn a_vm_says_how_it_came_from_a_lost_region_and_on_whose_word() {
    let proof = Proof::Operator {
        name: "operator/alice and operator/bob".to_owned(),
        reason: "the breaker is open".to_owned(),
    };
    let as_of = Timestamp::from_millis(1_700_000_000_000);
    let recovered = Recovered {
        failover: "fo-2".to_owned(),
        from: region("us-east-1"),
        proof,
        loss: Loss::Point { as_of, max_age_s: 5 },
        at: as_of.plus(Duration::from_secs(9)),
    };
    let detail = VmDetail { recovered: Some(recovered), ..detail(VmPhase::Running) };
    let stage = Stage::with(vec![("describe_vm", reply(&detail))]).await;
    let ran = stage.run(&["vm", "describe", "vm-web-001"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    check("vm-describe-recovered", &without_moments(&ran.shown()));
}
