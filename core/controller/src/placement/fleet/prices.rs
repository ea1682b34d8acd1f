//! What an hour costs in every region at once.
//!
//! The same numbers as [`CostProfile::hourly`] has one by one. Prices of today's clouds and
//! VMs fit 32 bits all the way, so the pass is vector code; what does not is added up in 64.

use dwcp_types::{CostProfile, VmShape};

use crate::placement::row::{Row, fits_a_row};

/// Hours that a month's storage is divided by (F34).
const HOURS: u64 = 730;
/// MiB of a GiB.
const MIB: u64 = 1024;
/// From this price of a GiB on (4 USD an hour), its part for some MiB could leave 32 bits.
const MEMORY_PRICE_MAX: u64 = 1 << 22;
/// From this many GiB on, the rest of a storage price could.
const STORAGE_MAX: u64 = 1 << 22;

/// The prices of every region. What does not fit is not used, see [`Prices::narrow`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prices {
    cpu: Vec<u32>,
    memory: Vec<u32>,
    /// A month's price of storage by the hour, and what is left of it.
    storage: Vec<u32>,
    storage_rest: Vec<u32>,
    most: [u64; 3],
}

impl Prices {
    /// Appends a region.
    pub(crate) fn push(&mut self, cost: &CostProfile) {
        let low = |price: u64| u32::try_from(price).unwrap_or(u32::MAX);
        let prices = [cost.cpu_hour, cost.memory_gib_hour, cost.storage_gib_month];
        let [cpu, memory, storage] = prices.map(dwcp_types::MicroUsd::get);
        self.cpu.push(low(cpu));
        self.memory.push(low(memory));
        self.storage.push(low(storage / HOURS));
        self.storage_rest.push(low(storage % HOURS));
        for (most, price) in self.most.iter_mut().zip([cpu, memory, storage]) {
            *most = price.max(*most);
        }
    }

    /// The cost of each region, when all of it fits 32 bits.
    pub(crate) fn narrow(&self, shape: &VmShape) -> Option<Row> {
        let (memory, storage) = (shape.memory.get(), shape.storage.get());
        let [cpu_price, memory_price, storage_price] = self.most.map(u128::from);
        let most = cpu_price * u128::from(shape.cpu)
            + memory_price * u128::from(memory) / u128::from(MIB)
            + storage_price * u128::from(storage) / u128::from(HOURS);
        let narrow =
            fits_a_row(most) && self.most[1] < MEMORY_PRICE_MAX && storage < STORAGE_MAX;
        let whole = |amount: u64| u32::try_from(amount).ok().filter(|_| narrow);
        let cpu = whole(shape.cpu.into())?;
        let (gib, mib) = (whole(memory / MIB)?, whole(memory % MIB)?);
        let storage = whole(storage)?;
        let rest = self.storage.iter().zip(&self.storage_rest);
        let all = self.cpu.iter().zip(&self.memory).zip(rest);
        let costs = all.map(|((cpu_price, memory_price), (hourly, rest))| {
            let memory_part = memory_price.wrapping_mul(gib)
                + (memory_price.wrapping_mul(mib) >> MIB.trailing_zeros());
            let storage_part =
                hourly.wrapping_mul(storage) + rest.wrapping_mul(storage) / 730;
            let cost = cpu_price
                .wrapping_mul(cpu)
                .wrapping_add(memory_part)
                .wrapping_add(storage_part);
            cost.cast_signed()
        });
        Some(Row::narrow(costs.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_types::{Gib, Mib, MicroUsd};
    use proptest::prelude::*;

    fn profile() -> impl Strategy<Value = CostProfile> {
        let price = || prop_oneof![0_u64..200_000, 0_u64..1 << 24, 0_u64..1 << 40];
        (price(), price(), price()).prop_map(|(cpu, memory, storage)| CostProfile {
            cpu_hour: MicroUsd::new(cpu),
            memory_gib_hour: MicroUsd::new(memory),
            storage_gib_month: MicroUsd::new(storage),
            ..CostProfile::default()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn a_narrow_cost_is_the_cost(
            profiles in proptest::collection::vec(profile(), 1..4),
            cpu in 1_u32..4_097,
            memory in prop_oneof![1_u64..5_000, 1_u64..1 << 26],
            storage in prop_oneof![1_u64..2_000, 1_u64..1 << 20],
        ) {
            let (memory, storage) = (Mib::new(memory), Gib::new(storage));
            let shape = VmShape { cpu, memory, storage, ..VmShape::default() };
            let mut prices = Prices::default();
            profiles.iter().for_each(|profile| prices.push(profile));
            let costs = profiles.iter().map(|profile| profile.hourly(&shape).get());
            let costs: Vec<u64> = costs.collect();
            if let Some(row) = prices.narrow(&shape) {
                let row: Vec<u64> = (0..costs.len()).map(|at| row.get(at)).collect();
                prop_assert_eq!(row, costs);
            } else {
                // Only where some price is far above any on sale.
                let dear = |price: &u64| *price >= 200_000;
                let dear_ones = prices.most.iter().any(dear);
                prop_assert!(dear_ones || cpu > 1_000 || memory.get() > 5_000 || storage.get() > 2_000);
            }
        }
    }
}
