//! A region's own records: a small durable key-value store.
//!
//! A batch is atomic and is answered when it is on disk; the group commit of the strong engine
//! carries it. Reads see only what is durable.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, TableDefinition, WriteTransaction};

use crate::commit::{CommitError, Fault, Ledger, Machine, fault};

pub use crate::commit::OpenError;

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a row.
    Put {
        /// Its key.
        key: String,
        /// Its value.
        value: Bytes,
    },
    /// Removes a row; one that is not there is left alone.
    Delete {
        /// Its key.
        key: String,
    },
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct StoreError(#[from] CommitError);

/// The store; cloning shares it.
#[derive(Clone, Debug)]
pub struct Store {
    ledger: Arc<Ledger<Rows>>,
}

struct Rows;

impl Machine for Rows {
    type Request = Vec<Write>;
    type Reply = ();

    fn apply(
        &mut self,
        transaction: &WriteTransaction,
        requests: Vec<Vec<Write>>,
    ) -> Result<Vec<()>, Fault> {
        let replies = vec![(); requests.len()];
        let mut rows = transaction.open_table(ROWS).map_err(fault)?;
        for write in requests.into_iter().flatten() {
            match write {
                Write::Put { key, value } => {
                    rows.insert(key.as_str(), value.as_ref()).map_err(fault)?;
                }
                Write::Delete { key } => {
                    rows.remove(key.as_str()).map_err(fault)?;
                }
            }
        }
        Ok(replies)
    }
}

impl Store {
    /// Opens the store's file, making it when it is not there.
    ///
    /// # Errors
    ///
    /// When another process uses it, or it cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let ledger = Ledger::open(path, |database: &Database| {
            let transaction = database.begin_write().map_err(fault)?;
            transaction.open_table(ROWS).map_err(fault)?;
            transaction.commit().map_err(fault)?;
            Ok(Rows)
        })?;
        Ok(Self { ledger: Arc::new(ledger) })
    }

    /// Applies a batch, whole or not at all, and answers when it is durable.
    ///
    /// # Errors
    ///
    /// When it could not be stored.
    pub async fn apply(&self, batch: Vec<Write>) -> Result<(), StoreError> {
        Ok(self.ledger.submit(batch).await?)
    }

    /// Every row whose key begins with `prefix`, by key.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    #[expect(clippy::unused_async, reason = "a store on a network would wait")]
    pub async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        Ok(self.ledger.read(|database| {
            let transaction = database.begin_read().map_err(fault)?;
            let table = transaction.open_table(ROWS).map_err(fault)?;
            let mut found = Vec::new();
            for row in table.range(prefix..).map_err(fault)? {
                let (key, value) = row.map_err(fault)?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                let value = Bytes::copy_from_slice(value.value());
                found.push((key.value().to_owned(), value));
            }
            Ok(found)
        })?)
    }
}
