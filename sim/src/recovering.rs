//! How region daemons fail a dead one over: one begins with a single transaction, one carries
//! it out, any may go on with it, and the region that takes a VM over writes its new owner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::failover::{
    ACTIVE_KEY, EXECUTOR_SILENT_AFTER, Leave, Log, Outcome, Phase, Trigger, history_key,
    plan,
};
use dwcp_controller::lease::lease_key;
use dwcp_controller::ledger::{Proposal, Reserve, Stage};
use dwcp_controller::liveness::{Circumstances, EngineReach, Policy};
use dwcp_controller::ownership::{Loss, Place, Proof, Recovered, VmRecord, recover};
use dwcp_controller::placement;
use dwcp_types::{FleetView, Health, HealthState, RegionId, RegionView, Timestamp, VmId};

use crate::engine::{EngineRequest, Txn, Value};
use crate::message::{Body, Node};
use crate::options::Breakage;
use crate::region::{Daemon, Step};
use crate::warden::Warden;
use crate::world::configured;

/// A VM is asked for again when nothing came of it for so long.
const RECOVER_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// A target that had no room so often is not asked again.
const REFUSALS_MAX: u32 = 3;
/// What an operator would write: everything on.
const POLICY: Policy = Policy {
    enabled: true,
    automatic: true,
    spread: true,
    needs_approval: false,
    min_healthy: 1,
};

/// What an executor remembers; all of it may be lost.
#[derive(Debug, Default)]
pub(crate) struct Errand {
    log: String,
    sent: BTreeMap<VmId, (RegionId, Duration)>,
    full: BTreeMap<(VmId, RegionId), u32>,
    beaten_at: Option<Duration>,
}

impl Daemon {
    /// Begins a failover when nothing speaks against it, or goes on with the one under way.
    pub(super) fn fail_over(&mut self, warden: &mut Warden, step: &mut Step) {
        if warden.log.is_some() {
            return self.go_on(warden, step);
        }
        let now = step.mono;
        for region in warden.regions.keys() {
            let around = Circumstances { engine: EngineReach::Survives, running: None };
            let blocked = warden.observer.blocked(region, now, &POLICY, around);
            let Some(watched) = warden.observer.watched(region) else { continue };
            if !blocked.is_empty() || warden.breakage() == Breakage::NeverFailsOver {
                continue;
            }
            let id = format!("fo-{region}-{}-{}", watched.record.term, self.calls);
            let trigger = Trigger::Automatic { by: warden.own.clone() };
            let proof = proof(warden, region, now);
            let executor = (warden.own.clone(), step.now);
            let log = Log::begun(id, region.clone(), trigger, proof, executor);
            let fenced = watched.record.fenced(&log.id);
            let key = lease_key(region);
            let txn = Txn {
                compares: vec![
                    (ACTIVE_KEY.to_owned(), 0),
                    (key.clone(), watched.revision),
                ],
                puts: vec![
                    (ACTIVE_KEY.to_owned(), Value::Log(Box::new(log))),
                    (key, Value::Lease(Box::new(fenced))),
                ],
                deletes: Vec::new(),
            };
            self.ask_engine(EngineRequest::Txn(txn), step);
            return;
        }
    }

    /// Beats as the executor, or takes over from one that is silent.
    fn go_on(&mut self, warden: &mut Warden, step: &mut Step) {
        let now = step.mono;
        let Some((log, revision, since)) = &warden.log else { return };
        let mine = log.executor == warden.own;
        let silent = now.saturating_sub(*since) > EXECUTOR_SILENT_AFTER;
        if !mine && !silent {
            return;
        }
        let due = warden
            .errand
            .beaten_at
            .is_none_or(|at| now.saturating_sub(at) >= Duration::from_secs(1));
        if due {
            warden.errand.beaten_at = Some(now);
            let next = log.beaten(&warden.own);
            self.put_log(*revision, next, step);
        }
    }

    fn put_log(&mut self, revision: u64, log: Log, step: &mut Step) {
        let ended = log.ended.is_some();
        let (key, deletes) = if ended {
            (history_key(&log.id), vec![ACTIVE_KEY.to_owned()])
        } else {
            (ACTIVE_KEY.to_owned(), Vec::new())
        };
        let txn = Txn {
            compares: vec![(ACTIVE_KEY.to_owned(), revision)],
            puts: vec![(key, Value::Log(Box::new(log)))],
            deletes,
        };
        self.ask_engine(EngineRequest::Txn(txn), step);
    }

    /// Every record was listed: the executor asks for what is still in the lost region, or
    /// ends when nothing is left that has a place.
    pub(super) fn recover_listed(&mut self, records: &[VmRecord], step: &mut Step) {
        let Some(mut warden) = self.warden.take() else { return };
        if let Some((log, revision, _)) = &warden.log
            && log.executor == warden.own
        {
            let (log, revision) = (log.clone(), *revision);
            self.recover_all(&mut warden, (&log, revision), records, step);
        }
        self.warden = Some(warden);
    }

    fn recover_all(
        &mut self,
        warden: &mut Warden,
        (log, revision): (&Log, u64),
        records: &[VmRecord],
        step: &mut Step,
    ) {
        let now = step.mono;
        let watched = warden.observer.watched(&log.region);
        // Log and lease are looked at together, and were written together.
        if !watched.is_some_and(|it| it.record.is_fenced_by(&log.id)) {
            let over = log.over(Outcome::RegionReturned, step.now);
            return self.put_log(revision, over, step);
        }
        let Some(proof) = log.proof.clone() else { return };
        let view = self.fleet_view(warden, records);
        let fleet = placement::Fleet::new(&view);
        let all: Vec<_> = records.iter().collect();
        let policy = placement::Policy::default();
        let plan = plan(&fleet, &log.region, &all, Leave::from(log), &policy);
        if warden.errand.log != log.id {
            warden.errand = Errand { log: log.id.clone(), ..Errand::default() };
        }
        let by_name: BTreeMap<_, _> =
            records.iter().map(|record| (&record.request.id, record)).collect();
        let mut open = 0;
        for it in plan.moves {
            let full = |region: &RegionId| {
                let times = warden.errand.full.get(&(it.vm.clone(), region.clone()));
                times.is_some_and(|times| *times >= REFUSALS_MAX)
            };
            let Some(at) = it.to.iter().find(|at| !full(&at.region)) else { continue };
            open += 1;
            let sent = warden.errand.sent.get(&it.vm);
            let waits = sent.is_some_and(|(region, when)| {
                *region == at.region && now.saturating_sub(*when) < RECOVER_AGAIN_AFTER
            });
            let (Some(record), Some(to)) =
                (by_name.get(&it.vm), warden.regions.get(&at.region))
            else {
                continue;
            };
            if waits {
                continue;
            }
            warden.errand.sent.insert(it.vm.clone(), (at.region.clone(), now));
            let place =
                Proposal { zone: Some(at.zone.clone()), host: Some(at.host.clone()) };
            let recovered = Box::new(Recovered {
                failover: log.id.clone(),
                from: log.region.clone(),
                proof: proof.clone(),
                loss: Loss::DiskAndMemory { since: record.created_at },
                at: step.now,
            });
            let vm = Box::new((*record).clone());
            step.out.push((Node::Region(*to), Body::Recover { vm, place, recovered }));
        }
        if open == 0 {
            let verified = log.advanced(Phase::Verifying, step.now).with_down(plan.down);
            self.put_log(revision, verified.over(Outcome::Recovered, step.now), step);
        }
    }

    fn fleet_view(&self, warden: &Warden, records: &[VmRecord]) -> FleetView {
        let region = |id: &RegionId| {
            let hosts = if *id == warden.own {
                self.ledger.hosts()
            } else {
                warden.hosts.get(id).cloned().unwrap_or_default()
            };
            RegionView {
                region: Arc::new(configured(id.clone())),
                health: Health { state: HealthState::Healthy, score: 100 },
                observed_at: Timestamp::default(),
                hosts,
            }
        };
        FleetView {
            regions: warden.regions.keys().map(region).collect(),
            vms: records.iter().map(|record| Arc::new(record.placed())).collect(),
            ..FleetView::default()
        }
    }

    /// Takes a VM of a lost region over: holds its capacity and begins to commit.
    pub(super) fn take_over(
        &mut self,
        own: &RegionId,
        from: Node,
        (vm, place, recovered): (VmRecord, Proposal, Recovered),
        step: &mut Step,
    ) {
        let now = step.now;
        step.changes.extend(self.ledger.expire(now).changes);
        let id = vm.reservation.clone();
        let row = match self.ledger.get(&id) {
            Some(row) => Some(Arc::clone(row)),
            None => {
                let ask =
                    Reserve { proposal: place, ..Reserve::of(id.clone(), &vm.request) };
                self.ledger.reserve(now, ask).ok().map(|done| {
                    step.changes.extend(done.changes);
                    done.value
                })
            }
        };
        let Some(row) = row else {
            step.out.push((from, Body::NoRoom { vm: vm.request.id }));
            return;
        };
        let to =
            Place { region: own.clone(), zone: row.zone.clone(), host: row.host.clone() };
        let recovered = Recovered { at: now, ..recovered };
        let wanted = recover(&vm, &to, recovered);
        if let Ok(begun) = self.ledger.begin_commit(now, &id, wanted) {
            step.changes.extend(begun.changes);
            if matches!(begun.value.stage, Stage::Committing { .. }) {
                self.begin_creation(&id, step);
            }
        }
    }

    /// A target has no room for a VM.
    pub(super) fn no_room(&mut self, from: Node, vm: VmId) {
        let Some(warden) = &mut self.warden else { return };
        let Node::Region(index) = from else { return };
        let named = warden.regions.iter().find(|(_, at)| **at == index);
        if let Some((region, _)) = named {
            *warden.errand.full.entry((vm, region.clone())).or_default() += 1;
        }
    }
}

/// Why a region surely runs nothing any more, as this observer saw it.
fn proof(warden: &Warden, region: &RegionId, now: Duration) -> Option<Proof> {
    let terms = warden.observer.terms();
    let watched = warden.observer.watched(region)?;
    let lapsed = watched.has_lapsed(now, terms);
    let watched_ms = u64::try_from(terms.lapsed_after().as_millis()).ok()?;
    lapsed.then_some(Proof::LeaseLapsed { term: watched.record.term, watched_ms })
}
