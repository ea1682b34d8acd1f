//! Frames as bytes: a version, then the frame in postcard's format.
//!
//! Postcard is small and has a stable specification; a version of its own in front lets two
//! versions of this program tell each other apart instead of guessing.

use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::crdt::{Value, limit};
use crate::frame::Frame;

/// The version of the format that this program speaks.
pub const FRAME_VERSION: u8 = 1;
/// A frame of several parts is closed when it has this many bytes.
pub const FRAME_LEN_AIM: usize = 256 << 10;
/// Longest frame that is read: the largest value, and as much again as others aim at.
pub const FRAME_LEN_MAX: usize = limit::JOINED_BYTES_MAX + 2 * FRAME_LEN_AIM;

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// There are none.
    #[error("an empty frame")]
    Empty,
    /// There are too many.
    #[error("a frame of {len} bytes, more than the {max} allowed")]
    TooLong {
        /// How many.
        len: usize,
        /// How many there may be.
        max: usize,
    },
    /// The peer speaks another version.
    #[error(
        "a frame of version {theirs}, this program reads version {ours}; update the older one"
    )]
    Version {
        /// The peer's.
        theirs: u8,
        /// Ours.
        ours: u8,
    },
    /// They do not make sense.
    #[error("a frame that cannot be read: {reason}")]
    Malformed {
        /// What the decoder says.
        reason: String,
    },
}

impl Frame {
    /// Its bytes.
    ///
    /// # Panics
    ///
    /// Never: what a frame consists of can be written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let bytes = vec![FRAME_VERSION];
        postcard::to_extend(self, bytes)
            .expect("a frame has only what postcard can write")
    }

    /// The frame of these bytes.
    ///
    /// # Errors
    ///
    /// When there is none, or it is of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > FRAME_LEN_MAX {
            return Err(FrameError::TooLong { len: bytes.len(), max: FRAME_LEN_MAX });
        }
        let (version, rest) = bytes.split_first().ok_or(FrameError::Empty)?;
        if *version != FRAME_VERSION {
            return Err(FrameError::Version { theirs: *version, ours: FRAME_VERSION });
        }
        let malformed =
            |reason: &dyn ToString| FrameError::Malformed { reason: reason.to_string() };
        let (frame, left) =
            postcard::take_from_bytes(rest).map_err(|error| malformed(&error))?;
        if left.is_empty() {
            Ok(frame)
        } else {
            Err(malformed(&format!("{} bytes are left over", left.len())))
        }
    }
}

/// A value that frames, the log and rows share instead of copying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held(pub Arc<Value>);

impl Held {
    /// A value to share.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self(Arc::new(value))
    }
}

impl Serialize for Held {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        self.0.encode(&mut bytes);
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(HeldVisitor)
    }
}

struct HeldVisitor;

impl Visitor<'_> for HeldVisitor {
    type Value = Held;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an encoded value")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Held, E> {
        Value::decode(bytes).map(Held::new).map_err(de::Error::custom)
    }
}
