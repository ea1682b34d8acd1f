//! Everything that an operator looks at first, in one value from memory, and its changes
//! (MONITORING 1.2: every region's daemon answers, also about regions that are gone).
//!
//! ```text
//!   mirror, world, fleet, board of moves, incidents, warden ─▶ facts ─▶ overview ─▶ version
//!                                                                  kept for 500 ms ─┴▶ who asks
//! ```
//!
//! It is made when somebody asks and kept for half a second, so that it costs nothing while nobody
//! looks, and the same for one reader as for all of them. Readers of changes hold no queue: each is
//! told the difference from what it was told last, when it has taken that.
//!
//! Rejected: a task that makes one each second for ever, and a log of changes for who comes back.
//! The whole is 20 KB at 50 regions; whoever was away gets it.

mod build;
mod links;
#[cfg(test)]
mod tests;

pub(crate) use build::{incidents, levels};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_api::overview::{
    CHANGED, EngineGlance, GetOverview, Overview, TrafficGlance, WHOLE, WatchOverview,
};
use dwcp_api::patch::difference;
use dwcp_api::sse::Event;
use dwcp_api::{ApiError, ErrorCode, Feed, NoParams, Routes, Watcher, feed};
use dwcp_monitor::Metric;
use dwcp_monitor::history::Window;
use dwcp_runtime::clock::Clock;
use dwcp_types::{HealthState, RegionId, VmPhase};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::build::{Facts, RegionFacts, Slow, count, failover, overview, steps_s};
use crate::bind::bind;
use crate::chronicle::{Chronicle, OVER};
use crate::engine::EngineView;
use crate::fleet::report_of;
use crate::incidents::Incidents;
use crate::inventory::Inventory;
use crate::migrate::Board;
use crate::public_api::admit;
use crate::records::RegionRecord;
use crate::warden::Seen;
use crate::world::Known;

/// How long an overview is good, and how often readers of changes are looked after: health is
/// looked at as often.
const EVERY: Duration = Duration::from_millis(500);
/// How long the sums over histories are good: half of the interval in which regions say more.
const SLOW_EVERY: Duration = Duration::from_secs(5);
/// Readers of changes at once: a wall of screens, and 20 KB for each that is slow.
const STREAMS_MAX: usize = 64;

/// Answers who asks for overviews.
#[derive(Debug)]
pub(crate) struct Overviews {
    region: RegionId,
    /// Tells this life's versions from another's.
    life: u64,
    sources: Sources,
    clock: Arc<dyn Clock>,
    made: Mutex<Made>,
    streams: Arc<Semaphore>,
}

/// The parts that hold what is shown.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) engine: Arc<EngineView>,
    pub(crate) inventory: Inventory,
    pub(crate) incidents: Arc<Incidents>,
    pub(crate) chronicle: Arc<Chronicle>,
    pub(crate) moves: Arc<Board>,
    pub(crate) seen: watch::Receiver<Arc<Seen>>,
}

/// The newest overview.
#[derive(Debug, Default)]
struct Made {
    at: Option<Duration>,
    number: u64,
    shown: Option<Arc<Shown>>,
    slow: Slow,
    slow_at: Option<Duration>,
}

#[derive(Debug)]
struct Shown {
    overview: Overview,
    value: Value,
}

/// The operator's routes.
pub(crate) fn routes(api: &Arc<Overviews>) -> Routes {
    let routes = bind! { api, admit,
        GetOverview => show;
    };
    let api = Arc::clone(api);
    routes.bind_stream::<WatchOverview, _, _>(move |watcher, NoParams {}| {
        let api = Arc::clone(&api);
        async move { api.changes(watcher) }
    })
}

impl Overviews {
    pub(crate) fn new(region: RegionId, sources: Sources) -> Arc<Self> {
        let clock = sources.inventory.clock.clone();
        Arc::new(Self {
            region,
            life: clock.now().as_millis(),
            sources,
            clock,
            made: Mutex::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        })
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn show(&self, _: NoParams, (): ()) -> Result<Overview, ApiError> {
        Ok(self.newest()?.overview.clone())
    }

    fn changes(self: Arc<Self>, watcher: Watcher) -> Result<Feed, ApiError> {
        admit(&watcher.caller)?;
        let place = self.streams.clone().try_acquire_owned().map_err(|_| {
            let message = format!("{STREAMS_MAX} readers follow changes already");
            ApiError::new(ErrorCode::Busy, message).with_remedy(
                "ask another region's daemon, or for /v1/overview now and then",
            )
        })?;
        // Whatever keeps it from being made is said at once, not by a stream that ends.
        self.newest()?;
        Ok(feed(Reading::new(self, watcher.last, place), Reading::next))
    }

    /// The overview as of now, or of half a second ago.
    fn newest(&self) -> Result<Arc<Shown>, ApiError> {
        let now = self.clock.monotonic();
        let mut made = self.made();
        let is_good = |at: Duration| now.saturating_sub(at) < EVERY;
        if let (Some(at), Some(shown)) = (made.at, &made.shown)
            && is_good(at)
        {
            return Ok(shown.clone());
        }
        if made.slow_at.is_none_or(|at| now.saturating_sub(at) >= SLOW_EVERY) {
            made.slow = self.sources.slow();
            made.slow_at = Some(now);
        }
        let facts = self.sources.facts(now, &made.slow);
        let before = made.shown.as_ref().map(|shown| &shown.overview);
        let mut overview = overview(&self.region, &facts, before);
        if let Some(before) = before {
            overview.version.clone_from(&before.version);
        }
        made.at = Some(now);
        if let Some(shown) = made.shown.as_ref().filter(|it| it.overview == overview) {
            return Ok(shown.clone());
        }
        made.number += 1;
        overview.version = format!("{:x}.{}", self.life, made.number);
        let value = serde_json::to_value(&overview).map_err(|error| {
            ApiError::new(ErrorCode::Internal, format!("it cannot be shown: {error}"))
        })?;
        let shown = Arc::new(Shown { overview, value });
        made.shown = Some(shown.clone());
        Ok(shown)
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader of changes.
struct Reading {
    api: Arc<Overviews>,
    /// What it has, by its own word.
    last: Option<String>,
    /// What it was told.
    told: Option<Arc<Shown>>,
    _place: OwnedSemaphorePermit,
}

impl Reading {
    const fn new(
        api: Arc<Overviews>,
        last: Option<String>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { api, last, told: None, _place: place }
    }

    /// The next event, once there is one.
    async fn next(mut self) -> Option<(Event, Self)> {
        loop {
            let newest = self.api.newest().ok()?;
            let event = told(&newest, self.told.as_deref(), self.last.take().as_deref());
            self.told = Some(newest);
            if let Some(event) = event {
                return Some((event, self));
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// What a reader is told that was told of `before`, or says that it has `last`.
fn told(newest: &Shown, before: Option<&Shown>, last: Option<&str>) -> Option<Event> {
    let event = |kind: &str, data: &Value| Event {
        id: newest.overview.version.clone(),
        kind: kind.to_owned(),
        data: data.to_string(),
    };
    match before {
        Some(before) => {
            let patch = difference(&before.value, &newest.value)?;
            Some(event(CHANGED, &patch))
        }
        None if last == Some(newest.overview.version.as_str()) => None,
        None => Some(event(WHOLE, &newest.value)),
    }
}

impl Sources {
    fn facts(&self, now: Duration, slow: &Slow) -> Facts {
        let mirror = &self.inventory.mirror;
        let vms = mirror.vm_counts();
        let regions = mirror.regions();
        let silent_after = self.inventory.world.silent_after();
        let region = |record: &Arc<RegionRecord>| {
            let of = vms.get(&record.region.id).copied().unwrap_or_default();
            self.inventory.world.region(&record.region.id, |known| RegionFacts {
                vms: of,
                ..region_facts(record, known, (now, silent_after))
            })
        };
        let active = self.seen.borrow().active.as_ref().map(|(log, _)| failover(log));
        Facts {
            now,
            engine: self.engine(),
            regions: regions.iter().map(region).collect(),
            incidents: self.incidents.glance(),
            moves: self.moves.all(),
            failover: active,
            slow: slow.clone(),
        }
    }

    fn engine(&self) -> EngineGlance {
        let status = self.engine.status(&self.inventory.mirror);
        let answering = status.members.iter().filter(|member| member.answers).count();
        EngineGlance {
            kind: status.kind,
            reachable: status.reachable,
            age_s: self.inventory.mirror.age().map(steps_s),
            leader: status.leader,
            answering: count(answering),
            members: count(status.members.len()),
            on_duty: self.incidents.on_duty(),
        }
    }

    fn slow(&self) -> Slow {
        let regions = self.inventory.mirror.regions();
        let ids: Vec<_> = regions.iter().map(|it| it.region.id.clone()).collect();
        Slow { levels: self.incidents.levels_glance(), traffic: self.traffic(&ids) }
    }

    fn traffic(&self, regions: &[RegionId]) -> TrafficGlance {
        let (mut all, mut milli_rps, mut measured) = (Window::default(), 0_u64, 0);
        let mut oldest = None;
        for region in regions.iter().filter(|id| self.chronicle.is_fresh(id)) {
            let window = self.chronicle.last(region, OVER);
            let rate = window.value_milli(Metric::Throughput).unwrap_or(0);
            milli_rps = milli_rps.saturating_add(rate);
            all.merge(&window);
            measured += 1;
            oldest = oldest.max(self.chronicle.hearing(region).age);
        }
        TrafficGlance {
            over_s: OVER.as_secs(),
            p50_us: all.value_milli(Metric::P50Latency),
            p95_us: all.value_milli(Metric::P95Latency),
            p99_us: all.value_milli(Metric::P99Latency),
            milli_rps,
            errors_milli: all.value_milli(Metric::ErrorRate),
            measured,
            regions: count(regions.len()),
            age_s: oldest.map(steps_s),
        }
    }
}

/// All of a region but how many VMs it owns.
fn region_facts(
    record: &RegionRecord,
    known: Option<&Known>,
    (now, silent_after): (Duration, Duration),
) -> RegionFacts {
    let health = report_of(known, now, silent_after);
    let heard = health.health.state != HealthState::Unknown;
    let hosts = known.map(|known| known.hosts.as_slice()).unwrap_or_default();
    let guests = known.filter(|_| heard).into_iter().flat_map(|it| it.guests.values());
    let running = guests.filter(|guest| guest.phase == VmPhase::Running).count();
    let (mut cpu, mut memory) = ((0, 0), (0, 0));
    for host in hosts {
        cpu = (cpu.0 + host.total.cpu, cpu.1 + host.free.cpu);
        let of = (host.total.memory.get(), host.free.memory.get());
        memory = (memory.0 + of.0, memory.1 + of.1);
    }
    RegionFacts {
        id: record.region.id.clone(),
        disabled: !record.region.enabled,
        emptied: record.evacuation.is_some(),
        health,
        heard_at: known.and_then(|known| known.heard_at),
        up: count(hosts.iter().filter(|host| host.answers).count()),
        hosts: count(hosts.len()),
        vms: 0,
        running: count(running),
        cpu,
        memory,
        trips: known.map(|known| known.trips.clone()).unwrap_or_default(),
    }
}
