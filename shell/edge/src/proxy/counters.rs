//! What the proxy did, as counts that only rise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dwcp_types::RegionId;

use super::log::End;

/// Bodies of answers from a region to clients, and what connections brought from there, in bytes
/// (O26).
#[derive(Debug, Default)]
pub struct Bytes(AtomicU64);

impl Bytes {
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Something that befell a request or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Refused,
    ConnectionRefused,
    SentAgain,
    NotSentAgain,
    NoRegion,
    Unreached,
    TimedOut,
    DatagramLost,
    LogLost,
}

const EVENTS: [&str; 9] = [
    "refused",
    "connections_refused",
    "sent_again",
    "not_sent_again",
    "no_region",
    "unreached",
    "timed_out",
    "datagrams_lost",
    "log_lost",
];

/// Counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// By the first digit of the status.
    answers: [AtomicU64; 6],
    events: [AtomicU64; EVENTS.len()],
    /// Connections that were passed on, by how they ended.
    ends: [AtomicU64; End::ALL.len()],
    /// Those that are passed on now.
    open: Arc<AtomicU64>,
    bytes: BTreeMap<RegionId, Arc<Bytes>>,
}

impl Counters {
    /// With bytes counted for these regions.
    #[must_use]
    pub fn of<'r>(regions: impl IntoIterator<Item = &'r RegionId>) -> Self {
        let bytes = regions.into_iter().map(|id| (id.clone(), Arc::default()));
        Self { bytes: bytes.collect(), ..Self::default() }
    }

    /// Answers by the class of their status.
    pub fn answers(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let classes = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
        let counts = self.answers.iter().map(|count| count.load(Ordering::Relaxed));
        classes.into_iter().zip(counts)
    }

    /// Everything else that is worth knowing, by name.
    pub fn events(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.events.iter().map(|count| count.load(Ordering::Relaxed));
        EVENTS.into_iter().zip(counts)
    }

    /// Connections that were passed on as they are, by how they ended.
    pub fn connections(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.ends.iter().map(|count| count.load(Ordering::Relaxed));
        End::ALL.into_iter().map(End::as_str).zip(counts)
    }

    /// Connections that are passed on at this moment.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Bytes of answers' bodies and of connections, by the region that they came from.
    pub fn bytes(&self) -> impl Iterator<Item = (&RegionId, u64)> {
        self.bytes.iter().map(|(id, bytes)| (id, bytes.0.load(Ordering::Relaxed)))
    }

    pub(super) fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        if let Some(count) = self.answers.get(class).or_else(|| self.answers.first()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn add(&self, event: Event) {
        if let Some(count) = self.events.get(event as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection is passed on as long as what is given back is held.
    pub(super) fn opened(&self) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.open.clone())
    }

    pub(super) fn ended(&self, end: End) {
        if let Some(count) = self.ends.get(end as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn of_region(&self, region: &RegionId) -> Option<Arc<Bytes>> {
        self.bytes.get(region).cloned()
    }
}

/// A connection that is passed on.
#[derive(Debug)]
pub(super) struct Open(Arc<AtomicU64>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
