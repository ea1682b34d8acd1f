//! An upper bound of every region's score, and the regions in falling order of it.
//!
//! A bound is a sum of the same parts as the score, each no less than it will be, in 32 bits
//! and without a division: one pass of vector code over all regions. Regions are then taken
//! from the highest bound down, which a heap of all of them would not repay: about twenty of a
//! thousand are taken before no bound left can win.

use super::fleet::FINE;
use super::policy::CAPACITY;
use super::query::Query;
use super::row::Row;

/// Binary digits after the point. Steps of up to 2^15 times weights of up to 10,000 (below
/// 2^14) stay below 2^31.
const FRACTION: u32 = 15;
/// A range must have so many steps when they are rounded, or they tell too little.
const STEPS_MIN: u64 = 64;
/// Regions whose highest bound is kept.
const BLOCK: usize = 64;

/// What bounds the part of a factor that falls from `high` to nothing over a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slope {
    top: i32,
    shift: u32,
    /// One where steps are rounded.
    more: i32,
    per_step: i32,
}

impl Slope {
    /// For a factor with this weight, over `range` below `high`.
    pub(crate) fn new(weight: u16, (high, range): (u64, u64), row: &Row) -> Self {
        let digits = u64::BITS - (range >> row.shift).leading_zeros();
        let shift = digits.saturating_sub(FRACTION);
        let halved = row.shift + shift;
        let whole = i32::from(weight) << FRACTION;
        // The whole weight for every region bounds it too.
        let flat = Self { top: 0, shift: 31, more: 1, per_step: whole };
        let rounded = halved > 0 && range >> halved < STEPS_MIN;
        let top = i32::try_from((high >> row.shift) + u64::from(row.shift > 0));
        let Some(top) = top.ok().filter(|top| *top <= 1 << 30) else { return flat };
        if range == 0 || rounded {
            return flat;
        }
        let wide = u128::from(weight) << (FRACTION + halved);
        let per_step = i32::try_from(wide.div_ceil(u128::from(range))).unwrap_or(whole);
        Self { top, shift, more: i32::from(halved > 0), per_step }
    }

    /// No less than what the factor adds to the score of a region that stands; anything for
    /// the others.
    const fn of(&self, near: i32) -> i32 {
        let below = self.top - near;
        let steps = (below & !(below >> 31)) >> self.shift;
        (steps + self.more).wrapping_mul(self.per_step) >> FRACTION
    }
}

/// What bounds the part of the capacity factor: a zone's free share before, less what the VM
/// is of the largest zone. Overflow is harmless: a part so large that it overflows leaves a
/// true rest of nothing, which nothing that comes out is below.
struct CapacityBound {
    cpu: i32,
    gib: i32,
    weight: i32,
}

impl CapacityBound {
    fn new(query: &Query<'_>) -> Self {
        let [cpu, memory, ..] = query.amounts;
        let low = |amount: u64| i32::try_from(amount).unwrap_or(0);
        let weight = i32::from(query.weights[CAPACITY]);
        Self { cpu: low(cpu), gib: low(memory / 1024), weight }
    }

    fn of(&self, cpu: (i32, i32), memory: (i32, i32), headroom: i32) -> i32 {
        let rest = |(share, part): (i32, i32), amount: i32| {
            share.wrapping_sub(part.wrapping_mul(amount)).max(0)
        };
        let parts = rest(cpu, self.cpu).min(rest(memory, self.gib)).min(headroom);
        let steps = (parts >> (FINE.trailing_zeros() - FRACTION)) + 1;
        steps.wrapping_mul(self.weight) >> FRACTION
    }
}

/// The bounds of all regions, -1 for what does not stand or was taken.
pub(crate) struct Bounds {
    bounds: Vec<i32>,
    /// The highest of each block.
    tops: Vec<i32>,
}

impl Bounds {
    /// Bounds every region that stands: whose lane is all ones.
    pub(crate) fn new(
        query: &Query<'_>,
        latency: &Slope,
        cost: &Slope,
        standing: Vec<i32>,
    ) -> Self {
        let capacity = CapacityBound::new(query);
        let ceilings = &query.fleet.hot.ceilings;
        let mut bounds = standing;
        let cpu = ceilings.cpu_share.iter().zip(&ceilings.cpu_part);
        let memory = ceilings.memory_share.iter().zip(&ceilings.gib_part);
        let room = cpu.zip(memory).zip(&ceilings.headroom);
        let slopes = query.latency.near.iter().zip(&query.costs.near);
        let rows = room.zip(slopes).zip(&ceilings.steady[query.strategy as usize]);
        for (lane, (((cpu_memory, headroom), (far, dear)), steady)) in
            bounds.iter_mut().zip(rows)
        {
            let ((cpu_share, cpu_part), (memory_share, gib_part)) = cpu_memory;
            let room = capacity.of(
                (*cpu_share, *cpu_part),
                (*memory_share, *gib_part),
                *headroom,
            );
            let sum = latency.of(*far) + cost.of(*dear) + room + steady;
            *lane = sum | !*lane;
        }
        let tops = bounds.chunks(BLOCK).map(highest).collect();
        Self { bounds, tops }
    }

    /// Takes the region with the highest bound, of equal ones the first.
    pub(crate) fn pop(&mut self) -> Option<(usize, i32)> {
        let top = highest(&self.tops);
        let block = self.tops.iter().position(|other| *other == top)?;
        let first = block * BLOCK;
        let last = self.bounds.len().min(first + BLOCK);
        let bounds = self.bounds.get_mut(first..last)?;
        let at = bounds.iter().position(|bound| *bound == top)?;
        if top < 0 {
            return None;
        }
        bounds[at] = -1;
        self.tops[block] = highest(bounds);
        Some((first + at, top))
    }
}

fn highest(bounds: &[i32]) -> i32 {
    bounds.iter().fold(-1, |top, bound| top.max(*bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::borrow::Cow;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn a_slope_is_never_below_the_part_of_the_score(
            low in prop_oneof![0_u64..100, 0_u64..1 << 50],
            range in prop_oneof![0_u64..100, 0_u64..100_000, 0_u64..1 << 50],
            shares in proptest::collection::vec(0_u64..=1_000, 1..40),
            to_zero: bool,
            weight in 1_u16..=10_000,
        ) {
            let range = if to_zero { low + range } else { range };
            let low = if to_zero { 0 } else { low };
            let values = shares.iter().map(|share| {
                low + u64::try_from(u128::from(range) * u128::from(*share) / 1_000).unwrap()
            });
            let values: Vec<u64> = values.collect();
            let row = Row::of(Cow::Borrowed(&values));
            let slope = Slope::new(weight, (low + range, range), &row);
            for (value, near) in values.iter().zip(&row.near) {
                let rest = u128::from(low + range - value);
                let factor = (rest * 10_000).checked_div(range.into()).unwrap_or(10_000);
                let part = factor * u128::from(weight) / 10_000;
                let bound = slope.of(*near);
                prop_assert!(i128::from(bound) >= i128::try_from(part).unwrap());
                prop_assert!(bound <= i32::from(weight) + i32::from(weight) / 8 + 1);
            }
        }

        #[test]
        fn regions_come_in_falling_order_of_their_bounds(
            bounds in proptest::collection::vec(-1_i32..50, 0..200),
        ) {
            let tops = bounds.chunks(BLOCK).map(highest).collect();
            let mut under_way = Bounds { bounds: bounds.clone(), tops };
            let mut expected: Vec<_> = bounds.iter().copied().enumerate().collect();
            expected.retain(|(_, bound)| *bound >= 0);
            expected.sort_by_key(|(at, bound)| (-bound, *at));
            let popped: Vec<_> = std::iter::from_fn(|| under_way.pop()).collect();
            prop_assert_eq!(popped, expected);
        }
    }
}
