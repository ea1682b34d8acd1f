//! Who is at the other end: certificates, and TLS 1.3 in both directions.
//!
//! Every connection between parts is mutual TLS 1.3 with AES-256-GCM (X2), and who the peer
//! is stands in its certificate as a SPIFFE id (F77). A region may speak only for itself, so
//! handlers are given the [`Identity`], never an address.
//!
//! Sessions are never resumed: a resumed session skips the look at the certificate, so an
//! expired administrator could come back. One more round trip for each new connection is the
//! price; connections are pooled.

mod authority;
mod config;
mod farewell;
mod files;
mod identity;
mod planes;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use dwcp_types::Timestamp;
use rustls::crypto::{CryptoProvider, ring};

pub use authority::{
    ADMIN_LIFETIME_MAX, DevelopmentCa, Issued, NODE_LIFETIME, SubjectName,
};
pub use config::{ClientTls, ServerTls};
pub(crate) use farewell::farewell;
pub(crate) use files::read_roots;
pub use files::{CA_CERTIFICATE, CA_KEY, Credentials};
pub use identity::{Identity, IdentityError, Peer};
pub use planes::FrontTls;
/// What connections are made with.
pub use rustls::{ClientConfig, ServerConfig};
pub use verify::ExpectedServer;

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot use {}: {source}; check the path and its permissions", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key that others can read is no secret.
    #[error(
        "the key {0} can be read by others (mode {mode:04o}); run `chmod 600 {0}`, and issue a new one if someone else may have read it",
        path.display()
    )]
    KeyExposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{} is not usable: {reason}; issue it again", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The own certificate is not valid now.
    #[error(
        "the certificate {} is not valid now: it holds from {not_before} to {not_after} (milliseconds since 1970), and now is {now}; issue a new one, or set the clock",
        path.display(), not_before = not_before.as_millis(), not_after = not_after.as_millis(), now = now.as_millis()
    )]
    NotValidNow {
        /// Which.
        path: PathBuf,
        /// From when on it is valid.
        not_before: Timestamp,
        /// Until when it is valid.
        not_after: Timestamp,
        /// What the clock shows.
        now: Timestamp,
    },
    /// A certificate cannot be made.
    #[error("cannot issue the certificate: {reason}")]
    Issue {
        /// Why, and what to do.
        reason: String,
    },
    /// A development CA is already there; a new one would cut off everyone it has certified.
    #[error("{} is there already; use it, or remove it and issue every certificate again", path.display())]
    Exists {
        /// Its file.
        path: PathBuf,
    },
}

/// ring, with the one cipher suite that the source names (X2).
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384],
        ..ring::default_provider()
    })
}
