//! The hosts of a region: what they have, what is taken, and an index for the tightest fit.
//!
//! Free is always total minus the sum of allocations. What an agent says is free is never
//! believed: a guest that was reserved and has not started yet uses nothing.
//!
//! The index orders the hosts that take VMs by free GPUs, then free CPUs, then free memory,
//! then id, and the first that fits is chosen. GPUs come first so that a VM without one does
//! not sit on the last host that has some. Looking it up visits one entry per distinct pair of
//! free GPUs and CPUs (some hundred), not one per host.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_types::{Capacity, HostId, HostView, Mib, ZoneId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HostRefusal, host_refusal};

/// Most hosts of one region: a hundred times the hosts of a region in the placement
/// benchmark.
pub const HOSTS_MAX: usize = 10_000;

/// What is known of a host from its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostReport {
    /// The host.
    pub id: HostId,
    /// Its zone.
    pub zone: ZoneId,
    /// All it has, after overcommitment.
    pub total: Capacity,
    /// Whether its agent answers and is willing.
    pub ready: bool,
}

/// A host in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) zone: ZoneId,
    /// Nothing until its agent reported: rows may name a host before that.
    pub(super) total: Option<Capacity>,
    pub(super) allocated: Capacity,
    /// How much of that is for trials, which give way.
    tried: Capacity,
    pub(super) reservations: usize,
    pub(super) ready: bool,
}

impl Host {
    fn unreported(zone: ZoneId) -> Self {
        Self {
            zone,
            total: None,
            allocated: Capacity::default(),
            tried: Capacity::default(),
            reservations: 0,
            ready: false,
        }
    }

    pub(super) fn free(&self) -> Capacity {
        self.total.unwrap_or_default().saturating_sub(&self.allocated)
    }

    /// What is free for whatever is real.
    fn free_but_for_trials(&self) -> Capacity {
        let real = self.allocated.saturating_sub(&self.tried);
        self.total.unwrap_or_default().saturating_sub(&real)
    }

    /// Whether more is allocated than it has; an unreported host cannot tell.
    pub(super) fn is_overcommitted(&self) -> bool {
        self.total.is_some_and(|total| !total.fits(&self.allocated))
    }
}

/// Orders hosts from the tightest: free GPUs, CPUs, memory, and the id for ties.
pub(super) type Tightness = (u64, u64, Mib, HostId);

/// Free GPUs and CPUs, then free memory, then the hosts.
type ZoneIndex = BTreeMap<(u64, u64), BTreeMap<Mib, BTreeSet<HostId>>>;

/// Every host of the region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostTable {
    hosts: BTreeMap<HostId, Host>,
    cordoned: BTreeSet<HostId>,
    /// Only hosts that take VMs.
    index: BTreeMap<ZoneId, ZoneIndex>,
    /// How many hosts the index has.
    indexed: usize,
}

impl HostTable {
    pub(super) const fn new() -> Self {
        Self {
            hosts: BTreeMap::new(),
            cordoned: BTreeSet::new(),
            index: BTreeMap::new(),
            indexed: 0,
        }
    }

    pub(super) fn get(&self, id: &HostId) -> Option<&Host> {
        self.hosts.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&HostId, &Host)> {
        self.hosts.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    pub(super) const fn cordoned(&self) -> &BTreeSet<HostId> {
        &self.cordoned
    }

    pub(super) fn takes_vms(&self, id: &HostId) -> bool {
        let willing = |host: &Host| host.ready && host.total.is_some();
        self.hosts.get(id).is_some_and(willing) && !self.cordoned.contains(id)
    }

    pub(super) const fn schedulable(&self) -> usize {
        self.indexed
    }

    pub(super) fn view(&self, id: &HostId, host: &Host) -> HostView {
        HostView {
            id: id.clone(),
            zone: host.zone.clone(),
            total: host.total.unwrap_or_default(),
            free: host.free_but_for_trials(),
            schedulable: self.takes_vms(id),
        }
    }

    pub(super) fn refusal(&self, id: &HostId, need: &Capacity) -> Option<HostRefusal> {
        match self.hosts.get(id) {
            Some(host) => host_refusal(self.takes_vms(id), &host.free(), need),
            None => Some(HostRefusal::NotSchedulable),
        }
    }

    /// The same for what comes before trials.
    pub(super) fn has_room_but_for_trials(&self, id: &HostId, need: &Capacity) -> bool {
        self.hosts.get(id).is_some_and(|host| {
            host_refusal(self.takes_vms(id), &host.free_but_for_trials(), need).is_none()
        })
    }

    /// Counts what is allocated as a trial's, or not any more.
    pub(super) fn try_out(&mut self, id: &HostId, need: &Capacity, tried: bool) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        host.tried =
            if tried { host.tried.plus(need) } else { host.tried.saturating_sub(need) };
    }

    pub(super) fn report(&mut self, report: HostReport) {
        self.ensure(&report.id, &report.zone);
        self.change(&report.id.clone(), |host| {
            host.zone = report.zone;
            host.total = Some(report.total);
            host.ready = report.ready;
        });
    }

    pub(super) fn reports(&self) -> Vec<HostReport> {
        let report = |(id, host): (&HostId, &Host)| {
            let (id, zone) = (id.clone(), host.zone.clone());
            host.total.map(|total| HostReport { id, zone, total, ready: host.ready })
        };
        self.hosts.iter().filter_map(report).collect()
    }

    pub(super) fn set_ready(&mut self, id: &HostId, ready: bool) {
        self.change(id, |host| host.ready = ready);
    }

    pub(super) fn set_cordoned(&mut self, id: &HostId, cordoned: bool) {
        self.unindex(id);
        if cordoned {
            self.cordoned.insert(id.clone());
        } else {
            self.cordoned.remove(id);
        }
        self.reindex(id);
    }

    /// Forgets a host that holds nothing.
    pub(super) fn remove(&mut self, id: &HostId) {
        self.unindex(id);
        self.hosts.remove(id);
        self.cordoned.remove(id);
    }

    /// Counts an allocation, also on a host that was never reported.
    pub(super) fn allocate(&mut self, id: &HostId, zone: &ZoneId, need: &Capacity) {
        self.ensure(id, zone);
        self.change(id, |host| {
            host.allocated = host.allocated.plus(need);
            host.reservations += 1;
        });
    }

    pub(super) fn free(&mut self, id: &HostId, need: &Capacity) {
        self.change(id, |host| {
            host.allocated = host.allocated.saturating_sub(need);
            host.reservations = host.reservations.saturating_sub(1);
        });
        let forgotten = |host: &Host| host.total.is_none() && host.reservations == 0;
        if self.hosts.get(id).is_some_and(forgotten) {
            self.hosts.remove(id);
        }
    }

    /// The tightest host of a zone that fits and is allowed.
    pub(super) fn tightest_in(
        &self,
        zone: &ZoneId,
        need: &Capacity,
        allowed: &impl Fn(&HostId) -> bool,
    ) -> Option<Tightness> {
        let index = self.index.get(zone)?;
        let mut from = (need.gpus, need.cpu);
        loop {
            let (&(gpus, cpu), level) = index.range(from..).next()?;
            if cpu < need.cpu {
                from = (gpus, need.cpu);
                continue;
            }
            let fits = |id: &&HostId| allowed(id) && self.refusal(id, need).is_none();
            for (memory, hosts) in level.range(need.memory..) {
                if let Some(id) = hosts.iter().find(fits) {
                    return Some((gpus, cpu, *memory, id.clone()));
                }
            }
            from = (gpus, cpu.checked_add(1)?);
        }
    }

    pub(super) fn zones(&self) -> impl Iterator<Item = &ZoneId> {
        self.index.keys()
    }

    fn change(&mut self, id: &HostId, edit: impl FnOnce(&mut Host)) {
        self.unindex(id);
        let host = self.hosts.get_mut(id);
        if let Some(host) = host {
            edit(host);
        }
        self.reindex(id);
    }

    fn ensure(&mut self, id: &HostId, zone: &ZoneId) {
        if !self.hosts.contains_key(id) {
            self.hosts.insert(id.clone(), Host::unreported(zone.clone()));
        }
    }

    fn unindex(&mut self, id: &HostId) {
        if !self.takes_vms(id) {
            return;
        }
        let Some(host) = self.hosts.get(id) else { return };
        let free = host.free();
        let Some(zone) = self.index.get_mut(&host.zone) else { return };
        let Some(level) = zone.get_mut(&(free.gpus, free.cpu)) else { return };
        let Some(hosts) = level.get_mut(&free.memory) else { return };
        self.indexed -= usize::from(hosts.remove(id));
        if hosts.is_empty() {
            level.remove(&free.memory);
        }
        if level.is_empty() {
            zone.remove(&(free.gpus, free.cpu));
        }
        if zone.is_empty() {
            self.index.remove(&host.zone);
        }
    }

    fn reindex(&mut self, id: &HostId) {
        if !self.takes_vms(id) {
            return;
        }
        let Some(host) = self.hosts.get(id) else { return };
        let free = host.free();
        let zone = self.index.entry(host.zone.clone()).or_default();
        let level = zone.entry((free.gpus, free.cpu)).or_default();
        let hosts = level.entry(free.memory).or_default();
        self.indexed += usize::from(hosts.insert(id.clone()));
    }
}
