//! A journal file: made once at its full length, then overwritten from its start, run by run.
//!
//! Full of zeros from the first day, it never grows: a sync after a write has only the data to
//! bring to the disk, not the file's length too.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::super::{Absent, Change, Fault, Syncs};
use super::record;
use crate::commit::{make_whole, settle_file};

/// Bytes of a file; small in tests, so that a few batches fill it.
pub(super) const CAPACITY: usize = if cfg!(test) { 16 << 10 } else { 1 << 20 };
/// Bytes of a block in `stat`.
const BLOCK_LEN: u64 = 512;

/// One of a store's two journal files.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    file: File,
    syncs: Syncs,
    /// Where the next record goes.
    end: usize,
}

/// The records of a file, in their order, with consecutive numbers.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) records: Vec<(u64, Vec<Change>)>,
}

impl Run {
    /// The number of the last record.
    pub(super) fn last(&self) -> Option<u64> {
        self.records.last().map(|(count, _)| *count)
    }
}

impl JournalFile {
    /// Opens the file, making it when it is not there, and reads its run.
    pub(super) fn open(
        path: &Path,
        absent: Absent,
        syncs: &Syncs,
    ) -> Result<(Self, Run), Fault> {
        let unusable = |error: io::Error| Fault::of_io(&error);
        if !path.try_exists().map_err(unusable)? {
            if absent == Absent::Refuse {
                return Err(Fault::Io("its journal is gone".to_owned()));
            }
            make_whole(path, make)?;
        }
        settle_file(path)?;
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(unusable)?;
        let mut bytes = vec![0; CAPACITY];
        let len = read_to_end(&file, &mut bytes).map_err(unusable)?;
        bytes.truncate(len);
        let (run, end) = read_run(&Bytes::from(bytes));
        let journal = Self { path: path.to_owned(), file, syncs: syncs.clone(), end };
        Ok((journal, run))
    }

    /// Whether a record of this length fits behind the last one.
    pub(super) const fn has_room(&self, len: usize) -> bool {
        len <= CAPACITY - self.end
    }

    /// Begins a new run. The old one is overwritten from its start.
    pub(super) const fn begin(&mut self) {
        self.end = 0;
    }

    /// Appends a record and returns when the disk has it.
    pub(super) fn append(&mut self, record: &[u8]) -> Result<(), Fault> {
        let at = u64::try_from(self.end).unwrap_or(u64::MAX);
        self.file.write_all_at(record, at).map_err(|error| Fault::of_io(&error))?;
        let synced = self.file.sync_data().inspect_err(|_| self.syncs.fail());
        synced.map_err(|error| Fault::Unsynced(error.to_string()))?;
        self.end += record.len();
        Ok(())
    }

    /// Bytes on the disk.
    pub(super) fn disk_len(&self) -> Result<u64, Fault> {
        let found = self.path.metadata().map_err(|error| Fault::of_io(&error))?;
        Ok(found.blocks() * BLOCK_LEN)
    }
}

fn make(path: &Path) -> Result<(), Fault> {
    let unusable = |error: io::Error| Fault::of_io(&error);
    let file = File::create(path).map_err(unusable)?;
    file.write_all_at(&vec![0; CAPACITY], 0).map_err(unusable)?;
    file.sync_all().map_err(|error| Fault::Unsynced(error.to_string()))
}

fn read_to_end(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, u64::try_from(len).unwrap_or(u64::MAX)) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn read_run(bytes: &Bytes) -> (Run, usize) {
    let mut run = Run::default();
    let mut end = 0;
    while let Some((count, changes, len)) = record::decode(&bytes.slice(end..)) {
        // What is left of an older run has lower numbers.
        if run.last().is_some_and(|last| last.checked_add(1) != Some(count)) {
            break;
        }
        run.records.push((count, changes));
        end += len;
    }
    (run, end)
}
