//! A federation whose strong records are on etcd: its members are killed, and the federation goes
//! on as far as it can.
//!
//! | | a majority of members works | it does not |
//! |---|---|---|
//! | VMs, their consoles, adoption by a new daemon | go on | go on |
//! | lists, `vm describe`, dry runs | served | served, with their age |
//! | state: eventual, local, quorum; credit that was minted | served | served |
//! | state: strong reads and writes, mints | served | refused, with a remedy |
//! | placing, power, deleting | done | refused, with a remedy |
//!
//! When the member that leads dies, the others choose another; the home region's daemon brings
//! the leader home when its member is back.

use dwcp_api::state::{StateUpdate, WriteKey};
use dwcp_api::{ApiError, CallError, ErrorCode};
use dwcp_testbed::{
    Ask, Door, Federation, HostPlan, Plan, RegionPlan, content, etcd_program, refusal,
    set, until,
};
use dwcp_types::{Power, VmPhase};

const REGIONS: [&str; 3] = ["home", "middle", "far"];

/// Three regions with a member each; nothing where etcd is not installed.
async fn start() -> Option<Federation> {
    etcd_program()?;
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(16));
    let regions = REGIONS.map(region).to_vec();
    Some(Federation::start(Plan::simulated(regions).on_etcd()).await)
}

/// Places a VM, asking again under the same token until it is told.
async fn placed(federation: &Federation, at: &str, vm: &str, region: &str) {
    let door = federation.at(at);
    let ask = Ask::new(vm).only_in(region);
    until(&format!("{vm} is placed"), || door.place(&ask)).await;
    federation.in_phase(at, vm, VmPhase::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leading_member_is_killed_and_placing_goes_on_and_the_leader_comes_home() {
    let Some(mut federation) = start().await else { return };
    let middle = federation.at("middle");
    middle.led_from(&["home"]).await;
    let engine = middle.status().await.unwrap().engine;
    assert_eq!((engine.kind.as_str(), engine.leader_at_home), ("etcd", Some(true)));
    assert_eq!(engine.members.len(), 3);
    assert_eq!(engine.members[0].region.as_str(), "middle", "the nearest first");
    placed(&federation, "middle", "vm-1", "far").await;

    federation.process("etcd-home").kill_9();
    placed(&federation, "middle", "vm-2", "home").await;
    placed(&federation, "home", "vm-3", "middle").await;
    middle.led_from(&["middle", "far"]).await;

    federation.process("etcd-home").start();
    middle.led_from(&["home"]).await;
    placed(&federation, "far", "vm-4", "home").await;
    for at in REGIONS {
        let door = federation.at(at);
        until("every region lists each VM once", || async {
            let list = door.vms().await.map_err(|error| error.to_string())?.items;
            let names: Vec<_> = list.iter().map(|vm| vm.id.to_string()).collect();
            if names == ["vm-1", "vm-2", "vm-3", "vm-4"] {
                Ok(())
            } else {
                Err(format!("{names:?}"))
            }
        })
        .await;
    }
    for vm in ["vm-1", "vm-2", "vm-3", "vm-4"] {
        let console = middle.console(vm).await.unwrap().text;
        assert_eq!(console.matches("READY").count(), 1, "{vm} was started once");
    }
    federation.end();
}

/// Waits until a region says that no majority of the members works.
async fn leaderless(at: &Door, dead: usize) {
    until("the engine is seen to be away", || async {
        let engine = at.status().await.map_err(|error| error.to_string())?.engine;
        let away = engine.members.iter().filter(|member| !member.answers).count();
        if !engine.reachable && engine.leader.is_none() && away == dead {
            return Ok(());
        }
        Err(format!("{engine:?}"))
    })
    .await;
}

/// Refused, with what is to be done: nothing was changed, or whether it was is not known.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, CallError>) -> ApiError {
    let error = refusal(result);
    let wanted = [ErrorCode::Unavailable, ErrorCode::Indeterminate];
    assert!(wanted.contains(&error.code), "{error:?}");
    assert!(error.remedy.is_some(), "{error:?}");
    error
}

fn mint(amount: u64) -> WriteKey {
    WriteKey::of(StateUpdate::Mint { amount })
}

fn spend(amount: u64) -> WriteKey {
    WriteKey::of(StateUpdate::Spend { amount })
}

/// Writes, asking again under the same operation id until it is told: an election may be under
/// way.
async fn written(at: &Door, key: &str, mut write: WriteKey, round: &str) {
    write.op_id = Some(format!("test-{round}"));
    until(&format!("{key} is written"), || at.write(key, &write)).await;
}

/// What needs the engine; asked under other names each round, so that nothing is repeated.
async fn everything_strong_works(federation: &Federation, round: &str) {
    let [far, home] = ["far", "home"].map(|region| federation.at(region));
    let billing = format!("billing:{round}");
    written(&far, &billing, set(round), &format!("billing-{round}")).await;
    let read = until("it is read elsewhere", || home.read(&billing)).await;
    assert_eq!(read.value, content(round));
    written(&far, "quota:acme", mint(10), &format!("quota-{round}")).await;
    placed(federation, "far", &format!("vm-{round}"), "middle").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_die_one_by_one_and_what_needs_no_majority_goes_on() {
    let Some(mut federation) = start().await else { return };
    federation.connected(&REGIONS).await;
    let far = federation.at("far");
    placed(&federation, "middle", "vm-0", "far").await;
    everything_strong_works(&federation, "three").await;

    federation.process("etcd-home").kill_9();
    everything_strong_works(&federation, "two").await;

    federation.process("etcd-middle").kill_9();
    leaderless(&far, 2).await;
    what_needs_no_majority_goes_on(&federation).await;
    what_needs_a_majority_is_refused(&federation).await;

    // A daemon that starts now serves the state that is on its disk, and its VM never noticed.
    federation.process("far").kill_9();
    federation.process("far").start();
    until("far is back, without an engine", || far.read("cache:a")).await;
    federation.connected(&REGIONS).await;
    what_is_replicated_goes_on(&federation).await;
    refused(far.read("billing:two").await);

    federation.process("etcd-middle").start();
    federation.healthy().await;
    everything_strong_works(&federation, "again").await;
    assert_eq!(far.read("billing:three").await.unwrap().value, content("three"));
    far.want("vm-three", Power::Stopped).await.unwrap();
    federation.in_phase("home", "vm-three", VmPhase::Stopped).await;
    federation.reserved("far", 1).await;
    let console = far.console("vm-0").await.unwrap().text;
    assert_eq!(console.matches("READY").count(), 1, "vm-0 was not started again");

    federation.process("etcd-home").start();
    far.led_from(&["home"]).await;
    federation.end();
}

async fn what_needs_no_majority_goes_on(federation: &Federation) {
    let far = federation.at("far");
    what_is_replicated_goes_on(federation).await;
    // What runs goes on and is seen; the list is whole and says how old it is.
    until("the list is seen to age", || async {
        let list = far.vms().await.map_err(|error| error.to_string())?;
        assert_eq!(list.items.len(), 3, "the list is served whole");
        if list.age_ms > 1_500 { Ok(()) } else { Err(list.age_ms.to_string()) }
    })
    .await;
    for vm in ["vm-0", "vm-three", "vm-two"] {
        assert_eq!(far.vm(vm).await.unwrap().item.phase, VmPhase::Running, "{vm}");
        assert!(far.console(vm).await.unwrap().text.contains("READY"), "{vm}");
    }
    // Where it would go is explained, from the same view.
    let asked = far.place(&Ask::new("vm-asked").only_in("far").dry_run()).await;
    assert_eq!(
        asked.unwrap().explanation.decision.chosen.unwrap().region.as_str(),
        "far"
    );
}

/// The three levels below strong, between replicas that need no engine.
async fn what_is_replicated_goes_on(federation: &Federation) {
    let [far, home] = ["far", "home"].map(|region| federation.at(region));
    far.write("cache:a", &set("eventual")).await.unwrap();
    assert_eq!(far.read("cache:a").await.unwrap().value, content("eventual"));
    far.write("session:a", &set("local")).await.unwrap();
    assert_eq!(far.read("session:a").await.unwrap().value, content("local"));
    far.write("vm:config:a", &set("quorum")).await.unwrap();
    assert_eq!(home.read("vm:config:a").await.unwrap().value, content("quorum"));
    // Rights that were minted before are spent without asking anybody.
    far.write("quota:acme", &spend(1)).await.unwrap();
}

async fn what_needs_a_majority_is_refused(federation: &Federation) {
    let far = federation.at("far");
    refused(far.write("billing:a", &set("strong")).await);
    let read = refused(far.read("billing:two").await);
    for member in REGIONS {
        assert!(read.message.contains(&format!("etcd member {member}")), "{read:?}");
    }
    refused(far.write("quota:acme", &mint(1)).await);
    refused(far.place(&Ask::new("vm-refused").only_in("middle")).await);
    refused(far.want("vm-0", Power::Stopped).await);
    refused(far.delete("vm-0").await);
    // Nobody else does it either: the members decide, not the region that is asked.
    refused(federation.at("home").write("billing:a", &set("strong")).await);
}
