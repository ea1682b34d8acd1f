//! Replicated state between regions that are apart: lag while all write, and how long it takes
//! until a region that was away has what was written meanwhile.
//!
//! "Has" is a read at the region with the session of the last write: it is answered when the
//! replica has everything that the write had seen.

use std::time::Duration;

use anyhow::{Context, bail};
use dwcp_api::NoParams;
use dwcp_api::state::{
    Batch, BatchItem, BatchResult, PostStateBatch, ReadKey, StateLevel, StateUpdate,
    Text, WriteKey,
};
use dwcp_testbed::wan::{Bed, Links};
use dwcp_testbed::{Door, Federation};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::super::Measurement;
use super::super::latency::Latencies;
use super::{REGIONS, one};

/// Writes a second of all regions together, as the promise has it.
const RATE: u32 = 2_000;
/// How long lag is probed.
const LAG: Duration = Duration::from_secs(20);
const LAG_QUICK: Duration = Duration::from_secs(5);
/// Writes of one batch.
const BATCH: u32 = 20;
/// Keys that are written.
const KEYS: u64 = 10_000;
const VALUE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
                     0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Pauses: how long, how many writes a second meanwhile, how often.
const PAUSES: [(u64, u32, u32); 2] = [(10, 200, 3), (60, 83, 1)];
/// How long all five regions are apart, and how much each writes a second.
const APART: Duration = Duration::from_secs(60);
const APART_RATE: u32 = 100;
/// Longer than anything here takes to be level again.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long one read may wait.
const READ_MS: u64 = 20_000;

/// Measures all.
pub(super) async fn measure(
    bed: &Bed,
    federation: &mut Federation,
    links: &Links,
    quick: bool,
) -> anyhow::Result<Vec<Measurement>> {
    let mut measured =
        lag(federation, links, if quick { LAG_QUICK } else { LAG }).await?;
    for (seconds, rate, trials) in PAUSES {
        let (seconds, trials) = if quick { (seconds / 10, 1) } else { (seconds, trials) };
        let mut took = Latencies::default();
        for _ in 0..trials {
            let time = Duration::from_secs(seconds);
            took.add(pause(federation, REGIONS[1], time, rate).await?);
        }
        measured.push(one(
            &format!("level.after_pause_{seconds}s"),
            took.percentile_ms(100),
            "ms",
            format!(
                "worst of {trials}: {} stopped for {seconds} s while {} took {rate} writes/s; from \
                 going on to having all of them",
                REGIONS[1], REGIONS[0]
            ),
        ));
    }
    measured
        .extend(apart(bed, federation, if quick { APART / 10 } else { APART }).await?);
    Ok(measured)
}

/// How long after its acknowledgement a write is in each other region, beyond the way there.
async fn lag(
    federation: &Federation,
    links: &Links,
    time: Duration,
) -> anyhow::Result<Vec<Measurement>> {
    let share = RATE / u32::try_from(REGIONS.len())?;
    let mut load = JoinSet::new();
    for region in REGIONS {
        load.spawn(write_for(federation.at(region), region, time, share));
    }
    let (begun, mut beyond) = (Instant::now(), Latencies::default());
    for from in REGIONS.iter().cycle() {
        if begun.elapsed() >= time {
            break;
        }
        let written = write(&federation.at(from), from, 1).await?;
        let acknowledged = Instant::now();
        let mut reads = JoinSet::new();
        for to in REGIONS.iter().filter(|to| *to != from) {
            let (door, session) = (federation.at(to), written.clone());
            let way = links.rtt(from, to) / 2;
            reads.spawn(async move {
                has(&door, &session).await?;
                anyhow::Ok(acknowledged.elapsed().saturating_sub(way))
            });
        }
        while let Some(read) = reads.join_next().await {
            beyond.add(read??);
        }
    }
    let mut writes = 0;
    while let Some(done) = load.join_next().await {
        writes += done??.writes;
    }
    let rate = f64::from(writes) / begun.elapsed().as_secs_f64();
    let method = format!(
        "{} reads in other regions by the sessions of writes, beside {rate:.0} writes/s of 128 B in \
         batches of {BATCH} over all regions: from the acknowledgement to the answer, less the \
         stated way of 38 to 170 ms",
        beyond.len()
    );
    Ok(vec![
        one("lag.beyond_way.p50", beyond.percentile_ms(50), "ms", method.clone()),
        one("lag.beyond_way.p95", beyond.percentile_ms(95), "ms", method),
    ])
}

/// Stops a region's daemon for a time; how long after that it has all that was written.
async fn pause(
    federation: &mut Federation,
    region: &str,
    time: Duration,
    rate: u32,
) -> anyhow::Result<Duration> {
    let writer = REGIONS[0];
    // What others wrote before is not to be waited for.
    has(&federation.at(region), &write(&federation.at(writer), writer, 1).await?).await?;
    federation.process(region).freeze();
    let written = write_for(federation.at(writer), writer, time, rate).await;
    federation.process(region).thaw();
    let thawed = Instant::now();
    has(&federation.at(region), &written?.session).await?;
    Ok(thawed.elapsed())
}

/// Parts all regions from each other for a time; how long after that each has what each other
/// wrote.
async fn apart(
    bed: &Bed,
    federation: &Federation,
    time: Duration,
) -> anyhow::Result<Vec<Measurement>> {
    for region in REGIONS {
        bed.isolate(region);
    }
    let mut writers = JoinSet::new();
    for region in REGIONS {
        let door = federation.at(region);
        writers.spawn(async move {
            (region, write_for(door, region, time, APART_RATE).await)
        });
    }
    let written = writers.join_all().await;
    bed.heal_all();
    let healed = Instant::now();
    let mut reads = JoinSet::new();
    for (from, written) in written {
        let session = written?.session;
        for to in REGIONS.iter().filter(|to| **to != from) {
            let (door, session) = (federation.at(to), session.clone());
            reads.spawn(async move {
                has(&door, &session).await?;
                anyhow::Ok(healed.elapsed())
            });
        }
    }
    let mut took = Latencies::default();
    while let Some(read) = reads.join_next().await {
        took.add(read??);
    }
    let method = format!(
        "five regions parted from each other for {} s, {APART_RATE} writes/s in each; from healing \
         until a region has what another wrote, {} pairs, one trial",
        time.as_secs(),
        took.len()
    );
    Ok(vec![
        one("level.after_partition.p50", took.percentile_ms(50), "ms", method.clone()),
        one("level.after_partition.max", took.percentile_ms(100), "ms", method),
    ])
}

/// What was written: how much, and the session of the last.
struct Wrote {
    writes: u32,
    session: String,
}

/// Writes at a rate for a time.
async fn write_for(
    door: Door,
    region: &'static str,
    time: Duration,
    rate: u32,
) -> anyhow::Result<Wrote> {
    let mut ticks = interval(Duration::from_secs(BATCH.into()) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begun, mut wrote) = (Instant::now(), None);
    while begun.elapsed() < time {
        ticks.tick().await;
        let session = write(&door, region, BATCH).await?;
        let writes = wrote.map_or(0, |wrote: Wrote| wrote.writes) + BATCH;
        wrote = Some(Wrote { writes, session });
    }
    wrote.context("no time to write in")
}

/// Writes so many keys in one batch; gives the session of the last.
async fn write(door: &Door, region: &str, count: u32) -> anyhow::Result<String> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let item = |_| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let value = StateUpdate::Set { value: Text::Plain(VALUE.to_owned()) };
        let key = format!("cache:{region}-{:05}", number % KEYS);
        BatchItem::Write { key, write: WriteKey::of(value) }
    };
    let batch = Batch { items: (0..count).map(item).collect() };
    let reply = door.call::<PostStateBatch>(&NoParams {}, &batch).await?;
    match reply.items.into_iter().next_back() {
        Some(BatchResult::Written(written)) => Ok(written.session),
        other => bail!("not written: {other:?}"),
    }
}

/// Waits until a region has what a session has seen.
async fn has(door: &Door, session: &str) -> anyhow::Result<()> {
    let ask = ReadKey {
        level: Some(StateLevel::Eventual),
        session: Some(session.to_owned()),
        timeout_ms: Some(READ_MS),
        ..ReadKey::of("cache:level")
    };
    let waiting = async {
        // Refused while it is not level; that is what is waited for.
        while door.read_as(ask.clone()).await.is_err() {}
    };
    timeout(PATIENCE, waiting).await.context("a region does not become level")
}
