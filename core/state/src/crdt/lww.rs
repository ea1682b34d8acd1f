//! The bytes with the latest stamp (S14.1, F42).
//!
//! Concurrent writes are lost but one, the same one everywhere: the later stamp, then the greater
//! actor, then the greater bytes. For what may be lost: names, tags, what is observed again. Never
//! for what has an invariant. Deletion is a stamped absence, so that an older write that comes
//! late does not bring the bytes back.

use super::error::UpdateError;
use super::limit::WRITTEN_BYTES_MAX;
use super::update::Writer;
use crate::bytes::Bytes;
use crate::clock::{Actor, Hlc, wire};
use crate::codec::{DecodeError, Sink, Source, put_number, put_option};

/// One write; its order decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Write {
    stamp: Hlc,
    actor: Actor,
    value: Option<Bytes>,
}

/// The latest write, if there was any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lww {
    latest: Option<Write>,
}

impl Lww {
    /// The delta that replaces the bytes, or deletes them.
    ///
    /// # Errors
    ///
    /// When the bytes are too many.
    pub fn write(value: Option<Bytes>, by: &Writer) -> Result<Self, UpdateError> {
        let bytes = value.as_ref().map_or(0, |value| value.len());
        if bytes > WRITTEN_BYTES_MAX {
            let (what, max) = ("the value", WRITTEN_BYTES_MAX);
            return Err(UpdateError::TooLarge { what, bytes, max });
        }
        Ok(Self { latest: Some(Write { stamp: by.stamp, actor: by.actor, value }) })
    }

    /// The bytes.
    #[must_use]
    pub fn get(&self) -> Option<&Bytes> {
        self.latest.as_ref()?.value.as_ref()
    }

    /// When they were written or deleted.
    #[must_use]
    pub fn stamp(&self) -> Option<Hlc> {
        self.latest.as_ref().map(|latest| latest.stamp)
    }

    /// Keeps the later write. Whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        let changed = other.latest > self.latest;
        if changed {
            self.latest.clone_from(&other.latest);
        }
        changed
    }

    pub(super) fn encode(&self, out: &mut impl Sink) {
        let Some(latest) = &self.latest else { return out.put(&[0]) };
        out.put(&[1]);
        put_number(out, latest.stamp.bits());
        wire::put_actor(out, latest.actor);
        put_option(out, latest.value.as_ref());
    }

    pub(super) fn decode(from: &mut Source<'_>) -> Result<Self, DecodeError> {
        if !from.present()? {
            return Ok(Self::default());
        }
        let stamp = Hlc::from_bits(from.number()?);
        let actor = wire::actor(from)?;
        let value = from.option(WRITTEN_BYTES_MAX)?;
        Ok(Self { latest: Some(Write { stamp, actor, value }) })
    }
}
