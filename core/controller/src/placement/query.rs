//! A request resolved against a fleet: names turned into indices, origins into one row of
//! latencies, rules into counts. Made once a decision and shared by deciding and explaining,
//! so that the two cannot read a request differently.

use std::borrow::Cow;

use dwcp_types::{Capacity, Hardness, Micros, PlacementRequest, Strategy};

use super::bits::Bits;
use super::fleet::{Fleet, Latencies, UNKNOWN};
use super::group::RuleView;
use super::near::Near;
use super::policy::{FACTORS, Policy, Weights};
use super::room::{RESOURCES, Room, amounts};

/// What a request takes from its host: its shape, with the larger of the bandwidth of its
/// shape and of its constraints (C8.8). What is reserved must be this.
#[must_use]
pub fn need(request: &PlacementRequest) -> Capacity {
    let mut need = Capacity::of(&request.shape);
    if let Some(least) = request.constraints.min_bandwidth_mbps {
        need.bandwidth = need.bandwidth.max(least);
    }
    need
}

/// A request resolved against a fleet.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) request: &'a PlacementRequest,
    pub(crate) strategy: Strategy,
    pub(crate) weights: [u16; FACTORS],
    pub(crate) need: Room,
    pub(crate) amounts: [u64; RESOURCES],
    /// For each region the sum of weight x latency over the origins, or [`UNKNOWN`].
    pub(crate) latency: Cow<'a, Latencies>,
    /// What an hour costs in each region, nearly; exactly it is [`Self::cost`].
    pub(crate) costs: Near,
    /// The sum of the weights; a mean latency is a sum divided by this.
    users: u64,
    pub(crate) required: Vec<RuleView<'a>>,
    pub(crate) preferred: Vec<RuleView<'a>>,
    /// Regions with members of a group that some rule names; nothing when there is no rule.
    pub(crate) touched: Option<Bits>,
}

impl<'a> Query<'a> {
    /// Resolves a request.
    pub(crate) fn new(
        fleet: &'a Fleet,
        request: &'a PlacementRequest,
        policy: &Policy,
    ) -> Self {
        let strategy = request.strategy.unwrap_or(policy.strategy);
        let need = need(request);
        let (latency, users) = latencies(fleet, request);
        let mut query = Self {
            fleet,
            request,
            strategy,
            weights: Weights::of(strategy).0,
            need: Room::of_need(&need),
            amounts: amounts(&need),
            latency,
            costs: fleet.hot.prices.near(&request.shape),
            users,
            required: Vec::new(),
            preferred: Vec::new(),
            touched: None,
        };
        if !request.constraints.affinity.is_empty() {
            query.resolve_rules();
        }
        query
    }

    fn resolve_rules(&mut self) {
        let mut touched = Bits::none(self.fleet.len());
        let row = self.fleet.vms.get(&self.request.id);
        let row = row.filter(|row| row.vm.tenant == self.request.tenant);
        for rule in &self.request.constraints.affinity {
            let key = (self.request.tenant.clone(), rule.group.clone());
            let members = self.fleet.groups.get(&key);
            let me = row.filter(|row| row.vm.groups.contains(&rule.group));
            let view = RuleView { rule, members, me: me.map(|row| row.spot) };
            let regions = members.iter().flat_map(|members| members.regions.keys());
            regions.for_each(|region| touched.set(*region, true));
            match rule.hardness {
                Hardness::Required => self.required.push(view),
                Hardness::Preferred => self.preferred.push(view),
            }
        }
        self.touched = Some(touched);
    }

    /// Whether some rule needs a look at the single hosts of a region.
    pub(crate) fn touches(&self, region: usize) -> bool {
        self.touched.as_ref().is_some_and(|touched| touched.has(region))
    }

    /// The largest weighted sum that is within the request's limit.
    pub(crate) fn latency_limit(&self) -> Option<u64> {
        let limit_ms = self.request.constraints.max_latency_ms?;
        Some(u64::from(limit_ms).saturating_mul(1_000).saturating_mul(self.users.max(1)))
    }

    /// The mean latency to a region, weighted by users, rounded up.
    pub(crate) fn mean_latency(&self, region: usize) -> Option<Micros> {
        let sum = Some(self.latency.get(region)).filter(|sum| *sum != UNKNOWN)?;
        let mean = sum.div_ceil(self.users.max(1));
        Some(Micros::new(u32::try_from(mean).unwrap_or(u32::MAX)))
    }

    /// What an hour costs in a region, in millionths of a dollar.
    pub(crate) fn cost(&self, region: usize) -> u64 {
        self.fleet.hot.prices.hourly(region, &self.request.shape)
    }
}

/// The weighted sums of latency and the sum of weights (F25). No origins means users spread
/// evenly over all user zones; an origin that is not known makes every sum unknown.
fn latencies<'a>(
    fleet: &'a Fleet,
    request: &PlacementRequest,
) -> (Cow<'a, Latencies>, u64) {
    match request.origins.as_slice() {
        [] => {
            let zones = u64::try_from(fleet.user_zones.len()).unwrap_or(u64::MAX);
            (Cow::Borrowed(&fleet.everywhere), zones)
        }
        [origin] => fleet.user_zone(&origin.user_zone).map_or_else(
            || (Cow::Owned(Latencies::of(vec![UNKNOWN; fleet.len()])), 1),
            |zone| (Cow::Borrowed(&zone.latency), 1),
        ),
        origins => {
            let mut sums = vec![0_u64; fleet.len()];
            for origin in origins {
                let Some(zone) = fleet.user_zone(&origin.user_zone) else {
                    sums.fill(UNKNOWN);
                    continue;
                };
                let weight = u64::from(origin.weight);
                for (region, sum) in sums.iter_mut().enumerate() {
                    let latency = zone.latency.get(region);
                    *sum = if latency == UNKNOWN || *sum == UNKNOWN {
                        UNKNOWN
                    } else {
                        sum.saturating_add(latency * weight)
                    };
                }
            }
            let users = origins.iter().map(|origin| u64::from(origin.weight)).sum();
            (Cow::Owned(Latencies::of(sums)), users)
        }
    }
}
