//! The fleet as this daemon sees it, kept ready for decisions.
//!
//! One task writes it: regions and VMs from the mirror, hosts and health from the world.
//! Deciding takes a read lock for some microseconds. A placement takes what it is about to
//! reserve from the fleet at once, so that a burst of placements does not agree on the same
//! last slot; the next report of the region says what is true.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use dwcp_api::controller::KeptFleet;
use dwcp_controller::ownership::VmRecord;
use dwcp_controller::placement::Fleet;
use dwcp_monitor::{HealthReport, Observation, Sample, reported};
use dwcp_runtime::clock::Clock;
use dwcp_types::{
    Capacity, FleetView, Health, HealthState, HostId, HostView, Power, RegionId,
    RegionView, Timestamp, UserZoneView, millis,
};
use tokio::sync::broadcast::error::RecvError;

use crate::mirror::{Change, Mirror};
use crate::records::RegionRecord;
use crate::world::{Known, World};

/// How often health is looked at again: silence makes no noise.
const HEALTH_EVERY: Duration = Duration::from_millis(500);

/// How often the fleet was made true.
#[derive(Clone, Copy, Debug, Default)]
struct Turns {
    /// The last time, by the monotonic clock.
    at: Duration,
    changed: u64,
    rebuilt: u64,
}

/// Keeps the fleet.
#[derive(Debug)]
pub struct FleetKeeper {
    fleet: RwLock<Fleet>,
    /// What this daemon's placements are about to reserve.
    ahead: Mutex<BTreeMap<(RegionId, HostId), Capacity>>,
    turns: Mutex<Turns>,
    mirror: Arc<Mirror>,
    world: Arc<World>,
    user_zones: Vec<UserZoneView>,
    clock: Arc<dyn Clock>,
}

impl FleetKeeper {
    /// A fleet of nothing, until [`Self::run`] fills it.
    #[must_use]
    pub fn new(
        mirror: Arc<Mirror>,
        world: Arc<World>,
        user_zones: Vec<UserZoneView>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let fleet = RwLock::new(Fleet::new(&FleetView::default()));
        let (ahead, turns) = (Mutex::default(), Mutex::default());
        Arc::new(Self { fleet, ahead, turns, mirror, world, user_zones, clock })
    }

    /// Looks at the fleet.
    pub fn look<T>(&self, look: impl FnOnce(&Fleet) -> T) -> T {
        look(&self.fleet.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what is about to be reserved, ahead of the region's report. Each must be ended by
    /// [`Self::give`] or [`Self::settle`].
    pub fn take(&self, region: &RegionId, host: &HostId, need: &Capacity) {
        self.ahead(region, host, |ahead| ahead.plus(need));
    }

    /// Gives back what was taken ahead and not reserved.
    pub fn give(&self, region: &RegionId, host: &HostId, need: &Capacity) {
        self.ahead(region, host, |ahead| ahead.saturating_sub(need));
    }

    /// What was taken ahead at one host was reserved, perhaps at another: counted as the
    /// region's next report will count it.
    pub fn settle(
        &self,
        region: &RegionId,
        taken_at: &HostId,
        reserved_at: &HostId,
        need: &Capacity,
    ) {
        self.world.update(region, |known| {
            for item in known.hosts.iter_mut().filter(|item| item.id == *reserved_at) {
                item.free = item.free.saturating_sub(need);
            }
        });
        self.give(region, taken_at, need);
    }

    /// Changes what is taken ahead at a host, and shows the host with it.
    fn ahead(
        &self,
        region: &RegionId,
        host: &HostId,
        change: impl FnOnce(&Capacity) -> Capacity,
    ) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (region.clone(), host.clone());
        let taken = change(&ahead.get(&key).copied().unwrap_or_default());
        if taken == Capacity::default() {
            ahead.remove(&key);
        } else {
            ahead.insert(key, taken);
        }
        drop(ahead);
        self.refresh_host(region, host);
    }

    /// What a host has free for a new decision: what its region reported, without what other
    /// placements of this daemon are about to reserve.
    fn free(&self, region: &RegionId, host: &HostId, reported: &Capacity) -> Capacity {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = ahead.get(&(region.clone(), host.clone()));
        taken.map_or(*reported, |taken| reported.saturating_sub(taken))
    }

    fn refresh_host(&self, region: &RegionId, host: &HostId) {
        let reported = self.world.region(region, |known| {
            let hosts = known.into_iter().flat_map(|known| &known.hosts);
            let mut hosts = hosts.filter(|item| item.id == *host);
            hosts.next().map(|item| (item.free, item.schedulable))
        });
        if let Some((reported, schedulable)) = reported {
            let free = self.free(region, host, &reported);
            self.change(|fleet| fleet.set_host(region, host, free, schedulable));
        }
    }

    /// How a region fares, as of now.
    pub fn health(&self, region: &RegionId) -> Health {
        let now = self.clock.monotonic();
        let silent_after = self.world.silent_after();
        self.world.region(region, |known| report_of(known, now, silent_after).health)
    }

    /// Keeps the fleet true, for ever.
    pub async fn run(self: Arc<Self>) {
        let mut changes = self.mirror.changes();
        let mut tick = tokio::time::interval(HEALTH_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut generation = 0;
        self.rebuild(generation);
        loop {
            generation += 1;
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(Change::Vm { before, after }) => self.replace(before, after),
                    Ok(Change::Region | Change::Reset) | Err(RecvError::Lagged(_)) => {
                        self.rebuild(generation);
                    }
                    Err(RecvError::Closed) => return,
                },
                () = self.world.hosts_changed() => self.refresh_hosts(generation),
                _ = tick.tick() => self.refresh_health(),
            }
            let now = self.clock.now();
            self.change(|fleet| fleet.advance(generation, now));
            self.turn(|turns| turns.changed += 1);
        }
    }

    fn turn(&self, count: impl FnOnce(&mut Turns)) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        count(&mut turns);
        turns.at = self.clock.monotonic();
    }

    /// What is kept ready for decisions, in figures (O13).
    pub(crate) fn kept(&self) -> KeptFleet {
        let turns = *self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).len();
        let regions = self.mirror.regions();
        let hosts = |record: &Arc<RegionRecord>| {
            let of = |known: Option<&Known>| known.map_or(0, |known| known.hosts.len());
            self.world.region(&record.region.id, of)
        };
        let count = |of: usize| u64::try_from(of).unwrap_or(u64::MAX);
        KeptFleet {
            regions: count(regions.len()),
            hosts: count(regions.iter().map(hosts).sum()),
            vms: self.mirror.vm_counts().values().sum(),
            age_ms: millis(self.clock.monotonic().saturating_sub(turns.at)),
            changed: turns.changed,
            rebuilt: turns.rebuilt,
            ahead: count(ahead),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Fleet) -> T) -> T {
        let mut fleet = self.fleet.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut fleet)
    }

    fn replace(&self, before: Option<Arc<VmRecord>>, after: Option<Arc<VmRecord>>) {
        self.change(|fleet| match (before, after) {
            (_, Some(after)) if counts(&after) => {
                fleet.insert_vm(Arc::new(after.placed()));
            }
            (_, Some(vm)) | (Some(vm), None) => {
                fleet.remove_vm(&vm.request.id);
            }
            (None, None) => {}
        });
    }

    /// Hosts that only have other amounts free are changed in place; other hosts than before
    /// mean building it anew.
    fn refresh_hosts(&self, generation: u64) {
        let known_all = self.change(|fleet| {
            self.mirror.regions().iter().all(|record| {
                let id = &record.region.id;
                self.world.region(id, |known| {
                    known.into_iter().flat_map(|known| &known.hosts).all(|host| {
                        let free = self.free(id, &host.id, &host.free);
                        fleet.set_host(id, &host.id, free, host.schedulable)
                    })
                })
            })
        });
        if !known_all {
            self.rebuild(generation);
        }
    }

    fn refresh_health(&self) {
        let regions = self.mirror.regions();
        let health: Vec<_> = regions
            .iter()
            .map(|record| (&record.region.id, self.health(&record.region.id)))
            .collect();
        self.change(|fleet| {
            for (region, health) in health {
                fleet.set_health(region, health);
            }
        });
    }

    fn rebuild(&self, generation: u64) {
        let taken_at = self.clock.now();
        let regions = self.mirror.regions();
        let regions = regions.iter().map(|record| self.region_view(record, taken_at));
        let vms = self.mirror.vms(None, usize::MAX, counts);
        let view = FleetView {
            generation,
            taken_at,
            regions: regions.collect(),
            user_zones: self.user_zones.clone(),
            vms: vms.iter().map(|vm| Arc::new(vm.placed())).collect(),
        };
        let fleet = Fleet::new(&view);
        self.change(|old| *old = fleet);
        self.turn(|turns| turns.rebuilt += 1);
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = ahead.keys().cloned().collect();
        drop(ahead);
        for (region, host) in taken {
            self.refresh_host(&region, &host);
        }
    }

    fn region_view(&self, record: &RegionRecord, now: Timestamp) -> RegionView {
        self.world.region(&record.region.id, |known| RegionView {
            region: Arc::new(record.region.clone()),
            health: report_of(known, self.clock.monotonic(), self.world.silent_after())
                .health,
            observed_at: now,
            hosts: known.map(host_views).unwrap_or_default(),
        })
    }
}

fn host_views(known: &Known) -> Vec<HostView> {
    let view = |host: &dwcp_api::public::HostItem| HostView {
        id: host.id.clone(),
        zone: host.zone.clone(),
        total: host.total,
        free: host.free,
        schedulable: host.schedulable,
    };
    known.hosts.iter().map(view).collect()
}

/// Whether placement of others must still reckon with a VM.
fn counts(record: &VmRecord) -> bool {
    record.power != Power::Deleted
}

/// A region's health from what is known of it: unknown when it was not heard from in time
/// (F6), at the bottom when none of its hosts answers, else the source's score (M11) over the
/// last minute of its API. How busy its hosts are joins the score with the monitor's samples.
pub(crate) fn report_of(
    known: Option<&Known>,
    now: Duration,
    silent_after: Duration,
) -> HealthReport {
    let fresh = known.filter(|known| {
        known
            .heard_at
            .is_some_and(|heard_at| now.saturating_sub(heard_at) <= silent_after)
    });
    let Some(known) = fresh else { return reported(&Observation::Silent) };
    if !known.hosts.iter().any(|host| host.answers) {
        let health = Health { state: HealthState::Unhealthy, score: 0 };
        return HealthReport { health, deductions: Vec::new() };
    }
    let sample = Sample {
        requests: known.meter.requests_last_minute,
        failed: known.meter.errors_last_minute,
        ..Sample::default()
    };
    reported(&Observation::Heard(sample))
}
