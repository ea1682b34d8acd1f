//! How far every region is from every cell, and by which way.
//!
//! A way is direct, or goes in at another region and on through the lines between ours, when
//! that is shorter by a tenth and by 5 ms (ROUTING 6.4): what is less is noise, and a relay
//! costs traffic. One relay is enough; a second gains little more (RON, Argo).

use dwcp_types::{RegionId, Timestamp};

use crate::age::{self, CONFIGURED, FULL, blend};
use crate::input::{Cell, Inputs, Link, RoundTrip, Site};
use crate::place::{FARTHEST_KM, distance_km, expected_rtt};

/// A round trip that is not known.
pub(crate) const UNKNOWN: u32 = u32::MAX;
/// No region, where a region's number is expected.
pub(crate) const NONE: u8 = u8::MAX;

/// A relay must save so much, in microseconds, and a tenth (ROUTING 6.4).
const RELAY_GAIN_US: u32 = 5_000;
const RELAY_SHARE: u64 = 9;
const OF: u64 = 10;
/// What a lost packet costs, in microseconds: a retransmission timeout, 200 ms at the least.
const LOST_US: u64 = 200_000;
/// What is lost always is given up after a minute.
const GIVEN_UP_US: u64 = 60_000_000;
const MILLION: u32 = 1_000_000;

/// One way between two points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    /// In microseconds, or [`UNKNOWN`].
    pub(crate) rtt: u32,
    pub(crate) loss_ppm: u32,
    /// How much of it was measured lately; the rest is distance.
    pub(crate) trust: u16,
}

impl Leg {
    const NOTHING: Self = Self { rtt: UNKNOWN, loss_ppm: 0, trust: 0 };

    /// What ways are compared by.
    pub(crate) fn weight(self) -> u32 {
        self.rtt.saturating_add(lost_us(self.loss_ppm))
    }

    fn then(self, next: Self) -> Self {
        let kept = |leg: Self| u64::from(1_000_000 - leg.loss_ppm.min(1_000_000));
        let kept = kept(self) * kept(next) / 1_000_000;
        Self {
            rtt: self.rtt.saturating_add(next.rtt),
            loss_ppm: u32::try_from(1_000_000 - kept).unwrap_or(1_000_000),
            trust: self.trust.min(next.trust),
        }
    }
}

/// What losing so many packets, in millionths, costs on average: each is sent again until it
/// arrives.
fn lost_us(ppm: u32) -> u32 {
    let (lost, kept) = (u64::from(ppm), u64::from(MILLION.saturating_sub(ppm)));
    let us = (LOST_US * lost).checked_div(kept).unwrap_or(GIVEN_UP_US);
    u32::try_from(us.min(GIVEN_UP_US)).unwrap_or(u32::MAX)
}

/// How a cell reaches a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Near {
    pub(crate) leg: Leg,
    /// The relay, or [`NONE`].
    pub(crate) relay: u8,
    /// The distance factor, 0 to 10,000.
    pub(crate) closeness: u16,
}

/// Every way.
#[derive(Debug)]
pub(crate) struct Ways {
    sites: usize,
    /// By cell, then by region: the best of all ways.
    near: Vec<Near>,
    /// By cell, then by region: the direct way.
    direct: Vec<Leg>,
    /// By region, then by region.
    between: Vec<Leg>,
    /// Whether the place of a cell is known.
    placed: Vec<bool>,
}

/// The ways of one cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) near: &'a [Near],
    direct: &'a [Leg],
    between: &'a [Leg],
    pub(crate) placed: bool,
}

impl Ways {
    /// Measures, estimates and compares. `relays` has a bit for every region that may pass
    /// traffic on.
    pub(crate) fn new(inputs: &Inputs, relays: u64) -> Self {
        let sites = inputs.sites.len();
        let between = between(inputs);
        let mut ways = Self {
            sites,
            near: Vec::with_capacity(inputs.cells.len() * sites),
            direct: Vec::with_capacity(inputs.cells.len() * sites),
            between,
            placed: inputs.cells.iter().map(|cell| cell.spot.is_some()).collect(),
        };
        for (at, cell) in inputs.cells.iter().enumerate() {
            let legs = inputs.sites.iter().map(|site| access(cell, site, inputs.now));
            ways.direct.extend(legs);
            let direct = &ways.direct[at * sites..];
            for (target, site) in inputs.sites.iter().enumerate() {
                let (leg, relay) = shortest(direct, &ways.between, target, relays);
                ways.near.push(Near { leg, relay, closeness: closeness(cell, site) });
            }
        }
        ways
    }

    pub(crate) fn row(&self, cell: usize) -> Row<'_> {
        let (from, to) = (cell * self.sites, (cell + 1) * self.sites);
        Row {
            near: &self.near[from..to],
            direct: &self.direct[from..to],
            between: &self.between,
            placed: self.placed[cell],
        }
    }
}

impl Row<'_> {
    /// The way to a region, through none but these relays.
    pub(crate) fn way(&self, target: usize, relays: u64) -> Near {
        let near = self.near[target];
        if near.relay == NONE || relays >> near.relay & 1 == 1 {
            return near;
        }
        // The shortest of all is not allowed: look among those that are.
        let (leg, relay) = shortest(self.direct, self.between, target, relays);
        Near { leg, relay, closeness: near.closeness }
    }

    pub(crate) fn direct(&self, target: usize) -> Leg {
        self.direct[target]
    }
}

/// The direct way, or the best relay's when it is enough better.
fn shortest(direct: &[Leg], between: &[Leg], target: usize, relays: u64) -> (Leg, u8) {
    let straight = direct[target];
    if straight.rtt == UNKNOWN {
        return (straight, NONE);
    }
    let sites = direct.len();
    let (mut best, mut by) = (straight, NONE);
    let mut left = relays & !(1 << target);
    while left != 0 {
        let relay = left.trailing_zeros() as usize;
        left &= left - 1;
        let leg = direct[relay].then(between[relay * sites + target]);
        if leg.rtt != UNKNOWN && leg.weight() < best.weight() {
            best = leg;
            by = u8::try_from(relay).unwrap_or(NONE);
        }
    }
    let saved = straight.weight() - best.weight();
    let enough = saved >= RELAY_GAIN_US
        && u64::from(best.weight()) * OF <= u64::from(straight.weight()) * RELAY_SHARE;
    if enough { (best, by) } else { (straight, NONE) }
}

/// From clients to a region.
fn access(cell: &Cell, site: &Site, now: Timestamp) -> Leg {
    let km = cell.spot.map(|spot| distance_km(spot, site.spot));
    let expected = km.map_or(UNKNOWN, |km| expected_rtt(km).get());
    leg(cell.trips.get(&site.id), expected, now)
}

/// A round trip that is known so well, and the distance for the rest. Without a place it is
/// what is known as long as that says anything, and then unknown.
fn leg(known: Option<&RoundTrip>, expected: u32, now: Timestamp) -> Leg {
    let Some(known) = known else { return Leg { rtt: expected, ..Leg::NOTHING } };
    let trust = known.at.map_or(CONFIGURED, |at| age::trust(at, now, age::ROUND_TRIP));
    let rtt = match (expected, trust) {
        (UNKNOWN, 0) => UNKNOWN,
        (UNKNOWN, _) => known.rtt.get().min(UNKNOWN - 1),
        _ => blend(known.rtt.get(), expected, trust).min(UNKNOWN - 1),
    };
    Leg {
        rtt,
        loss_ppm: blend(known.loss_ppm.min(1_000_000), 0, trust),
        trust: u16::try_from(trust.min(FULL)).unwrap_or(0),
    }
}

fn closeness(cell: &Cell, site: &Site) -> u16 {
    let km = cell.spot.map_or(FARTHEST_KM, |spot| distance_km(spot, site.spot));
    let left = (FARTHEST_KM - km.min(FARTHEST_KM)) * 10_000 / FARTHEST_KM;
    u16::try_from(left).unwrap_or(10_000)
}

/// Between every two regions.
fn between(inputs: &Inputs) -> Vec<Leg> {
    let sites = &inputs.sites;
    let lines = lines(inputs);
    let mut legs = Vec::with_capacity(lines.len());
    for (at, from) in sites.iter().enumerate() {
        for (to, known) in sites.iter().zip(&lines[at * sites.len()..]) {
            let expected = expected_rtt(distance_km(from.spot, to.spot)).get();
            legs.push(leg(known.map(|link| &link.trip), expected, inputs.now));
        }
    }
    legs
}

/// What is known of every pair of regions: of its direction, else of the other. Regions must
/// be in order.
pub(crate) fn lines(inputs: &Inputs) -> Vec<Option<&Link>> {
    let sites = inputs.sites.len();
    let at = |id: &RegionId| inputs.sites.binary_search_by(|site| site.id.cmp(id)).ok();
    let mut lines = vec![None; sites * sites];
    for link in &inputs.links {
        if let (Some(from), Some(to)) = (at(&link.from), at(&link.to)) {
            lines[from * sites + to] = Some(link);
        }
    }
    for from in 0..sites {
        for to in 0..from {
            let (one, other) = (from * sites + to, to * sites + from);
            lines[one] = lines[one].or(lines[other]);
            lines[other] = lines[other].or(lines[one]);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dwcp_types::Micros;

    use super::*;

    #[test]
    fn few_losses_cost_little_and_what_is_always_lost_a_minute() {
        assert_eq!([0, 5, 10_000].map(lost_us), [0, 1, 2_020]);
        assert_eq!(lost_us(500_000), 200_000, "half of them: once more each");
        assert_eq!([999_999, MILLION, u32::MAX].map(lost_us), [60_000_000; 3]);
    }

    #[test]
    fn what_is_written_down_counts_when_the_measured_is_too_old_to_be_trusted_more() {
        let now = Timestamp::from_millis(10_000_000);
        let stated = RoundTrip::stated(Micros::from_millis(80));
        let after = |seconds| {
            let at = Some(now.minus(Duration::from_secs(seconds)));
            let measured = RoundTrip { rtt: Micros::from_millis(90), loss_ppm: 7, at };
            (measured, measured.or_stated(Some(stated), now))
        };
        let (measured, kept) = after(330);
        assert_eq!(kept, measured, "half of its trust is left, as much as the other has");
        assert_eq!(after(331).1, stated);
        let (old, kept) = after(331);
        assert_eq!(old.or_stated(None, now), old);
        assert_eq!(kept.or_stated(Some(old), now), kept);
    }
}
