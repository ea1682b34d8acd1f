//! Values that join: whatever order and however often updates arrive, equal sets of updates make
//! equal bytes (S3-S5, F38-F42).
//!
//! An update is answered with a delta, itself a [`Value`] of the same kind; joining it is the only
//! way to change one. Laws, held for every kind by one suite: join is associative, commutative
//! and idempotent; an update only rises; joined deltas equal joined states.

mod bounded;
mod error;
mod gcounter;
mod kind;
mod lww;
mod reading;
mod register;
mod update;
mod value;
mod wire;

pub mod limit;

pub use bounded::MintId;
pub use error::{DecodeError, JoinError, UpdateError};
pub use gcounter::GCounter;
pub use kind::Kind;
pub use lww::Lww;
pub use reading::{BoundedReading, FieldReading, Reading};
pub use register::Register;
pub use update::{Update, Writer};
pub use value::Value;
