//! Checks the ledger against itself: every sum and index is made anew from the rows alone.
//!
//! Written apart from the code that keeps them up to date, for the tests, for the simulation,
//! and for a daemon that wants to know after loading. Linear in the reservations.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_types::{Capacity, HostId, ReservationId, VmId};

use super::Ledger;

/// Something that must never be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The sum of a host is not the sum of its rows.
    #[error("host {host} counts {counted:?} as allocated and its rows sum to {summed:?}")]
    Sum {
        /// The host.
        host: HostId,
        /// What the ledger counts.
        counted: Box<Capacity>,
        /// What the rows say.
        summed: Box<Capacity>,
    },
    /// A VM has more than one row, or is not found by its VM.
    #[error("VM {vm} is not found under its one reservation {reservation}")]
    Vm {
        /// The VM.
        vm: VmId,
        /// One of its reservations.
        reservation: ReservationId,
    },
    /// The deadlines are not those of the rows.
    #[error("the deadlines kept are not those of the held reservations")]
    Deadlines,
    /// A reservation counts on room that its victim does not hold.
    #[error("reservation {reservation} awaits room that VM {victim} does not hold so")]
    Room {
        /// The reservation.
        reservation: ReservationId,
        /// The VM.
        victim: VmId,
    },
    /// The VMs that make room are not those that the rows name.
    #[error("the victims kept are not those of the reservations")]
    Victims,
    /// The groups are not those of the rows.
    #[error("the group members kept are not those of the reservations")]
    Groups,
}

impl Ledger {
    /// Everything that is wrong with it; empty in a sound ledger.
    #[must_use]
    pub fn lint(&self) -> Vec<Finding> {
        let mut findings = self.lint_sums();
        for row in self.iter() {
            if self.by_vm.get(&row.ask.vm) != Some(&row.ask.id) {
                let (vm, reservation) = (row.ask.vm.clone(), row.ask.id.clone());
                findings.push(Finding::Vm { vm, reservation });
            }
        }
        let deadline =
            |row: &super::Reservation| Some((row.expires_at()?, row.ask.id.clone()));
        let deadlines: BTreeSet<_> =
            self.iter().filter_map(|row| deadline(row)).collect();
        if deadlines != self.deadlines {
            findings.push(Finding::Deadlines);
        }
        findings.extend(self.lint_room());
        let mut groups: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for row in self.iter() {
            for rule in &row.ask.rules {
                let group = (row.ask.tenant.clone(), rule.group.clone());
                groups.entry(group).or_default().insert(row.ask.id.clone());
            }
        }
        if groups != self.groups {
            findings.push(Finding::Groups);
        }
        findings
    }

    fn lint_room(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut waiters = BTreeMap::new();
        for row in self.iter() {
            for (victim, frees) in &row.awaits {
                waiters.insert(victim.clone(), row.ask.id.clone());
                let as_said = |other: &super::Reservation| {
                    (&other.ask.vm, &other.host) == (victim, &row.host)
                        && (other.stage == super::Stage::Confirmed && !other.parked)
                        && other.frees() == *frees
                };
                if !self.iter().any(|other| as_said(other)) {
                    let (reservation, victim) = (row.ask.id.clone(), victim.clone());
                    findings.push(Finding::Room { reservation, victim });
                }
            }
        }
        if waiters != self.waiters {
            findings.push(Finding::Victims);
        }
        findings
    }

    fn lint_sums(&self) -> Vec<Finding> {
        let mut sums: BTreeMap<&HostId, Capacity> = BTreeMap::new();
        for row in self.iter() {
            let sum = sums.entry(&row.host).or_default();
            *sum = sum.plus(&row.holds());
        }
        let mut findings = Vec::new();
        for (id, host) in self.hosts.iter() {
            let summed = sums.remove(id).unwrap_or_default();
            if summed != host.allocated {
                findings.push(Finding::Sum {
                    host: id.clone(),
                    counted: Box::new(host.allocated),
                    summed: Box::new(summed),
                });
            }
        }
        for (id, summed) in sums {
            findings.push(Finding::Sum {
                host: id.clone(),
                counted: Box::default(),
                summed: Box::new(summed),
            });
        }
        findings
    }
}
