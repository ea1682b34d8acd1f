//! The rows that a restart finds everything again by.
//!
//! ```text
//! s/<key>                                        a value
//! d/<replica>.<incarnation>/<seq, 16 digits>     a delta of the log, until every member has it
//! m/incarnation, m/places, m/view                who this is, how far it has got, what it follows
//! m/op/<client>.<number>                         an operation id
//! u/<incarnation>/<seq>                          what nobody else had when it was evicted
//! ```
//!
//! Each begins with a version byte. A row that cannot be read stops the start: going on without
//! it would lose what was acknowledged.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::{Hlc, ReplicaId};
use crate::frame::Held;
use crate::frontier::{Frontier, Position};
use crate::membership::Membership;
use crate::replica::command::RowChange;
use crate::replica::input::{Key, OpId};

/// The version of what rows hold.
const ROW_VERSION: u8 = 1;

/// A row as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub row: String,
    /// What it holds.
    pub value: Vec<u8>,
}

/// Why a replica cannot start from its rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// A row cannot be read.
    #[error(
        "row {row:?}: {reason}; restore the store from a backup, or evict the replica and admit it again with an empty store"
    )]
    Row {
        /// Which.
        row: String,
        /// What is wrong.
        reason: String,
    },
    /// It was started too often in one admission.
    #[error(
        "replica {replica} has started {max} times in one admission; evict it and admit it again"
    )]
    RestartedTooOften {
        /// Which replica.
        replica: ReplicaId,
        /// How often it may.
        max: u32,
    },
}

/// `s/<key>`.
#[derive(Debug, Serialize, serde::Deserialize)]
pub(crate) struct StateRow {
    pub(crate) stamp: Option<Hlc>,
    pub(crate) beyond: Option<Box<Frontier>>,
    pub(crate) value: Held,
}

/// `d/...` and `u/...`.
#[derive(Debug, Serialize, serde::Deserialize)]
pub(crate) struct DeltaRow {
    pub(crate) position: Position,
    pub(crate) stamp: Hlc,
    pub(crate) timed: bool,
    pub(crate) key: Key,
    pub(crate) value: Held,
}

/// `m/places`.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
pub(crate) struct Places {
    /// What was received.
    pub(crate) frontier: Frontier,
    /// The clock.
    pub(crate) clock: Hlc,
    /// The log has everything after this.
    pub(crate) log_start: Position,
    /// What every member had seen of what was collected here.
    pub(crate) collected: Frontier,
    /// How far some other replica has this one's log.
    pub(crate) spread: Position,
}

/// `m/op/...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct OpRow {
    pub(crate) position: Position,
    pub(crate) stamp: Hlc,
    /// Of key and update.
    pub(crate) digest: u64,
}

pub(crate) const INCARNATION: &str = "m/incarnation";
pub(crate) const PLACES: &str = "m/places";
pub(crate) const VIEW: &str = "m/view";

pub(crate) fn state(key: &str) -> String {
    format!("s/{key}")
}

pub(crate) fn delta(replica: ReplicaId, position: Position) -> String {
    format!("d/{replica}.{}/{:016x}", position.incarnation, position.seq)
}

pub(crate) fn unsent(position: Position) -> String {
    format!("u/{}/{:016x}", position.incarnation, position.seq)
}

pub(crate) fn op(id: OpId) -> String {
    format!("m/op/{:016x}.{:016x}", id.client, id.number)
}

/// Writes a row.
pub(crate) fn put(row: String, value: &impl Serialize) -> RowChange {
    let bytes = vec![ROW_VERSION];
    let value =
        postcard::to_extend(value, bytes).expect("rows have only what can be written");
    RowChange::Put { row, value }
}

/// What the rows say, sorted out.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) incarnation: Option<u32>,
    pub(crate) places: Places,
    pub(crate) view: Option<Arc<Membership>>,
    pub(crate) states: Vec<(Key, StateRow)>,
    /// In the order of the log.
    pub(crate) deltas: Vec<DeltaRow>,
    pub(crate) ops: Vec<(OpId, OpRow)>,
}

impl Recovered {
    /// Reads rows in any order.
    pub(crate) fn read(
        rows: impl IntoIterator<Item = Row>,
    ) -> Result<Self, RecoverError> {
        let mut found = Self::default();
        for row in rows {
            found.take(&row)?;
        }
        found.deltas.sort_by_key(|delta| delta.position);
        Ok(found)
    }

    fn take(&mut self, row: &Row) -> Result<(), RecoverError> {
        let unknown = || RecoverError::Row {
            row: row.row.clone(),
            reason: "its name is not one that this program writes".to_owned(),
        };
        if let Some(key) = row.row.strip_prefix("s/") {
            self.states.push((Key::from(key), get(row)?));
        } else if row.row.starts_with("d/") {
            self.deltas.push(get(row)?);
        } else if let Some(id) = row.row.strip_prefix("m/op/") {
            self.ops.push((op_id(id).ok_or_else(unknown)?, get(row)?));
        } else {
            match row.row.as_str() {
                INCARNATION => self.incarnation = Some(get(row)?),
                PLACES => self.places = get(row)?,
                VIEW => self.view = Some(Arc::new(get(row)?)),
                // Kept for people only.
                name if name.starts_with("u/") => {}
                _ => return Err(unknown()),
            }
        }
        Ok(())
    }
}

fn op_id(text: &str) -> Option<OpId> {
    let (client, number) = text.split_once('.')?;
    let client = u64::from_str_radix(client, 16).ok()?;
    let number = u64::from_str_radix(number, 16).ok()?;
    Some(OpId { client, number })
}

fn get<T: DeserializeOwned>(row: &Row) -> Result<T, RecoverError> {
    let refuse = |reason: String| RecoverError::Row { row: row.row.clone(), reason };
    match row.value.split_first() {
        Some((&ROW_VERSION, bytes)) => {
            postcard::from_bytes(bytes).map_err(|error| refuse(error.to_string()))
        }
        Some((version, _)) => Err(refuse(format!(
            "it is of version {version}, this program reads {ROW_VERSION}"
        ))),
        None => Err(refuse("it is empty".to_owned())),
    }
}
