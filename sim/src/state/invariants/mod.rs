//! What must never be of the state plane, one a file, and what must be in the end.
//!
//! | id | statement | why | file |
//! |---|---|---|---|
//! | ST-1 | a read shows nothing that nobody wrote, and nothing that is surely gone | a deleted thing that comes back is worse than none (F49, F50) | `reads.rs` |
//! | ST-2 | what a replica acknowledged, it shows from then on | it was durable before it was acknowledged | `kept_here.rs` |
//! | ST-3 | a session sees what it wrote, and never less than it saw | sessions move between regions | `session.rs` |
//! | ST-4 | a read at level local shows what its region acknowledged at that level | a region's majority holds it (F51) | `regional.rs` |
//! | ST-5 | a read at level quorum shows what was acknowledged or shown at that level before it began | majorities of regions meet (F37) | `regular.rs` |
//! | ST-6 | everything older than the staleness that an answer admits is in it | staleness is a number, not a hope (F43) | `fresh.rs` |
//! | ST-7 | the history of a register has one order that agrees with real time | F36, F37 | `linear.rs` |
//! | ST-8 | what is acknowledged is durable where its level says | told is promised (F47, F51) | `durable.rs` |
//! | ST-9 | what is shown is durable where its level says | a crash must not undo what was seen | `shown.rs` |
//! | ST-10 | asking again under one operation id does nothing twice | retries are normal | `once.rs` |
//! | ST-11 | no more is used of a bounded counter than was minted, at any moment | money (F38) | `within_rights.rs` |
//! | ST-12 | no frame to a region outside the fence has a byte of a fenced key | law (F45) | `fenced.rs` |
//! | ST-13 | nothing that an evicted replica wrote is received after its eviction is known | F49, F50 | `unheard.rs` |
//! | ST-14 | no stamp is far ahead of the clock of its replica | one wrong clock must not win everywhere (F42) | `near_clock.rs` |
//! | ST-15 | what lives for a time ends | expired is gone | `mortal.rs` |
//! | ST-16 | what is stored and sent can be read again | a restart finds everything | `readable.rs` |
//! | ST-17 | after faults stop, all replicas of a key show the same | convergence (F44) | `alike.rs` |
//! | ST-18 | after faults stop, a key is the join of all that was acknowledged, and of some of what was not known | no acknowledged write is lost (F44) | `kept.rs` |
//! | ST-19 | after faults stop, everybody is a member, everything is exchanged, and what is deleted is forgotten | lost capacity (F50) | `at_rest.rs` |
//! | ST-20 | a tick moves the deadline of a replica on | a process that spins | `idle.rs` |
//!
//! Each keeps its own memory of what it saw, and goes by what clients, messages and disks show.

mod alike;
mod at_rest;
mod durable;
mod fenced;
mod fresh;
mod idle;
mod kept;
mod kept_here;
mod linear;
mod mortal;
mod near_clock;
mod once;
mod readable;
mod reads;
mod regional;
mod regular;
mod session;
mod shown;
mod unheard;
mod within_rights;

use std::collections::BTreeSet;

use dwcp_state::{Answer, Notice, Position};

use super::world::{Seen, World};
use crate::invariants::{Statement, Violation};

/// Every invariant of the state plane.
pub const TABLE: &[Statement] = &[
    reads::STATEMENT,
    kept_here::STATEMENT,
    session::STATEMENT,
    regional::STATEMENT,
    regular::STATEMENT,
    fresh::STATEMENT,
    linear::STATEMENT,
    durable::STATEMENT,
    shown::STATEMENT,
    once::STATEMENT,
    within_rights::STATEMENT,
    fenced::STATEMENT,
    unheard::STATEMENT,
    near_clock::STATEMENT,
    mortal::STATEMENT,
    readable::STATEMENT,
    alike::STATEMENT,
    kept::STATEMENT,
    at_rest::STATEMENT,
    idle::STATEMENT,
];

/// What was found, and which invariant it breaks.
type Found = Option<(Statement, String)>;

/// All of them with what they remember.
#[derive(Debug)]
pub(super) struct Invariants {
    session: session::Session,
    regular: regular::Regular,
    disks: durable::Disks,
    rights: within_rights::WithinRights,
    unheard: unheard::Unheard,
    /// What evicted replicas reported that nobody else had: by node.
    unsent: BTreeSet<(usize, Position)>,
}

impl Invariants {
    pub(super) fn new(world: &World) -> Self {
        Self {
            session: session::Session::default(),
            regular: regular::Regular::default(),
            disks: durable::Disks::default(),
            rights: within_rights::WithinRights::new(world.keys.len()),
            unheard: unheard::Unheard::default(),
            unsent: BTreeSet::new(),
        }
    }

    /// Looks at what happened in a step.
    pub(super) fn check(&mut self, world: &mut World) -> Result<(), Violation> {
        for seen in std::mem::take(&mut world.seen) {
            if let Some((what, found)) = self.look(world, seen) {
                return Err(violation(what, found, world));
            }
        }
        Ok(())
    }

    fn look(&mut self, world: &mut World, seen: Seen) -> Found {
        match seen {
            Seen::Touched { node } => self.unheard.check(world, node),
            Seen::Asked { number } => {
                first([self.rights.asked(world, number), once::check(world, number)])
            }
            Seen::Leaked { from, to, body } => fenced::found(from, to, &body),
            Seen::Garbled(text) => readable::found(text),
            Seen::Spins { node } => idle::found(node),
            Seen::Unloadable { node, reason } => {
                readable::found(format!("{node} cannot load what it stored: {reason}"))
            }
            Seen::Noticed { node, notice } => {
                if let Notice::Unsent(unsent) = notice {
                    let positions = unsent.iter().map(|unsent| (node, unsent.position));
                    self.unsent.extend(positions);
                }
                None
            }
            Seen::Answered { number, node, outcome, heard } => match outcome {
                Ok(Answer::Written(written)) => first([
                    near_clock::check(world, node, &written),
                    self.rights.written(world, number),
                    self.disks.written(world, (node, number), &written),
                ]),
                Ok(Answer::Read(read)) => {
                    let shown =
                        shown::check(world, &mut self.disks, (node, number), &read);
                    shown.or_else(|| heard.then(|| self.read(world, number)).flatten())
                }
                Ok(Answer::Listed(_)) | Err(_) => None,
            },
        }
    }

    fn read(&mut self, world: &World, number: super::oracle::Number) -> Found {
        let case = reads::Case::new(world, number)?;
        first([
            reads::check(&case),
            mortal::check(&case),
            self.session.check(&case),
            self.regular.check(&case),
        ])
    }

    /// What keeps the world from being at rest.
    pub(super) fn restless(&self, world: &mut World) -> Option<Violation> {
        let found = first([at_rest::check(world), alike::check(world)]);
        found.map(|(what, found)| violation(what, found, world))
    }

    /// Looks at the world once it is at rest.
    pub(super) fn at_rest(&self, world: &mut World) -> Result<(), Violation> {
        let found = first([kept::check(world, &self.unsent), linear::check(world)]);
        found.map_or(Ok(()), |(what, found)| Err(violation(what, found, world)))
    }
}

fn first<const N: usize>(found: [Found; N]) -> Found {
    found.into_iter().flatten().next()
}

fn violation(what: Statement, found: String, world: &World) -> Violation {
    let at_ms = world.now.us / 1_000;
    Violation { id: what.id, statement: what.statement, found, at_ms }
}
