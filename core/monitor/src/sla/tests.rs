//! The evaluator against one that keeps every event and goes through all of them each time.

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_types::Timestamp;
use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60_000;
const WINDOW: u64 = 5 * MINUTE;

fn definition(days: u64, compliance_ppm: u32, counting: Counting) -> Definition {
    Definition {
        id: "sla-latency-001".to_owned(),
        name: "P99 Latency".to_owned(),
        metric: Metric::P99Latency,
        region: None,
        operator: Operator::LessThan,
        target_milli: 100_000,
        counting,
        window: Duration::from_mins(5),
        period: Duration::from_hours(24 * days),
        compliance_ppm,
        severity: Severity::High,
    }
}

/// M7: sla-latency-001, 99.9 % in windows of 5 minutes, over 30 days.
fn of_the_source() -> Definition {
    definition(30, 999_000, Counting::Windows)
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// So many windows from the first on, of which these are bad.
fn filled(
    of: &Definition,
    windows: u64,
    is_bad: impl Fn(u64) -> bool,
) -> (Ledger, Timestamp) {
    let mut ledger = Ledger::new(of);
    for window in 0..windows {
        ledger.record(at(window * WINDOW), Slice::of_value(!is_bad(window)));
    }
    (ledger, at(windows.saturating_sub(1) * WINDOW))
}

#[test]
fn a_month_of_99_9_has_eight_bad_windows_and_not_nine() {
    let of = of_the_source();
    assert_eq!(of.windows(), 8_640);
    for (bad, standing) in [
        (0, Standing::Compliant),
        (5, Standing::Warning),
        (8, Standing::Warning),
        (9, Standing::Breach),
    ] {
        let (ledger, now) =
            filled(&of, 8_640, |window| window % 900 == 1 && window / 900 < bad);
        let report = report(&of, &ledger, now);
        assert_eq!((report.sum.windows_bad, report.standing), (bad, standing));
    }
}

/// MONITORING 1.3: on one day a single bad window is 99.65 %, and little of a month's budget.
#[test]
fn one_bad_window_of_a_day_is_no_breach_of_a_month() {
    let of = of_the_source();
    let (ledger, now) = filled(&of, 288, |window| window == 7);
    let report = report(&of, &ledger, now);
    assert_eq!(report.compliance_ppm, Some(996_527));
    assert_eq!(report.spent_ppm, 115_740, "one of 8.64");
    assert_eq!(report.standing, Standing::Compliant);
}

#[test]
fn what_was_not_measured_is_neither_good_nor_bad_and_lowers_the_coverage() {
    let of = of_the_source();
    let mut ledger = Ledger::new(&of);
    ledger.record(at(0), Slice::of_value(true));
    ledger.record(at(3 * WINDOW), Slice::of_value(true));
    let seen = report(&of, &ledger, at(7 * WINDOW));
    assert_eq!((seen.compliance_ppm, seen.coverage_ppm), (Some(WHOLE_PPM), 250_000));
    let empty = report(&of, &Ledger::new(&of), at(0));
    assert_eq!((empty.standing, empty.compliance_ppm), (Standing::Unmeasured, None));
    assert_eq!(empty.coverage_ppm, 0);
}

/// F68: a hundred failures of a thousand requests at noon are not made good by quiet nights.
#[test]
fn counts_are_summed_and_never_averaged() {
    let of = definition(30, 999_000, Counting::Occurrences);
    let mut ledger = Ledger::new(&of);
    for night in 0..99 {
        ledger.record(at(night * WINDOW), Slice::of_counts(1, 1));
    }
    ledger.record(at(99 * WINDOW), Slice::of_counts(900, 1_000));
    let report = report(&of, &ledger, at(99 * WINDOW));
    assert_eq!(report.compliance_ppm, Some(909_008), "999 of 1,099, not 99.9 %");
}

#[test]
fn the_rates_of_the_usual_looks_follow_from_the_period() {
    let rates = |days| {
        let of = definition(days, 999_000, Counting::Windows);
        let (ledger, now) = filled(&of, 12, |_| false);
        let burns = report(&of, &ledger, now).burns;
        burns.iter().map(|burn| burn.threshold_milli).collect::<Vec<_>>()
    };
    assert_eq!(rates(30), [14_400, 6_000, 1_000]);
    assert_eq!(rates(7), [3_360, 1_400, 233]);
    assert_eq!(rates(1), [480, 200], "three days are no look into one");
}

#[test]
fn an_outage_fires_the_fast_looks_and_one_request_at_night_fires_none() {
    let of = definition(30, 999_000, Counting::Occurrences);
    let mut ledger = Ledger::new(&of);
    for window in 0..72 {
        let good = if window >= 70 { 0 } else { 1_000 };
        ledger.record(at(window * WINDOW), Slice::of_counts(good, 1_000));
    }
    let outage = report(&of, &ledger, at(71 * WINDOW));
    assert!(outage.burns[0].fires && outage.burns[1].fires, "{outage:?}");
    assert!(outage.gone_in.unwrap() < Duration::from_hours(5), "{outage:?}");
    let mut quiet = Ledger::new(&of);
    quiet.record(at(0), Slice::of_counts(0, 1));
    assert!(report(&of, &quiet, at(0)).burns.iter().all(|burn| !burn.fires));
}

#[test]
fn the_arithmetic_is_printed() {
    let of = of_the_source();
    let (ledger, now) = filled(&of, 288, |window| window == 280);
    let lines = report(&of, &ledger, now).explain(&of);
    let expected = [
        "promised: p99_latency < 100 in 99.9 % of windows over 30 d",
        "compliance: 287 good of 288 windows = 99.6527 %",
        "coverage: 288 of 288 windows measured = 100 %",
        "budget: 1 bad of what may be bad in 30 d = 11.574 % spent",
        "burn: 83.333x in 1 h, 0x in 5 min; told from 14.4x in both",
        "burn: 13.888x in 6 h, 0x in 30 min; told from 6x in both",
        "burn: 3.472x in 72 h, 13.888x in 6 h; told from 1x in both: it is",
        "at the rate of the last hour it is gone in 7 h 38 min",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn what_makes_no_promise_is_refused() {
    let right = of_the_source();
    assert_eq!(right.check(), Ok(()));
    let wrong = |change: fn(&mut Definition)| {
        let mut of = of_the_source();
        change(&mut of);
        of.check().unwrap_err()
    };
    assert_eq!(wrong(|of| of.compliance_ppm = WHOLE_PPM), Wrong::Compliance);
    assert_eq!(wrong(|of| of.compliance_ppm = 0), Wrong::Compliance);
    assert_eq!(wrong(|of| of.window = Duration::from_secs(1)), Wrong::Window);
    assert_eq!(wrong(|of| of.window = Duration::from_hours(24 * 31)), Wrong::Window);
    assert_eq!(wrong(|of| of.window = Duration::from_secs(10)), Wrong::Period);
    assert_eq!(wrong(|of| of.period = Duration::from_hours(24 * 91)), Wrong::Period);
}

#[test]
fn each_operator_is_strict_where_it_says_so() {
    let with = |operator| Definition { operator, ..of_the_source() };
    for (operator, expected) in [
        (Operator::LessThan, [true, false, false]),
        (Operator::Equals, [false, true, false]),
        (Operator::GreaterThan, [false, false, true]),
    ] {
        let of = with(operator);
        assert_eq!([99_999, 100_000, 100_001].map(|value| of.holds(value)), expected);
    }
}

/// Every event, and nothing worked out beforehand.
#[derive(Debug, Default)]
struct Naive(Vec<(u64, u64, u64)>);

impl Naive {
    /// Good, all, good windows, bad ones, unmeasured ones of the last so many windows.
    fn sum(&self, now: u64, windows: u64) -> [u64; 5] {
        let mut by_window: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (at, good, total) in &self.0 {
            let it = by_window.entry(at / WINDOW).or_default();
            *it = (it.0 + good, it.1 + total);
        }
        let Some(begin) = by_window.keys().next().copied() else { return [0; 5] };
        let last = now / WINDOW;
        let mut sum = [0; 5];
        for back in 0..windows {
            let Some(window) = last.checked_sub(back).filter(|it| *it >= begin) else {
                break;
            };
            let (good, total) = by_window.get(&window).copied().unwrap_or_default();
            sum[0] += good;
            sum[1] += total;
            let kind = if total == 0 {
                4
            } else if good == total {
                2
            } else {
                3
            };
            sum[kind] += 1;
        }
        sum
    }
}

fn flat(sum: &Sum) -> [u64; 5] {
    [sum.good, sum.total, sum.windows_good, sum.windows_bad, sum.windows_unmeasured]
}

#[expect(clippy::cast_precision_loss, reason = "counts of a test are far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

proptest! {
    #[test]
    fn it_agrees_with_one_that_keeps_everything(
        events in prop::collection::vec((0..2 * 24 * 60_u64, 0..500_u64, 0..500_u64), 1..120),
        later in 0..300_u64, compliance_ppm in 900_000..999_999_u32, lookback in 1..400_u64,
    ) {
        let of = definition(2, compliance_ppm, Counting::Occurrences);
        let mut events = events;
        events.sort_by_key(|event| event.0);
        let (mut ledger, mut naive) = (Ledger::new(&of), Naive::default());
        for (minute, good, bad) in &events {
            let (time, total) = (minute * MINUTE, good + bad);
            if total > 0 {
                prop_assert!(ledger.record(at(time), Slice::of_counts(*good, total)));
                naive.0.push((time, *good, total));
            }
        }
        let last = events.last().map_or(0, |event| event.0);
        let now = (last + later) * MINUTE;
        let kept = 2 * 24 * 12;
        let back = Duration::from_mins(lookback);
        let windows = lookback.div_ceil(5).min(kept);
        prop_assert_eq!(flat(&ledger.sum(at(now), back)), naive.sum(now, windows));

        let seen = report(&of, &ledger, at(now));
        let [good, total, fine, bad, unmeasured] = naive.sum(now, kept);
        prop_assert_eq!(flat(&seen.sum), [good, total, fine, bad, unmeasured]);
        if total == 0 {
            prop_assert_eq!(seen.standing, Standing::Unmeasured);
            return Ok(());
        }
        let share = f64::from(seen.compliance_ppm.unwrap()) / 1e6;
        prop_assert!((share - ratio(good, total)).abs() < 1.1e-6);
        let coverage = f64::from(seen.coverage_ppm) / 1e6;
        prop_assert!((coverage - ratio(fine + bad, fine + bad + unmeasured)).abs() < 1.1e-6);
        let allowed = 1.0 - f64::from(compliance_ppm) / 1e6;
        let spent = ratio(total - good, total) / allowed * ratio(fine + bad, kept);
        prop_assert!((ratio(seen.spent_ppm, 1_000_000) - spent).abs() < 1e-5 * (1.0 + spent));
        for burn in &seen.burns {
            let windows = u64::try_from(burn.long.as_millis()).unwrap() / WINDOW;
            let [good, total, ..] = naive.sum(now, windows.min(kept));
            let Some(rate) = burn.long_milli else {
                prop_assert_eq!(total, 0);
                continue;
            };
            let expected = ratio(total - good, total) / allowed;
            let close = 2e-3 + 1e-6 * expected;
            prop_assert!((ratio(rate, 1_000) - expected).abs() < close, "{burn:?} {expected}");
        }
    }

    #[test]
    fn no_order_of_events_and_no_clock_makes_it_grow_or_panic(
        moments in prop::collection::vec(any::<u64>(), 1..40), now: u64,
    ) {
        let of = of_the_source();
        let mut ledger = Ledger::new(&of);
        for moment in moments {
            let _kept = ledger.record(at(moment), Slice::of_counts(u64::MAX, u64::MAX));
            let seen = report(&of, &ledger, at(now));
            prop_assert!(seen.sum.windows() <= of.windows());
            prop_assert!(seen.compliance_ppm.is_none_or(|share| share <= WHOLE_PPM));
        }
    }
}

#[test]
fn a_name_a_target_or_a_window_that_is_none_is_refused() {
    let wrong = |change: fn(&mut Definition)| {
        let mut of = of_the_source();
        change(&mut of);
        of.check().unwrap_err()
    };
    assert_eq!(wrong(|of| of.id = String::new()), Wrong::Name);
    assert_eq!(wrong(|of| of.id = "a/b".to_owned()), Wrong::Name);
    assert_eq!(wrong(|of| of.name = " ".to_owned()), Wrong::Name);
    assert_eq!(wrong(|of| of.name = "a\nb".to_owned()), Wrong::Name);
    assert_eq!(wrong(|of| of.target_milli = 0), Wrong::Target);
    assert_eq!(wrong(|of| of.window = Duration::from_secs(25)), Wrong::Window);
    assert_eq!(of_the_source().check(), Ok(()));
}

#[test]
fn a_stored_ledger_of_foreign_bytes_has_its_bounds() {
    let read = |runs: &str| {
        let text = format!(r#"{{"window_ms":10000,"max":3,"newest":9,"runs":{runs}}}"#);
        serde_json::from_str::<Ledger>(&text)
    };
    assert!(read("[[1,1,3]]").is_ok());
    for wrong in ["[[1,1,4]]", "[[2,1,1]]", "[[1,1,18446744073709551615],[1,1,9]]"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn a_stored_ledger_comes_back_and_its_runs_are_its_windows(
        windows in prop::collection::vec((0_u64..40, any::<bool>()), 1..60)
    ) {
        let of = of_the_source();
        let (mut ledger, mut kept) = (Ledger::new(&of), BTreeMap::new());
        for (number, holds) in windows {
            let slice = Slice::of_value(holds);
            ledger.record(at(number * WINDOW), slice);
            let sum: &mut Slice = kept.entry(number).or_default();
            (sum.good, sum.total) = (sum.good + slice.good, sum.total + slice.total);
        }
        let text = serde_json::to_string(&ledger).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Ledger>(&text).unwrap(), &ledger);
        let mut from_runs = BTreeMap::new();
        for run in ledger.runs() {
            let numbers = run.from.as_millis() / WINDOW..run.until.as_millis() / WINDOW;
            from_runs.extend(numbers.map(|number| (number, run.slice)));
        }
        let last = *kept.keys().last().unwrap();
        let end = ledger.recorded_until().map(Timestamp::as_millis);
        prop_assert_eq!(end, Some((last + 1) * WINDOW));
        from_runs.retain(|_, slice| slice.total > 0);
        prop_assert_eq!(from_runs, kept);
    }
}
