//! What others may see of the ledger.

use std::sync::Arc;

use dwcp_types::{Capacity, HostId, HostView, ReservationId, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ledger, Reservation, Row, Stage};

/// The sums of a region.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct Totals {
    /// Of every host that reported.
    pub total: Capacity,
    /// Held, being committed or confirmed.
    pub allocated: Capacity,
    /// Free on hosts that take VMs. Less than total without allocated where a host is closed.
    pub free: Capacity,
    /// Hosts that are known.
    pub hosts: usize,
    /// Hosts that take VMs.
    pub schedulable_hosts: usize,
    /// Live reservations.
    pub reservations: usize,
    /// Hosts that hold more than they have.
    pub overcommitted_hosts: usize,
}

impl Ledger {
    /// Every known host, by id.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostView> {
        self.hosts.iter().map(|(id, host)| self.hosts.view(id, host)).collect()
    }

    /// One host.
    #[must_use]
    pub fn host(&self, id: &HostId) -> Option<HostView> {
        self.hosts.get(id).map(|host| self.hosts.view(id, host))
    }

    /// The sums, made anew from the hosts.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            hosts: self.hosts.len(),
            schedulable_hosts: self.hosts.schedulable(),
            reservations: self.live.len(),
            ..Totals::default()
        };
        for (id, host) in self.hosts.iter() {
            totals.total = totals.total.plus(&host.total.unwrap_or_default());
            totals.allocated = totals.allocated.plus(&host.allocated);
            totals.overcommitted_hosts += usize::from(host.is_overcommitted());
            if self.hosts.takes_vms(id) {
                totals.free = totals.free.plus(&host.free());
            }
        }
        totals
    }

    /// The hosts that hold more than they have.
    #[must_use]
    pub fn overcommitted(&self) -> Vec<HostId> {
        let over = self.hosts.iter().filter(|(_, host)| host.is_overcommitted());
        over.map(|(id, _)| id.clone()).collect()
    }

    /// A live reservation.
    #[must_use]
    pub fn get(&self, id: &ReservationId) -> Option<&Arc<Reservation>> {
        self.live.get(id).map(|live| &live.row)
    }

    /// The live reservation of a VM.
    #[must_use]
    pub fn of_vm(&self, vm: &VmId) -> Option<&Arc<Reservation>> {
        self.by_vm.get(vm).and_then(|id| self.get(id))
    }

    /// Every live reservation, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Reservation>> {
        self.live.values().map(|live| &live.row)
    }

    /// What is being committed and must be rolled forward.
    pub fn committing(&self) -> impl Iterator<Item = &Arc<Reservation>> {
        self.iter().filter(|row| matches!(row.stage, Stage::Committing { .. }))
    }

    /// Every row as it should be stored now; to compare with what is.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let cordons = self.hosts.cordoned().iter().cloned().map(Row::Cordon);
        cordons.chain(self.iter().cloned().map(Row::Reservation))
    }
}
