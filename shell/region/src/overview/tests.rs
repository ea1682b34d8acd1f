//! A made-up federation of 50 regions: how large its overview is, and what is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::overview::{Link, LinkRow, Overview, SHOWN_MAX};
use dwcp_api::patch::apply;
use dwcp_controller::migration::{Ask, Cause, Migration, Site, Step};
use dwcp_monitor::incident::{Book, Category, Draft, IncidentId, Severity};
use dwcp_monitor::sla::{
    Counting, Definition, Ledger, Operator, Slice, Standing, report,
};
use dwcp_monitor::{Metric, Observation, Sample, reported};
use dwcp_types::{
    Bps, Epoch, Generation, HostId, Micros, MigrationId, RegionId, ReservationId,
    Timestamp, VmId, ZoneId,
};
use proptest::prelude::*;

use super::build::{Facts, RegionFacts, Slow, overview, steps_s};
use super::links::{links, steady};
use super::{Shown, incidents, levels, told};
use crate::world::Trip;

const NOW: Duration = Duration::from_secs(100_000);
/// 20 KB.
const BYTES_MAX: usize = 20 << 10;

fn id(number: usize) -> RegionId {
    RegionId::new(&format!("ap-south-{number}")).unwrap()
}

fn ago(seconds: u64) -> Duration {
    NOW - Duration::from_secs(seconds)
}

fn trip(rtt_ms: u32, up: bool, age_s: u64) -> Trip {
    Trip { rtt: Micros::from_millis(rtt_ms), up, at: ago(age_s) }
}

/// A busy region that reaches all others.
fn region(number: usize, of: usize) -> RegionFacts {
    let sample = Sample { requests: 1_000, failed: 11, ..Sample::default() };
    let others = (0..of).filter(|other| *other != number);
    let rtt = |other: usize| u32::try_from(10 + number.abs_diff(other) * 5).unwrap();
    RegionFacts {
        id: id(number),
        disabled: false,
        emptied: false,
        health: if number.is_multiple_of(7) {
            reported(&Observation::Heard(sample))
        } else {
            reported(&Observation::Heard(Sample::default()))
        },
        heard_at: Some(ago(0)),
        up: 40,
        hosts: 40,
        vms: 5_000,
        running: 4_998,
        cpu: (100_000, 45_020),
        memory: (200_000, 91_000),
        trips: others.map(|other| (id(other), trip(rtt(other), true, 1))).collect(),
    }
}

fn move_of(number: u64, step: Step) -> Arc<Migration> {
    let zone = ZoneId::new("a").unwrap();
    let host = HostId::new("host-1").unwrap();
    let ask = Ask {
        vm: VmId::new(&format!("customer-database-{number}")).unwrap(),
        source: Site { region: id(1), zone, host },
        target: id(2),
        epoch: Epoch::default(),
        generation: Generation::default(),
        reservation: ReservationId::new("res-1").unwrap(),
        cold: false,
        replicated: false,
        cause: Cause::Manual,
        priority: 5,
        downtime_ms_max: 1_000,
        bandwidth: 1,
        rtt_ms: 1,
        deadline: None,
        at: Timestamp::from_millis(1_764_417_000_000 + number),
    };
    let name = MigrationId::new(&format!("mig-0123456789abcdef{number}")).unwrap();
    let reservation = ReservationId::new("res-2").unwrap();
    let mut it = Migration::new(name, ask, reservation);
    it.step = step;
    Arc::new(it)
}

fn draft(severity: Severity, region: Option<RegionId>) -> Draft {
    Draft {
        region,
        severity,
        category: Category::Availability,
        title: "Region ap-south-1 is silent to 49 of the 49 regions that live".to_owned(),
        description: "long ".repeat(50),
    }
}

fn book(severities: &[Severity]) -> Book {
    let mut book = Book::default();
    for (at, severity) in (0_u64..).zip(severities) {
        let at = Timestamp::from_millis(1_764_417_000_000 + at);
        book.report(&draft(*severity, Some(id(1))), "alice", &[], at).unwrap();
    }
    book
}

fn definition(number: usize) -> Definition {
    Definition {
        id: format!("sla-p99-latency-{number:03}"),
        name: "P99 Latency".to_owned(),
        metric: Metric::P99Latency,
        region: None,
        operator: Operator::LessThan,
        target_milli: 100_000,
        counting: Counting::Windows,
        window: Duration::from_mins(5),
        period: Duration::from_hours(720),
        compliance_ppm: 999_000,
        severity: Severity::High,
    }
}

/// Everything that an overview can be full of.
fn full(of: usize) -> Facts {
    let severities = [Severity::High; 20];
    let none = |of: &Definition| report(of, &Ledger::new(of), Timestamp::from_millis(0));
    let promised = (0..20).map(definition).map(|it| {
        let reports = (0..of).map(|at| (id(at), none(&it))).collect();
        (it, reports)
    });
    let promised: Vec<_> = promised.collect();
    let traffic = dwcp_api::overview::TrafficGlance {
        over_s: 300,
        p50_us: Some(1_000),
        p95_us: Some(10_000),
        p99_us: Some(100_000),
        milli_rps: 125_000_000,
        errors_milli: Some(80),
        measured: 49,
        regions: 50,
        age_s: Some(10),
    };
    Facts {
        now: NOW,
        regions: (0..of).map(|at| region(at, of)).collect(),
        incidents: incidents(&book(&severities), Some(Duration::ZERO)),
        moves: (0..30).map(|at| move_of(at, Step::Moving)).collect(),
        slow: Slow { levels: levels(&promised), traffic },
        ..Facts::default()
    }
}

fn by_name(mut facts: Facts) -> Facts {
    facts.regions.sort_by(|one, other| one.id.cmp(&other.id));
    facts
}

fn made(facts: Facts) -> Overview {
    overview(&id(1), &by_name(facts), None)
}

fn bytes(of: &Overview) -> usize {
    serde_json::to_vec(of).unwrap().len()
}

#[test]
fn fifty_regions_are_20_kb_also_when_one_is_lost_or_no_line_is_left() {
    let well = made(full(50));
    let mut lost = full(50);
    lost.regions[7].heard_at = Some(ago(500));
    lost.regions[7].health = reported(&Observation::Silent);
    for (at, region) in lost.regions.iter_mut().enumerate() {
        for (to, trip) in &mut region.trips {
            trip.up = at == 7 || *to != id(7);
            trip.at = if at == 7 { ago(500) } else { trip.at };
        }
    }
    let lost = made(lost);
    let mut apart = full(50);
    for region in &mut apart.regions {
        region.trips.values_mut().for_each(|it| *it = trip(99, false, 700));
    }
    let apart = made(apart);
    let sizes = [&well, &lost, &apart].map(bytes);
    assert!(sizes.iter().all(|size| *size <= BYTES_MAX), "{sizes:?} bytes");
    // What stands for the whole is all there.
    for it in [well, lost, apart] {
        assert_eq!((it.regions.len(), it.links.len()), (50, 49));
        assert_ne!(it.link(&id(0), &id(9)), Link::Never);
        assert_eq!(it.links.values().map(|row| row.rtt.len()).sum::<usize>(), 1_225);
        assert_eq!(
            (it.incidents.open, it.moves.running, it.levels.promised),
            (20, 30, 20)
        );
    }
}

#[test]
fn a_lost_region_keeps_its_row_and_each_cell_says_so() {
    let mut facts = full(4);
    let lost = id(2);
    for region in &mut facts.regions {
        if region.id == lost {
            region.heard_at = Some(ago(65));
            region.health = reported(&Observation::Silent);
            region.trips.values_mut().for_each(|trip| trip.at = ago(65));
        } else if let Some(trip) = region.trips.get_mut(&lost) {
            trip.up = false;
        }
    }
    let made = made(facts);
    for other in [0, 1, 3] {
        assert_eq!(made.link(&id(other), &lost), Link::Cut(0));
        assert_eq!(made.link(&lost, &id(other)), Link::Cut(0));
    }
    assert_eq!(made.link(&id(0), &id(3)), Link::Measured(250));
    assert_eq!(made.regions[&lost].age_s, Some(60));
    assert_eq!(made.link(&id(0), &id(9)), Link::Never);
}

/// What of two ends is told, by another way than the code's: a list of cases by rank.
fn expected(ends: [Option<(u32, bool, u64)>; 2]) -> Link {
    let known: Vec<_> = ends.into_iter().flatten().collect();
    let lately: Vec<_> = known.iter().filter(|(_, _, age)| *age < 20).collect();
    let link = |(rtt, up, age): (u32, bool, u64)| {
        let age = u32::try_from(steps_s(Duration::from_secs(age))).unwrap();
        match (up, age < 20) {
            (false, _) => Link::Cut(age),
            (true, true) => Link::Measured(rtt * 10),
            (true, false) => Link::Stale(rtt * 10, age),
        }
    };
    // All ages of now are in the first step.
    if lately.iter().any(|(_, up, _)| !up) {
        return Link::Cut(0);
    }
    if let Some(slowest) = lately.iter().max_by_key(|(rtt, _, _)| *rtt) {
        return link(**slowest);
    }
    let newest = known.iter().min_by_key(|(rtt, up, age)| (*age, *up, u32::MAX - rtt));
    newest.map_or(Link::Never, |newest| link(*newest))
}

fn end() -> impl Strategy<Value = Option<(u32, bool, u64)>> {
    let ages = prop_oneof![0_u64..10, 20_u64..200];
    prop::option::of((1_u32..4, any::<bool>(), ages))
}

proptest! {
    #[test]
    fn of_two_ends_the_one_that_knows_better_is_told(one in end(), other in end()) {
        let mut facts = full(2);
        for (at, end) in [one, other].into_iter().enumerate() {
            facts.regions[at].trips = end
                .map(|(rtt, up, age)| (id(1 - at), trip(rtt, up, age)))
                .into_iter()
                .collect();
        }
        let made = made(facts);
        prop_assert_eq!(made.link(&id(0), &id(1)), expected([one, other]));
        prop_assert_eq!(made.link(&id(1), &id(0)), expected([one, other]));
    }

    #[test]
    fn readers_that_apply_what_they_are_told_have_what_the_daemon_has(
        lost in prop::collection::vec(prop::collection::btree_set(0_usize..5, 0..4), 1..6),
    ) {
        let mut reader = serde_json::Value::Null;
        let mut before: Option<Shown> = None;
        for (number, lost) in lost.iter().enumerate() {
            let shown = shown(number, lost, before.as_ref());
            if let Some(event) = told(&shown, before.as_ref(), None) {
                prop_assert_eq!(&event.id, &shown.overview.version);
                apply(&mut reader, &serde_json::from_str(&event.data).unwrap());
            }
            let has: Overview = serde_json::from_value(reader.clone()).unwrap();
            prop_assert_eq!(&has, &shown.overview);
            before = Some(shown);
        }
    }
}

/// A federation without some regions.
fn shown(number: usize, lost: &BTreeSet<usize>, before: Option<&Shown>) -> Shown {
    let mut facts = by_name(full(5));
    facts.regions.retain(|it| !lost.iter().any(|lost| it.id == id(*lost)));
    let mut overview = overview(&id(0), &facts, before.map(|it| &it.overview));
    overview.version = format!("1.{number}");
    let value = serde_json::to_value(&overview).unwrap();
    Shown { overview, value }
}

#[test]
fn who_comes_back_with_the_newest_is_told_nothing_and_everybody_else_the_whole() {
    let shown = shown(3, &BTreeSet::new(), None);
    assert_eq!(told(&shown, None, Some("1.3")), None);
    for last in [None, Some("1.2"), Some("0.3")] {
        let event = told(&shown, None, last).unwrap();
        assert_eq!((event.kind.as_str(), event.id.as_str()), ("overview", "1.3"));
    }
}

#[test]
fn jitter_is_no_news_and_a_real_change_is() {
    let row = |rtt: &[Option<u32>]| LinkRow { rtt: rtt.to_vec(), age_s: Vec::new() };
    let before = row(&[Some(400), Some(3), Some(400), None, Some(7)]);
    let mut after = row(&[Some(438), Some(8), Some(441), Some(5), None]);
    steady(&before, &mut after);
    assert_eq!(after, row(&[Some(400), Some(3), Some(441), Some(5), None]));
    let mut other = row(&[Some(401)]);
    steady(&before, &mut other);
    assert_eq!(other, row(&[Some(401)]), "of other regions");
}

#[test]
fn ages_go_up_in_steps() {
    let of = |seconds| steps_s(Duration::from_secs(seconds));
    assert_eq!([of(0), of(9), of(10), of(119)], [0, 0, 10, 110]);
    assert_eq!([of(120), of(179), of(7_199), of(9_000)], [120, 120, 7_140, 7_200]);
}

#[test]
fn the_worst_incidents_come_first_and_parts_of_others_do_not() {
    let severities =
        [Severity::Low, Severity::Critical, Severity::High, Severity::Critical];
    let mut book = book(&severities);
    let of = |book: &Book| -> Vec<u32> {
        let glance = incidents(book, None);
        glance.shown.iter().map(|it| it.id.number()).collect()
    };
    assert_eq!(of(&book), [4, 2, 3, 1]);
    book.incidents.get_mut(&IncidentId::new(3)).unwrap().parent =
        Some(IncidentId::new(4));
    assert_eq!(of(&book), [4, 2, 1]);
    assert_eq!(incidents(&book, None).open, 3);
    let why = ("a cause", "an end");
    book.resolve(IncidentId::new(4), why, "alice", (&[], Timestamp::from_millis(1)))
        .unwrap();
    assert_eq!(of(&book), [2, 3, 1], "a part of what is over stands alone");
    let many = incidents(&self::book(&[Severity::Low; 30]), None);
    assert_eq!((many.open, many.shown.len()), (30, SHOWN_MAX));
}

#[test]
fn moves_under_way_come_before_those_that_wait_and_what_is_over_is_gone() {
    let steps = [Step::Queued, Step::Moving, Step::Done, Step::Preparing];
    let facts = Facts {
        moves: (0..).zip(steps).map(|(at, step)| move_of(at, step)).collect(),
        ..full(2)
    };
    let moves = made(facts).moves;
    assert_eq!((moves.waiting, moves.running), (1, 2));
    let shown: Vec<_> = moves.shown.iter().map(|it| it.step).collect();
    assert_eq!(shown, [Step::Moving, Step::Preparing, Step::Queued]);
}

#[test]
fn the_region_with_the_least_left_speaks_for_a_promise() {
    let of = definition(1);
    let mut worst = Ledger::new(&of);
    let mut well = Ledger::new(&of);
    for number in 0..100 {
        let at = Timestamp::from_millis(number * 300_000);
        worst.record(at, Slice::of_value(number >= 20));
        well.record(at, Slice::of_value(true));
    }
    let now = Timestamp::from_millis(100 * 300_000 - 1);
    let reports = vec![
        (id(1), report(&of, &well, now)),
        (id(2), report(&of, &worst, now)),
        (id(3), report(&of, &Ledger::new(&of), now)),
    ];
    let glance = levels(&[(of, reports)]);
    let [level] = glance.shown.as_slice() else { panic!("{glance:?}") };
    assert_eq!((&level.worst, level.standing), (&id(2), Standing::Breach));
    assert_eq!((level.left_ppm, level.broken, level.regions), (0, 1, 3));
    assert_eq!(level.compliance_ppm, Some(800_000));
    assert_eq!(glance.compliance, Bps::new(9_000).ok(), "180 of 200 windows");
}

#[test]
fn no_region_is_an_overview_too() {
    let empty = made(Facts::default());
    assert_eq!((empty.regions.len(), empty.links.len()), (0, 0));
    assert_eq!(links(&[], NOW), BTreeMap::new());
}
