//! The one task that owns liveness: it renews this region's lease and passes it on to the
//! hosts, asks every other region whether it lives, and watches all leases there are.
//!
//! ```text
//!   every beat ─▶ tick ─▶ ask each peer ─▶ heard
//!                     ├─▶ read all leases ─▶ watched
//!                     └─▶ (when due) read hosts' clocks ─▶ renew ─▶ grant to each host
//!                                         (in a new term) └─▶ read all records ─▶ grant
//! ```
//!
//! What takes time runs as futures that bring their outcome back here, so a region that hangs
//! delays nobody. A grant names the host's clock as it was before the renewal was asked for,
//! and only guests whose records are surely as new as the term.

mod holding;

pub use holding::Tenure;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dwcp_api::failover::{FailoverStatus, RegionLiveness, WhyNot};
use dwcp_api::peer::Heartbeat;
use dwcp_api::{Client, NoParams};
use dwcp_controller::failover::{ACTIVE_KEY, Log};
use dwcp_controller::lease::{LEASES_PREFIX, LeaseRecord, Watched};
use dwcp_controller::liveness::{
    Circumstances, EngineReach, Observer, Policy, Timing, View,
};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::{Range, StrongEngine, StrongError};
use dwcp_types::{HostId, RegionId};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::mirror::Mirror;

/// Leases in one page: one of each region.
const LEASES_MAX: usize = 1_000;

/// What the task shows to others.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What it says in heartbeats.
    pub view: View,
    /// What is true of every region, and why it is not failed over.
    pub regions: Vec<RegionLiveness>,
    /// The failover under way, with its revision.
    pub active: Option<(Log, u64)>,
    /// Every lease as it is watched; read together with the failover.
    pub leases: BTreeMap<RegionId, Watched>,
}

impl Seen {
    /// As operators are told.
    #[must_use]
    pub fn status(&self, enabled: bool) -> FailoverStatus {
        FailoverStatus {
            enabled,
            regions: self.regions.clone(),
            active: self.active.as_ref().map(|(log, _)| log.clone()),
        }
    }
}

/// What a warden is made from.
#[derive(Debug)]
pub struct Warden {
    /// This daemon's region.
    pub region: RegionId,
    /// All regions that take part.
    pub regions: BTreeSet<RegionId>,
    /// When heartbeats are due.
    pub timing: Timing,
    /// This region's lease.
    pub tenure: Tenure,
    /// What the operator allows.
    pub policy: Policy,
    /// What of the strong engine is left without each region.
    pub reach: BTreeMap<RegionId, EngineReach>,
    /// The daemons of the other regions.
    pub peers: BTreeMap<RegionId, Client>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Wakes it when a guest waits for its grant.
    pub wanted: Arc<Notify>,
    /// Wakes it when the log of a failover was written.
    pub written: Arc<Notify>,
    /// Where it shows what it sees.
    pub shown: watch::Sender<Arc<Seen>>,
}

/// What a future brings back.
#[derive(Debug)]
enum Outcome {
    Heard { peer: RegionId, view: Option<View> },
    Looked(Box<Result<Look, StrongError>>),
    Renewed(holding::Renewed),
    Read(holding::Baselined),
    Granted,
}

/// What the engine has of leases and failovers.
#[derive(Debug)]
struct Look {
    leases: Vec<(LeaseRecord, u64)>,
    active: Option<(Log, u64)>,
}

/// What is done by one future at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Task {
    #[default]
    Idle,
    Busy,
    /// It is to be done once more: something changed since it began.
    Again,
}

impl Task {
    /// Whether it is to begin now; else it is done again after this time.
    fn begins(&mut self) -> bool {
        let idle = *self == Self::Idle;
        *self = if idle { Self::Busy } else { Self::Again };
        idle
    }

    /// It is done; says whether it is wanted again.
    fn is_wanted_again(&mut self) -> bool {
        std::mem::take(self) == Self::Again
    }
}

type Work = FuturesUnordered<BoxFuture<'static, Outcome>>;

/// What one life of the task holds.
#[derive(Debug)]
struct Watch {
    observer: Observer,
    active: Option<(Log, u64)>,
    work: Work,
    looking: Task,
    /// The lease is renewed, or passed on.
    granting: Task,
    /// The records of a new term are read.
    reading: bool,
    asking: BTreeSet<RegionId>,
}

impl Warden {
    /// Watches for ever.
    pub async fn run(mut self) {
        let interval = self.timing.interval;
        self.peers = std::mem::take(&mut self.peers)
            .into_iter()
            .filter(|(peer, _)| self.regions.contains(peer))
            .map(|(peer, client)| (peer, client.with_call_time_max(interval)))
            .collect();
        let mut watch = self.watch();
        let mut beat = tokio::time::interval(interval);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {
                    watch.observer.tick(self.clock.monotonic());
                    self.begin(&mut watch);
                    self.show(&watch);
                }
                () = self.wanted.notified() => self.pass_on(&mut watch),
                () = self.written.notified() => self.look(&mut watch),
                Some(outcome) = watch.work.next(), if !watch.work.is_empty() => {
                    self.settle(outcome, &mut watch);
                }
            }
        }
    }

    fn watch(&self) -> Watch {
        let observer = Observer::new(
            self.region.clone(),
            self.regions.clone(),
            self.timing,
            self.tenure.terms(),
            self.clock.monotonic(),
        );
        Watch {
            observer,
            active: None,
            work: Work::new(),
            looking: Task::default(),
            granting: Task::default(),
            reading: false,
            asking: BTreeSet::new(),
        }
    }

    fn settle(&mut self, outcome: Outcome, watch: &mut Watch) {
        let now = self.clock.monotonic();
        match outcome {
            Outcome::Heard { peer, view } => {
                watch.asking.remove(&peer);
                if let Some(view) = view {
                    watch.observer.heard(&peer, view, now);
                }
            }
            Outcome::Looked(look) => {
                match *look {
                    Ok(look) => {
                        let found = look.leases.iter();
                        watch.observer.leases(found.map(|(it, at)| (it, *at)), now);
                        watch.active = look.active;
                    }
                    Err(reason) => info!(%reason, "leases are not read"),
                }
                if watch.looking.is_wanted_again() {
                    self.look(watch);
                }
                self.show(watch);
            }
            Outcome::Renewed(renewed) => {
                self.tenure.settle(renewed);
                self.read(watch);
                self.passed_on(watch);
            }
            Outcome::Read(read) => {
                watch.reading = false;
                if self.tenure.take(read) {
                    self.pass_on(watch);
                }
            }
            Outcome::Granted => self.passed_on(watch),
        }
    }

    /// Begins what is due and not under way.
    fn begin(&mut self, watch: &mut Watch) {
        for (peer, client) in &self.peers {
            if watch.asking.insert(peer.clone()) {
                watch.work.push(Box::pin(ask(peer.clone(), client.clone())));
            }
        }
        if watch.looking == Task::Idle {
            self.look(watch);
        }
        if watch.granting == Task::Idle && self.tenure.is_due() {
            watch.granting = Task::Busy;
            let renewal = self.tenure.renewal();
            watch.work.push(Box::pin(async move { Outcome::Renewed(renewal.await) }));
        }
    }

    /// Reads the records of a new term, beside the renewals.
    fn read(&self, watch: &mut Watch) {
        if watch.reading {
            return;
        }
        if let Some(reading) = self.tenure.reading() {
            watch.reading = true;
            watch.work.push(Box::pin(async move { Outcome::Read(reading.await) }));
        }
    }

    fn look(&self, watch: &mut Watch) {
        if watch.looking.begins() {
            watch.work.push(Box::pin(look(self.tenure.engine())));
        }
    }

    /// A guest waits for its grant: passes the lease on as it is.
    fn pass_on(&mut self, watch: &mut Watch) {
        // A renewal that is due goes first, and passes on the same.
        if watch.granting == Task::Idle && self.tenure.is_due() {
            return;
        }
        if watch.granting.begins() {
            let passing = self.tenure.passing_on();
            watch.work.push(Box::pin(async move {
                passing.await;
                Outcome::Granted
            }));
        }
    }

    fn passed_on(&mut self, watch: &mut Watch) {
        if watch.granting.is_wanted_again() {
            self.pass_on(watch);
        }
    }

    fn show(&self, watch: &Watch) {
        let Watch { observer, active, .. } = watch;
        let now = self.clock.monotonic();
        let running = active.as_ref().map(|(log, _)| &log.region);
        let regions = self.regions.iter().map(|region| {
            let engine = self.reach.get(region).copied().unwrap_or(EngineReach::Lost);
            let around = Circumstances { engine, running };
            let blocked = observer.blocked(region, now, &self.policy, around);
            let why_not = blocked.into_iter().map(|it| {
                let text = it.to_string();
                WhyNot { condition: it, text }
            });
            RegionLiveness {
                verdict: observer.verdict(region, now),
                not_failed_over_because: why_not.collect(),
            }
        });
        let seen = Seen {
            view: observer.view(now),
            regions: regions.collect(),
            active: active.clone(),
            leases: self
                .regions
                .iter()
                .filter_map(|it| Some((it.clone(), observer.watched(it)?.clone())))
                .collect(),
        };
        self.shown.send_replace(Arc::new(seen));
    }
}

async fn ask(peer: RegionId, client: Client) -> Outcome {
    let view = client.call::<Heartbeat>(&NoParams {}, &()).await;
    Outcome::Heard { peer, view: view.ok().map(|reply| reply.view) }
}

async fn look(engine: Arc<dyn StrongEngine>) -> Outcome {
    let looking = async {
        // The log first: it is written with the fence, so that leases which are read later show
        // the fence of the log, or that the region is back.
        let active = engine.get(ACTIVE_KEY).await?;
        let active = active.map(|kv| match serde_json::from_slice::<Log>(&kv.value) {
            Ok(log) => Ok((log, kv.mod_revision)),
            Err(reason) => Err(StrongError::Malformed {
                reason: format!("the log of the failover under way: {reason}"),
            }),
        });
        let active = active.transpose()?;
        let range = Range { prefix: LEASES_PREFIX, after: None, limit: LEASES_MAX };
        let page = engine.range(range).await?;
        let read = |kv: &dwcp_runtime::strong::KeyValue| {
            let record = serde_json::from_slice::<LeaseRecord>(&kv.value);
            let record = record.inspect_err(|reason| {
                warn!(key = kv.key, %reason, "a lease cannot be read");
            });
            Some((record.ok()?, kv.mod_revision))
        };
        let leases = page.items.iter().filter_map(read).collect();
        Ok(Look { leases, active })
    };
    Outcome::Looked(Box::new(looking.await))
}

/// What each host is called with.
pub(crate) type Hosts = BTreeMap<HostId, Client>;

/// What of the strong engine is left without a region: an embedded one is lost with its home,
/// and etcd without a majority of its members.
#[must_use]
pub fn engine_reach(
    regions: &BTreeSet<RegionId>,
    members: &[RegionId],
) -> BTreeMap<RegionId, EngineReach> {
    let reach = |region: &RegionId| {
        let left = members.iter().filter(|member| *member != region).count();
        let survives = left * 2 > members.len();
        if survives { EngineReach::Survives } else { EngineReach::Lost }
    };
    regions.iter().map(|region| (region.clone(), reach(region))).collect()
}

/// The records that a tenure grants by.
pub(crate) type Records = Arc<Mirror>;

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::new(name).unwrap()
    }

    #[test]
    fn the_engine_is_lost_with_its_only_home_and_survives_a_minority_of_its_members() {
        let regions: BTreeSet<_> = ["a", "b", "c", "d"].map(region).into();
        let embedded = engine_reach(&regions, &[region("a")]);
        assert_eq!(embedded[&region("a")], EngineReach::Lost);
        assert_eq!(embedded[&region("b")], EngineReach::Survives);
        let etcd = engine_reach(&regions, &["a", "b", "c"].map(region));
        assert!(etcd.values().all(|reach| *reach == EngineReach::Survives));
        let lopsided = engine_reach(&regions, &["a", "a", "b"].map(region));
        assert_eq!(lopsided[&region("a")], EngineReach::Lost);
        assert_eq!(lopsided[&region("b")], EngineReach::Survives);
    }
}
