//! What a replica answers to those who pull, and to those who ask for a majority.
//!
//! Nothing is answered that is not durable here: the asker counts on it (RS-3). And nothing of
//! a key goes to a replica that may not hold it (RS-4).

use std::sync::Arc;

use crate::clock::{Hlc, ReplicaId};
use crate::frame::{
    Ask, Body, Compare, Differ, FRAME_LEN_AIM, Held, Pair, Refuse, State, States, Store,
    Stored, Tell, Want,
};
use crate::reconcile::{BUCKETS, bucket_of};
use crate::replica::Replica;
use crate::replica::config::Sabotage;
use crate::replica::desk::Effect;
use crate::replica::input::Key;
use crate::replica::pull::QUIET_FOR;
use crate::replica::store::{ABSENT, Entry};

/// Most pairs of one answer, some 256 KiB; a bucket is never cut in two.
const PAIRS_AIM: usize = 16_384;
/// States of one answer, in bytes: one answer is under way at a time, so over a round trip of
/// 300 ms this is what bounds how fast a new replica is filled.
const STATES_LEN_AIM: usize = 8 * FRAME_LEN_AIM;
/// Most hashes of one question that are looked at.
const HASHES_MAX: usize = 10_000;

impl Replica {
    /// Whether a peer may be told of an entry.
    fn may_see(&self, peer: ReplicaId, entry: &Entry) -> bool {
        self.view.holds(peer, entry.class) || self.config.breaks(Sabotage::IgnoresFence)
    }

    /// Whether peer and replica may both hold a key, in the epoch of the question.
    fn shares(&self, from: ReplicaId, epoch: u64, key: &str) -> bool {
        let place = self.place_here(key);
        epoch == self.view.epoch()
            && place.is_some_and(|place| self.view.holds(from, place.class))
    }

    pub(super) fn answer_ask(&mut self, from: ReplicaId, epoch: u64, ask: &Ask) {
        let call = ask.call;
        if !self.shares(from, epoch, &ask.key) {
            return self.send(from, Body::Refuse(Refuse::Call { call }));
        }
        let at = self.clock.tick(self.now.wall);
        let frontier = self.applied.clone();
        let Some(entry) = self.store.get_mut(&ask.key) else {
            let tell = Tell { call, digest: ABSENT, state: None, frontier, at };
            return self.send(from, Body::Tell(tell));
        };
        let digest = entry.digest();
        let state = (digest != ask.digest).then(|| state_of(entry));
        let batch = entry.batch;
        let body = Body::Tell(Tell { call, digest, state, frontier, at });
        self.run_after(batch, Effect::Send { to: from, body });
    }

    pub(super) fn answer_store(&mut self, from: ReplicaId, epoch: u64, store: &Store) {
        let call = store.call;
        let fit =
            self.shares(from, epoch, &store.key) && self.knows_deletions(&store.floor);
        if !fit || !self.observe(from, store.at) {
            return self.send(from, Body::Refuse(Refuse::Call { call }));
        }
        let State { value, stamp, beyond } = &store.state;
        self.merge(&store.key, value, *stamp, beyond.as_ref());
        let batch = self.store.get(&store.key).map_or(0, |entry| entry.batch);
        let body = Body::Stored(Stored { call });
        self.run_after(batch, Effect::Send { to: from, body });
    }

    pub(super) fn answer_compare(
        &mut self,
        from: ReplicaId,
        epoch: u64,
        compare: &Compare,
    ) {
        let start = usize::from(compare.from);
        if epoch != self.view.epoch() || compare.sums.len() > BUCKETS {
            return;
        }
        let end = self.log.end();
        let view = &self.view;
        let sums = self.store.sums(|class| view.holds(from, class));
        let differing: Vec<usize> = sums.differing(start, &compare.sums).collect();
        let mut pairs = Vec::new();
        let mut upto = BUCKETS;
        for bucket in differing {
            if pairs.len() >= PAIRS_AIM {
                upto = bucket;
                break;
            }
            self.put_pairs(from, bucket, compare.full, &mut pairs);
        }
        if compare.full {
            self.put_doomed(from, start..upto, &mut pairs);
        }
        pairs.sort_unstable();
        pairs.dedup();
        let upto = u16::try_from(upto).unwrap_or(u16::MAX);
        let (pull, round) = (compare.pull, compare.round);
        let body = Body::Differ(Differ { pull, round, end, upto, pairs });
        self.run_after_all(Effect::Send { to: from, body });
    }

    fn put_pairs(
        &mut self,
        peer: ReplicaId,
        bucket: usize,
        full: bool,
        pairs: &mut Vec<Pair>,
    ) {
        let quiet_since = self.now.mono.saturating_sub(QUIET_FOR);
        for key in self.store.keys_in(bucket) {
            let Some(entry) = self.store.get(&key) else { continue };
            let counts =
                full || (!entry.value.is_bottom() && entry.changed <= quiet_since);
            if !counts || !self.may_see(peer, entry) {
                continue;
            }
            pairs.extend(self.pair(&key));
        }
    }

    /// What was deleted is not in the sums, and yet has to be known by whoever counts the log
    /// as received: the additions that it removes may still be on their way to it.
    fn put_doomed(
        &mut self,
        peer: ReplicaId,
        buckets: std::ops::Range<usize>,
        pairs: &mut Vec<Pair>,
    ) {
        for key in self.collection.doomed() {
            let Some(entry) = self.store.get(&key) else { continue };
            if buckets.contains(&bucket_of(entry.hash)) && self.may_see(peer, entry) {
                pairs.extend(self.pair(&key));
            }
        }
    }

    fn pair(&mut self, key: &Key) -> Option<Pair> {
        let entry = self.store.get_mut(key)?;
        Some(Pair { hash: entry.hash, digest: entry.digest() })
    }

    pub(super) fn answer_want(&mut self, from: ReplicaId, epoch: u64, want: &Want) {
        if epoch != self.view.epoch() {
            return;
        }
        let mut entries = Vec::new();
        let (mut bytes, mut answered) = (0, 0);
        for hash in want.hashes.iter().take(HASHES_MAX) {
            if bytes >= STATES_LEN_AIM {
                break;
            }
            answered += 1;
            for key in self.store.keys_of(*hash) {
                let Some(entry) = self.store.get(key) else { continue };
                if self.may_see(from, entry) {
                    bytes += entry.len + key.len();
                    entries.push((Key::clone(key), state_of(entry)));
                }
            }
        }
        let at = self.clock.tick(self.now.wall);
        let frontier = self.applied.clone();
        let (pull, round) = (want.pull, want.round);
        let body = Body::States(States { pull, round, answered, entries, frontier, at });
        self.run_after_all(Effect::Send { to: from, body });
    }
}

fn state_of(entry: &Entry) -> State {
    State {
        value: Held(Arc::clone(&entry.value)),
        stamp: (entry.stamp > Hlc::ZERO).then_some(entry.stamp),
        beyond: entry.beyond.as_deref().cloned(),
    }
}
