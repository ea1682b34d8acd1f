//! The line between source and target is cut while the rest of a real guest is on it: in the
//! moment between the promise of the source and the commit, and right after the commit.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::NoParams;
use dwcp_api::migration::{CancelMigration, CreateMigration, MigrationParams};
use dwcp_controller::migration::{Outcome, Step};
use dwcp_testbed::wan::{Bed, Links, Shape};
use dwcp_testbed::{
    Ask, Federation, HostPlan, Plan, RegionPlan, guest_image, until, wish,
};
use dwcp_types::{MigrationId, VmPhase};

const REGIONS: [&str; 3] = ["engine", "here", "there"];

/// A guest of 128 MiB, half of which is nothing, is on this line for seconds.
fn narrow() -> Links {
    let line = Shape::delay(Duration::from_millis(20)).rate_mbps(100);
    let wire = Shape::delay(Duration::from_millis(5));
    Links::wires()
        .both("here", "there", line)
        .both("engine", "here", wire)
        .both("engine", "there", wire)
}

async fn counts_beyond(federation: &Federation, region: &str, tick: Option<u64>) {
    until("it counts on", || async {
        let now = federation.last_tick(region, "vm-1");
        if now > tick { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

/// Places `vm-1` in `here` and moves it to `there`, whose daemon dies at a step; the line
/// between both is cut then. Its process before, and the move.
async fn cut_at(
    federation: &mut Federation,
    bed: &Bed,
    step: &str,
) -> (u32, MigrationId) {
    federation.place_in("here", &[Ask::new("vm-1")]).await;
    counts_beyond(federation, "here", Some(1)).await;
    federation.dies_at("there", step).await;
    let door = federation.at("engine");
    let before = door.is_in("vm-1", &["here"], VmPhase::Running).await;
    let wish = wish("vm-1", "there");
    let asked = until("the move is taken", || async {
        let asked = door.call::<CreateMigration>(&NoParams {}, &wish).await;
        asked.map_err(|error| error.to_string())
    })
    .await;
    drop(federation.process("there").ended().await);
    bed.cut("here", "there");
    let process = before.observed.and_then(|seen| seen.pid);
    (process.expect("a real guest has a process"), asked.migration.id)
}

/// The bed, and the federation that is to run on it.
fn bed() -> Option<(Arc<Bed>, Plan)> {
    let image = guest_image()?;
    let links = narrow();
    let bed = Bed::new(&REGIONS, &links)?;
    let region = |id: &&str| RegionPlan::new(id).host(HostPlan::of_slots(4));
    let plan = Plan::qemu(REGIONS.iter().map(region).collect(), image);
    Some((Arc::new(bed), plan.behind(&links).patient()))
}

/// The daemon that drives the move is there again, and then the line.
async fn heal(federation: &mut Federation, bed: &Bed) {
    federation.process("there").start();
    let door = federation.at("there");
    until("it serves again", || door.vms()).await;
    bed.heal_all();
}

/// The source has promised, halted its guest and sends the rest; nobody commits. Called off
/// while the line is cut it runs on where it was, in the same process, although the target has had
/// much of it.
#[test]
fn a_move_that_is_called_off_while_its_line_is_cut_leaves_the_guest_where_it_was() {
    let Some((bed, plan)) = bed() else { return };
    bed.block_on(async {
        let mut federation = Federation::start_on(&bed, plan).await;
        let (process, id) = cut_at(&mut federation, &bed, "move-before-commit").await;
        let door = federation.at("engine");
        let params = MigrationParams { migration: id.clone() };
        let off = door.call::<CancelMigration>(&params, &()).await.unwrap();
        assert_eq!(off.step, Step::Abandoning, "{off:?}");
        let halted = federation.last_tick("here", "vm-1");
        heal(&mut federation, &bed).await;
        let end = door.move_is_over(&id).await;
        assert_eq!(end.outcome, Some(Outcome::Cancelled), "{end:?}");
        counts_beyond(&federation, "here", halted).await;
        let after = door.is_in("vm-1", &["here"], VmPhase::Running).await;
        assert_eq!(after.observed.and_then(|seen| seen.pid), Some(process));
        assert_eq!(federation.last_tick("there", "vm-1"), None, "it never ran there");
        assert!(!federation.data("there-h1").join("guests/vm-1").exists());
        federation.nothing_reserved("there").await;
        federation.end();
    });
}

/// The target owns the guest, the rest of which is on the line that is cut: it arrives with its
/// memory when the line is back.
#[test]
fn a_guest_whose_line_is_cut_after_the_commit_arrives_when_it_is_back() {
    let Some((bed, plan)) = bed() else { return };
    bed.block_on(async {
        let mut federation = Federation::start_on(&bed, plan).await;
        let (_, id) = cut_at(&mut federation, &bed, "move-after-commit").await;
        let door = federation.at("engine");
        let halted = federation.last_tick("here", "vm-1");
        heal(&mut federation, &bed).await;
        let end = door.move_is_over(&id).await;
        assert_eq!(end.outcome, Some(Outcome::Moved), "{end:?}");
        counts_beyond(&federation, "there", halted).await;
        door.is_in("vm-1", &["there"], VmPhase::Running).await;
        let said = federation.said("there", "vm-1").concat();
        assert!(!said.contains("READY"), "it did not boot again: {said}");
        assert!(!federation.data("here-h1").join("guests/vm-1").exists());
        federation.nothing_reserved("here").await;
        federation.end();
    });
}
