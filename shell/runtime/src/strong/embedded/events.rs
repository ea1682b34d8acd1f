//! The recent past, for watchers.
//!
//! A bounded ring of events in the order of their revisions. Watchers read it at their own
//! pace and are only woken by the writer: a slow watcher costs nothing and is told
//! `Compacted` when the ring has moved past it. A queue per watcher was rejected: its bound
//! would have to be enforced for each of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;

use super::super::{Event, EventBatch, StrongError, Watch};

/// Most events remembered: about a minute at the 1,000 strong writes a second that the control
/// plane is designed for.
const EVENTS_MAX: usize = 65_536;
/// Most bytes of keys and values remembered.
const EVENTS_LEN_MAX: usize = 64 << 20;
/// Most events of one batch, unless one revision has more.
const BATCH_EVENTS_MAX: usize = 512;
/// A watcher is told of progress after this many revisions without an event for it, so that
/// where it would resume never falls far behind the ring.
const PROGRESS_EVERY: u64 = 4_096;

/// The ring and the newest durable revision.
#[derive(Debug)]
pub(super) struct EventLog {
    ring: Mutex<Ring>,
    /// The newest durable revision; none once the engine is closed.
    newest: watch::Sender<Option<u64>>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    size: usize,
    /// The first revision of which every event is remembered.
    oldest: u64,
}

impl Default for EventLog {
    fn default() -> Self {
        Self { ring: Mutex::default(), newest: watch::Sender::new(Some(0)) }
    }
}

impl EventLog {
    pub(super) fn revision(&self) -> u64 {
        self.newest.borrow().unwrap_or_default()
    }

    /// Forgets everything: history begins after `revision`.
    pub(super) fn restart(&self, revision: u64) {
        let mut ring = self.lock();
        *ring = Ring { oldest: revision + 1, ..Ring::default() };
        self.newest.send_replace(Some(revision));
    }

    /// Appends durable events and wakes the watchers.
    pub(super) fn append(&self, events: impl IntoIterator<Item = Event>, revision: u64) {
        let mut ring = self.lock();
        for event in events {
            ring.push(event);
        }
        // Under the lock, so that no watcher sees the revision before its events.
        self.newest.send_replace(Some(revision));
    }

    /// Ends all watches.
    pub(super) fn close(&self) {
        self.newest.send_replace(None);
    }

    pub(super) fn watch(
        self: &Arc<Self>,
        prefix: &str,
        from_revision: u64,
    ) -> Result<Watch, StrongError> {
        let from = {
            let ring = self.lock();
            let from =
                if from_revision == 0 { self.revision() + 1 } else { from_revision };
            ring.covers(from)?;
            from
        };
        let reader = Reader {
            log: Arc::clone(self),
            newest: self.newest.subscribe(),
            prefix: prefix.to_owned(),
            next: from,
        };
        Ok(Watch::new(from, reader.into_stream()))
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, event: Event) {
        self.size += size_of_event(&event);
        self.events.push_back(event);
        while self.events.len() > EVENTS_MAX || self.size > EVENTS_LEN_MAX {
            let Some(gone) = self.events.pop_front() else { return };
            self.size -= size_of_event(&gone);
            self.oldest = gone.mod_revision() + 1;
        }
    }

    fn covers(&self, from: u64) -> Result<(), StrongError> {
        if from < self.oldest {
            return Err(StrongError::Compacted { oldest: self.oldest });
        }
        Ok(())
    }

    /// Whole revisions from `from` to at most `newest` with the events of the prefix.
    fn collect(
        &self,
        prefix: &str,
        from: u64,
        newest: u64,
    ) -> Result<EventBatch, StrongError> {
        self.covers(from)?;
        let start = self.events.partition_point(|event| event.mod_revision() < from);
        let mut batch = EventBatch { revision: newest, events: Vec::new() };
        for event in self.events.range(start..) {
            let last = batch.events.last().map(Event::mod_revision);
            if batch.events.len() >= BATCH_EVENTS_MAX
                && let Some(last) = last
                && last != event.mod_revision()
            {
                batch.revision = last;
                break;
            }
            if event.key().starts_with(prefix) {
                batch.events.push(event.clone());
            }
        }
        Ok(batch)
    }
}

struct Reader {
    log: Arc<EventLog>,
    newest: watch::Receiver<Option<u64>>,
    prefix: String,
    next: u64,
}

impl Reader {
    fn into_stream(self) -> BoxStream<'static, Result<EventBatch, StrongError>> {
        Box::pin(stream::unfold(Some(self), |reader| async {
            let mut reader = reader?;
            match reader.read().await? {
                Ok(batch) => Some((Ok(batch), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    async fn read(&mut self) -> Option<Result<EventBatch, StrongError>> {
        // Where this call has looked; `next` moves only with a batch that is handed out.
        let mut looked = self.next;
        loop {
            let newest = {
                let wanted = |newest: &Option<u64>| newest.is_none_or(|at| at >= looked);
                (*self.newest.wait_for(wanted).await.ok()?)?
            };
            let batch = match self.log.lock().collect(&self.prefix, looked, newest) {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error)),
            };
            looked = batch.revision + 1;
            if !batch.events.is_empty() || looked - self.next >= PROGRESS_EVERY {
                self.next = looked;
                return Some(Ok(batch));
            }
        }
    }
}

fn size_of_event(event: &Event) -> usize {
    let value = match event {
        Event::Put(record) => record.value.len(),
        Event::Delete { .. } => 0,
    };
    size_of::<Event>() + event.key().len() + value
}
