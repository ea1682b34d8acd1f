//! What a region has left, as its users would notice it: not sums, which hide that nothing
//! fits any more, but how many VMs of each flavour still do.

use dwcp_types::{Capacity, Gib, Mib, RegionId, VmShape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fleet::Fleet;
use super::room::amounts;

/// A size of VM with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flavour {
    /// Its name.
    pub name: String,
    /// Its size.
    pub shape: VmShape,
}

/// The flavours that are counted when the operator names none: 1 to 16 CPUs with 4 GiB and
/// 25 GiB of disk for each, the ratio of general-purpose machine types; the last is the
/// memory and CPU of the source's database (C12).
#[must_use]
pub fn default_flavours() -> Vec<Flavour> {
    let sizes =
        [("small", 1), ("medium", 2), ("large", 4), ("xlarge", 8), ("2xlarge", 16)];
    let flavours = sizes.map(|(name, cpu)| Flavour {
        name: name.to_owned(),
        shape: VmShape {
            cpu,
            memory: Mib::new(u64::from(cpu) * 4096),
            storage: Gib::new(u64::from(cpu) * 25),
            ..VmShape::default()
        },
    });
    flavours.into()
}

/// What a region has, has given away and can still take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionCapacity {
    /// The region.
    pub region: RegionId,
    /// Its hosts.
    pub hosts: u64,
    /// Those of them that take VMs.
    pub schedulable_hosts: u64,
    /// All it has.
    pub total: Capacity,
    /// What is reserved or used.
    pub reserved: Capacity,
    /// What is free on hosts that take VMs.
    pub free: Capacity,
    /// What is free on hosts that take none.
    pub closed: Capacity,
    /// How many of each flavour still fit, each alone.
    pub fits: Vec<FlavourFit>,
    /// The flavour with the most CPUs, then memory, of which one still fits.
    pub largest: Option<String>,
}

/// How many of a flavour still fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlavourFit {
    /// The flavour.
    pub flavour: Flavour,
    /// How many, if nothing else were placed.
    pub count: u64,
}

/// Adds up a region; nothing when it is not known.
#[must_use]
pub fn capacity(
    fleet: &Fleet,
    region: &RegionId,
    flavours: &[Flavour],
) -> Option<RegionCapacity> {
    let row = fleet.regions.get(fleet.region_ix(region)?)?;
    let hosts = fleet.hosts.get(row.hosts.clone())?;
    let none = Capacity::default();
    let mut sum = RegionCapacity {
        region: region.clone(),
        hosts: hosts.len() as u64,
        schedulable_hosts: row.schedulable as u64,
        total: none,
        reserved: none,
        free: none,
        closed: none,
        fits: Vec::new(),
        largest: None,
    };
    for host in hosts {
        sum.total = sum.total.plus(&host.total);
        sum.reserved = sum.reserved.plus(&host.total.saturating_sub(&host.free));
        let free = if host.schedulable { &mut sum.free } else { &mut sum.closed };
        *free = free.plus(&host.free);
    }
    for flavour in flavours {
        let need = Capacity::of(&flavour.shape);
        let open = hosts.iter().filter(|host| host.schedulable);
        let count =
            open.map(|host| times(&host.free, &need)).fold(0, u64::saturating_add);
        sum.fits.push(FlavourFit { flavour: flavour.clone(), count });
    }
    let fitting = sum.fits.iter().filter(|fit| fit.count > 0);
    let largest = fitting.max_by_key(|fit| fit.flavour.shape);
    sum.largest = largest.map(|fit| fit.flavour.name.clone());
    Some(sum)
}

/// How often a need fits in what is free.
fn times(free: &Capacity, need: &Capacity) -> u64 {
    let pairs = amounts(free).into_iter().zip(amounts(need));
    pairs.filter_map(|(free, need)| free.checked_div(need)).min().unwrap_or(0)
}
