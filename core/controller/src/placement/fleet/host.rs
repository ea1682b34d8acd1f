//! Hosts of the fleet: putting them in, and keeping what is derived from them up to date.

use dwcp_types::{Capacity, Health, HostId, HostView, RegionId, RegionView, ZoneId};

use super::attribute::accepts;
use super::{FINE, Fleet, HostRow, RegionRow, ZoneRow};
use crate::placement::policy::{FACTORS, HEALTH, PRIORITY, STRATEGIES, Weights};
use crate::placement::rank::contributions;
use crate::placement::room::{CPU, MEMORY, RESOURCES, Room, STORAGE, VMS, amounts};

impl Fleet {
    /// Says what is free on a host now. Says whether the host is known.
    pub fn set_host(
        &mut self,
        region: &RegionId,
        host: &HostId,
        free: Capacity,
        schedulable: bool,
    ) -> bool {
        let Some(at) = self.host_ix(region, host) else { return false };
        self.write_host(at, free, schedulable);
        true
    }

    /// Takes what a VM needs from a host. Says whether it was there to take; when not, nothing
    /// changes.
    pub fn take(&mut self, region: &RegionId, host: &HostId, need: &Capacity) -> bool {
        let Some(at) = self.host_ix(region, host) else { return false };
        let Some(rest) = self.hosts[at].free.checked_sub(need) else { return false };
        self.write_host(at, rest, self.hosts[at].schedulable);
        true
    }

    /// Gives back what a VM needed; never more than the host has. Says whether the host is
    /// known.
    pub fn give(&mut self, region: &RegionId, host: &HostId, need: &Capacity) -> bool {
        let Some(at) = self.host_ix(region, host) else { return false };
        let total = self.hosts[at].total;
        let excess = self.hosts[at].free.plus(need).saturating_sub(&total);
        let free = self.hosts[at].free.plus(need).saturating_sub(&excess);
        self.write_host(at, free, self.hosts[at].schedulable);
        true
    }

    /// Says how a region fares now. Says whether the region is known.
    pub fn set_health(&mut self, region: &RegionId, health: Health) -> bool {
        let Some(at) = self.region_ix(region) else { return false };
        self.regions[at].health = health;
        self.hot.health[at] = health.score.min(100);
        self.write_steady(at);
        self.attributes.accepting.set(at, accepts(health));
        true
    }

    pub(crate) fn host_ix(&self, region: &RegionId, host: &HostId) -> Option<usize> {
        let region = self.region_ix(region)?;
        self.host_index.get(&(region, host.clone())).copied()
    }

    fn write_host(&mut self, at: usize, free: Capacity, schedulable: bool) {
        let host = &mut self.hosts[at];
        let (zone, was) = (host.zone, host.schedulable);
        host.free = free;
        host.schedulable = schedulable;
        self.rooms[at] = room_of(host);
        let region = self.zones[zone].region;
        let row = &mut self.regions[region];
        row.schedulable = row.schedulable + usize::from(schedulable) - usize::from(was);
        self.sum_zone(zone);
        self.sum_region(region);
    }

    pub(super) fn push_region(&mut self, view: &RegionView) {
        let at = self.regions.len();
        let (zones, hosts) = (self.zones.len(), self.hosts.len());
        for zone in zones_of(view) {
            self.push_zone(at, zone, &view.hosts);
        }
        let hosts = hosts..self.hosts.len();
        let schedulable =
            self.hosts[hosts.clone()].iter().filter(|host| host.schedulable).count();
        let region = &view.region;
        self.hot.health.push(view.health.score.min(100));
        self.hot.priority.push(region.priority.min(100));
        self.hot.prices.push(&region.cost);
        self.hot.ample.push(Room::default());
        self.hot.most.push(Room::default());
        self.hot.ample_lanes.iter_mut().for_each(|lane| lane.push(0));
        let ceilings = &mut self.hot.ceilings;
        let shares = [&mut ceilings.cpu_share, &mut ceilings.memory_share];
        let parts = [&mut ceilings.cpu_part, &mut ceilings.gib_part];
        let rows = shares.into_iter().chain(parts).chain([&mut ceilings.headroom]);
        rows.chain(&mut ceilings.steady).for_each(|row| row.push(0));
        self.regions.push(RegionRow {
            region: region.clone(),
            health: view.health,
            zones: zones..self.zones.len(),
            hosts,
            schedulable,
        });
        self.sum_region(at);
    }

    fn push_zone(&mut self, region: usize, id: ZoneId, views: &[HostView]) {
        let at = self.zones.len();
        let first = self.hosts.len();
        let mut views: Vec<_> = views.iter().filter(|host| host.zone == id).collect();
        views.sort_by(|a, b| a.id.cmp(&b.id));
        for view in views {
            let key = (region, view.id.clone());
            if self.host_index.contains_key(&key) {
                continue;
            }
            self.host_index.insert(key, self.hosts.len());
            let host = HostRow {
                id: view.id.clone(),
                zone: at,
                free: view.free,
                total: view.total,
                schedulable: view.schedulable,
                vms: Vec::new(),
            };
            self.rooms.push(room_of(&host));
            self.hosts.push(host);
        }
        self.zones.push(ZoneRow {
            id,
            region,
            hosts: first..self.hosts.len(),
            free: [0; RESOURCES],
            total: [0; RESOURCES],
            ample: Room::default(),
            most: Room::default(),
        });
        self.sum_zone(at);
    }

    fn sum_zone(&mut self, at: usize) {
        let range = self.zones[at].hosts.clone();
        let (mut free, mut total) = ([0_u64; RESOURCES], [0_u64; RESOURCES]);
        let mut most = Room::default();
        for host in range.clone() {
            let row = &self.hosts[host];
            if !row.schedulable {
                continue;
            }
            let (has, of) = (amounts(&row.free), amounts(&row.total));
            for lane in 0..RESOURCES {
                free[lane] = free[lane].saturating_add(has[lane]);
                total[lane] = total[lane].saturating_add(of[lane]);
            }
            most = most.max(&self.rooms[host]);
        }
        let ample = roomiest(&self.rooms[range], &total);
        let zone = &mut self.zones[at];
        (zone.free, zone.total, zone.most, zone.ample) = (free, total, most, ample);
    }

    fn sum_region(&mut self, at: usize) {
        let zones = &self.zones[self.regions[at].zones.clone()];
        let most = zones.iter().fold(Room::default(), |most, zone| most.max(&zone.most));
        let rooms: Vec<Room> = zones.iter().map(|zone| zone.ample).collect();
        let mut total = [0_u64; RESOURCES];
        for zone in zones {
            for (sum, part) in total.iter_mut().zip(zone.total) {
                *sum = sum.saturating_add(part);
            }
        }
        let ceilings = &mut self.hot.ceilings;
        ceilings.cpu_share[at] = largest_share(zones, CPU);
        ceilings.memory_share[at] = largest_share(zones, MEMORY);
        ceilings.cpu_part[at] = least_part(zones, CPU, 1);
        ceilings.gib_part[at] = least_part(zones, MEMORY, 1024);
        ceilings.headroom[at] = headroom(zones);
        self.hot.most[at] = most;
        let ample = roomiest(&rooms, &total);
        self.hot.ample[at] = ample;
        for (lane, amount) in self.hot.ample_lanes.iter_mut().zip(ample.0) {
            lane[at] = amount.cast_signed();
        }
        self.write_steady(at);
    }

    fn write_steady(&mut self, at: usize) {
        let steady = steady(self.hot.health[at], self.hot.priority[at]);
        for (row, points) in self.hot.ceilings.steady.iter_mut().zip(steady) {
            row[at] = i32::from(points);
        }
    }
}

/// The least free share, of what every VM takes, in the zone where that is the most.
fn headroom(zones: &[ZoneRow]) -> i32 {
    let least = |zone: &ZoneRow| {
        let lanes = [CPU, MEMORY, STORAGE, VMS].into_iter();
        lanes.map(|lane| largest_share(std::slice::from_ref(zone), lane)).min()
    };
    zones.iter().filter_map(least).max().unwrap_or(0)
}

/// What health and priority add to the score of a region, for each strategy.
fn steady(health: u8, priority: u8) -> [u16; STRATEGIES.len()] {
    let mut factors = [0; FACTORS];
    factors[HEALTH] = u16::from(health) * 100;
    factors[PRIORITY] = u16::from(priority) * 100;
    STRATEGIES
        .map(|strategy| contributions(&Weights::of(strategy).0, &factors).iter().sum())
}

/// The largest free share of a resource in any zone, rounded up.
fn largest_share(zones: &[ZoneRow], lane: usize) -> i32 {
    let shares = zones.iter().filter(|zone| zone.total[lane] > 0).map(|zone| {
        let (free, total) = (u128::from(zone.free[lane]), u128::from(zone.total[lane]));
        (free * u128::from(FINE)).div_ceil(total)
    });
    i32::try_from(shares.max().unwrap_or(0)).unwrap_or(i32::MAX)
}

/// What so much of a resource is of the zone that has the most of it, rounded down.
fn least_part(zones: &[ZoneRow], lane: usize, amount: u64) -> i32 {
    let most = zones.iter().map(|zone| zone.total[lane]).max().unwrap_or(0);
    let part = (amount * FINE).checked_div(most).unwrap_or(0);
    i32::try_from(part).unwrap_or(i32::MAX)
}

fn room_of(host: &HostRow) -> Room {
    if host.schedulable { Room::of_host(&host.free) } else { Room::default() }
}

/// The zones of a region by id: those that it is configured with and those that hosts name.
fn zones_of(view: &RegionView) -> std::collections::BTreeSet<ZoneId> {
    let configured = view.region.availability_zones.iter().cloned();
    configured.chain(view.hosts.iter().map(|host| host.zone.clone())).collect()
}

/// The host whose scarcer resource, CPU or memory, is the least scarce, and that has a slot
/// and storage. Any host would be right; this one answers for the most requests.
fn roomiest(rooms: &[Room], total: &[u64; RESOURCES]) -> Room {
    let worth = |room: &&Room| {
        let cpu = u128::from(room.0[CPU]) * u128::from(total[MEMORY]);
        let memory = u128::from(room.0[MEMORY]) * u128::from(total[CPU]);
        (room.0[VMS].min(room.0[STORAGE]).min(1), cpu.min(memory), room.0[STORAGE])
    };
    rooms.iter().max_by_key(worth).copied().unwrap_or_default()
}
