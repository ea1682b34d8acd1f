//! `bench state`: replicated state through the API of real daemons, the five regions of T1 on
//! this machine: what each level costs, what a write costs all of them, how far they are behind.
//!
//! Clients and daemons share the machine's cores, so rates are of the whole federation with its
//! clients, not of a daemon. There is no emulated distance here: lag is what the software adds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use dwcp_api::state::{
    Batch, BatchItem, BatchResult, GetReplicas, GetStateKey, KeyParams, PostStateBatch,
    PostStateKey, ReadKey, ReplicaReports, StateLevel, StateUpdate, Text, WriteKey,
};
use dwcp_api::{Client, NoParams};
use dwcp_region::local::Driver;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::engine_etcd::{self, AsPeer};
use super::federation::{self, Federation};
use super::latency::Latencies;
use super::{Measurement, Options};

/// How long each load runs.
const LOAD: Duration = Duration::from_secs(8);
const LOAD_QUICK: Duration = Duration::from_secs(2);
/// Clients at once, spread over the regions.
const CLIENTS: usize = 64;
/// Keys that are written.
const KEYS: u64 = 10_000;
/// Bytes of a value.
const VALUE_LEN: usize = 128;
/// Writes whose way to another region is timed.
const PROBES: u64 = 2_000;
const PROBES_QUICK: u64 = 200;
/// Operations of one batch.
const BATCH: usize = 64;
/// How long the replicas may take to hear each other.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let quick = options.quick;
    let mut measured =
        federation::with(Driver::Simulated, move |federation| run(federation, quick))?;
    let span = if quick { LOAD_QUICK } else { LOAD };
    let runtime = Runtime::new().context("cannot start tokio")?;
    if let Some(etcd) = runtime.block_on(engine_etcd::as_peer(CLIENTS, span))? {
        beside(&mut measured, &etcd);
    }
    Ok(measured)
}

/// Puts etcd's numbers beside ours: those of the level that promises as much, and of the levels
/// that promise less, because that is the choice that a user has.
fn beside(measured: &mut [Measurement], etcd: &AsPeer) {
    for number in measured {
        let value = match number.name.rsplit('.').next() {
            _ if number.name == "state.update.cpu" => etcd.put_cpu_us,
            Some("write") => etcd.puts,
            Some("read") => etcd.gets,
            Some("p50") if number.name.ends_with("write.p50") => etcd.put_p50_ms,
            _ => continue,
        };
        let name = "etcd, three members over TLS, 256 B, the plain call".to_owned();
        number.peer = Some(super::Peer { name, value });
    }
}

async fn run(federation: Federation, quick: bool) -> anyhow::Result<Vec<Measurement>> {
    let load = if quick { LOAD_QUICK } else { LOAD };
    let clients = clients(&federation, CLIENTS)?;
    settle(&clients[0], federation.regions().count()).await?;
    let mut measured = Vec::new();
    for (name, prefix, level) in [
        ("eventual", "cache:", StateLevel::Eventual),
        ("local", "session:", StateLevel::Local),
        ("quorum", "vm:config:", StateLevel::Quorum),
        ("strong", "billing:", StateLevel::Strong),
    ] {
        measured.extend(writes(&clients, (name, prefix, level), load).await?);
        measured.extend(reads(&clients, (name, prefix, level), load).await?);
    }
    measured.extend(batches(&federation, &clients, load).await?);
    measured.extend(lag(&clients, if quick { PROBES_QUICK } else { PROBES }).await?);
    Ok(measured)
}

/// Clients with connections of their own, one region after the other.
fn clients(federation: &Federation, count: usize) -> anyhow::Result<Vec<Client>> {
    let regions: Vec<_> = federation.regions().collect();
    let round = regions.iter().cycle().take(count);
    round.map(|region| federation.client(region)).collect()
}

/// Waits until every replica hears every other.
async fn settle(client: &Client, regions: usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let reports = replicas(client).await?;
        let whole = reports.items.len() == regions;
        let hears = |up: usize| up + 1 == regions;
        let up = reports
            .items
            .iter()
            .all(|item| hears(item.peers.iter().filter(|peer| peer.connected).count()));
        if whole && up {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the replicas do not hear each other");
        sleep(LOOK).await;
    }
}

async fn replicas(client: &Client) -> anyhow::Result<ReplicaReports> {
    client
        .call::<GetReplicas>(&NoParams {}, &())
        .await
        .context("the replicas are not shown")
}

fn set(number: u64) -> WriteKey {
    let mut value = format!("{number:016x}");
    while value.len() < VALUE_LEN {
        value.push_str("0123456789abcdef");
    }
    value.truncate(VALUE_LEN);
    WriteKey::of(StateUpdate::Set { value: Text::Plain(value) })
}

fn read(key: String, level: StateLevel, session: Option<String>) -> ReadKey {
    ReadKey { level: Some(level), session, ..ReadKey::of(key) }
}

/// A key that depends on the number and is used by many.
fn key(prefix: &str, number: u64) -> String {
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    format!("{prefix}{:05}", spread % KEYS)
}

/// What some clients saw in a time.
struct Load {
    latencies: Latencies,
    took: Duration,
}

impl Load {
    fn rate(&self) -> f64 {
        u32::try_from(self.latencies.len()).map_or(0.0, f64::from)
            / self.took.as_secs_f64()
    }
}

/// Runs one question after the other on each client for a time.
async fn load<F, A>(clients: &[Client], time: Duration, ask: F) -> anyhow::Result<Load>
where
    F: Fn(Client, u64) -> A + Clone + Send + 'static,
    A: Future<Output = anyhow::Result<()>> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for client in clients {
        let (client, next, ask) = (client.clone(), Arc::clone(&next), ask.clone());
        tasks.spawn(async move {
            let mut latencies = Latencies::default();
            while started.elapsed() < time {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let asked = Instant::now();
                ask(client.clone(), number).await?;
                latencies.add(asked.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Latencies::default();
    while let Some(one) = tasks.join_next().await {
        latencies.join(one??);
    }
    Ok(Load { latencies, took: started.elapsed() })
}

async fn writes(
    clients: &[Client],
    (name, prefix, _): (&str, &'static str, StateLevel),
    time: Duration,
) -> anyhow::Result<Vec<Measurement>> {
    let write = move |client: Client, number| async move {
        let params = KeyParams { key: key(prefix, number) };
        client.call::<PostStateKey>(&params, &set(number)).await?;
        anyhow::Ok(())
    };
    let method =
        format!("{VALUE_LEN} B values of {KEYS} keys, durable, five regions over TLS");
    let mut alone = load(&clients[..1], time, write).await?;
    let mut many = load(clients, time, write).await?;
    Ok(vec![
        one(
            &format!("{name}.write.p50"),
            alone.latencies.percentile_ms(50),
            "ms",
            format!("1 client, {method}"),
        ),
        one(
            &format!("{name}.write"),
            many.rate(),
            "1/s",
            format!("{CLIENTS} clients, {method}"),
        ),
        one(
            &format!("{name}.write.p99"),
            many.latencies.percentile_ms(99),
            "ms",
            format!("{CLIENTS} clients, {method}"),
        ),
    ])
}

async fn reads(
    clients: &[Client],
    (name, prefix, level): (&str, &'static str, StateLevel),
    time: Duration,
) -> anyhow::Result<Vec<Measurement>> {
    let ask = move |client: Client, number| async move {
        client.call::<GetStateKey>(&read(key(prefix, number), level, None), &()).await?;
        anyhow::Ok(())
    };
    let mut many = load(clients, time, ask).await?;
    let method = format!("{CLIENTS} clients of five regions over TLS");
    Ok(vec![
        one(&format!("{name}.read"), many.rate(), "1/s", method.clone()),
        one(&format!("{name}.read.p50"), many.latencies.percentile_ms(50), "ms", method),
    ])
}

/// Writes in batches, and what they cost the whole federation.
async fn batches(
    federation: &Federation,
    clients: &[Client],
    time: Duration,
) -> anyhow::Result<Vec<Measurement>> {
    let cpu = |usage: Vec<(String, super::usage::Usage)>| -> f64 {
        let daemons = usage.iter().filter(|(name, _)| name.starts_with("dwcpd"));
        daemons.map(|(_, usage)| usage.cpu_s).sum()
    };
    let sent = |reports: &ReplicaReports| -> u64 {
        reports
            .items
            .iter()
            .flat_map(|item| &item.peers)
            .map(|peer| peer.sent_bytes)
            .sum()
    };
    let (cpu_before, sent_before) =
        (cpu(federation.usage()?), sent(&replicas(&clients[0]).await?));
    let ask = move |client: Client, number: u64| async move {
        let first = number * u64::try_from(BATCH)?;
        let items = (first..).take(BATCH).map(|number| BatchItem::Write {
            key: key("cache:", number),
            write: set(number),
        });
        let batch = Batch { items: items.collect() };
        let reply = client.call::<PostStateBatch>(&NoParams {}, &batch).await?;
        let written = |item: &&BatchResult| matches!(item, BatchResult::Written(_));
        let other = reply.items.iter().find(|item| !written(item));
        ensure!(other.is_none(), "a write of the batch failed: {other:?}");
        Ok(())
    };
    let clients = &clients[..10];
    let done = load(clients, time, ask).await?;
    let per_batch = f64::from(u32::try_from(BATCH)?);
    let writes = f64::from(u32::try_from(done.latencies.len())?) * per_batch;
    until_equal(&clients[0]).await?;
    let cpu = cpu(federation.usage()?) - cpu_before;
    let sent = sent(&replicas(&clients[0]).await?) - sent_before;
    let peers = federation.regions().count().saturating_sub(1);
    let copies = writes * f64::from(u32::try_from(peers)?);
    let method = format!(
        "{} clients, batches of {BATCH} eventual writes of {VALUE_LEN} B, replicated to all five \
         regions",
        clients.len()
    );
    Ok(vec![
        one("eventual.write.batched", done.rate() * per_batch, "1/s", method.clone()),
        one(
            "update.cpu",
            cpu * 1e6 / writes,
            "us",
            format!("{method}; CPU of all daemons"),
        ),
        one(
            "update.bytes",
            f64::from(u32::try_from(sent / 1_000)?) * 1e3 / copies,
            "B",
            format!("{method}; stream bytes for each remote replica, after compression"),
        ),
    ])
}

/// Waits until all replicas hold the same.
async fn until_equal(client: &Client) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let reports = replicas(client).await?;
        let first = reports.items.first().map(|item| &item.digest);
        if reports.items.iter().all(|item| Some(&item.digest) == first) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the replicas do not become equal");
        sleep(LOOK).await;
    }
}

/// How long after its acknowledgement a write is read in another region, by a session.
async fn lag(clients: &[Client], probes: u64) -> anyhow::Result<Vec<Measurement>> {
    let (here, there) = (&clients[0], &clients[1]);
    let mut latencies = Latencies::default();
    for number in 0..probes {
        let key = key("cache:", number);
        let params = KeyParams { key: key.clone() };
        let written = here.call::<PostStateKey>(&params, &set(number)).await?;
        let acknowledged = Instant::now();
        let ask = read(key, StateLevel::Eventual, Some(written.session));
        there.call::<GetStateKey>(&ask, &()).await?;
        latencies.add(acknowledged.elapsed());
    }
    let method = format!(
        "{probes} writes, one after the other: from the acknowledgement in one region to the \
         session's read in another, with the read's own way over the API"
    );
    Ok(vec![
        one("lag.p50", latencies.percentile_ms(50), "ms", method.clone()),
        one("lag.p99", latencies.percentile_ms(99), "ms", method),
    ])
}

fn one(name: &str, value: f64, unit: &'static str, method: String) -> Measurement {
    Measurement { name: format!("state.{name}"), value, unit, method, peer: None }
}
