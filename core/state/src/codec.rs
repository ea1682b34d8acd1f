//! Bytes of values, in postcard's format: numbers in groups of seven bits, least first; byte
//! strings and lists with their length before them.
//!
//! Read by hand and more strictly than postcard reads: a number has its shortest form only, and
//! a length is checked against what is left before anything is allocated. So every state has one
//! encoding, and hostile bytes cost no more than their own length.

use crate::bytes::Bytes;

/// Why bytes are no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the encoding ends before its value does")]
    Truncated,
    /// They go on after the value.
    #[error("{bytes} bytes follow the value")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The first byte is no code of a kind.
    #[error("{0} is the code of no kind; its sender may be of a newer version")]
    UnknownKind(u8),
    /// Something is over its limit.
    #[error("{what} has {bytes} bytes, over {max}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Something is not written the one way that it can be: out of order, twice, too long.
    #[error("{0} is not in its canonical form")]
    NotCanonical(&'static str),
}

/// Where an encoding goes: a buffer or a digest.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

pub(crate) fn put_number(out: &mut impl Sink, number: u64) {
    put_wide(out, u128::from(number));
}

pub(crate) fn put_wide(out: &mut impl Sink, mut number: u128) {
    let mut groups = [0_u8; 19];
    let mut used = 0;
    loop {
        let group = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        groups[used] = if number == 0 { group } else { group | 0x80 };
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.put(&groups[..used]);
}

pub(crate) fn put_len(out: &mut impl Sink, len: usize) {
    put_number(out, u64::try_from(len).unwrap_or(u64::MAX));
}

pub(crate) fn put_bytes(out: &mut impl Sink, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.put(bytes);
}

/// What is left to read of an encoding.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        u64::try_from(self.wide()?).map_err(|_| DecodeError::NotCanonical("a number"))
    }

    pub(crate) fn wide(&mut self) -> Result<u128, DecodeError> {
        const REFUSED: DecodeError = DecodeError::NotCanonical("a number");
        let mut number = 0_u128;
        for shift in (0..128).step_by(7) {
            let group = self.byte()?;
            let bits = u128::from(group & 0x7f);
            if bits.leading_zeros() < shift {
                return Err(REFUSED);
            }
            number |= bits << shift;
            if group & 0x80 == 0 {
                // A last group of zero could have been left out.
                return if group == 0 && shift > 0 { Err(REFUSED) } else { Ok(number) };
            }
        }
        Err(REFUSED)
    }

    /// The length of a list of which each entry takes at least `entry_min` bytes.
    pub(crate) fn len(&mut self, entry_min: usize) -> Result<usize, DecodeError> {
        let len = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if len.saturating_mul(entry_min) > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(len)
    }

    pub(crate) fn bytes(&mut self, max: usize) -> Result<Bytes, DecodeError> {
        let len = self.len(1)?;
        if len > max {
            return Err(DecodeError::TooLarge { what: "a byte string", bytes: len, max });
        }
        let (bytes, rest) =
            self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(bytes.into())
    }

    /// Whether something follows that may be missing.
    pub(crate) fn present(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::NotCanonical("an option")),
        }
    }

    pub(crate) fn option(&mut self, max: usize) -> Result<Option<Bytes>, DecodeError> {
        if self.present()? { self.bytes(max).map(Some) } else { Ok(None) }
    }

    pub(crate) fn end(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::Trailing { bytes }),
        }
    }
}

pub(crate) fn put_option(out: &mut impl Sink, value: Option<&Bytes>) {
    match value {
        None => out.put(&[0]),
        Some(bytes) => {
            out.put(&[1]);
            put_bytes(out, bytes);
        }
    }
}

/// Keys come in order and once.
pub(crate) fn ascending<T: Clone + Ord>(
    key: T,
    last: &mut Option<T>,
    what: &'static str,
) -> Result<T, DecodeError> {
    if last.as_ref().is_some_and(|last| *last >= key) {
        return Err(DecodeError::NotCanonical(what));
    }
    *last = Some(key.clone());
    Ok(key)
}

/// A number whose entry is left out where it is zero.
pub(crate) fn positive(number: u64, what: &'static str) -> Result<u64, DecodeError> {
    if number == 0 { Err(DecodeError::NotCanonical(what)) } else { Ok(number) }
}

#[cfg(test)]
mod tests;
