//! A disk that is full while a VM is being committed.
//!
//! The data of one daemon is put on a small file system of its own, which needs root; without
//! it the reason is printed and there is nothing to do.

use std::path::Path;

use dwcp_api::{CallError, ErrorCode};
use dwcp_testbed::{Ask, Federation, HostPlan, Plan, RegionPlan, SmallDisk, until};
use dwcp_types::VmPhase;

/// Large enough for a daemon's empty data, small enough to be filled by some placements.
const SIZE_MIB: u32 = 16;
/// Placements until a full disk must have been noticed: their records would fill the journal of
/// the local store, 2 MiB that it has from the start, and nothing more is free.
const PLACEMENTS_MAX: usize = 3_500;

fn small(at: &Path) -> Option<SmallDisk> {
    let made = SmallDisk::over(at, SIZE_MIB);
    made.map_err(|error| eprintln!("skipped: {error}")).ok()
}

async fn survives_a_full_disk_of(full: &str) {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(4_000));
    let plan = Plan::simulated(["engine", "owner"].map(region).to_vec());
    let mut federation = Federation::prepare(plan);
    let Some(small) = small(&federation.data(full)) else { return };
    for who in ["engine", "engine-h1", "owner", "owner-h1"] {
        federation.process(who).start();
    }
    federation.healthy().await;
    let door = federation.at("engine");
    door.place(&Ask::new("before").only_in("owner")).await.unwrap();

    small.fill();
    let mut acknowledged = vec!["before".to_owned()];
    let mut refused = None;
    for n in 0..PLACEMENTS_MAX {
        let name = format!("vm-{n}");
        match door.place(&Ask::new(&name).only_in("owner")).await {
            Ok(_) => acknowledged.push(name),
            Err(error) => {
                refused = Some((name, error));
                break;
            }
        }
    }
    let (name, error) = refused.expect("a full disk is noticed");
    let CallError::Api(error) = error else { panic!("no answer: {error}") };
    assert!(
        matches!(
            error.code,
            ErrorCode::Unavailable | ErrorCode::Indeterminate | ErrorCode::Refused
        ),
        "{error:?}"
    );
    assert!(error.remedy.is_some(), "{error:?}");
    let told = format!("{} {}", error.message, error.remedy.unwrap_or_default());
    assert!(told.contains("space"), "{told}");

    small.empty();
    let ask = Ask::new(&name).only_in("owner");
    until("it is placed when there is space again", || door.place(&ask)).await;
    acknowledged.push(name);
    // Whatever was acknowledged is there, also after both daemons were killed.
    for who in ["engine", "owner"] {
        federation.process(who).crash_and_restart();
    }
    federation.healthy().await;
    for name in &acknowledged {
        federation.in_phase("engine", name, VmPhase::Running).await;
    }
    federation.reserved("owner", u64::try_from(acknowledged.len()).unwrap()).await;
    federation.end();
    drop(small);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_owner_refuses_and_loses_nothing() {
    survives_a_full_disk_of("owner").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_engine_refuses_and_loses_nothing() {
    survives_a_full_disk_of("engine").await;
}
