//! Whole numbers as few bytes, seven bits a byte, the least first.

/// Bits of a number.
const BITS: u32 = 64;

/// Adds a number.
pub(crate) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// Takes a number from the front; nothing when it has no end there or is too great.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0_u64, 0_u32);
    while let Some((byte, rest)) = bytes.split_first() {
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if shift >= BITS || (low << shift) >> shift != low {
            return None;
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_go_there_and_back_and_no_cut_one_is_read(number in any::<u64>()) {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            let mut rest = bytes.as_slice();
            prop_assert_eq!((take(&mut rest), rest.len()), (Some(number), 0));
            let mut cut = &bytes[..bytes.len() - 1];
            prop_assert_eq!(take(&mut cut), None);
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let before = rest.len();
                let _number = take(&mut rest);
                prop_assert!(rest.len() < before);
            }
        }
    }
}
