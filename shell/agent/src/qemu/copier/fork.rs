//! The disk of a trial, made from a copy that is kept here.
//!
//! ```text
//!   written now     the storage daemon that keeps it takes it as it is at one moment: a backup
//!                   job, for which it saves what is overwritten meanwhile; writes go on
//!   written before  nobody writes it: its file is copied
//! ```
//!
//! Either way the trial has a file of its own, so the copy goes on as if there were none.
//! Rejected: a disk on top of the copy. The copy would have to stand still for as long as the
//! trial takes, and is one with the next round a few seconds later.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dwcp_api::host::StandbyBody;
use dwcp_types::{CopyId, VmId};
use dwcp_vm::{launch, qcow2};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::super::mover::attempt;
use super::super::qmp::{COMMAND_LIMIT, Client, QmpError};
use super::super::{Qemu, bytes, make_folder, private_file, write_disk};
use super::{Files, copies_in, whole};
use crate::hypervisor::HypervisorError;
use crate::trial::TRIALS;

/// The job, and what it writes to.
const FORK: &str = "fork";
/// The disk until it is whole.
const UNFINISHED: &str = "unfinished.qcow2";
/// How much is copied between two looks at whether to stop.
const CHUNK: u64 = 64 << 20;

impl Qemu {
    pub(super) async fn fork(
        &self,
        vm: &VmId,
        copy: CopyId,
        order: &StandbyBody,
        stop: &Arc<AtomicBool>,
    ) -> Result<(), HypervisorError> {
        let standby = self.standby_folder(vm);
        let files = Files::of(&standby, copy);
        let folder = self.data.join(TRIALS).join(vm.as_str());
        make_folder(&folder)?;
        let unfinished = folder.join(UNFINISHED);
        if !files.disk.is_file() {
            return Err(HypervisorError::NoCopy { copy });
        }
        if copy == order.copy {
            write_disk(&unfinished, &qcow2::empty(bytes(order.storage))?)?;
            reserve(&unfinished, &files.disk)?;
            take(&standby, &files, &unfinished).await?;
        } else {
            if whole::is_in_parts(&files.disk)? {
                let reason = format!("copy {copy} becomes one file just now; try again");
                return Err(HypervisorError::Launch { reason });
            }
            copy_file(files.disk, unfinished.clone(), Arc::clone(stop)).await?;
        }
        let disk = folder.join(launch::file::DISK);
        fs::rename(&unfinished, &disk).map_err(|source| HypervisorError::File {
            what: "move the trial's disk to",
            path: disk,
            source,
        })
    }

    /// Ends a job that was begun for a disk which nobody waits for any more.
    pub(super) async fn unfork(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let standby = self.standby_folder(vm);
        for copy in copies_in(&standby) {
            let files = Files::of(&standby, copy);
            let monitor = Client::connect_at(&standby, &files.monitor, COMMAND_LIMIT);
            match monitor.await {
                Ok(client) => end_job(&client).await?,
                // Whoever does not listen has no job.
                Err(QmpError::Socket(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Ends the job and lets go of its file, if there are such.
async fn end_job(client: &Client) -> Result<(), HypervisorError> {
    attempt(client, "job-cancel", json!({ "id": FORK })).await?;
    // How it ended was told to whoever waited for it.
    drop(whole::concluded(client, (FORK, "it is cancelled")).await);
    attempt(client, "job-dismiss", json!({ "id": FORK })).await?;
    attempt(client, "blockdev-del", json!({ "node-name": FORK })).await?;
    Ok(())
}

/// Has the storage daemon that keeps a copy take it as it is now.
async fn take(standby: &Path, files: &Files, to: &Path) -> Result<(), HypervisorError> {
    let monitor = Client::connect_at(standby, &files.monitor, COMMAND_LIMIT).await;
    let client = monitor.map_err(|error| HypervisorError::Launch {
        reason: format!(
            "the process that keeps the copy does not answer ({error}); try again when its \
             owner has reached it"
        ),
    })?;
    // What a trial left whose agent was killed.
    end_job(&client).await?;
    client.execute::<Value>("blockdev-add", whole::node(FORK, to)?).await?;
    let backup = json!({
        "job-id": FORK, "device": whole::TOP, "target": FORK, "sync": "full",
        "auto-dismiss": false,
    });
    client.execute::<Value>("blockdev-backup", backup).await?;
    let taken = whole::concluded(&client, (FORK, "the copy is not taken")).await;
    end_job(&client).await?;
    taken
}

/// Takes the room that a copy's disk may need. The job must not find its disk full: QEMU before
/// 10.1 lets the copy's writer fail with it, and with that one the guest stands.
fn reserve(unfinished: &Path, like: &Path) -> Result<(), HypervisorError> {
    let reserved = || {
        let len = fs::metadata(like)?.len();
        let file = OpenOptions::new().write(true).open(unfinished)?;
        match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, len) {
            // A file system that cannot: nothing is known of its room.
            Err(Errno::OPNOTSUPP) | Ok(()) => Ok(()),
            Err(error) => Err(io::Error::from(error)),
        }
    };
    reserved().map_err(|source| HypervisorError::File {
        what: "take the room for the trial's disk",
        path: unfinished.to_owned(),
        source,
    })
}

/// Copies a file, until it is to stop; the kernel shares what file systems can share.
async fn copy_file(
    from: PathBuf,
    to: PathBuf,
    stop: Arc<AtomicBool>,
) -> Result<(), HypervisorError> {
    let mut file = private_file(&to, false)?;
    let copying = tokio::task::spawn_blocking(move || {
        let from = File::open(&from)?;
        while io::copy(&mut (&from).take(CHUNK), &mut file)? > 0 {
            if stop.load(Ordering::Acquire) {
                return Err(io::Error::other(
                    "the copy went on before all of it was there; try again, on a file system \
                     that shares blocks (XFS, btrfs) or with longer rounds (--replica-max-age)",
                ));
            }
        }
        file.sync_all()
    });
    let copied = copying.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    copied.map_err(|source| HypervisorError::File {
        what: "copy the trial's disk to",
        path: to,
        source,
    })
}
