//! What travels, what is kept and how it is put together, against oracles of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dwcp_types::RegionId;
use proptest::prelude::*;

use super::critical::{Node, critical};
use super::*;

fn trace_id(number: u128) -> TraceId {
    TraceId::new(number).unwrap()
}

fn span_id(number: u64) -> SpanId {
    SpanId::new(number).unwrap()
}

fn span(trace: u128, id: u64, parent: u64) -> Span {
    Span {
        trace: trace_id(trace),
        id: span_id(id),
        parent: SpanId::new(parent),
        entry: parent == 0,
        keep: false,
        name: "place_vm".to_owned(),
        kind: Kind::Internal,
        region: RegionId::new("eu-west-1").unwrap(),
        process: "dwcpd".to_owned(),
        start_us: 1_000_000,
        took_us: 100,
        failed: None,
        tags: BTreeMap::new(),
    }
}

fn timed(id: u64, parent: u64, start: u64, end: u64) -> Span {
    Span { start_us: start, took_us: end - start, ..span(1, id, parent) }
}

fn in_region(region: &str, kind: Kind, span: Span) -> Span {
    Span { region: RegionId::new(region).unwrap(), kind, ..span }
}

/// A number that looks random and is the same each time.
fn scrambled(number: u64) -> u64 {
    mixed(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

const fn rated(rate_ppm: u32) -> Rules {
    Rules { rate_ppm, each_minute: 0 }
}

const NONE: Rules = rated(0);
const LATER: Duration = Duration::from_mins(5);

// What travels.

#[test]
fn the_example_of_the_standard_is_read_and_written() {
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let context: Context = text.parse().unwrap();
    assert_eq!(context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(context.span.to_string(), "00f067aa0ba902b7");
    assert!(context.keep);
    assert_eq!(context.to_string(), text);
    let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what-comes";
    assert!(!later.parse::<Context>().unwrap().keep);
}

#[test]
fn what_is_no_traceparent_is_refused() {
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let zeros = "0".repeat(32);
    for text in [
        String::new(),
        "00".to_owned(),
        format!("00-{trace}-{span}"),
        format!("00-{trace}-{span}-01-more"),
        format!("ff-{trace}-{span}-01"),
        format!("0-{trace}-{span}-01"),
        format!("00-{zeros}-{span}-01"),
        format!("00-{trace}-{}-01", "0".repeat(16)),
        format!("00-{}-{span}-01", trace.to_uppercase()),
        format!("00-{}-{span}-01", trace.replacen('4', "+", 1)),
        format!("00-{trace}-{span}-1"),
        format!("00-{trace}-{span}-zz"),
        format!("00-{trace}é-{span}-01"),
    ] {
        assert!(text.parse::<Context>().is_err(), "{text:?}");
    }
}

#[test]
fn ids_of_names_are_the_same_everywhere_and_differ() {
    let ids: BTreeSet<_> =
        [("move", "1"), ("mov", "e1"), ("move", "2"), ("failover", "1")]
            .iter()
            .map(|(kind, name)| TraceId::of(kind, name))
            .collect();
    assert_eq!(ids.len(), 4);
    let trace = TraceId::of("move", "1");
    assert_eq!(trace, TraceId::of("move", "1"));
    assert_ne!(SpanId::of(trace, "moving"), SpanId::of(trace, "preparing"));
}

proptest! {
    #[test]
    fn any_context_is_read_as_it_was_written(trace in 1_u128.., span in 1_u64.., keep: bool) {
        let context = Context { trace: trace_id(trace), span: span_id(span), keep };
        prop_assert_eq!(context.to_string().parse::<Context>().unwrap(), context);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9a-fA-Z+-]{0,70}|\\PC{0,70}") {
        if let Ok(context) = text.parse::<Context>() {
            let (written, read) = (context.to_string(), text.split('-'));
            let ids = |text: &str| text.split('-').skip(1).take(2).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(ids(&written), read.skip(1).take(2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_span_is_within_its_limits(name in "\\PC{0,300}", why in "[\\x00-\\x7f]{0,300}", tags in 0..40_usize) {
        let tags = (0..tags).map(|n| (format!("{n}{name}"), why.clone())).collect();
        let wild = Span { name, failed: Some(why), tags, ..span(1, 1, 0) };
        let fitted = wild.fitted().unwrap();
        let short = |text: &String| text.chars().count() <= TEXT_MAX;
        prop_assert!(short(&fitted.name) && short(fitted.failed.as_ref().unwrap()));
        prop_assert!(fitted.tags.len() <= TAGS_MAX);
        prop_assert!(fitted.tags.iter().all(|(key, value)| short(key) && short(value)));
        prop_assert!(!fitted.failed.unwrap().chars().any(char::is_control));
    }
}

#[test]
fn times_that_cannot_be_are_refused() {
    assert!(Span { took_us: u64::MAX, ..span(1, 1, 0) }.fitted().is_none());
    assert!(Span { start_us: u64::MAX, took_us: 1, ..span(1, 1, 0) }.fitted().is_none());
}

// What is kept.

/// What a trace's spans say by themselves.
fn expected(spans: &[Span], rules: &Rules) -> Option<Why> {
    let any = |what: &dyn Fn(&Span) -> bool| spans.iter().any(what);
    if any(&|it| it.failed.is_some()) {
        Some(Why::Failed)
    } else if any(&|it| it.keep) {
        Some(Why::Asked)
    } else {
        rules.samples(spans[0].trace).then_some(Why::Sampled)
    }
}

proptest! {
    /// Spans of some traces in any order, an error in any of them at any place: each trace is
    /// decided once, whole, and as its spans say.
    #[test]
    fn every_trace_is_decided_once_by_all_of_its_spans(
        spans in prop::collection::vec((1..12_u64, 1..u64::MAX, 0..20_u8), 1..80),
        rate in 0..1_000_000_u32,
    ) {
        let rules = rated(rate);
        let mut tail = Tail::default();
        let mut sent: BTreeMap<TraceId, Vec<Span>> = BTreeMap::new();
        let mut judged = Vec::new();
        for (at, (trace, id, what)) in spans.into_iter().enumerate() {
            let now = Duration::from_millis(at as u64 * 10);
            let failed = (what == 1).then(|| "it broke".to_owned());
            let trace = u128::from(scrambled(trace));
            let it = Span { entry: what < 4, failed, keep: what == 2, ..span(trace, id, 7) };
            sent.entry(it.trace).or_default().push(it.clone());
            prop_assert_eq!(tail.take(it, now), Taken::Pending);
            judged.extend(tail.judge(&rules, now));
        }
        prop_assert!(judged.is_empty(), "decided while spans came");
        judged.extend(tail.judge(&rules, LATER));
        prop_assert_eq!(tail.pending(), 0);
        prop_assert_eq!(judged.len(), sent.len());
        for it in judged {
            let spans = sent.remove(&it.trace).unwrap();
            prop_assert_eq!(it.why, expected(&spans, &rules));
            prop_assert_eq!(it.spans, spans);
        }
    }
}

#[test]
fn a_trace_is_decided_when_its_entry_has_ended_and_nothing_came_since() {
    let mut tail = Tail::default();
    let at = Duration::from_secs;
    tail.take(span(1, 2, 1), at(0));
    assert!(tail.judge(&NONE, at(59)).is_empty(), "its entry did not end yet");
    tail.take(span(1, 1, 0), at(59));
    assert!(tail.judge(&NONE, at(62)).is_empty(), "more may be on its way");
    tail.take(span(1, 3, 1), at(62));
    assert!(tail.judge(&NONE, at(65)).is_empty());
    assert_eq!(tail.judge(&NONE, at(66)).len(), 1);
    // One whose entry never ends, because its process is gone.
    tail.take(span(2, 2, 1), at(70));
    assert!(tail.judge(&NONE, at(129)).is_empty());
    assert_eq!(tail.judge(&NONE, at(130)).len(), 1);
}

#[test]
fn what_comes_late_follows_the_decision_but_an_error_is_kept() {
    let mut tail = Tail::default();
    let keep = Span { keep: true, ..span(1, 1, 0) };
    tail.take(keep, Duration::ZERO);
    tail.take(span(2, 1, 0), Duration::ZERO);
    assert_eq!(tail.judge(&NONE, LATER).len(), 2);
    let late = span(1, 2, 1);
    assert_eq!(tail.take(late.clone(), LATER), Taken::Late(Box::new(late)));
    assert_eq!(tail.take(span(2, 2, 1), LATER), Taken::Unwanted);
    let broken = Span { failed: Some("it broke".to_owned()), ..span(2, 3, 1) };
    assert_eq!(tail.take(broken.clone(), LATER), Taken::Late(Box::new(broken)));
    let after = span(2, 4, 1);
    assert_eq!(tail.take(after.clone(), LATER), Taken::Late(Box::new(after)));
    // After ten minutes the decision is forgotten, and the trace one like any other.
    tail.judge(&NONE, LATER + Duration::from_mins(11));
    assert_eq!(tail.take(span(2, 5, 1), LATER + Duration::from_mins(11)), Taken::Pending);
}

#[test]
fn the_rate_keeps_its_share_and_a_higher_one_keeps_them_too() {
    let (low, high) = (rated(10_000), rated(100_000));
    let ids: Vec<TraceId> =
        (1..=100_000).map(|n| trace_id(u128::from(scrambled(n)))).collect();
    let kept = |rules: Rules| ids.iter().filter(|id| rules.samples(**id)).count();
    // 99 of 100 draws of 100,000 lie within 1,000 +- 81 and 10,000 +- 244.
    assert!((919..=1_081).contains(&kept(low)), "{}", kept(low));
    assert!((9_756..=10_244).contains(&kept(high)), "{}", kept(high));
    assert!(ids.iter().all(|id| !low.samples(*id) || high.samples(*id)));
    assert_eq!(kept(rated(1_000_000)), ids.len());
    assert_eq!(kept(NONE), 0);
}

#[test]
fn what_is_slower_than_99_of_100_of_its_operation_is_kept() {
    let mut tail = Tail::default();
    let mut kept = Vec::new();
    for number in 1..=2_000_u64 {
        let took_us =
            if number % 500 == 0 { 9_000 } else { 1_000 + scrambled(number) % 100 };
        let it = Span { took_us, ..span(u128::from(number), 1, 0) };
        let now = Duration::from_secs(number * 10);
        tail.take(it, now);
        for judged in tail.judge(&NONE, now + Duration::from_secs(9)) {
            kept.extend(judged.why.map(|why| (judged.spans[0].took_us, why)));
        }
    }
    let slow: Vec<_> = kept.iter().filter(|(took, _)| *took == 9_000).collect();
    assert_eq!(slow.len(), 4);
    assert!(kept.iter().all(|(_, why)| *why == Why::Slow));
    assert!(kept.len() < 60, "only a few of the others: {}", kept.len());
}

#[test]
fn what_is_rare_is_kept_and_what_is_frequent_is_not() {
    let rules = Rules { rate_ppm: 0, each_minute: 3 };
    let mut tail = Tail::default();
    let mut kept = Vec::new();
    for number in 1..=240_u64 {
        let name = if number % 60 == 0 { "failover" } else { "list_vms" };
        let name = name.to_owned();
        let now = Duration::from_secs(number);
        tail.take(Span { name, ..span(u128::from(number), 1, 0) }, now);
        kept.extend(tail.judge(&rules, now));
    }
    kept.extend(tail.judge(&rules, Duration::from_secs(299)));
    let of = |name: &str| {
        let is = |it: &&Judged| it.spans[0].name == name && it.why == Some(Why::Rare);
        kept.iter().filter(is).count()
    };
    assert_eq!(of("failover"), 4);
    assert_eq!(of("list_vms"), 3 * 5, "of each minute that some were decided in");
}

#[test]
fn a_burst_stays_within_bounds_and_loses_no_error() {
    let mut tail = Tail::default();
    let (mut failed, mut early) = (0, 0);
    for number in 1..=100_000_u64 {
        let why = (number % 1_000 == 0).then(|| "it broke".to_owned());
        tail.take(Span { failed: why, ..span(u128::from(number), 1, 0) }, Duration::ZERO);
        if number % 512 == 0 {
            for judged in tail.judge(&NONE, Duration::ZERO) {
                early += u32::from(judged.early);
                failed += u32::from(judged.why == Some(Why::Failed));
            }
            assert!(tail.pending() <= PENDING_MAX);
        }
    }
    assert!(early >= 80_000);
    failed += u32::try_from(
        tail.judge(&NONE, LATER).iter().filter(|it| it.why == Some(Why::Failed)).count(),
    )
    .unwrap();
    assert_eq!(failed, 100);
}

#[test]
fn a_trace_without_end_keeps_what_failed() {
    let mut tail = Tail::default();
    for id in 1..=1_500 {
        let taken = tail.take(span(1, id, 9_999), Duration::ZERO);
        let full = id > SPANS_MAX as u64;
        assert_eq!(taken == Taken::Dropped(Dropped::TooMany), full);
    }
    let broken = Span { failed: Some("it broke".to_owned()), ..span(1, 2_000, 1) };
    assert_eq!(tail.take(broken, Duration::ZERO), Taken::Pending);
    let judged = tail.judge(&NONE, LATER);
    assert_eq!(judged[0].spans.len(), SPANS_MAX);
    assert_eq!(judged[0].why, Some(Why::Failed));
}

// How it is put together.

#[test]
fn children_that_run_side_by_side_are_not_added_up() {
    // F71: 10 and 50 within 60 may be one after the other, or at once.
    let own = |spans: Vec<Span>| -> Vec<u64> {
        Trace::of(spans).unwrap().rows.iter().map(|row| row.critical_us).collect()
    };
    let after = vec![timed(1, 0, 0, 60), timed(2, 1, 0, 10), timed(3, 1, 10, 60)];
    assert_eq!(own(after), [0, 10, 50]);
    let at_once = vec![timed(1, 0, 0, 60), timed(2, 1, 0, 10), timed(3, 1, 0, 50)];
    assert_eq!(own(at_once), [10, 0, 50]);
}

#[test]
fn what_goes_on_after_the_answer_is_not_waited_for() {
    let trace = Trace::of(vec![timed(1, 0, 0, 100), timed(2, 1, 90, 900)]).unwrap();
    assert_eq!(trace.took_us, 100);
    assert_eq!(trace.rows[0].critical_us, 90);
    assert_eq!(trace.rows[1].critical_us, 10);
}

#[test]
fn the_way_is_what_the_caller_waited_less_what_the_other_needed() {
    let place = in_region("us-east-1", Kind::Server, timed(1, 0, 0, 1_000));
    let call = in_region("us-east-1", Kind::Client, timed(2, 1, 100, 900));
    // An hour ahead.
    let ahead = 3_600_000_000;
    let reserve =
        in_region("eu-west-1", Kind::Server, timed(3, 2, ahead + 480, ahead + 530));
    let trace = Trace::of(vec![reserve, place, call]).unwrap();
    assert_eq!(trace.rows[1].way_us, Some(750));
    assert_eq!(trace.way_us, 750);
    let offset = trace.lanes[0].offset;
    assert_eq!(trace.lanes[0].lane.region.as_str(), "eu-west-1");
    // The server's 50 us lie somewhere in the caller's 800.
    assert_eq!((offset.ahead_us, offset.within_us), (3_600_000_005, 375));
    let own: Vec<u64> = trace.rows.iter().map(|row| row.critical_us).collect();
    assert_eq!(own, [200, 750, 50]);
}

/// A handler runs to its end when its caller has given up.
#[test]
fn a_call_that_was_given_up_is_no_wrong_clock() {
    let place = in_region("r0", Kind::Server, timed(1, 0, 0, 3_000));
    let gave_up = in_region("r0", Kind::Client, timed(2, 1, 0, 2_000));
    let slow = in_region("r1", Kind::Server, timed(3, 2, 40, 30_040));
    let trace = Trace::of(vec![place.clone(), gave_up.clone(), slow]).unwrap();
    assert!(trace.lanes.iter().all(|it| it.offset.ahead_us == 0 && !it.offset.unknown));
    let early = in_region("r1", Kind::Server, timed(3, 2, 0, 30_000));
    let early = Span { start_us: 1_000, ..early };
    let [place, gave_up] = [place, gave_up].map(|it| Span { start_us: 5_000, ..it });
    let trace = Trace::of(vec![place, gave_up, early]).unwrap();
    assert_eq!(trace.lanes[1].offset.ahead_us, -4_000, "it began before it was asked");
}

/// A service that asks us is told of by others, and is the first then.
#[test]
fn an_entry_is_part_of_its_caller_where_that_is_told() {
    let outside = Span { process: "other/shop".to_owned(), ..timed(9, 0, 0, 500) };
    let asked = Span { entry: true, ..timed(1, 9, 100, 400) };
    let alone = Trace::of(vec![asked.clone()]).unwrap();
    assert!(!alone.rows[0].lost_parent);
    let trace = Trace::of(vec![asked, outside]).unwrap();
    let depths: Vec<_> =
        trace.rows.iter().map(|row| (row.span.id.get(), row.depth)).collect();
    assert_eq!(depths, [(9, 0), (1, 1)]);
    assert_eq!(trace.took_us, 500);
}

#[test]
fn what_is_lost_is_said() {
    let trace = Trace::of(vec![timed(1, 0, 0, 100), timed(3, 2, 10, 20)]).unwrap();
    assert!(!trace.rows[0].lost_parent);
    assert!(trace.rows[1].lost_parent);
    assert_eq!(trace.rows[1].depth, 0);
    assert!(Trace::of(Vec::new()).is_none());
}

fn any_spans() -> impl Strategy<Value = Vec<Span>> {
    let one = (1..30_u64, 0..30_u64, 0..200_u64, 0..200_u64, 0..3_u8, 0..3_u8);
    let made = one.prop_map(|(id, parent, start, took, region, kind)| Span {
        parent: SpanId::new(parent),
        entry: parent == 0,
        region: RegionId::new(&format!("r{region}")).unwrap(),
        kind: [Kind::Internal, Kind::Client, Kind::Server][usize::from(kind)],
        start_us: start,
        took_us: took,
        ..span(1, id, 0)
    });
    prop::collection::vec(made, 1..40)
}

proptest! {
    /// Circles, orphans and doubles included.
    #[test]
    fn every_span_stands_once_in_whatever_order_it_came(
        spans in any_spans(),
        by in any::<u64>(),
    ) {
        let ids: BTreeSet<SpanId> = spans.iter().map(|it| it.id).collect();
        let trace = Trace::of(spans.clone()).unwrap();
        let rows: Vec<SpanId> = trace.rows.iter().map(|row| row.span.id).collect();
        prop_assert_eq!(rows.len(), ids.len());
        prop_assert_eq!(rows.into_iter().collect::<BTreeSet<_>>(), ids);
        let own: u64 = trace.rows.iter().map(|row| row.critical_us).sum();
        prop_assert_eq!(own, trace.took_us);
        let mut other: Vec<Span> = spans.iter().chain(&spans).cloned().collect();
        other.sort_by_key(|it| scrambled(it.id.get() ^ it.took_us ^ by));
        prop_assert_eq!(Trace::of(other).unwrap(), trace);
    }

    /// A clock that is wrong by so much is never said to be wrong by anything that the spans
    /// exclude.
    #[test]
    fn an_offset_that_is_shown_is_the_true_one_within_its_bounds(
        wrong in -5_000..5_000_i64,
        calls in prop::collection::vec((0..400_u64, 0..400_u64, 1..400_u64), 1..6),
    ) {
        let mut spans = vec![in_region("r0", Kind::Server, timed(1, 0, 100_000, 200_000))];
        let mut at = 100_000;
        for (number, (there, back, needed)) in calls.into_iter().enumerate() {
            let id = 2 + 2 * number as u64;
            let end = at + there + needed + back;
            spans.push(in_region("r0", Kind::Client, timed(id, 1, at, end)));
            let start = (at + there).checked_add_signed(wrong).unwrap();
            let server = timed(id + 1, id, start, start + needed);
            spans.push(in_region("r1", Kind::Server, server));
            at = end;
        }
        let trace = Trace::of(spans).unwrap();
        let other = trace.lanes.iter().find(|it| it.lane.region.as_str() == "r1").unwrap();
        prop_assert!(!other.offset.unknown);
        if other.offset.ahead_us != 0 {
            let off = other.offset.ahead_us.abs_diff(wrong);
            prop_assert!(off <= other.offset.within_us, "{off} {other:?}");
        }
    }

    /// Against an oracle that looks at each microsecond by itself.
    #[test]
    fn the_critical_path_is_that_of_every_microsecond(
        spans in prop::collection::vec((0..8_usize, 0..40_i128, 0..30_i128), 1..9),
    ) {
        let mut nodes = vec![Node { start: 0, end: 50, children: Vec::new() }];
        for (parent, start, took) in spans {
            let at = nodes.len();
            nodes.push(Node { start, end: start + took, children: Vec::new() });
            let parent = parent % at;
            nodes[parent].children.push(at);
        }
        let mut own = vec![0; nodes.len()];
        waited(&nodes, 0, (0, 50), &mut own);
        prop_assert_eq!(critical(&nodes, 0), own);
    }
}

/// Back from the end, a microsecond at a time.
fn waited(nodes: &[Node], at: usize, (from, until): (i128, i128), own: &mut [u64]) {
    let mut t = until;
    while t > from {
        let covers = |child: &&usize| nodes[**child].start < t && t <= nodes[**child].end;
        let longest = |child: &&usize| (nodes[**child].end, std::cmp::Reverse(**child));
        match nodes[at].children.iter().filter(covers).max_by_key(longest) {
            Some(child) => {
                let start = nodes[*child].start.max(from);
                waited(nodes, *child, (start, t), own);
                t = start;
            }
            None => {
                own[at] += 1;
                t -= 1;
            }
        }
    }
}
