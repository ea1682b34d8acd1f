//! What is asked of the federation: bodies, tokens, pages, waiting, following, watching.

use dwcp_api::ErrorCode;
use dwcp_types::{Generation, VmPhase};
use serde_json::json;

use crate::fixtures;
use crate::stage::{Answer, Stage, error, reply, run_in, with_input};

const SPEC: &str = "cpu:4,memory:8192,storage:100";

const EVERY_FLAG: &[&str] = &[
    "place-vm",
    "-f",
    "-",
    "--name",
    "vm-db-001",
    "--spec",
    "cpu:2,memory:1GiB",
    "--cpu",
    "16",
    "--storage",
    "1000",
    "--type",
    "storage",
    "--tier",
    "protected",
    "--strategy",
    "load-balanced",
    "--origin",
    "london:3",
    "--origin",
    "paris",
    "--label",
    "env=prod",
    "--affinity",
    "db:apart:host:preferred",
    "--constraints",
    "compliance:GDPR",
    "--allowed-regions",
    "eu-west-1,eu-central-1",
    "--data-locality",
    "EU",
    "--require-edge=false",
    "--min-bandwidth",
    "1Gbps",
    "--cost-limit",
    "0.50",
    "--image",
    "debian",
    "--token",
    "my-token",
];

#[tokio::test]
async fn the_command_of_the_source_is_the_request_it_means() {
    let stage = Stage::with(vec![("place_vm", reply(&fixtures::placed()))]).await;
    let constraints = "max-latency:50,min-health:80";
    let words = ["federation", "place-vm", "--spec", SPEC, "--constraints", constraints];
    assert_eq!(stage.run(&words).await.code, 0);
    let body = &stage.asked()[0].body;
    assert_eq!(
        body["request"]["spec"],
        json!({"cpu": 4, "memory": 8192, "storage": 100})
    );
    let limits = json!({"max_latency_ms": 50, "min_health_score": 80});
    assert_eq!(body["request"]["constraints"], limits);
    assert_eq!(body["request"]["tenant"], "default");
    assert!(body["request"]["id"].as_str().unwrap().starts_with("vm-"));
    assert!(body["client_token"].as_str().unwrap().starts_with("cli-"));
}

#[tokio::test]
async fn every_flag_arrives_and_flags_win_over_the_file() {
    let stage = Stage::with(vec![("place_vm", reply(&fixtures::placed()))]).await;
    let file = "id: from-file\ntenant: t\npriority: 3\nspec: {cpu: 1, memory: 64, storage: 1}\nlabels: {a: x}\n";
    let mut surroundings = with_input(file);
    surroundings.credentials = Some(stage.credentials());
    let ran = run_in(surroundings, EVERY_FLAG).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let expected = json!({
        "request": {
            "id": "vm-db-001",
            "tenant": "t",
            "spec": {"cpu": 16, "memory": 1024, "storage": 1000},
            "vm_type": "storage",
            "constraints": {
                "allowed_regions": ["eu-central-1", "eu-west-1"],
                "required_compliance": ["GDPR"],
                "data_locality": "EU",
                "min_bandwidth_mbps": 1000,
                "cost_limit": 500_000,
                "affinity": [{
                    "group": "db", "mode": "apart", "scope": "host", "hardness": "preferred",
                }],
            },
            "origins": [
                {"user_zone": "london", "weight": 3}, {"user_zone": "paris", "weight": 1},
            ],
            "strategy": "load-balanced",
            "priority": 3,
            "tier": "protected",
            "labels": {"a": "x", "env": "prod"},
        },
        "client_token": "my-token",
        "image": "debian",
        "dry_run": false,
        "preempt": false,
    });
    assert_eq!(stage.asked()[0].body, expected);
}

#[tokio::test]
async fn without_an_answer_the_same_question_is_asked_again_with_the_same_token() {
    let lost = error(ErrorCode::Indeterminate, "the owner went silent", "ask again");
    let gone = error(ErrorCode::Unavailable, "the engine is away", "wait");
    let answers = vec![
        ("place_vm", lost),
        ("place_vm", gone),
        ("place_vm", Answer::Silence),
        ("place_vm", reply(&fixtures::placed())),
    ];
    let stage = Stage::with(answers).await;
    let ran = stage.run(&["place-vm", "--spec", SPEC, "--timeout", "2s"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let asked = stage.asked();
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|again| again.body == asked[0].body));
    assert_eq!(ran.err.matches("asking again with the same token").count(), 3);
}

#[tokio::test]
async fn asking_again_is_bounded_and_the_doubt_is_told_with_the_token() {
    let lost = error(ErrorCode::Indeterminate, "the owner went silent", "ask again");
    let stage = Stage::with(vec![("place_vm", lost)]).await;
    let ran = stage.run(&["place-vm", "--spec", SPEC, "--token", "tok-1"]).await;
    assert_eq!((ran.code, stage.asked().len()), (7, 4));
    assert!(ran.err.contains("--token tok-1"), "{}", ran.err);
    assert!(ran.err.contains("vm describe vm-tok-1"), "{}", ran.err);

    let silent = Stage::with(vec![("place_vm", Answer::Silence)]).await;
    let words = ["place-vm", "--spec", SPEC, "--timeout", "1s", "--token", "tok-2"];
    let ran = silent.run(&words).await;
    assert_eq!(ran.code, 6);
    assert!(ran.err.contains("it may have been carried out"), "{}", ran.err);
    assert!(ran.err.contains("--token tok-2"), "{}", ran.err);
}

#[tokio::test]
async fn a_clear_no_is_not_asked_again() {
    for code in [ErrorCode::Conflict, ErrorCode::Invalid, ErrorCode::Forbidden] {
        let stage = Stage::with(vec![("place_vm", error(code, "no", "never"))]).await;
        stage.run(&["place-vm", "--spec", SPEC]).await;
        assert_eq!(stage.asked().len(), 1, "{code:?}");
    }
}

#[tokio::test]
async fn all_pages_of_a_list_are_read_and_no_more_than_asked_for() {
    let pages = || {
        vec![
            ("list_vms", reply(&fixtures::list(&["a", "b"], Some("b")))),
            ("list_vms", reply(&fixtures::list(&["c", "d"], Some("d")))),
            ("list_vms", reply(&fixtures::list(&["e"], None))),
        ]
    };
    let stage = Stage::with(pages()).await;
    let words = ["vm", "list", "--tenant", "t", "--filter", "tag:env=prod", "-o", "json"];
    let ran = stage.run(&words).await;
    let list: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let names: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|vm| vm["id"].clone()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!(list["next"], json!(null));
    let asked = stage.asked();
    assert_eq!(asked.len(), 3);
    let first = json!({"tenant": "t", "label": "env=prod", "limit": 1000});
    assert_eq!(asked[0].params, first);
    assert_eq!(
        (&asked[1].params["after"], &asked[2].params["after"]),
        (&json!("b"), &json!("d"))
    );

    let stage = Stage::with(pages()).await;
    let ran = stage.run(&["vm", "list", "--limit", "4"]).await;
    let asked = stage.asked();
    assert_eq!((asked.len(), &asked[1].params["limit"]), (2, &json!(2)));
    assert!(
        ran.out.ends_with("more from d on; raise --limit to see them\n"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn a_service_that_repeats_a_page_does_not_keep_the_tool_for_ever() {
    let again = reply(&fixtures::list(&["a"], Some("a")));
    let stage = Stage::with(vec![("list_vms", again)]).await;
    assert_eq!(stage.run(&["vm", "list"]).await.code, 0);
    assert_eq!(stage.asked().len(), 2);
}

#[tokio::test]
async fn waiting_ends_when_the_vm_runs_and_ignores_what_was_seen_before() {
    let mut stale = fixtures::detail(VmPhase::Failed);
    if let Some(observed) = &mut stale.observed {
        observed.generation = Generation::new(1);
    }
    let away = error(ErrorCode::Unavailable, "away", "wait");
    let answers = vec![
        ("set_vm_power", reply(&fixtures::item())),
        ("describe_vm", reply(&stale)),
        ("describe_vm", away),
        ("describe_vm", reply(&fixtures::detail(VmPhase::Starting))),
        ("describe_vm", reply(&fixtures::detail(VmPhase::Running))),
    ];
    let stage = Stage::with(answers).await;
    let ran = stage.run(&["vm", "start", "vm-web-001", "--wait"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let told: Vec<_> =
        ran.err.lines().filter_map(|line| line.split(" (").next()).collect();
    let expected = ["pending", "the federation does not answer", "starting", "running"]
        .map(|phase| format!("vm-web-001: {phase}"));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn waiting_ends_with_the_reason_when_it_fails_or_takes_too_long() {
    let mut failed = fixtures::detail(VmPhase::Failed);
    if let Some(observed) = &mut failed.observed {
        observed.error = Some("the image is missing".to_owned());
    }
    let answers =
        vec![("place_vm", reply(&fixtures::placed())), ("describe_vm", reply(&failed))];
    let stage = Stage::with(answers).await;
    let ran = stage.run(&["place-vm", "--spec", SPEC, "--wait"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("the image is missing"), "{}", ran.err);

    let slow = reply(&fixtures::detail(VmPhase::Stopping));
    let answers = vec![("set_vm_power", reply(&fixtures::item())), ("describe_vm", slow)];
    let stage = Stage::with(answers).await;
    let words = ["vm", "stop", "vm-web-001", "--wait", "--timeout", "2s"];
    let ran = stage.run(&words).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("is not stopped after"), "{}", ran.err);
    assert!(ran.err.contains("last seen: stopping"), "{}", ran.err);
}

#[tokio::test]
async fn deleting_can_wait_until_the_vm_is_gone() {
    let answers = vec![
        ("delete_vm", reply(&fixtures::item())),
        ("describe_vm", reply(&fixtures::detail(VmPhase::Stopping))),
        ("describe_vm", error(ErrorCode::NotFound, "there is no such VM", "list them")),
    ];
    let stage = Stage::with(answers).await;
    let ran = stage.run(&["vm", "delete", "vm-web-001", "--yes", "--wait"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "vm-web-001 is gone\n"));
}

#[tokio::test]
async fn a_console_is_followed_from_where_it_was_and_gaps_are_told() {
    let answers = vec![
        ("vm_console", reply(&fixtures::console(0, "boot\x1b["))),
        ("vm_console", reply(&fixtures::console(6, ""))),
        ("vm_console", error(ErrorCode::Unavailable, "away", "wait")),
        ("vm_console", reply(&fixtures::console(6, "1m on\n"))),
        ("vm_console", reply(&fixtures::console(100, "ready\n"))),
        ("vm_console", reply(&fixtures::console(106, ""))),
    ];
    let stage = Stage::with(answers).await;
    let enough = stage.asked_at_least(7);
    let ran = stage.run_until(&["vm", "console", "vm-web-001", "--follow"], enough).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out, "boot on\nready\n");
    assert_eq!(ran.err, "note: 88 bytes are no longer kept\n");
    let offsets: Vec<_> = stage
        .asked()
        .iter()
        .take(6)
        .map(|asked| asked.params["offset"].clone())
        .collect();
    assert_eq!(json!(offsets), json!([null, 6, 6, 6, 12, 106]));
}

#[tokio::test]
async fn a_whole_console_is_read_in_parts() {
    let answers = vec![
        ("vm_console", reply(&fixtures::console(0, "boot\n"))),
        ("vm_console", reply(&fixtures::console(5, "ready"))),
        ("vm_console", reply(&fixtures::console(10, ""))),
    ];
    let stage = Stage::with(answers).await;
    let ran = stage.run(&["vm", "console", "vm-web-001"]).await;
    assert_eq!(ran.out, "boot\nready\n");
}

#[tokio::test]
async fn watching_goes_on_through_failures_until_it_is_ended() {
    let answers = vec![
        ("get_status", reply(&fixtures::status())),
        ("get_status", error(ErrorCode::Unavailable, "away", "wait")),
        ("get_status", reply(&fixtures::young_status())),
    ];
    let stage = Stage::with(answers).await;
    let enough = stage.asked_at_least(4);
    let words = ["status", "--global", "--watch", "200ms"];
    let ran = stage.run_until(&words, enough).await;
    assert_eq!(ran.code, 0);
    assert!(ran.out.matches("Global Federation Status:").count() >= 3, "{}", ran.out);
    assert!(ran.err.contains("error: away"), "{}", ran.err);
}

#[tokio::test]
async fn what_hangs_is_given_up_at_ctrl_c() {
    let hangs = || {
        let answers = vec![
            ("get_status", reply(&fixtures::status())),
            ("get_status", Answer::Silence),
            ("vm_console", reply(&fixtures::console(0, "boot\n"))),
            ("vm_console", Answer::Silence),
        ];
        Stage::with(answers)
    };
    for words in
        [&["status", "--watch", "200ms"][..], &["vm", "console", "v", "--follow"]]
    {
        let stage = hangs().await;
        let enough = stage.asked_at_least(2);
        let ran = stage.run_until(words, enough).await;
        // A call that was left to its end would have told that it took too long.
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}");
        assert_eq!(stage.asked().len(), 2, "{words:?}");
    }
}

#[tokio::test]
async fn a_vm_is_explained_with_the_request_it_was_placed_with() {
    let answers = vec![
        ("describe_vm", reply(&fixtures::detail(VmPhase::Running))),
        ("explain_placement", reply(&fixtures::explanation())),
    ];
    let stage = Stage::with(answers).await;
    assert_eq!(stage.run(&["explain", "vm-web-001"]).await.code, 0);
    let asked = stage.asked();
    let operations: Vec<_> = asked.iter().map(|asked| asked.operation).collect();
    assert_eq!(operations, ["describe_vm", "explain_placement"]);
    let request = &asked[1].body["request"];
    assert_eq!(request["spec"], json!(fixtures::request().shape));
    assert_eq!(request["constraints"], json!(fixtures::request().constraints));
    assert_eq!(request["origins"], json!([{"user_zone": "london", "weight": 3}]));
}

#[tokio::test]
async fn a_region_is_added_from_flags_and_from_a_file() {
    let added = reply(&fixtures::region("us-east-1"));
    let stage = Stage::with(vec![("add_region", added)]).await;
    let words = [
        "federation",
        "region",
        "add",
        "--id",
        "ap-southeast-1",
        "--name",
        "Asia Pacific (Singapore)",
        "--provider",
        "aws",
        "--enabled",
        "false",
        "--priority",
        "80",
        "--latitude",
        "1.3521",
        "--longitude",
        "-103.8198",
        "--country",
        "sg",
        "--continent",
        "Asia",
        "--zones",
        "ap-southeast-1a,ap-southeast-1b",
        "--kind",
        "edge",
        "--compliance",
        "gdpr,SOC2",
        "--endpoint-addr",
        "10.0.0.1:8443",
        "--cpu-cost",
        "0.05",
        "--memory-cost",
        "0.01",
        "--storage-cost",
        "0.10",
        "--latency",
        "eu-west-1=75",
    ];
    assert_eq!(stage.run(&words).await.code, 0);
    let body = stage.asked()[0].body.clone();
    let region = &body["region"];
    assert_eq!(body["endpoint"], "10.0.0.1:8443");
    assert_eq!(region["location"]["longitude"], -103.8198);
    assert_eq!(region["location"]["country"], "SG");
    assert_eq!((&region["enabled"], &region["kind"]), (&json!(false), &json!("edge")));
    assert_eq!(region["compliance_zones"], json!(["GDPR", "SOC2"]));
    assert_eq!(region["cost"]["cpu_hour"], 50_000);
    assert_eq!(region["network_latency"], json!({"eu-west-1": 75_000}));

    let mut surroundings = with_input(&body.to_string());
    surroundings.credentials = Some(stage.credentials());
    let ran = run_in(surroundings, &["region", "add", "--config", "-"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(stage.asked()[1].body, body);
}

#[tokio::test]
async fn a_reader_that_went_away_is_no_error() {
    let stage =
        Stage::with(vec![("list_vms", reply(&fixtures::list(&["a"], None)))]).await;
    let mut surroundings = crate::stage::plain();
    surroundings.credentials = Some(stage.credentials());
    let (end, out) = std::io::pipe().unwrap();
    drop(end);
    let mut terminal =
        dwcp_cli::Terminal::new(Box::new(out), Box::new(std::io::sink()), false);
    let words = ["dwcp-cli", "vm", "list"].map(Into::into).to_vec();
    assert_eq!(dwcp_cli::run(words, surroundings, &mut terminal).await, 0);
}
