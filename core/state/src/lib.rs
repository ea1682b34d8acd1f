//! Replicated state: values that join, the clocks that order them, and the replica that keeps
//! and repairs them (S1-S18).
//!
//! Pure: time, randomness, disks and peers are arguments and commands. Values that join need no
//! leader and no agreement: replicas that have seen the same updates, in any order and however
//! often, hold the same bytes. What two regions must never disagree on is not kept here but in
//! the strong engine (`docs/design/state.md`).

mod bytes;
mod clock;
mod codec;
pub mod conflict;
mod crdt;
mod digest;
pub mod frame;
mod frontier;
mod level;
pub mod membership;
pub mod policy;
pub mod reconcile;
mod replica;
pub mod shard;

pub use bytes::Bytes;
pub use clock::{
    AHEAD_MAX, Actor, ActorError, Causality, Dot, DottedVersion, Hlc, HlcClock,
    ReplicaId, STEP_MIN, STEP_TAKEN_AFTER, SteadyWall, TokenError, TooFarAhead,
    VersionVector,
};
pub use codec::DecodeError;
pub use crdt::{
    Bounded, BoundedReading, FieldReading, GCounter, GSet, JoinError, Kind, Lww, MintId,
    Mv, OrMap, OrSet, PnCounter, Reading, Register, Update, UpdateError, Value, Writer,
    limit,
};
pub use frame::Frame;
pub use frontier::{Frontier, Position};
pub use level::Level;
pub use membership::{ClusterId, Member, Membership, Phase, Settled};
pub use policy::{Policies, Policy};
pub use replica::{
    Answer, BEAT_EVERY, BatchId, Command, Counts, Input, KEY_LEN_MAX, Key, Listed,
    Notice, Now, Op, OpId, Outcome, PAGE_ITEMS_MAX, PeerStats, QuorumPhase,
    RECONCILE_EVERY, Read, RecoverError, Refusal, Replica, ReplicaConfig, Request,
    RequestId, Row, RowChange, SILENT_AFTER, Sabotage, Stats, Token, Unsent, WITHIN_MAX,
    Written,
};
