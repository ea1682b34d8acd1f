//! ST-7: the reads and writes of a register have one order that agrees with real time, with what
//! is read in the end as one more read.

use dwcp_state::Kind;

use super::super::history::{End, Operation, Wish};
use super::super::keys::Seen;
use super::super::oracle::Change;
use super::super::oracle::register::{Access, Effect, Verdict, linearizable};
use super::super::world::World;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-7",
    statement: "the history of a register has one order that agrees with real time",
};

pub(super) fn check(world: &World) -> Found {
    let keys = world.keys.iter().enumerate();
    keys.filter(|(_, key)| key.kind == Kind::Register).find_map(|(place, key)| {
        let operations: Vec<&Operation> = world.history.of_key(place).collect();
        let (numbers, history): (Vec<_>, Vec<_>) = operations
            .iter()
            .filter_map(|operation| Some((operation.number, access(operation)?)))
            .unzip();
        let verdict = linearizable(&history).err()?;
        let whose = match verdict {
            Verdict::Unordered(index) | Verdict::Phantom(index) => numbers.get(index),
            Verdict::WrittenTwice(_) | Verdict::TooWide => None,
        };
        Some((STATEMENT, format!("{}: {verdict}; operation {whose:?}", key.name)))
    })
}

fn access(operation: &Operation) -> Option<Access> {
    let told = operation.told();
    let effect = match (&operation.wish, told.and_then(|told| told.seen.as_ref())) {
        (Wish::Change(Change::Write(value)), _) => Effect::Write(*value),
        (Wish::Change(Change::Clear), _) => Effect::Erase,
        (Wish::Read, Some(Seen::Values(values))) => Effect::Read(values.first().copied()),
        _ => return None,
    };
    if matches!(operation.end, End::Refused) {
        return None;
    }
    let ended = told.map(|told| told.at.step);
    Some(Access { begun: operation.begun.step, ended, effect })
}
