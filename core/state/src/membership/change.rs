//! Which membership may follow which.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_types::RegionId;

use crate::clock::ReplicaId;
use crate::membership::{MEMBERS_MAX, Membership, Phase, Settled};
use crate::policy::{Plane, Policy, PolicyError};
use crate::shard::{JurisdictionName, Placement, ShardError, Slot};

/// Why a membership cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Too many members.
    #[error("there are {count} members, more than the {max} allowed")]
    TooMany {
        /// How many.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A policy names an area of law that does not exist.
    #[error(
        "policy {prefix:?} names the jurisdiction {jurisdiction}, which is not there"
    )]
    NoJurisdiction {
        /// Whose policy.
        prefix: String,
        /// What it names.
        jurisdiction: String,
    },
    /// A policy cannot hold.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Keys cannot be placed so.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// Why a membership may not follow another, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeDenied {
    /// It is not the next of this federation.
    #[error(
        "epoch {next} does not follow epoch {now}; read the membership and change that"
    )]
    NotNext {
        /// The epoch that is.
        now: u64,
        /// The one that was offered.
        next: u64,
    },
    /// It cannot be at all.
    #[error(transparent)]
    Impossible(#[from] MembershipError),
    /// More than one vote changes.
    #[error(
        "{votes} votes change at once; change one, wait until all have settled, go on"
    )]
    TooManyVotes {
        /// How many change.
        votes: usize,
    },
    /// More than one voting region of a slot changes.
    #[error(
        "slot {slot} of {jurisdiction} changes by {regions} voting regions; change one"
    )]
    SlotTooFar {
        /// Of which area of law.
        jurisdiction: String,
        /// Which slot.
        slot: Slot,
        /// By how many regions.
        regions: usize,
    },
    /// A region votes on a slot that it has not learned.
    #[error(
        "region {region} would vote on slot {slot} of {jurisdiction} without its past; make it a learner first"
    )]
    NotLearned {
        /// Of which area of law.
        jurisdiction: String,
        /// Which slot.
        slot: Slot,
        /// Which region.
        region: RegionId,
    },
    /// A replica's id is used again without an admission of its own.
    #[error("replica {replica} comes back without a new admission; admit it again")]
    SameAdmission {
        /// Which replica.
        replica: ReplicaId,
    },
    /// Values that exist would become something else.
    #[error(
        "policy {prefix:?} would change the plane, kind or sharding of keys that may exist; use another prefix"
    )]
    OtherKind {
        /// Whose policy.
        prefix: String,
    },
    /// A voter has not settled yet.
    #[error(
        "replica {replica} has settled in epoch {}, not yet in {epoch}; wait until it has, or evict {} if that one does not come back",
        .settled.epoch,
        missing(*.replica, *.settled, *.epoch)
    )]
    NotSettled {
        /// Which replica.
        replica: ReplicaId,
        /// How far it has settled.
        settled: Settled,
        /// The epoch it must settle in.
        epoch: u64,
    },
}

/// Who keeps a replica from settling in an epoch, as far as it has said.
fn missing(replica: ReplicaId, settled: Settled, epoch: u64) -> ReplicaId {
    settled.but.filter(|(of, _)| *of == epoch).map_or(replica, |(_, one)| one)
}

impl Membership {
    /// Whether it can be at all.
    ///
    /// # Errors
    ///
    /// Names the first thing that is not right.
    pub fn check(&self) -> Result<(), MembershipError> {
        if self.members.len() > MEMBERS_MAX {
            let count = self.members.len();
            return Err(MembershipError::TooMany { count, max: MEMBERS_MAX });
        }
        self.policies.check()?;
        self.shards.check()?;
        for (prefix, policy) in self.policies.iter() {
            let known = self.shards.jurisdictions.contains_key(&policy.jurisdiction);
            if policy.plane == Plane::Replicated && !known {
                return Err(MembershipError::NoJurisdiction {
                    prefix: prefix.to_string(),
                    jurisdiction: policy.jurisdiction.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Whether `next` may follow once every voter has settled here.
    ///
    /// # Errors
    ///
    /// Says what changes too much.
    pub fn may_follow(&self, next: &Self) -> Result<(), ChangeDenied> {
        if next.epoch != self.epoch + 1 || next.cluster != self.cluster {
            return Err(ChangeDenied::NotNext { now: self.epoch, next: next.epoch });
        }
        next.check()?;
        let votes = self.voters().symmetric_difference(&next.voters()).count();
        if votes > 1 {
            return Err(ChangeDenied::TooManyVotes { votes });
        }
        self.admissions_rise(next)?;
        let places = self.places_move(next)?;
        if votes + usize::from(places) > 1 {
            return Err(ChangeDenied::TooManyVotes { votes: votes + 1 });
        }
        Ok(())
    }

    /// Whether `next` may follow now, by how far the replicas say they have settled.
    ///
    /// A replica that the change evicts need not have settled, nor the others with it: it may
    /// be gone for ever, and an epoch that it did not live to settle must not keep it in.
    ///
    /// # Errors
    ///
    /// As [`Self::may_follow`], and when a voter has not settled.
    pub fn ready_for(
        &self,
        next: &Self,
        settled: &BTreeMap<ReplicaId, Settled>,
    ) -> Result<(), ChangeDenied> {
        self.may_follow(next)?;
        let goes =
            self.members.keys().find(|replica| !next.members.contains_key(replica));
        let goes = goes.filter(|goes| self.is_dispensable(**goes));
        // Who votes now and stays, and who is to vote next.
        let needed = self.members.keys().filter(|replica| {
            let stays = next.members.contains_key(replica);
            stays && (self.is_active(**replica) || next.is_active(**replica))
        });
        for replica in needed {
            let reached = settled.get(replica).copied().unwrap_or_default();
            let apart = goes.is_some_and(|goes| reached.but == Some((self.epoch, *goes)));
            if reached.epoch < self.epoch && !apart {
                return Err(ChangeDenied::NotSettled {
                    replica: *replica,
                    settled: reached,
                    epoch: self.epoch,
                });
            }
        }
        Ok(())
    }

    /// Whether everything that a majority of the epoch before acknowledged is held by somebody
    /// else, too, even if that epoch had one more vote, which this epoch took away.
    ///
    /// Of `n` votes and that one, a majority without it and without this replica must leave
    /// one: `n >= 3`. Where nobody else votes, nobody else can have it, settled or not. There
    /// is nothing before the first epoch.
    fn is_dispensable(&self, replica: ReplicaId) -> bool {
        if self.epoch == 1 {
            return true;
        }
        let Some(member) = self.members.get(&replica) else { return false };
        let active = |region: &RegionId| {
            let members = self.members.values();
            members.filter(|m| m.phase == Phase::Active && m.region == *region).count()
        };
        match active(&member.region) {
            0 | 1 => {}
            2 => return false,
            _ => return true,
        }
        let all = self.shards.jurisdictions.values();
        let mut placements =
            all.flat_map(|area| (0..=Slot::MAX).map(|slot| area.placement(slot)));
        placements.all(|placement| {
            let others =
                placement.voters.iter().filter(|r| **r != member.region && active(r) > 0);
            !placement.voters.contains(&member.region) || others.count() != 1
        })
    }

    fn voters(&self) -> BTreeSet<(ReplicaId, &RegionId)> {
        let active = |phase: Phase| phase == Phase::Active;
        let members = self.members.iter().filter(|(_, member)| active(member.phase));
        members.map(|(replica, member)| (*replica, &member.region)).collect()
    }

    fn admissions_rise(&self, next: &Self) -> Result<(), ChangeDenied> {
        for (replica, member) in &next.members {
            let same = self.members.get(replica).map(|before| before.admission);
            let ended = self.evicted.get(replica).copied().unwrap_or(0);
            if same != Some(member.admission) && member.admission <= ended {
                return Err(ChangeDenied::SameAdmission { replica: *replica });
            }
        }
        let forgotten = self.evicted.keys().chain(self.members.keys()).find(|replica| {
            !next.members.contains_key(replica) && !next.evicted.contains_key(replica)
        });
        match forgotten {
            Some(replica) => Err(ChangeDenied::SameAdmission { replica: *replica }),
            None => Ok(()),
        }
    }

    /// Whether voting regions of slots change, each slot by at most one.
    fn places_move(&self, next: &Self) -> Result<bool, ChangeDenied> {
        let mut moves = false;
        // A prefix that comes takes keys from the one above it, one that goes gives them back.
        let prefixes = self.policies.iter().chain(next.policies.iter());
        for (prefix, _) in prefixes {
            let (Some(old), Some(new)) =
                (self.policies.of(prefix), next.policies.of(prefix))
            else {
                continue;
            };
            let alike = old.plane == new.plane
                && old.kind == new.kind
                && old.shard_by == new.shard_by;
            if !alike {
                return Err(ChangeDenied::OtherKind { prefix: prefix.to_string() });
            }
            for slot in 0..=Slot::MAX {
                moves |= slot_moves(self.place(old, slot), next.place(new, slot))
                    .map_err(|step| step.denied(&new.jurisdiction, slot))?;
            }
        }
        Ok(moves)
    }

    fn place(&self, policy: &Policy, slot: Slot) -> Option<&Placement> {
        let jurisdiction = self.shards.jurisdictions.get(&policy.jurisdiction)?;
        Some(jurisdiction.placement(slot))
    }
}

/// Why a slot may not move so.
enum Step {
    TooFar(usize),
    NotLearned(RegionId),
}

impl Step {
    fn denied(self, jurisdiction: &JurisdictionName, slot: Slot) -> ChangeDenied {
        let jurisdiction = jurisdiction.to_string();
        match self {
            Self::TooFar(regions) => {
                ChangeDenied::SlotTooFar { jurisdiction, slot, regions }
            }
            Self::NotLearned(region) => {
                ChangeDenied::NotLearned { jurisdiction, slot, region }
            }
        }
    }
}

/// Whether the voters differ, by one that was a learner before or that stops.
fn slot_moves(old: Option<&Placement>, new: Option<&Placement>) -> Result<bool, Step> {
    let (Some(old), Some(new)) = (old, new) else {
        return Ok(false);
    };
    let changes = old.voters.symmetric_difference(&new.voters).count();
    if changes > 1 {
        return Err(Step::TooFar(changes));
    }
    let mut unlearned = new.voters.iter().filter(|region| !old.holds(region));
    match unlearned.next() {
        Some(region) => Err(Step::NotLearned(region.clone())),
        None => Ok(changes == 1),
    }
}
