//! The task that owns every instance of the host.
//!
//! ```text
//!   instruction ─▶ judge ─▶ save ─▶ acknowledge ─▶ mark
//!   signal, timer, sweep ─▶ mark ─▶ observe ─▶ decide ─▶ save if the record changed ─▶ act ─▶ mark
//! ```
//!
//! One task holds the map, so there are no locks; what takes time (looking, writing, acting)
//! runs as futures that bring their outcome back here. Order kept: a record is on disk before
//! its instruction is acknowledged and before anything is done about it; of one VM at most one
//! observation or action and at most one write are under way, and nothing is decided while a
//! write is. A task for each VM was rejected: thirty thousand simulated VMs would each hold
//! one, and the inventory would be spread over them.

mod copies;
mod fence;
mod instructions;
mod moves;
mod report;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use dwcp_api::host::HostFacts;
use dwcp_types::{Timestamp, VmId};
use dwcp_vm::migration::{MoveAction, Moving, Traffic};
use dwcp_vm::{Action, CopyAction, CopySight, Guard, GuestSpec, Instance, Policy};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::clock::Clock;
use crate::copier::perform_copy;
use crate::entry::{Entry, Put, Stage};
use crate::handle::Message;
use crate::hypervisor::{DriverFacts, Hypervisor, Sighting, perform};
use crate::mover::perform_move;
use crate::news::News;
use crate::store::{Store, StoreError, Stored};
use crate::traced::{Traced, name};
use dwcp_runtime::trace::span;

/// VMs that are looked at at the same time.
const OBSERVING_MAX: usize = 64;
/// Records that are written at the same time: enough to share a disk's flushes.
pub(crate) const SAVES_MAX: u32 = 8;
/// Instructions that wait for an earlier one of the same VM: an owner gives them one by one.
const PUTS_MAX: usize = 16;
/// VMs and tombstones of one host; three times the thirty thousand that are rehearsed.
const ENTRIES_MAX: usize = 100_000;
/// Tombstones that are kept: an instruction that is older than the last 4,096 deletions of
/// its host was given up by its sender long ago.
const TOMBSTONES_MAX: usize = 4096;
/// VMs in one page of a report: some hundred kilobytes.
const PAGE_MAX: usize = 500;

/// What an agent is made from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    pub(crate) store: Arc<Store>,
    pub(crate) host: HostFacts,
    pub(crate) policy: Policy,
    pub(crate) starts_max: usize,
    /// [`SAVES_MAX`] permits.
    pub(crate) saves: Arc<Semaphore>,
    /// The grant that an earlier agent left.
    pub(crate) guard: Guard,
    /// Whether the watchdog runs; nothing where there is to be none.
    pub(crate) watched: Option<watch::Receiver<bool>>,
    /// What this host does within traces.
    pub(crate) traced: Arc<Traced>,
}

/// What was decided, by whom.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Guest(Action),
    Move(MoveAction),
    Copy(CopyAction),
}

#[derive(Debug)]
enum Outcome {
    Seen { vm: VmId, sighting: Sighting, traffic: Option<Traffic>, copy: CopySight },
    Kept { vm: VmId, put: Put, address: Option<Ipv4Addr>, result: Result<(), StoreError> },
    Saved { vm: VmId, deed: Deed, result: Result<(), StoreError> },
    Done { vm: VmId, deed: Deed, result: Result<(), String> },
    Forgotten { vm: VmId, result: Result<(), StoreError> },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Task {
    hypervisor: Arc<dyn Hypervisor>,
    facts: DriverFacts,
    store: Arc<Store>,
    host: HostFacts,
    policy: Policy,
    clock: Clock,
    entries: BTreeMap<VmId, Entry>,
    graves: BTreeSet<(Timestamp, VmId)>,
    news: News,
    seq: watch::Sender<u64>,
    ready: VecDeque<VmId>,
    observing: usize,
    timers: BTreeSet<(Timestamp, VmId)>,
    sweep_at: Timestamp,
    starts: Arc<Semaphore>,
    saves: Arc<Semaphore>,
    guard: Guard,
    watched: Option<watch::Receiver<bool>>,
    traced: Arc<Traced>,
    /// When bound guests must halt or end unless a grant comes.
    fence_at: Option<Timestamp>,
    work: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

impl Task {
    /// Takes over the records that an earlier agent left.
    pub(crate) fn new(
        parts: Parts,
        stored: Vec<Stored>,
        seq: watch::Sender<u64>,
    ) -> Self {
        let Parts { hypervisor, store, host, policy, starts_max, .. } = parts;
        let Parts { saves, guard, watched, traced, .. } = parts;
        let clock = Clock::start();
        let mut task = Self {
            facts: hypervisor.facts(),
            hypervisor,
            store,
            host,
            policy,
            sweep_at: clock.now(),
            clock,
            entries: BTreeMap::new(),
            graves: BTreeSet::new(),
            news: News::default(),
            seq,
            ready: VecDeque::new(),
            observing: 0,
            timers: BTreeSet::new(),
            starts: Arc::new(Semaphore::new(starts_max)),
            saves,
            guard,
            watched,
            traced,
            fence_at: None,
            work: FuturesUnordered::new(),
        };
        for Stored { vm, record, moving, address, copy_begun, at } in stored {
            let mut entry =
                Entry::restored(record.map(Instance::restore), moving, address);
            entry.copy.begun = copy_begun;
            if entry.is_buried() {
                entry.buried_at = Some(at);
                task.graves.insert((at, vm.clone()));
            }
            task.entries.insert(vm.clone(), entry);
            task.tell(&vm);
        }
        task.watch_fence();
        task
    }

    /// Runs until every handle is gone.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut changes = self.hypervisor.changes();
        loop {
            self.pump();
            let wake = self.wake_at();
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                Some(outcome) = self.work.next(), if !self.work.is_empty() => {
                    self.finish(outcome);
                }
                changed = changes.recv() => match changed {
                    Ok(vm) => self.mark(&vm),
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        self.sweep_at = self.clock.now();
                    }
                    // The hypervisor holds the sender and this task the hypervisor.
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                () = turned(&mut self.watched) => self.mark_unwatched(),
                () = sleep_until(wake) => self.wake(),
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let timer = self.timers.first().map_or(self.sweep_at, |(at, _)| *at);
        let fence = self.fence_at.unwrap_or(self.sweep_at);
        self.clock.instant(timer.min(self.sweep_at).min(fence))
    }

    fn wake(&mut self) {
        let now = self.clock.now();
        while let Some((at, vm)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.mark(&vm);
        }
        if self.fence_at.is_some_and(|at| at <= now) {
            self.mark_bound();
            self.watch_fence();
        }
        if self.sweep_at <= now {
            self.sweep_at = now.plus(self.facts.sweep);
            let living = self.entries.iter().filter(|(_, entry)| !entry.is_buried());
            let vms: Vec<VmId> = living.map(|(vm, _)| vm.clone()).collect();
            for vm in vms {
                self.mark(&vm);
            }
        }
    }

    /// This VM is to be looked at.
    fn mark(&mut self, vm: &VmId) {
        let Some(entry) = self.entries.get_mut(vm) else { return };
        match entry.stage {
            Stage::Idle => {
                entry.stage = Stage::Queued;
                self.ready.push_back(vm.clone());
            }
            Stage::Queued => {}
            Stage::Busy => entry.again = true,
        }
    }

    fn pump(&mut self) {
        while self.observing < OBSERVING_MAX {
            let Some(vm) = self.ready.pop_front() else { return };
            let Some(entry) = self.entries.get_mut(&vm) else { continue };
            entry.stage = Stage::Busy;
            self.observing += 1;
            let (moves, copied) = (entry.is_moving(), entry.may_have_copy());
            let rounds = entry.copy.follows_later();
            let hypervisor = Arc::clone(&self.hypervisor);
            self.work.push(Box::pin(async move {
                let sighting = hypervisor.observe(&vm).await;
                let traffic =
                    if moves { Some(hypervisor.traffic(&vm).await) } else { None };
                let copy = if copied {
                    hypervisor.copy_seen(&vm, rounds).await
                } else {
                    CopySight::default()
                };
                Outcome::Seen { vm, sighting, traffic, copy }
            }));
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Seen { vm, sighting, traffic, copy } => {
                self.observing -= 1;
                self.seen(&vm, sighting, traffic.as_ref(), copy);
            }
            Outcome::Kept { vm, put, address, result } => {
                self.kept(&vm, put, address, result);
            }
            Outcome::Saved { vm, deed, result } => self.saved(&vm, deed, result),
            Outcome::Done { vm, deed, result } => self.done(&vm, deed, result),
            Outcome::Forgotten { vm, result } => {
                if let Err(error) = result {
                    tracing::warn!(%vm, %error, "a tombstone is not removed");
                }
            }
        }
    }

    fn seen(
        &mut self,
        vm: &VmId,
        sighting: Sighting,
        traffic: Option<&Traffic>,
        copy: CopySight,
    ) {
        let now = self.clock.now();
        let fenced = self.fenced(vm, &sighting.observation);
        let Some(entry) = self.entries.get_mut(vm) else { return };
        entry.sighting = sighting;
        if let Some(action) = fenced.filter(|_| !entry.saving) {
            self.tell(vm);
            return self.act(vm, Deed::Guest(action));
        }
        if !entry.saving && self.seen_moving(vm, traffic) {
            return;
        }
        let saving = self.entries.get(vm).is_none_or(|entry| entry.saving);
        let (deed, hold) = if saving { (None, false) } else { self.seen_copy(vm, copy) };
        let Some(entry) = self.entries.get_mut(vm) else { return };
        if let Some(deed) = deed {
            self.tell(vm);
            return match deed {
                Deed::Copy(_) => self.follow(vm, deed, None, false),
                Deed::Guest(_) | Deed::Move(_) => self.act(vm, deed),
            };
        }
        let Some(instance) = entry.instance.as_mut().filter(|_| !entry.saving) else {
            // Whoever finishes the write marks it again.
            entry.stage = Stage::Idle;
            return;
        };
        let decision = instance.decide(now, &sighting.observation, &self.policy);
        let guest = &instance.record().instruction.guest;
        let bound = guest.lease_bound || guest.copied;
        for note in &decision.notes {
            entry.note(now, note.text().to_owned());
        }
        let mut action = decision.action;
        if let (Action::Start { paused }, true) = (&mut action, bound) {
            // It may have to wait for its turn until its lease is over: its CPUs are started by
            // a decision of their own.
            *paused = true;
        }
        if hold {
            action = copies::without_cpus(action);
        }
        let looks = [decision.deadline, self.copy_look_at(vm)];
        let deadline = looks.into_iter().flatten().min();
        self.follow(vm, Deed::Guest(action), deadline, decision.persist);
    }

    /// Does what was decided about a guest, and looks again at the deadline.
    fn follow(
        &mut self,
        vm: &VmId,
        deed: Deed,
        deadline: Option<Timestamp>,
        persist: bool,
    ) {
        let Some(entry) = self.entries.get_mut(vm) else { return };
        if let Some(old) = entry.deadline.take() {
            self.timers.remove(&(old, vm.clone()));
        }
        if let Some(deadline) = deadline {
            entry.deadline = Some(deadline);
            self.timers.insert((deadline, vm.clone()));
        }
        if persist || entry.unsaved {
            self.save(vm, deed);
            self.tell(vm);
        } else {
            self.tell(vm);
            self.act(vm, deed);
        }
    }

    fn stored(
        &self,
        vm: &VmId,
        instance: Option<&Instance>,
        moving: Option<&Moving>,
        address: Option<Ipv4Addr>,
    ) -> Stored {
        let record = instance.map(|instance| instance.record().clone());
        let copy_begun = self.entries.get(vm).and_then(|entry| entry.copy.begun);
        let (vm, moving) = (vm.clone(), moving.cloned());
        Stored { vm, record, moving, address, copy_begun, at: self.clock.now() }
    }

    fn write(&self, stored: Stored) -> BoxFuture<'static, Result<(), StoreError>> {
        self.on_disk(stored.vm.clone(), move |store| store.save(&stored))
    }

    /// Runs what blocks on the disk beside the task. The permit goes with it, so that whoever
    /// holds all permits knows that nobody uses the store any more.
    fn on_disk(
        &self,
        vm: VmId,
        act: impl FnOnce(&Store) -> Result<(), StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let (store, saves) = (Arc::clone(&self.store), Arc::clone(&self.saves));
        Box::pin(async move {
            let permit = saves.acquire_owned().await;
            let acting = tokio::task::spawn_blocking(move || {
                let result = act(&store);
                drop(store);
                drop(permit);
                result
            });
            acting.await.unwrap_or_else(|error| {
                let source = std::io::Error::other(error);
                Err(StoreError::Unsure { path: vm.to_string().into(), source })
            })
        })
    }

    fn save(&mut self, vm: &VmId, deed: Deed) {
        let Some(entry) = self.entries.get(vm) else { return };
        let (instance, moving) = (entry.instance.as_ref(), entry.moving.as_ref());
        let write = self.write(self.stored(vm, instance, moving, entry.address));
        if let Some(entry) = self.entries.get_mut(vm) {
            entry.saving = true;
        }
        let vm = vm.clone();
        self.work.push(Box::pin(async move {
            let result = write.await;
            Outcome::Saved { vm, deed, result }
        }));
    }

    fn saved(&mut self, vm: &VmId, deed: Deed, result: Result<(), StoreError>) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(vm) else { return };
        entry.saving = false;
        entry.unsaved = result.is_err();
        if let Err(error) = result {
            let reason = format!("the record cannot be kept: {error}");
            if let Some(instance) = &mut entry.instance {
                instance.failed(now, &reason, &self.policy);
            }
            entry.note(now, reason);
            self.rest(vm, true);
        } else if entry.puts.is_empty() {
            self.act(vm, deed);
        } else {
            // A newer instruction waits: what was decided for the old one may be wrong by now.
            self.rest(vm, true);
        }
        self.next_put(vm);
    }

    fn act(&mut self, vm: &VmId, deed: Deed) {
        match deed {
            Deed::Guest(Action::Nothing)
            | Deed::Move(MoveAction::Nothing)
            | Deed::Copy(CopyAction::Nothing) => self.rest(vm, false),
            Deed::Guest(Action::Bury) => self.bury(vm),
            Deed::Guest(_) | Deed::Move(_) | Deed::Copy(_) => self.perform(vm, deed),
        }
    }

    /// Its turn is over.
    fn rest(&mut self, vm: &VmId, again: bool) {
        let Some(entry) = self.entries.get_mut(vm) else { return };
        entry.stage = Stage::Idle;
        let again = std::mem::take(&mut entry.again) || again;
        self.tell(vm);
        if again {
            self.mark(vm);
        }
    }

    fn perform(&mut self, vm: &VmId, deed: Deed) {
        let Some(entry) = self.entries.get(vm) else { return };
        let Some(guest) = entry.guest() else { return };
        let guest = GuestSpec { address: entry.address.or(guest.address), ..guest };
        let (moving, begun) = (entry.moving.clone(), entry.copy.begun);
        // Only what is on disk as begun is begun: another may have been ordered meanwhile.
        let begins = matches!(deed, Deed::Copy(CopyAction::Begin));
        let order = entry.copy.order.clone();
        let order = order.filter(|order| !begins || begun == Some(order.copy));
        let (hypervisor, starts) =
            (Arc::clone(&self.hypervisor), Arc::clone(&self.starts));
        let (traced, now) = (Arc::clone(&self.traced), self.clock.now());
        let vm = vm.clone();
        tracing::debug!(%vm, ?deed, "act");
        self.work.push(Box::pin(async move {
            let starting = matches!(
                deed,
                Deed::Guest(Action::Start { .. }) | Deed::Move(MoveAction::StartWaiting)
            );
            let _permit = if starting { starts.acquire().await.ok() } else { None };
            let result = match (deed, moving) {
                (Deed::Guest(action), _) => {
                    let doing = perform(hypervisor.as_ref(), &vm, &guest, action);
                    let doing = Box::pin(span(name(action), doing));
                    traced.trail.follow(&vm, doing).await
                }
                (Deed::Move(action), Some(moving)) => {
                    let step = (&moving, action);
                    let doing = perform_move(hypervisor.as_ref(), &vm, &guest, step);
                    let doing = Box::pin(span("move_guest", doing));
                    traced.trail.follow(&vm, doing).await
                }
                (Deed::Move(_), None) => Ok(()),
                (Deed::Copy(action), _) => {
                    let step = (action, now);
                    perform_copy(hypervisor.as_ref(), &vm, order.as_ref(), step).await
                }
            };
            Outcome::Done { vm, deed, result: result.map_err(|error| error.told()) }
        }));
    }

    fn done(&mut self, vm: &VmId, deed: Deed, result: Result<(), String>) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(vm) else { return };
        if let Err(reason) = &result {
            tracing::warn!(%vm, ?deed, reason, "an action failed");
            entry.note(now, format!("failed: {reason}"));
        }
        match (deed, result) {
            (Deed::Guest(action), Ok(())) => {
                if let Some(what) = report::told(action) {
                    entry.note(now, what.to_owned());
                }
            }
            (Deed::Guest(_), Err(reason)) => {
                if let Some(instance) = &mut entry.instance {
                    instance.failed(now, &reason, &self.policy);
                }
            }
            (Deed::Move(action), result) => entry.moved(action, result),
            (Deed::Copy(_), result) => self.copy_done(vm, result),
        }
        self.rest(vm, true);
    }

    fn bury(&mut self, vm: &VmId) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(vm) else { return };
        entry.buried_at = Some(now);
        self.graves.insert((now, vm.clone()));
        self.rest(vm, false);
        if let Some(entry) = self.entries.get_mut(vm) {
            entry.strip();
        }
        while self.graves.len() > TOMBSTONES_MAX {
            let Some((_, oldest)) = self.graves.pop_first() else { return };
            if self.entries.get(&oldest).is_some_and(|entry| !entry.is_buried()) {
                continue;
            }
            if let Some(entry) = self.entries.remove(&oldest) {
                self.news.forget(entry.seq);
            }
            let name = oldest.clone();
            let forget = self.on_disk(oldest.clone(), move |store| store.forget(&name));
            self.work.push(Box::pin(async move {
                let result = forget.await;
                Outcome::Forgotten { vm: oldest, result }
            }));
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Put { vm, want, reply } => self.put(&vm, Put { want, reply }),
            Message::Move { vm, reply } => self.read_move(&vm, reply),
            Message::Report { incarnation, cursor, reply } => {
                self.report(incarnation, cursor, reply);
            }
            Message::Copy { vm, order, reply } => {
                let _unread = reply.send(self.put_copy(&vm, order));
            }
            Message::Address { vm, reply } => {
                let address = self.entries.get(&vm).and_then(|entry| entry.address);
                let _unread = reply.send(address);
            }
            Message::Grant { grant, reply } => {
                self.grant(grant);
                let _unread = reply.send(());
            }
            Message::Knows { vm, reply } => {
                let known = self.entries.get(&vm).is_some_and(|entry| !entry.is_buried());
                let _unread = reply.send(known);
            }
        }
    }
}

/// Waits until the watchdog comes or goes; for ever where there is none.
async fn turned(watched: &mut Option<watch::Receiver<bool>>) {
    let gone = match watched {
        Some(watched) => watched.changed().await.is_err(),
        None => true,
    };
    if gone {
        std::future::pending::<()>().await;
    }
}
