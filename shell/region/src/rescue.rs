//! Fails a dead region over: begins when nothing speaks against it, or by an operator's
//! command; carries the log out, and takes it over from an executor that went silent.
//!
//! Every daemon runs this. There is no leader: the begin is one transaction that only one can
//! win, every step compares what it stands on, and what is done twice is seen as done.

mod approve;
mod begin;
mod history;
mod recovering;
mod requests;
mod taking;

pub use requests::Requests;
pub use taking::Takers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::failover::{
    ACTIVE_KEY, EXECUTOR_SILENT_AFTER, Log, Outcome, Phase, history_key,
};
use dwcp_controller::lease::Terms;
use dwcp_controller::ownership::{Proof, VmRecord};
use dwcp_controller::placement::Policy;
use dwcp_runtime::clock::Clock;
use dwcp_runtime::crash::crash_point;
use dwcp_runtime::strong::{Compare, Op, StrongEngine, StrongError};
use dwcp_types::{Power, RegionId, VmId, VmPhase};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::commit::stored;
use crate::config::ApprovalConfig;
use crate::engine;
use crate::events::Events;
use crate::fleet::FleetKeeper;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::traces::{Saga, Whole};
use crate::warden::Seen;
use crate::world::World;

/// How often the log is looked at: a heartbeat.
const STEP_EVERY: Duration = Duration::from_millis(500);
/// VMs that are taken over at the same time, and in one step: more would keep the executor from
/// beating.
const TAKEN_AT_ONCE: usize = 16;
const TAKEN_PER_STEP: usize = 64;
/// A target that did not answer for a VM so often is not asked again in this failover.
const TRIES_MAX: u32 = 20;
/// One that said no counts as so many: it may have given the room to another since, three times.
const REFUSAL_WEIGHT: u32 = 7;

/// See the module.
#[derive(Debug)]
pub struct Rescuer {
    /// This daemon's region.
    pub region: RegionId,
    /// How long leases last.
    pub terms: Terms,
    /// How VMs are placed.
    pub policy: Policy,
    /// How long VMs may take to start before the failover ends without them.
    pub start_budget: Duration,
    /// The engine.
    pub engine: Arc<dyn StrongEngine>,
    /// The records.
    pub mirror: Arc<Mirror>,
    /// The fleet.
    pub fleet: Arc<FleetKeeper>,
    /// What guests are seen.
    pub world: Arc<World>,
    /// What the warden sees.
    pub seen: watch::Receiver<Arc<Seen>>,
    /// Wakes the warden to read what was written.
    pub written: Arc<Notify>,
    /// Who takes VMs over.
    pub takers: Takers,
    /// Whether two persons must agree to what an operator wants.
    pub approval: ApprovalConfig,
    /// What waits for the second one.
    pub requests: Requests,
    /// Where it is noted who asked and who denied.
    pub events: Events,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where its duration is counted (O20).
    pub(crate) metrics: Arc<Metrics>,
    /// Tells its trace.
    pub(crate) saga: Saga,
}

/// What one daemon remembers of the log; all of it may be lost.
#[derive(Debug, Default)]
struct Memory {
    id: String,
    revision: u64,
    since: Duration,
    recovering_since: Option<Duration>,
    verifying_since: Option<Duration>,
    /// When it wrote last.
    beaten_at: Option<Duration>,
    refusals: BTreeMap<(VmId, RegionId), u32>,
}

impl Rescuer {
    /// Looks after failovers for ever.
    pub async fn run(self: Arc<Self>) {
        let mut memory = Memory::default();
        let mut shown = self.seen.clone();
        loop {
            // What the warden sees next, or the time for another look when it sees nothing.
            drop(tokio::time::timeout(STEP_EVERY, shown.changed()).await);
            let seen = shown.borrow_and_update().clone();
            let step = match &seen.active {
                Some((log, revision)) => {
                    self.remember(&mut memory, log, *revision);
                    self.go_on(&seen, log, *revision, &mut memory).await
                }
                None => self.begin_what_is_due(&seen).await,
            };
            if let Err(reason) = step {
                info!(%reason, "the failover waits for the strong engine");
            }
        }
    }

    fn remember(&self, memory: &mut Memory, log: &Log, revision: u64) {
        let now = self.clock.monotonic();
        if memory.id != log.id {
            *memory = Memory { id: log.id.clone(), ..Memory::default() };
        }
        if memory.revision != revision {
            memory.revision = revision;
            memory.since = now;
        }
    }

    async fn go_on(
        &self,
        seen: &Seen,
        log: &Log,
        revision: u64,
        memory: &mut Memory,
    ) -> Result<(), StrongError> {
        let now = self.clock.monotonic();
        let silent = now.saturating_sub(memory.since) > EXECUTOR_SILENT_AFTER;
        if log.executor != self.region && !silent {
            return Ok(());
        }
        if log.executor != self.region {
            warn!(id = log.id, from = %log.executor, "a failover is taken over");
        }
        let next = self.next(seen, log, memory).await;
        // Only what is new is written at once; that the executor lives, now and then.
        let stands = next.phase == log.phase && next.ended.is_none();
        let lately =
            memory.beaten_at.is_some_and(|at| now.saturating_sub(at) < STEP_EVERY);
        if stands && lately {
            return Ok(());
        }
        memory.beaten_at = Some(now);
        crash_point("failover-before-log");
        let done = self.put(&next, revision).await?;
        crash_point("failover-after-log");
        if done && !stands {
            self.trace(log, &next);
        }
        Ok(())
    }

    /// The log one step on.
    async fn next(&self, seen: &Seen, log: &Log, memory: &mut Memory) -> Log {
        let now = self.clock.now();
        let beaten = log.beaten(&self.region);
        let watched = seen.leases.get(&log.region);
        // Written together, read together: without the fence the region has its lease again.
        if !watched.is_some_and(|it| it.record.is_fenced_by(&log.id)) {
            return beaten.over(Outcome::RegionReturned, now);
        }
        match log.phase {
            Phase::Waiting => {
                let monotonic = self.clock.monotonic();
                let lapsed = watched.filter(|it| it.has_lapsed(monotonic, self.terms));
                match lapsed {
                    Some(it) => beaten.proven(lapse(it.record.term, self.terms), now),
                    None => beaten,
                }
            }
            Phase::Recovering => self.recovering(beaten, memory).await,
            Phase::Verifying => self.verified(beaten, memory),
        }
    }

    /// The log with what runs; over when all does, or its time is.
    fn verified(&self, log: Log, memory: &mut Memory) -> Log {
        let now = self.clock.monotonic();
        let since = *memory.verifying_since.get_or_insert(now);
        let by_this = |record: &VmRecord| {
            record.recovered.as_ref().is_some_and(|it| it.failover == log.id)
        };
        let came = self.mirror.vms(None, usize::MAX, by_this);
        let running = came.iter().filter(|record| self.is_as_wanted(record)).count();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        // A mirror that is behind, or empty after a restart, does not make it whole.
        let whole = count(came.len()) >= log.owned;
        let all = whole && running == came.len();
        let late = now.saturating_sub(since) >= self.start_budget;
        let owned = count(came.len()).max(log.owned);
        let points = log.points_of(came.iter().map(AsRef::as_ref));
        let log = Log { owned, running: count(running), points, ..log };
        if !all && !late {
            return log;
        }
        let outcome = if all { Outcome::Recovered } else { Outcome::NotAllRunning };
        let at = self.clock.now();
        let took = at.since(log.started_at);
        info!(
            id = log.id,
            ?outcome,
            ?took,
            owned = log.owned,
            running,
            "a failover ended"
        );
        self.metrics.failed_over(&log.region, outcome, took);
        log.over(outcome, at)
    }

    /// Tells of the phase that is over, and of all of it at its end.
    fn trace(&self, log: &Log, next: &Log) {
        let now = next.ended.map_or(next.phase_at, |ended| ended.at);
        self.saga.stepped((&log.id, phase(log.phase)), (log.phase_at, now));
        let Some(ended) = next.ended else { return };
        let tags = [
            ("region", next.region.to_string()),
            ("owned", next.owned.to_string()),
            ("running", next.running.to_string()),
            ("down", next.down.len().to_string()),
        ];
        let failed = match ended.outcome {
            Outcome::Recovered => None,
            Outcome::NotAllRunning => Some("not all of its VMs run elsewhere".to_owned()),
            Outcome::RegionReturned => Some("the region came back".to_owned()),
        };
        self.saga.ended(Whole {
            id: &next.id,
            from: next.started_at,
            to: ended.at,
            failed,
            tags: tags.map(|(key, value)| (key.to_owned(), value)).into(),
        });
    }

    fn is_as_wanted(&self, record: &VmRecord) -> bool {
        let (_, guest) = self.world.guest(&record.owner.region, &record.request.id);
        let seen = guest.filter(|guest| guest.epoch == record.owner.epoch);
        record.power != Power::Running
            || seen.is_some_and(|guest| guest.phase == VmPhase::Running)
    }

    async fn put(&self, log: &Log, revision: u64) -> Result<bool, StrongError> {
        let value = stored(log)?;
        let key = ACTIVE_KEY.to_owned();
        let then = if log.ended.is_some() {
            let history = history_key(&log.id);
            vec![
                Op::Put { key: history, value, lease: None },
                Op::Delete { key: key.clone() },
            ]
        } else {
            vec![Op::Put { key: key.clone(), value, lease: None }]
        };
        let compare = vec![Compare::Revision { key, mod_revision: revision }];
        let done = self.write(compare, then).await?;
        if log.ended.is_some() {
            self.forget_old().await?;
        }
        Ok(done)
    }

    /// Whether it was done.
    async fn write(
        &self,
        compare: Vec<Compare>,
        then: Vec<Op>,
    ) -> Result<bool, StrongError> {
        let done = engine::swap(self.engine.as_ref(), compare, then).await?.is_some();
        if done {
            self.written.notify_one();
        }
        Ok(done)
    }
}

/// A phase as a word.
const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Recovering => "recovering",
        Phase::Verifying => "verifying",
    }
}

/// The proof that a lease's term has lapsed.
fn lapse(term: u64, terms: Terms) -> Proof {
    let watched_ms = u64::try_from(terms.lapsed_after().as_millis()).unwrap_or(u64::MAX);
    Proof::LeaseLapsed { term, watched_ms }
}
