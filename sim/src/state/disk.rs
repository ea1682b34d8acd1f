//! The disk of a node: what is asked to be stored is durable later, in order, a batch whole or
//! not at all, unless it fails or the node crashes first.
//!
//! A crash keeps a prefix of what was under way: a store that syncs a group at once may have
//! written some of it before the machine went down, without having said so. A torn batch is one
//! that the log's check drops when the store is opened again, so it is never seen.
//!
//! What is durable is what invariants count on; nothing else of a node survives.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dwcp_state::{BatchId, RowChange};

use crate::rng::Rng;

/// Of so many failures in ten thousand some of what failed is written.
const WRITTEN_ALL_THE_SAME: u64 = 3_000;

/// The changes of a batch.
type Changes = Arc<Vec<RowChange>>;

/// The rows of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    durable: BTreeMap<String, Vec<u8>>,
    pending: VecDeque<(BatchId, Changes)>,
    /// Counts what became durable.
    version: u64,
}

impl Disk {
    /// Takes a batch to be stored.
    pub(super) fn begin(&mut self, batch: BatchId, changes: Changes) {
        self.pending.push_back((batch, changes));
    }

    /// Makes everything up to a batch durable; whether there was anything.
    pub(super) fn sync(&mut self, upto: BatchId) -> bool {
        let before = self.version;
        while let Some((_, changes)) = self.pending.pop_front_if(|next| next.0 <= upto) {
            self.apply(&changes);
        }
        self.version != before
    }

    /// Answers everything under way with an error. What was first in line may have been written
    /// all the same: an error says that nobody knows.
    pub(super) fn fail(&mut self, rng: &mut Rng) -> Vec<BatchId> {
        let failed = self.pending.iter().map(|(batch, _)| *batch).collect();
        if rng.chance(WRITTEN_ALL_THE_SAME) {
            self.crash(rng);
        }
        self.pending.clear();
        failed
    }

    /// Loses what was under way, but for a prefix that happened to be written.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let kept = rng.index(self.pending.len() + 1);
        let pending = std::mem::take(&mut self.pending);
        for (_, changes) in pending.into_iter().take(kept) {
            self.apply(&changes);
        }
    }

    /// What a process that starts finds.
    pub(super) const fn durable(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.durable
    }

    /// Counts what became durable.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    fn apply(&mut self, changes: &[RowChange]) {
        self.version += 1;
        for change in changes {
            match change {
                RowChange::Put { row, value } => {
                    self.durable.insert(row.clone(), value.clone());
                }
                RowChange::Delete { row } => {
                    self.durable.remove(row);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn put(row: &str, value: u8) -> RowChange {
        RowChange::Put { row: row.to_owned(), value: vec![value] }
    }

    fn three_batches() -> Disk {
        let mut disk = Disk::default();
        let deleted = RowChange::Delete { row: "b".to_owned() };
        disk.begin(BatchId(1), Arc::new(vec![put("a", 1)]));
        disk.begin(BatchId(2), Arc::new(vec![put("a", 2), put("b", 2)]));
        disk.begin(BatchId(3), Arc::new(vec![put("a", 3), deleted]));
        disk
    }

    #[test]
    fn what_is_synced_survives_and_the_rest_survives_as_a_prefix() {
        let mut kept = BTreeSet::new();
        for seed in 0..64 {
            let mut disk = three_batches();
            assert!(disk.sync(BatchId(1)));
            assert!(!disk.sync(BatchId(1)));
            disk.crash(&mut Rng::new(seed));
            kept.insert(disk.durable().values().flatten().copied().collect::<Vec<_>>());
        }
        let prefixes = [vec![1], vec![2, 2], vec![3]];
        assert_eq!(kept, prefixes.into_iter().collect());
    }

    #[test]
    fn what_fails_may_be_there_or_not() {
        let mut kept = BTreeSet::new();
        for seed in 0..200 {
            let mut disk = three_batches();
            let failed = disk.fail(&mut Rng::new(seed));
            assert_eq!(failed, [BatchId(1), BatchId(2), BatchId(3)]);
            assert!(!disk.sync(BatchId(3)));
            kept.insert(disk.durable().len());
        }
        assert_eq!(kept, BTreeSet::from([0, 1, 2]));
    }
}
