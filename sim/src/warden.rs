//! A region daemon's part in leases and liveness: it renews its lease, lets its hosts run their
//! bound guests, hears its peers, and watches every lease there is. The failovers that follow
//! from that are in `recovering`.
//!
//! All times are of the region's own monotonic clock, which runs at its own rate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dwcp_controller::failover::{ACTIVE_KEY, Log};
use dwcp_controller::lease::{
    Holder, LEASES_PREFIX, LeaseRecord, LeaseState, Terms, lease_key,
};
use dwcp_controller::liveness::{Observer, Timing, View};
use dwcp_controller::ownership::VmRecord;
use dwcp_types::{Epoch, HostId, HostView, RegionId, VmId};
use dwcp_vm::Grant;

use crate::engine::{EngineReply, EngineRequest, Rows, Txn, Value};
use crate::message::{Body, Node};
use crate::options::Breakage;
use crate::region::{Daemon, Step};

/// An answer to a heartbeat that takes longer counts as none: the interval of the design.
const BEAT_WAIT: Duration = Duration::from_millis(500);
/// An open question to the engine is asked again after this long.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(900);

/// A renewal, or the taking of the lease, that is not answered yet.
#[derive(Debug)]
struct Asking {
    call: u64,
    /// When it was first asked for; a later asking of the same gives no more time.
    asked_at: Duration,
    /// What the hosts' clocks had shown by then.
    readings: BTreeMap<HostId, Duration>,
    record: LeaseRecord,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Warden {
    pub(crate) own: RegionId,
    pub(crate) regions: BTreeMap<RegionId, usize>,
    pub(crate) observer: Observer,
    terms: Terms,
    holder: Option<Holder>,
    /// The own lease as it was last seen, with its revision; nothing before it was looked at.
    lease: Option<(Option<LeaseRecord>, u64)>,
    asking: Option<Asking>,
    readings: BTreeMap<HostId, Duration>,
    /// Who may run where, by a list that was asked for in this term.
    permits: Option<BTreeMap<HostId, BTreeMap<VmId, Epoch>>>,
    term_began: u64,
    look: Option<(u64, Duration)>,
    /// The failover under way, its revision, and since when it stands so.
    pub(crate) log: Option<(Log, u64, Duration)>,
    /// Hosts of other regions, as they last said.
    pub(crate) hosts: BTreeMap<RegionId, Vec<HostView>>,
    pub(crate) errand: super::recovering::Errand,
    breakage: Breakage,
}

impl Warden {
    pub(crate) fn new(
        own: RegionId,
        regions: BTreeMap<RegionId, usize>,
        breakage: Breakage,
        now: Duration,
    ) -> Self {
        let terms = Terms::default();
        // What a taker in a hurry counts with.
        let hasty = Terms::new(Duration::from_millis(900), Duration::ZERO);
        let watched = match (breakage, hasty) {
            (Breakage::TakesTooSoon, Some(hasty)) => hasty,
            _ => terms,
        };
        let all: BTreeSet<_> = regions.keys().cloned().collect();
        let timing = Timing::default();
        Self {
            observer: Observer::new(own.clone(), all, timing, watched, now),
            own,
            regions,
            terms,
            holder: None,
            lease: None,
            asking: None,
            readings: BTreeMap::new(),
            permits: None,
            term_began: u64::MAX,
            look: None,
            log: None,
            hosts: BTreeMap::new(),
            errand: super::recovering::Errand::default(),
            breakage,
        }
    }

    pub(crate) const fn breakage(&self) -> Breakage {
        self.breakage
    }

    fn peers(&self) -> impl Iterator<Item = Node> {
        let others = self.regions.iter().filter(|(id, _)| **id != self.own);
        others.map(|(_, index)| Node::Region(*index))
    }

    /// What the engine has of leases and failovers, at one revision.
    fn looked(&mut self, rows: &Rows, newest: u64, now: Duration) {
        let leases: Vec<_> = rows
            .values()
            .filter_map(|row| Some((row.value.lease()?, row.revision)))
            .collect();
        self.observer.leases(leases, now);
        let key = lease_key(&self.own);
        let found = rows.get(&key);
        let revision = found.map_or(0, |row| row.revision);
        let record = found.and_then(|row| row.value.lease()).cloned();
        self.own_lease(record, revision, newest);
        match rows.get(ACTIVE_KEY).and_then(|row| Some((row.value.log()?, row.revision)))
        {
            Some((log, revision)) => {
                let known = self.log.as_ref().map_or(0, |(_, known, _)| *known);
                if revision > known {
                    self.log = Some((log.clone(), revision, now));
                }
            }
            None => self.log = None,
        }
    }

    /// The own lease was seen. Its record tells what came of a renewal whose answer was lost,
    /// and whether somebody took it away.
    fn own_lease(&mut self, record: Option<LeaseRecord>, revision: u64, newest: u64) {
        if self.lease.as_ref().is_some_and(|(_, known)| *known > revision) {
            return;
        }
        let asking = self.asking.take_if(|it| Some(&it.record) == record.as_ref());
        if let Some(asking) = asking {
            self.renewed(&asking, newest);
        }
        let mine = record.as_ref().is_some_and(|record| {
            matches!(record.state, LeaseState::Held { .. })
                && self.lease.as_ref().is_some_and(|(known, _)| {
                    known.as_ref().is_some_and(|known| known.term == record.term)
                })
        });
        if !mine {
            self.holder = None;
            self.forget_permits();
        }
        self.lease = Some((record, revision));
    }

    /// What was asked for was done. In a new term who may run is asked for anew, by a list
    /// that is asked for after this call: under the fence that may have been before it other
    /// regions may have taken VMs over, and after it none can.
    fn renewed(&mut self, asking: &Asking, newest: u64) {
        if matches!(asking.record.state, LeaseState::Held { renewals: 0 }) {
            self.forget_permits();
            self.term_began = newest;
        }
        match &mut self.holder {
            Some(holder) => holder.renewed(asking.asked_at),
            None => self.holder = Some(Holder::new(self.terms, asking.asked_at)),
        }
        if let Some((known, _)) = &mut self.lease {
            *known = Some(asking.record.clone());
        }
    }

    fn forget_permits(&mut self) {
        if self.breakage != Breakage::GrantsFromOldList {
            self.permits = None;
        }
    }

    /// The grants that follow from a renewal.
    fn grants(&self, readings: &BTreeMap<HostId, Duration>) -> Vec<(HostId, Grant)> {
        let Some(permits) = &self.permits else { return Vec::new() };
        let grant = |(host, from): (&HostId, &Duration)| {
            let vms = permits.get(host).cloned().unwrap_or_default();
            let grant = Grant {
                from: *from,
                pause_after: self.terms.pause_after(),
                kill_after: self.terms.kill_after(),
                vms,
            };
            (host.clone(), grant)
        };
        readings.iter().map(grant).collect()
    }

    /// A list of this region's records that was asked for by `call`.
    pub(crate) fn listed(&mut self, call: u64, own: &[(VmRecord, u64)]) {
        let late = match (self.breakage, &self.permits) {
            (Breakage::GrantsFromOldList, Some(_)) => 100,
            _ => 0,
        };
        if self.holder.is_none() || call <= self.term_began.saturating_add(late) {
            return;
        }
        let mut permits: BTreeMap<HostId, BTreeMap<VmId, Epoch>> = BTreeMap::new();
        let bound = own.iter().filter(|(it, _)| it.request.is_failover_protected());
        for (record, _) in bound {
            let vms = permits.entry(record.owner.host.clone()).or_default();
            vms.insert(record.request.id.clone(), record.owner.epoch);
        }
        self.permits = Some(permits);
    }
}

impl Daemon {
    /// What the warden does on the timer.
    pub(crate) fn watch(&mut self, step: &mut Step) {
        let Some(mut warden) = self.warden.take() else { return };
        let now = step.mono;
        warden.observer.tick(now);
        for peer in warden.peers() {
            step.out.push((peer, Body::Beat { sent: now }));
        }
        if warden.look.is_none_or(|(_, at)| now.saturating_sub(at) > ASK_AGAIN_AFTER) {
            let call = self.ask_engine(EngineRequest::ListAll(LOOKED_AT), step);
            warden.look = Some((call, now));
        }
        self.renew(&mut warden, step);
        self.fail_over(&mut warden, step);
        self.warden = Some(warden);
    }

    fn renew(&mut self, warden: &mut Warden, step: &mut Step) {
        let now = step.mono;
        let Some((lease, revision)) = &warden.lease else { return };
        // Half a beat early: the timer comes only every half second.
        let due = warden.holder.as_ref().is_none_or(|holder| {
            now.saturating_sub(holder.asked_at()) + BEAT_WAIT / 2
                >= warden.terms.renew_every()
        });
        if !due {
            return;
        }
        let held = lease.as_ref().filter(|_| warden.holder.is_some());
        let record = held
            .and_then(LeaseRecord::renewed)
            .unwrap_or_else(|| LeaseRecord::acquired(lease.as_ref(), &warden.own));
        let key = lease_key(&warden.own);
        let txn = Txn {
            compares: vec![(key.clone(), *revision)],
            puts: vec![(key, Value::Lease(Box::new(record.clone())))],
            deletes: Vec::new(),
        };
        let again = warden.asking.as_ref().filter(|it| it.record == record);
        let asked_at = again.map_or(now, |it| it.asked_at);
        let readings =
            again.map_or_else(|| warden.readings.clone(), |it| it.readings.clone());
        let call = self.ask_engine(EngineRequest::Txn(txn), step);
        warden.asking = Some(Asking { call, asked_at, readings, record });
    }

    /// An answer of the engine, if it is the warden's.
    pub(crate) fn on_watch(
        &mut self,
        call: u64,
        reply: &EngineReply,
        step: &mut Step,
    ) -> bool {
        let newest = self.calls;
        let Some(warden) = &mut self.warden else { return false };
        match reply {
            EngineReply::Rows(rows)
                if warden.look.as_ref().is_some_and(|(look, _)| *look == call) =>
            {
                warden.look = None;
                warden.looked(rows, newest, step.mono);
                true
            }
            EngineReply::Txn(done)
                if warden.asking.as_ref().is_some_and(|it| it.call == call) =>
            {
                if let (Some(revision), Some(asking)) = (done, warden.asking.take()) {
                    warden.renewed(&asking, newest);
                    warden.lease = Some((Some(asking.record.clone()), *revision));
                    let grants = warden.grants(&asking.readings);
                    self.send_grants(grants, step);
                }
                true
            }
            EngineReply::Rows(_) | EngineReply::Txn(_) => false,
        }
    }

    fn send_grants(&self, grants: Vec<(HostId, Grant)>, step: &mut Step) {
        for (host, grant) in grants {
            if let Some(agent) = self.agents.get(&host) {
                step.out.push((Node::Agent(*agent), Body::Grant(Box::new(grant))));
            }
        }
    }

    /// What a peer or a host says to the warden.
    pub(crate) fn on_word(&mut self, from: Node, body: &Body, step: &mut Step) {
        let Some(warden) = &mut self.warden else { return };
        let Node::Region(index) = from else { return };
        let named = warden.regions.iter().find(|(_, at)| **at == index);
        let Some(peer) = named.map(|(id, _)| id.clone()) else { return };
        if let Body::Beat { sent } = body {
            let view = Box::new(warden.observer.view(step.mono));
            step.out.push((from, Body::Beaten { sent: *sent, view }));
        } else if let Body::Beaten { sent, view } = body {
            if step.mono.saturating_sub(*sent) <= BEAT_WAIT {
                let view: View = view.as_ref().clone();
                warden.observer.heard(&peer, view, step.mono);
            }
        } else if let Body::View { hosts, .. } = body {
            warden.hosts.insert(peer, hosts.clone());
        }
    }

    /// A host's clock, as its report says.
    pub(crate) fn read_clock(&mut self, host: &HostId, clock: Duration) {
        let Some(warden) = &mut self.warden else { return };
        let reading = warden.readings.entry(host.clone()).or_default();
        *reading = clock.max(*reading);
    }
}

/// Leases and the failover under way are read at one revision.
const LOOKED_AT: &[&str] = &[LEASES_PREFIX, ACTIVE_KEY];
