//! Identifiers. Each kind is its own type, so a host cannot be passed for a region.
//!
//! An identifier is 1 to 63 characters of `A-Z a-z 0-9 . _ -` and begins with a letter or a
//! digit: safe in URLs, file names, interface labels and metric labels without escaping.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest identifier in bytes; the limit of a DNS label.
const ID_LEN_MAX: usize = 63;

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a {kind}: {reason}; use 1 to 63 of A-Z a-z 0-9 . _ - beginning with a letter or digit"
)]
pub struct IdError {
    kind: &'static str,
    text: String,
    reason: &'static str,
}

fn check(kind: &'static str, text: &str) -> Result<(), IdError> {
    let refuse = |reason| {
        let text = text.chars().take(80).collect();
        Err(IdError { kind, text, reason })
    };
    if text.is_empty() {
        return refuse("it is empty");
    }
    if text.len() > ID_LEN_MAX {
        return refuse("it is longer than 63 bytes");
    }
    if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return refuse("it does not begin with a letter or digit");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return refuse("it has a character that is not allowed");
    }
    Ok(())
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and makes an identifier.
            ///
            /// # Errors
            ///
            /// When the text is empty, too long or has a character that is not allowed.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check($kind, text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )*};
}

ids! {
    /// Names a region, for example `eu-west-1`. Opaque: the provider's own name for it is kept
    /// beside it (F84).
    RegionId, "region id";
    /// Names an availability zone of a region, for example `us-east-1a` (C24).
    ZoneId, "zone id";
    /// Names a host: a machine that runs VMs and its agent.
    HostId, "host id";
    /// Names a VM, federation-wide, for example `vm-web-001`.
    VmId, "VM id";
    /// Names a tenant, for example `customer-123`.
    TenantId, "tenant id";
    /// Names an affinity or anti-affinity group, within one tenant (C8.11, C8.12).
    GroupId, "group id";
    /// Names a place that users come from, for example `london` (F25).
    UserZoneId, "user zone id";
    /// Names one attempt to hold capacity; also its idempotency key.
    ReservationId, "reservation id";
    /// Names a service that users' requests are routed to, for example `api.example.com` (R11).
    ServiceId, "service id";
    /// Names one move of one VM from host to host (C22).
    MigrationId, "migration id";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_names_of_the_source_are_identifiers() {
        for name in ["vm-web-001", "us-east-1a", "customer-123", "a"] {
            assert_eq!(VmId::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_would_need_escaping_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("-a", "begin"),
            ("../x", "begin"),
            ("a/b", "not allowed"),
            ("ä", "begin"),
            ("a b", "not allowed"),
        ] {
            let error = RegionId::new(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(RegionId::new(&"x".repeat(64)).is_err());
    }

    proptest! {
        #[test]
        fn json_round_trips_and_never_panics(text in ".{0,80}") {
            let json = serde_json::to_string(&text).unwrap();
            match serde_json::from_str::<VmId>(&json) {
                Ok(id) => prop_assert_eq!(serde_json::to_string(&id).unwrap(), json),
                Err(_) => prop_assert!(VmId::new(&text).is_err()),
            }
        }
    }
}
