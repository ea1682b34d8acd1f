//! The router: makes a routing table every second of what this daemon knows, and answers from
//! it where a request would go.
//!
//! One task makes tables, each from the one before; readers take the `Arc` that is there. Inputs
//! that would send requests nowhere make no table: the last good one stays, and is told of. What
//! an operator chose while the federation runs is a record in the strong engine, followed by
//! every daemon; without the engine the last that was read counts.

mod announce;
mod answers;
mod atlas;
mod inputs;
mod memory;
mod names;
mod replays;
mod requests;
mod sessions;
mod settings;
mod views;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use dwcp_router::{Problem, Table};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::store::LocalStore;
use dwcp_runtime::strong::StrongEngine;
use dwcp_types::{RegionId, Timestamp};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::config::{Federation, RoutingConfig, UserZoneSpec};
use crate::inventory::Inventory;
use crate::metrics::Metrics;

pub(crate) use self::announce::{AnnounceDoor, AnnouncePlane, AnycastApi};
pub(crate) use self::atlas::AtlasFile;
use self::atlas::Look;
use self::inputs::{Maker, Places};
use self::memory::{Known, Memory};
pub(crate) use self::names::NamePlane;
pub(crate) use self::requests::{Place, RequestPlane};
use self::settings::Settings;

/// How often it is looked whether the file of places has changed: it does each week or month.
const PLACES_EVERY: Duration = Duration::from_secs(5);

/// A table with what belongs to it.
#[derive(Debug)]
pub(crate) struct Made {
    table: Arc<Table>,
    /// Which cell is which place.
    places: Places,
    /// How long it took.
    took: Duration,
    /// When, by the monotonic clock.
    at: Duration,
    /// When its regions were known, where they are from before the start of this daemon.
    recalled: Option<Timestamp>,
}

/// What a router is made of.
#[derive(Debug)]
struct Parts {
    region: RegionId,
    config: RoutingConfig,
    zones: Vec<UserZoneSpec>,
    /// Whether this region has a name server, and a proxy.
    planes: (bool, bool),
    /// Where clients are that are in no network of the configuration.
    atlas: Option<AtlasFile>,
    inventory: Inventory,
    engine: Arc<dyn StrongEngine>,
    metrics: Arc<Metrics>,
}

/// Makes tables and answers from them.
#[derive(Debug)]
pub struct Router {
    parts: Parts,
    made: watch::Sender<Option<Arc<Made>>>,
    settings: RwLock<Settings>,
    /// Why the newest inputs made no table.
    refused: RwLock<Vec<String>>,
    changed: Notify,
}

impl Router {
    /// # Errors
    ///
    /// When the configuration names a file of places that cannot be used.
    pub(crate) fn new(
        federation: &Federation,
        region: &RegionId,
        inventory: &Inventory,
        engine: &Arc<dyn StrongEngine>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Arc<Self>> {
        let places = federation.routing.places.as_deref();
        let parts = Parts {
            region: region.clone(),
            config: federation.routing.clone(),
            zones: federation.user_zones.clone(),
            planes: planes(federation, region),
            atlas: places.map(AtlasFile::open).transpose()?,
            inventory: inventory.clone(),
            engine: engine.clone(),
            metrics: metrics.clone(),
        };
        Ok(Arc::new(Self {
            parts,
            made: watch::Sender::new(None),
            settings: RwLock::default(),
            refused: RwLock::default(),
            changed: Notify::new(),
        }))
    }

    fn clock(&self) -> &dyn Clock {
        self.parts.inventory.clock.as_ref()
    }

    fn settings(&self) -> Settings {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what an operator chose, and makes a table of it at once.
    fn choose(&self, settings: Settings) {
        let mut now = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        if *now != settings {
            *now = settings;
            drop(now);
            self.changed.notify_one();
        }
    }

    /// Makes tables and follows what operators choose, for ever.
    pub async fn run(self: Arc<Self>, store: Arc<LocalStore>) {
        let memory = Memory::new(store);
        let recalled = memory.recall();
        if let Some(known) = &recalled {
            self.choose(known.settings.clone());
        }
        tokio::join!(
            self.make_tables(memory, recalled),
            self.follow(),
            self.clone().follow_places()
        );
    }

    /// Reads the file of places again when it has changed, for ever.
    async fn follow_places(self: Arc<Self>) {
        if self.parts.atlas.is_none() {
            return;
        }
        let mut tick = tokio::time::interval(PLACES_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let own = self.clone();
            // Seconds of CPU when the file is large and has changed.
            let look = tokio::task::spawn_blocking(move || {
                own.parts.atlas.as_ref().map(AtlasFile::look)
            });
            match look.await {
                Ok(Some(Look::Taken)) => {
                    info!("the places of clients were read anew");
                    self.changed.notify_one();
                }
                Ok(Some(Look::Refused(reason))) => {
                    warn!(%reason, "a changed file of places is not used; the last good one stays");
                }
                Ok(Some(Look::Same) | None) => {}
                Err(error) => warn!(%error, "a changed file of places was not read"),
            }
        }
    }

    async fn make_tables(&self, mut memory: Memory, recalled: Option<Known>) {
        let mut tick = tokio::time::interval(self.parts.config.table_interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut maker = Maker::new(recalled);
        let mut generation = 0;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.changed.notified() => {}
            }
            generation += 1;
            self.make(&mut maker, generation);
            self.keep(&mut memory, &maker).await;
        }
    }

    /// Keeps what the newest table was made of, unless it was recalled itself.
    async fn keep(&self, memory: &mut Memory, maker: &Maker) {
        let made = self.made.borrow().clone();
        let Some(made) = made.filter(|made| made.recalled.is_none()) else { return };
        let (inputs, settings) = (made.table.inputs(), self.settings());
        if !memory.is_due(&settings, maker.seen(), self.clock().now()) {
            return;
        }
        let known = Known {
            at: inputs.now,
            settings,
            seen: maker.seen().to_vec(),
            sites: inputs.sites.clone(),
            links: inputs.links.clone(),
        };
        memory.keep(known).await;
    }

    fn make(&self, maker: &mut Maker, generation: u64) {
        let start = self.clock().monotonic();
        let settings = self.settings();
        let (inputs, places, recalled) = maker.inputs(&self.parts, &settings);
        // Before the regions' records are read there is nothing to route to.
        if inputs.sites.is_empty() {
            return;
        }
        let before = self.made.borrow().clone();
        let made =
            Table::build(inputs, generation, before.as_deref().map(|made| &*made.table));
        let problems = match made {
            Ok(table) => {
                let at = self.clock().monotonic();
                let took = at.saturating_sub(start);
                let table = Arc::new(table);
                let made = Made { table, places, took, at, recalled };
                self.made.send_replace(Some(Arc::new(made)));
                Vec::new()
            }
            Err(problems) => problems.iter().map(Problem::to_string).collect(),
        };
        let mut refused = self.refused.write().unwrap_or_else(PoisonError::into_inner);
        if *refused != problems {
            match problems.first() {
                Some(problem) => {
                    warn!(%problem, problems = problems.len(), "no new routing table");
                }
                None => info!("routing tables are made again"),
            }
            *refused = problems;
        }
    }
}

/// Whether a region has a name server, and a proxy.
fn planes(federation: &Federation, region: &RegionId) -> (bool, bool) {
    let Some(spec) = federation.region(region) else { return (false, false) };
    let names = federation.routing.dns.is_some() && spec.dns_endpoint.is_some();
    (names, spec.proxy_endpoint.is_some())
}
