//! How a reservation moves on: begun, confirmed, released, cancelled, lapsed.

use std::sync::Arc;

use dwcp_types::{Capacity, ReservationId, Timestamp};

use super::{
    CancelDenied, Change, Changed, CommitDenied, ConfirmDenied, HOLD_FOR_MAX, Ledger,
    Mark, Reservation, Stage,
};
use crate::ownership::VmRecord;

/// Most reservations that one call of [`Ledger::expire`] ends, so that its batch stays small
/// enough to store in one go; [`Ledger::next_deadline`] says whether to call again.
pub const EXPIRED_PER_CALL_MAX: usize = 1_024;

impl Ledger {
    /// Begins to commit a held reservation: from here on it does not lapse, and after a crash
    /// it is rolled forward with this record. Beginning again gives the record that was begun
    /// with. The record's epoch is not compared: it is decided by the engine's transaction.
    ///
    /// # Errors
    ///
    /// When it is not held any more, others have not made their room for it yet, or the record
    /// is not what was reserved.
    pub fn begin_commit(
        &mut self,
        now: Timestamp,
        id: &ReservationId,
        record: VmRecord,
    ) -> Result<Changed<Arc<Reservation>>, CommitDenied> {
        let unknown = || CommitDenied::Unknown { id: id.clone() };
        let row = Arc::clone(&self.live.get(id).ok_or_else(unknown)?.row);
        if row.is_lapsed(now) {
            return Err(unknown());
        }
        if !row.awaits.is_empty() {
            return Err(CommitDenied::AwaitsRoom {
                id: id.clone(),
                vms: row.awaits.len(),
            });
        }
        self.check_record(&row, &record)?;
        match &row.stage {
            Stage::Held { .. } => {
                Ok(self.restage(&row, Stage::Committing { record: Box::new(record) }))
            }
            Stage::Committing { record: begun } if !same_wish(begun, &record) => {
                Err(CommitDenied::OtherRecord {
                    id: id.clone(),
                    what: "request or token",
                })
            }
            Stage::Committing { .. } | Stage::Confirmed => Ok(Changed::nothing(row)),
        }
    }

    /// Holds what is held for as long again as it was asked for; of what is being committed
    /// nothing lapses. A move takes longer than any single hold may.
    ///
    /// # Errors
    ///
    /// When it is not held any more.
    pub fn renew(
        &mut self,
        now: Timestamp,
        id: &ReservationId,
    ) -> Result<Changed<Arc<Reservation>>, ConfirmDenied> {
        let unknown = || ConfirmDenied::Unknown { id: id.clone() };
        let row = Arc::clone(&self.live.get(id).ok_or_else(unknown)?.row);
        if row.is_lapsed(now) {
            return Err(unknown());
        }
        if row.expires_at().is_none() {
            return Ok(Changed::nothing(row));
        }
        let expires_at = now.plus(row.ask.hold_for);
        Ok(self.restage(&row, Stage::Held { expires_at }))
    }

    /// The engine has the VM under this reservation. Confirming twice is confirming once.
    ///
    /// # Errors
    ///
    /// When there is no such reservation, or its commit was never begun.
    pub fn confirm(
        &mut self,
        id: &ReservationId,
    ) -> Result<Changed<Arc<Reservation>>, ConfirmDenied> {
        let Some(live) = self.live.get(id) else {
            return Err(ConfirmDenied::Unknown { id: id.clone() });
        };
        let row = Arc::clone(&live.row);
        match row.stage {
            Stage::Held { .. } => Err(ConfirmDenied::StillHeld { id: id.clone() }),
            Stage::Confirmed => Ok(Changed::nothing(row)),
            Stage::Committing { .. } => Ok(self.restage(&row, Stage::Confirmed)),
        }
    }

    /// Gives the capacity back, however far the reservation is: the engine said that another
    /// attempt has the VM, or its record is gone. Only for the region itself; a coordinator
    /// cancels. Releasing what is gone does nothing.
    pub fn release(&mut self, id: &ReservationId) -> Changed<()> {
        let Some(gone) = self.take(id) else { return Changed::nothing(()) };
        // What was only held never had a record.
        if gone.row.expires_at().is_none() {
            self.settlements = self.settlements.next();
            self.gone.note(id, self.settlements);
        }
        let mut changes = vec![Change::delete(id)];
        changes.extend(self.hand_over(&gone.row.ask.vm));
        Changed { value: (), changes }
    }

    /// A coordinator takes back what it only holds. Cancelling what is gone does nothing.
    ///
    /// # Errors
    ///
    /// When the commit was begun: a message that comes late must not free the capacity of a
    /// VM that runs.
    pub fn cancel(&mut self, id: &ReservationId) -> Result<Changed<()>, CancelDenied> {
        match self.live.get(id) {
            Some(live) if live.row.expires_at().is_none() => {
                Err(CancelDenied::Committed {
                    id: id.clone(),
                    vm: live.row.ask.vm.clone(),
                })
            }
            _ => Ok(self.release(id)),
        }
    }

    /// Ends what has lapsed, the earliest first and at most [`EXPIRED_PER_CALL_MAX`]; says
    /// which. Also what lies further ahead than any hold may: its clock has stepped back.
    pub fn expire(&mut self, now: Timestamp) -> Changed<Vec<ReservationId>> {
        let due = |(at, _): &&(Timestamp, ReservationId)| *at <= now;
        // Held longer than anyone may hold: the clock has stepped back since.
        let latest = now.plus(HOLD_FOR_MAX);
        let stray = |(at, _): &&(Timestamp, ReservationId)| *at > latest;
        let strays = self.deadlines.iter().rev().take_while(stray);
        let lapsed: Vec<_> = self
            .deadlines
            .iter()
            .take_while(due)
            .chain(strays)
            .take(EXPIRED_PER_CALL_MAX)
            .map(|(_, id)| id.clone())
            .collect();
        let changes = lapsed.iter().flat_map(|id| self.release(id).changes).collect();
        Changed { value: lapsed, changes }
    }

    /// When [`Self::expire`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Replaces a row by itself at another stage; everything it is indexed by stays, but for
    /// its deadline.
    pub(super) fn restage(
        &mut self,
        row: &Reservation,
        stage: Stage,
    ) -> Changed<Arc<Reservation>> {
        let id = &row.ask.id;
        if let Some(at) = row.expires_at() {
            self.deadlines.remove(&(at, id.clone()));
        }
        let row = Arc::new(Reservation { stage, ..row.clone() });
        if let Some(at) = row.expires_at() {
            self.deadlines.insert((at, id.clone()));
        }
        let live = super::Live { row: Arc::clone(&row), settled: Mark::START };
        self.live.insert(id.clone(), live);
        if matches!(row.stage, Stage::Confirmed) {
            self.settle_now(id);
        }
        let changes = vec![Change::put(&row)];
        Changed { value: row, changes }
    }

    fn check_record(
        &self,
        row: &Reservation,
        record: &VmRecord,
    ) -> Result<(), CommitDenied> {
        let same = [
            (record.reservation == row.ask.id, "reservation"),
            (record.request.id == row.ask.vm, "VM"),
            (record.request.tenant == row.ask.tenant, "tenant"),
            (Capacity::of(&record.request.shape) == row.ask.need(), "shape"),
            (record.owner.region == self.region, "region"),
            (record.owner.zone == row.zone, "zone"),
            (record.owner.host == row.host, "host"),
        ];
        match same.into_iter().find(|(same, _)| !same) {
            Some((_, what)) => {
                Err(CommitDenied::OtherRecord { id: row.ask.id.clone(), what })
            }
            None => Ok(()),
        }
    }
}

fn same_wish(begun: &VmRecord, again: &VmRecord) -> bool {
    begun.request == again.request && begun.token == again.token
}
