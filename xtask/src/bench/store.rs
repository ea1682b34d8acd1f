//! `bench store`: the local store as the state plane uses it.
//!
//! Every number is of durable work: a commit counts when it is answered, which is after its
//! sync. With the feature `fjall` (which `cargo xtask bench store` turns on) the same is
//! measured with fjall, as the peer of the same run. Both are opened as the product opens
//! them: everything that is on the disk is read and verified at every open.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::store::{Backend, Change, Journaled, LocalStore, Redb};
use tokio::runtime::Runtime;

use super::latency::Latencies;
use super::nanos::float;
use super::scratch::Scratch;
use super::{Measurement, Options};

/// Bytes of a value: a delta of the state plane with room to spare.
const VALUE_LEN: usize = 200;
/// Rows of a batch of the second measurement, and of the filling.
const BATCH: u64 = 100;
const FILL_BATCH: u64 = 1_000;
/// Callers that share commits.
const CALLERS: u64 = 64;

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    span: Duration,
    rows: u64,
}

/// A number without its peer.
struct Number {
    what: &'static str,
    value: f64,
    unit: &'static str,
    method: String,
}

/// Measures ours, and fjall beside it where it is built in.
pub(super) fn measure(options: &Options) -> Result<Vec<Measurement>> {
    let size = if options.quick {
        Size { span: Duration::from_secs(1), rows: 100_000 }
    } else {
        Size { span: Duration::from_secs(5), rows: 1_000_000 }
    };
    let ours = numbers::<Journaled<Redb>>("ours", size)?;
    let peers = peers(size)?;
    let measurements = ours.into_iter().enumerate().map(|(index, number)| {
        let Number { what, value, unit, method } = number;
        let peer = peers
            .get(index)
            .map(|peer| super::Peer { name: "fjall".to_owned(), value: peer.value });
        Measurement { name: format!("store.{what}"), value, unit, method, peer }
    });
    Ok(measurements.collect())
}

#[cfg(feature = "fjall")]
fn peers(size: Size) -> Result<Vec<Number>> {
    numbers::<dwcp_runtime::store::Fjall>("fjall", size)
}

#[cfg(not(feature = "fjall"))]
fn peers(_: Size) -> Result<Vec<Number>> {
    Ok(Vec::new())
}

fn numbers<B: Backend>(name: &str, size: Size) -> Result<Vec<Number>> {
    let scratch = Scratch::new(&format!("store-{name}"))?;
    let runtime = Runtime::new().context("cannot start tokio")?;
    let mut numbers =
        runtime.block_on(commits::<B>(&scratch.path().join("commits"), size))?;
    numbers.extend(runtime.block_on(shared::<B>(&scratch.path().join("shared"), size))?);
    numbers.extend(whole::<B>(&runtime, scratch.path(), size)?);
    Ok(numbers)
}

fn row(key: String) -> Change {
    // Not all the same, so that compression has something to do.
    let value = key.bytes().cycle().take(VALUE_LEN).collect();
    Change::Put { key, value }
}

/// The rows of a log, as replicas write them.
fn log(from: u64, count: u64) -> Vec<Change> {
    (from..from + count).map(|seq| row(log_key(seq))).collect()
}

fn log_key(seq: u64) -> String {
    format!("d/00000001.00000001/{seq:016x}")
}

/// One caller, who waits for each of its commits.
async fn commits<B: Backend>(path: &Path, size: Size) -> Result<Vec<Number>> {
    let clock = SystemClock::new();
    let store = LocalStore::<B>::open_in(path)?;
    let mut numbers = Vec::new();
    let mut next = 0;
    let mut run = async |rows: u64| -> Result<(Latencies, f64)> {
        let mut took = Latencies::default();
        let start = clock.monotonic();
        while clock.monotonic() - start < size.span {
            let batch = log(next, rows);
            next += rows;
            let asked = clock.monotonic();
            store.apply(batch).await?;
            took.add(clock.monotonic() - asked);
        }
        let seconds = (clock.monotonic() - start).as_secs_f64();
        let rate = float(count(&took) * rows) / seconds;
        Ok((took, rate))
    };
    let method = |what: &str| {
        format!("{what} of {VALUE_LEN} B, one caller, each synced, {:?}", size.span)
    };
    let (mut took, _) = run(1).await?;
    let of_one = method("commits of 1 row");
    for (what, percent) in [("commit.1.p50", 50), ("commit.1.p99", 99)] {
        let value = took.percentile_ms(percent) * 1e3;
        numbers.push(Number { what, value, unit: "us", method: of_one.clone() });
    }
    let (_, rate) = run(BATCH).await?;
    let method = method("commits of 100 rows");
    numbers.push(Number { what: "commit.100.rate", value: rate, unit: "rows/s", method });
    Ok(numbers)
}

/// Many callers, who share commits.
async fn shared<B: Backend>(path: &Path, size: Size) -> Result<Vec<Number>> {
    let clock = SystemClock::new();
    let store = Arc::new(LocalStore::<B>::open_in(path)?);
    let end = clock.monotonic() + size.span;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut took = Latencies::default();
                let mut seq = caller << 32;
                while clock.monotonic() < end {
                    seq += 1;
                    let asked = clock.monotonic();
                    store.apply(log(seq, 1)).await?;
                    took.add(clock.monotonic() - asked);
                }
                anyhow::Ok(took)
            })
        })
        .collect();
    let mut took = Latencies::default();
    for caller in callers {
        took.join(caller.await??);
    }
    let rate = float(count(&took)) / size.span.as_secs_f64();
    let method = format!(
        "{CALLERS} callers, batches of 1 row of {VALUE_LEN} B, commits shared, {:?}",
        size.span
    );
    let p99 = took.percentile_ms(99) * 1e3;
    Ok(vec![
        Number { what: "shared.rate", value: rate, unit: "1/s", method: method.clone() },
        Number { what: "shared.p99", value: p99, unit: "us", method },
    ])
}

/// A store that holds many rows: filled, opened and read.
fn whole<B: Backend>(
    runtime: &Runtime,
    folder: &Path,
    size: Size,
) -> Result<Vec<Number>> {
    let clock = SystemClock::new();
    let path = folder.join("whole");
    let rows = size.rows;
    let mut numbers = Vec::new();
    let mut note = |what, value, unit, how: &str| {
        let method = format!("{rows} rows of {VALUE_LEN} B, {how}");
        numbers.push(Number { what, value, unit, method });
    };
    let timed = |start: Duration| (clock.monotonic() - start).as_secs_f64();

    let store = LocalStore::<B>::open_in(&path)?;
    let start = clock.monotonic();
    for from in (0..rows).step_by(usize::try_from(FILL_BATCH)?) {
        runtime.block_on(store.apply(log(from, FILL_BATCH)))?;
    }
    note(
        "fill.rate",
        float(rows) / timed(start),
        "rows/s",
        "commits of 1,000, each synced",
    );
    note("disk", float(store.disk_len()?) / MIB, "MiB", "on disk after the filling");
    // What a kill leaves is what is there now.
    copy(&path, &folder.join("killed"))?;
    drop(store);

    let start = clock.monotonic();
    drop(LocalStore::<B>::open_in(&folder.join("killed"))?);
    note("open.killed", timed(start) * 1e3, "ms", "opened and closed as a kill left it");
    let start = clock.monotonic();
    let store = LocalStore::<B>::open_in(&path)?;
    note("open.closed", timed(start) * 1e3, "ms", "opened as a clean end left it");

    let before = memory("VmRSS")?;
    fs::write("/proc/self/clear_refs", "5").context("cannot reset the memory peak")?;
    let (start, mut seen, mut bytes) = (clock.monotonic(), 0_u64, 0_usize);
    store.visit("d/", None, |key, value| {
        (seen, bytes) = (seen + 1, bytes + key.len() + value.len());
        ControlFlow::Continue(())
    })?;
    note("scan.rate", float(rows) / timed(start), "rows/s", "visited in order, verified");
    let peak = (memory("VmHWM")? - before).max(0.0);
    note("scan.memory", peak, "MiB", "growth of the process at the scan's peak");
    ensure!(seen == rows, "{seen} of {rows} rows were seen");

    Ok(numbers)
}

const MIB: f64 = 1_048_576.0;

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        fs::copy(from, to)?;
        return Ok(());
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// A line of the process's status, in MiB.
fn memory(name: &str) -> Result<f64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.context("no such line in /proc/self/status")?.parse::<f64>()? / 1024.0)
}

fn count(took: &Latencies) -> u64 {
    u64::try_from(took.len()).unwrap_or(u64::MAX)
}
