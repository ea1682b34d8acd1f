//! A real Prometheus reads real daemons; alerts and dashboards ask it for what is there.

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

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_an_alert_of_an_alertmanager_until_it_is_over() {
    let nobody = Receiver::start(Answers::Status(200)).await;
    let folder = tempfile::TempDir::new().unwrap();
    let started = Alertmanager::start(folder.path(), &nobody.url());
    let Some(alertmanager) = started else { return };
    let regions = ["one", "two", "three"];
    let regions = regions.map(|id| RegionPlan::new(id).host(HostPlan::of_slots(1)));
    let plan = Plan::simulated(regions.to_vec()).alerting(&alertmanager);
    let mut federation = Federation::start(plan).await;
    federation.healthy().await;
    let stands = |wanted: usize| {
        let alertmanager = &alertmanager;
        async move {
            until(&format!("{wanted} alerts stand"), || async {
                let alerts = alertmanager.alerts()?;
                if alerts.len() == wanted {
                    Ok(alerts)
                } else {
                    Err(format!("{alerts:?}"))
                }
            })
            .await
        }
    };
    federation.lose("two");
    let alerts = stands(1).await;
    let labels = &alerts[0];
    assert_eq!((&labels["region"], &labels["cause"]), (&"two".into(), &"silent".into()));
    assert_eq!(labels["severity"], "critical");
    assert!(labels["incident"].as_str().unwrap().starts_with("INC-"), "{labels}");
    for process in ["two", "two-h1"] {
        federation.process(process).start();
    }
    stands(0).await;
    drop(alertmanager);
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
