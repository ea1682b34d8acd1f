//! Which regions are best for one client, under one plan, exactly.
//!
//! One pass over all regions without a branch on what is usual, and the best four. The order is
//! total and has no floats: how little is broken, then the score, then the shorter way, then
//! the region's place among the names.

use crate::decide::Standing;
use crate::input::Site;
use crate::near::{NONE, Near, Row, UNKNOWN};
use crate::plan::Plan;
use crate::refusal::{Refusal, Refusals};
use crate::weights::{FACTORS, Factor};

/// Regions that are kept: one, and three to fall back on (DETAILS 2.1: "next 3").
pub(crate) const RANKED_MAX: usize = 4;

/// Microseconds on the scale of latency that are one basis point: 400 ms are everything.
const LATENCY_US_PER_BPS: u32 = 40;
/// The best score: every factor full.
const SCORE_MAX: u32 = 10_000 * 10_000;

/// What GBs cost on their way through relays: by the region that answers, then by the relay.
#[derive(Debug)]
pub(crate) struct Prices {
    pub(crate) sites: usize,
    pub(crate) via: Vec<u64>,
}

/// Everything that is weighed against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) sites: &'a [Site],
    pub(crate) prices: &'a Prices,
    pub(crate) row: Row<'a>,
    pub(crate) standing: Standing,
}

/// A region that might answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weighed {
    /// Less is better; unique.
    key: u64,
    pub(crate) score: u32,
    pub(crate) site: u8,
    pub(crate) relay: u8,
    pub(crate) refused: Refusals,
    pub(crate) trust: u16,
}

impl Weighed {
    pub(crate) const NOTHING: Self = Self {
        key: u64::MAX,
        score: 0,
        site: NONE,
        relay: NONE,
        refused: Refusals::NONE,
        trust: 0,
    };

    pub(crate) const fn tier(&self) -> u8 {
        self.refused.tier()
    }
}

/// The best regions, best first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    pub(crate) list: [Weighed; RANKED_MAX],
    pub(crate) len: usize,
}

impl Ranked {
    fn insert(&mut self, weighed: Weighed) {
        if self.len == RANKED_MAX && weighed.key >= self.list[RANKED_MAX - 1].key {
            return;
        }
        let mut at = self.len.min(RANKED_MAX - 1);
        while at > 0 && self.list[at - 1].key > weighed.key {
            self.list[at] = self.list[at - 1];
            at -= 1;
        }
        self.list[at] = weighed;
        self.len = (self.len + 1).min(RANKED_MAX);
    }
}

/// Whoever wants to know what was weighed. Nobody, on the way to a table.
pub(crate) trait Notes {
    /// One region, whatever became of it.
    fn weighed(&mut self, _: &Note) {}
}

impl Notes for () {}

/// What can be noted of a region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) site: usize,
    pub(crate) near: Near,
    pub(crate) refused: Refusals,
    pub(crate) values: [u16; FACTORS],
    pub(crate) score: u32,
}

/// Ranks the regions.
#[inline]
pub(crate) fn weigh<N: Notes>(plan: &Plan, field: Field<'_>, notes: &mut N) -> Ranked {
    let mut ranked = Ranked { list: [Weighed::NOTHING; RANKED_MAX], len: 0 };
    let relays = plan.relays & field.standing.0;
    for site in 0..field.sites.len() {
        let note = look(plan, &field, relays, site);
        notes.weighed(&note);
        if !note.refused.is_hard() {
            ranked.insert(weighed(&note));
        }
    }
    ranked
}

/// One region.
#[inline]
pub(crate) fn look(plan: &Plan, field: &Field<'_>, relays: u64, site: usize) -> Note {
    let fixed = &plan.sites[site];
    let near = field.row.way(site, relays);
    let rtt = near.leg.rtt;
    let limited = plan.latency_max != UNKNOWN;
    let refused = fixed
        .refused
        .with_if(Refusal::Latency, rtt != UNKNOWN && rtt > plan.latency_max)
        .with_if(Refusal::LatencyUnknown, limited && rtt == UNKNOWN)
        .with_if(Refusal::Loss, near.leg.loss_ppm > plan.loss_ppm_max)
        .with_if(Refusal::Health, !field.standing.has(site));
    let set = usize::from(!field.row.placed);
    let weights = &plan.weights[set].0;
    let mut values = fixed.values;
    values[Factor::Latency as usize] = latency_value(rtt);
    values[Factor::Distance as usize] = near.closeness;
    let part = |factor: Factor, value: u16| {
        u32::from(weights[factor as usize]) * u32::from(value)
    };
    let mut score = fixed.base[set]
        + part(Factor::Latency, values[Factor::Latency as usize])
        + part(Factor::Distance, near.closeness);
    if near.relay != NONE {
        // What goes through a relay is paid for twice.
        let via = field.prices.via[site * field.prices.sites + usize::from(near.relay)];
        let cost = plan.cost_of(via, &field.sites[site]);
        score -= part(Factor::Cost, values[Factor::Cost as usize]);
        score += part(Factor::Cost, cost);
        values[Factor::Cost as usize] = cost;
    }
    Note { site, near, refused, values, score }
}

fn latency_value(rtt: u32) -> u16 {
    let left = 10_000_u32.saturating_sub(rtt / LATENCY_US_PER_BPS);
    u16::try_from(left).unwrap_or(0)
}

/// Tier in three bits, what is missing of the score in 27, the way in 28, the name in six.
fn weighed(note: &Note) -> Weighed {
    let tier = note.refused.tier();
    let missing = SCORE_MAX - note.score.min(SCORE_MAX);
    let way = note.near.leg.rtt.min((1 << 28) - 1);
    let key = u64::from(tier) << 61
        | u64::from(missing) << 34
        | u64::from(way) << 6
        | note.site as u64;
    Weighed {
        key,
        score: note.score,
        site: u8::try_from(note.site).unwrap_or(NONE),
        relay: note.near.relay,
        refused: note.refused,
        trust: note.near.leg.trust,
    }
}
