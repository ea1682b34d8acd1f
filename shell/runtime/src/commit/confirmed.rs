//! How many transactions have been confirmed, in a small file beside the database.
//!
//! A database that was not closed cannot tell a damaged last transaction from one that was
//! being written: both look torn, and both are dropped when it is opened. Dropping one that was
//! answered for would be a silent loss. So after each durable transaction, and before anyone is
//! answered, its number is written here; a database that holds fewer was damaged or replaced by
//! an older copy, and is refused.
//!
//! The file is not synced: that would cost every transaction a second sync. It survives the end
//! of the process at any moment; a power loss may take it back to an older number, never to a
//! newer one, so nothing good is ever refused. It holds the number twice, so that half of one
//! is not taken for a number.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::Fault;

/// The number and its complement.
const LEN: usize = 16;

#[derive(Debug)]
pub(super) struct Confirmed {
    path: PathBuf,
    /// None when the file cannot be had; then there is one guard less, and no more than that.
    file: Option<File>,
}

impl Confirmed {
    pub(super) fn open(path: PathBuf) -> Self {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = file
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "cannot note what is confirmed"))
            .ok();
        Self { path, file }
    }

    /// Notes that so many transactions are durable.
    pub(super) fn note(&self, count: u64) {
        let Some(file) = &self.file else { return };
        let mut bytes = [0; LEN];
        let (number, complement) = bytes.split_at_mut(LEN / 2);
        number.copy_from_slice(&count.to_le_bytes());
        complement.copy_from_slice(&(!count).to_le_bytes());
        if let Err(error) = file.write_all_at(&bytes, 0) {
            tracing::debug!(path = %self.path.display(), %error, "cannot note what is confirmed");
        }
    }

    /// Refuses a database that holds fewer transactions than were confirmed.
    pub(super) fn check(&self, count: u64) -> Result<(), Fault> {
        match self.read() {
            Some(confirmed) if confirmed > count => Err(Fault::Damaged(format!(
                "it ends after {count} transactions, and {confirmed} were confirmed: it is \
                 damaged or an older copy (if you put an older copy there on purpose, remove {})",
                self.path.display()
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn read(&self) -> Option<u64> {
        let mut bytes = [0; LEN];
        self.file.as_ref()?.read_exact_at(&mut bytes, 0).ok()?;
        let (number, complement) = bytes.split_at(LEN / 2);
        let number = u64::from_le_bytes(number.try_into().ok()?);
        let complement = u64::from_le_bytes(complement.try_into().ok()?);
        (number == !complement).then_some(number)
    }
}
