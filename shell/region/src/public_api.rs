//! The operator's door: who may come in, and which part answers what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::evacuation::{
    CancelEvacuation, EvacuationItem, EvacuationList, ListEvacuations, PostEvacuation,
};
use dwcp_api::failover::{
    ApproveFailover, DenyFailover, EndVmTrial, FailoverList, FailoverReply,
    FailoverRequestList, FailoverStatus, GetFailover, GetVmTrial, ListFailoverRequests,
    ListFailovers, PostFailover, StartFailover, StartVmTrial, TrialItem, VmTrialParams,
};
use dwcp_api::host::TrialParams;
use dwcp_api::migration::{
    AskMigration, CancelMigration, CreateMigration, GetMigration, ListMigrations,
    MigrationFilter, MigrationItem, MigrationList, MigrationParams, MigrationReply,
};
use dwcp_api::peer::GetPeerConsole;
use dwcp_api::peer::GetPeerEvents;
use dwcp_api::public::{
    AddRegion, ConsoleParams, ConsoleReply, CreateRegion, CreateVm, DeleteVm,
    EnableRegion, EventList, EventParams, ExplainPlacement, ExplainRequest, GetConsole,
    GetEvents, GetRegion, GetRegionCapacity, GetStatus, GetVm, GetVms, ListRegions,
    ListVms, PlaceReply, PlaceVm, PutVmPower, RegionCapacityReply, RegionItem,
    RegionList, RegionParams, SetEnabled, SetPower, StatusReply, VmDetail, VmItem,
    VmList, VmParams,
};
use dwcp_api::routing::{
    ConfigureRouting, Endpoint, ExplainRouting, GetRouting, GetRoutingLatency,
    PutRouting, PutRoutingEndpoint, ReplayReply, ReplayRequest, ReplayRouting,
    RoutingAnswer, RoutingLatency, RoutingQuestion, RoutingReply,
};
use dwcp_api::{ApiError, Caller, Client, ErrorCode, NoParams, Routes};
use dwcp_controller::ownership::VmRecord;
use dwcp_controller::placement::Explanation;
use dwcp_runtime::tls::Identity;
use dwcp_types::{Power, RegionId, VmId};

use crate::bind::{bind, bind_by};
use crate::capacity::CapacityPlanner;
use crate::engine;
use crate::evacuate::Evacuator;
use crate::fan::ask_each;
use crate::inventory::Inventory;
use crate::lifecycle::{Lifecycle, no_such_vm, read_vm};
use crate::local_guests::LocalGuests;
use crate::migrate::Migrations;
use crate::place::Placer;
use crate::region_records::RegionRecords;
use crate::rescue::Rescuer;
use crate::routing::Router;
use crate::status::Status;
use crate::trials::Trials;
use crate::warden::Seen;

/// Events of one reply at most, and when nothing is said.
const EVENTS_MAX: u32 = 1_000;
const EVENTS_DEFAULT: u32 = 100;

/// Everything behind the operator's door.
#[derive(Debug)]
pub struct PublicApi {
    /// This daemon's region.
    pub region: RegionId,
    /// Places VMs.
    pub placer: Placer,
    /// Changes VMs.
    pub lifecycle: Lifecycle,
    /// Shows regions and VMs.
    pub inventory: Inventory,
    /// Plans capacity.
    pub capacity: CapacityPlanner,
    /// Adds and changes regions.
    pub regions: RegionRecords,
    /// Shows the federation.
    pub status: Arc<Status>,
    /// This region's guests.
    pub local: LocalGuests,
    /// Fails regions over, and knows which live; nothing where leases are not kept.
    pub rescuer: Option<Arc<Rescuer>>,
    /// Moves VMs between regions.
    pub migrations: Arc<Migrations>,
    /// Tries failovers.
    pub trials: Trials,
    /// Empties regions.
    pub evacuator: Arc<Evacuator>,
    /// Says where requests go.
    pub router: Arc<Router>,
    /// The daemons of the other regions.
    pub peers: BTreeMap<RegionId, Client>,
}

/// Time for another region to answer for its events: a list must not wait for a dead one.
const PEER_TIME_MAX: Duration = Duration::from_secs(2);

/// People may use this door, and regions on their behalf.
pub(crate) fn admit(caller: &Caller) -> Result<(), ApiError> {
    match caller.identity {
        Identity::Admin(_) | Identity::Region(_) => Ok(()),
        Identity::Host { .. } | Identity::Engine(_) | Identity::Monitor(_) => {
            Err(caller
                .forbidden("an administrator with a credential made by `./dwcp up`"))
        }
    }
}

/// The operator's routes.
#[must_use]
pub fn routes(api: &Arc<PublicApi>) -> Routes {
    let routes = bind! { api, admit,
        GetStatus => status;
        GetFailover => failover;
        ListFailovers => failovers;
        ListFailoverRequests => failover_requests;
        ListRegions => list_regions;
        CreateRegion => add_region;
        GetRegion => describe_region;
        EnableRegion => enable_region;
        GetRegionCapacity => region_capacity;
        CreateVm => place_vm;
        ExplainPlacement => explain;
        GetVms => list_vms;
        GetVm => describe_vm;
        PutVmPower => set_power;
        DeleteVm => delete_vm;
        GetConsole => console;
        GetEvents => events;
        CreateMigration => create_migration;
        ListMigrations => list_migrations;
        GetMigration => get_migration;
        CancelMigration => cancel_migration;
        GetVmTrial => trial;
        EndVmTrial => end_trial;
        ListEvacuations => evacuations;
        CancelEvacuation => cancel_evacuation;
        GetRouting => routing;
        PutRouting => configure_routing;
        PutRoutingEndpoint => set_routing_endpoint;
        ExplainRouting => explain_routing;
        GetRoutingLatency => routing_latency;
        ReplayRouting => replay_routing;
    };
    // Who asks is kept with what is wanted.
    let routes = bind_by::<PostFailover, _, _, _>(
        routes,
        (api, admit),
        |api, by, _, body| async move { api.start_failover(by, body).await },
    );
    let routes = bind_by::<ApproveFailover, _, _, _>(
        routes,
        (api, admit),
        |api, by, of, ()| async move { api.rescuer()?.approve(by, &of.request).await },
    );
    let routes = bind_by::<DenyFailover, _, _, _>(
        routes,
        (api, admit),
        |api, by, of, why| async move {
            api.rescuer()?.deny(by, &of.request, &why.reason).await
        },
    );
    let routes = bind_by::<StartVmTrial, _, _, _>(
        routes,
        (api, admit),
        |api, by, of, body| async move { api.trials.begin(&by, &of.vm, body).await },
    );
    bind_by::<PostEvacuation, _, _, _>(
        routes,
        (api, admit),
        |api, by, _, body| async move { api.evacuator.start(by, body).await },
    )
}

impl PublicApi {
    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn status(&self, _: NoParams, (): ()) -> Result<StatusReply, ApiError> {
        Ok(self.status.reply())
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn failover(&self, _: NoParams, (): ()) -> Result<FailoverStatus, ApiError> {
        Ok(match &self.rescuer {
            Some(rescuer) => rescuer.seen.borrow().status(true),
            None => Seen::default().status(false),
        })
    }

    async fn failovers(&self, _: NoParams, (): ()) -> Result<FailoverList, ApiError> {
        let Some(rescuer) = &self.rescuer else { return Ok(FailoverList::default()) };
        let items = rescuer.history().await.map_err(|error| engine::failed(&error))?;
        Ok(FailoverList { items })
    }

    async fn failover_requests(
        &self,
        _: NoParams,
        (): (),
    ) -> Result<FailoverRequestList, ApiError> {
        let Some(rescuer) = &self.rescuer else {
            return Ok(FailoverRequestList::default());
        };
        rescuer.list_requests().await
    }

    async fn start_failover(
        &self,
        by: String,
        body: StartFailover,
    ) -> Result<FailoverReply, ApiError> {
        self.rescuer()?.start(by, body).await
    }

    async fn trial(&self, params: VmParams, (): ()) -> Result<TrialItem, ApiError> {
        self.trials.show(&params.vm).await
    }

    async fn end_trial(&self, params: VmTrialParams, (): ()) -> Result<(), ApiError> {
        self.trials.end(TrialParams { vm: params.vm, id: params.id }).await
    }

    fn rescuer(&self) -> Result<&Rescuer, ApiError> {
        self.rescuer.as_deref().ok_or_else(|| {
            let message = "failover is off (`failover.enabled`)";
            ApiError::new(ErrorCode::Refused, message)
                .with_remedy("set it in federation.yaml and start the daemons again")
        })
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn list_regions(&self, _: NoParams, (): ()) -> Result<RegionList, ApiError> {
        Ok(RegionList { items: self.inventory.regions() })
    }

    async fn add_region(
        &self,
        _: NoParams,
        body: AddRegion,
    ) -> Result<RegionItem, ApiError> {
        let record = self.regions.add(body).await?;
        Ok(self.inventory.region(&record, 0))
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn describe_region(
        &self,
        params: RegionParams,
        (): (),
    ) -> Result<RegionItem, ApiError> {
        let record = self.regions.get(&params.region)?;
        let counts = self.inventory.mirror.vm_counts();
        let vms = counts.get(&params.region).copied().unwrap_or_default();
        Ok(self.inventory.region(&record, vms))
    }

    async fn enable_region(
        &self,
        params: RegionParams,
        body: SetEnabled,
    ) -> Result<RegionItem, ApiError> {
        let record = self.regions.set_enabled(&params.region, body.enabled).await?;
        let counts = self.inventory.mirror.vm_counts();
        let vms = counts.get(&params.region).copied().unwrap_or_default();
        Ok(self.inventory.region(&record, vms))
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn region_capacity(
        &self,
        params: RegionParams,
        (): (),
    ) -> Result<RegionCapacityReply, ApiError> {
        self.regions.get(&params.region)?;
        self.capacity.of(&params.region)
    }

    async fn place_vm(&self, _: NoParams, ask: PlaceVm) -> Result<PlaceReply, ApiError> {
        let mut placed = self.placer.place(ask).await?;
        placed.reply.vm = placed.record.map(|record| self.inventory.item(&record));
        Ok(placed.reply)
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn explain(
        &self,
        _: NoParams,
        body: ExplainRequest,
    ) -> Result<Explanation, ApiError> {
        self.placer.explain(&body.request)
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn list_vms(&self, asked: ListVms, (): ()) -> Result<VmList, ApiError> {
        self.inventory.list(&asked)
    }

    async fn describe_vm(&self, params: VmParams, (): ()) -> Result<VmDetail, ApiError> {
        let record = self.record(&params.vm).await?;
        Ok(self.inventory.detail(&record))
    }

    async fn set_power(
        &self,
        params: VmParams,
        body: SetPower,
    ) -> Result<VmItem, ApiError> {
        if body.power == Power::Deleted {
            return Err(ApiError::new(ErrorCode::Invalid, "deleting is no power state")
                .with_remedy("use DELETE /v1/vms/{vm}"));
        }
        let record = self.lifecycle.want(&params.vm, body.power).await?;
        Ok(self.inventory.item(&record))
    }

    async fn delete_vm(&self, params: VmParams, (): ()) -> Result<VmItem, ApiError> {
        let record = self.lifecycle.want(&params.vm, Power::Deleted).await?;
        Ok(self.inventory.item(&record))
    }

    async fn console(
        &self,
        params: ConsoleParams,
        (): (),
    ) -> Result<ConsoleReply, ApiError> {
        let owner = self.record(&params.vm).await?.owner.region.clone();
        if owner == self.region {
            return self.local.console(&params).await;
        }
        self.peer(&owner)?.call::<GetPeerConsole>(&params, &()).await.map_err(|error| {
            let remedy = "its VMs go on; try again when its daemon is back";
            error.or_unavailable(&format!("region {owner}"), remedy)
        })
    }

    async fn events(&self, params: EventParams, (): ()) -> Result<EventList, ApiError> {
        let limit = params.limit.unwrap_or(EVENTS_DEFAULT).min(EVENTS_MAX);
        let params = EventParams { limit: Some(limit), ..params };
        let asked = |region: &RegionId| {
            params.region.as_ref().is_none_or(|wanted| wanted == region)
        };
        let mut list = EventList::default();
        if asked(&self.region) {
            list.items = self.local.events(&params);
        }
        let peers = self.peers.iter().filter(|(region, _)| asked(region));
        let (parts, missing) =
            ask_each::<GetPeerEvents>(peers, &params, PEER_TIME_MAX).await;
        list.items.extend(parts.into_iter().flat_map(|part| part.items));
        list.missing = missing;
        list.items.sort();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        list.items.drain(..list.items.len().saturating_sub(limit));
        Ok(list)
    }

    async fn create_migration(
        &self,
        _: NoParams,
        body: AskMigration,
    ) -> Result<MigrationReply, ApiError> {
        self.migrations.ask(body).await
    }

    async fn list_migrations(
        &self,
        filter: MigrationFilter,
        (): (),
    ) -> Result<MigrationList, ApiError> {
        Ok(self.migrations.list(filter).await)
    }

    async fn get_migration(
        &self,
        params: MigrationParams,
        (): (),
    ) -> Result<MigrationItem, ApiError> {
        self.migrations.show(&params.migration).await
    }

    async fn cancel_migration(
        &self,
        params: MigrationParams,
        (): (),
    ) -> Result<MigrationItem, ApiError> {
        self.migrations.cancel(&params.migration).await
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn evacuations(&self, _: NoParams, (): ()) -> Result<EvacuationList, ApiError> {
        Ok(self.evacuator.list())
    }

    async fn cancel_evacuation(
        &self,
        params: RegionParams,
        (): (),
    ) -> Result<EvacuationItem, ApiError> {
        self.evacuator.cancel(&params.region).await
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn routing(&self, _: NoParams, (): ()) -> Result<RoutingReply, ApiError> {
        Ok(self.router.reply())
    }

    async fn configure_routing(
        &self,
        _: NoParams,
        body: ConfigureRouting,
    ) -> Result<RoutingReply, ApiError> {
        self.router.configure(body).await
    }

    async fn set_routing_endpoint(
        &self,
        params: RegionParams,
        body: Endpoint,
    ) -> Result<RoutingReply, ApiError> {
        self.router.set_endpoint(&params, body).await
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn explain_routing(
        &self,
        _: NoParams,
        body: RoutingQuestion,
    ) -> Result<RoutingAnswer, ApiError> {
        self.router.explain(&body)
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn routing_latency(
        &self,
        _: NoParams,
        (): (),
    ) -> Result<RoutingLatency, ApiError> {
        self.router.latency()
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn replay_routing(
        &self,
        _: NoParams,
        body: ReplayRequest,
    ) -> Result<ReplayReply, ApiError> {
        self.router.replay(&body)
    }

    /// A VM's record. One that another daemon has just placed may not have come here yet: before
    /// it is said not to be there, the engine is asked.
    async fn record(&self, vm: &VmId) -> Result<Arc<VmRecord>, ApiError> {
        if let Some(stored) = self.inventory.mirror.vm(vm) {
            return Ok(stored.record);
        }
        let stored = read_vm(self.lifecycle.engine.as_ref(), vm).await;
        stored.map(|(_, record)| Arc::new(record)).map_err(|_| no_such_vm(vm))
    }

    fn peer(&self, region: &RegionId) -> Result<&Client, ApiError> {
        self.peers.get(region).ok_or_else(|| {
            let message = format!("the address of region {region}'s daemon is not known");
            ApiError::new(ErrorCode::Unavailable, message).with_remedy(
                "add its endpoint to federation.yaml and restart this daemon",
            )
        })
    }
}
