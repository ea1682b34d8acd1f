//! A region with real guests is lost behind the WAN: its protected VMs are up elsewhere by
//! themselves, once. How fast is measured by `cargo xtask bench failover`.

use std::sync::Arc;

use dwcp_controller::failover::Outcome;
use dwcp_controller::ownership::Proof;
use dwcp_testbed::drill::{Drill, Loss};
use dwcp_testbed::wan::Bed;
use dwcp_testbed::{
    Ask, Federation, HostPlan, Plan, RegionPlan, etcd_program, guest_image, until,
};
use dwcp_types::{Epoch, OnRegionLoss, VmPhase};

/// Where the engine's leader belongs.
const HOME: &str = "us-east-1";
const OTHER: &str = "eu-west-1";
/// In each of these a protected VM stays out of all of it.
const BYSTANDERS: [&str; 3] = ["sa-east-1", "ap-south-1", "au-southeast-1"];

#[test]
fn a_region_without_power_is_failed_over_by_itself() {
    lose(OTHER, Loss::Killed, HOME);
}

/// How long leases last here: three times as long as by default. The choice of another leader has
/// six seconds by default, which is enough on a machine that is on time; this one also builds.
const LEASE_S: u64 = 24;

/// No lease is renewed anywhere until the engine has another leader.
#[test]
fn the_region_of_the_engines_leader_is_failed_over_and_no_other_guest_ends_for_it() {
    lose(HOME, Loss::Killed, OTHER);
}

/// Nothing in the region died: its guests must be ended by its own agent before they run
/// elsewhere, and are not started again when the lines are back.
#[test]
fn a_region_that_is_cut_off_ends_its_guests_before_they_run_elsewhere() {
    lose(OTHER, Loss::CutOff, HOME);
}

fn lose(lost: &str, loss: Loss, observer: &str) {
    let links = crate::t1();
    let regions = [&[HOME, OTHER][..], &BYSTANDERS].concat();
    let Some(image) = guest_image().filter(|_| etcd_program().is_some()) else { return };
    let Some(bed) = Bed::new(&regions, &links) else { return };
    let bed = Arc::new(bed);
    bed.block_on(async {
        let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(4));
        let plan = Plan::qemu(regions.iter().map(region).collect(), image);
        let mut federation =
            Federation::start_on(&bed, plan.behind(&links).on_etcd().leased_for(LEASE_S))
                .await;
        let mut others = Vec::new();
        for region in BYSTANDERS {
            let vm = format!("vm-in-{region}");
            federation.place_in(region, &[Ask::new(&vm).protected()]).await;
            others.push((process_of(&federation, observer, &vm).await, vm));
        }
        federation.at(observer).led_from(&[HOME]).await;
        let survives = OnRegionLoss::RestartFromImage;
        let drill =
            Drill { region: lost, loss, observer, survives, replica_max_age_s: None };
        let vms = ["vm-one".to_owned(), "vm-two".to_owned()];
        let seen = drill.run(&mut federation, &bed, &vms).await;
        let log = seen.log.expect("a failover leaves its log");
        assert_eq!(log.region.as_str(), lost);
        assert!(matches!(log.proof, Some(Proof::LeaseLapsed { .. })), "{log:?}");
        if loss == Loss::CutOff {
            bed.heal_all();
            federation.healthy().await;
        }
        for vm in &vms {
            let it = federation.in_phase(observer, vm, VmPhase::Running).await.item;
            assert_ne!(it.region.as_str(), lost);
            assert_eq!(it.epoch, Epoch::FIRST.past_moves());
        }
        until("the failover is over", || async {
            let over = federation.newest_failover(observer).await;
            match over {
                Some(log)
                    if log.ended.is_some_and(|it| it.outcome == Outcome::Recovered) =>
                {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        for (process, vm) in others {
            assert_eq!(process_of(&federation, observer, &vm).await, process, "{vm}");
        }
        federation.end();
    });
}

async fn process_of(federation: &Federation, at: &str, vm: &str) -> u32 {
    let detail = federation.in_phase(at, vm, VmPhase::Running).await;
    detail.observed.and_then(|seen| seen.pid).expect("a real guest has a process")
}
