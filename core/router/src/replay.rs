//! What a table would make of requests that were recorded: how far they go, what they cost, and
//! how many break a limit. Two tables over the same requests are two policies compared.
//!
//! By shares and not request by request: of a thousand requests a region with a tenth of them
//! has a hundred. So the result is exact, and the same each time.

use std::collections::BTreeMap;

use dwcp_types::{Micros, RegionId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decide::{Key, Standing};
use crate::near::{NONE, UNKNOWN};
use crate::refusal::Refusals;
use crate::share::WHOLE;
use crate::table::Table;

/// Requests that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// What they ask; client and request do not matter.
    pub key: Key,
    /// How many.
    pub requests: u64,
}

/// What became of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// All of them.
    pub requests: u64,
    /// Those that go nowhere.
    pub nowhere: u64,
    /// Those whose region breaks a limit.
    pub broken: u64,
    /// Those whose round trip is not known; they are in no latency.
    pub unknown: u64,
    /// The mean round trip, weighted by requests; nothing when none is known.
    pub latency_mean: Option<Micros>,
    /// The round trip that 95 in a hundred stay at or below.
    pub latency_p95: Option<Micros>,
    /// What they cost, traffic and CPU, in billionths of a US dollar.
    pub cost_nano_usd: u64,
    /// How many each region answers.
    pub by_region: BTreeMap<RegionId, u64>,
}

/// Runs requests against a table. Those with a key that the table does not know go nowhere.
#[must_use]
pub fn replay(table: &Table, traffic: &[Traffic]) -> Outcome {
    let mut outcome = Outcome::default();
    // Round trips in microseconds, each with its requests.
    let mut trips: BTreeMap<u32, u64> = BTreeMap::new();
    let mut cost: u128 = 0;
    for group in traffic {
        outcome.requests = outcome.requests.saturating_add(group.requests);
        let parts = parts(table, group);
        if parts.is_empty() {
            outcome.nowhere = outcome.nowhere.saturating_add(group.requests);
        }
        for part in parts {
            let id = table.inputs().sites[part.site].id.clone();
            *outcome.by_region.entry(id).or_default() += part.requests;
            if !part.failed.is_empty() {
                outcome.broken += part.requests;
            }
            if part.rtt == UNKNOWN {
                outcome.unknown += part.requests;
            } else {
                *trips.entry(part.rtt).or_default() += part.requests;
            }
            cost += u128::from(part.cost_per_million) * u128::from(part.requests);
        }
    }
    // A millionth of a dollar for a million requests is a billionth for a thousand.
    outcome.cost_nano_usd = u64::try_from(cost / 1_000).unwrap_or(u64::MAX);
    outcome.latency_mean = mean(&trips);
    outcome.latency_p95 = percentile(&trips, 95);
    outcome
}

/// The requests of a group that one region answers.
struct Part {
    site: usize,
    requests: u64,
    failed: Refusals,
    rtt: u32,
    cost_per_million: u64,
}

fn parts(table: &Table, group: &Traffic) -> Vec<Part> {
    let Some((plan, entry)) = table.entry(&group.key) else { return Vec::new() };
    let row = table.field(group.key.cell as usize, Standing::ALL).row;
    let mut parts = Vec::new();
    let mut given = 0;
    let last = entry.shares().iter().rposition(|share| *share > 0);
    for (at, share) in entry.shares().into_iter().enumerate() {
        if share == 0 || entry.sites[at] == NONE {
            continue;
        }
        let exact = u128::from(group.requests) * u128::from(share) / u128::from(WHOLE);
        let mut requests = u64::try_from(exact).unwrap_or(u64::MAX);
        if last == Some(at) {
            requests = group.requests - given;
        }
        given += requests;
        let site = usize::from(entry.sites[at]);
        let near = row.way(site, plan.relays);
        let relayed = entry.relays[at] != NONE;
        let leg = if relayed { near.leg } else { row.direct(site) };
        let here = &table.inputs().sites[site];
        let prices = &table.prices;
        let egress = if relayed {
            prices.via[site * prices.sites + usize::from(entry.relays[at])]
        } else {
            here.egress_gb.get()
        };
        parts.push(Part {
            site,
            requests,
            failed: Refusals::of_soft(entry.failed[at]),
            rtt: leg.rtt,
            cost_per_million: plan.cost(egress, here),
        });
    }
    parts
}

fn mean(trips: &BTreeMap<u32, u64>) -> Option<Micros> {
    let requests: u128 = trips.values().map(|count| u128::from(*count)).sum();
    let sum: u128 =
        trips.iter().map(|(rtt, count)| u128::from(*rtt) * u128::from(*count)).sum();
    let mean = sum.checked_div(requests)?;
    Some(Micros::new(u32::try_from(mean).unwrap_or(u32::MAX)))
}

fn percentile(trips: &BTreeMap<u32, u64>, percent: u128) -> Option<Micros> {
    let requests: u128 = trips.values().map(|count| u128::from(*count)).sum();
    let rank = (requests * percent).div_ceil(100);
    let mut seen = 0;
    trips
        .iter()
        .find(|(_, count)| {
            seen += u128::from(**count);
            seen >= rank && rank > 0
        })
        .map(|(rtt, _)| Micros::new(*rtt))
}
