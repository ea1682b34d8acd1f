//! The book against a model written apart: a list of rows, searched from end to end.

use std::collections::BTreeSet;
use std::time::Duration;

use dwcp_types::{RegionId, Timestamp};
use proptest::prelude::*;

use super::*;

fn region(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000 * seconds)
}

fn sinks() -> Vec<Sink> {
    vec![Sink { name: "pager".to_owned(), min_severity: Severity::Low }]
}

fn found(name: &str, cause: &Cause, stands: bool) -> Finding {
    Finding {
        region: region(name),
        cause: cause.clone(),
        stands,
        severity: cause.severity(),
        evidence: "seen so".to_owned(),
    }
}

/// Delivers everything that waits, and gives it in order.
fn drain(book: &mut Book, sink: &str, now: Timestamp) -> Vec<(IncidentId, u32, Change)> {
    let mut told = Vec::new();
    while let Some((incident, notice)) = book.waiting(sink) {
        let (id, seq) = (incident.id, notice.seq);
        told.push((id, seq, notice.change));
        assert!(book.settle(id, (seq, sink), Outcome::Told, now));
    }
    told
}

#[test]
fn names_are_as_in_the_source_and_go_there_and_back() {
    assert_eq!(IncidentId::new(1).to_string(), "INC-001");
    assert_eq!(IncidentId::new(12_345).to_string(), "INC-12345");
    assert_eq!("INC-001".parse(), Ok(IncidentId::new(1)));
    assert_eq!("7".parse(), Ok(IncidentId::new(7)));
    for wrong in ["INC-", "INC-+1", "INC-99999999999", "inc-1", "", "INC-1 "] {
        assert!(wrong.parse::<IncidentId>().is_err(), "{wrong:?}");
    }
}

#[test]
fn ten_thousand_flaps_make_one_incident_that_stays_small() {
    let mut book = Book::default();
    let mut told = 0;
    for flap in 0..10_000 {
        for (offset, stands) in [(0, true), (5, false)] {
            let now = at(flap * 10 + offset);
            book.step(&[found("a", &Cause::Silent, stands)], &sinks(), now);
            told += drain(&mut book, "pager", now).len();
        }
    }
    assert_eq!(book.incidents.len(), 1);
    let incident = &book.incidents[&IncidentId::new(1)];
    assert_eq!((incident.flaps, told), (9_999, 20_000));
    assert_eq!(incident.timeline.len(), TIMELINE_MAX);
    assert!(incident.timeline[0].what.starts_with("opened"));
    assert!(serde_json::to_vec(incident).unwrap().len() < 32 << 10);
}

#[test]
fn a_receiver_that_is_down_for_ever_costs_a_bounded_number_of_notices() {
    let mut book = Book::default();
    for flap in 0..10_000_u64 {
        let now = at(flap * 10);
        let stands = flap % 2 == 0;
        book.step(&[found("a", &Cause::Silent, stands)], &sinks(), now);
    }
    let incident = &book.incidents[&IncidentId::new(1)];
    assert_eq!(incident.notices.len(), NOTICES_MAX);
    let waiting = u32::try_from(NOTICES_MAX).unwrap();
    assert_eq!(incident.given_up + waiting, incident.changes);
    assert_eq!(incident.changes, 10_000);
}

#[test]
fn what_is_back_after_half_an_hour_is_another_incident() {
    let mut book = Book::default();
    let down = [found("a", &Cause::Silent, true)];
    let up = [found("a", &Cause::Silent, false)];
    book.step(&down, &sinks(), at(0));
    book.step(&up, &sinks(), at(10));
    book.step(&down, &sinks(), at(10 + 30 * 60));
    assert_eq!((book.incidents.len(), book.last), (1, 1));
    book.step(&up, &sinks(), at(2_000));
    let step = book.step(&down, &sinks(), at(2_001 + 30 * 60));
    assert_eq!(step.opened, [IncidentId::new(2)]);
}

#[test]
fn a_silent_region_swallows_its_other_incidents_and_gives_them_back() {
    let mut book = Book::default();
    let (silent, sick) = (Cause::Silent, Cause::Unhealthy);
    book.step(&[found("a", &sick, true)], &sinks(), at(0));
    assert_eq!(drain(&mut book, "pager", at(0)).len(), 1);
    book.step(&[found("a", &silent, true), found("b", &sick, true)], &sinks(), at(1));
    // What comes while it is silent is told nobody.
    book.step(&[found("a", &Cause::Replication, true)], &sinks(), at(2));
    let told: Vec<_> = drain(&mut book, "pager", at(2));
    assert_eq!(told.len(), 2, "the silence and the other region: {told:?}");
    let parent = book.standing(&region("a"), &silent).unwrap();
    let children = book.incidents.values().filter(|it| it.parent == Some(parent));
    assert_eq!(children.count(), 2);
    book.step(&[found("a", &silent, false)], &sinks(), at(3));
    let told: Vec<_> =
        drain(&mut book, "pager", at(3)).into_iter().map(|(_, _, what)| what).collect();
    assert_eq!(told, [Change::Resolved, Change::Opened], "the one not told of yet");
    assert!(book.incidents.values().all(|it| it.parent.is_none()));
}

#[test]
fn operators_acknowledge_assign_resolve_and_are_told_when_that_makes_no_sense() {
    let mut book = Book::default();
    book.step(&[found("a", &Cause::Silent, true)], &sinks(), at(0));
    let id = IncidentId::new(1);
    book.acknowledge(id, "alice", &sinks(), at(1)).unwrap();
    let again = book.acknowledge(id, "bob", &sinks(), at(2)).unwrap_err();
    assert_eq!(again.to_string(), "incident INC-001 is acknowledged by alice");
    book.assign(id, "carol", "alice", at(3)).unwrap();
    let none = IncidentId::new(9);
    assert!(book.assign(none, "carol", "alice", at(3)).is_err());
    let empty = book.resolve(id, (" ", "fixed"), "carol", (&sinks(), at(4)));
    assert_eq!(empty, Err(Refused::Empty { what: "the root cause" }));
    book.resolve(id, ("a fibre", "spliced"), "carol", (&sinks(), at(4))).unwrap();
    assert_eq!(book.assign(id, "dave", "alice", at(5)), Err(Refused::Resolved { id }));
    let told: Vec<_> = drain(&mut book, "pager", at(5))
        .into_iter()
        .map(|(_, seq, it)| (seq, it))
        .collect();
    let expected =
        [(1, Change::Opened), (2, Change::Acknowledged), (3, Change::Resolved)];
    assert_eq!(told, expected);
    // Its cause is still there: it is the same incident, and nobody looks after it any more.
    book.step(&[found("a", &Cause::Silent, true)], &sinks(), at(6));
    let incident = &book.incidents[&id];
    assert_eq!((incident.status, incident.flaps), (Status::Open, 1));
    assert_eq!(incident.acknowledged, None);
}

#[test]
fn what_is_reported_is_kept_until_somebody_resolves_it() {
    let mut book = Book::default();
    let draft = Draft {
        region: None,
        severity: Severity::Medium,
        category: Category::Security,
        title: "odd log-ins".to_owned(),
        description: String::new(),
    };
    let id = book.report(&draft, "alice", &sinks(), at(0)).unwrap();
    book.step(&[found("a", &Cause::Silent, true)], &sinks(), at(1));
    assert!(book.incidents[&id].parent.is_none() && book.incidents[&id].stands());
    let nothing = Draft { title: String::new(), ..draft };
    assert!(book.report(&nothing, "alice", &sinks(), at(0)).is_err());
}

#[test]
fn the_oldest_that_are_over_are_forgotten_and_no_number_is_given_twice() {
    let mut book = Book::default();
    let mut seen = BTreeSet::new();
    for round in 0..2_000_u64 {
        let name = format!("r{round}");
        let now = at(round * 10);
        let step = book.step(&[found(&name, &Cause::Silent, true)], &sinks(), now);
        assert!(step.opened.iter().all(|id| seen.insert(*id)));
        drain(&mut book, "pager", now);
        if round > 100 {
            book.step(&[found(&name, &Cause::Silent, false)], &[], now);
        }
        assert!(book.incidents.len() <= KEPT_MAX);
    }
    assert_eq!(book.incidents.values().filter(|it| it.stands()).count(), 101);
    assert_eq!(seen.len(), 2_000);
}

#[test]
fn when_all_that_are_kept_stand_no_more_are_opened_and_that_is_said() {
    let mut book = Book::default();
    for round in 0..600 {
        let name = format!("r{round}");
        let step = book.step(&[found(&name, &Cause::Silent, true)], &[], at(0));
        assert_eq!(step.unopened, u32::from(round >= 500));
    }
    assert_eq!(book.incidents.len(), KEPT_MAX);
}

#[test]
fn health_enters_under_60_and_leaves_at_65_after_three_rounds() {
    let mut detector = Detector::default();
    let mut round = |score: u8| {
        let reading = Reading::of_score(score);
        let signal = Signal::new(region("a"), Cause::Unhealthy, reading, String::new());
        detector.observe(vec![signal]).first().map(|found| found.stands)
    };
    let (enter, _) = Cause::Unhealthy.rounds();
    for _ in 1..enter {
        assert_eq!(round(59), None);
    }
    assert_eq!(round(59), Some(true));
    assert_eq!([60, 64, 65, 65, 64, 65, 65].map(&mut round), [None; 7]);
    assert_eq!(round(65), Some(false));
}

/// What the model knows of one incident.
#[derive(Debug)]
struct Row {
    key: (usize, bool),
    over_since: Option<u64>,
    told: Vec<Change>,
    /// Whether somebody was told that it stands.
    known: bool,
    acknowledged: bool,
}

/// Rows in the order in which they came, and nothing else.
#[derive(Debug, Default)]
struct Model(Vec<Row>);

impl Model {
    fn silent(&self, region: usize) -> bool {
        self.0.iter().any(|row| row.key == (region, true) && row.over_since.is_none())
    }

    fn bad(&mut self, key: (usize, bool), now: u64) {
        if self.0.iter().any(|row| row.key == key && row.over_since.is_none()) {
            return;
        }
        let hidden = !key.1 && self.silent(key.0);
        let lately = |row: &Row| {
            row.key == key && row.over_since.is_some_and(|over| now - over <= 1_800)
        };
        let what = match self.0.iter().rposition(lately) {
            Some(place) => {
                let row = &mut self.0[place];
                (row.over_since, row.acknowledged) = (None, false);
                (place, Change::Reopened)
            }
            None => {
                let (told, over_since) = (Vec::new(), None);
                let row =
                    Row { key, over_since, told, known: false, acknowledged: false };
                self.0.push(row);
                (self.0.len() - 1, Change::Opened)
            }
        };
        if !hidden {
            self.0[what.0].told.push(what.1);
            self.0[what.0].known = true;
        }
    }

    fn over(&mut self, key: (usize, bool), now: u64) {
        let standing = |row: &&mut Row| row.key == key && row.over_since.is_none();
        let Some(row) = self.0.iter_mut().find(standing) else { return };
        row.over_since = Some(now);
        if row.known {
            row.told.push(Change::Resolved);
            row.known = false;
        }
        if key.1 {
            let theirs = self.0.iter_mut().filter(|row| {
                row.key == (key.0, false) && row.over_since.is_none() && !row.known
            });
            for row in theirs {
                row.told.push(Change::Opened);
                row.known = true;
            }
        }
    }

    fn acknowledge(&mut self, place: usize) {
        let Some(row) = self.0.get_mut(place) else { return };
        if row.over_since.is_none() && !row.acknowledged {
            row.acknowledged = true;
            if row.known {
                row.told.push(Change::Acknowledged);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Found { region: usize, silent: bool, stands: bool },
    Acknowledge(usize),
    Resolve(usize),
    Wait(u64),
    Deliver,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..2_usize, any::<bool>(), any::<bool>())
            .prop_map(|(region, silent, stands)| Act::Found { region, silent, stands }),
        1 => (0..6_usize).prop_map(Act::Acknowledge),
        1 => (0..6_usize).prop_map(Act::Resolve),
        2 => (0..1_500_u64).prop_map(Act::Wait),
        2 => Just(Act::Deliver),
    ]
}

fn cause(silent: bool) -> Cause {
    if silent { Cause::Silent } else { Cause::Unhealthy }
}

const NAMES: [&str; 2] = ["a", "b"];

proptest! {
    #[test]
    fn the_book_agrees_with_the_model_and_everybody_is_told_of_every_change_once(
        acts in prop::collection::vec(act(), 1..60)
    ) {
        let (mut book, mut model, mut now) = (Book::default(), Model::default(), 0);
        let mut told: Vec<(IncidentId, u32, Change)> = Vec::new();
        for act in acts {
            now += 1;
            match act {
                Act::Found { region, silent, stands } => {
                    let finding = found(NAMES[region], &cause(silent), stands);
                    book.step(&[finding], &sinks(), at(now));
                    if stands {
                        model.bad((region, silent), now);
                    } else {
                        model.over((region, silent), now);
                    }
                }
                Act::Acknowledge(place) => {
                    let id = IncidentId::new(u32::try_from(place + 1).unwrap());
                    let _said = book.acknowledge(id, "alice", &sinks(), at(now));
                    model.acknowledge(place);
                }
                Act::Resolve(place) => {
                    let id = IncidentId::new(u32::try_from(place + 1).unwrap());
                    let why = ("a cause", "a cure");
                    let done = book.resolve(id, why, "alice", (&sinks(), at(now)));
                    if done.is_ok() {
                        model.over(model.0[place].key, now);
                    }
                }
                Act::Wait(seconds) => now += seconds,
                Act::Deliver => told.extend(drain(&mut book, "pager", at(now))),
            }
            let standing: BTreeSet<_> = book.incidents.values().filter(|it| it.stands())
                .map(|it| (it.region.clone(), it.cause.clone())).collect();
            let stand = book.incidents.values().filter(|it| it.stands()).count();
            prop_assert_eq!(standing.len(), stand, "one of each that stands");
            let expected = model.0.iter().filter(|row| row.over_since.is_none()).count();
            prop_assert_eq!(stand, expected);
            prop_assert_eq!(book.incidents.len(), model.0.len());
            for incident in book.incidents.values() {
                let waits: usize = incident.notices.iter().map(|it| it.to.len()).sum();
                let waits = u32::try_from(waits).unwrap();
                prop_assert_eq!(
                    incident.changes, incident.delivered + incident.given_up + waits);
            }
        }
        told.extend(drain(&mut book, "pager", at(now)));
        for (place, row) in model.0.iter().enumerate() {
            let id = IncidentId::new(u32::try_from(place + 1).unwrap());
            let heard: Vec<_> = told.iter().filter(|it| it.0 == id).collect();
            let seqs: Vec<u32> = heard.iter().map(|it| it.1).collect();
            prop_assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "in order, once");
            if book.incidents[&id].given_up == 0 {
                let heard: Vec<_> = heard.iter().map(|it| it.2).collect();
                prop_assert_eq!(&heard, &row.told, "{:?}", id);
            }
        }
    }

    #[test]
    fn attempts_that_fail_are_repeated_in_order_and_given_up_at_the_bound(
        fails in prop::collection::vec(any::<bool>(), 0..200)
    ) {
        let mut book = Book::default();
        for (second, stands) in [true, false, true, false].into_iter().enumerate() {
            let now = at(u64::try_from(second).unwrap());
            book.step(&[found("a", &Cause::Silent, stands)], &sinks(), now);
        }
        let (mut expected, mut attempts) = (1, 0);
        let (mut delivered, mut lost) = (0, 0);
        for fail in fails {
            let Some((incident, notice)) = book.waiting("pager") else { break };
            prop_assert_eq!(notice.seq, expected, "the next only after this");
            let before = incident.message(notice);
            let (id, seq) = (incident.id, notice.seq);
            attempts += 1;
            let outcome = if fail {
                Outcome::Failed { reason: "500".to_owned() }
            } else {
                Outcome::Told
            };
            book.settle(id, (seq, "pager"), outcome, at(9));
            let ends = !fail || attempts == ATTEMPTS_MAX;
            if ends {
                delivered += u32::from(!fail);
                lost += u32::from(fail);
                (expected, attempts) = (expected + 1, 0);
            } else {
                let (incident, notice) = book.waiting("pager").unwrap();
                prop_assert_eq!(incident.message(notice), before, "the same each time");
            }
        }
        let incident = &book.incidents[&IncidentId::new(1)];
        prop_assert_eq!((incident.delivered, incident.given_up), (delivered, lost));
    }

    #[test]
    fn a_book_is_the_same_after_it_was_stored(stands in prop::collection::vec(any::<bool>(), 1..20)) {
        let mut book = Book::default();
        for (second, stands) in stands.into_iter().enumerate() {
            let now = at(u64::try_from(second).unwrap());
            book.step(&[found("a", &Cause::Sla { sla: "p99".to_owned() }, stands)], &sinks(), now);
        }
        let json = serde_json::to_string(&book).unwrap();
        prop_assert_eq!(serde_json::from_str::<Book>(&json).unwrap(), book);
    }
}

#[test]
fn less_severe_ones_are_told_only_who_wants_them_and_who_is_gone_waits_for_nothing() {
    let quiet = Sink { name: "mail".to_owned(), min_severity: Severity::Critical };
    let all = [sinks(), vec![quiet]].concat();
    let mut book = Book::default();
    book.step(&[found("a", &Cause::Unhealthy, true)], &all, at(0));
    assert!(book.waiting("mail").is_none() && book.waiting("pager").is_some());
    book.step(&[found("b", &Cause::Silent, true)], &all, at(1));
    assert!(book.waiting("mail").is_some());
    book.step(&[], &all[..1], at(2));
    assert!(book.waiting("mail").is_none() && book.waiting("pager").is_some());
    assert_eq!(book.incidents[&IncidentId::new(2)].given_up, 1);
}

#[test]
fn a_clock_that_steps_back_neither_splits_an_incident_nor_panics() {
    let mut book = Book::default();
    for (second, stands) in [(9_000, true), (8_000, false), (10, true), (5, false)] {
        book.step(&[found("a", &Cause::Silent, stands)], &sinks(), at(second));
    }
    assert_eq!(book.incidents.len(), 1);
    let later = Timestamp::from_millis(0).plus(Duration::from_hours(9_600));
    book.step(&[found("a", &Cause::Silent, true)], &sinks(), later);
    assert_eq!(book.incidents.len(), 2);
}
