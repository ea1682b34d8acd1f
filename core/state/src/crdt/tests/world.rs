//! Replicas that write, lose, repeat and reorder deltas, exchange states, restart under a new
//! incarnation and collect what is empty, each in step with the history.

use proptest::collection::vec;
use proptest::prelude::*;

use super::history::{Act, History, Made, Named, Path, Row, Thing, View, without_seen};
use super::joined;
use crate::bytes::Bytes;
use crate::clock::{Actor, Dot, DottedVersion, Hlc, ReplicaId};
use crate::crdt::{Kind, MintId, Reading, Update, UpdateError, Value, Writer};

/// What happens next; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Write {
        at: u8,
        pick: [u8; 4],
    },
    /// One delta arrives, whatever came before it.
    Deliver {
        delta: u16,
        to: u8,
    },
    /// A whole state arrives.
    Sync {
        from: u8,
        to: u8,
    },
    Restart {
        at: u8,
    },
    /// An empty value leaves the store if everybody has seen what emptied it.
    Collect {
        at: u8,
    },
}

pub(super) fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        8 => (any::<u8>(), any::<[u8; 4]>()).prop_map(|(at, pick)| Event::Write { at, pick }),
        6 => (any::<u16>(), any::<u8>()).prop_map(|(delta, to)| Event::Deliver { delta, to }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Event::Sync { from, to }),
        1 => any::<u8>().prop_map(|at| Event::Restart { at }),
        2 => any::<u8>().prop_map(|at| Event::Collect { at }),
    ];
    vec(event, 0..60)
}

#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) actor: Actor,
    pub(super) value: Value,
    pub(super) saw: View,
    seq: u64,
    clock: u64,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    kind: Kind,
    pub(super) replicas: Vec<Replica>,
    pub(super) deltas: Vec<Value>,
    stamps: Vec<u64>,
    dots: Vec<Dot>,
    history: History,
    pub(super) collected: bool,
}

const REPLICAS: usize = 3;

impl World {
    pub(super) fn new(kind: Kind) -> Self {
        let replica = |number| Replica {
            actor: Actor::new(ReplicaId::new(number), 1),
            value: Value::bottom(kind),
            saw: View::new(),
            seq: 0,
            clock: 0,
        };
        let replicas = (1..).map(replica).take(REPLICAS).collect();
        let (deltas, stamps, dots) = (Vec::new(), Vec::new(), Vec::new());
        let history = History::default();
        Self { kind, replicas, deltas, stamps, dots, history, collected: false }
    }

    /// Runs events, and checks after each that every replica reads what its history says.
    pub(super) fn run(kind: Kind, events: &[Event]) -> Self {
        let mut world = Self::new(kind);
        for event in events {
            world.step(event);
            world.check();
        }
        world
    }

    pub(super) fn check(&self) {
        for replica in &self.replicas {
            let expected = self.history.reading(self.kind, &replica.saw);
            assert_eq!(
                without_seen(replica.value.read()),
                expected,
                "at {}",
                replica.actor
            );
        }
    }

    pub(super) fn step(&mut self, event: &Event) {
        match event {
            Event::Write { at, pick } => self.write(usize::from(*at) % REPLICAS, *pick),
            Event::Deliver { delta, to } if !self.deltas.is_empty() => {
                self.deliver(usize::from(*delta) % self.deltas.len(), *to);
            }
            Event::Sync { from, to } => {
                self.sync(usize::from(*from) % REPLICAS, usize::from(*to) % REPLICAS);
            }
            Event::Restart { at } => {
                let replica = &mut self.replicas[usize::from(*at) % REPLICAS];
                replica.actor.incarnation += 1;
                replica.seq = 0;
            }
            Event::Collect { at } => self.collect(usize::from(*at) % REPLICAS),
            Event::Deliver { .. } => {}
        }
    }

    fn deliver(&mut self, delta: usize, to: u8) {
        let to = &mut self.replicas[usize::from(to) % REPLICAS];
        // Cursors keep from a replica what it once had; the value alone could not.
        if self.collected && to.saw.contains(&delta) {
            return;
        }
        to.value = joined(&to.value, &self.deltas[delta]);
        to.saw.insert(delta);
        to.clock = to.clock.max(self.stamps[delta]);
    }

    pub(super) fn sync(&mut self, from: usize, to: usize) {
        let from = self.replicas[from].clone();
        let to = &mut self.replicas[to];
        to.value = joined(&to.value, &from.value);
        to.saw.extend(from.saw);
        to.clock = to.clock.max(from.clock);
    }

    fn collect(&mut self, at: usize) {
        let Replica { value, saw, .. } = &self.replicas[at];
        let all_saw = self.replicas.iter().all(|other| other.saw.is_superset(saw));
        // All that an actor did up to a number, as pushes in order would have brought it.
        let covers = |dot: Dot| {
            let acts = self.dots.iter().enumerate();
            let mut upto =
                acts.filter(|(_, of)| of.actor == dot.actor && of.seq <= dot.seq);
            upto.all(|(act, _)| saw.contains(&act))
        };
        // Nothing with an older stamp can come: of those that are, all have been seen here, and
        // whoever writes later has seen this stamp.
        let stamp = value.stamp().map_or(0, Hlc::bits);
        let mut older = (0..self.stamps.len()).filter(|act| self.stamps[*act] <= stamp);
        let closed = value.stamp().is_none() || older.all(|act| saw.contains(&act));
        if value.is_bottom() && all_saw && closed && value.is_covered(covers) {
            self.collected = true;
            self.replicas[at].value = Value::bottom(self.kind);
        }
    }

    fn write(&mut self, at: usize, pick: [u8; 4]) {
        let (update, made, undoes) = self.choose(at, pick);
        let Replica { actor, seq, clock, .. } = self.replicas[at];
        let by = Writer { actor, seq: seq + 1, stamp: Hlc::from_bits(clock + 1) };
        let replica = &mut self.replicas[at];
        let delta = match replica.value.update(&update, &by) {
            Ok(delta) => delta,
            Err(
                UpdateError::TooManySiblings { .. }
                | UpdateError::RightsExhausted { .. }
                | UpdateError::NotUsed { .. },
            ) => return,
            Err(error) => panic!("{update:?}: {error}"),
        };
        let before = replica.value.clone();
        replica.value = joined(&before, &delta);
        assert_eq!(joined(&replica.value, &before), replica.value, "an update rises");
        assert_eq!(joined(&replica.value, &delta), replica.value, "a delta is below");
        replica.seq = by.seq;
        replica.clock = by.stamp.bits();
        replica.saw.insert(self.deltas.len());
        self.deltas.push(delta);
        self.stamps.push(by.stamp.bits());
        self.dots.push(by.dot());
        self.history.acts.push(Act { by: actor, made, undoes });
    }

    /// An update, what it makes, and which acts it undoes.
    fn choose(&self, at: usize, pick: [u8; 4]) -> (Update, Made, View) {
        let [what, a, b, c] = pick;
        let replica = &self.replicas[at];
        let (actor, amount) = (replica.actor, u64::from(b % 5) + 1);
        match self.kind {
            Kind::GCounter => (
                Update::Increment(amount),
                Made::Raised(Row::Up(actor), amount),
                View::new(),
            ),
            Kind::PnCounter => {
                let row = if what % 2 == 0 { Row::Up(actor) } else { Row::Down(actor) };
                let sign = if what % 2 == 0 { 1 } else { -1 };
                let update = Update::Add(sign * amount.cast_signed());
                (update, Made::Raised(row, amount), View::new())
            }
            Kind::GSet => {
                let element = word(a);
                let here = self.history.reading(Kind::GSet, &replica.saw);
                let known =
                    matches!(here, Reading::Set(elements) if elements.contains(&element));
                let made = put(&[], Some(&element), 0, 0);
                let made = if known { Made::Nothing } else { made };
                (Update::Insert(element), made, View::new())
            }
            Kind::Lww | Kind::Register => self.choose_latest(at, pick),
            Kind::Bounded => self.choose_rights(at, pick),
            Kind::OrSet | Kind::Mv => self.choose_within(at, [what, a, b, c], &[]),
            Kind::OrMap => {
                let paths = paths();
                let path = &paths[usize::from(c) % paths.len()];
                self.choose_within(at, [what, a, b, c], path)
            }
        }
    }

    fn choose_latest(&self, at: usize, [what, a, b, _]: [u8; 4]) -> (Update, Made, View) {
        let replica = &self.replicas[at];
        let value = (what % 4 > 0).then(|| word(a));
        if self.kind == Kind::Register {
            let lamport = u64::from(b % 6);
            let made = Made::Latest(lamport, replica.actor, value.clone());
            return (Update::Store { lamport, value }, made, View::new());
        }
        let made = Made::Latest(replica.clock + 1, replica.actor, value.clone());
        (value.map_or(Update::Delete, Update::Set), made, View::new())
    }

    fn choose_rights(&self, at: usize, [what, a, b, _]: [u8; 4]) -> (Update, Made, View) {
        let actor = self.replicas[at].actor;
        let other = self.replicas[(at + 1 + usize::from(a) % 2) % REPLICAS].actor;
        let amount = u64::from(b % 5) + 1;
        let (update, made) = match what % 6 {
            0 => {
                // The strong plane decided once; whoever hears of it passes it on.
                let number = u16::from(a % 4);
                let to = Actor::new(ReplicaId::new(1 + number % 3), 1);
                let (id, amount) = (u128::from(number), u64::from(number) * 3 + 4);
                let update = Update::Mint { id: MintId::new(id), to, amount };
                let known = self.replicas[at].saw.iter().any(
                    |act| matches!(self.history.acts[*act].made, Made::Minted(at, ..) if at == id),
                );
                let made = Made::Minted(id, to, amount);
                (update, if known { Made::Nothing } else { made })
            }
            1 | 2 => (Update::Spend(amount), Made::Raised(Row::Used(actor), amount)),
            3 => {
                let row = Row::Moved(actor, other);
                (Update::Transfer { to: other, amount }, Made::Raised(row, amount))
            }
            4 => {
                let incarnation = 1 + u32::from(a) % actor.incarnation;
                let by = Actor::new(actor.replica, incarnation);
                let made = Made::Raised(Row::Released(by), amount);
                (Update::Release { by, amount }, made)
            }
            _ if actor.incarnation == 1 => return self.choose_rights(at, [1, a, b, 0]),
            _ => {
                let from =
                    Actor::new(actor.replica, 1 + u32::from(a) % (actor.incarnation - 1));
                let (_, _, rights) = self.history.rights(&self.replicas[at].saw);
                let had = rights.get(&from).copied().unwrap_or(0).max(0);
                let had = u64::try_from(had).unwrap();
                let made = Made::Raised(Row::Moved(from, actor), had);
                (Update::Inherit { from }, if had == 0 { Made::Nothing } else { made })
            }
        };
        (update, made, View::new())
    }

    /// An update of what lies at a path of an OR-map, or of a value by itself.
    fn choose_within(
        &self,
        at: usize,
        pick: [u8; 4],
        path: &[Named],
    ) -> (Update, Made, View) {
        let [what, a, b, c] = pick;
        let replica = &self.replicas[at];
        let kind = path.last().map_or(self.kind, |(_, kind)| *kind);
        let all = self.history.standing_at(&replica.saw, path);
        if what % 8 == 0 {
            return (within(path, Update::Delete), Made::Nothing, all);
        }
        if what % 8 == 1 && !path.is_empty() {
            let (name, map) = (path[path.len() - 1].0, &path[..path.len() - 1]);
            let kinds = Kind::ALL.iter().map(|kind| [map, &[(name, *kind)]].concat());
            let undoes = kinds
                .flat_map(|at| self.history.standing_at(&replica.saw, &at))
                .collect();
            return (
                within(map, Update::RemoveField(name.into())),
                Made::Nothing,
                undoes,
            );
        }
        let word = word(a);
        let (update, made, undoes) = match kind {
            Kind::OrSet => {
                let same = |act: &usize| {
                    let thing = self.history.acts[*act].put();
                    thing.is_some_and(|(_, thing)| thing.bytes.as_ref() == Some(&word))
                };
                let same = all.into_iter().filter(same).collect();
                if what % 3 == 0 {
                    (Update::Remove(word), Made::Nothing, same)
                } else {
                    (Update::Insert(word.clone()), put(path, Some(&word), 0, 0), same)
                }
            }
            Kind::Lww => {
                let made = put(path, Some(&word), replica.clock + 1, 0);
                (Update::Set(word), made, all)
            }
            Kind::Mv => {
                let (seen, undoes) = self.saw_siblings(at, c, path, &all);
                let value = (what % 5 > 0).then_some(word);
                let made = value.as_ref().map(|value| put(path, Some(value), 0, 0));
                (Update::Write { value, seen }, made.unwrap_or(Made::Nothing), undoes)
            }
            Kind::GCounter | Kind::PnCounter | Kind::GSet => {
                let own = |act: &usize| self.history.acts[*act].by == replica.actor;
                let own: View = all.into_iter().filter(own).collect();
                let puts = own.iter().filter_map(|act| self.history.acts[*act].put());
                let before: i128 = puts.map(|(_, thing)| thing.added).sum();
                let down = kind == Kind::PnCounter && what % 2 == 0;
                let amount = (i64::from(b % 5) + 1) * if down { -1 } else { 1 };
                let made = put(path, None, 0, before + i128::from(amount));
                let update = if kind == Kind::GCounter {
                    Update::Increment(amount.unsigned_abs())
                } else {
                    Update::Add(amount)
                };
                (update, made, own)
            }
            Kind::OrMap | Kind::Bounded | Kind::Register => unreachable!("no leaf"),
        };
        (within(path, update), made, undoes)
    }

    /// What some replica's reader saw of a register, and which acts that is.
    fn saw_siblings(
        &self,
        at: usize,
        pick: u8,
        path: &[Named],
        here: &View,
    ) -> (DottedVersion, View) {
        let reader = match pick % 4 {
            0 => return (DottedVersion::new(), View::new()),
            1 => &self.replicas[(at + 1) % REPLICAS],
            _ => &self.replicas[at],
        };
        let seen = seen_at(reader.value.read(), path);
        let acts = self.history.standing_at(&reader.saw, path);
        // In a map, what is not known here to be of this field is left alone.
        let undoes = if path.is_empty() { acts } else { &acts & here };
        (seen, undoes)
    }
}

fn put(path: &[Named], bytes: Option<&Bytes>, stamp: u64, added: i128) -> Made {
    let (bytes, stamp) = (bytes.cloned(), Hlc::from_bits(stamp));
    Made::Put(path.to_vec(), Thing { bytes, stamp, added })
}

fn seen_at(reading: Reading, path: &[Named]) -> DottedVersion {
    match (reading, path) {
        (Reading::Siblings { seen, .. }, []) => seen,
        (Reading::Fields(fields), [(name, kind), rest @ ..]) => fields
            .into_iter()
            .find(|field| field.name == (*name).into() && field.kind == *kind)
            .map_or_else(DottedVersion::new, |field| seen_at(field.reading, rest)),
        _ => DottedVersion::new(),
    }
}

fn within(path: &[Named], update: Update) -> Update {
    path.iter().rev().fold(update, |update, (name, kind)| Update::Field {
        name: (*name).into(),
        kind: *kind,
        update: Box::new(update),
    })
}

/// One of few, so that replicas often speak of the same.
fn word(pick: u8) -> Bytes {
    [b'a' + pick % 3].as_slice().into()
}

/// Fields of every kind at every depth, some with one name and two kinds.
fn paths() -> Vec<Path> {
    let m = ("m", Kind::OrMap);
    vec![
        vec![("n", Kind::GCounter)],
        vec![("n", Kind::PnCounter)],
        vec![("s", Kind::OrSet)],
        vec![("v", Kind::Mv)],
        vec![("v", Kind::Lww)],
        vec![m, ("n", Kind::PnCounter)],
        vec![m, ("s", Kind::OrSet)],
        vec![m, m, ("v", Kind::Lww)],
        vec![m, m, m, ("v", Kind::Mv)],
    ]
}
