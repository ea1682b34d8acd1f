//! Real guests: they run, they outlive whoever manages them, and they end when told to.
//!
//! Needs QEMU and the guest image; says so and does nothing without them.

use dwcp_api::public::{Event, VmDetail};
use dwcp_testbed::{
    Ask, Federation, HostPlan, Plan, RegionPlan, guest_image, refusal, until,
};
use dwcp_types::{Power, VmPhase};

const VMS: [&str; 3] = ["vm-1", "vm-2", "vm-3"];

fn pid(vm: &VmDetail) -> u32 {
    vm.observed.as_ref().and_then(|seen| seen.pid).expect("a running guest has a process")
}

async fn pids(federation: &Federation) -> Vec<u32> {
    let mut pids = Vec::new();
    for vm in VMS {
        pids.push(pid(&federation.in_phase("engine", vm, VmPhase::Running).await));
    }
    pids
}

async fn console_says(federation: &Federation, vm: &str, what: &str) {
    let door = federation.at("engine");
    until(&format!("the console of {vm} says {what}"), || async {
        let console = door.console(vm).await.map_err(|error| error.to_string())?;
        if console.text.contains(what) { Ok(()) } else { Err(console.text) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_outlive_daemons_and_agents_and_end_when_told() {
    let Some(image) = guest_image() else { return };
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(8));
    let regions = ["engine", "real"].map(region).to_vec();
    let mut federation = Federation::start(Plan::qemu(regions, image).patient()).await;
    let door = federation.at("engine");
    for vm in VMS {
        door.place(&Ask::new(vm).only_in("real")).await.unwrap();
    }
    for vm in VMS {
        console_says(&federation, vm, &format!("READY {vm}")).await;
        console_says(&federation, vm, "tick").await;
    }
    let before = pids(&federation).await;
    let vm = door.vm("vm-1").await.unwrap();
    let seen = vm.observed.unwrap();
    assert_eq!((seen.asked.memory.get(), seen.given_memory.get()), (1_024, 96));

    for who in ["real", "real-h1"] {
        federation.process(who).crash_and_restart();
        federation.healthy().await;
        assert_eq!(pids(&federation).await, before, "after kill -9 of {who}");
        for vm in VMS {
            let console = door.console(vm).await.unwrap().text;
            assert_eq!(
                console.matches("READY").count(),
                1,
                "{vm} after {who}: {console}"
            );
        }
        assert_eq!(door.vms().await.unwrap().items.len(), VMS.len());
        federation.reserved("real", 3).await;
    }

    federation.kill_guest(before[0]);
    until("vm-1 runs in a new process", || async {
        let vm = door.vm("vm-1").await.map_err(|error| error.to_string())?;
        let seen = vm.observed.as_ref().ok_or("not seen")?;
        let other = seen.pid.is_some_and(|pid| pid != before[0]);
        if other && vm.item.phase == VmPhase::Running {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
    let now = pids(&federation).await;
    assert_eq!(now[1..], before[1..], "the others are not touched");

    door.want("vm-2", Power::Stopped).await.unwrap();
    federation.in_phase("engine", "vm-2", VmPhase::Stopped).await;
    until("its stop is among its events", || async {
        let events = door.events("vm-2").await.map_err(|error| error.to_string())?;
        let stopped = |event: &Event| event.what.contains("asked to shut down");
        if events.iter().any(stopped) { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    assert!(!federation.living().contains(&before[1]), "a stopped VM has no process");
    door.want("vm-2", Power::Running).await.unwrap();
    federation.in_phase("engine", "vm-2", VmPhase::Running).await;
    door.want("vm-3", Power::Paused).await.unwrap();
    federation.in_phase("engine", "vm-3", VmPhase::Paused).await;

    for vm in VMS {
        door.delete(vm).await.unwrap();
    }
    federation.nothing_reserved("real").await;
    let guests = federation.data("real-h1").join("guests");
    let left: Vec<_> = std::fs::read_dir(guests).unwrap().flatten().collect();
    assert!(left.is_empty(), "disks are left: {left:?}");
    for pid in now {
        assert!(!federation.living().contains(&pid), "process {pid} is left");
    }
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_named_and_the_vm_can_be_deleted() {
    let Some(image) = guest_image() else { return };
    let regions = vec![RegionPlan::new("real").host(HostPlan::of_slots(2))];
    let federation = Federation::start(Plan::qemu(regions, image).patient()).await;
    let door = federation.at("real");
    let placed = door.place(&Ask::new("vm-1").image("no-such-image")).await;
    if placed.is_err() {
        let refused = refusal(placed);
        assert!(refused.message.contains("no-such-image"), "{refused:?}");
    } else {
        let said = until("the failure is told", || async {
            let vm = door.vm("vm-1").await.map_err(|error| error.to_string())?;
            let error = vm.observed.and_then(|seen| seen.error);
            error.ok_or_else(|| format!("{:?}", vm.item.phase))
        })
        .await;
        assert!(said.contains("no-such-image"), "{said}");
        door.delete("vm-1").await.unwrap();
    }
    federation.nothing_reserved("real").await;
    federation.end();
}
