//! A process of its own that ends bound guests when their lease is over, for the case that the
//! agent cannot: it was stopped by a signal, hangs, or died.
//!
//! It reads what the agent wrote and nothing else, looks a few times a second, and signals
//! only a process that is surely the guest's. It is there while a lease runs, also without a
//! bound guest: the agent starts one only while it is. It ends when nothing is left to watch: no
//! bound guest has a process, and the lease is over or its agent is gone; the next grant starts
//! another.
//! Simulated guests have no processes, and no use for it.

mod bound;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dwcp_vm::migration::{Holding, Moving};
use dwcp_vm::{Guard, Leave};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, getppid};
use tokio::sync::watch;

use bound::Bound;

use crate::lease::{self, LeaseFile};
use crate::qemu::process;
use crate::store::Stored;

/// How often it looks: with the time that a process takes to end, well within the drift bound
/// that the region waits beyond the end.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often, and how many times, it is looked for after it was started: for much longer than a
/// process takes to begin.
const APPEARS_WITHIN: (Duration, u32) = (Duration::from_millis(50), 20);

/// Pause before a lock that is taken is tried again, and how many times: whoever only looks has
/// it for a moment.
const TAKE_AGAIN: (Duration, u32) = (Duration::from_millis(20), 5);

/// The file that a watchdog has locked for as long as it is there.
const LOCK: &str = "watchdog.lock";

/// A watchdog that has its host to itself.
#[derive(Debug)]
pub struct Watchdog {
    folder: PathBuf,
    lease: LeaseFile,
    bound: Bound,
    /// The agent that started it.
    parent: Option<Pid>,
    _lock: File,
}

impl Watchdog {
    /// Takes the host; nothing when another watchdog has it.
    ///
    /// # Errors
    ///
    /// When the data folder cannot be used.
    pub fn take(folder: &Path) -> io::Result<Option<Self>> {
        let Some(lock) = taken(&folder.join(LOCK))? else { return Ok(None) };
        let lease = LeaseFile::in_folder(folder);
        let (bound, parent) = (Bound::default(), getppid());
        let folder = folder.to_owned();
        Ok(Some(Self { folder, lease, bound, parent, _lock: lock }))
    }

    /// Watches until nothing is left to watch.
    pub fn run(mut self) {
        while self.look() {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Ends what must not run; says whether there is anything to watch.
    fn look(&mut self) -> bool {
        let guard = self.lease.read();
        let now = lease::now();
        let runs = guard.changes_at(now).is_some();
        if runs && getppid() == self.parent {
            return true;
        }
        let mut left = false;
        for it in self.bound.look(&self.folder) {
            let Some(process) = process::of(&self.folder, &it.vm) else { continue };
            left = true;
            if must_end(it, &guard, now) {
                process.kill();
            }
        }
        left
    }
}

/// Whether a bound guest must have no process now.
fn must_end(it: &Stored, guard: &Guard, now: Duration) -> bool {
    match (it.moving.as_ref().and_then(Moving::holding), &it.record) {
        // Its CPUs never ran here; its agent starts them only under a grant.
        (Some(Holding::NotYet), _) | (_, None) => false,
        // It is another's by now, so no grant names it: it has the time that the others have.
        (Some(Holding::Leaving), _) => guard.is_over(now),
        (None, Some(record)) => {
            guard.leave(&it.vm, record.instruction.epoch, now) == Leave::End
        }
    }
}

/// A lock, unless somebody has it. It is given back when it is dropped.
fn locked(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The lock, unless somebody keeps it.
fn taken(path: &Path) -> io::Result<Option<File>> {
    let (pause, times) = TAKE_AGAIN;
    for _ in 0..times {
        if let Some(lock) = locked(path)? {
            return Ok(Some(lock));
        }
        std::thread::sleep(pause);
    }
    Ok(None)
}

/// Sees to it, for as long as the agent lives, that a watchdog is there while a lease runs, and
/// says in `watched` whether it is. It is not the agent's child in anything but name: it lives on.
pub async fn keep(folder: PathBuf, config: PathBuf, watched: watch::Sender<bool>) {
    let lease = LeaseFile::in_folder(&folder);
    loop {
        let there = is_there(&folder);
        watched.send_if_modified(|was| std::mem::replace(was, there) != there);
        if !there && lease.read().changes_at(lease::now()).is_some() {
            match start(&config) {
                Ok(()) if appears(&folder).await => continue,
                Ok(()) => tracing::warn!("the watchdog was started and is not there"),
                Err(error) => tracing::warn!(%error, "the watchdog does not start"),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until it is there, for a while; says whether it is.
async fn appears(folder: &Path) -> bool {
    let (pause, times) = APPEARS_WITHIN;
    for _ in 0..times {
        tokio::time::sleep(pause).await;
        if is_there(folder) {
            return true;
        }
    }
    false
}

/// Whether a watchdog has the host.
fn is_there(folder: &Path) -> bool {
    matches!(locked(&folder.join(LOCK)), Ok(None))
}

fn start(config: &Path) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    // By what this process is made of, also when its file was replaced since.
    let child = Command::new("/proc/self/exe")
        .arg("watchdog")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A signal to the agent's group is not for it.
        .process_group(0)
        .spawn()?;
    // Whoever waits for it reaps it; nobody needs to know how it ended.
    std::thread::spawn(move || {
        let mut child = child;
        drop(child.wait());
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use dwcp_types::{Epoch, VmId};
    use dwcp_vm::Grant;

    use crate::lease::LeaseWriter;

    fn grant(age: Duration) -> Grant {
        Grant {
            from: lease::now().saturating_sub(age),
            pause_after: Duration::from_secs(4),
            kill_after: Duration::from_secs(5),
            vms: BTreeMap::from([(VmId::new("web").unwrap(), Epoch::FIRST)]),
        }
    }

    #[test]
    fn there_is_one_and_it_ends_when_nothing_is_left_to_watch() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_there(folder.path()));
        let mut first = Watchdog::take(folder.path()).unwrap().unwrap();
        assert!(is_there(folder.path()));
        assert!(Watchdog::take(folder.path()).unwrap().is_none());
        let lease = LeaseWriter::open(folder.path()).unwrap();
        lease.write(&grant(Duration::ZERO)).unwrap();
        assert!(first.look(), "the lease runs");
        let other = tempfile::tempdir().unwrap();
        let mut over = Watchdog::take(other.path()).unwrap().unwrap();
        let lease = LeaseWriter::open(other.path()).unwrap();
        lease.write(&grant(Duration::from_secs(6))).unwrap();
        assert!(!over.look(), "all is over");
        drop(first);
        assert!(!is_there(folder.path()));
    }
}
