//! A network of addresses: `203.0.113.0/24`, `2001:db8::/32`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A network; nothing of an address is set behind its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    base: IpAddr,
    len: u8,
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It has another form.
    #[error("it is no network; write address/length, for example `203.0.113.0/24`")]
    Form,
    /// The length does not fit the address.
    #[error("its length is over {most}; write address/length, for example `{example}`")]
    Length {
        /// The longest.
        most: u8,
        /// How it is written.
        example: &'static str,
    },
    /// The address is one within the network.
    #[error("it has an address within the network; write `{0}`")]
    Within(String),
}

impl Prefix {
    /// Whether an address is in it. An IPv4 address in IPv6 form is taken as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                masked(u128::from(base.to_bits()) << 96, self.len)
                    == masked(u128::from(address.to_bits()) << 96, self.len)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                base.to_bits() == masked(address.to_bits(), self.len)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Its first address.
    #[must_use]
    pub const fn base(&self) -> IpAddr {
        self.base
    }

    /// How many bits it fixes: of those that have an address the longest is nearest to it.
    #[must_use]
    pub const fn bits(&self) -> u8 {
        self.len
    }
}

/// The first bits, counted from the top.
fn masked(bits: u128, len: u8) -> u128 {
    if len == 0 { 0 } else { bits & (u128::MAX << (128 - u32::from(len.min(128)))) }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, len) = text.trim().split_once('/').ok_or(PrefixError::Form)?;
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Form)?;
        let len: u8 = len.parse().map_err(|_| PrefixError::Form)?;
        let (most, example) = match address {
            IpAddr::V4(_) => (32, "203.0.113.0/24"),
            IpAddr::V6(_) => (128, "2001:db8::/32"),
        };
        if len > most {
            return Err(PrefixError::Length { most, example });
        }
        let base = match address {
            IpAddr::V4(address) => {
                let top = masked(u128::from(address.to_bits()) << 96, len) >> 96;
                IpAddr::V4(u32::try_from(top).unwrap_or_default().into())
            }
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(masked(address.to_bits(), len)))
            }
        };
        let prefix = Self { base, len };
        if base == address {
            Ok(prefix)
        } else {
            Err(PrefixError::Within(prefix.to_string()))
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.len)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_its_addresses_and_no_others() {
        let has = |network: &str, address: &str| {
            prefix(network).contains(address.parse().unwrap())
        };
        assert!(has("203.0.113.0/24", "203.0.113.255"));
        assert!(!has("203.0.113.0/24", "203.0.114.0"));
        assert!(has("203.0.113.0/24", "::ffff:203.0.113.7"));
        assert!(has("203.0.113.7/32", "203.0.113.7"));
        assert!(has("0.0.0.0/0", "9.9.9.9") && !has("0.0.0.0/0", "2001:db8::1"));
        assert!(has("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!has("2001:db8::/32", "2001:db9::1"));
        assert!(has("::/0", "2001:db8::1"));
    }

    #[test]
    fn what_is_no_network_is_refused_with_how_to_write_it() {
        for (text, told) in [
            ("203.0.113.0", "no network"),
            ("203.0.113.0/33", "over 32"),
            ("2001:db8::/129", "over 128"),
            ("a/24", "no network"),
            ("203.0.113.9/24", "write `203.0.113.0/24`"),
            ("203.0.113.0/-1", "no network"),
        ] {
            let error = text.parse::<Prefix>().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
