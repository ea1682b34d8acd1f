//! What an hour costs in every region at once.
//!
//! Exactly, one by one, the cost is [`CostProfile::hourly`]; for a pass over all regions it is
//! rounded down to sixteen bits, whatever the prices are.

use dwcp_types::{CostProfile, VmShape};

use crate::placement::bits::{WORD, words};
use crate::placement::lanes::{Lanes, upper_product};
use crate::placement::near::Near;

/// What is priced: CPUs, memory, storage.
const PRICED: usize = 3;
/// What the units of a price are divided by: CPUs an hour; MiB of a GiB; hours of a month (F34).
const DIVISORS: [u64; PRICED] = [1, 1024, 730];
/// Units that a near cost may be below the true one: for each priced thing one each for the
/// price, the amount (two where it just leaves sixteen bits) and the product.
const ERROR: u16 = 4 * 3;
/// Binary digits of the largest near cost, at most.
const DIGITS: u32 = 15;

/// The prices of every region, rounded down to sixteen bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prices {
    exact: Vec<CostProfile>,
    near: Vec<[Lanes; PRICED]>,
    most: [u64; PRICED],
}

const fn digits(number: u128) -> u32 {
    u128::BITS - number.leading_zeros()
}

/// `number` times two to the power of `up - down`, rounded down.
const fn scaled(number: u64, up: u32, down: u32) -> u128 {
    if up < down {
        (number as u128) >> (down - up)
    } else {
        (number as u128) << (up - down)
    }
}

impl Prices {
    /// Takes prices down.
    pub(crate) fn of(profiles: impl Iterator<Item = CostProfile>) -> Self {
        let exact: Vec<CostProfile> = profiles.collect();
        let mut most = [0; PRICED];
        for profile in &exact {
            let prices = most.iter_mut().zip(priced(profile));
            prices.for_each(|(most, price)| *most = price.max(*most));
        }
        let mut near = vec![[[0; WORD]; PRICED]; words(exact.len())];
        for (region, profile) in exact.iter().enumerate() {
            let block = &mut near[region / WORD];
            for (thing, price) in priced(profile).into_iter().enumerate() {
                let low = scaled(price, u16::BITS, digits(most[thing].into()));
                block[thing][region % WORD] = u16::try_from(low).unwrap_or(u16::MAX);
            }
        }
        Self { exact, near, most }
    }

    /// What an hour of a VM costs in a region, in millionths of a dollar.
    pub(crate) fn hourly(&self, region: usize, shape: &VmShape) -> u64 {
        self.exact[region].hourly(shape).get()
    }

    /// The near cost of each region.
    pub(crate) fn near(&self, shape: &VmShape) -> Near {
        let amounts = [u64::from(shape.cpu), shape.memory.get(), shape.storage.get()];
        let products: [u128; PRICED] = std::array::from_fn(|thing| {
            u128::from(self.most[thing]) * u128::from(amounts[thing])
        });
        // What saturates is not near anything.
        if products.iter().any(|product| *product > u128::from(u64::MAX)) {
            return Near::vague(self.near.len());
        }
        let parts = products.iter().zip(DIVISORS);
        let most = parts.map(|(product, divisor)| product.div_ceil(divisor.into()));
        // Never finer than the cost itself, whose parts are rounded down to a millionth.
        let shift = digits(most.sum()).saturating_sub(DIGITS);
        // The factor makes up for what near prices gained or lost.
        let factors: [u16; PRICED] = std::array::from_fn(|thing| {
            let gained = digits(self.most[thing].into());
            let amount = scaled(amounts[thing], gained, shift);
            u16::try_from(amount / u128::from(DIVISORS[thing])).unwrap_or(u16::MAX)
        });
        Near::known(sums(&self.near, factors), shift, ERROR)
    }
}

/// Adds up the parts of each region.
#[inline(never)]
fn sums(near: &[[Lanes; PRICED]], factors: [u16; PRICED]) -> Vec<Lanes> {
    let sum = |[cpu, memory, storage]: &[Lanes; PRICED]| -> Lanes {
        std::array::from_fn(|at| {
            upper_product(cpu[at], factors[0])
                + upper_product(memory[at], factors[1])
                + upper_product(storage[at], factors[2])
        })
    };
    near.iter().map(sum).collect()
}

fn priced(profile: &CostProfile) -> [u64; PRICED] {
    [profile.cpu_hour, profile.memory_gib_hour, profile.storage_gib_month]
        .map(dwcp_types::MicroUsd::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_types::{Gib, Mib, MicroUsd};
    use proptest::prelude::*;

    fn profile() -> impl Strategy<Value = CostProfile> {
        let price = || {
            prop_oneof![
                Just(0_u64),
                0_u64..40,
                0_u64..200_000,
                0_u64..1 << 24,
                0_u64..1 << 50,
                any::<u64>()
            ]
        };
        (price(), price(), price()).prop_map(|(cpu, memory, storage)| CostProfile {
            cpu_hour: MicroUsd::new(cpu),
            memory_gib_hour: MicroUsd::new(memory),
            storage_gib_month: MicroUsd::new(storage),
            ..CostProfile::default()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn a_near_cost_is_within_its_error_below_the_cost(
            profiles in proptest::collection::vec(profile(), 1..10),
            cpu in prop_oneof![1_u32..64, 1_u32..4_097],
            memory in prop_oneof![1_u64..5_000, 1_u64..1 << 26],
            storage in prop_oneof![1_u64..2_000, 1_u64..1 << 20],
            capped: bool,
        ) {
            let cap = |profile: CostProfile| if capped {
                let low = |price: MicroUsd| MicroUsd::new(price.get() % 100_000);
                CostProfile {
                    cpu_hour: low(profile.cpu_hour),
                    memory_gib_hour: low(profile.memory_gib_hour),
                    storage_gib_month: low(profile.storage_gib_month),
                    ..profile
                }
            } else {
                profile
            };
            let profiles: Vec<CostProfile> = profiles.into_iter().map(cap).collect();
            let (memory, storage) = (Mib::new(memory), Gib::new(storage));
            let shape = VmShape { cpu, memory, storage, ..VmShape::default() };
            let prices = Prices::of(profiles.iter().copied());
            let near = prices.near(&shape);
            for (at, profile) in profiles.iter().enumerate() {
                let cost = u128::from(profile.hourly(&shape).get());
                prop_assert_eq!(u128::from(prices.hourly(at, &shape)), cost);
                let lane = u128::from(near.lanes[at / WORD][at % WORD]);
                let below = lane + u128::from(near.error);
                let unit = 1_u128 << near.shift;
                prop_assert!(lane * unit <= cost && cost < below * unit, "{lane} {cost} {near:?}");
            }
        }
    }
}
