//! How a failover begins: by the verdict, or by an operator.

use dwcp_api::failover::{FailoverReply, StartFailover};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::failover::{
    ACTIVE_KEY, Leave, Log, NotWaived, Plan, Trigger, needs_approval,
};
use dwcp_controller::lease::{Watched, lease_key};
use dwcp_controller::liveness::Blocked;
use dwcp_controller::ownership::Proof;
use dwcp_runtime::crash::crash_point;
use dwcp_runtime::strong::{Compare, Op, StrongError};
use dwcp_types::{RegionId, Timestamp, millis};
use tracing::warn;

use super::requests::Found;
use super::{Rescuer, lapse};
use crate::claims::random_name;
use crate::commit::stored;
use crate::engine;
use crate::warden::Seen;

/// Most bytes of an operator's word.
const WORD_LEN_MAX: usize = 1_024;

/// What is to begin.
struct Order<'a> {
    region: &'a RegionId,
    leave: Leave<'a>,
    trigger: Trigger,
    /// An operator's word that the region runs nothing.
    word: Option<Proof>,
    /// The request that was approved: it ends when this begins, so that it begins nothing more.
    request: Option<&'a Found>,
}

impl Rescuer {
    /// Begins the failover of the first region that nothing speaks for.
    pub(super) async fn begin_what_is_due(&self, seen: &Seen) -> Result<(), StrongError> {
        let due = seen.regions.iter().find(|it| it.not_failed_over_because.is_empty());
        let Some(due) = due else { return Ok(()) };
        let region = &due.verdict.region;
        let Some(watched) = seen.leases.get(region) else { return Ok(()) };
        let trigger = Trigger::Automatic { by: self.region.clone() };
        let (leave, word, request) = (Leave::default(), None, None);
        let order = Order { region, leave, trigger, word, request };
        let log = self.begin(order, watched).await?;
        if let Some(log) = log {
            warn!(%region, id = log.id, "a region is dead and is failed over");
        }
        Ok(())
    }

    /// Writes the log and the fence, and ends the request, all or nothing; nothing when somebody
    /// else was first, or the region renewed.
    async fn begin(
        &self,
        order: Order<'_>,
        watched: &Watched,
    ) -> Result<Option<Log>, StrongError> {
        let Order { region, leave, trigger, word, request } = order;
        let lapsed = watched.has_lapsed(self.clock.monotonic(), self.terms);
        // What was watched is better than what is said.
        let lapsed = lapsed.then(|| lapse(watched.record.term, self.terms));
        let proof = if lapsed.is_some() { lapsed } else { word };
        let by = (self.region.clone(), self.clock.now());
        let log = Log::begun(random_name("fo"), region.clone(), trigger, proof, by);
        let Leave { only, accept_data_loss } = leave;
        let lost_at = Some(self.lost_at(watched));
        let log = Log { only: only.cloned(), accept_data_loss, lost_at, ..log };
        let key = lease_key(region);
        let fence = stored(&watched.record.fenced(&log.id))?;
        let mut compare = vec![
            Compare::absent(ACTIVE_KEY),
            Compare::Revision { key: key.clone(), mod_revision: watched.revision },
        ];
        let active = ACTIVE_KEY.to_owned();
        let mut then = vec![
            Op::Put { key: active, value: stored(&log)?, lease: None },
            Op::Put { key, value: fence, lease: None },
        ];
        compare.extend(request.map(Found::stands));
        then.extend(request.map(Found::end));
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

    /// What an operator asks for (O9): begins, or waits for another operator where two must agree
    /// (F17).
    ///
    /// # Errors
    ///
    /// When the region is not known, is the engine's home, lives, or another failover runs; when
    /// a second person must agree and is not wanted.
    pub async fn start(
        &self,
        operator: String,
        ask: StartFailover,
    ) -> Result<FailoverReply, ApiError> {
        let configured = self.approval.two_persons;
        let by_word = ask.hosts_off.is_some();
        check_word(&ask)?;
        let two_persons = needs_approval(configured, ask.require_approval, by_word)
            .map_err(not_waived)?;
        if ask.dry_run {
            let seen = self.seen.borrow().clone();
            let plan = self.plan_of(&seen, &ask)?;
            return Ok(FailoverReply::planned(plan, two_persons));
        }
        if two_persons {
            return self.ask_for_approval(operator, ask).await;
        }
        let reason = ask.reason.clone();
        let trigger = Trigger::Operator { name: operator, reason, approved_by: None };
        self.begin_now(&ask, trigger, None).await
    }

    /// Begins what an operator asked for, and another one approved where there is a request.
    pub(super) async fn begin_now(
        &self,
        ask: &StartFailover,
        trigger: Trigger,
        request: Option<&Found>,
    ) -> Result<FailoverReply, ApiError> {
        let seen = self.seen.borrow().clone();
        let plan = self.plan_of(&seen, ask)?;
        let watched = Self::unhindered(&seen, ask)?;
        let region = &ask.from_region;
        let word = ask.hosts_off.as_deref().map(|how| word(&trigger, how));
        let order = Order { region, leave: leave_of(ask), trigger, word, request };
        let begun = self.begin(order, watched).await;
        let Some(log) = begun.map_err(|error| engine::failed(&error))? else {
            return Err(came_between(region, request));
        };
        let two_persons = request.is_some();
        Ok(FailoverReply { log: Some(log), ..FailoverReply::planned(plan, two_persons) })
    }

    /// Who would go where.
    pub(super) fn plan_of(
        &self,
        seen: &Seen,
        ask: &StartFailover,
    ) -> Result<Plan, ApiError> {
        let region = &ask.from_region;
        let is_known = seen.regions.iter().any(|it| it.verdict.region == *region);
        if !is_known {
            return Err(no_such_region(region));
        }
        Ok(self.plan(region, leave_of(ask)))
    }

    /// The lease of a region whose failover nothing stops that an operator cannot overrule.
    pub(super) fn unhindered<'s>(
        seen: &'s Seen,
        ask: &StartFailover,
    ) -> Result<&'s Watched, ApiError> {
        let region = &ask.from_region;
        let known = seen.regions.iter().find(|it| it.verdict.region == *region);
        let Some(known) = known else { return Err(no_such_region(region)) };
        let mut blocked = known.not_failed_over_because.iter().map(|it| &it.condition);
        let overruled = ask.even_if_alive || ask.hosts_off.is_some();
        if let Some(it) = blocked.find(|it| stops(it, overruled)) {
            return Err(hindered(region, it));
        }
        seen.leases.get(region).ok_or_else(|| no_such_region(region))
    }
}

fn leave_of(ask: &StartFailover) -> Leave<'_> {
    let StartFailover { to_regions, accept_data_loss, .. } = ask;
    Leave { only: to_regions.as_ref(), accept_data_loss: *accept_data_loss }
}

/// The word goes into the record of every VM.
fn check_word(ask: &StartFailover) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::Invalid, message));
    let Some(word) = &ask.hosts_off else { return Ok(()) };
    if word.trim().is_empty() || word.len() > WORD_LEN_MAX {
        return invalid(format!(
            "how it is known that all hosts are off has 1 to {WORD_LEN_MAX} bytes: it is kept in \
             the record of every VM"
        ));
    }
    if ask.even_if_alive {
        return invalid(
            "`even_if_alive` waits until the region's guests have ended, and `hosts_off` says \
             that there are none: ask for one of them"
                .to_owned(),
        );
    }
    Ok(())
}

/// The word of whoever asked and whoever approved.
fn word(trigger: &Trigger, how: &str) -> Proof {
    let name = match trigger {
        Trigger::Operator { name, approved_by: Some(other), .. } => {
            format!("{name} and {other}")
        }
        Trigger::Operator { name, approved_by: None, .. } => name.clone(),
        Trigger::Automatic { by } => by.to_string(),
    };
    Proof::Operator { name, reason: how.to_owned() }
}

/// Whether a condition also stops an operator, who may overrule that the region holds its lease.
const fn stops(blocked: &Blocked, overruled: bool) -> bool {
    match blocked {
        Blocked::EngineLost
        | Blocked::OwnRegion
        | Blocked::NoSuchRegion
        | Blocked::LeaseUnread
        | Blocked::NeverHeld
        | Blocked::TooFewHealthy { .. }
        | Blocked::Running { .. } => true,
        Blocked::LeaseHeld { .. } => !overruled,
        Blocked::Disabled
        | Blocked::NotAutomatic
        | Blocked::EngineNotSpread
        | Blocked::NeedsApproval
        // Whoever was left behind by an earlier one gets another.
        | Blocked::AlreadyFenced { .. }
        | Blocked::NotSilentEnough { .. }
        | Blocked::TooFresh => false,
    }
}

fn hindered(region: &RegionId, why: &Blocked) -> ApiError {
    let message = format!("region {region} is not failed over: {why}");
    let remedy = if matches!(why, Blocked::LeaseHeld { .. }) {
        "wait until it has lapsed; or, if its protected VMs are to be ended there and started \
         anew elsewhere, say `--even-if-alive`"
    } else {
        "`dwcp-cli federation failover status` says more"
    };
    ApiError::new(ErrorCode::Refused, message).with_remedy(remedy)
}

/// Something that the transaction compares was changed.
fn came_between(region: &RegionId, request: Option<&Found>) -> ApiError {
    let decided =
        if request.is_some() { ", or the request was decided upon" } else { "" };
    let message =
        format!("region {region} renewed its lease, or another failover began{decided}");
    ApiError::new(ErrorCode::Conflict, message)
        .with_remedy("look at `failover status`, and ask again if need be")
}

fn not_waived(reason: NotWaived) -> ApiError {
    ApiError::new(ErrorCode::Refused, reason.to_string()).with_remedy(
        "leave `--require-approval false` out: the failover is asked for, and begins when \
         another operator approves it",
    )
}

fn no_such_region(region: &RegionId) -> ApiError {
    let message = format!("there is no region {region} that takes part in failover");
    ApiError::new(ErrorCode::NotFound, message)
        .with_remedy("`dwcp-cli federation failover status` lists those that do")
}
