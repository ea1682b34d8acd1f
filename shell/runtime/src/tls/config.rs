//! TLS configurations that follow their files.
//!
//! Certificates are renewed while daemons run. Each new connection looks whether the files
//! changed; what cannot be used is logged once and the last good configuration stays, so a
//! half-written renewal never stops a daemon.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};

use super::files::{Loaded, stamps, unusable};
use super::verify::{ClientVerifier, ServerVerifier};
use super::{Credentials, ExpectedServer, TlsError, provider};
use crate::stamp::Stamp;

/// HTTP/2 first, then HTTP/1.1.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A server's side. Cloning shares it.
#[derive(Clone, Debug)]
pub struct ServerTls {
    files: Arc<Following<ServerConfig>>,
}

/// A client's side. Cloning shares it.
#[derive(Clone, Debug)]
pub struct ClientTls {
    files: Arc<Following<ClientConfig>>,
    expected: ExpectedServer,
}

impl ServerTls {
    /// Loads the files. Clients must show a certificate of the same CA.
    ///
    /// # Errors
    ///
    /// When a file is missing, unusable, or the key can be read by others.
    pub fn load(credentials: Credentials) -> Result<Self, TlsError> {
        let files = following(credentials, server_config)?;
        Ok(Self { files: Arc::new(files) })
    }

    /// The configuration for a new connection.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.files.current().0
    }
}

impl ClientTls {
    /// Loads the files. `expected` says who must be at the other end.
    ///
    /// # Errors
    ///
    /// When a file is missing, unusable, or the key can be read by others.
    pub fn load(
        credentials: Credentials,
        expected: ExpectedServer,
    ) -> Result<Self, TlsError> {
        let whom = expected.clone();
        let make = move |loaded| client_config(loaded, whom.clone());
        let files = following(credentials, make)?;
        Ok(Self { files: Arc::new(files), expected })
    }

    /// The configuration for new connections, and a number that rises when it changes.
    #[must_use]
    pub fn current(&self) -> (Arc<ClientConfig>, u64) {
        self.files.current()
    }

    /// Whom this client expects.
    #[must_use]
    pub const fn expected(&self) -> &ExpectedServer {
        &self.expected
    }
}

type Make<C> = Box<dyn Fn() -> Result<C, TlsError> + Send + Sync>;

/// A configuration made from files, made again when they change.
pub(super) struct Following<C> {
    files: Vec<PathBuf>,
    make: Make<C>,
    state: Mutex<State<C>>,
}

struct State<C> {
    stamps: Vec<Option<Stamp>>,
    config: Arc<C>,
    version: u64,
}

/// Follows the files of credentials.
fn following<C>(
    credentials: Credentials,
    make: impl Fn(Loaded) -> Result<C, String> + Send + Sync + 'static,
) -> Result<Following<C>, TlsError> {
    let files = [&credentials.certificate, &credentials.ca, &credentials.key];
    let files = files.map(Clone::clone).to_vec();
    let make = move || {
        let certificate = &credentials.certificate;
        make(credentials.load()?).map_err(|reason| unusable(certificate, reason))
    };
    Following::load(files, Box::new(make))
}

impl<C> Following<C> {
    /// Makes it from files, of which the first names it in messages.
    pub(super) fn load(files: Vec<PathBuf>, make: Make<C>) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let config = Arc::new(make()?);
        let state = Mutex::new(State { stamps, config, version: 0 });
        Ok(Self { files, make, state })
    }

    pub(super) fn current(&self) -> (Arc<C>, u64) {
        // Before reading: a change while reading is seen next time.
        let stamps = stamps(&self.files);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps != state.stamps {
            state.stamps = stamps;
            match (self.make)() {
                Ok(config) => {
                    state.config = Arc::new(config);
                    state.version += 1;
                    let certificate = self.files.first().map(|file| file.display());
                    tracing::info!(
                        certificate = certificate.map(tracing::field::display),
                        "renewed certificate taken up"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "changed certificate files cannot be used; the last good ones stay");
                }
            }
        }
        (Arc::clone(&state.config), state.version)
    }
}

impl<C> std::fmt::Debug for Following<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Following").field("files", &self.files).finish_non_exhaustive()
    }
}

fn server_config(loaded: Loaded) -> Result<ServerConfig, String> {
    let provider = provider();
    let verifier = ClientVerifier::new(Arc::new(loaded.roots), Arc::clone(&provider))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(loaded.chain, loaded.key)
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// ALPN is left to the HTTP client, which insists on setting it itself.
fn client_config(
    loaded: Loaded,
    expected: ExpectedServer,
) -> Result<ClientConfig, String> {
    let provider = provider();
    let verifier =
        ServerVerifier::new(Arc::new(loaded.roots), Arc::clone(&provider), expected)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(loaded.chain, loaded.key)
        .map_err(|error| error.to_string())?;
    config.resumption = Resumption::disabled();
    Ok(config)
}
