//! Random sequences against a naive ledger: a list of reservations that is scanned for every
//! answer, pre-emption and all. After each step the two agree, the ledger agrees with itself, and a ledger that is
//! loaded from what was stored so far equals it.

use std::collections::BTreeMap;

use dwcp_types::{HostView, Power};
use proptest::prelude::*;

use super::*;

const HOSTS: [(&str, &str); 5] =
    [("h0", "a"), ("h1", "a"), ("h2", "b"), ("h3", "b"), ("h4", "c")];
const VMS: u8 = 12;

#[derive(Clone, Debug)]
enum Step {
    Reserve {
        attempt: u8,
        vm: u8,
        cpu: u32,
        wish: Option<u8>,
        bound: Option<u8>,
        secs: u64,
    },
    /// An urgent VM, in the room of these VMs.
    Displace {
        attempt: u8,
        vm: u8,
        cpu: u32,
        host: u8,
        victims: BTreeSet<u8>,
    },
    Park(u8),
    Unpark(u8),
    Begin(u8),
    Confirm(u8),
    Release(u8),
    Cancel(u8),
    Cordon(u8, bool),
    Silent(u8),
    Report(u8, u64),
    Pass(u64),
    Crash,
    /// The records of what is confirmed, without those whose number has this remainder.
    Reconcile {
        lost: u8,
        kept_rows: bool,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let host = 0..5u8;
    prop_oneof![
        8 => (0..30u8, 0..VMS, 1..6u32, prop::option::of(0..6u8), prop::option::of(0..3u8), 1..60u64)
            .prop_map(|(attempt, vm, cpu, wish, bound, secs)| Step::Reserve {
                attempt, vm, cpu, wish, bound, secs
            }),
        5 => any_displacement(),
        4 => (0..30u8).prop_map(Step::Park),
        2 => (0..30u8).prop_map(Step::Unpark),
        5 => (0..30u8).prop_map(Step::Begin),
        4 => (0..30u8).prop_map(Step::Confirm),
        2 => (0..30u8).prop_map(Step::Release),
        1 => (0..30u8).prop_map(Step::Cancel),
        1 => (host.clone(), any::<bool>()).prop_map(|(host, on)| Step::Cordon(host, on)),
        1 => host.clone().prop_map(Step::Silent),
        2 => (host, 2..12u64).prop_map(|(host, cpu)| Step::Report(host, cpu)),
        3 => (0..20u64).prop_map(Step::Pass),
        1 => Just(Step::Crash),
        1 => (2..6u8, any::<bool>())
            .prop_map(|(lost, kept_rows)| Step::Reconcile { lost, kept_rows }),
    ]
}

fn any_displacement() -> impl Strategy<Value = Step> {
    let victims = prop::collection::btree_set(0..VMS, 0..8);
    // Some of VMs that are there already.
    (VMS..30u8, VMS - 2..VMS + 4, 1..9u32, 0..5u8, victims).prop_map(
        |(attempt, vm, cpu, host, victims)| Step::Displace {
            attempt,
            vm,
            cpu,
            host,
            victims,
        },
    )
}

/// VMs that run, the n-th by the n-th reservation, so that most hosts are nearly full.
fn crowd() -> impl Strategy<Value = Vec<Step>> {
    let vms = prop::collection::vec((2..5u32, 0..5u8), usize::from(VMS));
    vms.prop_map(|vms| {
        let vm = |(n, (cpu, host)): (u8, (u32, u8))| {
            let wish = Some(host);
            let reserve =
                Step::Reserve { attempt: n, vm: n, cpu, wish, bound: None, secs: 30 };
            [reserve, Step::Begin(n), Step::Confirm(n)]
        };
        (0..VMS).zip(vms).flat_map(vm).collect()
    })
}

/// What happens to a crowd when urgent VMs come.
fn any_crowded_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any_displacement(),
        6 => (0..VMS).prop_map(Step::Park),
        3 => (0..VMS).prop_map(Step::Unpark),
        2 => (VMS..30u8).prop_map(Step::Begin),
        4 => any_step(),
    ]
}

/// What the naive ledger keeps of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Naive {
    id: ReservationId,
    ask: Reserve,
    host: HostId,
    /// Nothing once it is being committed.
    expires_at: Option<Timestamp>,
    confirmed: bool,
    parked: bool,
    /// The VMs whose room it still waits for.
    waits_for: BTreeSet<VmId>,
}

fn all_but_storage(need: Capacity) -> Capacity {
    Capacity { storage: Gib::ZERO, ..need }
}

#[derive(Clone, Debug, Default)]
struct NaiveHost {
    zone: String,
    cpu: u64,
    ready: bool,
    closed: bool,
}

/// The naive ledger and the disk of the real one.
struct Both {
    now: Timestamp,
    ledger: Ledger,
    disk: BTreeMap<RowKey, Row>,
    naive: Vec<Naive>,
    hosts: BTreeMap<HostId, NaiveHost>,
}

impl Both {
    fn new() -> Self {
        let mut both = Self {
            now: START,
            ledger: Ledger::new(region()),
            disk: BTreeMap::new(),
            naive: Vec::new(),
            hosts: BTreeMap::new(),
        };
        for number in 0..5 {
            both.report(number, 8);
        }
        both
    }

    fn report(&mut self, number: u8, cpu: u64) {
        let (host, zone) = HOSTS[usize::from(number)];
        self.ledger.report_host(report(host, zone, cpu)).unwrap();
        let known = self.hosts.entry(host_id(host)).or_default();
        known.zone = zone.to_owned();
        known.cpu = cpu;
        known.ready = true;
    }

    fn store(&mut self, changes: Vec<Change>) {
        for change in changes {
            let key = change.key();
            match change {
                Change::Put(row) => self.disk.insert(key, row),
                Change::Delete(_) => self.disk.remove(&key),
            };
        }
    }

    fn allocated(&self, host: &HostId) -> Capacity {
        let here = self.naive.iter().filter(|row| row.host == *host);
        here.fold(Capacity::default(), |sum, row| sum.plus(&self.holds(row)))
    }

    fn holds(&self, row: &Naive) -> Capacity {
        let need = row.ask.need();
        if row.parked {
            return need.saturating_sub(&all_but_storage(need));
        }
        need.saturating_sub(&self.freed_by(&row.waits_for))
    }

    fn freed_by(&self, vms: &BTreeSet<VmId>) -> Capacity {
        let rows = self.naive.iter().filter(|row| vms.contains(&row.ask.vm));
        let frees = rows.map(|row| all_but_storage(row.ask.need()));
        frees.fold(Capacity::default(), |sum, part| sum.plus(&part))
    }

    /// Nobody waits for this VM any more.
    fn gave_room(&mut self, vm: &VmId) {
        for row in &mut self.naive {
            row.waits_for.remove(vm);
        }
    }

    fn remove(&mut self, gone: impl Fn(&Naive) -> bool) {
        let vms: Vec<_> = self
            .naive
            .iter()
            .filter(|row| gone(row))
            .map(|row| row.ask.vm.clone())
            .collect();
        self.naive.retain(|row| !gone(row));
        vms.iter().for_each(|vm| self.gave_room(vm));
    }

    fn fits(&self, ask: &Reserve, id: &HostId) -> bool {
        let host = &self.hosts[id];
        let free = capacity(host.cpu).saturating_sub(&self.allocated(id));
        let bound =
            ask.bounds.zone.as_ref().is_none_or(|zone| zone.as_str() == host.zone);
        host.ready && !host.closed && bound && free.fits(&ask.need())
    }

    /// The tightest host of those in `zone`, or of all.
    fn tightest(&self, ask: &Reserve, zone: Option<&str>) -> Option<HostId> {
        let near = |id: &&HostId| zone.is_none_or(|zone| self.hosts[*id].zone == zone);
        let fitting = self.hosts.keys().filter(near).filter(|id| self.fits(ask, id));
        fitting
            .min_by_key(|id| {
                let free =
                    capacity(self.hosts[*id].cpu).saturating_sub(&self.allocated(id));
                (free.cpu, free.memory, (*id).clone())
            })
            .cloned()
    }

    fn choose(&self, ask: &Reserve) -> Option<HostId> {
        let known = |id: &&HostId| self.hosts.contains_key(*id);
        let wished = ask.proposal.host.as_ref().filter(known);
        if let Some(id) = wished.filter(|id| self.fits(ask, id)) {
            return Some(id.clone());
        }
        let near = wished.map(|id| self.hosts[id].zone.as_str());
        near.and_then(|zone| self.tightest(ask, Some(zone)))
            .or_else(|| self.tightest(ask, None))
    }

    /// The host and the fewest VMs of it that make room there: of all sets, the one that is
    /// left when the most urgent are spared first. Nothing when some may not be stopped.
    fn displace(&self, ask: &Reserve) -> Option<(HostId, BTreeSet<VmId>)> {
        let host = ask.proposal.host.clone().filter(|id| self.hosts.contains_key(id))?;
        let zone = ask.bounds.zone.as_ref();
        if zone.is_some_and(|zone| zone.as_str() != self.hosts[&host].zone) {
            return None;
        }
        let there = |row: &&Naive| {
            row.host == host
                && row.confirmed
                && !row.parked
                && ask.victims.contains(&row.ask.vm)
        };
        let mut victims: Vec<_> = self.naive.iter().filter(there).collect();
        let taken = |vm: &VmId| self.naive.iter().any(|row| row.waits_for.contains(vm));
        let free_to_go =
            |row: &&Naive| row.ask.priority < ask.priority && !taken(&row.ask.vm);
        if !victims.iter().all(free_to_go) {
            return None;
        }
        victims.sort_by_key(|row| (row.ask.priority, row.ask.vm.clone()));
        let names: Vec<_> = victims.iter().map(|row| row.ask.vm.clone()).collect();
        let fits = |vms: &BTreeSet<VmId>| {
            let host = &self.hosts[&host];
            let free = capacity(host.cpu)
                .saturating_sub(&self.allocated(ask.proposal.host.as_ref().unwrap()));
            let missing = ask.need().saturating_sub(&self.freed_by(vms));
            host.ready && !host.closed && free.fits(&missing)
        };
        let mut needed: BTreeSet<_> = names.iter().cloned().collect();
        if !fits(&needed) {
            return None;
        }
        for vm in names.iter().rev() {
            let mut without = needed.clone();
            without.remove(vm);
            if fits(&without) {
                needed = without;
            }
        }
        Some((host, needed))
    }

    /// The answer that the naive ledger gives, after doing it.
    fn naive_reserve(&mut self, ask: &Reserve) -> Option<HostId> {
        let lapsed = |row: &Naive| row.expires_at.is_some_and(|at| at <= self.now);
        if let Some(same) = self.naive.iter().find(|row| row.id == ask.id && !lapsed(row))
        {
            return (same.ask == *ask).then(|| same.host.clone());
        }
        let firm = |row: &Naive| row.ask.vm == ask.vm && row.expires_at.is_none();
        if self.naive.iter().any(firm) {
            return None;
        }
        let before = self.naive.clone();
        self.naive.retain(|row| row.id != ask.id && row.ask.vm != ask.vm);
        let fits = self.choose(ask).map(|host| (host, BTreeSet::new()));
        let Some((host, waits_for)) = fits.or_else(|| self.displace(ask)) else {
            self.naive = before;
            return None;
        };
        self.naive.push(Naive {
            id: ask.id.clone(),
            ask: ask.clone(),
            host: host.clone(),
            expires_at: Some(self.now.plus(ask.hold_for)),
            confirmed: false,
            parked: false,
            waits_for,
        });
        Some(host)
    }

    fn reserve(&mut self, ask: Reserve) {
        let expected = self.naive_reserve(&ask);
        let got = match self.ledger.reserve(self.now, ask) {
            Ok(done) => {
                self.store(done.changes);
                Some(done.value.host.clone())
            }
            Err(_) => None,
        };
        assert_eq!(got, expected);
    }

    fn begin(&mut self, id: &ReservationId) {
        let now = self.now;
        let naive = self.naive.iter_mut().find(|row| row.id == *id);
        let alive = |row: &&mut Naive| row.expires_at.is_none_or(|at| at > now);
        let naive = naive.filter(alive);
        let Some(row) = self.ledger.get(id).cloned() else {
            return assert!(naive.is_none(), "{id} was lost");
        };
        let naive = naive.filter(|row| row.waits_for.is_empty());
        let begun = self.ledger.begin_commit(now, id, record_for(&row));
        assert_eq!(begun.is_ok(), naive.is_some());
        if let (Ok(done), Some(naive)) = (begun, naive) {
            naive.expires_at = None;
            self.store(done.changes);
        }
    }

    fn confirm(&mut self, id: &ReservationId) {
        let begun = |row: &&mut Naive| row.id == *id && row.expires_at.is_none();
        let naive = self.naive.iter_mut().find(begun);
        let done = self.ledger.confirm(id);
        assert_eq!(done.is_ok(), naive.is_some());
        if let (Ok(done), Some(naive)) = (done, naive) {
            naive.confirmed = true;
            self.store(done.changes);
        }
    }

    fn park(&mut self, id: &ReservationId) {
        let at = self.naive.iter().position(|row| row.id == *id && row.confirmed);
        let done = self.ledger.park(id);
        assert_eq!(done.is_ok(), at.is_some());
        if let (Ok(done), Some(at)) = (done, at) {
            self.store(done.changes);
            self.naive[at].parked = true;
            let vm = self.naive[at].ask.vm.clone();
            self.gave_room(&vm);
        }
    }

    fn unpark(&mut self, id: &ReservationId) {
        let at = self.naive.iter().position(|row| row.id == *id && row.confirmed);
        let at = at.filter(|at| {
            let row = &self.naive[*at];
            let waited_for =
                self.naive.iter().any(|other| other.waits_for.contains(&row.ask.vm));
            let host = &self.hosts[&row.host];
            let free = capacity(host.cpu).saturating_sub(&self.allocated(&row.host));
            let room = free.fits(&all_but_storage(row.ask.need()));
            !waited_for && (!row.parked || (host.ready && !host.closed && room))
        });
        let done = self.ledger.unpark(id);
        assert_eq!(done.is_ok(), at.is_some());
        if let (Ok(done), Some(at)) = (done, at) {
            self.store(done.changes);
            self.naive[at].parked = false;
        }
    }

    /// Everything in memory is lost; hosts report again.
    fn crash(&mut self) {
        self.ledger = Ledger::load(region(), self.disk.values().cloned()).unwrap();
        for (id, host) in self.hosts.clone() {
            let mut again = report(id.as_str(), &host.zone, host.cpu);
            again.ready = host.ready;
            self.ledger.report_host(again).unwrap();
        }
    }

    fn reconcile(&mut self, lost: u8, kept_rows: bool) {
        let number =
            |row: &Naive| row.id.as_str().trim_start_matches('r').parse::<u8>().unwrap();
        let confirmed = |row: &Naive| row.confirmed;
        let rows: Vec<_> =
            self.naive.iter().filter(|row| confirmed(row)).cloned().collect();
        let mut records = Vec::new();
        for row in rows {
            let stored = self.ledger.get(&row.id).cloned().unwrap();
            if number(&row) % lost == 0 {
                self.remove(|other| other.id == row.id);
            } else {
                let mut record = record_for(&stored);
                if row.parked {
                    record.power = Power::Stopped;
                    record.preempted_by = Some(VmId::new("urgent").unwrap());
                }
                records.push(record);
                if !kept_rows {
                    let gone = self.ledger.release(&row.id);
                    self.store(gone.changes);
                    self.gave_room(&row.ask.vm);
                }
            }
        }
        let mark = self.ledger.mark();
        let done = self.ledger.reconcile(self.now, mark, &records);
        self.store(done.changes);
        // What is taken in again knows the request, not the attempt's wishes.
        for id in &done.value.adopted {
            let naive = self.naive.iter_mut().find(|row| row.id == *id).unwrap();
            naive.ask = self.ledger.get(id).unwrap().ask.clone();
        }
        assert_eq!(done.value.adopted.is_empty(), kept_rows || records.is_empty());
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Reserve { attempt, vm, cpu, wish, bound, secs } => {
                let mut ask = ask(&format!("r{attempt}"), &format!("vm{vm}"), cpu);
                ask.proposal.host = wish.map(|number| host_id(&format!("h{number}")));
                ask.bounds.zone = bound.map(|n| zone_id(["a", "b", "c"][usize::from(n)]));
                ask.hold_for = Duration::from_secs(secs);
                self.reserve(ask);
            }
            Step::Displace { attempt, vm, cpu, host, ref victims } => {
                let mut ask = ask(&format!("r{attempt}"), &format!("vm{vm}"), cpu);
                ask.proposal.host = Some(host_id(HOSTS[usize::from(host)].0));
                ask.priority = 9;
                let others = victims.iter().filter(|victim| **victim != vm);
                ask.victims =
                    others.map(|n| VmId::new(&format!("vm{n}")).unwrap()).collect();
                self.reserve(ask);
            }
            Step::Park(n) => self.park(&id(&format!("r{n}"))),
            Step::Unpark(n) => self.unpark(&id(&format!("r{n}"))),
            Step::Begin(n) => self.begin(&id(&format!("r{n}"))),
            Step::Confirm(n) => self.confirm(&id(&format!("r{n}"))),
            Step::Release(n) => {
                let id = id(&format!("r{n}"));
                self.remove(|row| row.id == id);
                let gone = self.ledger.release(&id);
                self.store(gone.changes);
            }
            Step::Cancel(n) => {
                let id = id(&format!("r{n}"));
                self.remove(|row| row.id == id && row.expires_at.is_some());
                if let Ok(gone) = self.ledger.cancel(&id) {
                    self.store(gone.changes);
                }
            }
            Step::Cordon(n, closed) => {
                let host = host_id(HOSTS[usize::from(n)].0);
                let done = self.ledger.cordon(&host, closed).unwrap();
                self.store(done.changes);
                self.hosts.get_mut(&host).unwrap().closed = closed;
            }
            Step::Silent(n) => {
                let host = host_id(HOSTS[usize::from(n)].0);
                self.ledger.host_silent(&host);
                self.hosts.get_mut(&host).unwrap().ready = false;
            }
            Step::Report(n, cpu) => self.report(n, cpu),
            Step::Pass(secs) => {
                self.now = self.now.plus(Duration::from_secs(secs));
                let ended = self.ledger.expire(self.now);
                self.store(ended.changes);
                let now = self.now;
                self.remove(|row| row.expires_at.is_some_and(|at| at <= now));
            }
            Step::Crash => self.crash(),
            Step::Reconcile { lost, kept_rows } => self.reconcile(lost, kept_rows),
        }
    }

    fn check(&self) {
        assert_eq!(self.ledger.lint(), []);
        let stored: Vec<_> = self.disk.values().cloned().collect();
        let mut rows: BTreeMap<RowKey, Row> = BTreeMap::new();
        for row in self.ledger.rows() {
            rows.insert(Change::Put(row.clone()).key(), row);
        }
        assert_eq!(rows.into_values().collect::<Vec<_>>(), stored, "memory equals disk");
        let waits = |row: &Reservation| row.awaits.keys().cloned().collect();
        let mut live: Vec<(_, _, BTreeSet<VmId>)> = self
            .ledger
            .iter()
            .map(|row| (row.ask.id.clone(), row.host.clone(), waits(row)))
            .collect();
        let known =
            |row: &Naive| (row.id.clone(), row.host.clone(), row.waits_for.clone());
        let mut expected: Vec<_> = self.naive.iter().map(known).collect();
        live.sort();
        expected.sort();
        assert_eq!(live, expected);
        for HostView { id, free, schedulable, .. } in self.ledger.hosts() {
            let host = &self.hosts[&id];
            let rest = capacity(host.cpu).saturating_sub(&self.allocated(&id));
            assert_eq!((free, schedulable), (rest, host.ready && !host.closed), "{id}");
            let over = !capacity(host.cpu).fits(&self.allocated(&id));
            assert_eq!(self.ledger.overcommitted().contains(&id), over);
        }
        let deadline = self.naive.iter().filter_map(|row| row.expires_at).min();
        assert_eq!(self.ledger.next_deadline(), deadline);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_agrees_with_a_naive_one_through_crashes(
        steps in prop::collection::vec(any_step(), 1..80),
    ) {
        let mut both = Both::new();
        for step in steps {
            both.run(&step);
            both.check();
        }
    }

    #[test]
    fn room_goes_to_those_it_is_made_for_as_in_a_naive_ledger(
        crowd in crowd(),
        steps in prop::collection::vec(any_crowded_step(), 1..80),
    ) {
        let mut both = Both::new();
        for step in crowd.into_iter().chain(steps) {
            both.run(&step);
            both.check();
        }
    }

    #[test]
    fn no_host_ever_holds_more_than_it_has(
        asks in prop::collection::vec((1..9u32, 0..6u8, 1..2000u64, 0..400u64), 1..120),
        sizes in prop::collection::vec((1..40u64, 1..3000u64, 1..500u64), 1..6),
    ) {
        let mut ledger = Ledger::new(region());
        for (n, (cpu, memory, storage)) in sizes.iter().enumerate() {
            let total = Capacity {
                cpu: *cpu,
                memory: Mib::new(*memory),
                storage: Gib::new(*storage),
                vms: 20,
                ..Capacity::default()
            };
            let host = host_id(&format!("h{n}"));
            let zone = zone_id(if n % 2 == 0 { "a" } else { "b" });
            ledger.report_host(HostReport { id: host, zone, total, ready: true }).unwrap();
        }
        for (n, (cpu, wish, memory, storage)) in asks.into_iter().enumerate() {
            let mut ask = ask(&format!("r{n}"), &format!("vm{n}"), cpu);
            ask.shape.memory = Mib::new(memory);
            ask.shape.storage = Gib::new(storage);
            ask.proposal.host = Some(host_id(&format!("h{wish}")));
            let need = ask.need();
            let fitted = ledger.hosts().iter().any(|host| host.free.fits(&need));
            let granted = ledger.reserve(START, ask).is_ok();
            prop_assert_eq!(granted, fitted, "granted exactly when some host has room");
            prop_assert!(ledger.overcommitted().is_empty());
            prop_assert_eq!(ledger.lint(), vec![]);
        }
    }
}
