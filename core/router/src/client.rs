//! A client as a number, by its address: whoever has the same number keeps the same region.

use std::net::IpAddr;

/// Bits of an IPv4 address that tell clients apart: caches of names keep answers for a /24, and
/// most subscribers share theirs with neighbours anyway.
pub const CLIENT_BITS_IPV4: u8 = 24;
/// The same of IPv6: what a subscriber is commonly given (RFC 6177).
pub const CLIENT_BITS_IPV6: u8 = 56;

/// The number of a client ([`crate::Key::client`]), the same in every plane: that of its network of
/// [`CLIENT_BITS_IPV4`] or [`CLIENT_BITS_IPV6`]. An IPv4 address in IPv6 form is taken as IPv4.
#[must_use]
pub fn client_number(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits() >> (32 - CLIENT_BITS_IPV4)),
        IpAddr::V6(address) => {
            let network = address.to_bits() >> (128 - CLIENT_BITS_IPV6);
            // No network of IPv6 has the number of one of IPv4.
            u64::try_from(network).unwrap_or_default() | 1 << 63
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_client_and_others_are_not() {
        let number = |address: &str| client_number(address.parse().unwrap());
        assert_eq!(number("192.0.2.1"), number("192.0.2.254"));
        assert_eq!(number("192.0.2.1"), number("::ffff:192.0.2.7"));
        assert_ne!(number("192.0.2.1"), number("192.0.3.1"));
        assert_eq!(number("2001:db8:0:ff::1"), number("2001:db8::2"));
        assert_ne!(number("2001:db8:0:100::1"), number("2001:db8::2"));
        assert_ne!(number("0.0.0.0"), number("::1"));
    }
}
