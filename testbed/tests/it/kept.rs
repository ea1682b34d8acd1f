//! The history of a daemon that is started anew: what was written is there, what peers still have
//! is heard, a file that is broken is a gap, and the daemon goes on.

use std::path::PathBuf;

use dwcp_api::measured::{GetHistory, HistoryParams, HistoryPoint};
use dwcp_monitor::Metric;
use dwcp_runtime::tls::Identity;
use dwcp_testbed::{Door, Federation, HostPlan, Knock, Plan, RegionPlan, until};
use dwcp_types::{RegionId, Timestamp};
use serde_json::json;

const REGIONS: [&str; 3] = ["one", "two", "three"];

fn id(region: &str) -> RegionId {
    RegionId::new(region).unwrap()
}

/// With a service level, so that regions are looked at each second and written down each six.
fn plan() -> Plan {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(2));
    let sla = json!({
        "id": "heard", "region": "three", "metric": "availability", "target": 99.9,
        "operator": "greater_than", "compliance": 90, "window": "10s", "period": "10m",
    });
    Plan::simulated(REGIONS.map(region).to_vec()).promising(vec![sla])
}

async fn chart(
    door: &Door,
    metric: Metric,
    range_s: u64,
) -> Result<Vec<HistoryPoint>, String> {
    let asked = HistoryParams { metric, region: id("three"), range_s: Some(range_s) };
    let reply = door.call::<GetHistory>(&asked, &()).await;
    Ok(reply.map_err(|error| error.to_string())?.points)
}

fn known(points: &[HistoryPoint]) -> Vec<(Timestamp, u64)> {
    points.iter().filter_map(|it| Some((it.at, it.value_milli?))).collect()
}

/// The files of the finest step of a region, at a daemon.
fn files(federation: &Federation, at: &str) -> Vec<PathBuf> {
    let folder = federation.data(at).join("history").join("three");
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let fine = paths
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("10s"));
    let mut fine: Vec<_> = fine.collect();
    fine.sort();
    fine
}

fn written(federation: &Federation, at: &str) -> u64 {
    let files = files(federation, at);
    files.iter().map(|path| std::fs::metadata(path).unwrap().len()).sum()
}

/// Waits until more of three's history is written at a daemon than now.
async fn is_written(federation: &Federation, at: &str) {
    let before = written(federation, at);
    until("the history is written", || async {
        let now = written(federation, at);
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_started_anew_has_the_history_of_before() {
    let mut federation = Federation::start(plan()).await;
    federation.healthy().await;
    let door = federation.at("two");
    // Two places of ten seconds at least, and the first of them written.
    let before = until("some of it is measured", || async {
        let known = known(&chart(&door, Metric::HostsAnswering, 600).await?);
        if known.len() >= 2 { Ok(known) } else { Err(format!("{known:?}")) }
    })
    .await;
    is_written(&federation, "two").await;

    // Without warning: all but the last seconds is there, and peers tell what was made meanwhile.
    federation.process("two").kill_9();
    federation.process("two").start();
    let after = until("its history has what was before", || async {
        let points = chart(&door, Metric::HostsAnswering, 600).await?;
        let all = known(&points);
        let newest = all.last().map(|it| it.0);
        match newest {
            // Whatever was made since was heard.
            Some(newest) if newest > before[1].0 => Ok(points),
            Some(_) | None => Err(format!("{all:?}")),
        }
    })
    .await;
    let first = after.iter().position(|it| it.at == before[0].0).unwrap();
    assert_eq!(after[first].value_milli, Some(before[0].1));
    let last = after.iter().rposition(|it| it.value_milli.is_some()).unwrap();
    let gaps = after[first..=last].iter().filter(|it| it.value_milli.is_none());
    assert_eq!(gaps.count(), 0, "{after:?}");
    let looks = known(&chart(&door, Metric::Availability, 600).await.unwrap());
    assert!(looks.iter().any(|it| it.0 <= before[1].0), "its own looks too: {looks:?}");
    let wide = known(&chart(&door, Metric::HostsAnswering, 24 * 3_600).await.unwrap());
    assert!(wide[0].0 <= before[0].0, "by the minute: {wide:?}");

    // Asked to end, it writes what is not written yet.
    let before = known(&chart(&door, Metric::Availability, 600).await.unwrap());
    federation.process("two").ask_to_end();
    federation.process("two").ended().await;
    federation.process("two").forget_ended();
    federation.process("two").start();
    let after = until("it answers again", || async {
        chart(&door, Metric::Availability, 600).await
    })
    .await;
    let newest = before.last().unwrap().0;
    assert!(known(&after).iter().any(|it| it.0 == newest), "{before:?} {after:?}");
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_broken_is_a_gap_that_is_counted_and_the_daemon_goes_on() {
    let mut federation = Federation::start(plan()).await;
    federation.healthy().await;
    is_written(&federation, "two").await;
    is_written(&federation, "two").await;
    federation.process("two").kill_9();
    for file in files(&federation, "two") {
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[3] ^= 0x40;
        std::fs::write(&file, bytes).unwrap();
    }
    federation.process("two").start();
    let door = federation.at("two");
    until("it measures on", || async {
        let known = known(&chart(&door, Metric::Availability, 600).await?);
        if known.is_empty() { Err("nothing".to_owned()) } else { Ok(()) }
    })
    .await;
    let server = Identity::Region(id("two"));
    let knock = Knock::new(federation.socket("two"), server, federation.admin());
    let (_, text) = knock.text("/metrics").await.unwrap();
    let sample = "dwcp_federation_history_segments_in_trouble_total{region=\"two\",\
                  trouble=\"damaged\"}";
    assert!(text.lines().any(|line| line.starts_with(sample)), "{text}");
    let log = federation.process("two").log();
    assert!(log.contains("a segment of the history is damaged"), "{log}");
    // What it writes now is behind what is sound, and comes back.
    is_written(&federation, "two").await;
    let before = known(&chart(&door, Metric::Availability, 600).await.unwrap());
    federation.process("two").kill_9();
    federation.process("two").start();
    until("what was written since is there", || async {
        let after = known(&chart(&door, Metric::Availability, 600).await?);
        let is_there = after.first().is_some_and(|it| it.0 <= before[0].0);
        if is_there { Ok(()) } else { Err(format!("{before:?} {after:?}")) }
    })
    .await;
    federation.end();
}
