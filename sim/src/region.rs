//! A region daemon: the real ledger, its disk, and the loop that brings records, reservations
//! and hosts in line.
//!
//! Every handler returns what to store and what to send; the world stores first, sends after,
//! and may crash the daemon before, between and after. Rows are stored as JSON, so that their
//! encoding is part of what is proved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::ledger::{Change, HostReport, Ledger, Mark, Reserve, Row};
use dwcp_controller::ownership::{
    EpochFloor, VMS_PREFIX, VmRecord, epoch_floor_key, instruction_for, vm_key,
};
use dwcp_types::{
    Epoch, Generation, HostId, PlacedVm, Power, RegionId, ReservationId, Timestamp, VmId,
};

use crate::creation::Creating;
use crate::engine::{EngineReply, EngineRequest, Rows, Txn, Value};
use crate::message::{Body, CommitReply, Node, SeenVm};
use crate::options::Breakage;
use crate::warden::Warden;

/// A host that was not heard for this long gets no new VMs: six of its reports.
const SILENT_AFTER: Duration = Duration::from_secs(3);

/// What a handler wants done: store, then send.
#[derive(Debug)]
pub(crate) struct Step {
    /// When it is, by the region's clock.
    pub(crate) now: Timestamp,
    /// The same by its monotonic clock.
    pub(crate) mono: Duration,
    pub(crate) changes: Vec<Change>,
    pub(crate) out: Vec<(Node, Body)>,
}

/// What the hosts said of one VM.
#[derive(Debug)]
pub(super) struct Heard {
    version: (Epoch, Generation),
    gone: bool,
    pub(super) stopped: bool,
}

/// What a crash loses.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) ledger: Ledger,
    /// Not before the first list of records has been reconciled.
    pub(crate) serving: bool,
    pub(super) creating: BTreeMap<ReservationId, Creating>,
    heard: BTreeMap<HostId, Timestamp>,
    seen: BTreeMap<VmId, Heard>,
    list: Option<(u64, Mark)>,
    /// The VMs that the last list had.
    vms: Vec<Arc<PlacedVm>>,
    purging: BTreeMap<u64, ReservationId>,
    pub(super) calls: u64,
    pub(super) breakage: Breakage,
    /// Leases, liveness and failover, where the run has them.
    pub(super) warden: Option<Warden>,
    pub(super) agents: BTreeMap<HostId, usize>,
    /// The number of the call of the last list.
    listed: u64,
}

/// A region.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) id: RegionId,
    /// Stored rows, as JSON, by key.
    pub(crate) disk: BTreeMap<String, String>,
    pub(crate) daemon: Option<Daemon>,
    /// Answered and not stored yet: empty but for the rule that is broken on purpose.
    pub(crate) unsynced: Vec<Change>,
    pub(crate) breakage: Breakage,
    pub(crate) agents: BTreeMap<HostId, usize>,
    pub(crate) coordinators: usize,
    /// Every region's number, where regions are failed over; else none.
    pub(crate) regions: BTreeMap<RegionId, usize>,
}

impl Region {
    /// Loads what is stored.
    pub(crate) fn start(&mut self, boot: u64, mono: Duration) -> Result<(), String> {
        let row = |json: &String| {
            serde_json::from_str::<Row>(json).map_err(|error| error.to_string())
        };
        let rows: Vec<_> = self.disk.values().map(row).collect::<Result<_, _>>()?;
        let ledger =
            Ledger::load(self.id.clone(), rows).map_err(|error| error.to_string())?;
        self.daemon = Some(Daemon {
            ledger,
            serving: false,
            creating: BTreeMap::new(),
            heard: BTreeMap::new(),
            seen: BTreeMap::new(),
            list: None,
            vms: Vec::new(),
            purging: BTreeMap::new(),
            // A number of an earlier life is never used again.
            calls: boot << 32,
            breakage: self.breakage,
            warden: (!self.regions.is_empty()).then(|| {
                Warden::new(self.id.clone(), self.regions.clone(), self.breakage, mono)
            }),
            agents: self.agents.clone(),
            listed: 0,
        });
        Ok(())
    }

    /// Stores changes, all of them.
    pub(crate) fn store(&mut self, changes: Vec<Change>) -> Result<(), String> {
        for change in changes {
            let key = change.key().text();
            match change {
                Change::Put(row) => {
                    let json =
                        serde_json::to_string(&row).map_err(|error| error.to_string())?;
                    self.disk.insert(key, json);
                }
                Change::Delete(_) => {
                    self.disk.remove(&key);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn handle(
        &mut self,
        (now, mono): (Timestamp, Duration),
        from: Node,
        body: Body,
    ) -> Step {
        let mut step = Step { now, mono, changes: Vec::new(), out: Vec::new() };
        let Some(daemon) = &mut self.daemon else { return step };
        match body {
            Body::Reserve { call, ask } if daemon.serving => {
                daemon.reserve((from, call), *ask, &mut step);
            }
            Body::Commit { call, id, request, token } if daemon.serving => {
                let wish = (id, *request, token);
                daemon.commit(&self.id, (from, call), wish, &mut step);
            }
            Body::FromEngine { call, reply } => {
                self.on_engine(call, reply, &mut step);
            }
            Body::Report { host, vms, clock } => {
                daemon.read_clock(&host.id, clock);
                daemon.report(now, *host, vms);
            }
            Body::Recover { vm, place, recovered } if daemon.serving => {
                let wanted = (*vm, place, *recovered);
                daemon.take_over(&self.id, from, wanted, &mut step);
            }
            Body::NoRoom { vm } => daemon.no_room(from, vm),
            word @ (Body::Beat { .. } | Body::Beaten { .. } | Body::View { .. }) => {
                daemon.on_word(from, &word, &mut step);
            }
            Body::Reserve { .. }
            | Body::Commit { .. }
            | Body::Ask { .. }
            | Body::Answer { .. }
            | Body::Reserved { .. }
            | Body::Committed { .. }
            | Body::ToEngine { .. }
            | Body::Instruct(_)
            | Body::Grant(_)
            | Body::Recover { .. } => {}
        }
        step
    }

    /// What it does on its timer.
    pub(crate) fn tick(&mut self, (now, mono): (Timestamp, Duration)) -> Step {
        let mut step = Step { now, mono, changes: Vec::new(), out: Vec::new() };
        let Some(daemon) = &mut self.daemon else { return step };
        step.changes.extend(daemon.ledger.expire(now).changes);
        if self.breakage == Breakage::CommitLapses {
            let old = |made: Timestamp| now.since(made) > Duration::from_secs(3);
            let ids = daemon.ledger.committing().filter(|row| old(row.made_at));
            let ids: Vec<_> = ids.map(|row| row.ask.id.clone()).collect();
            for id in ids {
                step.changes.extend(daemon.ledger.release(&id).changes);
            }
        }
        for (host, at) in &daemon.heard {
            if now.since(*at) > SILENT_AFTER {
                daemon.ledger.host_silent(host);
            }
        }
        daemon.roll_forward(&mut step);
        let mark = daemon.ledger.mark();
        let call = daemon.ask_engine(EngineRequest::List(VMS_PREFIX), &mut step);
        daemon.list = Some((call, mark));
        for coordinator in 0..self.coordinators {
            let (hosts, vms) = (daemon.ledger.hosts(), daemon.vms.clone());
            let view = Body::View { hosts, vms };
            step.out.push((Node::Coordinator(coordinator), view));
        }
        for index in self.regions.values().filter(|_| daemon.serving) {
            let (hosts, vms) = (daemon.ledger.hosts(), Vec::new());
            step.out.push((Node::Region(*index), Body::View { hosts, vms }));
        }
        daemon.watch(&mut step);
        step
    }

    fn on_engine(&mut self, call: u64, reply: EngineReply, step: &mut Step) {
        let breakage = self.breakage;
        let Some(daemon) = &mut self.daemon else { return };
        if daemon.on_watch(call, &reply, step) {
            return;
        }
        if let Some(id) = daemon.purging.get(&call).cloned() {
            if matches!(reply, EngineReply::Txn(Some(_)))
                && breakage != Breakage::NeverReleases
            {
                step.changes.extend(daemon.ledger.release(&id).changes);
            }
            return;
        }
        if let (Some((list, mark)), EngineReply::Rows(rows)) = (daemon.list, &reply)
            && list == call
        {
            daemon.list = None;
            daemon.listed = call;
            return self.on_list(mark, rows, step);
        }
        daemon.on_creation(call, reply, step);
    }

    fn on_list(&mut self, mark: Mark, rows: &Rows, step: &mut Step) {
        let Some(daemon) = &mut self.daemon else { return };
        let ours: Vec<(VmRecord, u64)> = rows
            .values()
            .filter_map(|row| Some((row.value.vm()?.clone(), row.revision)))
            .filter(|(record, _)| record.owner.region == self.id)
            .collect();
        let records: Vec<_> = ours.iter().map(|(record, _)| record.clone()).collect();
        if !(self.breakage == Breakage::NeverReleases && daemon.serving) {
            let done = daemon.ledger.reconcile(step.now, mark, &records);
            step.changes.extend(done.changes);
            for id in done.value.confirmed {
                daemon.resolve(&id, &CommitReply::Done, step);
            }
        }
        let listed = daemon.listed;
        if let Some(warden) = &mut daemon.warden {
            warden.listed(listed, &ours);
            let all: Vec<_> =
                rows.values().filter_map(|it| it.value.vm().cloned()).collect();
            daemon.recover_listed(&all, step);
        }
        daemon.vms = records.iter().map(|record| Arc::new(record.placed())).collect();
        daemon.serving = true;
        daemon.purging.clear();
        for (record, revision) in &ours {
            daemon.pursue(record, *revision, &self.agents, step);
        }
    }
}

impl Daemon {
    fn reserve(&mut self, to: (Node, u64), ask: Reserve, step: &mut Step) {
        let now = step.now;
        step.changes.extend(self.ledger.expire(now).changes);
        let (from, call) = to;
        let held = match self.ledger.reserve(now, ask) {
            Ok(done) => {
                step.changes.extend(done.changes);
                Some(done.value.awaits.keys().cloned().collect())
            }
            Err(_) => None,
        };
        step.out.push((from, Body::Reserved { call, held }));
    }

    fn report(&mut self, now: Timestamp, mut host: HostReport, vms: Vec<SeenVm>) {
        self.heard.insert(host.id.clone(), now);
        if self.breakage == Breakage::SellsWhatIsTaken {
            host.total = host.total.plus(&host.total);
        }
        // More hosts than a region may have cannot happen here: there are at most four.
        if self.ledger.report_host(host).is_err() {
            return;
        }
        for seen in vms {
            let newer =
                |known: &Heard| (known.version, known.gone) <= (seen.version, seen.gone);
            if self.seen.get(&seen.vm).is_none_or(newer) {
                let SeenVm { vm, version, gone, stopped } = seen;
                self.seen.insert(vm, Heard { version, gone, stopped });
            }
        }
    }

    /// Brings one VM nearer to what its record says.
    fn pursue(
        &mut self,
        record: &VmRecord,
        revision: u64,
        agents: &BTreeMap<HostId, usize>,
        step: &mut Step,
    ) {
        if self.gives_way(record, revision, step) {
            return;
        }
        let heard = self.heard(record);
        let hasty = self.breakage == Breakage::ForgetsTheRunning;
        let gone = hasty || heard.is_some_and(|heard| heard.gone);
        if record.power == Power::Deleted && gone {
            let vm = &record.request.id;
            let floor = EpochFloor { epoch: record.owner.epoch };
            let txn = Txn {
                compares: vec![(vm_key(vm), revision)],
                puts: vec![(epoch_floor_key(vm), Value::Floor(floor))],
                deletes: vec![vm_key(vm)],
            };
            let call = self.ask_engine(EngineRequest::Txn(txn), step);
            self.purging.insert(call, record.reservation.clone());
        } else if heard.is_none()
            && let Some(agent) = agents.get(&record.owner.host)
        {
            let instruction = Box::new(instruction_for(record));
            step.out.push((Node::Agent(*agent), Body::Instruct(instruction)));
        }
    }

    /// What the host said of a VM under this very record.
    pub(super) fn heard(&self, record: &VmRecord) -> Option<&Heard> {
        let heard = self.seen.get(&record.request.id);
        heard.filter(|heard| heard.version == record.version())
    }

    pub(super) fn ask_engine(&mut self, request: EngineRequest, step: &mut Step) -> u64 {
        self.calls += 1;
        let call = self.calls;
        step.out.push((Node::Engine, Body::ToEngine { call, request }));
        call
    }
}
