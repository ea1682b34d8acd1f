//! An amount of every resource as eight 32-bit lanes, so that "does it fit" is two vector
//! comparisons.
//!
//! Lanes are in the order of [`Resource`]; two are padding. An amount over [`LANE_MAX`] is
//! taken as that much, which no request reaches (see the bounds in `validate`), so comparing
//! lanes gives the same answer as comparing the numbers they came from.

use dwcp_types::Capacity;

use crate::Resource;

/// Resources that are accounted.
pub(crate) const RESOURCES: usize = 6;
/// Lanes, a power of two for the vector unit.
const LANES: usize = 8;
/// The largest amount of anything on one host: 2 PiB of memory in MiB. One below what a need is
/// clamped to, so that such a need fits nowhere; and with it below the sign, because x86-64
/// compares vectors of signed numbers only.
const LANE_MAX: u32 = NEED_MAX - 1;
const NEED_MAX: u32 = i32::MAX.cast_unsigned();
/// The resources, in the order of the lanes.
pub(crate) const ORDER: [Resource; RESOURCES] = [
    Resource::Cpu,
    Resource::Memory,
    Resource::Storage,
    Resource::Bandwidth,
    Resource::Gpus,
    Resource::Vms,
];
/// The lane of CPUs.
pub(crate) const CPU: usize = 0;
/// The lane of memory.
pub(crate) const MEMORY: usize = 1;
/// The lane of storage.
pub(crate) const STORAGE: usize = 2;
/// The lane of bandwidth.
pub(crate) const BANDWIDTH: usize = 3;
/// The lane of GPUs.
pub(crate) const GPUS: usize = 4;
/// The lane of VM slots.
pub(crate) const VMS: usize = 5;

/// What is free on a host, or what a VM needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room(pub(crate) [u32; LANES]);

/// The plain numbers of a capacity, in the order of the lanes.
pub(crate) const fn amounts(capacity: &Capacity) -> [u64; RESOURCES] {
    [
        capacity.cpu,
        capacity.memory.get(),
        capacity.storage.get(),
        capacity.bandwidth.get(),
        capacity.gpus,
        capacity.vms,
    ]
}

impl Room {
    /// What a host has.
    pub(crate) fn of_host(capacity: &Capacity) -> Self {
        Self::clamped(capacity, LANE_MAX)
    }

    /// What a VM needs.
    pub(crate) fn of_need(capacity: &Capacity) -> Self {
        Self::clamped(capacity, NEED_MAX)
    }

    fn clamped(capacity: &Capacity, most: u32) -> Self {
        let mut lanes = [0; LANES];
        for (lane, amount) in lanes.iter_mut().zip(amounts(capacity)) {
            *lane = u32::try_from(amount).unwrap_or(most).min(most);
        }
        Self(lanes)
    }

    /// Whether `need` fits.
    pub(crate) fn fits(&self, need: &Self) -> bool {
        let lanes = self.0.iter().zip(&need.0);
        // The sign is set where some lane falls short.
        lanes
            .fold(0, |short, (free, need)| short | free.wrapping_sub(*need))
            .cast_signed()
            >= 0
    }

    /// The larger of each lane.
    pub(crate) fn max(&self, other: &Self) -> Self {
        let mut lanes = self.0;
        lanes
            .iter_mut()
            .zip(&other.0)
            .for_each(|(lane, other)| *lane = (*lane).max(*other));
        Self(lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_refusal;
    use dwcp_types::{Gib, Mbps, Mib};
    use proptest::prelude::*;

    fn capacity() -> impl Strategy<Value = Capacity> {
        (0u64..5, 0u64..5, 0u64..5, 0u64..5, 0u64..3, 0u64..3).prop_map(
            |(cpu, memory, storage, bandwidth, gpus, vms)| Capacity {
                cpu,
                memory: Mib::new(memory),
                storage: Gib::new(storage),
                bandwidth: Mbps::new(bandwidth),
                gpus,
                vms,
            },
        )
    }

    proptest! {
        #[test]
        fn lanes_agree_with_the_one_feasibility_function(free in capacity(), need in capacity()) {
            let fits = Room::of_host(&free).fits(&Room::of_need(&need));
            prop_assert_eq!(fits, host_refusal(true, &free, &need).is_none());
        }
    }

    #[test]
    fn a_need_beyond_the_lanes_fits_nowhere() {
        let huge = Capacity { cpu: u64::MAX, ..Capacity::default() };
        assert!(!Room::of_host(&huge).fits(&Room::of_need(&huge)));
    }
}
