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
    acknowledged: bool,
    /// As of the last step, or since a silence was made.
    quiet: bool,
}

impl Row {
    /// Whether somebody was told that it stands, and that somebody looks after it.
    fn believed(&self) -> (bool, bool) {
        match self.told.last() {
            None | Some(Change::Resolved) => (false, false),
            Some(Change::Acknowledged) => (true, true),
            Some(Change::Opened | Change::Reopened | Change::Raised) => (true, false),
        }
    }

    /// Says everything until what was said is so.
    fn catch_up(&mut self, hidden: bool) {
        if self.quiet {
            return;
        }
        if self.over_since.is_some() {
            if self.believed().0 {
                self.told.push(Change::Resolved);
            }
            return;
        }
        if !self.believed().0 && !hidden {
            let first = self.told.is_empty();
            self.told.push(if first { Change::Opened } else { Change::Reopened });
        }
        match (self.believed(), self.acknowledged) {
            ((true, false), true) => self.told.push(Change::Acknowledged),
            ((true, true), false) => self.told.push(Change::Reopened),
            ((true | false, _), _) => {}
        }
    }
}

/// A silence of a region, of one of its causes or of both, until a moment.
type Quiet = (usize, Option<bool>, u64);

/// Rows in the order in which they came, silences in theirs, and nothing else.
#[derive(Debug, Default)]
struct Model(Vec<Row>, Vec<Option<Quiet>>);

impl Model {
    fn is_quiet(&self, key: (usize, bool), now: u64) -> bool {
        self.1.iter().flatten().any(|(region, silent, until)| {
            *region == key.0 && silent.is_none_or(|it| it == key.1) && now < *until
        })
    }

    /// What a step does besides: silences begin and end, and everybody is told.
    fn step(&mut self, now: u64) {
        for place in 0..self.0.len() {
            self.0[place].quiet = self.is_quiet(self.0[place].key, now);
        }
        self.catch_up();
    }

    /// Everybody is told of the difference between what they know and what is.
    fn catch_up(&mut self) {
        for place in 0..self.0.len() {
            let key = self.0[place].key;
            let hidden = !key.1 && self.silent(key.0);
            self.0[place].catch_up(hidden);
        }
    }

    fn silent(&self, region: usize) -> bool {
        self.0.iter().any(|row| row.key == (region, true) && row.over_since.is_none())
    }

    fn bad(&mut self, key: (usize, bool), now: u64) {
        if self.0.iter().any(|row| row.key == key && row.over_since.is_none()) {
            return;
        }
        let lately = |row: &Row| {
            row.key == key && row.over_since.is_some_and(|over| now - over <= 1_800)
        };
        match self.0.iter().rposition(lately) {
            Some(place) => {
                let row = &mut self.0[place];
                (row.over_since, row.acknowledged) = (None, false);
            }
            None => self.0.push(Row {
                key,
                over_since: None,
                told: Vec::new(),
                acknowledged: false,
                quiet: false,
            }),
        }
    }

    fn over(&mut self, key: (usize, bool), now: u64) {
        let standing = |row: &&mut Row| row.key == key && row.over_since.is_none();
        if let Some(row) = self.0.iter_mut().find(standing) {
            row.over_since = Some(now);
        }
    }

    fn acknowledge(&mut self, place: usize) {
        if let Some(row) = self.0.get_mut(place)
            && row.over_since.is_none()
        {
            row.acknowledged = true;
        }
        self.catch_up();
    }

    fn silence(&mut self, (region, silent, until): Quiet, now: u64) {
        self.1.push(Some((region, silent, until)));
        for place in 0..self.0.len() {
            // Nothing that is silenced is let go before the next step.
            self.0[place].quiet |= self.is_quiet(self.0[place].key, now);
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
    Silence { region: usize, silent: Option<bool>, seconds: u64 },
    EndSilence(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..2_usize, any::<bool>(), any::<bool>())
            .prop_map(|(region, silent, stands)| Act::Found { region, silent, stands }),
        1 => (0..6_usize).prop_map(Act::Acknowledge),
        1 => (0..6_usize).prop_map(Act::Resolve),
        2 => (0..1_500_u64).prop_map(Act::Wait),
        2 => Just(Act::Deliver),
        2 => (0..2_usize, any::<Option<bool>>(), 1..2_000_u64)
            .prop_map(|(region, silent, seconds)| Act::Silence { region, silent, seconds }),
        1 => (0..4_usize).prop_map(Act::EndSilence),
    ]
}

fn cause(silent: bool) -> Cause {
    if silent { Cause::Silent } else { Cause::Unhealthy }
}

const NAMES: [&str; 2] = ["a", "b"];

fn draft(name: &str, from: u64, until: u64) -> SilenceDraft {
    SilenceDraft {
        kind: SilenceKind::Silence,
        region: region(name),
        cause: None,
        severity_below: None,
        from: at(from),
        until: at(until),
        reason: "a new switch".to_owned(),
    }
}

#[test]
fn a_silenced_incident_is_shown_and_told_once_when_the_silence_is_over() {
    let mut book = Book::default();
    let id = book.silence(&draft("a", 0, 100), "alice", at(0)).unwrap();
    let down = [found("a", &Cause::Silent, true), found("b", &Cause::Silent, true)];
    let opened = book.step(&down, &sinks(), at(1)).opened;
    assert_eq!(opened.len(), 2);
    let of_a = &book.incidents[&opened[0]];
    assert_eq!((of_a.silenced, of_a.status), (Some(id), Status::Open));
    let why = "SIL-001 of alice: nobody is told (a new switch)";
    assert!(of_a.timeline.iter().any(|it| it.what == why), "{of_a:?}");
    assert_eq!(drain(&mut book, "pager", at(1)), [(opened[1], 1, Change::Opened)]);
    book.step(&down, &sinks(), at(99));
    assert_eq!(drain(&mut book, "pager", at(99)), []);
    book.step(&down, &sinks(), at(100));
    book.step(&down, &sinks(), at(101));
    assert_eq!(drain(&mut book, "pager", at(101)), [(opened[0], 1, Change::Opened)]);
    assert!(book.silences.is_empty() && book.incidents[&opened[0]].silenced.is_none());
}

#[test]
fn what_comes_and_goes_in_a_silence_is_told_to_nobody_and_what_was_known_is_told_to_be_over()
 {
    let mut book = Book::default();
    book.step(&[found("a", &Cause::Silent, true)], &sinks(), at(0));
    drain(&mut book, "pager", at(0));
    book.silence(&draft("a", 1, 100), "alice", at(1)).unwrap();
    book.acknowledge(IncidentId::new(1), "bob", &sinks(), at(2)).unwrap();
    for (second, stands) in [(3, false), (4, true), (5, false)] {
        book.step(&[found("a", &Cause::Silent, stands)], &sinks(), at(second));
    }
    for (second, stands) in [(6, true), (7, false)] {
        book.step(&[found("a", &Cause::Unhealthy, stands)], &sinks(), at(second));
    }
    assert_eq!(drain(&mut book, "pager", at(8)), []);
    book.step(&[], &sinks(), at(100));
    let told = drain(&mut book, "pager", at(100));
    assert_eq!(told, [(IncidentId::new(1), 2, Change::Resolved)]);
}

#[test]
fn a_silence_covers_its_cause_and_what_is_less_severe_in_its_time() {
    let mut book = Book::default();
    let of = SilenceDraft {
        cause: Some(CauseKind::Sla),
        severity_below: Some(Severity::High),
        ..draft("a", 10, 20)
    };
    book.silence(&of, "alice", at(0)).unwrap();
    let sla = |id: &str, severity| Finding {
        severity,
        ..found("a", &Cause::Sla { sla: id.to_owned() }, true)
    };
    let all = [
        sla("before", Severity::Medium),
        sla("mild", Severity::Medium),
        sla("bad", Severity::High),
        found("a", &Cause::Unhealthy, true),
    ];
    book.step(&all[..1], &sinks(), at(9));
    book.step(&all, &sinks(), at(10));
    let silenced: Vec<bool> =
        book.incidents.values().map(|it| it.silenced.is_some()).collect();
    assert_eq!(silenced, [true, true, false, false]);
    let told: Vec<u32> =
        drain(&mut book, "pager", at(10)).iter().map(|it| it.0.number()).collect();
    assert_eq!(told, [1, 3, 4], "the first was told before the silence began");
}

#[test]
fn an_operator_s_clock_that_is_ahead_ends_no_silence() {
    let mut book = Book::default();
    book.silence(&draft("a", 0, 100), "alice", at(0)).unwrap();
    let down = [found("a", &Cause::Silent, true), found("a", &Cause::Unhealthy, true)];
    book.step(&down, &sinks(), at(1));
    let [first, second] = [1, 2].map(IncidentId::new);
    book.acknowledge(first, "bob", &sinks(), at(5_000)).unwrap();
    book.resolve(second, ("a", "b"), "bob", (&sinks(), at(5_000))).unwrap();
    book.silence(&draft("b", 5_000, 6_000), "bob", at(5_000)).unwrap();
    assert_eq!(drain(&mut book, "pager", at(2)), []);
    assert_eq!(book.silences.len(), 2);
    book.step(&down[..1], &sinks(), at(100));
    let told = drain(&mut book, "pager", at(100));
    assert_eq!(told, [(first, 1, Change::Opened), (first, 2, Change::Acknowledged)]);
}

#[test]
fn who_ended_a_silence_is_noted_and_the_next_step_tells_what_it_covered() {
    let mut book = Book::default();
    let silence = book.silence(&draft("a", 0, 100), "alice", at(0)).unwrap();
    book.step(&[found("a", &Cause::Silent, true)], &sinks(), at(1));
    book.end_silence(silence, "bob", at(2)).unwrap();
    assert_eq!(drain(&mut book, "pager", at(2)), []);
    book.step(&[], &sinks(), at(3));
    let id = IncidentId::new(1);
    assert_eq!(drain(&mut book, "pager", at(3)), [(id, 1, Change::Opened)]);
    let timeline = &book.incidents[&id].timeline;
    assert!(timeline.iter().any(|it| it.what == "SIL-001 was ended by bob"));
}

#[test]
fn what_began_mild_and_is_worse_now_is_told_again_also_to_who_wants_only_the_worst() {
    let strict = Sink { name: "mail".to_owned(), min_severity: Severity::Critical };
    let all = [sinks(), vec![strict]].concat();
    let of = |severity| Finding { severity, ..found("a", &Cause::Silent, true) };
    let mut book = Book::default();
    book.step(&[of(Severity::Low)], &all, at(0));
    let id = IncidentId::new(1);
    assert_eq!(drain(&mut book, "pager", at(0)), [(id, 1, Change::Opened)]);
    book.acknowledge(id, "alice", &all, at(1)).unwrap();
    assert_eq!(drain(&mut book, "pager", at(1)), [(id, 2, Change::Acknowledged)]);
    // The maintenance is over, and the region still silent.
    book.step(&[of(Severity::Critical)], &all, at(2));
    let incident = &book.incidents[&id];
    assert_eq!((incident.severity, incident.status), (Severity::Critical, Status::Open));
    assert!(incident.timeline.iter().any(|it| it.what == "worse: critical, was low"));
    let mut heard = |sink| -> Vec<_> {
        drain(&mut book, sink, at(2)).into_iter().map(|(_, _, what)| what).collect()
    };
    assert_eq!(
        (heard("pager"), heard("mail")),
        (vec![Change::Raised], vec![Change::Opened])
    );
    // What is mild again while it stands is not told, and its end is told to all.
    book.step(&[of(Severity::Low)], &all, at(3));
    book.step(&[found("a", &Cause::Silent, false)], &all, at(4));
    for sink in ["pager", "mail"] {
        let told = drain(&mut book, sink, at(4));
        assert_eq!(told.iter().map(|it| it.2).collect::<Vec<_>>(), [Change::Resolved]);
    }
}

#[test]
fn a_receiver_that_is_new_is_told_what_stands_and_nobody_else_is_told_again() {
    let mut book = Book::default();
    book.step(&[found("a", &Cause::Silent, true)], &sinks(), at(0));
    drain(&mut book, "pager", at(0));
    let new = Sink { name: "chat".to_owned(), min_severity: Severity::Low };
    let all = [sinks(), vec![new]].concat();
    book.step(&[], &all, at(1));
    assert_eq!(drain(&mut book, "pager", at(1)), []);
    assert_eq!(drain(&mut book, "chat", at(1)).len(), 1);
}

#[test]
fn silences_that_make_no_sense_are_refused_with_the_reason() {
    let mut book = Book::default();
    let day = 24 * 3_600;
    let no_reason = SilenceDraft { reason: " ".to_owned(), ..draft("a", 0, 9) };
    let covers = SilenceDraft { severity_below: Some(Severity::Low), ..draft("a", 0, 9) };
    for (of, expected) in [
        (draft("a", 9, 9), Refused::Backwards),
        (draft("a", 9, 5), Refused::Backwards),
        (draft("a", 0, 5), Refused::Past),
        (draft("a", 0, 30 * day + 1), Refused::TooLong),
        (no_reason, Refused::Empty { what: "the reason" }),
        (covers, Refused::Covers),
    ] {
        assert_eq!(book.silence(&of, "alice", at(5)), Err(expected), "{of:?}");
    }
    for _ in 0..SILENCES_MAX {
        book.silence(&draft("a", 10, 20), "alice", at(5)).unwrap();
    }
    assert_eq!(book.silence(&draft("a", 10, 20), "x", at(5)), Err(Refused::SilencesFull));
    // Those that are over make room in the next step, and no number is given twice.
    book.step(&[], &[], at(20));
    let after = book.silence(&draft("a", 20, 30), "x", at(20)).unwrap();
    assert_eq!((after.to_string().as_str(), book.silences.len()), ("SIL-101", 1));
    let none = SilenceId::new(7);
    assert_eq!(
        book.end_silence(none, "bob", at(20)),
        Err(Refused::NoSuchSilence { id: none })
    );
}

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
                    model.step(now);
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
                        model.catch_up();
                    }
                }
                Act::Wait(seconds) => now += seconds,
                Act::Silence { region, silent, seconds } => {
                    let of = SilenceDraft {
                        cause: silent.map(|silent| cause(silent).kind()),
                        ..draft(NAMES[region], now, now + seconds)
                    };
                    let made = book.silence(&of, "alice", at(now)).unwrap();
                    model.silence((region, silent, now + seconds), now);
                    prop_assert_eq!(usize::try_from(made.number()).unwrap(), model.1.len());
                }
                Act::EndSilence(place) => {
                    let id = SilenceId::new(u32::try_from(place + 1).unwrap());
                    let lasts = model.1.get(place).copied().flatten();
                    let lasts = lasts.is_some_and(|(_, _, until)| {
                        until > now || book.silences.contains_key(&id)
                    });
                    let ended = book.end_silence(id, "alice", at(now));
                    prop_assert_eq!(ended.is_ok(), lasts);
                    if lasts {
                        model.1[place] = None;
                    }
                }
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
        // When all silences are over everybody knows what is so.
        now += 10_000;
        book.step(&[], &sinks(), at(now));
        model.step(now);
        prop_assert!(book.silences.is_empty());
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
fn a_receiver_that_forgets_is_reminded_of_what_stands_and_it_was_told() {
    let mut book = Book::default();
    let all = ["a", "b", "c", "d"].map(|name| found(name, &Cause::Silent, true));
    book.step(&all, &sinks(), at(0));
    let sink = &sinks()[0];
    let known = |book: &Book| -> Vec<u32> {
        book.known_to(sink).map(|it| it.id.number()).collect()
    };
    assert!(known(&book).is_empty(), "the first time is a change");
    drain(&mut book, "pager", at(0));
    assert_eq!(known(&book), [1, 2, 3, 4]);
    book.step(&[found("a", &Cause::Silent, false)], &sinks(), at(1));
    book.acknowledge(IncidentId::new(2), "alice", &sinks(), at(1)).unwrap();
    book.step(&[found("d", &Cause::Unhealthy, true)], &sinks(), at(1));
    book.silence(&draft("c", 1, 9), "alice", at(1)).unwrap();
    book.step(&[], &sinks(), at(2));
    assert_eq!(
        known(&book),
        [3, 4],
        "one is over, of one a change waits, a child is nobody's"
    );
    drain(&mut book, "pager", at(2));
    assert_eq!(known(&book), [2, 3, 4]);
    let said = book.incidents[&IncidentId::new(2)].as_told(sink).unwrap();
    assert_eq!((said.event, said.at), (Change::Acknowledged, at(0)));
    // What got worse in a silence is said again as it was told.
    let mild = Finding { severity: Severity::Low, ..found("e", &Cause::Silent, true) };
    book.step(&[mild], &sinks(), at(3));
    drain(&mut book, "pager", at(3));
    book.silence(&draft("e", 3, 9), "alice", at(3)).unwrap();
    book.step(&[found("e", &Cause::Silent, true)], &sinks(), at(4));
    let worse = book.incidents.values().last().unwrap();
    let said = worse.as_told(sink).unwrap().incident.severity;
    assert_eq!((worse.severity, said), (Severity::Critical, Severity::Low));
    let untold = Sink { name: "mail".to_owned(), min_severity: Severity::Critical };
    assert_eq!(book.known_to(&untold).count(), 0, "who was told nothing knows nothing");
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
