//! Whether what clients saw of one register can be put into one order that agrees with real
//! time: linearizability, by Lowe's just-in-time variant of the search of Wing and Gong.
//!
//! The history is walked once. A configuration is the register's value and which of the open
//! accesses have taken effect already; when an access ends, every configuration in which it has
//! not is led to those in which it has. Equal configurations are one, so the work is bounded by
//! how many accesses overlap and not by how long the history is.
//!
//! Values are unique, which settles writes of unknown outcome without a search: one whose value
//! nobody read need not have happened, and one whose value somebody read took effect before the
//! first such read ended. Deletions are alike, so one of unknown outcome stays open to the end
//! and doubles the configurations: there may be few.
//!
//! Rejected: depth-first search over the whole history, which needs windows to stay bounded and
//! then has to carry configurations from window to window all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One access, with when it began and when the client knew its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// When it was asked, in steps of the world.
    pub begun: u64,
    /// When it was answered; none when the outcome was never known.
    pub ended: Option<u64>,
    /// What it did.
    pub effect: Effect,
}

/// What an access did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Wrote a value that no other access writes.
    Write(u64),
    /// Deleted the value.
    Erase,
    /// Saw a value, or that there is none.
    Read(Option<u64>),
}

/// Why there is no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No order explains this access and all that ended before it; its place in the history.
    Unordered(usize),
    /// A value was read that nobody wrote; the place of the read.
    Phantom(usize),
    /// Two accesses write the same value, so the history cannot be judged.
    WrittenTwice(u64),
    /// More configurations than [`CONFIGURATIONS_MAX`]: not judged.
    TooWide,
}

/// Configurations that are followed at once. Eight overlapping accesses give at most
/// 2^8 x 9 = 2,304.
const CONFIGURATIONS_MAX: usize = 100_000;
/// Accesses that overlap; a bit each in a configuration.
const OPEN_MAX: usize = 64;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unordered(index) => {
                write!(
                    f,
                    "no order explains access {index} and those that ended before it"
                )
            }
            Self::Phantom(index) => write!(f, "access {index} read what nobody wrote"),
            Self::WrittenTwice(value) => write!(f, "two accesses write {value}"),
            Self::TooWide => write!(f, "too many accesses overlap to judge them"),
        }
    }
}

/// A register's value and, a bit each, the open accesses that have taken effect.
type Configuration = (Option<u64>, u64);

/// The accesses that are open, each in a place of its own.
#[derive(Debug, Default)]
struct Open(Vec<Option<usize>>);

impl Open {
    fn begin(&mut self, access: usize) -> Result<(), Verdict> {
        if let Some(free) = self.0.iter_mut().find(|place| place.is_none()) {
            *free = Some(access);
            return Ok(());
        }
        if self.0.len() == OPEN_MAX {
            return Err(Verdict::TooWide);
        }
        self.0.push(Some(access));
        Ok(())
    }

    /// The bits and numbers of those that are open.
    fn iter(&self) -> impl Iterator<Item = (u64, usize)> {
        let bits = (0..).map(|place| 1_u64 << place);
        bits.zip(&self.0).filter_map(|(bit, access)| Some((bit, (*access)?)))
    }

    fn bit(&self, access: usize) -> u64 {
        self.iter().find(|(_, other)| *other == access).map_or(0, |(bit, _)| bit)
    }

    fn end(&mut self, access: usize) {
        if let Some(place) = self.0.iter_mut().find(|place| **place == Some(access)) {
            *place = None;
        }
    }
}

/// Judges the history of one register, in any order, beginning with nothing written.
///
/// # Errors
///
/// The first access that no order explains, or why the history cannot be judged.
pub fn linearizable(history: &[Access]) -> Result<(), Verdict> {
    let settled = settle(history)?;
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (index, ended) in &settled {
        events.push((history[*index].begun, false, *index));
        events.extend(ended.map(|ended| (ended, true, *index)));
    }
    // At one moment, beginnings come first: such accesses overlap.
    events.sort_unstable();
    let mut open = Open::default();
    let mut reached = BTreeSet::from([(None, 0)]);
    for (_, ends, index) in events {
        if !ends {
            open.begin(index)?;
            continue;
        }
        reached = after_end(history, &open, &reached, index)?;
        open.end(index);
        if reached.is_empty() {
            return Err(Verdict::Unordered(index));
        }
    }
    Ok(())
}

/// The accesses that count, with their ends; unknown writes are settled by who read them.
fn settle(history: &[Access]) -> Result<Vec<(usize, Option<u64>)>, Verdict> {
    let mut writers = BTreeMap::new();
    for (index, access) in history.iter().enumerate() {
        if let Effect::Write(value) = access.effect
            && writers.insert(value, index).is_some()
        {
            return Err(Verdict::WrittenTwice(value));
        }
    }
    let mut read_by = BTreeMap::<u64, u64>::new();
    for (index, access) in history.iter().enumerate() {
        let (Effect::Read(Some(value)), Some(ended)) = (access.effect, access.ended)
        else {
            continue;
        };
        if !writers.contains_key(&value) {
            return Err(Verdict::Phantom(index));
        }
        let first = read_by.entry(value).or_insert(ended);
        *first = ended.min(*first);
    }
    let end_of = |access: &Access| match access.effect {
        Effect::Write(value) => access.ended.or_else(|| read_by.get(&value).copied()),
        Effect::Read(_) | Effect::Erase => access.ended,
    };
    // An unknown write that was read before it began would end before its beginning; kept as a
    // moment of its own, it explains nothing, and the read is found.
    let settled =
        history.iter().enumerate().filter_map(|(index, access)| match end_of(access) {
            Some(ended) => Some((index, Some(ended.max(access.begun)))),
            None => (access.effect == Effect::Erase).then_some((index, None)),
        });
    Ok(settled.collect())
}

/// Every configuration in which `ending` has taken effect, with it taken out.
fn after_end(
    history: &[Access],
    open: &Open,
    before: &BTreeSet<Configuration>,
    ending: usize,
) -> Result<BTreeSet<Configuration>, Verdict> {
    let ending = open.bit(ending);
    let mut after = BTreeSet::new();
    let mut seen = before.clone();
    let mut to_do: Vec<Configuration> = before.iter().copied().collect();
    while let Some((value, done)) = to_do.pop() {
        if done & ending != 0 {
            after.insert((value, done & !ending));
            continue;
        }
        for (bit, access) in open.iter().filter(|(bit, _)| done & bit == 0) {
            let next = match history[access].effect {
                Effect::Write(written) => Some(written),
                Effect::Erase => None,
                Effect::Read(read) if read == value => value,
                Effect::Read(_) => continue,
            };
            if seen.insert((next, done | bit)) {
                to_do.push((next, done | bit));
            }
        }
        if seen.len() > CONFIGURATIONS_MAX {
            return Err(Verdict::TooWide);
        }
    }
    Ok(after)
}

#[cfg(test)]
mod tests;
