//! What a value must hold, told from the history of who did what having seen which earlier acts.
//!
//! Slow and obvious, and written apart from the values: no dots, no spans, no deltas. An act is
//! known by its place in the history, a view is a set of acts, and everything follows from which
//! acts of a view were undone by acts of the same view.

use std::collections::{BTreeMap, BTreeSet};

use crate::bytes::Bytes;
use crate::clock::{Actor, DottedVersion, Hlc};
use crate::crdt::{BoundedReading, FieldReading, Kind, Reading};

pub(super) type View = BTreeSet<usize>;
pub(super) type Named = (&'static str, Kind);
pub(super) type Path = Vec<Named>;

/// What an act left behind.
#[derive(Clone, Debug)]
pub(super) enum Made {
    Nothing,
    /// A number of a table was raised by so much.
    Raised(Row, u64),
    Minted(u128, Actor, u64),
    /// Something at a place, that a later act can undo.
    Put(Path, Thing),
    /// Never undone; the greatest counts.
    Latest(u64, Actor, Option<Bytes>),
}

/// What can be undone.
#[derive(Clone, Debug)]
pub(super) struct Thing {
    /// An element, or what was written; of counters nothing.
    pub(super) bytes: Option<Bytes>,
    pub(super) stamp: Hlc,
    /// What the actor has added to a counter since it last saw it reset.
    pub(super) added: i128,
}

/// A number that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Row {
    Up(Actor),
    Down(Actor),
    Moved(Actor, Actor),
    Used(Actor),
    Released(Actor),
}

impl Row {
    /// An actor always tells both of what it added and what it subtracted.
    const fn told_by(self) -> Self {
        if let Self::Down(actor) = self { Self::Up(actor) } else { self }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) by: Actor,
    pub(super) made: Made,
    pub(super) undoes: View,
}

impl Act {
    pub(super) fn put(&self) -> Option<(&Path, &Thing)> {
        if let Made::Put(path, thing) = &self.made { Some((path, thing)) } else { None }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) acts: Vec<Act>,
}

impl History {
    /// The acts of a view that no act of the view undoes.
    pub(super) fn standing<'a>(
        &'a self,
        view: &'a View,
    ) -> impl Iterator<Item = usize> + 'a {
        let undone: View =
            view.iter().flat_map(|act| self.acts[*act].undoes.clone()).collect();
        view.iter().copied().filter(move |act| !undone.contains(act))
    }

    /// Of those, the ones that made something at or below a path.
    pub(super) fn standing_at(&self, view: &View, path: &[Named]) -> View {
        let put = |act: &usize| self.acts[*act].put();
        let at = |act: &usize| put(act).is_some_and(|(at, _)| at.starts_with(path));
        self.standing(view).filter(at).collect()
    }

    /// What the acts of a view say of each number: the last on it, with all before it.
    fn table(&self, view: &View) -> BTreeMap<Row, u64> {
        let mut last = BTreeMap::new();
        for act in view {
            if let Made::Raised(row, _) = self.acts[*act].made {
                last.insert(row.told_by(), *act);
            }
        }
        let mut table = BTreeMap::new();
        for (at, act) in self.acts.iter().enumerate() {
            if let Made::Raised(row, amount) = act.made
                && last.get(&row.told_by()).is_some_and(|last| at <= *last)
            {
                *table.entry(row).or_insert(0) += amount;
            }
        }
        table
    }

    pub(super) fn rights(&self, view: &View) -> (u64, u64, BTreeMap<Actor, i128>) {
        let mut rights: BTreeMap<Actor, i128> = BTreeMap::new();
        let mut mints = BTreeMap::new();
        for act in view {
            if let Made::Minted(id, to, amount) = self.acts[*act].made {
                mints.insert(id, (to, amount));
            }
        }
        for (to, amount) in mints.values() {
            *rights.entry(*to).or_default() += i128::from(*amount);
        }
        let (mut used, mut released) = (0, 0);
        for (row, amount) in self.table(view) {
            let n = i128::from(amount);
            match row {
                Row::Moved(from, to) => {
                    *rights.entry(from).or_default() -= n;
                    *rights.entry(to).or_default() += n;
                }
                Row::Used(actor) => {
                    *rights.entry(actor).or_default() -= n;
                    used += amount;
                }
                Row::Released(actor) => {
                    *rights.entry(actor).or_default() += n;
                    released += amount;
                }
                Row::Up(_) | Row::Down(_) => {}
            }
        }
        let minted = mints.values().map(|(_, amount)| amount).sum();
        (minted, used.max(released) - released, rights)
    }

    /// What a reader with this view must see.
    pub(super) fn reading(&self, kind: Kind, view: &View) -> Reading {
        let table = self.table(view);
        let up = table.iter().filter(|(row, _)| matches!(row, Row::Up(_)));
        let up: u64 = up.map(|(_, n)| n).sum();
        let down = table.iter().filter(|(row, _)| matches!(row, Row::Down(_)));
        let down: u64 = down.map(|(_, n)| n).sum();
        match kind {
            Kind::GCounter => Reading::Count(up),
            Kind::PnCounter => Reading::Balance(up.cast_signed() - down.cast_signed()),
            Kind::Lww => Reading::Latest(self.latest(view).and_then(|latest| latest.2)),
            Kind::Register => match self.latest(view) {
                None => Reading::Register { lamport: 0, actor: None, value: None },
                Some((lamport, actor, value)) => {
                    Reading::Register { lamport, actor: Some(actor), value }
                }
            },
            Kind::Bounded => {
                let (minted, used, rights) = self.rights(view);
                let positive = rights.into_iter().filter(|(_, rights)| *rights > 0);
                let rights =
                    positive.map(|(at, rights)| (at, rights.try_into().unwrap()));
                Reading::Bounded(BoundedReading {
                    minted,
                    used,
                    rights: rights.collect(),
                })
            }
            Kind::GSet | Kind::OrSet | Kind::Mv | Kind::OrMap => {
                self.nested(kind, &self.standing(view).collect(), 0)
            }
        }
    }

    fn latest(&self, view: &View) -> Option<(u64, Actor, Option<Bytes>)> {
        let latest = view.iter().filter_map(|act| {
            let Made::Latest(at, actor, value) = &self.acts[*act].made else {
                return None;
            };
            Some((*at, *actor, value.clone()))
        });
        latest.max()
    }

    /// A value of which these acts made what stands, `depth` levels inside the outermost.
    fn nested(&self, kind: Kind, acts: &View, depth: usize) -> Reading {
        let things = acts.iter().filter_map(|act| self.acts[*act].put());
        let things = || things.clone().map(|(_, thing)| thing);
        let bytes = || things().filter_map(|thing| thing.bytes.clone());
        let words = || bytes().collect::<BTreeSet<_>>().into_iter().collect();
        let sum = || things().map(|thing| thing.added).sum::<i128>();
        match kind {
            Kind::GSet | Kind::OrSet => Reading::Set(words()),
            // What names the values is checked where it is used.
            Kind::Mv => Reading::Siblings { values: words(), seen: DottedVersion::new() },
            Kind::GCounter => Reading::Count(sum().try_into().unwrap()),
            Kind::PnCounter => Reading::Balance(sum().try_into().unwrap()),
            Kind::Lww => {
                let write = |act: &usize| {
                    let act = &self.acts[*act];
                    let (_, thing) = act.put()?;
                    Some((thing.stamp, act.by, thing.bytes.clone()?))
                };
                let last = acts.iter().filter_map(write).max();
                Reading::Latest(last.map(|(_, _, value)| value))
            }
            Kind::OrMap => self.fields(acts, depth),
            Kind::Bounded | Kind::Register => unreachable!("never within a map"),
        }
    }

    fn fields(&self, acts: &View, depth: usize) -> Reading {
        let mut fields: BTreeMap<(Bytes, Kind), View> = BTreeMap::new();
        for act in acts {
            let Some((path, _)) = self.acts[*act].put() else { continue };
            let (name, kind) = path[depth];
            fields.entry((name.into(), kind)).or_default().insert(*act);
        }
        let fields = fields.into_iter().map(|((name, kind), acts)| {
            let reading = self.nested(kind, &acts, depth + 1);
            FieldReading { name, kind, reading }
        });
        Reading::Fields(fields.collect())
    }
}

/// A reading without what names the values of registers, which the history does not know.
pub(super) fn without_seen(reading: Reading) -> Reading {
    if let Reading::Siblings { values, .. } = reading {
        return Reading::Siblings { values, seen: DottedVersion::new() };
    }
    let Reading::Fields(fields) = reading else { return reading };
    let fields = fields
        .into_iter()
        .map(|field| FieldReading { reading: without_seen(field.reading), ..field });
    Reading::Fields(fields.collect())
}
