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

mod drive;
mod reach;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_controller::migration::{MIGRATIONS_PREFIX, Migration, migration_key};
use dwcp_controller::placement::Policy;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::{Event, KeyValue, Op, StrongEngine, StrongError, Txn};
use dwcp_types::{MigrationId, RegionId, VmId};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::books::Books;
use crate::events::Events;
use crate::fleet::FleetKeeper;
use crate::metrics::Metrics;
use crate::mirror::{Mirror, read_pages};

pub use reach::Reach;

/// Pause before the engine is asked again after it failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Moves that are over and kept, for people to look at: as many as may wait.
const KEPT_MAX: usize = 1_000;

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
    /// What is known of all moves.
    pub board: Arc<Board>,
}

/// What one daemon knows of all moves, and whose turn it is here.
#[derive(Debug)]
pub struct Board {
    turns: Arc<Semaphore>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    all: BTreeMap<MigrationId, Arc<Migration>>,
    /// Those that a task of this daemon drives.
    driven: BTreeSet<MigrationId>,
}

impl Board {
    /// An empty one, with so many moves to this region at the same time (at least one).
    #[must_use]
    pub fn new(at_once: u32) -> Arc<Self> {
        let at_once = usize::try_from(at_once.max(1)).unwrap_or(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            turns: Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS))),
            known: Mutex::default(),
        })
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
        while let Some(batch) = watch.next().await {
            for event in batch?.events {
                match event {
                    Event::Put(record) => self.take(&record),
                    Event::Delete { key, .. } => self.forget(&key),
                }
            }
            self.prune().await;
        }
        Ok(())
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

    fn all(&self) -> Vec<Arc<Migration>> {
        self.board.known().all.values().cloned().collect()
    }

    async fn note(&self, vm: &VmId, what: &str) {
        self.events.note(Some(vm), what).await;
    }
}
