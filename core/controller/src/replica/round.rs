//! Replicas that follow later: when the next round begins, and what becomes of one (F2, R3).
//!
//! ```text
//!   record            the guest's host              the host that keeps the copy
//!   round n           takes the disk as it is,      n: empty, or on top of the last whole one
//!                     then sends what it took
//!   seal: n is whole  forgets what changed before   n becomes whole in one file
//!   round n+1         waits until it is due         n+1, on top of n
//! ```
//!
//! A round is the disk as it was at one moment, so whatever is sealed is a state that the disk
//! had. Until then nobody starts from it, so a round that fails costs nothing but its time. The
//! record is written once for each round.

use std::time::Duration;

use dwcp_types::{CopyId, Timestamp};

use super::{MOVE_AFTER, Next, PART_AFTER, Parted, Seen};
use crate::ownership::{Replica, VmRecord};

/// What a round is allowed beside twice what the last one took: its orders and its record.
const SLACK: Duration = Duration::from_millis(500);
/// A replica that is older than this many times what it may be is late.
const LATE: u32 = 2;

/// Says what to do next about a replica that follows later.
pub(super) fn next(record: &VmRecord, replica: &Replica, seen: &Seen) -> Next {
    let copy = replica.copy;
    if copy.epoch != record.owner.epoch {
        return Next::Part(Parted::OtherOwner);
    }
    if seen.moves {
        return Next::Keep;
    }
    let host = seen.host.unwrap_or_default();
    let silent_for = seen.standby_silent_for.unwrap_or_default();
    if host.follows(copy) {
        // What it is as of is told by the same host that wrote it, or it is not known at all.
        return host.as_of.map_or(Next::Part(Parted::Lost), Next::Seal);
    }
    if host.ordered == Some(copy) && host.lost {
        return Next::Part(Parted::Lost);
    }
    if silent_for >= MOVE_AFTER {
        return Next::Replace;
    }
    if silent_for >= PART_AFTER && host.written == Some(copy) {
        return Next::Part(Parted::StandbySilent);
    }
    Next::Keep
}

/// Whether the guest's host still knows what changed since the last whole copy, so that the
/// next round need not bring everything.
#[must_use]
pub fn adds(replica: &Replica, seen: &Seen) -> bool {
    let since: Option<CopyId> = seen.host.and_then(|host| host.since);
    since.is_some() && since == replica.whole.map(|whole| whole.copy)
}

/// Whether the next round is due: early enough that the last one does not become older than it
/// may be while this one takes twice as long as the one before `took`. At most half of the age
/// is spent so: where a round takes longer the age is not kept.
#[must_use]
pub fn is_due(
    replica: &Replica,
    age_max: Duration,
    took: Duration,
    now: Timestamp,
) -> bool {
    let Some(whole) = replica.whole else { return true };
    let lead = took.saturating_mul(2).saturating_add(SLACK).min(age_max / 2);
    // A clock that was put back does not stop the rounds.
    now < whole.until || now.since(whole.until) >= age_max.saturating_sub(lead)
}

/// Whether what is kept is so old that it is to be said.
#[must_use]
pub fn is_late(age: Duration, age_max: Duration) -> bool {
    age > age_max.saturating_mul(LATE)
}

#[cfg(test)]
mod tests;
