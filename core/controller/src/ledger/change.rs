//! What must be durable before the answer goes out.
//!
//! The ledger changes itself first and says what to store. A shell that cannot store all
//! changes of one call in one atomic batch must throw the ledger away and load it again:
//! answering from a ledger that is ahead of its disk is how capacity is sold twice (C1 of the
//! crash-point tests). Rejected: storing per-host sums as well; they can be wrong, rows can
//! not disagree with themselves.

use std::sync::Arc;

use dwcp_types::{HostId, ReservationId};
use serde::{Deserialize, Serialize};

use super::Reservation;

/// A stored row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    /// A reservation.
    Reservation(Arc<Reservation>),
    /// The operator's word that a host takes no new VMs; it outlives a restart.
    Cordon(HostId),
}

/// The key of a stored row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKey {
    /// Of a reservation.
    Reservation(ReservationId),
    /// Of a cordon.
    Cordon(HostId),
}

impl RowKey {
    /// The key as text, for a store whose keys are text.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Reservation(id) => format!("reservation/{id}"),
            Self::Cordon(host) => format!("cordon/{host}"),
        }
    }
}

/// One change to what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Store this row, over what is there.
    Put(Row),
    /// Remove this row; it may be gone already.
    Delete(RowKey),
}

impl Change {
    /// Which row it changes.
    #[must_use]
    pub fn key(&self) -> RowKey {
        match self {
            Self::Put(Row::Reservation(row)) => RowKey::Reservation(row.ask.id.clone()),
            Self::Put(Row::Cordon(host)) => RowKey::Cordon(host.clone()),
            Self::Delete(key) => key.clone(),
        }
    }

    pub(super) fn put(row: &Arc<Reservation>) -> Self {
        Self::Put(Row::Reservation(Arc::clone(row)))
    }

    pub(super) fn delete(id: &ReservationId) -> Self {
        Self::Delete(RowKey::Reservation(id.clone()))
    }
}

/// An answer, and what must be stored before it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the changes must be stored before the answer is given"]
pub struct Changed<T> {
    /// The answer.
    pub value: T,
    /// What to store first, all of it or none, in this order.
    pub changes: Vec<Change>,
}

impl<T> Changed<T> {
    pub(super) const fn nothing(value: T) -> Self {
        Self { value, changes: Vec::new() }
    }
}
