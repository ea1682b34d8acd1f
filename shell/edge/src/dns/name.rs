//! A name of the zone, in small letters.

use std::fmt;
use std::str::FromStr;

use domain::base::ToName;
use serde::{Serialize, Serializer};

/// Longest label and name, in bytes (RFC 1035 2.3.4); of a name without its lengths.
const LABEL_LEN_MAX: usize = 63;
const NAME_LEN_MAX: usize = 253;

/// A whole domain name: letters, digits, hyphens and underscores, in small letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(domain::base::Name<Vec<u8>>);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A label is empty, too long or has other characters.
    #[error(
        "it is no domain name; write labels of letters, digits, `-` and `_` with dots between, for example `www.example.com`"
    )]
    Label,
    /// It is no mail address that a zone can have.
    #[error(
        "it is no mail address; write a name without dots, `@` and a domain, for example `hostmaster@example.com`"
    )]
    Mailbox,
    /// It is too long.
    #[error("it is longer than 253 characters; use a shorter name")]
    Long,
}

impl Name {
    /// This name with labels before it: `www` before `example.com`.
    ///
    /// # Errors
    ///
    /// When the labels are none, or the whole is too long.
    pub fn under(&self, labels: &str) -> Result<Self, NameError> {
        format!("{labels}.{self}").parse()
    }

    /// A mail address as zones have it: `hostmaster@example.com` is `hostmaster.example.com`.
    ///
    /// # Errors
    ///
    /// When it is none, or has a dot before the `@`.
    pub fn of_mailbox(text: &str) -> Result<Self, NameError> {
        let (who, domain) = text.split_once('@').ok_or(NameError::Mailbox)?;
        if who.contains('.') {
            return Err(NameError::Mailbox);
        }
        let domain: Self = domain.parse().map_err(|_| NameError::Mailbox)?;
        domain.under(who).map_err(|_| NameError::Mailbox)
    }

    /// Whether it is another or lies beneath it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.ends_with(&other.0)
    }

    /// As it is on the wire, uncompressed.
    pub(crate) fn wire(&self) -> &[u8] {
        self.0.as_slice()
    }

    pub(crate) const fn inner(&self) -> &domain::base::Name<Vec<u8>> {
        &self.0
    }

    /// This name without its first label; nothing for the root.
    pub(crate) fn parent(&self) -> Option<Self> {
        self.0.parent().map(|parent| Self(parent.to_vec()))
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > NAME_LEN_MAX {
            return Err(NameError::Long);
        }
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            let bytes = label.as_bytes();
            let sound = (1..=LABEL_LEN_MAX).contains(&bytes.len())
                && bytes.iter().all(|c| allowed(*c))
                && !label.starts_with('-')
                && !label.ends_with('-');
            if !sound {
                return Err(NameError::Label);
            }
            wire.push(u8::try_from(bytes.len()).map_err(|_| NameError::Label)?);
            wire.extend(bytes.iter().map(u8::to_ascii_lowercase));
        }
        wire.push(0);
        let name = domain::base::Name::from_octets(wire);
        name.map(Self).map_err(|_| NameError::Label)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_in_small_letters_and_knows_what_is_beneath_it() {
        let zone: Name = "CDN.Example.com.".parse().unwrap();
        assert_eq!(zone.to_string(), "cdn.example.com");
        let www = zone.under("www").unwrap();
        assert_eq!(www.to_string(), "www.cdn.example.com");
        assert!(www.is_within(&zone) && zone.is_within(&zone));
        assert!(!zone.is_within(&www));
        assert!(!"xcdn.example.com".parse::<Name>().unwrap().is_within(&zone));
        assert_eq!(www.parent(), Some(zone));
    }

    #[test]
    fn a_mail_address_is_a_name() {
        let name = Name::of_mailbox("hostmaster@example.com").unwrap();
        assert_eq!(name.to_string(), "hostmaster.example.com");
        for text in ["hostmaster", "a.b@example.com", "@example.com", "a@", "a@b@c"] {
            assert_eq!(Name::of_mailbox(text), Err(NameError::Mailbox), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        for text in ["", ".", "a..b", "-a.b", "a-.b", "a b", "ä.de", "a\\.b", &long] {
            assert_eq!(text.parse::<Name>(), Err(NameError::Label), "{text:?}");
        }
        let long = ["abcdefg"; 32].join(".");
        assert_eq!(long.parse::<Name>(), Err(NameError::Long));
        let longest = format!("{}.{}", long.get(..251).unwrap(), "z");
        assert_eq!(longest.len(), 253);
        assert!(longest.parse::<Name>().is_ok());
    }
}
