//! What the network does to a message: delay it, lose it, hold it up, deliver it twice, or
//! deliver nothing between some nodes for a while.
//!
//! Each copy is delayed for itself, so messages overtake each other. A cut is of a direction:
//! one that lets acknowledgements through and not what they acknowledge is a cut too.

use std::collections::BTreeSet;

use super::latency::one_way_us;
use super::options::Options;
use crate::rng::Rng;

/// How many times longer messages of a slow node take.
const SLOW_FACTOR: u64 = 20;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    /// The node.
    pub(super) node: usize,
    /// Its region.
    pub(super) region: usize,
}

/// The state of all links.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Directions that deliver nothing: from a node, to a node; the count of cuts over it.
    cut: Vec<(u64, BTreeSet<(usize, usize)>)>,
    slow: BTreeSet<usize>,
    next_cut: u64,
}

impl Network {
    /// Cuts directions; the number of the cut.
    pub(super) fn cut(&mut self, directions: BTreeSet<(usize, usize)>) -> u64 {
        self.next_cut += 1;
        self.cut.push((self.next_cut, directions));
        self.next_cut
    }

    /// Ends a cut; others over the same links go on.
    pub(super) fn mend(&mut self, cut: u64) {
        self.cut.retain(|(number, _)| *number != cut);
    }

    /// Makes a node slow, or fast again.
    pub(super) fn slow(&mut self, node: usize, slow: bool) {
        if slow {
            self.slow.insert(node);
        } else {
            self.slow.remove(&node);
        }
    }

    /// Ends everything that is wrong.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
    }

    /// Whether messages in this direction arrive at all.
    pub(super) fn carries(&self, from: usize, to: usize) -> bool {
        !self.cut.iter().any(|(_, directions)| directions.contains(&(from, to)))
    }

    /// The delays in microseconds after which copies of one message arrive; none when it is
    /// lost.
    pub(super) fn deliveries(
        &self,
        rng: &mut Rng,
        options: &Options,
        (from, to): (End, End),
        faults: bool,
    ) -> Vec<u64> {
        if !self.carries(from.node, to.node) || (faults && rng.chance(options.loss)) {
            return Vec::new();
        }
        let copies = 1 + usize::from(faults && rng.chance(options.duplicates));
        let slow = [from.node, to.node].iter().any(|node| self.slow.contains(node));
        let mut delay = || {
            let usual = one_way_us(rng, from.region, to.region);
            let usual = if slow { usual * SLOW_FACTOR } else { usual };
            match faults && rng.chance(options.held_up) {
                true => usual + rng.between(0, options.held_up_ms * 1_000),
                false => usual,
            }
        };
        (0..copies).map(|_| delay()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_of_one_direction_leaves_the_other() {
        let mut network = Network::default();
        let both = network.cut(BTreeSet::from([(0, 1), (1, 0)]));
        network.cut(BTreeSet::from([(0, 1)]));
        network.mend(both);
        assert!(!network.carries(0, 1));
        assert!(network.carries(1, 0));
        network.heal();
        assert!(network.carries(0, 1));
    }
}
