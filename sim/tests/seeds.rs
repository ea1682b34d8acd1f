//! A few seeds on every change; `cargo xtask sim` runs many.

use dwcp_sim::{Options, run};

#[test]
fn no_seed_breaks_an_invariant() {
    for seed in 0..40 {
        let options = Options::from_seed(seed);
        let outcome = run(&options, false);
        assert_eq!(outcome.violation, None, "{options}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 100..110 {
        let options = Options::from_seed(seed);
        let (first, second) = (run(&options, true), run(&options, true));
        assert_eq!(first, second);
        assert!(!first.trace.is_empty());
        let other = run(&Options::from_seed(seed + 1_000), false);
        assert_ne!(first.trace_hash, other.trace_hash);
    }
}

#[test]
fn the_seeds_reach_what_they_are_meant_to_reach() {
    let outcomes: Vec<_> =
        (0..40).map(|seed| run(&Options::from_seed(seed), false)).collect();
    let sum = |of: fn(&dwcp_sim::Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    assert!(sum(|it| it.crashes) > 100, "crashes");
    assert!(outcomes.iter().map(|it| it.placed).sum::<usize>() > 400, "placements");
    assert!(outcomes.iter().map(|it| it.refused).sum::<usize>() > 40, "full regions");
    assert!(outcomes.iter().all(|it| it.rested_after_ms.is_some()), "rest");
}
