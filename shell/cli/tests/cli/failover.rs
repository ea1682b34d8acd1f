//! `failover`: what is shown, what is asked before anything is done, and what is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dwcp_api::failover::{
    FailoverList, FailoverReply, FailoverStatus, RegionLiveness, WhyNot,
};
use dwcp_controller::failover::{
    Log, Move, Outcome, Plan, StaysDown, Trigger, Unrecovered,
};
use dwcp_controller::liveness::{Blocked, LeaseSight, RegionState, Verdict};
use dwcp_controller::ownership::{Loss, Proof};
use dwcp_controller::placement::Alternative;
use dwcp_types::{Bps, HostId, RegionId, Tier, Timestamp, VmId, ZoneId};
use serde_json::json;

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
    FailoverReply { plan: Plan { region: region("us-east-1"), moves, down }, log }
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
    });
    assert_eq!(stage.asked()[0].body, sent);
}

#[tokio::test]
async fn what_is_missing_is_said_before_anything_is_sent() {
    let stage = Stage::with(answers()).await;
    for (name, words) in [
        ("failover-without-region", &["failover"][..]),
        ("failover-without-reason", &["failover", "--from-region", "us-east-1"]),
        ("failover-unapproved", START),
    ] {
        let ran = stage.run(words).await;
        assert_eq!((ran.code, stage.asked().len()), (2, 0), "{words:?}");
        check(name, &ran.shown());
    }
}
