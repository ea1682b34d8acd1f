//! The members of etcd under the supervisor of `./dwcp up`: one that is killed is started again,
//! what is asked meanwhile is done, and nothing is left when it is told to end.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use dwcp_testbed::{etcd_program, program, until};
use serde_json::Value;

use crate::local::{Local, succeeded};

fn cli(local: &Local, args: &[&str]) -> Command {
    let mut command = Command::new(program("dwcp-cli"));
    command.arg("--credentials").arg(local.state().join("admin"));
    command.arg("federation").args(args);
    command
}

/// Its process ids by name, as the supervisor wrote them down.
fn processes(local: &Local) -> BTreeMap<String, i64> {
    let file = fs::read(local.state().join("run/processes.json")).unwrap();
    let all: Vec<Value> = serde_json::from_slice(&file).unwrap();
    let pair = |process: &Value| {
        (process["name"].as_str().unwrap().to_owned(), process["pid"].as_i64().unwrap())
    };
    all.iter().map(pair).collect()
}

/// Waits until all five members answer and the leader is at home.
async fn all_well(local: &Local) {
    until("all members answer and the leader is at home", || async {
        let output = cli(local, &["status", "-o", "json"]).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("{error}: {output:?}"))?;
        let engine = &status["engine"];
        let members = engine["members"].as_array().cloned().unwrap_or_default();
        let answer = members.iter().filter(|member| member["answers"] == true).count();
        if engine["kind"] == "etcd" && answer == 5 && engine["leader_at_home"] == true {
            return Ok(());
        }
        Err(engine.to_string())
    })
    .await;
}

/// Processes that have a file of this federation among their arguments.
fn living(local: &Local) -> Vec<String> {
    let mark = local.state().display().to_string();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines.filter(|line| line.contains(&mark)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leading_member_is_killed_and_started_again_and_down_leaves_nothing() {
    if etcd_program().is_none() {
        return;
    }
    let local = Local::of("t1", None);
    let said = succeeded(&local.command("up").arg("--detach").output().unwrap());
    assert!(said.contains("strong engine: etcd"), "{said}");
    all_well(&local).await;

    let before = processes(&local);
    let leader = before["etcd-us-east-1"];
    let killed = Command::new("kill").args(["-9", &leader.to_string()]).status();
    assert!(killed.unwrap().success());
    let spec = "cpu:1,memory:1024,storage:10";
    let place = ["place-vm", "--name", "vm-1", "--tenant", "acme", "--spec", spec];
    let place = [&place[..], &["--token", "once", "--wait"]].concat();
    // Asked again under the same token until it is told: an election is under way.
    until("vm-1 is placed", || async {
        let placed = cli(&local, &place).output().unwrap();
        if placed.status.success() { Ok(()) } else { Err(format!("{placed:?}")) }
    })
    .await;

    let after = until("the supervisor started it again", || async {
        let now = processes(&local);
        if now["etcd-us-east-1"] == leader { Err(now) } else { Ok(now) }
    })
    .await;
    all_well(&local).await;
    let others = |all: &BTreeMap<String, i64>| {
        let mut all = all.clone();
        all.remove("etcd-us-east-1");
        all
    };
    assert_eq!(others(&after), others(&before), "nothing else was started again");

    succeeded(&local.command("down").output().unwrap());
    assert_eq!(living(&local), Vec::<String>::new());
    // Its records are on etcd: on another engine it would come up without its VM.
    let other = local.command("up").args(["--engine", "embedded"]).output().unwrap();
    let told = String::from_utf8_lossy(&other.stderr);
    assert!(!other.status.success(), "{other:?}");
    assert!(told.contains("records are on etcd"), "{told}");
    assert!(told.contains("--engine etcd"), "{told}");

    succeeded(&local.command("up").arg("--detach").output().unwrap());
    let list = succeeded(&cli(&local, &["vm", "list"]).output().unwrap());
    assert_eq!(list.matches("vm-1").count(), 1, "{list}");
    succeeded(&local.command("down").arg("--purge").output().unwrap());
    assert_eq!(living(&local), Vec::<String>::new());
    assert!(!local.state().exists(), "{:?}", fs::read_dir(local.state()));
}
