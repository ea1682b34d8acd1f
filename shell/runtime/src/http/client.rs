//! An HTTPS client with pooled connections, that says exactly how far a request came.
//!
//! Whether a request may have been carried out matters more than why it failed:
//! [`HttpError::may_have_arrived`] is what decides whether an outcome is indeterminate.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ended::{Watching, forgotten};
use crate::tls::ClientTls;

/// Time to connect: three tries of TCP's first second over the longest WAN.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Idle connections are dropped before the server drops them (45 s).
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// Idle connections kept for one server.
const IDLE_MAX: usize = 8;
/// Quiet HTTP/2 connections are pinged while requests wait, to notice a dead peer.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Attempts at a request that was never sent: one more, for a server that closed an idle
/// connection at that moment.
const UNSENT_TRIES_MAX: u32 = 2;
/// Time for a server that refuses a client to say so.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(2);
/// Largest reply in bytes: a page of records or a long list of VMs.
const REPLY_LEN_MAX: usize = 64 << 20;

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No connection could be made. Nothing arrived.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// One side does not accept the other's certificate. Nothing was done.
    #[error("the TLS connection to {url} was refused: {reason}; {remedy}")]
    Tls {
        /// Where.
        url: String,
        /// Why.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// No reply within the time. It may have arrived.
    #[error("{url} did not answer within {after:?}")]
    Timeout {
        /// Where.
        url: String,
        /// The time.
        after: Duration,
    },
    /// The connection broke, or the reply is not HTTP or too large. It may have arrived.
    #[error("the exchange with {url} broke: {reason}")]
    Broken {
        /// Where.
        url: String,
        /// How.
        reason: String,
    },
}

impl HttpError {
    /// Whether the server may have carried out the request.
    #[must_use]
    pub const fn may_have_arrived(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Tls { .. } => false,
            Self::Timeout { .. } | Self::Broken { .. } => true,
        }
    }
}

pub(super) type Pool = Client<Watching, Full<Bytes>>;

/// An HTTPS client. Share it: its connections are pooled.
pub struct HttpClient {
    tls: ClientTls,
    pool: Mutex<(Pool, u64)>,
}

impl HttpClient {
    /// A client with its certificate and its idea of whom it talks to.
    #[must_use]
    pub fn new(tls: ClientTls) -> Self {
        let pool = Mutex::new(pool(&tls));
        Self { tls, pool }
    }

    /// Sends a request and reads the whole reply, all within `time_max`. Its URI must be
    /// absolute and `https`.
    ///
    /// # Errors
    ///
    /// See [`HttpError`]. A reply with an error status is a reply.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        time_max: Duration,
    ) -> Result<Response<Bytes>, HttpError> {
        let url = request.uri().to_string();
        let exchange = async {
            whole(self.exchange(request.map(Full::new), &url).await?, &url).await
        };
        timeout(time_max, exchange).await.unwrap_or_else(|_| {
            Err(HttpError::Timeout { url: url.clone(), after: time_max })
        })
    }

    /// Sends a request and gives the reply when its head is there, within `time_max`, for those
    /// that have no end.
    ///
    /// # Errors
    ///
    /// See [`HttpError`]. A reply with an error status is a reply.
    pub async fn open(
        &self,
        request: Request<Bytes>,
        time_max: Duration,
    ) -> Result<Opened, HttpError> {
        let url = request.uri().to_string();
        let exchange = self.exchange(request.map(Full::new), &url);
        let opened = timeout(time_max, exchange).await;
        match opened {
            Ok(response) => response.map(|response| Opened { url, response }),
            Err(_) => Err(HttpError::Timeout { url, after: time_max }),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        url: &str,
    ) -> Result<Response<Incoming>, HttpError> {
        let mut tries = 1;
        loop {
            let mut attempt = request.clone();
            let connection = capture_connection(&mut attempt);
            let answer = tokio::select! {
                biased;
                answer = self.pool().request(attempt) => answer,
                () = forgotten(connection) => {
                    return Err(self.ended(request.uri(), url).await);
                }
            };
            let error = match answer {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if was_unsent(&error)
                && let Some(refused) = refusal(&self.tls, request.uri()).await
            {
                return Err(
                    explained(url, &refused).unwrap_or_else(|| classify(url, &error))
                );
            }
            if !was_unsent(&error) || tries == UNSENT_TRIES_MAX {
                return Err(classify(url, &error));
            }
            tries += 1;
        }
    }

    /// Why a connection ended that nothing was heard on.
    async fn ended(&self, uri: &Uri, url: &str) -> HttpError {
        let refused = refusal(&self.tls, uri).await;
        refused.and_then(|refused| explained(url, &refused)).unwrap_or_else(|| {
            let reason = "its connection ended without an answer".to_owned();
            HttpError::Broken { url: url.to_owned(), reason }
        })
    }

    /// The pool; a new one when the certificate was renewed.
    fn pool(&self) -> Pool {
        let mut current = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if self.tls.current().1 != current.1 {
            *current = pool(&self.tls);
        }
        current.0.clone()
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("tls", &self.tls).finish_non_exhaustive()
    }
}

pub(super) fn pool(tls: &ClientTls) -> (Pool, u64) {
    let (config, version) = tls.current();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIME_MAX));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config((*config).clone())
        .https_only()
        .enable_all_versions()
        .wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME_MAX)
        .pool_max_idle_per_host(IDLE_MAX)
        .http2_keep_alive_interval(PING_EVERY)
        .build(Watching(connector));
    (client, version)
}

/// Asks a server once more why it takes nothing from this client.
///
/// It refuses a certificate by an alert after the handshake. When that arrives before the
/// request is on the connection, the pool keeps only that the connection is gone; here it is
/// waited for.
async fn refusal(tls: &ClientTls, uri: &Uri) -> Option<rustls::Error> {
    let host = uri.host()?.trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(443);
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let (config, _) = tls.current();
    let listen = async {
        let tcp = TcpStream::connect((host, port)).await?;
        let mut stream = TlsConnector::from(config).connect(name, tcp).await?;
        // A server has nothing to say before it is asked.
        stream.read_u8().await
    };
    let error = timeout(REFUSAL_TIME_MAX, listen).await.ok()?.err()?;
    find_tls(&error)
}

/// A reply whose body is read as it comes.
#[derive(Debug)]
pub struct Opened {
    url: String,
    response: Response<Incoming>,
}

impl Opened {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next bytes of the body; nothing at its end.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or nothing comes within `time_max`.
    pub async fn next(&mut self, time_max: Duration) -> Result<Option<Bytes>, HttpError> {
        loop {
            let frame = timeout(time_max, self.response.body_mut().frame()).await;
            let Ok(frame) = frame else {
                return Err(HttpError::Timeout {
                    url: self.url.clone(),
                    after: time_max,
                });
            };
            match frame {
                None => return Ok(None),
                // Trailers say nothing that is waited for.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => {
                    let (url, reason) = (self.url.clone(), innermost(&error));
                    return Err(HttpError::Broken { url, reason });
                }
            }
        }
    }

    /// All of the body.
    ///
    /// # Errors
    ///
    /// When it breaks off, is too large, or does not end within `time_max`.
    pub async fn whole(self, time_max: Duration) -> Result<Response<Bytes>, HttpError> {
        let Self { url, response } = self;
        match timeout(time_max, whole(response, &url)).await {
            Ok(response) => response,
            Err(_) => Err(HttpError::Timeout { url, after: time_max }),
        }
    }
}

async fn whole(
    response: Response<Incoming>,
    url: &str,
) -> Result<Response<Bytes>, HttpError> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, REPLY_LEN_MAX).collect().await.map_err(|error| {
        let reason = if error.is::<LengthLimitError>() {
            format!("the reply is larger than {REPLY_LEN_MAX} bytes")
        } else {
            error.to_string()
        };
        HttpError::Broken { url: url.to_owned(), reason }
    })?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

fn classify(url: &str, error: &ClientError) -> HttpError {
    // An alert may also end a connection that has worked for long.
    let refused = find_tls(error).and_then(|tls| explained(url, &tls));
    if let Some(refused) = refused {
        return refused;
    }
    let url = url.to_owned();
    let reason = innermost(error);
    if error.is_connect() || was_unsent(error) {
        HttpError::Unreachable { url, reason }
    } else {
        HttpError::Broken { url, reason }
    }
}

fn explained(url: &str, tls: &rustls::Error) -> Option<HttpError> {
    let (reason, remedy) = explain(tls)?;
    Some(HttpError::Tls { url: url.to_owned(), reason, remedy })
}

/// Whether the connection ended before it took the request.
fn was_unsent(error: &ClientError) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            // Closed: it was not ready for a request, so it got none.
            return error.is_canceled() || error.is_closed();
        }
        next = error.source();
    }
    false
}

/// The error of rustls in a chain of errors. It travels inside of `io::Error`; the HTTP/2 layer
/// keeps only its text, so the alerts that refuse a certificate are known by their text too.
fn find_tls(error: &(dyn StdError + 'static)) -> Option<rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls.clone());
        }
        let text = error.to_string();
        let alert = REFUSALS.into_iter().map(rustls::Error::AlertReceived);
        if let Some(alert) = alert.into_iter().find(|alert| text == alert.to_string()) {
            return Some(alert);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The alerts by which a server refuses a client's certificate; they end a handshake, so no
/// request was read.
const REFUSALS: [AlertDescription; 8] = [
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateRequired,
    AlertDescription::UnknownCA,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateUnknown,
    AlertDescription::DecryptError,
    AlertDescription::AccessDenied,
];

const ASK_OTHER: &str =
    "the server's certificate must be issued by the CA that this client trusts";
const RENEW: &str = "issue a new certificate for this client (`dwcp-cli login`)";
const OWN: &str =
    "use a client certificate issued by the CA of this federation (`dwcp-cli login`)";

#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is a broken exchange")]
fn explain(error: &rustls::Error) -> Option<(String, &'static str)> {
    let remedy = match error {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. },
        ) => "another server answers at this address; check the address",
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "renew the server's certificate, or set the clock",
        rustls::Error::InvalidCertificate(_) => ASK_OTHER,
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => RENEW,
        rustls::Error::AlertReceived(alert) if REFUSALS.contains(alert) => OWN,
        _ => return None,
    };
    Some((error.to_string(), remedy))
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
