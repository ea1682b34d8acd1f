//! The history against a list of all that was ever recorded.

use proptest::prelude::*;

use super::*;
use crate::digest::Gauges;

const TEN_S: u64 = 10_000;
/// Where the tests' time begins: a whole number of all steps.
const BEGIN: u64 = 1_800_000_000_000;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(BEGIN + millis)
}

fn digest(latencies: &[u64], errors: u64, vms: u32) -> Digest {
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

#[derive(Clone, Debug)]
enum Event {
    Digest { latencies: Vec<u64>, errors: usize, vms: u32 },
    Look(bool),
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
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_ring_agrees_with_a_list_of_all(
        steps in prop::collection::vec((0_u64..400_000, event()), 1..120),
        back in 1_u64..200,
    ) {
        let (mut history, mut list, mut now) = (History::default(), List::default(), 0);
        for (after, event) in steps {
            now += after;
            match &event {
                Event::Digest { latencies, errors, vms } => {
                    let errors = u64::try_from(*errors).unwrap();
                    history.record(at(now), &digest(latencies, errors, *vms));
                }
                Event::Look(heard) => history.observe(at(now), *heard),
            }
            list.events.push((BEGIN + now, event));
        }
        for metric in Metric::ALL {
            // Within each ring's reach: 2 h, 7 d and 90 d.
            for (minutes, step) in [(back.min(120), TEN_S), (180 + back, 60_000)] {
                let span = Duration::from_secs(60 * minutes);
                let chart = history.chart(metric, span, at(now));
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
        // All of it at once, from the ring of five minutes.
        let span = Duration::from_hours(24 * 30);
        let whole = history.last(span, at(now));
        for metric in Metric::ALL {
            agree(metric, whole.value_milli(metric), list.value(metric, 0, u64::MAX), 2);
        }
    }

    #[test]
    fn any_moments_in_any_order_end_and_stay_within_the_bound(
        moments in prop::collection::vec(any::<u64>(), 1..40)
    ) {
        let mut history = History::default();
        for moment in moments {
            let moment = Timestamp::from_millis(moment);
            history.record(moment, &digest(&[5], 0, 1));
            let hour = Duration::from_hours(1);
            prop_assert!(history.chart(Metric::Vms, hour, moment).points.len() <= 360);
            prop_assert!(history.last(Duration::MAX, moment).requests() > 0);
            for ring in &history.rings {
                prop_assert!(ring.count() <= ring.max);
            }
        }
    }
}

#[test]
fn a_gap_stays_a_gap_in_all_rings() {
    let mut history = History::default();
    let minute = 60_000;
    for step in 0..6 {
        history.record(at(step * TEN_S), &digest(&[1_000], 0, 3));
    }
    // Ten minutes of silence, then it is back.
    let back = 11 * minute;
    history.record(at(back), &digest(&[1_000], 0, 3));
    let chart = history.chart(Metric::Vms, Duration::from_mins(12), at(back));
    let known = chart.points.iter().filter(|point| point.value_milli.is_some()).count();
    assert_eq!((chart.points.len(), known), (72, 7));
    let day = history.chart(Metric::Throughput, Duration::from_hours(12), at(back));
    let known: Vec<_> = day.points.iter().filter_map(|point| point.value_milli).collect();
    assert_eq!(known, [100, 100], "a minute and ten seconds at one in ten seconds");
    let month = history.chart(Metric::Vms, Duration::from_hours(24 * 30), at(back));
    assert!(month.points.len() <= 1_000);
    assert_eq!(history.last(Duration::from_mins(5), at(back)).requests(), 1);
}

#[test]
fn what_is_older_than_a_ring_is_in_the_next_one_only() {
    let mut history = History::default();
    history.record(at(0), &digest(&[1_000], 0, 9));
    for hours in [3, 24 * 8, 24 * 91] {
        let now = 3_600_000 * hours;
        history.record(at(now), &digest(&[1_000], 0, 1));
    }
    let counts: Vec<u64> = history
        .rings
        .iter()
        .map(|ring| u64::try_from(ring.slots.iter().flatten().count()).unwrap())
        .collect();
    assert_eq!(counts, [1, 1, 2], "8 and 91 days after the first");
}

#[test]
fn a_clock_that_was_days_ahead_and_is_right_again_leaves_no_hole() {
    let mut history = History::default();
    history.record(at(24 * 3_600_000), &digest(&[1_000], 0, 9));
    history.record(at(0), &digest(&[1_000], 0, 1));
    assert_eq!(history.last(Duration::from_mins(1), at(0)).requests(), 1);
}

#[test]
fn the_least_and_the_greatest_are_kept_where_places_are_merged() {
    let mut history = History::default();
    for (step, vms) in (0..6).zip([5, 9, 2, 7, 7, 7]) {
        history.record(at(step * TEN_S), &digest(&[], 0, vms));
    }
    // A look says nothing of gauges: it is no zero.
    history.observe(at(30_000), true);
    let window = history.last(Duration::from_mins(1), at(59_999));
    assert_eq!(window.spread_milli(Metric::Vms), Some((2_000, 9_000)));
    assert_eq!(window.spread_milli(Metric::CpuReserved), Some((200, 900)));
    assert_eq!(window.value_milli(Metric::P99Latency), None, "nobody asked anything");
    assert_eq!(window.value_milli(Metric::ErrorRate), None);
    assert_eq!(window.value_milli(Metric::Throughput), Some(0));
}
