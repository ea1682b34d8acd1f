//! `bench claims`: a million reservations from several clients against one region, and not one
//! sold twice.
//!
//! The clients are logical: their requests are interleaved in a fixed order, one at a time,
//! as the task that owns a region's ledger sees them. Hosts are sized so that about one request in
//! five finds no room, because refusing must be fast too. Over-commitment is counted from the
//! grants themselves, apart from the ledger's own sums.
//!
//! `claims.in_memory` is the decision alone; [`durable`] asks the same of a region's real books,
//! with their disk.

mod durable;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::ensure;
use dwcp_controller::ledger::{
    Bounds, HOLD_FOR_MAX, HostReport, Ledger, Proposal, Reservation, Reserve,
};
use dwcp_types::{
    Capacity, Gib, HostId, Mib, RegionId, ReservationId, TenantId, Tier, Timestamp, VmId,
    VmShape, ZoneId,
};
use tokio::time::Instant;

use super::{Measurement, Options};

/// The number of the issue.
const REQUESTS: u32 = 1_000_000;
const REQUESTS_QUICK: u32 = 50_000;
const CLIENTS: u32 = 8;
/// As many hosts as the regions of the placement benchmark have.
const HOSTS: u32 = 100;
const REGION: &str = "eu-west-1";

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let requests = if options.quick { REQUESTS_QUICK } else { REQUESTS };
    let mut measured = decisions(requests)?;
    measured.extend(durable::measure(requests)?);
    Ok(measured)
}

/// One thread decides all of them.
fn decisions(requests: u32) -> anyhow::Result<Vec<Measurement>> {
    let asks = (0..requests).map(ask).collect::<anyhow::Result<Vec<_>>>()?;
    let hosts = hosts(requests)?;
    let mut ledger = Ledger::new(RegionId::new(REGION)?);
    for report in hosts.clone() {
        ledger.report_host(report)?;
    }
    let mut grants = Vec::with_capacity(asks.len());
    let mut refused = 0_u32;
    let started = Instant::now();
    for ask in asks {
        match ledger.reserve(Timestamp::default(), ask) {
            // What would be stored is dropped: this is the figure of the decision alone.
            Ok(done) => grants.push(done.value),
            Err(_) => refused += 1,
        }
    }
    let took = started.elapsed();
    let over = sold_twice(&hosts, grants.iter().map(AsRef::as_ref));
    ensure!(over == 0, "{over} hosts were sold twice");
    ensure!(
        refused > 0,
        "no request was refused: the region is too large to prove anything"
    );
    Ok(report(requests, refused, over, took))
}

/// How many hosts hold more than they have, summed anew from the grants.
fn sold_twice<'a>(
    hosts: &[HostReport],
    grants: impl Iterator<Item = &'a Reservation>,
) -> usize {
    let mut used: BTreeMap<&HostId, Capacity> = BTreeMap::new();
    for grant in grants {
        let sum = used.entry(&grant.host).or_default();
        *sum = sum.plus(&grant.holds());
    }
    let sizes: BTreeMap<_, _> = hosts.iter().map(|host| (&host.id, host.total)).collect();
    let over = used
        .iter()
        .filter(|(host, sum)| sizes.get(*host).is_none_or(|size| !size.fits(sum)));
    over.count()
}

fn report(requests: u32, refused: u32, over: usize, took: Duration) -> Vec<Measurement> {
    let method = format!(
        "{requests} requests of {CLIENTS} interleaved clients at one region of {HOSTS} hosts, \
         {refused} refused, one thread, nothing stored"
    );
    let over = u32::try_from(over).map_or(f64::INFINITY, f64::from);
    let measured = |name: &str, value, unit| Measurement {
        name: name.to_owned(),
        value,
        unit,
        method: method.clone(),
        peer: None,
    };
    vec![
        measured("claims.in_memory", f64::from(requests) / took.as_secs_f64(), "1/s"),
        measured("claims.overcommitted_hosts", over, "hosts"),
    ]
}

/// Hosts whose CPUs reach for about four in five of the requests.
fn hosts(requests: u32) -> anyhow::Result<Vec<HostReport>> {
    let host = |number: u32| {
        // The sizes of `ask` average 3.75 CPUs; hosts differ so that the index has work.
        let cpu = u64::from(requests) * 3 / u64::from(HOSTS) + u64::from(number % 7);
        let total = Capacity {
            cpu,
            memory: Mib::new(cpu * 4_096),
            storage: Gib::new(cpu * 100),
            vms: cpu,
            ..Capacity::default()
        };
        let id = HostId::new(&format!("h{number}"))?;
        let zone = ZoneId::new(&format!("z{}", number % 3))?;
        Ok(HostReport { id, zone, total, ready: true })
    };
    (0..HOSTS).map(host).collect()
}

/// Request by request a client after the other; each proposes a host as a chooser would, and
/// most proposals clash with another client's.
fn ask(number: u32) -> anyhow::Result<Reserve> {
    let client = number % CLIENTS;
    let cpu = [1, 2, 4, 8][usize::try_from(number / CLIENTS % 4)?];
    let proposed = HostId::new(&format!("h{}", number / CLIENTS / 16 % HOSTS))?;
    Ok(Reserve {
        id: ReservationId::new(&format!("c{client}-{number}"))?,
        vm: VmId::new(&format!("vm-{number}"))?,
        tenant: TenantId::new(&format!("tenant-{client}"))?,
        shape: VmShape {
            cpu,
            memory: Mib::new(u64::from(cpu) * 2_048),
            storage: Gib::new(10),
            ..VmShape::default()
        },
        proposal: Proposal { zone: None, host: Some(proposed) },
        bounds: Bounds::default(),
        rules: Vec::new(),
        hold_for: HOLD_FOR_MAX,
        priority: 5,
        tier: Tier::Standard,
        victims: BTreeSet::new(),
        replaces: None,
    })
}
