//! Lengths in as few bytes as they need: seven bits a byte, the lowest first.
//!
//! At most five bytes, which hold more than any length here. A longer form, or one with a
//! useless last byte, is refused, so that a number has one spelling.

/// Most bytes of a number.
pub(super) const LEN_MAX: usize = 5;

/// What is at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A number, and how many bytes it took.
    Number(u32, usize),
    /// The beginning of a number.
    Unfinished,
    /// No number.
    Invalid,
}

/// Appends a number.
pub(super) fn write(mut number: u32, out: &mut Vec<u8>) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Reads a number from the beginning of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Read {
    let mut number: u32 = 0;
    for (index, byte) in bytes.iter().take(LEN_MAX).enumerate() {
        let part = u32::from(byte & 0x7f);
        let shift = 7 * index;
        // The fifth byte has room for four bits.
        if shift == 28 && part > 0x0f {
            return Read::Invalid;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            let useless = index > 0 && *byte == 0;
            return if useless { Read::Invalid } else { Read::Number(number, index + 1) };
        }
    }
    if bytes.len() < LEN_MAX { Read::Unfinished } else { Read::Invalid }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_number_comes_back_and_its_beginnings_are_unfinished(number: u32) {
            let mut bytes = Vec::new();
            write(number, &mut bytes);
            prop_assert!(bytes.len() <= LEN_MAX);
            prop_assert_eq!(read(&bytes), Read::Number(number, bytes.len()));
            for len in 0..bytes.len() {
                prop_assert_eq!(read(&bytes[..len]), Read::Unfinished);
            }
        }

        #[test]
        fn what_is_read_is_the_only_spelling(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            if let Read::Number(number, len) = read(&bytes) {
                let mut again = Vec::new();
                write(number, &mut again);
                prop_assert_eq!(&again[..], &bytes[..len]);
            }
        }
    }
}
