//! Which region an address belongs to: the longest prefix that covers it, or the place that
//! was announced for it alone.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Routes to targets of any kind.
#[derive(Debug)]
pub(crate) struct Routes<T> {
    hosts: BTreeMap<Ipv4Addr, T>,
    /// Longest first: length, network, target.
    prefixes: Vec<(u32, u32, T)>,
}

impl<T: Copy> Routes<T> {
    pub(crate) const fn new() -> Self {
        Self { hosts: BTreeMap::new(), prefixes: Vec::new() }
    }

    /// Everything below this prefix; the last one said of two that are equal counts.
    pub(crate) fn add_prefix(&mut self, network: Ipv4Addr, length: u32, to: T) {
        let network = masked(network, length);
        self.prefixes.retain(|(other, at, _)| (*other, *at) != (length, network));
        self.prefixes.push((length, network, to));
        self.prefixes.sort_by_key(|(length, ..)| std::cmp::Reverse(*length));
    }

    /// One address, wherever its prefix points.
    pub(crate) fn set_host(&mut self, address: Ipv4Addr, to: T) {
        self.hosts.insert(address, to);
    }

    pub(crate) fn find(&self, address: Ipv4Addr) -> Option<T> {
        let covering =
            |(length, network, _): &&(u32, u32, T)| masked(address, *length) == *network;
        let by_prefix = || self.prefixes.iter().find(covering).map(|(.., to)| *to);
        self.hosts.get(&address).copied().or_else(by_prefix)
    }
}

/// The network of an address; a prefix of no length covers all.
fn masked(address: Ipv4Addr, length: u32) -> u32 {
    let host_bits = 32_u32.saturating_sub(length);
    u32::MAX.checked_shl(host_bits).unwrap_or(0) & u32::from(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, third, fourth)
    }

    #[test]
    fn the_longest_prefix_wins_and_a_host_beats_every_prefix() {
        let mut routes = Routes::new();
        routes.add_prefix(at(0, 0), 16, 'w');
        routes.add_prefix(at(7, 99), 24, 'r');
        assert_eq!(routes.find(at(7, 1)), Some('r'));
        assert_eq!(routes.find(at(8, 1)), Some('w'));
        assert_eq!(routes.find(Ipv4Addr::new(10, 1, 0, 1)), None);
        routes.set_host(at(7, 1), 'm');
        assert_eq!(routes.find(at(7, 1)), Some('m'));
        assert_eq!(routes.find(at(7, 2)), Some('r'));
    }

    #[test]
    fn a_prefix_of_no_length_is_the_default_and_a_later_word_counts() {
        let mut routes = Routes::new();
        routes.add_prefix(at(0, 0), 0, 'x');
        routes.add_prefix(Ipv4Addr::BROADCAST, 0, 'y');
        assert_eq!(routes.find(Ipv4Addr::LOCALHOST), Some('y'));
    }
}
