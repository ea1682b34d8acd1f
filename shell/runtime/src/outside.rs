//! Asks services of others by HTTP: whom webhooks tell, Grafana, Prometheus.
//!
//! They show a certificate that the system trusts (or that a file that is named does), not one of
//! this federation, and this side shows none. No redirect is followed, because whoever answers at
//! the address could name any other, and be sent the token.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use crate::tls::{provider, read_roots};

/// Certificates that the system trusts, where Debian and its kin have them.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Time to connect.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection is kept for the next request.
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest reason that is told, in characters.
const REASON_LEN_MAX: usize = 200;
/// Largest answer that is read, in bytes: a Prometheus' answer about every series of 50 regions.
const ANSWER_LEN_MAX: usize = 16 << 20;
/// How this side names itself.
pub(crate) const AGENT: &str = "dwcp-federation";

/// Asks.
pub struct Outside {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}

/// One question.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The whole address.
    pub url: &'a str,
    /// Proves who asks; a secret.
    pub token: Option<&'a str>,
    /// What is sent, as JSON, by POST; else it is GET.
    pub json: Option<&'a str>,
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Outside {
    /// One that trusts the certificates of a PEM file, or of the system.
    ///
    /// # Errors
    ///
    /// When the file that is named cannot be used. Without the system's nothing is trusted, and
    /// only `http` works.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        let tls = trusting(ca_file)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIME_MAX));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME_MAX)
            .pool_max_idle_per_host(1)
            .build(connector);
        Ok(Self { client })
    }

    /// Asks, and reads the answer, all within `time_max`. Any status is an answer.
    ///
    /// # Errors
    ///
    /// In words, without the address, which may be a secret.
    pub async fn ask(
        &self,
        question: Question<'_>,
        time_max: Duration,
    ) -> Result<Answered, String> {
        let method = if question.json.is_some() { Method::POST } else { Method::GET };
        let mut request =
            Request::builder().method(method).uri(question.url).header(USER_AGENT, AGENT);
        if let Some(token) = question.token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| "the token has characters that no header may have")?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let json = question.json.map(|json| Bytes::copy_from_slice(json.as_bytes()));
        if json.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(json.unwrap_or_default());
        let request = request.map_err(|error| error.to_string())?;
        let answer = timeout(time_max, async {
            let (head, body) = self.head(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_LEN_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answered { status: head.status.as_u16(), body: body.to_vec() })
        });
        answer.await.unwrap_or_else(|_| Err(format!("no answer within {time_max:?}")))
    }

    /// Sends a request and reads the head of what is answered.
    pub(crate) async fn head(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, String> {
        let answer = self.client.request(request.map(Full::new)).await;
        answer.map_err(|error| reason(&error))
    }
}

/// Trusts the certificates of a PEM file, or of the system, and shows none. Without the system's
/// nothing is trusted.
///
/// # Errors
///
/// When the file that is named cannot be used.
pub(crate) fn trusting(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let roots = match ca_file {
        Some(file) => read_roots(file).map_err(|error| error.to_string())?,
        None => {
            read_roots(Path::new(SYSTEM_ROOTS)).unwrap_or_else(|_| RootCertStore::empty())
        }
    };
    let tls = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    Ok(tls.with_root_certificates(roots).with_no_client_auth())
}

/// The innermost reason; the outer ones may name the address.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string().chars().take(REASON_LEN_MAX).collect()
}
