//! One process, one data directory.
//!
//! The lock is `flock` on a file: the kernel releases it however the process ends, so a crash
//! never leaves a stale lock behind. The file also holds the process id of its owner, only to
//! be shown to people. A pid file alone was rejected: pids are reused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Name of the lock file of a directory.
const LOCK_FILE: &str = "LOCK";
/// No process id has more digits than this.
const PID_LEN_MAX: u64 = 20;

/// Why a lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{} is in use by {}; stop that process, or give this one a data directory of its own",
        path.display(), holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, if it said so.
        holder: Option<u32>,
    },
    /// The lock file cannot be opened or written.
    #[error("cannot lock {}: {source}; check that the directory exists, is writable and has space", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An exclusive lock, held until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    file: File,
    path: PathBuf,
}

impl DirLock {
    /// Locks a directory, making it when it is not there.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] when another process (or another part of this one) has it.
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join(LOCK_FILE);
        fs::create_dir_all(directory)
            .map_err(|source| LockError::Io { path: path.clone(), source })?;
        Self::acquire_file(path)
    }

    /// Locks by the file at `path`, whose directory must be there.
    pub(crate) fn acquire_file(path: PathBuf) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = read_pid(&mut file);
                return Err(LockError::Held { path, holder });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        write_pid(&mut file).map_err(failed)?;
        Ok(Self { file, path })
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DirLock {
    /// Says so explicitly: a child process that was just forked has a copy of the file until it
    /// executes its program, and would keep the lock until then.
    fn drop(&mut self) {
        if let Err(errno) = flock(&self.file, FlockOperation::Unlock) {
            tracing::debug!(path = %self.path.display(), %errno, "cannot unlock");
        }
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_LEN_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_holder_learns_who_is_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(directory.path()).unwrap();
        let error = DirLock::acquire(directory.path()).unwrap_err();
        let message = error.to_string();
        assert!(
            matches!(error, LockError::Held { holder, .. } if holder == Some(std::process::id()))
        );
        assert!(message.contains("data directory of its own"), "{message}");
        drop(first);
        DirLock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn a_copy_that_a_forked_child_has_does_not_keep_it() {
        let directory = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(directory.path()).unwrap();
        let _copy = lock.file.try_clone().unwrap();
        drop(lock);
        DirLock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = DirLock::acquire(Path::new("/dev/null/x")).unwrap_err().to_string();
        assert!(error.contains("/dev/null/x/LOCK"), "{error}");
    }
}
