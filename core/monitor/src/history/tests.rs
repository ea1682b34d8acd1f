//! The history against a list of all that was ever recorded.

use dwcp_types::RegionId;
use proptest::prelude::*;

use super::*;
use crate::digest::Gauges;

pub(super) const TEN_S: u64 = 10_000;
/// Where the tests' time begins: a whole number of all steps.
const BEGIN: u64 = 1_800_000_000_000;

pub(super) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(BEGIN + millis)
}

pub(super) fn digest(latencies: &[u64], errors: u64, vms: u32) -> Digest {
    let mut latency = Sketch::default();
    latencies.iter().for_each(|micros| latency.record(*micros));
    Digest {
        every_ms: TEN_S,
        requests: latency.count(),
        errors,
        latency,
        gauges: Gauges { vms, cpu_reserved_ppm: vms * 1_000, ..Gauges::default() },
        ..Digest::default()
    }
}

/// A history with a disk that loses nothing.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) history: History,
    pub(super) files: BTreeMap<SegmentId, Vec<u8>>,
}

impl Shelf {
    pub(super) fn write(&mut self, now: Timestamp) {
        for piece in self.history.pieces(None, now) {
            let file = self.files.entry(piece.segment).or_default();
            let len = u64::try_from(file.len()).unwrap();
            file.extend(piece.encode(&region(), len));
        }
    }

    /// Another life of the daemon.
    pub(super) fn restart(&mut self, now: Timestamp) {
        self.history = History::default();
        let there: Vec<_> = self.files.keys().copied().collect();
        for id in restored(&there, now) {
            let segment = Segment::decode(&region(), id, &self.files[&id]);
            assert!(!segment.is_damaged);
            self.history.restore(id, &segment);
        }
    }

    pub(super) fn past(&self, query: &Query) -> Past {
        let mut past = Past::default();
        for id in query.segments() {
            let Some(bytes) = self.files.get(&id) else { continue };
            past.take(query, id, Segment::decode(&region(), id, bytes));
        }
        past
    }

    pub(super) fn chart(&self, metric: Metric, back: Duration, now: Timestamp) -> Chart {
        let query = Query::chart(back, now);
        self.history.chart(metric, &query, &self.past(&query))
    }

    pub(super) fn last(&self, back: Duration, now: Timestamp) -> Window {
        let query = Query::last(back, now);
        self.history.window(&query, &self.past(&query))
    }
}

pub(super) fn region() -> RegionId {
    RegionId::new("one").unwrap()
}

#[derive(Clone, Debug)]
enum Event {
    Digest {
        latencies: Vec<u64>,
        errors: usize,
        vms: u32,
    },
    Look(bool),
    Write,
    Restart,
    /// The machine slept, longer than the finest step reaches.
    Sleep,
}

/// The oracle: everything, in a list, gone through each time.
#[derive(Debug, Default)]
struct List {
    events: Vec<(u64, Event)>,
}

impl List {
    /// A value over the events of `from..until`, computed from them one by one.
    fn value(&self, metric: Metric, from: u64, until: u64) -> Option<u64> {
        let within = || {
            let of = self.events.iter();
            of.filter(move |(at, _)| (from..until).contains(at)).map(|(_, event)| event)
        };
        let (mut all, mut failed, mut vms, mut looks) = (vec![], 0, vec![], vec![]);
        for event in within() {
            match event {
                Event::Digest { latencies, errors, vms: now } => {
                    all.extend(latencies.iter().copied());
                    failed += *errors;
                    vms.push(u64::from(*now));
                }
                Event::Look(heard) => looks.push(*heard),
                Event::Write | Event::Restart | Event::Sleep => {}
            }
        }
        all.sort_unstable();
        let count = |number: usize| u64::try_from(number).unwrap();
        let rank = |of_100: usize| {
            let rank = (all.len() * of_100).div_ceil(100).max(1);
            all.get(rank - 1).copied()
        };
        let mean = |times: u64| {
            (!vms.is_empty()).then(|| vms.iter().sum::<u64>() * times / count(vms.len()))
        };
        match metric {
            Metric::P50Latency => rank(50),
            Metric::P95Latency => rank(95),
            Metric::P99Latency => rank(99),
            Metric::Availability => (!looks.is_empty()).then(|| {
                count(looks.iter().filter(|heard| **heard).count()) * 100_000
                    / count(looks.len())
            }),
            Metric::ErrorRate => {
                (!all.is_empty()).then(|| count(failed) * 100_000 / count(all.len()))
            }
            Metric::Throughput => (!vms.is_empty())
                .then(|| count(all.len()) * 1_000_000 / (count(vms.len()) * TEN_S)),
            Metric::Vms => mean(1_000),
            Metric::CpuReserved => mean(100),
            Metric::HostsAnswering | Metric::MemoryReserved => mean(0),
        }
    }
}

fn agree(metric: Metric, got: Option<u64>, expected: Option<u64>, slack: u64) {
    let (true, Some(got), Some(expected)) = (metric.unit() == "ms", got, expected) else {
        return assert_eq!(got, expected, "{metric}");
    };
    let off = got.abs_diff(expected) * 100;
    assert!(off <= expected * slack + 100, "{metric}: {got} for {expected}");
}

fn event() -> impl Strategy<Value = Event> {
    let digest = (prop::collection::vec(100_u64..50_000, 0..12), 0_usize..3, 0_u32..50);
    prop_oneof![
        3 => digest.prop_map(|(latencies, errors, vms)| {
            let errors = errors.min(latencies.len());
            Event::Digest { latencies, errors, vms }
        }),
        1 => any::<bool>().prop_map(Event::Look),
        1 => Just(Event::Write),
        1 => prop_oneof![Just(Event::Restart), Just(Event::Sleep)],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_ring_agrees_with_a_list_of_all(
        steps in prop::collection::vec((0_u64..400_000, event()), 1..120),
        back in 1_u64..200,
    ) {
        let (mut shelf, mut list, mut now) = (Shelf::default(), List::default(), 0);
        let mut written = 0;
        for (after, event) in steps {
            now += after;
            // Memory holds what is not written for two hours.
            if now - written > 3_600_000 {
                (written, _) = (now, shelf.write(at(now)));
            }
            match &event {
                Event::Digest { latencies, errors, vms } => {
                    let errors = u64::try_from(*errors).unwrap();
                    shelf.history.record(at(now), &digest(latencies, errors, *vms));
                }
                Event::Look(heard) => shelf.history.observe(at(now), *heard),
                Event::Write => (written, _) = (now, shelf.write(at(now))),
                Event::Restart => {
                    (written, _) = (now, shelf.write(at(now)));
                    shelf.restart(at(now));
                }
                Event::Sleep => now += 10_000_000,
            }
            list.events.push((BEGIN + now, event));
        }
        for metric in Metric::ALL {
            // Within each step's reach: 2 h, 7 d and 90 d.
            for (minutes, step) in [(back.min(120), TEN_S), (180 + back * 8, 60_000)] {
                let span = Duration::from_secs(60 * minutes);
                let chart = shelf.chart(metric, span, at(now));
                let step = match step {
                    60_000 => 60_000 * (180 + back * 8).div_ceil(POINTS_MAX),
                    step => step,
                };
                prop_assert_eq!(chart.step.as_millis(), u128::from(step));
                let last = chart.points.last().unwrap();
                prop_assert!(last.at <= at(now) && at(now) < last.at.plus(chart.step));
                for point in &chart.points {
                    let from = point.at.as_millis();
                    let expected = list.value(metric, from, from + step);
                    agree(metric, point.value_milli, expected, 1);
                }
            }
        }
        // All of it at once, from the places of five minutes.
        let span = Duration::from_hours(24 * 30);
        let whole = shelf.last(span, at(now));
        for metric in Metric::ALL {
            agree(metric, whole.value_milli(metric), list.value(metric, 0, u64::MAX), 2);
        }
    }

    #[test]
    fn any_moments_in_any_order_end_and_stay_within_the_bound(
        moments in prop::collection::vec(any::<u64>(), 1..40)
    ) {
        let mut shelf = Shelf::default();
        for moment in moments {
            let moment = Timestamp::from_millis(moment);
            shelf.history.record(moment, &digest(&[5], 0, 1));
            let hour = Duration::from_hours(1);
            prop_assert!(shelf.chart(Metric::Vms, hour, moment).points.len() <= 360);
            prop_assert!(shelf.last(Duration::MAX, moment).requests() > 0);
            prop_assert!(shelf.history.recent.count() <= Ring::MAX);
            prop_assert!(shelf.history.left.len() <= 720);
            for id in Query::last(Duration::MAX, moment).segments() {
                prop_assert!(id.first().is_some());
            }
            shelf.write(moment);
        }
    }
}

#[test]
fn a_gap_stays_a_gap_in_all_rings() {
    let mut shelf = Shelf::default();
    let minute = 60_000;
    for step in 0..6 {
        shelf.history.record(at(step * TEN_S), &digest(&[1_000], 0, 3));
    }
    // Ten minutes of silence, then it is back.
    let back = 11 * minute;
    shelf.history.record(at(back), &digest(&[1_000], 0, 3));
    let chart = shelf.chart(Metric::Vms, Duration::from_mins(12), at(back));
    let known = chart.points.iter().filter(|point| point.value_milli.is_some()).count();
    assert_eq!((chart.points.len(), known), (72, 7));
    let day = shelf.chart(Metric::Throughput, Duration::from_hours(12), at(back));
    let known: Vec<_> = day.points.iter().filter_map(|point| point.value_milli).collect();
    assert_eq!(known, [100, 100], "a minute and ten seconds at one in ten seconds");
    let month = shelf.chart(Metric::Vms, Duration::from_hours(24 * 30), at(back));
    assert!(month.points.len() <= 1_000);
    assert_eq!(shelf.last(Duration::from_mins(5), at(back)).requests(), 1);
}

#[test]
fn what_is_older_than_a_step_reaches_is_in_the_next_one_only() {
    let mut shelf = Shelf::default();
    let mut now = 0;
    for hours in [0, 3, 24 * 8, 24 * 91] {
        now = 3_600_000 * hours;
        shelf.history.record(at(now), &digest(&[1_000], 0, 1));
        shelf.write(at(now));
    }
    // What is not over is written when it is, and answers have it before.
    let known = |back: u64| shelf.last(Duration::from_hours(back), at(now)).requests();
    assert_eq!([2, 24 * 7, 24 * 90].map(known), [1, 1, 2], "91 days after the first");
    let of = |grain| {
        let of = shelf.files.keys().filter(|id| id.grain == grain);
        of.map(|id| id.number).collect::<Vec<_>>()
    };
    assert_eq!(Grain::ALL.map(|grain| of(grain).len()), [4, 2, 2]);
    let surplus = Grain::TenSeconds.surplus(of(Grain::TenSeconds), at(now));
    assert!(surplus.is_empty(), "no more than are kept");
}

#[test]
fn a_clock_that_was_days_ahead_and_is_right_again_leaves_no_hole() {
    let mut shelf = Shelf::default();
    shelf.history.record(at(24 * 3_600_000), &digest(&[1_000], 0, 9));
    shelf.history.record(at(0), &digest(&[1_000], 0, 1));
    assert_eq!(shelf.last(Duration::from_mins(1), at(0)).requests(), 1);
}

#[test]
fn the_least_and_the_greatest_are_kept_where_places_are_merged() {
    let mut shelf = Shelf::default();
    for (step, vms) in (0..6).zip([5, 9, 2, 7, 7, 7]) {
        shelf.history.record(at(step * TEN_S), &digest(&[], 0, vms));
    }
    // A look says nothing of gauges: it is no zero.
    shelf.history.observe(at(30_000), true);
    let window = shelf.last(Duration::from_mins(1), at(59_999));
    assert_eq!(window.spread_milli(Metric::Vms), Some((2_000, 9_000)));
    assert_eq!(window.spread_milli(Metric::CpuReserved), Some((200, 900)));
    assert_eq!(window.value_milli(Metric::P99Latency), None, "nobody asked anything");
    assert_eq!(window.value_milli(Metric::ErrorRate), None);
    assert_eq!(window.value_milli(Metric::Throughput), Some(0));
}
