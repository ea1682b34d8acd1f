//! The two sides never both have the guests, whatever their clocks do within the bound.

use super::*;
use proptest::prelude::*;

fn region() -> RegionId {
    RegionId::new("eu-west-1").unwrap()
}

#[test]
fn the_times_of_the_design() {
    let terms = Terms::default();
    assert_eq!(terms.renew_every(), Duration::from_secs(1));
    assert_eq!(terms.pause_after(), Duration::from_secs(6));
    assert_eq!(terms.kill_after(), Duration::from_secs(7));
    assert_eq!(terms.lapsed_after(), Duration::from_secs(9));
    assert_eq!(Terms::new(Duration::from_secs(3), Duration::from_secs(1)), None);
}

#[test]
fn a_fence_is_not_renewed_and_a_new_term_ends_it() {
    let held = LeaseRecord::acquired(None, &region());
    assert_eq!(held.term, 1);
    let fenced = held.renewed().unwrap().fenced("fo-1");
    assert!(fenced.is_fenced_by("fo-1") && !fenced.is_fenced_by("fo-2"));
    assert_eq!(fenced.renewed(), None);
    let back = LeaseRecord::acquired(Some(&fenced), &region());
    assert_eq!((back.term, back.is_fenced_by("fo-1")), (2, false));
}

#[test]
fn records_have_one_spelling() {
    let held = LeaseRecord::acquired(None, &region());
    let json = serde_json::to_string(&held).unwrap();
    assert_eq!(json, r#"{"region":"eu-west-1","term":1,"state":"held","renewals":0}"#);
    let fenced = held.fenced("fo-1");
    let json = serde_json::to_string(&fenced).unwrap();
    assert_eq!(serde_json::from_str::<LeaseRecord>(&json).unwrap(), fenced);
}

/// What happens in true time, in milliseconds: the oracle knows no terms but the four numbers
/// that are written here.
#[derive(Clone, Debug)]
struct History {
    /// When renewals are asked for; each is done after its delay, or never.
    asked: Vec<(u64, Option<u64>)>,
    /// How long after it was done the taker sees each.
    seen_after: u64,
    /// The rates of the two clocks, in thousandths.
    holder_rate: u64,
    taker_rate: u64,
    /// The moments in true time at which the holder looks.
    looks: Vec<u64>,
}

prop_compose! {
    fn history()(
        gaps in prop::collection::vec(
            (200..3_000_u64, prop::option::weighted(0.8, 0..2_000_u64)), 1..12),
        seen_after in 0..1_500_u64,
        holder_rate in 930..1_070_u64,
        taker_rate in 930..1_070_u64,
        looks in prop::collection::vec(0..40_000_u64, 1..40),
    ) -> History {
        let mut at = 0;
        let asked = gaps.into_iter().map(|(gap, done)| { at += gap; (at, done) }).collect();
        History { asked, seen_after, holder_rate, taker_rate, looks }
    }
}

fn local(true_ms: u64, rate: u64) -> Duration {
    Duration::from_micros(true_ms * rate)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// When the taker says that it has lapsed, the holder has been at `Kill` for at least half a
    /// second of true time: time for the killing. Clocks are up to seven hundredths wrong.
    #[test]
    fn the_taker_waits_for_the_holder(it in history()) {
        let terms = Terms::default();
        let done: Vec<_> =
            it.asked.iter().filter_map(|(at, after)| Some((*at, at + (*after)?))).collect();
        prop_assume!(!done.is_empty());
        let mut record = LeaseRecord::acquired(None, &region());
        let mut holder: Option<Holder> = None;
        let mut watched: Option<Watched> = None;
        // The holder stops renewing for good after the last one: the taker must wait for it.
        let mut last_seen = 0;
        for (revision, (asked, answered)) in done.iter().enumerate() {
            let asked_at = local(*asked, it.holder_rate);
            match &mut holder {
                Some(holder) => holder.renewed(asked_at),
                None => holder = Some(Holder::new(terms, asked_at)),
            }
            let seen = (answered + it.seen_after).max(last_seen);
            last_seen = seen;
            let at = local(seen, it.taker_rate);
            let revision = revision as u64 + 1;
            match &mut watched {
                Some(watched) => watched.saw(&record, revision, at),
                None => watched = Some(Watched::new(record.clone(), revision, at)),
            }
            record = record.renewed().unwrap();
        }
        let (holder, watched) = (holder.unwrap(), watched.unwrap());
        for look in it.looks {
            if watched.has_lapsed(local(look, it.taker_rate), terms) {
                let before = local(look.saturating_sub(500), it.holder_rate);
                prop_assert_eq!(holder.standing(before), Standing::Kill);
            }
        }
        // And it does not wait for ever.
        let late = local(last_seen + 10_000, it.taker_rate);
        prop_assert!(watched.has_lapsed(late, terms));
    }

    #[test]
    fn a_standing_only_gets_worse_without_a_renewal(ages in prop::collection::vec(0..10_000_u64, 2..9)) {
        let mut ages = ages;
        ages.sort_unstable();
        let holder = Holder::new(Terms::default(), Duration::ZERO);
        let standings: Vec<_> =
            ages.iter().map(|age| holder.standing(Duration::from_millis(*age))).collect();
        prop_assert!(standings.is_sorted());
    }

    /// An old record that is seen late, or the same one again, does not begin the time anew.
    #[test]
    fn only_a_newer_record_begins_the_time_anew(revisions in prop::collection::vec(1..9_u64, 1..20)) {
        let terms = Terms::default();
        let record = LeaseRecord::acquired(None, &region());
        let mut watched = Watched::new(record.clone(), 0, Duration::ZERO);
        let (mut newest, mut since) = (0, 0);
        for (at, revision) in revisions.into_iter().enumerate() {
            let at = at as u64 * 400;
            watched.saw(&record, revision, Duration::from_millis(at));
            if revision > newest {
                (newest, since) = (revision, at);
            }
            let now = Duration::from_millis(at + 300);
            let left = Duration::from_millis((since + 9_000).saturating_sub(at + 300));
            prop_assert_eq!(watched.lapses_in(now, terms), left);
        }
    }
}
