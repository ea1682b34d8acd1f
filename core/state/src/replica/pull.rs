//! Pull: what this replica lacks, as states, from one peer at a time.
//!
//! ```text
//!   Compare(sums) --> Differ(pairs) --> Want(hashes) --> States ... --> Compare(from there on)
//! ```
//!
//! The one that pulls keeps all of the memory of it; the other answers each question from what
//! it has at that moment, so any frame may be lost or doubled. Three reasons to pull, the most
//! urgent first: a peer's log does not have any more what is missing here; a new epoch, in
//! which everybody has to reach everybody (see [`crate::membership`]); and every few seconds,
//! to find what should not be.
//!
//! After a *full* pull everything of the peer's own log counts as received up to its end as it
//! was at the first answer; nothing of other logs does, because the peer may not hold what
//! others fenced from it. A pull that is not full leaves out what was deleted, and what was
//! written just now and is on its way anyhow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::clock::ReplicaId;
use crate::frame::{Body, Compare, Differ, Pair, States, Want};
use crate::frontier::Position;
use crate::membership::{Membership, Settled};
use crate::reconcile::{BUCKETS, lacking};
use crate::replica::config::{RECONCILE_EVERY, Sabotage};
use crate::replica::input::Key;
use crate::replica::{Command, Notice, Replica};

/// Most keys that are asked for at once.
const WANT_MAX: usize = 8_000;
/// How long an answer may take before the question is asked again: the longest round trip and
/// some.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often a question is asked before the pull is given up.
const ASKS_MAX: u32 = 4;
/// What was written within this is on its way by push: a round trip and two writes to disk.
pub(super) const QUIET_FOR: Duration = Duration::from_millis(1_500);

/// One pull.
#[derive(Clone, Debug)]
struct Pull {
    from: ReplicaId,
    number: u64,
    round: u32,
    full: bool,
    epoch: u64,
    /// The end of the peer's log at the first answer.
    end: Option<Position>,
    /// Buckets before this are done, or are being done.
    bucket: usize,
    wanted: VecDeque<u64>,
    asked_at: Duration,
    asks: u32,
}

/// The pulls that run and that are to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulls {
    last: u64,
    running: Option<Pull>,
    /// Peers whose log does not have what is missing here.
    gaps: BTreeSet<ReplicaId>,
    /// Peers that came back.
    returned: BTreeSet<ReplicaId>,
    /// With whom everything was exchanged in this epoch.
    settled_with: BTreeSet<ReplicaId>,
    settled: Settled,
    /// Peers that did not answer, and until when they are left alone.
    shunned: BTreeMap<ReplicaId, Duration>,
    next_at: Duration,
    turn: Option<ReplicaId>,
}

impl Pulls {
    pub(crate) fn want_gap(&mut self, from: ReplicaId) {
        self.gaps.insert(from);
    }

    pub(crate) fn returned(&mut self, peer: ReplicaId) {
        self.returned.insert(peer);
    }

    pub(crate) const fn settled(&self) -> Settled {
        self.settled
    }

    pub(crate) fn new_epoch(&mut self) {
        self.settled_with.clear();
        self.shunned.clear();
        self.running = None;
    }

    pub(crate) fn clear(&mut self) {
        *self = Self { last: self.last, settled: self.settled, ..Self::default() };
    }

    pub(crate) fn peer_down(&mut self, peer: ReplicaId) {
        if self.running.as_ref().is_some_and(|pull| pull.from == peer) {
            self.running = None;
        }
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        let running = self.running.as_ref()?;
        Some(running.asked_at.saturating_add(ASK_AGAIN_AFTER))
    }
}

impl Replica {
    /// Goes on with pulling.
    pub(super) fn drive_pulls(&mut self) {
        let now = self.now.mono;
        if let Some(pull) = &mut self.pulls.running {
            if now < pull.asked_at.saturating_add(ASK_AGAIN_AFTER) {
                return;
            }
            if pull.asks < ASKS_MAX {
                return self.ask();
            }
            let shunned = pull.from;
            self.pulls.running = None;
            self.pulls.shunned.insert(shunned, now.saturating_add(ASK_AGAIN_AFTER * 2));
        }
        self.check_pulls();
    }

    /// Pulls from every peer, one after the other.
    pub(super) fn pull_all(&mut self) {
        self.pulls.returned.extend(self.view.others());
        self.check_pulls();
    }

    /// Begins the most urgent pull, if none runs.
    pub(super) fn check_pulls(&mut self) {
        if self.pulls.running.is_some() || !self.standing.is_member() {
            return;
        }
        let Some((from, full)) = self.next_pull() else { return };
        self.pulls.last += 1;
        let number = (u64::from(self.me.incarnation) << 32) | self.pulls.last;
        self.pulls.running = Some(Pull {
            from,
            number,
            round: 0,
            full,
            epoch: self.view.epoch(),
            end: None,
            bucket: 0,
            wanted: VecDeque::new(),
            asked_at: self.now.mono,
            asks: 0,
        });
        self.counts.pulls += 1;
        self.next_question();
    }

    fn next_pull(&mut self) -> Option<(ReplicaId, bool)> {
        let now = self.now.mono;
        self.pulls.shunned.retain(|_, until| *until > now);
        let able = |id: &ReplicaId| {
            let peer = self.peers.get(id);
            peer.is_some_and(|peer| {
                peer.reachable(now) && peer.epoch == self.view.epoch()
            }) && !self.pulls.shunned.contains_key(id)
        };
        let gap = self.view.others().filter(|id| self.pulls.gaps.contains(id)).find(able);
        if let Some(from) = gap {
            return Some((from, true));
        }
        let unsettled = |id: &ReplicaId| {
            self.view.membership.is_active(*id) && !self.pulls.settled_with.contains(id)
        };
        if let Some(from) = self.view.others().filter(unsettled).find(able) {
            return Some((from, true));
        }
        let returned = self.view.others().filter(|id| self.pulls.returned.contains(id));
        if let Some(from) = returned.into_iter().find(able) {
            return Some((from, false));
        }
        if now < self.pulls.next_at {
            return None;
        }
        self.pulls.next_at = now.saturating_add(RECONCILE_EVERY);
        let able: Vec<ReplicaId> = self.view.others().filter(able).collect();
        let after =
            able.iter().find(|id| Some(**id) > self.pulls.turn).or_else(|| able.first());
        self.pulls.turn = after.copied();
        after.map(|from| (*from, false))
    }

    /// Asks the next question of the pull that runs, or ends it.
    fn next_question(&mut self) {
        let Some(pull) = &mut self.pulls.running else { return };
        pull.asks = 0;
        pull.round += 1;
        if pull.wanted.is_empty() && pull.bucket >= BUCKETS {
            return self.end_pull();
        }
        self.ask();
    }

    /// Asks the question of this round, for the first time or again.
    fn ask(&mut self) {
        let now = self.now.mono;
        let Some(pull) = &mut self.pulls.running else { return };
        pull.asked_at = now;
        pull.asks += 1;
        let Pull { from, number, round, full, bucket, .. } = *pull;
        if !pull.wanted.is_empty() {
            let hashes = pull.wanted.iter().take(WANT_MAX).copied().collect();
            return self.send(from, Body::Want(Want { pull: number, round, hashes }));
        }
        let view = &self.view;
        let sums = self.store.sums(|class| view.holds(from, class));
        let sums = sums.from(bucket).to_vec();
        let from_bucket = u16::try_from(bucket).unwrap_or(u16::MAX);
        let compare = Compare { pull: number, round, full, from: from_bucket, sums };
        self.send(from, Body::Compare(compare));
    }

    /// The pull that a frame belongs to, if it is the one that runs and the question the last.
    fn pull_of(&mut self, from: ReplicaId, number: u64, round: u32) -> Option<&mut Pull> {
        let pull = self.pulls.running.as_mut()?;
        (pull.from == from && pull.number == number && pull.round == round)
            .then_some(pull)
    }

    pub(super) fn take_differ(&mut self, from: ReplicaId, differ: &Differ) {
        let Some(pull) = self.pull_of(from, differ.pull, differ.round) else { return };
        if !pull.wanted.is_empty() {
            return;
        }
        pull.end.get_or_insert(differ.end);
        // Always further, or a peer could keep this going for ever.
        pull.bucket = usize::from(differ.upto).max(pull.bucket + 1);
        let full = pull.full;
        let wanted = lacking(&differ.pairs, |pair| self.has_pair(*pair, full));
        if !full {
            self.counts.mismatches += u64::try_from(wanted.len()).unwrap_or(u64::MAX);
        }
        if let Some(pull) = &mut self.pulls.running {
            pull.wanted = wanted.into();
        }
        self.next_question();
    }

    /// Whether a key with this digest is here, or one that was written just now.
    fn has_pair(&mut self, pair: Pair, full: bool) -> bool {
        let quiet_since = self.now.mono.saturating_sub(QUIET_FOR);
        let keys: Vec<Key> = self.store.keys_of(pair.hash).map(Key::clone).collect();
        keys.iter()
            .filter_map(|key| {
                self.store.get_mut(key).map(|entry| {
                    entry.digest() == pair.digest
                        || (!full && entry.changed > quiet_since)
                })
            })
            .any(|has| has)
    }

    pub(super) fn take_states(&mut self, from: ReplicaId, states: &States) {
        if self.pull_of(from, states.pull, states.round).is_none() {
            return;
        }
        if !self.knows_deletions(&states.frontier) || !self.observe(from, states.at) {
            return;
        }
        for (key, state) in &states.entries {
            let mut knowledge = states.frontier.clone();
            if let Some(beyond) = &state.beyond {
                knowledge.join(beyond);
            }
            self.counts.pulled += 1;
            self.merge(key, &state.value, state.stamp, Some(&knowledge));
        }
        if self.config.breaks(Sabotage::PullTakesAll) {
            self.applied.join(&states.frontier);
        }
        if let Some(pull) = &mut self.pulls.running {
            let answered = usize::try_from(states.answered).unwrap_or(usize::MAX);
            pull.wanted.drain(..answered.max(1).min(pull.wanted.len()));
        }
        self.next_question();
    }

    fn end_pull(&mut self) {
        let Some(pull) = self.pulls.running.take() else { return };
        self.pulls.returned.remove(&pull.from);
        if pull.full {
            self.pulls.gaps.remove(&pull.from);
            if let Some(end) = pull.end
                && self.applied.raise(pull.from, end)
            {
                self.desk.places_changed = true;
            }
            if pull.epoch == self.view.epoch() {
                self.pulls.settled_with.insert(pull.from);
                self.check_settled();
            }
            self.retry_parked();
        }
        self.check_pulls();
    }

    /// Settles when everything was exchanged with every voter in this epoch.
    ///
    /// Then what an evicted replica wrote and anybody received is here, and nothing more of it
    /// will come: its log counts as received to its end.
    pub(super) fn check_settled(&mut self) {
        let epoch = self.view.epoch();
        if self.pulls.settled.epoch >= epoch {
            return;
        }
        let voters = self.view.others().filter(|id| self.view.membership.is_active(*id));
        let left = voters.filter(|id| !self.pulls.settled_with.contains(id));
        match *left.take(2).collect::<Vec<_>>() {
            [] => {}
            [one] => return self.settle_but(epoch, one),
            _ => return,
        }
        self.pulls.settled = Settled::in_epoch(epoch);
        let membership = std::sync::Arc::clone(&self.view.membership);
        for (replica, member) in &membership.members {
            self.applied.raise(*replica, Membership::base(member.admission));
        }
        for (replica, admission) in &membership.evicted {
            if !self.config.breaks(Sabotage::HearsEvicted) {
                self.applied
                    .raise(*replica, Membership::base(admission.saturating_add(1)));
            }
        }
        self.desk.places_changed = true;
        self.drop_foreign();
        self.out.push(Command::Notice(Notice::Settled(self.pulls.settled)));
    }

    /// All but one is enough to evict that one, should it not come back.
    fn settle_but(&mut self, epoch: u64, one: ReplicaId) {
        let but = Some((epoch, one));
        if self.pulls.settled.but != but {
            self.pulls.settled.but = but;
            self.out.push(Command::Notice(Notice::Settled(self.pulls.settled)));
        }
    }
}
