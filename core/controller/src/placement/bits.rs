//! Sets of regions as bits, one bit a region, sixty-four to the word.
//!
//! A filter is one AND over a thousand regions in sixteen words, and the record of what
//! refused whom is the filters' own result. Rejected: a byte of reason a region, which holds
//! one reason only and must be written region by region.

/// Regions in one word.
pub(crate) const WORD: usize = 64;

/// Words for this many regions.
pub(crate) const fn words(regions: usize) -> usize {
    regions.div_ceil(WORD)
}

/// A set of regions, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// No region of so many.
    pub(crate) fn none(regions: usize) -> Self {
        Self(vec![0; words(regions)])
    }

    /// Every region of so many.
    pub(crate) fn all(regions: usize) -> Self {
        let mut bits = Self::none(regions);
        (0..regions).for_each(|region| bits.set(region, true));
        bits
    }

    /// Puts a region in or takes it out.
    pub(crate) fn set(&mut self, region: usize, member: bool) {
        let mask = 1 << (region % WORD);
        if let Some(word) = self.0.get_mut(region / WORD) {
            *word = if member { *word | mask } else { *word & !mask };
        }
    }

    /// Whether a region is in it.
    pub(crate) fn has(&self, region: usize) -> bool {
        has(&self.0, region)
    }

    /// The words.
    pub(crate) fn as_words(&self) -> &[u64] {
        &self.0
    }

    /// The words, to write.
    #[cfg(test)]
    pub(crate) fn as_words_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

/// Whether a region is in a set given as words.
pub(crate) fn has(words: &[u64], region: usize) -> bool {
    words.get(region / WORD).is_some_and(|word| word >> (region % WORD) & 1 == 1)
}

/// The regions of a set given as words, in rising order.
pub(crate) fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(at, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = rest.trailing_zeros();
            if rest == 0 {
                return None;
            }
            rest &= rest - 1;
            Some(at * WORD + bit as usize)
        })
    })
}

/// Calls for each region of a set given as words, in rising order; the loop of the hot path,
/// which an iterator would leave half unrolled.
pub(crate) fn each(words: &[u64], mut call: impl FnMut(usize)) {
    for (at, word) in words.iter().enumerate() {
        let mut rest = *word;
        while rest != 0 {
            call(at * WORD + rest.trailing_zeros() as usize);
            rest &= rest - 1;
        }
    }
}

/// Packs one test a region into words. `test` is asked for every index below `regions`.
pub(crate) fn pack(into: &mut [u64], regions: usize, test: impl Fn(usize) -> bool) {
    for (at, word) in into.iter_mut().enumerate() {
        let first = at * WORD;
        let last = regions.min(first + WORD);
        *word = (first..last)
            .fold(0, |bits, region| bits | u64::from(test(region)) << (region - first));
    }
}

/// The lowest bit of each byte as one word, the first byte's lowest: a multiplication moves
/// those of eight bytes next to each other.
pub(crate) fn gather(bytes: &[u8; WORD]) -> u64 {
    /// Moves bit 8 i to bit 56 + i, and no other bit there.
    const TOGETHER: u64 = 0x0102_0408_1020_4080;
    let (eights, _) = bytes.as_chunks::<8>();
    let gathered = eights.iter().enumerate().map(|(at, eight)| {
        (u64::from_le_bytes(*eight).wrapping_mul(TOGETHER) >> 56) << (at * 8)
    });
    gathered.fold(0, |word, eight| word | eight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_gives_back_what_was_put_in(members in proptest::collection::btree_set(0usize..200, 0..50)) {
            let mut bits = Bits::none(200);
            members.iter().for_each(|region| bits.set(*region, true));
            prop_assert_eq!(ones(bits.as_words()).collect::<Vec<_>>(), members.iter().copied().collect::<Vec<_>>());
            let mut called = Vec::new();
            each(bits.as_words(), |region| called.push(region));
            prop_assert_eq!(called, ones(bits.as_words()).collect::<Vec<_>>());
            let mut packed = Bits::none(200);
            pack(packed.as_words_mut(), 200, |region| members.contains(&region));
            prop_assert_eq!(packed, bits);
        }
    }

    proptest! {
        #[test]
        fn gathering_keeps_every_bit_in_its_place(word in any::<u64>()) {
            let bytes = std::array::from_fn(|at| u8::from(word >> at & 1 == 1));
            prop_assert_eq!(gather(&bytes), word);
        }
    }

    #[test]
    fn all_stops_at_the_last_region() {
        let all = Bits::all(70);
        assert_eq!(ones(all.as_words()).count(), 70);
        assert!(all.has(69) && !all.has(70) && !all.has(1000));
    }
}
