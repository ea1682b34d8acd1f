//! One region's ears: which peers it hears, what they say they hear, and every lease it watches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dwcp_types::RegionId;

use super::verdict::{LeaseSight, RegionState, Verdict, Votes};
use super::{Abstention, Sight, View};
use crate::lease::{LeaseRecord, LeaseState, Terms, Watched};

/// When a heartbeat is due and when it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a region is asked whether it lives.
    pub interval: Duration,
    /// After how many missed ones it counts as silent.
    pub misses: u32,
}

impl Default for Timing {
    /// 500 ms, four misses (DESIGN 4: detected within 2 s).
    fn default() -> Self {
        Self { interval: Duration::from_millis(500), misses: 4 }
    }
}

impl Timing {
    /// How long nothing must be heard before a region counts as silent; also how long what it
    /// said is believed.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.interval.saturating_mul(self.misses)
    }
}

#[derive(Clone, Debug)]
struct Peer {
    heard_at: Duration,
    heard: bool,
    silent: bool,
    /// Heartbeats in a row without a gap.
    streak: u32,
    says: Option<View>,
}

/// See the module. Every time is of the own monotonic clock.
#[derive(Clone, Debug)]
pub struct Observer {
    region: RegionId,
    regions: BTreeSet<RegionId>,
    timing: Timing,
    terms: Terms,
    peers: BTreeMap<RegionId, Peer>,
    leases: BTreeMap<RegionId, Watched>,
    leases_read_at: Option<Duration>,
    ticked_at: Duration,
    settled_at: Duration,
    /// Since when each verdict is as it is.
    states: BTreeMap<RegionId, (RegionState, Duration)>,
}

impl Observer {
    /// Begins to listen. `regions` are all that take part, the own one among them.
    #[must_use]
    pub fn new(
        region: RegionId,
        mut regions: BTreeSet<RegionId>,
        timing: Timing,
        terms: Terms,
        now: Duration,
    ) -> Self {
        regions.insert(region.clone());
        let silent =
            Peer { heard_at: now, heard: false, silent: false, streak: 0, says: None };
        let others = regions.iter().filter(|peer| **peer != region);
        Self {
            peers: others.map(|peer| (peer.clone(), silent.clone())).collect(),
            region,
            regions,
            timing,
            terms,
            leases: BTreeMap::new(),
            leases_read_at: None,
            ticked_at: now,
            settled_at: now.saturating_add(timing.window()),
            states: BTreeMap::new(),
        }
    }

    /// The lease's terms.
    #[must_use]
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// All regions that take part.
    #[must_use]
    pub const fn regions(&self) -> &BTreeSet<RegionId> {
        &self.regions
    }

    /// A peer answered a heartbeat that went there and back, and said what it sees. A silent
    /// one counts as heard again only after as many in a row as it had to miss, so that a bad
    /// link does not make the verdict flicker.
    pub fn heard(&mut self, peer: &RegionId, says: View, now: Duration) {
        let window = self.timing.window();
        let Some(peer) = self.peers.get_mut(peer) else { return };
        let gap = now.saturating_sub(peer.heard_at);
        peer.streak =
            if peer.heard && gap <= window { peer.streak.saturating_add(1) } else { 1 };
        peer.heard_at = peer.heard_at.max(now);
        peer.heard = true;
        peer.says = Some(says);
        if peer.streak >= self.timing.misses {
            peer.silent = false;
        }
    }

    /// The strong engine was read: every lease there is, with its revision.
    pub fn leases<'a>(
        &mut self,
        found: impl IntoIterator<Item = (&'a LeaseRecord, u64)>,
        now: Duration,
    ) {
        for (record, revision) in found {
            match self.leases.get_mut(&record.region) {
                Some(watched) => watched.saw(record, revision, now),
                None => {
                    let watched = Watched::new(record.clone(), revision, now);
                    self.leases.insert(record.region.clone(), watched);
                }
            }
        }
        self.leases_read_at = Some(now);
    }

    /// The timer, once an interval. When it comes late the observer itself did not run, and
    /// what it did not hear meanwhile says nothing about others: it begins to listen anew.
    pub fn tick(&mut self, now: Duration) {
        let window = self.timing.window();
        let late = now.saturating_sub(self.ticked_at) > window / 2;
        if late {
            self.settled_at = now.saturating_add(window);
        }
        self.ticked_at = self.ticked_at.max(now);
        for peer in self.peers.values_mut() {
            if late {
                peer.heard_at = peer.heard_at.max(now);
                peer.says = None;
            }
            if now.saturating_sub(peer.heard_at) > window {
                peer.silent = true;
                peer.streak = 0;
                peer.says = None;
            }
        }
        for region in self.regions.clone() {
            let state = self.verdict(&region, now).state;
            let since = self.states.entry(region).or_insert((state, now));
            if since.0 != state {
                *since = (state, now);
            }
        }
    }

    /// Since when a region's verdict has been what it is, as of the last tick.
    #[must_use]
    pub fn state_since(&self, region: &RegionId) -> Option<(RegionState, Duration)> {
        self.states.get(region).copied()
    }

    /// What it says in its heartbeats.
    #[must_use]
    pub fn view(&self, now: Duration) -> View {
        let sight = |peer: &Peer| match (peer.silent, peer.heard) {
            (true, _) => Sight::Silent,
            (false, true) => Sight::Reachable,
            (false, false) => Sight::Unknown,
        };
        let sees: BTreeMap<_, _> =
            self.peers.iter().map(|(id, peer)| (id.clone(), sight(peer))).collect();
        View { abstains: self.abstention(&sees, now), sees }
    }

    fn abstention(
        &self,
        sees: &BTreeMap<RegionId, Sight>,
        now: Duration,
    ) -> Option<Abstention> {
        if now < self.settled_at {
            return Some(Abstention::Starved);
        }
        let heard = sees.values().filter(|sight| **sight == Sight::Reachable).count() + 1;
        let all = self.regions.len();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (heard * 2 <= all)
            .then(|| Abstention::Isolated { hears: count(heard), of: count(all) })
    }

    /// What is true of a region, with the reasons.
    #[must_use]
    pub fn verdict(&self, region: &RegionId, now: Duration) -> Verdict {
        let own = self.view(now);
        let mut votes = Votes::default();
        for observer in self.regions.iter().filter(|observer| *observer != region) {
            let view = match self.peers.get(observer) {
                None => Some(&own),
                Some(peer) if peer.silent => None,
                Some(peer) => peer.says.as_ref(),
            };
            votes.count(observer, view, region);
        }
        Verdict::of(region.clone(), votes, self.lease_sight(region, now))
    }

    /// What is seen of a region's lease.
    #[must_use]
    pub fn lease_sight(&self, region: &RegionId, now: Duration) -> LeaseSight {
        let fresh = |at: Duration| now.saturating_sub(at) <= self.timing.window();
        if !self.leases_read_at.is_some_and(fresh) {
            return LeaseSight::Unread;
        }
        let Some(watched) = self.leases.get(region) else { return LeaseSight::Never };
        if let LeaseState::Fenced { by } = &watched.record.state {
            return LeaseSight::Fenced { by: by.clone() };
        }
        let left = watched.lapses_in(now, self.terms);
        if left.is_zero() {
            return LeaseSight::Lapsed;
        }
        let lapses_in_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        LeaseSight::Held { lapses_in_ms }
    }

    /// The lease as it is watched; what a fence compares.
    #[must_use]
    pub fn watched(&self, region: &RegionId) -> Option<&Watched> {
        self.leases.get(region)
    }

    pub(super) fn own(&self) -> &RegionId {
        &self.region
    }

    pub(super) const fn interval(&self) -> Duration {
        self.timing.interval
    }
}
