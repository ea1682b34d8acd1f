//! This daemon's copy of the strong engine's records: all VMs and all regions.
//!
//! It only follows: whatever is decided on it is checked again by the owner of the capacity
//! or by a compare in the engine. One task writes it; readers take a short lock and get `Arc`s
//! out. A copy in every daemon is what lets any of them list, explain and place while the
//! engine is away; `age` says how old it is.
//!
//! Rejected: reading the engine on every request (a list of 30,000 VMs would cross the wire
//! each time, and nothing could be seen while the engine's host restarts).

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::time::Duration;

use dwcp_controller::ownership::{VMS_PREFIX, VmRecord};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::{Event, KeyValue, Range, StrongEngine, StrongError};
use dwcp_types::{RegionId, VmId};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;
use tracing::{error, info, warn};

use crate::records::{REGIONS_PREFIX, RegionRecord};

/// Pause before the engine is asked again after it failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Changes that a slow follower may lag behind before it must look at everything again.
const CHANGES_MAX: usize = 16_384;

/// Records read at once.
const PAGE_ITEMS: usize = 1_000;

/// What changed in the mirror.
#[derive(Clone, Debug)]
pub enum Change {
    /// A VM's record came, changed or went.
    Vm {
        /// What it was.
        before: Option<Arc<VmRecord>>,
        /// What it is.
        after: Option<Arc<VmRecord>>,
    },
    /// A region's record came, changed or went.
    Region,
    /// Anything may have changed: look at everything.
    Reset,
}

/// A record and the revision of its last change, for a compare.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The record.
    pub record: Arc<T>,
    /// The engine's revision of its last change.
    pub mod_revision: u64,
}

#[derive(Debug, Default)]
struct Tables {
    revision: u64,
    /// Of VMs' records alone.
    vms_revision: u64,
    vms: BTreeMap<VmId, Stored<VmRecord>>,
    regions: BTreeMap<RegionId, Stored<RegionRecord>>,
    heard_at: Option<Duration>,
    reachable: bool,
}

/// The copy; cheap to share.
#[derive(Debug)]
pub struct Mirror {
    tables: RwLock<Tables>,
    changes: broadcast::Sender<Change>,
    clock: Arc<dyn Clock>,
}

impl Mirror {
    /// An empty copy.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        Arc::new(Self { tables: RwLock::default(), changes, clock })
    }

    /// Follows what changes from now on. A receiver that lags must treat it as
    /// [`Change::Reset`].
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// One VM.
    pub fn vm(&self, vm: &VmId) -> Option<Stored<VmRecord>> {
        self.read().vms.get(vm).cloned()
    }

    /// VMs by name, those after `after`, that `keep` accepts, at most `limit`.
    pub fn vms(
        &self,
        after: Option<&VmId>,
        limit: usize,
        keep: impl Fn(&VmRecord) -> bool,
    ) -> Vec<Arc<VmRecord>> {
        use std::ops::Bound;
        let tables = self.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        tables
            .vms
            .range::<VmId, _>((from, Bound::Unbounded))
            .map(|(_, stored)| &stored.record)
            .filter(|record| keep(record))
            .take(limit)
            .cloned()
            .collect()
    }

    /// How many VMs there are, by region.
    pub fn vm_counts(&self) -> BTreeMap<RegionId, u64> {
        let mut counts = BTreeMap::new();
        for stored in self.read().vms.values() {
            let region = &stored.record.owner.region;
            match counts.get_mut(region) {
                Some(count) => *count += 1,
                None => drop(counts.insert(region.clone(), 1)),
            }
        }
        counts
    }

    /// One region.
    pub fn region(&self, region: &RegionId) -> Option<Stored<RegionRecord>> {
        self.read().regions.get(region).cloned()
    }

    /// The round trip between two regions as either's record tells it, in milliseconds.
    pub fn rtt_ms(&self, from: &RegionId, to: &RegionId) -> Option<u64> {
        let told = |one: &RegionId, other: &RegionId| {
            let region = self.region(one)?;
            let latency = region.record.region.network_latency.get(other)?;
            Some(u64::from(latency.get()).div_ceil(1_000))
        };
        told(from, to).or_else(|| told(to, from))
    }

    /// All regions by name.
    pub fn regions(&self) -> Vec<Arc<RegionRecord>> {
        self.read().regions.values().map(|stored| stored.record.clone()).collect()
    }

    /// The newest revision seen.
    pub fn revision(&self) -> u64 {
        self.read().revision
    }

    /// The newest revision up to which VMs' records are known; 0 before they were read.
    pub fn vms_revision(&self) -> u64 {
        self.read().vms_revision
    }

    /// Whether the engine answered the last time it was asked.
    pub fn reachable(&self) -> bool {
        self.read().reachable
    }

    /// How long ago the engine was last heard from; nothing before the first time.
    pub fn age(&self) -> Option<Duration> {
        let heard_at = self.read().heard_at?;
        if self.reachable() {
            return Some(Duration::ZERO);
        }
        Some(self.clock.monotonic().saturating_sub(heard_at))
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        let mut tables =
            self.tables.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut tables)
    }

    fn heard(&self, reachable: bool) {
        let now = self.clock.monotonic();
        self.write(|tables| {
            tables.reachable = reachable;
            if reachable {
                tables.heard_at = Some(now);
            }
        });
    }

    fn tell(&self, change: Change) {
        // Nobody listening is no failure.
        self.changes.send(change).unwrap_or_default();
    }

    fn take(&self, event: Event) {
        let revision = event.mod_revision();
        let of_vm = match &event {
            Event::Put(record) => record.key.starts_with(VMS_PREFIX),
            Event::Delete { key, .. } => key.starts_with(VMS_PREFIX),
        };
        let change = match event {
            Event::Put(record) => self.put(&record),
            Event::Delete { key, mod_revision } => self.remove(&key, mod_revision),
        };
        self.write(|tables| {
            tables.revision = tables.revision.max(revision);
            if of_vm {
                tables.vms_revision = tables.vms_revision.max(revision);
            }
        });
        if let Some(change) = change {
            self.tell(change);
        }
    }

    fn put(&self, record: &KeyValue) -> Option<Change> {
        let mod_revision = record.mod_revision;
        if record.key.starts_with(VMS_PREFIX) {
            let vm: Arc<VmRecord> = Arc::new(decoded(record)?);
            let stored = Stored { record: vm.clone(), mod_revision };
            let id = vm.request.id.clone();
            let before = self.write(|tables| newest(&mut tables.vms, id, stored))?;
            return Some(Change::Vm { before, after: Some(vm) });
        }
        let region: Arc<RegionRecord> = Arc::new(decoded(record)?);
        let id = region.region.id.clone();
        let stored = Stored { record: region, mod_revision };
        self.write(|tables| newest(&mut tables.regions, id, stored))?;
        Some(Change::Region)
    }

    fn remove(&self, key: &str, mod_revision: u64) -> Option<Change> {
        if let Some(name) = key.strip_prefix(VMS_PREFIX) {
            let id = VmId::new(name).ok()?;
            let before =
                self.write(|tables| removed(&mut tables.vms, &id, mod_revision))?;
            return Some(Change::Vm { before: Some(before), after: None });
        }
        let id = RegionId::new(key.strip_prefix(REGIONS_PREFIX)?).ok()?;
        self.write(|tables| removed(&mut tables.regions, &id, mod_revision))?;
        Some(Change::Region)
    }

    /// Replaces everything below a prefix, at one stroke: nobody sees it half.
    fn reset(&self, prefix: &str, records: &[KeyValue], revision: u64) {
        let vms = prefix == VMS_PREFIX;
        let mut fresh = Tables::default();
        for record in records {
            let mod_revision = record.mod_revision;
            if vms {
                if let Some(vm) = decoded::<VmRecord>(record).map(Arc::new) {
                    let id = vm.request.id.clone();
                    fresh.vms.insert(id, Stored { record: vm, mod_revision });
                }
            } else if let Some(region) = decoded::<RegionRecord>(record).map(Arc::new) {
                let id = region.region.id.clone();
                fresh.regions.insert(id, Stored { record: region, mod_revision });
            }
        }
        self.write(|tables| {
            if vms {
                tables.vms = fresh.vms;
                tables.vms_revision = tables.vms_revision.max(revision);
            } else {
                tables.regions = fresh.regions;
            }
            tables.revision = tables.revision.max(revision);
        });
        self.tell(Change::Reset);
    }
}

/// Puts a row unless a newer one is there: a watch begins before the pages that were read, and
/// repeats what they have. Says what was there.
#[expect(clippy::option_option, reason = "not put, or put over nothing, or over a row")]
fn newest<K: Ord, T>(
    rows: &mut BTreeMap<K, Stored<T>>,
    key: K,
    row: Stored<T>,
) -> Option<Option<Arc<T>>> {
    if rows.get(&key).is_some_and(|old| old.mod_revision >= row.mod_revision) {
        return None;
    }
    Some(rows.insert(key, row).map(|old| old.record))
}

/// Removes a row unless it is newer than its end.
fn removed<K: Ord, T>(
    rows: &mut BTreeMap<K, Stored<T>>,
    key: &K,
    mod_revision: u64,
) -> Option<Arc<T>> {
    if rows.get(key)?.mod_revision > mod_revision {
        return None;
    }
    rows.remove(key).map(|old| old.record)
}

/// A record that cannot be read is left out and told; one bad record must not take the rest
/// down with it.
fn decoded<T: DeserializeOwned>(record: &KeyValue) -> Option<T> {
    serde_json::from_slice(&record.value)
        .inspect_err(|reason| error!(key = record.key, %reason, "a record is unreadable"))
        .ok()
}

/// Keeps the mirror true below one prefix, for ever.
pub async fn follow(mirror: Arc<Mirror>, engine: Arc<dyn StrongEngine>, prefix: &str) {
    loop {
        let ended = follow_once(&mirror, engine.as_ref(), prefix).await;
        if let Err(reason) = ended {
            if mirror.reachable() {
                warn!(%reason, prefix, "the strong engine is not followed any more");
            }
            mirror.heard(matches!(reason, StrongError::Compacted { .. }));
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn follow_once(
    mirror: &Mirror,
    engine: &dyn StrongEngine,
    prefix: &str,
) -> Result<(), StrongError> {
    let (records, revision) = read_all(engine, prefix).await?;
    let mut watch = engine.watch(prefix, revision + 1).await?;
    info!(prefix, revision, records = records.len(), "following the strong engine");
    mirror.reset(prefix, &records, revision);
    mirror.heard(true);
    while let Some(batch) = watch.next().await {
        let batch = batch?;
        mirror.heard(true);
        for event in batch.events {
            mirror.take(event);
        }
    }
    Ok(())
}

/// Every record below a prefix, and the revision to watch after.
async fn read_all(
    engine: &dyn StrongEngine,
    prefix: &str,
) -> Result<(Vec<KeyValue>, u64), StrongError> {
    let mut records = Vec::new();
    let revision = read_pages(engine, prefix, |page| records.extend(page)).await?;
    Ok((records, revision))
}

/// Hands every record below a prefix to `take`, a page at a time, and returns the revision of
/// the first page: what changed since may be there or not.
pub(crate) async fn read_pages(
    engine: &dyn StrongEngine,
    prefix: &str,
    mut take: impl FnMut(Vec<KeyValue>) + Send,
) -> Result<u64, StrongError> {
    let mut after: Option<String> = None;
    let mut revision = None;
    loop {
        let range = Range { prefix, after: after.as_deref(), limit: PAGE_ITEMS };
        let page = engine.range(range).await?;
        let first = *revision.get_or_insert(page.revision);
        let more = page.more && !page.items.is_empty();
        after = page.items.last().map(|record| record.key.clone());
        take(page.items);
        if !more {
            return Ok(first);
        }
    }
}
