//! The record that says who owns a VM and what is wanted of it, and the pure decisions on it.
//!
//! A planner in the sense of this project: values in, values out. The record lives in the
//! strong engine and nowhere else; what an agent reports is observation and never changes it.
//! `(epoch, generation)` only rises: the epoch with every owner, also from one incarnation of
//! a name to the next, the generation with every change of what is wanted (F4). An agent
//! refuses anything lower, so a message that was held up cannot undo a later wish.
//!
//! Rejected: starting again at epoch 1 when the name of a deleted VM is used again. A late
//! `running` of the first incarnation would then look newer than the first wish of the
//! second, and start a guest that nobody owns. [`epoch_floor_key`] keeps the last epoch.

mod creation;
mod phase;
mod recovery;
mod replica;
mod token;

pub use creation::{Creation, EpochFloor, TokenRecord, judge_creation};
pub use phase::{OBSERVATION_FRESH_FOR, Observation, Seen, phase};
pub use recovery::{
    Loss, Place, Proof, Recovered, Recovery, judge_recovery, loss_of, recover,
};
pub use replica::{Replica, ReplicaState, Whole, begin_replica, part, seal, skip, trust};
pub use token::{ClientToken, TokenError};

use dwcp_types::{
    Bps, CopyId, Epoch, Generation, HostId, MicroUsd, Micros, PlacedVm, PlacementRequest,
    Power, RegionId, ReservationId, TenantId, Timestamp, VmId, VmShape, ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where every VM record lies in the strong engine; list it to have them all.
pub const VMS_PREFIX: &str = "/vms/";

/// Who owns a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The region that answers for it.
    pub region: RegionId,
    /// The zone that its host stands in.
    pub zone: ZoneId,
    /// The host that runs it.
    pub host: HostId,
    /// Under which epoch; rises with every other owner.
    pub epoch: Epoch,
}

/// What the decision looked like that brought a VM to its place: enough to list, the full
/// explanation is made anew on demand.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct DecisionSummary {
    /// The region's score.
    pub score: Bps,
    /// What the VM costs an hour there, without egress.
    pub hourly_cost: MicroUsd,
    /// The round trip to its users that was expected; absent when none was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Micros>,
    /// The generation of the fleet view that it was taken on.
    pub view_generation: u64,
}

/// A VM as the strong engine holds it: the request, the owner, and what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmRecord {
    /// What its user asked for.
    pub request: PlacementRequest,
    /// Who owns it.
    pub owner: Owner,
    /// What is wanted of it.
    pub power: Power,
    /// Counts what was wanted within this epoch.
    pub generation: Generation,
    /// The more urgent VM that it was stopped for, until it has its capacity back (F32).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempted_by: Option<VmId>,
    /// The reservation that holds its capacity; also tells incarnations of one name apart.
    pub reservation: ReservationId,
    /// The client's token that created it.
    pub token: ClientToken,
    /// The image that its disk is made from.
    pub image: String,
    /// Why it is there.
    pub decision: DecisionSummary,
    /// How it came to its owner when that was not by being placed: another region was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Box<Recovered>>,
    /// The region that it goes back to (F18): the first that it was driven out of, because that was
    /// lost or emptied. Whoever moves it for another reason gives it no other home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<RegionId>,
    /// The copy of its disk in another region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Box<Replica>>,
    /// The copy that its disk was when it was started from a replica; nothing when its disk was
    /// made from its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_from: Option<CopyId>,
    /// When it was created, by the clock of its region.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl VmRecord {
    /// Whether it holds only its disk: it was pre-empted and is to stay stopped.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.preempted_by.is_some() && self.power == Power::Stopped
    }

    /// The VM as decisions see it: one that gives way has given all but its disk, or is giving
    /// it, and cannot give more.
    #[must_use]
    pub fn placed(&self) -> PlacedVm {
        let request = &self.request;
        let shape = if self.preempted_by.is_some() {
            VmShape { storage: request.shape.storage, ..VmShape::default() }
        } else {
            request.shape
        };
        let groups = request.constraints.affinity.iter().map(|rule| rule.group.clone());
        PlacedVm {
            id: request.id.clone(),
            tenant: request.tenant.clone(),
            region: self.owner.region.clone(),
            zone: self.owner.zone.clone(),
            host: self.owner.host.clone(),
            epoch: self.owner.epoch,
            shape,
            priority: request.priority,
            tier: request.tier,
            groups: groups.collect(),
        }
    }

    /// The region that it goes back to once it was driven out of where it is.
    #[must_use]
    pub fn home_from(&self, to: &RegionId) -> Option<RegionId> {
        let home = self.home.as_ref().unwrap_or(&self.owner.region);
        (home != to).then(|| home.clone())
    }

    /// What orders two records of one VM.
    #[must_use]
    pub const fn version(&self) -> (Epoch, Generation) {
        (self.owner.epoch, self.generation)
    }
}

/// What an agent is told: a level, not an edge. Telling it twice is telling it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instruction {
    /// The VM.
    pub vm: VmId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The host that this is for; an agent of another host refuses it.
    pub host: HostId,
    /// The epoch; an agent refuses a lower one than it has seen for this VM.
    pub epoch: Epoch,
    /// The generation; an agent refuses a lower one within one epoch.
    pub generation: Generation,
    /// What is wanted.
    pub power: Power,
    /// How big.
    pub shape: VmShape,
    /// The image that its disk is made from.
    pub image: String,
    /// It runs only while its region holds its lease.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lease_bound: bool,
    /// It runs only as its copy in another region allows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copied: bool,
    /// Its disk is this copy, which the host keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_from: Option<CopyId>,
}

/// Why what is wanted of a VM cannot be changed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PowerDenied {
    /// Deleted is final.
    #[error(
        "VM {vm} is being deleted and cannot be {wanted:?} again; place a new one once it is gone"
    )]
    Deleted {
        /// The VM.
        vm: VmId,
        /// What was wanted.
        wanted: Power,
    },
    /// Only what runs has a memory that a pause could keep.
    #[error("VM {vm} is stopped and has no memory to keep; start it before pausing it")]
    PauseOfStopped {
        /// The VM.
        vm: VmId,
    },
}

/// The record with another wish. Wanting what is wanted already gives the same record, so a
/// retry changes nothing; every real change raises the generation by one.
///
/// # Errors
///
/// When the VM is being deleted, or a stopped one is to be paused: also one that is wanted
/// again and waits for the capacity that it gave to a more urgent one.
pub fn set_power(
    record: &VmRecord,
    wanted: Power,
    now: Timestamp,
) -> Result<VmRecord, PowerDenied> {
    if record.power == wanted {
        return Ok(record.clone());
    }
    let vm = record.request.id.clone();
    match (record.power, wanted) {
        (Power::Deleted, _) => Err(PowerDenied::Deleted { vm, wanted }),
        (Power::Stopped, Power::Paused) => Err(PowerDenied::PauseOfStopped { vm }),
        (Power::Running, Power::Paused) if record.preempted_by.is_some() => {
            Err(PowerDenied::PauseOfStopped { vm })
        }
        _ => Ok(VmRecord {
            power: wanted,
            generation: record.generation.next(),
            updated_at: now.max(record.updated_at),
            ..record.clone()
        }),
    }
}

/// The record of a VM that makes room for a more urgent one: stopped, and marked so that its
/// capacity is given back once its guest has stopped. Doing it twice is doing it once.
///
/// # Errors
///
/// When the VM is being deleted: it makes room by itself.
pub fn preempt(
    record: &VmRecord,
    urgent: &VmId,
    now: Timestamp,
) -> Result<VmRecord, PowerDenied> {
    if record.preempted_by.is_some() && record.power == Power::Stopped {
        return Ok(record.clone());
    }
    let mut stopped = set_power(record, Power::Stopped, now)?;
    if stopped.generation == record.generation {
        // It was stopped already: still another record, and no two have one version.
        stopped.generation = record.generation.next();
    }
    Ok(VmRecord { preempted_by: Some(urgent.clone()), ..stopped })
}

/// The record of a VM that was wanted again and has its capacity back. Its generation rises,
/// because its host was told to keep it stopped under the one before. One that is to stay
/// stopped has nothing back.
#[must_use]
pub fn reinstate(record: &VmRecord) -> VmRecord {
    if record.preempted_by.is_none() || record.is_parked() {
        return record.clone();
    }
    let generation = record.generation.next();
    VmRecord { preempted_by: None, generation, ..record.clone() }
}

/// What the agent of the owning host is to be told. One that was pre-empted stays stopped until
/// it is reinstated, whatever is wanted of it: its capacity is another's.
#[must_use]
pub fn instruction_for(record: &VmRecord) -> Instruction {
    let gave_way = record.preempted_by.is_some() && record.power != Power::Deleted;
    let power = if gave_way { Power::Stopped } else { record.power };
    Instruction {
        vm: record.request.id.clone(),
        tenant: record.request.tenant.clone(),
        host: record.owner.host.clone(),
        epoch: record.owner.epoch,
        generation: record.generation,
        power,
        shape: record.request.shape,
        image: record.image.clone(),
        lease_bound: record.request.is_failover_protected(),
        copied: record.request.keeps_replica(),
        disk_from: record.disk_from,
    }
}

/// The newer of two records of one VM; the first when neither is.
#[must_use]
pub fn newer<'a>(first: &'a VmRecord, second: &'a VmRecord) -> &'a VmRecord {
    if second.version() > first.version() { second } else { first }
}

/// Where the record of a VM lies in the strong engine.
#[must_use]
pub fn vm_key(vm: &VmId) -> String {
    format!("{VMS_PREFIX}{vm}")
}

/// Where the use of a client's token is recorded; unique within a tenant.
#[must_use]
pub fn token_key(tenant: &TenantId, token: &ClientToken) -> String {
    format!("/tokens/{tenant}/{token}")
}

/// Where a region's own record lies.
#[must_use]
pub fn region_key(region: &RegionId) -> String {
    format!("/regions/{region}")
}

/// Where the last epoch of a deleted VM is kept, so that its name starts above it when it is
/// used again.
#[must_use]
pub fn epoch_floor_key(vm: &VmId) -> String {
    format!("/epochs/{vm}")
}

#[cfg(test)]
pub(crate) mod tests;
