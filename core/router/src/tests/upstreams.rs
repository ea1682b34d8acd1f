//! Servers and retries held to oracles that keep whole histories and count them anew each time.

use std::time::Duration;

use proptest::prelude::*;

use crate::{
    EJECTION, EJECTION_MAX, Evidence, RETRIES_MIN, RetryBudget, Upstreams, pick,
};

#[derive(Clone, Copy, Debug)]
enum Event {
    Probe { at: usize, answered: bool },
    Request { at: usize, evidence: Evidence },
}

fn event(count: usize) -> impl Strategy<Value = (u64, Event)> {
    let evidence = prop_oneof![
        1 => Just(Evidence::Answered),
        3 => Just(Evidence::Failed),
        3 => Just(Evidence::Unreached),
    ];
    let request =
        (0..count, evidence).prop_map(|(at, evidence)| Event::Request { at, evidence });
    let probe = (0..count, any::<bool>())
        .prop_map(|(at, answered)| Event::Probe { at, answered });
    // Mostly within an ejection, now and then after the longest.
    let pause = prop_oneof![8 => 0_u64..3_000, 1 => 5_000_u64..400_000];
    (pause, prop_oneof![6 => request, 2 => probe])
}

/// One server as lists: what happened, and when it was ejected until.
#[derive(Clone, Default)]
struct Life {
    probes: Vec<bool>,
    /// Since the last that was answered, the last ejection or the last turn of the probes.
    requests: Vec<Evidence>,
    /// From, until, and which in a row it was.
    out: Vec<(u64, u64, u32)>,
}

impl Life {
    /// What probes say, from the whole history.
    fn is_there(&self) -> bool {
        self.looked_at().0
    }

    /// The same, and how many in a row have said the contrary.
    fn looked_at(&self) -> (bool, usize) {
        let (mut there, mut run) = (true, 0);
        for answered in &self.probes {
            run = if *answered == there { 0 } else { run + 1 };
            if run == if there { 3 } else { 2 } {
                (there, run) = (!there, 0);
            }
        }
        (there, run)
    }

    fn is_out(&self, now: u64) -> bool {
        self.out.iter().any(|(_, until, _)| now < *until)
    }

    fn is_bad(&self) -> bool {
        self.requests.len() >= 5
    }
}

fn told(lives: &mut [Life], now: u64, event: Event) {
    match event {
        Event::Probe { at, answered } => {
            let before = lives[at].is_there();
            lives[at].probes.push(answered);
            if lives[at].is_there() != before {
                lives[at].requests.clear();
            }
        }
        Event::Request { at, evidence: Evidence::Answered } => {
            lives[at].requests.clear();
            if lives[at].is_there() {
                lives[at].probes.push(true);
            }
        }
        // Whoever finds nobody has probed.
        Event::Request { at, evidence: Evidence::Unreached } => {
            if lives[at].is_there() {
                told(lives, now, Event::Probe { at, answered: false });
            }
        }
        Event::Request { at, evidence } => {
            lives[at].requests.push(evidence);
            let there: Vec<&Life> = lives.iter().filter(|life| life.is_there()).collect();
            let out = there.iter().filter(|life| life.is_out(now)).count();
            let room = out < there.len() / 2;
            let life = &lives[at];
            if life.is_bad() && life.is_there() && !life.is_out(now) && room {
                let nth = match life.out.last() {
                    Some((from, until, nth)) if now - until < until - from => nth + 1,
                    _ => 1,
                };
                let millis = (10_000 * 2_u64.pow(nth.min(20) - 1)).min(300_000);
                lives[at].out.push((now, now + millis, nth));
                lives[at].requests.clear();
            }
        }
    }
}

proptest! {
    #[test]
    fn servers_are_used_as_their_whole_history_says(
        (count, events) in (1_usize..7).prop_flat_map(|count| {
            (Just(count), prop::collection::vec(event(count), 0..200))
        }),
    ) {
        let mut upstreams = Upstreams::new(count);
        let mut lives = vec![Life::default(); count];
        let mut millis = 0;
        for (pause, event) in events {
            millis += pause;
            let now = Duration::from_millis(millis);
            let before = upstreams.usable(now);
            let changed = match event {
                Event::Probe { at, answered } => upstreams.probed(at, answered),
                Event::Request { at, evidence } => upstreams.served(at, evidence, now),
            };
            told(&mut lives, millis, event);
            let usable = upstreams.usable(now);
            let there = lives.iter().filter(|life| life.is_there()).count();
            let out = lives.iter().filter(|life| life.is_there() && life.is_out(millis));
            let too_many = out.count() * 2 > there;
            for (at, life) in lives.iter().enumerate() {
                let expected = life.is_there() && (too_many || !life.is_out(millis));
                prop_assert_eq!(usable >> at & 1 == 1, expected, "{} at {}", at, millis);
                let (there, run) = life.looked_at();
                let suspect = !life.requests.is_empty() || (there && run > 0);
                prop_assert_eq!(upstreams.suspects() >> at & 1 == 1, suspect);
            }
            prop_assert!(changed || usable == before, "{} {}", usable, before);
            let until = lives.iter().flat_map(|life| &life.out).map(|(_, until, _)| *until);
            let next = until.filter(|until| *until > millis).min();
            prop_assert_eq!(upstreams.next_return(now), next.map(Duration::from_millis));
            // Whatever befell requests, half of those that are there have requests.
            prop_assert!(usable.count_ones() as usize * 2 >= there);
        }
    }

    #[test]
    fn no_more_is_sent_again_than_a_fifth_of_what_was_asked(
        steps in prop::collection::vec((0_u64..1_500, any::<bool>()), 0..400),
    ) {
        let mut budget = RetryBudget::default();
        let (mut asked, mut retried, mut millis) = (Vec::new(), Vec::new(), 0_u64);
        for (pause, retry) in steps {
            millis += pause / 20;
            let now = Duration::from_millis(millis);
            let recent = |all: &[u64]| {
                all.iter().filter(|at| millis / 1_000 - *at / 1_000 < 10).count()
            };
            if retry {
                let most = (recent(&asked) / 5).max(10);
                let expected = recent(&retried) < most;
                prop_assert_eq!(budget.try_retry(now), expected);
                if expected { retried.push(millis); }
            } else {
                budget.asked(now);
                asked.push(millis);
            }
        }
    }

    #[test]
    fn whoever_is_picked_may_have_requests(usable in any::<u64>(), draw in any::<u64>()) {
        let picked = pick(usable, draw, |at| at);
        match picked {
            Some(at) => prop_assert!(usable >> at & 1 == 1),
            None => prop_assert_eq!(usable, 0),
        }
    }
}

#[test]
fn of_two_the_one_with_less_to_do_is_picked_and_of_many_each_in_its_turn() {
    for draw in 0..100 {
        assert_eq!(pick(0b1001, draw, |at| at), Some(0));
        assert_eq!(pick(0b1001, draw, |at| 9 - at), Some(3));
    }
    let mut turns = [0; 5];
    for draw in 0..5_000 {
        turns[pick(0b11111, draw, |_| 0).unwrap()] += 1;
    }
    assert!(turns.iter().all(|turns| (800..1_200).contains(turns)), "{turns:?}");
    // The busiest of all has none: whoever is drawn beside it is preferred.
    assert!(
        (0..1_000).all(|draw| pick(0b111, draw, |at| usize::from(at == 1)) != Some(1))
    );
}

#[test]
fn whom_three_requests_do_not_find_is_out_until_two_probes_do_whoever_else_is() {
    let (mut upstreams, now) = (Upstreams::new(2), Duration::ZERO);
    for at in 0..2 {
        let found = (0..3).map(|_| upstreams.served(at, Evidence::Unreached, now));
        assert_eq!(found.collect::<Vec<_>>(), [false, false, true]);
    }
    assert_eq!(upstreams.usable(now), 0);
    // What was under way brings nobody back.
    assert!(!upstreams.served(0, Evidence::Answered, now));
    assert!(!upstreams.probed(0, true) && upstreams.probed(0, true));
    assert_eq!(upstreams.usable(now), 1);
}

#[test]
fn ejections_that_follow_soon_double_up_to_a_bound() {
    let mut upstreams = Upstreams::new(2);
    let (mut now, mut spans) = (Duration::ZERO, Vec::new());
    for _ in 0..8 {
        for _ in 0..5 {
            upstreams.served(0, Evidence::Failed, now);
        }
        let until = upstreams.next_return(now).unwrap();
        spans.push((until - now).as_secs());
        now = until;
    }
    assert_eq!(spans, [10, 20, 40, 80, 160, 300, 300, 300]);
    // Good for as long: the next is a first one.
    now += EJECTION_MAX;
    let ejected = (0..5).filter(|_| upstreams.served(0, Evidence::Failed, now));
    assert_eq!(ejected.count(), 1);
    assert_eq!(upstreams.next_return(now), Some(now + EJECTION));
}

#[test]
fn a_quiet_service_may_retry_a_little_and_a_second_s_burst_is_forgotten() {
    let mut budget = RetryBudget::default();
    let at = Duration::from_secs;
    let granted = (0..100).filter(|_| budget.try_retry(at(100))).count();
    assert_eq!(granted as u64, RETRIES_MIN);
    assert!(!budget.try_retry(at(109)) && budget.try_retry(at(110)));
}
