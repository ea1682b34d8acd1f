//! One request, one table, one answer (R8, P6). No lock, no clock, no allocation.
//!
//! What changes faster than tables do, which regions are up, is a word of bits beside the
//! table: a region that dies is left at the next request and not at the next table (F56).

use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::near::NONE;
use crate::plan::Plan;
use crate::refusal::Refusals;
use crate::rendezvous::{before, draw};
use crate::service::{Class, Requirement};
use crate::share::{Entry, flag};
use crate::table::Table;
use crate::weigh::RANKED_MAX;

/// How long an answer is kept that will not last, in seconds: R12's `FailoverTimeout`.
const TTL_SHORT_S: u8 = 5;

/// A region by its place in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegionIx(pub(crate) u8);

impl RegionIx {
    /// As an index.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    const fn of(site: u8) -> Option<Self> {
        if site == NONE { None } else { Some(Self(site)) }
    }
}

/// Which regions of a table are up at this moment, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing(pub u64);

impl Standing {
    /// All of them.
    pub const ALL: Self = Self(u64::MAX);
    /// None.
    pub const NONE: Self = Self(0);

    /// These and one.
    #[must_use]
    pub const fn with(self, region: RegionIx) -> Self {
        Self(self.0 | 1 << (region.0 & 63))
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Whether one is; [`NONE`] is not.
    #[inline]
    pub(crate) const fn has(self, site: usize) -> bool {
        site < 64 && self.0 >> site & 1 == 1
    }

    /// All of these but one.
    #[must_use]
    pub const fn without(self, region: RegionIx) -> Self {
        Self(self.0 & !(1 << (region.0 & 63)))
    }
}

/// What is asked (`source:service` of P6, typed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// The client's cell, its place in [`crate::Inputs::cells`].
    pub cell: u32,
    /// The service, as [`Table::service`] numbers it.
    pub service: u16,
    /// The class.
    pub class: Class,
    /// The client, as a number: of its address, its cookie, or what else it is known by.
    pub client: u64,
    /// This request, as a number: any that differs from the next.
    pub request: u64,
}

/// The way to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Straight there.
    Direct,
    /// In at another region and on through the lines between ours.
    Via(RegionIx),
}

/// Something that is true of an answer.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The leader of before was kept although another is a little better.
    Held,
    /// Shares are on their way to where they belong.
    Moving,
    /// No region keeps every limit; this one breaks the least.
    FailOpen,
    /// No region keeps every limit; this is the answer of before.
    FailStatic,
    /// No region keeps every limit, and the service wants no answer then.
    FailClosed,
    /// Nothing was measured lately of the best region's way: its distance decided.
    Guessed,
    /// Nobody knows where the client is.
    Placeless,
    /// Several regions share the requests, and this one's turn it is.
    Shared,
    /// The client keeps its region.
    Sticky,
    /// It goes through a relay.
    Relayed,
    /// A better region has just gone down.
    StoodIn,
    /// All regions of the table's answer are down: all others were weighed anew.
    WeighedAnew,
    /// There is no such cell or service.
    UnknownKey,
}

impl Reason {
    const ALL: [Self; 13] = [
        Self::Held,
        Self::Moving,
        Self::FailOpen,
        Self::FailStatic,
        Self::FailClosed,
        Self::Guessed,
        Self::Placeless,
        Self::Shared,
        Self::Sticky,
        Self::Relayed,
        Self::StoodIn,
        Self::WeighedAnew,
        Self::UnknownKey,
    ];
}

/// What is true of an answer, as bits; the first seven are those of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons(u16);

impl Reasons {
    const fn of_entry(flags: u8) -> Self {
        Self(flags as u16)
    }

    const fn with_if(self, reason: Reason, holds: bool) -> Self {
        Self(self.0 | ((holds as u16) << reason as u16))
    }

    /// Whether one is true.
    #[must_use]
    pub const fn has(self, reason: Reason) -> bool {
        self.0 >> reason as u16 & 1 == 1
    }

    /// Each that is true.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL.into_iter().filter(move |reason| self.has(*reason))
    }
}

/// Where to go next when the answer does not answer, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fallbacks {
    sites: [u8; RANKED_MAX - 1],
    len: u8,
}

impl Fallbacks {
    fn push(&mut self, site: u8) {
        if let Some(slot) = self.sites.get_mut(usize::from(self.len)) {
            *slot = site;
            self.len += 1;
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = RegionIx> + '_ {
        self.sites.iter().take(self.len.into()).map(|site| RegionIx(*site))
    }
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The table that it is from.
    pub generation: u64,
    /// The region; nothing when none may answer.
    pub region: Option<RegionIx>,
    /// The way to it.
    pub path: Path,
    /// What to try next.
    pub fallbacks: Fallbacks,
    /// How long the answer may be kept, in seconds.
    pub ttl_s: u8,
    /// The limits that the region breaks (F86); with none of them it "currently meets" what is
    /// asked for (F61).
    pub failed: Refusals,
    /// What else is true of it.
    pub reasons: Reasons,
}

impl Decision {
    /// Whether there is a region, and it keeps every limit.
    #[must_use]
    pub fn meets(&self) -> bool {
        self.region.is_some() && self.failed.is_empty()
    }

    /// The region's name in the table that it is from.
    #[must_use]
    pub fn region_id<'t>(&self, table: &'t Table) -> Option<&'t RegionId> {
        self.region.map(|region| table.region(region))
    }

    const fn nowhere(generation: u64, reasons: Reasons) -> Self {
        Self {
            generation,
            region: None,
            path: Path::Direct,
            fallbacks: Fallbacks { sites: [NONE; RANKED_MAX - 1], len: 0 },
            ttl_s: TTL_SHORT_S,
            failed: Refusals::NONE,
            reasons,
        }
    }
}

/// Decides where a request goes.
#[inline]
#[must_use]
pub fn decide(table: &Table, standing: Standing, key: &Key) -> Decision {
    decide_by(table, standing, standing, key)
}

/// The same where others may answer than may carry: a region without a server of the service is
/// a relay all the same.
#[inline]
#[must_use]
pub fn decide_by(
    table: &Table,
    standing: Standing,
    relays: Standing,
    key: &Key,
) -> Decision {
    let Some((plan, entry)) = table.entry(key) else {
        return unknown(table);
    };
    choose(table, plan, entry, (standing, relays), key)
        .unwrap_or_else(|| anew(table, plan, standing, key))
}

/// Decides for a request with limits of its own (R9): every region is weighed for it.
#[must_use]
pub fn decide_for(
    table: &Table,
    standing: Standing,
    key: &Key,
    wanted: Requirement,
) -> Decision {
    let Some(plan) = table.plan_for(key, wanted) else { return unknown(table) };
    let entry = table.answer(&plan, key, standing, &mut ());
    settled(table, &plan, &entry, key)
}

fn unknown(table: &Table) -> Decision {
    let reasons = Reasons::default().with_if(Reason::UnknownKey, true);
    Decision::nowhere(table.generation(), reasons)
}

/// When every region of an entry is down.
#[cold]
#[inline(never)]
fn anew(table: &Table, plan: &Plan, standing: Standing, key: &Key) -> Decision {
    let entry = table.answer(plan, key, standing, &mut ());
    reweighed(table, plan, &entry, key)
}

/// From an entry that was made because all regions of the table's were down.
pub(crate) fn reweighed(
    table: &Table,
    plan: &Plan,
    entry: &Entry,
    key: &Key,
) -> Decision {
    let mut decision = settled(table, plan, entry, key);
    decision.reasons = decision.reasons.with_if(Reason::WeighedAnew, true);
    decision.ttl_s = decision.ttl_s.min(TTL_SHORT_S);
    decision
}

/// From an entry that knows already who is up.
pub(crate) fn settled(table: &Table, plan: &Plan, entry: &Entry, key: &Key) -> Decision {
    let nowhere =
        || Decision::nowhere(table.generation(), Reasons::of_entry(entry.flags));
    let all = (Standing::ALL, Standing::ALL);
    choose(table, plan, entry, all, key).unwrap_or_else(nowhere)
}

/// Picks from an entry by who may answer and who may carry; nothing when all its regions are down.
#[inline]
pub(crate) fn choose(
    table: &Table,
    plan: &Plan,
    entry: &Entry,
    (standing, relays): (Standing, Standing),
    key: &Key,
) -> Option<Decision> {
    if entry.sites[0] == NONE {
        // The service wants no answer, or there is none.
        let reasons = Reasons::of_entry(entry.flags);
        return Some(Decision::nowhere(table.generation(), reasons));
    }
    let up = entry.sites.map(|site| standing.has(site.into()));
    let at = turn(table, entry, up, if plan.sticky { key.client } else { key.request })?;
    let relay = entry.relays[at];
    // A relay that has just gone down is left out; the direct way is there.
    let relayed = relay != NONE && relays.has(relay.into());
    let failed = Refusals::of_soft(entry.failed[at]);
    let stood_in = up.iter().zip(entry.shares()).any(|(up, share)| !up && share > 0);
    let brief = stood_in || !failed.is_empty() || entry.flags & flag::STATIC != 0;
    let mut fallbacks = Fallbacks::default();
    for (other, site) in entry.sites.into_iter().enumerate() {
        if other != at && up[other] {
            fallbacks.push(site);
        }
    }
    Some(Decision {
        generation: table.generation(),
        region: RegionIx::of(entry.sites[at]),
        path: if relayed { Path::Via(RegionIx(relay)) } else { Path::Direct },
        fallbacks,
        ttl_s: if brief { plan.ttl_s.min(TTL_SHORT_S) } else { plan.ttl_s },
        failed,
        reasons: Reasons::of_entry(entry.flags)
            .with_if(Reason::Shared, entry.shares()[at] < u8::MAX && !stood_in)
            .with_if(Reason::Sticky, plan.sticky)
            .with_if(Reason::Relayed, relayed)
            .with_if(Reason::StoodIn, stood_in),
    })
}

/// Whose turn it is among those that are up.
#[inline]
fn turn(
    table: &Table,
    entry: &Entry,
    up: [bool; RANKED_MAX],
    seed: u64,
) -> Option<usize> {
    let shares = entry.shares();
    // Most entries have one region for all, which needs no draw.
    if shares[0] == u8::MAX && up[0] {
        return Some(0);
    }
    let mut best: Option<(usize, (u32, u8))> = None;
    for (at, (site, share)) in entry.sites.into_iter().zip(shares).enumerate() {
        if !up[at] || share == 0 {
            continue;
        }
        let drawn = (draw(seed, table.salt(site)), share);
        if best.is_none_or(|(_, least)| before(drawn, least)) {
            best = Some((at, drawn));
        }
    }
    // When none that shares is up, the next in order has all.
    best.map(|(at, _)| at).or_else(|| up.iter().position(|up| *up))
}
