//! Places a VM: decide, reserve at the region that owns the capacity, commit, and on refusal
//! the next alternative (C1, F21; docs/adr/0006).
//!
//! Any daemon coordinates. It keeps nothing: a coordinator that dies leaves at most a
//! reservation that lapses, or one that its region brings to an end by itself.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::peer::{CommitBody, ReserveBody};
use dwcp_api::public::{PlaceReply, PlaceVm};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::ownership::{
    ClientToken, DecisionSummary, TokenRecord, VmRecord, token_key, vm_key,
};
use dwcp_controller::placement::{
    Decision, Explanation, Policy, ReasonKind, RefusalCount, RegionLoss, Verdict, Victim,
    decide, explain, need, plan_preemption, validate, validate_names,
};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::StrongEngine;
use dwcp_runtime::trace::span;
use dwcp_types::{PlacementRequest, RegionId, VmId};
use serde::de::DeserializeOwned;
use tracing::info;

use crate::capacity::CapacityPlanner;
use crate::claims::{Claims, Missed, attempt, random_name};
use crate::engine;
use crate::fleet::FleetKeeper;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::preempt::Preemptor;

/// Rounds of deciding anew when every alternative was taken in the meantime.
const ROUNDS_MAX: u32 = 3;

/// The image that a request gets that names none: the host's own default.
const DEFAULT_IMAGE: &str = "";

/// Pause before a fleet without room is looked at again: a report between regions takes less.
const VIEW_PAUSE: Duration = Duration::from_millis(400);

/// Places VMs.
#[derive(Debug)]
pub struct Placer {
    /// The fleet.
    pub fleet: Arc<FleetKeeper>,
    /// The operator's choices.
    pub policy: Policy,
    /// The strong engine, to look tokens up.
    pub engine: Arc<dyn StrongEngine>,
    /// The records, to see what names are taken.
    pub mirror: Arc<Mirror>,
    /// Claims capacity at its region.
    pub claims: Arc<Claims>,
    /// Makes room.
    pub preemptor: Preemptor,
    /// Knows what the loss of a region would mean.
    pub capacity: CapacityPlanner,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Counts what was asked and how it ended.
    pub(crate) metrics: Arc<Metrics>,
}

/// A VM that was placed.
#[derive(Debug)]
pub struct Placed {
    /// Its record, absent in a dry run.
    pub record: Option<VmRecord>,
    /// The reply without the VM's current state.
    pub reply: PlaceReply,
}

impl Placer {
    /// Explains a request, and refuses it when it is malformed.
    ///
    /// # Errors
    ///
    /// When it contradicts itself or names what is not there.
    pub fn explain(&self, request: &PlacementRequest) -> Result<Explanation, ApiError> {
        validate(request).map_err(|reasons| contradictory(&reasons))?;
        self.fleet.look(|fleet| {
            validate_names(fleet, request).map_err(|reasons| contradictory(&reasons))?;
            Ok(explain(fleet, request, &self.policy))
        })
    }

    /// Places a VM, or says where it would go.
    ///
    /// # Errors
    ///
    /// With the explanation as details when no region takes it.
    pub async fn place(&self, ask: PlaceVm) -> Result<Placed, ApiError> {
        let began = self.clock.monotonic();
        let strategy = ask.request.strategy.unwrap_or(self.policy.strategy);
        let dry_run = ask.dry_run;
        let placed = self.place_or_say(ask).await;
        if !dry_run {
            let result =
                placed.as_ref().map_or_else(|why| why.code.as_str(), |_| "placed");
            let took = self.clock.monotonic().saturating_sub(began);
            self.metrics.placed(strategy, result, took);
        }
        placed
    }

    async fn place_or_say(&self, ask: PlaceVm) -> Result<Placed, ApiError> {
        let began = self.clock.monotonic();
        let explanation = span("decide", async { self.explain(&ask.request) }).await?;
        let decided = self.clock.monotonic();
        let decide_us = micros(decided.saturating_sub(began));
        if ask.dry_run {
            return self.dry_run(&ask, explanation, decide_us);
        }
        let token = token_of(&ask)?;
        let mut n_minus_1 = Vec::new();
        let (record, repeated, victims) = match self.known(&ask.request, &token).await? {
            Some(record) => (record, true, Vec::new()),
            None => {
                self.refuse_taken(&ask.request.id)?;
                n_minus_1 = self.admit(&ask.request, &explanation)?;
                self.place_new(&ask, &token, &explanation).await?
            }
        };
        info!(vm = %record.request.id, region = %record.owner.region, repeated, "placed");
        let commit_us = micros(self.clock.monotonic().saturating_sub(decided));
        let reply = PlaceReply {
            vm: None,
            repeated,
            explanation,
            victims,
            n_minus_1,
            decide_us,
            commit_us,
        };
        Ok(Placed { record: Some(record), reply })
    }

    fn dry_run(
        &self,
        ask: &PlaceVm,
        explanation: Explanation,
        decide_us: u64,
    ) -> Result<Placed, ApiError> {
        let n_minus_1 = self.admit(&ask.request, &explanation)?;
        let mut victims = Vec::new();
        if explanation.decision.chosen.is_none() {
            let plan = self
                .fleet
                .look(|fleet| plan_preemption(fleet, &ask.request, &self.policy));
            match plan {
                Some(plan) if ask.preempt => victims = names(&plan.victims),
                _ => return Err(refused(&explanation)),
            }
        }
        let reply = PlaceReply {
            vm: None,
            repeated: false,
            explanation,
            victims,
            n_minus_1,
            decide_us,
            commit_us: 0,
        };
        Ok(Placed { record: None, reply })
    }

    /// What the loss of a region would newly mean, where the policy lets it be.
    fn admit(
        &self,
        request: &PlacementRequest,
        explanation: &Explanation,
    ) -> Result<Vec<RegionLoss>, ApiError> {
        let chosen = explanation.decision.chosen.as_ref();
        chosen.map_or(Ok(Vec::new()), |at| self.capacity.admit(request, at))
    }

    /// Says early what the commit would say: the mirror may be late, the engine is not.
    fn refuse_taken(&self, vm: &VmId) -> Result<(), ApiError> {
        if self.mirror.vm(vm).is_none() {
            return Ok(());
        }
        let message = format!("a VM named {vm} exists already");
        Err(ApiError::new(ErrorCode::Conflict, message)
            .with_remedy("choose another name, or delete that VM first"))
    }

    /// What the token made before, if anything.
    async fn known(
        &self,
        request: &PlacementRequest,
        token: &ClientToken,
    ) -> Result<Option<VmRecord>, ApiError> {
        let key = token_key(&request.tenant, token);
        let Some(used) = self.read::<TokenRecord>(&key).await? else { return Ok(None) };
        if used.request != *request {
            return Err(token_used(token));
        }
        let vm = self.read::<VmRecord>(&vm_key(&request.id)).await?;
        match vm.filter(|vm| vm.reservation == used.reservation) {
            Some(vm) => Ok(Some(vm)),
            None => Err(ApiError::new(
                ErrorCode::Conflict,
                format!("the client token {token} made VM {} before, and it was deleted since", request.id),
            )
            .with_remedy("use a new client token to place it again")),
        }
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ApiError> {
        let kv = self.engine.get(key).await.map_err(|e| engine::failed(&e))?;
        kv.map(|kv| serde_json::from_slice(&kv.value)).transpose().map_err(|reason| {
            let message = format!("the record {key} cannot be read: {reason}");
            ApiError::new(ErrorCode::Internal, message)
        })
    }

    async fn place_new(
        &self,
        ask: &PlaceVm,
        token: &ClientToken,
        explanation: &Explanation,
    ) -> Result<(VmRecord, bool, Vec<VmId>), ApiError> {
        let mut decision = explanation.decision.clone();
        let mut missed = Vec::new();
        for _ in 0..ROUNDS_MAX {
            if decision.chosen.is_none() {
                match self.displace(ask, token, explanation).await {
                    Ok(Some(placed)) => return Ok(placed),
                    Ok(None) => {}
                    Err((_, Missed::Final(error))) => return Err(error),
                    Err((region, Missed::TryNext(why))) => missed.push((region, why)),
                }
                if !lacks_room(&decision) {
                    break;
                }
                // The view is late, and what others took ahead of a reservation that they
                // did not get may stand in it: look again before refusing for want of room.
                tokio::time::sleep(VIEW_PAUSE).await;
            }
            for (region, zone, host) in places(&decision) {
                let body = ReserveBody {
                    id: attempt()?,
                    request: ask.request.clone(),
                    zone,
                    host,
                    victims: Vec::new(),
                };
                let at = body.host.clone();
                self.fleet.take(&region, &at, &need(&ask.request));
                let summary = summary(&decision, explanation, &region);
                let commit = commit_body(ask, token, summary);
                let missed_here = match self.claims.claim(&region, body, commit).await {
                    Ok(reply) => {
                        let host = &reply.record.owner.host;
                        self.fleet.settle(&region, &at, host, &need(&ask.request));
                        return Ok((reply.record, reply.repeated, Vec::new()));
                    }
                    Err(missed_here) => missed_here,
                };
                self.fleet.give(&region, &at, &need(&ask.request));
                match missed_here {
                    Missed::Final(error) => return Err(error),
                    Missed::TryNext(why) => missed.push((region, why)),
                }
            }
            decision = self.fleet.look(|fleet| decide(fleet, &ask.request, &self.policy));
        }
        if missed.is_empty() {
            return Err(refused(explanation));
        }
        Err(none_took(&ask.request.id, &missed))
    }

    /// Places a VM in the room that less urgent ones make for it, if it may have that.
    async fn displace(
        &self,
        ask: &PlaceVm,
        token: &ClientToken,
        explanation: &Explanation,
    ) -> Result<Option<(VmRecord, bool, Vec<VmId>)>, (RegionId, Missed)> {
        if !ask.preempt {
            return Ok(None);
        }
        let Some(room) = self.preemptor.make_room(&ask.request).await? else {
            return Ok(None);
        };
        let summary = summary(&room.decision, explanation, &room.region);
        let commit = commit_body(ask, token, summary);
        match self.claims.commit(&room.region, &room.id, commit).await {
            Ok(reply) => Ok(Some((reply.record, reply.repeated, room.victims))),
            Err(missed) => Err((room.region, missed)),
        }
    }
}

fn names(victims: &[Victim]) -> Vec<VmId> {
    victims.iter().map(|victim| victim.vm.clone()).collect()
}

/// Every place said no: for want of room, or because none of them works.
fn none_took(vm: &VmId, missed: &[(RegionId, ApiError)]) -> ApiError {
    let mut said: Vec<_> =
        missed.iter().map(|(region, why)| format!("{region}: {why}")).collect();
    said.dedup();
    let message =
        format!("no region took VM {vm} although its view said so: {}", said.join("; "));
    let broken = |why: &ApiError| why.code == ErrorCode::Unavailable;
    let remedy = missed.iter().find_map(|(_, why)| why.remedy.clone());
    match remedy.filter(|_| missed.iter().all(|(_, why)| broken(why))) {
        Some(remedy) => {
            ApiError::new(ErrorCode::Unavailable, message).with_remedy(remedy)
        }
        None => ApiError::new(ErrorCode::Refused, message)
            .with_remedy("capacity went to others meanwhile; ask again"),
    }
}

/// Whether some region is refused only for what may change within a moment.
fn lacks_room(decision: &Decision) -> bool {
    let room = |reason: &RefusalCount| reason.reason == ReasonKind::Capacity;
    decision.refusals.iter().any(room)
}

/// The places to try, best first.
fn places(
    decision: &Decision,
) -> Vec<(RegionId, dwcp_types::ZoneId, dwcp_types::HostId)> {
    let chosen = decision.chosen.iter();
    let chosen = chosen.map(|c| (c.region.clone(), c.zone.clone(), c.host.clone()));
    let others = decision.alternatives.iter();
    let others = others.map(|a| (a.region.clone(), a.zone.clone(), a.host.clone()));
    chosen.chain(others).collect()
}

/// What is kept of a decision: the place's own figures, also when it was an alternative.
fn summary(
    decision: &Decision,
    explanation: &Explanation,
    region: &RegionId,
) -> DecisionSummary {
    let explained =
        explanation.regions.iter().find_map(|verdict| match &verdict.verdict {
            Verdict::Fits { place } if place.region == *region => Some(place),
            Verdict::Fits { .. } | Verdict::Refused { .. } => None,
        });
    let chosen = decision.chosen.as_ref().filter(|chosen| chosen.region == *region);
    let view_generation = decision.generation;
    chosen.or(explained).map_or_else(
        || DecisionSummary { view_generation, ..DecisionSummary::default() },
        |place| DecisionSummary {
            score: place.score,
            hourly_cost: place.hourly_cost,
            latency: place.expected_latency,
            view_generation,
        },
    )
}

fn commit_body(
    ask: &PlaceVm,
    token: &ClientToken,
    decision: DecisionSummary,
) -> CommitBody {
    CommitBody {
        request: ask.request.clone(),
        token: token.clone(),
        image: ask.image.clone().unwrap_or_else(|| DEFAULT_IMAGE.to_owned()),
        decision,
    }
}

fn token_of(ask: &PlaceVm) -> Result<ClientToken, ApiError> {
    match &ask.client_token {
        Some(token) => Ok(token.clone()),
        None => ClientToken::new(&random_name("once"))
            .map_err(|reason| ApiError::new(ErrorCode::Internal, reason.to_string())),
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn token_used(token: &ClientToken) -> ApiError {
    let message = format!("the client token {token} was used for another request");
    ApiError::new(ErrorCode::Conflict, message).with_remedy(
        "use a new client token, or send the request that the token was used for",
    )
}

fn contradictory(reasons: &[dwcp_controller::placement::Contradiction]) -> ApiError {
    let texts: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    ApiError::new(
        ErrorCode::Invalid,
        format!("the request cannot hold: {}", texts.join("; ")),
    )
    .with_remedy("change or remove what is named")
    .with_details(&reasons)
}

/// No region fits: which reasons, and what would help.
fn refused(explanation: &Explanation) -> ApiError {
    let vm = &explanation.decision.request;
    let regions =
        explanation.regions.iter().filter_map(|verdict| match &verdict.verdict {
            Verdict::Refused { reasons, .. } => {
                let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
                Some(format!("{}: {}", verdict.region, reasons.join(", ")))
            }
            Verdict::Fits { .. } => None,
        });
    let regions: Vec<_> = regions.collect();
    let message = format!("no region takes VM {vm}: {}", regions.join("; "));
    let remedy = explanation.relaxation.as_ref().map_or_else(
        || "add a region or a host that takes it".to_owned(),
        |relaxation| format!("the smallest change that would fit: {relaxation}"),
    );
    ApiError::new(ErrorCode::Refused, message)
        .with_remedy(remedy)
        .with_details(explanation)
}
