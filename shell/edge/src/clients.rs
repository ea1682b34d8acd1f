//! Which cell an address is in, and for which of its neighbours that holds too.
//!
//! Networks within networks are flattened into ranges that follow each other, each with one
//! cell; neighbours of the same cell are one range. So the longest network wins by one search,
//! and the scope of an answer (RFC 7871) is exact: the shortest prefix that stays within the
//! address' range.

use std::net::IpAddr;

/// Bits of an IPv4 address; they are the upper ones of a number of 128.
const FOUR_BITS: u8 = 32;
const BITS: u8 = 128;

/// A network of clients and the cell that they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// An address in it.
    pub address: IpAddr,
    /// How many of its bits are fixed: 0 to 32, or to 128 of IPv6.
    pub len: u8,
    /// The cell, its place in the table's inputs.
    pub cell: u32,
}

/// Where clients are, by their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    four: Ranges,
    six: Ranges,
}

/// Puts places together from very many networks that lie apart and come in the order of their
/// addresses, as files of places have them: neighbours in one cell are one range at once.
#[derive(Clone, Debug)]
pub struct InOrder {
    all: Clients,
    /// Where the next network may begin, of each family; nothing behind the last address.
    next: [Option<u128>; 2],
}

/// A network that comes before the end of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the network {0}/{1} comes before the end of the one before it")]
pub struct OutOfOrder(IpAddr, u8);

impl InOrder {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self { all: Clients::new(&[], Clients::NOWHERE), next: [Some(0); 2] }
    }

    /// One more network.
    ///
    /// # Errors
    ///
    /// When it does not lie behind the last of its family.
    pub fn push(&mut self, network: Network) -> Result<(), OutOfOrder> {
        let six = network.address.is_ipv6();
        let ranges = if six { &mut self.all.six } else { &mut self.all.four };
        let next = &mut self.next[usize::from(six)];
        let (first, last) = span(&network);
        if next.is_none_or(|next| first < next) {
            return Err(OutOfOrder(network.address, network.len));
        }
        ranges.begin(first, network.cell);
        *next = last.checked_add(1);
        if let Some(next) = *next {
            ranges.begin(next, Clients::NOWHERE);
        }
        Ok(())
    }

    /// How many ranges there are by now.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.all.ranges()
    }

    /// All that came; the rest of the addresses is [`Clients::NOWHERE`].
    #[must_use]
    pub fn done(self) -> Clients {
        self.all
    }
}

impl Default for InOrder {
    fn default() -> Self {
        Self::new()
    }
}

/// Ranges that follow each other without a gap. The first begins at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges {
    starts: Vec<u128>,
    cells: Vec<u32>,
}

impl Clients {
    /// No cell: of addresses whose place is not known.
    pub const NOWHERE: u32 = u32::MAX;

    /// These places, each cell as `renumbered`, with networks over them that count before them.
    #[must_use]
    pub fn under(
        &self,
        networks: &[Network],
        renumbered: impl Fn(u32) -> u32 + Copy,
    ) -> Self {
        let over = Self::new(networks, Self::NOWHERE);
        Self {
            four: self.four.under(&over.four, renumbered),
            six: self.six.under(&over.six, renumbered),
        }
    }

    /// How many ranges there are.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.four.starts.len() + self.six.starts.len()
    }

    /// From networks in any order; of two that are the same the later counts. Addresses of none
    /// are in the cell `elsewhere`.
    #[must_use]
    pub fn new(networks: &[Network], elsewhere: u32) -> Self {
        let of = |six: bool| {
            let networks = networks.iter().filter(|net| net.address.is_ipv6() == six);
            let spans = networks.map(|net| {
                let (first, last) = span(net);
                (first, last, net.cell)
            });
            Ranges::new(spans.collect(), elsewhere)
        };
        Self { four: of(false), six: of(true) }
    }

    /// The cell of an address, and the shortest prefix of the address that is all in this cell.
    /// An IPv4 address in IPv6 form is taken as IPv4.
    ///
    /// The prefix is of 0 bits only when every address of both families is in one cell: caches
    /// give an answer of scope 0 to everybody, whatever family asked.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> (u32, u8) {
        let address = address.to_canonical();
        let (bits, most) = bits(address);
        let ranges = if address.is_ipv6() { &self.six } else { &self.four };
        let (cell, scope) = ranges.find(bits);
        let scope = if self.is_uniform() { 0 } else { scope.max(1) };
        (cell, scope.min(most))
    }

    /// Whether it does not matter who asks.
    fn is_uniform(&self) -> bool {
        let (four, six) = (&self.four.cells, &self.six.cells);
        four.len() == 1 && six.len() == 1 && four == six
    }
}

impl Default for Ranges {
    fn default() -> Self {
        Self { starts: vec![0], cells: vec![0] }
    }
}

impl Ranges {
    /// From spans of which any two lie apart or one within the other.
    fn new(mut spans: Vec<(u128, u128, u32)>, elsewhere: u32) -> Self {
        // The wider first among those that begin together.
        spans.sort_by_key(|(first, last, _)| (*first, u128::MAX - *last));
        let mut all = Self { starts: vec![0], cells: vec![elsewhere] };
        let mut open: Vec<(u128, u32)> = Vec::new();
        for (first, last, cell) in spans {
            all.close(&mut open, Some(first), elsewhere);
            all.begin(first, cell);
            open.push((last, cell));
        }
        all.close(&mut open, None, elsewhere);
        all
    }

    /// Ends the spans that end before a point, all of them without one; what is around each
    /// goes on behind it.
    fn close(
        &mut self,
        open: &mut Vec<(u128, u32)>,
        before: Option<u128>,
        elsewhere: u32,
    ) {
        while let Some((last, _)) =
            open.pop_if(|(last, _)| before.is_none_or(|b| *last < b))
        {
            let around = open.last().map_or(elsewhere, |(_, cell)| *cell);
            if let Some(next) = last.checked_add(1) {
                self.begin(next, around);
            }
        }
    }

    /// From here on it is this cell. Points do not fall.
    fn begin(&mut self, at: u128, cell: u32) {
        if self.starts.last() == Some(&at) {
            self.starts.pop();
            self.cells.pop();
        }
        if self.cells.last() != Some(&cell) {
            self.starts.push(at);
            self.cells.push(cell);
        }
    }

    /// These with others over them, where those say a cell.
    fn under(&self, over: &Self, renumbered: impl Fn(u32) -> u32) -> Self {
        let mut all = Self { starts: Vec::new(), cells: Vec::new() };
        let (mut own, mut other, mut at) = (0, 0, 0);
        loop {
            let upper = over.cells.get(other).copied().unwrap_or(Clients::NOWHERE);
            let lower = self.cells.get(own).copied().unwrap_or(Clients::NOWHERE);
            let cell = if upper == Clients::NOWHERE { renumbered(lower) } else { upper };
            all.begin(at, cell);
            let next = (self.starts.get(own + 1), over.starts.get(other + 1));
            at = match next {
                (None, None) => return all,
                (Some(next), None) | (None, Some(next)) => *next,
                (Some(one), Some(two)) => *one.min(two),
            };
            own += usize::from(next.0 == Some(&at));
            other += usize::from(next.1 == Some(&at));
        }
    }

    fn find(&self, bits: u128) -> (u32, u8) {
        let at = self.starts.partition_point(|start| *start <= bits).saturating_sub(1);
        let cell = self.cells.get(at).copied().unwrap_or_default();
        // A prefix stays within when it leaves out the last address before and the first behind.
        let start = self.starts.get(at).copied().unwrap_or_default();
        let before = start.checked_sub(1).map_or(0, |before| apart(bits, before));
        let behind = self.starts.get(at + 1).map_or(0, |next| apart(bits, *next));
        (cell, before.max(behind))
    }
}

/// How many bits tell two addresses that differ apart.
fn apart(one: u128, other: u128) -> u8 {
    let common = (one ^ other).leading_zeros();
    u8::try_from(common + 1).map_or(BITS, |bits| bits.min(BITS))
}

/// The first and the last address of a network.
fn span(network: &Network) -> (u128, u128) {
    let (bits, most) = bits(network.address);
    let len = network.len.min(most);
    (masked(bits, len), bits | !mask(len))
}

fn mask(len: u8) -> u128 {
    match len {
        0 => 0,
        _ => u128::MAX << (BITS - len.min(BITS)),
    }
}

fn masked(bits: u128, len: u8) -> u128 {
    bits & mask(len)
}

/// An address as the upper bits of a number, and how many they are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(four) => (u128::from(four.to_bits()) << (BITS - FOUR_BITS), FOUR_BITS),
        IpAddr::V6(six) => (six.to_bits(), BITS),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network() -> impl Strategy<Value = Network> {
        // Few bits that differ, so that networks meet.
        let four = (0_u32..64, 0_u8..=32)
            .prop_map(|(bits, len)| (IpAddr::from((bits << 26).to_be_bytes()), len));
        let six = (0_u128..64, 0_u8..=128)
            .prop_map(|(bits, len)| (IpAddr::from((bits << 122).to_be_bytes()), len));
        (prop_oneof![four, six], 0_u32..4).prop_map(|((address, len), cell)| Network {
            address,
            len,
            cell,
        })
    }

    fn has(network: &Network, address: IpAddr) -> bool {
        let (first, last) = span(network);
        let (bits, _) = bits(address);
        network.address.is_ipv6() == address.is_ipv6() && (first..=last).contains(&bits)
    }

    proptest! {
        /// Networks of an operator count before a file's, the longest of them first.
        #[test]
        fn an_address_is_where_the_nearest_network_says(
            file in prop::collection::vec(network(), 0..12),
            over in prop::collection::vec(network(), 0..6),
            asked in prop::collection::vec((any::<bool>(), any::<u128>()), 1..40),
        ) {
            // Those of a file lie apart and come in order.
            let mut apart: Vec<Network> = Vec::new();
            for network in file {
                let (first, last) = span(&network);
                let meets = |other: &Network| {
                    let (from, to) = span(other);
                    other.address.is_ipv6() == network.address.is_ipv6()
                        && first <= to && from <= last
                };
                if !apart.iter().any(meets) {
                    apart.push(network);
                }
            }
            apart.sort_by_key(span);
            let mut base = InOrder::new();
            for network in &apart {
                base.push(*network).unwrap();
            }
            let base = base.done();
            let renumbered = |cell| if cell == Clients::NOWHERE { 9 } else { cell + 100 };
            let all = base.under(&over, renumbered);
            for (six, bits) in asked {
                let bits = bits & (u128::MAX << 100);
                let address: IpAddr = if six {
                    bits.to_be_bytes().into()
                } else {
                    u32::try_from(bits >> 96).unwrap().to_be_bytes().into()
                };
                // Of equals the later counts.
                let nearest = over.iter().filter(|n| has(n, address)).max_by_key(|n| {
                    n.len.min(if six { 128 } else { 32 })
                });
                let file = apart.iter().find(|n| has(n, address));
                let expected = match (nearest, file) {
                    (Some(network), _) => network.cell,
                    (None, Some(network)) => network.cell + 100,
                    (None, None) => 9,
                };
                if !six || address.to_canonical() == address {
                    prop_assert_eq!(all.find(address).0, expected, "{}", address);
                }
            }
        }
    }

    #[test]
    fn networks_that_are_not_in_order_are_refused() {
        let network =
            |text: &str, len| Network { address: text.parse().unwrap(), len, cell: 0 };
        let mut all = InOrder::new();
        all.push(network("10.0.0.0", 8)).unwrap();
        assert!(all.push(network("10.1.0.0", 16)).is_err());
        assert!(all.push(network("9.0.0.0", 8)).is_err());
        all.push(network("::", 96)).unwrap();
        all.push(network("255.0.0.0", 8)).unwrap();
        assert!(all.push(network("255.0.0.0", 32)).is_err(), "nothing is behind it");
        assert_eq!(all.done().ranges(), 6);
    }
}
