//! What is known of a request when its answer has gone: bytes that were moved, a line of the log.

use std::net::IpAddr;
use std::sync::Arc;

use dwcp_types::RegionId;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::counters::{Bytes as Moved, Counters, Event};
use super::log::AccessLine;

/// A line of the access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessRecord {
    /// Who asked.
    pub client: IpAddr,
    /// How.
    pub method: String,
    /// The host, as it was asked for.
    pub host: String,
    /// The path, without what follows a question mark: secrets are there more often than not.
    pub path: String,
    /// What was answered.
    pub status: u16,
    /// Which region answered; nothing when none did.
    pub region: Option<RegionId>,
    /// By which server or proxy.
    pub upstream: Option<Arc<str>>,
    /// How often it was sent.
    pub attempts: usize,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// Until its last byte, in microseconds.
    pub took_us: u64,
}

/// Counts an answer, and writes it down when it has gone.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) moved: Option<Arc<Moved>>,
    pub(super) sent: u64,
    pub(super) log: Option<(mpsc::Sender<AccessLine>, AccessRecord, Instant)>,
    pub(super) counters: Arc<Counters>,
}

impl Tally {
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if let Some(moved) = &self.moved {
            moved.add(self.sent);
        }
        if let Some((log, mut record, since)) = self.log.take() {
            record.bytes = self.sent;
            record.took_us =
                u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            if log.try_send(AccessLine::Request(record)).is_err() {
                self.counters.add(Event::LogLost);
            }
        }
    }
}
