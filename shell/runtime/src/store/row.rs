//! A stored row: the checksum of its key and value, then the value.
//!
//! The key is part of what is checked, so that a value that comes up under another key is
//! noticed too. CRC-32 finds every error of up to 32 neighbouring bits and any three bits of a
//! row; it is no defence against somebody who wants to deceive.

use bytes::Bytes;

use super::{Change, Fault};

/// Bytes before the value.
const HEAD_LEN: usize = 4;

/// A change with what is stored in place of its value.
pub(super) fn sealed(change: Change) -> Change {
    match change {
        Change::Put { key, value } => {
            let value = stored(&key, &value).into();
            Change::Put { key, value }
        }
        Change::Delete { .. } => change,
    }
}

/// What is stored of a row.
pub(super) fn stored(key: &str, value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(HEAD_LEN + value.len());
    stored.extend_from_slice(&checksum(key, value));
    stored.extend_from_slice(value);
    stored
}

/// The value of a stored row.
pub(super) fn opened<'s>(key: &str, stored: &'s [u8]) -> Result<&'s [u8], Fault> {
    match stored.split_at_checked(HEAD_LEN) {
        Some((head, value)) if head == checksum(key, value) => Ok(value),
        Some(_) | None => {
            Err(Fault::Damaged(format!("the row of key {key:?} is not what was written")))
        }
    }
}

/// The same, sharing the memory of what is stored.
pub(super) fn open(key: &str, stored: &Bytes) -> Result<Bytes, Fault> {
    Ok(stored.slice_ref(opened(key, stored)?))
}

fn checksum(key: &str, value: &[u8]) -> [u8; HEAD_LEN] {
    let mut hasher = crc32fast::Hasher::new();
    // The length keeps "a" + "bc" apart from "ab" + "c".
    hasher.update(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
    hasher.update(key.as_bytes());
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}
