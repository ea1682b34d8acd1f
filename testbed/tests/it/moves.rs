//! A VM moves between regions: by the API of a daemon that is neither's, through crashes of
//! the daemon that drives it, and with a real guest.

use dwcp_api::failover::{PostFailover, StartFailover};
use dwcp_api::migration::{
    AskMigration, CancelMigration, CreateMigration, ListMigrations, MigrationFilter,
    MigrationItem, MigrationParams,
};
use dwcp_api::public::{EnableRegion, RegionParams, SetEnabled};
use dwcp_api::{ApiError, CallError, ErrorCode, NoParams};
use dwcp_controller::migration::Outcome;
use dwcp_runtime::crash::CRASH_AT;
use dwcp_testbed::{
    Ask, Door, Federation, HostPlan, Plan, RegionPlan, arguments_of, guest_image,
    refusal, until, wish,
};
use dwcp_types::{Epoch, MigrationId, Power, RegionId, Timestamp, VmPhase};

const REGIONS: [&str; 3] = ["engine", "here", "there"];

pub(crate) fn plan() -> Vec<RegionPlan> {
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(16));
    REGIONS.map(region).to_vec()
}

async fn ask(door: &Door, wish: &AskMigration) -> Result<MigrationItem, CallError> {
    let asked = door.call::<CreateMigration>(&NoParams {}, wish).await;
    asked.map(|reply| reply.migration)
}

async fn refused(door: &Door, wish: &AskMigration) -> ApiError {
    refusal(ask(door, wish).await)
}

/// A VM that was placed in `here`.
async fn placed(federation: &Federation, vm: &str) {
    placed_as(federation, &Ask::new(vm)).await;
}

pub(crate) async fn placed_as(federation: &Federation, ask: &Ask) {
    let ask = ask.clone().only_in("here").only_in("there");
    let vm = ask.body().request.id.to_string();
    let vm = vm.as_str();
    // Both are alike: what goes to the other one is moved here first.
    let door = federation.at("engine");
    let placed = until("it is placed", || door.place(&ask)).await.vm.unwrap();
    federation.in_phase("engine", vm, VmPhase::Running).await;
    if placed.region.as_str() != "here" {
        let moved = ask_until_fresh(&door, &wish(vm, "here")).await;
        assert_eq!(door.move_is_over(&moved).await.outcome, Some(Outcome::Moved));
        federation.in_phase("engine", vm, VmPhase::Running).await;
    }
}

/// Asks for a move until the daemon that is asked has heard of the VM.
pub(crate) async fn ask_until_fresh(door: &Door, wish: &AskMigration) -> MigrationId {
    until("the move is taken", || async {
        ask(door, wish).await.map(|item| item.id).map_err(|error| error.to_string())
    })
    .await
}

pub(crate) async fn is_at(federation: &Federation, vm: &str, region: &str) -> Epoch {
    federation.at("engine").is_in(vm, &[region], VmPhase::Running).await.item.epoch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_moves_by_a_daemon_that_is_neithers_and_leaves_nothing_behind() {
    let federation = Federation::start(Plan::simulated(plan()).patient()).await;
    let door = federation.at("engine");
    placed(&federation, "vm-1").await;
    let before = is_at(&federation, "vm-1", "here").await;
    federation.reserved("here", 1).await;

    let dry = AskMigration { dry_run: true, ..wish("vm-1", "there") };
    let dry = door.call::<CreateMigration>(&NoParams {}, &dry).await.unwrap();
    assert!(dry.dry_run && dry.migration.foretold_ms.is_some());

    let moved = ask(&door, &wish("vm-1", "there")).await.unwrap();
    let end = door.move_is_over(&moved.id).await;
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

/// A move of `vm-1` whose driver died at this step, and the epoch that the VM had.
pub(crate) async fn stopped_at(
    federation: &mut Federation,
    step: &str,
) -> (MigrationId, Epoch) {
    let before = is_at(federation, "vm-1", "here").await;
    federation.dies_at("there", step).await;
    let asked = ask_until_fresh(&federation.at("engine"), &wish("vm-1", "there")).await;
    drop(federation.process("there").ended().await);
    (asked, before)
}

/// A move of the VM with the step's name, in which a process dies at that step. Says whether
/// the VM moved: there it is under a later epoch, or here under the one it had.
async fn dies_in_a_move(federation: &mut Federation, who: &str, step: &str) -> bool {
    placed(federation, step).await;
    federation.dies_at(who, step).await;
    let door = federation.at("engine");
    let before = is_at(federation, step, "here").await;
    let asked = ask_until_fresh(&door, &wish(step, "there")).await;
    drop(federation.process(who).ended().await);
    federation.process(who).start();
    let end = door.move_is_over(&asked).await;
    let moved = end.outcome == Some(Outcome::Moved);
    let (at, other) = if moved { ("there", "here") } else { ("here", "there") };
    let epoch = is_at(federation, step, at).await;
    assert_eq!(epoch > before, moved, "{step}: {end:?}");
    let left = federation.data(&format!("{other}-h1")).join("guests").join(step);
    assert!(!left.exists(), "{step}: something is left in {other}");
    let console = door.console(step).await.unwrap().text;
    assert!(console.matches("READY").count() <= 1, "{step} ran on: {console}");
    moved
}

/// All of these, and in the end each VM's capacity is held once.
async fn walk(who: &str, steps: &[&str], moved_min: u64) {
    let mut federation = Federation::start(Plan::simulated(plan()).patient()).await;
    let mut moved = 0;
    for step in steps {
        moved += u64::from(dies_in_a_move(&mut federation, who, step).await);
    }
    assert!(moved >= moved_min, "after the promise it is brought to its end: {moved}");
    let all = u64::try_from(steps.len()).unwrap();
    federation.reserved("there", moved).await;
    federation.reserved("here", all - moved).await;
    federation.end();
}

/// The daemon that drives a move dies at every step of it; its next life ends the move.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_at_any_step_of_a_move_ends_it_in_its_next_life() {
    let steps = [
        "move-after-reserve",
        "move-after-listen",
        "move-after-begin",
        "move-before-commit",
        "move-after-commit",
        "move-after-arrival",
        "move-after-clean-source",
    ];
    walk("there", &steps, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_of_the_source_may_die_while_it_lets_go() {
    walk("here", &["move-after-let-go"], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_of_either_side_may_die_in_the_middle_of_a_move() {
    let source = ["move-after-mirror", "move-after-send", "move-after-end-mirror"];
    walk("here-h1", &source, 0).await;
    let target = ["move-after-wait", "move-before-cont", "move-after-cont"];
    walk("there-h1", &target, 2).await;
}

/// The move stands still at a step, because its driver is dead, and the source's daemon dies
/// too; both come back, and it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn both_daemons_may_die_in_the_middle_of_a_move() {
    let mut federation = Federation::start(Plan::simulated(plan()).patient()).await;
    for step in ["move-after-begin", "move-after-commit"] {
        placed(&federation, step).await;
        federation.dies_at("there", step).await;
        let door = federation.at("engine");
        let asked = ask_until_fresh(&door, &wish(step, "there")).await;
        drop(federation.process("there").ended().await);
        federation.process("here").kill_9();
        federation.process("there").start();
        federation.process("here").start();
        let end = door.move_is_over(&asked).await;
        assert_eq!(end.outcome, Some(Outcome::Moved), "{step}: {end:?}");
        is_at(&federation, step, "there").await;
    }
    federation.reserved("there", 2).await;
    federation.nothing_reserved("here").await;
    federation.end();
}

/// A move is called off while its driver is dead, and the driver dies again while it undoes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_called_off_is_undone_by_whichever_life_of_its_driver() {
    let mut federation = Federation::start(Plan::simulated(plan()).patient()).await;
    placed(&federation, "vm-1").await;
    let (asked, before) = stopped_at(&mut federation, "move-after-begin").await;
    let door = federation.at("engine");

    let twice = refused(&door, &wish("vm-1", "there")).await;
    assert_eq!(twice.code, ErrorCode::Conflict);
    assert!(twice.message.contains("moving already"), "{twice:?}");
    assert!(twice.remedy.unwrap().contains("migrate cancel"));

    let params = MigrationParams { migration: asked.clone() };
    for _ in 0..2 {
        door.call::<CancelMigration>(&params, &()).await.unwrap();
    }
    federation.process("there").start_with(&[(CRASH_AT, "move-after-undo")]);
    drop(federation.process("there").ended().await);
    federation.process("there").start();
    let end = door.move_is_over(&asked).await;
    assert_eq!(end.outcome, Some(Outcome::Cancelled), "{end:?}");
    assert_eq!(is_at(&federation, "vm-1", "here").await, before);
    federation.healthy().await;
    federation.nothing_reserved("there").await;
    federation.reserved("here", 1).await;
    assert!(!federation.data("there-h1").join("guests/vm-1").exists());

    // Nothing keeps it from moving now.
    let again = ask_until_fresh(&door, &wish("vm-1", "there")).await;
    assert_eq!(door.move_is_over(&again).await.outcome, Some(Outcome::Moved));
    federation.end();
}

fn rescue(dry_run: bool) -> StartFailover {
    StartFailover {
        from_region: RegionId::new("there").unwrap(),
        to_regions: None,
        reason: "lost".to_owned(),
        even_if_alive: false,
        accept_data_loss: false,
        hosts_off: None,
        dry_run,
        require_approval: None,
    }
}

/// The target's region is lost after it owns the VM, and is failed over to a third one: that
/// one has the VM, and nothing is left of it where it came from nor where it was to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_whose_target_is_failed_over_leaves_one_guest_and_ends() {
    let mut federation = Federation::start(Plan::simulated(plan()).patient()).await;
    placed_as(&federation, &Ask::new("vm-1").protected().only_in("engine")).await;
    let (asked, before) = stopped_at(&mut federation, "move-after-commit").await;
    let door = federation.at("engine");
    federation.process("there-h1").kill_9();
    let params = RegionParams { region: RegionId::new("here").unwrap() };
    let off = SetEnabled { enabled: false };
    door.call::<EnableRegion>(&params, &off).await.unwrap();
    until("the VM would go to the third region", || async {
        let planned = door.call::<PostFailover>(&NoParams {}, &rescue(true)).await;
        let plan = planned.map_err(|error| error.to_string())?.plan;
        let to = plan.moves.iter().flat_map(|it| &it.to);
        let to: Vec<_> = to.map(|it| it.region.as_str()).collect();
        if to == ["engine"] { Ok(()) } else { Err(format!("{to:?}")) }
    })
    .await;
    until("the lost region is failed over", || async {
        let begun = door.call::<PostFailover>(&NoParams {}, &rescue(false)).await;
        begun.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let epoch = is_at(&federation, "vm-1", "engine").await;
    assert_eq!(epoch, before.next().past_moves());
    federation.process("there-h1").start();
    federation.process("there").start();
    let end = door.move_is_over(&asked).await;
    assert_eq!(end.outcome, Some(Outcome::Failed), "{end:?}");
    for region in ["here", "there"] {
        federation.nothing_reserved(region).await;
        let left = federation.data(&format!("{region}-h1")).join("guests/vm-1");
        assert!(!left.exists(), "nothing is left in {region}");
    }
    federation.reserved("engine", 1).await;
    assert_eq!(is_at(&federation, "vm-1", "engine").await, epoch);
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_is_off_moves_cold_and_starts_at_its_target() {
    let federation = Federation::start(Plan::simulated(plan()).patient()).await;
    let door = federation.at("engine");
    placed(&federation, "vm-1").await;
    door.want("vm-1", Power::Stopped).await.unwrap();
    federation.in_phase("engine", "vm-1", VmPhase::Stopped).await;
    let live = refused(&door, &wish("vm-1", "there")).await;
    assert_eq!(live.code, ErrorCode::Conflict);
    assert!(live.message.contains("--cold"), "{live:?}");

    let cold = AskMigration { cold: true, ..wish("vm-1", "there") };
    let asked = ask_until_fresh(&door, &cold).await;
    let end = door.move_is_over(&asked).await;
    assert_eq!(end.outcome, Some(Outcome::Moved), "{end:?}");
    door.want("vm-1", Power::Running).await.unwrap();
    is_at(&federation, "vm-1", "there").await;
    federation.reserved("there", 1).await;
    federation.nothing_reserved("here").await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_disabled_or_full_or_against_the_law_is_refused_with_what_to_do()
{
    let mut regions = plan();
    regions.push(RegionPlan::new("full").host(HostPlan::of_slots(1)));
    let federation = Federation::start(Plan::simulated(regions).patient()).await;
    let door = federation.at("engine");
    door.place(&Ask::new("vm-fills").only_in("full")).await.unwrap();
    let anywhere = Ask::new("vm-1").only_in("here").only_in("there").only_in("full");
    door.place(&anywhere).await.unwrap();
    let at = federation.in_phase("engine", "vm-1", VmPhase::Running).await;
    let other = if at.item.region.as_str() == "here" { "there" } else { "here" };

    let params = RegionParams { region: RegionId::new(other).unwrap() };
    let off = SetEnabled { enabled: false };
    door.call::<EnableRegion>(&params, &off).await.unwrap();
    until("the disabled region is refused", || async {
        let told = refused(&door, &wish("vm-1", other)).await;
        let remedy = told.remedy.clone().unwrap_or_default();
        let is_told = told.message.contains("disabled") && remedy.contains("enable");
        if is_told { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    let full = refused(&door, &wish("vm-1", "full")).await;
    assert_eq!(full.code, ErrorCode::Refused);
    assert!(full.message.contains("does not take"), "{full:?}");
    assert!(full.remedy.unwrap().contains("explain"));
    let law = refused(&door, &wish("vm-1", "engine")).await;
    assert_eq!(law.code, ErrorCode::Refused, "{law:?}");
    assert!(law.remedy.is_some());
    let elsewhere = AskMigration {
        source: Some(RegionId::new("engine").unwrap()),
        ..wish("vm-1", "full")
    };
    let elsewhere = refused(&door, &elsewhere).await;
    assert_eq!(elsewhere.code, ErrorCode::Conflict);
    assert!(elsewhere.remedy.unwrap().contains("--source"));
    assert!(
        door.call::<ListMigrations>(&MigrationFilter::default(), &())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    federation.end();
}

/// Several are asked for at once: they go by urgency, two from a host at a time, and all arrive.
#[tokio::test(flavor = "multi_thread")]
async fn moves_that_wait_go_by_urgency_and_all_arrive() {
    let mut federation = Federation::start(Plan::simulated(plan()).patient()).await;
    let vms = ["vm-1", "vm-2", "vm-3", "vm-4"];
    for vm in vms {
        placed(&federation, vm).await;
    }
    federation.process("there").kill_9();
    let door = federation.at("engine");
    let mut asked = Vec::new();
    for (vm, priority) in vms.into_iter().zip([1, 9, 5, 7]) {
        let wish = AskMigration { priority: Some(priority), ..wish(vm, "there") };
        asked.push(ask_until_fresh(&door, &wish).await);
    }
    until("each that waits has its wave", || async {
        let listed = door.call::<ListMigrations>(&MigrationFilter::default(), &()).await;
        let listed = listed.map_err(|error| error.to_string())?;
        let waves: Vec<_> =
            listed.items.iter().map(|it| (it.vm.as_str(), it.wave)).collect();
        let wanted =
            [("vm-2", Some(1)), ("vm-4", Some(1)), ("vm-3", Some(2)), ("vm-1", Some(2))];
        if waves == wanted { Ok(()) } else { Err(format!("{waves:?}")) }
    })
    .await;
    // Its daemon comes back before its host does: a move waits for that, too.
    federation.process("there-h1").kill_9();
    federation.process("there").start();
    until("a move that has its turn is held up", || {
        let is_told = federation.process("there").log().contains("a move is held up");
        async move { is_told.then_some(()).ok_or("none is") }
    })
    .await;
    federation.process("there-h1").start();
    for id in &asked {
        let end = door.move_is_over(id).await;
        assert_eq!(end.outcome, Some(Outcome::Moved), "{end:?}");
    }
    for vm in vms {
        is_at(&federation, vm, "there").await;
    }
    federation.healthy().await;
    federation.reserved("there", 4).await;
    federation.nothing_reserved("here").await;
    federation.end();
}

/// Its host's agent dies with what had come of it, and then the target owns it: the source has it
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_whose_agent_dies_before_the_guest_has_come_gives_it_back() {
    let mut federation = Federation::start(Plan::simulated(plan()).patient()).await;
    placed(&federation, "vm-1").await;
    let (asked, before) = stopped_at(&mut federation, "move-before-commit").await;
    let door = federation.at("engine");
    federation.process("there-h1").kill_9();
    federation.process("there-h1").start();
    federation.process("there").start();
    let end = door.move_is_over(&asked).await;
    assert_eq!(end.outcome, Some(Outcome::Failed), "{end:?}");
    assert_eq!(is_at(&federation, "vm-1", "here").await, before.next().next());
    federation.nothing_reserved("there").await;
    federation.end();
}

/// What a guest's console says, once it says this.
pub(crate) async fn says(door: &Door, vm: &str, what: &str) -> String {
    until(&format!("the console of {vm} says {what}"), || async {
        let console = door.console(vm).await.map_err(|e| e.to_string())?.text;
        if console.contains(what) { Ok(console) } else { Err(console) }
    })
    .await
}

/// How far a guest has counted, as its console shows.
fn ticks(console: &str) -> u64 {
    let numbers = console.lines().filter_map(|line| line.trim().strip_prefix("tick "));
    numbers.filter_map(|number| number.parse().ok()).max().unwrap_or_default()
}

async fn counts_beyond(door: &Door, vm: &str, tick: u64) -> String {
    until(&format!("{vm} counts beyond {tick}"), || async {
        let console = door.console(vm).await.map_err(|e| e.to_string())?.text;
        if ticks(&console) > tick { Ok(console) } else { Err(console) }
    })
    .await
}

async fn pid(door: &Door, vm: &str) -> u32 {
    until(&format!("{vm} has a process"), || async {
        let seen = door.vm(vm).await.map_err(|error| error.to_string())?;
        seen.observed.and_then(|seen| seen.pid).ok_or("none yet").map_err(str::to_owned)
    })
    .await
}

/// Moves a real guest, which keeps its memory: it counts on and did not boot again.
async fn counts_on_after_a_move(federation: &Federation, ask: &Ask) {
    let door = federation.at("engine");
    let vm = ask.body().request.id.to_string();
    placed_as(federation, ask).await;
    let counted = ticks(&says(&door, &vm, "tick 2").await);
    let before = is_at(federation, &vm, "here").await;
    let moved = ask_until_fresh(&door, &wish(&vm, "there")).await;
    let end = door.move_is_over(&moved).await;
    assert_eq!(end.outcome, Some(Outcome::Moved), "{end:?}");
    assert!(end.foretold_ms.is_some() && end.downtime_ms.is_some(), "{end:?}");
    assert_eq!(is_at(federation, &vm, "there").await, before.next());
    let console = counts_beyond(&door, &vm, counted).await;
    assert!(!console.contains("READY"), "it did not boot again: {console}");
    assert!(!federation.data("here-h1").join("guests").join(&vm).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_guest_moves_between_regions_and_counts_on() {
    let Some(image) = guest_image() else { return };
    let federation = Federation::start(Plan::qemu(plan(), image).patient()).await;
    counts_on_after_a_move(&federation, &Ask::new("vm-1")).await;
    federation.nothing_reserved("here").await;
    federation.end();
}

/// It is bound to its region's lease: in between no grant names it at either side.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_protected_guest_moves_between_regions_and_counts_on() {
    let Some(image) = guest_image() else { return };
    let federation = Federation::start(Plan::qemu(plan(), image).patient()).await;
    counts_on_after_a_move(&federation, &Ask::new("vm-1").protected()).await;
    federation.nothing_reserved("here").await;
    federation.end();
}

/// Ends the process in which the target's host waits for the guest.
fn kill_what_came(federation: &Federation) {
    let folder = federation.data("there-h1").join("guests").display().to_string();
    let waits = |pid: &u32| arguments_of(*pid).contains(&folder);
    let waiting: Vec<u32> = federation.living().into_iter().filter(waits).collect();
    assert_eq!(waiting.len(), 1, "one waits: {waiting:?}");
    federation.kill_guest(waiting[0]);
}

/// The target owns the VM and loses what came of the guest before it ran there. The source has
/// kept it halted all the while, though no grant names it, and lets it go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_protected_guest_that_its_target_loses_runs_on_at_its_source() {
    let Some(image) = guest_image() else { return };
    let mut federation = Federation::start(Plan::qemu(plan(), image).patient()).await;
    placed_as(&federation, &Ask::new("vm-1").protected()).await;
    let door = federation.at("engine");
    let before = is_at(&federation, "vm-1", "here").await;
    let process = pid(&door, "vm-1").await;
    federation.dies_at("there", "move-after-commit").await;
    let asked = ask_until_fresh(&door, &wish("vm-1", "there")).await;
    drop(federation.process("there").ended().await);

    federation.process("there-h1").kill_9();
    kill_what_came(&federation);
    federation.process("there-h1").start();
    for step in ["move-after-take-back", "move-after-clean-target"] {
        federation.process("there").start_with(&[(CRASH_AT, step)]);
        drop(federation.process("there").ended().await);
    }
    federation.process("there").start();
    let end = door.move_is_over(&asked).await;
    assert_eq!(end.outcome, Some(Outcome::Failed), "{end:?}");
    assert_eq!(is_at(&federation, "vm-1", "here").await, before.next().next());
    assert_eq!(pid(&door, "vm-1").await, process, "it is the same process");
    let counted = ticks(&door.console("vm-1").await.unwrap().text);
    counts_beyond(&door, "vm-1", counted).await;
    assert!(!federation.data("there-h1").join("guests/vm-1").exists());
    federation.healthy().await;
    federation.nothing_reserved("there").await;
    federation.reserved("here", 1).await;
    federation.end();
}
