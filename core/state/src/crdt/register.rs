//! Bytes with a timestamp of their own: what quorum reads and writes store (F37).
//!
//! Join keeps the greatest of (number, actor, bytes). The protocol that makes it linearizable is
//! the replica's. A deletion stays for good: a majority that forgot it would allow a timestamp
//! below that of the rest, and the next write would lose against the deletion.

use super::error::UpdateError;
use super::limit::WRITTEN_BYTES_MAX;
use crate::bytes::Bytes;
use crate::clock::{Actor, wire};
use crate::codec::{DecodeError, Sink, Source, put_number, put_option};

/// What was stored under the greatest timestamp.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Register {
    /// The number part of the timestamp; 0 where nothing was ever stored.
    lamport: u64,
    actor: Option<Actor>,
    value: Option<Bytes>,
}

impl Register {
    /// The delta that stores under (`lamport`, `actor`); what is greater outlives it.
    ///
    /// # Errors
    ///
    /// When the bytes are too many.
    pub fn store(
        lamport: u64,
        actor: Actor,
        value: Option<Bytes>,
    ) -> Result<Self, UpdateError> {
        let bytes = value.as_ref().map_or(0, |value| value.len());
        if bytes > WRITTEN_BYTES_MAX {
            let (what, max) = ("the value", WRITTEN_BYTES_MAX);
            return Err(UpdateError::TooLarge { what, bytes, max });
        }
        Ok(Self { lamport, actor: Some(actor), value })
    }

    /// The number part of the timestamp; 0 where nothing was ever stored.
    #[must_use]
    pub const fn lamport(&self) -> u64 {
        self.lamport
    }

    /// Who stored it.
    #[must_use]
    pub const fn actor(&self) -> Option<Actor> {
        self.actor
    }

    /// The bytes.
    #[must_use]
    pub const fn get(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// Keeps the greater. Whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        let changed = *other > *self;
        if changed {
            self.clone_from(other);
        }
        changed
    }

    pub(super) fn is_bottom(&self) -> bool {
        self.actor.is_none()
    }

    pub(super) fn encode(&self, out: &mut impl Sink) {
        let Some(actor) = self.actor else { return out.put(&[0]) };
        out.put(&[1]);
        put_number(out, self.lamport);
        wire::put_actor(out, actor);
        put_option(out, self.value.as_ref());
    }

    pub(super) fn decode(from: &mut Source<'_>) -> Result<Self, DecodeError> {
        if !from.present()? {
            return Ok(Self::default());
        }
        let (lamport, actor) = (from.number()?, Some(wire::actor(from)?));
        Ok(Self { lamport, actor, value: from.option(WRITTEN_BYTES_MAX)? })
    }
}
