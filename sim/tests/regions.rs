//! Regions that die, freeze, are cut off, or only seem so; `cargo xtask sim` runs many seeds.

use dwcp_sim::{Breakage, Options, Outcome, run};

fn clean(options: &Options) -> Outcome {
    let outcome = run(options, false);
    assert_eq!(outcome.violation, None, "{options}");
    outcome
}

/// Also that the storms reach what they are meant to reach.
#[test]
fn in_a_storm_no_vm_runs_twice_and_all_comes_to_rest() {
    let outcomes: Vec<_> = (0..12).map(|seed| clean(&Options::storm(seed))).collect();
    let sum = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).sum::<usize>();
    assert!(sum(|it| it.failovers) > 12, "{} failovers", sum(|it| it.failovers));
    assert!(sum(|it| it.recovered) > 4, "{} recovered", sum(|it| it.recovered));
    let fenced: u64 = outcomes.iter().map(|it| it.fenced).sum();
    assert!(fenced > 40, "{fenced} guests fenced");
}

#[test]
fn noise_fails_no_region_over() {
    for seed in 0..2 {
        let outcome = clean(&Options::noise(seed));
        assert!(outcome.placed > 20, "{} placed", outcome.placed);
    }
}

#[test]
fn the_vms_of_a_region_that_dies_run_elsewhere_in_time() {
    let mut recovered = 0;
    for seed in 0..6 {
        let outcome = clean(&Options::drill(seed));
        assert_eq!(outcome.failovers, 1, "seed {seed}");
        recovered += outcome.recovered;
    }
    assert!(recovered > 4, "{recovered} recovered");
}

/// Each rule, broken on purpose, is seen. One is missing here because it takes more seeds than
/// every change should pay for: [`Breakage::GrantsFromOldList`].
fn is_seen(breakage: Breakage, world: fn(u64) -> Options, by: &[&str]) {
    is_seen_from(0, breakage, world, by);
}

/// The same from a seed on, for a rule whose break is seen by few.
fn is_seen_from(first: u64, breakage: Breakage, world: fn(u64) -> Options, by: &[&str]) {
    for seed in first..first + 40 {
        let outcome = run(&world(seed).broken(breakage), false);
        if let Some(violation) = outcome.violation {
            assert!(by.contains(&violation.id), "{breakage:?}: {violation:?}");
            return;
        }
    }
    panic!("{breakage:?} was not seen");
}

#[test]
fn taking_a_lease_too_soon_is_seen() {
    is_seen(Breakage::TakesTooSoon, Options::storm, &["OWN-1", "LIV-1"]);
}

#[test]
fn taking_a_lease_too_soon_is_a_false_failover_in_noise() {
    is_seen(Breakage::TakesTooSoon, Options::noise, &["LIV-1", "LIV-2"]);
}

#[test]
fn recovering_from_a_region_that_is_back_is_seen() {
    // Few before it have one: with leases of 8 s a region seldom returns in the middle.
    is_seen_from(187, Breakage::RecoversUnfenced, Options::storm, &["OWN-1"]);
}

#[test]
fn a_grant_that_counts_from_its_arrival_is_seen() {
    is_seen(Breakage::GrantCountsFromArrival, Options::storm, &["OWN-1"]);
}

#[test]
fn a_frozen_agent_without_a_watchdog_is_seen() {
    is_seen(Breakage::NoWatchdog, Options::storm, &["OWN-1"]);
}

#[test]
fn a_host_that_ignores_its_lease_is_seen() {
    is_seen(Breakage::IgnoresLease, Options::storm, &["OWN-1"]);
}

#[test]
fn a_death_that_nobody_answers_is_seen() {
    is_seen(Breakage::NeverFailsOver, Options::drill, &["LIV-3"]);
}
