//! Whether the protected VMs of a region would find a legal place were it to die (F12).
//!
//! The answer is a rehearsal: the region is taken out of a copy of the fleet and its
//! protected VMs are placed again, the most urgent and then the largest first, by the same
//! `decide` that a failover uses, residency and all (F11). So "it fits" means that failover
//! would have placed it, not that some packing exists. A VM whose constraints are not known
//! counts as stranded: what is unknown is never legal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dwcp_types::{Capacity, PlacedVm, PlacementRequest, RegionId, Tier, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::{Alternative, Choice, Decision, RefusalCount, decide};
use super::fleet::Fleet;
use super::policy::{Admission, Policy};
use super::query::need;

/// What each VM was asked for with.
pub type Requests = BTreeMap<VmId, PlacementRequest>;

/// What losing a region would mean for its protected VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionLoss {
    /// The region.
    pub region: RegionId,
    /// How many protected VMs it has.
    pub protected: u64,
    /// What they need together.
    pub need: Capacity,
    /// What is free in all other regions that are enabled and healthy, legal for these VMs or
    /// not.
    pub free_elsewhere: Capacity,
    /// The VMs that would have no legal place; empty when N-1 holds.
    pub stranded: Vec<Stranded>,
}

/// A protected VM that would have no legal place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stranded {
    /// Which.
    pub vm: VmId,
    /// Why the other regions would refuse it; empty when its constraints are not known.
    pub refusals: Vec<RefusalCount>,
}

impl RegionLoss {
    /// Whether every protected VM would find a place.
    #[must_use]
    pub const fn survivable(&self) -> bool {
        self.stranded.is_empty()
    }
}

/// Rehearses the loss of a region; nothing when it is not known.
#[must_use]
pub fn n_minus_1(
    fleet: &Fleet,
    region: &RegionId,
    requests: &Requests,
    policy: &Policy,
) -> Option<RegionLoss> {
    let mut rest = fleet.clone();
    let evicted = rest.lose(region)?;
    let mut protected: Vec<_> =
        evicted.into_iter().filter(|vm| vm.tier == Tier::Protected).collect();
    protected
        .sort_by(|a, b| (b.priority, b.shape, &a.id).cmp(&(a.priority, a.shape, &b.id)));
    let mut loss = RegionLoss {
        region: region.clone(),
        protected: protected.len() as u64,
        need: Capacity::default(),
        free_elsewhere: rest.open_capacity(),
        stranded: Vec::new(),
    };
    for vm in protected {
        let request = requests.get(&vm.id);
        let needs = request.map_or_else(|| Capacity::of(&vm.shape), need);
        loss.need = loss.need.plus(&needs);
        let decision =
            request.map(|request| place_again(&mut rest, &vm, request, policy));
        if decision.as_ref().is_some_and(|decision| decision.chosen.is_some()) {
            continue;
        }
        let refusals = decision.map_or_else(Vec::new, |decision| decision.refusals);
        loss.stranded.push(Stranded { vm: vm.id.clone(), refusals });
    }
    Some(loss)
}

/// Places VMs of a region as if it were gone, one after the other in the order in which they
/// are given, each reckoning with those before it; in none but these regions, when some are
/// named. One that is not in that region (any more) is left out. Nothing when the region is
/// not known.
#[must_use]
pub fn place_elsewhere(
    fleet: &Fleet,
    region: &RegionId,
    requests: &[&PlacementRequest],
    only: Option<&BTreeSet<RegionId>>,
    policy: &Policy,
) -> Option<Vec<Decision>> {
    let mut rest = fleet.clone();
    let lost = rest.lose(region)?;
    if let Some(only) = only {
        rest.close_all_but(only);
    }
    let lost: BTreeMap<_, _> = lost.iter().map(|vm| (&vm.id, vm)).collect();
    let decisions = requests.iter().filter_map(|request| {
        let vm = lost.get(&request.id)?;
        Some(place_again(&mut rest, vm, request, policy))
    });
    Some(decisions.collect())
}

/// What came of [`place_elsewhere`] for each VM: its places, best first, or why it has none. One
/// that was left out has none, for no reason that is known.
pub(crate) fn places_elsewhere(
    fleet: &Fleet,
    region: &RegionId,
    requests: &[&PlacementRequest],
    only: Option<&BTreeSet<RegionId>>,
    policy: &Policy,
) -> impl FnMut(&VmId) -> Result<Vec<Alternative>, Vec<RefusalCount>> + use<> {
    let decisions = place_elsewhere(fleet, region, requests, only, policy);
    let decisions = decisions.unwrap_or_default().into_iter();
    let mut decisions: BTreeMap<VmId, Decision> =
        decisions.map(|decision| (decision.request.clone(), decision)).collect();
    move |vm| match decisions.remove(vm) {
        Some(decision) if decision.chosen.is_some() => Ok(decision.places()),
        refused => Err(refused.map_or_else(Vec::new, |refused| refused.refusals)),
    }
}

fn place_again(
    rest: &mut Fleet,
    vm: &PlacedVm,
    request: &PlacementRequest,
    policy: &Policy,
) -> Decision {
    let decision = decide(rest, request, policy);
    if let Some(chosen) = &decision.chosen {
        settle(rest, vm, &need(request), chosen);
    }
    decision
}

fn settle(fleet: &mut Fleet, vm: &PlacedVm, needs: &Capacity, at: &Choice) {
    fleet.take(&at.region, &at.host, needs);
    fleet.insert_vm(Arc::new(PlacedVm {
        region: at.region.clone(),
        zone: at.zone.clone(),
        host: at.host.clone(),
        ..vm.clone()
    }));
}

/// Whether a protected VM may be placed where it was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "admission", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing speaks against it.
    Admitted,
    /// It may, though the loss of these regions would strand VMs that it would not strand
    /// otherwise.
    Warned {
        /// The regions, each with the VMs that would newly be stranded.
        losses: Vec<RegionLoss>,
    },
    /// It may not, for the same reason.
    Refused {
        /// The regions, each with the VMs that would newly be stranded.
        losses: Vec<RegionLoss>,
    },
}

/// Whether the placement of a VM is judged at all: only that of a protected one, and not where
/// the operator does not want it.
#[must_use]
pub fn is_judged(request: &PlacementRequest, policy: &Policy) -> bool {
    request.tier == Tier::Protected && policy.n_minus_1 != Admission::Off
}

/// Judges the placement of a protected VM by what the loss of each region would mean after
/// it. Other tiers are always admitted: they give way. Costs one rehearsal before and one
/// after for every region with protected VMs.
#[must_use]
pub fn admit(
    fleet: &Fleet,
    request: &PlacementRequest,
    at: &Choice,
    requests: &Requests,
    policy: &Policy,
) -> Verdict {
    if !is_judged(request, policy) {
        return Verdict::Admitted;
    }
    let mut after = fleet.clone();
    let vm = PlacedVm {
        id: request.id.clone(),
        tenant: request.tenant.clone(),
        region: at.region.clone(),
        zone: at.zone.clone(),
        host: at.host.clone(),
        epoch: dwcp_types::Epoch::default(),
        shape: request.shape,
        priority: request.priority,
        tier: request.tier,
        groups: request.constraints.affinity.iter().map(|r| r.group.clone()).collect(),
    };
    settle(&mut after, &vm, &need(request), at);
    let mut known = requests.clone();
    known.insert(request.id.clone(), request.clone());
    let mut losses = Vec::new();
    for region in after.protected_regions() {
        let before = n_minus_1(fleet, &region, requests, policy);
        let before = before.map_or_else(Vec::new, |loss| loss.stranded);
        let Some(mut loss) = n_minus_1(&after, &region, &known, policy) else { continue };
        loss.stranded.retain(|vm| before.iter().all(|other| other.vm != vm.vm));
        if !loss.survivable() {
            losses.push(loss);
        }
    }
    match policy.n_minus_1 {
        _ if losses.is_empty() => Verdict::Admitted,
        Admission::Refuse => Verdict::Refused { losses },
        Admission::Off | Admission::Warn => Verdict::Warned { losses },
    }
}

impl Fleet {
    /// Takes a region out: no VM may go there, and its VMs are nowhere. Gives those.
    fn lose(&mut self, region: &RegionId) -> Option<Vec<Arc<PlacedVm>>> {
        let at = self.region_ix(region)?;
        self.attributes.enabled.set(at, false);
        let here = self.vms.values().filter(|row| row.vm.region == *region);
        let ids: Vec<VmId> = here.map(|row| row.vm.id.clone()).collect();
        Some(ids.iter().filter_map(|id| self.remove_vm(id)).collect())
    }

    /// Lets no VM go anywhere else.
    fn close_all_but(&mut self, only: &BTreeSet<RegionId>) {
        for (at, row) in self.regions.iter().enumerate() {
            if !only.contains(&row.region.id) {
                self.attributes.enabled.set(at, false);
            }
        }
    }

    /// What is free where new VMs may go.
    fn open_capacity(&self) -> Capacity {
        let open = (0..self.regions.len()).filter(|region| {
            self.attributes.enabled.has(*region) && self.attributes.accepting.has(*region)
        });
        let hosts = open.flat_map(|region| self.regions[region].hosts.clone());
        let hosts = hosts.map(|host| &self.hosts[host]).filter(|host| host.schedulable);
        hosts.fold(Capacity::default(), |sum, host| sum.plus(&host.free))
    }

    /// The regions with protected VMs, by id.
    fn protected_regions(&self) -> Vec<RegionId> {
        let vms = self.vms.values().filter(|row| row.vm.tier == Tier::Protected);
        let regions: BTreeSet<_> = vms.map(|row| row.vm.region.clone()).collect();
        regions.into_iter().collect()
    }
}
