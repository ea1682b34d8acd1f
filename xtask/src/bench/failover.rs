//! `bench failover`: a region is lost with its guests, by power or by its lines, behind the round
//! trips of T1, and the guests themselves say when they are up elsewhere (RELIABILITY R1). Needs
//! root, QEMU and etcd.
//!
//! What the machine takes for as many guests with nothing lost is told beside it, from the same
//! drill: on two cores without KVM most of the time is theirs.

use std::panic::catch_unwind;
use std::sync::Arc;

use anyhow::{Context, ensure};
use dwcp_testbed::drill::{Drill, LOOK_EVERY, Loss, Seen};
use dwcp_testbed::wan::{Bed, Links};
use dwcp_testbed::{Federation, HostPlan, Plan, RegionPlan, etcd_program, guest_image};
use dwcp_types::OnRegionLoss;

use super::latency::Latencies;
use super::wan::REGIONS;
use super::{Measurement, Options, Peer};

/// The region that is lost.
const LOST: &str = "eu-west-1";
const OBSERVER: &str = "us-east-1";
/// Guests in it: few, so that the time is ours, and the number that is promised.
const CROWDS: [usize; 2] = [2, 20];
/// Drills of each kind and crowd.
const DRILLS: usize = 3;
/// The ways to lose it.
const LOSSES: [(&str, Loss); 2] = [("power", Loss::Killed), ("lines", Loss::CutOff)];

/// Measures.
pub(super) fn measure(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    crate::programs::build()?;
    ensure!(etcd_program().is_some(), "etcd is missing: run `./dwcp test` once");
    let links = Links::of_federation(&crate::root()?.join("deploy/t1/federation.yaml"));
    let crowds = if options.quick { &CROWDS[..1] } else { &CROWDS };
    let drills = if options.quick { 1 } else { DRILLS };
    let mut measured = Vec::new();
    for crowd in crowds {
        let mut all = Sums::default();
        for (_, loss) in LOSSES {
            for _ in 0..drills {
                // One that fails has told on the way what it saw: it is a number, too.
                match catch_unwind(|| drill(&links, *crowd, loss)) {
                    Ok(seen) => all.add(&seen?),
                    Err(_) => all.failed += 1,
                }
            }
        }
        measured.extend(all.told(*crowd, drills));
    }
    Ok(measured)
}

fn drill(links: &Links, crowd: usize, loss: Loss) -> anyhow::Result<Seen> {
    let image = guest_image().context("there is no guest image, or no QEMU")?;
    let bed = Arc::new(Bed::new(&REGIONS, links).context("there is no WAN here")?);
    let slots = u64::try_from(crowd)?;
    let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(slots));
    let plan = Plan::qemu(REGIONS.iter().map(region).collect(), image);
    let vms: Vec<String> = (0..crowd).map(|number| format!("vm-{number}")).collect();
    Ok(bed.block_on(async {
        let plan = plan.behind(links).on_etcd();
        let mut federation = Federation::start_on(&bed, plan).await;
        let survives = OnRegionLoss::RestartFromImage;
        let observer = OBSERVER;
        let drill =
            Drill { region: LOST, loss, observer, survives, replica_max_age_s: None };
        let seen = drill.run(&mut federation, &bed, &vms).await;
        federation.end();
        seen
    }))
}

/// Of several drills.
#[derive(Default)]
struct Sums {
    dead: Latencies,
    owned: Latencies,
    ready: Latencies,
    placed: Latencies,
    /// How long its old guest was gone when a VM had its new owner.
    margin: Latencies,
    /// Drills that came to no end: a guest never said that it was up, for example.
    failed: u32,
}

impl Sums {
    fn add(&mut self, seen: &Seen) {
        seen.dead.into_iter().for_each(|it| self.dead.add(it));
        self.placed.add(seen.placed_in);
        for vm in seen.vms.values() {
            vm.owned.into_iter().for_each(|it| self.owned.add(it));
            vm.ready.into_iter().for_each(|it| self.ready.add(it));
            if let (Some(owned), Some(gone)) = (vm.owned, vm.old_gone) {
                self.margin.add(owned.saturating_sub(gone));
            }
        }
    }

    fn told(&mut self, crowd: usize, drills: usize) -> Vec<Measurement> {
        let of = |what: &str| {
            format!(
                "{what}; {crowd} protected guests in {LOST} behind T1's round trips, {drills} \
                 losses of its power and {drills} of its lines, looked at every {} ms from \
                 {OBSERVER}",
                LOOK_EVERY.as_millis()
            )
        };
        let one = |name: &str, all: &mut Latencies, percent, what: &str| Measurement {
            name: format!("failover.{crowd}_guests.{name}"),
            value: all.percentile_ms(percent) / 1e3,
            unit: "s",
            method: of(what),
            peer: None,
        };
        let ready = "from the loss until a guest said READY elsewhere";
        let owned = "until a new owner";
        let longest = Measurement {
            peer: Some(Peer {
                name: "placing as many with nothing lost, until READY".to_owned(),
                value: self.placed.percentile_ms(100) / 1e3,
            }),
            ..one("rto_max", &mut self.ready, 100, ready)
        };
        vec![
            Measurement {
                name: format!("failover.{crowd}_guests.failed"),
                value: self.failed.into(),
                unit: "drills",
                method: of("drills in which a VM did not come back"),
                peer: None,
            },
            one("dead_max", &mut self.dead, 100, "until it was said dead"),
            one("owned_p50", &mut self.owned, 50, owned),
            one("owned_max", &mut self.owned, 100, owned),
            one("rto_p50", &mut self.ready, 50, ready),
            one("rto_p99", &mut self.ready, 99, ready),
            longest,
            one(
                "fenced_before_min",
                &mut self.margin,
                0,
                "how long the old guest was gone when the VM had its new owner",
            ),
        ]
    }
}
