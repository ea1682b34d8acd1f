//! An upper bound of every region's score, and the regions in falling order of it.
//!
//! A bound is a sum of the same parts as the score, each no less than it will be and rounded
//! down to basis points as it will be: one pass over all regions, without a division, see
//! [`super::lanes`]. Regions are then taken from the highest bound down, which a heap of all of
//! them would not repay: about ten of a thousand are taken before no bound left can win.

use dwcp_types::Strategy;

use super::bits::WORD;
use super::fleet::Ceilings;
use super::lanes::{Lanes, highest, mask, pack, upper_product};
use super::near::Near;
use super::policy::CAPACITY;
use super::query::Query;
use super::room::{CPU, MEMORY};

/// Binary digits of a part of the score after the point, before it is rounded down.
const FRACTION: u32 = 3;
/// The largest weight that leaves room for these digits.
const WEIGHT_MAX: u16 = u16::MAX >> FRACTION;

/// What bounds the part of a factor that falls from `high` to nothing over a range.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slope {
    /// The lane from which on nothing is added to the base.
    top: u16,
    /// Steps are doubled so often, to use all sixteen bits.
    doubled: u32,
    /// What 2^16 doubled steps add.
    per_step: u16,
    /// What every region gets.
    base: u16,
    /// In basis points: what every region gets instead of all the above.
    flat: u16,
}

impl Slope {
    /// For a factor with this weight, over `range` below `high`.
    pub(crate) fn new(weight: u16, (high, range): (u64, u64), near: &Near) -> Self {
        // The whole weight for every region is a bound too.
        let flat = Self { flat: weight, ..Self::default() };
        if range == 0 || weight > WEIGHT_MAX {
            return flat;
        }
        let top = u16::try_from(near.units(high)).unwrap_or(u16::MAX);
        let steps = near.units(range) + 1 + u128::from(near.error);
        let steps = u16::try_from(steps).unwrap_or(u16::MAX).min(top);
        let doubled = steps.leading_zeros().min(15);
        // For each unit of the range, times 2^16, rounded up.
        let whole = u128::from(weight << FRACTION);
        let per_unit = (whole << (near.shift + u16::BITS)).div_ceil(range.into());
        let beyond = (near.units(high) - u128::from(top)) << near.shift;
        let base = u16::try_from((whole * beyond).div_ceil(range.into()));
        let per_step = u16::try_from(per_unit.div_ceil(1 << doubled));
        match (base, per_step) {
            (Ok(base), Ok(per_step)) => {
                let slope = Self { top, doubled, per_step, base, flat: 0 };
                // Where steps are too coarse for the range, the whole weight is nearer.
                if slope.of(top - steps) > weight.saturating_mul(2) {
                    flat
                } else {
                    slope
                }
            }
            _ => flat,
        }
    }

    /// No less than what the factor adds to the score of a region that stands, less `flat`;
    /// anything for the others.
    const fn of(&self, near: u16) -> u16 {
        let steps = self.top.saturating_sub(near) << self.doubled;
        upper_product(steps, self.per_step).saturating_add(self.base) >> FRACTION
    }
}

/// What bounds the part of the capacity factor: a zone's free share before, less what the VM
/// is of the largest zone.
#[derive(Clone, Copy, Debug, Default)]
struct CapacityBound {
    cpu: u16,
    memory: u16,
    whole: u16,
    /// In basis points: what every region gets instead.
    flat: u16,
}

impl CapacityBound {
    fn new(query: &Query<'_>) -> Self {
        let weight = query.weights[CAPACITY];
        if weight > WEIGHT_MAX {
            return Self { flat: weight, ..Self::default() };
        }
        let scales = &query.fleet.hot.scales;
        let factor = |lane: usize| scales.factor(lane, query.amounts[lane]);
        let whole = weight << FRACTION;
        Self { cpu: factor(CPU), memory: factor(MEMORY), whole, flat: 0 }
    }

    const fn of(&self, at: &Ceilings, lane: usize) -> u16 {
        let cpu = upper_product(at.cpu_part[lane], self.cpu);
        let memory = upper_product(at.memory_part[lane], self.memory);
        let cpu = at.cpu_share[lane].saturating_sub(cpu);
        let memory = at.memory_share[lane].saturating_sub(memory);
        let room = if cpu < memory { cpu } else { memory };
        let room = if room < at.headroom[lane] { room } else { at.headroom[lane] };
        // One more, because a share is up to one part of 2^16 more than its lane.
        upper_product(room, self.whole).saturating_add(1) >> FRACTION
    }
}

/// All that bounds are made of.
struct Pass {
    latency: Slope,
    cost: Slope,
    capacity: CapacityBound,
    flat: u16,
    strategy: Strategy,
}

impl Pass {
    /// The bounds of one block.
    #[inline(never)]
    fn over(&self, (far, dear): (&Lanes, &Lanes), at: &Ceilings, mask: &Lanes) -> Lanes {
        let steady = &at.steady[self.strategy as usize];
        let mut bounds = [0; WORD];
        for (lane, bound) in bounds.iter_mut().enumerate() {
            let slopes = self.latency.of(far[lane]) + self.cost.of(dear[lane]);
            let rest = self.capacity.of(at, lane) + steady[lane];
            *bound = (slopes + rest + self.flat) & mask[lane];
        }
        bounds
    }
}

/// The bounds of all regions, zero for what does not stand or was taken.
pub(crate) struct Bounds {
    bounds: Vec<Lanes>,
    /// The highest of each block.
    tops: Vec<u16>,
    capacity: CapacityBound,
}

impl Bounds {
    /// Bounds every region that stands.
    pub(crate) fn new(
        query: &Query<'_>,
        latency: &Slope,
        cost: &Slope,
        standing: &[u64],
    ) -> Self {
        let capacity = CapacityBound::new(query);
        let (latency, cost) = (*latency, *cost);
        // One more, so that no bound is zero.
        let flat = latency.flat + cost.flat + capacity.flat + 1;
        let pass = Pass { latency, cost, capacity, flat, strategy: query.strategy };
        let near = query.latency.near.lanes.iter().zip(&query.costs.lanes);
        let rows = near.zip(&query.fleet.hot.ceilings).zip(standing);
        let mut found = Self {
            bounds: Vec::with_capacity(standing.len()),
            tops: Vec::with_capacity(standing.len()),
            capacity,
        };
        for ((near, at), word) in rows {
            let bounds = pass.over(near, at, &mask(*word));
            found.tops.push(highest(&bounds));
            found.bounds.push(bounds);
        }
        found
    }

    /// No less than what the capacity factor adds to the score of a region that stands.
    pub(crate) fn capacity(&self, query: &Query<'_>, region: usize) -> u16 {
        let ceilings = &query.fleet.hot.ceilings[region / WORD];
        self.capacity.of(ceilings, region % WORD) + self.capacity.flat
    }

    /// Takes the region with the highest bound, of equal ones the first, and says above what
    /// score, in basis points, it cannot be.
    pub(crate) fn pop(&mut self) -> Option<(usize, u16)> {
        let (mut block, mut top) = (0, 0);
        for (at, other) in self.tops.iter().enumerate() {
            if *other > top {
                (block, top) = (at, *other);
            }
        }
        if top == 0 {
            return None;
        }
        let bounds = self.bounds.get_mut(block)?;
        let at = pack(bounds, |bound| bound == top).trailing_zeros() as usize;
        bounds[at] = 0;
        self.tops[block] = highest(bounds);
        Some((block * WORD + at, top - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn a_slope_is_never_below_the_part_of_the_score(
            low in prop_oneof![0_u64..100, 0_u64..1 << 50],
            range in prop_oneof![0_u64..100, 0_u64..100_000, 0_u64..1 << 50],
            shares in proptest::collection::vec((0_u64..=1_000, 0_u16..12), 1..40),
            beyond in prop_oneof![Just(0_u64), 0_u64..1_000_000, 0_u64..1 << 60],
            to_zero: bool,
            weight in prop_oneof![0_u16..=10_000, Just(WEIGHT_MAX)],
        ) {
            // As a limit is a range to zero, and may be far beyond all that stands.
            let (range, beyond) = if to_zero { (low + range, beyond) } else { (range, 0) };
            let low = if to_zero { 0 } else { low };
            let values = shares.iter().map(|(share, _)| {
                low + u64::try_from(u128::from(range) * u128::from(*share) / 1_000).unwrap()
            });
            let values: Vec<u64> = values.collect();
            let (high, range) = (low + range + beyond, range + beyond);
            let exact = Near::of(&values);
            let blur = |(at, lane): (usize, &u16)| {
                lane.saturating_sub(shares.get(at).map_or(0, |(_, blur)| *blur))
            };
            let lanes = exact.lanes[0].iter().enumerate().map(blur);
            let lanes: Vec<u16> = lanes.collect();
            let blurred = Near::known(vec![lanes.try_into().unwrap()], exact.shift, 12);
            for near in [exact, blurred, Near::vague(1)] {
                let slope = Slope::new(weight, (high, range), &near);
                for (value, lane) in values.iter().zip(&near.lanes[0]) {
                    let rest = u128::from(high - value);
                    let factor = (rest * 10_000).checked_div(range.into()).unwrap_or(10_000);
                    let part = factor * u128::from(weight) / 10_000;
                    let bound = u128::from(slope.of(*lane) + slope.flat);
                    prop_assert!(bound >= part, "{bound} {part} {slope:?}");
                    prop_assert!(bound <= u128::from(weight) * 2 + 1, "{bound} {slope:?}");
                }
            }
        }

        #[test]
        fn regions_come_in_falling_order_of_their_bounds(
            bounds in proptest::collection::vec(0_u16..50, 0..200),
        ) {
            let block = |chunk: &[u16]| -> Lanes {
                std::array::from_fn(|at| chunk.get(at).copied().unwrap_or(0))
            };
            let blocks: Vec<Lanes> = bounds.chunks(WORD).map(block).collect();
            let tops = blocks.iter().map(highest).collect();
            let capacity = CapacityBound::default();
            let mut under_way = Bounds { bounds: blocks, tops, capacity };
            let mut expected: Vec<_> = bounds.iter().copied().enumerate().collect();
            expected.retain(|(_, bound)| *bound > 0);
            expected.sort_by_key(|(at, bound)| (std::cmp::Reverse(*bound), *at));
            let popped: Vec<_> = std::iter::from_fn(|| under_way.pop()).collect();
            let expected: Vec<_> = expected.iter().map(|(at, bound)| (*at, bound - 1)).collect();
            prop_assert_eq!(popped, expected);
        }
    }
}
