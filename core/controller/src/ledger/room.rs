//! Room that is not there yet: a reservation may count on what less urgent VMs of its host are
//! about to free (F32).
//!
//! Such a reservation names its victims and what each frees, and holds what it needs without
//! that. With every victim that is parked or released it holds as much more, in the same step
//! and the same stored batch, so that nobody can come between: not another placement, and not
//! a victim that is wanted again. It can be committed when the last victim has given its room,
//! and it lapses like any that is only held; then the victims keep what they still have.
//!
//! The plan was made on a late view: here it is asked again who may be stopped, who makes
//! room for another already, and who need not stop at all because others left meanwhile.
//!
//! Rejected: marking the room of each victim for its beneficiary. What a victim frees and what
//! the VM needs differ, and the rest must be free for all.

use std::collections::BTreeMap;
use std::sync::Arc;

use dwcp_types::{Capacity, Tier, VmId};

use super::reach::Reach;
use super::{Change, Ledger, Place, Reservation, Reserve, ReserveDenied, Stage};

impl Ledger {
    /// The reservation that this VM makes room for.
    #[must_use]
    pub fn waiter_for(&self, victim: &VmId) -> Option<&Arc<Reservation>> {
        self.waiters.get(victim).and_then(|id| self.get(id))
    }

    /// The proposed host in the room that the victims are to make; `full` when it is not
    /// enough.
    pub(super) fn room_of_victims(
        &self,
        ask: &Reserve,
        reach: &Reach,
        full: ReserveDenied,
    ) -> Result<Place, ReserveDenied> {
        let Some(id) = ask.proposal.host.clone() else { return Err(full) };
        let Some(host) = self.hosts.get(&id) else { return Err(full) };
        let mut victims = Vec::new();
        for vm in &ask.victims {
            if let Some(row) = self.of_vm(vm).filter(|row| may_free(row, &id)) {
                victims.push(self.asked_to_go(row, ask)?);
            }
        }
        let need = ask.need();
        let fits_with = |victims: &[&Reservation]| {
            let frees = victims.iter().map(|row| row.frees());
            let freed = frees.fold(Capacity::default(), |sum, part| sum.plus(&part));
            self.hosts.refusal(&id, &need.saturating_sub(&freed)).is_none()
        };
        if !reach.allows(&host.zone, &id) || !fits_with(&victims) {
            return Err(full);
        }
        // The most urgent are spared first.
        victims.sort_by_key(|row| std::cmp::Reverse((row.ask.priority, &row.ask.vm)));
        let mut at = 0;
        while at < victims.len() {
            let mut fewer = victims.clone();
            fewer.remove(at);
            if fits_with(&fewer) { victims = fewer } else { at += 1 }
        }
        let awaits: BTreeMap<_, _> =
            victims.iter().map(|row| (row.ask.vm.clone(), row.frees())).collect();
        Ok(Place { zone: host.zone.clone(), host: id, awaits })
    }

    fn asked_to_go<'a>(
        &self,
        victim: &'a Reservation,
        ask: &Reserve,
    ) -> Result<&'a Reservation, ReserveDenied> {
        let vm = victim.ask.vm.clone();
        if victim.ask.tier == Tier::Protected || victim.ask.priority >= ask.priority {
            return Err(ReserveDenied::VictimGuarded { vm });
        }
        match self.waiter_for(&vm) {
            Some(waiter) => {
                Err(ReserveDenied::VictimTaken { vm, to: waiter.ask.vm.clone() })
            }
            None => Ok(victim),
        }
    }

    /// This VM has given its room, or is gone: whoever awaits it has it now.
    pub(super) fn hand_over(&mut self, victim: &VmId) -> Option<Change> {
        let id = self.waiters.get(victim)?.clone();
        let waiter = self.take(&id)?.row;
        let mut awaits = waiter.awaits.clone();
        awaits.remove(victim);
        let row = Arc::new(Reservation { awaits, ..waiter.as_ref().clone() });
        self.insert(Arc::clone(&row));
        Some(Change::put(&row))
    }
}

/// Whether it has a guest there whose room it still holds.
fn may_free(row: &Reservation, host: &dwcp_types::HostId) -> bool {
    row.host == *host && !row.parked && matches!(row.stage, Stage::Confirmed)
}
