//! This daemon's copy of all incidents, of the head record, of who is on duty, and of service levels
//! with their ledgers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_monitor::incident::{Book, Incident, IncidentId, Silence, SilenceId};
use dwcp_monitor::sla::{Definition, Ledger};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::{Event, KeyValue, StrongEngine, StrongError};
use dwcp_types::RegionId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::mirror::read_pages;

/// Below which everything of incidents lies.
const PREFIX: &str = "/monitor/";
/// What every write compares.
pub(super) const HEAD_KEY: &str = "/monitor/head";
/// Who is on duty; dies with its lease.
pub(super) const DUTY_KEY: &str = "/monitor/duty";
/// Where the incidents are.
const INCIDENTS_PREFIX: &str = "/monitor/incidents/";
/// Where the silences are.
const SILENCES_PREFIX: &str = "/monitor/silences/";
/// Pause before the engine is asked again after it failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Where service levels that operators made are.
const SLAS_PREFIX: &str = "/monitor/slas/";
/// Where their ledgers are, and those of the file's.
const LEDGERS_PREFIX: &str = "/monitor/ledgers/";

/// Where a service level lies.
pub(super) fn sla_key(id: &str) -> String {
    format!("{SLAS_PREFIX}{id}")
}

/// Where the ledger of a service level in a region lies; ids have no slash.
pub(super) fn ledger_key(id: &str, region: &RegionId) -> String {
    format!("{LEDGERS_PREFIX}{id}/{region}")
}

/// A ledger with what was promised when it was kept: another promise begins another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) of: Definition,
    pub(super) ledger: Ledger,
}

/// Where an incident lies: ten digits, so that keys are in the order of numbers.
pub(super) fn incident_key(id: IncidentId) -> String {
    format!("{INCIDENTS_PREFIX}{:010}", id.number())
}

/// Where a silence lies.
pub(super) fn silence_key(id: SilenceId) -> String {
    format!("{SILENCES_PREFIX}{:010}", id.number())
}

/// What all writers agree on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    /// The number that was given last.
    last: u32,
    /// The number that a silence was given last.
    #[serde(default)]
    last_silence: u32,
}

impl Head {
    pub(super) const fn of(book: &Book) -> Self {
        Self { last: book.last, last_silence: book.last_silence }
    }
}

/// Who is on duty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OnDuty {
    /// Whose daemon.
    pub(super) region: RegionId,
    /// The revision of the key; another life of the same daemon has another.
    pub(super) revision: u64,
}

#[derive(Debug, Default)]
struct Known {
    /// Shared with whoever reads it; copied only when it changes meanwhile.
    book: Arc<Book>,
    /// The head's revision; zero when there is none yet.
    head: u64,
    duty: Option<OnDuty>,
    slas: BTreeMap<String, Definition>,
    ledgers: BTreeMap<(String, RegionId), Arc<Kept>>,
    is_read: bool,
    reachable: bool,
    heard_at: Option<Duration>,
}

/// The copy. One task writes it.
#[derive(Debug)]
pub(super) struct Board {
    known: Mutex<Known>,
    head: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

impl Board {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { known: Mutex::default(), head: watch::channel(0).0, clock }
    }

    /// All incidents and the head's revision; nothing before they were read.
    pub(super) fn book(&self) -> Option<(Arc<Book>, u64)> {
        let known = self.known();
        known.is_read.then(|| (known.book.clone(), known.head))
    }

    /// Looks at the incidents without copying them.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.known().book)
    }

    /// Who is on duty, as far as known.
    pub(super) fn duty(&self) -> Option<OnDuty> {
        self.known().duty.clone()
    }

    /// What operators promised.
    pub(super) fn slas(&self) -> Vec<Definition> {
        self.known().slas.values().cloned().collect()
    }

    /// The ledger of what is promised in a region; nothing when there is none of this promise.
    pub(super) fn ledger(&self, of: &Definition, region: &RegionId) -> Option<Arc<Kept>> {
        let key = (of.id.clone(), region.clone());
        self.known().ledgers.get(&key).filter(|kept| kept.of.measures_as(of)).cloned()
    }

    /// Every region that has a ledger of this id.
    pub(super) fn ledger_regions(&self, id: &str) -> Vec<RegionId> {
        let known = self.known();
        let of = known.ledgers.keys().filter(|(of, _)| of == id);
        of.map(|(_, region)| region.clone()).collect()
    }

    /// Whether it is known that nobody is on duty.
    pub(super) fn is_vacant(&self) -> bool {
        let known = self.known();
        known.is_read && known.reachable && known.duty.is_none()
    }

    /// How old the copy may be; nothing before it was read.
    pub(super) fn age(&self) -> Option<Duration> {
        let known = self.known();
        let heard_at = known.heard_at?;
        if known.reachable {
            return Some(Duration::ZERO);
        }
        Some(self.clock.monotonic().saturating_sub(heard_at))
    }

    /// Waits until the head is shown at this revision or later, or the time is over.
    pub(super) async fn shows(&self, revision: u64, within: Duration) {
        let mut head = self.head.subscribe();
        let shown = head.wait_for(|head| *head >= revision);
        drop(tokio::time::timeout(within, shown).await);
    }

    /// Waits until the head is shown at another revision than this.
    pub(super) async fn moves_on(&self, from: u64, within: Duration) {
        let mut head = self.head.subscribe();
        let moved = head.wait_for(|head| *head != from);
        drop(tokio::time::timeout(within, moved).await);
    }

    /// Keeps the copy true, for ever.
    pub(super) async fn follow(&self, engine: &dyn StrongEngine) {
        loop {
            if let Err(reason) = self.follow_once(engine).await {
                info!(%reason, "incidents are followed again later");
            }
            self.known().reachable = false;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn follow_once(&self, engine: &dyn StrongEngine) -> Result<(), StrongError> {
        let mut records = Vec::new();
        let take = |page: Vec<KeyValue>| records.extend(page);
        let revision = read_pages(engine, PREFIX, take).await?;
        let mut watch = engine.watch(PREFIX, revision + 1).await?;
        self.write(|known| {
            *known = Known { is_read: true, ..Known::default() };
            records.iter().for_each(|record| put(known, record));
        });
        while let Some(batch) = watch.next().await {
            // Whole revisions: the head and what was written with it are shown together.
            let batch = batch?;
            self.write(|known| {
                for event in batch.events {
                    match event {
                        Event::Put(record) => put(known, &record),
                        Event::Delete { key, .. } => delete(known, &key),
                    }
                }
            });
        }
        Ok(())
    }

    fn write(&self, change: impl FnOnce(&mut Known)) {
        let now = self.clock.monotonic();
        let mut known = self.known();
        change(&mut known);
        (known.reachable, known.heard_at) = (true, Some(now));
        let head = known.head;
        drop(known);
        self.head.send_replace(head);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(known: &mut Known, record: &KeyValue) {
    let unreadable = |reason: serde_json::Error| {
        warn!(key = record.key, %reason, "a record of incidents is unreadable");
    };
    if record.key == HEAD_KEY {
        known.head = record.mod_revision;
        match serde_json::from_slice::<Head>(&record.value) {
            Ok(Head { last, last_silence }) => {
                let book = Arc::make_mut(&mut known.book);
                (book.last, book.last_silence) = (last, last_silence);
            }
            Err(reason) => unreadable(reason),
        }
    } else if record.key == DUTY_KEY {
        match serde_json::from_slice(&record.value) {
            Ok(region) => {
                let revision = record.mod_revision;
                known.duty = Some(OnDuty { region, revision });
            }
            Err(reason) => unreadable(reason),
        }
    } else if let Some(id) = record.key.strip_prefix(SLAS_PREFIX) {
        match serde_json::from_slice(&record.value) {
            Ok(of) => drop(known.slas.insert(id.to_owned(), of)),
            Err(reason) => unreadable(reason),
        }
    } else if let Some(key) = ledger_of(&record.key) {
        match serde_json::from_slice(&record.value) {
            Ok(kept) => drop(known.ledgers.insert(key, Arc::new(kept))),
            Err(reason) => unreadable(reason),
        }
    } else if record.key.starts_with(SILENCES_PREFIX) {
        match serde_json::from_slice::<Silence>(&record.value) {
            Ok(silence) => {
                let book = Arc::make_mut(&mut known.book);
                drop(book.silences.insert(silence.id, silence));
            }
            Err(reason) => unreadable(reason),
        }
    } else if record.key.starts_with(INCIDENTS_PREFIX) {
        match serde_json::from_slice::<Incident>(&record.value) {
            Ok(incident) => {
                let book = Arc::make_mut(&mut known.book);
                drop(book.incidents.insert(incident.id, incident));
            }
            Err(reason) => unreadable(reason),
        }
    }
}

fn delete(known: &mut Known, key: &str) {
    if key == HEAD_KEY {
        known.head = 0;
    } else if key == DUTY_KEY {
        known.duty = None;
    } else if let Some(id) = key.strip_prefix(SLAS_PREFIX) {
        known.slas.remove(id);
    } else if let Some(key) = ledger_of(key) {
        known.ledgers.remove(&key);
    } else if let Some(number) = key.strip_prefix(INCIDENTS_PREFIX)
        && let Ok(number) = number.parse()
    {
        Arc::make_mut(&mut known.book).incidents.remove(&IncidentId::new(number));
    } else if let Some(number) = key.strip_prefix(SILENCES_PREFIX)
        && let Ok(number) = number.parse()
    {
        Arc::make_mut(&mut known.book).silences.remove(&SilenceId::new(number));
    }
}

/// Whose ledger lies there.
fn ledger_of(key: &str) -> Option<(String, RegionId)> {
    let (id, region) = key.strip_prefix(LEDGERS_PREFIX)?.split_once('/')?;
    Some((id.to_owned(), RegionId::new(region).ok()?))
}
