//! A version as an opaque token: what a reader takes along and a writer gives back.
//!
//! In texts it is hexadecimal, since it travels in headers and flags; elsewhere bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::dotted_version::DottedVersion;
use super::wire;
use crate::bytes::Bytes;
use crate::codec::{DecodeError, Source};

/// Longest token in bytes. One of a register with the most siblings has about 200.
const TOKEN_BYTES_MAX: usize = 1 << 14;

/// Why a text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no token of a reading ({reason}); pass on what the reading gave, unchanged"
)]
pub struct TokenError {
    reason: String,
}

impl DottedVersion {
    /// Appends its one encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        wire::put_version(out, self);
    }

    /// The version that was encoded.
    ///
    /// # Errors
    ///
    /// When the bytes are too many or not what [`Self::encode`] makes of some version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > TOKEN_BYTES_MAX {
            let (what, bytes, max) = ("a token", bytes.len(), TOKEN_BYTES_MAX);
            return Err(DecodeError::TooLarge { what, bytes, max });
        }
        let mut from = Source::new(bytes);
        let (version, _) = wire::version(&mut from)?;
        from.end()?;
        Ok(version)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes
    }
}

impl fmt::Display for DottedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for DottedVersion {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let refuse =
            |reason: &dyn fmt::Display| TokenError { reason: reason.to_string() };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digit = |digit: &u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let byte = |[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        let bytes = bytes.filter(|_| rest.is_empty());
        let bytes =
            bytes.ok_or_else(|| refuse(&"not pairs of the digits 0-9 and a-f"))?;
        Self::decode(&bytes).map_err(|error| refuse(&error))
    }
}

impl Serialize for DottedVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.to_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for DottedVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            let bytes = Bytes::deserialize(deserializer)?;
            Self::decode(&bytes).map_err(de::Error::custom)
        }
    }
}
