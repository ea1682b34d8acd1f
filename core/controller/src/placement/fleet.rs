//! The fleet as placement reads it: a [`FleetView`] turned into rows by index, with what a
//! decision would otherwise add up each time.
//!
//! Regions, zones within a region, and hosts within a zone are sorted by id, so the order of
//! indices is the order of ids and ties end in the id without comparing text. Hosts that take
//! no VMs have no room and count for no sum. Everything derived from hosts is brought up to
//! date when a host changes and equals what building anew would give.
//!
//! Capacity and inventory are separate on purpose: a reservation takes room before there is
//! a VM, so [`Fleet::insert_vm`] books no capacity and [`Fleet::set_host`] moves no VM.

mod attribute;
mod host;
mod hot;
mod prices;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use dwcp_types::{
    Bps, Capacity, FleetView, GroupId, Health, HostId, PlacedVm, Region, RegionId,
    TenantId, Timestamp, UserZoneId, UserZoneView, VmId, ZoneId,
};

use self::attribute::Attributes;
pub(crate) use self::hot::{Ceilings, class};
use self::hot::{Hot, Witnesses};
use super::group::{Members, Spot};
use super::near::Near;
use super::room::{CPU, MEMORY, RESOURCES, Room};

/// A round trip that nobody measured (F52).
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// An index of everything that placement decisions look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    pub(crate) generation: u64,
    pub(crate) taken_at: Timestamp,
    pub(crate) regions: Vec<RegionRow>,
    pub(crate) zones: Vec<ZoneRow>,
    pub(crate) hosts: Vec<HostRow>,
    /// What is free on each host; nothing where it takes no VMs.
    pub(crate) rooms: Vec<Room>,
    pub(crate) attributes: Attributes,
    pub(crate) hot: Hot,
    pub(crate) user_zones: Vec<UserZoneRow>,
    /// The sum over all user zones for each region: users spread evenly.
    pub(crate) everywhere: Latencies,
    pub(crate) groups: BTreeMap<(TenantId, GroupId), Members>,
    pub(crate) vms: BTreeMap<VmId, VmRow>,
    host_index: BTreeMap<(usize, HostId), usize>,
}

/// A region.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RegionRow {
    pub(crate) region: Arc<Region>,
    pub(crate) health: Health,
    pub(crate) zones: Range<usize>,
    pub(crate) hosts: Range<usize>,
    /// Hosts that take VMs.
    pub(crate) schedulable: usize,
}

/// A zone of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZoneRow {
    pub(crate) id: ZoneId,
    pub(crate) region: usize,
    pub(crate) hosts: Range<usize>,
    /// Sums over the hosts that take VMs.
    pub(crate) free: [u64; RESOURCES],
    pub(crate) total: [u64; RESOURCES],
    pub(crate) witnesses: Witnesses,
    pub(crate) most: Room,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostRow {
    pub(crate) id: HostId,
    pub(crate) zone: usize,
    pub(crate) free: Capacity,
    pub(crate) total: Capacity,
    pub(crate) schedulable: bool,
    /// The VMs on it, by id.
    pub(crate) vms: Vec<VmId>,
}

/// Where users come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserZoneRow {
    pub(crate) id: UserZoneId,
    pub(crate) latency: Latencies,
}

/// Microseconds to each region, or [`UNKNOWN`]; or sums of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latencies {
    pub(crate) exact: Vec<u64>,
    pub(crate) near: Near,
}

impl Latencies {
    pub(crate) fn of(exact: Vec<u64>) -> Self {
        let near = Near::of(&exact);
        Self { exact, near }
    }

    pub(crate) fn get(&self, region: usize) -> u64 {
        self.exact[region]
    }
}

/// A VM that is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VmRow {
    pub(crate) vm: Arc<PlacedVm>,
    pub(crate) spot: Spot,
}

impl Fleet {
    /// Indexes a view. Of two regions or hosts with one name the first counts.
    #[must_use]
    pub fn new(view: &FleetView) -> Self {
        let mut regions: Vec<_> = view.regions.iter().collect();
        regions.sort_by(|a, b| a.region.id.cmp(&b.region.id));
        regions.dedup_by(|later, first| later.region.id == first.region.id);
        let mut fleet = Self {
            generation: view.generation,
            taken_at: view.taken_at,
            regions: Vec::with_capacity(regions.len()),
            zones: Vec::new(),
            hosts: Vec::new(),
            rooms: Vec::new(),
            attributes: Attributes::default(),
            hot: Hot::default(),
            user_zones: Vec::new(),
            everywhere: Latencies::default(),
            groups: BTreeMap::new(),
            vms: BTreeMap::new(),
            host_index: BTreeMap::new(),
        };
        for region in regions {
            fleet.push_region(region);
        }
        fleet.attributes = Attributes::of(&fleet.regions);
        fleet.hot = Hot::of(&fleet.regions, &fleet.zones, &fleet.hosts);
        for region in 0..fleet.regions.len() {
            fleet.write_region(region);
            fleet.hot.write_health(region, fleet.regions[region].health);
        }
        fleet.set_user_zones(&view.user_zones);
        for vm in &view.vms {
            fleet.insert_vm(Arc::clone(vm));
        }
        fleet
    }

    /// How many regions there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.regions.len()
    }

    /// Whether there is no region.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// The generation of the view that this was built from.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Says which view the changes since brought this up to.
    pub const fn advance(&mut self, generation: u64, taken_at: Timestamp) {
        self.generation = generation;
        self.taken_at = taken_at;
    }

    /// The VM of this name, when it is placed.
    #[must_use]
    pub fn vm(&self, id: &VmId) -> Option<&Arc<PlacedVm>> {
        self.vms.get(id).map(|row| &row.vm)
    }

    pub(crate) fn region_ix(&self, id: &RegionId) -> Option<usize> {
        self.regions.binary_search_by(|row| row.region.id.cmp(id)).ok()
    }

    pub(crate) fn user_zone(&self, id: &UserZoneId) -> Option<&UserZoneRow> {
        let at = self.user_zones.binary_search_by(|row| row.id.cmp(id)).ok()?;
        self.user_zones.get(at)
    }

    fn set_user_zones(&mut self, views: &[UserZoneView]) {
        let rows = views.iter().map(|view| UserZoneRow {
            id: view.id.clone(),
            latency: {
                let known =
                    self.regions.iter().map(|row| view.latency.get(&row.region.id));
                let micros =
                    known.map(|known| known.map_or(UNKNOWN, |at| at.get().into()));
                Latencies::of(micros.collect())
            },
        });
        self.user_zones = rows.collect();
        self.user_zones.sort_by(|a, b| a.id.cmp(&b.id));
        self.user_zones.dedup_by(|later, first| later.id == first.id);
        let sum = |region| {
            let known = self.user_zones.iter().map(|zone| zone.latency.get(region));
            known.reduce(u64::saturating_add).unwrap_or(UNKNOWN)
        };
        self.everywhere = Latencies::of((0..self.regions.len()).map(sum).collect());
    }

    /// Puts a VM into the inventory: affinity and pre-emption see it. Books no capacity. A VM
    /// that is there already is replaced.
    pub fn insert_vm(&mut self, vm: Arc<PlacedVm>) {
        self.remove_vm(&vm.id);
        let region = self.region_ix(&vm.region);
        let zone = region.and_then(|region| {
            let zones = self.regions[region].zones.clone();
            zones.into_iter().find(|zone| self.zones[*zone].id == vm.zone)
        });
        let host = region
            .and_then(|region| self.host_index.get(&(region, vm.host.clone())).copied());
        let spot = Spot { region, zone, host };
        for group in &vm.groups {
            let key = (vm.tenant.clone(), group.clone());
            self.groups.entry(key).or_default().add(spot);
        }
        if let Some(host) = host {
            let vms = &mut self.hosts[host].vms;
            let at = vms.binary_search(&vm.id).unwrap_or_else(|at| at);
            vms.insert(at, vm.id.clone());
        }
        self.vms.insert(vm.id.clone(), VmRow { vm, spot });
    }

    /// Takes a VM out of the inventory and says what it was. Frees no capacity.
    pub fn remove_vm(&mut self, id: &VmId) -> Option<Arc<PlacedVm>> {
        let VmRow { vm, spot } = self.vms.remove(id)?;
        for group in &vm.groups {
            let key = (vm.tenant.clone(), group.clone());
            if let Some(members) = self.groups.get_mut(&key)
                && members.remove(spot)
            {
                self.groups.remove(&key);
            }
        }
        if let Some(host) = spot.host {
            self.hosts[host].vms.retain(|vm| vm != id);
        }
        Some(vm)
    }
}

/// `part / whole` in basis points, rounded down, as [`Bps::ratio`] has it, without its 128-bit
/// division where 64 bits do.
pub(crate) fn ratio(part: u64, whole: u64) -> u16 {
    /// Below this, multiplying by 10,000 does not overflow.
    const NARROW: u64 = u64::MAX / 10_000;
    if part >= NARROW {
        return Bps::ratio(part, whole).get();
    }
    (part * 10_000)
        .checked_div(whole)
        .map_or(0, |points| u16::try_from(points.min(10_000)).unwrap_or(10_000))
}

impl ZoneRow {
    /// Whether some host has room.
    pub(crate) fn fits(&self, rooms: &[Room], need: &Room) -> bool {
        let witness = &self.witnesses[class(need.0[CPU])];
        witness.fits(need)
            || need.0[MEMORY] <= witness.0[MEMORY]
                && self.most.fits(need)
                && rooms[self.hosts.clone()].iter().any(|room| room.fits(need))
    }

    /// F26: the least free share, after placement, of the resources that the VM takes. Shares
    /// are compared by multiplying across, and only the least is divided.
    pub(crate) fn capacity_factor(&self, need: &[u64; RESOURCES]) -> u16 {
        let wide = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let mut least = (1, 1);
        for (lane, need) in need.iter().enumerate().filter(|(_, need)| **need > 0) {
            let (free, total) = (self.free[lane], self.total[lane]);
            let rest = free.saturating_sub(*need);
            if total == 0 {
                return 0;
            }
            if wide(rest, least.1) < wide(least.0, total) {
                least = (rest, total);
            }
        }
        ratio(least.0, least.1)
    }
}
