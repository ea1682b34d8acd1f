//! Hosts of the fleet: putting them in, and keeping what is derived from them up to date.

use dwcp_types::{Capacity, Health, HostId, HostView, RegionId, RegionView, ZoneId};

use super::attribute::accepts;
use super::hot::{CLASSES, witnesses};
use super::{Fleet, HostRow, RegionRow, ZoneRow};
use crate::placement::room::{RESOURCES, Room, amounts};

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
        self.hot.write_health(at, health);
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
        self.attributes.hosted.set(region, row.schedulable > 0);
        self.sum_zone(zone);
        self.write_region(region);
    }

    pub(super) fn write_region(&mut self, at: usize) {
        self.hot.write_room(at, &self.zones[self.regions[at].zones.clone()]);
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
        self.regions.push(RegionRow {
            region: view.region.clone(),
            health: view.health,
            zones: zones..self.zones.len(),
            hosts,
            schedulable,
        });
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
            witnesses: [Room::default(); CLASSES],
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
        let zone = &mut self.zones[at];
        (zone.free, zone.total, zone.most) = (free, total, most);
        zone.witnesses = witnesses(&self.rooms[range]);
    }
}

fn room_of(host: &HostRow) -> Room {
    if host.schedulable { Room::of_host(&host.free) } else { Room::default() }
}

/// The zones of a region by id: those that it is configured with and those that hosts name.
fn zones_of(view: &RegionView) -> std::collections::BTreeSet<ZoneId> {
    let configured = view.region.availability_zones.iter().cloned();
    configured.chain(view.hosts.iter().map(|host| host.zone.clone())).collect()
}
