//! `bench inventory`: thirty thousand VMs on the simulated driver over the five regions of T1,
//! from the first request to a federation at rest.
//!
//! Clients of every region's daemon ask for small VMs without naming a region, until each
//! region has exactly as many as it takes: 10,000, 10,000, 5,000, 3,000 and 2,000. Near the end
//! only one region has room and daemons know of it late, so a refusal is asked again and
//! counted. Then nothing is done for a while and the cost of that is read from the kernel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use dwcp_api::public::{CreateVm, GetStatus, GetVms, ListVms, PlaceVm, StatusReply};
use dwcp_api::{CallError, Client, ErrorCode, NoParams};
use dwcp_region::local::Driver;
use dwcp_types::{
    Constraints, Gib, Mib, PlacementRequest, TenantId, Tier, VmId, VmShape, VmType,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::federation::{self, Federation};
use super::latency::Latencies;
use super::usage::Usage;
use super::{Measurement, Options};

/// The VMs that T1 takes.
const VMS: u32 = 30_000;
const VMS_QUICK: u32 = 1_500;
/// Clients of each daemon, each with one request under way.
const CLIENTS_PER_REGION: u32 = 8;
/// Times that a refused request is asked again, and the pause before: together longer than
/// the two seconds in which every daemon hears of every region.
const ASKED_AGAIN_MAX: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);
/// When guests that do not run are given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is looked whether all run; bounds the error of that time.
const LOOK: Duration = Duration::from_millis(100);
/// How long the federation is left alone before it counts as at rest: longer than its slowest
/// periodic work (30 s, reconciliation).
const SETTLE: Duration = Duration::from_secs(35);
const SETTLE_QUICK: Duration = Duration::from_secs(5);
/// How long it is watched at rest: each periodic work happens at least once.
const WATCH: Duration = Duration::from_secs(30);
const WATCH_QUICK: Duration = Duration::from_secs(10);
/// Whole lists and status replies that are timed, spread over the five daemons.
const LISTS: u32 = 50;
const STATUSES: u32 = 1_000;

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let quick = options.quick;
    federation::with(Driver::Simulated, move |federation| run(federation, quick))
}

async fn run(federation: Federation, quick: bool) -> anyhow::Result<Vec<Measurement>> {
    let vms = if quick { VMS_QUICK } else { VMS };
    let mut measured = place_all(&federation, vms).await?;
    sleep(if quick { SETTLE_QUICK } else { SETTLE }).await;
    measured.extend(at_rest(&federation, vms, quick).await?);
    measured.extend(look(&federation, vms, quick).await?);
    Ok(measured)
}

/// What one client saw.
#[derive(Debug, Default)]
struct Told {
    latencies: Latencies,
    asked_again: u32,
}

async fn place_all(
    federation: &Federation,
    vms: u32,
) -> anyhow::Result<Vec<Measurement>> {
    let next = Arc::new(AtomicU32::new(0));
    let mut clients = JoinSet::new();
    let before = total(&federation.usage()?);
    let started = Instant::now();
    for region in federation.regions() {
        for _ in 0..CLIENTS_PER_REGION {
            let client = federation.client(region)?;
            clients.spawn(place_some(client, Arc::clone(&next), vms));
        }
    }
    let many = clients.len();
    let mut told = Told::default();
    while let Some(one) = clients.join_next().await {
        let one = one??;
        told.latencies.join(one.latencies);
        told.asked_again += one.asked_again;
    }
    let placed = started.elapsed();
    wait_until_running(federation, vms).await?;
    let running = started.elapsed();
    let cpu = total(&federation.usage()?).cpu_s - before.cpu_s;
    let method = format!(
        "{vms} VMs by {many} clients of five daemons over TLS, simulated driver, {} refusals \
         asked again",
        told.asked_again
    );
    let one = |name: &str, value, unit, what: &str| {
        measurement(name, value, unit, format!("{method}; {what}"))
    };
    let vms = f64::from(vms);
    let p50 = told.latencies.percentile_ms(50);
    let p99 = told.latencies.percentile_ms(99);
    Ok(vec![
        one("placed", vms / placed.as_secs_f64(), "1/s", "durably owned"),
        one("place.p50", p50, "ms", "one request"),
        one("place.p99", p99, "ms", "one request"),
        one("running", vms / running.as_secs_f64(), "1/s", "until all are seen running"),
        one("place.cpu", cpu * 1e3 / vms, "ms", "CPU of all processes for one VM"),
    ])
}

async fn place_some(
    client: Client,
    next: Arc<AtomicU32>,
    vms: u32,
) -> anyhow::Result<Told> {
    let mut told = Told::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= vms {
            return Ok(told);
        }
        let ask = ask(number)?;
        let asked = Instant::now();
        let mut again = 0;
        while let Err(reason) = client.call::<CreateVm>(&NoParams {}, &ask).await {
            let full = matches!(&reason, CallError::Api(error)
                if error.code == ErrorCode::Refused);
            if !full || again == ASKED_AGAIN_MAX {
                bail!("VM {number} is not placed: {reason}");
            }
            again += 1;
            sleep(PAUSE).await;
        }
        told.asked_again += again;
        told.latencies.add(asked.elapsed());
    }
}

fn ask(number: u32) -> anyhow::Result<PlaceVm> {
    let request = PlacementRequest {
        id: VmId::new(&format!("vm-{number:05}"))?,
        tenant: TenantId::new(&format!("tenant-{}", number % 20))?,
        shape: VmShape {
            cpu: 1,
            memory: Mib::new(512),
            storage: Gib::new(5),
            ..VmShape::default()
        },
        vm_type: VmType::default(),
        constraints: Constraints::default(),
        origins: Vec::new(),
        strategy: None,
        priority: 5,
        tier: Tier::Standard,
        on_region_loss: dwcp_types::OnRegionLoss::StayDown,
        replica_max_age_s: None,
        labels: BTreeMap::new(),
    };
    Ok(PlaceVm {
        request,
        client_token: None,
        image: None,
        dry_run: false,
        preempt: false,
    })
}

/// Waits until the first daemon sees all run, and checks that each region has what it takes.
async fn wait_until_running(federation: &Federation, vms: u32) -> anyhow::Result<()> {
    let client = any_client(federation)?;
    let started = Instant::now();
    loop {
        let status = client.call::<GetStatus>(&NoParams {}, &()).await?;
        if status.running_vms == u64::from(vms) {
            return check_counts(federation, &status, vms);
        }
        if started.elapsed() > PATIENCE {
            bail!("{} of {vms} VMs run after {PATIENCE:?}", status.running_vms);
        }
        sleep(LOOK).await;
    }
}

fn check_counts(
    federation: &Federation,
    status: &StatusReply,
    vms: u32,
) -> anyhow::Result<()> {
    ensure!(status.total_vms == u64::from(vms), "{} VMs, not {vms}", status.total_vms);
    for spec in &federation.config.regions {
        let takes: u64 = spec.hosts.iter().map(|host| host.capacity.vms).sum();
        let id = &spec.region.id;
        let has = status.regions.iter().find(|region| region.id == *id);
        let has = has.map_or(0, |region| region.vms);
        ensure!(has <= takes, "{id} has {has} VMs and takes {takes}");
    }
    Ok(())
}

async fn at_rest(
    federation: &Federation,
    vms: u32,
    quick: bool,
) -> anyhow::Result<Vec<Measurement>> {
    let watch = if quick { WATCH_QUICK } else { WATCH };
    let before = federation.usage()?;
    sleep(watch).await;
    let after = federation.usage()?;
    let method = format!("at rest with {vms} VMs");
    let resident = |(name, usage): &(String, Usage)| {
        let name = format!("memory.{name}");
        measurement(&name, usage.resident_mib, "MiB", format!("{method}, resident"))
    };
    let mut measured: Vec<_> = after.iter().map(resident).collect();
    for (kind, what) in
        [("dwcpd-", "daemons"), ("dwcp-agent-", "agents"), ("dwcp", "all")]
    {
        let of = |all: &[(String, Usage)]| {
            let some = all.iter().filter(|(name, _)| name.starts_with(kind));
            some.map(|(_, usage)| usage.cpu_s).sum::<f64>()
        };
        let share = (of(&after) - of(&before)) / watch.as_secs_f64() * 100.0;
        let method = format!("{method}, {what} over {watch:?}, of one core");
        measured.push(measurement(&format!("idle_cpu.{what}"), share, "%", method));
    }
    Ok(measured)
}

/// Times whole lists and status replies, each daemon in turn.
async fn look(
    federation: &Federation,
    vms: u32,
    quick: bool,
) -> anyhow::Result<Vec<Measurement>> {
    let clients: anyhow::Result<Vec<_>> =
        federation.regions().map(|region| federation.client(region)).collect();
    let clients = clients?;
    let mut turn = clients.iter().cycle();
    let share = if quick { 10 } else { 1 };
    let (mut lists, mut statuses) = (Latencies::default(), Latencies::default());
    for _ in 0..LISTS / share {
        let Some(client) = turn.next() else { bail!("no region") };
        let asked = Instant::now();
        let seen = list(client).await?;
        lists.add(asked.elapsed());
        ensure!(seen == vms as usize, "a list shows {seen} of {vms} VMs");
    }
    for _ in 0..STATUSES / share {
        let Some(client) = turn.next() else { bail!("no region") };
        let asked = Instant::now();
        client.call::<GetStatus>(&NoParams {}, &()).await?;
        statuses.add(asked.elapsed());
    }
    let of = |calls: &mut Latencies, name: &str, what: &str| {
        let method =
            format!("{} {what} with {vms} VMs, each daemon in turn", calls.len());
        [50, 99].map(|percent| {
            let name = format!("{name}.p{percent}");
            measurement(&name, calls.percentile_ms(percent), "ms", method.clone())
        })
    };
    let mut measured = Vec::new();
    measured.extend(of(&mut lists, "vm_list", "whole lists in pages of 1,000"));
    measured.extend(of(&mut statuses, "status", "status replies"));
    Ok(measured)
}

/// Reads all pages; how many VMs there are.
async fn list(client: &Client) -> anyhow::Result<usize> {
    let mut asked = ListVms::default();
    let mut seen = 0;
    loop {
        let page = client.call::<GetVms>(&asked, &()).await?;
        seen += page.items.len();
        if page.next.is_none() {
            return Ok(seen);
        }
        asked.after = page.next;
    }
}

fn any_client(federation: &Federation) -> anyhow::Result<Client> {
    match federation.regions().next() {
        Some(region) => federation.client(region),
        None => bail!("no region"),
    }
}

fn total(all: &[(String, Usage)]) -> Usage {
    all.iter().fold(Usage::default(), |sum, (_, usage)| Usage {
        cpu_s: sum.cpu_s + usage.cpu_s,
        resident_mib: sum.resident_mib + usage.resident_mib,
    })
}

fn measurement(
    name: &str,
    value: f64,
    unit: &'static str,
    method: String,
) -> Measurement {
    Measurement { name: format!("inventory.{name}"), value, unit, method, peer: None }
}
