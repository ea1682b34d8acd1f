//! What clients asked and were told, in the order of the world, with what the world knows of
//! each: where it was taken, what that place had then, what could have reached it.
//!
//! Two bounds of "this update had seen that one" are kept. *Surely* goes by what replicas say of
//! themselves, *possibly* by which messages arrived where, whatever they said.

use std::rc::Rc;

use dwcp_state::{Frontier, Level, OpId, Position, Token};

use super::keys::{Seen, replica_id};
use super::oracle::{Change, Number, Sight};

/// When something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    /// Counts everything that happens.
    pub(super) step: u64,
    /// The time of the world.
    pub(super) us: u64,
}

/// For every node, how many of its updates could be known.
pub(super) type Reach = Rc<[u32]>;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To know the value.
    Read,
    /// To change it.
    Change(Change),
    /// To have new rights made.
    Mint(u64),
    /// To use rights.
    Spend(u64),
    /// To give used rights back.
    Release(u64),
    /// To move rights to another replica.
    Transfer(u64),
}

/// One time that an operation was handed to a replica.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) node: usize,
    pub(super) at: Moment,
    /// What the replica said that it had.
    pub(super) had: Frontier,
    /// Its place among the updates of the node.
    pub(super) index: u32,
    /// Everything that could have reached the node before the update took effect; none while
    /// that is open.
    pub(super) until: Option<Reach>,
    /// Where it is in the log of the replica, when it took effect at once.
    pub(super) position: Option<Position>,
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It has not.
    Open,
    /// It was done.
    Done(Box<Told>),
    /// It was refused, and nothing was done.
    Refused,
    /// The client gave up; it may have been done, or may still be.
    Unknown,
}

/// What the client was told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) at: Moment,
    /// By which node.
    pub(super) node: usize,
    /// At which level.
    pub(super) level: Level,
    /// What was read.
    pub(super) seen: Option<Seen>,
    /// How old what was read may be, in microseconds.
    pub(super) staleness_us: u64,
    /// Where the change is in the log of the node.
    pub(super) position: Option<Position>,
}

/// One thing that a client wants, however often it asks.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) number: Number,
    pub(super) client: usize,
    /// Counts the sessions of the client.
    pub(super) session: u64,
    pub(super) key: usize,
    pub(super) wish: Wish,
    pub(super) level: Level,
    pub(super) op_id: OpId,
    /// What its session had seen; none when it is in no session.
    pub(super) token: Option<Token>,
    pub(super) begun: Moment,
    pub(super) attempts: Vec<Attempt>,
    pub(super) end: End,
    /// For a write over siblings: the values that it was decided on, and what could have been
    /// among them.
    pub(super) decided_on: Option<(Vec<u64>, Reach)>,
}

impl Operation {
    /// What the client was told, if it was done.
    pub(super) const fn told(&self) -> Option<&Told> {
        if let End::Done(told) = &self.end { Some(told) } else { None }
    }

    /// Whether it changes something.
    pub(super) fn is_update(&self) -> bool {
        self.wish != Wish::Read
    }

    /// Where it is: in the log of which replica, and at which place.
    pub(super) fn place(&self) -> Option<(usize, Position)> {
        let told = self.told().and_then(|told| Some((told.node, told.position?)));
        told.or_else(|| self.attempts.iter().find_map(|it| Some((it.node, it.position?))))
    }
}

/// Everything, by number and by key.
#[derive(Debug, Default)]
pub(super) struct History {
    operations: Vec<Operation>,
    by_key: Vec<Vec<Number>>,
}

impl History {
    pub(super) fn new(keys: usize) -> Self {
        Self { operations: Vec::new(), by_key: vec![Vec::new(); keys] }
    }

    /// The number of the next operation.
    pub(super) fn next(&self) -> Number {
        Number::try_from(self.operations.len()).unwrap_or(Number::MAX)
    }

    pub(super) fn push(&mut self, operation: Operation) {
        self.by_key[operation.key].push(operation.number);
        self.operations.push(operation);
    }

    pub(super) fn get(&self, number: Number) -> &Operation {
        &self.operations[number as usize]
    }

    pub(super) fn get_mut(&mut self, number: Number) -> &mut Operation {
        &mut self.operations[number as usize]
    }

    /// The operations of a key, in the order in which they began.
    pub(super) fn of_key(&self, key: usize) -> impl Iterator<Item = &Operation> {
        self.by_key[key].iter().map(|number| self.get(*number))
    }
}

impl Sight for History {
    fn surely(&self, later: Number, earlier: Number) -> bool {
        let (later, earlier) = (self.get(later), self.get(earlier));
        if let Some((values, _)) = &later.decided_on {
            let Wish::Change(Change::Write(value)) = earlier.wish else { return false };
            return values.contains(&value);
        }
        let Some((node, position)) = earlier.place() else { return false };
        let has = |frontier: &Frontier| covers(frontier, node, position);
        let by_session = later.token.as_ref().is_some_and(|token| has(&token.0));
        by_session
            || (!later.attempts.is_empty()
                && later.attempts.iter().all(|attempt| has(&attempt.had)))
    }

    fn possibly(&self, later: Number, earlier: Number) -> bool {
        let (later, earlier) = (self.get(later), self.get(earlier));
        let reaches =
            |reach: &Reach| earlier.attempts.iter().any(|it| reach[it.node] >= it.index);
        if let Some((_, reach)) = &later.decided_on {
            return reaches(reach);
        }
        later.attempts.iter().any(|attempt| attempt.until.as_ref().is_none_or(reaches))
    }
}

/// Whether a frontier has a place of a node's log. One that is in a later admission of the node
/// says nothing: it counts everything of the earlier ones as received, also what was lost.
pub(super) fn covers(frontier: &Frontier, node: usize, position: Position) -> bool {
    let reached = frontier.get(replica_id(node));
    reached >= position && admission_of(reached) == admission_of(position)
}

/// The admission that a place in a log belongs to.
pub(super) const fn admission_of(position: Position) -> u32 {
    position.incarnation >> 16
}
