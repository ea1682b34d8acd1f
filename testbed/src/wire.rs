//! Requests that no well-meaning client sends.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dwcp_api::ApiError;
use dwcp_runtime::http::{HttpClient, HttpError};
use dwcp_runtime::tls::{ClientTls, Credentials, ExpectedServer, Identity};
use http::{Request, Response};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Time for one exchange.
const TIME_MAX: Duration = Duration::from_secs(30);

/// A client that sends whatever it is told to.
#[derive(Debug)]
pub struct Knock {
    http: HttpClient,
    base: String,
}

impl Knock {
    /// At a server of this identity, with these credentials.
    ///
    /// # Panics
    ///
    /// When the credentials cannot be read.
    #[must_use]
    pub fn new(at: SocketAddr, server: Identity, credentials: Credentials) -> Self {
        let tls = ClientTls::load(credentials, ExpectedServer::Identity(server));
        let http = HttpClient::new(tls.expect("the test's own credentials are readable"));
        Self { http, base: format!("https://{at}") }
    }

    /// Sends a request; gives the status and the body.
    ///
    /// # Errors
    ///
    /// When there is no reply.
    ///
    /// # Panics
    ///
    /// When method or path are none.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<(u16, ApiError), HttpError> {
        let reply = self.exchange(method, path, content_type, body.into()).await?;
        let error = serde_json::from_slice(reply.body()).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(reply.body()).into_owned();
            panic!("not an error of the API ({}): {text}", reply.status())
        });
        Ok((reply.status().as_u16(), error))
    }

    /// Reads a text; gives the status and whatever the body is.
    ///
    /// # Errors
    ///
    /// When there is no reply.
    pub async fn text(&self, path: &str) -> Result<(u16, String), HttpError> {
        let reply = self.exchange("GET", path, "text/plain", Bytes::new()).await?;
        let text = String::from_utf8_lossy(reply.body()).into_owned();
        Ok((reply.status().as_u16(), text))
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response<Bytes>, HttpError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", content_type)
            .body(body)
            .expect("the test's own request");
        self.http.send(request, TIME_MAX).await
    }
}

/// Connects without a client certificate and says what came of it.
///
/// # Errors
///
/// How the server refused.
///
/// # Panics
///
/// When the CA cannot be read or nobody listens.
pub async fn knock_without_certificate(
    at: SocketAddr,
    ca: &Path,
) -> Result<String, std::io::Error> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("the CA's file") {
        roots.add(certificate.expect("a certificate")).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(at).await.expect("the daemon listens");
    let name = ServerName::IpAddress(at.ip().into());
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    tls.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let mut reply = String::new();
    tls.read_to_string(&mut reply).await?;
    Ok(reply)
}
