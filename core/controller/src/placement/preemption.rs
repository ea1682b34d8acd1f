//! Which VMs would have to stop so that a more urgent one fits (F32). Only a plan: nothing is
//! stopped here, and a dry run names the victims first.
//!
//! Victims have strictly lower priority and are never protected; all are on one host; they
//! are as few as possible, then of the lowest total priority, then on the cheapest host. All
//! limits of the request hold as for any placement. Stopping them starts nothing else, so
//! there are no cascades: a victim is placed again like any request, with its own priority,
//! below the one that displaced it. Rules about other VMs are judged with the victims still
//! there, which errs on the side of stopping nobody.

use std::sync::Arc;

use dwcp_types::{
    Capacity, Gib, HostId, PlacedVm, PlacementRequest, RegionId, TenantId, Tier, VmId,
    ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bits::ones;
use super::fleet::Fleet;
use super::policy::Policy;
use super::query::Query;
use super::reason::ReasonKind;
use super::room::{RESOURCES, amounts};
use super::screen::{Depth, Screen};
use super::validate::validate;

/// Most VMs that one may displace: beyond this the cure is worse than the disease, and the
/// search stays small.
pub const VICTIMS_MAX: usize = 8;
/// Most sets of victims tried on one host for one size; a host whose VMs differ so much that
/// this does not suffice offers the best set found so far.
const SETS_MAX: usize = 20_000;

/// The VMs to stop, and where the room is then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Preemption {
    /// The request.
    pub request: VmId,
    /// Where it would go.
    pub region: RegionId,
    /// The zone.
    pub zone: ZoneId,
    /// The host, on which all victims are.
    pub host: HostId,
    /// Who has to stop.
    pub victims: Vec<Victim>,
    /// The sum of the victims' priorities.
    pub total_priority: u32,
}

/// A VM that has to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Victim {
    /// Which.
    pub vm: VmId,
    /// Whose.
    pub tenant: TenantId,
    /// How urgent it is.
    pub priority: u8,
    /// How well it is guarded.
    pub tier: Tier,
}

/// Plans a pre-emption; nothing when the request fits without one, contradicts itself, or no
/// pre-emption that is allowed would make it fit.
#[must_use]
pub fn plan_preemption(
    fleet: &Fleet,
    request: &PlacementRequest,
    policy: &Policy,
) -> Option<Preemption> {
    validate(request).ok()?;
    let query = Query::new(fleet, request, policy);
    let screen = Screen::of(&query, Depth::Everything);
    if ones(screen.standing()).next().is_some() {
        return None;
    }
    let mut options: Vec<Bench> = ones(fleet.attributes.all.as_words())
        .filter(|region| screen.kinds(*region).all(stopping_may_help))
        .flat_map(|region| fleet.regions[region].hosts.clone())
        .filter_map(|host| Bench::new(&query, host, policy))
        .collect();
    options.sort_by_key(|bench| (bench.cost, bench.host));
    for victims in 1..=VICTIMS_MAX {
        let mut best: Option<(u32, usize, Vec<usize>)> = None;
        for (at, bench) in options.iter().enumerate() {
            let below = best.as_ref().map_or(u32::MAX, |(total, _, _)| *total);
            if let Some((total, chosen)) = bench.search(victims, below) {
                best = Some((total, at, chosen));
            }
        }
        if let Some((total, at, chosen)) = best {
            return options.get(at).map(|bench| bench.plan(&query, total, &chosen));
        }
    }
    None
}

/// Whether a region that is refused for this could fit if VMs stopped. Rules are looked at
/// again host by host.
const fn stopping_may_help(kind: ReasonKind) -> bool {
    matches!(
        kind,
        ReasonKind::Affinity
            | ReasonKind::Bandwidth
            | ReasonKind::Gpu
            | ReasonKind::Capacity
    )
}

/// The VMs of one host that may be stopped.
#[derive(Debug)]
struct Bench {
    host: usize,
    region: usize,
    cost: u64,
    /// What falls short.
    short: [u64; RESOURCES],
    /// By priority, then alike ones together, then by name.
    vms: Vec<Arc<PlacedVm>>,
    frees: Vec<[u64; RESOURCES]>,
    /// For each resource, how much the `n` VMs that free the most of it free together.
    at_most: Vec<[u64; RESOURCES]>,
}

/// A search under way.
struct Search {
    below: u32,
    found: Option<(u32, Vec<usize>)>,
    chosen: Vec<usize>,
    tries: usize,
}

impl Bench {
    fn new(query: &Query<'_>, host: usize, policy: &Policy) -> Option<Self> {
        let fleet = query.fleet;
        let row = &fleet.hosts[host];
        let region = fleet.zones[row.zone].region;
        let keeps =
            |rule: &super::group::RuleView<'_>| rule.holds(region, row.zone, host);
        if !row.schedulable || !query.required.iter().all(keeps) {
            return None;
        }
        let free = amounts(&row.free);
        let short =
            std::array::from_fn(|lane| query.amounts[lane].saturating_sub(free[lane]));
        let on_host = row.vms.iter().filter_map(|id| fleet.vm(id));
        let mut vms: Vec<_> =
            on_host.filter(|vm| may_stop(vm, query.request, policy)).cloned().collect();
        vms.sort_by(|a, b| {
            (a.priority, a.shape, &a.id).cmp(&(b.priority, b.shape, &b.id))
        });
        // A stopped victim keeps its disk.
        let freed = |vm: &Arc<PlacedVm>| {
            amounts(&Capacity { storage: Gib::ZERO, ..Capacity::of(&vm.shape) })
        };
        let frees: Vec<_> = vms.iter().map(freed).collect();
        let at_most = largest_sums(&frees);
        let bench =
            Self { host, region, cost: query.cost(region), short, vms, frees, at_most };
        bench.could(&bench.short, bench.vms.len().min(VICTIMS_MAX)).then_some(bench)
    }

    /// Whether so many VMs, the best for each resource, could free what falls short.
    fn could(&self, short: &[u64; RESOURCES], victims: usize) -> bool {
        let sums = self.at_most.get(victims.min(self.vms.len()));
        sums.is_some_and(|sums| short.iter().zip(sums).all(|(short, sum)| short <= sum))
    }

    /// The set of exactly so many victims with the lowest total priority, when that is below
    /// a bound.
    fn search(&self, victims: usize, below: u32) -> Option<(u32, Vec<usize>)> {
        if victims > self.vms.len() || !self.could(&self.short, victims) {
            return None;
        }
        let mut search = Search { below, found: None, chosen: Vec::new(), tries: 0 };
        self.extend(&mut search, self.short, victims, 0);
        search.found
    }

    fn extend(
        &self,
        search: &mut Search,
        short: [u64; RESOURCES],
        left: usize,
        total: u32,
    ) {
        search.tries += 1;
        if left == 0 {
            if short.iter().all(|short| *short == 0) && total < search.below {
                search.below = total;
                search.found = Some((total, search.chosen.clone()));
            }
            return;
        }
        if search.tries > SETS_MAX || !self.could(&short, left) {
            return;
        }
        let first = search.chosen.last().map_or(0, |last| last + 1);
        for at in first..self.vms.len() {
            let vm = &self.vms[at];
            let rest = u32::try_from(left).unwrap_or(u32::MAX);
            let least = u32::from(vm.priority).saturating_mul(rest);
            if total.saturating_add(least) >= search.below {
                return;
            }
            let alike = |a: &PlacedVm, b: &PlacedVm| {
                (a.priority, a.shape) == (b.priority, b.shape)
            };
            if at > first && alike(vm, &self.vms[at - 1]) {
                continue;
            }
            let frees = &self.frees[at];
            let rest =
                std::array::from_fn(|lane| short[lane].saturating_sub(frees[lane]));
            search.chosen.push(at);
            self.extend(search, rest, left - 1, total + u32::from(vm.priority));
            search.chosen.pop();
        }
    }

    fn plan(&self, query: &Query<'_>, total: u32, chosen: &[usize]) -> Preemption {
        let fleet = query.fleet;
        let host = &fleet.hosts[self.host];
        let victims = chosen.iter().filter_map(|at| self.vms.get(*at)).map(|vm| Victim {
            vm: vm.id.clone(),
            tenant: vm.tenant.clone(),
            priority: vm.priority,
            tier: vm.tier,
        });
        Preemption {
            request: query.request.id.clone(),
            region: fleet.regions[self.region].region.id.clone(),
            zone: fleet.zones[host.zone].id.clone(),
            host: host.id.clone(),
            victims: victims.collect(),
            total_priority: total,
        }
    }
}

fn may_stop(vm: &PlacedVm, request: &PlacementRequest, policy: &Policy) -> bool {
    let guarded = match vm.tier {
        Tier::Preemptible => false,
        Tier::Standard => !policy.preemption,
        Tier::Protected => true,
    };
    // One that gave way before holds only its disk, not even a slot.
    let has_room = vm.shape.cpu > 0;
    !guarded && has_room && vm.priority < request.priority && vm.id != request.id
}

/// For 0, 1, 2 … VMs and each resource: the most that so many can free of it.
fn largest_sums(frees: &[[u64; RESOURCES]]) -> Vec<[u64; RESOURCES]> {
    let mut sums = vec![[0_u64; RESOURCES]; frees.len() + 1];
    for lane in 0..RESOURCES {
        let mut amounts: Vec<u64> = frees.iter().map(|frees| frees[lane]).collect();
        amounts.sort_unstable_by(|a, b| b.cmp(a));
        for (at, amount) in amounts.into_iter().enumerate() {
            sums[at + 1][lane] = sums[at][lane].saturating_add(amount);
        }
    }
    sums
}
