//! Rules of replicas, broken on purpose, each with a seed near which it is seen: the proof that
//! the simulation of the state plane can fail. `cargo xtask sim --planted` searches for all.

use dwcp_sim::state::hunt;
use dwcp_state::Sabotage;

/// How far from the known seed a changed replica may move what is seen.
const SEEDS_MAX: u64 = 30;

/// Breaks a rule and looks for it from a seed on.
fn is_seen(rule: Sabotage, from: u64) {
    let seen = hunt(rule, from..from + SEEDS_MAX);
    assert!(seen.is_some(), "{rule:?} is not seen in {SEEDS_MAX} seeds from {from}");
}

#[test]
fn answering_before_anything_is_durable_is_seen() {
    is_seen(Sabotage::AcksBeforeDurable, 0);
}

#[test]
fn going_on_under_an_old_incarnation_is_seen() {
    is_seen(Sabotage::ReusesIncarnation, 0);
}

#[test]
fn a_read_that_does_not_write_back_is_seen() {
    is_seen(Sabotage::SkipsWriteBack, 0);
}

#[test]
fn a_register_that_asks_nobody_for_a_timestamp_is_seen() {
    is_seen(Sabotage::SkipsRegisterPhaseOne, 1);
}

#[test]
fn counting_replicas_instead_of_regions_is_seen() {
    is_seen(Sabotage::CountsReplicas, 0);
}

#[test]
fn a_push_over_a_gap_is_seen() {
    is_seen(Sabotage::AppliesPastGap, 0);
}

#[test]
fn a_fence_that_is_ignored_is_seen() {
    is_seen(Sabotage::IgnoresFence, 1);
}

#[test]
fn a_session_that_is_ignored_is_seen() {
    is_seen(Sabotage::IgnoresSession, 0);
}

#[test]
fn forgetting_a_deletion_by_time_is_seen() {
    is_seen(Sabotage::CollectsByTime, 27);
}

#[test]
fn counting_all_as_received_after_a_pull_is_seen() {
    is_seen(Sabotage::PullTakesAll, 0);
}

#[test]
fn an_operation_id_that_is_forgotten_is_seen() {
    is_seen(Sabotage::ForgetsOpIds, 0);
}

#[test]
fn spending_the_rights_of_others_is_seen() {
    is_seen(Sabotage::SpendsForeignRights, 2);
}

#[test]
fn listening_to_who_was_put_out_is_seen() {
    is_seen(Sabotage::HearsEvicted, 3);
}

#[test]
fn the_last_arrival_that_wins_is_seen() {
    is_seen(Sabotage::LastArrivalWins, 10);
}

#[test]
fn a_stamp_far_ahead_that_is_taken_is_seen() {
    is_seen(Sabotage::TakesAnyStamp, 4);
}

#[test]
fn coming_back_with_old_state_is_seen() {
    is_seen(Sabotage::RejoinsWithOldState, 2);
}

#[test]
fn an_answer_weaker_than_asked_is_seen() {
    is_seen(Sabotage::AnswersWeaker, 0);
}
