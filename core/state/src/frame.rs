//! What replicas say to each other.
//!
//! Every frame may be lost, doubled, delayed and overtaken, and each is safe by itself:
//!
//! - a [`Push`] is applied only when it begins exactly where the receiver is in the author's
//!   log, so nothing is applied twice or past a gap;
//! - whole states carry how far their sender had got, and are refused by a replica that has
//!   already collected what that sender may not know to be deleted;
//! - what counts towards a majority carries the epoch, and counts in that epoch only.
//!
//! So there is no session to set up: a [`Beat`] tells a peer everything it must know.

mod codec;

pub use codec::{FRAME_LEN_AIM, FRAME_LEN_MAX, FRAME_VERSION, FrameError, Held};

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Hlc;
use crate::frontier::{Frontier, Position};
use crate::membership::ClusterId;
use crate::replica::Key;

/// One message from a replica to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The epoch that its sender followed.
    pub epoch: u64,
    /// What it says.
    pub body: Body,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// I am here, and this far.
    Beat(Beat),
    /// The next piece of my log.
    Push(Push),
    /// Your log is durable here up to this.
    Ack(Ack),
    /// Your push does not begin where I am in your log.
    Gap(Gap),
    /// What do you have of this key?
    Ask(Ask),
    /// This.
    Tell(Tell),
    /// Store this state.
    Store(Store),
    /// It is durable here.
    Stored(Stored),
    /// Where do we differ?
    Compare(Compare),
    /// Here.
    Differ(Differ),
    /// Give me these.
    Want(Want),
    /// Here they are.
    States(States),
    /// I do not listen to you.
    Refuse(Refuse),
}

/// A sign of life, every half a second: what keeps staleness a number when nothing is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Of which federation.
    pub cluster: ClusterId,
    /// The sender's log has everything after this.
    pub start: Position,
    /// Its durable end.
    pub end: Position,
    /// What is durable at the sender of the logs of the others.
    pub frontier: Frontier,
    /// Nothing with this stamp or an older one will come after [`Self::end`].
    pub closed: Hlc,
    /// The newest epoch that the sender has settled in.
    pub settled: u64,
}

/// A piece of the sender's log. What the receiver may not have is left out and yet covered, so
/// that cursors move past it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Counts how often the sender began again for this receiver; a [`Gap`] repeats it.
    pub stream: u32,
    /// The piece begins after this.
    pub after: Position,
    /// And ends with this.
    pub upto: Position,
    /// Nothing with this stamp or an older one will come after [`Self::upto`].
    pub closed: Hlc,
    /// The changes: each key once, in the order in which the keys were first written.
    pub entries: Arc<Vec<Delta>>,
}

/// The changes of one key, joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The key.
    pub key: Key,
    /// The change.
    pub value: Held,
    /// When it was last written, for keys that live for a time.
    pub stamp: Option<Hlc>,
}

/// How far the receiver's log is durable at the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Up to this.
    pub upto: Position,
}

/// Where the sender is in the receiver's log, when a push did not begin there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The stream of that push.
    pub stream: u32,
    /// The sender has everything up to this, not all of it durable.
    pub at: Position,
}

/// Asks for the state of a key, on behalf of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Which question.
    pub call: u64,
    /// Which key.
    pub key: Key,
    /// The digest of what the sender has: an equal state need not be sent.
    pub digest: u64,
}

/// The answer to [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    /// Which question.
    pub call: u64,
    /// The digest of what the sender has.
    pub digest: u64,
    /// What it has, when the digests differ and it has anything.
    pub state: Option<State>,
    /// How far the sender had got.
    pub frontier: Frontier,
    /// The sender's clock.
    pub at: Hlc,
}

/// A whole state of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The value.
    pub value: Held,
    /// When it was last written, for keys that live for a time.
    pub stamp: Option<Hlc>,
    /// What it contains beyond what its sender has received by push: some other replica's
    /// knowledge, of this key only.
    pub beyond: Option<Frontier>,
}

/// Asks to make a state durable that a majority is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Which call.
    pub call: u64,
    /// Which key.
    pub key: Key,
    /// The state.
    pub state: State,
    /// What all those had received whose states are joined in it.
    pub floor: Frontier,
    /// The sender's clock.
    pub at: Hlc,
}

/// The answer to [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Which call.
    pub call: u64,
}

/// Asks where the stores of two replicas differ, by sums over buckets of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Which pull.
    pub pull: u64,
    /// Counts the questions of a pull.
    pub round: u32,
    /// Whether deleted keys count, and keys that have just been written.
    pub full: bool,
    /// The first bucket of [`Self::sums`].
    pub from: u16,
    /// The sums of what the sender has, from that bucket to the last.
    pub sums: Vec<u64>,
}

/// The answer to [`Compare`]: what the sender has in the buckets that differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differ {
    /// Which pull.
    pub pull: u64,
    /// Which question.
    pub round: u32,
    /// The end of the sender's own log.
    pub end: Position,
    /// The first bucket that was not looked at; the number of buckets when all were.
    pub upto: u16,
    /// Hash of the key and digest of the value.
    pub pairs: Vec<Pair>,
}

/// A key's hash and its value's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pair {
    /// Of the key.
    #[serde(with = "postcard::fixint::le")]
    pub hash: u64,
    /// Of the value.
    #[serde(with = "postcard::fixint::le")]
    pub digest: u64,
}

/// Asks for states by the hashes of their keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Which pull.
    pub pull: u64,
    /// Counts the questions of a pull.
    pub round: u32,
    /// Of which keys.
    pub hashes: Vec<u64>,
}

/// The answer to [`Want`]: the first of what was asked for, as much as fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct States {
    /// Which pull.
    pub pull: u64,
    /// Which question.
    pub round: u32,
    /// How many of the hashes are answered.
    pub answered: u32,
    /// The states that were found.
    pub entries: Vec<(Key, State)>,
    /// How far the sender had got.
    pub frontier: Frontier,
    /// The sender's clock.
    pub at: Hlc,
}

/// Why the sender does not listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refuse {
    /// You are not a member.
    Evicted {
        /// The epoch of the sender, in which that is so.
        epoch: u64,
    },
    /// You are of another federation.
    OtherCluster {
        /// The sender's.
        cluster: ClusterId,
    },
    /// I have more of your log than you: your disk went back in time.
    LogLost {
        /// How far I have got.
        mine: Position,
    },
    /// Your clock is too far ahead of mine.
    Skewed {
        /// By so many milliseconds.
        ahead_ms: u64,
    },
    /// I do not hold this key, or follow another epoch.
    Call {
        /// Which call.
        call: u64,
    },
}
