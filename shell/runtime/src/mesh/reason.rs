//! Why a connection is closed or refused: one list for both ends, both transports and TLS.
//!
//! The end that closes says its reason, so that both ends log the same cause. A refusal by
//! certificate comes as a TLS alert, which is one of few; [`Reason::of_alert`] says what each
//! means here.

use std::fmt;

/// Why an end closes or refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// The process stops.
    Stopping = 1,
    /// A newer connection of the same pair took its place.
    Replaced = 2,
    /// Both ends dialled at once; the other connection is kept.
    Duplicate = 3,
    /// Too many connections are being made.
    Busy = 4,
    /// The certificate names someone who is no peer of this region.
    NotAPeer = 5,
    /// The peer belongs to another federation.
    OtherCluster = 6,
    /// The peer speaks another version of this protocol.
    OtherProtocol = 7,
    /// The certificate was issued by an authority that is not trusted here.
    ForeignAuthority = 8,
    /// The certificate is not valid now.
    Expired = 9,
    /// The certificate names another region than the one that was dialled.
    WrongIdentity = 10,
    /// The certificate is missing or unusable.
    BadCertificate = 11,
    /// The configuration allows another transport only.
    OtherTransport = 12,
    /// What arrived is not what this protocol says.
    Malformed = 13,
}

impl Reason {
    const ALL: [Self; 13] = [
        Self::Stopping,
        Self::Replaced,
        Self::Duplicate,
        Self::Busy,
        Self::NotAPeer,
        Self::OtherCluster,
        Self::OtherProtocol,
        Self::ForeignAuthority,
        Self::Expired,
        Self::WrongIdentity,
        Self::BadCertificate,
        Self::OtherTransport,
        Self::Malformed,
    ];

    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn of_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| u64::from(reason.code()) == code)
    }

    /// What a TLS alert means; `None` when it says nothing about who the ends are.
    pub(super) const fn of_alert(alert: u8) -> Option<Self> {
        // The numbers of RFC 8446, section 6.
        match alert {
            // 51: an authority of the same name, as development ones are, with another key.
            48 | 51 => Some(Self::ForeignAuthority),
            45 => Some(Self::Expired),
            // How rustls says that a certificate does not name whom it should.
            42 => Some(Self::WrongIdentity),
            41 | 43 | 44 | 46 | 49 | 116 => Some(Self::BadCertificate),
            70 | 120 => Some(Self::OtherProtocol),
            _ => None,
        }
    }

    /// Whether trying again helps only after somebody has changed something.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        !matches!(self, Self::Stopping | Self::Replaced | Self::Duplicate | Self::Busy)
    }

    /// What it is, and what to do about it.
    const fn text(self) -> &'static str {
        match self {
            Self::Stopping => "the process stops",
            Self::Replaced => "a newer connection took its place",
            Self::Duplicate => "both ends dialled, and the other connection is kept",
            Self::Busy => "too many connections are being made",
            Self::NotAPeer => {
                "the certificate names no peer; add it to the peers, or use the certificate of one"
            }
            Self::OtherCluster => {
                "the ends belong to different federations; check the address, and the cluster id on both"
            }
            Self::OtherProtocol => {
                "the ends speak different protocols; check the address and port, and the versions of both"
            }
            Self::ForeignAuthority => {
                "the certificate comes from an authority that is not trusted; issue it from this federation's"
            }
            Self::Expired => {
                "the certificate is not valid now; renew it, or set the clocks"
            }
            Self::WrongIdentity => {
                "another region answers at this address; check the address and its certificate"
            }
            Self::BadCertificate => {
                "the certificate is missing or unusable; issue a region's certificate from this federation's authority"
            }
            Self::OtherTransport => {
                "this transport is not configured for the pair; configure the same at both ends"
            }
            Self::Malformed => {
                "what arrived does not follow the protocol; check the versions of both"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_comes_back_from_its_code() {
        for reason in Reason::ALL {
            assert_eq!(Reason::of_code(u64::from(reason.code())), Some(reason));
        }
        assert_eq!(Reason::of_code(0), None);
        assert_eq!(Reason::of_code(14), None);
    }

    #[test]
    fn alerts_that_are_not_about_the_ends_mean_nothing() {
        assert_eq!(Reason::of_alert(80), None);
        assert_eq!(Reason::of_alert(48), Some(Reason::ForeignAuthority));
    }
}
