//! What came of the transaction that creates a VM.
//!
//! The transaction compares three keys: the VM's record absent, its token absent, and its
//! epoch floor unchanged since it was read; and puts record and token. Its answer may be lost,
//! so it is sent again, and then it fails on its own success. This tells the cases apart from
//! what is stored, and only from that: it can be asked after a crash, any number of times.
//!
//! The token outlives the VM. Without that, a duplicate of the commit that is delivered after
//! the VM was deleted would create it a second time.

use dwcp_types::{Epoch, PlacementRequest, ReservationId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::VmRecord;

/// The use of a client's token, kept for longer than any message lives (7 days, PLACEMENT 4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// What was asked with it; the same token with another request is refused.
    pub request: PlacementRequest,
    /// The reservation that it led to.
    pub reservation: ReservationId,
    /// When it was used, by the clock of the region that used it.
    pub used_at: Timestamp,
}

impl TokenRecord {
    /// What is put beside a new VM record.
    #[must_use]
    pub fn of(record: &VmRecord) -> Self {
        Self {
            request: record.request.clone(),
            reservation: record.reservation.clone(),
            used_at: record.created_at,
        }
    }
}

/// The last epoch of a deleted VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EpochFloor {
    /// The next incarnation begins past the moves of this one.
    pub epoch: Epoch,
}

impl EpochFloor {
    /// The epoch that a new VM begins with.
    #[must_use]
    pub const fn first_above(floor: Option<Self>) -> Epoch {
        match floor {
            Some(floor) => floor.epoch.past_moves(),
            None => Epoch::FIRST,
        }
    }
}

/// What is true of an attempt to create a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It was done, by this attempt: confirm the reservation.
    Done,
    /// It was done by this attempt and the VM was deleted since: release the reservation.
    DoneAndDeleted,
    /// The token was used by another attempt with the same request: release the reservation
    /// and answer with that attempt's VM.
    DoneByAnother,
    /// The token was used for another request: release the reservation and refuse.
    TokenUsed,
    /// The name belongs to another VM: release the reservation and refuse.
    NameTaken,
    /// Nothing of it is stored: send the transaction (again).
    Open,
}

/// Says what came of creating `wanted`, from what is stored under its two keys, both read at
/// one revision.
#[must_use]
pub fn judge_creation(
    wanted: &VmRecord,
    vm: Option<&VmRecord>,
    token: Option<&TokenRecord>,
) -> Creation {
    if let Some(token) = token {
        return if token.reservation == wanted.reservation {
            match vm {
                Some(vm) if vm.reservation == wanted.reservation => Creation::Done,
                _ => Creation::DoneAndDeleted,
            }
        } else if token.request == wanted.request {
            Creation::DoneByAnother
        } else {
            Creation::TokenUsed
        };
    }
    match vm {
        Some(vm) if vm.reservation == wanted.reservation => Creation::Done,
        Some(_) => Creation::NameTaken,
        None => Creation::Open,
    }
}
