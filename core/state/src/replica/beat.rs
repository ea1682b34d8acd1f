//! Signs of life: where a replica is, and what it promises.

use crate::clock::{Hlc, ReplicaId};
use crate::frame::{Beat, Body, Refuse};
use crate::frontier::Position;
use crate::replica::config::Sabotage;
use crate::replica::{Command, Notice, Replica};

impl Replica {
    /// Tells every peer, and looks after what is not urgent.
    pub(super) fn beat(&mut self) {
        let peers: Vec<ReplicaId> = self.view.others().collect();
        for peer in peers {
            if self.peers.get(&peer).is_some_and(|peer| peer.up) {
                self.send_beat(peer);
            }
        }
        self.sweep();
        self.resend();
        self.ask_again();
    }

    pub(super) fn send_beat(&mut self, peer: ReplicaId) {
        let end = self.log.durable();
        let mut frontier = self.durable.clone();
        frontier.raise(self.me.replica, end);
        let beat = Beat {
            cluster: self.config.cluster,
            start: self.log.start(),
            end,
            frontier,
            closed: self.closed_after(end),
            settled: self.pulls.settled().epoch,
        };
        self.send(peer, Body::Beat(beat));
    }

    /// The stamp that nothing after a position of the own log will have, nor an older one.
    pub(super) fn closed_after(&mut self, position: Position) -> Hlc {
        let next = self.log.after(position).next().map(|record| record.stamp);
        match next {
            Some(stamp) => Hlc::from_bits(stamp.bits().saturating_sub(1)),
            None => self.clock.tick(self.now.wall),
        }
    }

    /// Takes notice of a peer's clock. False when it is too far ahead, and nothing that it has
    /// stamped may be taken (F42).
    pub(super) fn observe(&mut self, from: ReplicaId, at: Hlc) -> bool {
        let refused = self.clock.observe(self.now.wall, at).err();
        let Some(peer) = self.peers.get_mut(&from) else { return true };
        let Some(refused) = refused else {
            peer.skewed = false;
            return true;
        };
        self.counts.skewed_frames += 1;
        if !std::mem::replace(&mut peer.skewed, true) {
            let ahead = refused.ahead;
            let ahead_ms = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
            self.out.push(Command::Notice(Notice::Skewed { peer: from, ahead }));
            self.send(from, Body::Refuse(Refuse::Skewed { ahead_ms }));
        }
        self.config.breaks(Sabotage::TakesAnyStamp)
    }

    pub(super) fn take_beat(&mut self, from: ReplicaId, epoch: u64, beat: &Beat) {
        if beat.cluster != self.config.cluster {
            let cluster = self.config.cluster;
            return self.send(from, Body::Refuse(Refuse::OtherCluster { cluster }));
        }
        let timely = self.observe(from, beat.closed);
        if self.has_lost_log(from, beat) {
            return;
        }
        self.note_beat(from, epoch, beat);
        if timely {
            self.close(from, beat.end, beat.closed);
        }
        if self.applied.get(from) < beat.start {
            self.pulls.want_gap(from);
        }
        self.push_to(from);
        self.check_acks();
        self.retry_parked();
        self.check_pulls();
    }

    /// Whether a peer has less of its own log than was received here. An old beat has as well,
    /// but promises less than later ones.
    fn has_lost_log(&mut self, from: ReplicaId, beat: &Beat) -> bool {
        let closed = self.peers.get(&from).map(|peer| peer.closed).unwrap_or_default();
        let mine = self.applied.get(from);
        let lost = beat.end < mine && beat.closed > closed;
        if lost {
            self.counts.lost_logs += 1;
            self.send(from, Body::Refuse(Refuse::LogLost { mine }));
        }
        lost
    }

    fn note_beat(&mut self, from: ReplicaId, epoch: u64, beat: &Beat) {
        let this_epoch = epoch == self.view.epoch();
        let acked = beat.frontier.get(self.me.replica).min(self.log.durable());
        let now = self.now.mono;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.heard = Some(now);
        peer.epoch = peer.epoch.max(epoch);
        peer.settled = peer.settled.max(beat.settled);
        peer.start = peer.start.max(beat.start);
        peer.end = peer.end.max(beat.end);
        if epoch >= peer.report_epoch {
            peer.report_epoch = epoch;
            peer.report.join(&beat.frontier);
        }
        peer.acknowledge(acked, this_epoch);
        if !peer.placed {
            peer.placed = true;
            peer.rewind(acked);
            self.pulls.returned(from);
        }
    }

    /// Takes a promise of an author, if everything that it presupposes is here.
    pub(super) fn close(&mut self, author: ReplicaId, end: Position, closed: Hlc) {
        if self.applied.get(author) < end {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&author) {
            peer.closed = peer.closed.max(closed);
        }
    }
}
