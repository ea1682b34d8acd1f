//! Push: the own log to every peer, in order, as far as its credit goes; and theirs, here.
//!
//! A replica sends only what it wrote itself, so a peer knows by one position how much of it
//! there is. A push that does not begin where the receiver is, is answered with where that is,
//! and sending begins again from there, under the next stream number: answers to what was sent
//! before it are recognized and change nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::ReplicaId;
use crate::frame::{Ack, Body, Delta, FRAME_LEN_AIM, Gap, Held, Push};
use crate::frontier::Position;
use crate::replica::config::Sabotage;
use crate::replica::input::Key;
use crate::replica::peer::Sent;
use crate::replica::{Command, Notice, Replica};

/// Most mutations of one push.
const PUSH_RECORDS_MAX: usize = 4_096;
/// What was sent and is not acknowledged after so long is sent again: several times the
/// longest round trip (350 ms between continents) and two writes to disk.
const RESEND_AFTER: Duration = Duration::from_secs(2);

/// A piece of the log as some peers may see it.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    upto: Position,
    entries: Arc<Vec<Delta>>,
    bytes: usize,
}

/// Pieces that were made for one peer and fit others too, by where they begin and what may be
/// seen.
type Pieces = BTreeMap<(Position, u16), Piece>;

impl Replica {
    /// Sends every peer what it may be sent, unless that was just done.
    pub(super) fn push_in_pace(&mut self) {
        if self.pushes.may_go(self.now.mono) {
            self.push_all();
        }
    }

    /// Sends what waited for its moment.
    pub(super) fn keep_pace(&mut self) {
        if self.pushes.is_due(self.now.mono) {
            self.push_in_pace();
        }
        if self.acks.is_due(self.now.mono) {
            self.acknowledge_in_pace();
        }
    }

    /// Sends every peer what it may be sent.
    pub(super) fn push_all(&mut self) {
        let mut pieces = Pieces::new();
        let peers: Vec<ReplicaId> = self.view.others().collect();
        for peer in peers {
            self.push_with(peer, &mut pieces);
        }
    }

    /// Sends a peer what it may be sent.
    pub(super) fn push_to(&mut self, peer: ReplicaId) {
        self.push_with(peer, &mut Pieces::new());
    }

    fn push_with(&mut self, to: ReplicaId, pieces: &mut Pieces) {
        while let Some((stream, after)) = self.next_push(to) {
            let sight = match self.config.breaks(Sabotage::IgnoresFence) {
                true => u16::MAX,
                false => self.view.sight(to),
            };
            let piece =
                pieces.entry((after, sight)).or_insert_with(|| self.piece(to, after));
            let Piece { upto, entries, bytes } = piece.clone();
            let closed = self.closed_after(upto);
            if let Some(peer) = self.peers.get_mut(&to) {
                peer.sent = upto;
                peer.flying.push_back(Sent { upto, bytes, at: self.now.mono });
                peer.flying_bytes += bytes;
            }
            self.send(to, Body::Push(Push { stream, after, upto, closed, entries }));
        }
    }

    /// Where the next push for a peer begins, if one may be sent.
    fn next_push(&self, to: ReplicaId) -> Option<(u32, Position)> {
        let peer = self.peers.get(&to)?;
        let credit = peer.flying_bytes < self.config.credit_bytes;
        let here = self.log.start() <= peer.sent && peer.sent < self.log.durable();
        (peer.up && peer.placed && credit && here).then_some((peer.stream, peer.sent))
    }

    fn piece(&self, to: ReplicaId, after: Position) -> Piece {
        let open = self.config.breaks(Sabotage::IgnoresFence);
        let mut order: Vec<Key> = Vec::new();
        let mut joined: BTreeMap<Key, Delta> = BTreeMap::new();
        let (mut upto, mut bytes) = (after, 0);
        for record in self.log.after(after).take(PUSH_RECORDS_MAX) {
            if record.position > self.log.durable() || bytes >= FRAME_LEN_AIM {
                break;
            }
            upto = record.position;
            // The fence (F45): what this peer may not have is covered and left out.
            if !open && !self.view.holds(to, record.class) {
                continue;
            }
            bytes += record.len;
            match joined.get_mut(&record.key) {
                Some(delta) => join_into(delta, &record.delta()),
                None => {
                    order.push(Key::clone(&record.key));
                    joined.insert(Key::clone(&record.key), record.delta());
                }
            }
        }
        // The end of the log is further than its last record when an incarnation has just begun.
        let durable = self.log.durable();
        let next = self.log.after(upto).next();
        if next.is_none_or(|record| record.position > durable) {
            upto = durable.max(upto);
        }
        let entries = order.iter().filter_map(|key| joined.remove(key)).collect();
        Piece { upto, entries: Arc::new(entries), bytes }
    }

    /// A piece of a peer's log.
    pub(super) fn take_push(&mut self, from: ReplicaId, push: &Push) {
        let at = self.applied.get(from);
        if push.upto <= at {
            // Everything of it is here; perhaps the acknowledgement was lost.
            self.close(from, push.upto, push.closed);
            let upto = self.durable.get(from);
            return self.send(from, Body::Ack(Ack { upto }));
        }
        // A push that begins earlier must not be applied either: what it holds may have been
        // collected meanwhile.
        if push.after != at && !self.config.breaks(Sabotage::AppliesPastGap) {
            self.counts.gaps += 1;
            return self.send(from, Body::Gap(Gap { stream: push.stream, at }));
        }
        if !self.observe(from, push.closed) {
            return;
        }
        for delta in push.entries.iter() {
            self.merge(&delta.key, &delta.value, delta.stamp, None);
        }
        self.counts.received += 1;
        self.applied.raise(from, push.upto);
        self.desk.places_changed = true;
        self.close(from, push.upto, push.closed);
        self.retry_parked();
    }

    /// A peer has more of the own log, durably.
    pub(super) fn take_ack(&mut self, from: ReplicaId, epoch: u64, ack: Ack) {
        let this_epoch = epoch == self.view.epoch();
        let upto = ack.upto.min(self.log.durable());
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let first = self.log.after(peer.acked).next();
        if let Some(first) = first.filter(|first| first.position <= upto) {
            let took = self.now.wall.since(first.stamp.time());
            self.out.push(Command::Notice(Notice::Acknowledged { by: from, took }));
        }
        let was_out_of_credit = peer.flying_bytes >= self.config.credit_bytes;
        if peer.acknowledge(upto, this_epoch) {
            self.check_acks();
        }
        // Else it is sent what there is when the next is durable.
        if was_out_of_credit {
            self.push_to(from);
        }
    }

    /// A push did not begin where the peer is.
    pub(super) fn take_gap(&mut self, from: ReplicaId, gap: Gap) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if gap.stream == peer.stream && gap.at <= self.log.durable() {
            peer.rewind(gap.at);
            self.push_to(from);
        }
    }

    /// Begins again with peers that have not acknowledged for long.
    pub(super) fn resend(&mut self) {
        let now = self.now.mono;
        let late = |sent: &Sent| now.saturating_sub(sent.at) >= RESEND_AFTER;
        for peer in self.peers.values_mut() {
            if peer.flying.front().is_some_and(late) {
                let acked = peer.acked;
                peer.rewind(acked);
            }
        }
        self.push_all();
    }
}

fn join_into(delta: &mut Delta, later: &Delta) {
    let mut value = Arc::unwrap_or_clone(std::mem::replace(
        &mut delta.value.0,
        Arc::clone(&later.value.0),
    ));
    // Deltas of one key are of one kind: its policy's, which never changes.
    if value.join(&later.value.0).is_ok() {
        delta.value = Held::new(value);
    }
    delta.stamp = delta.stamp.max(later.stamp);
}
