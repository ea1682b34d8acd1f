//! `state`: what is printed, what is sent, and how it ends.

use dwcp_api::state::{StateKind, StateValue};
use serde_json::json;

use crate::snapshot::check;
use crate::stage::{Answer, Stage, reply};
use crate::{fixtures, state_fixtures};

fn answers() -> Vec<(&'static str, Answer)> {
    let entry =
        state_fixtures::entry("count", StateKind::Counter, Some(StateValue::Number(15)));
    vec![
        ("state_get", reply(&entry)),
        ("state_update", reply(&state_fixtures::written())),
        ("state_list", reply(&state_fixtures::page())),
        ("state_replicas", reply(&state_fixtures::replicas())),
        ("state_policies", reply(&state_fixtures::policies())),
        ("state_set_policy", reply(&state_fixtures::policies())),
        ("state_shards", reply(&state_fixtures::shards())),
        ("state_move_slot", reply(&state_fixtures::shards())),
        ("list_regions", reply(&fixtures::regions())),
    ]
}

#[tokio::test]
async fn every_table_is_as_written() {
    let stage = Stage::with(answers()).await;
    for (name, words) in [
        ("state-get", &["federation", "state", "get", "count"][..]),
        ("state-get-wide", &["state", "get", "count", "-o", "wide"]),
        ("state-list", &["state", "list"]),
        ("state-put-wide", &["state", "put", "k", "-v", "-o", "wide"]),
        ("state-latency-matrix", &["state", "latency-matrix"]),
        ("state-lag-matrix", &["state", "lag-matrix"]),
        ("state-queue-depth", &["state", "queue-depth"]),
        ("state-replicas", &["state", "replicas", "-o", "wide"]),
        ("state-conflicts", &["state", "conflicts"]),
        ("state-policies", &["state", "policies"]),
        ("state-shards", &["state", "shards", "--key", "orders:acme/7"]),
        ("state-init", &["state", "init", "--dry-run"]),
    ] {
        let ran = stage.run(words).await;
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        check(name, &ran.out);
    }
}

#[tokio::test]
async fn each_change_is_sent_as_what_it_means() {
    let stage = Stage::with(answers()).await;
    for (words, update) in [
        (&["put", "k", "v"][..], json!({ "op": "set", "value": "v" })),
        (&["increment", "k"], json!({ "op": "increment", "by": 1 })),
        (&["increment", "k", "-20"], json!({ "op": "increment", "by": -20 })),
        (&["add", "k", "a", "b"], json!({ "op": "add", "elements": ["a", "b"] })),
        (&["remove", "k", "a"], json!({ "op": "remove", "elements": ["a"] })),
        (&["spend", "k", "5"], json!({ "op": "spend", "amount": 5 })),
        (&["mint", "k", "5"], json!({ "op": "mint", "amount": 5 })),
        (
            &["transfer", "k", "5", "--to", "eu-west-1"],
            json!({ "op": "transfer", "amount": 5, "to": "eu-west-1" }),
        ),
        (&["delete", "k"], json!({ "op": "delete" })),
    ] {
        let mut line = vec!["state"];
        line.extend(words);
        line.extend(["--level", "local"]);
        let ran = stage.run(&line).await;
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        let sent = stage.sent("state_update").pop().unwrap();
        assert_eq!(sent["update"], update, "{words:?}");
        assert_eq!(sent["level"], "local");
    }
}

#[tokio::test]
async fn regions_that_differ_or_are_silent_fail_the_verification() {
    let silent = Stage::with(answers()).await;
    let ran = silent.run(&["state", "verify-sync"]).await;
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("not all regions answered"), "{}", ran.err);
    let apart = vec![("state_replicas", reply(&state_fixtures::apart()))];
    let ran = Stage::with(apart).await.run(&["state", "verify-sync"]).await;
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("do not hold the same"), "{}", ran.err);
}

#[tokio::test]
async fn copies_and_moves_of_slots_are_sent_as_they_are_meant() {
    let stage = Stage::with(answers()).await;
    let ran = stage.run(&["state", "init", "--replication-factor", "2"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(stage.sent("state_set_policy").pop().unwrap()["copies"], 2);
    let configure = ["state", "configure", "--prefix", "orders:", "--kind", "last"];
    let more = ["--level", "local", "--copies", "2", "--shard-by", "tenant"];
    let ran = stage.run(&[&configure[..], &more[..]].concat()).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let sent = stage.sent("state_set_policy").pop().unwrap();
    assert_eq!((&sent["copies"], &sent["shard_by"]), (&json!(2), &json!("tenant")));
    let to = ["state", "shards", "move", "--prefix", "orders:", "--slot", "17"];
    let ran = stage.run(&[&to[..], &["--from", "a", "--to", "b"][..]].concat()).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let sent = stage.sent("state_move_slot").pop().unwrap();
    let asked = json!({ "prefix": "orders:", "slot": 17, "from": "a", "to": "b" });
    assert_eq!(sent, asked);
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_set() {
    let stage = Stage::with(answers()).await;
    for (words, reason) in [
        (&["init", "--regions", "mars"][..], "there is no region mars"),
        (&["init", "--replication-factor", "99"], "--replication-factor is 99"),
        (&["get", "k", "--at", "mars"], "there is no region mars"),
    ] {
        let mut line = vec!["state"];
        line.extend(words);
        let ran = stage.run(&line).await;
        assert_eq!(ran.code, 2, "{words:?}: {}", ran.out);
        assert!(ran.err.contains(reason), "{}", ran.err);
        assert!(stage.sent("state_set_policy").is_empty());
    }
}

#[tokio::test]
async fn changes_are_watched_from_token_to_token_until_ctrl_c() {
    let stage =
        Stage::with(vec![("state_watch", reply(&state_fixtures::changes()))]).await;
    stage.then("state_watch", Answer::Silence);
    let ran = stage.run_until(&["state", "watch", "vm:"], stage.asked_at_least(2)).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    check("state-watch", &ran.out);
    let asked = stage.asked();
    assert_eq!(asked[0].params["wait_ms"], 0);
    assert_eq!(asked[1].params["token"], "t9");
    assert_eq!(asked[1].params["prefix"], "vm:");
}
