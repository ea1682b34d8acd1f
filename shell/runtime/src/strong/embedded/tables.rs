//! How the embedded engine lies on disk.
//!
//! A record is stored as three little-endian numbers (created, changed, lease or zero) and its
//! value. Fixed numbers instead of an encoding crate: the format is three lines long and must
//! stay readable for ever.

use std::ops::Bound;

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition};

use super::super::{KeyValue, LeaseId};
use crate::commit::Fault;

/// The records by key.
pub(super) const RECORDS: TableDefinition<'_, &str, &[u8]> =
    TableDefinition::new("records");
/// The keys of each lease.
pub(super) const LEASE_KEYS: TableDefinition<'_, (u64, &str), ()> =
    TableDefinition::new("lease_keys");
/// The TTL of each lease in milliseconds.
pub(super) const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
/// Operation id -> revision it was committed at, and the fingerprint of its transaction.
pub(super) const OPS: TableDefinition<'_, &str, (u64, [u8; 32])> =
    TableDefinition::new("ops");
/// Operation ids in the order they came, to forget the oldest.
pub(super) const OPS_ORDER: TableDefinition<'_, u64, &str> =
    TableDefinition::new("ops_order");
/// Counters by name.
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> =
    TableDefinition::new("numbers");

/// The revision of the last change.
pub(super) const REVISION: &str = "revision";
/// The last lease given out.
pub(super) const LAST_LEASE: &str = "last_lease";
/// Version of this layout.
pub(super) const FORMAT: &str = "format";
/// The layout that this code reads and writes.
pub(super) const FORMAT_VERSION: u64 = 1;

/// Bytes before the value.
const HEAD_LEN: usize = 24;

pub(super) fn encode(record: &KeyValue) -> Vec<u8> {
    let lease = record.lease.map_or(0, LeaseId::get);
    let mut stored = Vec::with_capacity(HEAD_LEN + record.value.len());
    for number in [record.create_revision, record.mod_revision, lease] {
        stored.extend_from_slice(&number.to_le_bytes());
    }
    stored.extend_from_slice(&record.value);
    stored
}

pub(super) fn decode(key: &str, stored: &[u8]) -> Result<KeyValue, Fault> {
    let damaged = || Fault::Damaged(format!("the record of key {key:?} is too short"));
    let (head, value) = stored.split_at_checked(HEAD_LEN).ok_or_else(damaged)?;
    let number = |at: usize| -> Result<u64, Fault> {
        let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        Ok(u64::from_le_bytes(bytes.ok_or_else(damaged)?))
    };
    let lease = number(16)?;
    Ok(KeyValue {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value),
        create_revision: number(0)?,
        mod_revision: number(8)?,
        lease: (lease != 0).then(|| LeaseId::new(lease)),
    })
}

pub(super) fn read_record(
    records: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<KeyValue>, Fault> {
    let stored = records.get(key).map_err(crate::commit::fault)?;
    stored.map(|stored| decode(key, stored.value())).transpose()
}

pub(super) fn read_number(
    numbers: &impl ReadableTable<&'static str, u64>,
    name: &str,
) -> Result<u64, Fault> {
    let row = numbers.get(name).map_err(crate::commit::fault)?;
    Ok(row.map_or(0, |row| row.value()))
}

/// All rows from the beginning of a prefix, or from after a key, whichever is later.
pub(super) fn scan<'t>(
    records: &'t impl ReadableTable<&'static str, &'static [u8]>,
    prefix: &str,
    after: Option<&str>,
) -> Result<redb::Range<'t, &'static str, &'static [u8]>, Fault> {
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        Some(_) | None => Bound::Included(prefix),
    };
    records.range::<&str>((start, Bound::Unbounded)).map_err(crate::commit::fault)
}
