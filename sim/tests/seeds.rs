//! A few seeds on every change; `cargo xtask sim` runs many.

use dwcp_sim::{Options, run};

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

/// Also that the seeds reach what they are meant to reach: a world in which nothing goes wrong
/// proves nothing.
#[test]
fn no_seed_breaks_an_invariant_and_together_they_reach_every_fault() {
    let mut outcomes = Vec::new();
    for seed in 0..40 {
        let options = Options::from_seed(seed);
        let outcome = run(&options, false);
        assert_eq!(outcome.violation, None, "{options}");
        assert!(outcome.rested_after_ms.is_some(), "{options}");
        outcomes.push(outcome);
    }
    assert!(outcomes.iter().map(|it| it.crashes).sum::<u64>() > 100, "crashes");
    assert!(outcomes.iter().map(|it| it.placed).sum::<usize>() > 400, "placements");
    assert!(outcomes.iter().map(|it| it.refused).sum::<usize>() > 40, "full regions");
}
