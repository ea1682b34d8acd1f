//! The client's half of an operation: the same declaration, called.
//!
//! A client may have several addresses of the same service. The next one is tried only when
//! nothing can have arrived at the one before; anything else is for the caller to decide.

mod events;

pub use events::Events;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dwcp_monitor::trace::Context;
use dwcp_runtime::http::{HttpClient, HttpError};
use dwcp_runtime::tls::ClientTls;
use dwcp_runtime::trace::{self, Fault};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, Uri};

use crate::server::TRACEPARENT;
use crate::{ApiError, ErrorCode, Operation, params};

/// Time for a whole call, unless told otherwise: longer than the longest wait of a long poll.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// How much of a reply that is not ours is shown.
const SHOWN_LEN_MAX: usize = 200;

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The service answered with an error.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It cannot be reached. Nothing arrived.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// A certificate is not accepted. Nothing was done.
    #[error("the TLS connection was refused: {reason}")]
    Tls {
        /// Why, and what to do.
        reason: String,
    },
    /// No answer in time. It may have been carried out.
    #[error("{url} did not answer within {after:?}")]
    Timeout {
        /// Where.
        url: String,
        /// The time.
        after: Duration,
    },
    /// The exchange broke, or the answer is not one of ours. It may have been carried out.
    #[error("the exchange with {url} failed: {reason}")]
    Protocol {
        /// Where.
        url: String,
        /// How.
        reason: String,
    },
}

impl CallError {
    /// What to tell a caller of one's own: the service's own error, or that `who` does not
    /// answer.
    #[must_use]
    pub fn or_unavailable(self, who: &str, remedy: &str) -> ApiError {
        if let Self::Api(error) = self {
            return error;
        }
        let message = format!("{who} does not answer: {self}");
        ApiError::new(ErrorCode::Unavailable, message).with_remedy(remedy)
    }

    /// Whether the service may have carried out the operation though there is no reply.
    #[must_use]
    pub const fn may_have_been_done(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Protocol { .. })
    }
}

impl Fault for CallError {
    /// An answer that refuses is one: whose fault it is, if anybody's, the other says.
    fn fault(&self) -> Option<String> {
        match self {
            Self::Api(error) => error.fault(),
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::Protocol { .. } => Some(self.to_string()),
        }
    }
}

/// Why an address is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address:?} is not the address of a service: {reason}; write https://HOST:PORT")]
pub struct AddressError {
    address: String,
    reason: &'static str,
}

/// Calls operations of a service.
#[derive(Clone, Debug)]
pub struct Client {
    bases: Arc<[String]>,
    http: Arc<HttpClient>,
    call_time_max: Duration,
    /// What calls are part of that no trace of this process makes.
    context: Option<Context>,
}

impl Client {
    /// A client of the service at these addresses, such as `https://127.0.0.1:8443`.
    ///
    /// # Errors
    ///
    /// When there is no address or one is not `https://HOST:PORT`.
    pub fn new<S: AsRef<str>>(bases: &[S], tls: ClientTls) -> Result<Self, AddressError> {
        let bases: Result<Vec<_>, _> =
            bases.iter().map(|base| check_address(base.as_ref())).collect();
        let bases = bases?;
        if bases.is_empty() {
            return Err(AddressError { address: String::new(), reason: "there is none" });
        }
        Ok(Self {
            bases: bases.into(),
            http: Arc::new(HttpClient::new(tls)),
            call_time_max: CALL_TIME_MAX,
            context: None,
        })
    }

    /// The same with another time for a whole call.
    #[must_use]
    pub const fn with_call_time_max(mut self, time: Duration) -> Self {
        self.call_time_max = time;
        self
    }

    /// The same, whose calls are part of a trace that this process makes no spans of.
    #[must_use]
    pub const fn part_of(mut self, context: Context) -> Self {
        self.context = Some(context);
        self
    }

    /// The first address.
    #[must_use]
    pub fn address(&self) -> &str {
        self.bases.first().map_or("", String::as_str)
    }

    /// Calls an operation, as part of the current trace where there is one.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn call<O: Operation>(
        &self,
        params: &O::Params,
        body: &O::Body,
    ) -> Result<O::Reply, CallError> {
        let ask = Box::pin(self.ask::<O>(params, body));
        if trace::context().is_none() {
            return ask.await;
        }
        let told = async {
            trace::tag("to", self.address());
            ask.await
        };
        trace::call(O::ID, told).await
    }

    /// Takes the current trace along, or the one that all calls are part of.
    fn tell_trace(&self, request: &mut Request<Bytes>) {
        let Some(context) = trace::context().or(self.context) else { return };
        if let Ok(value) = HeaderValue::from_str(&context.to_string()) {
            request.headers_mut().insert(TRACEPARENT, value);
        }
    }

    async fn ask<O: Operation>(
        &self,
        params: &O::Params,
        body: &O::Body,
    ) -> Result<O::Reply, CallError> {
        let broken = |reason: String| CallError::Protocol {
            url: self.address().to_owned(),
            reason,
        };
        let path =
            params::encode(O::PATH, params).map_err(|error| broken(error.to_string()))?;
        let body = serde_json::to_vec(body).map_err(|error| broken(error.to_string()))?;
        let body = if body == b"null" { Bytes::new() } else { Bytes::from(body) };
        let mut last = None;
        for base in self.bases.iter() {
            let mut request = request::<O>(&format!("{base}{path}"), body.clone())
                .map_err(|error| broken(error.to_string()))?;
            self.tell_trace(&mut request);
            match self.http.send(request, self.call_time_max).await {
                Ok(response) => return read::<O>(&format!("{base}{path}"), &response),
                Err(error @ HttpError::Unreachable { .. }) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last
            .map_or_else(|| broken("there is no address".to_owned()), CallError::from))
    }
}

fn check_address(address: &str) -> Result<String, AddressError> {
    let refused =
        |reason| AddressError { address: address.chars().take(200).collect(), reason };
    let uri: Uri = address.parse().map_err(|_| refused("it cannot be parsed"))?;
    if uri.scheme_str() != Some("https") {
        return Err(refused("it does not begin with https://"));
    }
    if uri.host().unwrap_or_default().is_empty() {
        return Err(refused("it names no host"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(refused("it has a path or a query"));
    }
    Ok(address.trim_end_matches('/').to_owned())
}

fn request<O: Operation>(url: &str, body: Bytes) -> http::Result<Request<Bytes>> {
    Request::builder()
        .method(O::METHOD.as_str())
        .uri(url)
        .header(CONTENT_TYPE, "application/json")
        .body(body)
}

fn read<O: Operation>(
    url: &str,
    response: &Response<Bytes>,
) -> Result<O::Reply, CallError> {
    let status = response.status();
    if !status.is_success() {
        return Err(match serde_json::from_slice::<ApiError>(response.body()) {
            Ok(error) => CallError::Api(error),
            Err(_) => strange(url, &format!("status {status}"), response.body()),
        });
    }
    serde_json::from_slice(response.body())
        .map_err(|error| strange(url, &error.to_string(), response.body()))
}

fn strange(url: &str, what: &str, body: &[u8]) -> CallError {
    let shown = String::from_utf8_lossy(body);
    // Control characters of a stranger must not reach a terminal.
    let shown: String = shown
        .chars()
        .take(SHOWN_LEN_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let reason = format!("the answer is not one of this API ({what}): {shown:?}");
    CallError::Protocol { url: url.to_owned(), reason }
}

impl From<HttpError> for CallError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Unreachable { url, reason } => Self::Unreachable { url, reason },
            HttpError::Tls { .. } => Self::Tls { reason: error.to_string() },
            HttpError::Timeout { url, after } => Self::Timeout { url, after },
            HttpError::Broken { url, reason } => Self::Protocol { url, reason },
        }
    }
}
