//! Brings one move about, a step at a time: read the log, do what it allows, write the next
//! step. What fails before the commit ends the move; what fails after it is tried until it is
//! done, because the VM has its owner and only the rest is open.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::host::{
    MachineReport, MoveOrder, MoveReport, MoveStage, ReceiveOrder, SendOrder,
};
use dwcp_api::peer::LetGoBody;
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::ledger::{HOLD_FOR_MAX, Proposal, Reserve};
use dwcp_controller::migration::{
    Ask, Migration, Outcome, Site, Step, Unmovable, hand_over, migration_key,
};
use dwcp_controller::ownership::{VmRecord, vm_key};
use dwcp_runtime::crash::crash_point;
use dwcp_runtime::strong::{Compare, KeyValue, Op};
use dwcp_types::{Epoch, MigrationId, ReservationId};
use dwcp_vm::migration::Forecast;
use tokio::time::timeout;
use tracing::{info, warn};

use super::request::{is_emulated, is_late, site_of};
use super::{Migrations, RETRY_PAUSE};
use crate::commit::encoded;
use crate::engine;
use crate::lifecycle::no_such_vm;
use crate::reservations::not_stored;

/// How long a part that does not answer is waited for before a move that is not committed is
/// given up: three times the longest restart of a daemon that was measured.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a host holds its answer back while nothing changes.
pub(super) const WATCH: Duration = Duration::from_secs(2);
/// Pause between two looks at what takes milliseconds.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often what is held for a move is held for longer: five times before it would lapse.
const RENEW_EVERY: Duration = Duration::from_mins(1);
/// A target that does not come to listen within this will not.
const LISTEN_WITHIN: Duration = Duration::from_secs(60);

/// What came of one step.
pub(super) enum Turn {
    /// The log goes on.
    Next(Box<Migration>),
    /// It went on already, and stands so in the engine.
    Went(Box<Logged>),
    /// It has to be looked at again.
    Again,
}

/// A move's log, as it stands in the engine.
pub(super) type Logged = (KeyValue, Migration);

/// What one life of a driver remembers; none of it is needed to go on.
#[derive(Debug, Default)]
pub(super) struct Life {
    failing_since: Option<Duration>,
    told: Option<String>,
    renewed_at: Option<Duration>,
    /// The step that was taken last.
    taken: Option<Step>,
    pub(super) stage: Option<MoveStage>,
    pub(super) promised_at: Option<Duration>,
    /// The VM's record, read while its guest still runs; an older one than the engine's fails
    /// the commit, and is read again.
    vm: Option<(KeyValue, VmRecord)>,
    pub(super) confirmed: bool,
    /// When the source was first seen to say that the stream to a target that waits broke.
    pub(super) broke_at: Option<Duration>,
}

impl Life {
    /// Whether this life takes a step for the first time; it has done so then.
    pub(super) fn is_first_turn(&mut self, step: Step) -> bool {
        self.taken.replace(step) != Some(step)
    }
}

fn refused(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Refused, message)
}

fn changed(reason: &Unmovable) -> ApiError {
    ApiError::new(ErrorCode::Conflict, reason.to_string())
}

impl Migrations {
    /// Drives a move to its end.
    pub(super) async fn drive(&self, id: &MigrationId) {
        let mut life = Life::default();
        // What was written last here. To read it again would be a round trip for each step; if
        // somebody wrote since, the next write fails.
        let mut written = None;
        loop {
            let read = match written.take() {
                Some(written) => Ok(Some(written)),
                None => self.read::<Migration>(&migration_key(id)).await,
            };
            let (kv, migration) = match read {
                Ok(Some(found)) => found,
                Ok(None) => return,
                Err(reason) => {
                    info!(%id, %reason, "a move waits for the engine");
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
            };
            if migration.is_done() {
                return;
            }
            if migration.step == Step::Queued && !self.has_turn(&migration).await {
                continue;
            }
            let turn = self.part_of_trace(&kv, &migration, &mut life).await;
            written = match turn {
                Ok(Turn::Again) => continue,
                Ok(Turn::Went(log)) => Some(*log),
                Ok(Turn::Next(next)) => self.go(&kv, &migration, *next).await,
                Err(error) => match self.give_up(&migration, &error, &mut life).await {
                    Some(next) => self.go(&kv, &migration, *next).await,
                    None => continue,
                },
            };
            life.failing_since = None;
        }
    }

    /// Whether a move that waits goes on: it is its turn, or its deadline ends it. Waits for
    /// either; by then it may have been called off, so its log is read again.
    async fn has_turn(&self, migration: &Migration) -> bool {
        let now = self.clock.now();
        if self.board.is_turn(&migration.id) || is_late(&migration.ask, now) {
            return true;
        }
        let turn = self.board.turn(&migration.id);
        match migration.ask.deadline {
            // Either way it is looked at again.
            Some(deadline) => drop(timeout(deadline.since(now), turn).await),
            None => turn.await,
        }
        false
    }

    /// Writes the next step; the log then, unless it has to be read.
    async fn go(
        &self,
        kv: &KeyValue,
        before: &Migration,
        next: Migration,
    ) -> Option<Logged> {
        match self.write(kv, &next).await {
            Ok(Some(kv)) => {
                self.tell(before, &next).await;
                Some((kv, next))
            }
            // Someone else went on, or called it off.
            Ok(None) => None,
            Err(reason) => {
                info!(id = %next.id, %reason, "a move waits for the engine");
                tokio::time::sleep(RETRY_PAUSE).await;
                None
            }
        }
    }

    pub(super) async fn tell(&self, before: &Migration, next: &Migration) {
        self.trace_step(before, next);
        let (vm, id) = (&next.ask.vm, &next.id);
        let what = next.log.last().map_or("", |line| line.what.as_str());
        info!(%vm, %id, step = ?next.step, what, "a move goes on");
        self.note(vm, &format!("move {id}: {what}")).await;
        if let Some(outcome) = next.outcome.filter(|_| next.is_done()) {
            self.metrics.migrated(match outcome {
                Outcome::Moved => "moved",
                Outcome::Failed => "failed",
                Outcome::Cancelled => "cancelled",
            });
        }
    }

    /// What becomes of a step that failed: nothing yet, or the end of a move that is not
    /// committed.
    async fn give_up(
        &self,
        migration: &Migration,
        error: &ApiError,
        life: &mut Life,
    ) -> Option<Box<Migration>> {
        let now = self.clock.monotonic();
        let since = *life.failing_since.get_or_insert(now);
        let text = error.to_string();
        if life.told.as_ref() != Some(&text) {
            warn!(id = %migration.id, vm = %migration.ask.vm, %error, "a move is held up");
            life.told = Some(text.clone());
        }
        let is_final = matches!(
            error.code,
            ErrorCode::Refused
                | ErrorCode::Conflict
                | ErrorCode::Invalid
                | ErrorCode::NotFound
                | ErrorCode::Internal
        );
        if migration.is_free() && (is_final || now.saturating_sub(since) >= PATIENCE) {
            let next = migration.abandon(self.clock.now(), &text).ok();
            return next.map(Box::new);
        }
        tokio::time::sleep(RETRY_PAUSE).await;
        None
    }

    pub(super) async fn step(
        &self,
        kv: &KeyValue,
        migration: &Migration,
        life: &mut Life,
    ) -> Result<Turn, ApiError> {
        if migration.is_free() && is_late(&migration.ask, self.clock.now()) {
            return Err(refused("its deadline has passed"));
        }
        match migration.step {
            Step::Queued => self.reserve(migration).await,
            Step::Preparing => self.prepare(migration).await,
            Step::Moving => self.watch(kv, migration, life).await,
            Step::Committed => self.await_arrival(kv, migration, life).await,
            Step::SourceLost => self.start_anew(migration, life).await,
            Step::Arrived => self.clean_source(migration).await,
            Step::TakingBack => self.clean_target(migration).await,
            Step::Abandoning => self.undo(migration).await,
            Step::Done => Ok(Turn::Again),
        }
    }

    pub(super) fn next(
        &self,
        migration: &Migration,
        to: Step,
        what: &str,
    ) -> Result<Box<Migration>, ApiError> {
        let next = migration.advance(to, self.clock.now(), what);
        next.map(Box::new)
            .map_err(|reason| ApiError::new(ErrorCode::Internal, reason.to_string()))
    }

    pub(super) async fn vm(
        &self,
        migration: &Migration,
    ) -> Result<(KeyValue, VmRecord), ApiError> {
        let vm = &migration.ask.vm;
        let stored = self.read::<VmRecord>(&vm_key(vm)).await?;
        stored.ok_or_else(|| no_such_vm(vm))
    }

    /// The VM's record to plan by, if it is still as it was when the move was asked for. The
    /// mirror's will do: another owner or wish that it does not show yet fails the commit.
    async fn planned(&self, migration: &Migration) -> Result<Arc<VmRecord>, ApiError> {
        let ask = &migration.ask;
        let is_asked = |it: &VmRecord| it.version() == (ask.epoch, ask.generation);
        let mirrored = self.mirror.vm(&ask.vm).map(|stored| stored.record);
        if let Some(record) = mirrored.filter(|record| is_asked(record)) {
            return Ok(record);
        }
        let (_, record) = self.vm(migration).await?;
        if is_asked(&record) {
            Ok(Arc::new(record))
        } else {
            Err(changed(&Unmovable::Changed))
        }
    }

    /// Chooses the host and holds its capacity.
    async fn reserve(&self, migration: &Migration) -> Result<Turn, ApiError> {
        let record = self.planned(migration).await?;
        let choice = self.place_in(&record, &self.region)?;
        let id = migration.reservation.clone();
        // What an earlier life held may have been for another host.
        let cancelled = self.books.cancel(id.clone()).await;
        cancelled.map_err(not_stored)?.ok();
        let mut wanted = Reserve::of(id, &record.request);
        let (zone, host) = (choice.zone.clone(), choice.host.clone());
        wanted.proposal = Proposal { zone: Some(zone), host: Some(host) };
        wanted.hold_for = HOLD_FOR_MAX;
        // Its replica is here: the VM itself takes that one's room.
        let kept_here = record.replica.as_ref().filter(|it| it.at.region == self.region);
        wanted.replaces = kept_here.map(|replica| replica.reservation.clone());
        let row = self.books.reserve(wanted).await.map_err(not_stored)?;
        let row = row.map_err(|denied| refused(denied.to_string()))?;
        crash_point("move-after-reserve");
        let host = &row.host;
        let what = format!("capacity is held on {host} in {}", self.region);
        let mut next = self.next(migration, Step::Preparing, &what)?;
        let site =
            Site { host: host.clone(), zone: row.zone.clone(), ..site_of(&choice) };
        next.site = Some(site);
        Ok(Turn::Next(next))
    }

    pub(super) fn site<'a>(
        &self,
        migration: &'a Migration,
    ) -> Result<&'a Site, ApiError> {
        migration.site.as_ref().ok_or_else(|| refused("the move has no target host"))
    }

    /// Makes the target ready and lets the source begin.
    async fn prepare(&self, migration: &Migration) -> Result<Turn, ApiError> {
        let ask = &migration.ask;
        let site = self.site(migration)?;
        let record = self.planned(migration).await?;
        let what = (&ask.vm, &record.request.shape, record.image.as_str());
        let (foretold, to) = tokio::join!(
            self.foretell(&record, ask),
            self.reach.machine(site, what, false)
        );
        let ((told, from), to) = (foretold?, to?);
        if from.machine != to.machine {
            return Err(refused(format!(
                "the guest runs on {:?} and would get {:?} on {}",
                from.machine, to.machine, site.host
            )));
        }
        let order = receive_order(migration, &record, &from);
        self.reach.put_move(site, &ask.vm, &order).await?;
        let listening = self.listening(migration, site).await?;
        crash_point("move-after-listen");
        let order = send_order(migration, &to, &listening, &told)?;
        self.reach.put_move(&ask.source, &ask.vm, &order).await?;
        crash_point("move-after-begin");
        let what = format!(
            "it leaves; {} ms in all and a halt of {} ms are foretold",
            told.total_ms, told.downtime_ms
        );
        let mut next = self.next(migration, Step::Moving, &what)?;
        next.foretold_ms = Some(told.total_ms);
        next.foretold_downtime_ms = Some(told.downtime_ms);
        next.emulated = is_emulated(&from);
        Ok(Turn::Next(next))
    }

    async fn listening(
        &self,
        migration: &Migration,
        site: &Site,
    ) -> Result<MoveReport, ApiError> {
        let vm = &migration.ask.vm;
        let until = async {
            let mut known = None;
            loop {
                let seen = self.reach.get_move(site, vm, (known, WATCH)).await?;
                if seen.stage == MoveStage::Listening {
                    return Ok(seen);
                }
                if seen.stage == MoveStage::Failed {
                    return Err(refused(failure(&seen, "the target")));
                }
                known = Some(seen.stage);
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        timeout(LISTEN_WITHIN, until)
            .await
            .unwrap_or_else(|_| Err(refused("the target did not listen within 60 s")))
    }

    /// Waits for the source's promise and commits.
    async fn watch(
        &self,
        kv: &KeyValue,
        migration: &Migration,
        life: &mut Life,
    ) -> Result<Turn, ApiError> {
        let ask = &migration.ask;
        let site = self.site(migration)?;
        let now = self.clock.monotonic();
        if life.renewed_at.is_none_or(|at| now.saturating_sub(at) >= RENEW_EVERY) {
            let renewed = self.books.renew(migration.reservation.clone()).await;
            let renewed = renewed.map_err(not_stored)?;
            renewed.map_err(|_| refused("the capacity that was held for it is gone"))?;
            life.renewed_at = Some(now);
        }
        let vm = match life.vm.take() {
            Some(vm) => vm,
            None => self.vm(migration).await?,
        };
        let seen = self.reach.get_move(&ask.source, &ask.vm, (life.stage, WATCH)).await?;
        let ours = seen.id.as_ref() == Some(&migration.id);
        life.stage = Some(seen.stage);
        let halted = seen.stage == MoveStage::Ready
            || migration.emulated && seen.stage == MoveStage::Sending;
        if ours && halted {
            life.promised_at.get_or_insert_with(|| self.clock.monotonic());
        }
        if ours && seen.stage == MoveStage::Ready {
            return self.commit((kv, migration), site, vm).await;
        }
        if !ours || matches!(seen.stage, MoveStage::Failed | MoveStage::None) {
            return Err(refused(failure(&seen, "the source")));
        }
        let there = self.reach.get_move(site, &ask.vm, (None, Duration::ZERO)).await?;
        if matches!(there.stage, MoveStage::Failed | MoveStage::None) {
            return Err(refused(failure(&there, "the target")));
        }
        life.vm = Some(vm);
        Ok(Turn::Again)
    }

    /// The commit point: owner and log in one compare-and-set, after this region's books say
    /// durably that the capacity may be the VM's (docs/adr/0006).
    async fn commit(
        &self,
        (kv, migration): (&KeyValue, &Migration),
        site: &Site,
        (vm_kv, record): (KeyValue, VmRecord),
    ) -> Result<Turn, ApiError> {
        let now = self.clock.now();
        let owned = hand_over(&record, migration, now).map_err(|why| changed(&why))?;
        let id = migration.reservation.clone();
        let draft = owned.clone();
        let begun = self.books.begin_commit(id.clone(), move |_, _| draft).await;
        let begun = begun.map_err(not_stored)?;
        begun.map_err(|denied| refused(denied.to_string()))?;
        crash_point("move-before-commit");
        let what = format!("{} owns it under epoch {}", site.region, owned.owner.epoch);
        let next = self.next(migration, Step::Committed, &what)?;
        let Some(kv) = self.swap((&vm_kv, &owned), (kv, &next)).await? else {
            return Ok(Turn::Again);
        };
        crash_point("move-after-commit");
        self.tell(migration, &next).await;
        Ok(Turn::Went(Box::new((kv, *next))))
    }

    /// Puts a VM's owner and the log of its move, if both are as they were read; the log then.
    pub(super) async fn swap(
        &self,
        (vm_kv, record): (&KeyValue, &VmRecord),
        (kv, next): (&KeyValue, &Migration),
    ) -> Result<Option<KeyValue>, ApiError> {
        let defect = |m: String| ApiError::new(ErrorCode::Internal, m);
        let put =
            |kv: &KeyValue, value| Op::Put { key: kv.key.clone(), value, lease: None };
        let compare = vec![Compare::unchanged(vm_kv), Compare::unchanged(kv)];
        let value = encoded(next).map_err(defect)?;
        let owner = put(vm_kv, encoded(record).map_err(defect)?);
        let then = vec![owner, put(kv, value.clone())];
        let done = engine::swap(self.engine.as_ref(), compare, then).await;
        let done = done.map_err(|error| engine::failed(&error))?;
        Ok(done.map(|mod_revision| KeyValue { value, mod_revision, ..kv.clone() }))
    }

    async fn clean_source(&self, migration: &Migration) -> Result<Turn, ApiError> {
        let ask = &migration.ask;
        let source = (&ask.source, &ask.reservation);
        if !self.is_gone(ask, ask.epoch.next(), &[source]).await? {
            return Ok(Turn::Again);
        }
        crash_point("move-after-clean-source");
        let what = format!("moved; nothing is left in {}", ask.source.region);
        self.next(migration, Step::Done, &what).map(Turn::Next)
    }

    async fn clean_target(&self, migration: &Migration) -> Result<Turn, ApiError> {
        let ask = &migration.ask;
        let target = (self.site(migration)?, &migration.reservation);
        // The source too: it keeps what is its own, and lets go of a guest that another has.
        let source = (&ask.source, &ask.reservation);
        if !self.is_gone(ask, ask.epoch.next().next(), &[target, source]).await? {
            return Ok(Turn::Again);
        }
        crash_point("move-after-clean-target");
        let what = format!("not in {}", self.region);
        self.next(migration, Step::Done, &what).map(Turn::Next)
    }

    /// Has sites let go of what is not theirs under an epoch; says whether they have, after a
    /// pause when one has not.
    async fn is_gone(
        &self,
        ask: &Ask,
        epoch: Epoch,
        sites: &[(&Site, &ReservationId)],
    ) -> Result<bool, ApiError> {
        for (site, reservation) in sites {
            let body = LetGoBody { epoch, reservation: (*reservation).clone() };
            if !self.reach.let_go(site, &ask.vm, &body).await?.gone {
                tokio::time::sleep(LOOK_AGAIN).await;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Both sides are told until nothing of the move is left.
    async fn undo(&self, migration: &Migration) -> Result<Turn, ApiError> {
        let ask = &migration.ask;
        let target = async {
            match &migration.site {
                Some(site) => self.is_left(site, migration).await,
                None => Ok(false),
            }
        };
        // One that does not answer keeps nobody from telling the other.
        let (at_source, at_target) =
            tokio::join!(self.is_left(&ask.source, migration), target);
        if matches!(at_target, Ok(false)) {
            // Nobody can commit any more. A source that is lost must not keep the room that its
            // failover may need.
            let freed = self.books.release(migration.reservation.clone()).await;
            freed.map_err(not_stored)?;
        }
        if at_source? || at_target? {
            tokio::time::sleep(LOOK_AGAIN).await;
            return Ok(Turn::Again);
        }
        crash_point("move-after-undo");
        let source = &ask.source.region;
        let owner = self.mirror.vm(&ask.vm).map(|it| it.record.owner.region.clone());
        let what = if owner.as_ref() == Some(source) {
            format!("it stays in {source}")
        } else {
            "nothing is left of it".to_owned()
        };
        self.next(migration, Step::Done, &what).map(Turn::Next)
    }

    async fn is_left(
        &self,
        site: &Site,
        migration: &Migration,
    ) -> Result<bool, ApiError> {
        let vm = &migration.ask.vm;
        let order = MoveOrder::Abandon { id: migration.id.clone() };
        self.reach.put_move(site, vm, &order).await?;
        let seen = self.reach.get_move(site, vm, (None, Duration::ZERO)).await?;
        Ok(seen.id.as_ref() == Some(&migration.id))
    }
}

pub(super) fn failure(seen: &MoveReport, who: &str) -> String {
    let told = seen.error.as_deref().unwrap_or("it knows nothing of the move any more");
    format!("{who}: {told}")
}

fn receive_order(
    migration: &Migration,
    record: &VmRecord,
    from: &MachineReport,
) -> MoveOrder {
    let image = &record.image;
    MoveOrder::Receive(ReceiveOrder {
        id: migration.id.clone(),
        epoch: migration.ask.epoch.next(),
        shape: record.request.shape,
        image: (!image.is_empty()).then(|| image.clone()),
        address: from.address,
        machine: from.machine.clone(),
        from: from.subject.clone(),
        cold: migration.ask.cold,
    })
}

/// Made of what does not change, so that giving it again is giving the same.
fn send_order(
    migration: &Migration,
    to: &MachineReport,
    listening: &MoveReport,
    told: &Forecast,
) -> Result<MoveOrder, ApiError> {
    let ports = listening.disk_port.zip(listening.memory_port);
    let (disk_port, memory_port) =
        ports.ok_or_else(|| refused("the target does not say where it listens"))?;
    Ok(MoveOrder::Send(SendOrder {
        id: migration.id.clone(),
        epoch: migration.ask.epoch,
        address: to.host_address.clone(),
        disk_port,
        memory_port,
        name: to.name.clone(),
        bandwidth: told.rate,
        downtime_ms: told.limit_ms,
        cold: migration.ask.cold,
    }))
}
