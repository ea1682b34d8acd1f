//! Trials of failovers: whether a VM would start from its copy is seen by starting it from a fork
//! of that, on the host that keeps it, connected to nothing. The VM runs on and its copy goes on
//! following.
//!
//! Any daemon takes a trial in and shows it; the daemon of the region that keeps the copy holds
//! the capacity for it and tells its host. Nothing is written down about trials: what is held
//! lapses when the trial's time is over, and its host ends it then by itself. Whatever is real
//! comes before a trial in the books; one that gave way is ended at once.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::failover::{StartTrial, TrialItem};
use dwcp_api::host::{
    TRIAL_EXPECT_MAX, TRIAL_SECONDS_DEFAULT, TRIAL_SECONDS_MAX, TrialBody, TrialParams,
    TrialReport, TrialStage,
};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::ledger::Reserve;
use dwcp_controller::migration::Site;
use dwcp_controller::ownership::{Loss, Replica, VmRecord};
use dwcp_runtime::strong::StrongEngine;
use dwcp_types::{HostId, RegionId, ReservationId, Timestamp, VmId};
use tokio::time::sleep;
use tracing::info;

use crate::books::Books;
use crate::claims;
use crate::events::Events;
use crate::lifecycle::read_vm;
use crate::migrate::Reach;
use crate::reservations::{not_stored, reserve_denied};

/// How often it is looked at whether a trial still has its room.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Debug)]
pub struct Trials {
    /// This daemon's region.
    pub region: RegionId,
    /// The records.
    pub engine: Arc<dyn StrongEngine>,
    /// What is held here.
    pub books: Books,
    /// The way to hosts of any region.
    pub reach: Reach,
    /// Where to note what was tried.
    pub events: Events,
}

impl Trials {
    /// Begins one.
    ///
    /// # Errors
    ///
    /// When the VM has no copy that was ever whole, its host has no room, or a trial of it is
    /// under way.
    pub async fn begin(
        &self,
        by: &str,
        vm: &VmId,
        ask: StartTrial,
    ) -> Result<TrialItem, ApiError> {
        let seconds = ask.seconds.unwrap_or(TRIAL_SECONDS_DEFAULT);
        check(&ask, seconds)?;
        let record = self.record(vm).await?;
        let replica = replica_of(&record)?;
        let (copy, loss) = replica.best().ok_or_else(|| {
            let message = format!("the copy of VM {vm} was never whole yet");
            ApiError::new(ErrorCode::Refused, message).with_remedy(
                "wait for it: `dwcp-cli federation vm describe` says how far",
            )
        })?;
        let request = &record.request;
        let body = TrialBody {
            id: claims::attempt()?,
            tenant: request.tenant.clone(),
            copy,
            as_of: as_of(loss),
            shape: request.shape,
            image: (!record.image.is_empty()).then(|| record.image.clone()),
            expect: ask.expect,
            seconds,
        };
        let at = site(replica);
        let report = self.put(&at, vm, body).await?;
        let (host, region) = (&at.host, &at.region);
        let what = format!("{by} tries its failover on {host} in {region}");
        self.events.note(Some(vm), &what).await;
        Ok(item(vm, at, report))
    }

    /// How far one is.
    ///
    /// # Errors
    ///
    /// When there is none, or its host does not answer.
    pub async fn show(&self, vm: &VmId) -> Result<TrialItem, ApiError> {
        let record = self.record(vm).await?;
        let replica = replica_of(&record)?;
        let at = site(replica);
        let report = self.reach.get_trial(&at, vm).await?;
        Ok(item(vm, at, report))
    }

    /// Ends one. Ending none is ending one.
    ///
    /// # Errors
    ///
    /// When its host does not answer; it ends by itself then.
    pub async fn end(&self, trial: TrialParams) -> Result<(), ApiError> {
        let record = self.record(&trial.vm).await?;
        let at = site(replica_of(&record)?);
        if at.region == self.region {
            return self.end_here(&at.host, &trial).await;
        }
        self.reach.drop_trial_there(&at, &trial).await
    }

    async fn put(
        &self,
        at: &Site,
        vm: &VmId,
        body: TrialBody,
    ) -> Result<TrialReport, ApiError> {
        if at.region == self.region {
            return self.begin_here(&at.host, vm, body).await;
        }
        self.reach.put_trial_there(at, vm, &body).await
    }

    /// The door for peers. What was begun is brought to its end also when nobody waits for the
    /// answer any more.
    pub(crate) async fn begin_here(
        &self,
        host: &HostId,
        vm: &VmId,
        body: TrialBody,
    ) -> Result<TrialReport, ApiError> {
        let (this, host, vm) = (self.clone(), host.clone(), vm.clone());
        let beginning = tokio::spawn(async move { this.hold(&host, &vm, body).await });
        beginning.await.unwrap_or_else(|error| {
            let message = format!("the trial's beginning ended: {error}");
            Err(ApiError::new(ErrorCode::Internal, message))
        })
    }

    /// Holds what it takes, and tells the host.
    async fn hold(
        &self,
        host: &HostId,
        vm: &VmId,
        body: TrialBody,
    ) -> Result<TrialReport, ApiError> {
        let what = (body.tenant.clone(), body.shape);
        let hold_for = Duration::from_secs(body.seconds.into());
        let ask = Reserve::of_trial(body.id.clone(), what, host.clone(), hold_for)
            .map_err(|bad| ApiError::new(ErrorCode::Invalid, bad.to_string()))?;
        let held = self.books.reserve(ask).await.map_err(not_stored)?;
        held.map_err(|denied| {
            reserve_denied(&denied).with_remedy(
                "make room on that host, or wait for the end of another trial there",
            )
        })?;
        let told = self.reach.put_trial_here(host, vm, &body).await;
        if told.is_err() {
            self.free(&body.id).await;
        }
        // Also one of which it is not sure whether it began.
        let trial = TrialParams { vm: vm.clone(), id: Some(body.id.clone()) };
        tokio::spawn(self.clone().follow(host.clone(), trial, body.id));
        told
    }

    /// Ends a trial within a second after nothing is held for it any more, because it has given way
    /// or its time is over, and holds nothing any more for one that is over. If this daemon ends
    /// before that, only its time ends it.
    async fn follow(self, host: HostId, trial: TrialParams, id: ReservationId) {
        while let Ok(true) = self.books.has(id.clone()).await {
            sleep(LOOK_EVERY).await;
            let seen = self.reach.get_trial_here(&host, &trial.vm).await;
            if is_over(&seen, &id) {
                // Why one failed is told until its time is over.
                return self.free(&id).await;
            }
        }
        if let Err(reason) = self.reach.drop_trial_here(&host, &trial).await {
            info!(vm = %trial.vm, %host, %reason, "a trial ends by itself");
        }
    }

    /// The door for peers.
    pub(crate) async fn end_here(
        &self,
        host: &HostId,
        trial: &TrialParams,
    ) -> Result<(), ApiError> {
        let id = match &trial.id {
            Some(id) => id.clone(),
            None => match self.reach.get_trial_here(host, &trial.vm).await {
                Ok(report) => report.id,
                Err(error) if error.code == ErrorCode::NotFound => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        let this = TrialParams { vm: trial.vm.clone(), id: Some(id.clone()) };
        self.reach.drop_trial_here(host, &this).await?;
        self.free(&id).await;
        Ok(())
    }

    /// Gives back what a trial held; if that fails it lapses.
    async fn free(&self, id: &ReservationId) {
        if let Err(reason) = self.books.cancel(id.clone()).await {
            info!(reservation = %id, %reason, "what a trial held lapses by itself");
        }
    }

    async fn record(&self, vm: &VmId) -> Result<VmRecord, ApiError> {
        read_vm(self.engine.as_ref(), vm).await.map(|(_, record)| record)
    }
}

/// Whether a host says that nothing of a trial is left on it.
fn is_over(seen: &Result<TrialReport, ApiError>, id: &ReservationId) -> bool {
    match seen {
        Ok(report) => report.id != *id || report.stage == TrialStage::Failed,
        Err(error) => error.code == ErrorCode::NotFound,
    }
}

fn check(ask: &StartTrial, seconds: u32) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::Invalid, message));
    if seconds == 0 || seconds > TRIAL_SECONDS_MAX {
        return invalid(format!("a trial takes 1 to {TRIAL_SECONDS_MAX} seconds"));
    }
    match ask.expect.as_deref().map(str::len) {
        Some(0) => invalid("what the guest is to print is empty".to_owned()),
        Some(len) if len > TRIAL_EXPECT_MAX => invalid(format!(
            "what the guest is to print has over {TRIAL_EXPECT_MAX} bytes"
        )),
        _ => Ok(()),
    }
}

fn replica_of(record: &VmRecord) -> Result<&Replica, ApiError> {
    record.replica.as_deref().ok_or_else(|| {
        let message =
            format!("VM {} has no copy of its disk in another region", record.request.id);
        ApiError::new(ErrorCode::Refused, message).with_remedy(
            "only VMs that are placed with `--on-region-loss sync-replica`, `async-replica` or \
             `snapshot-replica` can be tried",
        )
    })
}

fn site(replica: &Replica) -> Site {
    let at = replica.at.clone();
    Site { region: at.region, zone: at.zone, host: at.host }
}

/// What the disk is as of, when it does not have every write.
const fn as_of(loss: Loss) -> Option<Timestamp> {
    match loss {
        Loss::Latest { since } => Some(since),
        Loss::Point { as_of, .. } => Some(as_of),
        Loss::Memory | Loss::DiskAndMemory { .. } => None,
    }
}

fn item(vm: &VmId, at: Site, report: TrialReport) -> TrialItem {
    TrialItem { vm: vm.clone(), region: at.region, host: at.host, report }
}
