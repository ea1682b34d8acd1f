//! Every answer as people read it, and as programs do.

use dwcp_types::VmPhase;

use crate::fixtures;
use crate::snapshot::{check, without_moments};
use crate::stage::{Answer, Stage, plain, reply, run_on};

/// Everything that can be read.
fn answers() -> Vec<(&'static str, Answer)> {
    vec![
        ("get_status", reply(&fixtures::status())),
        ("list_regions", reply(&fixtures::regions())),
        ("add_region", reply(&fixtures::region("us-east-1"))),
        ("describe_region", reply(&fixtures::region("us-east-1"))),
        ("set_region_enabled", reply(&fixtures::region("us-east-1"))),
        ("region_capacity", reply(&fixtures::room())),
        ("place_vm", reply(&fixtures::placed())),
        ("explain_placement", reply(&fixtures::explanation())),
        ("list_vms", reply(&fixtures::list(&["vm-a", "vm-longer-name"], None))),
        ("describe_vm", reply(&fixtures::detail(VmPhase::Running))),
        ("set_vm_power", reply(&fixtures::stopping())),
        ("delete_vm", reply(&fixtures::item())),
        ("vm_console", reply(&fixtures::console(0, "boot\x1b[1m ok\r\nready"))),
        ("list_events", reply(&fixtures::events())),
    ]
}

const SPEC: &str = "cpu:4,memory:8192,storage:100";

#[tokio::test]
async fn every_table_is_as_written() {
    let stage = Stage::with(answers()).await;
    for (name, words) in [
        ("status", &["status"][..]),
        ("status-global", &["federation", "status", "--global"]),
        ("region-list", &["region", "list"]),
        ("region-list-wide", &["region", "list", "-o", "wide"]),
        ("region-describe", &["region", "describe", "us-east-1"]),
        ("region-enable", &["region", "enable", "us-east-1"]),
        ("region-capacity", &["region", "capacity", "--region", "us-east-1"]),
        ("place-vm", &["place-vm", "--spec", SPEC]),
        ("place-vm-wide", &["place-vm", "--spec", SPEC, "-o", "wide"]),
        ("place-vm-wait", &["place-vm", "--spec", SPEC, "--wait"]),
        ("explain", &["explain", "--spec", SPEC]),
        ("explain-wide", &["explain", "--spec", SPEC, "-o", "wide"]),
        ("explain-vm", &["explain", "vm-web-001"]),
        ("vm-list", &["vm", "list"]),
        ("vm-list-wide", &["vm", "list", "-o", "wide"]),
        ("vm-describe", &["vm", "describe", "vm-web-001"]),
        ("vm-stop", &["vm", "stop", "vm-web-001"]),
        ("vm-console", &["vm", "console", "vm-web-001"]),
        ("vm-events", &["vm", "events", "vm-web-001"]),
        ("events", &["events"]),
        ("credentials", &["credentials"]),
        ("vm-describe-yaml", &["vm", "describe", "vm-web-001", "-o", "yaml"]),
        ("region-capacity-json", &["region", "capacity", "us-east-1", "-o", "json"]),
    ] {
        let ran = stage.run(words).await;
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        let shown = without_times(&without_moments(&ran.shown()));
        check(&format!("answer-{name}"), &shown);
    }
}

/// The creation time in the API's own form, and how long a wait took.
fn without_times(text: &str) -> String {
    let masked = text.lines().map(|line| match line.split_once("created_at: ") {
        Some((before, _)) => format!("{before}created_at: <moment>"),
        None if line.starts_with("vm-web-001: running (") => {
            "vm-web-001: running (<time>)".to_owned()
        }
        None => line.to_owned(),
    });
    masked.map(|line| line + "\n").collect()
}

#[tokio::test]
async fn the_global_status_is_the_block_of_the_source_to_the_letter() {
    let stage = Stage::with(answers()).await;
    let block = "Global Federation Status:
  Total Regions: 5
  Healthy: 4
  Degraded: 1
  Unhealthy: 0

  Total VMs: 30,142
  Global Latency (avg): 45ms
  Global Throughput: 125,000 req/s
  Global Error Rate: 0.08%
  SLA Compliance: 99.92%
";
    // What the mean hides (F68) follows in one line more, which `answer-status-global` shows.
    let global = stage.run(&["federation", "status", "--global"]).await.out;
    let more = global.strip_prefix(block).unwrap();
    assert!(more.starts_with("  Global Latency (p50/p95/p99): "), "{global}");
    assert_eq!(more.lines().count(), 1, "{global}");
    assert!(stage.run(&["status"]).await.out.starts_with(block));
}

#[tokio::test]
async fn what_is_not_known_yet_is_said_so() {
    let young = reply(&fixtures::young_status());
    let stage = Stage::with(vec![("get_status", young)]).await;
    check("answer-status-young", &stage.run(&["status"]).await.shown());
}

#[tokio::test]
async fn members_of_etcd_that_are_away_are_named_and_where_the_leader_is() {
    let etcd = reply(&fixtures::etcd_status());
    let stage = Stage::with(vec![("get_status", etcd)]).await;
    check("answer-status-etcd", &stage.run(&["status"]).await.shown());
}

#[tokio::test]
async fn a_dry_run_names_its_victims_and_every_region() {
    let stage = Stage::with(vec![("place_vm", reply(&fixtures::dry_run()))]).await;
    let words = ["place-vm", "--spec", SPEC, "--dry-run", "--preempt"];
    check("answer-dry-run", &stage.run(&words).await.shown());
    let body = &stage.asked()[0].body;
    assert_eq!((&body["dry_run"], &body["preempt"]), (&true.into(), &true.into()));
}

#[tokio::test]
async fn json_and_yaml_are_the_reply_itself() {
    let stage = Stage::with(answers()).await;
    let commands: [(&[&str], serde_json::Value); 4] = [
        (&["status"], serde_json::to_value(fixtures::status()).unwrap()),
        (&["region", "list"], serde_json::to_value(fixtures::regions()).unwrap()),
        (
            &["explain", "--spec", SPEC],
            serde_json::to_value(fixtures::explanation()).unwrap(),
        ),
        (
            &["place-vm", "--spec", SPEC],
            serde_json::to_value(fixtures::placed()).unwrap(),
        ),
    ];
    for (words, mut expected) in commands {
        let json = stage.run(&[words, &["-o", "json"]].concat()).await;
        let yaml = stage.run(&[words, &["-o", "yaml"]].concat()).await;
        let mut json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        let mut yaml: serde_json::Value = serde_saphyr::from_str(&yaml.out).unwrap();
        for value in [&mut json, &mut yaml, &mut expected] {
            // Fixtures are made anew and so is this.
            if let Some(created) = value.pointer_mut("/vm/created_at") {
                *created = 0.into();
            }
        }
        assert_eq!(json, expected, "{words:?}");
        assert_eq!(yaml, expected, "{words:?}");
    }
}

#[tokio::test]
async fn nothing_that_could_steer_a_terminal_is_printed() {
    let stage = Stage::with(answers()).await;
    for words in [&["events"][..], &["vm", "console", "vm-web-001"]] {
        assert!(!stage.run(words).await.out.contains('\x1b'), "{words:?}");
    }
    let raw = stage.run(&["vm", "console", "vm-web-001", "--raw"]).await;
    assert!(raw.out.contains("\x1b[1m"));
}

#[tokio::test]
async fn colours_are_for_terminals_and_can_be_switched_off() {
    let stage = Stage::with(answers()).await;
    let run = async |words: &[&str], is_terminal, no_color| {
        let credentials = Some(stage.credentials());
        let surroundings = dwcp_cli::Surroundings { credentials, no_color, ..plain() };
        let ran = run_on(surroundings, words, is_terminal).await;
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out
    };
    let plain = run(&["status"], false, false).await;
    let colored = run(&["status"], true, false).await;
    assert!(!plain.contains('\x1b') && colored.contains("\x1b[32mhealthy 97\x1b[0m"));
    assert_eq!(run(&["status", "--no-color"], true, false).await, plain);
    assert_eq!(run(&["status"], true, true).await, plain);
}
