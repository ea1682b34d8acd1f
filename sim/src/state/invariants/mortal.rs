//! ST-15: a value that lives for a time shows for that time after its write, by as much as
//! clocks are wrong, and no longer.

use dwcp_state::Kind;

use super::super::history::Operation;
use super::super::history::Wish;
use super::super::keys::{Seen, TTL_MS};
use super::super::oracle::Change;
use super::reads::{Case, MORTAL_SLACK_US};
use super::{Found, Statement};

pub(super) const STATEMENT: Statement =
    Statement { id: "ST-15", statement: "what lives for a time ends" };

pub(super) fn check(case: &Case<'_>) -> Found {
    let key = &case.world.keys[case.read.key];
    let Some(Seen::Values(values)) = &case.told.seen else { return None };
    if !key.mortal || key.kind != Kind::Lww {
        return None;
    }
    let wrong = 2 * case.world.clock_error_us + MORTAL_SLACK_US;
    let value = *values.first()?;
    let wrote = |it: &&Operation| it.wish == Wish::Change(Change::Write(value));
    let write = case.world.history.of_key(case.read.key).find(wrote)?;
    let ended_us = latest(write)? + TTL_MS * 1_000 + wrong;
    (case.read.begun.us > ended_us).then(|| {
        let number = case.read.number;
        (STATEMENT, format!("operation {number}: {value} of {} still shows", key.name))
    })
}

/// When a write took effect at the latest, if that is known.
fn latest(write: &Operation) -> Option<u64> {
    let at_once = write.attempts.iter().filter(|it| it.position.is_some());
    let told = write.told().map(|told| told.at.us);
    at_once.map(|attempt| attempt.at.us).max().or(told)
}
