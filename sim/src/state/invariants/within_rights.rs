//! ST-11: whatever clients were told they may use of a bounded counter is covered by what was
//! ever asked to be minted, at every moment, over all replicas and partitions.

use std::collections::BTreeSet;

use super::super::history::Wish;
use super::super::oracle::Number;
use super::super::oracle::rights::{Account, Happening};
use super::super::world::World;
use super::{Found, Statement};

pub(super) const STATEMENT: Statement = Statement {
    id: "ST-11",
    statement: "no more is used of a bounded counter than was minted, at any moment",
};

#[derive(Debug)]
pub(super) struct WithinRights {
    accounts: Vec<Account>,
    booked: BTreeSet<Number>,
}

impl WithinRights {
    pub(super) fn new(keys: usize) -> Self {
        Self { accounts: vec![Account::default(); keys], booked: BTreeSet::new() }
    }

    /// Something is asked: from now on it may be done.
    pub(super) fn asked(&mut self, world: &World, number: Number) -> Found {
        match world.history.get(number).wish {
            Wish::Mint(amount) => self.book(world, number, Happening::Minted(amount)),
            Wish::Release(amount) => {
                self.book(world, number, Happening::Returned(amount))
            }
            Wish::Read | Wish::Change(_) | Wish::Spend(_) | Wish::Transfer(_) => None,
        }
    }

    /// A client is told that something is done.
    pub(super) fn written(&mut self, world: &World, number: Number) -> Found {
        match world.history.get(number).wish {
            Wish::Spend(amount) => self.book(world, number, Happening::Used(amount)),
            Wish::Read
            | Wish::Change(_)
            | Wish::Mint(_)
            | Wish::Release(_)
            | Wish::Transfer(_) => None,
        }
    }

    fn book(&mut self, world: &World, number: Number, happening: Happening) -> Found {
        if !self.booked.insert(number) {
            return None;
        }
        let key = world.history.get(number).key;
        let overdraft = self.accounts[key].book(happening).err()?;
        let name = &world.keys[key].name;
        Some((STATEMENT, format!("operation {number} overdraws {name} by {overdraft}")))
    }
}
