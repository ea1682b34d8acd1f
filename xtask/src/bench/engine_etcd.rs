//! The etcd part of `bench engine`: what the adapter costs beside etcd's own calls.
//!
//! Three members with TLS on this machine, and the same client underneath for both, so that
//! what differs is only the adapter: comparisons, operation ids, the reading of answers. Each
//! client waits for its answer before it asks again. Raw and ours take turns, load by load.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::strong::etcd::Raw;
use dwcp_runtime::strong::{
    Compare, EtcdEngine, Op, OpId, StrongEngine, Txn, TxnOutcome,
};
use dwcp_testbed::EtcdCluster;

use super::latency::Latencies;
use super::usage::Usage;
use super::{Measurement, Peer};

/// How many clients ask at once.
const CLIENTS: [usize; 4] = [1, 16, 64, 256];
/// Bytes of each value: an ownership record in JSON.
const VALUE_LEN: usize = 256;
/// Members of the cluster.
const MEMBERS: u16 = 3;
/// Members of the example federation, watched at rest.
const MEMBERS_AT_REST: u16 = 5;
/// Longer watched than loaded: at rest hardly a tick of the kernel's clock is used in a second.
const REST_FACTOR: u32 = 10;

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Work {
    RawPut,
    /// Takes over a record if it is unchanged.
    Put,
    /// The same under an operation id.
    PutOnce,
    RawGet,
    Get,
}

/// Measures etcd where it is installed; nothing where it is not, and the reason is printed.
pub(super) async fn measure(span: Duration) -> Result<Vec<Measurement>> {
    let Some(cluster) = EtcdCluster::start(MEMBERS).await else { return Ok(Vec::new()) };
    let bench = Bench {
        engine: Arc::new(cluster.engine_on_all()),
        raw: Arc::new(cluster.raw(&[0, 1, 2])),
        clock: SystemClock::new(),
        span,
    };
    let mut measured = Vec::new();
    for clients in CLIENTS {
        let raw = bench.load(Work::RawPut, clients).await?;
        let put = bench.load(Work::Put, clients).await?;
        let once = bench.load(Work::PutOnce, clients).await?;
        let raw_get = bench.load(Work::RawGet, clients).await?;
        let get = bench.load(Work::Get, clients).await?;
        let mut show = |what, how, ours: &Load, raw: &Load| {
            let method = format!(
                "{MEMBERS} members with TLS, {clients} closed-loop clients, {how}, {span:?}"
            );
            measured.extend(beside(
                &format!("engine.etcd.{clients}.{what}"),
                &method,
                ours,
                raw,
            ));
        };
        let size = format!("{VALUE_LEN} B");
        show("put", format!("compare-and-set of {size}"), &put, &raw);
        show("put-once", format!("the same under an operation id, {size}"), &once, &raw);
        show("get", format!("linearizable read of {size}"), &get, &raw_get);
    }
    drop(bench);
    drop(cluster);
    measured.extend(at_rest(span * REST_FACTOR).await?);
    Ok(measured)
}

/// What plain etcd makes of the question that `bench state` asks: one key, one value, durable
/// on a majority of members.
pub(super) struct AsPeer {
    /// Milliseconds of a put by one client, the median.
    pub(super) put_p50_ms: f64,
    /// Puts and linearizable gets a second by many clients.
    pub(super) puts: f64,
    pub(super) gets: f64,
    /// Microseconds of CPU of all members for each of these puts.
    pub(super) put_cpu_us: f64,
}

/// Measures etcd as a peer; nothing where it is not installed, and the reason is printed.
pub(super) async fn as_peer(clients: usize, span: Duration) -> Result<Option<AsPeer>> {
    let Some(mut cluster) = EtcdCluster::start(MEMBERS).await else { return Ok(None) };
    let pids = pids(&mut cluster, MEMBERS)?;
    let bench = Bench {
        engine: Arc::new(cluster.engine_on_all()),
        raw: Arc::new(cluster.raw(&[0, 1, 2])),
        clock: SystemClock::new(),
        span,
    };
    let alone = bench.load(Work::RawPut, 1).await?;
    let before = total(&pids)?.cpu_s;
    let puts = bench.load(Work::RawPut, clients).await?;
    let cpu_s = total(&pids)?.cpu_s - before;
    let gets = bench.load(Work::RawGet, clients).await?;
    Ok(Some(AsPeer {
        put_p50_ms: alone.p50_ms,
        puts: puts.rate,
        gets: gets.rate,
        put_cpu_us: cpu_s * 1e6 / (puts.rate * span.as_secs_f64()),
    }))
}

fn pids(cluster: &mut EtcdCluster, members: u16) -> Result<Vec<i32>> {
    (0..usize::from(members))
        .map(|member| Ok(i32::try_from(cluster.process(member).pid())?))
        .collect()
}

/// What members cost that nobody asks: heartbeats between them, and what they do by the clock.
async fn at_rest(span: Duration) -> Result<Vec<Measurement>> {
    let Some(mut cluster) = EtcdCluster::start(MEMBERS_AT_REST).await else {
        return Ok(Vec::new());
    };
    let pids = pids(&mut cluster, MEMBERS_AT_REST)?;
    let before = total(&pids)?;
    tokio::time::sleep(span).await;
    let after = total(&pids)?;
    let measurement = |what: &str, unit, value| Measurement {
        name: format!("engine.etcd.rest.{what}"),
        value,
        unit,
        method: format!("{MEMBERS_AT_REST} members together, asked by nobody, {span:?}"),
        peer: None,
    };
    let cpu = (after.cpu_s - before.cpu_s) / span.as_secs_f64() * 100.0;
    Ok(vec![
        measurement("cpu", "% of a core", cpu),
        measurement("memory", "MiB", after.resident_mib),
    ])
}

fn total(pids: &[i32]) -> Result<Usage> {
    let mut total = Usage::default();
    for pid in pids {
        let of = Usage::of(*pid)?;
        total.cpu_s += of.cpu_s;
        total.resident_mib += of.resident_mib;
    }
    Ok(total)
}

/// Three numbers of ours, each with the same of raw etcd.
fn beside(name: &str, method: &str, ours: &Load, raw: &Load) -> Vec<Measurement> {
    let numbers = [
        ("rate", "1/s", ours.rate, raw.rate),
        ("p50", "ms", ours.p50_ms, raw.p50_ms),
        ("p99", "ms", ours.p99_ms, raw.p99_ms),
    ];
    let measurement = |(what, unit, value, peer)| Measurement {
        name: format!("{name}.{what}"),
        value,
        unit,
        method: method.to_owned(),
        peer: Some(Peer {
            name: "the plain call of etcd by the same client".to_owned(),
            value: peer,
        }),
    };
    numbers.into_iter().map(measurement).collect()
}

/// What one load came to.
struct Load {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
}

struct Bench {
    engine: Arc<EtcdEngine>,
    raw: Arc<Raw>,
    clock: SystemClock,
    span: Duration,
}

impl Bench {
    async fn load(&self, work: Work, clients: usize) -> Result<Load> {
        let end = self.clock.monotonic() + self.span;
        let tasks: Vec<_> = (0..clients)
            .map(|client| {
                let client = Client {
                    engine: self.engine.clone(),
                    raw: self.raw.clone(),
                    clock: self.clock,
                    key: format!("vm/{client:06}"),
                    mod_revision: 0,
                };
                tokio::spawn(client.run(work, end))
            })
            .collect();
        let mut all = Latencies::default();
        for task in tasks {
            all.join(task.await??);
        }
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        Ok(Load {
            rate: f64::from(count) / self.span.as_secs_f64(),
            p50_ms: all.percentile_ms(50),
            p99_ms: all.percentile_ms(99),
        })
    }
}

struct Client {
    engine: Arc<EtcdEngine>,
    raw: Arc<Raw>,
    clock: SystemClock,
    key: String,
    mod_revision: u64,
}

impl Client {
    async fn run(mut self, work: Work, end: Duration) -> Result<Latencies> {
        let record = self.engine.get(&self.key).await?;
        self.mod_revision = record.map_or(0, |record| record.mod_revision);
        let mut latencies = Latencies::default();
        while self.clock.monotonic() < end {
            let start = self.clock.monotonic();
            self.step(work).await?;
            latencies.add(self.clock.monotonic() - start);
        }
        Ok(latencies)
    }

    async fn step(&mut self, work: Work) -> Result<()> {
        match work {
            Work::RawPut => {
                let put = self.raw.put(self.raw_key(), value());
                put.await.map_err(|reason| anyhow!(reason))
            }
            Work::RawGet => {
                let get = self.raw.get(self.raw_key());
                get.await.map(drop).map_err(|reason| anyhow!(reason))
            }
            Work::Get => Ok(self.engine.get(&self.key).await.map(drop)?),
            Work::Put => self.put(None).await,
            Work::PutOnce => self.put(Some(OpId::random())).await,
        }
    }

    fn raw_key(&self) -> Bytes {
        format!("raw/{}", self.key).into()
    }

    async fn put(&mut self, op_id: Option<OpId>) -> Result<()> {
        let compare =
            Compare::Revision { key: self.key.clone(), mod_revision: self.mod_revision };
        let txn = Txn {
            compare: vec![compare],
            then: vec![Op::put(self.key.clone(), value())],
            op_id,
        };
        match self.engine.txn(txn).await? {
            TxnOutcome::Committed { revision } => self.mod_revision = revision,
            TxnOutcome::Conflict { .. } => bail!("{} was changed by another", self.key),
        }
        Ok(())
    }
}

fn value() -> Bytes {
    Bytes::from_static(&[b'x'; VALUE_LEN])
}
