//! What is asked of the ledger, and the row that it keeps for it.
//!
//! ```text
//!             reserve            begin_commit               confirm
//!   (nothing) -------> Held ------------------> Committing ---------> Confirmed
//!                       | expire, cancel,          | release             | release
//!                       v superseded               v                     v
//!                   (nothing)                  (nothing)             (nothing)
//! ```
//!
//! Only `Held` ends by time. From `Committing` on the strong engine may know the VM, and only
//! what the engine says ends the reservation. One that awaits room (`room`) cannot be committed
//! before all of it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dwcp_types::{
    Affinity, Capacity, Generation, Gib, HostId, PlacementRequest, ReservationId,
    TenantId, Tier, Timestamp, VmId, VmShape, ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ownership::VmRecord;

/// How long a reservation is held for its commit when nothing else is said (PLACEMENT 4.2).
pub const HOLD_FOR: Duration = Duration::from_secs(30);

/// Longest hold that is granted: ten times the usual, so that a lost coordinator blocks
/// capacity for minutes at most.
pub const HOLD_FOR_MAX: Duration = Duration::from_secs(300);

/// Most hosts or zones that one request may exclude by name: ten times the hosts of a region
/// in the placement benchmark. Rules exclude without naming.
pub const EXCLUSIONS_MAX: usize = 1_000;

/// How long room is held that others make first: three times a host's patience with a guest that
/// shuts down (30 s), for the guest, for a client that was told to ask again, and for its second
/// attempt.
pub const ROOM_HOLD_FOR: Duration = Duration::from_secs(90);

/// Most affinity rules of one VM.
pub const RULES_MAX: usize = 32;

/// The place that the chooser has in mind, on its late view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Proposal {
    /// The zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneId>,
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
}

/// Where the VM must and must not go within the region. A pin and a required `together` rule
/// with a member that the chooser knows both end up here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Only this zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneId>,
    /// Only this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// None of these hosts.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub apart_hosts: BTreeSet<HostId>,
    /// None of these zones.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub apart_zones: BTreeSet<ZoneId>,
}

/// A request to hold capacity for one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// Names this attempt; the same id with the same content is answered the same.
    pub id: ReservationId,
    /// The VM.
    pub vm: VmId,
    /// Whose it is.
    pub tenant: TenantId,
    /// How big.
    pub shape: VmShape,
    /// Tried first.
    #[serde(default)]
    pub proposal: Proposal,
    /// Never left.
    #[serde(default)]
    pub bounds: Bounds,
    /// The VM's affinity rules. The required ones are checked again here, as far as one
    /// region can, against every live reservation, because two members of a group that are placed
    /// at the same time do not see each other in the chooser's view.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Affinity>,
    /// How long to hold it, up to [`HOLD_FOR_MAX`].
    pub hold_for: Duration,
    /// How urgent, 1 to 10.
    pub priority: u8,
    /// How well guarded.
    pub tier: Tier,
    /// The VMs on the proposed host that are to make room for it where it does not fit without
    /// (F32): the plan of a pre-emption.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub victims: BTreeSet<VmId>,
    /// The reservation that held the storage of the VM's replica here and ends with this one,
    /// which takes its place on the same host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<ReservationId>,
}

impl Reserve {
    /// The reservation that a request asks for, without a place in mind.
    #[must_use]
    pub fn of(id: ReservationId, request: &PlacementRequest) -> Self {
        Self {
            id,
            vm: request.id.clone(),
            tenant: request.tenant.clone(),
            shape: request.shape,
            proposal: Proposal::default(),
            bounds: Bounds::default(),
            rules: request.constraints.affinity.clone(),
            hold_for: HOLD_FOR,
            priority: request.priority,
            tier: request.tier,
            victims: BTreeSet::new(),
            replaces: None,
        }
    }

    /// What it takes of its host.
    #[must_use]
    pub fn need(&self) -> Capacity {
        Capacity::of(&self.shape)
    }
}

/// How far a reservation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// Held until a moment, by the clock of the region.
    Held {
        /// Not valid from this moment on.
        expires_at: Timestamp,
    },
    /// The engine is being told. After a crash this is rolled forward: the same transaction
    /// is sent again.
    Committing {
        /// What the engine is told. Its epoch is decided when the transaction is made.
        record: Box<VmRecord>,
    },
    /// The engine has the VM under this reservation.
    Confirmed,
}

/// A row of the ledger: what was asked, where it was put, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// What was asked.
    pub ask: Reserve,
    /// The zone of the host.
    pub zone: ZoneId,
    /// The host whose capacity it takes.
    pub host: HostId,
    /// When it was made, by the clock of the region.
    pub made_at: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// Only its disk's storage is held: its VM was pre-empted (F32), or runs elsewhere and has
    /// its replica here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parked: bool,
    /// The VMs that still have to make room for it, and what each will free (F32).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub awaits: BTreeMap<VmId, Capacity>,
}

impl Reservation {
    /// What it holds of its host: all that it needs, but for what is not there yet.
    #[must_use]
    pub fn holds(&self) -> Capacity {
        let need = self.ask.need();
        if self.parked {
            return Capacity { storage: need.storage, ..Capacity::default() };
        }
        let awaited = self.awaits.values();
        let awaited = awaited.fold(Capacity::default(), |sum, part| sum.plus(part));
        need.saturating_sub(&awaited)
    }

    /// What it frees when it is parked: all but its disk's storage.
    #[must_use]
    pub fn frees(&self) -> Capacity {
        Capacity { storage: Gib::ZERO, ..self.ask.need() }
    }

    /// Whether its VM has an owner elsewhere whom it is to follow: such a commit is brought to
    /// its end by the move and by nothing else. A VM that is made, and one that is recovered from
    /// a lost region, begins with the first generation; one that moves goes on counting.
    #[must_use]
    pub fn is_move(&self) -> bool {
        match &self.stage {
            Stage::Committing { record } => record.generation > Generation::FIRST,
            Stage::Held { .. } | Stage::Confirmed => false,
        }
    }

    /// When it ends by itself; never once it is being committed.
    #[must_use]
    pub const fn expires_at(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Held { expires_at } => Some(expires_at),
            Stage::Committing { .. } | Stage::Confirmed => None,
        }
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn is_lapsed(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }
}
