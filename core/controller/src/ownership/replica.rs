//! The copy of a VM's disk in another region, as the VM's record knows it (D2, F2, F31).
//!
//! ```text
//!   begin ─▶ Copying ──(both disks equal)── trust ─▶ InSync: no write is acknowledged that
//!              ▲                                        │    both disks do not have
//!              └──────────────── part ◀─────────────────┘
//! ```
//!
//! The record is the only word on whether a replica is whole. It says so after the disks are
//! equal, and takes it back BEFORE a single write is acknowledged without the copy: so whoever
//! starts the VM from a replica that is in sync loses no acknowledged write, however the owner
//! ended. A copy that is begun anew is written beside the last whole one, which is kept until
//! the new one is in sync.
//!
//! A replica that follows later is never in sync. It is copied in rounds, each under a name of
//! its own, and a round that ended well is the last whole copy from then on:
//!
//! ```text
//!   begin ─▶ round n ──(all of it is there)── seal ─▶ round n+1, on top of n, which is whole
//!              ▲                                         │
//!              └───────────────── skip ◀─────────────────┘ it failed: n+2, on top of the whole
//! ```

use dwcp_types::{CopyId, ReservationId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Loss, Place, VmRecord};

/// A copy of a VM's disk in another region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replica {
    /// Where it is kept.
    pub at: Place,
    /// What holds its storage in the books there.
    pub reservation: ReservationId,
    /// The copy that is written.
    pub copy: CopyId,
    /// How far that one is.
    #[serde(flatten)]
    pub state: ReplicaState,
    /// The last whole copy, while another is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Whole>,
    /// The copy that the one that is written adds to, when it is a round that brings only what
    /// changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<CopyId>,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ReplicaState {
    /// It is being made; nothing rests on it.
    Copying,
    /// It has every write that was acknowledged.
    InSync {
        /// Since when, by the clock of the owner.
        since: Timestamp,
    },
}

/// A copy that was whole once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// Which.
    pub copy: CopyId,
    /// It has what was acknowledged until then, by the clock of the owner.
    pub until: Timestamp,
}

impl Replica {
    /// Whether it has every write that was acknowledged.
    #[must_use]
    pub const fn is_in_sync(&self) -> bool {
        matches!(self.state, ReplicaState::InSync { .. })
    }

    /// The copy that the VM can be started from, and what would be lost; nothing while none was
    /// ever whole.
    #[must_use]
    pub fn best(&self) -> Option<(CopyId, Loss)> {
        if self.is_in_sync() {
            return Some((self.copy, Loss::Memory));
        }
        let behind = |it: Whole| (it.copy, Loss::Latest { since: it.until });
        self.whole.map(behind)
    }
}

/// The record with its replica as it is now.
fn with_replica(record: &VmRecord, replica: Replica, now: Timestamp) -> VmRecord {
    VmRecord {
        replica: Some(Box::new(replica)),
        updated_at: now.max(record.updated_at),
        ..record.clone()
    }
}

/// The name of the copy that is begun next: above every earlier one, under the owner's epoch.
fn next_copy(record: &VmRecord) -> CopyId {
    let first = CopyId::first_of(record.owner.epoch);
    record.replica.as_ref().map_or(first, |old| old.copy.next().max(first))
}

/// The record with a replica that is begun, here for the first time or at another place. The
/// generation stands: no instruction changes.
#[must_use]
pub fn begin_replica(
    record: &VmRecord,
    at: Place,
    reservation: ReservationId,
    now: Timestamp,
) -> VmRecord {
    let (copy, state) = (next_copy(record), ReplicaState::Copying);
    let replica = Replica { at, reservation, copy, state, whole: None, base: None };
    with_replica(record, replica, now)
}

/// The record whose copy has every write; nothing when it is not this one that is written.
#[must_use]
pub fn trust(record: &VmRecord, copy: CopyId, now: Timestamp) -> Option<VmRecord> {
    let replica = record.replica.as_ref().filter(|it| it.copy == copy)?;
    if replica.is_in_sync() {
        return Some(record.clone());
    }
    let state = ReplicaState::InSync { since: now };
    let replica = Replica { state, whole: None, ..replica.as_ref().clone() };
    Some(with_replica(record, replica, now))
}

/// The record whose copy is not relied on any more: another is begun, under the owner's epoch,
/// and the last whole one is kept. Nothing when it has no replica.
#[must_use]
pub fn part(record: &VmRecord, now: Timestamp) -> Option<VmRecord> {
    let replica = record.replica.as_deref()?;
    let whole = if replica.is_in_sync() {
        Some(Whole { copy: replica.copy, until: now })
    } else {
        replica.whole
    };
    let (copy, state) = (next_copy(record), ReplicaState::Copying);
    let replica = Replica { copy, state, whole, base: None, ..replica.clone() };
    Some(with_replica(record, replica, now))
}

/// The record whose round is all there, as the disk was at `as_of` by the clock of its host: it
/// is the last whole copy, and the next round adds to it. Nothing when it is not this one that
/// is written, or another owner began it.
#[must_use]
pub fn seal(
    record: &VmRecord,
    copy: CopyId,
    as_of: Timestamp,
    now: Timestamp,
) -> Option<VmRecord> {
    let replica = record.replica.as_deref().filter(|it| it.copy == copy)?;
    if copy.epoch != record.owner.epoch {
        return None;
    }
    // A host whose clock is ahead does not make a point younger than it can be.
    let whole = Some(Whole { copy, until: as_of.min(now) });
    let (base, state) = (Some(copy), ReplicaState::Copying);
    let replica =
        Replica { copy: next_copy(record), state, whole, base, ..replica.clone() };
    Some(with_replica(record, replica, now))
}

/// The record whose round is given up: the next one is begun, and adds to the last whole copy
/// where `adds` says that the guest's host still knows what changed since. Nothing when it is
/// not this one that is written.
#[must_use]
pub fn skip(
    record: &VmRecord,
    copy: CopyId,
    adds: bool,
    now: Timestamp,
) -> Option<VmRecord> {
    let replica = record.replica.as_deref().filter(|it| it.copy == copy)?;
    let own = |it: &CopyId| adds && it.epoch == record.owner.epoch;
    let base = replica.whole.map(|whole| whole.copy).filter(own);
    let (copy, state) = (next_copy(record), ReplicaState::Copying);
    let replica = Replica { copy, state, base, ..replica.clone() };
    Some(with_replica(record, replica, now))
}

#[cfg(test)]
mod tests {
    use dwcp_types::{Epoch, HostId, RegionId, ZoneId};

    use super::*;
    use crate::ownership::tests::record;

    const NOW: Timestamp = Timestamp::from_millis(5_000);
    const LATER: Timestamp = Timestamp::from_millis(6_000);

    fn begun() -> VmRecord {
        let at = Place {
            region: RegionId::new("eu-north-1").unwrap(),
            zone: ZoneId::new("a").unwrap(),
            host: HostId::new("h").unwrap(),
        };
        begin_replica(&record("vm", "r-1"), at, ReservationId::new("r-2").unwrap(), NOW)
    }

    fn replica(record: &VmRecord) -> &Replica {
        record.replica.as_deref().unwrap()
    }

    #[test]
    fn only_a_copy_that_was_whole_is_started_from() {
        let begun = begun();
        let first = replica(&begun).copy;
        assert_eq!(replica(&begun).best(), None);
        let trusted = trust(&begun, first, NOW).unwrap();
        assert_eq!(replica(&trusted).best(), Some((first, Loss::Memory)));
        let parted = part(&trusted, LATER).unwrap();
        let behind = Loss::Latest { since: LATER };
        assert_eq!(replica(&parted).best(), Some((first, behind)));
        assert_eq!(replica(&parted).copy, first.next());
        // A second copy that fails keeps what was whole, and since when.
        let again = part(&parted, Timestamp::from_millis(9_000)).unwrap();
        assert_eq!(replica(&again).best(), Some((first, behind)));
        let kept = [replica(&again).copy, replica(&again).whole.unwrap().copy];
        assert!(kept.contains(&first) && kept.contains(&first.next().next()));
        assert!(!kept.contains(&first.next()));
        let whole = trust(&again, replica(&again).copy, LATER).unwrap();
        assert_eq!(replica(&whole).whole, None);
    }

    #[test]
    fn a_copy_that_is_not_written_any_more_is_never_trusted() {
        let begun = begun();
        let old = replica(&begun).copy;
        let parted = part(&begun, NOW).unwrap();
        assert_eq!(trust(&parted, old, LATER), None);
        assert_eq!(trust(&record("vm", "r-1"), old, LATER), None);
    }

    #[test]
    fn another_owner_begins_a_copy_of_its_own() {
        let begun = begun();
        let trusted = trust(&begun, replica(&begun).copy, NOW).unwrap();
        let mut moved = trusted.clone();
        moved.owner.epoch = trusted.owner.epoch.next();
        let parted = part(&moved, LATER).unwrap();
        assert_eq!(replica(&parted).copy, CopyId::first_of(Epoch::new(2)));
        assert_eq!(replica(&parted).whole.unwrap().copy, replica(&trusted).copy);
    }

    #[test]
    fn no_instruction_changes_with_it_and_another_place_has_another_name() {
        let begun = begun();
        let trusted = trust(&begun, replica(&begun).copy, NOW).unwrap();
        for it in [&begun, &trusted, &part(&trusted, LATER).unwrap()] {
            assert_eq!(it.version(), record("vm", "r-1").version());
        }
        let at = replica(&begun).at.clone();
        let elsewhere =
            begin_replica(&begun, at, ReservationId::new("r-3").unwrap(), LATER);
        assert_eq!(replica(&elsewhere).copy, replica(&begun).copy.next());
    }

    #[test]
    fn a_round_that_is_all_there_is_what_the_next_one_adds_to() {
        let begun = begun();
        let first = replica(&begun).copy;
        let sealed = seal(&begun, first, NOW, LATER).unwrap();
        let whole = Whole { copy: first, until: NOW };
        assert_eq!(replica(&sealed).whole, Some(whole));
        assert_eq!(replica(&sealed).base, Some(first));
        assert_eq!(replica(&sealed).copy, first.next());
        assert_eq!(seal(&sealed, first, NOW, LATER), None, "it is over");
        // A clock that is ahead does not make it younger.
        let ahead = seal(&begun, first, Timestamp::from_millis(9_000), LATER).unwrap();
        assert_eq!(replica(&ahead).whole.unwrap().until, LATER);
        // The round after it fails, while its host knows what changed, and when it does not.
        let skipped = skip(&sealed, first.next(), true, LATER).unwrap();
        assert_eq!(replica(&skipped).whole, Some(whole));
        assert_eq!(replica(&skipped).base, Some(first));
        let anew = skip(&skipped, replica(&skipped).copy, false, LATER).unwrap();
        assert_eq!((replica(&anew).whole, replica(&anew).base), (Some(whole), None));
        assert_eq!(replica(&anew).copy, first.next().next().next());
    }

    #[test]
    fn another_owner_seals_no_round_that_it_did_not_begin_and_adds_to_none() {
        let begun = begun();
        let first = replica(&begun).copy;
        let mut moved = seal(&begun, first, NOW, LATER).unwrap();
        moved.owner.epoch = moved.owner.epoch.next();
        assert_eq!(seal(&moved, replica(&moved).copy, LATER, LATER), None);
        let anew = skip(&moved, replica(&moved).copy, true, LATER).unwrap();
        assert_eq!(replica(&anew).base, None);
        assert_eq!(replica(&anew).whole.unwrap().copy, first);
        assert_eq!(replica(&anew).copy, CopyId::first_of(Epoch::new(2)));
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let begun = begun();
        let trusted = trust(&begun, replica(&begun).copy, NOW).unwrap();
        let sealed = seal(&begun, replica(&begun).copy, NOW, LATER).unwrap();
        for it in [begun, part(&trusted, LATER).unwrap(), trusted, sealed] {
            let json = serde_json::to_string(&it).unwrap();
            assert_eq!(serde_json::from_str::<VmRecord>(&json).unwrap(), it);
        }
    }
}
