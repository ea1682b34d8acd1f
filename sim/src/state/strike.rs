//! Faults strike and end; and once they are over, everything is made good.

use std::collections::BTreeSet;

use dwcp_state::Input;

use super::faults::Fault;
use super::world::{Event, World};

/// How long it takes until two nodes notice that they are connected or not: from one missed
/// sign of life to a connection's time-out.
const LINK_US: (u64, u64) = (200_000, 2_000_000);

impl World {
    /// A fault of the plan strikes or ends.
    pub(super) fn fault(&mut self, place: usize, strikes: bool, cut: u64) {
        if !self.faults {
            return;
        }
        let planned = self.plan[place].clone();
        self.note([7, place as u64, u64::from(strikes)], || {
            let word = if strikes { "strikes" } else { "ends" };
            format!("fault {place} {word}: {:?}", planned.fault)
        });
        let cut = match &planned.fault {
            Fault::Cut(directions) => self.cut(directions, strikes, cut),
            Fault::Crash(node) => {
                self.crash(*node, strikes);
                0
            }
            Fault::BadDisk(node) => {
                self.nodes[*node].bad_disk = strikes;
                0
            }
            Fault::SlowDisk(node) => {
                self.nodes[*node].slow_disk = strikes;
                0
            }
            Fault::SlowNode(node) => {
                self.network.slow(*node, strikes);
                0
            }
            Fault::Jump(node, by_us) => {
                if strikes {
                    self.nodes[*node].clocks.jump(*by_us);
                    self.measure_clocks();
                }
                0
            }
            Fault::Evict(nodes) => {
                if strikes {
                    self.strong.evict(nodes);
                } else {
                    self.strong.admit(nodes);
                }
                0
            }
        };
        if strikes {
            let lasts = planned.lasts_us;
            self.after(lasts, Event::Fault { place, strikes: false, cut });
        }
    }

    fn cut(
        &mut self,
        directions: &BTreeSet<(usize, usize)>,
        strikes: bool,
        cut: u64,
    ) -> u64 {
        let cut = if strikes {
            self.network.cut(directions.clone())
        } else {
            self.network.mend(cut);
            0
        };
        for (from, to) in directions {
            self.link_later(*from, *to);
            self.link_later(*to, *from);
        }
        cut
    }

    fn crash(&mut self, node: usize, strikes: bool) {
        if !strikes {
            return self.after(0, Event::Start { node });
        }
        if self.nodes[node].replica.is_none() {
            return;
        }
        self.counts.crashes += 1;
        let (nodes, rng) = (&mut self.nodes, &mut self.rng);
        nodes[node].crash(rng);
        self.links_of(node);
    }

    /// All that a node is linked with will notice.
    pub(super) fn links_of(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            self.link_later(node, other);
            self.link_later(other, node);
        }
    }

    fn link_later(&mut self, of: usize, with: usize) {
        if of != with {
            let later = match self.now.us {
                0 => self.rng.between(0, 400_000),
                _ => self.rng.between(LINK_US.0, LINK_US.1),
            };
            self.after(later, Event::Link { of, with });
        }
    }

    /// A node notices whether it is connected with another.
    pub(super) fn notice_link(&mut self, of: usize, with: usize) {
        let alive = [of, with].iter().all(|node| self.nodes[*node].replica.is_some());
        let connected =
            alive && self.network.carries(of, with) && self.network.carries(with, of);
        if self.nodes[of].up.contains(&with) == connected {
            return;
        }
        self.note([8, of as u64, with as u64 * 2 + u64::from(connected)], || {
            format!(
                "{of} is {} with {with}",
                if connected { "connected" } else { "cut off" }
            )
        });
        let peer = self.nodes[with].id;
        if connected {
            self.nodes[of].up.insert(with);
            self.feed(of, Input::PeerUp(peer));
        } else {
            self.nodes[of].up.remove(&with);
            self.feed(of, Input::PeerDown(peer));
        }
    }

    /// Everything is made good: faults end, nodes start, clocks are set, who is out is let in.
    pub(super) fn heal(&mut self) {
        self.faults = false;
        self.note([9, 0, 0], || "everything heals".to_owned());
        self.network.heal();
        for node in 0..self.nodes.len() {
            let now = self.now.us;
            let it = &mut self.nodes[node];
            it.bad_disk = false;
            it.slow_disk = false;
            it.clocks.repair(now);
            self.after(0, Event::Start { node });
            self.links_of(node);
        }
        self.strong.admit_all();
    }
}
