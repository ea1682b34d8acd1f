//! One number a region, rounded down to sixteen bits, for passes over all regions; what
//! rounding leaves open is asked for exactly.

use super::bits::{WORD, each};
use super::fleet::UNKNOWN;
use super::lanes::{Lanes, mask, pack};

/// Stands for [`UNKNOWN`]: above every number.
const UNKNOWN_HERE: u16 = u16::MAX;

/// Numbers of regions: each is at least its lane times two to the `shift`, and less than the
/// lane plus `error` times that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Near {
    pub(crate) lanes: Vec<Lanes>,
    pub(crate) shift: u32,
    pub(crate) error: u16,
    /// Whether some lane stands for a number that is not known.
    gaps: bool,
}

/// The least and the largest known number among some regions; (`u64::MAX`, 0) of none.
pub(crate) type Extremes = (u64, u64);

impl Near {
    /// Rounds numbers, of which some may be [`UNKNOWN`].
    pub(crate) fn of(numbers: &[u64]) -> Self {
        let known = numbers.iter().copied().filter(|number| *number != UNKNOWN);
        let most = known.max().unwrap_or(0);
        let digits = u64::BITS - most.leading_zeros();
        let mut shift = digits.saturating_sub(u16::BITS);
        if most >> shift == u64::from(UNKNOWN_HERE) {
            shift += 1;
        }
        let near = |number: u64| match number {
            UNKNOWN => UNKNOWN_HERE,
            known => u16::try_from(known >> shift).unwrap_or(UNKNOWN_HERE),
        };
        let block = |numbers: &[u64]| -> Lanes {
            std::array::from_fn(|at| numbers.get(at).map_or(0, |number| near(*number)))
        };
        Self {
            lanes: numbers.chunks(WORD).map(block).collect(),
            shift,
            error: 1,
            gaps: numbers.contains(&UNKNOWN),
        }
    }

    /// Numbers that are all known and were rounded elsewhere.
    pub(crate) const fn known(lanes: Vec<Lanes>, shift: u32, error: u16) -> Self {
        Self { lanes, shift, error, gaps: false }
    }

    /// Numbers below 2^64 of which nothing is known here.
    pub(crate) fn vague(words: usize) -> Self {
        Self::known(vec![[0; WORD]; words], u64::BITS, u16::MAX)
    }

    /// A number in the unit of the lanes, rounded up.
    pub(crate) fn units(&self, number: u64) -> u128 {
        u128::from(number).div_ceil(1 << self.shift)
    }

    /// The extremes of the known numbers of some regions, exactly. A block is looked at closely
    /// only when it could hold a new one.
    pub(crate) fn extremes(
        &self,
        standing: &[u64],
        exact: impl Fn(usize) -> u64,
    ) -> Extremes {
        let (mut low, mut high) = (u64::MAX, 0);
        let (mut least, mut most) = (UNKNOWN_HERE, 0);
        let blur = self.error - 1;
        for (at, (lanes, word)) in self.lanes.iter().zip(standing).enumerate() {
            if *word == 0 {
                continue;
            }
            let (lowest, highest) = ends(lanes, *word);
            least = lowest.min(least);
            most = highest.max(most);
            let reach = least.saturating_add(blur);
            if lowest <= reach && lowest < UNKNOWN_HERE {
                let lowest = pack(lanes, |lane| lane <= reach) & word;
                each(&[lowest], |bit| low = low.min(exact(at * WORD + bit)));
            }
            let reach = most.saturating_sub(blur);
            if highest >= reach {
                let known = |lane| (lane >= reach) & (lane != UNKNOWN_HERE);
                let highest = pack(lanes, known) & word;
                each(&[highest], |bit| high = high.max(exact(at * WORD + bit)));
            }
        }
        (low, high)
    }

    /// Collects the regions whose number is not known.
    pub(crate) fn unknown(&self, into: &mut [u64]) {
        if self.gaps {
            for (word, lanes) in into.iter_mut().zip(&self.lanes) {
                *word = pack(lanes, |lane| lane == UNKNOWN_HERE);
            }
        }
    }

    /// Collects those of some regions whose number is known and above a limit.
    pub(crate) fn above(
        &self,
        limit: u64,
        (among, into): (&[u64], &mut [u64]),
        exact: impl Fn(usize) -> u64,
    ) {
        let limit_here = limit.checked_shr(self.shift).unwrap_or(0);
        // Of lanes above this the numbers are above the limit; up to `within` they are not.
        let over = u16::try_from(limit_here).unwrap_or(UNKNOWN_HERE);
        let within = over.checked_sub(self.error);
        let words = into.iter_mut().zip(among);
        for (at, ((word, among), lanes)) in words.zip(&self.lanes).enumerate() {
            let over_it = |lane| (lane > over) & (lane != UNKNOWN_HERE);
            let open = |lane| lane <= over && within.is_none_or(|within| lane > within);
            let mut above = pack(lanes, over_it) & among;
            each(&[pack(lanes, open) & among], |bit| {
                let number = exact(at * WORD + bit);
                above |= u64::from(number > limit && number != UNKNOWN) << bit;
            });
            *word = above;
        }
    }
}

/// The lowest and the highest lane of some regions, leaving out what is not known.
#[inline(never)]
fn ends(lanes: &Lanes, word: u64) -> (u16, u16) {
    let (mut low, mut high) = (UNKNOWN_HERE, 0);
    for (lane, mask) in lanes.iter().zip(mask(word)) {
        let known = if *lane == UNKNOWN_HERE { 0 } else { *lane };
        low = low.min(lane | !mask);
        high = high.max(known & mask);
    }
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::super::bits::{Bits, ones};
    use super::*;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            0_u64..50,
            65_000_u64..66_000,
            0_u64..1 << 20,
            0_u64..1 << 58,
            Just(UNKNOWN)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn near_numbers_answer_as_those_they_were_made_of(
            numbers in proptest::collection::vec(number(), 0..200),
            narrow: bool,
            members in proptest::collection::vec(any::<bool>(), 200),
            limit in number(),
        ) {
            let keep = |number: u64| if narrow && number != UNKNOWN { number % 70_000 } else { number };
            let numbers: Vec<u64> = numbers.into_iter().map(keep).collect();
            let near = Near::of(&numbers);
            let mut set = Bits::none(numbers.len());
            (0..numbers.len()).for_each(|at| set.set(at, members[at]));
            check(&near, &numbers, &set, limit)?;
            let mut found = Bits::none(numbers.len());
            near.unknown(found.as_words_mut());
            for (at, number) in numbers.iter().enumerate() {
                prop_assert_eq!(found.has(at), *number == UNKNOWN);
            }
        }

        #[test]
        fn an_error_is_made_up_for(
            numbers in proptest::collection::vec(
                (prop_oneof![0_u64..40, 64_960_u64..65_000], 0_u16..7, any::<bool>()),
                0..200,
            ),
            shift in 0_u32..6,
            members in proptest::collection::vec(any::<bool>(), 200),
            limit in 0_u64..1 << 20,
        ) {
            let lane = |at: usize| -> u16 {
                let (lane, blur, _) = numbers.get(at).copied().unwrap_or_default();
                u16::try_from(lane).unwrap().saturating_sub(blur)
            };
            let block = |block: usize| std::array::from_fn(|at| lane(block * WORD + at));
            let lanes = (0..numbers.len().div_ceil(WORD)).map(block);
            let number = |(lane, _, odd): (u64, u16, bool)| (lane << shift) + u64::from(odd && shift > 0);
            let near = Near::known(lanes.collect(), shift, 7);
            let numbers: Vec<u64> = numbers.iter().copied().map(number).collect();
            let mut set = Bits::none(numbers.len());
            (0..numbers.len()).for_each(|at| set.set(at, members[at]));
            check(&near, &numbers, &set, limit)?;
            check(&Near::vague(near.lanes.len()), &numbers, &set, limit)?;
        }
    }

    fn check(
        near: &Near,
        numbers: &[u64],
        set: &Bits,
        limit: u64,
    ) -> Result<(), TestCaseError> {
        let known = ones(set.as_words()).map(|at| numbers[at]);
        let known: Vec<u64> = known.filter(|number| *number != UNKNOWN).collect();
        let low = known.iter().copied().min().unwrap_or(u64::MAX);
        let high = known.iter().copied().max().unwrap_or(0);
        let exact = |at: usize| numbers[at];
        prop_assert_eq!(near.extremes(set.as_words(), exact), (low, high));
        let mut found = Bits::none(numbers.len());
        near.above(limit, (set.as_words(), found.as_words_mut()), exact);
        for (at, number) in numbers.iter().enumerate() {
            let above = set.has(at) && *number > limit && *number != UNKNOWN;
            prop_assert_eq!(found.has(at), above);
        }
        Ok(())
    }
}
