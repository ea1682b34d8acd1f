//! `bench engine`: durable transactions of the strong engine, embedded and on etcd.
//!
//! Each client waits for its answer before it asks again. Latency is what the client sees,
//! from asking to durable. Beside it stands the disk's own floor, small overwrites of a file
//! of fixed size with `fdatasync` after each, taken before and after the load: one client
//! waits for at least one such sync. When the two floors differ, or lie above the engine's
//! median, the machine was not the same for both and the latencies are not to be quoted.

use std::fs::OpenOptions;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::strong::{Compare, EmbeddedEngine, Op, StrongEngine, Txn, TxnOutcome};

use super::scratch::Scratch;
use super::{Measurement, Options};

/// How many clients ask at once.
const CLIENTS: [usize; 3] = [1, 16, 256];
/// Bytes of each value: an ownership record in JSON.
const VALUE_LEN: usize = 256;

/// Size of the file that the floor overwrites.
const FLOOR_LEN: usize = 16 << 20;

/// Measures the engine with few and many clients.
pub(crate) fn run(options: &Options) -> Result<Vec<Measurement>> {
    let span = Duration::from_secs(if options.quick { 1 } else { 5 });
    let directory = Scratch::new("engine")?;
    let clock = SystemClock::new();
    let mut measured = vec![floor(directory.path(), clock, span, "before")?];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for clients in CLIENTS {
        let path = directory.path().join(format!("{clients}.redb"));
        let latencies = runtime.block_on(load(&path, clock, clients, span))?;
        measured.extend(summary(&latencies, clients, span));
    }
    measured.push(floor(directory.path(), clock, span, "after")?);
    let span = Duration::from_secs(if options.quick { 1 } else { 3 });
    measured.extend(runtime.block_on(super::engine_etcd::measure(span))?);
    Ok(measured)
}

/// The disk alone.
fn floor(
    directory: &Path,
    clock: SystemClock,
    span: Duration,
    when: &str,
) -> Result<Measurement> {
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(directory.join(format!("floor-{when}")))?;
    file.write_all(&vec![1; FLOOR_LEN])?;
    file.sync_all()?;
    file.rewind()?;
    let block = [7; 4_096];
    let mut at = 0;
    let mut latencies = Vec::new();
    let end = clock.monotonic() + span;
    while clock.monotonic() < end {
        let start = clock.monotonic();
        if at == FLOOR_LEN {
            file.rewind()?;
            at = 0;
        }
        file.write_all(&block)?;
        at += block.len();
        file.sync_data()?;
        latencies.push(clock.monotonic() - start);
    }
    latencies.sort_unstable();
    Ok(Measurement {
        name: format!("engine.floor.{when}.p50"),
        value: micros(percentile(&latencies, 50)),
        unit: "us",
        method: format!("4 KiB overwrite + fdatasync, one after another, {span:?}"),
        peer: None,
    })
}

/// Runs closed-loop clients for a while; returns what each transaction took.
async fn load(
    path: &Path,
    clock: SystemClock,
    clients: usize,
    span: Duration,
) -> Result<Vec<Duration>> {
    let engine = Arc::new(EmbeddedEngine::open(path, Arc::new(clock))?);
    let end = clock.monotonic() + span;
    let tasks: Vec<_> = (0..clients)
        .map(|client| tokio::spawn(closed_loop(Arc::clone(&engine), clock, client, end)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// Takes over one record again and again, each time only if it is unchanged.
async fn closed_loop(
    engine: Arc<EmbeddedEngine>,
    clock: SystemClock,
    client: usize,
    end: Duration,
) -> Result<Vec<Duration>> {
    let key = format!("vm/{client:06}");
    let mut mod_revision = 0;
    let mut latencies = Vec::new();
    while clock.monotonic() < end {
        let txn = Txn {
            compare: vec![Compare::Revision { key: key.clone(), mod_revision }],
            then: vec![Op::put(key.clone(), vec![b'x'; VALUE_LEN])],
            op_id: None,
        };
        let start = clock.monotonic();
        match engine.txn(txn).await? {
            TxnOutcome::Committed { revision } => mod_revision = revision,
            TxnOutcome::Conflict { .. } => anyhow::bail!("{key} was changed by another"),
        }
        latencies.push(clock.monotonic() - start);
    }
    Ok(latencies)
}

fn summary(latencies: &[Duration], clients: usize, span: Duration) -> Vec<Measurement> {
    let method = format!(
        "{clients} closed-loop clients, compare-and-set of {VALUE_LEN} B, durable, {span:?}"
    );
    let measurement = |what: &str, value, unit| Measurement {
        name: format!("engine.txn.{clients}.{what}"),
        value,
        unit,
        method: method.clone(),
        peer: None,
    };
    let count = u32::try_from(latencies.len()).unwrap_or(u32::MAX);
    vec![
        measurement("rate", f64::from(count) / span.as_secs_f64(), "1/s"),
        measurement("p50", micros(percentile(latencies, 50)), "us"),
        measurement("p99", micros(percentile(latencies, 99)), "us"),
    ]
}

/// Of sorted values; zero when there are none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).copied().unwrap_or_default()
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}
