//! The claims of [`super`] against a region's real books: the task that owns the ledger, its
//! store on disk, group commit, fsync on.
//!
//! A request counts when it is answered, which is after it is on disk. At the end the books are
//! closed, the file is read again from the beginning, and what is sold is summed from the
//! stored rows alone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use dwcp_controller::ledger::{HOLD_FOR_MAX, HostReport, Reservation, Row};
use dwcp_region::books::{Books, BooksTask};
use dwcp_runtime::clock::SystemClock;
use dwcp_runtime::store::LocalStore;
use dwcp_types::RegionId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{CLIENTS, HOSTS, REGION, ask, hosts, sold_twice};
use crate::bench::Measurement;
use crate::bench::latency::Latencies;
use crate::bench::scratch::Scratch;

/// Requests that each client has under way: eight clients fill one batch of the books.
const UNDER_WAY: u32 = 256;

/// What the clients were told.
#[derive(Debug, Default)]
struct Told {
    granted: usize,
    refused: u32,
    latencies: Latencies,
}

/// Measures.
pub(super) fn measure(requests: u32) -> anyhow::Result<Vec<Measurement>> {
    let folder = Scratch::new("claims")?;
    let path = folder.path().join("region.redb");
    let hosts = hosts(requests)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start tokio")?;
    let (told, took) = runtime.block_on(claim(&path, &hosts, requests))?;
    drop(runtime);
    ensure!(
        took < HOLD_FOR_MAX,
        "it took longer than a reservation is held: the disk is too slow to prove anything"
    );
    let stored = stored(&path)?;
    ensure!(
        stored.len() == told.granted,
        "{} reservations were granted and {} are on disk",
        told.granted,
        stored.len()
    );
    let over = sold_twice(&hosts, stored.iter().map(AsRef::as_ref));
    ensure!(over == 0, "{over} hosts were sold twice");
    ensure!(told.refused > 0, "no request was refused: the region is too large");
    Ok(report(requests, told, over, took))
}

async fn claim(
    path: &Path,
    hosts: &[HostReport],
    requests: u32,
) -> anyhow::Result<(Told, Duration)> {
    let store = Arc::new(LocalStore::open(path)?);
    let clock = Arc::new(SystemClock::new());
    let (task, books) = BooksTask::open(RegionId::new(REGION)?, store, clock)?;
    let task = tokio::spawn(task.run());
    for host in hosts {
        books.report_host(host.clone()).await?;
    }
    let started = Instant::now();
    let mut clients = JoinSet::new();
    let lanes = CLIENTS * UNDER_WAY;
    for lane in 0..lanes {
        clients.spawn(client(books.clone(), lane, lanes, requests));
    }
    let mut told = Told::default();
    while let Some(one) = clients.join_next().await {
        let one = one??;
        told.granted += one.granted;
        told.refused += one.refused;
        told.latencies.join(one.latencies);
    }
    let took = started.elapsed();
    drop(books);
    task.await?;
    Ok((told, took))
}

/// Asks for every `lanes`th of the requests, one after another.
async fn client(
    books: Books,
    lane: u32,
    lanes: u32,
    requests: u32,
) -> anyhow::Result<Told> {
    let mut told = Told::default();
    let mut number = lane;
    while number < requests {
        let ask = ask(number)?;
        let asked = Instant::now();
        match books.reserve(ask).await? {
            Ok(_) => told.granted += 1,
            Err(_) => told.refused += 1,
        }
        told.latencies.add(asked.elapsed());
        number += lanes;
    }
    Ok(told)
}

/// Every reservation that is on disk.
fn stored(path: &Path) -> anyhow::Result<Vec<Arc<Reservation>>> {
    let store = LocalStore::open(path)?;
    let mut found = Vec::new();
    for (key, value) in store.scan("reservation/")? {
        let row = serde_json::from_slice(&value)
            .with_context(|| format!("the stored row {key} is unreadable"))?;
        if let Row::Reservation(row) = row {
            found.push(row);
        }
    }
    Ok(found)
}

fn report(
    requests: u32,
    mut told: Told,
    over: usize,
    took: Duration,
) -> Vec<Measurement> {
    let method = format!(
        "{requests} requests of {CLIENTS} concurrent clients with {UNDER_WAY} under way each, \
         {HOSTS} hosts, {} refused, answered after fsync; sums of hosts read back from disk",
        told.refused
    );
    let one = |name: &str, value, unit| Measurement {
        name: format!("claims.durable{name}"),
        value,
        unit,
        method: method.clone(),
        peer: None,
    };
    let over = u32::try_from(over).map_or(f64::INFINITY, f64::from);
    vec![
        one("", f64::from(requests) / took.as_secs_f64(), "1/s"),
        one(".p50", told.latencies.percentile_ms(50), "ms"),
        one(".p99", told.latencies.percentile_ms(99), "ms"),
        one(".overcommitted_hosts", over, "hosts"),
    ]
}
