//! What the agent keeps on disk: a lock, its incarnation, and one file a VM.
//!
//! A record is written to a temporary file, synced, renamed, and the folder synced: after
//! [`Store::save`] returns, the record survives a power cut; before, the old one does. A
//! database was rejected: the records are few, independent, and worth reading with `cat` when
//! a host is being repaired. A record that cannot be read stops the agent instead of being
//! skipped, because a host that forgot an epoch would obey an old owner (F4).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dwcp_types::{CopyId, Timestamp, VmId};
use dwcp_vm::Record;
use dwcp_vm::migration::Moving;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

const RECORDS: &str = "records";

/// A VM's record as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The VM.
    pub vm: VmId,
    /// What is wanted of it; nothing while it only comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// Its move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
    /// The address that the host chose for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The last copy of its disk that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_begun: Option<CopyId>,
    /// When it was last written.
    pub at: Timestamp,
}

impl Stored {
    /// Whether a guest of it may be in the data folder.
    #[must_use]
    pub fn has_guest(&self) -> bool {
        self.moving.is_some() || self.record.as_ref().is_some_and(|it| !it.buried)
    }
}

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another agent has it.
    #[error(
        "another agent uses the data folder {path}; stop it, or give this one a data_dir of its own"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read or written; what was there before is unchanged.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The record was replaced and it is not sure that it would survive a power cut.
    #[error("{path} is written and may not survive a power cut: {source}")]
    Unsure {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record is damaged.
    #[error(
        "the record {path} cannot be read: {reason}; repair it, or move it away if the VM is known to run elsewhere"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl StoreError {
    /// Whether the old record is surely still in force.
    #[must_use]
    pub const fn nothing_was_done(&self) -> bool {
        !matches!(self, Self::Unsure { .. })
    }
}

/// The agent's data folder, locked.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    incarnation: u64,
    _lock: File,
}

impl Store {
    /// Makes and locks the folder, and counts this start.
    ///
    /// # Errors
    ///
    /// When another agent has it, or it cannot be written.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        make_folder(&folder.join(RECORDS))?;
        let path = folder.join("lock");
        let lock = private()
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| StoreError::File { what: "open", path, source })?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StoreError::Locked { path: folder.to_owned() })?;
        let mut store = Self { folder: folder.to_owned(), incarnation: 0, _lock: lock };
        store.incarnation = store.count_start()?;
        Ok(store)
    }

    /// Rises with each start on this folder.
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn count_start(&self) -> Result<u64, StoreError> {
        let path = self.folder.join("incarnation");
        let last = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| StoreError::Damaged {
                path: path.clone(),
                reason: "it is not a number".to_owned(),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0u64,
            Err(source) => return Err(StoreError::File { what: "read", path, source }),
        };
        let next = last.saturating_add(1);
        replace(&path, format!("{next}\n").as_bytes())?;
        Ok(next)
    }

    /// Reads every record.
    ///
    /// # Errors
    ///
    /// When one is damaged or the folder cannot be read.
    pub fn load(&self) -> Result<Vec<Stored>, StoreError> {
        let folder = self.folder.join(RECORDS);
        let cannot_read = |path: &Path, source| StoreError::File {
            what: "read",
            path: path.to_owned(),
            source,
        };
        let mut stored = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|e| cannot_read(&folder, e))? {
            let path = entry.map_err(|e| cannot_read(&folder, e))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue; // a temporary file of a save that was cut short
            }
            let bytes = fs::read(&path).map_err(|e| cannot_read(&path, e))?;
            let read: Stored = serde_json::from_slice(&bytes).map_err(|error| {
                StoreError::Damaged { path: path.clone(), reason: error.to_string() }
            })?;
            stored.push(read);
        }
        Ok(stored)
    }

    /// Writes a record durably, or forgets a VM of which there is nothing to keep. Blocks on the
    /// disk.
    ///
    /// # Errors
    ///
    /// When the disk is full or failing; [`StoreError::nothing_was_done`] tells the cases
    /// apart.
    pub fn save(&self, stored: &Stored) -> Result<(), StoreError> {
        if stored.record.is_none() && stored.moving.is_none() {
            return self.forget(&stored.vm);
        }
        write(&self.path(&stored.vm), stored)
    }

    /// Forgets a VM altogether. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// When the file cannot be removed.
    pub fn forget(&self, vm: &VmId) -> Result<(), StoreError> {
        let path = self.path(vm);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::File { what: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// An id begins with a letter or digit and has no slash, so it is a file name that no
    /// temporary file (which begins with a dot) can have.
    fn path(&self, vm: &VmId) -> PathBuf {
        self.folder.join(RECORDS).join(format!("{vm}.json"))
    }
}

/// Where the records lie in a data folder, for whoever does not own it.
pub(crate) fn records(folder: &Path) -> PathBuf {
    folder.join(RECORDS)
}

/// Makes a folder for its owner only, with its parents.
fn make_folder(path: &Path) -> Result<(), StoreError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| {
        StoreError::File { what: "make the folder", path: path.to_owned(), source }
    })
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Replaces a file by this value, durably. Blocks on the disk.
///
/// # Errors
///
/// As [`Store::save`].
pub(crate) fn write(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let damaged = |error: serde_json::Error| StoreError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    replace(path, &serde_json::to_vec_pretty(value).map_err(damaged)?)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    let written = private()
        .create(true)
        .truncate(true)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // The disk may be full: leave nothing behind that takes space. Best effort, the next
        // save truncates it anyway.
        drop(fs::remove_file(&temporary));
        return Err(StoreError::File { what: "write", path: path.to_owned(), source });
    }
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| StoreError::Unsure { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_types::{Epoch, Generation, Power};
    use dwcp_vm::{GuestSpec, Instruction};
    use std::os::unix::fs::PermissionsExt;

    fn stored(vm: &str, epoch: u64) -> Stored {
        Stored {
            vm: VmId::new(vm).unwrap(),
            record: Some(Record::new(Instruction {
                epoch: Epoch::new(epoch),
                generation: Generation::FIRST,
                power: Power::Running,
                guest: GuestSpec::default(),
            })),
            moving: None,
            address: None,
            copy_begun: None,
            at: Timestamp::default(),
        }
    }

    #[test]
    fn records_and_the_incarnation_outlive_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.save(&stored("a", 1)).unwrap();
        store.save(&stored("a", 2)).unwrap();
        store.save(&stored("b", 7)).unwrap();
        store.forget(&VmId::new("b").unwrap()).unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.incarnation(), 2);
        assert_eq!(store.load().unwrap(), [stored("a", 2)]);
    }

    #[test]
    fn two_agents_cannot_have_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Store::open(folder.path()).unwrap();
        let second = Store::open(folder.path()).unwrap_err();
        assert!(second.to_string().contains("another agent uses"), "{second}");
    }

    #[test]
    fn a_damaged_record_is_named_and_not_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        fs::write(folder.path().join("records/web.json"), b"{\"vm\":").unwrap();
        let error = store.load().unwrap_err().to_string();
        assert!(error.contains("web.json") && error.contains("move it away"), "{error}");
    }

    #[test]
    fn a_save_that_was_cut_short_leaves_the_old_record() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.save(&stored("a", 1)).unwrap();
        fs::write(folder.path().join("records/.a.json.tmp"), b"{\"vm").unwrap();
        assert_eq!(store.load().unwrap(), [stored("a", 1)]);
    }

    #[test]
    fn files_are_the_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let store = Store::open(&data).unwrap();
        store.save(&stored("a", 1)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join("records/a.json")), 0o600);
    }
}
