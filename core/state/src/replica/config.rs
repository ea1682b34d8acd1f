//! What a replica is told once, and the rules that can be broken on purpose.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{AHEAD_MAX, ReplicaId};
use crate::conflict::Rules;
use crate::membership::ClusterId;

/// How often a peer gets a sign of life.
pub const BEAT_EVERY: Duration = Duration::from_millis(500);
/// A peer that has been silent for so long does not count as reachable: six beats.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);
/// How often a replica looks for differences with one of its peers.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(5);

/// What one replica is told once.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Which replica.
    pub replica: ReplicaId,
    /// Of which federation.
    pub cluster: ClusterId,
    /// How far a remote stamp may be ahead of the wall clock.
    pub ahead_max: Duration,
    /// Bytes sent to one peer and not acknowledged, at most.
    pub credit_bytes: usize,
    /// Bytes of deltas kept for peers that have not acknowledged them, at most. Beyond it the
    /// oldest go, and a peer that misses them pulls states instead.
    pub log_bytes_max: usize,
    /// Bytes of values and keys in memory, at most.
    pub store_bytes_max: usize,
    /// Requests that wait, at most.
    pub waiting_max: usize,
    /// Operation ids remembered, at most: about 120 bytes each.
    pub op_ids_max: usize,
    /// How long an operation id is remembered at least.
    pub op_ids_for: Duration,
    /// The rules that policies may name for concurrent writes.
    pub rules: Arc<Rules>,
    /// The rule that is broken on purpose.
    #[cfg(feature = "sabotage")]
    pub sabotage: Sabotage,
}

impl ReplicaConfig {
    /// The usual limits.
    #[must_use]
    pub fn new(replica: ReplicaId, cluster: ClusterId) -> Self {
        Self {
            replica,
            cluster,
            ahead_max: AHEAD_MAX,
            credit_bytes: 4 << 20,
            log_bytes_max: 256 << 20,
            store_bytes_max: 2 << 30,
            waiting_max: 1 << 16,
            op_ids_max: 1 << 20,
            op_ids_for: Duration::from_mins(10),
            rules: Arc::new(Rules::new()),
            #[cfg(feature = "sabotage")]
            sabotage: Sabotage::None,
        }
    }

    /// Whether a rule is broken on purpose. Never outside of simulations.
    pub(crate) fn breaks(&self, rule: Sabotage) -> bool {
        #[cfg(feature = "sabotage")]
        let broken = self.sabotage == rule;
        #[cfg(not(feature = "sabotage"))]
        let broken = {
            let _ = rule;
            false
        };
        broken
    }
}

/// A rule that is broken on purpose, to prove that a simulation sees it. Has an effect only
/// with the feature `sabotage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None: the real rules.
    #[default]
    None,
    /// Clients and peers are answered before anything is durable.
    AcksBeforeDurable,
    /// A restarted process goes on under its old incarnation.
    ReusesIncarnation,
    /// A quorum read does not write back what its majority did not have.
    SkipsWriteBack,
    /// A register's timestamp is chosen without asking a majority.
    SkipsRegisterPhaseOne,
    /// A majority is counted in replicas instead of regions.
    CountsReplicas,
    /// Acknowledgements of another epoch count towards a majority.
    CountsOtherEpochs,
    /// What is deleted is forgotten after a time instead of when all have seen it.
    CollectsByTime,
    /// After a pull, everything that the peer had seen of anybody counts as received.
    PullTakesAll,
    /// A push is applied although something before it is missing.
    AppliesPastGap,
    /// Whole states are taken although their sender may not know of deletions.
    TakesStaleStates,
    /// What a peer may not have is sent to it.
    IgnoresFence,
    /// Of two values of a register, or two last writers, the one that comes last stays.
    LastArrivalWins,
    /// A read is served although the session has seen more.
    IgnoresSession,
    /// Operation ids are not remembered.
    ForgetsOpIds,
    /// An operation id is stored one batch after what it stands for.
    StoresOpIdsLate,
    /// A bounded counter lets this replica spend the rights of others.
    SpendsForeignRights,
    /// A read shows what is not durable here yet.
    ShowsUndurable,
    /// An evicted replica is listened to.
    HearsEvicted,
    /// A replica that is admitted again keeps what it had.
    RejoinsWithOldState,
    /// What a clock far ahead has stamped is taken.
    TakesAnyStamp,
    /// A level that cannot be reached in time is answered as if it were.
    AnswersWeaker,
}

impl Sabotage {
    /// Every rule that can be broken.
    pub const ALL: [Self; 21] = [
        Self::AcksBeforeDurable,
        Self::ReusesIncarnation,
        Self::SkipsWriteBack,
        Self::SkipsRegisterPhaseOne,
        Self::CountsReplicas,
        Self::CountsOtherEpochs,
        Self::CollectsByTime,
        Self::PullTakesAll,
        Self::AppliesPastGap,
        Self::TakesStaleStates,
        Self::IgnoresFence,
        Self::LastArrivalWins,
        Self::IgnoresSession,
        Self::ForgetsOpIds,
        Self::StoresOpIdsLate,
        Self::SpendsForeignRights,
        Self::ShowsUndurable,
        Self::HearsEvicted,
        Self::RejoinsWithOldState,
        Self::TakesAnyStamp,
        Self::AnswersWeaker,
    ];
}
