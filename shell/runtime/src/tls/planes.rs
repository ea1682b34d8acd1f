//! TLS of the planes that face clients: a certificate for everybody, and the regions' own between
//! them, told apart by the protocol that is asked for (ALPN).

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use super::config::Following;
use super::files::{read_chain, read_key, unusable};
use super::{ClientTls, ServerTls, TlsError};

/// HTTP/2 first, then HTTP/1.1.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

impl ServerTls {
    /// The configuration for a new connection that speaks this protocol and no other.
    #[must_use]
    pub fn speaking(&self, protocol: &[u8]) -> Arc<ServerConfig> {
        let mut config = (*self.current()).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

impl ClientTls {
    /// The configuration for a new connection that speaks this protocol and no other.
    #[must_use]
    pub fn speaking(&self, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut config = (*self.current().0).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

/// What clients of everywhere are shown, by TLS 1.3; nobody is asked for a certificate. It follows
/// its files, as [`ServerTls`] does.
#[derive(Debug)]
pub struct FrontTls {
    files: Following<ServerConfig>,
}

impl FrontTls {
    /// Loads the files.
    ///
    /// # Errors
    ///
    /// When one is missing or unusable, the two do not belong together, or the key can be read by
    /// others.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = vec![certificate.to_owned(), key.to_owned()];
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let make = move || front(&certificate, &key);
        Ok(Self { files: Following::load(files, Box::new(make))? })
    }

    /// The configuration for a new connection.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.files.current().0
    }
}

fn front(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let (chain, key) = (read_chain(certificate)?, read_key(key)?);
    let refused = |error: rustls::Error| unusable(certificate, error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(refused)?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}
