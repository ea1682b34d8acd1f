//! The ledger of one region: who holds how much of which host. The only place where capacity
//! is given away (F21).
//!
//! A protocol node: one call at a time, `now` is an argument, and every call that changes
//! something returns the rows to store before its answer is given ([`Changed`]).
//!
//! Invariants (ids as in `sim/src/invariants`):
//!
//! - PL-1: on every host, the sum of allocations is at most what the host has. Only
//!   [`Ledger::reconcile`] and a host that shrinks may break it, and then
//!   [`Ledger::overcommitted`] names the host and it gets no new VM.
//! - Each VM has at most one live reservation here.
//! - A ledger that is loaded from what was stored equals the one that said what to store.
//! - A reservation that is being committed never ends by time: the engine may know its VM.
//! - What VMs free that make room for another goes to that one and to nobody else (`room`).
//!
//! Decides again, with the same [`crate::host_refusal`] as the chooser: what it is handed is a
//! proposal. Rejected: answering a retry of a lapsed id with its old place. The place may be
//! someone else's by now.

mod change;
mod denied;
mod gone;
mod hosts;
mod lint;
mod park;
mod reach;
mod reconcile;
mod reservation;
mod room;
mod stages;
mod trial;
mod view;

pub use change::{Change, Changed, Row, RowKey};
pub use denied::{
    CancelDenied, CommitDenied, ConfirmDenied, HostDenied, LoadError, ReserveDenied,
};
pub use hosts::{HOSTS_MAX, HostReport};
pub use lint::Finding;
pub use park::ParkDenied;
pub use reconcile::{Mark, Reconciled};
pub use reservation::{
    Bounds, EXCLUSIONS_MAX, HOLD_FOR, HOLD_FOR_MAX, Proposal, ROOM_HOLD_FOR, RULES_MAX,
    Reservation, Reserve, Stage,
};
pub use stages::EXPIRED_PER_CALL_MAX;
pub use view::Totals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dwcp_types::{
    Capacity, GroupId, HostId, RegionId, ReservationId, TenantId, Timestamp, VmId, ZoneId,
};

use gone::Gone;
use hosts::HostTable;
use reach::Reach;

use crate::placement::VICTIMS_MAX;

/// Most reservations of one region: the million of the claims benchmark, rounded up to a power
/// of two. Re-adopted VMs are counted beyond it.
pub const RESERVATIONS_MAX: usize = 1 << 20;

/// A live reservation with what need not be stored.
#[derive(Clone, Debug)]
struct Live {
    row: Arc<Reservation>,
    /// When it was confirmed, or parked or unparked since, in this ledger's order of these.
    settled: Mark,
}

/// Where a reservation goes.
#[derive(Debug)]
struct Place {
    zone: ZoneId,
    host: HostId,
    /// Who makes room for it there first.
    awaits: BTreeMap<VmId, Capacity>,
}

/// The reservations of one region.
#[derive(Clone, Debug)]
pub struct Ledger {
    region: RegionId,
    hosts: HostTable,
    live: BTreeMap<ReservationId, Live>,
    by_vm: BTreeMap<VmId, ReservationId>,
    groups: BTreeMap<(TenantId, GroupId), BTreeSet<ReservationId>>,
    deadlines: BTreeSet<(Timestamp, ReservationId)>,
    /// For each VM that makes room, the reservation that awaits it.
    waiters: BTreeMap<VmId, ReservationId>,
    settlements: Mark,
    /// What was given back lately.
    gone: Gone,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub const fn new(region: RegionId) -> Self {
        Self {
            region,
            hosts: HostTable::new(),
            live: BTreeMap::new(),
            by_vm: BTreeMap::new(),
            groups: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            waiters: BTreeMap::new(),
            settlements: Mark::START,
            gone: Gone::since(Mark::START),
        }
    }

    /// The ledger that said to store these rows. Hosts have no capacity until they report.
    ///
    /// # Errors
    ///
    /// When the rows contradict each other, which no atomic store of changes can bring about.
    pub fn load(
        region: RegionId,
        rows: impl IntoIterator<Item = Row>,
    ) -> Result<Self, LoadError> {
        let mut ledger = Self::new(region);
        for row in rows {
            match row {
                Row::Cordon(host) => ledger.hosts.set_cordoned(&host, true),
                Row::Reservation(row) => {
                    if let Some(first) = ledger.by_vm.get(&row.ask.vm) {
                        return Err(LoadError::VmTwice {
                            vm: row.ask.vm.clone(),
                            first: first.clone(),
                            second: row.ask.id.clone(),
                        });
                    }
                    ledger.insert(row);
                }
            }
        }
        Ok(ledger)
    }

    /// Takes a host in, or what it newly says of itself.
    ///
    /// # Errors
    ///
    /// When the region has [`HOSTS_MAX`] hosts and this is another one.
    pub fn report_host(&mut self, report: HostReport) -> Result<(), HostDenied> {
        if self.hosts.get(&report.id).is_none() && self.hosts.len() >= HOSTS_MAX {
            return Err(HostDenied::TooMany { host: report.id, max: HOSTS_MAX });
        }
        self.hosts.report(report);
        Ok(())
    }

    /// What the hosts last said of themselves, to tell it to a ledger that is loaded again.
    #[must_use]
    pub fn host_reports(&self) -> Vec<HostReport> {
        self.hosts.reports()
    }

    /// Its agent does not answer: no new VMs until it reports again. What it holds stays.
    pub fn host_silent(&mut self, host: &HostId) {
        self.hosts.set_ready(host, false);
    }

    /// The operator closes a host for new VMs or opens it again. Doing it twice is doing it
    /// once.
    ///
    /// # Errors
    ///
    /// When the host is not known.
    pub fn cordon(
        &mut self,
        host: &HostId,
        closed: bool,
    ) -> Result<Changed<()>, HostDenied> {
        if self.hosts.get(host).is_none() {
            return Err(HostDenied::Unknown { host: host.clone() });
        }
        if self.hosts.cordoned().contains(host) == closed {
            return Ok(Changed::nothing(()));
        }
        self.hosts.set_cordoned(host, closed);
        let change = if closed {
            Change::Put(Row::Cordon(host.clone()))
        } else {
            Change::Delete(RowKey::Cordon(host.clone()))
        };
        Ok(Changed { value: (), changes: vec![change] })
    }

    /// Forgets a host. Forgetting it twice is forgetting it once.
    ///
    /// # Errors
    ///
    /// When something is reserved on it.
    pub fn remove_host(&mut self, host: &HostId) -> Result<Changed<()>, HostDenied> {
        let reservations = self.hosts.get(host).map_or(0, |host| host.reservations);
        if reservations > 0 {
            return Err(HostDenied::InUse { host: host.clone(), reservations });
        }
        let was_cordoned = self.hosts.cordoned().contains(host);
        self.hosts.remove(host);
        let forget = || Change::Delete(RowKey::Cordon(host.clone()));
        Ok(Changed {
            value: (),
            changes: was_cordoned.then(forget).into_iter().collect(),
        })
    }

    /// Holds capacity for a VM: on the proposed host if it fits, else on the tightest host of
    /// its zone, else on the tightest of the other zones, else on the proposed host in the room
    /// that its victims are to make; never outside the bounds. Asking
    /// again with the same id and content gives the same answer. A later attempt for the same
    /// VM of the same tenant takes the place of one that is only held, so that a coordinator
    /// that died does not block its VM until the hold lapses.
    ///
    /// Trials of failovers on the host that is chosen end when there is no room beside them.
    ///
    /// What has lapsed still counts until [`Self::expire`] is called: call that first.
    ///
    /// # Errors
    ///
    /// See [`ReserveDenied`]; then nothing is changed.
    pub fn reserve(
        &mut self,
        now: Timestamp,
        ask: Reserve,
    ) -> Result<Changed<Arc<Reservation>>, ReserveDenied> {
        check_ranges(&ask)?;
        if let Some(known) = self.live.get(&ask.id).filter(|it| !it.row.is_lapsed(now)) {
            return if known.row.ask == ask {
                Ok(Changed::nothing(Arc::clone(&known.row)))
            } else {
                Err(ReserveDenied::OtherContent { id: ask.id })
            };
        }
        let superseded = self.superseded_by(now, &ask)?;
        if self.live.len() >= RESERVATIONS_MAX && superseded.is_empty() {
            return Err(ReserveDenied::Full { max: RESERVATIONS_MAX });
        }
        let removed: Vec<_> = superseded.iter().filter_map(|id| self.take(id)).collect();
        let placed = self.place_whatever_is_tried(&ask);
        let (Place { zone, host, awaits }, ended) = match placed {
            Ok(placed) => placed,
            Err(denied) => {
                removed.into_iter().for_each(|live| self.insert(live.row));
                return Err(denied);
            }
        };
        let stage = Stage::Held { expires_at: now.plus(ask.hold_for) };
        let (made_at, parked) = (now, false);
        let row =
            Arc::new(Reservation { ask, zone, host, made_at, stage, parked, awaits });
        self.insert(Arc::clone(&row));
        let mut changes: Vec<_> = superseded.iter().map(Change::delete).collect();
        changes.extend(ended);
        changes.push(Change::put(&row));
        Ok(Changed { value: row, changes })
    }

    /// The reservations that this one replaces: a lapsed one of the same id, one of the same VM
    /// and tenant that is only held, and that of the VM's replica which it names.
    fn superseded_by(
        &self,
        now: Timestamp,
        ask: &Reserve,
    ) -> Result<BTreeSet<ReservationId>, ReserveDenied> {
        let mut superseded = BTreeSet::new();
        if self.live.contains_key(&ask.id) {
            superseded.insert(ask.id.clone());
        }
        let Some(by) = self.by_vm.get(&ask.vm) else { return Ok(superseded) };
        let Some(other) = self.live.get(by) else { return Ok(superseded) };
        let held = matches!(other.row.stage, Stage::Held { .. });
        let same_tenant = other.row.ask.tenant == ask.tenant;
        let replica = other.row.parked && ask.replaces.as_ref() == Some(by);
        if replica || held && (same_tenant || other.row.is_lapsed(now)) {
            superseded.insert(by.clone());
            return Ok(superseded);
        }
        Err(ReserveDenied::VmReserved { vm: ask.vm.clone(), by: by.clone() })
    }

    fn place(&self, ask: &Reserve) -> Result<Place, ReserveDenied> {
        let Some(reach) = Reach::of(self, ask) else {
            return Err(ReserveDenied::RulesContradict { vm: ask.vm.clone() });
        };
        match self.choose(ask, &reach) {
            Ok((zone, host)) => Ok(Place { zone, host, awaits: BTreeMap::new() }),
            Err(full) => self.room_of_victims(ask, &reach, full),
        }
    }

    fn choose(
        &self,
        ask: &Reserve,
        reach: &Reach,
    ) -> Result<(ZoneId, HostId), ReserveDenied> {
        let need = ask.need();
        let mut proposed_refusal = None;
        let Proposal { zone: mut near, host: proposed } = ask.proposal.clone();
        for id in [reach.host.clone(), proposed].into_iter().flatten() {
            let Some(host) = self.hosts.get(&id) else { continue };
            let refusal = self.hosts.refusal(&id, &need);
            if refusal.is_none() && reach.allows(&host.zone, &id) {
                return Ok((host.zone.clone(), id));
            }
            proposed_refusal = refusal;
            near = near.or_else(|| Some(host.zone.clone()));
        }
        let tightest = |zone: &ZoneId| {
            let found =
                self.hosts.tightest_in(zone, &need, &|host| reach.allows(zone, host))?;
            Some((found, zone.clone()))
        };
        let found = near
            .as_ref()
            .and_then(tightest)
            .or_else(|| self.hosts.zones().filter_map(tightest).min());
        match found {
            Some(((_, _, _, host), zone)) => Ok((zone, host)),
            None => Err(ReserveDenied::NoHost {
                need: Box::new(need),
                schedulable: self.hosts.schedulable(),
                proposed: proposed_refusal,
            }),
        }
    }

    /// The live members of a group, other than the VM that asks.
    fn members<'a>(
        &'a self,
        ask: &'a Reserve,
        group: &GroupId,
    ) -> impl Iterator<Item = &'a Reservation> {
        self.groups
            .get(&(ask.tenant.clone(), group.clone()))
            .into_iter()
            .flatten()
            .filter_map(|id| self.live.get(id))
            .map(|live| live.row.as_ref())
            .filter(|row| row.ask.vm != ask.vm)
    }

    /// Takes a row into every index. Its id and its VM must be free.
    fn insert(&mut self, row: Arc<Reservation>) {
        let id = &row.ask.id;
        self.gone.recall(id);
        self.hosts.allocate(&row.host, &row.zone, &row.holds());
        if row.ask.is_trial() {
            self.hosts.try_out(&row.host, &row.holds(), true);
        }
        self.by_vm.insert(row.ask.vm.clone(), id.clone());
        for rule in &row.ask.rules {
            let group = (row.ask.tenant.clone(), rule.group.clone());
            self.groups.entry(group).or_default().insert(id.clone());
        }
        if let Some(at) = row.expires_at() {
            self.deadlines.insert((at, id.clone()));
        }
        for victim in row.awaits.keys() {
            self.waiters.insert(victim.clone(), id.clone());
        }
        self.live.insert(id.clone(), Live { row, settled: Mark::START });
    }

    /// Takes a row out of every index.
    fn take(&mut self, id: &ReservationId) -> Option<Live> {
        let live = self.live.remove(id)?;
        let row = &live.row;
        if row.ask.is_trial() {
            self.hosts.try_out(&row.host, &row.holds(), false);
        }
        self.hosts.free(&row.host, &row.holds());
        self.by_vm.remove(&row.ask.vm);
        for rule in &row.ask.rules {
            let group = (row.ask.tenant.clone(), rule.group.clone());
            let Some(members) = self.groups.get_mut(&group) else { continue };
            members.remove(id);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
        if let Some(at) = row.expires_at() {
            self.deadlines.remove(&(at, id.clone()));
        }
        for victim in row.awaits.keys() {
            self.waiters.remove(victim);
        }
        Some(live)
    }
}

fn check_ranges(ask: &Reserve) -> Result<(), ReserveDenied> {
    let refuse = |what, range| Err(ReserveDenied::OutOfRange { what, range });
    if ask.hold_for.is_zero() || ask.hold_for > HOLD_FOR_MAX {
        return refuse("the hold of a reservation", "over 0 and at most 300 s");
    }
    if ask.shape.cpu == 0 || ask.shape.memory.get() == 0 {
        return refuse("CPUs and memory of a VM", "at least 1");
    }
    let excluded = ask.bounds.apart_hosts.len() + ask.bounds.apart_zones.len();
    if excluded > EXCLUSIONS_MAX {
        return refuse("the hosts and zones that are excluded by name", "at most 1000");
    }
    if ask.rules.len() > RULES_MAX {
        return refuse("the affinity rules of a VM", "at most 32");
    }
    if ask.victims.len() > VICTIMS_MAX {
        return refuse("the VMs that make room for one", "at most 8");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
