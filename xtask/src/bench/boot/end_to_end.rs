//! From `place-vm` at the API of a federation until the guest says READY on its console, and
//! what the daemons and agents cost while twenty guests run.
//!
//! The console is read through the same API, from a daemon that need not own the VM, so what is
//! measured is what a user waits for: decision, reservation, ownership, instruction, disk,
//! boot, and the way of the console's text back.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use dwcp_api::public::{
    ConsoleParams, CreateVm, DeleteVm, GetConsole, GetVm, PlaceVm, VmParams,
};
use dwcp_api::{CallError, Client, ErrorCode, NoParams};
use dwcp_region::local::Driver;
use dwcp_types::{
    Constraints, Gib, Mib, PlacementRequest, TenantId, Tier, VmId, VmShape, VmType,
};
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::{CROWD, PATIENCE, ROUNDS, ROUNDS_QUICK, WATCH, WATCH_QUICK, one};
use crate::bench::Measurement;
use crate::bench::federation::{self, Federation};

/// How often a console is looked at: bounds the error of a measured time. Rarer than at the
/// agent alone, because each look is a request that takes CPU from the guests.
const LOOK: Duration = Duration::from_millis(25);

/// Measures.
pub(super) fn measure(quick: bool) -> anyhow::Result<Vec<Measurement>> {
    federation::with(Driver::Qemu, move |federation| run(federation, quick))
}

async fn run(federation: Federation, quick: bool) -> anyhow::Result<Vec<Measurement>> {
    let region = federation.regions().next().context("no region")?;
    let client = federation.client(region)?;
    let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
    let mut alone = Vec::new();
    for round in 0..rounds {
        let vm = VmId::new(&format!("alone-{round}"))?;
        alone.push(boot(&client, &vm).await?.as_secs_f64());
        delete(&client, &vm).await?;
    }
    alone.sort_by(f64::total_cmp);
    let started = Instant::now();
    let crowd = (0..CROWD).map(|number| VmId::new(&format!("crowd-{number}")));
    let crowd: Vec<VmId> = crowd.collect::<Result<_, _>>()?;
    try_join_all(crowd.iter().map(|vm| boot(&client, vm))).await?;
    let together = started.elapsed().as_secs_f64();
    let of = |what: &str| {
        format!("place-vm at the API until READY is on the console read there, {what}")
    };
    let mut measured = vec![
        one(
            "boot.place_to_ready",
            alone[rounds / 2],
            "s",
            of(&format!("median of {rounds}")),
        ),
        one("boot.twenty_ready", together, "s", of("20 at once, all READY")),
    ];
    measured.extend(cost(&federation, quick).await?);
    Ok(measured)
}

/// What all daemons and agents cost while the guests run; QEMU is not in it.
async fn cost(federation: &Federation, quick: bool) -> anyhow::Result<[Measurement; 2]> {
    let watch = if quick { WATCH_QUICK } else { WATCH };
    let before = federation.usage()?;
    sleep(watch).await;
    let after = federation.usage()?;
    let resident = after.iter().map(|(_, usage)| usage.resident_mib).sum();
    let cpu = |all: &[(String, super::super::usage::Usage)]| {
        all.iter().map(|(_, usage)| usage.cpu_s).sum::<f64>()
    };
    let share = (cpu(&after) - cpu(&before)) / watch.as_secs_f64() * 100.0;
    let method = format!(
        "{} daemons and agents together with {CROWD} running guests",
        after.len()
    );
    Ok([
        one("boot.daemon_rss_20", resident, "MiB", format!("{method}, resident")),
        one(
            "boot.daemon_cpu_20",
            share,
            "%",
            format!("{method} over {watch:?}, of one core"),
        ),
    ])
}

/// Places a VM and waits until it is READY.
async fn boot(client: &Client, vm: &VmId) -> anyhow::Result<Duration> {
    let started = Instant::now();
    client
        .call::<CreateVm>(&NoParams {}, &ask(vm)?)
        .await
        .with_context(|| format!("VM {vm} is not placed"))?;
    let params = ConsoleParams { vm: vm.clone(), offset: None };
    let ready = format!("READY {vm} ");
    loop {
        // No console yet is an error until the host has made it.
        let console = client.call::<GetConsole>(&params, &()).await;
        if console.is_ok_and(|console| console.text.contains(&ready)) {
            return Ok(started.elapsed());
        }
        if started.elapsed() > PATIENCE {
            bail!("guest {vm} is not READY after {PATIENCE:?}");
        }
        sleep(LOOK).await;
    }
}

async fn delete(client: &Client, vm: &VmId) -> anyhow::Result<()> {
    let params = VmParams { vm: vm.clone() };
    client.call::<DeleteVm>(&params, &()).await?;
    let started = Instant::now();
    loop {
        match client.call::<GetVm>(&params, &()).await {
            Err(CallError::Api(error)) if error.code == ErrorCode::NotFound => {
                return Ok(());
            }
            _ if started.elapsed() > PATIENCE => {
                bail!("VM {vm} is not gone after {PATIENCE:?}");
            }
            _ => sleep(LOOK).await,
        }
    }
}

/// The size of the guests at the agent alone; the development scale makes it small.
fn ask(vm: &VmId) -> anyhow::Result<PlaceVm> {
    let request = PlacementRequest {
        id: vm.clone(),
        tenant: TenantId::new("bench")?,
        shape: VmShape {
            cpu: 4,
            memory: Mib::new(8_192),
            storage: Gib::new(100),
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
