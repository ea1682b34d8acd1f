//! Sixteen-bit numbers of sixty-four regions at once: a pass over them is vector code on any
//! x86-64, eight to the instruction.
//!
//! The baseline that everything is built for has minimum, maximum, saturation and the high half
//! of a product for sixteen bits, and none of them for thirty-two; so numbers are rounded to
//! sixteen bits, in the direction that keeps a bound a bound, and the few that rounding leaves
//! open are looked at exactly. Passes are never inlined: next to other code the compiler takes
//! them apart into single lanes, or multiplies in thirty-two bits. Rejected: a wider baseline, which would shut older machines out.

use super::bits::{WORD, gather};

/// A number for each region of one word.
pub(crate) type Lanes = [u16; WORD];

/// The lanes of every byte.
const BYTES: [[u16; 8]; 256] = {
    let mut bytes = [[0; 8]; 256];
    let mut at = 0;
    while at < 256 * 8 {
        if (at / 8) >> (at % 8) & 1 == 1 {
            bytes[at / 8][at % 8] = u16::MAX;
        }
        at += 1;
    }
    bytes
};

/// All ones for each region of a set, zero for the others.
#[inline(never)]
pub(crate) fn mask(word: u64) -> Lanes {
    let mut lanes = [0; WORD];
    let (eights, _) = lanes.as_chunks_mut::<8>();
    for (eight, byte) in eights.iter_mut().zip(word.to_le_bytes()) {
        *eight = BYTES[usize::from(byte)];
    }
    lanes
}

/// The regions whose number passes a test.
#[inline(never)]
pub(crate) fn pack(lanes: &Lanes, test: impl Fn(u16) -> bool) -> u64 {
    let mut bytes = [0; WORD];
    for (byte, lane) in bytes.iter_mut().zip(lanes) {
        *byte = u8::from(test(*lane));
    }
    gather(&bytes)
}

/// The upper half of the product.
#[inline]
pub(crate) const fn upper_product(a: u16, b: u16) -> u16 {
    ((a as u32 * b as u32) >> 16) as u16
}

/// Sets a lane to something where less than `need` is free.
#[inline(never)]
pub(crate) fn fall_short(short: &mut Lanes, free: &Lanes, need: u16) {
    for (short, free) in short.iter_mut().zip(free) {
        *short |= need.saturating_sub(*free);
    }
}

/// The largest of all.
#[inline(never)]
pub(crate) fn highest(lanes: &Lanes) -> u16 {
    lanes.iter().fold(0, |most, lane| most.max(*lane))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mask_packs_to_the_word_it_was_made_of(word: u64) {
            let lanes = mask(word);
            prop_assert!(lanes.iter().all(|lane| *lane == 0 || *lane == u16::MAX));
            prop_assert_eq!(pack(&lanes, |lane| lane > 0), word);
        }

        #[test]
        fn an_upper_product_is_the_product_without_its_lower_half(a: u16, b: u16) {
            let product = u64::from(a) * u64::from(b);
            prop_assert_eq!(u64::from(upper_product(a, b)), product / 65_536);
        }
    }
}
