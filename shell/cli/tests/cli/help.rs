//! Every `--help`, with and without the word `federation`; usage errors; completion.

use crate::snapshot::check;
use crate::stage::{plain, run_in};

/// Every command, as the words that lead to it.
fn commands() -> Vec<Vec<String>> {
    fn walk(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
        found.push(words.to_vec());
        for sub in command.get_subcommands() {
            let mut words = words.to_vec();
            words.push(sub.get_name().to_owned());
            walk(sub, &words, found);
        }
    }
    let mut found = Vec::new();
    walk(&dwcp_cli::command(), &[], &mut found);
    found
}

async fn help_of(words: &[String]) -> String {
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.push("--help");
    let ran = run_in(plain(), &words).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}");
    ran.out
}

#[tokio::test]
async fn every_help_is_as_written() {
    for words in commands() {
        if words.first().is_some_and(|word| word == "federation") {
            continue;
        }
        let name = if words.is_empty() { "all".to_owned() } else { words.join("-") };
        check(&format!("help-{name}"), &help_of(&words).await);
    }
}

#[tokio::test]
async fn the_word_federation_changes_nothing_but_the_usage_line() {
    let mut compared = 0;
    for words in commands() {
        let Some((first, rest)) = words.split_first() else { continue };
        if first != "federation" || rest.is_empty() {
            continue;
        }
        let with = help_of(&words).await.replace("dwcp-cli federation ", "dwcp-cli ");
        assert_eq!(with, help_of(rest).await, "{words:?}");
        compared += 1;
    }
    assert!(compared > 20, "only {compared} commands were compared");
}

#[tokio::test]
async fn what_is_written_wrongly_is_refused_with_code_2() {
    let mut shown = String::new();
    for words in [
        &[][..],
        &["regoin"],
        &["status", "--output", "xml"],
        &["status", "--timeout", "30"],
        &["status", "--watch", "50ms"],
        &["region", "capacity"],
        &["region", "capacity", "a", "--region", "b"],
        &["region", "add", "--id", "ap-southeast-1", "--name", "x", "--enabled", "maybe"],
        &["region", "add", "--latitude", "91"],
        &["region", "add", "--priority", "0"],
        &["region", "add", "--config", "a.yaml", "--id", "b"],
        &["vm", "describe", "../etc"],
        &["vm", "list", "--label", "env"],
        &["vm", "list", "--filter", "env=prod"],
        &["vm", "list", "--limit", "0"],
        &["place-vm", "--spec", "cpu:4,memory:8192,storage:100,ram:5"],
        &["place-vm", "--spec", "cpu:4,memory:8apples"],
        &["place-vm", "--spec", "cpu:-4"],
        &["place-vm", "--spec", "cpu:4,memory:99999999999999999999"],
        &["place-vm", "--memory", "-5"],
        &["place-vm", "--storage", "0"],
        &["place-vm", "--constraints", "max-latency:50,min-health:101"],
        &["place-vm", "--constraints", "max_latency:50"],
        &["place-vm", "--cost-limit", "free"],
        &["place-vm", "--affinity", "web:apart:rack"],
        &["place-vm", "--origin", "london:0"],
        &["place-vm", "--priority", "11"],
        &["place-vm", "--dry-run", "--wait"],
        &["explain", "vm-1", "--spec", "cpu:1"],
        &["completion", "tcsh"],
    ] {
        let ran = run_in(plain(), words).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words:?}");
        if words.is_empty() {
            assert!(ran.err.starts_with("See and steer"), "{}", ran.err);
            continue;
        }
        shown.push_str(&format!("$ dwcp-cli {}\n{}\n", words.join(" "), ran.err));
    }
    check("usage", &shown);
}

#[tokio::test]
async fn a_usage_error_is_json_when_json_was_asked_for() {
    for output in [&["-o", "json"][..], &["-ojson"], &["--output=json"]] {
        let words = [&["vm", "describe"][..], output].concat();
        let ran = run_in(plain(), &words).await;
        let told: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
        assert_eq!(told["code"], "usage");
        assert_eq!(told["exit_code"], 2);
    }
}

#[tokio::test]
async fn each_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run_in(plain(), &["completion", shell]).await;
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("place-vm") && ran.out.contains("capacity"), "{shell}");
    }
}

#[tokio::test]
async fn the_version_is_told_in_every_format() {
    let text =
        |words: &'static [&'static str]| async { run_in(plain(), words).await.out };
    assert!(text(&["version"]).await.starts_with("dwcp-cli 0."));
    assert!(text(&["--version"]).await.starts_with("dwcp-cli 0."));
    assert!(text(&["version", "-o", "json"]).await.starts_with("{\"version\":\"0."));
    assert!(text(&["version", "-o", "yaml"]).await.starts_with("version: 0."));
}
