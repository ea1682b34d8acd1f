//! What must never be, one a file, and what must be in the end.
//!
//! | id | statement | why | file |
//! |---|---|---|---|
//! | OWN-1 | a VM has a process on at most one host | two writers on one disk destroy it (F4) | `one_host.rs` |
//! | OWN-2 | what an agent holds of a VM never falls in epoch or generation | a late message must not undo a later wish (F4) | `no_way_back.rs` |
//! | OWN-3 | a record's epoch and generation never fall, nor does the epoch of a name | an agent would refuse the rightful owner | `records_rise.rs` |
//! | PL-1 | the guests of a host never need more than it has | capacity was sold twice (F21) | `fits.rs` |
//! | PL-2 | a region's ledger agrees with itself and over-commits no host | the next answer would be wrong | `sound_ledger.rs` |
//! | PL-3 | two VMs that must be apart never hold capacity of one host | a rule that two decisions at once break is no rule (F30) | `apart.rs` |
//! | TOK-1 | a token leads to one VM, once | a retry must not create a second one (F18) | `one_token.rs` |
//! | ACK-1 | a placement that a client was told of stays until its deletion is wished | told is promised | `told_is_kept.rs` |
//! | LIV-1 | a lease is taken away only after it stood still for its whole life | its guests may still run (F4) | `lives.rs` |
//! | LIV-2 | while every region lives, none is failed over | a false failover loses memory and disks for nothing (F6, F19) | `lives.rs` |
//! | LIV-3 | the protected VMs of a region that died run elsewhere within 30 s | the promise (C18) | `lives.rs` |
//! | END-1 | after faults stop: what is wanted runs, once, and nothing is left over | lost capacity, orphans | `at_rest.rs` |
//!
//! Each keeps its own memory of what it saw and reads nothing that the parts under test keep
//! about themselves where it can see the thing itself.

mod apart;
mod at_rest;
mod fits;
pub(crate) mod lives;
mod no_way_back;
mod one_host;
mod one_token;
mod records_rise;
mod sound_ledger;
mod told_is_kept;

use crate::message::Node;
use crate::world::World;

/// An invariant's line in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its id.
    pub id: &'static str,
    /// What must hold.
    pub statement: &'static str,
}

/// Every invariant.
pub const TABLE: &[Statement] = &[
    one_host::STATEMENT,
    no_way_back::STATEMENT,
    records_rise::STATEMENT,
    fits::STATEMENT,
    sound_ledger::STATEMENT,
    apart::STATEMENT,
    one_token::STATEMENT,
    told_is_kept::STATEMENT,
    lives::LEASE,
    lives::FALSE,
    lives::MISSED,
    at_rest::STATEMENT,
];

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub id: &'static str,
    /// What must hold.
    pub statement: &'static str,
    /// What was seen instead.
    pub found: String,
    /// When, in virtual milliseconds.
    pub at_ms: u64,
}

impl Violation {
    /// The world itself could not go on, for example because stored rows do not load.
    pub(crate) const fn broken_world(found: String, at_ms: u64) -> Self {
        let statement = "what a daemon stored can be loaded again";
        Self { id: "LOAD-1", statement, found, at_ms }
    }
}

/// All of them with what they remember.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    no_way_back: no_way_back::NoWayBack,
    history: records_rise::RecordsRise,
    one_token: one_token::OneToken,
    told: told_is_kept::ToldIsKept,
    lives: lives::Lives,
}

impl Invariants {
    /// Looks at the world after an event that touched one node.
    pub(crate) fn check(
        &mut self,
        world: &World,
        touched: Node,
    ) -> Result<(), Violation> {
        let found = match touched {
            Node::Agent(index) => first([
                (one_host::STATEMENT, one_host::check(world, index)),
                (no_way_back::STATEMENT, self.no_way_back.check(world, index)),
                (fits::STATEMENT, fits::check(world, index)),
            ]),
            Node::Engine => first([
                (records_rise::STATEMENT, self.history.check(world)),
                (one_token::STATEMENT, self.one_token.check(world)),
                (told_is_kept::STATEMENT, self.told.check(world)),
                (lives::LEASE, self.lives.leases(world)),
                (lives::FALSE, lives::false_failover(world)),
                (lives::MISSED, lives::missed(world, &self.lives)),
            ]),
            Node::Region(index) => first([
                (sound_ledger::STATEMENT, sound_ledger::check(world, index)),
                (apart::STATEMENT, apart::check(world, index)),
                (told_is_kept::STATEMENT, self.told.check(world)),
            ]),
            Node::Coordinator(_) => {
                first([(told_is_kept::STATEMENT, self.told.check(world))])
            }
            Node::Client(_) => None,
        };
        found.map_or(Ok(()), |(what, found)| Err(violation(what, found, world.now)))
    }

    /// What keeps the world from being at rest.
    pub(crate) fn restless(&self, world: &World) -> Option<Violation> {
        let found = at_rest::check(world)?;
        Some(violation(at_rest::STATEMENT, found, world.now))
    }
}

type Found = Option<(Statement, String)>;

fn first<const N: usize>(checks: [(Statement, Option<String>); N]) -> Found {
    checks.into_iter().find_map(|(what, found)| Some((what, found?)))
}

fn violation(what: Statement, found: String, at_ms: u64) -> Violation {
    Violation { id: what.id, statement: what.statement, found, at_ms }
}
