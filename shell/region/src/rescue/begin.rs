//! How a failover begins: by the verdict, or by an operator.

use dwcp_api::failover::{FailoverReply, StartFailover};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::failover::{ACTIVE_KEY, Leave, Log, Trigger};
use dwcp_controller::lease::{Watched, lease_key};
use dwcp_controller::liveness::Blocked;
use dwcp_runtime::crash::crash_point;
use dwcp_runtime::strong::{Compare, Op, StrongError};
use dwcp_types::{RegionId, Timestamp, millis};
use tracing::warn;

use super::{Rescuer, lapse};
use crate::claims::random_name;
use crate::commit::stored;
use crate::engine;
use crate::warden::Seen;

impl Rescuer {
    /// Begins the failover of the first region that nothing speaks for.
    pub(super) async fn begin_what_is_due(&self, seen: &Seen) -> Result<(), StrongError> {
        let due = seen.regions.iter().find(|it| it.not_failed_over_because.is_empty());
        let Some(due) = due else { return Ok(()) };
        let region = &due.verdict.region;
        let Some(watched) = seen.leases.get(region) else { return Ok(()) };
        let trigger = Trigger::Automatic { by: self.region.clone() };
        let log = self.begin(region, Leave::default(), trigger, watched).await?;
        if let Some(log) = log {
            warn!(%region, id = log.id, "a region is dead and is failed over");
        }
        Ok(())
    }

    /// Writes the log and the fence, both or neither; nothing when somebody else was first, or
    /// the region renewed.
    async fn begin(
        &self,
        region: &RegionId,
        leave: Leave<'_>,
        trigger: Trigger,
        watched: &Watched,
    ) -> Result<Option<Log>, StrongError> {
        let lapsed = watched.has_lapsed(self.clock.monotonic(), self.terms);
        let proof = lapsed.then(|| lapse(watched.record.term, self.terms));
        let by = (self.region.clone(), self.clock.now());
        let log = Log::begun(random_name("fo"), region.clone(), trigger, proof, by);
        let Leave { only, accept_data_loss } = leave;
        let lost_at = Some(self.lost_at(watched));
        let log = Log { only: only.cloned(), accept_data_loss, lost_at, ..log };
        let key = lease_key(region);
        let fence = stored(&watched.record.fenced(&log.id))?;
        let compare = vec![
            Compare::absent(ACTIVE_KEY),
            Compare::Revision { key: key.clone(), mod_revision: watched.revision },
        ];
        let active = ACTIVE_KEY.to_owned();
        let then = vec![
            Op::Put { key: active, value: stored(&log)?, lease: None },
            Op::Put { key, value: fence, lease: None },
        ];
        crash_point("failover-before-begin");
        let done = self.write(compare, then).await?;
        crash_point("failover-after-begin");
        Ok(done.then_some(log))
    }

    /// The last moment at which a region can have run that stopped renewing by itself.
    fn lost_at(&self, watched: &Watched) -> Timestamp {
        let still = watched.still_for(self.clock.monotonic());
        let gone = still.saturating_sub(self.terms.renew_every());
        let now = self.clock.now().as_millis();
        Timestamp::from_millis(now.saturating_sub(millis(gone)))
    }

    /// What an operator asks for (O9).
    ///
    /// # Errors
    ///
    /// When the region is not known, is the engine's home, lives, or another failover runs.
    pub async fn start(
        &self,
        operator: String,
        ask: StartFailover,
    ) -> Result<FailoverReply, ApiError> {
        let seen = self.seen.borrow().clone();
        let region = ask.from_region;
        let known = seen.regions.iter().find(|it| it.verdict.region == region);
        let Some(known) = known else { return Err(no_such_region(&region)) };
        let only = ask.to_regions.as_ref();
        let leave = Leave { only, accept_data_loss: ask.accept_data_loss };
        let plan = self.plan(&region, leave);
        if ask.dry_run {
            return Ok(FailoverReply { plan, log: None });
        }
        let blocked = known.not_failed_over_because.iter().map(|it| &it.condition);
        let stops = |it: &&Blocked| match it {
            Blocked::EngineLost
            | Blocked::OwnRegion
            | Blocked::NoSuchRegion
            | Blocked::LeaseUnread
            | Blocked::NeverHeld
            | Blocked::TooFewHealthy { .. }
            | Blocked::Running { .. } => true,
            Blocked::LeaseHeld { .. } => !ask.even_if_alive,
            Blocked::Disabled
            | Blocked::NotAutomatic
            | Blocked::EngineNotSpread
            | Blocked::NeedsApproval
            // Whoever was left behind by an earlier one gets another.
            | Blocked::AlreadyFenced { .. }
            | Blocked::NotSilentEnough { .. }
            | Blocked::TooFresh => false,
        };
        if let Some(it) = blocked.into_iter().find(stops) {
            let message = format!("region {region} is not failed over: {it}");
            let refused = ApiError::new(ErrorCode::Refused, message);
            let remedy = if matches!(it, Blocked::LeaseHeld { .. }) {
                "wait until it has lapsed; or, if its protected VMs are to be ended there and \
                 started anew elsewhere, say `--even-if-alive`"
            } else {
                "`dwcp-cli federation failover status` says more"
            };
            return Err(refused.with_remedy(remedy));
        }
        let Some(watched) = seen.leases.get(&region) else {
            return Err(no_such_region(&region));
        };
        let trigger = Trigger::Operator { name: operator, reason: ask.reason };
        let begun = self.begin(&region, leave, trigger, watched).await;
        match begun.map_err(|error| engine::failed(&error))? {
            Some(log) => Ok(FailoverReply { plan, log: Some(log) }),
            None => {
                let message = format!(
                    "region {region} renewed its lease, or another failover began"
                );
                Err(ApiError::new(ErrorCode::Conflict, message)
                    .with_remedy("look at `failover status`, and ask again if need be"))
            }
        }
    }
}

fn no_such_region(region: &RegionId) -> ApiError {
    let message = format!("there is no region {region} that takes part in failover");
    ApiError::new(ErrorCode::NotFound, message)
        .with_remedy("`dwcp-cli federation failover status` lists those that do")
}
