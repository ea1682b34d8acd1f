//! Each rule, broken on purpose, is seen by an invariant within a bounded number of seeds: the
//! proof that the simulation can see at all.

use dwcp_sim::{Breakage, Options, run};

/// Every planted break must be found within so many seeds.
const SEEDS_MAX: u64 = 200;

/// The ids that the first violation may have.
fn is_seen(breakage: Breakage, by: &[&str]) {
    for seed in 0..SEEDS_MAX {
        let outcome = run(&Options::from_seed(seed).broken(breakage), false);
        if let Some(violation) = outcome.violation {
            assert!(by.contains(&violation.id), "{breakage:?}: {violation:?}");
            return;
        }
    }
    panic!("{breakage:?} was not seen in {SEEDS_MAX} seeds");
}

#[test]
fn an_agent_that_takes_older_instructions_is_seen() {
    is_seen(Breakage::AgentForgetsOrder, &["OWN-2"]);
}

#[test]
fn a_commit_that_ends_by_time_is_seen() {
    is_seen(Breakage::CommitLapses, &["ACK-1", "PL-1", "PL-2", "PL-3"]);
}

#[test]
fn answering_before_storing_is_seen() {
    is_seen(Breakage::AnswersBeforeStoring, &["ACK-1", "PL-1", "PL-2", "PL-3"]);
}

#[test]
fn creating_over_what_exists_is_seen() {
    is_seen(Breakage::CreatesOverExisting, &["OWN-1", "OWN-3", "TOK-1", "ACK-1"]);
}

#[test]
fn a_token_that_is_not_compared_is_seen() {
    is_seen(Breakage::TokenIsNotCompared, &["TOK-1"]);
}

#[test]
fn a_name_that_starts_again_at_the_first_epoch_is_seen() {
    is_seen(Breakage::EpochStartsAgain, &["OWN-3"]);
}

#[test]
fn capacity_that_is_never_given_back_is_seen() {
    is_seen(Breakage::NeverReleases, &["END-1"]);
}

#[test]
fn selling_what_is_taken_is_seen() {
    is_seen(Breakage::SellsWhatIsTaken, &["PL-1"]);
}

#[test]
fn giving_back_capacity_that_a_guest_still_uses_is_seen() {
    is_seen(Breakage::ParksTheRunning, &["PL-1"]);
}

#[test]
fn a_victim_that_starts_without_room_is_seen() {
    is_seen(Breakage::VictimsTakeTheirRoomBack, &["PL-1", "PL-2"]);
}

#[test]
fn forgetting_a_vm_that_still_runs_is_seen() {
    is_seen(Breakage::ForgetsTheRunning, &["OWN-1", "PL-1", "END-1"]);
}
