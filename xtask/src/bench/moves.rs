//! `bench moves`: live moves between regions, one after the other, while a process of one of the
//! regions is killed or stopped at a random moment of most of them; in the end each VM must run
//! once (C2.4). Daemons and agents are real, guests are simulated.

use std::time::Duration;

use anyhow::{Context, ensure};
use dwcp_api::NoParams;
use dwcp_api::migration::CreateMigration;
use dwcp_controller::migration::Outcome;
use dwcp_sim::Rng;
use dwcp_testbed::{Ask, Door, Federation, HostPlan, Plan, RegionPlan, until, wish};
use dwcp_types::{MigrationId, VmPhase};
use tokio::time::Instant;

use super::latency::Latencies;
use super::{Measurement, Options};

const MOVES: u32 = 200;
const MOVES_QUICK: u32 = 10;
const SEED: u64 = 20;
/// The engine's region is neither's: what its loss costs is another benchmark's.
const ENGINE: &str = "engine";
const SIDES: [&str; 2] = ["here", "there"];
/// A move of a simulated guest takes less than this with nothing in its way.
const FAULT_WITHIN_MS: usize = 1_500;
/// How long a process is away.
const AWAY_MS: usize = 2_000;

/// What happens to a move.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Killed(&'static str),
    Stopped(&'static str),
}

impl Fault {
    fn of(rng: &mut Rng) -> Self {
        const VICTIMS: [&str; 4] = ["here", "there", "here-h1", "there-h1"];
        let victim = VICTIMS[rng.index(VICTIMS.len())];
        match rng.index(5) {
            0 => Self::None,
            1 => Self::Stopped(victim),
            _ => Self::Killed(victim),
        }
    }
}

#[derive(Debug, Default)]
struct Sums {
    faults: u32,
    moved: u32,
    stayed: u32,
    whole: u32,
    undisturbed: Latencies,
}

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    crate::programs::build()?;
    let count = if options.quick { MOVES_QUICK } else { MOVES };
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    let sums = runtime.block_on(walk(count))?;
    let whole = f64::from(sums.whole) / f64::from(count);
    let of = |what: &str| {
        format!(
            "{what}; {count} moves of simulated guests between real daemons and agents, seed {SEED}, \
             {} of them with a process of either side killed or stopped for up to {AWAY_MS} ms",
            sums.faults
        )
    };
    let mut undisturbed = sums.undisturbed;
    let one = |name: &str, value, unit, what: &str| Measurement {
        name: format!("moves.{name}"),
        value,
        unit,
        method: of(what),
        peer: None,
    };
    Ok(vec![
        one(
            "one_running",
            whole,
            "share",
            "ended with the VM running once, under one owner",
        ),
        one("moved", f64::from(sums.moved), "moves", "ended at the target"),
        one(
            "stayed",
            f64::from(sums.stayed),
            "moves",
            "were undone and ended at the source",
        ),
        one(
            "undisturbed_p50",
            undisturbed.percentile_ms(50),
            "ms",
            "of those without a fault: from the request until the log says done",
        ),
    ])
}

async fn walk(count: u32) -> anyhow::Result<Sums> {
    let region = |id: &str| RegionPlan::new(id).host(HostPlan::of_slots(4));
    let plan = vec![region(ENGINE), region(SIDES[0]), region(SIDES[1])];
    let mut federation = Federation::start(Plan::simulated(plan)).await;
    let ask = Ask::new("vm").only_in(SIDES[0]).only_in(SIDES[1]);
    let door = federation.at(ENGINE);
    let placed = until("the VM is placed", || door.place(&ask)).await;
    let mut at = placed.vm.context("it is no dry run")?.region.to_string();
    federation.in_phase(ENGINE, "vm", VmPhase::Running).await;
    let mut rng = Rng::new(SEED);
    let mut sums = Sums::default();
    for number in 0..count {
        let fault = Fault::of(&mut rng);
        let (after, away) = (rng.index(FAULT_WITHIN_MS), rng.index(AWAY_MS));
        let target = if at == SIDES[0] { SIDES[1] } else { SIDES[0] };
        let began = Instant::now();
        let id = asked(&door, target).await;
        strike(&mut federation, fault, (after, away)).await;
        let end = door.move_is_over(&id).await;
        let took = began.elapsed();
        federation.healthy().await;
        let seen = federation.in_phase(ENGINE, "vm", VmPhase::Running).await;
        let moved = end.outcome == Some(Outcome::Moved);
        let should = if moved { target } else { at.as_str() };
        ensure!(
            seen.item.region.as_str() == should,
            "move {number} ({fault:?}): {end:?}, and the VM is in {}",
            seen.item.region
        );
        at = should.to_owned();
        let other = if at == SIDES[0] { SIDES[1] } else { SIDES[0] };
        let left = federation.data(&format!("{other}-h1")).join("guests/vm");
        sums.whole += u32::from(!left.exists());
        sums.moved += u32::from(moved);
        sums.stayed += u32::from(!moved);
        match fault {
            Fault::None => sums.undisturbed.add(took),
            Fault::Killed(_) | Fault::Stopped(_) => sums.faults += 1,
        }
        federation.reserved(&at, 1).await;
        federation.nothing_reserved(other).await;
    }
    federation.end();
    Ok(sums)
}

async fn asked(door: &Door, target: &str) -> MigrationId {
    let wish = wish("vm", target);
    let reply = until("the move is taken", || async {
        let asked = door.call::<CreateMigration>(&NoParams {}, &wish).await;
        asked.map_err(|error| error.to_string())
    })
    .await;
    reply.migration.id
}

async fn strike(
    federation: &mut Federation,
    fault: Fault,
    (after, away): (usize, usize),
) {
    let span = |ms: usize| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    match fault {
        Fault::None => {}
        Fault::Killed(who) => {
            tokio::time::sleep(span(after)).await;
            federation.process(who).kill_9();
            tokio::time::sleep(span(away)).await;
            federation.process(who).start();
        }
        Fault::Stopped(who) => {
            tokio::time::sleep(span(after)).await;
            federation.process(who).freeze();
            tokio::time::sleep(span(away)).await;
            federation.process(who).thaw();
        }
    }
}
