//! Where a daemon listens: `host:port`.
//!
//! The host is a DNS name, an IPv4 address, or an IPv6 address in brackets. An address that
//! means "any" is refused, because others connect to it and cannot connect to "any".

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::Serialize;

/// Longest DNS name, in bytes (RFC 1035).
const HOST_LEN_MAX: usize = 253;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// The DNS name or address, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The same host at another port.
    pub(super) fn at_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// There is no `:port`.
    #[error("it has no port; write host:port, for example `10.0.0.1:8443`")]
    NoPort,
    /// The port is not 1 to 65535.
    #[error(
        "its port is not a number from 1 to 65535; write host:port, for example `10.0.0.1:8443`"
    )]
    BadPort,
    /// The host is neither a name nor an address.
    #[error(
        "its host is neither a DNS name nor an address; write only host:port, without `https://`, and an IPv6 address in brackets"
    )]
    BadHost,
    /// The address means "any".
    #[error(
        "nobody can connect to an unspecified address; write the address that others reach it at"
    )]
    Unspecified,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (host, port) = text.rsplit_once(':').ok_or(EndpointError::NoPort)?;
        let digits = port.bytes().all(|c| c.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port > 0);
        let host = checked_host(host)?;
        Ok(Self { host, port: port.ok_or(EndpointError::BadPort)? })
    }
}

fn checked_host(host: &str) -> Result<String, EndpointError> {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address: Option<IpAddr> = match inner {
        Some(inner) => {
            Some(inner.parse::<Ipv6Addr>().map_err(|_| EndpointError::BadHost)?.into())
        }
        None => host.parse().ok().filter(IpAddr::is_ipv4),
    };
    match address {
        Some(address) if address.is_unspecified() => Err(EndpointError::Unspecified),
        Some(address) => Ok(address.to_string()),
        None if is_dns_name(host) => Ok(host.to_ascii_lowercase()),
        None => Err(EndpointError::BadHost),
    }
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits only would be a mistyped IPv4 address.
    let last = name.rsplit('.').next().unwrap_or("");
    name.len() <= HOST_LEN_MAX
        && name.split('.').all(label)
        && !last.bytes().all(|c| c.is_ascii_digit())
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        sink.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_both_kinds_are_endpoints() {
        for text in ["127.0.0.11:8443", "dwcpd.eu.example.com:1", "[2001:db8::1]:65535"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused_with_the_reason() {
        for (text, error) in [
            ("127.0.0.1", EndpointError::NoPort),
            ("127.0.0.1:0", EndpointError::BadPort),
            ("127.0.0.1:65536", EndpointError::BadPort),
            ("127.0.0.1:+1", EndpointError::BadPort),
            ("0.0.0.0:8443", EndpointError::Unspecified),
            ("[::]:8443", EndpointError::Unspecified),
            ("2001:db8::1:8443", EndpointError::BadHost),
            ("https://example.com:8443", EndpointError::BadHost),
            ("127.0.0.300:8443", EndpointError::BadHost),
            (":8443", EndpointError::BadHost),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        }
    }
}
