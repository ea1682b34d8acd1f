//! A VM moves between regions: by the API of a daemon that is neither's, through crashes of
//! the daemon that drives it, and with a real guest.

use dwcp_api::migration::{
    AskMigration, CancelMigration, CreateMigration, GetMigration, MigrationItem,
    MigrationParams,
};
use dwcp_api::{ApiError, CallError, ErrorCode, NoParams};
use dwcp_controller::migration::{Cause, Outcome};
use dwcp_runtime::crash::CRASH_AT;
use dwcp_testbed::{
    Ask, Door, Federation, HostPlan, Plan, RegionPlan, guest_image, refusal, until,
};
use dwcp_types::{Epoch, MigrationId, RegionId, Timestamp, VmId, VmPhase};

const REGIONS: [&str; 3] = ["engine", "here", "there"];

fn plan() -> Vec<RegionPlan> {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(16));
    REGIONS.map(region).to_vec()
}

fn wish(vm: &str, target: &str) -> AskMigration {
    AskMigration {
        vm: VmId::new(vm).unwrap(),
        source: None,
        target: RegionId::new(target).unwrap(),
        cause: Cause::Rebalance,
        priority: None,
        downtime_ms_max: None,
        bandwidth_mbps: None,
        deadline: None,
        cold: false,
        dry_run: false,
    }
}

async fn ask(door: &Door, wish: &AskMigration) -> Result<MigrationItem, CallError> {
    let asked = door.call::<CreateMigration>(&NoParams {}, wish).await;
    asked.map(|reply| reply.migration)
}

async fn refused(door: &Door, wish: &AskMigration) -> ApiError {
    refusal(ask(door, wish).await)
}

/// Waits until a move is over.
async fn over(door: &Door, id: &MigrationId) -> MigrationItem {
    let params = MigrationParams { migration: id.clone() };
    until(&format!("move {id} is over"), || async {
        let item = door.call::<GetMigration>(&params, &()).await;
        let item = item.map_err(|error| error.to_string())?;
        if item.outcome.is_some() && item.ended_at.is_some() {
            Ok(item)
        } else {
            Err(format!("{item:?}"))
        }
    })
    .await
}

/// A VM that was placed in `here`.
async fn placed(federation: &Federation, vm: &str) {
    let ask = Ask::new(vm).only_in("here").only_in("there");
    // Both are alike: what goes to the other one is moved here first.
    let door = federation.at("engine");
    let placed = door.place(&ask).await.unwrap().vm.unwrap();
    federation.in_phase("engine", vm, VmPhase::Running).await;
    if placed.region.as_str() != "here" {
        let moved = ask_until_fresh(&door, &wish(vm, "here")).await;
        assert_eq!(over(&door, &moved).await.outcome, Some(Outcome::Moved));
        federation.in_phase("engine", vm, VmPhase::Running).await;
    }
}

async fn ask_until_fresh(door: &Door, wish: &AskMigration) -> MigrationId {
    until("the move is taken", || async {
        ask(door, wish).await.map(|item| item.id).map_err(|error| error.to_string())
    })
    .await
}

async fn is_at(federation: &Federation, vm: &str, region: &str) -> Epoch {
    let door = federation.at("engine");
    until(&format!("{vm} runs in {region}"), || async {
        let seen = door.vm(vm).await.map_err(|error| error.to_string())?;
        let runs = seen.item.phase == VmPhase::Running;
        let same = seen.item.region.as_str() == region;
        if runs && same { Ok(seen.item.epoch) } else { Err(format!("{:?}", seen.item)) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_moves_by_a_daemon_that_is_neithers_and_leaves_nothing_behind() {
    let federation = Federation::start(Plan::simulated(plan())).await;
    let door = federation.at("engine");
    placed(&federation, "vm-1").await;
    let before = is_at(&federation, "vm-1", "here").await;
    federation.reserved("here", 1).await;

    let dry = AskMigration { dry_run: true, ..wish("vm-1", "there") };
    let dry = door.call::<CreateMigration>(&NoParams {}, &dry).await.unwrap();
    assert!(dry.dry_run && dry.migration.foretold_ms.is_some());

    let moved = ask(&door, &wish("vm-1", "there")).await.unwrap();
    let end = over(&door, &moved.id).await;
    assert_eq!(end.outcome, Some(Outcome::Moved), "{end:?}");
    assert!(end.downtime_ms.is_some(), "{end:?}");
    assert_eq!(is_at(&federation, "vm-1", "there").await, before.next());
    federation.reserved("there", 1).await;
    federation.nothing_reserved("here").await;
    let guest = federation.data("here-h1").join("guests/vm-1");
    assert!(!guest.exists(), "nothing is left at the source");

    for (wish, code, says) in [
        (wish("vm-1", "there"), ErrorCode::Conflict, "already"),
        (wish("vm-1", "nowhere"), ErrorCode::NotFound, "no region"),
        (wish("vm-2", "here"), ErrorCode::NotFound, "vm-2"),
        (wish("vm-1", "engine"), ErrorCode::Refused, "does not take"),
        (
            AskMigration { cold: true, ..wish("vm-1", "here") },
            ErrorCode::Conflict,
            "cold",
        ),
        (
            AskMigration {
                deadline: Some(Timestamp::from_millis(1)),
                ..wish("vm-1", "here")
            },
            ErrorCode::Invalid,
            "past",
        ),
        (
            AskMigration { downtime_ms_max: Some(1), ..wish("vm-1", "here") },
            ErrorCode::Refused,
            "deciding alone",
        ),
    ] {
        let told = refused(&door, &wish).await;
        assert_eq!(told.code, code, "{told:?}");
        assert!(told.message.contains(says), "{told:?}");
        assert!(told.remedy.is_some(), "{told:?}");
    }
    let params = MigrationParams { migration: moved.id.clone() };
    let late = refusal(door.call::<CancelMigration>(&params, &()).await);
    assert_eq!(late.code, ErrorCode::Conflict);
    federation.end();
}

/// The daemon that drives a move dies at every step of it; its next life ends the move.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_at_any_step_of_a_move_ends_it_in_its_next_life() {
    let mut federation = Federation::start(Plan::simulated(plan())).await;
    let steps = [
        "move-after-reserve",
        "move-after-listen",
        "move-after-begin",
        "move-before-commit",
        "move-after-commit",
    ];
    for step in steps {
        placed(&federation, step).await;
    }
    federation.reserved("here", 5).await;
    let mut moved = 0;
    for step in steps {
        federation.process("there").kill_9();
        federation.process("there").start_with(&[(CRASH_AT, step)]);
        federation.healthy().await;
        let door = federation.at("engine");
        let before = is_at(&federation, step, "here").await;
        let asked = ask_until_fresh(&door, &wish(step, "there")).await;
        drop(federation.process("there").ended().await);
        federation.process("there").start();
        let end = over(&door, &asked).await;
        let at_target = end.outcome == Some(Outcome::Moved);
        let region = if at_target { "there" } else { "here" };
        let epoch = is_at(&federation, step, region).await;
        assert_eq!(epoch > before, at_target, "{step}: {end:?}");
        moved += u64::from(at_target);
    }
    assert!(moved >= 2, "after the promise it is brought to its end");
    federation.reserved("there", moved).await;
    federation.reserved("here", 5 - moved).await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_guest_moves_between_regions_and_counts_on() {
    let Some(image) = guest_image() else { return };
    let federation = Federation::start(Plan::qemu(plan(), image)).await;
    let door = federation.at("engine");
    placed(&federation, "vm-1").await;
    let says = async |what: &str| {
        until(&format!("the console says {what}"), || async {
            let console = door.console("vm-1").await.map_err(|e| e.to_string())?.text;
            if console.contains(what) { Ok(console) } else { Err(console) }
        })
        .await
    };
    says("tick 2").await;
    let before = is_at(&federation, "vm-1", "here").await;
    let moved = ask(&door, &wish("vm-1", "there")).await.unwrap();
    let end = over(&door, &moved.id).await;
    assert_eq!(end.outcome, Some(Outcome::Moved), "{end:?}");
    println!("foretold {:?} ms, halted {:?} ms", end.foretold_ms, end.downtime_ms);
    assert_eq!(is_at(&federation, "vm-1", "there").await, before.next());
    let console = says("tick").await;
    assert!(!console.contains("READY"), "it did not boot again: {console}");
    assert!(!federation.data("here-h1").join("guests/vm-1").exists());
    federation.nothing_reserved("here").await;
    federation.end();
}
