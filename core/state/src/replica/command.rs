//! What a replica wants done, and what it answers. In order: a command may count on those
//! before it.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Hlc, ReplicaId};
use crate::crdt::{Reading, Value};
use crate::frame::Frame;
use crate::frontier::Position;
use crate::level::Level;
use crate::membership::Settled;
use crate::replica::input::{BatchId, Key, RequestId, Token};
use crate::replica::refusal::Refusal;

/// A change of one durable row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// Writes a row.
    Put {
        /// Its name.
        row: String,
        /// What it holds from now on.
        value: Vec<u8>,
    },
    /// Removes a row, if it is there.
    Delete {
        /// Its name.
        row: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make these changes durable, all or none, after the batches before; then say
    /// [`Input::Persisted`](crate::Input::Persisted).
    Persist {
        /// Under which number.
        batch: BatchId,
        /// The changes.
        changes: Arc<Vec<RowChange>>,
    },
    /// Hand a frame to a peer. It may be lost, doubled and overtaken.
    Send {
        /// Which peer.
        to: ReplicaId,
        /// What.
        frame: Frame,
    },
    /// Answer a client.
    Reply {
        /// Which request.
        request: RequestId,
        /// With what.
        outcome: Outcome,
    },
    /// Tell people.
    Notice(Notice),
}

/// How a request ended.
pub type Outcome = Result<Answer, Refusal>;

/// What a client is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The value of a key.
    Read(Read),
    /// The change is made.
    Written(Written),
    /// A page of keys.
    Listed(Listed),
}

impl Answer {
    /// The same when it is given so much later than what it shows was taken.
    pub(crate) fn aged_by(mut self, time: Duration) -> Self {
        match &mut self {
            Self::Read(Read { staleness, .. })
            | Self::Listed(Listed { staleness, .. }) => {
                *staleness = staleness.saturating_add(time);
            }
            Self::Written(_) => {}
        }
        self
    }
}

/// A read that was served.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The value; none where nothing was ever written, or what was is deleted or over.
    pub reading: Option<Reading>,
    /// At which level it was served: the one that was asked for.
    pub level: Level,
    /// Everything that was written longer ago than this, anywhere, is in it. Of an answer by a
    /// majority it tells of this replica.
    pub staleness: Duration,
    /// What the session has seen now.
    pub token: Token,
}

/// A write that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its place in the log of the replica that took it.
    pub position: Position,
    /// When.
    pub stamp: Hlc,
    /// At which level it is held: at least the one that was asked for.
    pub level: Level,
    /// What the session has seen now.
    pub token: Token,
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The keys in order, with their values.
    pub items: Vec<(Key, Reading)>,
    /// Whether there may be more after the last.
    pub more: bool,
    /// Everything that was written longer ago than this, anywhere, is in it.
    pub staleness: Duration,
    /// What the session has seen now.
    pub token: Token,
}

/// Something that people should know of, or decide.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// This replica is not a member any more. It serves nothing until it is admitted again.
    Evicted {
        /// Since which epoch.
        epoch: u64,
    },
    /// It was admitted again, and what it had written and nobody else had is listed here, and
    /// kept in its rows until somebody discards it: never merged blindly.
    Unsent(Vec<Unsent>),
    /// A peer has received more of this replica's log than the replica has: its disk went back
    /// in time. It must be evicted and admitted again.
    LogLost {
        /// Who noticed.
        by: ReplicaId,
        /// How far that peer has got.
        theirs: Position,
        /// Where the log ends here.
        ours: Position,
    },
    /// A peer's clock is too far ahead of this one, and nothing of it is taken until that ends.
    Skewed {
        /// Whose clock.
        peer: ReplicaId,
        /// How far.
        ahead: Duration,
    },
    /// A peer has more of the own log, durably.
    Acknowledged {
        /// Which peer.
        by: ReplicaId,
        /// Since the first of those mutations was made, by the wall clock.
        took: Duration,
    },
    /// It has reconciled with every voter since the epoch began, or with all but one.
    Settled(Settled),
    /// A membership that cannot be was handed in, and is not followed.
    BadView {
        /// Its epoch.
        epoch: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// A write that nobody else had when its replica was evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Its place in the old log.
    pub position: Position,
    /// Which key.
    pub key: Key,
    /// What it would have changed.
    pub delta: Arc<Value>,
    /// When it was written.
    pub stamp: Hlc,
}
