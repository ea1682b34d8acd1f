//! Pre-emption in the books: a VM that was stopped for a more urgent one gives back all but
//! its disk's storage, and takes it again when there is room (F32).
//!
//! Only what is confirmed can be parked: what is held or being committed has no guest yet. A
//! replica of a VM that runs elsewhere is parked from its beginning. What a VM gives back goes
//! to the reservation that awaits it (`room`), and a VM that has not given its room yet does not
//! get it back before that reservation has it or has ended.

use std::sync::Arc;

use dwcp_types::{ReservationId, Timestamp, VmId};

use super::{Change, Changed, Ledger, Reservation, Stage};
use crate::HostRefusal;

/// Why a reservation cannot be parked, or taken up again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParkDenied {
    /// There is none by that id, or it is not confirmed.
    #[error("reservation {id} holds no running VM")]
    NotConfirmed {
        /// The id.
        id: ReservationId,
    },
    /// There is none by that id that is only held.
    #[error("reservation {id} is not held any more")]
    NotHeld {
        /// The id.
        id: ReservationId,
    },
    /// It makes room for another VM first.
    #[error("it makes room for VM {to} first")]
    MakesRoom {
        /// The VM that waits for it.
        to: VmId,
    },
    /// Its host has no room.
    #[error("its host has no room for it now: {refusal}")]
    NoRoom {
        /// What is short.
        refusal: HostRefusal,
    },
}

impl Ledger {
    /// Gives back all but the storage. Doing it twice is doing it once.
    ///
    /// # Errors
    ///
    /// When it is not confirmed.
    pub fn park(
        &mut self,
        id: &ReservationId,
    ) -> Result<Changed<Arc<Reservation>>, ParkDenied> {
        let row = self.confirmed(id)?;
        if row.parked {
            return Ok(Changed::nothing(row));
        }
        let mut done = self.reparked(&row, true);
        done.changes.extend(self.hand_over(&row.ask.vm));
        Ok(done)
    }

    /// Makes what is held the storage of a replica: its VM runs in another region, whose record
    /// names this reservation. Doing it twice is doing it once.
    ///
    /// # Errors
    ///
    /// When it has lapsed, or a commit of it was begun.
    pub fn keep_for_replica(
        &mut self,
        now: Timestamp,
        id: &ReservationId,
    ) -> Result<Changed<Arc<Reservation>>, ParkDenied> {
        let unknown = || ParkDenied::NotHeld { id: id.clone() };
        let row = self.get(id).cloned().ok_or_else(unknown)?;
        match row.stage {
            Stage::Confirmed if row.parked => Ok(Changed::nothing(row)),
            Stage::Held { .. } if !row.is_lapsed(now) => {
                let row = Reservation { stage: Stage::Confirmed, ..row.as_ref().clone() };
                Ok(self.reparked(&row, true))
            }
            Stage::Held { .. } | Stage::Confirmed | Stage::Committing { .. } => {
                Err(unknown())
            }
        }
    }

    /// Takes the rest again, on the same host, where its disk is.
    ///
    /// # Errors
    ///
    /// When it is not confirmed, still makes room for another, or the host has no room; then
    /// nothing is changed.
    pub fn unpark(
        &mut self,
        id: &ReservationId,
    ) -> Result<Changed<Arc<Reservation>>, ParkDenied> {
        let row = self.confirmed(id)?;
        if let Some(waiter) = self.waiter_for(&row.ask.vm) {
            return Err(ParkDenied::MakesRoom { to: waiter.ask.vm.clone() });
        }
        if !row.parked {
            return Ok(Changed::nothing(row));
        }
        let mut ended = Vec::new();
        if let Some(refusal) = self.hosts.refusal(&row.host, &row.frees()) {
            if !self.hosts.has_room_but_for_trials(&row.host, &row.frees()) {
                return Err(ParkDenied::NoRoom { refusal });
            }
            ended = self.end_trials_on(&row.host);
        }
        let mut done = self.reparked(&row, false);
        done.changes.extend(ended);
        Ok(done)
    }

    fn confirmed(&self, id: &ReservationId) -> Result<Arc<Reservation>, ParkDenied> {
        self.get(id)
            .filter(|row| matches!(row.stage, Stage::Confirmed))
            .cloned()
            .ok_or_else(|| ParkDenied::NotConfirmed { id: id.clone() })
    }

    pub(super) fn reparked(
        &mut self,
        row: &Reservation,
        parked: bool,
    ) -> Changed<Arc<Reservation>> {
        let id = &row.ask.id;
        let row = Arc::new(Reservation { parked, ..row.clone() });
        // Taken out and put in whole, so that every index and sum follows.
        drop(self.take(id));
        self.insert(Arc::clone(&row));
        self.settle_now(id);
        let changes = vec![Change::put(&row)];
        Changed { value: row, changes }
    }
}
