//! What happened in this region, kept over restarts and bounded.
//!
//! Noting is cheap and may be lost with the last moments before a crash: an event tells people,
//! it decides nothing. The region's own events are joined with what hosts report of their
//! guests when somebody asks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use dwcp_api::host::InstanceEvent;
use dwcp_api::public::Event;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::store::{Change as Write, LocalStore, StoreError};
use dwcp_types::{RegionId, VmId};
use tokio::sync::mpsc;
use tracing::warn;

/// Events that are kept: a week of a busy region of 1,000 VMs, about 2 MB.
const EVENTS_MAX: usize = 10_000;

/// Events that wait to be stored before who notes them does.
const QUEUE_MAX: usize = 1_024;

/// Where they lie in the region's store.
const PREFIX: &str = "event/";

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<(u64, Event)>,
    guests: BTreeMap<VmId, Vec<InstanceEvent>>,
}

/// The way to the events; cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    region: RegionId,
    clock: Arc<dyn Clock>,
    kept: Arc<Mutex<Kept>>,
    queue: mpsc::Sender<Event>,
}

/// Stores events.
#[derive(Debug)]
pub struct EventsTask {
    store: Arc<LocalStore>,
    kept: Arc<Mutex<Kept>>,
    queue: mpsc::Receiver<Event>,
}

impl Events {
    /// Loads what was kept.
    ///
    /// # Errors
    ///
    /// When the store cannot be read. An event that cannot be read is left out.
    pub fn open(
        region: RegionId,
        store: Arc<LocalStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<(EventsTask, Self), StoreError> {
        let mut kept = Kept::default();
        for (key, value) in store.scan(PREFIX)? {
            let seq = key.strip_prefix(PREFIX).and_then(|seq| seq.parse().ok());
            if let (Some(seq), Ok(event)) = (seq, serde_json::from_slice(&value)) {
                kept.events.push_back((seq, event));
            }
        }
        let kept = Arc::new(Mutex::new(kept));
        let (tx, queue) = mpsc::channel(QUEUE_MAX);
        let task = EventsTask { store, kept: Arc::clone(&kept), queue };
        Ok((task, Self { region, clock, kept, queue: tx }))
    }

    /// Notes something.
    pub async fn note(&self, vm: Option<&VmId>, what: &str) {
        let event = Event {
            at: self.clock.now(),
            region: self.region.clone(),
            vm: vm.cloned(),
            what: what.to_owned(),
        };
        if self.queue.send(event).await.is_err() {
            warn!(what, "an event came after the end");
        }
    }

    /// Takes what a host says of a guest's history, in place of what it said before.
    pub fn guest(&self, vm: &VmId, events: Vec<InstanceEvent>) {
        lock(&self.kept).guests.insert(vm.clone(), events);
    }

    /// Forgets a guest's history on its host.
    pub fn forget_guest(&self, vm: &VmId) {
        lock(&self.kept).guests.remove(vm);
    }

    /// The newest events, oldest first.
    #[must_use]
    pub fn list(&self, vm: Option<&VmId>, limit: usize) -> Vec<Event> {
        let kept = lock(&self.kept);
        let matching = kept.events.iter().rev().map(|(_, event)| event);
        let matching = matching.filter(|event| vm.is_none() || event.vm.as_ref() == vm);
        let mut events: Vec<Event> = matching.take(limit).cloned().collect();
        if let Some(vm) = vm {
            let guest = kept.guests.get(vm).into_iter().flatten();
            events.extend(guest.map(|event| Event {
                at: event.at,
                region: self.region.clone(),
                vm: Some(vm.clone()),
                what: event.what.clone(),
            }));
        }
        events.sort();
        events.drain(..events.len().saturating_sub(limit));
        events
    }
}

impl EventsTask {
    /// Stores events until nobody can note any more.
    pub async fn run(mut self) {
        let mut batch = Vec::new();
        while self.queue.recv_many(&mut batch, QUEUE_MAX).await > 0 {
            let writes = self.keep(batch.drain(..));
            if let Err(reason) = self.store.apply(writes).await {
                warn!(%reason, "events are kept in memory only");
            }
        }
    }

    fn keep(&self, events: impl Iterator<Item = Event>) -> Vec<Write> {
        let mut kept = lock(&self.kept);
        let mut writes = Vec::new();
        for event in events {
            let seq = kept.events.back().map_or(1, |(seq, _)| seq + 1);
            if let Ok(value) = serde_json::to_vec(&event) {
                writes.push(Write::Put { key: key(seq), value: value.into() });
            }
            kept.events.push_back((seq, event));
            if kept.events.len() > EVENTS_MAX
                && let Some((oldest, _)) = kept.events.pop_front()
            {
                writes.push(Write::Delete { key: key(oldest) });
            }
        }
        writes
    }
}

/// Twenty digits, so that the order of keys is the order of numbers.
fn key(seq: u64) -> String {
    format!("{PREFIX}{seq:020}")
}

fn lock(kept: &Mutex<Kept>) -> std::sync::MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
