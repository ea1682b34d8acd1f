//! Copies disks of QEMU's guests to another host: at the source a mirror job that holds each
//! write until both disks have it, at the other end a `qemu-storage-daemon` for each copy that
//! passes every write on to its file before it answers (HYPERVISOR.md section 3, measured on
//! 7.2: without `writethrough` a crash of both ends lost all acknowledged writes).
//!
//! A copy's name is the name of its export, its job and its files. So a writer that another has
//! followed finds no export, and a restarted agent finds everything again from the names. While
//! the connection is cut the writes of the guest wait (`reconnect-delay`), they do not go on
//! without the copy: that is decided by the region, and told by ending the copy.
//!
//! What follows later is another job at the source ([`round`]), and at the other end a disk on
//! top of the last whole one, which becomes one with it once it is whole itself ([`whole`]).

mod fork;
mod round;
mod whole;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dwcp_api::host::StandbyBody;
use dwcp_types::{CopyId, Epoch, Timestamp, VmId};
use dwcp_vm::{CopyOrder, CopyPlace, CopySight, Storage, launch};
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::sleep;

use super::mover::{OPEN_SECONDS, PRIORITY, attempt, inet};
use super::process;
use super::qmp::Client;
use super::{
    QUIT_LIMIT, Qemu, find_program, make_folder, private_file, remove_stale, said, text,
};
use crate::copier::Copier;
use crate::hypervisor::{Done, HypervisorError};
use crate::standby::STANDBYS;
use crate::trial::TRIALS;

const PROGRAM: &str = "qemu-storage-daemon";
/// Names inside QEMU.
const TLS: &str = "copy-tls";
const TARGET: &str = "copy-target";
/// How long writes wait for a connection that is gone: until the region decides.
const RECONNECT_SECONDS: u32 = 86_400;
/// The storage daemon opens one file.
const SERVE_LIMIT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// The writer, and the writer that takes its place while its connection is not seen gone yet.
const CONNECTIONS_MAX: u32 = 2;

/// The name of a copy's export, job and files.
fn name_of(copy: CopyId) -> String {
    format!("copy-{copy}")
}

fn copy_of(name: &str) -> Option<CopyId> {
    let (epoch, number) = name.strip_prefix("copy-")?.split_once('-')?;
    Some(CopyId { epoch: Epoch::new(epoch.parse().ok()?), number: number.parse().ok()? })
}

/// The files of one copy.
struct Files {
    disk: PathBuf,
    pid: PathBuf,
    port: PathBuf,
    log: PathBuf,
    /// The socket's name in the folder: a whole path may be too long for one.
    monitor: String,
}

impl Files {
    fn of(folder: &Path, copy: CopyId) -> Self {
        let name = name_of(copy);
        let file = |suffix: &str| folder.join(format!("{name}.{suffix}"));
        Self {
            disk: file("qcow2"),
            pid: file("pid"),
            port: file("port"),
            log: file("log"),
            monitor: format!("{name}.sock"),
        }
    }

    fn socket(&self) -> PathBuf {
        self.pid.with_file_name(&self.monitor)
    }
}

/// The copies of which anything is in a folder.
fn copies_in(folder: &Path) -> Vec<CopyId> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let stems = entries.flatten().map(|entry| entry.path());
    let mut copies: Vec<_> = stems
        .filter_map(|path| copy_of(path.file_stem().and_then(OsStr::to_str)?))
        .collect();
    copies.sort_unstable();
    copies.dedup();
    copies
}

impl Qemu {
    fn standby_folder(&self, vm: &VmId) -> PathBuf {
        self.data.join(STANDBYS).join(vm.as_str())
    }

    async fn begin(
        &self,
        vm: &VmId,
        order: &CopyOrder,
        to: &CopyPlace,
    ) -> Result<(), HypervisorError> {
        let client = self.connect(vm).await?;
        // What an agent left that was killed in between.
        attempt(&client, "blockdev-del", json!({ "node-name": TARGET })).await?;
        self.reach(&client, order.copy, to, RECONNECT_SECONDS).await?;
        // `top`: the copy's disk is new and reads as zeros. On an error of the copy's own disk
        // the job stands still and the guest is halted, until the region has decided.
        let mirror = json!({
            "job-id": name_of(order.copy), "device": "disk", "target": TARGET,
            "sync": "top", "copy-mode": "write-blocking", "on-target-error": "stop",
        });
        client.execute::<Value>("blockdev-mirror", mirror).await?;
        Ok(())
    }

    /// Opens the way to where a copy is kept. Writes to it wait so long for a connection that is
    /// gone, and then fail.
    async fn reach(
        &self,
        client: &Client,
        copy: CopyId,
        to: &CopyPlace,
        reconnect_s: u32,
    ) -> Result<(), HypervisorError> {
        self.credentials(client, TLS, "client").await?;
        let mut server = inet(&to.address, to.port);
        server["type"] = "inet".into();
        let node = json!({
            "driver": "nbd", "node-name": TARGET, "server": server,
            "export": name_of(copy), "tls-creds": TLS, "tls-hostname": to.name,
            "open-timeout": OPEN_SECONDS, "reconnect-delay": reconnect_s,
        });
        client.execute::<Value>("blockdev-add", node).await?;
        Ok(())
    }

    async fn keep(&self, vm: &VmId, order: &StandbyBody) -> Result<u16, HypervisorError> {
        let folder = self.standby_folder(vm);
        make_folder(&folder)?;
        for copy in copies_in(&folder) {
            let files = Files::of(&folder, copy);
            if copy != order.copy {
                shut(&files).await?;
            }
        }
        if let (Some(whole), Some(_)) = (order.whole, order.round) {
            self.make_one(&folder, whole).await?;
        }
        for copy in copies_in(&folder) {
            if copy != order.copy && Some(copy) != order.whole {
                remove(&Files::of(&folder, copy))?;
            }
        }
        let files = Files::of(&folder, order.copy);
        if process::of_pid_file(&files.pid).is_some()
            && let Some(port) = read_port(&files)
        {
            return Ok(port);
        }
        if !files.disk.is_file() {
            // Its door was open once, so it had writes: an empty disk would pass for it.
            if order.exists || files.port.exists() {
                return Err(HypervisorError::NoCopy { copy: order.copy });
            }
            whole::make(&folder, &files.disk, order)?;
        }
        self.serve(vm, order, &files).await
    }

    /// Starts the storage daemon on the port that it had, where its writer looks for it, or at
    /// first on any that is free.
    async fn serve(
        &self,
        vm: &VmId,
        order: &StandbyBody,
        files: &Files,
    ) -> Result<u16, HypervisorError> {
        let program = find_program(PROGRAM).ok_or_else(|| {
            HypervisorError::QemuMissing { program: PROGRAM.to_owned() }
        })?;
        let door = self.door()?;
        let ports: Vec<u16> =
            read_port(files).map_or_else(|| door.ports(vm).collect(), |port| vec![port]);
        for port in ports {
            let arguments = self.arguments(order, files, port)?;
            match start(&program, &arguments, files).await {
                Ok(()) => {
                    let kept = fs::write(&files.port, port.to_string());
                    kept.map_err(|source| HypervisorError::File {
                        what: "write",
                        path: files.port.clone(),
                        source,
                    })?;
                    return Ok(port);
                }
                Err(HypervisorError::Launch { reason })
                    if reason.contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        Err(HypervisorError::NoPort)
    }

    fn arguments(
        &self,
        order: &StandbyBody,
        files: &Files,
        port: u16,
    ) -> Result<Vec<String>, HypervisorError> {
        let door = self.door()?;
        let server = json!({
            "addr": { "type": "inet", "host": door.address().to_string(),
                      "port": port.to_string() },
            "tls-creds": "tls", "tls-authz": "writer", "max-connections": CONNECTIONS_MAX,
        });
        let disks = whole::disks(&files.disk)?;
        let mut parts = vec![
            (
                "--object",
                json!({
                    "qom-type": "tls-creds-x509", "id": "tls", "dir": door.folder(),
                    "endpoint": "server", "verify-peer": true, "priority": PRIORITY,
                }),
            ),
            (
                "--object",
                json!({
                    "qom-type": "authz-simple", "id": "writer", "identity": order.from,
                }),
            ),
        ];
        parts.extend(disks.into_iter().map(|disk| ("--blockdev", disk)));
        parts.push(("--nbd-server", server));
        parts.push((
            "--export",
            json!({
                "type": "nbd", "id": "copy", "node-name": whole::TOP,
                "name": name_of(order.copy), "writable": true, "writethrough": true,
            }),
        ));
        let mut arguments = flags(parts);
        arguments.extend(watched(files)?);
        Ok(arguments)
    }

    async fn drop_all(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let folder = self.standby_folder(vm);
        for copy in copies_in(&folder) {
            shut(&Files::of(&folder, copy)).await?;
        }
        whole::stop(&folder).await?;
        super::remove_folder(&folder)
    }

    async fn shut_all(&self) -> Result<(), HypervisorError> {
        // What an agent was about to start when it ended has no pid file yet, guests included.
        let folders = [STANDBYS, super::GUESTS, TRIALS].map(|name| self.data.join(name));
        let all = process::told_below(&folders);
        // One that cannot be ended keeps none of the others.
        let ended = join_all(all.into_iter().map(end)).await;
        ended.into_iter().collect()
    }

    async fn take(&self, vm: &VmId, copy: CopyId) -> Result<(), HypervisorError> {
        if self.storage(vm) != Storage::Ready {
            let folder = self.standby_folder(vm);
            for kept in copies_in(&folder) {
                shut(&Files::of(&folder, kept)).await?;
            }
            let from = Files::of(&folder, copy).disk;
            if !from.is_file() {
                return Err(HypervisorError::NoCopy { copy });
            }
            self.make_one(&folder, copy).await?;
            let guest = self.folder(vm);
            make_folder(&guest)?;
            let disk = guest.join(launch::file::DISK);
            let moved = fs::rename(&from, &disk).and_then(|()| {
                fs::File::open(&guest)?.sync_all()?;
                fs::File::open(&folder)?.sync_all()
            });
            moved.map_err(|source| HypervisorError::File {
                what: "move the copy to",
                path: disk,
                source,
            })?;
        }
        self.drop_all(vm).await
    }
}

/// The command line of a storage daemon.
fn flags(parts: Vec<(&str, Value)>) -> Vec<String> {
    let both = |(flag, value): (&str, Value)| [flag.to_owned(), value.to_string()];
    parts.into_iter().flat_map(both).collect()
}

/// How a storage daemon is told of its monitor, and to write its pid file.
fn watched(files: &Files) -> Result<[String; 6], HypervisorError> {
    let monitor = format!("socket,id=m,path={},server=on,wait=off", files.monitor);
    let pid = text(&files.pid)?;
    let told = ["--chardev", &monitor, "--monitor", "chardev=m", "--pidfile", pid];
    Ok(told.map(str::to_owned))
}

fn read_port(files: &Files) -> Option<u16> {
    fs::read_to_string(&files.port).ok()?.trim().parse().ok()
}

/// Starts a storage daemon in a session of its own, and waits until its door is open: the pid
/// file is the last thing that it makes.
async fn start(
    program: &Path,
    arguments: &[String],
    files: &Files,
) -> Result<(), HypervisorError> {
    remove_stale(&files.socket())?;
    let child = Command::new("setsid")
        .arg(program)
        .args(arguments)
        .current_dir(files.pid.parent().unwrap_or_else(|| Path::new("/")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(private_file(&files.log, false)?)
        .spawn()
        .map_err(|error| HypervisorError::Launch {
            reason: format!("setsid (package util-linux) failed: {error}"),
        })?;
    let open = async {
        while process::of_pid_file(&files.pid).is_none() {
            sleep(LOOK_AGAIN).await;
        }
    };
    let late = "its door was not open within 10 s";
    let started = process::ready(child, open, (SERVE_LIMIT, late)).await;
    let mut child = started.map_err(|ended| {
        let reason = format!("{PROGRAM}: {ended}: {}", said(&files.log));
        HypervisorError::Launch { reason }
    })?;
    tokio::spawn(async move { drop(child.wait().await) });
    Ok(())
}

/// Ends the storage daemon of a copy, if there is one.
async fn shut(files: &Files) -> Result<(), HypervisorError> {
    match process::of_pid_file(&files.pid) {
        Some(process) => end(process).await,
        None => Ok(()),
    }
}

/// Ends a storage daemon: it closes its file, and is killed when it does not.
async fn end(process: process::Process) -> Result<(), HypervisorError> {
    process.terminate();
    if process.gone_within(QUIT_LIMIT).await {
        return Ok(());
    }
    process.end().await
}

fn remove(files: &Files) -> Result<(), HypervisorError> {
    let socket = files.socket();
    let all = [&files.disk, &files.pid, &files.port, &files.log, &socket];
    all.into_iter().try_for_each(|path| remove_stale(path))
}

impl Copier for Qemu {
    fn copy_seen<'a>(&'a self, vm: &'a VmId, rounds: bool) -> BoxFuture<'a, CopySight> {
        Box::pin(self.see_copies(vm, rounds))
    }

    fn begin_copy<'a>(
        &'a self,
        vm: &'a VmId,
        order: &'a CopyOrder,
        to: &'a CopyPlace,
        now: Timestamp,
    ) -> Done<'a> {
        match order.round {
            Some(round) => Box::pin(self.take_disk(vm, order.copy, round, now)),
            None => Box::pin(self.begin(vm, order, to)),
        }
    }

    fn send_copy<'a>(
        &'a self,
        vm: &'a VmId,
        order: &'a CopyOrder,
        to: &'a CopyPlace,
    ) -> Done<'a> {
        Box::pin(self.send_round(vm, order.copy, to))
    }

    fn end_copy<'a>(&'a self, vm: &'a VmId, keep: Option<CopyId>) -> Done<'a> {
        Box::pin(self.end_all_copies(vm, keep))
    }

    fn keep_copy<'a>(
        &'a self,
        vm: &'a VmId,
        order: &'a StandbyBody,
    ) -> BoxFuture<'a, Result<u16, HypervisorError>> {
        Box::pin(self.keep(vm, order))
    }

    fn drop_copies<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(self.drop_all(vm))
    }

    fn shut_doors(&self) -> Done<'_> {
        Box::pin(self.shut_all())
    }

    fn fork_copy<'a>(
        &'a self,
        vm: &'a VmId,
        copy: CopyId,
        order: &'a StandbyBody,
        stop: &'a Arc<AtomicBool>,
    ) -> Done<'a> {
        Box::pin(self.fork(vm, copy, order, stop))
    }

    fn end_fork<'a>(&'a self, vm: &'a VmId) -> Done<'a> {
        Box::pin(self.unfork(vm))
    }

    fn take_copy<'a>(&'a self, vm: &'a VmId, copy: CopyId) -> Done<'a> {
        Box::pin(self.take(vm, copy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_found_again_by_its_name() {
        let copy = CopyId { epoch: Epoch::new(7), number: 12 };
        assert_eq!(copy_of(&name_of(copy)), Some(copy));
        for other in ["move-disk", "copy-", "copy-1", "copy-x-1", "copy-1-x", ""] {
            assert_eq!(copy_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_files_of_all_copies_are_seen_whatever_is_left_of_them() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["copy-1-1.qcow2", "copy-1-1.pid", "copy-2-1.log", "order.json"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        let first = CopyId::first_of(Epoch::new(1));
        assert_eq!(copies_in(folder.path()), [first, CopyId::first_of(Epoch::new(2))]);
        remove(&Files::of(folder.path(), first)).unwrap();
        assert_eq!(copies_in(folder.path()), [CopyId::first_of(Epoch::new(2))]);
    }
}
