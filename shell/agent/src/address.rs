//! Chooses a guest's address in the host's prefix: pure.
//!
//! The first try comes from the VM's own hash, so a VM that is made again on the same host
//! usually gets the address it had; taken ones are passed over in order.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::hypervisor::Prefix;

impl Prefix {
    /// The address of the host's bridge: the first one.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network).saturating_add(1))
    }

    /// An address that nobody has, or nothing when all are taken.
    #[must_use]
    pub fn choose(self, seed: u64, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        // Without the network's own, the gateway's and the broadcast address.
        let usable = (1u64 << (32 - u32::from(self.length.clamp(8, 30)))) - 3;
        let tries = usable.min(taken.len() as u64 + 1);
        (0..tries)
            .filter_map(|step| u32::try_from((seed % usable + step) % usable).ok())
            .map(|place| Ipv4Addr::from(u32::from(self.network) + 2 + place))
            .find(|address| !taken.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_the_prefix_is_given_once_and_then_none() {
        let prefix = Prefix { network: Ipv4Addr::new(10, 9, 0, 0), length: 29 };
        let mut taken = BTreeSet::new();
        while let Some(address) = prefix.choose(u64::MAX - 1, &taken) {
            assert!(taken.insert(address));
        }
        let last: Vec<u8> = taken.iter().map(|address| address.octets()[3]).collect();
        assert_eq!(last, [2, 3, 4, 5, 6]);
        assert_eq!(prefix.gateway(), Ipv4Addr::new(10, 9, 0, 1));
    }
}
