//! ST-3: a session sees what it wrote, what its token says that it has seen, and never less than
//! it saw before.
//!
//! Writes follow reads by what is judged elsewhere: an update in a session has surely seen what
//! the session had. What was written by a member that was put out since is not promised.

use std::collections::BTreeMap;

use dwcp_state::Kind;

use super::super::history::{Operation, covers};
use super::super::keys::Seen;
use super::reads::Case;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-3",
    statement: "a session sees what it wrote, and never less than it saw",
};

pub(super) fn promises(case: &Case<'_>, update: &Operation) -> bool {
    let Some(token) = &case.read.token else { return false };
    if case.is_doubtful(update) {
        return false;
    }
    let of_session = update.client == case.read.client
        && update.session == case.read.session
        && update.token.is_some();
    let wrote = of_session && case.acknowledged_before(update).is_some();
    let saw = || {
        // Only what was acknowledged: the rest may have been lost before it was durable.
        let told = update.told().filter(|told| told.at < case.told.at);
        let place = told.and_then(|told| Some((told.node, told.position?)));
        place.is_some_and(|(node, position)| covers(&token.0, node, position))
    };
    wrote || saw()
}

/// Whose session, and of which key.
type Place = (usize, u64, usize);

/// What sessions saw last of keys whose readings only grow.
#[derive(Debug, Default)]
pub(super) struct Session {
    last: BTreeMap<Place, Seen>,
}

impl Session {
    pub(super) fn check(&mut self, case: &Case<'_>) -> Found {
        let key = case.read.key;
        let grows = matches!(case.world.keys[key].kind, Kind::GCounter | Kind::GSet);
        // What was seen of a member that was put out may be lost.
        let any_out =
            (0..case.world.nodes.len()).any(|node| case.world.strong.was_evicted(node));
        if !grows || any_out || case.read.token.is_none() {
            return None;
        }
        let seen = case.told.seen.clone()?;
        let place = (case.read.client, case.read.session, key);
        let before = self.last.insert(place, seen.clone());
        let less = match (&before, &seen) {
            (Some(Seen::Values(before)), Seen::Values(now)) => !before.is_subset(now),
            (Some(Seen::Sum(before)), Seen::Sum(now)) => now < before,
            _ => false,
        };
        let number = case.read.number;
        less.then(|| {
            (STATEMENT, format!("operation {number}: {seen:?} after {before:?}"))
        })
    }
}
