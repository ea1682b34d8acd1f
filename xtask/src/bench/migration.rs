//! `bench migration`: a real guest moves live between two regions that are 76 ms and 1 Gbit/s apart,
//! idle and with a load that writes its memory, and somebody outside notes how long it was silent;
//! beside it the same guest moved by hand on the same line, where nothing decides who owns it
//! (C21). Needs root, QEMU and etcd.

mod by_hand;
mod pulse;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use dwcp_api::NoParams;
use dwcp_api::migration::{AskMigration, CreateMigration};
use dwcp_controller::migration::Outcome;
use dwcp_testbed::wan::{Bed, Links, Shape};
use dwcp_testbed::{
    Ask, Door, Federation, HostPlan, Plan, RegionPlan, arguments_of, etcd_program,
    guest_image, until, wish,
};
use dwcp_types::VmPhase;
use dwcp_vm::launch;
use tokio::time::Instant;

use self::by_hand::{End, Limits};
use self::pulse::{Gap, Load, Watch};
use super::latency::Latencies;
use super::{Measurement, Options, Peer};

/// The guest goes from one to the other and back; the engine's leader belongs in the first.
const SIDES: [&str; 2] = ["us-east-1", "eu-west-1"];
/// It makes the majority.
const THIRD: &str = "sa-east-1";
const WAY: Duration = Duration::from_millis(38);
const MBPS: u32 = 1_000;
/// Of each load, half of them each way.
const MOVES: usize = 6;
const MOVES_QUICK: usize = 2;
/// By hand, of each load.
const BY_HAND: usize = 3;
const BY_HAND_QUICK: usize = 1;
/// As [`dwcp_vm::migration::forecast`] shares a line, and as QEMU begins with.
const LIMITS: Limits = Limits { bandwidth: 106_250_000, downtime_ms: 300 };

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    crate::programs::build()?;
    ensure!(etcd_program().is_some(), "etcd is missing: run `./dwcp test` once");
    let root = crate::root()?;
    let mut build = Command::new("sh");
    build.arg(root.join("guest/build.sh")).arg(root.join("target/guest"));
    ensure!(build.status()?.success(), "the guest image cannot be built");
    let mut measured = Vec::new();
    for load in [Load::Idle, Load::Dirtying] {
        let scratch = scratch("image")?;
        let base = guest_image().context("there is no guest image, or no QEMU")?;
        let image = pulse::image(&base, &scratch, load)?;
        let sums = of_load(load, image, options.quick)?;
        measured.extend(told(load, sums));
        std::fs::remove_dir_all(scratch)?;
    }
    Ok(measured)
}

/// A folder whose path is short enough for sockets in it.
fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let name = format!("dwcp-bench-{name}-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// Of all moves of one load.
#[derive(Default)]
struct Sums {
    total: Latencies,
    silent: Latencies,
    /// The halt as the driver saw it.
    halt: Latencies,
    lost: u64,
    hand_total: Latencies,
    hand_silent: Latencies,
    hand_lost: u64,
}

fn of_load(load: Load, image: PathBuf, quick: bool) -> anyhow::Result<Sums> {
    let near = Shape::delay(WAY).rate_mbps(MBPS);
    let links = Links::wires()
        .both(SIDES[0], SIDES[1], near)
        .both(SIDES[0], THIRD, Shape::delay(Duration::from_millis(62)))
        .both(SIDES[1], THIRD, Shape::delay(Duration::from_millis(90)));
    let regions = [SIDES[0], SIDES[1], THIRD];
    let bed = Arc::new(Bed::new(&regions, &links).context("there is no WAN here")?);
    let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(2));
    let plan = Plan::qemu(regions.iter().map(region).collect(), image);
    let plan = plan.behind(&links).on_etcd();
    bed.block_on(async {
        let federation = Federation::start_on(&bed, plan).await;
        let mut sums = Sums::default();
        federation.place_in(SIDES[0], &[Ask::new("vm")]).await;
        let door = federation.at(SIDES[0]);
        says(&federation, 0).await;
        let rounds = if quick { MOVES_QUICK } else { MOVES };
        for round in 0..rounds {
            let moved = one_move(&federation, &door, round % 2, &mut sums).await;
            moved
                .with_context(|| format!("move {round} of the {} guest", load.name()))?;
        }
        let hands = if quick { BY_HAND_QUICK } else { BY_HAND };
        for _ in 0..hands {
            let moved = one_by_hand(&federation, &bed, &door, &mut sums).await;
            moved.with_context(|| format!("the {} guest by hand", load.name()))?;
        }
        federation.end();
        Ok(sums)
    })
}

fn host(side: usize) -> String {
    format!("{}-h1", SIDES[side])
}

/// Where a guest prints what it says, if it is on this side.
fn console(federation: &Federation, side: usize) -> PathBuf {
    folder(federation, side).join(launch::file::CONSOLE)
}

fn folder(federation: &Federation, side: usize) -> PathBuf {
    federation.data(&host(side)).join("guests").join("vm")
}

/// Waits until the guest counts on this side.
async fn says(federation: &Federation, side: usize) {
    let console = console(federation, side);
    until("the guest says numbers", || async {
        let text =
            std::fs::read_to_string(&console).map_err(|error| error.to_string())?;
        // The last one may be half of one yet.
        if text.matches("pulse ").count() > 1 { Ok(()) } else { Err(text) }
    })
    .await;
}

async fn one_move(
    federation: &Federation,
    door: &Door,
    from: usize,
    sums: &mut Sums,
) -> anyhow::Result<()> {
    let to = 1 - from;
    let wish = AskMigration {
        bandwidth_mbps: Some(MBPS),
        downtime_ms_max: Some(5_000),
        ..wish("vm", SIDES[to])
    };
    let watch = Watch::begin(console(federation, from), console(federation, to));
    let began = Instant::now();
    let reply = until("the move is taken", || async {
        let asked = door.call::<CreateMigration>(&NoParams {}, &wish).await;
        asked.map_err(|error| error.to_string())
    })
    .await;
    let end = door.move_is_over(&reply.migration.id).await;
    let took = began.elapsed();
    ensure!(end.outcome == Some(Outcome::Moved), "it did not move: {end:?}");
    says(federation, to).await;
    let Gap { silent, lost } = watch.end()?;
    sums.total.add(took);
    sums.silent.add(silent);
    end.downtime_ms.into_iter().for_each(|ms| sums.halt.add(Duration::from_millis(ms)));
    sums.lost += lost;
    federation.in_phase(SIDES[to], "vm", VmPhase::Running).await;
    Ok(())
}

/// With the arguments of the guest that the federation has, whose CPUs rest meanwhile.
async fn one_by_hand(
    federation: &Federation,
    bed: &Bed,
    door: &Door,
    sums: &mut Sums,
) -> anyhow::Result<()> {
    let detail = door.vm("vm").await.context("the VM is known")?;
    let pid = detail.observed.and_then(|seen| seen.pid).context("it runs")?;
    let agents = folder(federation, 0);
    let agents = agents.to_str().context("a path of text")?;
    let all = arguments_of(pid);
    let arguments: Vec<String> =
        all.split_terminator('\0').map(str::to_owned).filter(|it| it != "-S").collect();
    let arguments = without(arguments, "-incoming");
    let end = |side: usize| End {
        region: SIDES[side],
        credentials: federation.data(&host(side)).join("move-tls"),
        name: format!("{}.{}.host.dwcp", host(side), SIDES[side]),
    };
    let (from, to) = (end(0), end(1));
    let (took, gap) = by_hand::moved(bed, (&from, &to), (&arguments, agents), LIMITS)?;
    sums.hand_total.add(took);
    sums.hand_silent.add(gap.silent);
    sums.hand_lost += gap.lost;
    Ok(())
}

/// Arguments without a flag and its value.
fn without(arguments: Vec<String>, flag: &str) -> Vec<String> {
    let at = arguments.iter().position(|it| it == flag);
    let skipped = at.map_or(0..0, |at| at..at + 2);
    let kept = arguments.into_iter().enumerate();
    kept.filter(|(at, _)| !skipped.contains(at)).map(|(_, it)| it).collect()
}

fn told(load: Load, mut sums: Sums) -> Vec<Measurement> {
    let name = load.name();
    let method = |what: &str| {
        format!(
            "{what}; {} guest, {} moves over {} ms and {MBPS} Mbit/s between {} and {}, \
             a number each {} ms on its console, looked at each ms",
            name,
            sums.total.len(),
            2 * WAY.as_millis(),
            SIDES[0],
            SIDES[1],
            pulse::EVERY.as_millis(),
        )
    };
    let by_hand = |value| {
        Some(Peer { name: "QEMU told by hand, which asks nobody".to_owned(), value })
    };
    let total = method("from the request until the move is over");
    let silent = method("from the last number at the source to the first at the target");
    let halt = method("the halt as the driver's clock has it");
    let lost = method("numbers that came at neither side");
    let one = |what: &str, value, unit, method: &str, peer| Measurement {
        name: format!("migration.{name}.{what}"),
        value,
        unit,
        method: method.to_owned(),
        peer,
    };
    let total_hand = by_hand(sums.hand_total.percentile_ms(50));
    let hand = [50, 100].map(|percent| by_hand(sums.hand_silent.percentile_ms(percent)));
    let [hand_p50, hand_max] = hand;
    #[expect(clippy::cast_precision_loss, reason = "few")]
    let (lost_sum, hand_lost) = (sums.lost as f64, sums.hand_lost as f64);
    vec![
        one("total_p50", sums.total.percentile_ms(50), "ms", &total, total_hand),
        one("silent_p50", sums.silent.percentile_ms(50), "ms", &silent, hand_p50),
        one("silent_max", sums.silent.percentile_ms(100), "ms", &silent, hand_max),
        one("halt_p50", sums.halt.percentile_ms(50), "ms", &halt, None),
        one("lost", lost_sum, "numbers", &lost, by_hand(hand_lost)),
    ]
}
