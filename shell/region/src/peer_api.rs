//! The door between regions. Only a region's certificate opens it.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::host::{
    Acknowledged, CopyPlace, InstanceReport, MachineReport, MoveOrder, MoveReport,
    StandbyBody, TrialBody, TrialParams, TrialReport,
};
use dwcp_api::peer::{
    Commit, CommitBody, CommitReply, DropPeerTrial, GetPeerConsole, GetPeerEvents,
    GetPeerMachine, GetPeerMove, GetPeerTrial, GetRegionReport, Heartbeat,
    HeartbeatReply, HeldReply, HostVmParams, KeepReplica, LetGo, LetGoBody, LetGoReply,
    PeerMachineParams, PeerMoveParams, PeerTrialParams, PutPeerMove, PutPeerStandby,
    PutPeerTrial, REPORT_WAIT_MAX_MS, RegionReport, Release, ReportParams,
    ReservationParams, Reserve, ReserveBody, TakeOver, TakeOverBody,
};
use dwcp_api::public::{ConsoleParams, ConsoleReply, EventList, EventParams};
use dwcp_api::{ApiError, Caller, NoParams, Routes};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::report_log::{Cursor, ReportLog};
use dwcp_runtime::tls::Identity;
use dwcp_types::{RegionId, VmId};

use tokio::sync::watch;

use crate::bind::bind;
use crate::books::Shown;
use crate::chronicle::Chronicle;
use crate::local_guests::LocalGuests;
use crate::meter::Meter;
use crate::migrate::Reach;
use crate::reservations::Reservations;
use crate::trials::Trials;
use crate::trips;
use crate::warden::Seen;
use crate::world::{Known, World};

/// Guests in one report: about 400 KB.
const GUESTS_MAX: usize = 1_000;

/// Everything behind the peers' door.
#[derive(Debug)]
pub struct PeerApi {
    /// This daemon's region.
    pub region: RegionId,
    /// What is known of it.
    pub world: Arc<World>,
    /// Its hosts as the books see them.
    pub hosts: watch::Receiver<Shown>,
    /// Its guests as they change.
    pub log: Arc<ReportLog<VmId, Arc<InstanceReport>>>,
    /// Its reservations.
    pub reservations: Arc<Reservations>,
    /// Its guests' consoles and events.
    pub local: LocalGuests,
    /// What it hears of other regions.
    pub seen: watch::Receiver<Arc<Seen>>,
    /// Its hosts, for guests that move.
    pub reach: Reach,
    /// Failovers that are tried on its hosts.
    pub trials: Trials,
    /// Its requests.
    pub meter: Arc<Meter>,
    /// What it says of itself.
    pub chronicle: Arc<Chronicle>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Only regions may use this door.
pub(crate) fn admit(caller: &Caller) -> Result<(), ApiError> {
    match caller.identity {
        Identity::Region(_) => Ok(()),
        Identity::Admin(_)
        | Identity::Host { .. }
        | Identity::Engine(_)
        | Identity::Monitor(_) => Err(caller.forbidden("only a region's daemon")),
    }
}

/// The peers' routes.
#[must_use]
pub fn routes(api: &Arc<PeerApi>) -> Routes {
    bind! { api, admit,
        GetRegionReport => report;
        Heartbeat => heartbeat;
        Reserve => reserve;
        Commit => commit;
        Release => release;
        TakeOver => take_over;
        GetPeerConsole => console;
        GetPeerEvents => events;
        PutPeerMove => put_move;
        GetPeerMove => get_move;
        GetPeerMachine => get_machine;
        LetGo => let_go;
        PutPeerStandby => put_standby;
        KeepReplica => keep_replica;
        PutPeerTrial => put_trial;
        GetPeerTrial => get_trial;
        DropPeerTrial => drop_trial;
    }
}

impl PeerApi {
    async fn report(
        &self,
        params: ReportParams,
        (): (),
    ) -> Result<RegionReport, ApiError> {
        let ReportParams { incarnation, begun, after, wait_ms, digest_life, digest_seq } =
            params;
        let cursor = Cursor { incarnation, begun, after };
        let patience = Duration::from_millis(wait_ms.min(REPORT_WAIT_MAX_MS));
        let mut hosts = self.hosts.clone();
        hosts.mark_unchanged();
        tokio::select! {
            () = self.log.changed(cursor, patience) => {}
            // The books go with the daemon: there is nothing to wait for then.
            _ = hosts.changed() => {}
        }
        let page = self.log.since(cursor, GUESTS_MAX);
        let now = self.clock.monotonic();
        let (hosts, trips) = self.world.region(&self.region, |known| {
            let own = |known: &Known| (known.hosts.clone(), trips::said(known, now));
            known.map(own).unwrap_or_default()
        });
        Ok(RegionReport {
            incarnation: page.cursor.incarnation,
            begun: page.cursor.begun,
            seq: page.cursor.after,
            reset: page.reset,
            more: page.more,
            hosts,
            meter: self.meter.read(now),
            trips,
            digests: self.chronicle.since(digest_life, digest_seq),
            changed: page.changed.iter().map(|guest| guest.as_ref().clone()).collect(),
            removed: page.removed,
        })
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn heartbeat(&self, _: NoParams, (): ()) -> Result<HeartbeatReply, ApiError> {
        Ok(HeartbeatReply { view: self.seen.borrow().view.clone() })
    }

    async fn reserve(
        &self,
        _: NoParams,
        body: ReserveBody,
    ) -> Result<HeldReply, ApiError> {
        self.reservations.reserve(body).await
    }

    async fn commit(
        &self,
        params: ReservationParams,
        body: CommitBody,
    ) -> Result<CommitReply, ApiError> {
        self.reservations.commit(&params.reservation, body).await
    }

    async fn take_over(
        &self,
        _: NoParams,
        body: TakeOverBody,
    ) -> Result<CommitReply, ApiError> {
        self.reservations.take_over(body).await
    }

    async fn release(&self, params: ReservationParams, (): ()) -> Result<(), ApiError> {
        self.reservations.release(&params.reservation).await
    }

    async fn console(
        &self,
        params: ConsoleParams,
        (): (),
    ) -> Result<ConsoleReply, ApiError> {
        self.local.console(&params).await
    }

    async fn put_move(
        &self,
        params: HostVmParams,
        order: MoveOrder,
    ) -> Result<Acknowledged, ApiError> {
        self.reach.put_move_here(params, &order).await
    }

    async fn get_move(
        &self,
        params: PeerMoveParams,
        (): (),
    ) -> Result<MoveReport, ApiError> {
        self.reach.get_move_here(params).await
    }

    async fn get_machine(
        &self,
        params: PeerMachineParams,
        (): (),
    ) -> Result<MachineReport, ApiError> {
        self.reach.machine_here(params).await
    }

    async fn let_go(
        &self,
        params: HostVmParams,
        body: LetGoBody,
    ) -> Result<LetGoReply, ApiError> {
        self.reach.let_go_here(&params.host, &params.vm, &body).await
    }

    async fn put_standby(
        &self,
        params: HostVmParams,
        body: StandbyBody,
    ) -> Result<CopyPlace, ApiError> {
        self.reach.put_standby_here(params, &body).await
    }

    async fn put_trial(
        &self,
        params: HostVmParams,
        body: TrialBody,
    ) -> Result<TrialReport, ApiError> {
        self.trials.begin_here(&params.host, &params.vm, body).await
    }

    async fn get_trial(
        &self,
        params: HostVmParams,
        (): (),
    ) -> Result<TrialReport, ApiError> {
        self.reach.get_trial_here(&params.host, &params.vm).await
    }

    async fn drop_trial(&self, params: PeerTrialParams, (): ()) -> Result<(), ApiError> {
        let PeerTrialParams { host, vm, id } = params;
        self.trials.end_here(&host, &TrialParams { vm, id }).await
    }

    async fn keep_replica(
        &self,
        params: ReservationParams,
        (): (),
    ) -> Result<(), ApiError> {
        self.reservations.keep_for_replica(&params.reservation).await
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn events(&self, params: EventParams, (): ()) -> Result<EventList, ApiError> {
        Ok(EventList { items: self.local.events(&params), missing: Vec::new() })
    }
}
