//! `bench boot`: how long a host takes from an instruction to a guest that says READY, and what twenty
//! guests cost the agent.
//!
//! The agent runs inside this process, which does nothing else, so this process's CPU time
//! and memory are the agent's (and a little more than it alone would need). Rejected: timing
//! the start of QEMU alone, which says nothing about when a guest is there. Then the same from
//! the API of a whole federation ([`end_to_end`]).

mod end_to_end;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use dwcp_agent::{Agent, AgentHandle, Config};
use dwcp_runtime::shutdown;
use dwcp_types::{Epoch, Generation, Gib, Mib, Power, VmId, VmShape};
use dwcp_vm::{GuestSpec, Instruction};
use tokio::time::{Instant, sleep};

use super::{Measurement, Options, federation};

/// Guests that run at once: the number that the project promises for two cores.
const CROWD: usize = 20;
/// Boots of one guest alone, of which the middle one is told.
const ROUNDS: usize = 7;
const ROUNDS_QUICK: usize = 3;
/// How long the agent is watched with its guests running and nothing else to do.
const WATCH: Duration = Duration::from_secs(30);
const WATCH_QUICK: Duration = Duration::from_secs(5);
/// When a guest is given up; many times what it takes.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often consoles are looked at: bounds the error of a measured time.
const LOOK: Duration = Duration::from_millis(5);

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let image = image()?;
    let name = format!("dwcp-bench-boot-{}", std::process::id());
    let data = std::env::temp_dir().join(name);
    let runtime = tokio::runtime::Runtime::new().context("cannot start tokio")?;
    let measured = runtime.block_on(run(&data, &image, options.quick));
    // Nothing in it is worth keeping, and what cannot be removed does no harm.
    drop(std::fs::remove_dir_all(&data));
    // Its threads end before the federation is measured.
    drop(runtime);
    let mut measured = measured?;
    measured.extend(end_to_end::measure(options.quick)?);
    Ok(measured)
}

fn image() -> anyhow::Result<PathBuf> {
    let folder = federation::guest_image()?;
    if !folder.join("kernel").is_file() {
        bail!("no guest image; run guest/build.sh {}", folder.display());
    }
    Ok(folder)
}

async fn run(data: &Path, image: &Path, quick: bool) -> anyhow::Result<Vec<Measurement>> {
    let text = format!(
        "host: bench\nregion: bench\nzone: bench\ndata_dir: {}\nimage_dir: {}\n\
         driver: qemu\nnetwork: {{ mode: user }}\n\
         scale: {{ cpu_max: 1, memory_max: 96 }}\n\
         capacity: {{ cpu: 64, memory: 262144, storage: 4000, vms: 100 }}\n",
        data.display(),
        image.display()
    );
    let config = Config::parse(&text, Path::new("bench.yaml"))?;
    let agent = Agent::open(&config).await?;
    let bench = Bench { handle: agent.handle(), quick };
    // Guests outlive their agent on purpose, so that Ctrl-C has to end them too.
    let stop = shutdown::requested()?;
    let measured = tokio::select! {
        measured = bench.all() => measured,
        signal = stop => Err(anyhow!("{signal}: not measured to the end")),
    };
    bench.clear().await?;
    agent.stop().await;
    measured
}

struct Bench {
    handle: AgentHandle,
    quick: bool,
}

impl Bench {
    async fn all(&self) -> anyhow::Result<Vec<Measurement>> {
        let report = self.handle.report(None, None, Duration::ZERO).await?;
        let accelerator = report.host.accelerator;
        let rounds = if self.quick { ROUNDS_QUICK } else { ROUNDS };
        let mut alone = Vec::new();
        for round in 0..rounds {
            let vms = [VmId::new(&format!("alone-{round}"))?];
            alone.push(self.boot(&vms).await?.as_secs_f64());
            self.clear().await?;
        }
        alone.sort_by(f64::total_cmp);
        let crowd: Vec<VmId> = (0..CROWD)
            .map(|number| VmId::new(&format!("crowd-{number}")))
            .collect::<Result<_, _>>()?;
        let together = self.boot(&crowd).await?.as_secs_f64();
        let watch = if self.quick { WATCH_QUICK } else { WATCH };
        let before = usage()?;
        sleep(watch).await;
        let after = usage()?;
        let cpu = (after.0.saturating_sub(before.0)).as_secs_f64();
        let share = cpu / watch.as_secs_f64() * 100.0;
        let of = |what: &str| {
            format!("instruction to READY on the console, {accelerator}, {what}")
        };
        let idle =
            format!("agent with {CROWD} running guests over {} s", watch.as_secs());
        Ok(vec![
            one("boot.alone", alone[rounds / 2], "s", of(&format!("median of {rounds}"))),
            one("boot.twenty", together, "s", of("20 at once, all READY")),
            one("boot.agent_memory", after.1, "MiB", idle.clone() + ", resident"),
            one("boot.agent_cpu", share, "%", idle + ", of one core"),
        ])
    }

    /// Instructs and waits until all are READY.
    async fn boot(&self, vms: &[VmId]) -> anyhow::Result<Duration> {
        let started = Instant::now();
        for vm in vms {
            self.handle.put(vm.clone(), instruction(1, Power::Running)).await?;
        }
        for vm in vms {
            while !self.is_ready(vm).await? {
                if started.elapsed() > PATIENCE {
                    bail!("guest {vm} is not READY after {} s", PATIENCE.as_secs());
                }
                sleep(LOOK).await;
            }
        }
        Ok(started.elapsed())
    }

    async fn is_ready(&self, vm: &VmId) -> anyhow::Result<bool> {
        let Some(part) = self.handle.console(vm, None, 4096).await? else {
            return Ok(false);
        };
        Ok(String::from_utf8_lossy(&part.bytes).contains(&format!("READY {vm} ")))
    }

    /// Deletes every guest and waits until they are gone.
    async fn clear(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let report = self.handle.report(None, None, Duration::ZERO).await?;
            if report.changed.is_empty() {
                return Ok(());
            }
            for seen in report.changed {
                if seen.power != Power::Deleted {
                    self.handle.put(seen.vm, instruction(2, Power::Deleted)).await?;
                }
            }
            if started.elapsed() > PATIENCE {
                bail!("the guests are not gone after {} s", PATIENCE.as_secs());
            }
            sleep(LOOK).await;
        }
    }
}

fn instruction(generation: u64, power: Power) -> Instruction {
    let shape = VmShape {
        cpu: 4,
        memory: Mib::new(8192),
        storage: Gib::new(100),
        ..VmShape::default()
    };
    Instruction {
        epoch: Epoch::FIRST,
        generation: Generation::new(generation),
        power,
        guest: GuestSpec { shape, ..GuestSpec::default() },
    }
}

fn one(name: &str, value: f64, unit: &'static str, method: String) -> Measurement {
    Measurement { name: name.to_owned(), value, unit, method, peer: None }
}

/// CPU time and resident MiB of this process.
fn usage() -> anyhow::Result<(Duration, f64)> {
    let usage = dwcp_agent::qemu::own_usage().context("/proc/self/stat is unreadable")?;
    let resident = u32::try_from(usage.resident.get())?;
    Ok((usage.cpu, f64::from(resident)))
}
