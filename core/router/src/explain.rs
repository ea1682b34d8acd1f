//! Why a request goes where it goes: the decision, and every region with its factors or with
//! all that speaks against it.
//!
//! The same weighing, settling and picking as for a table and a decision, with a pen. What is
//! told is therefore what was done.

use dwcp_types::{Bps, Mbps, MicroUsd, Micros, RegionId, ServiceId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decide::{Decision, Key, Path, Reason, Standing, choose, reweighed, settled};
use crate::input::Site;
use crate::near::{NONE, Near, UNKNOWN};
use crate::place::distance_km;
use crate::plan::Plan;
use crate::refusal::Refusal;
use crate::service::{Class, Requirement};
use crate::share::Entry;
use crate::table::{Table, answer};
use crate::weigh::{Note, Notes};
use crate::weights::{Algorithm, FACTORS, Factor};

/// A decision and everything that it was taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The table that it is from.
    pub generation: u64,
    /// When that table's inputs were put together.
    pub built_at: Timestamp,
    /// The service.
    pub service: ServiceId,
    /// The class.
    pub class: Class,
    /// How its regions are ranked.
    pub algorithm: Algorithm,
    /// The limits of this request.
    pub requirement: Requirement,
    /// What was decided.
    pub decision: Chosen,
    /// Every region: those that may answer from best to worst, then the others by name.
    pub candidates: Vec<Candidate>,
}

/// A decision with names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chosen {
    /// The region; nothing when none may answer.
    pub region: Option<RegionId>,
    /// The relay on the way; nothing when the way is direct.
    pub via: Option<RegionId>,
    /// What to try next.
    pub fallbacks: Vec<RegionId>,
    /// How long the answer may be kept, in seconds.
    pub ttl_s: u8,
    /// Whether it keeps every limit at this moment.
    pub meets: bool,
    /// The limits that it breaks.
    pub failed: Vec<Refusal>,
    /// What else is true of it.
    pub reasons: Vec<Reason>,
}

/// A region, weighed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// The region.
    pub region: RegionId,
    /// All that speaks against it.
    pub refused: Vec<Refusal>,
    /// The share of such requests that it has.
    pub share: Bps,
    /// The score: the sum of the contributions.
    pub score: Bps,
    /// What it is made of; only factors that count.
    pub factors: Vec<FactorView>,
    /// The way to it.
    pub way: LegView,
    /// What a million such requests cost there, traffic and CPU.
    pub cost_per_million: MicroUsd,
    /// Bandwidth that is left, as far as known.
    pub spare: Mbps,
    /// How old what is known of its health is, in milliseconds.
    pub health_age_ms: u64,
    /// How old what is known of its load is, in milliseconds; nothing when nobody says.
    pub load_age_ms: Option<u64>,
}

/// One factor of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FactorView {
    /// Which.
    pub factor: Factor,
    /// How good the region is in this respect.
    pub value: Bps,
    /// How much that counts.
    pub weight: Bps,
    /// What it adds to the score: value x weight, rounded down.
    pub contribution: Bps,
}

/// The way from a client to a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LegView {
    /// The relay on it; nothing when it is direct.
    pub via: Option<RegionId>,
    /// The round trip; nothing when it is not known.
    pub rtt: Option<Micros>,
    /// The round trip of the direct way.
    pub direct_rtt: Option<Micros>,
    /// Packets lost, in millionths.
    pub loss_ppm: u32,
    /// How much of the round trip was measured lately; the rest is expected of the distance.
    pub measured: Bps,
    /// As the crow flies; nothing when nobody knows where the client is.
    pub distance_km: Option<u32>,
}

/// Writes everything down.
#[derive(Debug, Default)]
struct Pad(Vec<Note>);

impl Notes for Pad {
    fn weighed(&mut self, note: &Note) {
        self.0.push(*note);
    }
}

/// Explains what [`crate::decide()`] says to a key, or [`crate::decide_for`] when it has limits
/// of its own. Nothing when there is no such cell or service.
#[must_use]
pub fn explain(
    table: &Table,
    standing: Standing,
    key: &Key,
    own: Option<Requirement>,
) -> Option<Explanation> {
    let (planned, stored) = table.entry(key)?;
    let service = table.service_of(key)?;
    let special = own.and_then(|wanted| table.plan_for(key, wanted));
    let plan = special.as_ref().unwrap_or(planned);
    let mut pad = Pad::default();
    let (entry, decision) = if special.is_some() {
        let entry = table.answer(plan, key, standing, &mut pad);
        (entry, settled(table, plan, &entry, key))
    } else {
        let entry = table.again(key, &mut pad);
        debug_assert_eq!(entry, *stored, "what is told is not what was done");
        match choose(table, plan, &entry, (standing, standing), key) {
            Some(decision) => (entry, decision),
            None => {
                pad.0.clear();
                let entry = table.answer(plan, key, standing, &mut pad);
                (entry, reweighed(table, plan, &entry, key))
            }
        }
    };
    let view = View { table, plan, key, entry, standing };
    view.mark(&mut pad);
    Some(Explanation {
        generation: table.generation(),
        built_at: table.built_at(),
        service: service.id.clone(),
        class: key.class,
        algorithm: service.algorithm,
        requirement: plan.requirement,
        decision: view.chosen(&decision),
        candidates: view.candidates(pad),
    })
}

impl Table {
    /// The stored answer, made once more for whoever takes notes.
    fn again<N: Notes>(&self, key: &Key, notes: &mut N) -> Entry {
        let cell = key.cell as usize;
        let at = usize::from(key.service) * crate::service::CLASSES + key.class as usize;
        let past = self.memory.past(at, cell);
        answer(&self.plans[at], self.field(cell, Standing::ALL), past.as_ref(), notes)
    }
}

struct View<'a> {
    table: &'a Table,
    plan: &'a Plan,
    key: &'a Key,
    entry: Entry,
    standing: Standing,
}

impl View<'_> {
    /// What is down since the table was made is unhealthy.
    fn mark(&self, pad: &mut Pad) {
        for note in &mut pad.0 {
            let down = !self.standing.has(note.site);
            note.refused = note.refused.with_if(Refusal::Health, down);
        }
    }

    fn id(&self, site: usize) -> RegionId {
        self.table.inputs().sites[site].id.clone()
    }

    fn chosen(&self, decision: &Decision) -> Chosen {
        let via = match decision.path {
            Path::Direct => None,
            Path::Via(relay) => Some(self.id(relay.get())),
        };
        Chosen {
            region: decision.region_id(self.table).cloned(),
            via,
            fallbacks: decision.fallbacks.iter().map(|at| self.id(at.get())).collect(),
            ttl_s: decision.ttl_s,
            meets: decision.meets(),
            failed: decision.failed.iter().collect(),
            reasons: decision.reasons.iter().collect(),
        }
    }

    fn candidates(&self, pad: Pad) -> Vec<Candidate> {
        let mut notes = pad.0;
        // The order of ranking, with those that may never answer last.
        notes.sort_by_key(|note| {
            let hard = note.refused.is_hard();
            let score = if hard { 0 } else { note.score };
            let rtt = if hard { 0 } else { note.near.leg.rtt };
            (hard, note.refused.tier(), std::cmp::Reverse(score), rtt, note.site)
        });
        notes.iter().map(|note| self.candidate(note)).collect()
    }

    fn candidate(&self, note: &Note) -> Candidate {
        let inputs = self.table.inputs();
        let site = &inputs.sites[note.site];
        let age = |at: Timestamp| {
            u64::try_from(inputs.now.since(at).as_millis()).unwrap_or(u64::MAX)
        };
        let here = u8::try_from(note.site).unwrap_or(NONE);
        let at = self.entry.sites.iter().position(|other| *other == here);
        let share = at.map_or(0, |at| self.entry.shares()[at]);
        Candidate {
            region: site.id.clone(),
            refused: note.refused.iter().collect(),
            share: Bps::ratio(share.into(), u8::MAX.into()),
            score: bps(note.score / 10_000),
            factors: self.factors(&note.values),
            way: self.way(note),
            cost_per_million: MicroUsd::new(self.cost(note)),
            spare: Mbps::new(self.plan.sites[note.site].spare.into()),
            health_age_ms: age(site.health.at),
            load_age_ms: site.load.map(|load| age(load.at)),
        }
    }

    fn cost(&self, note: &Note) -> u64 {
        let site = &self.table.inputs().sites[note.site];
        let prices = &self.table.prices;
        let direct = note.near.relay == NONE;
        let via = || prices.via[note.site * prices.sites + usize::from(note.near.relay)];
        let egress = if direct { site.egress_gb.get() } else { via() };
        self.plan.cost(egress, site)
    }

    fn factors(&self, values: &[u16; FACTORS]) -> Vec<FactorView> {
        let placed = self.table.field(self.key.cell as usize, Standing::ALL).row.placed;
        let weights = self.plan.weights[usize::from(!placed)].0;
        let parts = Factor::ALL.into_iter().zip(values.iter().zip(weights));
        let counting = parts.filter(|(_, (_, weight))| *weight > 0);
        counting
            .map(|(factor, (value, weight))| FactorView {
                factor,
                value: bps((*value).into()),
                weight: bps(weight.into()),
                contribution: bps(u32::from(*value) * u32::from(weight) / 10_000),
            })
            .collect()
    }

    fn way(&self, note: &Note) -> LegView {
        leg_view(self.table, self.key.cell as usize, note.site, note.near)
    }
}

/// The ways from a cell to every region; nothing when there is no such cell.
#[must_use]
pub fn ways(table: &Table, cell: u32) -> Option<Vec<(RegionId, LegView)>> {
    let cell = cell as usize;
    table.inputs().cells.get(cell)?;
    let row = table.field(cell, Standing::ALL).row;
    let sites = table.inputs().sites.iter().enumerate();
    let view = |(at, site): (usize, &Site)| {
        (site.id.clone(), leg_view(table, cell, at, row.near[at]))
    };
    Some(sites.map(view).collect())
}

fn leg_view(table: &Table, cell: usize, site: usize, near: Near) -> LegView {
    let known = |rtt: u32| (rtt != UNKNOWN).then(|| Micros::new(rtt));
    let inputs = table.inputs();
    let relay = inputs.sites.get(usize::from(near.relay));
    let spot = inputs.cells[cell].spot;
    LegView {
        via: relay.map(|relay| relay.id.clone()),
        rtt: known(near.leg.rtt),
        direct_rtt: known(table.field(cell, Standing::ALL).row.direct(site).rtt),
        loss_ppm: near.leg.loss_ppm,
        measured: bps(near.leg.trust.into()),
        distance_km: spot.map(|spot| distance_km(spot, inputs.sites[site].spot)),
    }
}

fn bps(points: u32) -> Bps {
    Bps::new(u16::try_from(points).unwrap_or(u16::MAX)).unwrap_or(Bps::ONE)
}
