//! Asks for moves, shows them, calls them off: what any daemon does.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::host::MachineReport;
use dwcp_api::migration::{
    AskMigration, MigrationFilter, MigrationItem, MigrationList, MigrationReply,
};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::migration::{
    Ask, Migration, QUEUE_MAX, Site, Step, check_movable, migration_key, moving_key,
};
use dwcp_controller::ownership::{VmRecord, vm_key};
use dwcp_controller::placement::{Choice, Reason, Verdict, explain};
use dwcp_runtime::strong::{Compare, KeyValue, Op, OpId, Txn, TxnOutcome};
use dwcp_types::{MigrationId, RegionId, ReservationId, Timestamp, VmId, millis};
use dwcp_vm::Accelerator;
use dwcp_vm::migration::{Forecast, LINK_PERCENT, Wish, forecast};
use futures_util::future::join_all;
use serde::de::DeserializeOwned;

use super::Migrations;
use crate::claims::random_name;
use crate::commit::encoded;
use crate::engine;
use crate::lifecycle::no_such_vm;

/// The longest halt when nothing is said (C21).
const DOWNTIME_MS: u64 = 5_000;
/// The share of the link when nothing is said (T6).
const BANDWIDTH_MBPS: u32 = 1_000;
/// The round trip when the configuration does not tell it: between the farthest regions.
const RTT_MS_UNKNOWN: u64 = 310;
/// Moves in one list, and when nothing is said.
const LIST_MAX: u32 = 1_000;
/// Moves of a list whose progress is asked for.
const PROGRESS_MAX: usize = 32;
/// Time for a host to say how far it is: a list must not wait for a dead one.
const PROGRESS_TIME: Duration = Duration::from_secs(2);
/// Attempts when others change the same record at the same time.
const ATTEMPTS_MAX: u32 = 16;

/// Whether a guest runs by translation on this machine.
pub(super) fn is_emulated(on: &MachineReport) -> bool {
    on.machine.accelerator == Accelerator::Tcg.as_str()
}

impl Migrations {
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(KeyValue, T)>, ApiError> {
        let kv = self.engine.get(key).await.map_err(|e| engine::failed(&e))?;
        let Some(kv) = kv else { return Ok(None) };
        let value = serde_json::from_slice(&kv.value).map_err(|reason| {
            let message = format!("the record {key} cannot be read: {reason}");
            ApiError::new(ErrorCode::Internal, message)
        })?;
        Ok(Some((kv, value)))
    }

    /// Asks for a move, or says how long it would take.
    ///
    /// # Errors
    ///
    /// The reason why it cannot be: nothing was begun then.
    pub async fn ask(&self, body: AskMigration) -> Result<MigrationReply, ApiError> {
        let vm = body.vm.clone();
        let (of_vm, of_move) = (vm_key(&vm), moving_key(&vm));
        let (stored, moving) =
            tokio::join!(self.read::<VmRecord>(&of_vm), self.engine.get(&of_move));
        let (kv, record) = stored?.ok_or_else(|| no_such_vm(&vm))?;
        let ask = self.judged(&body, &record)?;
        self.refuse_moving(&vm, moving.map_err(|e| engine::failed(&e))?)?;
        let choice = self.place_in(&record, &ask.target)?;
        let mut migration = self.drafted(ask)?;
        let (told, _) = self.foretell(&record, &migration.ask).await?;
        migration.foretold_ms = Some(told.total_ms);
        migration.foretold_downtime_ms = Some(told.downtime_ms);
        if body.dry_run {
            migration.site = Some(site_of(&choice));
            let migration = item(&migration);
            return Ok(MigrationReply { migration, dry_run: true });
        }
        self.write_new(&migration, &kv).await?;
        let what = format!("is to move to {} ({})", migration.ask.target, migration.id);
        self.note(&vm, &what).await;
        Ok(MigrationReply { migration: item(&migration), dry_run: false })
    }

    fn judged(&self, body: &AskMigration, record: &VmRecord) -> Result<Ask, ApiError> {
        let refused = |code, message: String, remedy: &str| {
            Err(ApiError::new(code, message).with_remedy(remedy))
        };
        let (vm, target, owner) = (&body.vm, &body.target, &record.owner);
        let now = self.clock.now();
        if let Some(source) = body.source.as_ref().filter(|it| **it != owner.region) {
            let message = format!("VM {vm} is in {}, not in {source}", owner.region);
            return refused(ErrorCode::Conflict, message, "leave --source away");
        }
        let Some(region) = self.mirror.region(target) else {
            let message = format!("there is no region {target}");
            let remedy = "see `dwcp-cli federation region list`";
            return refused(ErrorCode::NotFound, message, remedy);
        };
        if !region.record.region.enabled {
            let message = format!("region {target} is disabled");
            let remedy = "enable it: dwcp-cli federation region enable";
            return refused(ErrorCode::Refused, message, remedy);
        }
        if body.deadline.is_some_and(|deadline| deadline <= now) {
            let message = "the deadline is in the past".to_owned();
            return refused(ErrorCode::Invalid, message, "name a later moment");
        }
        check_movable(record, target, body.cold).map_err(|reason| {
            ApiError::new(ErrorCode::Conflict, format!("VM {vm}: {reason}"))
                .with_remedy("look at it: dwcp-cli vm describe")
        })?;
        let mbps = u64::from(body.bandwidth_mbps.unwrap_or(BANDWIDTH_MBPS));
        Ok(Ask {
            vm: vm.clone(),
            source: Site {
                region: owner.region.clone(),
                zone: owner.zone.clone(),
                host: owner.host.clone(),
            },
            target: target.clone(),
            epoch: owner.epoch,
            generation: record.generation,
            reservation: record.reservation.clone(),
            cold: body.cold,
            replicated: record.request.keeps_replica(),
            cause: body.cause,
            priority: body.priority.unwrap_or(record.request.priority).clamp(1, 10),
            downtime_ms_max: body.downtime_ms_max.unwrap_or(DOWNTIME_MS),
            bandwidth: mbps.saturating_mul(1_000_000 / 8),
            rtt_ms: self.mirror.rtt_ms(&owner.region, target).unwrap_or(RTT_MS_UNKNOWN),
            deadline: body.deadline,
            at: now,
        })
    }

    fn refuse_moving(&self, vm: &VmId, moving: Option<KeyValue>) -> Result<(), ApiError> {
        if let Some(moving) = moving {
            let id = String::from_utf8_lossy(&moving.value).into_owned();
            let message = format!("VM {vm} is moving already ({id})");
            return Err(ApiError::new(ErrorCode::Conflict, message).with_remedy(
                "wait for it, or call it off: dwcp-cli federation migrate cancel",
            ));
        }
        let waiting = self.all().iter().filter(|it| !it.is_done()).count();
        if waiting >= QUEUE_MAX {
            let message = format!("{QUEUE_MAX} moves wait or are under way: queue full");
            return Err(ApiError::new(ErrorCode::Busy, message)
                .with_remedy("ask again when some are over"));
        }
        Ok(())
    }

    /// Where in the target region the VM goes by the rules of placement, compliance included
    /// (F11), or why nowhere: for now, or at all.
    pub(super) fn place_in(
        &self,
        record: &VmRecord,
        target: &RegionId,
    ) -> Result<Choice, ApiError> {
        let explanation =
            self.fleet.look(|fleet| explain(fleet, &record.request, &self.policy));
        let verdict = explanation.regions.into_iter().find(|it| it.region == *target);
        let refused = |code, why: String, remedy: &str| {
            let vm = &record.request.id;
            let message = format!("region {target} does not take VM {vm}: {why}");
            ApiError::new(code, message).with_remedy(remedy)
        };
        let for_now = |why: String| {
            let remedy = "ask again when the region is heard from, or choose another one: \
                          dwcp-cli federation explain";
            refused(ErrorCode::Unavailable, why, remedy)
        };
        match verdict.map(|it| it.verdict) {
            Some(Verdict::Fits { place }) => Ok(place),
            Some(Verdict::Refused { reasons, .. }) => {
                let texts: Vec<_> = reasons.iter().map(ToString::to_string).collect();
                let why = texts.join("; ");
                // Hosts that were told to take none are an order; those that are silent are not.
                let is_silent = |it: &Reason| matches!(it, Reason::Health { .. });
                if reasons.iter().all(Reason::may_pass) && reasons.iter().any(is_silent) {
                    return Err(for_now(why));
                }
                let remedy = "choose another region: dwcp-cli federation explain";
                Err(refused(ErrorCode::Refused, why, remedy))
            }
            None => Err(for_now("it is not known to the fleet yet".to_owned())),
        }
    }

    fn drafted(&self, ask: Ask) -> Result<Migration, ApiError> {
        let name = random_name("m");
        let defect = |reason: dwcp_types::IdError| {
            ApiError::new(ErrorCode::Internal, reason.to_string())
        };
        let id = MigrationId::new(&name).map_err(defect)?;
        let reservation = ReservationId::new(&name).map_err(defect)?;
        Ok(Migration::new(id, ask, reservation))
    }

    /// Foretells the move on what the guest does now (F14); with what it runs on.
    pub(super) async fn foretell(
        &self,
        record: &VmRecord,
        ask: &Ask,
    ) -> Result<(Forecast, MachineReport), ApiError> {
        let request = &record.request;
        let what = (&request.id, &request.shape, record.image.as_str());
        let there = self.reach.machine(&ask.source, what, !ask.cold).await?;
        let now = self.clock.now();
        let wish = Wish {
            memory: there.machine.memory.get().saturating_mul(1 << 20),
            dirty_rate: there.dirty_rate.unwrap_or(0),
            disk: there.disk,
            bandwidth: ask.bandwidth,
            rtt_ms: ask.rtt_ms,
            downtime_ms_max: ask.downtime_ms_max,
            total_ms_max: ask.deadline.map(|deadline| millis(deadline.since(now))),
            throttle: true,
            emulated: is_emulated(&there),
            cold: ask.cold,
        };
        let told = forecast(&wish).map_err(|reason| {
            let message = format!("VM {} cannot be moved so: {reason}", request.id);
            ApiError::new(ErrorCode::Refused, message)
                .with_remedy("raise --max-downtime or --bandwidth, or move it --cold")
        })?;
        Ok((told, there))
    }

    async fn write_new(
        &self,
        migration: &Migration,
        vm: &KeyValue,
    ) -> Result<(), ApiError> {
        let value =
            encoded(migration).map_err(|m| ApiError::new(ErrorCode::Internal, m))?;
        let key = migration_key(&migration.id);
        let lock = moving_key(&migration.ask.vm);
        let id = migration.id.as_str().as_bytes().to_vec();
        let txn = Txn {
            compare: vec![
                Compare::absent(key.clone()),
                Compare::absent(lock.clone()),
                Compare::unchanged(vm),
            ],
            then: vec![
                Op::Put { key, value, lease: None },
                Op::Put { key: lock, value: id.into(), lease: None },
            ],
            op_id: Some(OpId::random()),
        };
        match self.engine.txn(txn).await.map_err(|e| engine::failed(&e))? {
            TxnOutcome::Committed { .. } => Ok(()),
            TxnOutcome::Conflict { .. } => {
                let message = format!("VM {} changed meanwhile", migration.ask.vm);
                Err(ApiError::new(ErrorCode::Conflict, message).with_remedy("ask again"))
            }
        }
    }

    /// Moves, those that wait or are under way first, then the newest.
    pub async fn list(&self, filter: MigrationFilter) -> MigrationList {
        let wanted = |it: &Arc<Migration>| {
            (filter.all || !it.is_done())
                && filter.vm.as_ref().is_none_or(|vm| *vm == it.ask.vm)
                && filter.source.as_ref().is_none_or(|from| *from == it.ask.source.region)
        };
        let mut all: Vec<_> = self.all().into_iter().filter(wanted).collect();
        all.sort_by_key(|it| {
            let urgency = std::cmp::Reverse(it.ask.priority);
            let newest = std::cmp::Reverse(it.ended_at.unwrap_or_default());
            (it.is_done(), newest, urgency, it.ask.at)
        });
        let limit = filter.limit.unwrap_or(LIST_MAX).min(LIST_MAX);
        all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let (first, rest) = all.split_at(all.len().min(PROGRESS_MAX));
        let mut items = join_all(first.iter().map(|it| self.shown(it))).await;
        items.extend(rest.iter().map(|it| item(it)));
        let waves = self.waves();
        for item in &mut items {
            item.wave = waves.get(&item.id).and_then(|wave| u32::try_from(*wave).ok());
        }
        MigrationList { items }
    }

    /// One move.
    ///
    /// # Errors
    ///
    /// When there is none of this name.
    pub async fn show(&self, id: &MigrationId) -> Result<MigrationItem, ApiError> {
        let stored = self.read::<Migration>(&migration_key(id)).await?;
        let (_, migration) = stored.ok_or_else(|| no_such_move(id))?;
        Ok(self.shown(&migration).await)
    }

    /// Calls a move off. Calling off what is being called off changes nothing.
    ///
    /// # Errors
    ///
    /// When it is committed, over, or not there.
    pub async fn cancel(&self, id: &MigrationId) -> Result<MigrationItem, ApiError> {
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.read::<Migration>(&migration_key(id)).await?;
            let (kv, migration) = stored.ok_or_else(|| no_such_move(id))?;
            if migration.step == Step::Abandoning {
                return Ok(item(&migration));
            }
            let next = migration.cancel(self.clock.now()).map_err(|reason| {
                ApiError::new(ErrorCode::Conflict, format!("{id}: {reason}")).with_remedy(
                    "the VM is at its target or the move is over: move it back if need be",
                )
            })?;
            if self.write(&kv, &next).await?.is_some() {
                self.note(&next.ask.vm, &format!("its move {id} is called off")).await;
                return Ok(item(&next));
            }
        }
        Err(ApiError::new(ErrorCode::Busy, format!("move {id} changes all the time"))
            .with_remedy("ask again"))
    }

    /// Writes the log anew unless someone else did; the log as it stands then.
    pub(super) async fn write(
        &self,
        was: &KeyValue,
        next: &Migration,
    ) -> Result<Option<KeyValue>, ApiError> {
        let value = encoded(next).map_err(|m| ApiError::new(ErrorCode::Internal, m))?;
        let put = Op::Put { key: was.key.clone(), value: value.clone(), lease: None };
        let mut then = vec![put];
        if next.is_done() {
            then.push(Op::Delete { key: moving_key(&next.ask.vm) });
        }
        let compare = vec![Compare::unchanged(was)];
        let done = engine::swap(self.engine.as_ref(), compare, then).await;
        let done = done.map_err(|error| engine::failed(&error))?;
        Ok(done.map(|mod_revision| KeyValue { value, mod_revision, ..was.clone() }))
    }

    /// A move with its progress, which its source knows.
    async fn shown(&self, migration: &Migration) -> MigrationItem {
        let mut item = item(migration);
        if !matches!(migration.step, Step::Moving) {
            return item;
        }
        let ask = &migration.ask;
        let look = self.reach.get_move(&ask.source, &ask.vm, (None, Duration::ZERO));
        let Ok(Ok(seen)) = tokio::time::timeout(PROGRESS_TIME, look).await else {
            return item;
        };
        let done = seen.disk_done.saturating_add(seen.memory_sent);
        let left = seen
            .disk_total
            .saturating_sub(seen.disk_done)
            .saturating_add(seen.memory_left);
        let all = done.saturating_add(left);
        if seen.id.as_ref() == Some(&migration.id) && all > 0 {
            let percent = u128::from(done) * 100 / u128::from(all);
            item.percent = u8::try_from(percent).ok();
            let rate = (ask.bandwidth / 100).saturating_mul(LINK_PERCENT).max(1);
            let span = u128::from(left) * 1_000 / u128::from(rate);
            item.eta_ms = u64::try_from(span).ok();
        }
        item
    }
}

pub(super) fn site_of(choice: &Choice) -> Site {
    Site {
        region: choice.region.clone(),
        zone: choice.zone.clone(),
        host: choice.host.clone(),
    }
}

fn no_such_move(id: &MigrationId) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no move {id}"))
        .with_remedy("see `dwcp-cli federation migrate queue`")
}

/// A move without its progress.
fn item(migration: &Migration) -> MigrationItem {
    let ask = &migration.ask;
    MigrationItem {
        id: migration.id.clone(),
        vm: ask.vm.clone(),
        source: ask.source.clone(),
        target: ask.target.clone(),
        site: migration.site.clone(),
        cold: ask.cold,
        replicated: ask.replicated,
        cause: ask.cause,
        priority: ask.priority,
        step: migration.step,
        wave: None,
        outcome: migration.outcome,
        failure: migration.failure.clone(),
        percent: None,
        eta_ms: None,
        foretold_ms: migration.foretold_ms,
        foretold_downtime_ms: migration.foretold_downtime_ms,
        downtime_ms: migration.downtime_ms,
        downtime_ms_max: ask.downtime_ms_max,
        asked_at: ask.at,
        ended_at: migration.ended_at,
        log: migration.log.clone(),
    }
}

/// Whether a deadline has passed.
pub(super) fn is_late(ask: &Ask, now: Timestamp) -> bool {
    ask.deadline.is_some_and(|deadline| deadline <= now)
}
