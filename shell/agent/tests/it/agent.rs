//! The agent's task with the simulated hypervisor: instructions, reports, restarts.

use std::sync::Arc;
use std::time::Duration;

use dwcp_agent::simulated::Simulated;
use dwcp_agent::{Agent, AgentHandle, Config, CopyRefused, Cursor, PutError, Store, api};
use dwcp_api::ErrorCode;
use dwcp_api::host::{ConsoleParams, CopyReport, HostReport, InForce, InstanceReport};
use dwcp_types::{CopyId, Epoch, Mib, Power, VmId, VmPhase};
use dwcp_vm::{CopyOrder, CopyPlace, GuestSpec, Instruction, Policy, Refused};

use crate::rig::{SmallDisk, config, instruction, until, vm};

struct Rig {
    agent: Agent,
    handle: AgentHandle,
    simulated: Arc<Simulated>,
}

fn open(config: &Config) -> Rig {
    let store = Store::open(&config.data_dir).unwrap();
    let simulated = Arc::new(Simulated::open(&config.data_dir, config.scale).unwrap());
    let hypervisor = Arc::clone(&simulated);
    let agent =
        Agent::with(config, store, (hypervisor, None), Policy::default()).unwrap();
    let handle = agent.handle();
    Rig { agent, handle, simulated }
}

fn order(epoch: u64, generation: u64, power: Power) -> Instruction {
    let wire = instruction(epoch, generation, power);
    let guest = GuestSpec { shape: wire.shape, ..GuestSpec::default() };
    Instruction { epoch: wire.epoch, generation: wire.generation, power, guest }
}

async fn report(handle: &AgentHandle) -> HostReport {
    handle.report(None, None, Duration::ZERO).await.unwrap()
}

async fn sees(handle: &AgentHandle, vm: &VmId, phase: VmPhase) -> InstanceReport {
    until(&format!("{vm} {phase:?}"), async || {
        let mut all = report(handle).await.changed.into_iter();
        all.find(|seen| seen.vm == *vm && seen.phase == phase)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_vm_lives_as_it_is_told_and_leaves_a_tombstone() {
    let folder = tempfile::tempdir().unwrap();
    let Rig { handle, agent: _agent, .. } = open(&config(folder.path(), "simulated"));
    let web = vm("web");
    let mut generation = 0;
    for (power, phase) in [
        (Power::Running, VmPhase::Running),
        (Power::Paused, VmPhase::Paused),
        (Power::Running, VmPhase::Running),
        (Power::Stopped, VmPhase::Stopped),
        (Power::Paused, VmPhase::Paused),
    ] {
        generation += 1;
        handle.put(web.clone(), order(1, generation, power)).await.unwrap();
        let seen = sees(&handle, &web, phase).await;
        assert_eq!((seen.power, seen.generation.get()), (power, generation));
        assert_eq!(seen.asked.memory, Mib::new(65_536));
        assert_eq!((seen.given_memory, seen.given_cpu), (Mib::new(96), 1));
    }
    let deleted = order(1, 9, Power::Deleted);
    handle.put(web.clone(), deleted.clone()).await.unwrap();
    until("it is gone", async || report(&handle).await.changed.is_empty().then_some(()))
        .await;
    assert!(!folder.path().join("guests/web").exists());
    assert!(handle.put(web.clone(), deleted).await.unwrap().repeated);
    let again = handle.put(web.clone(), order(1, 10, Power::Running)).await.unwrap_err();
    assert!(matches!(again, PutError::Refused(Refused::Deleted { .. })));
    handle.put(web.clone(), order(2, 1, Power::Running)).await.unwrap();
    sees(&handle, &web, VmPhase::Running).await;
}

#[tokio::test(start_paused = true)]
async fn an_older_owner_is_refused_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "simulated");
    let first = open(&config);
    let web = vm("web");
    first.handle.put(web.clone(), order(5, 2, Power::Running)).await.unwrap();
    first.handle.put(vm("old"), order(3, 1, Power::Deleted)).await.unwrap();
    sees(&first.handle, &web, VmPhase::Running).await;
    first.agent.stop().await;

    let second = open(&config);
    let params = dwcp_api::host::InstanceParams { vm: web.clone() };
    let body = instruction(4, 9, Power::Stopped);
    let refused = api::put_instance(&second.handle, params, body).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    let in_force: InForce = serde_json::from_value(refused.details.unwrap()).unwrap();
    assert_eq!((in_force.epoch.get(), in_force.generation.get()), (5, 2));
    let risen = second.handle.put(vm("old"), order(3, 2, Power::Running)).await;
    assert!(
        matches!(risen, Err(PutError::Refused(Refused::Deleted { .. }))),
        "{risen:?}"
    );
    sees(&second.handle, &web, VmPhase::Running).await;
}

#[tokio::test(start_paused = true)]
async fn guests_are_adopted_by_the_next_agent_and_strangers_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "simulated");
    let first = open(&config);
    first.handle.put(vm("web"), order(1, 1, Power::Running)).await.unwrap();
    first.handle.put(vm("lost"), order(1, 1, Power::Running)).await.unwrap();
    sees(&first.handle, &vm("web"), VmPhase::Running).await;
    sees(&first.handle, &vm("lost"), VmPhase::Running).await;
    first.agent.stop().await;
    drop(first.handle);
    std::fs::remove_file(folder.path().join("records/lost.json")).unwrap();

    let second = open(&config);
    let seen = sees(&second.handle, &vm("web"), VmPhase::Running).await;
    assert!(seen.events.iter().any(|event| event.what.starts_with("adopted")));
    assert!(!seen.events.iter().any(|event| event.what == "started"));
    assert_eq!(report(&second.handle).await.host.strangers, ["lost"]);
    second.handle.put(vm("lost"), order(2, 1, Power::Running)).await.unwrap();
    let adopted = sees(&second.handle, &vm("lost"), VmPhase::Running).await;
    assert!(!adopted.events.iter().any(|event| event.what == "started"));
    assert!(report(&second.handle).await.host.strangers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_dies_is_restarted_and_one_that_shuts_down_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let rig = open(&config(folder.path(), "simulated"));
    let web = vm("web");
    rig.handle.put(web.clone(), order(1, 1, Power::Running)).await.unwrap();
    sees(&rig.handle, &web, VmPhase::Running).await;
    rig.simulated.crash(&web);
    until("it is restarted", async || {
        let seen = sees(&rig.handle, &web, VmPhase::Running).await;
        (seen.restarts == 1).then_some(())
    })
    .await;
    rig.simulated.shut_down_inside(&web);
    let seen = sees(&rig.handle, &web, VmPhase::Stopped).await;
    assert!(seen.events.iter().any(|e| e.what.contains("shut itself down")));
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_wakes_on_news_and_tells_only_news() {
    let folder = tempfile::tempdir().unwrap();
    let Rig { handle, agent: _agent, .. } = open(&config(folder.path(), "simulated"));
    handle.put(vm("a"), order(1, 1, Power::Running)).await.unwrap();
    sees(&handle, &vm("a"), VmPhase::Running).await;
    let all = report(&handle).await;
    assert!(all.complete && !all.more);
    let own = Some(all.incarnation);
    let at = Some(Cursor { begun: all.begun, after: all.seq });
    let quiet = handle.report(own, at, Duration::from_secs(5)).await.unwrap();
    assert!(quiet.changed.is_empty() && !quiet.complete);
    let waiting = handle.report(own, at, Duration::from_secs(50));
    let putting = handle.put(vm("b"), order(1, 1, Power::Stopped));
    let (news, put) = tokio::join!(waiting, putting);
    put.unwrap();
    let changed: Vec<VmId> =
        news.unwrap().changed.into_iter().map(|seen| seen.vm).collect();
    assert_eq!(changed, [vm("b")]);
    let other = handle.report(Some(all.incarnation + 1), at, Duration::ZERO).await;
    assert!(other.unwrap().complete);
}

#[tokio::test]
async fn the_console_of_an_unknown_vm_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let Rig { handle, agent: _agent, .. } = open(&config(folder.path(), "simulated"));
    let params = ConsoleParams { vm: vm("nobody"), offset: None, limit: None };
    let error = api::read_console(&handle, params).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    assert!(error.message.contains("nobody"), "{error}");
}

#[tokio::test]
async fn two_agents_on_one_folder_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "simulated");
    let _first = open(&config);
    let second = Agent::open(&config).await.unwrap_err().to_string();
    assert!(second.contains("another agent"), "{second}");
}

#[tokio::test]
async fn a_full_disk_refuses_the_instruction_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        return println!("SKIPPED: no right to mount a small disk");
    };
    let Rig { handle, agent: _agent, .. } = open(&config(disk.path(), "simulated"));
    let web = vm("web");
    handle.put(web.clone(), order(1, 1, Power::Stopped)).await.unwrap();
    disk.fill();
    let refused = handle.put(web.clone(), order(2, 1, Power::Running)).await.unwrap_err();
    assert!(matches!(refused, PutError::NotKept { .. }), "{refused}");
    let unknown = handle.put(vm("new"), order(1, 1, Power::Running)).await.unwrap_err();
    assert!(matches!(unknown, PutError::NotKept { .. }), "{unknown}");
    let all = report(&handle).await;
    assert_eq!(all.changed.len(), 1);
    assert_eq!(all.changed[0].epoch.get(), 1, "the old instruction is in force");
    disk.make_room();
    handle.put(web.clone(), order(2, 1, Power::Running)).await.unwrap();
    sees(&handle, &web, VmPhase::Running).await;
}

/// Not timed: what must hold is that a page is never larger than its limit, that pages add up
/// to the inventory, and that no VM is left behind.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_simulated_vms_are_started_and_listed_in_pages() {
    const VMS: usize = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let Rig { handle, agent: _agent, .. } = open(&config(folder.path(), "simulated"));
    let putting = (0..VMS).map(|number| {
        let handle = handle.clone();
        async move {
            let name = vm(&format!("vm-{number}"));
            handle.put(name, order(1, 1, Power::Running)).await.unwrap();
        }
    });
    futures_util::future::join_all(putting).await;
    until("all run", async || {
        let mut running = std::collections::BTreeSet::new();
        let (mut incarnation, mut at) = (None, None);
        loop {
            let page = handle.report(incarnation, at, Duration::ZERO).await.unwrap();
            assert!(page.changed.len() <= 500);
            assert_eq!(page.complete, at.is_none());
            let here = page.changed.into_iter();
            running.extend(
                here.filter(|seen| seen.phase == VmPhase::Running).map(|seen| seen.vm),
            );
            incarnation = Some(page.incarnation);
            at = Some(Cursor { begun: page.begun, after: page.seq });
            if !page.more {
                break;
            }
        }
        (running.len() == VMS).then_some(())
    })
    .await;
}

/// A VM whose disk is copied to another region.
fn copied(generation: u64, power: Power) -> Instruction {
    let mut order = order(1, generation, power);
    order.guest.copied = true;
    order
}

fn copy_order(number: u32, relied_on: bool, placed: bool) -> CopyOrder {
    let to = CopyPlace { address: "192.0.2.1".into(), port: 9, name: "h.hv".into() };
    let copy = CopyId { epoch: Epoch::FIRST, number };
    CopyOrder { copy, relied_on, to: placed.then_some(to), round: None }
}

async fn copy_is(
    handle: &AgentHandle,
    vm: &VmId,
    what: &str,
    is: impl Fn(&CopyReport) -> bool,
) -> InstanceReport {
    until(what, async || {
        let mut all = report(handle).await.changed.into_iter();
        all.find(|seen| seen.vm == *vm && seen.copy.as_ref().is_some_and(&is))
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_copied_guest_runs_only_as_its_copy_allows() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "simulated");
    let Rig { handle, simulated, agent } = open(&config);
    let web = vm("web");
    handle.put(web.clone(), copied(1, Power::Running)).await.unwrap();
    // Nobody has said yet whether anybody relies on a copy.
    copy_is(&handle, &web, "it waits for an order", |copy| copy.held).await;
    handle.put_copy(web.clone(), copy_order(1, false, false)).await.unwrap();
    sees(&handle, &web, VmPhase::Running).await;
    handle.put_copy(web.clone(), copy_order(1, false, true)).await.unwrap();
    copy_is(&handle, &web, "its copy follows", |copy| copy.equal).await;
    handle.put_copy(web.clone(), copy_order(1, true, true)).await.unwrap();
    let withdrawn = handle.put_copy(web.clone(), copy_order(1, false, true)).await;
    assert!(matches!(withdrawn, Err(CopyRefused::Over { .. })), "{withdrawn:?}");
    let mut other = copy_order(1, false, true);
    other.copy.epoch = Epoch::new(2);
    let other = handle.put_copy(web.clone(), other).await;
    assert!(matches!(other, Err(CopyRefused::OtherEpoch { .. })), "{other:?}");

    simulated.crash(&web);
    let lost = copy_is(&handle, &web, "it is held back", |copy| copy.held && copy.lost);
    assert_ne!(lost.await.phase, VmPhase::Running);
    handle.put_copy(web.clone(), copy_order(2, false, true)).await.unwrap();
    sees(&handle, &web, VmPhase::Running).await;
    copy_is(&handle, &web, "the next copy follows", |copy| {
        copy.equal && copy.written == copy.ordered && !copy.held
    })
    .await;

    // The next agent finds it running, and does not begin the same copy a second time.
    agent.stop().await;
    drop(handle);
    let Rig { handle, agent: _agent, .. } = open(&config);
    sees(&handle, &web, VmPhase::Running).await;
    handle.put_copy(web.clone(), copy_order(2, false, true)).await.unwrap();
    copy_is(&handle, &web, "it is lost and stays so", |copy| copy.lost).await;
    handle.put(web.clone(), copied(2, Power::Deleted)).await.unwrap();
    until("it is gone", async || report(&handle).await.changed.is_empty().then_some(()))
        .await;
}
