//! Sketches against sorted values; digests that are wrong, late, lost or twice.

use proptest::prelude::*;

use super::*;

/// The value of the nearest rank of all, sorted.
fn exact(values: &[u64], share_ppm: u32) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let all = u64::try_from(sorted.len()).unwrap();
    let rank = (all * u64::from(share_ppm)).div_ceil(1_000_000).max(1);
    sorted[usize::try_from(rank - 1).unwrap()]
}

fn sketch(values: &[u64]) -> Sketch {
    let mut sketch = Sketch::default();
    values.iter().for_each(|value| sketch.record(*value));
    sketch
}

fn within(got: u64, exact: u64, per_cent: u64) -> bool {
    got.abs_diff(exact) * 100 <= exact * per_cent
}

/// Latencies of five regions in microseconds: one serves nearly all and fast, one is far and
/// slow, tails are long. No two have the same shape.
fn skewed() -> Vec<Vec<u64>> {
    let mut state = 7_u64;
    let mut next = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let regions = [(90_000, 800, 4), (6_000, 4_000, 9), (2_500, 25_000, 2)];
    let rest = [(1_000, 60_000, 12), (500, 180_000, 30)];
    let of = |(requests, base, tail): (u64, u64, u64)| {
        let mut one = || {
            let x = next(1_000);
            base + base * tail * x * x * x / 1_000_000_000
        };
        (0..requests).map(|_| one()).collect()
    };
    regions.into_iter().chain(rest).map(of).collect()
}

#[test]
fn merged_percentiles_of_five_skewed_regions_are_within_a_hundredth() {
    let regions = skewed();
    let all: Vec<u64> = regions.iter().flatten().copied().collect();
    let mut merged = Sketch::default();
    for region in &regions {
        merged.merge(&sketch(region));
    }
    for share in [500_000, 950_000, 990_000, 999_000] {
        let (got, exact) = (merged.percentile(share).unwrap(), exact(&all, share));
        let of = |region: &Vec<u64>| sketch(region).percentile(share).unwrap();
        let mean = regions.iter().map(of).sum::<u64>() / 5;
        println!("p{share}: merged {got} us, exact {exact} us, mean of all {mean} us");
        assert!(within(got, exact, 1), "{got} is not {exact}");
        assert!(!within(mean, exact, 50), "the mean of percentiles {mean} is far off");
    }
}

#[test]
fn a_sketch_of_nothing_says_nothing_and_the_greatest_value_has_a_bucket() {
    assert_eq!(Sketch::default().percentile(990_000), None);
    let huge = sketch(&[u64::MAX, 0]);
    assert_eq!(huge.percentile(1), Some(0));
    assert!(huge.percentile(1_000_000).unwrap() > 1 << 35);
}

#[test]
fn a_sketch_of_foreign_bytes_has_its_bounds() {
    let read = |text: &str| serde_json::from_str::<Sketch>(text);
    assert_eq!(read(r#"{"counts":[[5,2],[5,1]]}"#).unwrap().count(), 3);
    for wrong in [
        r#"{"level":7,"counts":[]}"#,
        r#"{"counts":[[1984,1]]}"#,
        r#"{"level":6,"counts":[[31,1]]}"#,
        r#"{"counts":[[-1,1]]}"#,
        r#"{"counts":[[1,-1]]}"#,
        r#"{"counts":[[1,NaN]]}"#,
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    let max = read(&format!(r#"{{"counts":[[1,{0}],[2,{0}]]}}"#, u64::MAX)).unwrap();
    assert_eq!(max.count(), u64::MAX);
    assert_eq!(max.percentile(500_000), Some(1));
    let mut twice = max.clone();
    twice.merge(&max);
    assert_eq!(twice, max, "counts end at the greatest number");
}

/// Values over all magnitudes.
fn value() -> impl Strategy<Value = u64> {
    (0_u32..36, any::<u64>()).prop_map(|(bits, random)| random >> (63 - bits))
}

fn values() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(value(), 0..200)
}

proptest! {
    #[test]
    fn a_percentile_is_within_its_error_of_the_exact_one(
        values in prop::collection::vec(value(), 1..300),
        share in 1_u32..=1_000_000,
        level in 0_u8..=6,
    ) {
        let mut sketch = sketch(&values);
        // Half a bucket of the level: 1/128 of the value, doubled by each level.
        for _ in 0..level {
            sketch.coarsen();
        }
        let (got, exact) = (sketch.percentile(share).unwrap(), exact(&values, share));
        let allowed = (exact << level) / 128 + (1 << level) / 2;
        prop_assert!(got.abs_diff(exact) <= allowed, "{got} for {exact}");
    }

    #[test]
    fn merging_is_counting_all_in_any_order(a in values(), b in values(), c in values()) {
        let whole = sketch(&[a.clone(), b.clone(), c.clone()].concat());
        let [a, b, c] = [a, b, c].map(|it| sketch(&it));
        let merged = |one: &Sketch, other: &Sketch| {
            let mut sum = one.clone();
            sum.merge(other);
            sum
        };
        prop_assert_eq!(&merged(&merged(&a, &b), &c), &whole);
        prop_assert_eq!(&merged(&a, &merged(&c, &b)), &whole);
    }

    #[test]
    fn coarse_and_fine_merge_in_any_order(a in values(), b in values(), level in 0_u8..=6) {
        let (fine, mut coarse) = (sketch(&a), sketch(&b));
        for _ in 0..level {
            coarse.coarsen();
        }
        let (mut one, mut other) = (fine.clone(), coarse.clone());
        one.merge(&coarse);
        other.merge(&fine);
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(one.count(), u64::try_from(a.len() + b.len()).unwrap());
    }

    #[test]
    fn a_recorder_counts_what_a_sketch_does_and_begins_anew(values in values()) {
        let mut recorder = Recorder::default();
        values.iter().for_each(|value| recorder.record(*value));
        prop_assert_eq!(recorder.take(), sketch(&values));
        prop_assert_eq!(recorder.take(), Sketch::default());
    }

    #[test]
    fn what_was_packed_or_sent_comes_back(values in values(), times in any::<u64>()) {
        let mut kept = sketch(&values);
        kept.add(1_983, times);
        prop_assert_eq!(&Sketch::unpack(&kept.pack()), &kept);
        let text = serde_json::to_string(&kept).unwrap();
        prop_assert_eq!(serde_json::from_str::<Sketch>(&text).unwrap(), kept);
    }

    #[test]
    fn unpacking_ends_whatever_the_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        prop_assert!(Sketch::unpack(&bytes).buckets() <= bytes.len());
    }

    #[test]
    fn a_sketch_fits_and_keeps_its_count(values in values(), most in 31_usize..100) {
        let mut fitted = sketch(&values);
        fitted.fit(most);
        prop_assert!(fitted.buckets() <= most);
        prop_assert_eq!(fitted.count(), sketch(&values).count());
    }
}

const EVERY: u64 = 10_000;

fn digest(life: u64, seq: u64) -> Digest {
    Digest {
        life,
        seq,
        made_at: at(seq),
        every_ms: EVERY,
        requests: 2,
        errors: 1,
        latency: sketch(&[10, 20]),
        gauges: Gauges::default(),
    }
}

/// When the digest of this number is due.
fn at(seq: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + seq * EVERY)
}

fn take(intake: &mut Intake, digest: &Digest) -> Taken {
    intake.take(digest, at(digest.seq), Duration::ZERO)
}

#[test]
fn one_that_is_lost_is_counted_and_one_that_comes_again_or_late_changes_nothing() {
    let mut intake = Intake::default();
    for seq in [1, 2, 5] {
        assert_eq!(take(&mut intake, &digest(7, seq)), Taken::New { at: at(seq) });
    }
    assert_eq!((intake.lost(), intake.cursor()), (2, (7, 5)));
    let before = intake.clone();
    for seq in [5, 3, 1] {
        assert_eq!(take(&mut intake, &digest(7, seq)), Taken::Known);
    }
    assert_eq!(intake, before);
}

#[test]
fn another_life_begins_anew_and_an_earlier_one_is_not_heard_any_more() {
    let mut intake = Intake::default();
    take(&mut intake, &digest(9, 40));
    // Its clock went back while it was away, so its life has a smaller number.
    assert!(matches!(take(&mut intake, &digest(3, 1)), Taken::New { .. }));
    assert_eq!(intake.lost(), 0, "another life has no gap to the one before");
    assert_eq!(take(&mut intake, &digest(9, 41)), Taken::Known);
    assert_eq!(intake.cursor(), (3, 1));
}

#[test]
fn a_wrong_clock_moves_nothing_and_is_shown() {
    let mut intake = Intake::default();
    let hour = 3_600_000;
    let mut ahead = digest(1, 1);
    ahead.made_at = at(1).plus(Duration::from_millis(hour));
    assert_eq!(take(&mut intake, &ahead), Taken::New { at: at(1) });
    assert_eq!(intake.offset_ms(), i64::try_from(hour).unwrap());
    let mut behind = digest(1, 2);
    behind.made_at = Timestamp::from_millis(0);
    assert_eq!(take(&mut intake, &behind), Taken::New { at: at(2) });
    assert!(intake.offset_ms() < -1_000_000);
}

#[test]
fn those_that_come_unevenly_have_even_places_until_they_are_a_step_off() {
    let mut intake = Intake::default();
    let mut arrive = |seq: u64, at_ms: u64| {
        let now = Timestamp::from_millis(at_ms);
        match intake.take(&digest(1, seq), now, Duration::ZERO) {
            Taken::New { at } => at.as_millis(),
            other @ (Taken::Known | Taken::Refused(_)) => panic!("{other:?}"),
        }
    };
    let got =
        [(1, 9_990), (2, 20_013), (3, 29_980), (4, 40_200)].map(|(s, t)| arrive(s, t));
    assert_eq!(got, [9_990, 19_990, 29_990, 39_990]);
    assert_eq!(arrive(5, 61_000), 61_000, "it slept");
    assert_eq!(arrive(6, 71_000), 71_000);
}

#[test]
fn what_cannot_be_true_is_refused_and_counted() {
    let mut intake = Intake::default();
    take(&mut intake, &digest(1, 1));
    let with = |change: fn(&mut Digest)| {
        let mut digest = digest(1, 2);
        change(&mut digest);
        digest
    };
    let cases = [
        (with(|it| it.errors = 3), Refused::Contradiction),
        (with(|it| it.requests = 3), Refused::Contradiction),
        (with(|it| it.requests = u64::MAX), Refused::Huge),
        (with(|it| it.gauges.cpu_reserved_ppm = 1_000_001), Refused::Huge),
        (with(|it| it.every_ms = 0), Refused::Every),
        (with(|it| it.every_ms = u64::MAX), Refused::Every),
        (with(|it| it.seq = u64::MAX), Refused::Jump),
        (with(|it| it.seq = 0), Refused::Old),
    ];
    for (number, (wrong, why)) in (1_u64..).zip(cases) {
        let taken = intake.take(&wrong, at(2), Duration::ZERO);
        assert_eq!(taken, Taken::Refused(why), "{wrong:?}");
        assert_eq!(intake.refused(), number);
    }
    let old = intake.take(&digest(1, 2), at(2), Duration::from_secs(3_600));
    assert_eq!(old, Taken::Refused(Refused::Old));
    assert_eq!(take(&mut intake, &digest(1, 2)), Taken::New { at: at(2) });
    assert_eq!(intake.lost(), 0);
}
