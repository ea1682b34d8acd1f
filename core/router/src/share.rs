//! From the best regions to an answer: who leads, who shares the requests, and how fast that
//! may change.
//!
//! Without care all clients go to whichever region looks best, it fills up, and all leave again
//! (F53). So a new leader must be better by a tenth, regions within a twentieth of the leader
//! share by the room that they have left, and shares move by a tenth of all requests a second
//! at most, except away from a region that may no longer answer.

use std::time::Duration;

use crate::near::NONE;
use crate::plan::Plan;
use crate::service::FailMode;
use crate::weigh::{RANKED_MAX, Ranked};

/// All of the requests.
pub(crate) const WHOLE: u8 = u8::MAX;
/// By how much better a score must be to take the lead, in percent.
pub(crate) const LEAD_PERCENT: u64 = 110;
/// From how much of the leader's score on a region shares, in percent.
pub(crate) const BAND_PERCENT: u64 = 95;
/// How much of all requests may move to other regions in a second, in percent.
const PACE_PERCENT: u128 = 10;

/// What is true of a whole answer, as bits.
pub(crate) mod flag {
    /// The leader of before was kept although another is a little better.
    pub(crate) const HELD: u8 = 1;
    /// Shares are still on their way.
    pub(crate) const MOVING: u8 = 1 << 1;
    /// Nothing keeps every limit: this is the least bad.
    pub(crate) const OPEN: u8 = 1 << 2;
    /// Nothing keeps every limit: this is what was answered before.
    pub(crate) const STATIC: u8 = 1 << 3;
    /// Nothing keeps every limit, and the service wants no answer then.
    pub(crate) const CLOSED: u8 = 1 << 4;
    /// Nothing was measured lately of the leader's way.
    pub(crate) const GUESSED: u8 = 1 << 5;
    /// Where the client is is not known.
    pub(crate) const PLACELESS: u8 = 1 << 6;
}

/// The answer for a cell, a service and a class: 16 bytes, four in a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The regions, best first; [`NONE`] for no more.
    pub(crate) sites: [u8; RANKED_MAX],
    /// The relay of each, or [`NONE`].
    pub(crate) relays: [u8; RANKED_MAX],
    /// The limits that each breaks.
    pub(crate) failed: [u8; RANKED_MAX],
    /// The shares of the first three; the fourth has the rest.
    shares: [u8; RANKED_MAX - 1],
    pub(crate) flags: u8,
}

impl Entry {
    /// No region.
    pub(crate) const NOWHERE: Self = Self {
        sites: [NONE; RANKED_MAX],
        relays: [NONE; RANKED_MAX],
        failed: [0; RANKED_MAX],
        shares: [0; RANKED_MAX - 1],
        flags: 0,
    };

    /// How the requests are shared; adds up to [`WHOLE`] where there is a region.
    #[inline]
    pub(crate) fn shares(&self) -> [u8; RANKED_MAX] {
        let [first, second, third] = self.shares;
        let rest = WHOLE.saturating_sub(first).saturating_sub(second);
        [first, second, third, rest.saturating_sub(third)]
    }

    fn share_of(&self, site: u8) -> u8 {
        let found = self.sites.iter().position(|other| *other == site);
        found.map_or(0, |at| self.shares()[at])
    }
}

/// What was answered before, in the numbers of today, and how far shares may move since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Past {
    pub(crate) entry: Entry,
    pub(crate) step: u8,
}

/// How far shares may move in a time.
pub(crate) fn step(elapsed: Duration) -> u8 {
    let moved = elapsed.as_millis() * u128::from(WHOLE) * PACE_PERCENT;
    // Always a little, or tables that are made often would never change.
    u8::try_from(moved.div_ceil(100_000).max(1)).unwrap_or(WHOLE)
}

/// Makes the answer.
#[inline]
pub(crate) fn settle(plan: &Plan, ranked: &Ranked, past: Option<&Past>) -> Entry {
    let mut ranked = *ranked;
    let Some(best) = ranked.list[..ranked.len].first().copied() else {
        return Entry::NOWHERE;
    };
    let mut flags = 0;
    if best.tier() > 0 {
        match plan.fail {
            FailMode::Open => flags |= flag::OPEN,
            FailMode::Closed => return Entry { flags: flag::CLOSED, ..Entry::NOWHERE },
            FailMode::Static => match past.and_then(|past| unchanged(plan, past)) {
                Some(entry) => return entry,
                None => flags |= flag::OPEN,
            },
        }
    }
    if plan.fail != FailMode::Open {
        // Whoever wants no bad answer has none to fall back on either.
        let tier = best.tier();
        ranked.len = ranked.list[..ranked.len].partition_point(|w| w.tier() == tier);
    }
    if let Some(past) = past
        && hold(&mut ranked, past.entry.sites[0])
    {
        flags |= flag::HELD;
    }
    let lead = ranked.list[0];
    if lead.trust == 0 {
        flags |= flag::GUESSED;
    }
    let target = target(plan, &ranked);
    let shares = match past {
        Some(past) => paced(&ranked, target, past),
        None => target,
    };
    if shares != target {
        flags |= flag::MOVING;
    }
    written(&ranked, shares, flags)
}

fn written(ranked: &Ranked, shares: [u8; RANKED_MAX], flags: u8) -> Entry {
    let mut entry = Entry { flags, ..Entry::NOWHERE };
    for (at, weighed) in ranked.list[..ranked.len].iter().enumerate() {
        entry.sites[at] = weighed.site;
        entry.relays[at] = weighed.relay;
        entry.failed[at] = weighed.refused.soft();
    }
    entry.shares.copy_from_slice(&shares[..RANKED_MAX - 1]);
    entry
}

/// What was answered before, where the law still allows it; by the direct way.
fn unchanged(plan: &Plan, past: &Past) -> Option<Entry> {
    let allowed = |site: u8| {
        plan.sites.get(usize::from(site)).is_some_and(|fixed| !fixed.refused.is_hard())
    };
    let before = past.entry.shares();
    let mut entry = Entry { flags: flag::STATIC, ..Entry::NOWHERE };
    let (mut shares, mut len) = ([0; RANKED_MAX], 0);
    for (site, share) in past.entry.sites.into_iter().zip(before) {
        if site != NONE && allowed(site) {
            entry.sites[len] = site;
            entry.failed[len] = plan.sites[usize::from(site)].refused.soft();
            shares[len] = share;
            len += 1;
        }
    }
    if len == 0 {
        return None;
    }
    let shares = scaled(shares.map(u64::from));
    entry.shares.copy_from_slice(&shares[..RANKED_MAX - 1]);
    Some(entry)
}

/// Puts the leader of before first again, when the new one is not a tenth better.
fn hold(ranked: &mut Ranked, before: u8) -> bool {
    let list = &mut ranked.list[..ranked.len];
    let Some(at) = list.iter().position(|weighed| weighed.site == before) else {
        return false;
    };
    let (old, new) = (list[at], list[0]);
    let close = u64::from(new.score) * 100 <= u64::from(old.score) * LEAD_PERCENT;
    if at == 0 || old.tier() != new.tier() || !close {
        return false;
    }
    list[..=at].rotate_right(1);
    true
}

/// How requests are shared when nothing holds them back: among regions nearly as good as the
/// leader, by the room that is left; what a region that is being tried out may not have goes
/// to the others, or to the next that is not.
fn target(plan: &Plan, ranked: &Ranked) -> [u8; RANKED_MAX] {
    let lead = ranked.list[0];
    let list = &ranked.list[..ranked.len];
    let fixed = |at: usize| &plan.sites[usize::from(list[at].site)];
    let full = |at: usize| fixed(at).weight >= 100;
    let mut room = [0_u64; RANKED_MAX];
    let (mut taken, mut left) = ([0_u64; RANKED_MAX], 0);
    for (at, weighed) in list.iter().enumerate() {
        let near = u64::from(weighed.score) * 100 >= u64::from(lead.score) * BAND_PERCENT;
        if weighed.tier() == lead.tier() && near {
            let weight = u64::from(fixed(at).weight);
            room[at] = fixed(at).spare.into();
            taken[at] = room[at] * weight;
            left += room[at] * (100 - weight);
        }
    }
    if left > 0 {
        let mut takers = room;
        (0..list.len()).filter(|at| !full(*at)).for_each(|at| takers[at] = 0);
        if takers.iter().all(|room| *room == 0) {
            let next = (0..list.len()).find(|at| {
                room[*at] == 0 && full(*at) && list[*at].tier() == lead.tier()
            });
            next.into_iter().for_each(|at| takers[at] = 1);
        }
        let sum: u64 = takers.iter().sum();
        for (taken, taker) in taken.iter_mut().zip(takers) {
            let more = u128::from(left) * u128::from(taker) / u128::from(sum.max(1));
            *taken += u64::try_from(more).unwrap_or(u64::MAX);
        }
    }
    scaled(taken)
}

/// Parts of [`WHOLE`] in proportion; what rounding leaves goes to the largest.
fn scaled(parts: [u64; RANKED_MAX]) -> [u8; RANKED_MAX] {
    // Parts are room times percent, so that nothing here comes near the end of 64 bits.
    let sum = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
    if sum == 0 {
        return [WHOLE, 0, 0, 0];
    }
    let mut shares = parts.map(|part| {
        let share = part.saturating_mul(WHOLE.into()) / sum;
        u8::try_from(share).unwrap_or(WHOLE)
    });
    let given: u8 = shares.iter().sum();
    let most = parts.iter().max();
    let largest = parts.iter().position(|part| Some(part) == most).unwrap_or(0);
    shares[largest] += WHOLE - given;
    shares
}

/// From what was to what shall be, no further than a step: the best gain first, the worst
/// lose first.
fn paced(ranked: &Ranked, target: [u8; RANKED_MAX], past: &Past) -> [u8; RANKED_MAX] {
    let tier = ranked.list[0].tier();
    let mut before = [0_u64; RANKED_MAX];
    for (at, weighed) in ranked.list[..ranked.len].iter().enumerate() {
        if weighed.tier() == tier {
            before[at] = past.entry.share_of(weighed.site).into();
        }
    }
    if before.iter().all(|share| *share == 0) {
        return target;
    }
    let mut shares = scaled(before);
    let mut step = past.step;
    let mut moved = 0;
    for (share, wanted) in shares.iter_mut().zip(target) {
        let gain = wanted.saturating_sub(*share).min(step);
        *share += gain;
        step -= gain;
        moved += gain;
    }
    for (share, wanted) in shares.iter_mut().zip(target).rev() {
        let loss = share.saturating_sub(wanted).min(moved);
        *share -= loss;
        moved -= loss;
    }
    shares
}
