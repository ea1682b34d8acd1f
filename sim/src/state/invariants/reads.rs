//! ST-1, and the frame for the promises of each level: a reading is explained by the updates
//! that are promised to it and any of the others.
//!
//! All promises are judged at once, because that is one search; only when that fails, each for
//! itself, to say which was broken.

use super::super::history::{End, Operation, Told, admission_of};
use super::super::judge::explain;
use super::super::keys::TTL_MS;
use super::super::oracle::{Number, Standing};
use super::super::world::World;
use super::{Found, Statement, fresh, kept_here, regional, regular, session};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-1",
    statement: "a read shows nothing that nobody wrote, and nothing that is surely gone",
};

/// Whether an update is promised to a reader.
type Promise = fn(&Case<'_>, &Operation) -> bool;

const PROMISES: [(Statement, Promise); 5] = [
    (kept_here::STATEMENT, kept_here::promises),
    (session::STATEMENT, session::promises),
    (regional::STATEMENT, regional::promises),
    (regular::STATEMENT, regular::promises),
    (fresh::STATEMENT, fresh::promises),
];

/// A read that was answered.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) world: &'a World,
    pub(super) read: &'a Operation,
    pub(super) told: &'a Told,
}

impl<'a> Case<'a> {
    pub(super) fn new(world: &'a World, number: Number) -> Option<Self> {
        let read = world.history.get(number);
        let told = read.told()?;
        Some(Self { world, read, told })
    }

    /// Whether an update was acknowledged before the read began, and by whom.
    pub(super) fn acknowledged_before(&self, update: &'a Operation) -> Option<&'a Told> {
        update.told().filter(|told| told.at < self.read.begun)
    }

    /// Whether the place that an update was written in is of a member that was put out since:
    /// then only what others had of it is promised.
    pub(super) fn is_doubtful(&self, update: &Operation) -> bool {
        is_doubtful(self.world, update)
    }

    /// Whether the update may have outlived its time.
    fn may_be_over(&self, update: &Operation) -> bool {
        let lives_us = TTL_MS * 1_000;
        let wrong = 2 * self.world.clock_error_us + MORTAL_SLACK_US;
        self.world.keys[update.key].mortal
            && self.told.at.us + wrong > update.begun.us + lives_us
    }
}

/// Clocks show milliseconds.
pub(super) const MORTAL_SLACK_US: u64 = 10_000;

/// Whether the admission that an update was written in has ended.
pub(super) fn is_doubtful(world: &World, update: &Operation) -> bool {
    update.place().is_none_or(|(node, position)| {
        world.strong.has_ended(node, admission_of(position))
    })
}

pub(super) fn check(case: &Case<'_>) -> Found {
    let all = |update: &Operation| PROMISES.iter().any(|(_, kept)| kept(case, update));
    judge(case, all).ok()?.err().map(|found| blame(case, &found))
}

/// Explains the reading when so much is promised; `Ok(Ok)` when it is explained.
fn judge(
    case: &Case<'_>,
    promised: impl Fn(&Operation) -> bool,
) -> Result<Result<(), String>, ()> {
    let seen = case.told.seen.as_ref().ok_or(())?;
    Ok(explain(case.world, case.read.key, seen, |update| {
        if !update.is_update() || matches!(update.end, End::Refused) {
            return None;
        }
        let required = promised(update) && !case.may_be_over(update);
        Some(if required { Standing::Required } else { Standing::Allowed })
    }))
}

fn blame(case: &Case<'_>, found: &str) -> (Statement, String) {
    let operation = case.read.number;
    let tell = |found: &str| format!("operation {operation}: {found}");
    if let Ok(Err(found)) = judge(case, |_| false) {
        return (STATEMENT, tell(&found));
    }
    for (statement, promise) in PROMISES {
        if let Ok(Err(found)) = judge(case, |update| promise(case, update)) {
            return (statement, tell(&found));
        }
    }
    (STATEMENT, tell(found))
}
