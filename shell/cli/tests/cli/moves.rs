//! `migrate`: one VM, many by a filter, what is shown of moves, and what is refused before
//! anything is asked.

use std::time::Duration;

use dwcp_api::ErrorCode;
use dwcp_api::migration::{MigrationItem, MigrationList, MigrationReply};
use dwcp_api::public::{VmItem, VmList};
use dwcp_controller::migration::{Cause, Line, Outcome, Site, Step};
use dwcp_types::Timestamp;

use crate::fixtures;
use crate::snapshot::{check, without_moments};
use crate::stage::{Answer, Stage, error, now, reply};

fn migration(step: Step) -> MigrationItem {
    let at = Timestamp::from_millis(
        now().as_millis() - Duration::from_mins(150).as_secs() * 1_000,
    );
    let site = |region: &str| Site {
        region: region.parse().unwrap(),
        zone: format!("{region}a").parse().unwrap(),
        host: format!("{region}-h1").parse().unwrap(),
    };
    MigrationItem {
        id: "m-1".parse().unwrap(),
        vm: "vm-web-001".parse().unwrap(),
        source: site("us-east-1"),
        target: "eu-west-1".parse().unwrap(),
        site: (step != Step::Queued).then(|| site("eu-west-1")),
        cold: false,
        replicated: false,
        cause: Cause::CostOptimization,
        priority: 8,
        step,
        wave: None,
        outcome: None,
        failure: None,
        percent: None,
        eta_ms: None,
        foretold_ms: Some(64_000),
        foretold_downtime_ms: Some(340),
        downtime_ms: None,
        downtime_ms_max: 5_000,
        asked_at: at,
        ended_at: None,
        log: vec![Line { at, what: "asked for".to_owned() }],
    }
}

fn moves() -> MigrationList {
    let named =
        |id: &str, it: MigrationItem| MigrationItem { id: id.parse().unwrap(), ..it };
    let under_way = MigrationItem {
        percent: Some(41),
        eta_ms: Some(37_000),
        ..migration(Step::Moving)
    };
    let waits = MigrationItem { wave: Some(2), ..migration(Step::Queued) };
    let failed = MigrationItem {
        outcome: Some(Outcome::Failed),
        failure: Some("the source: the guest's process ended".to_owned()),
        ..migration(Step::Done)
    };
    let moved = MigrationItem {
        outcome: Some(Outcome::Moved),
        downtime_ms: Some(290),
        ..migration(Step::Done)
    };
    MigrationList {
        items: vec![
            named("m-1", under_way),
            named("m-2", waits),
            named("m-3", failed),
            named("m-4", moved),
        ],
    }
}

pub(crate) fn begun(dry_run: bool) -> Answer {
    let migration = MigrationItem { replicated: dry_run, ..migration(Step::Queued) };
    reply(&MigrationReply { migration, dry_run })
}

fn vms(of: &[(&str, &str, u8)]) -> Answer {
    let item = |(id, region, priority): &(&str, &str, u8)| VmItem {
        id: id.parse().unwrap(),
        region: region.parse().unwrap(),
        priority: *priority,
        ..fixtures::item()
    };
    reply(&VmList { items: of.iter().map(item).collect(), next: None, age_ms: 12 })
}

#[tokio::test]
async fn moves_are_shown_as_written() {
    let first = moves().items.remove(0);
    let answers = vec![
        ("create_migration", begun(false)),
        ("list_migrations", reply(&moves())),
        ("get_migration", reply(&first)),
        ("cancel_migration", reply(&migration(Step::Abandoning))),
    ];
    let stage = Stage::with(answers).await;
    for (name, words) in [
        ("begin", &["federation", "migrate", "vm-web-001", "--target", "eu-west-1"][..]),
        ("queue", &["federation", "migrate", "queue"]),
        ("status-wide", &["migrate", "status", "-o", "wide"]),
        ("status-one", &["migrate", "status", "m-1"]),
        ("cancel", &["migrate", "cancel", "m-1"]),
    ] {
        let ran = stage.run(words).await;
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        check(&format!("answer-migrate-{name}"), &without_moments(&ran.shown()));
    }
    let json = stage.run(&["migrate", "queue", "-o", "json"]).await;
    let told: MigrationList = serde_json::from_str(&json.out).unwrap();
    assert_eq!(told.items.len(), 4);
}

/// The command of the source (C22): reason, limits and a deadline from now.
#[tokio::test]
async fn a_dry_run_asks_for_nothing_and_says_how_long_it_would_take() {
    let stage = Stage::with(vec![("create_migration", begun(true))]).await;
    let words = [
        "migrate",
        "--vm",
        "vm-web-001",
        "--source",
        "us-east-1",
        "--target",
        "eu-west-1",
        "--reason",
        "cost-optimization",
        "--priority",
        "8",
        "--max-downtime",
        "5s",
        "--deadline",
        "1h",
        "--dry-run",
    ];
    let ran = stage.run(&words).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    check("answer-migrate-dry-run", &ran.shown());
    let body = &stage.sent("create_migration")[0];
    assert_eq!(body["dry_run"], true);
    assert_eq!(body["cause"], "cost-optimization");
    assert_eq!((&body["priority"], &body["downtime_ms_max"]), (&8.into(), &5_000.into()));
    assert!(body["deadline"].is_string() || body["deadline"].is_number(), "{body}");
}

const BULK: [&str; 8] = [
    "federation",
    "migrate",
    "--source",
    "us-east-1",
    "--vm-filter",
    "tag:env=production",
    "--target",
    "eu-west-1",
];

#[tokio::test]
async fn a_filter_moves_the_most_urgent_first_and_says_which_are_not_moved() {
    let meant = [
        ("vm-a", "us-east-1", 3),
        ("vm-b", "us-east-1", 9),
        ("vm-there", "eu-west-1", 9),
        ("vm-c", "us-east-1", 3),
    ];
    let all = [&meant[..], &[("vm-other", "us-east-1", 1)]].concat();
    let why = error(ErrorCode::Refused, "region eu-west-1 is full", "choose another");
    let answers = vec![
        ("list_vms", vms(&meant)),
        ("list_vms", vms(&all)),
        ("create_migration", begun(false)),
        ("create_migration", why),
        ("create_migration", begun(false)),
    ];
    let stage = Stage::with(answers).await;
    let ran = stage.run(&BULK).await;
    assert_eq!(ran.code, 3, "one was refused: {}", ran.shown());
    check("answer-migrate-many", &ran.shown());
    let asked: Vec<_> = stage.sent("create_migration");
    let order: Vec<_> = asked.iter().filter_map(|body| body["vm"].as_str()).collect();
    assert_eq!(order, ["vm-b", "vm-a", "vm-c"], "what is there already stays out");
}

#[tokio::test]
async fn a_filter_that_means_nothing_or_everything_is_refused_and_nothing_is_asked() {
    let some = [("vm-a", "us-east-1", 3)];
    let everything = vec![("list_vms", vms(&some)), ("list_vms", vms(&some))];
    let mut shown = String::new();
    for (answers, words) in [
        (vec![("list_vms", vms(&[]))], &BULK[..]),
        (vec![("list_vms", vms(&[("vm-there", "eu-west-1", 9)]))], &BULK),
        (everything, &BULK),
        (Vec::new(), &["migrate", "--target", "eu-west-1"]),
        (Vec::new(), &["migrate", "vm-a"]),
        (Vec::new(), &["migrate", "vm-a", "--target", "eu-west-1", "--priority", "11"]),
        (Vec::new(), &["migrate", "vm-a", "--target", "eu-west-1", "--deadline", "-1h"]),
        (Vec::new(), &["migrate", "vm-a", "--target", "eu-west-1", "--bandwidth", "0"]),
        (Vec::new(), &["migrate", "vm-a", "--all", "--target", "eu-west-1"]),
    ] {
        let stage = Stage::with(answers).await;
        let ran = stage.run(words).await;
        assert_eq!(ran.code, 2, "{words:?}: {}", ran.shown());
        assert!(stage.sent("create_migration").is_empty(), "{words:?}");
        shown.push_str(&format!("$ dwcp-cli {}\n{}\n", words.join(" "), ran.shown()));
    }
    check("refused-migrate", &shown);

    let answers = vec![("list_vms", vms(&some)), ("create_migration", begun(true))];
    let stage = Stage::with(answers).await;
    let words = [&BULK[..], &["--all", "--dry-run", "-o", "json"]].concat();
    let ran = stage.run(&words).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let told: MigrationList = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told.items.len(), 1);
}
