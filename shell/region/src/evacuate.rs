//! Empties regions (C16, F1): the wish lies with the region's record, and its own daemon asks for
//! a move of each VM until none is left. A VM whose move fails is asked for again; what dies with
//! its region meanwhile is a matter of failover, as if nobody had wanted it to leave.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::evacuation::{EvacuationItem, EvacuationList, StartEvacuation};
use dwcp_api::migration::AskMigration;
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::evacuation::{
    AGAIN_AFTER, Evacuation, Leaves, Plan, Refused, due, plan,
};
use dwcp_controller::migration::{Cause, Migration, Step};
use dwcp_controller::ownership::VmRecord;
use dwcp_types::RegionId;
use tracing::info;

use crate::migrate::Migrations;
use crate::records::RegionRecord;
use crate::region_records::RegionRecords;

/// How often it is looked who has left.
const EVERY: Duration = Duration::from_secs(1);
/// Moves of one region that wait or are under way: far fewer than may wait in the federation, so
/// that a move that somebody asks for meanwhile finds room.
const AT_ONCE: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Evacuator {
    /// The regions' records.
    pub regions: RegionRecords,
    /// Who moves VMs.
    pub migrations: Arc<Migrations>,
}

impl Evacuator {
    /// Empties this daemon's own region whenever that is wanted, for ever.
    pub async fn run(self: Arc<Self>) {
        let mut told_empty = false;
        let mut refused = Refused::new();
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(wanted) = self.wanted(&self.migrations.region) else {
                refused.clear();
                told_empty = false;
                continue;
            };
            let plan = self.plan(&self.migrations.region, wanted.only.as_ref());
            let is_empty = plan.is_empty();
            if is_empty && !told_empty {
                info!(region = %plan.region, "the region is empty");
                self.migrations.events.note(None, "the region is empty").await;
            }
            told_empty = is_empty;
            self.ask_for_moves(&plan, &mut refused).await;
        }
    }

    async fn ask_for_moves(&self, plan: &Plan, refused: &mut Refused) {
        let now = self.migrations.clock.now();
        refused.retain(|_, until| *until > now);
        let due: Vec<_> = due(plan, refused, AT_ONCE, now).collect();
        for (leaves, to) in due {
            if let Err(error) = self.ask(plan, leaves, to).await {
                let text = format!("does not leave yet: {error}");
                info!(vm = %leaves.vm, %error, "a VM does not leave yet");
                self.migrations.events.note(Some(&leaves.vm), &text).await;
                refused.insert(leaves.vm.clone(), now.plus(AGAIN_AFTER));
            }
        }
    }

    async fn ask(
        &self,
        plan: &Plan,
        leaves: &Leaves,
        to: &RegionId,
    ) -> Result<(), ApiError> {
        let wish = AskMigration {
            source: Some(plan.region.clone()),
            cause: Cause::Maintenance,
            cold: leaves.cold,
            ..AskMigration::new(leaves.vm.clone(), to.clone())
        };
        self.migrations.ask(wish).await.map(drop)
    }

    /// Begins to empty a region.
    ///
    /// # Errors
    ///
    /// When the region or one that it is to go to is not known, no other region takes VMs, or the
    /// engine does not answer.
    pub async fn start(
        &self,
        by: String,
        body: StartEvacuation,
    ) -> Result<EvacuationItem, ApiError> {
        let StartEvacuation { region, to_regions, reason, dry_run } = body;
        self.regions.get(&region)?;
        self.check_targets(&region, to_regions.as_ref())?;
        let plan = self.plan(&region, to_regions.as_ref());
        if dry_run {
            return Ok(EvacuationItem { evacuation: None, plan });
        }
        let at = self.migrations.clock.now();
        let evacuation = Evacuation { by, reason, only: to_regions, at };
        self.regions.evacuate(&region, Some(&evacuation)).await?;
        let what = format!("region {region} is to be emptied: {}", evacuation.reason);
        self.migrations.events.note(None, &what).await;
        Ok(EvacuationItem { evacuation: Some(evacuation), plan })
    }

    fn check_targets(
        &self,
        region: &RegionId,
        only: Option<&BTreeSet<RegionId>>,
    ) -> Result<(), ApiError> {
        let remedy = "see `dwcp-cli federation region list`";
        for to in only.into_iter().flatten() {
            self.regions.get(to)?;
            if to == region {
                let message = format!("region {region} cannot be emptied into itself");
                return Err(
                    ApiError::new(ErrorCode::Invalid, message).with_remedy(remedy)
                );
            }
        }
        let takes = |record: &&Arc<RegionRecord>| {
            let it = &record.region;
            let named = only.is_none_or(|only| only.contains(&it.id));
            it.enabled && it.id != *region && named
        };
        if self.regions.mirror.regions().iter().any(|record| takes(&record)) {
            return Ok(());
        }
        let message = format!("no region takes the VMs of {region}: none is enabled");
        Err(ApiError::new(ErrorCode::Refused, message)
            .with_remedy("enable one: dwcp-cli federation region enable"))
    }

    /// Leaves in a region what is still there. Moves that wait are called off; those that have
    /// begun go on.
    ///
    /// # Errors
    ///
    /// When the region is not known or not being emptied, or the engine does not answer.
    pub async fn cancel(&self, region: &RegionId) -> Result<EvacuationItem, ApiError> {
        if self.regions.get(region)?.evacuation.is_none() {
            let message = format!("region {region} is not being emptied");
            return Err(ApiError::new(ErrorCode::Conflict, message)
                .with_remedy("see `dwcp-cli federation evacuate status`"));
        }
        self.regions.evacuate(region, None).await?;
        let waits = |it: &&Arc<Migration>| {
            it.step == Step::Queued
                && it.ask.cause == Cause::Maintenance
                && it.ask.source.region == *region
        };
        for waiting in self.migrations.all().iter().filter(waits) {
            if let Err(reason) = self.migrations.cancel(&waiting.id).await {
                // Its turn came just now.
                info!(id = %waiting.id, %reason, "a move goes on");
            }
        }
        let what = format!("region {region} is not emptied any more");
        self.migrations.events.note(None, &what).await;
        Ok(EvacuationItem { evacuation: None, plan: self.plan(region, None) })
    }

    /// The regions that are being emptied.
    #[must_use]
    pub fn list(&self) -> EvacuationList {
        let item = |record: &Arc<RegionRecord>| {
            let evacuation = record.evacuation.clone()?;
            let plan = self.plan(&record.region.id, evacuation.only.as_ref());
            Some(EvacuationItem { evacuation: Some(evacuation), plan })
        };
        let items = self.regions.mirror.regions().iter().filter_map(item).collect();
        EvacuationList { items }
    }

    fn wanted(&self, region: &RegionId) -> Option<Evacuation> {
        self.regions.mirror.region(region)?.record.evacuation.clone()
    }

    fn plan(&self, region: &RegionId, only: Option<&BTreeSet<RegionId>>) -> Plan {
        let here = |record: &VmRecord| record.owner.region == *region;
        let records = self.regions.mirror.vms(None, usize::MAX, here);
        let records: Vec<&VmRecord> = records.iter().map(AsRef::as_ref).collect();
        let moves = self.migrations.all();
        let moves: Vec<&Migration> = moves.iter().map(AsRef::as_ref).collect();
        let policy = &self.migrations.policy;
        self.migrations
            .fleet
            .look(|fleet| plan(fleet, region, (&records, &moves), only, policy))
    }
}
