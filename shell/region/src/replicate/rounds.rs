//! Replicas that follow later: each round is told to both hosts as soon as the one before is in
//! the record, and to the guest's host where it goes when it is due.

use std::time::Duration;

use dwcp_api::ApiError;
use dwcp_api::host::CopyOrder;
use dwcp_controller::ownership::{Replica, VmRecord, seal, skip};
use dwcp_controller::replica::round::{adds, is_due};
use dwcp_controller::replica::{Parted, Seen};
use dwcp_types::{CopyId, Round, Timestamp};

use super::{Care, Replicator};

/// How long no round is begun after one that failed, or as long as the replica may be old when
/// that is shorter.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What is remembered of a VM's rounds; all of it may be lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    /// The round that was begun, and when it was first told.
    begun: Option<(CopyId, Duration)>,
    /// What the last one took.
    took: Duration,
    /// None is begun before.
    not_before: Duration,
}

impl Rounds {
    /// An order was given.
    pub(super) fn told(&mut self, order: &CopyOrder, now: Duration) {
        let known = self.begun.is_some_and(|(copy, _)| copy == order.copy);
        if order.to.is_some() && !known {
            self.begun = Some((order.copy, now));
        }
    }
}

/// How a VM's copy is made, when it follows later.
pub(super) fn round_of(record: &VmRecord, base: Option<CopyId>) -> Option<Round> {
    record.request.replica_age_max().map(|_| Round { base })
}

impl Replicator {
    /// Whether what is to be written may be begun; always where each write goes there.
    pub(super) fn is_due(
        &self,
        record: &VmRecord,
        replica: &Replica,
        care: &Care,
    ) -> bool {
        let Some(age_max) = record.request.replica_age_max() else { return true };
        let rounds = &care.rounds;
        let under_way = rounds.begun.is_some_and(|(copy, _)| copy == replica.copy);
        let waits = self.clock.monotonic() < rounds.not_before;
        under_way || (!waits && is_due(replica, age_max, rounds.took, self.clock.now()))
    }

    /// Writes into the record that a round is there. Told only of the first and after trouble:
    /// there is one every few seconds.
    pub(super) async fn seal(
        &self,
        record: &VmRecord,
        replica: &Replica,
        as_of: Timestamp,
        care: &mut Care,
    ) -> Result<(), ApiError> {
        let copy = replica.copy;
        let now = self.clock.monotonic();
        let begun = care.rounds.begun.filter(|(begun, _)| *begun == copy);
        care.rounds.took = begun.map_or(Duration::ZERO, |(_, at)| now.saturating_sub(at));
        let sealed = move |now, record: &VmRecord| seal(record, copy, as_of, now);
        if replica.whole.is_some() && care.noted.is_empty() {
            return self.write_quietly(record, sealed).await.map(drop);
        }
        let what = format!("its replica in {} follows", replica.at.region);
        self.write(record, sealed, &what, care).await
    }

    /// Gives a round up. Told once, until one is there again.
    pub(super) async fn skip(
        &self,
        record: &VmRecord,
        replica: &Replica,
        (why, seen): (Parted, &Seen),
        care: &mut Care,
    ) -> Result<(), ApiError> {
        let age_max = record.request.replica_age_max().unwrap_or(AGAIN_AFTER);
        let pause = age_max.min(AGAIN_AFTER);
        care.rounds.not_before = self.clock.monotonic().saturating_add(pause);
        let (copy, adds) = (replica.copy, adds(replica, seen));
        let skipped = move |now, record: &VmRecord| skip(record, copy, adds, now);
        let what = format!(
            "its replica in {} does not follow: {}; it is tried again",
            replica.at.region,
            why.text()
        );
        if care.noted == what {
            return self.write_quietly(record, skipped).await.map(drop);
        }
        self.write(record, skipped, &what, care).await?;
        care.noted = what;
        Ok(())
    }
}
