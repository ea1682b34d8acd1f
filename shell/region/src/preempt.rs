//! Makes room for a more urgent VM by stopping less urgent ones (F32).
//!
//! Order kept: hold, stop, wait, commit. The region that owns the host holds the room before
//! anyone is stopped, and what a victim frees goes to that hold and to nobody else; so a victim
//! never stops for room that another takes. The hold outlives a crash of either daemon and
//! lapses by itself.
//!
//! A victim is stopped only if it is still what the plan took it for. It keeps its record and
//! its disk, and gives back CPU, memory and bandwidth; it starts again when its user asks and
//! there is room.
//!
//! A client that was told to ask again finds the room that was made for its VM: by the records
//! of the victims, which name it. Nobody else is stopped for it as long as that room will do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::peer::{HeldReply, ReserveBody};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::ownership::VmRecord;
use dwcp_controller::placement::{Decision, Policy, decide, need, plan_preemption};
use dwcp_runtime::crash::crash_point;
use dwcp_types::{
    HostId, PlacementRequest, Power, RegionId, ReservationId, Tier, VmId, ZoneId,
};
use tracing::info;

use crate::claims::{Claims, Missed, attempt};
use crate::fleet::FleetKeeper;
use crate::lifecycle::Lifecycle;
use crate::mirror::Mirror;

/// How long victims may take to stop before the caller is told to ask again: less than a call
/// may take.
const ROOM_WITHIN: Duration = Duration::from_secs(20);

/// How often it is looked at meanwhile.
const ROOM_LOOK_EVERY: Duration = Duration::from_millis(100);

/// Places where room was made for one VM and that are tried again: each stands for a client
/// that gave up and asked again.
const PROMISED_MAX: usize = 8;

/// Makes room.
#[derive(Clone, Debug)]
pub struct Preemptor {
    /// Changes VMs.
    pub lifecycle: Lifecycle,
    /// The fleet.
    pub fleet: Arc<FleetKeeper>,
    /// The operator's choices.
    pub policy: Policy,
    /// The records, to see for whom VMs were stopped.
    pub mirror: Arc<Mirror>,
    /// Claims capacity at its region.
    pub claims: Arc<Claims>,
}

/// Room that is held for a VM, and all there.
#[derive(Debug)]
pub struct Room {
    /// The region that holds it.
    pub region: RegionId,
    /// Under which reservation.
    pub id: ReservationId,
    /// Who was stopped.
    pub victims: Vec<VmId>,
    /// The decision on a fleet that has this room.
    pub decision: Decision,
}

/// A host and those who give way on it.
struct Site {
    region: RegionId,
    zone: ZoneId,
    host: HostId,
    victims: Vec<VmId>,
    /// Those of them that were stopped for this VM before.
    stopped: BTreeSet<VmId>,
}

impl Preemptor {
    /// Makes room for a VM and holds it; nothing when nobody may be stopped that would help.
    ///
    /// # Errors
    ///
    /// Which region did not make it, and why: a victim is not what it was, or has not stopped
    /// in time. What was stopped by then stays so.
    pub async fn make_room(
        &self,
        request: &PlacementRequest,
    ) -> Result<Option<Room>, (RegionId, Missed)> {
        for (site, decision) in self.promised(request) {
            match self.claim(site, decision, request).await {
                Err((region, Missed::TryNext(reason))) => {
                    info!(vm = %request.id, %region, %reason, "its room went to others");
                }
                claimed => return claimed.map(Some),
            }
        }
        let Some(site) = self.planned(request) else { return Ok(None) };
        let decision = self.decided_with(&site, request);
        self.claim(site, decision, request).await.map(Some)
    }

    /// Where room was made for this VM before, and may still be, if that is a lawful place.
    fn promised(&self, request: &PlacementRequest) -> Vec<(Site, Decision)> {
        let gave_way =
            |record: &VmRecord| record.preempted_by.as_ref() == Some(&request.id);
        let mut sites: BTreeMap<(RegionId, HostId), Site> = BTreeMap::new();
        for record in self.mirror.vms(None, usize::MAX, gave_way) {
            let owner = record.owner.clone();
            let site = sites.entry((owner.region.clone(), owner.host.clone()));
            let site = site.or_insert_with(|| Site {
                region: owner.region,
                zone: owner.zone,
                host: owner.host,
                victims: Vec::new(),
                stopped: BTreeSet::new(),
            });
            site.victims.push(record.request.id.clone());
            site.stopped.insert(record.request.id.clone());
        }
        let decided = sites.into_values().take(PROMISED_MAX).filter_map(|site| {
            let decision = self.decided_with(&site, request);
            let chosen = decision.chosen.as_ref()?;
            let here = chosen.region == site.region && chosen.host == site.host;
            here.then_some((site, decision))
        });
        decided.collect()
    }

    fn planned(&self, request: &PlacementRequest) -> Option<Site> {
        let plan =
            self.fleet.look(|fleet| plan_preemption(fleet, request, &self.policy))?;
        Some(Site {
            region: plan.region,
            zone: plan.zone,
            host: plan.host,
            victims: plan.victims.into_iter().map(|victim| victim.vm).collect(),
            stopped: BTreeSet::new(),
        })
    }

    /// The decision as it would be with the room already there.
    fn decided_with(&self, site: &Site, request: &PlacementRequest) -> Decision {
        self.fleet.look(|fleet| {
            let mut fleet = fleet.clone();
            fleet.give(&site.region, &site.host, &need(request));
            decide(&fleet, request, &self.policy)
        })
    }

    async fn claim(
        &self,
        site: Site,
        decision: Decision,
        request: &PlacementRequest,
    ) -> Result<Room, (RegionId, Missed)> {
        match self.held_room(&site, request).await {
            Ok((id, victims)) => Ok(Room { region: site.region, id, victims, decision }),
            Err(missed) => Err((site.region, missed)),
        }
    }

    async fn held_room(
        &self,
        site: &Site,
        request: &PlacementRequest,
    ) -> Result<(ReservationId, Vec<VmId>), Missed> {
        let body = ReserveBody {
            id: attempt().map_err(Missed::Final)?,
            request: request.clone(),
            zone: site.zone.clone(),
            host: site.host.clone(),
            victims: site.victims.clone(),
        };
        let held = self.claims.reserve(&site.region, body.clone()).await?;
        crash_point("coordinator-after-room");
        if let Err(error) = self.stop(&held, request).await {
            self.claims.give_back(&site.region, &held.id).await;
            return Err(Missed::TryNext(error));
        }
        self.room_is_there(site, &body).await?;
        let stopped = site.stopped.iter().cloned().chain(held.waits_for);
        Ok((held.id, stopped.collect::<BTreeSet<_>>().into_iter().collect()))
    }

    /// Stops who still has to stop.
    async fn stop(
        &self,
        held: &HeldReply,
        request: &PlacementRequest,
    ) -> Result<(), ApiError> {
        let still = |record: &VmRecord| {
            let makes_room_anyway = record.power == Power::Deleted;
            let as_planned = record.owner.host == held.host
                && record.request.priority < request.priority
                && record.request.tier != Tier::Protected;
            makes_room_anyway || as_planned
        };
        for victim in &held.waits_for {
            let stopped = self.lifecycle.preempt(victim, &request.id, still).await;
            match stopped {
                Ok(_) => info!(%victim, urgent = %request.id, "pre-empted"),
                // It is gone: so is what it held.
                Err(error) if error.code == ErrorCode::NotFound => {}
                Err(error) => {
                    let message =
                        format!("cannot make room for VM {}: {error}", request.id);
                    return Err(ApiError::new(ErrorCode::Refused, message)
                        .with_remedy("ask again; another host may do"));
                }
            }
        }
        Ok(())
    }

    /// Waits until the victims have given their room. A region that does not answer meanwhile
    /// has the hold on its disk.
    async fn room_is_there(&self, site: &Site, body: &ReserveBody) -> Result<(), Missed> {
        let room = async {
            loop {
                match self.claims.reserve(&site.region, body.clone()).await {
                    Ok(held) if held.waits_for.is_empty() => return Ok(()),
                    Ok(_) => {}
                    Err(Missed::TryNext(error))
                        if error.code == ErrorCode::Unavailable => {}
                    Err(missed) => return Err(missed),
                }
                tokio::time::sleep(ROOM_LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(ROOM_WITHIN, room).await.unwrap_or_else(|_| {
            let vm = &body.request.id;
            let message = format!("the VMs that make room for {vm} have not stopped yet");
            let error = ApiError::new(ErrorCode::Busy, message).with_remedy(
                "ask again with the same client token in a while: their room is kept for it",
            );
            Err(Missed::Final(error))
        })
    }
}
