//! How big a region and its hosts are. One vocabulary for both: `total_cpu`, `total_memory`,
//! `total_storage`, `total_bandwidth`, `total_gpus`, `total_vms`.
//!
//! The file counts real CPUs; what is handed out is those times the overcommitment (F34). A
//! host that leaves out bandwidth or VM slots gets an equal share of what the others leave.

use dwcp_types::{Capacity, Gib, Mbps, Mib};

use super::field::Field;
use super::problem::Report;
use super::quantity::Unit;
use super::section::Section;

/// Keys of a capacity block.
const KEYS: &[&str] = &[
    "total_cpu",
    "total_memory",
    "total_storage",
    "total_bandwidth",
    "total_gpus",
    "total_vms",
];

/// Most CPUs, GPUs and VM slots of one region: a thousand times the largest topology (T3).
const COUNT_MAX: u64 = 50_000_000;
/// Most memory of one region, in MiB: 50 million CPUs with 64 GiB each.
const MEMORY_MIB_MAX: u64 = 3_300_000_000_000;
/// Most storage of one region, in GiB: a zebibyte.
const STORAGE_GIB_MAX: u64 = 1 << 40;
/// Most bandwidth of one region, in Mbit/s: a petabit a second.
const BANDWIDTH_MBPS_MAX: u64 = 1_000_000_000;
/// Bandwidth of a region that states none, in Mbit/s: the link that T4 recommends.
const BANDWIDTH_MBPS_DEFAULT: u64 = 10_000;

/// A capacity block as it is written, before overcommitment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) cpu: u64,
    memory: u64,
    storage: u64,
    bandwidth: Option<u64>,
    gpus: u64,
    vms: Option<u64>,
}

/// Reads a capacity block.
pub(super) fn written(field: Field<'_>, report: &mut Report<'_>) -> Option<Written> {
    let section = Section::open(field.node, "a capacity", KEYS, report)?;
    let cpu = section.need("total_cpu", "64", report);
    let cpu = cpu.and_then(|field| field.count(1..=COUNT_MAX, report));
    let memory = section.need("total_memory", "262144", report);
    let memory =
        memory.and_then(|field| field.amount(Unit::Mib, 1..=MEMORY_MIB_MAX, report));
    let storage = section.need("total_storage", "4000", report);
    let storage =
        storage.and_then(|field| field.amount(Unit::Gib, 1..=STORAGE_GIB_MAX, report));
    let bandwidth = section
        .get("total_bandwidth")
        .map(|field| field.amount(Unit::Mbps, 1..=BANDWIDTH_MBPS_MAX, report));
    let gpus = section
        .get("total_gpus")
        .map_or(Some(0), |field| field.count(0..=COUNT_MAX, report));
    let vms = section.get("total_vms").map(|field| field.count(1..=COUNT_MAX, report));
    Some(Written {
        cpu: cpu?,
        memory: memory?,
        storage: storage?,
        bandwidth: all_or_none(bandwidth)?,
        gpus: gpus?,
        vms: all_or_none(vms)?,
    })
}

/// An optional value that was read: nothing when it is there and wrong.
#[expect(clippy::option_option, reason = "absent, wrong and right are three states")]
pub(super) const fn all_or_none<T: Copy>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(None) => None,
        Some(value) => Some(value),
    }
}

/// What a region may hand out.
pub(super) fn of_region(
    written: &Written,
    overcommit: u32,
    field: Field<'_>,
    report: &mut Report<'_>,
) -> Capacity {
    if written.bandwidth.is_none() {
        report.warn(
            field.key_at,
            format!(
                "`total_bandwidth` is not stated; {BANDWIDTH_MBPS_DEFAULT} Mbit/s is taken"
            ),
            format!("add `total_bandwidth: {BANDWIDTH_MBPS_DEFAULT}` or what it really is"),
        );
    }
    let bandwidth = written.bandwidth.unwrap_or(BANDWIDTH_MBPS_DEFAULT);
    capacity(written, overcommit, bandwidth, None)
}

/// `vms` are the slots where none are written. A VM has a CPU at least, so as many slots as
/// CPUs never bind.
fn capacity(
    written: &Written,
    overcommit: u32,
    bandwidth: u64,
    vms: Option<u64>,
) -> Capacity {
    let cpu = written.cpu.saturating_mul(overcommit.into());
    Capacity {
        cpu,
        memory: Mib::new(written.memory),
        storage: Gib::new(written.storage),
        bandwidth: Mbps::new(bandwidth),
        gpus: written.gpus,
        vms: written.vms.or(vms).unwrap_or(cpu),
    }
}

/// The capacity block of a region, by which its hosts are measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<'n> {
    pub(super) written: Written,
    pub(super) capacity: Capacity,
    pub(super) overcommit: u32,
    pub(super) field: Field<'n>,
}

/// What each host may hand out; refuses hosts that together have more than their region.
pub(super) fn of_hosts(
    hosts: &[Written],
    whole: &Whole<'_>,
    report: &mut Report<'_>,
) -> Vec<Capacity> {
    let Whole { written, capacity: region, overcommit, field } = whole;
    let sum = |of: fn(&Written) -> u64| hosts.iter().map(of).fold(0, u64::saturating_add);
    let rows = [
        ("total_cpu", "CPUs", sum(|host| host.cpu), written.cpu),
        ("total_memory", "MiB of memory", sum(|host| host.memory), written.memory),
        ("total_storage", "GiB of storage", sum(|host| host.storage), written.storage),
        (
            "total_bandwidth",
            "Mbit/s",
            sum(|host| host.bandwidth.unwrap_or(0)),
            region.bandwidth.get(),
        ),
        ("total_gpus", "GPUs", sum(|host| host.gpus), written.gpus),
        (
            "total_vms",
            "VM slots",
            sum(|host| host.vms.unwrap_or(0)),
            written.vms.unwrap_or(u64::MAX),
        ),
    ];
    for (key, noun, sum, total) in rows {
        if sum > total {
            report.error(
                field.key_at,
                format!("the hosts have {sum} {noun} together, but `{key}` of their region is {total}"),
                format!("raise `{key}` to {sum}, or correct the hosts"),
            );
        }
    }
    let bandwidth = share(hosts, |host| host.bandwidth, region.bandwidth.get());
    let vms = written.vms.map(|total| share(hosts, |host| host.vms, total));
    let each = |host: &Written| {
        let bandwidth = host.bandwidth.unwrap_or(bandwidth);
        capacity(host, *overcommit, bandwidth, vms)
    };
    hosts.iter().map(each).collect()
}

/// An equal share of what the hosts that state an amount leave of `total`.
fn share(hosts: &[Written], of: fn(&Written) -> Option<u64>, total: u64) -> u64 {
    let stated = hosts.iter().filter_map(of).fold(0, u64::saturating_add);
    let silent = hosts.iter().filter(|host| of(host).is_none()).count();
    let silent = u64::try_from(silent).unwrap_or(u64::MAX).max(1);
    total.saturating_sub(stated) / silent
}
