//! What is left of a move once the target owns the VM: the guest comes, or goes back. If the
//! source's region is lost for good meanwhile, the guest is started anew from its disk, which is
//! whole at the target since the source promised.

use std::time::Duration;

use dwcp_api::ApiError;
use dwcp_api::host::{MoveOrder, MoveReport, MoveStage};
use dwcp_controller::failover::{Log, history_key};
use dwcp_controller::migration::{Migration, Step, is_overtaken, take_back};
use dwcp_controller::ownership::{VmRecord, vm_key};
use dwcp_runtime::crash::crash_point;
use dwcp_runtime::strong::KeyValue;
use dwcp_types::millis;

use super::Migrations;
use super::drive::{LOOK_AGAIN, Life, Turn, WATCH, failure};
use crate::reservations::not_stored;

/// How long a target may take to hear that the stream to it broke, which keeps the guest's memory:
/// it goes back then. TCP tells it within milliseconds, or not before it speaks itself.
const UNHEARD: Duration = Duration::from_secs(30);

/// Whether the target's host holds the epoch that the move brings, or a later one.
fn is_owned(seen: &MoveReport, migration: &Migration) -> bool {
    seen.epoch.is_some_and(|epoch| epoch > migration.ask.epoch)
}

impl Migrations {
    /// Waits until the guest is whole at the target. The target's agent hears of its ownership by
    /// the record, as of any other VM.
    pub(super) async fn await_arrival(
        &self,
        kv: &KeyValue,
        migration: &Migration,
        life: &mut Life,
    ) -> Result<Turn, ApiError> {
        if !life.confirmed {
            let confirmed = self.books.confirm(migration.reservation.clone()).await;
            confirmed.map_err(not_stored)?.ok();
            life.confirmed = true;
        }
        let seen = self.at_target(migration).await?;
        if let Some(next) = self.arrived(migration, &seen, life)? {
            return Ok(Turn::Next(next));
        }
        if let Some(next) = self.overtaken(migration).await? {
            return Ok(Turn::Next(next));
        }
        if let Some(why) = self.never_comes(migration, &seen, life).await? {
            let what = format!("{why}: it starts anew from its disk, which is whole");
            return self.next(migration, Step::SourceLost, &what).map(Turn::Next);
        }
        if is_owned(&seen, migration) && seen.stage == MoveStage::Failed {
            return self.back(kv, migration, &seen).await;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        Ok(Turn::Again)
    }

    /// Has the target start the guest anew, until nothing of the move is left there.
    pub(super) async fn start_anew(
        &self,
        migration: &Migration,
        life: &mut Life,
    ) -> Result<Turn, ApiError> {
        let (site, vm) = (self.site(migration)?, &migration.ask.vm);
        let order = MoveOrder::SourceLost { id: migration.id.clone() };
        self.reach.put_move(site, vm, &order).await?;
        crash_point("move-after-source-lost");
        let seen = self.at_target(migration).await?;
        // A halt is not counted: the guest has booted.
        life.promised_at = None;
        if let Some(next) = self.arrived(migration, &seen, life)? {
            return Ok(Turn::Next(next));
        }
        if let Some(next) = self.overtaken(migration).await? {
            return Ok(Turn::Next(next));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        Ok(Turn::Again)
    }

    /// What the target sees of the move; held back while it waits for the guest.
    async fn at_target(&self, migration: &Migration) -> Result<MoveReport, ApiError> {
        let known = Some(MoveStage::Listening);
        self.reach
            .get_move(self.site(migration)?, &migration.ask.vm, (known, WATCH))
            .await
    }

    /// The step after the guest's arrival, once it has.
    fn arrived(
        &self,
        migration: &Migration,
        seen: &MoveReport,
        life: &Life,
    ) -> Result<Option<Box<Migration>>, ApiError> {
        if !is_owned(seen, migration)
            || !matches!(seen.stage, MoveStage::None | MoveStage::Arrived)
        {
            return Ok(None);
        }
        let mut next =
            self.next(migration, Step::Arrived, "the guest is at its target")?;
        next.downtime_ms = life
            .promised_at
            .map(|promised| millis(self.clock.monotonic().saturating_sub(promised)));
        crash_point("move-after-arrival");
        Ok(Some(next))
    }

    /// Why the memory that the target owns and waits for surely never comes, if it does not: its
    /// source's region is lost, or the source itself, halted by its promise, says that the stream
    /// broke. A target whose line was cut for long hears of no end.
    async fn never_comes(
        &self,
        migration: &Migration,
        seen: &MoveReport,
        life: &mut Life,
    ) -> Result<Option<String>, ApiError> {
        let source = &migration.ask.source;
        if !is_owned(seen, migration) {
            return Ok(None);
        }
        if self.is_source_lost(migration).await? {
            return Ok(Some(format!(
                "{} is lost with the rest of its memory",
                source.region
            )));
        }
        if seen.stage != MoveStage::Listening {
            life.broke_at = None;
            return Ok(None);
        }
        let there =
            self.reach.get_move(source, &migration.ask.vm, (None, Duration::ZERO));
        // One that cannot be asked may still send.
        let Ok(there) = there.await else { return Ok(None) };
        let broke = there.promised
            && there.stage == MoveStage::Failed
            && there.id.as_ref() == Some(&migration.id);
        if !broke {
            life.broke_at = None;
            return Ok(None);
        }
        let now = self.clock.monotonic();
        let broke_at = *life.broke_at.get_or_insert(now);
        let unheard = now.saturating_sub(broke_at) >= UNHEARD;
        Ok(unheard.then(|| failure(&there, "the source")))
    }

    /// Whether the source surely runs nothing of the VM any more and sends nothing: a failover
    /// took its region's lease away, and has its proof. A VM that is not bound to the lease may
    /// run on there whatever the lease says, so it waits for its source.
    async fn is_source_lost(&self, migration: &Migration) -> Result<bool, ApiError> {
        let vm = &migration.ask.vm;
        let stored = self.mirror.vm(vm);
        if !stored.is_some_and(|it| it.record.request.is_failover_protected()) {
            return Ok(false);
        }
        let seen = self.seen.borrow().clone();
        let lease = seen.leases.get(&migration.ask.source.region);
        let Some(failover) = lease.and_then(|it| it.record.fenced_by()) else {
            return Ok(false);
        };
        if let Some((log, _)) = seen.active.as_ref().filter(|(log, _)| log.id == failover)
        {
            return Ok(log.proof.is_some());
        }
        let ended = self.read::<Log>(&history_key(failover)).await?;
        Ok(ended.is_some_and(|(_, log)| log.proof.is_some()))
    }

    /// The step after the commit when others have decided about the VM since. The mirror is
    /// looked at first, because the guest is halted meanwhile; the engine has the last word.
    async fn overtaken(
        &self,
        migration: &Migration,
    ) -> Result<Option<Box<Migration>>, ApiError> {
        let vm = &migration.ask.vm;
        let mirrored = self.mirror.vm(vm).map(|stored| stored.record);
        if !is_overtaken(mirrored.as_deref(), migration) {
            return Ok(None);
        }
        let stored = self.read::<VmRecord>(&vm_key(vm)).await?;
        if !is_overtaken(stored.as_ref().map(|(_, record)| record), migration) {
            return Ok(None);
        }
        let why = "others have decided about the VM since the target owned it";
        let mut next = self.next(migration, Step::TakingBack, why)?;
        next.failure = Some(why.to_owned());
        Ok(Some(next))
    }

    /// The target lost the guest before it ran there, by its own word: the source has it again
    /// under yet another epoch. Unless another has decided about it since, as when its region
    /// was failed over: then that stands, and only what is left of the move is removed.
    async fn back(
        &self,
        kv: &KeyValue,
        migration: &Migration,
        seen: &MoveReport,
    ) -> Result<Turn, ApiError> {
        let (vm_kv, record) = self.vm(migration).await?;
        let now = self.clock.now();
        let why = failure(seen, "the target");
        let mut next = self.next(migration, Step::TakingBack, &why)?;
        next.failure = Some(why);
        let Ok(owned) = take_back(&record, migration, now) else {
            return Ok(Turn::Next(next));
        };
        let Some(kv) = self.swap((&vm_kv, &owned), (kv, &next)).await? else {
            return Ok(Turn::Again);
        };
        crash_point("move-after-take-back");
        self.tell(migration, &next).await;
        Ok(Turn::Went(Box::new((kv, *next))))
    }
}
