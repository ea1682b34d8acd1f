//! A federation whose strong records are on etcd: its members are killed, and the federation goes
//! on as far as a majority of them does.

use dwcp_api::ErrorCode;
use dwcp_testbed::{
    Ask, Door, Federation, HostPlan, Plan, RegionPlan, etcd_program, refusal, until,
};
use dwcp_types::{RegionId, VmPhase};

/// Three regions with a member each; nothing where etcd is not installed.
async fn start() -> Option<Federation> {
    etcd_program()?;
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(16));
    let regions = ["home", "middle", "far"].map(region).to_vec();
    Some(Federation::start(Plan::simulated(regions).on_etcd()).await)
}

/// Waits until a region sees the leader in one of these regions.
async fn led_from(at: &Door, wanted: &[&str]) -> RegionId {
    until(&format!("the leader is in one of {wanted:?}"), || async {
        let engine = at.status().await.map_err(|error| error.to_string())?.engine;
        match &engine.leader {
            Some(leader) if wanted.contains(&leader.as_str()) => Ok(leader.clone()),
            _ => Err(format!("{engine:?}")),
        }
    })
    .await
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
    led_from(&middle, &["home"]).await;
    let engine = middle.status().await.unwrap().engine;
    assert_eq!((engine.kind.as_str(), engine.leader_at_home), ("etcd", Some(true)));
    assert_eq!(engine.members.len(), 3);
    assert_eq!(engine.members[0].region.as_str(), "middle", "the nearest first");
    placed(&federation, "middle", "vm-1", "far").await;

    federation.process("etcd-home").kill_9();
    placed(&federation, "middle", "vm-2", "home").await;
    placed(&federation, "home", "vm-3", "middle").await;
    led_from(&middle, &["middle", "far"]).await;

    federation.process("etcd-home").start();
    led_from(&middle, &["home"]).await;
    placed(&federation, "far", "vm-4", "home").await;
    for at in ["home", "middle", "far"] {
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

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_lists_are_served_with_their_age_and_nothing_is_placed() {
    let Some(mut federation) = start().await else { return };
    placed(&federation, "middle", "vm-1", "far").await;
    federation.in_phase("far", "vm-1", VmPhase::Running).await;
    for member in ["etcd-home", "etcd-middle"] {
        federation.process(member).kill_9();
    }
    let far = federation.at("far");
    until("the list is seen to age, and the engine to be away", || async {
        let list = far.vms().await.map_err(|error| error.to_string())?;
        assert_eq!(list.items.len(), 1, "the list is served whole");
        let engine = far.status().await.map_err(|error| error.to_string())?.engine;
        let away = engine.members.iter().filter(|member| !member.answers).count();
        if list.age_ms > 1_500
            && !engine.reachable
            && engine.leader.is_none()
            && away == 2
        {
            return Ok(());
        }
        Err(format!("{} ms, {engine:?}", list.age_ms))
    })
    .await;
    let refused = refusal(far.place(&Ask::new("vm-2").only_in("middle")).await);
    assert!(
        matches!(refused.code, ErrorCode::Unavailable | ErrorCode::Indeterminate),
        "{refused:?}"
    );
    // What runs goes on, and is seen to.
    assert!(far.console("vm-1").await.unwrap().text.contains("READY"));

    federation.process("etcd-middle").start();
    placed(&federation, "far", "vm-2", "middle").await;
    let list = until("both are listed", || async {
        let list = far.vms().await.map_err(|error| error.to_string())?;
        if list.items.len() == 2 && list.age_ms == 0 {
            Ok(list)
        } else {
            Err(format!("{list:?}"))
        }
    })
    .await;
    assert!(list.items.iter().all(|vm| vm.phase == VmPhase::Running), "{list:?}");
    federation.reserved("middle", 1).await;
    federation.process("etcd-home").start();
    led_from(&far, &["home"]).await;
    federation.end();
}
