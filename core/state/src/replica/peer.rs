//! What this replica knows of a peer, and how far it has sent it its log.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Hlc;
use crate::frontier::{Frontier, Position};
use crate::replica::config::SILENT_AFTER;

/// A piece of the log that was sent and not acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) upto: Position,
    pub(crate) bytes: usize,
    pub(crate) at: Duration,
}

/// One peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Whether the transport says that frames may arrive.
    pub(crate) up: bool,
    /// When it was last heard, if since it came up.
    pub(crate) heard: Option<Duration>,
    /// The epoch of its last beat.
    pub(crate) epoch: u64,
    /// The newest epoch that it has settled in.
    pub(crate) settled: u64,
    /// Its log has everything after this.
    pub(crate) start: Position,
    /// How far it was when [`Self::closed`] was promised.
    pub(crate) end: Position,
    /// Nothing with this stamp or an older one will come from it any more.
    pub(crate) closed: Hlc,
    /// What is durable there, and the epoch in which it said so.
    pub(crate) report: Frontier,
    pub(crate) report_epoch: u64,
    /// Of the own log, what is durable there.
    pub(crate) acked: Position,
    /// The same, as far as it was said in the epoch that this replica follows.
    pub(crate) acked_in_epoch: Position,
    /// Of the own log, what was sent.
    pub(crate) sent: Position,
    /// How often sending began again.
    pub(crate) stream: u32,
    /// What was sent and not acknowledged, and its bytes.
    pub(crate) flying: VecDeque<Sent>,
    pub(crate) flying_bytes: usize,
    /// Whether it has said where it is in the own log since it came up.
    pub(crate) placed: bool,
    /// Its clock is too far ahead.
    pub(crate) skewed: bool,
}

impl Peer {
    /// Whether it may be counted on now.
    pub(crate) fn reachable(&self, now: Duration) -> bool {
        let heard = self.heard.map(|heard| now.saturating_sub(heard));
        self.up && heard.is_some_and(|silent| silent < SILENT_AFTER)
    }

    /// Takes note that the own log is durable there up to `upto`. Whether that is news.
    pub(crate) fn acknowledge(&mut self, upto: Position, this_epoch: bool) -> bool {
        let mut news = false;
        if upto > self.acked {
            self.acked = upto;
            news = true;
        }
        if this_epoch && upto > self.acked_in_epoch {
            self.acked_in_epoch = upto;
            news = true;
        }
        self.sent = self.sent.max(upto);
        while self.flying.front().is_some_and(|sent| sent.upto <= self.acked) {
            let sent = self.flying.pop_front();
            self.flying_bytes -= sent.map_or(0, |sent| sent.bytes);
        }
        news
    }

    /// Begins again after `at`.
    pub(crate) fn rewind(&mut self, at: Position) {
        self.sent = at.max(self.acked);
        self.stream = self.stream.wrapping_add(1);
        self.flying.clear();
        self.flying_bytes = 0;
    }

    /// The connection came or went: what was on its way may be lost.
    pub(crate) fn reconnect(&mut self, up: bool) {
        self.up = up;
        self.heard = None;
        self.placed = false;
        self.rewind(self.acked);
    }
}
