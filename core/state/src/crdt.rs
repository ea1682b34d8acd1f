//! Values that join: whatever order and however often updates arrive, equal sets of updates make
//! equal bytes (S3-S5, F38-F42).
//!
//! An update is answered with a delta, itself a [`Value`] of the same kind; joining it is the only
//! way to change one. Laws, held for every kind by one suite: join is associative, commutative
//! and idempotent; an update only rises; joined deltas equal joined states.

mod bounded;
mod error;
mod gcounter;
mod gset;
mod kernel;
mod kind;
mod lww;
mod mv;
mod ormap;
mod orset;
mod place;
mod pncounter;
mod reading;
mod register;
mod update;
mod value;

pub mod limit;

pub use bounded::{Bounded, MintId};
pub use error::{JoinError, UpdateError};
pub use gcounter::GCounter;
pub use gset::GSet;
pub use kind::Kind;
pub use lww::Lww;
pub use mv::Mv;
pub use ormap::OrMap;
pub use orset::OrSet;
pub use pncounter::PnCounter;
pub use reading::{BoundedReading, FieldReading, Reading};
pub use register::Register;
pub use update::{Update, Writer};
pub use value::Value;

#[cfg(test)]
mod tests;
