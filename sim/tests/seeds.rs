//! A few seeds on every change; `cargo xtask sim` runs many.

use std::sync::Arc;

use dwcp_controller::placement::VICTIMS_MAX;
use dwcp_sim::{Choose, Options, Proposed, run, run_with};
use dwcp_types::{FleetView, PlacementRequest};

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
    assert!(outcomes.iter().map(|it| it.displaced).sum::<usize>() > 40, "pre-emptions");
    assert!(outcomes.iter().map(|it| it.reinstated).sum::<usize>() > 4, "come back");
}

/// Proposes every region and the same host of it, whether there is room or not.
struct Blind;

impl Choose for Blind {
    fn choose(&self, view: &FleetView, _: &PlacementRequest) -> Vec<Proposed> {
        let places = view.regions.iter().filter_map(|region| {
            let host = region.hosts.last()?;
            let id = region.region.id.clone();
            Some(Proposed::at(id, host.zone.clone(), host.id.clone()))
        });
        places.collect()
    }

    fn displace(&self, view: &FleetView, request: &PlacementRequest) -> Option<Proposed> {
        let victims = view.vms.iter().map(|vm| vm.id.clone()).take(VICTIMS_MAX);
        let victims = victims.collect();
        Some(Proposed { victims, ..self.choose(view, request).pop()? })
    }
}

#[test]
fn a_region_decides_for_itself_whatever_it_is_proposed() {
    let mut placed = 0;
    for seed in 0..10 {
        let options = Options::from_seed(seed);
        let outcome = run_with(&options, Arc::new(Blind), false);
        assert_eq!(outcome.violation, None, "{options}");
        placed += outcome.placed;
    }
    assert!(placed > 100, "{placed}");
}
