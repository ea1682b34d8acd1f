//! Pre-emption against trying every set of victims; capacity; the loss of a region.

use std::collections::BTreeMap;
use std::sync::Arc;

use dwcp_types::{
    Capacity, Constraints, FleetView, Health, HealthState, Mib, PlacedVm,
    PlacementRequest, RegionId, Tier, VmId, VmShape,
};
use proptest::prelude::*;

use super::oracle;
use super::random::{self, Random};
use super::source::{fleet, placed, request};
use crate::placement::{
    Admission, AdmissionVerdict, Fleet, Policy, Requests, admit, capacity, decide,
    default_flavours, n_minus_1, need, plan_preemption, validate,
};

/// What stopping these VMs leaves of a view: their room is free, they are still counted as
/// neighbours.
fn without(view: &FleetView, victims: &[&Arc<PlacedVm>]) -> FleetView {
    let mut view = view.clone();
    for vm in victims {
        let region =
            view.regions.iter_mut().find(|at| at.region.id == vm.region).unwrap();
        let host = region.hosts.iter_mut().find(|host| host.id == vm.host).unwrap();
        let disk = Capacity { storage: vm.shape.storage, ..Capacity::default() };
        let freed = Capacity::of(&vm.shape).saturating_sub(&disk);
        host.free = host.free.plus(&freed);
    }
    view
}

/// The fewest victims and then the lowest total priority, by trying every set on every host.
fn least(
    view: &FleetView,
    request: &PlacementRequest,
    policy: &Policy,
) -> Option<(u32, u32)> {
    let fits = |view: &FleetView| {
        !oracle::judge(view, request, policy.strategy).places.is_empty()
    };
    if fits(view) {
        return None;
    }
    let mut by_host: BTreeMap<_, Vec<&Arc<PlacedVm>>> = BTreeMap::new();
    for vm in &view.vms {
        let open = match vm.tier {
            Tier::Preemptible => true,
            Tier::Standard => policy.preemption,
            Tier::Protected => false,
        };
        if open && vm.priority < request.priority && vm.id != request.id {
            by_host.entry((&vm.region, &vm.host)).or_default().push(vm);
        }
    }
    let mut best = None;
    for vms in by_host.values() {
        for set in 1_u32..1 << vms.len() {
            let chosen: Vec<_> = (0..vms.len())
                .filter(|at| set >> at & 1 == 1)
                .map(|at| vms[at])
                .collect();
            let total = chosen.iter().map(|vm| u32::from(vm.priority)).sum();
            let size = (set.count_ones(), total);
            if best.is_none_or(|best| size < best) && fits(&without(view, &chosen)) {
                best = Some(size);
            }
        }
    }
    best
}

/// A crowded fleet: up to two regions of two hosts, little free, many VMs; and a request that
/// is held back by little but that.
fn crowded(seed: u64) -> (FleetView, PlacementRequest) {
    let mut random = Random::new(seed);
    let mut view = random::fleet(&mut random, 2, 0);
    for region in &mut view.regions {
        Arc::make_mut(&mut region.region).enabled = true;
        region.health = Health { state: HealthState::Healthy, score: 90 };
        region.hosts.truncate(2);
        for host in &mut region.hosts {
            host.free.cpu = host.free.cpu.min(2);
            host.free.memory = host.free.memory.min(Mib::new(2_048));
        }
    }
    let vms =
        (0..14).filter_map(|at| random::vm(&mut random, &view.regions, at)).collect();
    view.vms = vms;
    loop {
        let mut request = random::request(&mut random, 2);
        let affinity = std::mem::take(&mut request.constraints.affinity);
        let cost_limit = request.constraints.cost_limit;
        request.constraints =
            Constraints { affinity, cost_limit, ..Constraints::default() };
        request.shape.gpus = 0;
        request.priority = request.priority.max(4);
        if validate(&request).is_ok() {
            return (view, request);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn victims_are_the_fewest_and_least_urgent_there_could_be(seed: u64, preemption: bool) {
        let (view, request) = crowded(seed);
        let policy = Policy { preemption, ..Policy::default() };
        let plan = plan_preemption(&Fleet::new(&view), &request, &policy);
        let size = plan.as_ref().map(|plan| {
            (u32::try_from(plan.victims.len()).unwrap(), plan.total_priority)
        });
        prop_assert_eq!(size, least(&view, &request, &policy));
        let Some(plan) = plan else { return Ok(()) };
        let victim = |vm: &&Arc<PlacedVm>| plan.victims.iter().any(|victim| victim.vm == vm.id);
        let victims: Vec<_> = view.vms.iter().filter(victim).collect();
        prop_assert!(victims.iter().all(|vm| vm.host == plan.host && vm.region == plan.region));
        prop_assert!(victims.iter().all(|vm| vm.tier != Tier::Protected));
        let after = Fleet::new(&without(&view, &victims));
        let chosen = decide(&after, &request, &policy).chosen;
        prop_assert_eq!(chosen.map(|chosen| chosen.host), Some(plan.host));
    }
}

#[test]
fn the_crowded_fleets_do_need_victims_often_enough_to_mean_something() {
    let policy = Policy { preemption: true, ..Policy::default() };
    let plans = (0..300).filter(|seed| {
        let (view, request) = crowded(*seed);
        plan_preemption(&Fleet::new(&view), &request, &policy).is_some()
    });
    let plans = plans.count();
    assert!(plans >= 50, "{plans}");
}

#[test]
fn a_vm_that_gave_way_is_not_asked_again() {
    let mut view = fleet();
    let slotless = |host: &mut dwcp_types::HostView| host.free.vms = 0;
    view.regions.iter_mut().flat_map(|region| &mut region.hosts).for_each(slotless);
    let mut low = placed("low", ("eu-west-1", "eu-west-1a", "a1"));
    low.priority = 1;
    let (mut urgent, policy) =
        (request(), Policy { preemption: true, ..Policy::default() });
    urgent.priority = 9;
    view.vms = vec![Arc::new(low.clone())];
    assert!(plan_preemption(&Fleet::new(&view), &urgent, &policy).is_some());
    low.shape = VmShape { storage: low.shape.storage, ..VmShape::default() };
    view.vms = vec![Arc::new(low)];
    assert_eq!(plan_preemption(&Fleet::new(&view), &urgent, &policy), None);
}

#[test]
fn capacity_counts_what_fits_and_not_what_adds_up() {
    let mut view = fleet();
    for host in &mut view.regions[0].hosts {
        host.free.cpu = 5;
    }
    view.regions[0].hosts[2].schedulable = false;
    let region = view.regions[0].region.id.clone();
    let sum = capacity(&Fleet::new(&view), &region, &default_flavours()).unwrap();
    assert_eq!((sum.total.cpu, sum.free.cpu, sum.closed.cpu), (96, 10, 5));
    assert_eq!((sum.reserved.cpu, sum.hosts, sum.schedulable_hosts), (81, 3, 2));
    let counts: Vec<_> = sum.fits.iter().map(|fit| fit.count).collect();
    assert_eq!(counts, [10, 4, 2, 0, 0], "10 CPUs are free and no VM of 8 fits");
    assert_eq!(sum.largest.as_deref(), Some("large"));
    let unknown = RegionId::new("nowhere-1").unwrap();
    assert_eq!(capacity(&Fleet::new(&view), &unknown, &[]), None);
}

/// A protected VM in eu-west-1 and what it was asked for with.
fn protected(
    id: &str,
    change: impl FnOnce(&mut PlacementRequest),
) -> (PlacedVm, Requests) {
    let mut vm = placed(id, ("eu-west-1", "eu-west-1a", "a1"));
    vm.tier = Tier::Protected;
    let mut asked = request();
    (asked.id, asked.tier) = (vm.id.clone(), Tier::Protected);
    change(&mut asked);
    vm.shape = asked.shape;
    (vm, BTreeMap::from([(asked.id.clone(), asked)]))
}

#[test]
fn a_protected_vm_with_no_legal_place_elsewhere_is_stranded() {
    let region = RegionId::new("eu-west-1").unwrap();
    let loss = |residency: Option<&str>| {
        let (vm, requests) = protected("vm-1", |asked| {
            asked.constraints.data_locality = residency.map(str::to_owned);
        });
        let mut view = fleet();
        view.vms.push(Arc::new(vm));
        n_minus_1(&Fleet::new(&view), &region, &requests, &Policy::default()).unwrap()
    };
    let free = loss(None);
    assert!(free.survivable());
    assert_eq!((free.protected, free.need.cpu, free.free_elsewhere.cpu), (1, 4, 4 * 96));
    let bound = loss(Some("EU"));
    assert!(!bound.survivable(), "room abroad does not help");
    assert_eq!(bound.stranded[0].vm, VmId::new("vm-1").unwrap());
    assert!(!bound.stranded[0].refusals.is_empty());
}

#[test]
fn a_protected_vm_whose_limits_are_not_known_is_stranded() {
    let (vm, _) = protected("vm-1", |_| {});
    let mut view = fleet();
    let region = vm.region.clone();
    view.vms.push(Arc::new(vm));
    let loss =
        n_minus_1(&Fleet::new(&view), &region, &Requests::new(), &Policy::default());
    assert_eq!(loss.unwrap().stranded.len(), 1);
}

#[test]
fn vms_of_a_lost_region_take_each_others_room_and_the_urgent_go_first() {
    let mut view = fleet();
    let mut requests = Requests::new();
    for (id, priority) in [("vm-1", 3), ("vm-2", 9), ("vm-3", 6)] {
        let (mut vm, asked) = protected(id, |asked| {
            asked.priority = priority;
            asked.shape.cpu = 20;
        });
        vm.priority = priority;
        requests.extend(asked);
        view.vms.push(Arc::new(vm));
    }
    // Two hosts of one other region stay open.
    let eu = RegionId::new("eu-west-1").unwrap();
    for region in view.regions.iter_mut().filter(|at| at.region.id != eu) {
        let open = usize::from(region.region.id.as_str() == "us-east-1") * 2;
        region.hosts.iter_mut().skip(open).for_each(|host| host.schedulable = false);
    }
    let loss = n_minus_1(&Fleet::new(&view), &eu, &requests, &Policy::default()).unwrap();
    let stranded: Vec<_> = loss.stranded.iter().map(|vm| vm.vm.as_str()).collect();
    assert_eq!(stranded, ["vm-1"]);
}

#[test]
fn a_placement_that_breaks_n_minus_1_is_warned_of_or_refused_as_the_policy_says() {
    let fleet = Fleet::new(&fleet());
    let mut asked = request();
    asked.tier = Tier::Protected;
    asked.constraints.data_locality = Some("EU".to_owned());
    let judge = |asked: &PlacementRequest, n_minus_1: Admission| {
        let policy = Policy { n_minus_1, ..Policy::default() };
        let chosen = decide(&fleet, asked, &policy).chosen.unwrap();
        admit(&fleet, asked, &chosen, &Requests::new(), &policy)
    };
    let AdmissionVerdict::Refused { losses } = judge(&asked, Admission::Refuse) else {
        panic!("it was admitted")
    };
    assert_eq!((losses.len(), losses[0].region.as_str()), (1, "eu-west-1"));
    assert!(matches!(judge(&asked, Admission::Warn), AdmissionVerdict::Warned { .. }));
    assert_eq!(judge(&asked, Admission::Off), AdmissionVerdict::Admitted);
    asked.tier = Tier::Standard;
    assert_eq!(judge(&asked, Admission::Refuse), AdmissionVerdict::Admitted);
    asked.tier = Tier::Protected;
    asked.constraints.data_locality = None;
    assert_eq!(judge(&asked, Admission::Refuse), AdmissionVerdict::Admitted);
}

#[test]
fn what_is_reserved_covers_the_bandwidth_of_the_constraints() {
    let mut asked = request();
    asked.shape.memory = Mib::new(1);
    asked.constraints.min_bandwidth_mbps = Some(dwcp_types::Mbps::new(300));
    assert_eq!(need(&asked).bandwidth.get(), 300);
}
