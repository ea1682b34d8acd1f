//! One node: the real replica, its disk and its clocks, and what the world remembers of it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use dwcp_state::{
    Frontier, Now, Position, RecoverError, Replica, ReplicaConfig, ReplicaId, RequestId,
    Row, Sabotage,
};
use dwcp_types::Timestamp;

use super::clock::Clocks;
use super::disk::Disk;
use super::history::Reach;
use super::keys::{CLUSTER, replica_id};
use super::oracle::Number;

/// A clock that is further ahead than jumps alone would put it.
const FAR_US: u64 = 60_000_000;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) client: usize,
    pub(super) number: Number,
    /// Which of the attempts of the operation.
    pub(super) attempt: usize,
}

/// A node.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each fault strikes and ends for itself"
)]
pub(super) struct Node {
    pub(super) id: ReplicaId,
    pub(super) region: usize,
    /// None while it is down.
    pub(super) replica: Option<Replica>,
    pub(super) disk: Disk,
    pub(super) clocks: Clocks,
    /// Counts its starts, so that what belongs to an earlier one is recognized.
    pub(super) boot: u64,
    /// What could have reached it.
    pub(super) reach: Reach,
    /// Requests that are not answered.
    pub(super) asked: BTreeMap<RequestId, Asked>,
    /// Peers that it believes to be connected with.
    pub(super) up: BTreeSet<usize>,
    /// When it is to be woken.
    pub(super) wake_at: u64,
    /// Whether the end of its turn is on its way.
    pub(super) in_turn: bool,
    pub(super) bad_disk: bool,
    pub(super) slow_disk: bool,
    /// Whether its clock of the day was ever far ahead.
    pub(super) was_ahead: bool,
    sabotage: Sabotage,
}

impl Node {
    /// A node that was never started.
    pub(super) fn new(
        index: usize,
        region: usize,
        nodes: usize,
        clocks: Clocks,
        sabotage: Sabotage,
    ) -> Self {
        Self {
            id: replica_id(index),
            region,
            replica: None,
            disk: Disk::default(),
            clocks,
            boot: 0,
            reach: Rc::from(vec![0; nodes]),
            asked: BTreeMap::new(),
            up: BTreeSet::new(),
            wake_at: u64::MAX,
            in_turn: false,
            bad_disk: false,
            slow_disk: false,
            was_ahead: clocks.error_us(0) > FAR_US,
            sabotage,
        }
    }

    /// Starts its process from what its disk has.
    pub(super) fn start(&mut self) -> Result<(), RecoverError> {
        self.boot += 1;
        self.replica = Some(self.recovered()?);
        Ok(())
    }

    /// What a process that started now would be.
    pub(super) fn recovered(&self) -> Result<Replica, RecoverError> {
        let mut config = ReplicaConfig::new(self.id, CLUSTER);
        config.sabotage = self.sabotage;
        Replica::new(config, self.disk.rows())
    }

    /// Loses its process and all that was not durable.
    pub(super) fn crash(&mut self, rng: &mut crate::rng::Rng) {
        self.replica = None;
        self.asked.clear();
        self.up.clear();
        self.wake_at = u64::MAX;
        self.in_turn = false;
        self.disk.crash(rng);
    }

    /// What its clocks show.
    pub(super) fn now(&self, us: u64) -> Now {
        Now {
            wall: Timestamp::from_millis(self.clocks.day_us(us) / 1_000),
            mono: Duration::from_micros(self.clocks.measured_us(us)),
        }
    }

    /// What its replica says that it has.
    pub(super) fn had(&self) -> Frontier {
        self.replica.as_ref().map(|it| it.frontier().clone()).unwrap_or_default()
    }

    /// Where its own log ends, durable or not.
    pub(super) fn end(&self) -> Position {
        self.replica.as_ref().map(|it| it.frontier().get(self.id)).unwrap_or_default()
    }

    /// Takes note that everything that could have reached `other` could be here now.
    pub(super) fn reached_by(&mut self, other: &Reach) {
        if Rc::ptr_eq(&self.reach, other) {
            return;
        }
        if self.reach.iter().zip(other.iter()).all(|(ours, theirs)| ours >= theirs) {
            return;
        }
        let joined = self.reach.iter().zip(other.iter());
        self.reach = joined.map(|(ours, theirs)| *ours.max(theirs)).collect();
    }

    /// Counts one more update of its own; its place among them.
    pub(super) fn takes_update(&mut self, node: usize) -> u32 {
        let mut reach = self.reach.to_vec();
        reach[node] += 1;
        let index = reach[node];
        self.reach = Rc::from(reach);
        index
    }
}

impl Disk {
    /// Whether it has a record of the log of its own node.
    pub(super) fn has_record(&self, node: usize, position: Position) -> bool {
        let Position { incarnation, seq } = position;
        let row = format!("d/{}.{incarnation}/{seq:016x}", replica_id(node));
        self.durable().contains_key(&row)
    }

    /// Its rows, as a process that starts is given them.
    fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.durable()
            .iter()
            .map(|(row, value)| Row { row: row.clone(), value: value.clone() })
    }
}
