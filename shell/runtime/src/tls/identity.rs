//! Who a certificate says its holder is.
//!
//! Exactly one SPIFFE URI of one of a few shapes. Common names are ignored: they are for
//! people, and software that trusts them has been fooled often enough.

use std::fmt;
use std::str::FromStr;

use dwcp_types::{HostId, RegionId, Timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;

/// What every identity begins with.
const SCHEME: &str = "spiffe://dwcp/";

/// Who someone is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A region's daemon: `spiffe://dwcp/region/<id>`.
    Region(RegionId),
    /// A host's agent: `spiffe://dwcp/host/<region>/<host>`.
    Host {
        /// Its region.
        region: RegionId,
        /// Its host.
        host: HostId,
    },
    /// A member of the strong engine in a region: `spiffe://dwcp/engine/<region>`.
    Engine(RegionId),
    /// A person: `spiffe://dwcp/admin/<name>`.
    Admin(String),
    /// Whoever collects measurements, and may do nothing else: `spiffe://dwcp/monitor/<name>`.
    Monitor(String),
}

/// Why something is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The URI has none of the shapes.
    #[error(
        "{0:?} is not spiffe://dwcp/region/ID, spiffe://dwcp/host/REGION/HOST, spiffe://dwcp/engine/REGION, spiffe://dwcp/admin/NAME or spiffe://dwcp/monitor/NAME"
    )]
    Uri(String),
    /// The certificate cannot be parsed.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// There must be exactly one URI.
    #[error(
        "the certificate has {0} URIs as subject alternative names, and must have one"
    )]
    Uris(usize),
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let refused = || IdentityError::Uri(uri.chars().take(200).collect());
        let rest = uri.strip_prefix(SCHEME).ok_or_else(refused)?;
        let parts: Vec<&str> = rest.split('/').collect();
        match parts.as_slice() {
            ["region", region] => {
                RegionId::new(region).map(Self::Region).map_err(|_| refused())
            }
            ["host", region, host] => Ok(Self::Host {
                region: RegionId::new(region).map_err(|_| refused())?,
                host: HostId::new(host).map_err(|_| refused())?,
            }),
            ["engine", region] => {
                RegionId::new(region).map(Self::Engine).map_err(|_| refused())
            }
            // A person's name has the shape of a host's.
            ["admin", name] if HostId::new(name).is_ok() => {
                Ok(Self::Admin((*name).to_owned()))
            }
            ["monitor", name] if HostId::new(name).is_ok() => {
                Ok(Self::Monitor((*name).to_owned()))
            }
            _ => Err(refused()),
        }
    }
}

impl Identity {
    /// The DNS name under which a host is known to those that send it guests, whatever its
    /// address is: `HOST.REGION.host.dwcp`. Its certificate must bear it.
    #[must_use]
    pub fn dns_name(&self) -> Option<String> {
        match self {
            Self::Host { region, host } => Some(format!("{host}.{region}.host.dwcp")),
            Self::Region(_) | Self::Engine(_) | Self::Admin(_) | Self::Monitor(_) => None,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => write!(f, "{SCHEME}region/{region}"),
            Self::Host { region, host } => write!(f, "{SCHEME}host/{region}/{host}"),
            Self::Engine(region) => write!(f, "{SCHEME}engine/{region}"),
            Self::Admin(name) => write!(f, "{SCHEME}admin/{name}"),
            Self::Monitor(name) => write!(f, "{SCHEME}monitor/{name}"),
        }
    }
}

/// What a certificate says: who, and between which moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub identity: Identity,
    /// Not before this.
    pub not_before: Timestamp,
    /// Not after this.
    pub not_after: Timestamp,
}

impl Peer {
    /// Reads a certificate. Does not verify it.
    ///
    /// # Errors
    ///
    /// When it cannot be parsed or does not hold exactly one identity.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        let names = names.map(|names| names.value.general_names.as_slice());
        let uris: Vec<&str> =
            names.unwrap_or_default().iter().filter_map(uri_of).collect();
        let [uri] = uris.as_slice() else {
            return Err(IdentityError::Uris(uris.len()));
        };
        let validity = certificate.validity();
        let moment = |seconds: i64| {
            Timestamp::from_millis(
                u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000),
            )
        };
        Ok(Self {
            identity: uri.parse()?,
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
        })
    }

    /// Whether a moment lies within its validity.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// A certificate's subject as RFC 4514 writes it, but in the certificate's own order.
pub(super) fn subject_of(der: &[u8]) -> Result<String, IdentityError> {
    let refused =
        |error: &dyn fmt::Display| IdentityError::Certificate(error.to_string());
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| refused(&error))?;
    let mut parts = Vec::new();
    for attribute in certificate.subject().iter_attributes() {
        let kind = oid2abbrev(attribute.attr_type(), oid_registry())
            .map_err(|_| refused(&"its subject has an attribute without a short name"))?;
        let value = attribute.as_str().map_err(|error| refused(&error))?;
        let mut part = format!("{kind}=");
        for letter in value.chars() {
            if ",+\"\\<>;#=".contains(letter) {
                part.push('\\');
            }
            part.push(letter);
        }
        parts.push(part);
    }
    Ok(parts.join(","))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "one kind of name of many matters")]
fn uri_of<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::URI(uri) => Some(uri),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_round_trip() {
        for uri in [
            "spiffe://dwcp/region/us-east-1",
            "spiffe://dwcp/host/us-east-1/host-a",
            "spiffe://dwcp/engine/us-east-1",
            "spiffe://dwcp/admin/alice",
            "spiffe://dwcp/monitor/prometheus",
        ] {
            assert_eq!(uri.parse::<Identity>().unwrap().to_string(), uri);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for uri in [
            "",
            "spiffe://other/region/a",
            "spiffe://dwcp/region/",
            "spiffe://dwcp/region/a/b",
            "spiffe://dwcp/host/a",
            "spiffe://dwcp/engine/",
            "spiffe://dwcp/monitor/",
            "spiffe://dwcp/admin/../region",
            "spiffe://dwcp/admin/a%2Fb",
            "SPIFFE://dwcp/region/a",
        ] {
            assert!(uri.parse::<Identity>().is_err(), "{uri}");
        }
    }
}
