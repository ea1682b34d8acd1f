//! `bench failover`: a region is lost with its guests, by power or by its lines, behind the round
//! trips of T1, and the guests themselves say when they are up elsewhere (RELIABILITY R1). Needs
//! root, QEMU and etcd.
//!
//! What the machine takes for as many guests with nothing lost is told beside it, from the same
//! drill: on two cores without KVM most of the time is theirs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use dwcp_testbed::drill::{Drill, LOOK_EVERY, Loss, Seen};
use dwcp_testbed::wan::{Bed, Links};
use dwcp_testbed::{Federation, HostPlan, Plan, RegionPlan, etcd_program, guest_image};

use super::{Measurement, Options, Peer, federation};

/// The regions of T1; the engine's leader belongs in the first.
const REGIONS: [&str; 5] =
    ["us-east-1", "eu-west-1", "ap-south-1", "sa-east-1", "au-southeast-1"];
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
    federation::build()?;
    ensure!(etcd_program().is_some(), "etcd is missing: run `./dwcp test` once");
    let links = Links::of_federation(&crate::root()?.join("deploy/t1/federation.yaml"));
    let crowds = if options.quick { &CROWDS[..1] } else { &CROWDS };
    let drills = if options.quick { 1 } else { DRILLS };
    let mut measured = Vec::new();
    for crowd in crowds {
        let mut all = Sums::default();
        for (_, loss) in LOSSES {
            for _ in 0..drills {
                all.add(drill(&links, *crowd, loss)?);
            }
        }
        measured.extend(all.told(*crowd, drills));
    }
    Ok(measured)
}

fn drill(links: &Links, crowd: usize, loss: Loss) -> anyhow::Result<(Seen, Duration)> {
    let image = guest_image().context("there is no guest image, or no QEMU")?;
    let bed = Arc::new(Bed::new(&REGIONS, links).context("there is no WAN here")?);
    let slots = u64::try_from(crowd)?;
    let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(slots));
    let plan = Plan::qemu(REGIONS.iter().map(region).collect(), image);
    let vms: Vec<String> = (0..crowd).map(|number| format!("vm-{number}")).collect();
    Ok(bed.block_on(async {
        let plan = plan.behind(links).on_etcd();
        let mut federation = Federation::start_on(&bed, plan).await;
        let drill = Drill { region: LOST, loss, observer: OBSERVER };
        let seen = drill.run(&mut federation, &bed, &vms).await;
        federation.end();
        seen
    }))
}

/// Of several drills, in seconds.
#[derive(Default)]
struct Sums {
    dead: Vec<f64>,
    owned: Vec<f64>,
    ready: Vec<f64>,
    placed: Vec<f64>,
    /// How long its old guest was gone when a VM had its new owner.
    margin: Vec<f64>,
}

impl Sums {
    fn add(&mut self, (seen, placed): (Seen, Duration)) {
        self.dead.extend(seen.dead.map(|it| it.as_secs_f64()));
        self.placed.push(placed.as_secs_f64());
        for vm in seen.vms.values() {
            self.owned.extend(vm.owned.map(|it| it.as_secs_f64()));
            self.ready.extend(vm.ready.map(|it| it.as_secs_f64()));
            if let (Some(owned), Some(gone)) = (vm.owned, vm.old_gone) {
                self.margin.push(owned.as_secs_f64() - gone.as_secs_f64());
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
        let one = |name: &str, value, method| Measurement {
            name: format!("failover.{crowd}_guests.{name}"),
            value,
            unit: "s",
            method,
            peer: None,
        };
        let ready = "from the loss until a guest said READY elsewhere";
        let longest = Measurement {
            peer: Some(Peer {
                name: "placing as many with nothing lost, until READY".to_owned(),
                value: percentile(&mut self.placed, 100),
            }),
            ..one("rto_max", percentile(&mut self.ready, 100), of(ready))
        };
        vec![
            one(
                "dead_max",
                percentile(&mut self.dead, 100),
                of("until it was said dead"),
            ),
            one("owned_p50", percentile(&mut self.owned, 50), of("until a new owner")),
            one("owned_max", percentile(&mut self.owned, 100), of("until a new owner")),
            one("rto_p50", percentile(&mut self.ready, 50), of(ready)),
            one("rto_p99", percentile(&mut self.ready, 99), of(ready)),
            longest,
            one(
                "fenced_before_min",
                percentile(&mut self.margin, 0),
                of("how long the old guest was gone when the VM had its new owner"),
            ),
        ]
    }
}

/// The smallest value that so many of a hundred do not exceed.
fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let mut values = [3.0, 1.0, 2.0, 4.0];
        let found = [0, 50, 99, 100].map(|percent| percentile(&mut values, percent));
        assert_eq!(
            found.map(|it| it.to_bits()),
            [1.0_f64, 2.0, 4.0, 4.0].map(f64::to_bits)
        );
    }
}
