//! What a run is like, made from its seed, so that a seed and a commit say everything.
//!
//! Every class of fault is switched on or off for itself (a swarm): runs with few faults reach
//! deep states, runs with many reach odd ones.

use std::collections::BTreeSet;
use std::fmt;

use dwcp_state::Sabotage;

use super::keys::PREFIXES;
use crate::rng::Rng;

/// The options of one run. Rates of messages are in ten thousandths; rates of faults are how
/// many there are in a virtual minute, over the whole world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The seed that they are made from.
    pub seed: u64,
    /// How many nodes each region has; as many entries as there are regions.
    pub nodes: Vec<usize>,
    /// How many clients there are in a region.
    pub clients: usize,
    /// How long a client waits between two operations at most, in virtual milliseconds.
    pub pause_ms: u64,
    /// Which prefixes of keys there are, a bit each.
    pub prefixes: u64,
    /// How many keys each has.
    pub keys_each: u64,
    /// How long a turn of a replica lasts at most, in microseconds; what comes in one turn is
    /// stored together.
    pub turn_us: u64,
    /// Whether every frame is encoded and decoded on its way.
    pub encodes: bool,
    /// Of how many answers in ten thousand the disks behind them are looked at.
    pub inspects: u64,
    /// Answers that clients never hear.
    pub lost_answers: u64,
    /// How long faults last, in virtual milliseconds.
    pub faults_for_ms: u64,
    /// How long the world may take to come to rest.
    pub rest_within_ms: u64,
    /// Messages that are lost.
    pub loss: u64,
    /// Messages that arrive twice.
    pub duplicates: u64,
    /// Messages that are held up for up to [`Self::held_up_ms`] and so are overtaken.
    pub held_up: u64,
    /// How long at most.
    pub held_up_ms: u64,
    /// Partitions, one way or both, between regions or nodes.
    pub partitions: u64,
    /// Crashes of a node, which lose what is not durable.
    pub crashes: u64,
    /// Disks that fail to write, or have no space, for a while.
    pub bad_disks: u64,
    /// Disks that are slow for a while.
    pub slow_disks: u64,
    /// Nodes whose messages all take long for a while.
    pub slow_nodes: u64,
    /// Clocks of the day that jump by up to a second.
    pub jumps: u64,
    /// By how many millionths clocks run wrong at most.
    pub drift_ppm: u64,
    /// Whether one node's clock of the day is an hour ahead.
    pub hour_ahead: bool,
    /// Regions or nodes that are put out of the membership and come back later.
    pub evictions: u64,
    /// The rule of replicas that is broken on purpose.
    pub sabotage: Sabotage,
    /// Faults of the plan that do not strike, by their place in it: how a failure is reduced.
    pub spared: BTreeSet<usize>,
}

impl Options {
    /// The options of a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x57A7_E000);
        // Small worlds are more, because they run faster and reach as much.
        let regions = [3, 3, 3, 4, 4, 5, 7][rng.index(7)];
        let nodes = (0..regions).map(|_| [1, 1, 2, 3][rng.index(4)]).collect();
        let mut sometimes = |rate_max: u64| match rng.chance(5_000) {
            true => rng.between(1, rate_max),
            false => 0,
        };
        let (loss, duplicates, held_up) =
            (sometimes(1_500), sometimes(1_500), sometimes(500));
        let (partitions, crashes) = (sometimes(12), sometimes(12));
        let (bad_disks, slow_disks, slow_nodes) =
            (sometimes(6), sometimes(6), sometimes(6));
        let (jumps, drift_ppm, evictions) =
            (sometimes(10), sometimes(20_000), sometimes(3));
        let hour_ahead = sometimes(10) == 1;
        let (lost_answers, turn_us) = (sometimes(2_000), sometimes(3_000));
        // At least two prefixes, and mostly few, so that each is written often.
        let prefixes = (0..2 + rng.index(5)).map(|_| 1 << rng.index(PREFIXES));
        let prefixes = prefixes.fold(0, |all: u64, prefix: u64| all | prefix);
        Self {
            seed,
            nodes,
            clients: 1 + rng.index(3),
            pause_ms: rng.between(50, 1_500),
            prefixes: prefixes | 1 << rng.index(3),
            keys_each: 1 + u64::from(rng.chance(3_000)),
            turn_us,
            encodes: rng.chance(2_500),
            // To look at disks takes as long as all else, so that few worlds do it often.
            inspects: [0, 500, 2_500][rng.index(3)],
            lost_answers,
            faults_for_ms: 60_000,
            rest_within_ms: 120_000,
            loss,
            duplicates,
            held_up,
            held_up_ms: rng.between(200, 8_000),
            partitions,
            crashes,
            bad_disks,
            slow_disks,
            slow_nodes,
            jumps,
            drift_ppm,
            hour_ahead,
            // Of a region's two replicas, one that never settled since another was put out
            // cannot be put out itself, and one whose clock is far ahead never settles: people
            // have to force that.
            evictions: if hour_ahead { 0 } else { evictions },
            sabotage: Sabotage::None,
            spared: BTreeSet::new(),
        }
    }

    /// The same with a rule broken, and every answer looked at.
    #[must_use]
    pub const fn broken(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = sabotage;
        self.inspects = 10_000;
        self
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |rate: u64| format!("{}.{:02}%", rate / 100, rate % 100);
        write!(
            f,
            "seed {}: nodes {:?}, {} clients a region every {} ms, prefixes {:#x} x {}, turns {} \
             us, loss {}, duplicates {}, held up {} for up to {} ms, answers lost {}, a minute: {} \
             partitions, {} crashes, {} bad disks, {} slow disks, {} slow nodes, {} jumps, {} \
             evictions; drift {} ppm{}",
            self.seed,
            self.nodes,
            self.clients,
            self.pause_ms,
            self.prefixes,
            self.keys_each,
            self.turn_us,
            percent(self.loss),
            percent(self.duplicates),
            percent(self.held_up),
            self.held_up_ms,
            percent(self.lost_answers),
            self.partitions,
            self.crashes,
            self.bad_disks,
            self.slow_disks,
            self.slow_nodes,
            self.jumps,
            self.evictions,
            self.drift_ppm,
            if self.hour_ahead { ", one clock an hour ahead" } else { "" },
        )
    }
}
