//! A few pairs of faults in every test run; all of them, over and over, by `cargo xtask nemesis`.

use dwcp_testbed::nemesis::{Campaign, QUICK, Span, missing, run};

/// Any; a fixed one, so that a failure is not another every day.
const SEED: u64 = 1;

#[test]
fn a_federation_is_whole_after_pairs_of_faults_and_kept_its_promises_meanwhile() {
    if let Err(missing) = missing() {
        return eprintln!("skipped: {missing}");
    }
    let pairs = QUICK.to_vec();
    let campaign = Campaign { first: 1, rounds: 1, seed: SEED, pairs, hold: Span::SHORT };
    let summary = run(&campaign, &|line| println!("{line}")).unwrap();
    assert!(summary.violations.is_empty(), "{:#?}", summary.violations);
    assert_eq!(usize::try_from(summary.pairs), Ok(QUICK.len()));
}
