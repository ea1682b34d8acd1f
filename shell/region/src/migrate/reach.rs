//! The way to a host of any region: directly to one's own, through its region's daemon to
//! others, because only a region instructs its hosts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::host::{
    Acknowledged, CopyOrder, CopyPlace, DropTrial, GetMachine, GetMove, GetTrial,
    InstanceParams, Instruction, MachineParams, MachineReport, MoveOrder, MoveParams,
    MoveReport, MoveStage, PutCopy, PutInstance, PutMove, PutStandby, PutTrial,
    StandbyBody, TrialBody, TrialParams, TrialReport,
};
use dwcp_api::peer::{
    DropPeerTrial, GetPeerMachine, GetPeerMove, GetPeerTrial, HostVmParams, LetGo,
    LetGoBody, LetGoReply, PeerMachineParams, PeerMoveParams, PeerTrialParams,
    PutPeerMove, PutPeerStandby, PutPeerTrial,
};
use dwcp_api::{ApiError, CallError, Client, ErrorCode};
use dwcp_controller::migration::Site;
use dwcp_controller::ownership::{VmRecord, vm_key};
use dwcp_runtime::crash::crash_point;
use dwcp_runtime::strong::StrongEngine;
use dwcp_types::{Generation, HostId, Power, RegionId, ReservationId, VmId, VmShape};

use crate::books::Books;
use crate::engine;

/// Time for one question to a host, with its wait.
const CALL_TIME_MAX: Duration = Duration::from_secs(15);

/// Reaches hosts.
#[derive(Clone, Debug)]
pub struct Reach {
    region: RegionId,
    engine: Arc<dyn StrongEngine>,
    books: Books,
    hosts: BTreeMap<HostId, Client>,
    peers: BTreeMap<RegionId, Client>,
}

fn away(error: CallError, who: &str) -> ApiError {
    error.or_unavailable(who, "try again when it is back; what runs goes on")
}

impl Reach {
    pub(crate) fn new(
        region: RegionId,
        engine: Arc<dyn StrongEngine>,
        books: Books,
        hosts: BTreeMap<HostId, Client>,
        peers: BTreeMap<RegionId, Client>,
    ) -> Self {
        let patient = |client: Client| client.with_call_time_max(CALL_TIME_MAX);
        let hosts = hosts.into_iter().map(|(id, client)| (id, patient(client))).collect();
        let peers = peers.into_iter().map(|(id, client)| (id, patient(client))).collect();
        Self { region, engine, books, hosts, peers }
    }

    fn host(&self, host: &HostId) -> Result<&Client, ApiError> {
        self.hosts.get(host).ok_or_else(|| {
            let message = format!("host {host} is not in region {}", self.region);
            ApiError::new(ErrorCode::NotFound, message)
                .with_remedy("add it to federation.yaml and restart the daemon")
        })
    }

    fn peer(&self, region: &RegionId) -> Result<&Client, ApiError> {
        self.peers.get(region).ok_or_else(|| {
            let message = format!("the address of region {region}'s daemon is not known");
            ApiError::new(ErrorCode::Unavailable, message).with_remedy(
                "add its endpoint to federation.yaml and restart this daemon",
            )
        })
    }

    /// Says to a host what is to be done about a VM that moves.
    pub(crate) async fn put_move(
        &self,
        at: &Site,
        vm: &VmId,
        order: &MoveOrder,
    ) -> Result<Acknowledged, ApiError> {
        let told = if at.region == self.region {
            let params = InstanceParams { vm: vm.clone() };
            self.host(&at.host)?.call::<PutMove>(&params, order).await
        } else {
            let params = HostVmParams { host: at.host.clone(), vm: vm.clone() };
            self.peer(&at.region)?.call::<PutPeerMove>(&params, order).await
        };
        told.map_err(|error| away(error, &format!("host {}", at.host)))
    }

    /// How far a move is on a host, when it is another stage than `known` or after `wait`.
    pub(crate) async fn get_move(
        &self,
        at: &Site,
        vm: &VmId,
        (known, wait): (Option<MoveStage>, Duration),
    ) -> Result<MoveReport, ApiError> {
        let (vm, wait_ms) = (vm.clone(), u64::try_from(wait.as_millis()).ok());
        let seen = if at.region == self.region {
            let params = MoveParams { vm, known, wait_ms };
            self.host(&at.host)?.call::<GetMove>(&params, &()).await
        } else {
            let params = PeerMoveParams { host: at.host.clone(), vm, known, wait_ms };
            self.peer(&at.region)?.call::<GetPeerMove>(&params, &()).await
        };
        seen.map_err(|error| away(error, &format!("host {}", at.host)))
    }

    /// What a VM runs on at a host, or would.
    pub(crate) async fn machine(
        &self,
        at: &Site,
        (vm, shape, image): (&VmId, &VmShape, &str),
        measure: bool,
    ) -> Result<MachineReport, ApiError> {
        let vm = vm.clone();
        let (cpu, memory) = (shape.cpu, shape.memory);
        let image = (!image.is_empty()).then(|| image.to_owned());
        let seen = if at.region == self.region {
            let params = MachineParams { vm, cpu, memory, measure, image };
            self.host(&at.host)?.call::<GetMachine>(&params, &()).await
        } else {
            let host = at.host.clone();
            let params = PeerMachineParams { host, vm, cpu, memory, measure, image };
            self.peer(&at.region)?.call::<GetPeerMachine>(&params, &()).await
        };
        seen.map_err(|error| away(error, &format!("host {}", at.host)))
    }

    /// Says to a host of this region what is to become of the copy of a VM's disk.
    pub(crate) async fn put_copy(
        &self,
        host: &HostId,
        vm: &VmId,
        order: &CopyOrder,
    ) -> Result<(), ApiError> {
        let params = InstanceParams { vm: vm.clone() };
        let told = self.host(host)?.call::<PutCopy>(&params, order).await;
        told.map_err(|error| away(error, &format!("host {host}")))
    }

    /// Has a host of another region keep a copy of a VM of this one; says where it takes in
    /// writes.
    pub(crate) async fn put_standby(
        &self,
        at: &Site,
        vm: &VmId,
        body: &StandbyBody,
    ) -> Result<CopyPlace, ApiError> {
        let params = HostVmParams { host: at.host.clone(), vm: vm.clone() };
        let told = self.peer(&at.region)?.call::<PutPeerStandby>(&params, body).await;
        told.map_err(|error| away(error, &format!("host {}", at.host)))
    }

    /// The door for peers.
    pub(crate) async fn put_standby_here(
        &self,
        params: HostVmParams,
        body: &StandbyBody,
    ) -> Result<CopyPlace, ApiError> {
        let HostVmParams { host, vm } = params;
        let told =
            self.host(&host)?.call::<PutStandby>(&InstanceParams { vm }, body).await;
        told.map_err(|error| away(error, &format!("host {host}")))
    }

    /// Has another region try the failover of a VM on a host that keeps its copy.
    pub(crate) async fn put_trial_there(
        &self,
        at: &Site,
        vm: &VmId,
        body: &TrialBody,
    ) -> Result<TrialReport, ApiError> {
        let params = HostVmParams { host: at.host.clone(), vm: vm.clone() };
        let told = self.peer(&at.region)?.call::<PutPeerTrial>(&params, body).await;
        told.map_err(|error| away(error, &format!("region {}", at.region)))
    }

    /// The same on a host of this region.
    pub(crate) async fn put_trial_here(
        &self,
        host: &HostId,
        vm: &VmId,
        body: &TrialBody,
    ) -> Result<TrialReport, ApiError> {
        let params = InstanceParams { vm: vm.clone() };
        let told = self.host(host)?.call::<PutTrial>(&params, body).await;
        told.map_err(|error| away(error, &format!("host {host}")))
    }

    /// How far a trial is.
    pub(crate) async fn get_trial(
        &self,
        at: &Site,
        vm: &VmId,
    ) -> Result<TrialReport, ApiError> {
        if at.region == self.region {
            return self.get_trial_here(&at.host, vm).await;
        }
        let params = HostVmParams { host: at.host.clone(), vm: vm.clone() };
        let seen = self.peer(&at.region)?.call::<GetPeerTrial>(&params, &()).await;
        seen.map_err(|error| away(error, &format!("region {}", at.region)))
    }

    /// The same on a host of this region.
    pub(crate) async fn get_trial_here(
        &self,
        host: &HostId,
        vm: &VmId,
    ) -> Result<TrialReport, ApiError> {
        let params = InstanceParams { vm: vm.clone() };
        let seen = self.host(host)?.call::<GetTrial>(&params, &()).await;
        seen.map_err(|error| away(error, &format!("host {host}")))
    }

    /// Has another region end a trial.
    pub(crate) async fn drop_trial_there(
        &self,
        at: &Site,
        trial: &TrialParams,
    ) -> Result<(), ApiError> {
        let (vm, id) = (trial.vm.clone(), trial.id.clone());
        let params = PeerTrialParams { host: at.host.clone(), vm, id };
        let told = self.peer(&at.region)?.call::<DropPeerTrial>(&params, &()).await;
        told.map_err(|error| away(error, &format!("region {}", at.region)))
    }

    /// Ends a trial on a host of this region.
    pub(crate) async fn drop_trial_here(
        &self,
        host: &HostId,
        params: &TrialParams,
    ) -> Result<(), ApiError> {
        let told = self.host(host)?.call::<DropTrial>(params, &()).await;
        told.map_err(|error| away(error, &format!("host {host}")))
    }

    /// Lets a host remove what it still has of a VM.
    pub(crate) async fn let_go(
        &self,
        at: &Site,
        vm: &VmId,
        body: &LetGoBody,
    ) -> Result<LetGoReply, ApiError> {
        if at.region == self.region {
            return self.let_go_here(&at.host, vm, body).await;
        }
        let params = HostVmParams { host: at.host.clone(), vm: vm.clone() };
        let told = self.peer(&at.region)?.call::<LetGo>(&params, body).await;
        told.map_err(|error| away(error, &format!("region {}", at.region)))
    }

    /// The same on a host of this region. What the engine says decides, not who asks: as long
    /// as the host owns the VM nothing of it is removed (F4).
    pub(crate) async fn let_go_here(
        &self,
        host: &HostId,
        vm: &VmId,
        body: &LetGoBody,
    ) -> Result<LetGoReply, ApiError> {
        let stored =
            self.engine.get(&vm_key(vm)).await.map_err(|e| engine::failed(&e))?;
        let record: Option<VmRecord> = stored
            .map(|kv| serde_json::from_slice(&kv.value))
            .transpose()
            .map_err(|reason| ApiError::new(ErrorCode::Internal, reason.to_string()))?;
        let here = record.as_ref().filter(|record| {
            record.owner.region == self.region && record.owner.host == *host
        });
        if let Some(record) = here.filter(|record| record.owner.epoch >= body.epoch) {
            // It has come back meanwhile; only what held its capacity before may be left.
            if record.reservation != body.reservation {
                self.free(&body.reservation).await?;
            }
            return Ok(LetGoReply { gone: true });
        }
        let is_older = |record: &VmRecord| record.owner.epoch < body.epoch;
        if record.as_ref().is_some_and(is_older) {
            let message = format!("host {host} still owns VM {vm}");
            return Err(ApiError::new(ErrorCode::Conflict, message)
                .with_remedy("look at its record: dwcp-cli vm describe"));
        }
        let instruction = Instruction {
            epoch: body.epoch,
            generation: Generation::default(),
            power: Power::Deleted,
            shape: record.map(|record| record.request.shape).unwrap_or_default(),
            image: None,
            address: None,
            lease_bound: false,
            copied: false,
            disk_from: None,
        };
        let params = InstanceParams { vm: vm.clone() };
        let told = self.host(host)?.call::<PutInstance>(&params, &instruction).await;
        told.map_err(|error| away(error, &format!("host {host}")))?;
        let params = MoveParams { vm: vm.clone(), known: None, wait_ms: None };
        let seen = self.host(host)?.call::<GetMove>(&params, &()).await;
        let seen = seen.map_err(|error| away(error, &format!("host {host}")))?;
        if !seen.gone {
            return Ok(LetGoReply { gone: false });
        }
        self.free(&body.reservation).await?;
        crash_point("move-after-let-go");
        Ok(LetGoReply { gone: true })
    }

    async fn free(&self, reservation: &ReservationId) -> Result<(), ApiError> {
        let freed = self.books.release(reservation.clone()).await;
        freed.map_err(|reason| {
            ApiError::new(ErrorCode::Unavailable, reason.to_string())
                .with_remedy("free space on the disk of that region's data directory")
        })?;
        Ok(())
    }

    /// The door for peers.
    pub(crate) async fn put_move_here(
        &self,
        params: HostVmParams,
        order: &MoveOrder,
    ) -> Result<Acknowledged, ApiError> {
        let HostVmParams { host, vm } = params;
        let told = self.host(&host)?.call::<PutMove>(&InstanceParams { vm }, order).await;
        told.map_err(|error| away(error, &format!("host {host}")))
    }

    /// The door for peers.
    pub(crate) async fn get_move_here(
        &self,
        params: PeerMoveParams,
    ) -> Result<MoveReport, ApiError> {
        let PeerMoveParams { host, vm, known, wait_ms } = params;
        let params = MoveParams { vm, known, wait_ms };
        let seen = self.host(&host)?.call::<GetMove>(&params, &()).await;
        seen.map_err(|error| away(error, &format!("host {host}")))
    }

    /// The door for peers.
    pub(crate) async fn machine_here(
        &self,
        params: PeerMachineParams,
    ) -> Result<MachineReport, ApiError> {
        let PeerMachineParams { host, vm, cpu, memory, measure, image } = params;
        let params = MachineParams { vm, cpu, memory, measure, image };
        let seen = self.host(&host)?.call::<GetMachine>(&params, &()).await;
        seen.map_err(|error| away(error, &format!("host {host}")))
    }
}
