//! The host's clock for leases, and the file in which the grant in force lies.
//!
//! The clock is the machine's boot time: it goes on while the machine is suspended, during
//! which the region's lease lapses all the same, and every process of the machine reads the
//! same. The file is for the next agent and for the watchdog; it need not survive the machine,
//! whose guests end with it, so it is written without waiting for the disk, and what was
//! written before the machine was started means nothing. Its room is taken when the agent
//! starts ([`slots`]): a full disk must not end guests.

mod slots;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dwcp_types::{Epoch, VmId};
use dwcp_vm::{Grant, Guard};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use slots::Slots;

/// The file in the data folder.
const FILE: &str = "lease.slots";

/// What the clock shows.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Names this start of the machine.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[derive(Serialize, Deserialize)]
struct Written {
    boot: String,
    from_us: u64,
    pause_after_us: u64,
    kill_after_us: u64,
    vms: BTreeMap<VmId, Epoch>,
}

/// The file with the grant in force, to be read.
#[derive(Debug)]
pub(crate) struct LeaseFile {
    path: PathBuf,
    boot: String,
}

impl LeaseFile {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join(FILE), boot: boot() }
    }

    /// The grant in force; none when there is none of this start of the machine, or it cannot
    /// be read: then bound guests must not run.
    pub(crate) fn read(&self) -> Guard {
        let mut guard = Guard::default();
        let written = slots::read(&self.path)
            .and_then(|bytes| serde_json::from_slice::<Written>(&bytes).ok());
        if let Some(it) = written.filter(|it| it.boot == self.boot) {
            guard.take(Grant {
                from: Duration::from_micros(it.from_us),
                pause_after: Duration::from_micros(it.pause_after_us),
                kill_after: Duration::from_micros(it.kill_after_us),
                vms: it.vms,
            });
        }
        guard
    }
}

/// The file with the grant in force, to be written: only by whoever has the data folder.
#[derive(Debug)]
pub(crate) struct LeaseWriter {
    file: LeaseFile,
    written: Mutex<LastWritten>,
}

#[derive(Debug)]
struct LastWritten {
    slots: Slots,
    /// The moment of the newest grant that was written: a slower writer must not put an older
    /// one over it.
    newest: Duration,
}

impl LeaseWriter {
    /// Takes the file's room of the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be had.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let file = LeaseFile::in_folder(folder);
        let slots = Slots::open(&file.path)?;
        let newest = file.read().grant().map_or(Duration::ZERO, |grant| grant.from);
        let written = Mutex::new(LastWritten { slots, newest });
        Ok(Self { file, written })
    }

    /// Names this start of the machine.
    pub(crate) fn boot(&self) -> &str {
        &self.file.boot
    }

    /// The grant in force.
    pub(crate) fn read(&self) -> Guard {
        self.file.read()
    }

    /// Writes a grant unless a newer one is there.
    pub(crate) fn write(&self, grant: &Grant) -> io::Result<()> {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let mut last = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if grant.from < last.newest {
            return Ok(());
        }
        let written = Written {
            boot: self.file.boot.clone(),
            from_us: micros(grant.from),
            pause_after_us: micros(grant.pause_after),
            kill_after_us: micros(grant.kill_after),
            vms: grant.vms.clone(),
        };
        let bytes = serde_json::to_vec(&written).map_err(io::Error::other)?;
        last.slots.write(&bytes)?;
        last.newest = grant.from;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_vm::Leave;

    fn grant(from_s: u64) -> Grant {
        Grant {
            from: Duration::from_secs(from_s),
            pause_after: Duration::from_secs(4),
            kill_after: Duration::from_secs(5),
            vms: BTreeMap::from([(VmId::new("web").unwrap(), Epoch::FIRST)]),
        }
    }

    #[test]
    fn the_next_agent_goes_by_the_grant_of_the_last_and_an_older_one_does_not_replace_it()
    {
        let folder = tempfile::tempdir().unwrap();
        let file = LeaseWriter::open(folder.path()).unwrap();
        assert_eq!(file.read(), Guard::default());
        file.write(&grant(10)).unwrap();
        file.write(&grant(7)).unwrap();
        drop(file);
        let next = LeaseWriter::open(folder.path()).unwrap();
        assert_eq!(next.read().grant(), Some(&grant(10)));
        next.write(&grant(9)).unwrap();
        assert_eq!(next.read().grant(), Some(&grant(10)));
    }

    #[test]
    fn a_grant_of_another_start_of_the_machine_or_a_damaged_one_lets_nothing_run() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LeaseWriter::open(folder.path()).unwrap();
        file.file.boot = "earlier".to_owned();
        file.write(&grant(10)).unwrap();
        let next = LeaseFile::in_folder(folder.path());
        let web = VmId::new("web").unwrap();
        assert_eq!(
            next.read().leave(&web, Epoch::FIRST, Duration::from_secs(11)),
            Leave::End
        );
        fs::write(folder.path().join(FILE), b"{").unwrap();
        assert_eq!(next.read(), Guard::default());
    }

    #[test]
    fn the_clock_goes_forward() {
        let first = now();
        assert!(now() >= first && first > Duration::ZERO);
    }
}
