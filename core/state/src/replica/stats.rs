//! What there is to see of a replica from outside, as values.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::ReplicaId;
use crate::crdt::{Kind, Reading};
use crate::frontier::Position;
use crate::level::Level;
use crate::membership::Settled;
use crate::replica::Replica;
use crate::replica::command::{Answer, Outcome};
use crate::replica::refusal::Refusal;
use crate::replica::store::Entry;

/// A view of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Whether it serves, and if not, why.
    pub standing: &'static str,
    /// The epoch that it follows.
    pub epoch: u64,
    /// How far it has settled.
    pub settled: Settled,
    /// Keys, with those that were deleted and wait to be forgotten.
    pub keys: usize,
    /// Of those, deleted.
    pub doomed: usize,
    /// Bytes of keys and values in memory, about.
    pub bytes: usize,
    /// Mutations kept for peers.
    pub log_records: usize,
    /// Their bytes.
    pub log_bytes: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Questions to majorities that run.
    pub calls: usize,
    /// Operation ids that are remembered.
    pub op_ids: usize,
    /// Most values side by side under one key.
    pub siblings_max: usize,
    /// Members that keep deleted values from being forgotten.
    pub collection_blocked_by: Vec<ReplicaId>,
    /// What was counted since the start.
    pub counts: Counts,
    /// The peers.
    pub peers: BTreeMap<ReplicaId, PeerStats>,
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// Whether it answers.
    pub reachable: bool,
    /// How old what is here of it may be.
    pub lag: Duration,
    /// Mutations that are durable here and not there.
    pub queue_records: usize,
    /// Their bytes.
    pub queue_bytes: usize,
    /// How long the first of them has waited, by the wall clock.
    pub queue_age: Duration,
    /// How much of the own log is durable there.
    pub acked: Position,
    /// The newest epoch that it has settled in.
    pub settled: u64,
    /// Whether its clock is too far ahead.
    pub skewed: bool,
}

/// What was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Batches handed to the store.
    pub batches: u64,
    /// Pushes that were applied.
    pub received: u64,
    /// Pushes that did not begin where this replica was.
    pub gaps: u64,
    /// Pulls that were begun.
    pub pulls: u64,
    /// States that came by pull.
    pub pulled: u64,
    /// Differences that should not have been, found by looking for them.
    pub mismatches: u64,
    /// Reads whose majority was not of one mind.
    pub write_backs: u64,
    /// Questions that a peer did not answer, because it is in another epoch.
    pub refused_calls: u64,
    /// Values that were forgotten after everybody knew of their deletion.
    pub collected: u64,
    /// Values that outlived their time and were deleted here.
    pub expired: u64,
    /// Writes that had lost against a later one before they came here.
    pub lww_discarded: u64,
    /// Writes that met another one they did not know of, by kind and by what was done: for the
    /// last writer wins, those that had lost before they came here.
    pub conflicts: BTreeMap<(Kind, &'static str), u64>,
    /// Whole states from peers that may not know what is deleted.
    pub stale_states: u64,
    /// Entries for keys that this replica does not hold, or of another kind.
    pub foreign_entries: u64,
    /// Frames of replicas that are no members.
    pub evicted_frames: u64,
    /// Frames whose stamps were too far ahead.
    pub skewed_frames: u64,
    /// How often a peer said that this replica's clock is too far ahead, and how far at most.
    pub skew_told: u64,
    /// The most milliseconds of it.
    pub skew_told_ms_max: u64,
    /// Beats of peers that have lost some of their log.
    pub lost_logs: u64,
    /// Answers by level.
    pub served: BTreeMap<Level, u64>,
    /// Refusals after which nobody knows.
    pub indeterminate: u64,
    /// Other refusals.
    pub refused: u64,
}

impl Counts {
    pub(crate) fn answered(&mut self, outcome: &Outcome) {
        let level = match outcome {
            Ok(Answer::Read(read)) => read.level,
            Ok(Answer::Written(written)) => written.level,
            Ok(Answer::Listed(_)) => Level::Eventual,
            Err(Refusal::Indeterminate { .. }) => return self.indeterminate += 1,
            Err(_) => return self.refused += 1,
        };
        *self.served.entry(level).or_insert(0) += 1;
    }

    pub(crate) fn skew_told(&mut self, ahead_ms: u64) {
        self.skew_told += 1;
        self.skew_told_ms_max = self.skew_told_ms_max.max(ahead_ms);
    }

    /// Two writes of one key met.
    pub(crate) fn conflict(&mut self, kind: Kind, strategy: &'static str) {
        *self.conflicts.entry((kind, strategy)).or_insert(0) += 1;
    }
}

impl Replica {
    /// What there is to see now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            standing: self.standing.as_str(),
            epoch: self.view.epoch(),
            settled: self.pulls.settled(),
            keys: self.store.len(),
            doomed: self.collection.len(),
            bytes: self.store.bytes(),
            log_records: self.log.len(),
            log_bytes: self.log.bytes(),
            waiting: self.waits.len(),
            calls: self.calls.len(),
            op_ids: self.ops.len(),
            siblings_max: self.siblings_max(),
            collection_blocked_by: self.blockers(),
            counts: self.counts.clone(),
            peers: self.view.others().map(|id| (id, self.peer_stats(id))).collect(),
        }
    }

    fn siblings_max(&self) -> usize {
        let count = |entry: &Entry| {
            if entry.value.kind() != Kind::Mv {
                return 0;
            }
            let Reading::Siblings { values, .. } = entry.value.read() else { return 0 };
            values.len()
        };
        self.store.iter().map(|(_, entry)| count(entry)).max().unwrap_or(0)
    }

    fn peer_stats(&self, id: ReplicaId) -> PeerStats {
        let peer = self.peers.get(&id).cloned().unwrap_or_default();
        let queue = self.log.after(peer.acked);
        let durable = queue.take_while(|record| record.position <= self.log.durable());
        let (mut queue_records, mut queue_bytes, mut queue_age) = (0, 0, Duration::ZERO);
        for record in durable {
            queue_records += 1;
            queue_bytes += record.len;
            queue_age = queue_age.max(self.now.wall.since(record.stamp.time()));
        }
        PeerStats {
            reachable: peer.reachable(self.now.mono),
            lag: self.now.wall.since(peer.closed.time()),
            queue_records,
            queue_bytes,
            queue_age,
            acked: peer.acked,
            settled: peer.settled,
            skewed: peer.skewed,
        }
    }
}
