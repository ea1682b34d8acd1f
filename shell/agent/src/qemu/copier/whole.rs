//! The disks of copies that follow later, where they are kept.
//!
//! ```text
//!   copy-1-4.qcow2            the last whole round, in one file
//!     └ copy-1-5.qcow2        the round that is written: what it changes
//!
//!   1-5 is whole:   commit: all of 1-5 is written into the file of 1-4 as well
//!                   rename: that file takes the name of 1-5, whose own is gone
//! ```
//!
//! A round that is whole reads the same before, while and after it becomes one file: what it
//! changes lies on top, whatever of it is below by then. So each step may be done again, and the
//! last one is a rename. The round before it is not one any more from the first block on, so
//! this begins only when the region's record says that nobody starts from that.
//!
//! A storage daemon does the commit, told over its monitor: it comes with QEMU, as `qemu-img`
//! does not in Debian (that is in `qemu-utils`).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dwcp_api::host::StandbyBody;
use dwcp_runtime::crash::crash_point;
use dwcp_types::CopyId;
use dwcp_vm::{launch, qcow2};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::mover::attempt;
use super::super::qmp::{COMMAND_LIMIT, Client};
use super::super::{Qemu, bytes, find_program, text, write_disk};
use super::{Files, PROGRAM, copy_of, flags, shut, start, watched};
use crate::hypervisor::HypervisorError;

/// The disk that is written, and what it is on top of.
pub(super) const TOP: &str = "disk";
const BASE: &str = "base";
/// The commit: the job, and the stem of its process's files.
const COMMIT: &str = "commit";
/// How often a commit is looked at; a small one takes some 30 ms.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much of a file is read to see what it is on top of.
const HEAD_LEN: u64 = 4_096;

#[derive(Debug, Deserialize)]
struct Job {
    id: String,
    status: String,
    #[serde(default)]
    error: Option<String>,
}

/// The files of the process that commits.
fn committing(folder: &Path) -> Files {
    let file = |suffix: &str| folder.join(format!("{COMMIT}.{suffix}"));
    Files {
        disk: file("qcow2"),
        pid: file("pid"),
        port: file("port"),
        log: file("log"),
        monitor: launch::file::MONITOR.to_owned(),
    }
}

/// Ends the process that commits, if there is one.
pub(super) async fn stop(folder: &Path) -> Result<(), HypervisorError> {
    shut(&committing(folder)).await
}

/// Makes the disk of a copy: empty, or on top of the one that its round adds to.
pub(super) fn make(
    folder: &Path,
    disk: &Path,
    order: &StandbyBody,
) -> Result<(), HypervisorError> {
    let size = bytes(order.storage);
    let Some(base) = order.round.and_then(|round| round.base) else {
        return write_disk(disk, &qcow2::empty(size)?);
    };
    let below = Files::of(folder, base).disk;
    let Some(name) = below.file_name().filter(|_| below.is_file()) else {
        return Err(HypervisorError::NoCopy { copy: base });
    };
    write_disk(disk, &qcow2::on_top_of(&name.to_string_lossy(), size)?)
}

/// The disk that this one is on top of.
fn below(disk: &Path) -> Result<Option<PathBuf>, HypervisorError> {
    let cannot_read =
        |source| HypervisorError::File { what: "read", path: disk.to_owned(), source };
    let mut head = Vec::new();
    match File::open(disk) {
        Ok(file) => file.take(HEAD_LEN).read_to_end(&mut head).map_err(cannot_read)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot_read(error)),
    };
    // Only what this module wrote there leads to another file.
    let name = qcow2::backing_of(&head).map(Path::new);
    let stem = |name: &Path| copy_of(name.file_stem().and_then(OsStr::to_str)?);
    let ours = name.filter(|name| name.components().count() == 1 && stem(name).is_some());
    Ok(ours.map(|name| disk.with_file_name(name)))
}

/// Whether a round is not one file yet.
pub(super) fn is_in_parts(disk: &Path) -> Result<bool, HypervisorError> {
    below(disk).map(|below| below.is_some())
}

/// A disk as QEMU opens it; what is trimmed is given back.
pub(super) fn node(name: &str, path: &Path) -> Result<Value, HypervisorError> {
    let filename = text(path)?;
    Ok(json!({
        "driver": "qcow2", "node-name": name, "discard": "unmap",
        "file": { "driver": "file", "filename": filename, "discard": "unmap" },
    }))
}

/// What a storage daemon opens for a disk.
pub(super) fn disks(disk: &Path) -> Result<Vec<Value>, HypervisorError> {
    let mut top = node(TOP, disk)?;
    let Some(below) = below(disk)? else { return Ok(vec![top]) };
    let mut base = node(BASE, &below)?;
    base["read-only"] = true.into();
    top["backing"] = BASE.into();
    Ok(vec![base, top])
}

impl Qemu {
    /// Brings a whole round into one file. It may be asked for again after any crash, and of one
    /// that is one file already nothing is done.
    pub(super) async fn make_one(
        &self,
        folder: &Path,
        copy: CopyId,
    ) -> Result<(), HypervisorError> {
        let files = Files::of(folder, copy);
        let Some(base) = below(&files.disk)? else { return Ok(()) };
        crash_point("standby-before-commit");
        commit(folder, &files.disk).await?;
        crash_point("standby-before-rename");
        let renamed = File::open(&base)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&base, &files.disk))
            .and_then(|()| File::open(folder)?.sync_all());
        renamed.map_err(|source| HypervisorError::File {
            what: "move the round to",
            path: files.disk,
            source,
        })?;
        crash_point("standby-after-rename");
        Ok(())
    }
}

/// Writes all of a disk into the one below it as well.
async fn commit(folder: &Path, disk: &Path) -> Result<(), HypervisorError> {
    let missing = || HypervisorError::QemuMissing { program: PROGRAM.to_owned() };
    let program = find_program(PROGRAM).ok_or_else(missing)?;
    let files = committing(folder);
    // What an agent left that was killed in between.
    shut(&files).await?;
    let mut parts = disks(disk)?;
    for base in parts.iter_mut().filter(|it| it["node-name"] == BASE) {
        base["read-only"] = false.into();
    }
    let mut arguments = flags(parts.into_iter().map(|it| ("--blockdev", it)).collect());
    arguments.extend(watched(&files)?);
    start(&program, &arguments, &files).await?;
    let done = committed(folder).await;
    // What is committed was flushed before the job was ready to end.
    shut(&files).await?;
    done
}

async fn committed(folder: &Path) -> Result<(), HypervisorError> {
    let client = Client::connect(folder, COMMAND_LIMIT).await?;
    let job = json!({
        "job-id": COMMIT, "device": TOP, "base-node": BASE, "auto-dismiss": false,
    });
    client.execute::<Value>("block-commit", job).await?;
    concluded(&client, (COMMIT, "a round does not become one file")).await
}

/// Waits until a job is over, which is ended when it is ready; the words are for one that fails.
pub(super) async fn concluded(
    client: &Client,
    (name, failure): (&str, &str),
) -> Result<(), HypervisorError> {
    loop {
        let jobs: Vec<Job> = client.execute("query-jobs", Value::Null).await?;
        let failed = |reason: &str| HypervisorError::Launch {
            reason: format!("{PROGRAM}: {failure}: {reason}"),
        };
        let job = jobs.iter().find(|job| job.id == name);
        let Some(job) = job else { return Err(failed("its job is gone")) };
        match (job.status.as_str(), &job.error) {
            ("concluded", None) => return Ok(()),
            ("concluded", Some(reason)) => return Err(failed(reason)),
            ("ready", _) => {
                attempt(client, "job-complete", json!({ "id": name })).await?;
            }
            _ => {}
        }
        sleep(LOOK_EVERY).await;
    }
}
