//! What befalls whole regions and single processes: death, frost, and links that are cut one
//! way or both.

use dwcp_vm::Grant;
use std::time::Duration;

use crate::message::Node;
use crate::options::{Breakage, Regions};
use crate::world::{Event, World};

/// Between two strikes of a storm, in milliseconds.
const STORM_GAP_MS: (u64, u64) = (3_000, 20_000);
/// Between two moments in which somebody starves.
const STARVE_GAP_MS: (u64, u64) = (500, 5_000);
/// How long somebody starves: shorter than a lease's margin.
const STARVE_MS: (u64, u64) = (50, 1_500);
/// How long a stalled region's daemon goes on.
const STALL_MS: u64 = 2_500;
/// When a drill's region dies.
const DRILL_AT_MS: (u64, u64) = (60_000, 70_000);
/// The watchdog looks so often, and a process takes a while to end.
const BITE_LATE_MS: u64 = 500;
/// By how many thousandths a monotonic clock runs wrong, at most: 250 times what crystals do.
const MONO_RATE_MAX: u64 = 50;

/// Which messages of a region are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// All, to everybody outside.
    Off,
    /// All that it sends out.
    Out,
    /// All that is sent to it.
    In,
    /// All between its daemon and those of other regions.
    Peers,
}

/// Something that befalls a region.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Strike {
    /// Its daemon, its agents and its guests are gone at once.
    Dies { region: usize, for_ms: u64 },
    /// Only its daemon is.
    DaemonDies { region: usize, for_ms: u64 },
    /// A process is stopped and goes on later, none the wiser.
    Freezes { node: Node, for_ms: u64 },
    /// Its hosts' agents are stopped, and a little later it is cut off: what its daemon sent
    /// them meanwhile is in their sockets when they go on.
    Stalls { region: usize, for_ms: u64 },
    /// Its links are cut.
    Cut { region: usize, cut: Cut, for_ms: u64 },
}

impl World {
    /// What a region's or an agent's monotonic clock shows.
    pub(crate) fn mono(&self, node: Node) -> Duration {
        Duration::from_micros(self.now * (1_000 - MONO_RATE_MAX + self.rate(node)))
    }

    fn rate(&self, node: Node) -> u64 {
        let number = match node {
            Node::Region(index) => index,
            Node::Agent(index) => 100 + index,
            Node::Engine | Node::Coordinator(_) | Node::Client(_) => 0,
        };
        let mut rng = crate::rng::Rng::new(self.options.seed ^ (number as u64 + 1));
        rng.between(0, 2 * MONO_RATE_MAX)
    }

    /// When an agent's clock will show a moment.
    fn when(&self, agent: usize, local: Duration) -> u64 {
        let rate = 1_000 - MONO_RATE_MAX + self.rate(Node::Agent(agent));
        let micros = u64::try_from(local.as_micros()).unwrap_or(u64::MAX);
        micros / rate + 1
    }

    /// Plans the first strike.
    pub(crate) fn prepare_strikes(&mut self) {
        match self.options.regions_fail {
            Regions::Apart => {}
            Regions::Storm => self.strike_within(STORM_GAP_MS),
            Regions::Noise => {
                let region = self.rng.index(self.regions.len());
                let for_ms = self.options.faults_for_ms;
                self.strike(Strike::Cut { region, cut: Cut::Peers, for_ms });
                self.strike_within(STARVE_GAP_MS);
            }
            Regions::Drill => self.strike_within(DRILL_AT_MS),
        }
    }

    fn strike_within(&mut self, gap: (u64, u64)) {
        let delay = self.rng.between(gap.0, gap.1);
        self.after(delay, Event::Strike);
    }

    /// Something strikes, and the next strike is planned.
    pub(crate) fn next_strike(&mut self) {
        if !self.is_faulty() {
            return;
        }
        let region = self.rng.index(self.regions.len());
        match self.options.regions_fail {
            Regions::Apart => {}
            Regions::Storm => {
                let strike = self.storm(region);
                self.strike(strike);
                self.strike_within(STORM_GAP_MS);
            }
            Regions::Noise => {
                let node = self.someone();
                let for_ms = self.rng.between(STARVE_MS.0, STARVE_MS.1);
                self.strike(Strike::Freezes { node, for_ms });
                self.strike_within(STARVE_GAP_MS);
            }
            Regions::Drill => {
                let for_ms = self.options.faults_for_ms - self.now;
                let strike = if self.rng.chance(5_000) {
                    Strike::Dies { region, for_ms }
                } else {
                    Strike::Cut { region, cut: Cut::Off, for_ms }
                };
                self.lost = Some((region, self.now));
                self.strike(strike);
            }
        }
    }

    fn someone(&mut self) -> Node {
        if self.rng.chance(5_000) {
            Node::Region(self.rng.index(self.regions.len()))
        } else {
            Node::Agent(self.rng.index(self.agents.len()))
        }
    }

    fn storm(&mut self, region: usize) -> Strike {
        let for_ms = self.rng.between(1_000, 40_000);
        let cuts = [Cut::Off, Cut::Out, Cut::In, Cut::Peers];
        match self.rng.index(10) {
            0 | 1 => Strike::Dies { region, for_ms },
            2 => Strike::DaemonDies { region, for_ms },
            5 | 6 => Strike::Stalls { region, for_ms },
            3 | 4 => Strike::Freezes { node: self.someone(), for_ms },
            _ => {
                let cut = cuts[self.rng.index(cuts.len())];
                Strike::Cut { region, cut, for_ms }
            }
        }
    }

    pub(crate) fn strike(&mut self, strike: Strike) {
        self.trace.line(&format_args!("{} {strike:?}", self.now));
        match strike {
            Strike::Dies { region, for_ms } => {
                self.fall(Node::Region(region), for_ms);
                for index in 0..self.agents.len() {
                    if self.agents[index].region == region {
                        let guests = self.agents[index].guests.values_mut();
                        guests.for_each(|guest| guest.alive = false);
                        self.fall(Node::Agent(index), for_ms);
                    }
                }
            }
            Strike::DaemonDies { region, for_ms } => {
                self.fall(Node::Region(region), for_ms);
            }
            Strike::Freezes { node, for_ms } => {
                self.frozen.insert(node, self.now + for_ms);
            }
            Strike::Stalls { region, for_ms } => {
                let until = self.now + for_ms;
                let agents = (0..self.agents.len()).map(Node::Agent);
                let own = agents.zip(&self.agents).filter(|(_, it)| it.region == region);
                self.frozen.extend(own.map(|(node, _)| (node, until)));
                let cut = Strike::Cut { region, cut: Cut::Off, for_ms };
                self.after(STALL_MS, Event::Struck(cut));
            }
            Strike::Cut { region, cut, for_ms } => {
                self.cuts.insert(region, (cut, self.now + for_ms));
            }
        }
    }

    /// When a frozen node goes on.
    pub(crate) fn thaws_at(&self, node: Node) -> Option<u64> {
        self.frozen.get(&node).copied().filter(|until| *until > self.now)
    }

    /// Whether a message is lost to a cut.
    pub(crate) fn is_cut(&self, from: Node, to: Node) -> bool {
        let region_of = |node: Node| match node {
            Node::Region(index) => Some(index),
            Node::Agent(index) => Some(self.agents[index].region),
            Node::Engine | Node::Coordinator(_) | Node::Client(_) => None,
        };
        let (source, target) = (region_of(from), region_of(to));
        if source == target {
            return false;
        }
        let cut = |region: Option<usize>| {
            let (cut, until) = self.cuts.get(&region?)?;
            (self.faults && *until > self.now).then_some(*cut)
        };
        let out = |cut| match cut {
            Cut::Off | Cut::Out => true,
            Cut::Peers => target.is_some(),
            Cut::In => false,
        };
        let into = |cut| match cut {
            Cut::Off | Cut::In => true,
            Cut::Peers => source.is_some(),
            Cut::Out => false,
        };
        cut(source).is_some_and(out) || cut(target).is_some_and(into)
    }

    /// A grant reached an agent: the moments at which it ends are noted, for the agent and for
    /// the watchdog.
    pub(crate) fn granted(&mut self, index: usize, mut grant: Grant) {
        let now = self.mono(Node::Agent(index));
        if self.options.breakage == Breakage::GrantCountsFromArrival {
            grant.from = now;
        }
        let moments = [grant.from + grant.pause_after, grant.from + grant.kill_after];
        let agent = &mut self.agents[index];
        if !agent.guard.take(grant) {
            return;
        }
        agent.align(now);
        for moment in moments {
            let delay = self.when(index, moment).saturating_sub(self.now);
            self.after(delay, Event::Fence(index));
        }
        let over = self.when(index, moments[1]);
        let late = self.rng.between(0, BITE_LATE_MS);
        self.after((over + late).saturating_sub(self.now), Event::Bite(index));
    }

    /// An agent's own timer.
    pub(crate) fn fence(&mut self, index: usize) {
        let node = Node::Agent(index);
        if self.thaws_at(node).is_none() && !self.is_down(node) {
            let now = self.mono(node);
            self.agents[index].align(now);
        }
    }

    /// A host's watchdog, whatever its agent does.
    pub(crate) fn bite(&mut self, index: usize) {
        if self.options.breakage != Breakage::NoWatchdog {
            let now = self.mono(Node::Agent(index));
            self.agents[index].bite(now);
        }
    }
}
