//! Which faults strike, when and for how long: a plan, made before the run begins.
//!
//! Because the plan is a value, a run that failed can be run again without one of its faults
//! and nothing else differs in what is left of the plan; that is how a failure is reduced.

use std::collections::BTreeSet;

use super::options::Options;
use crate::rng::Rng;

/// What strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing arrives in these directions, from a node to a node.
    Cut(BTreeSet<(usize, usize)>),
    /// A node loses its process and what was not durable.
    Crash(usize),
    /// A node's disk fails every write.
    BadDisk(usize),
    /// A node's disk takes long.
    SlowDisk(usize),
    /// Whatever a node sends or is sent takes long.
    SlowNode(usize),
    /// A node's clock of the day is set wrong by so many microseconds.
    Jump(usize, i64),
    /// Nodes are put out of the membership: one, or all of a region.
    Evict(Vec<usize>),
}

/// A fault with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// When it strikes, in microseconds.
    pub(super) at_us: u64,
    /// How long it lasts.
    pub(super) lasts_us: u64,
    /// What it is.
    pub(super) fault: Fault,
}

/// The shortest and the longest that a fault lasts, in milliseconds. The longest cut is longer
/// than two rounds of reconciliation, the shortest shorter than a heartbeat.
const CUT_MS: (u64, u64) = (200, 20_000);
const DOWN_MS: (u64, u64) = (100, 15_000);
const DISK_MS: (u64, u64) = (100, 10_000);
const SLOW_MS: (u64, u64) = (1_000, 15_000);
const EVICTED_MS: (u64, u64) = (3_000, 25_000);
/// The largest jump of a clock, in microseconds.
const JUMP_US_MAX: u64 = 1_000_000;

/// The faults of a run, in order of time.
pub(super) fn plan(options: &Options, rng: &mut Rng) -> Vec<Planned> {
    let regions = regions_of(options);
    let mut planned = Vec::new();
    let mut strike = |rng: &mut Rng, rate: u64, lasts: (u64, u64), fault: Choice| {
        // At least one where the swarm wants any at all.
        let count = (rate * options.faults_for_ms).div_ceil(60_000);
        for _ in 0..count {
            let at_us = rng.between(500, options.faults_for_ms) * 1_000;
            // Short ones are as frequent as long ones.
            let longest = rng.between(lasts.0, lasts.1);
            let lasts_us = rng.between(lasts.0, longest) * 1_000;
            planned.push(Planned { at_us, lasts_us, fault: fault(rng, &regions) });
        }
    };
    strike(rng, options.partitions, CUT_MS, cut);
    strike(rng, options.crashes, DOWN_MS, |rng, nodes| Fault::Crash(any(rng, nodes)));
    strike(rng, options.bad_disks, DISK_MS, |rng, nodes| Fault::BadDisk(any(rng, nodes)));
    strike(rng, options.slow_disks, SLOW_MS, |rng, nodes| {
        Fault::SlowDisk(any(rng, nodes))
    });
    strike(rng, options.slow_nodes, SLOW_MS, |rng, nodes| {
        Fault::SlowNode(any(rng, nodes))
    });
    strike(rng, options.jumps, SLOW_MS, |rng, nodes| {
        let by = i64::try_from(rng.between(0, 2 * JUMP_US_MAX)).unwrap_or(0);
        let largest = i64::try_from(JUMP_US_MAX).unwrap_or(0);
        Fault::Jump(any(rng, nodes), by - largest)
    });
    strike(rng, options.evictions, EVICTED_MS, |rng, nodes| {
        let node = any(rng, nodes);
        let whole = rng.chance(5_000);
        let put_out =
            |other: &usize| *other == node || (whole && nodes[*other] == nodes[node]);
        Fault::Evict((0..nodes.len()).filter(put_out).collect())
    });
    planned.sort_by_key(|planned| planned.at_us);
    let kept = |(place, planned)| (!options.spared.contains(&place)).then_some(planned);
    planned.into_iter().enumerate().filter_map(kept).collect()
}

/// Chooses a fault, given the region of each node.
type Choice = fn(&mut Rng, &[usize]) -> Fault;

/// The region of each node.
pub(super) fn regions_of(options: &Options) -> Vec<usize> {
    let nodes = options.nodes.iter().enumerate();
    nodes.flat_map(|(region, count)| vec![region; *count]).collect()
}

fn any(rng: &mut Rng, nodes: &[usize]) -> usize {
    rng.index(nodes.len())
}

/// Two sides, of whole regions or of single nodes, that do not hear each other; or only one
/// does not.
fn cut(rng: &mut Rng, nodes: &[usize]) -> Fault {
    let by_region = rng.chance(7_000);
    let sides = rng.next();
    let side = |node: usize| {
        let place = if by_region { nodes[node] } else { node };
        sides >> (place % 64) & 1
    };
    let one_way = rng.chance(4_000);
    let mut directions = BTreeSet::new();
    for from in 0..nodes.len() {
        for to in 0..nodes.len() {
            if side(from) < side(to) || (!one_way && side(from) > side(to)) {
                directions.insert((from, to));
            }
        }
    }
    Fault::Cut(directions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_without_one_of_its_faults_is_otherwise_the_same() {
        let mut options = Options::from_seed(4);
        (options.partitions, options.crashes, options.jumps) = (5, 5, 5);
        let whole = plan(&options, &mut Rng::new(1));
        options.spared = BTreeSet::from([3]);
        let mut less = plan(&options, &mut Rng::new(1));
        less.insert(3, whole[3].clone());
        assert_eq!(less, whole);
        assert!(whole.is_sorted_by_key(|planned| planned.at_us));
    }

    #[test]
    fn cuts_are_of_one_direction_and_of_both() {
        let mut rng = Rng::new(2);
        let nodes = [0, 0, 1, 2];
        let (mut one_way, mut both) = (0, 0);
        for _ in 0..100 {
            let Fault::Cut(directions) = cut(&mut rng, &nodes) else { continue };
            let back = |(from, to): &(usize, usize)| directions.contains(&(*to, *from));
            match directions.iter().filter(|direction| back(direction)).count() {
                0 => one_way += 1,
                _ => both += 1,
            }
        }
        assert!(one_way > 20 && both > 20, "{one_way} {both}");
    }
}
