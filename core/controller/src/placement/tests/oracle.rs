//! What a placement should be, computed the slow way: every rule of the specification written
//! out over the plain view, with 128-bit arithmetic, no index and no bound. Shares nothing
//! with the code that it judges; the benchmark includes this file too.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use dwcp_types::{
    Affinity, AffinityMode, Capacity, FleetView, Hardness, HealthState, HostView,
    PlacedVm, PlacementRequest, RegionId, RegionKind, RegionView, Scope, Strategy,
};

/// A place: region, zone, host, score in basis points.
pub(crate) type Place = (String, String, String, u128);

/// What the oracle says of one request.
pub(crate) struct Verdicts {
    /// The places of all regions that fit, best first.
    pub(crate) places: Vec<Place>,
    /// For every region the names of all the reasons against it.
    pub(crate) reasons: BTreeMap<RegionId, BTreeSet<&'static str>>,
}

const EU: &str =
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK";

fn need(request: &PlacementRequest) -> Capacity {
    let mut need = Capacity::of(&request.shape);
    let least = request.constraints.min_bandwidth_mbps.unwrap_or_default();
    need.bandwidth = need.bandwidth.max(least);
    need
}

fn lanes(c: &Capacity) -> [u128; 6] {
    [c.cpu, c.memory.get(), c.storage.get(), c.bandwidth.get(), c.gpus, c.vms]
        .map(u128::from)
}

fn weights(strategy: Strategy) -> [u128; 5] {
    match strategy {
        Strategy::Hybrid => [3000, 2500, 2000, 1500, 1000],
        Strategy::Latency => [7900, 750, 600, 450, 300],
        Strategy::Cost => [900, 7750, 600, 450, 300],
        Strategy::LoadBalanced => [900, 750, 7600, 450, 300],
    }
}

/// Sum of weight x latency and sum of weights; nothing when some latency is not known.
fn latency(
    view: &FleetView,
    request: &PlacementRequest,
    region: &RegionId,
) -> Option<(u128, u128)> {
    let mut origins: Vec<_> =
        request.origins.iter().map(|o| (&o.user_zone, u128::from(o.weight))).collect();
    if origins.is_empty() {
        origins = view.user_zones.iter().map(|zone| (&zone.id, 1)).collect();
    }
    let (mut sum, mut users) = (0, 0);
    for (zone, weight) in origins {
        let zone = view.user_zones.iter().find(|known| known.id == *zone)?;
        sum += weight * u128::from(zone.latency.get(region)?.get());
        users += weight;
    }
    (users > 0).then_some((sum, users))
}

fn cost(request: &PlacementRequest, region: &RegionView) -> u128 {
    let (shape, price) = (&request.shape, &region.region.cost);
    u128::from(price.cpu_hour.get()) * u128::from(shape.cpu)
        + u128::from(price.memory_gib_hour.get()) * u128::from(shape.memory.get()) / 1024
        + u128::from(price.storage_gib_month.get()) * u128::from(shape.storage.get())
            / 730
}

fn keeps(
    view: &FleetView,
    request: &PlacementRequest,
    rule: &Affinity,
    at: (&RegionId, &HostView),
) -> bool {
    let members: Vec<&PlacedVm> = view
        .vms
        .iter()
        .map(AsRef::as_ref)
        .filter(|vm| vm.tenant == request.tenant && vm.id != request.id)
        .filter(|vm| vm.groups.contains(&rule.group))
        .collect();
    let near = |vm: &&&PlacedVm| {
        vm.region == *at.0
            && match rule.scope {
                Scope::Region => true,
                Scope::Zone => vm.zone == at.1.zone,
                Scope::Host => vm.host == at.1.id,
            }
    };
    let count = members.iter().filter(near).count();
    match rule.mode {
        AffinityMode::Together => count == members.len(),
        AffinityMode::Apart => count == 0,
    }
}

fn rules(request: &PlacementRequest, hardness: Hardness) -> Vec<&Affinity> {
    let rules = request.constraints.affinity.iter();
    rules.filter(|rule| rule.hardness == hardness).collect()
}

fn fits(host: &HostView, need: &[u128; 6]) -> bool {
    host.schedulable
        && lanes(&host.free).iter().zip(need).all(|(free, need)| free >= need)
}

fn reasons_of(
    view: &FleetView,
    request: &PlacementRequest,
    at: &RegionView,
) -> BTreeSet<&'static str> {
    let (limits, region) = (&request.constraints, &at.region);
    let mut no = BTreeSet::new();
    let mut refuse_if = |refused: bool, name: &'static str| {
        if refused {
            no.insert(name);
        }
    };
    refuse_if(!region.enabled, "disabled");
    let well = [HealthState::Healthy, HealthState::Degraded].contains(&at.health.state);
    refuse_if(!well, "health");
    let allowed = &limits.allowed_regions;
    refuse_if(!allowed.is_empty() && !allowed.contains(&region.id), "not_allowed");
    refuse_if(limits.forbidden_regions.contains(&region.id), "forbidden");
    refuse_if(limits.require_edge && region.kind != RegionKind::Edge, "not_edge");
    let laws = &region.compliance_zones;
    let unlawful = limits.required_compliance.iter().any(|law| !laws.contains(law));
    refuse_if(unlawful, "compliance");
    if let Some(wanted) = &limits.data_locality {
        let wanted = wanted.trim().to_uppercase();
        let country = region.location.country.to_uppercase();
        let inside = wanted == country
            || wanted == region.location.continent.to_uppercase()
            || wanted == "EU" && EU.split(' ').any(|member| member == country);
        refuse_if(!inside, "data_locality");
    }
    if let Some(limit) = limits.max_latency_ms {
        let known = latency(view, request, &region.id);
        refuse_if(known.is_none(), "latency_unknown");
        let far =
            known.is_some_and(|(sum, users)| sum > u128::from(limit) * 1000 * users);
        refuse_if(far, "latency");
    }
    refuse_if(limits.min_health_score.is_some_and(|s| at.health.score < s), "min_health");
    let limit = limits.cost_limit.map(|limit| u128::from(limit.get()));
    refuse_if(limit.is_some_and(|limit| cost(request, at) > limit), "cost");
    no.extend(host_reasons(view, request, at));
    no
}

fn host_reasons(
    view: &FleetView,
    request: &PlacementRequest,
    at: &RegionView,
) -> Vec<&'static str> {
    let open: Vec<_> = at.hosts.iter().filter(|host| host.schedulable).collect();
    if open.is_empty() {
        return vec!["no_host"];
    }
    let mut no = Vec::new();
    let full = lanes(&need(request));
    let mut rest = full;
    for (lane, name) in [(3, "bandwidth"), (4, "gpu")] {
        if open.iter().all(|host| lanes(&host.free)[lane] < full[lane]) {
            no.push(name);
            rest[lane] = 0;
        }
    }
    if !open.iter().any(|host| fits(host, &rest)) {
        no.push("capacity");
    }
    let required = rules(request, Hardness::Required);
    let roomy: Vec<_> = open.iter().filter(|host| fits(host, &full)).collect();
    let base = if roomy.is_empty() { open.iter().collect() } else { roomy.clone() };
    let kept = |rule: &Affinity, host: &HostView| {
        keeps(view, request, rule, (&at.region.id, host))
    };
    let one = required.iter().any(|rule| base.iter().all(|host| !kept(rule, host)));
    let all = |host: &HostView| required.iter().all(|rule| kept(rule, host));
    if one || !roomy.is_empty() && !roomy.iter().any(|host| all(host)) {
        no.push("affinity");
    }
    no
}

fn share(part: u128, whole: u128) -> u128 {
    (part * 10_000).checked_div(whole).unwrap_or(0).min(10_000)
}

/// 1 - value / limit, or the place between the extremes.
fn worth(value: Option<u128>, limit: Option<u128>, among: &[u128]) -> u128 {
    let Some(value) = value else { return 0 };
    if let Some(limit) = limit {
        return share(limit - value, limit);
    }
    let (low, high) = (among.iter().min().unwrap(), among.iter().max().unwrap());
    if low == high { 10_000 } else { share(high - value, high - low) }
}

/// The best place within a region: (rules kept, capacity factor, zone, host).
fn best_in(
    view: &FleetView,
    request: &PlacementRequest,
    at: &RegionView,
) -> Option<(usize, u128, String, String)> {
    let need = lanes(&need(request));
    let sum = |zone: &HostView, of: fn(&HostView) -> &Capacity| {
        let hosts = at.hosts.iter().filter(|h| h.schedulable && h.zone == zone.zone);
        hosts.fold([0; 6], |sum: [u128; 6], host| {
            std::array::from_fn(|lane| sum[lane] + lanes(of(host))[lane])
        })
    };
    let kept = |rules: &[&Affinity], host: &HostView| {
        let kept = |rule: &&&Affinity| keeps(view, request, rule, (&at.region.id, host));
        rules.iter().filter(kept).count()
    };
    let required = rules(request, Hardness::Required);
    let preferred = rules(request, Hardness::Preferred);
    let options = at
        .hosts
        .iter()
        .filter(|host| fits(host, &need) && kept(&required, host) == required.len());
    let best = options.min_by_key(|host| {
        let (free, total) = (sum(host, |h| &h.free), sum(host, |h| &h.total));
        let shares =
            (0..6).filter(|l| need[*l] > 0).map(|l| share(free[l] - need[l], total[l]));
        let rest: [u128; 6] = std::array::from_fn(|l| lanes(&host.free)[l] - need[l]);
        let factor = shares.min().unwrap_or(10_000);
        let mix = rest[0] * total[1] + rest[1] * total[0];
        let ids = (host.zone.clone(), rest[4], mix, host.id.clone());
        (Reverse(kept(&preferred, host)), Reverse(factor), ids)
    })?;
    let (free, total) = (sum(best, |h| &h.free), sum(best, |h| &h.total));
    let shares =
        (0..6).filter(|l| need[*l] > 0).map(|l| share(free[l] - need[l], total[l]));
    let (zone, host) = (best.zone.to_string(), best.id.to_string());
    Some((kept(&preferred, best), shares.min().unwrap_or(10_000), zone, host))
}

/// Judges every region.
pub(crate) fn judge(
    view: &FleetView,
    request: &PlacementRequest,
    default: Strategy,
) -> Verdicts {
    let reasons: BTreeMap<_, _> = view
        .regions
        .iter()
        .map(|at| (at.region.id.clone(), reasons_of(view, request, at)))
        .collect();
    let standing: Vec<_> =
        view.regions.iter().filter(|at| reasons[&at.region.id].is_empty()).collect();
    let limits = &request.constraints;
    let sum_to = |at: &RegionView| latency(view, request, &at.region.id);
    let sums: Vec<u128> = standing.iter().filter_map(|at| Some(sum_to(at)?.0)).collect();
    let costs: Vec<u128> = standing.iter().map(|at| cost(request, at)).collect();
    let weights = weights(request.strategy.unwrap_or(default));
    let mut ranked = Vec::new();
    for at in standing {
        let (kept, capacity, zone, host) = best_in(view, request, at).unwrap();
        let to = sum_to(at);
        let far = to.and_then(|(_, users)| {
            limits.max_latency_ms.map(|ms| u128::from(ms) * 1000 * users)
        });
        let cost_limit = limits.cost_limit.map(|limit| u128::from(limit.get()));
        let price = cost(request, at);
        let factors = [
            worth(to.map(|(sum, _)| sum), far, &sums),
            worth(Some(price), cost_limit, &costs),
            capacity,
            u128::from(at.health.score) * 100,
            u128::from(at.region.priority) * 100,
        ];
        let score: u128 = weights.iter().zip(factors).map(|(w, f)| w * f / 10_000).sum();
        let provider = at.region.cloud_provider.to_lowercase();
        let liked = limits
            .preferred_provider
            .as_ref()
            .is_some_and(|p| p.to_lowercase() == provider);
        let id = at.region.id.to_string();
        ranked.push((Reverse((score, kept, liked)), price, (id, zone, host)));
    }
    ranked.sort();
    let places =
        ranked.into_iter().map(|(Reverse((score, _, _)), _, (region, zone, host))| {
            (region, zone, host, score)
        });
    Verdicts { places: places.collect(), reasons }
}
