//! What every hypervisor must do. The suite knows nothing of the adapter: it opens one, walks
//! a guest through its life, and opens another one in the middle to see that the guest lives.

use std::path::Path;
use std::sync::Arc;

use dwcp_agent::hypervisor::{Hypervisor, HypervisorError};
use dwcp_agent::qemu::Qemu;
use dwcp_agent::simulated::Simulated;
use dwcp_types::{Gib, VmId};
use dwcp_vm::{GuestSpec, Monitor, Observation, Process, RunState, Storage};

use crate::rig::{Guests, config, missing, shape, until, vm};

const fn says(state: RunState) -> Process {
    Process::Alive(Monitor::Says(state))
}

async fn look(hypervisor: &dyn Hypervisor, vm: &VmId) -> Observation {
    hypervisor.observe(vm).await.observation
}

async fn comes_to(hypervisor: &dyn Hypervisor, vm: &VmId, process: Process) {
    until(&format!("{process:?}"), async || {
        (look(hypervisor, vm).await.process == process).then_some(())
    })
    .await;
}

async fn prints(hypervisor: &dyn Hypervisor, vm: &VmId, text: &str) {
    until(text, async || {
        let part = hypervisor.console(vm, None, 65_536).await.unwrap();
        String::from_utf8_lossy(&part.bytes).contains(text).then_some(())
    })
    .await;
}

/// Walks a guest through its life.
async fn conforms(open: impl AsyncFn() -> Arc<dyn Hypervisor>) {
    let first = open().await;
    let web = vm("web");
    let guest = GuestSpec { shape: shape(), ..GuestSpec::default() };
    nothing_is_there(first.as_ref(), &web, &guest).await;

    first.create_disk(&web, &guest).await.unwrap();
    first.create_disk(&web, &guest).await.unwrap();
    let made = Observation { storage: Storage::Ready, process: Process::Gone };
    assert_eq!(look(first.as_ref(), &web).await, made);
    assert_eq!(first.list().unwrap(), std::slice::from_ref(&web));
    assert!(matches!(first.resume(&web).await, Err(HypervisorError::NotRunning)));

    let mut changes = first.changes();
    first.start(&web, &guest, false).await.unwrap();
    let second_start = first.start(&web, &guest, false).await.unwrap_err();
    assert!(matches!(second_start, HypervisorError::AlreadyRunning { .. }));
    assert!(first.delete(&web).await.is_err(), "a living guest is not deleted");
    comes_to(first.as_ref(), &web, says(RunState::Running)).await;
    prints(first.as_ref(), &web, "READY web").await;
    positions_hold(first.as_ref(), &web).await;

    first.pause(&web).await.unwrap();
    first.pause(&web).await.unwrap();
    comes_to(first.as_ref(), &web, says(RunState::Paused)).await;
    let before = first.observe(&web).await;
    drop(first);

    let second = open().await;
    let seen = second.observe(&web).await;
    assert_eq!(seen.observation.process, Process::Alive(Monitor::Detached));
    assert_eq!(seen.pid, before.pid, "the same process");
    second.adopt(&web).await.unwrap();
    comes_to(second.as_ref(), &web, says(RunState::Paused)).await;
    second.resume(&web).await.unwrap();
    comes_to(second.as_ref(), &web, says(RunState::Running)).await;

    second.power_down(&web).await.unwrap();
    prints(second.as_ref(), &web, "POWERDOWN web").await;
    comes_to(second.as_ref(), &web, says(RunState::Shutdown)).await;
    second.kill(&web, true).await.unwrap();
    assert_eq!(look(second.as_ref(), &web).await, made);
    prints(second.as_ref(), &web, "POWERDOWN web").await;

    second.start(&web, &guest, true).await.unwrap();
    comes_to(second.as_ref(), &web, says(RunState::Prelaunch)).await;
    second.kill(&web, false).await.unwrap();
    second.kill(&web, false).await.unwrap();
    assert_eq!(look(second.as_ref(), &web).await, made);

    second.delete(&web).await.unwrap();
    second.delete(&web).await.unwrap();
    assert_eq!(look(second.as_ref(), &web).await, Observation::default());
    assert!(second.list().unwrap().is_empty());
    drop(changes.try_recv());
}

async fn nothing_is_there(hypervisor: &dyn Hypervisor, web: &VmId, guest: &GuestSpec) {
    assert_eq!(look(hypervisor, web).await, Observation::default());
    assert!(hypervisor.list().unwrap().is_empty());
    let start = hypervisor.start(web, guest, false).await.unwrap_err();
    assert!(matches!(start, HypervisorError::NoDisk), "{start}");
    assert!(hypervisor.pause(web).await.is_err());
    assert!(hypervisor.adopt(web).await.is_err());
    hypervisor.kill(web, true).await.unwrap();
    hypervisor.delete(web).await.unwrap();
    let mut huge = guest.clone();
    huge.shape.storage = Gib::new(u64::MAX);
    let refused = hypervisor.create_disk(web, &huge).await.unwrap_err();
    assert!(refused.told().contains("2 PiB"), "{}", refused.told());
    hypervisor.delete(web).await.unwrap();
}

/// Two halves are the whole, and the end has nothing more.
async fn positions_hold(hypervisor: &dyn Hypervisor, web: &VmId) {
    let read =
        async |offset, limit| hypervisor.console(web, offset, limit).await.unwrap();
    let whole = read(Some(0), 8).await;
    let (left, right) = (read(Some(0), 3).await, read(Some(3), 5).await);
    assert_eq!(whole.bytes.len(), 8);
    assert_eq!([left.bytes, right.bytes].concat(), whole.bytes);
    assert_eq!(right.offset, 3);
    assert!(read(Some(u64::MAX), 8).await.bytes.is_empty());
}

#[tokio::test]
async fn the_simulated_hypervisor_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "simulated");
    conforms(async || {
        Arc::new(Simulated::open(&config.data_dir, config.scale).unwrap())
            as Arc<dyn Hypervisor>
    })
    .await;
}

async fn open_qemu(data: &Path) -> Arc<dyn Hypervisor> {
    Arc::new(Qemu::open(&config(data, "qemu")).await.unwrap())
}

#[tokio::test]
async fn qemu_conforms() {
    if let Some(reason) = missing() {
        return println!("{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    // Deeper than a socket's address may be long.
    let data = folder.path().join("a,very deep folder ".repeat(6)).join("data");
    std::fs::create_dir_all(&data).unwrap();
    let _guests = Guests(data.clone());
    conforms(async || open_qemu(&data).await).await;
}

#[tokio::test]
async fn what_qemu_needs_and_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), "qemu");
    config.qemu = "/nowhere/qemu".to_owned();
    let error = Qemu::open(&config).await.unwrap_err().told();
    assert!(error.contains("apt-get install qemu-system-x86"), "{error}");

    config.qemu = "/bin/true".to_owned();
    let error = Qemu::open(&config).await.unwrap_err().told();
    assert!(error.contains("/bin/true is not QEMU"), "{error}");

    if let Some(reason) = missing() {
        return println!("{reason}");
    }
    config.qemu = "qemu-system-x86_64".to_owned();
    config.image_dir = folder.path().join("none");
    let error = Qemu::open(&config).await.unwrap_err().told();
    assert!(error.contains("guest/build.sh"), "{error}");
}
