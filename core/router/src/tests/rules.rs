//! Each rule alone, with numbers that can be checked by hand.

use std::time::Duration;

use dwcp_types::{
    Bps, ComplianceZone, Health, HealthState, Mbps, MicroUsd, Micros, RegionId,
    ServiceId, Timestamp,
};

use crate::build::Problem;
use crate::decide::{
    Decision, Key, Path, Reason, Standing, decide, decide_by, decide_for,
};
use crate::explain::explain;
use crate::input::{Aged, Cell, Inputs, Link, RoundTrip, Site, Spot};
use crate::refusal::Refusal;
use crate::service::{Class, FailMode, Protocol, Protocols, Requirement, Service};
use crate::table::Table;
use crate::weights::Algorithm;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(10_000_000);
pub(crate) const HERE: Spot = Spot { latitude: 50.0, longitude: 8.0 };

pub(crate) fn id(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

pub(crate) fn region(name: &str) -> Site {
    Site {
        id: id(name),
        spot: HERE,
        country: "DE".to_owned(),
        continent: "Europe".to_owned(),
        laws: Vec::new(),
        health: Aged {
            value: Health { state: HealthState::Healthy, score: 100 },
            at: NOW,
        },
        capacity: Mbps::new(10_000),
        load: Some(Aged { value: Bps::ZERO, at: NOW }),
        cpu_hour: MicroUsd::new(50_000),
        egress_gb: MicroUsd::new(100_000),
        protocols: Protocols::ALL,
        encrypts: true,
        weight: 100,
    }
}

pub(crate) fn measured(millis: u32) -> RoundTrip {
    RoundTrip { rtt: Micros::from_millis(millis), loss_ppm: 0, at: Some(NOW) }
}

/// Clients here, with these round trips.
pub(crate) fn clients(trips: &[(&str, u32)]) -> Cell {
    let trips = trips.iter().map(|(name, millis)| (id(name), measured(*millis)));
    Cell { spot: Some(HERE), trips: trips.collect() }
}

pub(crate) fn service(algorithm: Algorithm) -> Service {
    Service::new(ServiceId::new("api").unwrap(), algorithm)
}

/// Regions so far from each other that none is a relay.
pub(crate) fn world(sites: Vec<Site>, cell: Cell, service: Service) -> Inputs {
    let pairs = sites.iter().flat_map(|from| sites.iter().map(move |to| (from, to)));
    let link = |(from, to): (&Site, &Site)| Link {
        from: from.id.clone(),
        to: to.id.clone(),
        trip: measured(400),
        egress_gb: None,
    };
    let links = pairs.map(link).collect();
    Inputs { now: NOW, sites, links, cells: vec![cell], services: vec![service] }
}

pub(crate) fn table(inputs: Inputs) -> Table {
    Table::build(inputs, 1, None).unwrap()
}

const ASKED: Key =
    Key { cell: 0, service: 0, class: Class::Interactive, client: 0, request: 0 };

pub(crate) fn asked(table: &Table) -> Decision {
    decide(table, Standing::ALL, &ASKED)
}

fn name(table: &Table, decision: &Decision) -> String {
    decision.region_id(table).map_or_else(|| "nowhere".to_owned(), ToString::to_string)
}

fn answer(inputs: Inputs) -> String {
    let table = table(inputs);
    name(&table, &asked(&table))
}

/// The share of each region by name, in parts of 255.
fn shares(table: &Table) -> Vec<(String, u8)> {
    let (_, entry) = table.entry(&ASKED).unwrap();
    let sites = table.inputs().sites.iter().zip(0_u8..);
    sites
        .map(|(site, at)| {
            let slot = entry.sites.iter().position(|other| *other == at);
            (site.id.to_string(), slot.map_or(0, |slot| entry.shares()[slot]))
        })
        .collect()
}

fn two(change: impl FnOnce(&mut Site)) -> Inputs {
    let mut near = region("near");
    change(&mut near);
    let cell = clients(&[("near", 10), ("other", 60)]);
    world(vec![near, region("other")], cell, service(Algorithm::Latency))
}

fn busy(percent: u16) -> Option<Aged<Bps>> {
    Some(Aged { value: Bps::new(percent * 100).unwrap(), at: NOW })
}

#[test]
fn the_nearest_healthy_region_answers() {
    assert_eq!(answer(two(|_| {})), "near");
}

#[test]
fn every_filter_of_the_region_alone_turns_requests_away() {
    assert_eq!(
        answer(two(|near| near.health.value.state = HealthState::Unhealthy)),
        "other"
    );
    assert_eq!(
        answer(two(|near| near.health.value.state = HealthState::Degraded)),
        "near"
    );
    assert_eq!(
        answer(two(|near| near.health.value.state = HealthState::Unknown)),
        "other"
    );
    // Beside one that is as busy, so that only the limit tells them apart.
    let near_at = |percent| {
        let mut inputs = two(|near| near.load = busy(percent));
        inputs.sites[1].load = busy(89);
        answer(inputs)
    };
    assert_eq!(near_at(90), "other");
    assert_eq!(near_at(89), "near");
    assert_eq!(answer(two(|near| near.weight = 0)), "other");
    assert_eq!(
        answer(two(|near| near.protocols = Protocols::NONE.with(Protocol::Udp))),
        "other"
    );
    // 9 of the 10 Mbit/s that interactive traffic must have.
    assert_eq!(answer(two(|near| near.capacity = Mbps::new(9))), "other");
}

#[test]
fn residency_laws_encryption_and_where_the_service_is_are_never_broken() {
    let with = |change: fn(&mut Inputs)| {
        let mut inputs = two(|near| "FR".clone_into(&mut near.country));
        inputs.sites[1].laws = vec![ComplianceZone::new("gdpr")];
        inputs.sites[0].encrypts = false;
        change(&mut inputs);
        answer(inputs)
    };
    assert_eq!(with(|_| {}), "near");
    assert_eq!(with(|w| w.services[0].residency = ["DE".to_owned()].into()), "other");
    assert_eq!(with(|w| w.services[0].residency = ["Europe".to_owned()].into()), "near");
    assert_eq!(
        with(|w| w.services[0].laws = [ComplianceZone::new("GDPR")].into()),
        "other"
    );
    assert_eq!(with(|w| w.services[0].requirements[1].encryption = true), "other");
    assert_eq!(with(|w| w.services[0].regions = [id("other")].into()), "other");
    // Also when the only lawful region is dead.
    assert_eq!(
        with(|w| {
            w.services[0].residency = ["DE".to_owned()].into();
            w.sites[1].health.value.state = HealthState::Unhealthy;
        }),
        "other"
    );
}

#[test]
fn a_latency_or_loss_over_the_limit_turns_requests_away_and_unknown_is_over() {
    let mut inputs = two(|near| near.egress_gb = MicroUsd::new(0));
    inputs.services[0] = service(Algorithm::Cost);
    assert_eq!(answer(inputs.clone()), "near");
    inputs.cells[0] = clients(&[("near", 101), ("other", 60)]);
    assert_eq!(answer(inputs.clone()), "other");
    inputs.cells[0] = clients(&[("near", 100), ("other", 60)]);
    assert_eq!(answer(inputs.clone()), "near");
    inputs.cells[0].trips.get_mut(&id("near")).unwrap().loss_ppm = 10_001;
    assert_eq!(answer(inputs.clone()), "other");
    inputs.cells[0] = clients(&[("other", 60)]);
    inputs.cells[0].spot = None;
    assert_eq!(answer(inputs), "other");
}

#[test]
fn each_algorithm_prefers_what_it_is_for() {
    let mut fast = region("fast");
    (fast.egress_gb, fast.load) = (MicroUsd::new(190_000), busy(80));
    let mut cheap = region("cheap");
    (cheap.egress_gb, cheap.cpu_hour) = (MicroUsd::new(0), MicroUsd::new(0));
    cheap.load = busy(80);
    let idle = region("idle");
    let mut close = region("close");
    close.load = busy(80);
    for site in [&mut fast, &mut cheap] {
        site.spot = Spot { latitude: 0.0, longitude: -60.0 };
    }
    let mut far = idle;
    far.spot = Spot { latitude: 0.0, longitude: -61.0 };
    let cell = clients(&[("fast", 1), ("cheap", 90), ("idle", 90), ("close", 90)]);
    for (algorithm, wanted) in [
        (Algorithm::Latency, "fast"),
        (Algorithm::Cost, "cheap"),
        (Algorithm::Load, "idle"),
        (Algorithm::Geo, "close"),
        // 0.4 x 0.7750 + 0.3 x 1 + 0.3 x 0.2 = 0.67 against 0.64, 0.76 and 0.52: idle.
        (Algorithm::Hybrid, "idle"),
    ] {
        let sites = vec![fast.clone(), cheap.clone(), far.clone(), close.clone()];
        let inputs = world(sites, cell.clone(), service(algorithm));
        assert_eq!(answer(inputs), wanted, "{algorithm:?}");
    }
}

#[test]
fn without_a_place_geography_gives_way_to_latency() {
    let mut inputs = two(|_| {});
    inputs.services[0] = service(Algorithm::Geo);
    inputs.cells[0] = clients(&[("near", 50), ("other", 20)]);
    inputs.cells[0].spot = None;
    let table = table(inputs);
    let decision = asked(&table);
    assert_eq!(name(&table, &decision), "other");
    assert!(decision.reasons.has(Reason::Placeless));
}

#[test]
fn what_no_region_keeps_is_broken_in_order_and_told() {
    let lose = |fail| {
        let mut inputs = two(|near| near.health.value.state = HealthState::Unhealthy);
        inputs.sites[1].load = busy(95);
        inputs.services[0].fail = fail;
        table(inputs)
    };
    let open = lose(FailMode::Open);
    let decision = asked(&open);
    assert_eq!(name(&open, &decision), "other");
    assert!(!decision.meets() && decision.failed.has(Refusal::Capacity));
    assert!(decision.reasons.has(Reason::FailOpen));
    assert_eq!(decision.ttl_s, 5);

    let closed = lose(FailMode::Closed);
    let decision = asked(&closed);
    assert_eq!(name(&closed, &decision), "nowhere");
    assert!(decision.reasons.has(Reason::FailClosed));
}

#[test]
fn a_static_service_stays_where_it_was_when_every_feed_dies() {
    let mut inputs = two(|_| {});
    inputs.services[0].fail = FailMode::Static;
    let before = table(inputs.clone());
    // Half an hour later nothing was heard.
    inputs.now = NOW.plus(Duration::from_secs(1_800));
    inputs.sites[0].load = busy(100);
    let after = Table::build(inputs.clone(), 2, Some(&before)).unwrap();
    let decision = asked(&after);
    assert_eq!(name(&after, &decision), "near");
    assert!(decision.reasons.has(Reason::FailStatic));
    assert!(decision.failed.has(Refusal::Health));
    // An open one goes where the score says: all is distance, and that is the same for both.
    inputs.services[0].fail = FailMode::Open;
    let open = Table::build(inputs, 2, Some(&before)).unwrap();
    assert!(asked(&open).reasons.has(Reason::FailOpen));
    assert!(asked(&open).reasons.has(Reason::Guessed));
}

#[test]
fn what_is_not_heard_of_fades_to_the_distance() {
    let rtt_after = |seconds| {
        let mut inputs = two(|_| {});
        inputs.now = NOW.plus(Duration::from_secs(seconds));
        let table = table(inputs);
        let told = explain(&table, Standing::ALL, &ASKED, None).unwrap();
        let near = told.candidates.iter().find(|c| c.region == id("near")).unwrap();
        (near.way.rtt.unwrap().get(), near.way.measured.get())
    };
    assert_eq!(rtt_after(0), (10_000, 10_000));
    assert_eq!(rtt_after(330), (5_500, 5_000));
    assert_eq!(rtt_after(600), (1_000, 0));
}

#[test]
fn regions_as_good_as_each_other_share_by_the_room_they_have() {
    let mut inputs = two(|near| near.load = busy(80));
    inputs.services[0] = service(Algorithm::Latency);
    inputs.cells[0] = clients(&[("near", 10), ("other", 10)]);
    // 0.70 x 0.975 + 0.20 x 1 + 0.10 x 0.2 = 0.9025, the other 0.9825: over a twentieth.
    assert_eq!(
        shares(&table(inputs.clone())),
        [("near".into(), 0), ("other".into(), 255)]
    );
    inputs.sites[0].load = busy(40);
    // 6,000 and 10,000 Mbit/s are left.
    assert_eq!(shares(&table(inputs)), [("near".into(), 95), ("other".into(), 160)]);
}

#[test]
fn a_canary_has_its_percent_and_the_next_has_the_rest() {
    let canary = table(two(|near| near.weight = 10));
    // 255 x 10 %, and what rounding leaves goes to the larger.
    assert_eq!(shares(&canary), [("near".into(), 25), ("other".into(), 230)]);
    let mut inputs = two(|near| near.weight = 10);
    inputs.cells[0] = clients(&[("near", 10), ("other", 10)]);
    // As good as each other, half each: the canary has a tenth of its half.
    assert_eq!(shares(&table(inputs)), [("near".into(), 12), ("other".into(), 243)]);
}

#[test]
fn a_drained_region_is_left_at_the_pace_of_tables_and_used_in_need() {
    let drained = table(two(|near| near.weight = 0));
    assert_eq!(name(&drained, &asked(&drained)), "other");
    let alone = Standing::ALL.without(drained.region_ix(&id("other")).unwrap());
    let decision = decide(&drained, alone, &ASKED);
    assert_eq!(name(&drained, &decision), "near");
    assert!(decision.failed.has(Refusal::Draining));
}

#[test]
fn the_lead_is_kept_until_another_is_a_tenth_better() {
    let world = |near, other| {
        let mut inputs = two(|_| {});
        inputs.cells[0] = clients(&[("near", near), ("other", other)]);
        inputs.services[0].requirements[1].latency_max = None;
        inputs
    };
    let later = |mut inputs: Inputs, before: &Table| {
        inputs.now = NOW.plus(Duration::from_secs(5));
        Table::build(inputs, 2, Some(before)).unwrap()
    };
    let first = table(world(10, 60));
    // 0.70 x (0.90 against 0.975) + 0.30: 5.6 % better.
    let held = later(world(40, 10), &first);
    let (_, entry) = held.entry(&ASKED).unwrap();
    assert_eq!(held.region(crate::RegionIx(entry.sites[0])), &id("near"));
    assert!(asked(&held).reasons.has(Reason::Held));
    // 0.70 x (0.75 against 0.975) + 0.30: 19 % better.
    let left = later(world(100, 10), &first);
    let (_, entry) = left.entry(&ASKED).unwrap();
    assert_eq!(left.region(crate::RegionIx(entry.sites[0])), &id("other"));
}

#[test]
fn shares_move_by_a_tenth_a_second_and_at_once_from_who_may_not_answer() {
    let first = table(two(|_| {}));
    let mut worse = two(|_| {});
    worse.cells[0] = clients(&[("near", 99), ("other", 1)]);
    worse.now = NOW.plus(Duration::from_secs(1));
    let second = Table::build(worse.clone(), 2, Some(&first)).unwrap();
    assert_eq!(shares(&second), [("near".into(), 229), ("other".into(), 26)]);
    assert!(asked(&second).reasons.has(Reason::Moving));
    worse.sites[0].health.value.state = HealthState::Unhealthy;
    let dead = Table::build(worse.clone(), 2, Some(&first)).unwrap();
    assert_eq!(shares(&dead), [("near".into(), 0), ("other".into(), 255)]);
    // Back from the dead it starts slowly.
    let mut back = two(|_| {});
    back.now = NOW.plus(Duration::from_secs(2));
    let back = Table::build(back, 3, Some(&dead)).unwrap();
    assert_eq!(shares(&back), [("near".into(), 26), ("other".into(), 229)]);
}

/// IBM Cloud's published means: Chennai to Washington 244 ms; to London 140 and on 76.
#[test]
fn a_relay_is_taken_when_it_saves_a_tenth_and_five_milliseconds() {
    let relayed = |direct, first, second| {
        let mut inputs = world(
            vec![region("far"), region("relay")],
            clients(&[("far", direct), ("relay", first)]),
            service(Algorithm::Latency),
        );
        inputs.services[0].regions = [id("far")].into();
        inputs.services[0].requirements[1].latency_max = None;
        inputs.links = vec![Link {
            from: id("relay"),
            to: id("far"),
            trip: measured(second),
            egress_gb: Some(MicroUsd::new(20_000)),
        }];
        let table = table(inputs);
        let decision = asked(&table);
        (matches!(decision.path, Path::Via(_)), table)
    };
    let (taken, table) = relayed(244, 140, 76);
    assert!(taken);
    let told = explain(&table, Standing::ALL, &ASKED, None).unwrap();
    let far = told.candidates.iter().find(|c| c.region == id("far")).unwrap();
    assert_eq!(far.way.rtt, Some(Micros::from_millis(216)));
    assert_eq!(far.way.direct_rtt, Some(Micros::from_millis(244)));
    // 50 KB a request: 50 x (0.02 + 0.10) USD and 2 ms of CPU at 0.05 USD an hour.
    assert_eq!(far.cost_per_million.get(), 50 * 120_000 + 50_000 * 2_000 / 3_600);
    assert!(!relayed(240, 140, 77).0, "less than a tenth");
    assert!(!relayed(40, 20, 16).0, "less than five milliseconds");
    // A relay that has just gone down is left out.
    let (_, table) = relayed(244, 140, 76);
    let down = Standing::ALL.without(table.region_ix(&id("relay")).unwrap());
    assert_eq!(decide(&table, down, &ASKED).path, Path::Direct);
    // One that may not answer itself, since it has no server, carries.
    let carried = decide_by(&table, down, Standing::ALL, &ASKED);
    assert_eq!(carried.path, Path::Via(table.region_ix(&id("relay")).unwrap()));
    assert_eq!(decide_by(&table, down, down, &ASKED).path, Path::Direct);
}

#[test]
fn lost_packets_lengthen_a_way() {
    let mut inputs = two(|_| {});
    inputs.cells[0] = clients(&[("near", 100), ("other", 50)]);
    inputs.services[0].regions = [id("near")].into();
    inputs.services[0].requirements[1] = Requirement::default();
    inputs.links = vec![Link {
        from: id("other"),
        to: id("near"),
        trip: measured(45),
        egress_gb: None,
    }];
    let via = |inputs: &Inputs| asked(&table(inputs.clone())).path != Path::Direct;
    assert!(!via(&inputs));
    // 4 % lost on the straight way: 8 ms on average.
    inputs.cells[0].trips.get_mut(&id("near")).unwrap().loss_ppm = 40_000;
    assert!(via(&inputs));
    // 3 % on the way around as well.
    inputs.links[0].trip.loss_ppm = 30_000;
    assert!(!via(&inputs));
}

#[test]
fn a_sticky_client_keeps_its_region_and_moves_only_when_it_goes_down() {
    let mut inputs = two(|_| {});
    inputs.sites.push(region("third"));
    inputs.cells[0] = clients(&[("near", 10), ("other", 10), ("third", 10)]);
    inputs.services[0].sticky = true;
    let table = table(inputs);
    let down = Standing::ALL.without(table.region_ix(&id("near")).unwrap());
    let mut moved = 0;
    for client in 0..3_000 {
        let ask = |request| Key { client, request, ..ASKED };
        let home = decide(&table, Standing::ALL, &ask(1)).region;
        assert_eq!(decide(&table, Standing::ALL, &ask(2)).region, home);
        let then = decide(&table, down, &ask(3)).region;
        if home == table.region_ix(&id("near")) {
            moved += 1;
            assert_ne!(then, home);
        } else {
            assert_eq!(then, home);
        }
    }
    assert!((900..1_100).contains(&moved), "{moved}");
}

#[test]
fn a_request_may_bring_limits_of_its_own() {
    let mut inputs = two(|near| near.capacity = Mbps::new(100));
    inputs.cells[0] = clients(&[("near", 10), ("other", 99)]);
    let table = table(inputs);
    assert_eq!(name(&table, &asked(&table)), "near");
    let wanted = Requirement {
        bandwidth_min: Some(Mbps::new(500)),
        latency_max: Some(Micros::from_millis(20)),
        ..Requirement::default()
    };
    let decision = decide_for(&table, Standing::ALL, &ASKED, wanted);
    // Each breaks one limit; the nearer is the better of the two, and it is told.
    assert_eq!(name(&table, &decision), "near");
    assert!(decision.failed.has(Refusal::Bandwidth) && !decision.meets());
}

#[test]
fn an_unknown_key_is_told_and_no_panic() {
    let table = table(two(|_| {}));
    for key in [Key { cell: 7, ..ASKED }, Key { service: 7, ..ASKED }] {
        let decision = decide(&table, Standing::ALL, &key);
        assert!(decision.region.is_none() && decision.reasons.has(Reason::UnknownKey));
        assert!(explain(&table, Standing::ALL, &key, None).is_none());
    }
}

#[test]
fn a_table_that_would_send_requests_nowhere_is_refused() {
    let mut inputs = two(|_| {});
    inputs.services[0].residency = ["XX".to_owned()].into();
    let problems = Table::build(inputs, 1, None).unwrap_err();
    assert!(matches!(problems[0], Problem::Nowhere { .. }), "{problems:?}");
    assert!(problems[0].to_string().contains("would go nowhere"));
}

#[test]
fn every_other_mistake_of_inputs_is_told_at_once() {
    let mut inputs = two(|near| near.capacity = Mbps::new(0));
    inputs.sites[1].spot.latitude = f64::NAN;
    inputs.services[0].weights = Some(crate::Weights([1; 6]));
    inputs.services.push(service(Algorithm::Cost));
    let problems = Table::build(inputs, 1, None).unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:?}");
    let none = Inputs { sites: Vec::new(), ..two(|_| {}) };
    assert_eq!(Table::build(none, 1, None).unwrap_err()[0], Problem::NoRegions);
}
