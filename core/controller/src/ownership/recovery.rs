//! The record of a VM whose region was lost and that another region starts: a new owner at a
//! later epoch, with the proof that the old one cannot run it any more.
//!
//! The transaction that writes it compares two keys: the VM's record unchanged, and the lost
//! region's lease still fenced by this very failover. So a region that comes back and takes its
//! lease stops at once whatever of it was not taken over yet, and two failovers cannot both
//! move one VM.

use dwcp_types::{Generation, HostId, Power, RegionId, Timestamp, ZoneId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Owner, VmRecord};
use crate::lease::LeaseRecord;

/// Why the lost region surely runs nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "proof", rename_all = "snake_case")]
pub enum Proof {
    /// Its lease stood still for longer than its life and the drift bound, and was then fenced.
    LeaseLapsed {
        /// The term that lapsed.
        term: u64,
        /// How long it was watched standing still, in milliseconds.
        watched_ms: u64,
    },
    /// A person says so.
    Operator {
        /// Who, by certificate.
        name: String,
        /// In whose words.
        reason: String,
    },
}

/// What a VM loses by being started elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "lost", rename_all = "snake_case")]
pub enum Loss {
    /// Its memory, and all that it wrote to its disk since this moment, when that was made
    /// from its image (F2).
    DiskAndMemory {
        /// When its disk was new.
        since: Timestamp,
    },
    /// Its memory only: its disk starts from a replica that has every write that was
    /// acknowledged (D2).
    Memory,
    /// Its memory, and what it wrote since its replica was whole last.
    Latest {
        /// When that was, by the clock of the lost region.
        since: Timestamp,
    },
    /// Its memory, and what it wrote since the last round of a replica that follows later: what
    /// its user chose.
    Point {
        /// What its disk is as of, by the clock of the lost region.
        as_of: Timestamp,
        /// How old that was to become at most, in seconds.
        max_age_s: u64,
    },
}

/// What a VM loses when it is started elsewhere as its record says; nothing when there is
/// nothing to start it from.
#[must_use]
pub fn loss_of(record: &VmRecord) -> Option<Loss> {
    if record.request.keeps_replica() {
        let (_, loss) = record.replica.as_ref()?.best()?;
        return Some(match (loss, record.request.replica_age_max()) {
            (Loss::Latest { since }, Some(age)) => {
                Loss::Point { as_of: since, max_age_s: age.as_secs() }
            }
            (loss, _) => loss,
        });
    }
    Some(Loss::DiskAndMemory { since: record.created_at })
}

/// How a VM came from a lost region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recovered {
    /// By which failover.
    pub failover: String,
    /// From which region.
    pub from: RegionId,
    /// Why that one cannot run it any more.
    pub proof: Proof,
    /// What was lost.
    pub loss: Loss,
    /// When, by the clock of the new owner.
    pub at: Timestamp,
}

/// A place for a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The region.
    pub region: RegionId,
    /// The zone.
    pub zone: ZoneId,
    /// The host.
    pub host: HostId,
}

/// The record with its new owner, whose disk is the replica when there is one. Its reservation
/// keeps its name in the new region's books: it tells incarnations of the VM apart, and this is
/// the same one.
#[must_use]
pub fn recover(record: &VmRecord, to: &Place, recovered: Recovered) -> VmRecord {
    VmRecord {
        owner: Owner {
            region: to.region.clone(),
            zone: to.zone.clone(),
            host: to.host.clone(),
            epoch: record.owner.epoch.past_moves(),
        },
        generation: Generation::FIRST,
        updated_at: recovered.at.max(record.updated_at),
        recovered: Some(Box::new(recovered)),
        disk_from: record.replica.as_ref().and_then(|it| it.best()).map(|(copy, _)| copy),
        replica: None,
        home: record.home_from(&to.region),
        ..record.clone()
    }
}

/// What is true of an attempt to recover a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It was done, by this attempt.
    Done,
    /// Write this, comparing both records as they were read.
    Open(Box<VmRecord>),
    /// It never will be: the VM was deleted, moved on, would lose something else than was
    /// planned, or its region is back. Release the reservation.
    Superseded,
}

/// Says what came of recovering `wanted`, from what is stored under the VM's key and under the
/// key of the lost region's lease, both read before the transaction that compares them. As
/// [`super::judge_creation`] it may be asked after any crash and any number of times.
#[must_use]
pub fn judge_recovery(
    wanted: &VmRecord,
    vm: Option<&VmRecord>,
    lease: Option<&LeaseRecord>,
) -> Recovery {
    let (Some(recovered), Some(vm)) = (&wanted.recovered, vm) else {
        return Recovery::Superseded;
    };
    if vm.reservation != wanted.reservation {
        return Recovery::Superseded;
    }
    let by = |vm: &VmRecord| vm.recovered.as_ref().map(|it| it.failover.clone());
    if vm.owner == wanted.owner && by(vm) == by(wanted) {
        return Recovery::Done;
    }
    let as_it_was = vm.owner.region == recovered.from
        && vm.owner.epoch.past_moves() == wanted.owner.epoch
        && vm.power != Power::Deleted
        && vm.preempted_by.is_none()
        && loss_of(vm) == Some(recovered.loss);
    let fenced = lease.is_some_and(|lease| {
        lease.region == recovered.from && lease.is_fenced_by(&recovered.failover)
    });
    if !(as_it_was && fenced) {
        return Recovery::Superseded;
    }
    let to = Place {
        region: wanted.owner.region.clone(),
        zone: wanted.owner.zone.clone(),
        host: wanted.owner.host.clone(),
    };
    Recovery::Open(Box::new(recover(vm, &to, recovered.as_ref().clone())))
}
