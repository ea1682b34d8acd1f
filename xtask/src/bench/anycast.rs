//! `bench anycast`: how long a client is without an answer when the region that its router sends it
//! to is drained, killed, or hangs (R12, F55). Needs root and BIRD.
//!
//! A client beside a real BIRD opens a connection after another to the shared address and asks. Told
//! is from the event until the first answer by the other region, and the longest time between two
//! answers.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use dwcp_api::NoParams;
use dwcp_api::public::RegionParams;
use dwcp_api::routing::{
    AnycastBfd, Endpoint, GetAnycast, GetRouting, PutRoutingEndpoint,
};
use dwcp_testbed::pops::{HOME, POPS, Pops};
use dwcp_testbed::wan::Speech;
use dwcp_testbed::{Door, Federation};
use dwcp_types::RegionId;
use tokio::time::{Instant, sleep};

use super::latency::Latencies;
use super::{Measurement, Options};

/// Events of each kind: who drains waits twice as long each time before it is back.
const ROUNDS: usize = 5;
const ROUNDS_QUICK: usize = 2;
/// How long a client waits for one answer, and between two requests: the error of every time.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(100);
const ASK_EVERY: Duration = Duration::from_millis(5);
/// When a client that is not answered is given up.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Drained,
    Killed,
    Hangs,
}

const EVENTS: [(Event, &str, &str); 3] = [
    (Event::Drained, "drained", "its endpoint is given no weight"),
    (Event::Killed, "killed", "kill -9 of its daemon"),
    (Event::Hangs, "hangs", "SIGSTOP of its daemon, hold time 3 s"),
];
const WATCHED: [(Event, &str, &str); 2] = [
    (Event::Drained, "drained_bfd", "its endpoint is given no weight, BFD 300 ms x 3"),
    (Event::Hangs, "hangs_bfd", "SIGSTOP of its daemon, BFD 300 ms x 3"),
];

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    crate::programs::build()?;
    let rounds = if options.quick { ROUNDS_QUICK } else { ROUNDS };
    let mut measured = events(Speech::default(), &EVENTS, rounds)?;
    let watched = Speech { bfd: true, ..Speech::default() };
    measured.extend(events(watched, &WATCHED, rounds)?);
    Ok(measured)
}

/// Measures events with a router that speaks so.
fn events(
    speech: Speech,
    events: &[(Event, &str, &str)],
    rounds: usize,
) -> anyhow::Result<Vec<Measurement>> {
    let pops = Pops::new(speech).context("there are no namespaces or no BIRD here")?;
    pops.bed.block_on(async {
        let mut federation = pops.federation().await;
        let mut measured = Vec::new();
        for &(event, name, what) in events {
            let (mut other, mut gap) = (Latencies::default(), Latencies::default());
            for _ in 0..rounds {
                answered(&pops, &federation, POPS[0], None).await?;
                if speech.bfd {
                    watched(&federation).await?;
                }
                let seen = one(&pops, &mut federation, event).await?;
                other.add(seen.other);
                gap.add(seen.gap);
            }
            measured.extend(told(name, what, rounds, (&mut other, &mut gap)));
        }
        federation.end();
        Ok(measured)
    })
}

struct Seen {
    /// Until the other region answered.
    other: Duration,
    /// The longest time without an answer meanwhile.
    gap: Duration,
}

async fn one(
    pops: &Pops,
    federation: &mut Federation,
    event: Event,
) -> anyhow::Result<Seen> {
    let door = federation.at(HOME);
    let start = Instant::now();
    match event {
        Event::Drained => weigh(&door, 0).await?,
        Event::Killed => federation.process(POPS[0]).kill_9(),
        Event::Hangs => federation.process(POPS[0]).freeze(),
    }
    let seen = answered(pops, federation, POPS[1], Some(start)).await?;
    match event {
        Event::Drained => weigh(&door, 100).await?,
        Event::Killed => federation.process(POPS[0]).start(),
        Event::Hangs => federation.process(POPS[0]).thaw(),
    }
    Ok(seen)
}

/// Asks until this region answers; since when, and the longest gap between answers.
async fn answered(
    pops: &Pops,
    federation: &Federation,
    by: &str,
    since: Option<Instant>,
) -> anyhow::Result<Seen> {
    let start = since.unwrap_or_else(Instant::now);
    let (mut last, mut gap) = (start, Duration::ZERO);
    loop {
        let answer = pops.ask(federation, ANSWER_TIME_MAX);
        if let Ok(name) = answer {
            gap = gap.max(last.elapsed());
            last = Instant::now();
            if name == by {
                return Ok(Seen { other: start.elapsed(), gap });
            }
        }
        if start.elapsed() > PATIENCE {
            bail!("{by} does not answer; the router said:\n{}", pops.log());
        }
        sleep(ASK_EVERY).await;
    }
}

/// Waits until both ends say that the way to the preferred region is watched.
async fn watched(federation: &Federation) -> anyhow::Result<()> {
    let door = federation.at(HOME);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let reply = door.call::<GetAnycast>(&NoParams {}, &()).await;
        let items = reply.map(|reply| reply.items).unwrap_or_default();
        let mut own = items.iter().filter(|item| item.region.as_str() == POPS[0]);
        let bfd = own.next().and_then(|item| item.bfd.as_ref());
        let up = |bfd: &AnycastBfd| {
            bfd.state == "up" && bfd.remote_state.as_deref() == Some("up")
        };
        if bfd.is_some_and(up) {
            return Ok(());
        }
        sleep(ASK_EVERY).await;
    }
    bail!("the way to {} is not watched", POPS[0]);
}

async fn weigh(door: &Door, weight: u8) -> anyhow::Result<()> {
    let region = RegionId::new(POPS[0])?;
    let reply = door.call::<GetRouting>(&NoParams {}, &()).await;
    let reply = reply.map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut items = reply.endpoints.into_iter();
    let before = items.find(|it| it.region == region).and_then(|it| it.endpoint);
    let endpoint = Endpoint { weight, ..before.context("it has no endpoint")? };
    let reply =
        door.call::<PutRoutingEndpoint>(&RegionParams { region }, &endpoint).await;
    ensure!(reply.is_ok(), "{reply:?}");
    Ok(())
}

fn told(
    name: &str,
    what: &str,
    rounds: usize,
    (other, gap): (&mut Latencies, &mut Latencies),
) -> Vec<Measurement> {
    let method = |of: &str| {
        format!(
            "{of}; {what}, {rounds} times; a client of a real BIRD, to which two regions announce one \
             address by eBGP, asks on a new connection every {} ms",
            ASK_EVERY.as_millis()
        )
    };
    let one = |short: &str, value: f64, of: &str| Measurement {
        name: format!("anycast.{name}.{short}"),
        value,
        unit: "ms",
        method: method(of),
        peer: None,
    };
    vec![
        one("other_p50", other.percentile_ms(50), "until the other region answers"),
        one("other_max", other.percentile_ms(100), "until the other region answers"),
        one("gap_max", gap.percentile_ms(100), "the longest time without an answer"),
    ]
}
