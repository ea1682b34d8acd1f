//! What travels with a call: `traceparent` of W3C Trace Context.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// FNV-1a of 128 bits: spreads names well enough for ids that nobody attacks.
const FNV_OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
/// The bit of the flags that says that the caller keeps the trace.
const SAMPLED: u8 = 1;

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no id of a {kind}: it has {digits} digits of 0-9 a-f and not only zeros"
)]
pub struct IdError {
    text: String,
    kind: &'static str,
    digits: usize,
}

fn digits(text: &str, kind: &'static str, digits: usize) -> Result<u128, IdError> {
    let lower = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    let number = (text.len() == digits && text.bytes().all(lower))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten();
    number.filter(|number| *number != 0).ok_or_else(|| IdError {
        text: text.chars().take(60).collect(),
        kind,
        digits,
    })
}

macro_rules! hex_ids {
    ($($(#[$doc:meta])* $name:ident($number:ty), $kind:literal, $digits:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name($number);

        impl $name {
            /// The id of this number; none for zero, which stands for no id.
            #[must_use]
            pub const fn new(number: $number) -> Option<Self> {
                if number == 0 { None } else { Some(Self(number)) }
            }

            /// It as a number.
            #[must_use]
            pub const fn get(self) -> $number {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:0width$x}", self.0, width = $digits)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let number = digits(text, $kind, $digits)?;
                <$number>::try_from(number)
                    .map(Self)
                    .map_err(|_| IdError { text: text.to_owned(), kind: $kind, digits: $digits })
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    )*};
}

hex_ids! {
    /// Names a trace: 32 hexadecimal digits.
    TraceId(u128), "trace", 32;
    /// Names a span within its trace: 16 hexadecimal digits.
    SpanId(u64), "span", 16;
}

/// Spreads a number over all bits, so that neighbours come out far apart: the last step of
/// `SplitMix64`.
#[must_use]
pub const fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The hash of some names, in two halves.
#[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
fn hash(names: &[&str]) -> [u64; 2] {
    let mut hash = FNV_OFFSET;
    for name in names {
        // Names end, so that ("a", "bc") and ("ab", "c") differ.
        for byte in name.bytes().chain([0xff]) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(FNV_PRIME);
        }
    }
    // Names that differ in their last letter only differ in few bits by now.
    let low = mixed(hash as u64);
    [mixed((hash >> 64) as u64 ^ low), low]
}

impl TraceId {
    /// The trace of something that has a name of its own and lives longer than a process, such
    /// as a move: whoever carries it on after a crash goes on with the same trace.
    #[must_use]
    pub fn of(kind: &str, name: &str) -> Self {
        let [high, low] = hash(&[kind, name]);
        Self((u128::from(high) << 64 | u128::from(low)).max(1))
    }

    /// The part that is taken for random (W3C Trace Context 2): its last 56 bits.
    #[must_use]
    pub const fn random(self) -> u64 {
        (self.0 & 0x00ff_ffff_ffff_ffff) as u64
    }
}

impl SpanId {
    /// The span of a step of such a thing: whoever takes the step again makes the same span.
    #[must_use]
    pub fn of(trace: TraceId, step: &str) -> Self {
        let [high, _] = hash(&[&trace.to_string(), step]);
        Self(high.max(1))
    }
}

/// Where in which trace something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: TraceId,
    /// The span that what happens is part of.
    pub span: SpanId,
    /// Whether whoever began it keeps it, and so shall we.
    pub keep: bool,
}

/// Why a text is no `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// It has other parts.
    #[error("a traceparent is 00-TRACE-SPAN-FLAGS, with 32, 16 and 2 hexadecimal digits")]
    Shape,
    /// An id is none.
    #[error(transparent)]
    Id(#[from] IdError),
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.keep { SAMPLED } else { 0 };
        write!(f, "00-{}-{}-{flags:02x}", self.trace, self.span)
    }
}

impl FromStr for Context {
    type Err = ContextError;

    /// Reads a `traceparent`. Of a later version than ours only the part that ours has is read,
    /// as the standard wants it.
    fn from_str(text: &str) -> Result<Self, ContextError> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(ContextError::Shape);
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        let version = byte(version).filter(|version| *version != 0xff);
        let (Some(version), Some(flags)) = (version, byte(flags)) else {
            return Err(ContextError::Shape);
        };
        if version == 0 && parts.next().is_some() {
            return Err(ContextError::Shape);
        }
        Ok(Self {
            trace: trace.parse()?,
            span: span.parse()?,
            keep: flags & SAMPLED != 0,
        })
    }
}

fn byte(text: &str) -> Option<u8> {
    let lower = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == 2 && text.bytes().all(lower))
        .then(|| u8::from_str_radix(text, 16).ok())
        .flatten()
}
