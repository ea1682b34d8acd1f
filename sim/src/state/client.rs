//! A client: it asks one thing after the other, in sessions or not, and asks again under the same
//! operation id when it does not know what came of it.

use std::collections::BTreeMap;

use dwcp_state::{Actor, DottedVersion, Kind, Level, MintId, Token, Update};

use super::history::{Reach, Wish};
use super::keys::{FIELDS, KeySpec, bytes_of, field_name};
use super::oracle::{Change, Number, in_field};
use crate::rng::Rng;

/// How often a client asks for one thing before it gives up.
pub(super) const ATTEMPTS_MAX: usize = 5;
/// Elements of a set that is added to and removed from: few, so that they come and go.
const ELEMENTS: u64 = 4;

/// What a client has read of a key with siblings, and may write over.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) seen: DottedVersion,
    pub(super) values: Vec<u64>,
    pub(super) reach: Reach,
}

/// Rights that a client has used and may give back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) key: usize,
    pub(super) node: usize,
    pub(super) by: Actor,
    pub(super) amount: u64,
}

/// What it waits for.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) number: Number,
    /// What it asks for; none for a read.
    pub(super) update: Option<Update>,
    /// Where it asks.
    pub(super) node: usize,
    /// Whether an earlier attempt may have been done.
    pub(super) in_doubt: bool,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) region: usize,
    /// Counts its sessions.
    pub(super) session: u64,
    /// What its session has seen; none outside of one.
    pub(super) token: Option<Token>,
    pub(super) waiting: Option<Waiting>,
    /// Counts its timers, so that old ones are recognized.
    pub(super) timer: u64,
    pub(super) contexts: BTreeMap<usize, Context>,
    pub(super) spent: Vec<Spent>,
}

impl Client {
    pub(super) const fn new(region: usize) -> Self {
        Self {
            region,
            session: 0,
            token: None,
            waiting: None,
            timer: 0,
            contexts: BTreeMap::new(),
            spent: Vec::new(),
        }
    }

    /// What it wants of a key; `number` is that of the operation, and so unique.
    pub(super) fn wish(
        &self,
        rng: &mut Rng,
        (place, key): (usize, &KeySpec),
        number: Number,
    ) -> Wish {
        if rng.chance(4_500) {
            return Wish::Read;
        }
        let unique = u64::from(number);
        let removes = rng.chance(4_000);
        let clears = rng.chance(800);
        let element = rng.between(0, ELEMENTS - 1);
        let change = match key.kind {
            Kind::GCounter => Change::Add(amount(rng)),
            Kind::PnCounter if removes => Change::Add(-amount(rng)),
            Kind::PnCounter => Change::Add(amount(rng)),
            Kind::GSet => Change::Insert(unique),
            Kind::OrSet if clears => Change::Clear,
            Kind::OrSet if removes => Change::Remove(element),
            Kind::OrSet => Change::Insert(element),
            Kind::OrMap => of_map(rng, element, (removes, clears)),
            Kind::Lww | Kind::Register if clears => Change::Clear,
            Kind::Lww | Kind::Register => Change::Write(unique),
            Kind::Mv if !self.contexts.contains_key(&place) => return Wish::Read,
            Kind::Mv if clears => Change::Clear,
            Kind::Mv => Change::Write(unique),
            Kind::Bounded => return self.of_rights(rng, place),
        };
        Wish::Change(change)
    }

    fn of_rights(&self, rng: &mut Rng, key: usize) -> Wish {
        let amount = rng.between(1, 9);
        match rng.between(0, 9) {
            0 => Wish::Mint(amount * 2),
            1 | 2 => Wish::Transfer(amount),
            3 | 4 => match self.spent.iter().find(|spent| spent.key == key) {
                Some(spent) => Wish::Release(spent.amount),
                None => Wish::Spend(amount),
            },
            _ => Wish::Spend(amount),
        }
    }

    /// The level of an operation: the floor or something above it.
    pub(super) fn level(rng: &mut Rng, key: &KeySpec, wish: &Wish) -> Level {
        let all = [Level::Eventual, Level::Local, Level::Quorum];
        let weakest = if *wish == Wish::Read && key.kind != Kind::Register {
            Level::Eventual
        } else {
            key.floor
        };
        let allowed: Vec<Level> =
            all.into_iter().filter(|level| *level >= weakest).collect();
        allowed[rng.index(allowed.len())]
    }

    /// The update that says what is wanted. `others` are actors who may be given rights, the
    /// first of them the one that is asked.
    pub(super) fn update(
        &mut self,
        wish: &Wish,
        (place, key): (usize, &KeySpec),
        number: Number,
        others: &[Actor],
    ) -> Option<Update> {
        let own = others.first().copied()?;
        let other = others.last().copied()?;
        Some(match wish {
            Wish::Read => return None,
            Wish::Change(change) => self.changes(*change, (place, key))?,
            Wish::Mint(amount) => {
                let id = MintId::new(u128::from(number));
                Update::Mint { id, to: own, amount: *amount }
            }
            Wish::Spend(amount) => Update::Spend(*amount),
            Wish::Transfer(amount) => Update::Transfer { to: other, amount: *amount },
            Wish::Release(_) => {
                let index = self.spent.iter().position(|spent| spent.key == place)?;
                let spent = self.spent.remove(index);
                Update::Release { by: spent.by, amount: spent.amount }
            }
        })
    }

    fn changes(&self, change: Change, (place, key): (usize, &KeySpec)) -> Option<Update> {
        let seen = || self.contexts.get(&place).map(|context| context.seen.clone());
        Some(match (change, key.kind) {
            (Change::Add(amount), Kind::GCounter) => {
                Update::Increment(amount.unsigned_abs())
            }
            (Change::Add(amount), _) => Update::Add(amount),
            (Change::Insert(element), Kind::OrMap) => {
                in_map(key, element, Update::Insert)
            }
            (Change::Remove(element), Kind::OrMap) => {
                in_map(key, element, Update::Remove)
            }
            (Change::RemoveField(field), _) => Update::RemoveField(field_name(field)),
            (Change::Insert(element), _) => Update::Insert(bytes_of(key, element)),
            (Change::Remove(element), _) => Update::Remove(bytes_of(key, element)),
            (Change::Write(value), Kind::Mv) => {
                Update::Write { value: Some(bytes_of(key, value)), seen: seen()? }
            }
            (Change::Clear, Kind::Mv) => Update::Write { value: None, seen: seen()? },
            (Change::Write(value), _) => Update::Set(bytes_of(key, value)),
            (Change::Clear, _) => Update::Delete,
        })
    }
}

fn amount(rng: &mut Rng) -> i64 {
    i64::try_from(rng.between(1, 40)).unwrap_or(1)
}

fn of_map(rng: &mut Rng, element: u64, (removes, clears): (bool, bool)) -> Change {
    let field = u32::try_from(rng.between(0, u64::from(FIELDS) - 1)).unwrap_or(0);
    let element = in_field(field, u32::try_from(element).unwrap_or(0));
    match (removes, clears) {
        (_, true) => Change::Clear,
        (true, _) if rng.chance(4_000) => Change::RemoveField(field),
        (true, _) => Change::Remove(element),
        (false, _) => Change::Insert(element),
    }
}

fn in_map(
    key: &KeySpec,
    element: u64,
    update: fn(dwcp_state::Bytes) -> Update,
) -> Update {
    let field = u32::try_from(element >> 32).unwrap_or(0);
    let bytes = bytes_of(key, element & u64::from(u32::MAX));
    Update::Field {
        name: field_name(field),
        kind: Kind::OrSet,
        update: Box::new(update(bytes)),
    }
}
