//! Verdicts against an oracle that only knows who can talk to whom, and every condition that
//! holds a failover back, one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::lease::{LeaseRecord, Terms};

fn region(number: usize) -> RegionId {
    RegionId::new(&format!("r{number}")).unwrap()
}

fn regions(count: usize) -> BTreeSet<RegionId> {
    (0..count).map(region).collect()
}

const BEAT: Duration = Duration::from_millis(500);

/// A little world: who talks to whom, whose lease is renewed, who runs at all. Time goes in
/// heartbeats.
struct World {
    observers: Vec<Observer>,
    leases: BTreeMap<RegionId, (LeaseRecord, u64)>,
    revision: u64,
    now: Duration,
}

impl World {
    fn new(count: usize) -> Self {
        let make = |own| {
            let (timing, terms) = (Timing::default(), Terms::default());
            Observer::new(region(own), regions(count), timing, terms, Duration::ZERO)
        };
        let mut world = Self {
            observers: (0..count).map(make).collect(),
            leases: BTreeMap::new(),
            revision: 0,
            now: Duration::ZERO,
        };
        world.run(6, |_, _| true, |_| true, |_| true);
        world
    }

    fn run(
        &mut self,
        beats: usize,
        talks: impl Fn(usize, usize) -> bool,
        renews: impl Fn(usize) -> bool,
        runs: impl Fn(usize) -> bool,
    ) {
        for _ in 0..beats {
            self.now += BEAT;
            let count = self.observers.len();
            for at in (0..count).filter(|at| renews(*at)) {
                self.revision += 1;
                let before = self.leases.get(&region(at)).map(|(record, _)| record);
                let record = before.and_then(LeaseRecord::renewed);
                let record =
                    record.unwrap_or_else(|| LeaseRecord::acquired(before, &region(at)));
                self.leases.insert(region(at), (record, self.revision));
            }
            let views: Vec<_> =
                self.observers.iter().map(|observer| observer.view(self.now)).collect();
            for at in (0..count).filter(|at| runs(*at)) {
                let observer = &mut self.observers[at];
                let peers = (0..count).filter(|peer| *peer != at && runs(*peer));
                for peer in peers.filter(|peer| talks(at, *peer)) {
                    observer.heard(&region(peer), views[peer].clone(), self.now);
                }
                let found = self.leases.values().map(|(record, at)| (record, *at));
                observer.leases(found, self.now);
                observer.tick(self.now);
            }
        }
    }

    fn verdict(&self, by: usize, of: usize) -> Verdict {
        self.observers[by].verdict(&region(of), self.now)
    }

    fn blocked(&self, by: usize, of: usize) -> Vec<Blocked> {
        let around = Circumstances { engine: EngineReach::Survives, running: None };
        self.observers[by].blocked(&region(of), self.now, &POLICY, around)
    }
}

const POLICY: Policy = Policy {
    enabled: true,
    automatic: true,
    spread: true,
    needs_approval: false,
    min_healthy: 1,
};

#[test]
fn a_dead_region_is_dead_to_all_others_and_nothing_holds_its_failover_back() {
    for count in 3..=5 {
        let mut world = World::new(count);
        world.run(21, |_, _| true, |at| at != 0, |at| at != 0);
        for by in 1..count {
            assert_eq!(world.verdict(by, 0).state, RegionState::Dead, "{by} of {count}");
            assert_eq!(world.blocked(by, 0), [], "{by} of {count}");
            assert_eq!(world.verdict(by, 3 - by % 2 - 1).state, RegionState::Alive);
        }
    }
}

#[test]
fn silence_without_a_lapsed_lease_and_a_lapsed_lease_without_silence_are_no_death() {
    let mut world = World::new(3);
    world.run(40, |a, b| a != 0 && b != 0, |_| true, |_| true);
    assert_eq!(world.verdict(1, 0).state, RegionState::Suspect);
    assert!(matches!(world.blocked(1, 0)[..], [Blocked::LeaseHeld { .. }]));
    let mut world = World::new(3);
    world.run(40, |_, _| true, |at| at != 0, |_| true);
    assert_eq!(world.verdict(1, 0).state, RegionState::Alive);
    assert_eq!(world.blocked(1, 0), [Blocked::NotSilentEnough { silent: 0, needed: 2 }]);
}

#[test]
fn a_region_that_some_hear_is_partitioned() {
    let mut world = World::new(4);
    world.run(40, |a, b| !matches!((a, b), (0, 1) | (1, 0)), |_| true, |_| true);
    for by in 1..4 {
        let verdict = world.verdict(by, 0);
        assert_eq!(verdict.state, RegionState::Partitioned);
        assert_eq!(verdict.silent_to, BTreeSet::from([region(1)]));
        assert_eq!(verdict.reachable_from, BTreeSet::from([region(2), region(3)]));
    }
}

#[test]
fn a_blind_observer_abstains_and_convicts_nobody() {
    let mut world = World::new(3);
    world.run(40, |a, b| a != 2 && b != 2, |at| at == 2, |_| true);
    let says = world.observers[2].view(world.now);
    assert_eq!(says.abstains, Some(Abstention::Isolated { hears: 1, of: 3 }));
    for of in 0..2 {
        let verdict = world.verdict(2, of);
        assert_eq!(verdict.state, RegionState::Unknown);
        assert!(verdict.abstaining.contains_key(&region(2)));
    }
}

#[test]
fn an_observer_that_did_not_run_begins_anew_and_does_not_take_its_gap_for_a_death() {
    let mut world = World::new(3);
    world.run(60, |_, _| true, |_| true, |at| at != 1);
    // It wakes: nothing of the last half minute was heard.
    world.run(1, |_, _| false, |_| true, |_| true);
    assert_eq!(world.observers[1].view(world.now).abstains, Some(Abstention::Starved));
    for of in [0, 2] {
        assert!(world.verdict(1, of).silent_to.is_empty());
    }
    world.run(8, |_, _| true, |_| true, |_| true);
    assert_eq!(world.verdict(1, 0).state, RegionState::Alive);
}

#[test]
fn a_silent_region_counts_as_heard_only_after_as_many_heartbeats_as_it_had_to_miss() {
    let mut world = World::new(3);
    world.run(10, |a, b| a != 0 && b != 0, |_| true, |_| true);
    for _ in 0..3 {
        world.run(1, |_, _| true, |_| true, |_| true);
        assert_eq!(world.observers[1].view(world.now).sees[&region(0)], Sight::Silent);
    }
    world.run(1, |_, _| true, |_| true, |_| true);
    assert_eq!(world.observers[1].view(world.now).sees[&region(0)], Sight::Reachable);
}

#[test]
fn each_condition_alone_holds_it_back_and_is_named() {
    let mut world = World::new(4);
    world.run(21, |_, _| true, |at| at != 0, |at| at != 0);
    let dead = region(0);
    let observer = &world.observers[1];
    let ask = |policy: &Policy, engine, running| {
        observer.blocked(&dead, world.now, policy, Circumstances { engine, running })
    };
    let lives = EngineReach::Survives;
    assert_eq!(ask(&POLICY, lives, None), []);
    let off = Policy { enabled: false, ..POLICY };
    assert_eq!(ask(&off, lives, None), [Blocked::Disabled]);
    let manual = Policy { automatic: false, ..POLICY };
    assert_eq!(ask(&manual, lives, None), [Blocked::NotAutomatic]);
    let narrow = Policy { spread: false, ..POLICY };
    assert_eq!(ask(&narrow, lives, None), [Blocked::EngineNotSpread]);
    let asked = Policy { needs_approval: true, ..POLICY };
    assert_eq!(ask(&asked, lives, None), [Blocked::NeedsApproval]);
    let many = Policy { min_healthy: 4, ..POLICY };
    assert_eq!(
        ask(&many, lives, None),
        [Blocked::TooFewHealthy { healthy: 3, needed: 4 }]
    );
    assert_eq!(ask(&POLICY, EngineReach::Lost, None), [Blocked::EngineLost]);
    let other = region(2);
    assert_eq!(
        ask(&POLICY, lives, Some(&other)),
        [Blocked::Running { region: other.clone() }]
    );
    assert!(world.blocked(0, 0).contains(&Blocked::OwnRegion));
    assert_eq!(world.blocked(1, 9), [Blocked::NoSuchRegion]);
}

#[test]
fn it_is_not_failed_over_within_the_first_heartbeat_of_its_death() {
    let mut world = World::new(3);
    let mut seen = Vec::new();
    for _ in 0..24 {
        world.run(1, |_, _| true, |at| at != 0, |at| at != 0);
        let blocked = world.blocked(1, 0);
        if seen.last() != Some(&blocked) {
            seen.push(blocked);
        }
    }
    let [.., waits, fresh, free] = &seen[..] else { panic!("{seen:?}") };
    assert!(matches!(waits[..], [Blocked::LeaseHeld { .. }]), "{seen:?}");
    assert_eq!(fresh[..], [Blocked::TooFresh]);
    assert!(free.is_empty());
}

#[test]
fn a_fenced_region_is_not_failed_over_again_and_one_that_never_held_a_lease_never() {
    let mut world = World::new(3);
    world.run(21, |_, _| true, |at| at != 0, |at| at != 0);
    let (record, _) = world.leases[&region(0)].clone();
    world.revision += 1;
    world.leases.insert(region(0), (record.fenced("fo-1"), world.revision));
    world.run(40, |_, _| true, |at| at != 0, |at| at != 0);
    assert_eq!(world.blocked(1, 0), [Blocked::AlreadyFenced { by: "fo-1".to_owned() }]);
    let mut world = World::new(3);
    world.leases.clear();
    let (timing, terms) = (Timing::default(), Terms::default());
    world.observers[1] = Observer::new(region(1), regions(3), timing, terms, world.now);
    world.run(40, |_, _| true, |at| at != 0, |at| at != 0);
    assert_eq!(world.blocked(1, 0), [Blocked::NeverHeld]);
}

#[test]
fn verdicts_and_conditions_have_one_spelling() {
    let world = World::new(3);
    let json = serde_json::to_string(&world.verdict(1, 0)).unwrap();
    assert!(json.contains(r#""state":"alive""#) && json.contains(r#""lease":"held""#));
    let blocked = Blocked::TooFewHealthy { healthy: 1, needed: 2 };
    let json = serde_json::to_string(&blocked).unwrap();
    assert_eq!(json, r#"{"waits_for":"too_few_healthy","healthy":1,"needed":2}"#);
    assert_eq!(serde_json::from_str::<Blocked>(&json).unwrap(), blocked);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The federation falls into groups that cannot talk to each other, and no lease is renewed
    /// any more. The oracle: a region dies exactly for the members of a group that is more than
    /// half of all, and exactly when it is not in it. So a minority never convicts anybody, and
    /// two sides never convict each other.
    #[test]
    fn only_a_majority_convicts(groups in prop::collection::vec(0..3_usize, 3..8)) {
        let count = groups.len();
        let mut world = World::new(count);
        world.run(30, |a, b| groups[a] == groups[b], |_| false, |_| true);
        for by in 0..count {
            let mine = groups.iter().filter(|group| **group == groups[by]).count();
            for of in (0..count).filter(|of| *of != by) {
                let dead = world.verdict(by, of).state == RegionState::Dead;
                let expected = mine * 2 > count && groups[of] != groups[by];
                prop_assert_eq!(dead, expected, "{} says of {}: {:?}", by, of, groups);
            }
        }
    }

    /// Any links may be down and any daemons stopped: as long as a lease is renewed its region
    /// is never dead to anyone, and what holds a failover back is never nothing.
    #[test]
    fn whoever_renews_is_never_dead(
        down in prop::collection::btree_set((0..5_usize, 0..5_usize), 0..20),
        stopped in prop::collection::btree_set(0..5_usize, 0..3),
        beats in 1..60_usize,
    ) {
        let mut world = World::new(5);
        let cut = |a, b| down.contains(&(a, b)) || down.contains(&(b, a));
        world.run(beats, |a, b| !cut(a, b), |_| true, |at| !stopped.contains(&at));
        for by in 0..5 {
            for of in 0..5 {
                prop_assert_ne!(world.verdict(by, of).state, RegionState::Dead);
                prop_assert!(!world.blocked(by, of).is_empty());
            }
        }
    }

    /// Every region other than the judged one is counted once, in one place.
    #[test]
    fn every_observer_is_counted_once(
        down in prop::collection::btree_set((0..5_usize, 0..5_usize), 0..20),
        of in 0..5_usize,
    ) {
        let mut world = World::new(5);
        world.run(20, |a, b| !down.contains(&(a, b)) && !down.contains(&(b, a)), |_| true, |_| true);
        let verdict = world.verdict(1, of);
        let mut all: Vec<_> = verdict.silent_to.iter().chain(&verdict.reachable_from)
            .chain(verdict.abstaining.keys()).chain(&verdict.unheard).cloned().collect();
        all.sort();
        let expected: Vec<_> = regions(5).into_iter().filter(|it| *it != region(of)).collect();
        prop_assert_eq!(all, expected);
        prop_assert_eq!(verdict.silent_needed, 3);
    }
}
