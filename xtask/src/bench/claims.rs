//! `bench claims`: a million reservations from several clients against one region, and not one
//! sold twice.
//!
//! The clients are logical: their requests are interleaved in a fixed order, one at a time,
//! as the task that owns a region's ledger sees them. Hosts are sized so that about one request in
//! five finds no room, because refusing must be fast too. Over-commitment is counted from the
//! grants themselves, apart from the ledger's own sums.
//!
//! What is measured here is the decision alone. The hook for the durable figure is
//! [`Sink`]: the changes of a batch of grants go through it before they count as answered. A
//! sink that writes to the region's store with fsync, in batches of [`BATCH`], gives
//! `claims.durable`; this one drops them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use dwcp_controller::ledger::{
    Bounds, Change, HOLD_FOR, HostReport, Ledger, Proposal, Reserve,
};
use dwcp_types::{
    Capacity, Gib, HostId, Mib, RegionId, ReservationId, TenantId, Tier, Timestamp, VmId,
    VmShape, ZoneId,
};
use tokio::time::Instant;

use super::{Measurement, Options};

/// The number of the issue.
const REQUESTS: u32 = 1_000_000;
const REQUESTS_QUICK: u32 = 100_000;
const CLIENTS: u32 = 8;
/// As many hosts as the regions of the placement benchmark have.
const HOSTS: u32 = 100;
/// Grants that share one write, the group commit of PLACEMENT 4.2.
const BATCH: usize = 256;

/// Where the changes of a batch go before its grants are answered.
trait Sink {
    fn store(&mut self, changes: &mut Vec<Change>) -> anyhow::Result<()>;
}

/// Drops them, for the figure of the decision alone.
struct Nowhere;

impl Sink for Nowhere {
    fn store(&mut self, changes: &mut Vec<Change>) -> anyhow::Result<()> {
        changes.clear();
        Ok(())
    }
}

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let requests = if options.quick { REQUESTS_QUICK } else { REQUESTS };
    let asks = (0..requests).map(ask).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut ledger, sizes) = region(requests)?;
    let mut used: BTreeMap<HostId, Capacity> = BTreeMap::new();
    let mut sink = Nowhere;
    let mut changes = Vec::new();
    let mut grants = Vec::with_capacity(asks.len());
    let mut refused = 0_u32;
    let started = Instant::now();
    for ask in asks {
        match ledger.reserve(Timestamp::default(), ask) {
            Ok(done) => {
                changes.extend(done.changes);
                grants.push(done.value);
            }
            Err(_) => refused += 1,
        }
        if changes.len() >= BATCH {
            sink.store(&mut changes)?;
        }
    }
    sink.store(&mut changes)?;
    let took = started.elapsed();
    for grant in &grants {
        let sum = used.entry(grant.host.clone()).or_default();
        *sum = sum.plus(&grant.ask.need());
    }
    let over = used.iter().filter(|(host, sum)| !sizes[*host].fits(sum)).count();
    ensure!(over == 0, "{over} hosts were sold twice");
    ensure!(
        refused > 0,
        "no request was refused: the region is too large to prove anything"
    );
    Ok(report(requests, refused, over, took))
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

/// A region whose CPUs reach for about four in five of the requests.
fn region(requests: u32) -> anyhow::Result<(Ledger, BTreeMap<HostId, Capacity>)> {
    let mut ledger = Ledger::new(RegionId::new("eu-west-1")?);
    let mut sizes = BTreeMap::new();
    for number in 0..HOSTS {
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
        sizes.insert(id.clone(), total);
        ledger.report_host(HostReport { id, zone, total, ready: true })?;
    }
    Ok((ledger, sizes))
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
        hold_for: HOLD_FOR,
        priority: 5,
        tier: Tier::Standard,
    })
}
