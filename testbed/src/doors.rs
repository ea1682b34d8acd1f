//! One region's API as a test uses it: the operations by their names, as an administrator.

use dwcp_api::failover::{GetFailover, RegionLiveness};
use dwcp_api::migration::{GetMigration, MigrationItem, MigrationParams};
use dwcp_api::public::{
    ConsoleParams, ConsoleReply, CreateVm, DeleteVm, Event, EventParams, GetConsole,
    GetEvents, GetRegion, GetRegionCapacity, GetStatus, GetVm, GetVms, ListVms,
    PlaceReply, PutVmPower, RegionCapacityReply, RegionItem, RegionParams, SetPower,
    StatusReply, VmDetail, VmItem, VmList, VmParams,
};
use dwcp_api::{ApiError, CallError, Client, Events, NoParams, Operation};
use dwcp_types::{MigrationId, Power, RegionId, VmId, VmPhase};

use crate::{Ask, until};

/// A region's API.
#[derive(Clone, Debug)]
pub struct Door {
    client: Client,
}

impl Door {
    pub(crate) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Any operation.
    ///
    /// # Errors
    ///
    /// As the client's.
    pub async fn call<O: Operation>(
        &self,
        params: &O::Params,
        body: &O::Body,
    ) -> Result<O::Reply, CallError> {
        self.client.call::<O>(params, body).await
    }

    /// A stream of events, from its beginning.
    ///
    /// # Errors
    ///
    /// As the client's.
    pub async fn watch<O: Operation<Body = ()>>(
        &self,
        params: &O::Params,
    ) -> Result<Events, CallError> {
        self.client.watch::<O>(params, None).await
    }

    /// Places a VM.
    ///
    /// # Errors
    ///
    /// As the client's; so for all below.
    pub async fn place(&self, ask: &Ask) -> Result<PlaceReply, CallError> {
        self.call::<CreateVm>(&NoParams {}, ask.body()).await
    }

    /// One VM.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn vm(&self, vm: &str) -> Result<VmDetail, CallError> {
        self.call::<GetVm>(&params(vm), &()).await
    }

    /// All VMs, with the age of the list.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn vms(&self) -> Result<VmList, CallError> {
        self.call::<GetVms>(&ListVms::default(), &()).await
    }

    /// Wants a VM to be so.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn want(&self, vm: &str, power: Power) -> Result<VmItem, CallError> {
        self.call::<PutVmPower>(&params(vm), &SetPower { power }).await
    }

    /// Deletes a VM.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn delete(&self, vm: &str) -> Result<VmItem, CallError> {
        self.call::<DeleteVm>(&params(vm), &()).await
    }

    /// A guest's serial output.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn console(&self, vm: &str) -> Result<ConsoleReply, CallError> {
        let asked = ConsoleParams { vm: id(vm), offset: None };
        self.call::<GetConsole>(&asked, &()).await
    }

    /// What happened to a VM.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn events(&self, vm: &str) -> Result<Vec<Event>, CallError> {
        let asked = EventParams { vm: Some(id(vm)), ..EventParams::default() };
        Ok(self.call::<GetEvents>(&asked, &()).await?.items)
    }

    /// The federation at a glance.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn status(&self) -> Result<StatusReply, CallError> {
        self.call::<GetStatus>(&NoParams {}, &()).await
    }

    /// Waits until this region sees the engine's leader in one of these.
    ///
    /// # Panics
    ///
    /// When that does not come true.
    pub async fn led_from(&self, wanted: &[&str]) -> RegionId {
        until(&format!("the leader is in one of {wanted:?}"), || async {
            let engine = self.status().await.map_err(|error| error.to_string())?.engine;
            match &engine.leader {
                Some(leader) if wanted.contains(&leader.as_str()) => Ok(leader.clone()),
                _ => Err(format!("{engine:?}")),
            }
        })
        .await
    }

    /// One region.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn region(&self, region: &str) -> Result<RegionItem, CallError> {
        self.call::<GetRegion>(&region_params(region), &()).await
    }

    /// What is true of a region, as this one sees it.
    ///
    /// # Errors
    ///
    /// In words, to be waited with: the client's, or that the region is not listed.
    pub async fn liveness(&self, region: &str) -> Result<RegionLiveness, String> {
        let status = self.call::<GetFailover>(&NoParams {}, &()).await;
        let status = status.map_err(|error| error.to_string())?;
        let mut regions = status.regions.into_iter();
        let found = regions.find(|it| it.verdict.region.as_str() == region);
        found.ok_or_else(|| "it is not listed".to_owned())
    }

    /// Waits until a VM is seen in one of these regions in this phase, and gives it.
    ///
    /// # Panics
    ///
    /// When that does not come true.
    pub async fn is_in(&self, vm: &str, regions: &[&str], phase: VmPhase) -> VmDetail {
        until(&format!("{vm} is {phase:?} in one of {regions:?}"), || async {
            let seen = self.vm(vm).await.map_err(|error| error.to_string())?;
            let there = regions.contains(&seen.item.region.as_str());
            if there && seen.item.phase == phase {
                Ok(seen)
            } else {
                Err(format!("{:?} {:?}", seen.item, seen.observed))
            }
        })
        .await
    }

    /// Waits until a move is over.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn move_is_over(&self, id: &MigrationId) -> MigrationItem {
        let params = MigrationParams { migration: id.clone() };
        until(&format!("move {id} is over"), || async {
            let item = self.call::<GetMigration>(&params, &()).await;
            let item = item.map_err(|error| error.to_string())?;
            if item.outcome.is_some() && item.ended_at.is_some() {
                Ok(item)
            } else {
                Err(format!("{item:?}"))
            }
        })
        .await
    }

    /// What a region can take.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    pub async fn capacity(&self, region: &str) -> Result<RegionCapacityReply, CallError> {
        self.call::<GetRegionCapacity>(&region_params(region), &()).await
    }
}

/// The API's own error; a panic for anything else.
///
/// # Panics
///
/// When the call succeeded or failed without an answer.
#[track_caller]
pub fn refusal<T: std::fmt::Debug>(result: Result<T, CallError>) -> ApiError {
    match result {
        Err(CallError::Api(error)) => error,
        other => panic!("expected an answer that refuses, got {other:?}"),
    }
}

fn id(vm: &str) -> VmId {
    VmId::new(vm).expect("a name")
}

fn params(vm: &str) -> VmParams {
    VmParams { vm: id(vm) }
}

fn region_params(region: &str) -> RegionParams {
    RegionParams { region: RegionId::new(region).expect("a name") }
}
