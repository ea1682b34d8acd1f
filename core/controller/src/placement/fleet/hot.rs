//! What every decision reads of every region, in blocks of sixty-four: what bounds scores from
//! above, and what is free on the hosts that speak for their region.
//!
//! A region's witness for a size class is its host with the most memory among those with at
//! least so many CPUs. When a VM of the class fits there it fits in the region; when the
//! witness has too little memory it fits nowhere in it. Only what lies between needs a look at
//! hosts. Rejected: one roomiest host a region, which says nothing when a VM does not fit it.

use dwcp_types::Health;

use super::prices::Prices;
use super::{HostRow, RegionRow, ZoneRow};
use crate::placement::bits::{WORD, words};
use crate::placement::lanes::Lanes;
use crate::placement::policy::{FACTORS, HEALTH, PRIORITY, STRATEGIES, Weights};
use crate::placement::rank::contributions;
use crate::placement::room::{CPU, MEMORY, RESOURCES, Room, STORAGE, VMS, amounts};

/// Size classes: at least 1, 2, 4 … CPUs. Larger VMs than the last share it: a host with 128
/// free CPUs is rare, so looking at hosts is too.
pub(crate) const CLASSES: usize = 8;

/// The size class of so many CPUs; at least one.
pub(crate) fn class(cpus: u32) -> usize {
    (cpus.max(1).ilog2() as usize).min(CLASSES - 1)
}

/// For each size class the host with the most memory.
pub(crate) type Witnesses = [Room; CLASSES];

/// One array a number, so that passes over regions read nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Hot {
    /// The most of each resource on any one host: what does not fit here fits nowhere.
    pub(crate) most: Vec<Room>,
    pub(crate) health: Vec<u8>,
    pub(crate) priority: Vec<u8>,
    pub(crate) prices: Prices,
    pub(crate) scales: Scales,
    /// What bounds scores from above, beside latency and cost.
    pub(crate) ceilings: Vec<Ceilings>,
    /// What is free on the witnesses, for each class and resource, in coarse units.
    pub(crate) free: Vec<[[Lanes; RESOURCES]; CLASSES]>,
}

/// What bounds the scores of sixty-four regions, in parts of 2^16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ceilings {
    /// The largest free share of CPUs, and of memory, in any zone.
    pub(crate) cpu_share: Lanes,
    pub(crate) memory_share: Lanes,
    /// What an amount is of the largest zone's: see [`Scales::factor`].
    pub(crate) cpu_part: Lanes,
    pub(crate) memory_part: Lanes,
    /// No zone's capacity factor can exceed this, whatever is asked for.
    pub(crate) headroom: Lanes,
    /// What health and priority add to the score, for each strategy.
    pub(crate) steady: [Lanes; STRATEGIES.len()],
}

/// Digits that amounts lose to fit sixteen bits. They follow from what hosts have in all, so
/// they do not change with what is free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scales {
    /// Of what is free on a host.
    coarse: [u32; RESOURCES],
    /// Of the resources of a zone.
    zonal: [u32; RESOURCES],
}

impl Scales {
    fn of(zones: &[ZoneRow], hosts: &[HostRow]) -> Self {
        let mut largest = [0_u64; RESOURCES];
        let mut smallest = [u64::MAX; RESOURCES];
        for zone in zones {
            let mut sum = [0_u64; RESOURCES];
            for host in &hosts[zone.hosts.clone()] {
                for (lane, total) in amounts(&host.total).into_iter().enumerate() {
                    largest[lane] = largest[lane].max(total);
                    sum[lane] = sum[lane].saturating_add(total);
                }
            }
            let sums = smallest.iter_mut().zip(sum).filter(|(_, sum)| *sum > 0);
            sums.for_each(|(smallest, sum)| *smallest = sum.min(*smallest));
        }
        let digits = |amount: u64| u64::BITS - amount.leading_zeros();
        Self {
            coarse: largest.map(|most| digits(most).clamp(16, 31) - 16),
            zonal: smallest.map(u64::ilog2),
        }
    }

    /// An amount in coarse units, rounded down.
    pub(crate) fn low(&self, lane: usize, amount: u32) -> u16 {
        u16::try_from(amount >> self.coarse[lane]).unwrap_or(u16::MAX)
    }

    /// An amount in coarse units, rounded up; nothing when it is beyond them.
    pub(crate) fn high(&self, lane: usize, amount: u32) -> Option<u16> {
        u16::try_from(amount.div_ceil(1 << self.coarse[lane])).ok()
    }

    /// The number that a region's part is multiplied by: the upper half of the product is at
    /// most what this amount is of its largest zone.
    pub(crate) fn factor(&self, lane: usize, amount: u64) -> u16 {
        let wide = u128::from(amount) << u16::BITS >> self.zonal[lane];
        u16::try_from(wide).unwrap_or(u16::MAX)
    }

    fn part(&self, lane: usize, zones: &[ZoneRow]) -> u16 {
        let most = zones.iter().map(|zone| zone.total[lane]).max().unwrap_or(0);
        let one = 1_u128 << (u16::BITS + self.zonal[lane]);
        let part = one.checked_div(most.into()).unwrap_or(0);
        // More free than there is in all: its share says nothing, and nothing is taken off.
        let odd = zones.iter().any(|zone| zone.free[lane] > zone.total[lane]);
        if odd { 0 } else { u16::try_from(part).unwrap_or(u16::MAX) }
    }
}

impl Hot {
    /// For these regions; each is still to be written.
    pub(crate) fn of(
        regions: &[RegionRow],
        zones: &[ZoneRow],
        hosts: &[HostRow],
    ) -> Self {
        let none = [0; WORD];
        let ceilings = Ceilings {
            cpu_share: none,
            memory_share: none,
            cpu_part: none,
            memory_part: none,
            headroom: none,
            steady: [none; STRATEGIES.len()],
        };
        let score = |row: &RegionRow| row.health.score.min(100);
        let blocks = words(regions.len());
        Self {
            most: vec![Room::default(); regions.len()],
            health: regions.iter().map(score).collect(),
            priority: regions.iter().map(|row| row.region.priority.min(100)).collect(),
            prices: Prices::of(regions.iter().map(|row| row.region.cost)),
            scales: Scales::of(zones, hosts),
            ceilings: vec![ceilings; blocks],
            free: vec![[[none; RESOURCES]; CLASSES]; blocks],
        }
    }

    /// Writes what follows from a region's zones.
    pub(crate) fn write_room(&mut self, region: usize, zones: &[ZoneRow]) {
        let most = zones.iter().fold(Room::default(), |most, zone| most.max(&zone.most));
        self.most[region] = most;
        let (block, lane) = (region / WORD, region % WORD);
        for (class, free) in self.free[block].iter_mut().enumerate() {
            let witnesses = zones.iter().map(|zone| zone.witnesses[class]);
            let witness = witnesses.reduce(roomier).unwrap_or_default();
            for (resource, lanes) in free.iter_mut().enumerate() {
                lanes[lane] = self.scales.low(resource, witness.0[resource]);
            }
        }
        let ceilings = &mut self.ceilings[block];
        let largest = |of: fn(&ZoneRow) -> u16| zones.iter().map(of).max().unwrap_or(0);
        ceilings.cpu_share[lane] = largest(|zone| zone.share(CPU));
        ceilings.memory_share[lane] = largest(|zone| zone.share(MEMORY));
        ceilings.headroom[lane] = largest(ZoneRow::headroom);
        ceilings.cpu_part[lane] = self.scales.part(CPU, zones);
        ceilings.memory_part[lane] = self.scales.part(MEMORY, zones);
    }

    /// Writes what follows from a region's health.
    pub(crate) fn write_health(&mut self, region: usize, health: Health) {
        self.health[region] = health.score.min(100);
        let mut factors = [0; FACTORS];
        factors[HEALTH] = u16::from(self.health[region]) * 100;
        factors[PRIORITY] = u16::from(self.priority[region]) * 100;
        let rows = &mut self.ceilings[region / WORD].steady;
        for (row, strategy) in rows.iter_mut().zip(STRATEGIES) {
            let parts = contributions(&Weights::of(strategy).0, &factors);
            row[region % WORD] = parts.iter().sum();
        }
    }
}

impl ZoneRow {
    /// The free share of a resource, in parts of 2^16 of which the last is left out: the share
    /// is at most one part more.
    fn share(&self, lane: usize) -> u16 {
        let part = (u128::from(self.free[lane]) << u16::BITS)
            .checked_div(self.total[lane].into());
        part.map_or(0, |part| u16::try_from(part).unwrap_or(u16::MAX))
    }

    /// The least free share of what every VM takes.
    fn headroom(&self) -> u16 {
        let shares = [CPU, MEMORY, STORAGE, VMS].map(|lane| self.share(lane));
        shares.into_iter().fold(u16::MAX, u16::min)
    }
}

/// The witnesses of some hosts. A host that is full in one of what every VM takes is none.
pub(crate) fn witnesses(rooms: &[Room]) -> Witnesses {
    let mut found = [Room::default(); CLASSES];
    let usable =
        |room: &&Room| [CPU, MEMORY, STORAGE, VMS].iter().all(|l| room.0[*l] > 0);
    for room in rooms.iter().filter(usable) {
        let best = &mut found[class(room.0[CPU])];
        *best = roomier(*best, *room);
    }
    for class in (1..CLASSES).rev() {
        found[class - 1] = roomier(found[class - 1], found[class]);
    }
    found
}

fn roomier(a: Room, b: Room) -> Room {
    if (a.0[MEMORY], a.0) < (b.0[MEMORY], b.0) { b } else { a }
}
