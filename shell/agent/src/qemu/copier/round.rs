//! The source's part in copies that follow later.
//!
//! ```text
//!   take   one transaction: a bitmap notes what changes from now on, a backup job begins to
//!          write the disk as it is now, or what an earlier bitmap names of it, into a file
//!          beside the disk; what the guest overwrites meanwhile is saved there first
//!   send   a mirror of that file, which nobody writes any more, over the line
//!   end    the file goes; of the bitmaps only that of the round stays which the next adds to
//! ```
//!
//! All that has to be known is in the names inside QEMU: a bitmap bears its round and the moment
//! that it is the disk of, so an agent that was killed goes on. With the guest's process the
//! bitmaps are gone, and the next round brings everything.
//!
//! Rejected: the backup job straight over the line. It has the guest's write wait until what it
//! overwrites is at the other end, and QEMU 7.2 fails that write when the line breaks. Bitmaps
//! in the disk's file: after a crash they are marked as in use, so they would save the whole copy
//! only where the process ended by itself.

use dwcp_types::{CopyId, Round, Timestamp, VmId};
use dwcp_vm::migration::Mirror;
use dwcp_vm::{CopyPlace, CopySeen, CopySight, RoundSeen, qcow2};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::super::mover::{self, Job, attempt, job_ends, jobs};
use super::super::qmp::{Client, QmpError};
use super::super::{Qemu, remove_stale, write_disk};
use super::whole::node;
use super::{LOOK_AGAIN, QUIT_LIMIT, TARGET, TLS, copy_of, name_of};
use crate::hypervisor::HypervisorError;

/// The guest's disk.
const DISK: &str = "disk";
/// What a round took: the node, and the file in the guest's folder.
const TAKEN: &str = "copy-taken";
const TAKEN_FILE: &str = "taken.qcow2";
/// A job that is over and waits until that is noted.
const CONCLUDED: &str = "concluded";

/// The name of the job that takes the disk for a round.
fn taking(copy: CopyId) -> String {
    format!("take-{copy}")
}

fn taken_by(name: &str) -> Option<CopyId> {
    copy_of(&format!("copy-{}", name.strip_prefix("take-")?))
}

/// The name of the bitmap of what changed since a round.
fn since(copy: CopyId, as_of: Timestamp) -> String {
    format!("since-{copy}-{}", as_of.as_millis())
}

fn since_of(name: &str) -> Option<(CopyId, Timestamp)> {
    let (copy, as_of) = name.strip_prefix("since-")?.rsplit_once('-')?;
    let copy = copy_of(&format!("copy-{copy}"))?;
    Some((copy, Timestamp::from_millis(as_of.parse().ok()?)))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Node {
    node_name: Option<String>,
    image: Image,
    #[serde(default)]
    dirty_bitmaps: Vec<Bitmap>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    virtual_size: u64,
}

#[derive(Debug, Deserialize)]
struct Bitmap {
    #[serde(default)]
    name: Option<String>,
}

/// The guest's disk, as its monitor tells of it.
#[derive(Debug)]
struct Disk {
    size: u64,
    /// By round.
    bitmaps: Vec<(CopyId, Timestamp)>,
}

async fn disk(client: &Client) -> Result<Disk, QmpError> {
    let flat = json!({ "flat": true });
    let nodes: Vec<Node> = client.execute("query-named-block-nodes", flat).await?;
    let node = nodes.into_iter().find(|node| node.node_name.as_deref() == Some(DISK));
    let node = node.ok_or_else(|| QmpError::Form {
        command: "query-named-block-nodes".to_owned(),
        reason: "the guest has no disk".to_owned(),
    })?;
    let names = node.dirty_bitmaps.iter().filter_map(|bitmap| bitmap.name.as_deref());
    let mut bitmaps: Vec<_> = names.filter_map(since_of).collect();
    bitmaps.sort_unstable();
    Ok(Disk { size: node.image.virtual_size, bitmaps })
}

/// The copy that is written, and how far it is.
fn written(jobs: &[Job], bitmaps: &[(CopyId, Timestamp)]) -> Option<CopySeen> {
    let seen = |job: &Job, copy: CopyId, is_sent: bool| {
        let as_of = bitmaps.iter().find(|(of, _)| *of == copy).map(|(_, as_of)| *as_of);
        let mirror = Mirror {
            ready: is_sent && job.ready,
            sound: job.error.is_none() && job.io_status == "ok",
            copied: job.offset,
            total: job.len,
        };
        let waits = !is_sent && job.status == CONCLUDED;
        let round = as_of.map(|as_of| RoundSeen { as_of, waits });
        CopySeen { copy, mirror, round }
    };
    let sent = |job: &Job| Some(seen(job, copy_of(&job.device)?, true));
    let taken = |job: &Job| Some(seen(job, taken_by(&job.device)?, false));
    let sent = jobs.iter().find_map(sent);
    if sent.is_some() { sent } else { jobs.iter().find_map(taken) }
}

impl Qemu {
    pub(super) async fn see_copies(&self, vm: &VmId, rounds: bool) -> CopySight {
        let Some(client) = self.client(vm) else { return CopySight::default() };
        let Ok(jobs) = jobs(&client).await else { return CopySight::default() };
        if !rounds {
            return CopySight { written: written(&jobs, &[]), since: None };
        }
        let Ok(Disk { bitmaps, .. }) = disk(&client).await else {
            return CopySight::default();
        };
        let written = written(&jobs, &bitmaps);
        let copies = bitmaps.iter().rev().map(|(copy, _)| *copy);
        let mut earlier =
            copies.filter(|copy| Some(*copy) != written.map(|written| written.copy));
        CopySight { written, since: earlier.next() }
    }

    /// Takes the disk of a round as it is now.
    pub(super) async fn take_disk(
        &self,
        vm: &VmId,
        copy: CopyId,
        round: Round,
        now: Timestamp,
    ) -> Result<(), HypervisorError> {
        // What an agent left that was killed in between.
        self.end_all_copies(vm, round.base).await?;
        let client = self.connect(vm).await?;
        let Disk { size, bitmaps } = disk(&client).await?;
        let base = round.base.map(|base| {
            let known = bitmaps.iter().find(|(copy, _)| *copy == base);
            known.map(|(copy, as_of)| since(*copy, *as_of)).ok_or(base)
        });
        let base = base.transpose().map_err(|base| HypervisorError::NoBase { base })?;
        let path = self.folder(vm).join(TAKEN_FILE);
        write_disk(&path, &qcow2::empty(size)?)?;
        client.execute::<Value>("blockdev-add", node(TAKEN, &path)?).await?;
        let mut backup = json!({
            "job-id": taking(copy), "device": DISK, "target": TAKEN, "auto-dismiss": false,
        });
        if let Some(base) = base {
            backup["sync"] = "bitmap".into();
            backup["bitmap"] = base.into();
            // It goes on noting for this base: the round may fail, and the next adds to it too.
            backup["bitmap-mode"] = "never".into();
        } else {
            backup["sync"] = "top".into();
        }
        let bitmap = json!({ "node": DISK, "name": since(copy, now) });
        let both = json!({ "actions": [
            { "type": "block-dirty-bitmap-add", "data": bitmap },
            { "type": "blockdev-backup", "data": backup },
        ] });
        client.execute::<Value>("transaction", both).await?;
        Ok(())
    }

    pub(super) async fn send_round(
        &self,
        vm: &VmId,
        copy: CopyId,
        to: &CopyPlace,
    ) -> Result<(), HypervisorError> {
        let client = self.connect(vm).await?;
        attempt(&client, "blockdev-del", json!({ "node-name": TARGET })).await?;
        // Nobody waits for it: a line that breaks ends the round.
        self.reach(&client, copy, to, 0).await?;
        let mirror = json!({
            "job-id": name_of(copy), "device": TAKEN, "target": TARGET, "sync": "top",
            "on-target-error": "stop",
        });
        client.execute::<Value>("blockdev-mirror", mirror).await?;
        Ok(())
    }

    pub(super) async fn end_all_copies(
        &self,
        vm: &VmId,
        keep: Option<CopyId>,
    ) -> Result<(), HypervisorError> {
        let client = self.connect(vm).await?;
        mover::cut_disk(&client, TARGET).await;
        for job in jobs(&client).await? {
            let (copies, takes) = (copy_of(&job.device), taken_by(&job.device));
            if copies.is_none() && takes.is_none() {
                continue;
            }
            let cancel = json!({ "device": job.device, "force": true });
            attempt(&client, "block-job-cancel", cancel).await?;
            if takes.is_some() {
                dismiss(&client, &job.device).await?;
            }
            job_ends(&client, &job.device).await?;
        }
        for node in [TARGET, TAKEN] {
            attempt(&client, "blockdev-del", json!({ "node-name": node })).await?;
        }
        attempt(&client, "object-del", json!({ "id": TLS })).await?;
        for (copy, as_of) in disk(&client).await?.bitmaps {
            if Some(copy) != keep {
                let bitmap = json!({ "node": DISK, "name": since(copy, as_of) });
                attempt(&client, "block-dirty-bitmap-remove", bitmap).await?;
            }
        }
        remove_stale(&self.folder(vm).join(TAKEN_FILE))
    }
}

/// Waits until a job that keeps its end is over, and takes note of it.
async fn dismiss(client: &Client, name: &str) -> Result<(), HypervisorError> {
    let over = async {
        loop {
            let mut jobs = jobs(client).await?.into_iter();
            let open = jobs.find(|job| job.device == name);
            if open.is_none_or(|job| job.status == CONCLUDED) {
                return Ok::<(), QmpError>(());
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    timeout(QUIT_LIMIT, over).await.unwrap_or_else(|_| {
        let seconds = QUIT_LIMIT.as_secs();
        Err(QmpError::Late { command: "the end of a round".to_owned(), seconds })
    })?;
    attempt(client, "job-dismiss", json!({ "id": name })).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use dwcp_types::Epoch;

    use super::*;

    fn job(device: &str, status: &str, ready: bool) -> Job {
        Job {
            device: device.to_owned(),
            len: 8,
            offset: 4,
            ready,
            io_status: "ok".to_owned(),
            status: status.to_owned(),
            error: None,
        }
    }

    #[test]
    fn a_round_is_found_again_by_the_names_that_it_has_inside_the_hypervisor() {
        let copy = CopyId { epoch: Epoch::new(7), number: 12 };
        let as_of = Timestamp::from_millis(1_700_000_000_123);
        assert_eq!(since_of(&since(copy, as_of)), Some((copy, as_of)));
        assert_eq!(taken_by(&taking(copy)), Some(copy));
        for other in ["since-7-12", "since-7-12-x", "copy-7-12", "since-", ""] {
            assert_eq!(since_of(other), None, "{other}");
            assert_eq!(taken_by(other), None, "{other}");
        }
    }

    #[test]
    fn a_round_waits_when_it_is_taken_and_is_there_when_all_is_sent() {
        let copy = CopyId::first_of(Epoch::FIRST);
        let as_of = Timestamp::from_millis(5);
        let bitmaps = [(copy, as_of)];
        let (take, send) = (taking(copy), name_of(copy));
        let seen = |jobs: &[Job]| written(jobs, &bitmaps).unwrap();
        let round = |waits| Some(RoundSeen { as_of, waits });
        let being_taken = seen(&[job(&take, "running", false)]);
        assert_eq!((being_taken.copy, being_taken.round), (copy, round(false)));
        assert!(!being_taken.mirror.ready && being_taken.mirror.sound);
        assert_eq!(seen(&[job(&take, CONCLUDED, false)]).round, round(true));
        let failed =
            Job { error: Some("no space".into()), ..job(&take, CONCLUDED, false) };
        assert!(!seen(&[failed]).mirror.sound);
        let both =
            |ready| seen(&[job(&take, CONCLUDED, false), job(&send, "ready", ready)]);
        assert_eq!((both(false).round, both(false).mirror.ready), (round(false), false));
        assert!(both(true).mirror.ready);
        assert_eq!(written(&[job("move-disk", "running", false)], &bitmaps), None);
    }
}
