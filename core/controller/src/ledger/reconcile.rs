//! Bringing the ledger in line with the VM records that the engine has for this region.
//!
//! The records win. A confirmed reservation without a record is given back; a record without
//! a reservation is taken in, also where that over-commits its host, because its guest runs
//! and uses the capacity whether it is counted or not; the host is named so that an operator
//! can act.
//!
//! A list of records is old when it arrives. A reservation that was confirmed after the list
//! was asked for is missing from it with every right: the caller takes a [`Mark`] before it
//! asks, and only what was confirmed by then is given back. What is being committed is never
//! given back here: only the outcome of its transaction decides, since the list may show an
//! earlier incarnation of the VM. The same holds for a VM that was parked after the list was
//! asked for, and for one whose reservation was given back since: its room may be another's
//! (`gone`).

use std::collections::BTreeMap;
use std::sync::Arc;

use dwcp_types::{HostId, RegionId, ReservationId, Timestamp, ZoneId};

use super::gone::Gone;
use super::{Change, Changed, Ledger, Reservation, Reserve, Stage};
use crate::ownership::VmRecord;

/// What a record says is held in this region.
#[derive(Clone, Copy, Debug)]
struct Claim<'a> {
    record: &'a VmRecord,
    zone: &'a ZoneId,
    host: &'a HostId,
    /// Only the storage.
    parked: bool,
    /// Its VM runs elsewhere.
    is_replica: bool,
}

impl<'a> Claim<'a> {
    /// What a record claims in a region: its VM's capacity, or its replica's storage.
    fn of(record: &'a VmRecord, region: &RegionId) -> Option<(&'a ReservationId, Self)> {
        if record.owner.region == *region {
            let (zone, host) = (&record.owner.zone, &record.owner.host);
            let parked = record.is_parked();
            let claim = Self { record, zone, host, parked, is_replica: false };
            return Some((&record.reservation, claim));
        }
        let replica = record.replica.as_ref().filter(|it| it.at.region == *region)?;
        let (zone, host) = (&replica.at.zone, &replica.at.host);
        let claim = Self { record, zone, host, parked: true, is_replica: true };
        Some((&replica.reservation, claim))
    }
}

/// A moment in the order in which reservations were confirmed, parked, unparked and given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl Mark {
    pub(super) const START: Self = Self(0);

    pub(super) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What was brought in line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Confirmed, but the engine had no record of it: given back.
    pub released: Vec<ReservationId>,
    /// Held or being committed, and the engine has its record: confirmed.
    pub confirmed: Vec<ReservationId>,
    /// The engine had a record and no reservation held its capacity: taken in.
    pub adopted: Vec<ReservationId>,
    /// A record that could not be taken in because another reservation of its VM is live, or
    /// its own was given back after the list was asked for; the next list finds that settled.
    pub postponed: Vec<ReservationId>,
    /// Hosts that hold more than they have.
    pub overcommitted: Vec<HostId>,
}

impl Ledger {
    /// Take this before asking the engine for the records of [`Self::reconcile`].
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.settlements
    }

    /// Goes on after another ledger of this region that was thrown away: a list that was asked
    /// for before says nothing about what this one does.
    pub fn go_on_after(&mut self, mark: Mark) {
        self.settlements = mark.next();
        self.gone = Gone::since(self.settlements);
        for live in self.live.values_mut() {
            live.settled = self.settlements;
        }
    }

    /// Notes that a reservation became what it is just now.
    pub(super) fn settle_now(&mut self, id: &ReservationId) {
        self.settlements = self.settlements.next();
        if let Some(live) = self.live.get_mut(id) {
            live.settled = self.settlements;
        }
    }

    /// Brings the ledger in line with every VM record of this region and every replica in it, as
    /// the engine listed them when asked after `mark` was taken. Other records are passed over.
    pub fn reconcile(
        &mut self,
        now: Timestamp,
        mark: Mark,
        records: &[VmRecord],
    ) -> Changed<Reconciled> {
        let region = self.region.clone();
        let ours: BTreeMap<_, _> =
            records.iter().filter_map(|record| Claim::of(record, &region)).collect();
        let mut report = Reconciled::default();
        let mut changes = self.release_unrecorded(mark, &ours, &mut report);
        for (id, claim) in ours {
            changes.extend(self.settle((now, mark), id, claim, &mut report));
        }
        report.overcommitted = self.overcommitted();
        Changed { value: report, changes }
    }

    fn release_unrecorded(
        &mut self,
        mark: Mark,
        ours: &BTreeMap<&ReservationId, Claim<'_>>,
        report: &mut Reconciled,
    ) -> Vec<Change> {
        let unrecorded = |(id, live): &(&ReservationId, &super::Live)| {
            matches!(live.row.stage, Stage::Confirmed)
                && live.settled <= mark
                && !ours.contains_key(*id)
        };
        report.released =
            self.live.iter().filter(unrecorded).map(|(id, _)| id.clone()).collect();
        report.released.iter().flat_map(|id| self.release(id).changes).collect()
    }

    fn settle(
        &mut self,
        (now, mark): (Timestamp, Mark),
        id: &ReservationId,
        claim: Claim<'_>,
        report: &mut Reconciled,
    ) -> Vec<Change> {
        let Some(live) = self.live.get(id) else {
            if self.gone.since_mark(id, mark) {
                report.postponed.push(id.clone());
                return Vec::new();
            }
            return self.adopt(now, id, claim, report);
        };
        let record = claim.record;
        let row = Arc::clone(&live.row);
        let settled = live.settled;
        // What awaits room has no record that it was committed by, so that is another one's.
        let same_place = row.awaits.is_empty()
            && row.host == *claim.host
            && row.ask.vm == record.request.id
            && row.ask.shape == record.request.shape;
        if !same_place {
            let mut changes = self.release(id).changes;
            changes.extend(self.adopt(now, id, claim, report));
            return changes;
        }
        if claim.is_replica && !row.parked {
            report.confirmed.push(id.clone());
            let row = Reservation { stage: Stage::Confirmed, ..row.as_ref().clone() };
            return self.reparked(&row, true).changes;
        }
        if matches!(row.stage, Stage::Confirmed) {
            // A VM that is here and not pre-empted holds all that it needs, whatever came
            // between; but a list that is older than its parking says nothing about it.
            let runs = record.preempted_by.is_none() && !claim.is_replica;
            let stands = runs && settled <= mark;
            return if row.parked && stands {
                self.reparked(&row, false).changes
            } else {
                Vec::new()
            };
        }
        report.confirmed.push(id.clone());
        self.restage(&row, Stage::Confirmed).changes
    }

    fn adopt(
        &mut self,
        now: Timestamp,
        id: &ReservationId,
        claim: Claim<'_>,
        report: &mut Reconciled,
    ) -> Vec<Change> {
        let record = claim.record;
        let mut changes = Vec::new();
        if let Some(other) = self.by_vm.get(&record.request.id).cloned() {
            let held = |live: &super::Live| live.row.expires_at().is_some();
            if !self.live.get(&other).is_some_and(held) {
                report.postponed.push(id.clone());
                return changes;
            }
            changes.extend(self.release(&other).changes);
        }
        let row = Arc::new(Reservation {
            ask: Reserve::of(id.clone(), &record.request),
            zone: claim.zone.clone(),
            host: claim.host.clone(),
            made_at: now,
            stage: Stage::Confirmed,
            parked: claim.parked,
            awaits: BTreeMap::new(),
        });
        self.insert(Arc::clone(&row));
        self.settle_now(id);
        report.adopted.push(id.clone());
        changes.push(Change::put(&row));
        changes
    }
}
