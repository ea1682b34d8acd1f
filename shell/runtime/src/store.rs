//! A region's own records: a small durable map on the local disk.
//!
//! For what only this region decides (its reservations, its events). It shares the writer of
//! the strong engine: a batch is answered when it is on disk, as one, and batches of many
//! callers share an `fsync`. There are no comparisons here: whoever writes is the one owner
//! of the records, and decides in memory before.

use std::path::Path;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, TableDefinition, WriteTransaction};

use crate::commit::{CommitError, Fault, Ledger, Machine, fault};

pub use crate::commit::OpenError;

/// Longest key in bytes.
pub const KEY_LEN_MAX: usize = 512;
/// Longest value in bytes.
pub const VALUE_LEN_MAX: usize = 1 << 20;
/// Most bytes of keys and values in one batch: a region that takes all its VMs into its books
/// at once stores some 600 bytes for each of 30,000.
pub const BATCH_LEN_MAX: usize = 64 << 20;

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a key.
    Put {
        /// The key.
        key: String,
        /// Its value from now on.
        value: Bytes,
    },
    /// Deletes a key; one that is not there is left alone.
    Delete {
        /// The key.
        key: String,
    },
}

/// Why the store does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot work now. Nothing was done.
    #[error("the local store is unavailable: {reason}")]
    Unavailable {
        /// Why, and what to do.
        reason: String,
    },
    /// The batch may or may not be on disk; scan to find out. All of it is, or nothing.
    #[error(
        "it is not known whether the batch is on disk: {reason}; read the records again"
    )]
    Indeterminate {
        /// Why, and what to do.
        reason: String,
    },
    /// A limit is exceeded.
    #[error("{what} is {size}, more than the {max} allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large.
        size: usize,
        /// How large it may be.
        max: usize,
    },
}

/// A durable map from text to bytes.
#[derive(Debug)]
pub struct LocalStore {
    ledger: Ledger<Rows>,
}

impl LocalStore {
    /// Opens the store's file, making it when it is not there.
    ///
    /// # Errors
    ///
    /// When another process uses the file, or it cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let ledger = Ledger::open(path, |database| {
            let transaction = database.begin_write().map_err(fault)?;
            transaction.open_table(ROWS).map_err(fault)?;
            transaction.commit().map_err(fault)?;
            Ok(Rows)
        })?;
        Ok(Self { ledger })
    }

    /// Makes all changes as one, in their order, and returns when they are on disk. Batches
    /// take effect in the order in which they are submitted.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        check(&batch)?;
        self.ledger.submit(batch).await.map_err(|error| match error {
            CommitError::NotWritten { reason } => StoreError::Unavailable { reason },
            CommitError::Unknown { reason } => StoreError::Indeterminate { reason },
        })
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// When the disk cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.read(|database| {
            let transaction = database.begin_read().map_err(fault)?;
            let rows = transaction.open_table(ROWS).map_err(fault)?;
            let value = rows.get(key).map_err(fault)?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    /// All keys that begin with a prefix, in order, as of one moment. For loading at start:
    /// the whole answer is in memory, and it blocks while it reads.
    ///
    /// # Errors
    ///
    /// When the disk cannot be read.
    pub fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.read(|database| {
            let transaction = database.begin_read().map_err(fault)?;
            let rows = transaction.open_table(ROWS).map_err(fault)?;
            let mut found = Vec::new();
            for row in rows.range(prefix..).map_err(fault)? {
                let (key, value) = row.map_err(fault)?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                let value = Bytes::copy_from_slice(value.value());
                found.push((key.value().to_owned(), value));
            }
            Ok(found)
        })
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.ledger
            .read(read)
            .map_err(|error| StoreError::Unavailable { reason: error.to_string() })
    }
}

fn check(batch: &[Change]) -> Result<(), StoreError> {
    let bound = |what, size, max| {
        if size > max { Err(StoreError::TooLarge { what, size, max }) } else { Ok(()) }
    };
    let mut total = 0_usize;
    for change in batch {
        let (key, value) = match change {
            Change::Put { key, value } => (key, value.len()),
            Change::Delete { key } => (key, 0),
        };
        bound("a key's size in bytes", key.len(), KEY_LEN_MAX)?;
        bound("a value's size in bytes", value, VALUE_LEN_MAX)?;
        total = total.saturating_add(key.len()).saturating_add(value);
    }
    bound("the batch's size in bytes", total, BATCH_LEN_MAX)
}

/// Nothing is kept in memory.
struct Rows;

impl Machine for Rows {
    type Request = Vec<Change>;
    type Reply = ();

    fn apply(
        &mut self,
        transaction: &WriteTransaction,
        requests: Vec<Vec<Change>>,
    ) -> Result<Vec<()>, Fault> {
        let mut rows = transaction.open_table(ROWS).map_err(fault)?;
        let replies = vec![(); requests.len()];
        for change in requests.into_iter().flatten() {
            match change {
                Change::Put { key, value } => {
                    rows.insert(key.as_str(), value.as_ref()).map_err(fault)?;
                }
                Change::Delete { key } => {
                    rows.remove(key.as_str()).map_err(fault)?;
                }
            }
        }
        Ok(replies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn put(key: &str, value: &str) -> Change {
        Change::Put { key: key.to_owned(), value: value.to_owned().into() }
    }

    fn delete(key: &str) -> Change {
        Change::Delete { key: key.to_owned() }
    }

    #[tokio::test]
    async fn changes_outlive_a_restart_and_a_scan_is_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.redb");
        let store = LocalStore::open(&path).unwrap();
        store.apply(vec![put("r/2", "b"), put("r/1", "a"), put("s", "c")]).await.unwrap();
        store.apply(vec![put("r/1", "z"), delete("r/2"), put("r/3", "d")]).await.unwrap();
        assert!(matches!(LocalStore::open(&path), Err(OpenError::Locked(_))));
        drop(store);
        let store = LocalStore::open(&path).unwrap();
        let found = store.scan("r/").unwrap();
        let expected = [("r/1", "z"), ("r/3", "d")];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), Bytes::from(v))));
        assert_eq!(store.get("s").unwrap().unwrap(), "c");
        assert_eq!(store.get("none").unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_whole() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&directory.path().join("s.redb")).unwrap();
        let large =
            Change::Put { key: "l".into(), value: vec![0; VALUE_LEN_MAX + 1].into() };
        let error = store.apply(vec![put("a", "1"), large]).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }));
        assert_eq!(store.get("a").unwrap(), None);
    }

    fn change() -> impl Strategy<Value = Change> {
        let key = prop_oneof!["[ab]{1,2}", Just("a/x".to_owned())];
        (key, proptest::option::of("[a-z]{0,3}")).prop_map(|(key, value)| match value {
            Some(value) => Change::Put { key, value: value.into() },
            None => Change::Delete { key },
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn it_holds_what_a_map_would(
            batches in prop::collection::vec(prop::collection::vec(change(), 0..6), 0..6),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let directory = tempfile::tempdir().unwrap();
            let store = LocalStore::open(&directory.path().join("s.redb")).unwrap();
            let mut map = BTreeMap::new();
            for batch in batches {
                runtime.block_on(store.apply(batch.clone())).unwrap();
                for change in batch {
                    match change {
                        Change::Put { key, value } => { map.insert(key, value); }
                        Change::Delete { key } => { map.remove(&key); }
                    }
                }
            }
            for prefix in ["", "a", "a/", "b"] {
                let expected: Vec<_> = map
                    .iter()
                    .filter(|(key, _)| key.starts_with(prefix))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                prop_assert_eq!(store.scan(prefix).unwrap(), expected);
            }
        }
    }
}
