//! One row a filter: what is asked of one region, and the reason it gives, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dwcp_types::{
    Affinity, AffinityMode, ComplianceZone, Constraints, FleetView, GroupId, Hardness,
    Health, HealthState, HostId, Mbps, MicroUsd, Micros, Origin, PlacementRequest,
    RegionId, RegionKind, RegionView, Scope, UserZoneId, UserZoneView, VmId, ZoneId,
};

use super::source::{fleet, request};
use crate::placement::{
    Contradiction, Fleet, Policy, Reason, Verdict, decide, explain, validate,
    validate_names,
};

/// Changes the one region of a fleet and a request, and gives the reasons and the relaxation.
fn refusal(
    change: impl FnOnce(&mut RegionView, &mut PlacementRequest),
) -> (Vec<String>, Option<String>) {
    let mut view = fleet();
    view.regions.retain(|at| at.region.id.as_str() == "eu-west-1");
    let mut request = request();
    change(&mut view.regions[0], &mut request);
    assert_eq!(validate(&request), Ok(()));
    let explanation = explain(&Fleet::new(&view), &request, &Policy::default());
    assert_eq!(explanation.decision.chosen, None);
    match explanation.regions.into_iter().next().map(|at| at.verdict) {
        Some(Verdict::Refused { reasons, relaxation }) => {
            let reasons = reasons.iter().map(ToString::to_string).collect();
            (reasons, relaxation.map(|relaxation| relaxation.to_string()))
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn refused(
    reason: &str,
    relaxation: Option<&str>,
    change: impl FnOnce(&mut RegionView, &mut PlacementRequest),
) {
    let (reasons, relaxed) = refusal(change);
    assert_eq!(reasons, [reason]);
    assert_eq!(relaxed.as_deref(), relaxation);
}

fn edit(at: &mut RegionView) -> &mut dwcp_types::Region {
    Arc::make_mut(&mut at.region)
}

fn ids(names: &[&str]) -> BTreeSet<RegionId> {
    names.iter().map(|name| RegionId::new(name).unwrap()).collect()
}

#[test]
fn a_disabled_region_refuses_and_no_request_changes_that() {
    refused("the region is disabled for new VMs", None, |at, _| edit(at).enabled = false);
}

#[test]
fn only_healthy_and_degraded_regions_take_vms() {
    for (state, words) in [
        (HealthState::Unknown, "not heard from"),
        (HealthState::Unhealthy, "unhealthy"),
        (HealthState::Maintenance, "in maintenance"),
    ] {
        let reason = format!("the region is {words} (score 96)");
        refused(&reason, None, |at, _| at.health.state = state);
        let health = Health { state, score: 96 };
        let is_an_order = state == HealthState::Maintenance;
        assert_eq!(Reason::Health { health }.may_pass(), !is_an_order);
    }
    assert!(Reason::NoHost { hosts: 1 }.may_pass());
    assert!(!Reason::Disabled.may_pass());
}

#[test]
fn allowed_and_forbidden_regions_are_filters() {
    refused(
        "it is not in allowed_regions",
        Some("for eu-west-1: add eu-west-1 to allowed_regions"),
        |_, request| request.constraints.allowed_regions = ids(&["us-east-1"]),
    );
    refused(
        "it is in forbidden_regions",
        Some("for eu-west-1: take eu-west-1 out of forbidden_regions"),
        |_, request| request.constraints.forbidden_regions = ids(&["eu-west-1"]),
    );
}

#[test]
fn edge_is_a_kind_of_region() {
    refused(
        "require_edge is set and it is a hybrid region",
        Some("for eu-west-1: drop require_edge"),
        |at, request| {
            edit(at).kind = RegionKind::Hybrid;
            request.constraints.require_edge = true;
        },
    );
}

#[test]
fn every_law_that_is_missing_is_named() {
    refused(
        "it does not stand under HIPAA, PCI",
        Some(
            "for eu-west-1: take HIPAA out of required_compliance; take PCI out of required_compliance",
        ),
        |_, request| {
            let laws = ["pci", "GDPR", "hipaa"].map(ComplianceZone::new);
            request.constraints.required_compliance = laws.into();
        },
    );
}

#[test]
fn data_stays_in_its_country_union_or_continent() {
    let wants = |place: &str| Some(place.to_owned());
    for inside in ["IE", "eu", "Europe"] {
        let mut request = request();
        request.constraints.data_locality = wants(inside);
        request.constraints.allowed_regions = ids(&["eu-west-1"]);
        let decision = decide(&Fleet::new(&fleet()), &request, &Policy::default());
        assert!(decision.chosen.is_some(), "{inside}");
    }
    refused(
        "data_locality is DE and it lies in IE, Europe",
        Some("for eu-west-1: widen data_locality from DE to EU"),
        |_, request| request.constraints.data_locality = wants("DE"),
    );
    refused(
        "data_locality is Asia and it lies in IE, Europe",
        Some("for eu-west-1: remove data_locality Asia"),
        |_, request| request.constraints.data_locality = wants("Asia"),
    );
    refused(
        "data_locality is EU and it lies in GB, Europe",
        Some("for eu-west-1: remove data_locality EU"),
        |at, request| {
            edit(at).location.country = "GB".to_owned();
            request.constraints.data_locality = wants("EU");
        },
    );
}

fn from(zones: &[(&str, u32)]) -> Vec<Origin> {
    let origins = zones.iter().map(|(zone, weight)| Origin {
        user_zone: UserZoneId::new(zone).unwrap(),
        weight: *weight,
    });
    origins.collect()
}

#[test]
fn latency_is_the_weighted_mean_and_the_limit_is_inclusive() {
    // London is 1 ms away and Washington 76: (3 x 1 + 1 x 76) / 4 = 19.75.
    refused(
        "the users are 19.8 ms away and max_latency_ms is 19",
        Some("for eu-west-1: raise max_latency_ms from 19 to 20"),
        |_, request| {
            request.origins = from(&[("london", 3), ("washington-dc", 1)]);
            request.constraints.max_latency_ms = Some(19);
        },
    );
    let mut exact = request();
    exact.origins = from(&[("washington-dc", 1)]);
    exact.constraints.max_latency_ms = Some(76);
    exact.constraints.allowed_regions = ids(&["eu-west-1"]);
    assert!(decide(&Fleet::new(&fleet()), &exact, &Policy::default()).chosen.is_some());
}

#[test]
fn an_unknown_latency_fails_a_limit_and_only_a_limit() {
    let mut view = fleet();
    view.user_zones.push(UserZoneView {
        id: UserZoneId::new("mars").unwrap(),
        latency: BTreeMap::new(),
    });
    let mut request = request();
    request.origins = from(&[("mars", 1)]);
    let fleet = Fleet::new(&view);
    let decision = decide(&fleet, &request, &Policy::default());
    let chosen = decision.chosen.unwrap();
    assert_eq!(chosen.expected_latency, None);
    assert_eq!(chosen.factors.latency.value.get(), 0);
    request.constraints.max_latency_ms = Some(10_000);
    let explanation = explain(&fleet, &request, &Policy::default());
    assert_eq!(explanation.decision.chosen, None);
    let relaxation = explanation.relaxation.unwrap().to_string();
    assert!(relaxation.contains("remove max_latency_ms"), "{relaxation}");
}

#[test]
fn health_and_cost_have_inclusive_limits() {
    refused(
        "its health score is 96 and min_health_score is 97",
        Some("for eu-west-1: lower min_health_score from 97 to 96"),
        |_, request| request.constraints.min_health_score = Some(97),
    );
    refused(
        "it costs 0.332876 USD/h and cost_limit is 0.332875 USD/h",
        Some("for eu-west-1: raise cost_limit from 0.332875 USD/h to 0.332876 USD/h"),
        |_, request| request.constraints.cost_limit = Some(MicroUsd::new(332_875)),
    );
}

#[test]
fn bandwidth_gpus_and_the_rest_fall_short_by_name() {
    refused(
        "20000 Mbit/s are needed and no host has more than 10000 free",
        Some("for eu-west-1: ask for 10000 instead of 20000 Mbit/s of bandwidth"),
        |_, request| request.constraints.min_bandwidth_mbps = Some(Mbps::new(20_000)),
    );
    refused(
        "2 GPUs are needed and no host has more than 0 free",
        Some("for eu-west-1: ask for 0 instead of 2 GPUs"),
        |_, request| request.shape.gpus = 2,
    );
    refused(
        "no host has room; the nearest, a1, has 32 of 40 CPUs (fragmented: the hosts together would have enough)",
        Some("for eu-west-1: ask for 32 instead of 40 CPUs"),
        |_, request| request.shape.cpu = 40,
    );
    refused("no host has room; the nearest, a1, has 0 of 1 VM slots", None, |at, _| {
        at.hosts.iter_mut().for_each(|host| host.free.vms = 0);
    });
    refused("none of its 3 hosts takes VMs", None, |at, _| {
        at.hosts.iter_mut().for_each(|host| host.schedulable = false);
    });
}

#[test]
fn every_reason_is_told_and_every_change_is_needed() {
    let (reasons, relaxation) = refusal(|_, request| {
        request.shape.cpu = 40;
        request.constraints.require_edge = true;
        request.constraints.min_health_score = Some(100);
    });
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert_eq!(
        relaxation.unwrap(),
        "for eu-west-1: drop require_edge; lower min_health_score from 100 to 96; ask for 32 instead of 40 CPUs"
    );
}

fn rule(mode: AffinityMode, scope: Scope, hardness: Hardness) -> Affinity {
    Affinity { group: GroupId::new("web").unwrap(), mode, scope, hardness }
}

/// The fleet with one member of group `web` on a host.
fn with_member(region: &str, zone: &str, host: &str) -> FleetView {
    let mut view = fleet();
    let placed = super::source::placed("vm-1", (region, zone, host));
    view.vms.push(Arc::new(dwcp_types::PlacedVm {
        groups: vec![GroupId::new("web").unwrap()],
        ..placed
    }));
    view
}

fn place(view: &FleetView, rules: Vec<Affinity>) -> (String, String, String) {
    let mut request = request();
    request.origins = from(&[("washington-dc", 1)]);
    request.constraints.affinity = rules;
    let decision = decide(&Fleet::new(view), &request, &Policy::default());
    let chosen = decision.chosen.unwrap();
    (chosen.region.to_string(), chosen.zone.to_string(), chosen.host.to_string())
}

#[test]
fn required_rules_hold_at_each_scope() {
    use AffinityMode::{Apart, Together};
    let view = with_member("sa-east-1", "sa-east-1b", "b1");
    for scope in [Scope::Host, Scope::Zone, Scope::Region] {
        let together = place(&view, vec![rule(Together, scope, Hardness::Required)]);
        assert_eq!(together.0, "sa-east-1");
        if scope == Scope::Host {
            assert_eq!((together.1.as_str(), together.2.as_str()), ("sa-east-1b", "b1"));
        }
    }
    let view = with_member("us-east-1", "us-east-1a", "a1");
    let anywhere = place(&view, Vec::new());
    let region = place(&view, vec![rule(Apart, Scope::Region, Hardness::Required)]);
    assert_eq!(anywhere.0, "us-east-1");
    assert_ne!(region.0, "us-east-1");
    let zone = place(&view, vec![rule(Apart, Scope::Zone, Hardness::Required)]);
    assert!(zone.0 == "us-east-1" && zone.1 != "us-east-1a", "{zone:?}");
    let host = place(&view, vec![rule(Apart, Scope::Host, Hardness::Required)]);
    assert_ne!((host.0.as_str(), host.2.as_str()), ("us-east-1", "a1"));
}

#[test]
fn a_preferred_rule_ranks_places_of_one_region_and_never_refuses() {
    use AffinityMode::{Apart, Together};
    let view = with_member("us-east-1", "us-east-1b", "b1");
    let near = place(&view, vec![rule(Together, Scope::Host, Hardness::Preferred)]);
    assert_eq!((near.0.as_str(), near.2.as_str()), ("us-east-1", "b1"));
    let apart = place(&view, vec![rule(Apart, Scope::Region, Hardness::Preferred)]);
    assert_eq!(apart.0, "us-east-1", "a better score beats a preference");
}

#[test]
fn a_vm_that_is_placed_again_is_not_its_own_neighbour() {
    let view = with_member("us-east-1", "us-east-1a", "a1");
    let mut again = request();
    again.id = VmId::new("vm-1").unwrap();
    again.origins = from(&[("washington-dc", 1)]);
    again.constraints.affinity =
        vec![rule(AffinityMode::Apart, Scope::Region, Hardness::Required)];
    let decision = decide(&Fleet::new(&view), &again, &Policy::default());
    assert_eq!(decision.chosen.unwrap().region.as_str(), "us-east-1");
}

#[test]
fn a_preferred_provider_breaks_ties_only() {
    let mut view = fleet();
    let twin = view.regions.iter().find(|at| at.region.id.as_str() == "us-east-1");
    let mut twin = twin.unwrap().clone();
    edit(&mut twin).id = RegionId::new("zz-twin-1").unwrap();
    edit(&mut twin).cloud_provider = "gcp".to_owned();
    for zone in &mut view.user_zones {
        let latency = zone.latency[&RegionId::new("us-east-1").unwrap()];
        zone.latency.insert(RegionId::new("zz-twin-1").unwrap(), latency);
    }
    view.regions.push(twin);
    let mut request = request();
    request.origins = from(&[("washington-dc", 1)]);
    let chosen = |request: &PlacementRequest| {
        let decision = decide(&Fleet::new(&view), request, &Policy::default());
        decision.chosen.unwrap().region.to_string()
    };
    assert_eq!(chosen(&request), "us-east-1", "ties end in the id");
    request.constraints.preferred_provider = Some("GCP".to_owned());
    assert_eq!(chosen(&request), "zz-twin-1");
    request.constraints.preferred_provider = Some("azure".to_owned());
    assert_eq!(chosen(&request), "us-east-1");
}

#[test]
fn what_contradicts_itself_is_refused_with_all_there_is_to_say() {
    let mut bad = request();
    bad.shape.cpu = 0;
    bad.shape.memory = dwcp_types::Mib::new(u64::MAX);
    bad.priority = 11;
    bad.origins = from(&[("london", 0), ("london", 1)]);
    bad.constraints = Constraints {
        allowed_regions: ids(&["eu-west-1"]),
        forbidden_regions: ids(&["eu-west-1", "us-east-1"]),
        min_health_score: Some(101),
        max_latency_ms: Some(0),
        data_locality: Some(" ".to_owned()),
        affinity: vec![
            rule(AffinityMode::Together, Scope::Host, Hardness::Required),
            rule(AffinityMode::Apart, Scope::Zone, Hardness::Required),
        ],
        ..Constraints::default()
    };
    let found = validate(&bad).unwrap_err();
    let words: Vec<_> = found.iter().map(ToString::to_string).collect();
    for expected in [
        "0 CPUs",
        "largest VM",
        "priority: 11",
        "weight 0",
        "named twice",
        "also in forbidden_regions",
        "over 100",
        "0 ms",
        "data_locality: it is empty",
        "cannot both hold",
    ] {
        assert!(
            words.iter().any(|word| word.contains(expected)),
            "{expected}: {words:#?}"
        );
    }
    assert_eq!(found.len(), 10, "{words:#?}");
    let decision = decide(&Fleet::new(&fleet()), &bad, &Policy::default());
    assert_eq!((decision.chosen, decision.contradictions), (None, found));
}

#[test]
fn together_in_a_region_and_apart_by_host_is_no_contradiction() {
    let mut request = request();
    request.constraints.affinity = vec![
        rule(AffinityMode::Together, Scope::Region, Hardness::Required),
        rule(AffinityMode::Apart, Scope::Host, Hardness::Required),
    ];
    assert_eq!(validate(&request), Ok(()));
}

#[test]
fn names_that_the_fleet_does_not_know_come_with_the_nearest() {
    let mut request = request();
    request.constraints.allowed_regions = ids(&["eu-wets-1", "quite-different-9"]);
    request.constraints.data_locality = Some("Atlantis".to_owned());
    request.origins = from(&[("lodon", 1)]);
    let found = validate_names(&Fleet::new(&fleet()), &request).unwrap_err();
    let words: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "constraints.allowed_regions: there is no region eu-wets-1; did you mean eu-west-1?",
            "constraints.allowed_regions: there is no region quite-different-9; list the ones there are and correct the name",
            "origins: there is no user zone lodon; did you mean london?",
            "constraints.data_locality: no region lies in Atlantis; use a country code such as DE, EU, or a continent such as Europe",
        ]
    );
    assert!(matches!(found[0], Contradiction::UnknownRegion { .. }));
}

#[test]
fn nothing_to_choose_from_is_an_answer_and_no_panic() {
    let decision =
        decide(&Fleet::new(&FleetView::default()), &request(), &Policy::default());
    assert_eq!((decision.chosen, decision.refusals.len()), (None, 0));
    let mut view = fleet();
    view.regions.iter_mut().for_each(|at| at.hosts.clear());
    view.user_zones.clear();
    let decision = decide(&Fleet::new(&view), &request(), &Policy::default());
    assert_eq!(decision.refusals.len(), 1);
}

#[test]
fn hosts_are_filled_best_fit_first_and_gpus_are_kept_for_those_who_need_them() {
    let mut view = fleet();
    view.regions.retain(|at| at.region.id.as_str() == "us-east-1");
    let zone = ZoneId::new("us-east-1a").unwrap();
    for (at, (cpu, gpus)) in [(32, 0), (8, 0), (4, 1)].into_iter().enumerate() {
        let host = &mut view.regions[0].hosts[at];
        host.id = HostId::new(&format!("h{at}")).unwrap();
        host.zone = zone.clone();
        (host.free.cpu, host.free.gpus, host.total.gpus) = (cpu, gpus, gpus);
    }
    assert_eq!(place(&view, Vec::new()).2, "h1");
}

#[test]
fn the_mean_latency_is_told_and_is_never_below_the_true_one() {
    let mut request = request();
    request.origins = from(&[("london", 2), ("washington-dc", 1)]);
    request.constraints.allowed_regions = ids(&["eu-west-1"]);
    let decision = decide(&Fleet::new(&fleet()), &request, &Policy::default());
    let expected = Some(Micros::new((2 * 1_000 + 76_000) / 3));
    assert_eq!(decision.chosen.unwrap().expected_latency, expected);
}
