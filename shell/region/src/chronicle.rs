//! What regions say of themselves every 10 s (M6), and the history that this daemon makes of it.
//!
//! ```text
//!   own requests, hosts, VMs ─▶ a digest ─▶ own history
//!                                  └─▶ report to each other region's daemon ─▶ its history
//! ```
//!
//! Every daemon has the history of all regions: two hours in memory, and the rest on its disk
//! ([`archive`]), so that the next daemon goes on with it. What it did not hear is a gap. A digest
//! is kept for five minutes for those who did not hear it, so that a line that is down for a minute
//! leaves none, nor a daemon that is started anew. How old a digest is is counted by clocks that
//! nobody sets; the place in the history is by this daemon's clock.

mod archive;
mod door;

pub use archive::Archive;
pub(crate) use door::{Measured, OVER, from_disk, routes};

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_api::measured::Together;
use dwcp_api::peer::DigestReport;
use dwcp_monitor::Metric;
use dwcp_monitor::digest::{DIGESTS_KEPT, Digest, EVERY_MAX, Gauges, Intake, Taken};
use dwcp_monitor::history::{Chart, Cursor, History, Query, Window};
use dwcp_runtime::clock::Clock;
use dwcp_types::{RegionId, Timestamp, millis};
use tracing::warn;

use crate::inventory::Inventory;
use crate::meter::Meter;

/// A region whose newest digest is older than so many times the interval is silent (MONITORING
/// 6.2): nothing is said of it now.
const STALE_AFTER: u32 = 3;
/// Digests after which what is new of the history is written.
const WRITTEN_AFTER: u32 = 6;
/// Long times of regions that are held for a minute: 50 regions with 20 of them.
const LONG_MAX: usize = 1_000;
/// All of something, in parts per million.
const WHOLE_PPM: u64 = 1_000_000;

#[derive(Debug, Default)]
struct Told {
    intake: Intake,
    history: History,
}

impl Told {
    fn cursor(&self) -> Option<Cursor> {
        let (life, seq) = self.intake.cursor();
        Some(Cursor { life, seq, at: self.intake.newest()? })
    }
}

/// What was measured of regions over long times.
type Long = BTreeMap<(RegionId, Duration), Window>;

/// See the module.
#[derive(Debug)]
pub struct Chronicle {
    region: RegionId,
    life: u64,
    every: Duration,
    clock: Arc<dyn Clock>,
    archive: Archive,
    /// What was read of long times, and in which minute.
    long: Mutex<(u64, Long)>,
    told: Mutex<BTreeMap<RegionId, Told>>,
    /// The own digests with when they were made, by the monotonic clock.
    own: Mutex<VecDeque<(Duration, Digest)>>,
}

/// How a region's digests come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hearing {
    pub(crate) age: Option<Duration>,
    pub(crate) lost: u64,
    pub(crate) refused: u64,
    pub(crate) offset_ms: i64,
}

impl Chronicle {
    /// Of a region's daemon that was started now, with what others before it kept. `interval` is
    /// how often the federation is looked at.
    #[must_use]
    pub fn new(
        region: RegionId,
        interval: Duration,
        clock: Arc<dyn Clock>,
        archive: Archive,
    ) -> Arc<Self> {
        let now = clock.now();
        let mut told = BTreeMap::new();
        for (of, history, reaches) in archive.restore(now) {
            let resumed = |at: Cursor| Intake::resumed(at.life, at.seq, at.at);
            let intake = reaches.map(resumed).unwrap_or_default();
            told.insert(of, Told { intake, history });
        }
        Arc::new(Self {
            region,
            life: now.as_millis(),
            every: interval.min(EVERY_MAX),
            clock,
            archive,
            long: Mutex::default(),
            told: Mutex::new(told),
            own: Mutex::default(),
        })
    }

    /// Says what is true of the own region, for ever.
    pub async fn run(self: Arc<Self>, meter: Arc<Meter>, inventory: Inventory) {
        let mut tick = tokio::time::interval(self.every);
        // A daemon that slept makes one digest of it and goes on in its rhythm.
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        tick.tick().await;
        for seq in 1.. {
            tick.tick().await;
            let since = meter.since();
            let digest = Digest {
                life: self.life,
                seq,
                made_at: self.clock.now(),
                every_ms: millis(self.every),
                requests: since.requests,
                errors: since.errors,
                latency: since.latency,
                gauges: gauges(&self.region, &inventory),
            };
            self.tell(digest);
        }
    }

    /// Writes what is new, for ever.
    pub async fn keep(self: Arc<Self>) {
        let mut tick = tokio::time::interval(self.every * WRITTEN_AFTER);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let this = Arc::clone(&self);
            let written = tokio::task::spawn_blocking(move || this.write());
            if let Err(reason) = written.await {
                warn!(%reason, "the history was not written");
            }
        }
    }

    /// Writes what is new. Waits for the disk.
    pub fn write(&self) {
        let regions: Vec<RegionId> = self.told().keys().cloned().collect();
        for region in regions {
            let now = self.clock.now();
            let pieces = self.told().get_mut(&region).map(|told| {
                let cursor = told.cursor();
                told.history.pieces(cursor, now)
            });
            let refused = self.archive.write(&region, pieces.unwrap_or_default(), now);
            if let Some(told) = self.told().get_mut(&region) {
                refused.into_iter().for_each(|piece| told.history.take_back(piece));
            }
        }
    }

    /// Keeps an own digest and hands it to whoever asks.
    pub fn tell(&self, digest: Digest) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.push_back((self.clock.monotonic(), digest.clone()));
        while own.len() > DIGESTS_KEPT {
            own.pop_front();
        }
        drop(own);
        let region = self.region.clone();
        self.hear(&region, vec![DigestReport { age_ms: 0, digest }]);
    }

    /// The own digests after the one that the reader has.
    #[must_use]
    pub fn since(&self, life: u64, seq: u64) -> Vec<DigestReport> {
        let now = self.clock.monotonic();
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let new = own.iter().filter(|(_, it)| life != self.life || it.seq > seq);
        let report = |(made, digest): &(Duration, Digest)| DigestReport {
            age_ms: millis(now.saturating_sub(*made)),
            digest: digest.clone(),
        };
        new.map(report).collect()
    }

    /// What of a region is known, to ask for the rest.
    pub(crate) fn cursor(&self, region: &RegionId) -> (u64, u64) {
        self.told().get(region).map(|told| told.intake.cursor()).unwrap_or_default()
    }

    /// Takes what a region said.
    pub fn hear(&self, region: &RegionId, digests: Vec<DigestReport>) {
        if digests.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut all = self.told();
        let told = all.entry(region.clone()).or_default();
        // More than are kept nobody sends who means well.
        for DigestReport { age_ms, digest } in digests.into_iter().take(DIGESTS_KEPT) {
            match told.intake.take(&digest, now, Duration::from_millis(age_ms)) {
                Taken::New { at } => told.history.record(at, &digest),
                Taken::Known => {}
                Taken::Refused(reason) => {
                    warn!(%region, seq = digest.seq, %reason, "a digest is refused");
                }
            }
        }
    }

    /// Notes whether a region is heard now.
    pub(crate) fn observe(&self, region: &RegionId, heard: bool) {
        let now = self.clock.now();
        self.told().entry(region.clone()).or_default().history.observe(now, heard);
    }

    /// How a region's digests come.
    pub(crate) fn hearing(&self, region: &RegionId) -> Hearing {
        let now = self.clock.now();
        let all = self.told();
        let intake = all.get(region).map(|told| &told.intake);
        Hearing {
            age: intake.and_then(Intake::newest).map(|at| now.since(at)),
            lost: intake.map_or(0, Intake::lost),
            refused: intake.map_or(0, Intake::refused),
            offset_ms: intake.map_or(0, Intake::offset_ms),
        }
    }

    /// What was measured of a region in the last time; nothing of it when its newest digest is too
    /// old to say anything of now, but what others observe.
    pub(crate) fn value(
        &self,
        region: &RegionId,
        metric: Metric,
        back: Duration,
    ) -> Option<u64> {
        let says = self.says(region, metric);
        says.then(|| self.last(region, back).value_milli(metric)).flatten()
    }

    /// Whether what is known of a region says something of now.
    pub(crate) fn says(&self, region: &RegionId, metric: Metric) -> bool {
        metric == Metric::Availability || self.is_fresh(region)
    }

    pub(crate) fn is_fresh(&self, region: &RegionId) -> bool {
        let age = self.hearing(region).age;
        age.is_some_and(|age| age <= self.every * STALE_AFTER)
    }

    /// How long after the end of a window the last digest of it may come.
    pub(crate) fn grace(&self) -> Duration {
        self.every * 2
    }

    /// Reads a disk for times that are longer than what is in memory, once a minute: nothing of
    /// such a time changes sooner.
    pub(crate) fn last(&self, region: &RegionId, back: Duration) -> Window {
        let now = self.clock.now();
        let query = Query::last(back, now);
        if query.segments().is_empty() {
            return self.window(region, &query);
        }
        let minute = now.as_millis() / millis(Duration::from_mins(1));
        let key = (region.clone(), back);
        let held = |found: &mut Long| found.get(&key).cloned();
        if let Some(window) = self.long(minute, held) {
            return window;
        }
        // Not under the lock: others are not to wait for a disk.
        let window = self.window(region, &query);
        self.long(minute, |found| found.insert(key, window.clone()));
        window
    }

    /// What was read of long times in this minute.
    fn long<T>(&self, minute: u64, act: impl FnOnce(&mut Long) -> T) -> T {
        let mut long = self.long.lock().unwrap_or_else(PoisonError::into_inner);
        if long.0 != minute || long.1.len() >= LONG_MAX {
            *long = (minute, BTreeMap::new());
        }
        act(&mut long.1)
    }

    /// Reads a disk for times that began before what is in memory.
    pub(crate) fn between(
        &self,
        region: &RegionId,
        from: Timestamp,
        until: Timestamp,
    ) -> Window {
        self.window(region, &Query::between(from, until, self.clock.now()))
    }

    fn window(&self, region: &RegionId, query: &Query) -> Window {
        let past = self.archive.past(region, query);
        let all = self.told();
        all.get(region).map(|told| told.history.window(query, &past)).unwrap_or_default()
    }

    fn chart(&self, region: &RegionId, metric: Metric, back: Duration) -> Chart {
        let query = Query::chart(back, self.clock.now());
        let past = self.archive.past(region, &query);
        let chart = |history: &History| history.chart(metric, &query, &past);
        let all = self.told();
        match all.get(region) {
            Some(told) => chart(&told.history),
            None => chart(&History::default()),
        }
    }

    /// Latency over these regions together.
    pub(crate) fn together(&self, regions: &[RegionId], back: Duration) -> Together {
        let (mut window, mut measured, mut oldest) = (Window::default(), 0, None);
        for region in regions.iter().filter(|region| self.is_fresh(region)) {
            window.merge(&self.last(region, back));
            measured += 1;
            oldest = oldest.max(self.hearing(region).age);
        }
        Together {
            over_s: back.as_secs(),
            p50_us: window.value_milli(Metric::P50Latency),
            p95_us: window.value_milli(Metric::P95Latency),
            p99_us: window.value_milli(Metric::P99Latency),
            requests: window.requests(),
            measured,
            regions: u64::try_from(regions.len()).unwrap_or(u64::MAX),
            age_ms: oldest.map(millis),
        }
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<RegionId, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gauges(region: &RegionId, inventory: &Inventory) -> Gauges {
    let now = |known: Option<&crate::world::Known>| {
        let Some(known) = known else { return Gauges::default() };
        let (mut cpu, mut memory) = ((0, 0), (0, 0));
        for host in &known.hosts {
            let used = host.total.saturating_sub(&host.free);
            cpu = (cpu.0 + used.cpu, cpu.1 + host.total.cpu);
            memory = (memory.0 + used.memory.get(), memory.1 + host.total.memory.get());
        }
        let answering = known.hosts.iter().filter(|host| host.answers).count();
        Gauges {
            vms: u32::try_from(known.guests.len()).unwrap_or(u32::MAX),
            hosts_answering: u32::try_from(answering).unwrap_or(u32::MAX),
            cpu_reserved_ppm: ppm(cpu),
            memory_reserved_ppm: ppm(memory),
        }
    };
    inventory.world.region(region, now)
}

fn ppm((part, whole): (u64, u64)) -> u32 {
    let ppm = part.saturating_mul(WHOLE_PPM).checked_div(whole).unwrap_or(0);
    u32::try_from(ppm.min(WHOLE_PPM)).unwrap_or(0)
}
