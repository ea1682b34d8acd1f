//! JSON records over the strong engine.
//!
//! A record and its revision travel together, so that changing one means comparing with what
//! was read: there is no way here to write over a record blindly by mistake.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::strong::{
    Compare, KeyValue, Op, PAGE_ITEMS_MAX, Range, StrongEngine, StrongError,
};

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<T> {
    /// Its key.
    pub key: String,
    /// What it says.
    pub value: T,
    /// The revision of its last change.
    pub mod_revision: u64,
}

impl<T> Record<T> {
    /// Holds as long as nobody has changed the record since.
    #[must_use]
    pub fn unchanged(&self) -> Compare {
        Compare::Revision { key: self.key.clone(), mod_revision: self.mod_revision }
    }
}

/// Why a record cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The engine says no.
    #[error(transparent)]
    Engine(#[from] StrongError),
    /// What is stored is not what this version expects.
    #[error(
        "the record {key} cannot be read: {reason}; it was written by another version or damaged"
    )]
    Unreadable {
        /// Its key.
        key: String,
        /// Why.
        reason: String,
    },
    /// A value that JSON cannot hold.
    #[error("the record {key} cannot be written: {reason}")]
    Unwritable {
        /// Its key.
        key: String,
        /// Why.
        reason: String,
    },
}

/// Reads what a stored record says.
///
/// # Errors
///
/// [`RecordError::Unreadable`].
pub fn decode<T: DeserializeOwned>(stored: KeyValue) -> Result<Record<T>, RecordError> {
    let KeyValue { key, value, mod_revision, .. } = stored;
    match serde_json::from_slice(&value) {
        Ok(value) => Ok(Record { key, value, mod_revision }),
        Err(error) => Err(RecordError::Unreadable { key, reason: error.to_string() }),
    }
}

/// The operation that writes a value under a key.
///
/// # Errors
///
/// [`RecordError::Unwritable`].
pub fn put_json(
    key: impl Into<String>,
    value: &impl Serialize,
) -> Result<Op, RecordError> {
    let key = key.into();
    match serde_json::to_vec(value) {
        Ok(bytes) => Ok(Op::put(key, bytes)),
        Err(error) => Err(RecordError::Unwritable { key, reason: error.to_string() }),
    }
}

/// Reads the record of a key.
///
/// # Errors
///
/// See [`RecordError`].
pub async fn get_json<T: DeserializeOwned>(
    engine: &dyn StrongEngine,
    key: &str,
) -> Result<Option<Record<T>>, RecordError> {
    engine.get(key).await?.map(decode).transpose()
}

/// Reads all records of a prefix, and the revision to watch from so that no change after the
/// reading is missed (some that were read already may come again).
///
/// # Errors
///
/// See [`RecordError`].
pub async fn list_json<T: DeserializeOwned>(
    engine: &dyn StrongEngine,
    prefix: &str,
) -> Result<(Vec<Record<T>>, u64), RecordError> {
    let mut records: Vec<Record<T>> = Vec::new();
    let mut watch_from = None;
    loop {
        let after = records.last().map(|record| record.key.clone());
        let range = Range { prefix, after: after.as_deref(), limit: PAGE_ITEMS_MAX };
        let page = engine.range(range).await?;
        let from = *watch_from.get_or_insert(page.revision + 1);
        for stored in page.items {
            records.push(decode(stored)?);
        }
        if !page.more {
            return Ok((records, from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::strong::{EmbeddedEngine, Txn, TxnOutcome};
    use std::sync::Arc;

    #[tokio::test]
    async fn records_are_listed_whole_and_changed_only_as_they_were_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("e.redb");
        let engine = EmbeddedEngine::open(&path, Arc::new(SystemClock::new())).unwrap();
        // More than one page.
        for chunk in (0..1_100_u32).collect::<Vec<_>>().chunks(100) {
            let then = chunk.iter().map(|i| put_json(format!("n/{i:04}"), i).unwrap());
            let txn = Txn { then: then.collect(), ..Txn::default() };
            engine.txn(txn).await.unwrap();
        }
        let (records, from) = list_json::<u32>(&engine, "n/").await.unwrap();
        let values: Vec<_> = records.iter().map(|record| record.value).collect();
        assert_eq!(values, (0..1_100).collect::<Vec<_>>());
        assert_eq!(from, engine.revision() + 1);
        let read = get_json::<u32>(&engine, "n/0007").await.unwrap().unwrap();
        let change = Txn {
            compare: vec![read.unchanged()],
            then: vec![put_json("n/0007", &8).unwrap()],
            ..Txn::default()
        };
        engine.txn(change.clone()).await.unwrap();
        let again = engine.txn(change).await.unwrap();
        assert!(matches!(again, TxnOutcome::Conflict { .. }));
        let error = get_json::<String>(&engine, "n/0007").await.unwrap_err().to_string();
        assert!(error.contains("n/0007"), "{error}");
    }
}
