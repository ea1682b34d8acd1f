//! Moves VMs between regions: the log of each move in the strong engine, and the target's
//! daemon that brings it about (C20 to C22, F18).
//!
//! The target's daemon drives, because it is the only bookkeeper of the capacity that the VM
//! needs and the only one that may instruct its hosts: without it a move could not go on
//! anyway. It keeps nothing of its own: each step is read from the engine, done, and written
//! there, so its next life, or a second one, goes on where the log stands. Any daemon may ask
//! for a move, show it, and call it off by a compare-and-set of the same log.
//!
//! Rejected: a coordinator with a lease on the move. It would have to talk to the target's
//! daemon for every step, and two regions could stop a move instead of one.

mod committed;
mod drive;
mod reach;
mod request;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_controller::migration::{
    Entrant, Limits, MIGRATIONS_PREFIX, Migration, going, migration_key, waves,
};
use dwcp_controller::placement::{Policy, capacity};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::{Event, KeyValue, Op, StrongEngine, StrongError, Txn};
use dwcp_types::{MigrationId, RegionId, VmId};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::books::Books;
use crate::events::Events;
use crate::fleet::FleetKeeper;
use crate::metrics::Metrics;
use crate::mirror::{Mirror, read_pages};
use crate::traces::Saga;
use crate::warden::Seen;

pub use reach::Reach;

/// Pause before the engine is asked again after it failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Moves that are over and kept, for people to look at: as many as may wait.
const KEPT_MAX: usize = 1_000;

/// Moves that leave or reach one host at the same time: a host's own line is as wide as one
/// move's default share (T6), and a second one uses what the first leaves idle while it halts
/// and starts.
const HOST_MOVES_MAX: usize = 2;

/// Everything that moves need; cheap to make, what it keeps is on the board.
#[derive(Debug)]
pub struct Migrations {
    /// This daemon's region.
    pub region: RegionId,
    /// The engine with the logs and the VMs' records.
    pub engine: Arc<dyn StrongEngine>,
    /// The records, to look before asking the engine.
    pub mirror: Arc<Mirror>,
    /// The fleet, to choose the host.
    pub fleet: Arc<FleetKeeper>,
    /// The operator's choices.
    pub policy: Policy,
    /// This region's books.
    pub books: Books,
    /// The way to hosts of any region.
    pub reach: Reach,
    /// Where to note what happened.
    pub events: Events,
    /// Counts how they end.
    pub(crate) metrics: Arc<Metrics>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Moves of the whole federation at the same time.
    pub at_once: usize,
    /// What is known of all moves.
    pub board: Arc<Board>,
    /// What the warden sees of the regions' leases.
    pub seen: watch::Receiver<Arc<Seen>>,
    /// Tells their traces.
    pub(crate) saga: Saga,
}

/// What one daemon knows of all moves, and whose turn it is.
#[derive(Debug, Default)]
pub struct Board {
    going: watch::Sender<Arc<BTreeSet<MigrationId>>>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    all: BTreeMap<MigrationId, Arc<Migration>>,
    /// Those that a task of this daemon drives.
    driven: BTreeSet<MigrationId>,
}

impl Board {
    /// Whether it is this move's turn, or it does not wait for one.
    fn is_turn(&self, id: &MigrationId) -> bool {
        self.going.borrow().contains(id)
    }

    /// Waits until it is.
    async fn turn(&self, id: &MigrationId) {
        let mut going = self.going.subscribe();
        // It does not close: the sender is ours.
        drop(going.wait_for(|going| going.contains(id)).await);
    }

    /// The VMs whose disks are on their way.
    pub(crate) fn disks_under_way(&self) -> BTreeSet<VmId> {
        let known = self.known();
        let going = known.all.values().filter(|it| it.takes_disk());
        going.map(|it| it.ask.vm.clone()).collect()
    }

    /// All that are kept.
    pub(crate) fn all(&self) -> Vec<Arc<Migration>> {
        self.known().all.values().cloned().collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Migrations {
    /// Follows all moves for ever, and drives those that come to this region.
    pub async fn run(self: Arc<Self>) {
        loop {
            if let Err(reason) = self.follow().await {
                info!(%reason, "moves are followed again later");
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn follow(self: &Arc<Self>) -> Result<(), StrongError> {
        let mut records = Vec::new();
        let engine = self.engine.as_ref();
        let take = |page: Vec<KeyValue>| records.extend(page);
        let revision = read_pages(engine, MIGRATIONS_PREFIX, take).await?;
        let mut watch = self.engine.watch(MIGRATIONS_PREFIX, revision + 1).await?;
        self.board.known().all.clear();
        for record in &records {
            self.take(record);
        }
        self.call_up();
        while let Some(batch) = watch.next().await {
            for event in batch?.events {
                match event {
                    Event::Put(record) => self.take(&record),
                    Event::Delete { key, .. } => self.forget(&key),
                }
            }
            self.call_up();
            self.prune().await;
        }
        Ok(())
    }

    /// Shows whose turn it is.
    fn call_up(&self) {
        let entrants = self.entrants();
        let widths = self.widths(&entrants);
        let going = going(&entrants, self.limits(), |one, to| width(&widths, one, to));
        self.board.going.send_replace(Arc::new(going));
    }

    /// In which wave each move that waits is to go.
    fn waves(&self) -> BTreeMap<MigrationId, usize> {
        let entrants = self.entrants();
        let widths = self.widths(&entrants);
        waves(&entrants, self.limits(), |one, to| width(&widths, one, to))
    }

    fn entrants(&self) -> Vec<Entrant> {
        self.all().iter().filter_map(|it| Entrant::of(it)).collect()
    }

    fn limits(&self) -> Limits {
        Limits { at_once: self.at_once, per_host: HOST_MOVES_MAX }
    }

    /// What the hosts of each region have of the network, in bytes a second; nothing of those
    /// that do not say.
    fn widths(&self, entrants: &[Entrant]) -> BTreeMap<RegionId, u64> {
        let named = entrants.iter().flat_map(|it| [&it.source.0, &it.target]);
        let regions: BTreeSet<&RegionId> = named.collect();
        self.fleet.look(|fleet| {
            let of = |region: &RegionId| {
                let mbps = capacity(fleet, region, &[])?.total.bandwidth.get();
                let width = mbps.saturating_mul(1_000_000 / 8);
                (width > 0).then(|| (region.clone(), width))
            };
            regions.into_iter().filter_map(of).collect()
        })
    }

    fn forget(&self, key: &str) {
        let id = key.strip_prefix(MIGRATIONS_PREFIX).map(MigrationId::new);
        if let Some(Ok(id)) = id {
            self.board.known().all.remove(&id);
        }
    }

    fn take(self: &Arc<Self>, record: &KeyValue) {
        let migration: Migration = match serde_json::from_slice(&record.value) {
            Ok(migration) => migration,
            Err(reason) => {
                warn!(key = record.key, %reason, "the log of a move is unreadable");
                return;
            }
        };
        let id = migration.id.clone();
        let ours = migration.ask.target == self.region && !migration.is_done();
        let mut known = self.board.known();
        known.all.insert(id.clone(), Arc::new(migration));
        if ours && known.driven.insert(id.clone()) {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                this.drive(&id).await;
                this.board.known().driven.remove(&id);
            });
        }
    }

    /// Forgets the oldest of those that ended here, so that they do not grow for ever.
    async fn prune(&self) {
        let old: Vec<MigrationId> = {
            let known = self.board.known();
            let here = known.all.values().filter(|it| it.ask.target == self.region);
            let mut ended: Vec<_> =
                here.filter_map(|it| Some((it.ended_at?, it.id.clone()))).collect();
            ended.sort();
            let surplus = ended.len().saturating_sub(KEPT_MAX);
            ended.into_iter().take(surplus).map(|(_, id)| id).collect()
        };
        for id in old {
            let then = vec![Op::Delete { key: migration_key(&id) }];
            let txn = Txn { compare: Vec::new(), then, op_id: None };
            if let Err(reason) = self.engine.txn(txn).await {
                info!(%id, %reason, "a move that is over is forgotten later");
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Migration>> {
        self.board.all()
    }

    async fn note(&self, vm: &VmId, what: &str) {
        self.events.note(Some(vm), what).await;
    }
}

/// What the link between two regions bears: what the narrower of them has, and anything when
/// neither says.
fn width(widths: &BTreeMap<RegionId, u64>, one: &RegionId, other: &RegionId) -> u64 {
    let of = |region| widths.get(region).copied();
    [one, other].into_iter().filter_map(of).min().unwrap_or(u64::MAX)
}
