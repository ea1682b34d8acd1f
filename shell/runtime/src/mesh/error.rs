//! Why there is no connection, or no longer: one error for both transports.
//!
//! QUIC and TCP say the same things in different places: a TLS alert, a close with a code, a
//! timeout. [`LinkError`] is what both come to.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use quinn::ConnectionError;

use super::block::printable;
use super::{BlockError, Reason};

/// QUIC's code for a server that takes no more connections (RFC 9000, section 20.1).
const CONNECTION_REFUSED: u64 = 2;
/// Where QUIC puts TLS alerts among its codes.
const CRYPTO: u64 = 0x100;

/// Which end did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// This region.
    Here,
    /// The peer.
    There,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Here => "this end",
            Self::There => "the other end",
        })
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// None could be made.
    #[error("it cannot be reached: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// An end closed or refused it, and said why.
    #[error("{by} closed the connection: {reason} ({detail})")]
    Closed {
        /// Which end.
        by: End,
        /// Why.
        reason: Reason,
        /// More, in that end's words.
        detail: String,
    },
    /// Nothing came for too long.
    #[error("nothing was heard for {after:?}; the peer or the way to it is gone")]
    Silent {
        /// How long.
        after: Duration,
    },
    /// It broke.
    #[error("the connection broke: {reason}")]
    Broken {
        /// How.
        reason: String,
    },
}

impl LinkError {
    pub(super) fn here(reason: Reason, detail: impl Into<String>) -> Self {
        Self::Closed { by: End::Here, reason, detail: detail.into() }
    }

    pub(super) fn there(reason: Reason, detail: String) -> Self {
        Self::Closed { by: End::There, reason, detail }
    }

    pub(super) fn broken(error: &dyn fmt::Display) -> Self {
        Self::Broken { reason: error.to_string() }
    }

    /// Why the connection was refused, if it was.
    #[must_use]
    pub const fn refusal(&self) -> Option<Reason> {
        match self {
            Self::Closed { reason, .. } if reason.is_refusal() => Some(*reason),
            Self::Closed { .. }
            | Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Broken { .. } => None,
        }
    }

    /// What a lost QUIC connection says. `idle` is how long it waits for the peer.
    pub(super) fn of_quic(error: &ConnectionError, idle: Duration) -> Self {
        match error {
            ConnectionError::TransportError(error) => {
                Self::of_code(End::Here, error.code.into(), error.reason.as_bytes())
            }
            ConnectionError::ConnectionClosed(close) => {
                Self::of_code(End::There, close.error_code.into(), &close.reason)
            }
            ConnectionError::ApplicationClosed(close) => {
                match Reason::of_code(close.error_code.into_inner()) {
                    Some(reason) => Self::there(reason, printable(&close.reason)),
                    None => Self::broken(&"the other end gave it up"),
                }
            }
            ConnectionError::VersionMismatch => {
                Self::here(Reason::OtherProtocol, error.to_string())
            }
            ConnectionError::TimedOut => Self::Silent { after: idle },
            ConnectionError::Reset
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => Self::broken(error),
        }
    }

    fn of_code(by: End, code: u64, text: &[u8]) -> Self {
        let detail = printable(text);
        if code == CONNECTION_REFUSED {
            return Self::Closed { by, reason: Reason::Busy, detail };
        }
        let alert = code.checked_sub(CRYPTO).and_then(|alert| u8::try_from(alert).ok());
        match alert.and_then(Reason::of_alert) {
            Some(reason) => Self::Closed { by, reason, detail },
            None => Self::Broken { reason: format!("{by}: {detail} (code {code:#x})") },
        }
    }

    /// What a broken TCP connection, or TLS in it, says.
    pub(super) fn of_io(error: &io::Error) -> Self {
        let Some(tls) = tls_error(error) else { return Self::broken(error) };
        if let rustls::Error::AlertReceived(alert) = tls {
            return match Reason::of_alert((*alert).into()) {
                Some(reason) => Self::there(reason, tls.to_string()),
                None => Self::broken(tls),
            };
        }
        match of_tls(tls) {
            Some(reason) => Self::here(reason, tls.to_string()),
            None => Self::broken(tls),
        }
    }
}

impl From<BlockError> for LinkError {
    fn from(error: BlockError) -> Self {
        Self::here(Reason::Malformed, error.to_string())
    }
}

/// The error of rustls inside of one of I/O.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn StdError + 'static)> = match error.get_ref() {
        Some(inner) => Some(inner),
        None => None,
    };
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        next = error.source();
    }
    None
}

/// What an error found at this end means, by the alert that rustls sends for it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the rest says nothing about the ends"
)]
fn of_tls(error: &rustls::Error) -> Option<Reason> {
    match error {
        rustls::Error::InvalidCertificate(error) => {
            let alert = rustls::AlertDescription::from(error.clone());
            Reason::of_alert(alert.into()).or(Some(Reason::BadCertificate))
        }
        rustls::Error::NoCertificatesPresented => Some(Reason::BadCertificate),
        rustls::Error::NoApplicationProtocol
        | rustls::Error::PeerIncompatible(_)
        | rustls::Error::InvalidMessage(_) => Some(Reason::OtherProtocol),
        _ => None,
    }
}
