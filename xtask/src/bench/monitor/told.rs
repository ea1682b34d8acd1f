//! From the loss of a region's daemon until a receiver was told, by the federation itself and, in
//! the same losses, by a Prometheus with an Alertmanager that are tuned to be quick.
//!
//! Real daemons on etcd. Each region but the first is lost in turn, so that in some rounds it is
//! the one on duty that dies. Then from a service level that is broken, and stays so, until a
//! receiver was told: it is promised in that moment, of what is measured already.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use dwcp_api::NoParams;
use dwcp_api::monitoring::{IncidentFilter, ListIncidents};
use dwcp_api::sla::{CreateSla, NewSla};
use dwcp_monitor::Metric;
use dwcp_monitor::incident::{Category, Cause, Change, Message, Severity};
use dwcp_monitor::sla::Operator;
use dwcp_testbed::{
    Alertmanager, Answers, Federation, HostPlan, Plan, Prometheus, Receiver, RegionPlan,
    etcd_program,
};
use dwcp_types::RegionId;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::super::latency::Latencies;
use super::super::scratch::Scratch;
use super::super::{Measurement, Peer};

const REGIONS: [&str; 5] = ["one", "two", "three", "four", "five"];
/// Losses that are timed; each region that may be lost comes as often.
const LOSSES: usize = 20;
const LOSSES_QUICK: usize = 4;
/// Service levels that are broken, one after another.
const BREACHES: usize = 10;
const BREACHES_QUICK: usize = 2;
/// How often levels are looked at: the 5 s of the promise (M13, three looks).
const LOOKED_AT_EVERY_S: u64 = 5;
/// How often receivers are looked at: the error of every time.
const LOOK: Duration = Duration::from_millis(5);
/// When somebody who tells nothing is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// The peer's rule: the quickest that a Prometheus can be with a scrape each second.
const RULE: &str = r#"{"groups":[{"name":"quick","interval":"1s","rules":[{"alert":"RegionSilent",
"expr":"max by (region) (dwcp_federation_region_enabled) == 1 unless on (region) dwcp_federation_region_health_score"}]}]}"#;

/// Measures.
pub(super) fn measure(quick: bool) -> anyhow::Result<Vec<Measurement>> {
    crate::programs::build()?;
    ensure!(etcd_program().is_some(), "etcd is missing: run `./dwcp test` once");
    let runtime = tokio::runtime::Runtime::new().context("cannot start tokio")?;
    runtime.block_on(if quick {
        run(LOSSES_QUICK, BREACHES_QUICK)
    } else {
        run(LOSSES, BREACHES)
    })
}

async fn run(losses: usize, breaches: usize) -> anyhow::Result<Vec<Measurement>> {
    let (ours, theirs) = (
        Receiver::start(Answers::Status(204)).await,
        Receiver::start(Answers::Status(200)).await,
    );
    let scratch = Scratch::new("told")?;
    let folder = std::fs::canonicalize(scratch.path())?;
    let secret = folder.join("secret");
    std::fs::write(&secret, "a secret of the benchmark")?;
    let rules = folder.join("rules.yml");
    std::fs::write(&rules, RULE)?;
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(2));
    let plan = Plan::simulated(REGIONS.map(region).to_vec()).on_etcd();
    let plan = plan.looked_at_every(LOOKED_AT_EVERY_S);
    let mut federation = Federation::start(plan.telling(&ours.url(), &secret)).await;
    federation.healthy().await;
    let alertmanager = Alertmanager::start(&folder, &theirs.url());
    let prometheus = match &alertmanager {
        Some(told) => Prometheus::start_by(&federation, &rules, Some(told)).await,
        None => None,
    };
    let mut seen = Seen::default();
    for round in 0..losses {
        let lost = REGIONS[1 + round % (REGIONS.len() - 1)];
        one_loss(
            &mut federation,
            lost,
            (&ours, &theirs, prometheus.is_some()),
            &mut seen,
        )
        .await
        .with_context(|| format!("loss {round}, of {lost}"))?;
    }
    drop((prometheus, alertmanager));
    for number in 0..breaches {
        seen.breaches.add(one_breach(&federation, number, &ours).await?);
    }
    federation.end();
    Ok(seen.told(losses))
}

/// Loses one, waits until everybody was told, and until it is over.
async fn one_loss(
    federation: &mut Federation,
    lost: &str,
    (ours, theirs, has_peer): (&Receiver, &Receiver, bool),
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let door = federation.at(REGIONS[0]);
    let all = IncidentFilter::default();
    let list = door.call::<ListIncidents>(&all, &()).await;
    let on_duty = list.map_err(|error| anyhow::anyhow!("{error}"))?.evaluated_by;
    let was_on_duty = on_duty.is_some_and(|it| it.as_str() == lost);
    let (told, alerted) = (opened(ours, lost), fired(theirs, lost));
    let start = Instant::now();
    federation.process(lost).kill_9();
    let by_us = more(|| opened(ours, lost), told, start);
    let by_them = async {
        if has_peer {
            more(|| fired(theirs, lost), alerted, start).await.map(Some)
        } else {
            Ok(None)
        }
    };
    let (by_us, by_them) = tokio::join!(by_us, by_them);
    let kept = if was_on_duty { &mut seen.on_duty } else { &mut seen.others };
    let by_us = by_us.context("the federation told nobody")?;
    kept.add(by_us);
    seen.all.add(by_us);
    if let Some(by_them) = by_them.context("Alertmanager told nobody")? {
        seen.peer.add(by_them);
    }
    let closed = resolved(ours, lost);
    federation.process(lost).start();
    more(|| resolved(ours, lost), closed, Instant::now())
        .await
        .context("it is not over")?;
    federation.healthy().await;
    Ok(())
}

/// Promises what is not so, and waits until somebody was told.
async fn one_breach(
    federation: &Federation,
    number: usize,
    ours: &Receiver,
) -> anyhow::Result<Duration> {
    let id = format!("throughput-{number}");
    let region = RegionId::new(REGIONS[1])?;
    let new = NewSla {
        id: Some(id.clone()),
        name: "a million requests a second".to_owned(),
        metric: Metric::Throughput,
        target_milli: 1_000_000_000,
        operator: Operator::GreaterThan,
        compliance_ppm: 999_000,
        severity: Severity::High,
        window_s: 10,
        period_s: 600,
        region: Some(region),
    };
    let cause = Cause::Sla { sla: id };
    let start = Instant::now();
    let made = federation.at(REGIONS[0]).call::<CreateSla>(&NoParams {}, &new).await;
    made.map_err(|error| anyhow::anyhow!("{error}"))?;
    let told = || {
        let all = ours.received();
        let read = |body: &[u8]| serde_json::from_slice::<Message>(body).ok();
        let all = all.iter().filter_map(|it| read(&it.body));
        all.filter(|it| it.incident.cause == cause).count()
    };
    more(told, 0, start).await.context("nobody was told of a broken service level")
}

/// How long until there are more than there were.
async fn more(
    count: impl Fn() -> usize,
    before: usize,
    start: Instant,
) -> anyhow::Result<Duration> {
    let waited = async {
        while count() <= before {
            sleep(LOOK).await;
        }
        start.elapsed()
    };
    timeout(PATIENCE, waited).await.context("within two minutes")
}

fn messages(receiver: &Receiver, lost: &str, wanted: &[Change]) -> usize {
    let read = |body: &[u8]| serde_json::from_slice::<Message>(body).ok();
    let all = receiver.received().into_iter().filter_map(|it| read(&it.body));
    let about = |it: &Message| {
        let region = it.incident.region.as_ref().map(ToString::to_string);
        region.as_deref() == Some(lost)
            && it.incident.category == Category::Availability
            && wanted.contains(&it.event)
    };
    all.filter(about).count()
}

fn opened(receiver: &Receiver, lost: &str) -> usize {
    messages(receiver, lost, &[Change::Opened, Change::Reopened])
}

fn resolved(receiver: &Receiver, lost: &str) -> usize {
    messages(receiver, lost, &[Change::Resolved])
}

/// What Alertmanager told.
fn fired(receiver: &Receiver, lost: &str) -> usize {
    let read = |body: &[u8]| serde_json::from_slice::<Value>(body).ok();
    let all = receiver.received().into_iter().filter_map(|it| read(&it.body));
    let alerts = all.flat_map(|it| it["alerts"].as_array().cloned().unwrap_or_default());
    let about = |alert: &Value| {
        alert["status"] == "firing" && alert["labels"]["region"].as_str() == Some(lost)
    };
    // An alert that still fires is told again: each by when it began.
    let begun: BTreeSet<String> =
        alerts.filter(about).map(|it| it["startsAt"].to_string()).collect();
    begun.len()
}

/// Times of all losses.
#[derive(Default)]
struct Seen {
    all: Latencies,
    others: Latencies,
    on_duty: Latencies,
    peer: Latencies,
    breaches: Latencies,
}

impl Seen {
    fn told(mut self, losses: usize) -> Vec<Measurement> {
        let of = |what: &str, count: usize| {
            format!(
                "{what}: {count} of {losses} losses of a region's daemon (kill -9), five regions \
                 of real daemons on etcd on this machine, receivers looked at every {} ms",
                LOOK.as_millis()
            )
        };
        let has_peer = self.peer.len() > 0;
        let mut peer = |percent| {
            let value = self.peer.percentile_ms(percent) / 1e3;
            let name = "Prometheus with a scrape and a rule each second, no `for`, and \
                        Alertmanager without `group_wait`";
            has_peer.then(|| Peer { name: name.to_owned(), value })
        };
        let peers = [50, 99, 100].map(&mut peer);
        let name = |name: &str| format!("monitor.fault_to_webhook.{name}");
        let all = "from the loss until a receiver was told";
        let mut measured = Vec::new();
        for ((percent, short), peer) in
            [(50, "p50"), (99, "p99"), (100, "max")].into_iter().zip(peers)
        {
            measured.push(Measurement {
                name: name(short),
                value: self.all.percentile_ms(percent) / 1e3,
                unit: "s",
                method: of(all, self.all.len()),
                peer,
            });
        }
        for (short, kept, what) in [
            ("another_max", &mut self.others, "the same where another region is on duty"),
            ("on_duty_max", &mut self.on_duty, "the same where the daemon on duty dies"),
        ] {
            measured.push(Measurement {
                name: name(short),
                value: kept.percentile_ms(100) / 1e3,
                unit: "s",
                method: of(what, kept.len()),
                peer: None,
            });
        }
        for (short, percent) in [("p50", 50), ("max", 100)] {
            measured.push(Measurement {
                name: format!("monitor.breach_to_webhook.{short}"),
                value: self.breaches.percentile_ms(percent) / 1e3,
                unit: "s",
                method: format!(
                    "from a service level that is broken in the moment in which it is promised \
                     until a receiver was told; {} of them, looked at each {LOOKED_AT_EVERY_S} s, \
                     three times",
                    self.breaches.len()
                ),
                peer: None,
            });
        }
        measured
    }
}
