//! What Prometheus reads at each daemon's door.

use std::time::Duration;

use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::tls::Identity;
use dwcp_testbed::{
    Ask, Federation, HostPlan, Knock, Plan, RegionPlan, increment, set, until,
};
use dwcp_types::RegionId;

/// The value of a sample, by its whole name with labels.
fn value(text: &str, sample: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(sample))?;
    line.strip_prefix(sample)?.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_reads_the_metrics_of_a_daemon_and_nothing_else() {
    let regions =
        ["one", "two"].map(|id| RegionPlan::new(id).host(HostPlan::of_slots(2)));
    let federation = Federation::start(Plan::simulated(regions.to_vec()).patient()).await;
    let monitor = Identity::Monitor("prometheus".to_owned());
    let hour = Duration::from_hours(1);
    let issued = federation.ca().issue(&monitor, &[], hour, SystemClock::new().now());
    let folder = federation.folder().join("monitor");
    let credentials = issued.unwrap().write(&folder, "monitor").unwrap();
    let server = Identity::Region(RegionId::new("one").unwrap());
    let knock = Knock::new(federation.socket("one"), server, credentials);

    let door = federation.at("one");
    door.place(&Ask::new("vm")).await.unwrap();
    door.write("metrics:vms", &increment(2)).await.unwrap();
    door.write("notes/x", &set("one")).await.unwrap();
    door.place(&Ask::new("never").only_in("one").cpu(8)).await.unwrap_err();

    // What was written arrives in the other region, and is told when it is durable there.
    until("the metrics show what was done", || async {
        let (status, text) = knock.text("/metrics").await.map_err(|e| e.to_string())?;
        assert_eq!(status, 200, "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
        let name = |name: &str| format!("dwcp_federation_{name}");
        let decided = r#"placement_decisions_total{region="one",strategy="hybrid""#;
        let done = r#"state_operations_total{region="one",operation="update""#;
        let expected = [
            (format!(r#"{decided},result="placed"}}"#), 1.0),
            (format!(r#"{decided},result="refused"}}"#), 1.0),
            (r#"placement_latency_ms_count{region="one"}"#.to_owned(), 2.0),
            (format!(r#"{done},level="eventual",status="ok"}}"#), 1.0),
            (format!(r#"{done},level="quorum",status="ok"}}"#), 1.0),
            (r#"state_keys{region="one"}"#.to_owned(), 2.0),
            (r#"state_discarded_writes_total{region="one"}"#.to_owned(), 0.0),
        ];
        for (sample, expected) in expected {
            let found = value(&text, &name(&sample));
            if found != Some(expected) {
                return Err(format!("{sample} is {found:?}: {text}"));
            }
        }
        let positive = [
            "state_size_bytes{region=\"one\"}",
            "state_sync_latency_ms_count{source_region=\"one\",target_region=\"two\"}",
            "state_sent_bytes_total{source_region=\"one\",target_region=\"two\"}",
        ];
        for sample in positive {
            if value(&text, &name(sample)).unwrap_or(0.0) <= 0.0 {
                return Err(format!("no {sample}: {text}"));
            }
        }
        let lag = "replication_lag_seconds{source_region=\"two\",target_region=\"one\"}";
        value(&text, &name(lag)).ok_or_else(|| format!("no {lag}: {text}"))
    })
    .await;

    for path in ["/v1/status", "/v1/vms", "/v1/state/replicas"] {
        let (status, text) = knock.text(path).await.unwrap();
        assert_eq!(status, 403, "{path}: {text}");
    }
    let agent = federation.credentials("one-h1");
    let server = Identity::Region(RegionId::new("one").unwrap());
    let host = Knock::new(federation.socket("one"), server, agent);
    let (status, text) = host.text("/metrics").await.unwrap();
    assert_eq!(status, 403, "{text}");
    federation.end();
}
