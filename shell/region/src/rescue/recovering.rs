//! VMs of the lost region get their new owners: who goes where, and asking the targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use dwcp_controller::failover::{
    Leave, Log, Move, Phase, Plan, StaysDown, Unrecovered, plan,
};
use dwcp_controller::ownership::{Recovered, VMS_PREFIX, VmRecord};
use dwcp_controller::placement::Fleet;
use dwcp_runtime::strong::{KeyValue, StrongError};
use dwcp_runtime::trace::span;
use dwcp_types::{RegionId, VmId};
use futures_util::StreamExt;
use tracing::{info, warn};

use super::taking::NotTaken;
use super::{
    Memory, REFUSAL_WEIGHT, Rescuer, TAKEN_AT_ONCE, TAKEN_PER_STEP, TRIES_MAX, phase,
};
use crate::mirror::read_pages;

/// Records of VMs by name.
type Records = BTreeMap<VmId, Arc<VmRecord>>;

impl Rescuer {
    /// The log after one step of giving VMs their new owners.
    pub(super) async fn recovering(&self, log: Log, memory: &mut Memory) -> Log {
        let now = self.clock.monotonic();
        let since = *memory.recovering_since.get_or_insert(now);
        let (region, leave) = (&log.region, Leave::from(&log));
        let records = self.mirrored(region);
        let plan = self.plan_for(region, &records, leave);
        if self.take_over(&log, &plan, &records, memory).await {
            return log;
        }
        // The mirror may be behind, and is empty after a restart: nothing is over before the
        // engine says so.
        let Ok((records, owned)) = self.stored(&log).await else { return log };
        let plan = self.plan_for(region, &records, leave);
        if self.take_over(&log, &plan, &records, memory).await {
            return log;
        }
        let homeless =
            |it: &StaysDown| matches!(it.why, Unrecovered::NoLegalTarget { .. });
        let early = now.saturating_sub(since) < self.start_budget;
        if early && plan.down.iter().any(homeless) {
            // Room may be freed, and other regions may not have been heard of yet.
            return log;
        }
        // Whoever still has a place was refused there: nobody is left to ask.
        let refused = |it: Move| StaysDown { vm: it.vm, why: Unrecovered::RefusedThere };
        let mut down = plan.down;
        down.extend(plan.moves.into_iter().map(refused));
        let next = log.advanced(Phase::Verifying, self.clock.now()).with_down(down);
        Log { owned: owned.max(next.owned), ..next }
    }

    /// Who of a region would go where, as of now.
    #[must_use]
    pub fn plan(&self, region: &RegionId, leave: Leave<'_>) -> Plan {
        self.plan_for(region, &self.mirrored(region), leave)
    }

    fn plan_for(&self, region: &RegionId, records: &Records, leave: Leave<'_>) -> Plan {
        let records: Vec<&VmRecord> = records.values().map(AsRef::as_ref).collect();
        // Placed in a copy: placements go on meanwhile.
        let fleet = self.fleet.look(Fleet::clone);
        plan(&fleet, region, &records, leave, &self.policy)
    }

    fn mirrored(&self, region: &RegionId) -> Records {
        let all =
            self.mirror.vms(None, usize::MAX, |record| record.owner.region == *region);
        all.into_iter().map(|record| (record.request.id.clone(), record)).collect()
    }

    /// The lost region's VMs as the engine has them, and how many were taken over.
    async fn stored(&self, log: &Log) -> Result<(Records, u32), StrongError> {
        let (mut left, mut owned) = (Records::new(), 0_u32);
        let take = |page: Vec<KeyValue>| {
            for kv in page {
                let Ok(record) = serde_json::from_slice::<VmRecord>(&kv.value) else {
                    warn!(key = kv.key, "a VM's record is unreadable, it stays down");
                    continue;
                };
                let by = record.recovered.as_ref().map(|it| it.failover.as_str());
                owned += u32::from(by == Some(log.id.as_str()));
                if record.owner.region == log.region {
                    left.insert(record.request.id.clone(), Arc::new(record));
                }
            }
        };
        read_pages(self.engine.as_ref(), VMS_PREFIX, take).await?;
        Ok((left, owned))
    }

    /// Asks the targets for VMs that are still in the lost region; says whether there were any.
    async fn take_over(
        &self,
        log: &Log,
        plan: &Plan,
        records: &Records,
        memory: &mut Memory,
    ) -> bool {
        if log.proof.is_none() {
            return true;
        }
        let refused = |vm: &VmId, region: &RegionId| {
            let times = memory.refusals.get(&(vm.clone(), region.clone()));
            times.is_some_and(|times| *times >= TRIES_MAX)
        };
        let mut open: Vec<(Move, RegionId)> = Vec::new();
        for it in &plan.moves {
            let at = it.to.iter().find(|at| !refused(&it.vm, &at.region));
            if let Some(at) = at.filter(|_| open.len() < TAKEN_PER_STEP) {
                open.push((it.clone(), at.region.clone()));
            }
        }
        let any = !open.is_empty();
        let mut asked = futures_util::stream::iter(open)
            .map(|(it, to)| self.ask(log, records.get(&it.vm), it, to))
            .buffer_unordered(TAKEN_AT_ONCE);
        let mut failed = Vec::new();
        while let Some(outcome) = asked.next().await {
            failed.extend(outcome.err());
        }
        drop(asked);
        for (key, weight) in failed {
            *memory.refusals.entry(key).or_default() += weight;
        }
        any
    }

    async fn ask(
        &self,
        log: &Log,
        record: Option<&Arc<VmRecord>>,
        it: Move,
        to: RegionId,
    ) -> Result<(), ((VmId, RegionId), u32)> {
        let (Some(record), Some(proof)) = (record, &log.proof) else { return Ok(()) };
        let recovered = Recovered {
            failover: log.id.clone(),
            from: log.region.clone(),
            proof: proof.clone(),
            loss: it.loss,
            at: self.clock.now(),
        };
        let taking = self.takers.take_over(&to, record.as_ref().clone(), recovered);
        let part = (log.id.as_str(), phase(log.phase));
        let taken = self.saga.within(part, Box::pin(span("take_over", taking))).await;
        match taken {
            Ok(()) => {
                info!(vm = %it.vm, %to, "a VM is taken over");
                Ok(())
            }
            Err(NotTaken { is_final, reason }) => {
                warn!(vm = %it.vm, %to, %reason, "a VM is not taken over");
                Err(((it.vm, to), if is_final { REFUSAL_WEIGHT } else { 1 }))
            }
        }
    }
}
