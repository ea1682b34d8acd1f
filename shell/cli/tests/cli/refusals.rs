//! Every kind of refusal: text, remedy, exit code; the same as JSON.

use dwcp_api::{ApiError, ErrorCode};

use crate::fixtures;
use crate::snapshot::check;
use crate::stage::{Answer, Stage, error, plain, reply, run_in, with_input};

const PLACE: [&str; 5] =
    ["place-vm", "--id", "vm-web-001", "--spec", "cpu:4,memory:8192,storage:100"];

#[tokio::test]
async fn each_error_code_has_its_exit_code() {
    let mut shown = String::new();
    for (code, exit) in [
        (ErrorCode::Invalid, 2),
        (ErrorCode::Forbidden, 1),
        (ErrorCode::NotFound, 4),
        (ErrorCode::Conflict, 5),
        (ErrorCode::Refused, 3),
        (ErrorCode::Busy, 6),
        (ErrorCode::Internal, 1),
        (ErrorCode::Unavailable, 6),
        (ErrorCode::Indeterminate, 7),
    ] {
        let answer = error(code, "what went wrong and where", "what to do");
        let stage = Stage::with(vec![("describe_vm", answer)]).await;
        let ran = stage.run(&["vm", "describe", "vm-1"]).await;
        assert_eq!(ran.code, exit, "{code:?}");
        shown.push_str(&format!("{code:?}\n{}\n", ran.shown()));
    }
    check("errors", &shown);
}

#[tokio::test]
async fn an_error_is_one_json_object_on_stderr_and_nothing_on_stdout() {
    let answer = error(ErrorCode::NotFound, "there is no VM vm-1", "list them");
    let stage = Stage::with(vec![("describe_vm", answer)]).await;
    let ran = stage.run(&["vm", "describe", "vm-1", "-o", "json"]).await;
    let told: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    let expected = serde_json::json!({
        "code": "not_found",
        "exit_code": 4,
        "message": "there is no VM vm-1",
        "remedy": "list them",
    });
    assert_eq!((told, ran.out.as_str()), (expected, ""));
    let yaml = stage.run(&["vm", "describe", "vm-1", "-o", "yaml"]).await;
    assert!(yaml.err.contains("code: not_found"), "{}", yaml.err);
}

#[tokio::test]
async fn a_refused_placement_shows_every_region_and_the_smallest_change() {
    let why = fixtures::refusal();
    let remedy = format!("it would fit if you {}", why.relaxation.as_ref().unwrap());
    let refused =
        ApiError::new(ErrorCode::Refused, "no region takes VM vm-web-001: a; b")
            .with_remedy(remedy)
            .with_details(&why);
    let stage = Stage::with(vec![("place_vm", Answer::Error(refused))]).await;
    let ran = stage.run(&PLACE).await;
    assert_eq!((ran.code, stage.asked().len()), (3, 1));
    check("refused-place-vm", &ran.shown());
    let json = stage.run(&[&PLACE[..], &["-o", "json"]].concat()).await;
    let told: serde_json::Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!(told["details"], serde_json::to_value(&why).unwrap());
}

#[tokio::test]
async fn an_explanation_of_a_refusal_is_an_answer() {
    let stage =
        Stage::with(vec![("explain_placement", reply(&fixtures::refusal()))]).await;
    let ran = stage.run(&[&["explain"], &PLACE[1..]].concat()).await;
    assert_eq!(ran.code, 0);
    check("answer-explain-refused", &ran.shown());
}

#[tokio::test]
async fn what_cannot_hold_is_refused_before_anything_is_asked() {
    let stage = Stage::with(Vec::new()).await;
    let ran = stage
        .run(&[
            "place-vm",
            "--spec",
            "cpu:99999,memory:8192,storage:100",
            "--allowed-regions",
            "a",
            "--forbidden-regions",
            "a",
            "--affinity",
            "g:together:host",
            "--affinity",
            "g:apart:host",
        ])
        .await;
    assert_eq!((ran.code, stage.asked().len()), (2, 0));
    check("contradictions", &ran.shown());
}

#[tokio::test]
async fn files_are_refused_with_their_place() {
    let mut shown = String::new();
    for text in [
        "spec: {cpu: 4, memory: lots, storage: 1}\n",
        "spec: {cpu: 4, memory: -1, storage: 1}\n",
        "spec: {cpu: 4, memory: 1, storage: 1}\nconstraint: {}\n",
        "{\"spec\": {\"cpu\": 4",
        "spec: {cpu: 4}\n",
    ] {
        let ran = run_in(with_input(text), &["place-vm", "-f", "-"]).await;
        assert_eq!(ran.code, 2, "{text}");
        shown.push_str(&format!("{text}{}\n", ran.err));
    }
    let huge = " ".repeat((1 << 20) + 1);
    let ran = run_in(with_input(&huge), &["place-vm", "-f", "-"]).await;
    shown.push_str(&format!("a file of a mebibyte\n{}\n", ran.err));
    let ran = run_in(plain(), &["place-vm", "-f", "/nonexistent/vm.yaml"]).await;
    shown.push_str(&format!("a file that is missing\n{}", ran.err));
    check("files", &shown);
}

#[tokio::test]
async fn a_region_without_what_scoring_needs_is_refused_naming_all_of_it() {
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
        "true",
        "--priority",
        "80",
    ];
    let ran = run_in(plain(), &words).await;
    assert_eq!(ran.code, 2);
    check("region-add-incomplete", &ran.shown());
}

#[tokio::test]
async fn deleting_asks_first_and_does_nothing_without_a_yes() {
    let answers = vec![("delete_vm", reply(&fixtures::item()))];
    let stage = Stage::with(answers).await;
    let refused = stage.run(&["vm", "delete", "vm-web-001"]).await;
    assert_eq!((refused.code, stage.asked().len()), (2, 0));
    check("delete-without-yes", &refused.shown());
    for (answer, asked) in [("n\n", 0), ("", 0), ("yes\n", 1), ("y\n", 2)] {
        let mut surroundings = with_input(answer);
        surroundings.interactive = true;
        surroundings.credentials = Some(stage.credentials());
        let ran = run_in(surroundings, &["vm", "delete", "vm-web-001"]).await;
        assert!(ran.err.starts_with("delete vm-web-001 and its disk? [y/N] "));
        assert_eq!(stage.asked().len(), asked, "{answer:?}");
    }
    stage.run(&["vm", "delete", "vm-web-001", "--yes"]).await;
    assert_eq!(stage.asked().len(), 3);
}
