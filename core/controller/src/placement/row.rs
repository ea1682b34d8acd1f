//! One number a region, in 32 bits, so that a pass over a thousand regions is vector code on
//! any x86-64: four lanes to the instruction, where 64-bit numbers have no comparison at all.
//!
//! Numbers that are too large are halved until they fit, and kept exactly beside. What is
//! halved is never larger than the number (shifted back), so it bounds from below.

use std::borrow::Cow;

use super::bits::{WORD, each, gather};
use super::fleet::UNKNOWN;

/// Digits of a number in a row: sums and differences of two stay within 32 bits. Few in tests,
/// so that their random fleets have rows of both sorts.
const DIGITS: u32 = if cfg!(test) { 12 } else { 30 };
/// Stands for [`UNKNOWN`]: above every number.
const UNKNOWN_HERE: i32 = i32::MAX;

/// A number for each region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) near: Vec<i32>,
    /// How often the numbers were halved.
    pub(crate) shift: u32,
    /// The numbers themselves, when they were halved.
    exact: Vec<u64>,
}

/// The least and the largest known number among some regions; (`u64::MAX`, 0) of none.
pub(crate) type Extremes = (u64, u64);

impl Row {
    /// Takes numbers down.
    pub(crate) fn of(numbers: Cow<'_, [u64]>) -> Self {
        let known = numbers.iter().copied().filter(|number| *number != UNKNOWN);
        let most = known.max().unwrap_or(0);
        let shift = (u64::BITS - most.leading_zeros()).saturating_sub(DIGITS);
        let near = |number: &u64| match *number {
            UNKNOWN => UNKNOWN_HERE,
            known => i32::try_from(known >> shift).unwrap_or(UNKNOWN_HERE),
        };
        let near = numbers.iter().map(near).collect();
        let exact = if shift == 0 { Vec::new() } else { numbers.into_owned() };
        Self { near, shift, exact }
    }

    /// Takes numbers that are known to fit, see [`fits_a_row`].
    pub(crate) const fn narrow(near: Vec<i32>) -> Self {
        Self { near, shift: 0, exact: Vec::new() }
    }

    /// The number of a region, exactly; [`UNKNOWN`] where it is not known.
    pub(crate) fn get(&self, region: usize) -> u64 {
        if self.shift > 0 {
            return self.exact[region];
        }
        match self.near[region] {
            UNKNOWN_HERE => UNKNOWN,
            known => u64::from(known.cast_unsigned()),
        }
    }

    /// The extremes of the known numbers of some regions, whose lanes are all ones in `lanes`.
    pub(crate) fn extremes(&self, standing: &[u64], lanes: &[i32]) -> Extremes {
        if self.shift > 0 {
            return self.exact_extremes(standing);
        }
        let (mut low, mut high) = (UNKNOWN_HERE, -1);
        for (number, lane) in self.near.iter().zip(lanes) {
            let known = if *number == UNKNOWN_HERE { -1 } else { *number };
            low = low.min(number | (!lane & UNKNOWN_HERE));
            high = high.max(known | !lane);
        }
        let low =
            if low == UNKNOWN_HERE { u64::MAX } else { u64::from(low.cast_unsigned()) };
        (low, u64::from(high.max(0).cast_unsigned()))
    }

    fn exact_extremes(&self, standing: &[u64]) -> Extremes {
        let (mut low, mut high) = (u64::MAX, 0);
        each(standing, |region| {
            let number = self.exact[region];
            low = low.min(number);
            high = high.max(if number == UNKNOWN { 0 } else { number });
        });
        (low, high)
    }

    /// Collects the regions whose number is not known.
    pub(crate) fn unknown(&self, into: &mut [u64]) {
        pack(into, &self.near, |number| number == UNKNOWN_HERE);
    }

    /// Collects the regions whose number is known and above a limit.
    pub(crate) fn above(&self, limit: u64, into: &mut [u64]) {
        if self.shift > 0 {
            super::bits::pack(into, self.exact.len(), |region| {
                self.exact[region] > limit && self.exact[region] != UNKNOWN
            });
            return;
        }
        // One below what stands for unknown: nothing known is above that.
        let limit = i32::try_from(limit).unwrap_or(UNKNOWN_HERE).min(UNKNOWN_HERE - 1);
        pack(into, &self.near, |number| (number > limit) & (number != UNKNOWN_HERE));
    }
}

/// Whether every number up to this fits a row as it is.
pub(crate) const fn fits_a_row(most: u128) -> bool {
    most < 1 << 30
}

/// Packs one test a number into words.
pub(crate) fn pack(into: &mut [u64], numbers: &[i32], test: impl Fn(i32) -> bool) {
    for (word, numbers) in into.iter_mut().zip(numbers.chunks(WORD)) {
        let mut bytes = [0; WORD];
        for (byte, number) in bytes.iter_mut().zip(numbers) {
            *byte = u8::from(test(*number));
        }
        *word = gather(&bytes);
    }
}

/// All ones for each region of a set, zero for the others.
pub(crate) fn lanes(words: &[u64], regions: usize) -> Vec<i32> {
    /// The bits of half a word.
    const BITS: [u32; WORD / 2] = {
        let mut bits = [0; WORD / 2];
        let mut at = 0;
        while at < bits.len() {
            bits[at] = 1 << at;
            at += 1;
        }
        bits
    };
    let mut lanes = vec![0; regions];
    for (at, lanes) in lanes.chunks_mut(WORD / 2).enumerate() {
        let word = words[at / 2].to_le_bytes();
        let [a, b, c, d, e, f, g, h] = word;
        let half =
            u32::from_le_bytes(if at % 2 == 0 { [a, b, c, d] } else { [e, f, g, h] });
        for (lane, bit) in lanes.iter_mut().zip(BITS) {
            *lane = -i32::from(half & bit != 0);
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::super::bits::{Bits, ones};
    use super::*;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0_u64..50, 0_u64..1 << 12, 0_u64..1 << 58, Just(UNKNOWN)]
    }

    fn narrow() -> impl Strategy<Value = u64> {
        prop_oneof![0_u64..1 << 12, Just(UNKNOWN)]
    }

    proptest! {
        #[test]
        fn a_row_answers_as_the_numbers_it_was_made_of(
            numbers in prop_oneof![
                proptest::collection::vec(number(), 0..150),
                proptest::collection::vec(narrow(), 0..150),
            ],
            members in proptest::collection::vec(any::<bool>(), 150),
            limit in number(),
        ) {
            let row = Row::of(Cow::Borrowed(&numbers));
            let mut set = Bits::none(numbers.len());
            (0..numbers.len()).for_each(|at| set.set(at, members[at]));
            let lanes = lanes(set.as_words(), numbers.len());
            for (at, number) in numbers.iter().enumerate() {
                prop_assert_eq!(row.get(at), *number);
                prop_assert_eq!(lanes[at], -i32::from(members[at]));
                if *number != UNKNOWN {
                    let near = u64::from(row.near[at].cast_unsigned());
                    prop_assert_eq!(near, number >> row.shift);
                }
            }
            let known = ones(set.as_words()).map(|at| numbers[at]);
            let known: Vec<u64> = known.filter(|number| *number != UNKNOWN).collect();
            let low = known.iter().copied().min().unwrap_or(u64::MAX);
            let high = known.iter().copied().max().unwrap_or(0);
            prop_assert_eq!(row.extremes(set.as_words(), &lanes), (low, high));
            let mut found = Bits::none(numbers.len());
            row.above(limit, found.as_words_mut());
            for (at, number) in numbers.iter().enumerate() {
                prop_assert_eq!(found.has(at), *number > limit && *number != UNKNOWN);
            }
            row.unknown(found.as_words_mut());
            for (at, number) in numbers.iter().enumerate() {
                prop_assert_eq!(found.has(at), *number == UNKNOWN);
            }
        }
    }
}
