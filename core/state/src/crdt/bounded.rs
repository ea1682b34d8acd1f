//! A counter of rights that cannot be overspent, also in a partition (F38).
//!
//! The strong plane mints rights for actors. Whoever has rights uses them without asking anyone,
//! and gives them to others by a transfer that only the owner decides. Four tables of numbers that
//! only grow: minted by operation, moved from and to, used, given back.
//!
//! Invariant: what is in use is at most what was minted, at every moment, over all replicas. An
//! actor sees all of its own outgoing transfers and uses, and perhaps not all that came in, so it
//! knows at most the rights that it has. This rests on one life of a replica at a time deciding
//! for that replica's lives: rights of an earlier life are inherited, and its uses given back,
//! only by a later one, and only after it holds all that the earlier one had made durable.

use std::collections::BTreeMap;
use std::fmt;

use super::error::UpdateError;
use super::kind::Kind;
use super::limit::ACTORS_MAX;
use super::reading::BoundedReading;
use super::update::Update;
use crate::clock::{Actor, wire};
use crate::codec::{
    DecodeError, Sink, Source, ascending, positive, put_len, put_number, put_wide,
};

/// An operation of the strong plane that minted rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MintId(u128);

impl MintId {
    /// From the operation's number.
    #[must_use]
    pub const fn new(id: u128) -> Self {
        Self(id)
    }

    /// The operation's number.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for MintId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Rights and their use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounded {
    minted: BTreeMap<MintId, (Actor, u64)>,
    moved: BTreeMap<(Actor, Actor), u64>,
    used: BTreeMap<Actor, u64>,
    released: BTreeMap<Actor, u64>,
    /// Follows from the four tables: what each actor can still use. Kept along, so that the
    /// common update, a spend, does not add up the others.
    rights: BTreeMap<Actor, i128>,
}

impl Bounded {
    /// The delta of rights that the strong plane made. The same operation counts once.
    ///
    /// # Errors
    ///
    /// When the operation minted something else before, or the sum would not fit.
    pub fn mint(&self, id: MintId, to: Actor, amount: u64) -> Result<Self, UpdateError> {
        let mut delta = Self::default();
        match self.minted.get(&id) {
            Some(known) if *known == (to, amount) => return Ok(delta),
            Some(_) => return Err(UpdateError::MintDiffers { id }),
            None => {}
        }
        if self.sum_minted() + u128::from(amount) > u128::from(u64::MAX) {
            return Err(UpdateError::Overflow { kind: Kind::Bounded });
        }
        check_room(self.minted.len(), "mints")?;
        delta.raise_minted(id, (to, amount));
        Ok(delta)
    }

    /// The delta that uses rights.
    ///
    /// # Errors
    ///
    /// When the actor has fewer.
    pub fn spend(&self, actor: Actor, amount: u64) -> Result<Self, UpdateError> {
        self.check_rights(actor, amount)?;
        let used = sum(self.used_by(actor), amount)?;
        self.check_actor(&self.used, actor)?;
        let mut delta = Self::default();
        if amount > 0 {
            delta.raise_used(actor, used);
        }
        Ok(delta)
    }

    /// The delta that gives back what `by` has used: its rights to use again.
    ///
    /// # Errors
    ///
    /// When `actor` is neither `by` nor a later life of it, or fewer are in use.
    pub fn release(
        &self,
        actor: Actor,
        by: Actor,
        amount: u64,
    ) -> Result<Self, UpdateError> {
        check_owner(actor, by)?;
        let released = self.released.get(&by).copied().unwrap_or(0);
        let used = self.used_by(by).saturating_sub(released);
        if amount > used {
            return Err(UpdateError::NotUsed { by, used, amount });
        }
        self.check_actor(&self.released, by)?;
        let mut delta = Self::default();
        if amount > 0 {
            delta.raise_released(by, released + amount);
        }
        Ok(delta)
    }

    /// The delta that gives rights of `actor` to another.
    ///
    /// # Errors
    ///
    /// When it has fewer.
    pub fn transfer(
        &self,
        actor: Actor,
        to: Actor,
        amount: u64,
    ) -> Result<Self, UpdateError> {
        self.check_rights(actor, amount)?;
        if actor == to {
            return Ok(Self::default());
        }
        self.give(actor, to, amount)
    }

    /// The delta by which a later life takes over what an earlier one still had.
    ///
    /// # Errors
    ///
    /// When `actor` is no later life of `from`.
    pub fn inherit(&self, actor: Actor, from: Actor) -> Result<Self, UpdateError> {
        if !actor.succeeds(from) {
            return Err(UpdateError::NotTheOwner { actor, owner: from });
        }
        self.give(from, actor, self.rights(from))
    }

    pub(super) fn update(&self, update: &Update, by: Actor) -> Result<Self, UpdateError> {
        match (Kind::Bounded, update) {
            (_, Update::Mint { id, to, amount }) => self.mint(*id, *to, *amount),
            (_, Update::Spend(amount)) => self.spend(by, *amount),
            (_, Update::Release { by: user, amount }) => self.release(by, *user, *amount),
            (_, Update::Transfer { to, amount }) => self.transfer(by, *to, *amount),
            (_, Update::Inherit { from }) => self.inherit(by, *from),
            (kind, other) => Err(UpdateError::unfit(kind, other)),
        }
    }

    fn give(&self, from: Actor, to: Actor, amount: u64) -> Result<Self, UpdateError> {
        let mut delta = Self::default();
        if amount == 0 {
            return Ok(delta);
        }
        let known = self.moved.get(&(from, to)).copied();
        if known.is_none() {
            check_room(self.moved.len(), "transfers")?;
        }
        delta.raise_moved((from, to), sum(known.unwrap_or(0), amount)?);
        Ok(delta)
    }

    /// What an actor may use, as far as is known here; exact for an actor that lives here.
    #[must_use]
    pub fn rights(&self, actor: Actor) -> u64 {
        let rights = self.rights.get(&actor).copied().unwrap_or(0);
        // Negative while the rights that were passed on are not known here yet.
        u64::try_from(rights.max(0)).unwrap_or(u64::MAX)
    }

    /// Earlier lives of a replica that still have rights, for its present one to inherit.
    pub fn heritage(&self, actor: Actor) -> impl Iterator<Item = Actor> {
        let lives = Actor::new(actor.replica, 0)..actor;
        let lives = self.rights.range(lives).filter(|(_, rights)| **rights > 0);
        lives.map(|(earlier, _)| *earlier)
    }

    /// What there is and who may use it, as far as is known here.
    #[must_use]
    pub fn read(&self) -> BoundedReading {
        let fit = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        let total =
            |table: &BTreeMap<Actor, u64>| table.values().map(|n| u128::from(*n)).sum();
        let (used, released): (u128, u128) = (total(&self.used), total(&self.released));
        let positive = self.rights.iter().filter(|(_, rights)| **rights > 0);
        BoundedReading {
            minted: fit(self.sum_minted()),
            used: fit(used.saturating_sub(released)),
            rights: positive.map(|(actor, _)| (*actor, self.rights(*actor))).collect(),
        }
    }

    /// Takes the greater of each number. Whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (id, mint) in &other.minted {
            changed |= self.raise_minted(*id, *mint);
        }
        for (way, amount) in &other.moved {
            changed |= self.raise_moved(*way, *amount);
        }
        for (actor, amount) in &other.used {
            changed |= self.raise_used(*actor, *amount);
        }
        for (actor, amount) in &other.released {
            changed |= self.raise_released(*actor, *amount);
        }
        changed
    }

    fn raise_minted(&mut self, id: MintId, mint: (Actor, u64)) -> bool {
        let known = self.minted.get(&id).copied();
        // Two of one operation are a mistake of whoever minted; some order must do.
        if known.is_some_and(|known| known >= mint) {
            return false;
        }
        if let Some((to, amount)) = known {
            self.earn(to, -i128::from(amount));
        }
        self.minted.insert(id, mint);
        self.earn(mint.0, i128::from(mint.1));
        true
    }

    fn raise_moved(&mut self, way: (Actor, Actor), amount: u64) -> bool {
        let rise = raise(&mut self.moved, way, amount);
        if rise > 0 {
            self.earn(way.0, -rise);
            self.earn(way.1, rise);
        }
        rise > 0
    }

    fn raise_used(&mut self, actor: Actor, amount: u64) -> bool {
        let rise = raise(&mut self.used, actor, amount);
        if rise > 0 {
            self.earn(actor, -rise);
        }
        rise > 0
    }

    fn raise_released(&mut self, actor: Actor, amount: u64) -> bool {
        let rise = raise(&mut self.released, actor, amount);
        if rise > 0 {
            self.earn(actor, rise);
        }
        rise > 0
    }

    fn earn(&mut self, actor: Actor, rise: i128) {
        let rights = self.rights.entry(actor).or_insert(0);
        *rights += rise;
        // Left out where it is zero: the tables alone decide what is equal.
        if *rights == 0 {
            self.rights.remove(&actor);
        }
    }

    fn used_by(&self, actor: Actor) -> u64 {
        self.used.get(&actor).copied().unwrap_or(0)
    }

    fn sum_minted(&self) -> u128 {
        self.minted.values().map(|(_, amount)| u128::from(*amount)).sum()
    }

    fn check_rights(&self, actor: Actor, wanted: u64) -> Result<(), UpdateError> {
        let have = self.rights(actor);
        if wanted <= have {
            return Ok(());
        }
        let others = self.rights.keys().filter(|other| **other != actor);
        let elsewhere =
            others.fold(0_u64, |sum, other| sum.saturating_add(self.rights(*other)));
        Err(UpdateError::RightsExhausted { actor, have, wanted, elsewhere })
    }

    fn check_actor(
        &self,
        table: &BTreeMap<Actor, u64>,
        actor: Actor,
    ) -> Result<(), UpdateError> {
        if table.contains_key(&actor) {
            Ok(())
        } else {
            check_room(table.len(), "actors")
        }
    }

    pub(super) fn is_bottom(&self) -> bool {
        let tables = [self.minted.len(), self.moved.len(), self.used.len()];
        self.released.is_empty() && tables == [0; 3]
    }

    pub(super) fn encode(&self, out: &mut impl Sink) {
        put_len(out, self.minted.len());
        for (id, (to, amount)) in &self.minted {
            put_wide(out, id.0);
            wire::put_actor(out, *to);
            put_number(out, *amount);
        }
        put_len(out, self.moved.len());
        for ((from, to), amount) in &self.moved {
            wire::put_actor(out, *from);
            wire::put_actor(out, *to);
            put_number(out, *amount);
        }
        for table in [&self.used, &self.released] {
            put_len(out, table.len());
            for (actor, amount) in table {
                wire::put_actor(out, *actor);
                put_number(out, *amount);
            }
        }
    }

    pub(super) fn decode(from: &mut Source<'_>) -> Result<Self, DecodeError> {
        let mut counter = Self::default();
        let mut last = None;
        for _ in 0..from.len(4)? {
            let id = ascending(MintId(from.wide()?), &mut last, "a mint")?;
            let mint = (wire::actor(from)?, from.number()?);
            counter.raise_minted(id, mint);
        }
        let mut last = None;
        for _ in 0..from.len(5)? {
            let way = (wire::actor(from)?, wire::actor(from)?);
            let way = ascending(way, &mut last, "a transfer")?;
            counter.raise_moved(way, positive(from.number()?, "a transfer")?);
        }
        for raise in [Self::raise_used, Self::raise_released] {
            let mut last = None;
            for _ in 0..from.len(3)? {
                let actor = ascending(wire::actor(from)?, &mut last, "an actor")?;
                raise(&mut counter, actor, positive(from.number()?, "an amount")?);
            }
        }
        Ok(counter)
    }
}

/// Raises an entry; by how much.
fn raise<K: Ord>(table: &mut BTreeMap<K, u64>, key: K, amount: u64) -> i128 {
    let known = table.entry(key).or_insert(0);
    let rise = amount.saturating_sub(*known);
    *known += rise;
    i128::from(rise)
}

fn sum(known: u64, amount: u64) -> Result<u64, UpdateError> {
    known.checked_add(amount).ok_or(UpdateError::Overflow { kind: Kind::Bounded })
}

fn check_room(len: usize, what: &'static str) -> Result<(), UpdateError> {
    if len >= ACTORS_MAX {
        let (kind, max) = (Kind::Bounded, ACTORS_MAX);
        return Err(UpdateError::TooMany { kind, what, max });
    }
    Ok(())
}

/// One decides for itself and for the earlier lives of its replica.
fn check_owner(actor: Actor, owner: Actor) -> Result<(), UpdateError> {
    if actor == owner || actor.succeeds(owner) {
        return Ok(());
    }
    Err(UpdateError::NotTheOwner { actor, owner })
}
