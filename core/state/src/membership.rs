//! Who the replicas are, under which rules, and how that may change.
//!
//! A membership is a value of the strong plane: one writer, an epoch that rises by one. Every
//! replica follows the newest that it has been shown.
//!
//! Majorities of two epochs that follow each other must meet, or an acknowledged write is
//! lost. Two rules see to it: an epoch changes at most one vote ([`Membership::may_follow`]),
//! and it follows only when every voter has *settled* in the one before, which is to say has
//! reconciled with every other voter since ([`Membership::ready_for`]). Rejected: joint
//! majorities of two epochs, which allow larger steps for twice the states to get wrong.
//!
//! An *admission* is one life of a replica as a member. Its incarnations have a range of their
//! own, so whatever an evicted replica wrote while nobody listened is told apart from what it
//! writes after it is admitted again, even when its disk was lost (F40, F49).

mod change;

pub use change::{ChangeDenied, MembershipError};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dwcp_types::RegionId;
use serde::{Deserialize, Serialize};

use crate::clock::ReplicaId;
use crate::frontier::Position;
use crate::policy::Policies;
use crate::shard::{JurisdictionName, ShardMap, Wanted};

/// Most replicas: sets of them are kept in one machine word.
pub const MEMBERS_MAX: usize = 64;
/// Restarts of one admission; the next needs an eviction and a new admission.
pub const RESTARTS_MAX: u32 = (1 << 16) - 1;

/// Names a federation's state, so that replicas of two never mix. A restore from a backup
/// makes a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(u64);

impl ClusterId {
    /// From its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How far a member is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It receives and does not vote or serve; it may be activated when it has settled.
    Joining,
    /// It votes and serves.
    Active,
}

/// How far a replica has exchanged everything with the other voters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The newest epoch in which it has with every one of them.
    pub epoch: u64,
    /// A newer epoch in which it has with all but one, and with whom it has not.
    #[serde(default)]
    pub but: Option<(u64, ReplicaId)>,
}

impl Settled {
    /// Settled with everybody.
    #[must_use]
    pub const fn in_epoch(epoch: u64) -> Self {
        Self { epoch, but: None }
    }
}

/// One replica's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where it is.
    pub region: RegionId,
    /// How often it has been admitted, from 1.
    pub admission: u16,
    /// How far it is in.
    pub phase: Phase,
}

/// The replicas, the policies and the places of keys, as of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Of which federation.
    pub cluster: ClusterId,
    /// Counts memberships, from 1.
    pub epoch: u64,
    /// The replicas.
    pub members: BTreeMap<ReplicaId, Member>,
    /// Replicas that were members, with the admission that ended.
    pub evicted: BTreeMap<ReplicaId, u16>,
    /// What holds for keys.
    pub policies: Policies,
    /// Where keys are.
    pub shards: ShardMap,
}

impl Membership {
    /// Whether a replica votes.
    #[must_use]
    pub fn is_active(&self, replica: ReplicaId) -> bool {
        self.members.get(&replica).is_some_and(|member| member.phase == Phase::Active)
    }

    /// Where the log of an admission begins: after every log of the admissions before.
    #[must_use]
    pub const fn base(admission: u16) -> Position {
        Position::new((admission as u32) << 16, 0)
    }

    /// The epoch that evicts a replica. Its id and admission are remembered for ever.
    #[must_use]
    pub fn evicting(&self, replica: ReplicaId) -> Self {
        let mut next = self.clone();
        next.epoch += 1;
        if let Some(member) = next.members.remove(&replica) {
            next.evicted.insert(replica, member.admission);
        }
        next
    }

    /// The epoch in which a replica joins, for the first time or again.
    #[must_use]
    pub fn admitting(&self, replica: ReplicaId, region: RegionId) -> Self {
        let mut next = self.clone();
        next.epoch += 1;
        let before = next.evicted.remove(&replica).unwrap_or(0);
        let member =
            Member { region, admission: before.saturating_add(1), phase: Phase::Joining };
        next.members.insert(replica, member);
        next
    }

    /// The regions that have a replica that votes.
    #[must_use]
    pub fn voting(&self) -> BTreeSet<RegionId> {
        let active = self.members.values().filter(|it| it.phase == Phase::Active);
        active.map(|member| member.region.clone()).collect()
    }

    /// The next epoch, with every slot one step nearer to where it is to be. Nothing when all
    /// are there. An area for which that could not be is left as it is.
    #[must_use]
    pub fn rebalanced(
        &self,
        wanted: &BTreeMap<JurisdictionName, Wanted>,
    ) -> Option<Self> {
        let voting = self.voting();
        let steps = wanted.iter().filter_map(|(name, wanted)| {
            let area = self.shards.jurisdictions.get(name)?;
            let stepped = area.stepped(wanted, &voting)?;
            stepped.check(name).is_ok().then(|| (name.clone(), stepped))
        });
        let steps: Vec<_> = steps.collect();
        if steps.is_empty() {
            return None;
        }
        let mut next = self.clone();
        next.shards.jurisdictions.extend(steps);
        next.epoch += 1;
        Some(next)
    }

    /// The epoch in which a joining replica begins to vote.
    #[must_use]
    pub fn activating(&self, replica: ReplicaId) -> Self {
        let mut next = self.clone();
        next.epoch += 1;
        if let Some(member) = next.members.get_mut(&replica) {
            member.phase = Phase::Active;
        }
        next
    }
}
