//! Rows in a redb file: one table, one B-tree, one `fdatasync` a commit.
//!
//! A file of the first layout (values without checksums, in a table of another name) is
//! converted when it is opened, in one transaction: it is in one layout or the other, never
//! between.

use std::fmt;
use std::fs::metadata;
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{
    ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};

use super::{Absent, Backend, Change, Fault, Syncs, Visitor, row, start_of};
use crate::commit::{Disk, RedbDisk, fault};

/// The rows, each with its checksum.
const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sealed_rows");
/// The rows of the first layout.
const PLAIN_ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");
/// The layout. It has the name of the first layout's rows and another type, so that a program
/// that only knows that one refuses the file instead of finding it empty.
const LAYOUT: TableDefinition<'_, (), u64> = TableDefinition::new("rows");
/// The layout that this code reads and writes.
const LAYOUT_VERSION: u64 = 2;

/// Bytes of a block in `stat`.
const BLOCK_LEN: u64 = 512;

/// Rows in a redb file.
pub struct Redb {
    path: PathBuf,
    pub(super) disk: RedbDisk,
}

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redb").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Redb {
    /// The changes, not committed yet.
    pub(super) fn staged(&self, changes: Vec<Change>) -> Result<WriteTransaction, Fault> {
        let transaction = self.disk.begin()?;
        let mut rows = transaction.open_table(ROWS).map_err(fault)?;
        for change in changes {
            match change {
                Change::Put { key, value } => {
                    rows.insert(key.as_str(), value.as_ref()).map_err(fault)?;
                }
                Change::Delete { key } => {
                    rows.remove(key.as_str()).map_err(fault)?;
                }
            }
        }
        drop(rows);
        Ok(transaction)
    }
}

impl Backend for Redb {
    fn open(path: &Path, absent: Absent, syncs: &Syncs) -> Result<Self, Fault> {
        let disk = RedbDisk::open(path, absent, syncs)?;
        if !has_layout(&disk)? {
            let transaction = disk.begin()?;
            convert(&transaction)?;
            transaction.commit().map_err(fault)?;
        }
        Ok(Self { path: path.to_owned(), disk })
    }

    fn commit(&self, changes: Vec<Change>, count: u64) -> Result<(), Fault> {
        self.disk.commit(self.staged(changes)?, count)
    }

    fn count(&self) -> Result<u64, Fault> {
        self.disk.count()
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        let transaction = self.disk.database().begin_read().map_err(fault)?;
        let rows = transaction.open_table(ROWS).map_err(fault)?;
        let value = rows.get(key).map_err(fault)?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn visit(
        &self,
        prefix: &str,
        after: Option<&str>,
        row: &mut Visitor<'_>,
    ) -> Result<(), Fault> {
        let start = start_of(prefix, after);
        let transaction = self.disk.database().begin_read().map_err(fault)?;
        let rows = transaction.open_table(ROWS).map_err(fault)?;
        for found in rows.range::<&str>((start, Bound::Unbounded)).map_err(fault)? {
            let (key, stored) = found.map_err(fault)?;
            let past = !key.value().starts_with(prefix);
            if past || row(key.value(), stored.value())? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn disk_len(&self) -> Result<u64, Fault> {
        let found = metadata(&self.path).map_err(|error| Fault::of_io(&error))?;
        Ok(found.blocks() * BLOCK_LEN)
    }
}

/// Whether the file is in our layout; if not, it is new or in the first one.
fn has_layout(disk: &RedbDisk) -> Result<bool, Fault> {
    let transaction = disk.database().begin_read().map_err(fault)?;
    let layout = match transaction.open_table(LAYOUT) {
        Ok(table) => table.get(()).map_err(fault)?.map_or(0, |row| row.value()),
        Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => {
            return Ok(false);
        }
        Err(error) => return Err(fault(error)),
    };
    if layout == LAYOUT_VERSION {
        return Ok(true);
    }
    Err(Fault::Foreign(format!("its rows have the layout {layout}")))
}

/// Makes the tables of a new file, and moves what the first layout has into them.
fn convert(transaction: &WriteTransaction) -> Result<(), Fault> {
    let mut rows = transaction.open_table(ROWS).map_err(fault)?;
    let plain = transaction.open_table(PLAIN_ROWS).map_err(fault)?;
    for found in plain.iter().map_err(fault)? {
        let (key, value) = found.map_err(fault)?;
        let stored = row::stored(key.value(), value.value());
        rows.insert(key.value(), stored.as_slice()).map_err(fault)?;
    }
    transaction.delete_table(plain).map_err(fault)?;
    let mut layout = transaction.open_table(LAYOUT).map_err(fault)?;
    layout.insert((), LAYOUT_VERSION).map_err(fault)?;
    Ok(())
}
