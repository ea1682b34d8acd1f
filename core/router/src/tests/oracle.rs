//! What routing must answer, by the longest way: no table, no bits, every relay of every region
//! tried, everything sorted.

use std::collections::{BTreeMap, BTreeSet};

use dwcp_types::{HealthState, RegionId, Timestamp};

use crate::input::{Cell, Inputs, RoundTrip, Site};
use crate::place::{distance_km, expected_rtt};
use crate::refusal::Refusal;
use crate::service::{FailMode, Requirement, Service};
use crate::weights::Algorithm;

/// A region as the oracle judged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) id: RegionId,
    pub(crate) relay: Option<RegionId>,
    pub(crate) refused: BTreeSet<Refusal>,
    pub(crate) score: u64,
    rtt: u64,
}

/// A region that is answered, with its share of 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) id: RegionId,
    pub(crate) relay: Option<RegionId>,
    pub(crate) share: u64,
    pub(crate) failed: BTreeSet<Refusal>,
}

/// One question.
pub(crate) struct Question<'a> {
    pub(crate) inputs: &'a Inputs,
    pub(crate) service: &'a Service,
    pub(crate) wanted: Requirement,
    pub(crate) cell: &'a Cell,
    /// Regions that are down beside what the inputs say.
    pub(crate) down: &'a BTreeSet<RegionId>,
}

const UNKNOWN: u64 = u64::MAX;

#[derive(Clone, Copy)]
struct Way {
    rtt: u64,
    loss: u64,
}

impl Way {
    fn weight(self) -> u64 {
        if self.rtt == UNKNOWN {
            return UNKNOWN;
        }
        // A packet is sent once, and again after 200 ms with the chance that it was lost.
        let resent = match 1_000_000 - self.loss {
            0 => 60_000_000,
            kept => 200_000 * self.loss / kept,
        };
        self.rtt + resent.min(60_000_000)
    }
}

fn hard(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Protocol | Refusal::Residency | Refusal::Encryption | Refusal::NotServed
    )
}

fn tier(refused: &BTreeSet<Refusal>) -> u32 {
    let of = |refusal: &Refusal| match refusal {
        Refusal::Latency
        | Refusal::LatencyUnknown
        | Refusal::Bandwidth
        | Refusal::Loss => 1,
        Refusal::Capacity => 2,
        Refusal::Draining => 3,
        Refusal::Health => 4,
        Refusal::Protocol
        | Refusal::Residency
        | Refusal::Encryption
        | Refusal::NotServed => 0,
    };
    refused.iter().map(of).max().unwrap_or(0)
}

fn fading(at: Timestamp, now: Timestamp, fresh: u64, end: u64) -> u64 {
    let age = now.as_millis().saturating_sub(at.as_millis());
    if age <= fresh {
        10_000
    } else if age >= end {
        0
    } else {
        (end - age) * 10_000 / (end - fresh)
    }
}

fn way(known: Option<&RoundTrip>, km: Option<u32>, now: Timestamp) -> Way {
    let expected = km.map(|km| u64::from(expected_rtt(km).get()));
    let Some(known) = known else {
        return Way { rtt: expected.unwrap_or(UNKNOWN), loss: 0 };
    };
    let trust = known.at.map_or(5_000, |at| fading(at, now, 60_000, 600_000));
    let rtt = u64::from(known.rtt.get());
    let rtt = match expected {
        Some(expected) => (rtt * trust + expected * (10_000 - trust)) / 10_000,
        None if trust > 0 => rtt,
        None => UNKNOWN,
    };
    Way { rtt, loss: u64::from(known.loss_ppm) * trust / 10_000 }
}

impl Question<'_> {
    fn direct(&self, to: &Site) -> Way {
        let km = self.cell.spot.map(|spot| distance_km(spot, to.spot));
        way(self.cell.trips.get(&to.id), km, self.inputs.now)
    }

    fn line(&self, from: &Site, to: &Site) -> Way {
        let links = &self.inputs.links;
        let there = links.iter().rfind(|l| l.from == from.id && l.to == to.id);
        let back = links.iter().rfind(|l| l.from == to.id && l.to == from.id);
        let trip = there.or(back).map(|link| &link.trip);
        way(trip, Some(distance_km(from.spot, to.spot)), self.inputs.now)
    }

    fn line_price(&self, from: &Site, to: &Site) -> u64 {
        let links = &self.inputs.links;
        let there = links.iter().rfind(|l| l.from == from.id && l.to == to.id);
        let back = links.iter().rfind(|l| l.from == to.id && l.to == from.id);
        let price = there.or(back).and_then(|link| link.egress_gb);
        price.unwrap_or(from.egress_gb).get()
    }

    fn load(&self, site: &Site) -> u64 {
        site.load.map_or(5_000, |load| {
            let trust = fading(load.at, self.inputs.now, 10_000, 60_000);
            (u64::from(load.value.get()) * trust + 5_000 * (10_000 - trust)) / 10_000
        })
    }

    fn spare(&self, site: &Site) -> u64 {
        (site.capacity.get() * (10_000 - self.load(site)) / 10_000).max(1)
    }

    /// What speaks against a region whoever asks.
    fn against(&self, site: &Site) -> BTreeSet<Refusal> {
        let (service, wanted) = (self.service, self.wanted);
        let mut refused = BTreeSet::new();
        let mut refuse = |refusal, holds: bool| {
            if holds {
                refused.insert(refusal);
            }
        };
        let well = [HealthState::Healthy, HealthState::Degraded]
            .contains(&site.health.value.state);
        let age = self.inputs.now.as_millis().saturating_sub(site.health.at.as_millis());
        refuse(Refusal::Health, !well || age > 10_000);
        refuse(Refusal::Capacity, self.load(site) >= 9_000);
        let narrow =
            wanted.bandwidth_min.is_some_and(|least| self.spare(site) < least.get());
        refuse(Refusal::Bandwidth, narrow);
        refuse(Refusal::Draining, site.weight == 0);
        refuse(Refusal::Protocol, !site.protocols.has(service.protocol));
        let at_home = service.residency.is_empty()
            || service.residency.contains(&site.country)
            || service.residency.contains(&site.continent);
        let lawful = service.laws.iter().all(|law| site.laws.contains(law));
        refuse(Refusal::Residency, !at_home || !lawful);
        refuse(Refusal::Encryption, wanted.encryption && !site.encrypts);
        let there = service.regions.is_empty() || service.regions.contains(&site.id);
        refuse(Refusal::NotServed, !there);
        refused
    }

    fn best_way(&self, to: &Site) -> (Way, Option<&Site>) {
        let direct = self.direct(to);
        if direct.rtt == UNKNOWN {
            return (direct, None);
        }
        let mut best: Option<(Way, &Site)> = None;
        for relay in &self.inputs.sites {
            let mut against = self.against(relay);
            against.remove(&Refusal::NotServed);
            let first = self.direct(relay);
            if relay.id == to.id
                || !against.is_empty()
                || self.down.contains(&relay.id)
                || first.rtt == UNKNOWN
            {
                continue;
            }
            let second = self.line(relay, to);
            let kept = (1_000_000 - first.loss) * (1_000_000 - second.loss) / 1_000_000;
            let way = Way { rtt: first.rtt + second.rtt, loss: 1_000_000 - kept };
            if best.is_none_or(|(least, _)| way.weight() < least.weight()) {
                best = Some((way, relay));
            }
        }
        match best {
            Some((way, relay))
                if way.weight() + 5_000 <= direct.weight()
                    && way.weight() * 10 <= direct.weight() * 9 =>
            {
                (way, Some(relay))
            }
            _ => (direct, None),
        }
    }

    fn judge(&self, site: &Site) -> Judged {
        let (service, wanted) = (self.service, self.wanted);
        let mut refused = self.against(site);
        let (way, relay) = self.best_way(site);
        if let Some(most) = wanted.latency_max {
            if way.rtt == UNKNOWN {
                refused.insert(Refusal::LatencyUnknown);
            } else if way.rtt > u64::from(most.get()) {
                refused.insert(Refusal::Latency);
            }
        }
        if wanted.loss_ppm_max.is_some_and(|most| way.loss > u64::from(most)) {
            refused.insert(Refusal::Loss);
        }
        if self.down.contains(&site.id) {
            refused.insert(Refusal::Health);
        }
        let gb = match relay {
            Some(relay) => self.line_price(site, relay) + relay.egress_gb.get(),
            None => site.egress_gb.get(),
        };
        let (kb, cpu) =
            (u64::from(service.kb_per_request), u64::from(service.cpu_us_per_request));
        let cost = gb * kb + site.cpu_hour.get() * cpu / 3_600;
        let scale = 200_000 * kb + 100_000 * cpu / 3_600;
        let dear = (cost * 10_000).checked_div(scale).unwrap_or(0).min(10_000);
        let cheap = 10_000 - dear;
        let fast =
            if way.rtt == UNKNOWN { 0 } else { 10_000 - (way.rtt / 40).min(10_000) };
        let km = self.cell.spot.map(|spot| distance_km(spot, site.spot).min(20_016));
        let near = km.map_or(0, |km| u64::from(20_016 - km) * 10_000 / 20_016);
        let values = [
            fast,
            cheap,
            10_000 - self.load(site),
            (self.spare(site) * 10_000 / 10_000).min(10_000),
            u64::from(site.health.value.score) * 100,
            near,
        ];
        let mut weights =
            service.weights.unwrap_or_else(|| service.algorithm.weights()).0;
        if self.cell.spot.is_none() && weights[5] > 0 {
            weights = Algorithm::Latency.weights().0;
        }
        let score = weights.iter().zip(values).map(|(w, v)| u64::from(*w) * v).sum();
        let relay = relay.map(|relay| relay.id.clone());
        Judged {
            id: site.id.clone(),
            relay,
            refused,
            score,
            rtt: way.rtt.min((1 << 28) - 1),
        }
    }

    /// Every region that may answer, best first.
    pub(crate) fn ranking(&self) -> Vec<Judged> {
        let all = self.inputs.sites.iter().map(|site| self.judge(site));
        let mut may: Vec<_> =
            all.filter(|judged| !judged.refused.iter().any(hard)).collect();
        may.sort_by(|a, b| {
            let tiers = tier(&a.refused).cmp(&tier(&b.refused));
            let scores = b.score.cmp(&a.score);
            tiers.then(scores).then(a.rtt.cmp(&b.rtt)).then(a.id.cmp(&b.id))
        });
        may
    }

    /// The answer, when this was the answer so many milliseconds ago.
    pub(crate) fn answer(&self, before: Option<(&[Answered], u64)>) -> Vec<Answered> {
        let mut ranking = self.ranking();
        ranking.truncate(4);
        let Some(best) = ranking.first().cloned() else { return Vec::new() };
        let best_tier = tier(&best.refused);
        if best_tier > 0 && self.service.fail == FailMode::Closed {
            return Vec::new();
        }
        if best_tier > 0 && self.service.fail == FailMode::Static {
            let kept = before.map_or_else(Vec::new, |(before, _)| self.kept(before));
            if !kept.is_empty() {
                return kept;
            }
        }
        if self.service.fail != FailMode::Open {
            ranking.retain(|judged| tier(&judged.refused) == best_tier);
        }
        if let Some(old) = before.and_then(|(before, _)| before.first())
            && let Some(at) = ranking.iter().position(|judged| judged.id == old.id)
            && tier(&ranking[at].refused) == best_tier
            && best.score * 100 <= ranking[at].score * 110
        {
            let lead = ranking.remove(at);
            ranking.insert(0, lead);
        }
        let wanted = self.shares(&ranking);
        let shares = match before {
            Some((before, passed)) => paced(&ranking, wanted, before, passed),
            None => wanted,
        };
        ranking
            .into_iter()
            .zip(shares)
            .map(|(judged, share)| Answered {
                id: judged.id,
                relay: judged.relay,
                share,
                failed: judged.refused,
            })
            .collect()
    }

    fn kept(&self, before: &[Answered]) -> Vec<Answered> {
        let site = |id: &RegionId| self.inputs.sites.iter().find(|site| site.id == *id);
        let mut kept: Vec<Answered> = before
            .iter()
            .filter_map(|old| {
                let failed = self.against(site(&old.id)?);
                let ok = !failed.iter().any(hard);
                ok.then(|| Answered { relay: None, failed, ..old.clone() })
            })
            .collect();
        let shares = proportion(&kept.iter().map(|old| old.share).collect::<Vec<_>>());
        kept.iter_mut().zip(shares).for_each(|(old, share)| old.share = share);
        kept
    }

    fn shares(&self, ranking: &[Judged]) -> Vec<u64> {
        let site = |judged: &Judged| {
            self.inputs.sites.iter().find(|site| site.id == judged.id).unwrap()
        };
        let weight = |judged: &Judged| u64::from(site(judged).weight.min(100));
        let lead = &ranking[0];
        let same = |judged: &Judged| tier(&judged.refused) == tier(&lead.refused);
        let members: BTreeSet<&RegionId> = ranking
            .iter()
            .filter(|judged| same(judged) && judged.score * 100 >= lead.score * 95)
            .map(|judged| &judged.id)
            .collect();
        let mut parts = vec![0; ranking.len()];
        let mut rest = 0;
        for (part, judged) in parts.iter_mut().zip(ranking) {
            if members.contains(&judged.id) {
                let room = self.spare(site(judged));
                *part = room * weight(judged);
                rest += room * (100 - weight(judged));
            }
        }
        let whole = |judged: &Judged| weight(judged) == 100;
        let takers: Vec<u64> = ranking
            .iter()
            .map(|judged| {
                let takes = members.contains(&judged.id) && whole(judged);
                if takes { self.spare(site(judged)) } else { 0 }
            })
            .collect();
        let sum: u64 = takers.iter().sum();
        for (part, taker) in parts.iter_mut().zip(&takers) {
            *part += (rest * taker).checked_div(sum).unwrap_or(0);
        }
        if sum == 0
            && let Some(next) = ranking.iter().position(|judged| {
                !members.contains(&judged.id) && whole(judged) && same(judged)
            })
        {
            parts[next] += rest;
        }
        if parts.iter().all(|part| *part == 0) {
            parts[0] = 1;
        }
        proportion(&parts)
    }
}

/// Of 255; what rounding leaves goes to the first of the largest.
fn proportion(parts: &[u64]) -> Vec<u64> {
    let sum: u64 = parts.iter().sum();
    if sum == 0 {
        return (0..parts.len()).map(|at| if at == 0 { 255 } else { 0 }).collect();
    }
    let mut shares: Vec<u64> = parts.iter().map(|part| part * 255 / sum).collect();
    let most = parts.iter().max().unwrap();
    let largest = parts.iter().position(|part| part == most).unwrap();
    shares[largest] += 255 - shares.iter().sum::<u64>();
    shares
}

fn paced(
    ranking: &[Judged],
    wanted: Vec<u64>,
    before: &[Answered],
    passed: u64,
) -> Vec<u64> {
    let had: BTreeMap<&RegionId, u64> =
        before.iter().map(|old| (&old.id, old.share)).collect();
    let lead = tier(&ranking[0].refused);
    let had: Vec<u64> = ranking
        .iter()
        .map(|judged| {
            let counts = tier(&judged.refused) == lead;
            if counts { had.get(&judged.id).copied().unwrap_or(0) } else { 0 }
        })
        .collect();
    if had.iter().sum::<u64>() == 0 {
        return wanted;
    }
    let mut shares = proportion(&had);
    // One part after the other, until the step is used up.
    let step = (passed * 255 * 10).div_ceil(100_000).clamp(1, 255);
    for _ in 0..step {
        let gains = (0..shares.len()).find(|at| shares[*at] < wanted[*at]);
        let Some(gains) = gains else { break };
        let loses = (0..shares.len()).rfind(|at| shares[*at] > wanted[*at]).unwrap();
        shares[gains] += 1;
        shares[loses] -= 1;
    }
    shares
}
