//! Where traces are put and found: a thread of its own writes them, so that a disk that hangs
//! holds up neither decisions nor whoever asks.
//!
//! ```text
//!   decided ─▶ orders, bounded ─▶ the writer: opens and reads what there is, then writes ─▶ Store
//!                                                                                     │ index
//!   lists ◀──────────────────────────────────────────────────────────────────────────┘
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dwcp_api::trace::peer::KeptTrace;
use dwcp_api::trace::{TraceFilter, TraceItem};
use dwcp_monitor::trace::{Span, TraceId, Why};
use dwcp_runtime::segments::Reader;
use dwcp_types::Timestamp;
use tracing::{error, info};

use super::index::Index;
use super::store::{BYTES_MAX, Store, Stored, look, read};

/// Orders that wait: the disk may hang for two seconds before traces are lost.
const ORDERS_MAX: usize = 4;
/// How long a daemon that stops waits for its last traces to be written.
const LAST_TIME_MAX: Duration = Duration::from_secs(5);
/// How often it looks for room for them in that time.
const LAST_TRIES: u32 = 50;

/// Spans to be written: of which trace, why it is kept.
pub(super) type ToKeep = (TraceId, Option<Why>, Vec<Span>);

/// What to write, and what to throw away then.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) to_keep: Vec<ToKeep>,
    pub(super) now: Timestamp,
    pub(super) retention: Duration,
}

/// Counts spans that were not written, by reason.
pub(super) type Lost = Arc<dyn Fn(&'static str, usize) + Send + Sync>;

/// How far the writer is.
const READING: u8 = 0;
const OPEN: u8 = 1;
const CLOSED: u8 = 2;

/// See the module.
pub(super) struct Shelf {
    orders: SyncSender<Work>,
    index: Arc<Mutex<Index>>,
    reader: Reader,
    stage: Arc<AtomicU8>,
    lost: Lost,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Says that nobody writes any more, however that came to be.
struct Closes(Arc<AtomicU8>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.store(CLOSED, Ordering::Release);
    }
}

enum Work {
    Order(Order),
    /// Says when all of before is done.
    Last(Order, SyncSender<()>),
}

impl Shelf {
    /// Starts the writer of a folder.
    ///
    /// # Errors
    ///
    /// When there is no thread for it.
    pub(super) fn start(folder: &Path, lost: Lost) -> std::io::Result<Self> {
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        let index = Arc::default();
        let stage = Arc::new(AtomicU8::new(READING));
        let shelf = Self {
            orders,
            index: Arc::clone(&index),
            reader: Reader::new(folder),
            stage: Arc::clone(&stage),
            lost: Arc::clone(&lost),
        };
        let folder = folder.to_owned();
        thread::Builder::new().name("traces".to_owned()).spawn(move || {
            let closes = Closes(Arc::clone(&stage));
            match Store::open(&folder, BYTES_MAX, Arc::clone(&index)) {
                Ok(store) => {
                    info!(traces = look(&index).len(), "the traces on disk are read");
                    stage.store(OPEN, Ordering::Release);
                    work(store, &inbox, &lost);
                }
                Err(reason) => {
                    let folder = folder.display();
                    error!(%folder, %reason, "no traces are kept: mend the folder and start again");
                }
            }
            drop(closes);
        })?;
        Ok(shelf)
    }

    /// Whether what was kept before is still being read: nothing is to be ordered before.
    pub(super) fn is_reading(&self) -> bool {
        self.stage.load(Ordering::Acquire) == READING
    }

    /// Has something written, if the writer keeps up.
    pub(super) fn order(&self, order: Order) {
        if let Err(refused) = self.orders.try_send(Work::Order(order)) {
            let (why, work) = match refused {
                TrySendError::Full(work) => ("disk_busy", work),
                TrySendError::Disconnected(work) => ("disk", work),
            };
            let (Work::Order(order) | Work::Last(order, _)) = work;
            (self.lost)(why, order.to_keep.iter().map(|it| it.2.len()).sum());
        }
    }

    /// Has the last things written, and waits for that a while.
    pub(super) fn finish(&self, order: Order) {
        let spans = order.to_keep.iter().map(|it| it.2.len()).sum();
        let (done, is_done) = sync_channel(1);
        let mut work = Some((Work::Last(order, done), LAST_TRIES));
        while let Some((now, tries)) = work.take() {
            if let Err(TrySendError::Full(back)) = self.orders.try_send(now)
                && tries > 0
            {
                thread::sleep(LAST_TIME_MAX / LAST_TRIES);
                work = Some((back, tries - 1));
            }
        }
        if is_done.recv_timeout(LAST_TIME_MAX).is_err() {
            (self.lost)("disk_busy", spans);
            info!(spans, "the last traces are not on disk");
        }
    }

    /// The newest first, one more than `limit` when there are more; nothing while they are read.
    pub(super) fn list(
        &self,
        filter: &TraceFilter,
        limit: usize,
    ) -> Option<Vec<TraceItem>> {
        self.is_open().then(|| look(&self.index).list(filter, limit))
    }

    /// What is on disk of a trace; nothing while all is read.
    pub(super) async fn read(&self, trace: TraceId) -> Option<KeptTrace> {
        if !self.is_open() {
            return None;
        }
        let (reader, index) = (self.reader.clone(), Arc::clone(&self.index));
        tokio::task::spawn_blocking(move || read(&reader, &index, trace)).await.ok()
    }

    fn is_open(&self) -> bool {
        self.stage.load(Ordering::Acquire) == OPEN
    }

    /// How many traces are found, and what they take on disk.
    pub(super) fn size(&self) -> (usize, u64) {
        let index = look(&self.index);
        (index.len(), index.bytes)
    }
}

fn work(mut store: Store, inbox: &Receiver<Work>, lost: &Lost) {
    while let Ok(work) = inbox.recv() {
        let (order, done) = match work {
            Work::Order(order) => (order, None),
            Work::Last(order, done) => (order, Some(done)),
        };
        write(&mut store, order.now, order.to_keep, lost);
        store.sweep(order.now, order.retention);
        if let Some(done) = done {
            // Whoever waited may have gone.
            done.send(()).unwrap_or_default();
        }
    }
}

fn write(store: &mut Store, now: Timestamp, to_keep: Vec<ToKeep>, lost: &Lost) {
    for (trace, why, spans) in to_keep {
        let count = spans.len();
        // What is late follows its trace; of one that is not there, only what failed is kept.
        let failed = spans.iter().any(|span| span.failed.is_some());
        let late = || store.why(trace).or_else(|| failed.then_some(Why::Failed));
        let Some(why) = why.or_else(late) else {
            lost("no_room", count);
            continue;
        };
        match store.keep(now, why, spans) {
            Ok(Stored::Yes) => {}
            Ok(Stored::NoRoom) => lost("no_room", count),
            // The store has said why.
            Err(_) => lost("disk", count),
        }
    }
}
