//! A real Prometheus reads real daemons; alerts and dashboards ask it for what is there.

use std::collections::BTreeSet;
use std::fs;

use dwcp_testbed::{
    Alertmanager, Answers, Ask, Federation, HostPlan, Plan, Prometheus, Promtool,
    Receiver, RegionPlan, set, until, workspace,
};
use serde_json::Value;

/// Everything that a dashboard asks, as Grafana would ask it.
fn queries() -> Vec<(String, String)> {
    let folder = workspace().join("deploy/grafana");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let boards = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let mut queries = Vec::new();
    for path in boards {
        let board: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let panels = board["panels"].as_array().unwrap();
        for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap())
        {
            let asked = target["expr"].as_str().unwrap();
            let asked = asked.replace("$__rate_interval", "1m").replace("$region", ".*");
            queries.push((format!("{}", path.display()), asked));
        }
    }
    queries
}

/// The label `region` and the value of each.
fn by_region(found: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |row: &Value| (text(&row["metric"]["region"]), text(&row["value"][1]));
    found.iter().map(row).collect()
}

/// Asks until the answer, by region, is this one.
async fn answers(prometheus: &Prometheus, expression: &str, wanted: &[(&str, &str)]) {
    until(expression, || async {
        let mut found = by_region(&prometheus.query(expression)?);
        found.sort();
        let wanted =
            wanted.iter().map(|(region, value)| ((*region).into(), (*value).into()));
        if wanted.eq(found.iter().cloned()) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_falls_silent_is_an_alert_by_the_word_of_the_others() {
    let regions = ["one", "two", "three"];
    let regions = regions.map(|id| RegionPlan::new(id).host(HostPlan::of_slots(4)));
    let mut federation = Federation::start(Plan::simulated(regions.to_vec())).await;
    federation.have_run().await;
    federation.healthy().await;
    let Some(prometheus) = Prometheus::start(&federation).await else {
        federation.end();
        return;
    };
    let door = federation.at("one");
    door.place(&Ask::new("vm").only_in("three").cpu(1)).await.unwrap();
    door.write("notes/x", &set("one")).await.unwrap();

    let seen = "count by (region) (dwcp_federation_region_health_score == 100)";
    answers(&prometheus, seen, &[("one", "3"), ("three", "3"), ("two", "3")]).await;
    let vms = "max by (region) (dwcp_federation_active_vms) > 0";
    answers(&prometheus, vms, &[("three", "1")]).await;
    let reserved = "min by (region) (dwcp_federation_cpu_utilization) > 0";
    answers(&prometheus, reserved, &[("three", "0.25")]).await;
    let placed = "sum by (region) (dwcp_federation_placement_decisions_total)";
    answers(&prometheus, placed, &[("one", "1")]).await;
    for (board, asked) in queries() {
        let answer = prometheus.query(&asked);
        assert!(answer.is_ok(), "{board}: {asked}: {}", answer.unwrap_err());
    }

    let firing = r#"ALERTS{alertname="RegionSilent",alertstate="firing"}"#;
    answers(&prometheus, firing, &[]).await;
    federation.lose("two");
    answers(&prometheus, firing, &[("two", "1")]).await;
    answers(&prometheus, seen, &[("one", "2"), ("three", "2")]).await;
    for process in ["two", "two-h1"] {
        federation.process(process).start();
    }
    answers(&prometheus, seen, &[("one", "3"), ("three", "3"), ("two", "3")]).await;
    answers(&prometheus, firing, &[]).await;
    drop(prometheus);
    federation.end();
}

async fn stands(alertmanager: &Alertmanager, wanted: usize) -> Vec<Value> {
    until(&format!("{wanted} alerts stand"), || async {
        let alerts = alertmanager.alerts()?;
        if alerts.len() == wanted { Ok(alerts) } else { Err(format!("{alerts:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_an_alert_of_an_alertmanager_until_it_is_over() {
    let nobody = Receiver::start(Answers::Status(200)).await;
    let folder = tempfile::TempDir::new().unwrap();
    let started = Alertmanager::start(folder.path(), &nobody.url());
    let Some(mut alertmanager) = started else { return };
    let regions = ["one", "two", "three"];
    let regions = regions.map(|id| RegionPlan::new(id).host(HostPlan::of_slots(1)));
    let plan = Plan::simulated(regions.to_vec()).patient().alerting(&alertmanager);
    let mut federation = Federation::start(plan).await;
    federation.have_run().await;
    federation.healthy().await;
    federation.lose("two");
    let alerts = stands(&alertmanager, 1).await;
    let labels = &alerts[0];
    assert_eq!((&labels["region"], &labels["cause"]), (&"two".into(), &"silent".into()));
    assert_eq!(labels["severity"], "critical");
    assert!(labels["incident"].as_str().unwrap().starts_with("INC-"), "{labels}");
    // One that was started anew knows nothing, and is told what stands.
    alertmanager.forget();
    assert_eq!(stands(&alertmanager, 1).await, alerts);
    for process in ["two", "two-h1"] {
        federation.process(process).start();
    }
    stands(&alertmanager, 0).await;
    drop(alertmanager);
    federation.end();
}

/// The alerts of each message of a region's silence: when it began and ends, and why it is said.
fn said(receiver: &Receiver) -> Vec<[String; 3]> {
    let mut all = Vec::new();
    for it in receiver.received() {
        let alerts: Vec<Value> = serde_json::from_slice(&it.body).unwrap();
        let silent = alerts.iter().filter(|it| it["labels"]["cause"] == "silent");
        all.extend(silent.map(|it| {
            let of = |value: &Value| value.as_str().unwrap().to_owned();
            [&it["startsAt"], &it["endsAt"], &it["annotations"]["event"]].map(of)
        }));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_is_said_again_to_alertmanagers_until_it_is_over() {
    let receiver = Receiver::start(Answers::Status(200)).await;
    let regions = ["one", "two", "three"];
    let regions = regions.map(|id| RegionPlan::new(id).host(HostPlan::of_slots(1)));
    let plan = Plan::simulated(regions.to_vec()).patient().alerting_at(&receiver.url());
    let mut federation = Federation::start(plan).await;
    federation.have_run().await;
    federation.healthy().await;
    assert!(said(&receiver).is_empty(), "nothing stands");
    federation.lose("two");
    let said_so = until("it is said three times", || async {
        let said = said(&receiver);
        if said.len() >= 3 { Ok(said) } else { Err(said) }
    })
    .await;
    let of = |place: usize| said_so.iter().map(move |it| it[place].as_str());
    let unlike = |place| of(place).collect::<BTreeSet<_>>().len();
    assert_eq!(unlike(0), 1, "the same alert each time: {said_so:?}");
    assert_eq!(unlike(1), said_so.len(), "it ends later each time: {said_so:?}");
    assert!(of(2).all(|event| event == "opened"), "{said_so:?}");
    for process in ["two", "two-h1"] {
        federation.process(process).start();
    }
    until("it is over", || async {
        let [_, _, event] = said(&receiver).pop().unwrap();
        if event == "resolved" { Ok(()) } else { Err(event) }
    })
    .await;
    federation.end();
}

#[test]
fn rules_are_rules_and_fire_when_they_should_and_not_else() {
    let Some(tool) = Promtool::find() else { return };
    let file = |name: &str| {
        workspace().join("deploy/prometheus").join(name).display().to_string()
    };
    for (args, path) in [
        (&["check", "rules"][..], file("rules.yml")),
        (&["check", "config", "--syntax-only"], file("prometheus.yml")),
        (&["test", "rules"], file("rules_test.yml")),
    ] {
        let ran = tool.run(&[args, &[&path]].concat());
        assert!(ran.is_ok(), "{}", ran.unwrap_err());
    }
    // Each alert has a case in which it fires.
    let rules = fs::read_to_string(file("rules.yml")).unwrap();
    let tests = fs::read_to_string(file("rules_test.yml")).unwrap();
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        let case = format!("alertname: {alert}\n        exp_alerts:\n");
        assert!(tests.contains(&case), "no case in which {alert} fires");
    }
}
