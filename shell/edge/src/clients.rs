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

/// Ranges that follow each other without a gap. The first begins at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges {
    starts: Vec<u128>,
    cells: Vec<u32>,
}

impl Clients {
    /// From networks in any order; of two that are the same the later counts. Addresses of none
    /// are in the cell `elsewhere`.
    #[must_use]
    pub fn new(networks: &[Network], elsewhere: u32) -> Self {
        let of = |six: bool| {
            let networks = networks.iter().filter(|net| net.address.is_ipv6() == six);
            let spans = networks.map(|net| {
                let (bits, most) = bits(net.address);
                let len = net.len.min(most);
                let (first, last) = (masked(bits, len), bits | !mask(len));
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
