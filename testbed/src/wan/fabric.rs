//! All lines between all regions as one state machine: packets go in with the moment, and come
//! out when they are due. No socket, no clock.
//!
//! Kept: what comes out is ordered by its due time, and packets of one line by how they came;
//! a packet comes out at most once, at the region its address belonged to when it went in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::time::Duration;

use dwcp_sim::Rng;

use super::lateness::Lateness;
use super::line::{Line, Lost, Passage};
use super::order::{NamedLine, Order, OrderError, Report};
use super::route::Routes;
use super::shape::Shape;

/// A region by its place in the list of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site(pub(crate) usize);

/// A region as the emulator knows it.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) name: String,
    /// Its addresses: a network and the length of its prefix.
    pub(crate) prefix: (Ipv4Addr, u32),
    /// Whether it looks on from outside: a partition leaves its lines alone.
    pub(crate) observes: bool,
}

/// Why a packet does not come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Its line lost it.
    Lost(Lost),
    /// Its address is in no other region.
    Unroutable,
}

/// Lines, routes, and the packets under way, each with whatever it carries.
#[derive(Debug)]
pub(crate) struct Fabric<P> {
    regions: Vec<Region>,
    /// Row by row: the line from `a` to `b` is at `a * regions + b`.
    lines: Vec<Line>,
    routes: Routes<Site>,
    under_way: BinaryHeap<Reverse<Flight<P>>>,
    entered: u64,
    lateness: Lateness,
    unroutable: u64,
    refused: u64,
}

/// A packet under way.
#[derive(Debug)]
struct Flight<P> {
    passage: Passage,
    /// How many entered before it: decides between packets due at one moment.
    number: u64,
    line: usize,
    to: Site,
    packet: P,
}

impl<P> Flight<P> {
    const fn order(&self) -> (Duration, u64) {
        (self.passage.due, self.number)
    }
}

impl<P> PartialEq for Flight<P> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}
impl<P> Eq for Flight<P> {}
impl<P> PartialOrd for Flight<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<P> Ord for Flight<P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl<P> Fabric<P> {
    /// Wires between all regions; each line loses by a stream of chance of its own.
    pub(crate) fn new(regions: Vec<Region>, seed: u64) -> Self {
        let mut seeds = Rng::new(seed);
        let lines = regions.len() * regions.len();
        let lines = (0..lines).map(|_| Line::new(Shape::default(), seeds.next()));
        let lines = lines.collect();
        let mut routes = Routes::new();
        for (site, region) in regions.iter().enumerate() {
            let (network, length) = region.prefix;
            routes.add_prefix(network, length, Site(site));
        }
        Self {
            regions,
            lines,
            routes,
            under_way: BinaryHeap::new(),
            entered: 0,
            lateness: Lateness::new(),
            unroutable: 0,
            refused: 0,
        }
    }

    /// A packet of so many bytes comes out of a region.
    pub(crate) fn enter(
        &mut self,
        now: Duration,
        from: Site,
        (to, bytes): (Ipv4Addr, u64),
        packet: P,
    ) -> Result<(), Dropped> {
        let Some(to) = self.routes.find(to).filter(|to| *to != from) else {
            self.unroutable += 1;
            return Err(Dropped::Unroutable);
        };
        let line = self.index(from, to);
        let passage = self.lines[line].enter(now, bytes).map_err(Dropped::Lost)?;
        let number = self.entered;
        self.entered += 1;
        self.under_way.push(Reverse(Flight { passage, number, line, to, packet }));
        Ok(())
    }

    /// The next packet that is due, and where it arrives.
    pub(crate) fn leave(&mut self, now: Duration) -> Option<(Site, P)> {
        while self.next_due().is_some_and(|due| due <= now) {
            let Reverse(flight) = self.under_way.pop()?;
            if self.lines[flight.line].leave(flight.passage).is_ok() {
                self.lateness.add(now.saturating_sub(flight.passage.due));
                return Some((flight.to, flight.packet));
            }
        }
        None
    }

    /// When the next packet is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse(flight)| flight.passage.due)
    }

    /// A region's device did not take what came out.
    pub(crate) const fn refuse(&mut self) {
        self.refused += 1;
    }

    /// Follows an order.
    pub(crate) fn obey(&mut self, order: &Order) -> Result<Option<Report>, OrderError> {
        match order {
            Order::Shape { from, to, shape } => self.line(from, to)?.reshape(*shape),
            Order::Cut { from, to } => self.line(from, to)?.cut(),
            Order::Heal { from, to } => self.line(from, to)?.heal(),
            Order::Part { side } => self.part(side)?,
            Order::HealAll => self.lines.iter_mut().for_each(Line::heal),
            Order::Route { address, region } => {
                let site = self.site(region)?;
                self.routes.set_host(*address, site);
            }
            Order::Report => return Ok(Some(self.report())),
        }
        Ok(None)
    }

    fn part(&mut self, side: &[String]) -> Result<(), OrderError> {
        let side: Vec<_> =
            side.iter().map(|name| self.site(name)).collect::<Result<_, _>>()?;
        for here in &side {
            for there in (0..self.regions.len()).map(Site) {
                if !side.contains(&there) && !self.regions[there.0].observes {
                    for line in [self.index(*here, there), self.index(there, *here)] {
                        self.lines[line].cut();
                    }
                }
            }
        }
        Ok(())
    }

    fn report(&mut self) -> Report {
        let count = self.regions.len();
        let named = |(index, line): (usize, &Line)| NamedLine {
            from: self.regions[index / count].name.clone(),
            to: self.regions[index % count].name.clone(),
            line: line.report(),
        };
        let used = self.lines.iter().enumerate().map(named);
        let lines = used.filter(|named| named.line.packets > 0).collect();
        Report {
            lines,
            lateness: self.lateness.take(),
            unroutable: self.unroutable,
            refused: self.refused,
            under_way: u64::try_from(self.under_way.len()).unwrap_or(u64::MAX),
            // Whoever runs it knows.
            cpu_us: 0,
        }
    }

    fn line(&mut self, from: &str, to: &str) -> Result<&mut Line, OrderError> {
        let (from, to) = (self.site(from)?, self.site(to)?);
        if from == to {
            let name = self.regions[from.0].name.clone();
            return Err(OrderError::SameRegion { name });
        }
        let index = self.index(from, to);
        Ok(&mut self.lines[index])
    }

    fn site(&self, name: &str) -> Result<Site, OrderError> {
        let found = self.regions.iter().position(|region| region.name == name);
        found.map(Site).ok_or_else(|| OrderError::UnknownRegion {
            name: name.to_owned(),
            known: self.regions.iter().map(|region| region.name.clone()).collect(),
        })
    }

    const fn index(&self, from: Site, to: Site) -> usize {
        from.0 * self.regions.len() + to.0
    }
}

#[cfg(test)]
mod tests;
