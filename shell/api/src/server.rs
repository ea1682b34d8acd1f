//! The server's half of an operation: checks, calls the handler, answers in one shape.
//!
//! A handler runs to its end even when the client goes away: what was begun is not left half
//! done because a connection broke. A handler that panics costs one reply, not the daemon.
//! Whatever goes wrong, the answer is an [`ApiError`] in JSON.

mod stream;

pub use stream::{Feed, Watcher, feed};

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Extension, Router};
use bytes::Bytes;
use dwcp_monitor::trace::Context;
use dwcp_runtime::tls::{Identity, Peer};
use dwcp_runtime::trace::{self, Tracer};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method as HttpMethod, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::openapi::parameter_names;
use crate::{ApiError, Described, ErrorCode, Method, Operation, params};

/// Size of a request's body, unless an operation says otherwise.
const BODY_LEN_MAX: usize = 1 << 20;
/// Time for a body to arrive: the largest one over a line of 1 Mbit/s.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// What a caller takes along of its trace (W3C Trace Context).
pub(crate) const TRACEPARENT: &str = "traceparent";
/// Handlers that run at once in one server; beyond that clients are asked to come back.
const IN_FLIGHT_MAX: usize = 2_048;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// As its certificate says.
    pub identity: Identity,
}

impl Caller {
    /// Who sent a request.
    ///
    /// # Errors
    ///
    /// When the connection has no client certificate.
    pub fn of(request: &Request) -> Result<Self, ApiError> {
        let peer = request.extensions().get::<Peer>();
        peer.map(|peer| Self { identity: peer.identity.clone() }).ok_or_else(|| {
            let why = "the connection has no client certificate";
            ApiError::new(ErrorCode::Forbidden, why)
                .with_remedy("connect with a certificate of this federation")
        })
    }

    /// An error for whoever may not do this, naming who they are and who may.
    #[must_use]
    pub fn forbidden(&self, who_may: &str) -> ApiError {
        let message = format!("{} may not do this; {who_may} may", self.identity);
        ApiError::new(ErrorCode::Forbidden, message)
            .with_remedy("use another certificate, or ask whoever has one")
    }
}

/// Operations bound to their handlers.
#[derive(Debug)]
pub struct Routes {
    router: Router,
    described: Vec<Described>,
    body_len_max: usize,
    in_flight: Arc<Semaphore>,
}

impl Default for Routes {
    fn default() -> Self {
        Self::new()
    }
}

impl Routes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            router: Router::new(),
            described: Vec::new(),
            body_len_max: BODY_LEN_MAX,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        }
    }

    /// Allows larger (or only smaller) bodies in the operations that are bound after this.
    #[must_use]
    pub const fn with_body_len_max(mut self, bytes: usize) -> Self {
        self.body_len_max = bytes;
        self
    }

    /// Makes spans of what is asked of the operations that are bound or merged before this.
    #[must_use]
    pub fn traced(mut self, tracer: &Tracer) -> Self {
        self.router = self.router.layer(Extension(tracer.clone()));
        self
    }

    /// Binds an operation to its handler.
    #[must_use]
    pub fn bind<O, F, Fut>(mut self, handler: F) -> Self
    where
        O: Operation,
        F: Fn(Caller, O::Params, O::Body) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<O::Reply, ApiError>> + Send + 'static,
    {
        let known: Arc<[String]> = parameter_names::<O::Params>().into();
        let body_len_max = self.body_len_max;
        let in_flight = Arc::clone(&self.in_flight);
        let route = move |path: RawPathParams, request: Request| {
            let (known, handler) = (Arc::clone(&known), handler.clone());
            let in_flight = Arc::clone(&in_flight);
            async move {
                let tracer = request.extensions().get::<Tracer>().cloned();
                let from = parent(&request);
                let waits = waits(request.uri());
                let asked = Asked::<O>::read(&path, request, &known, body_len_max).await;
                let Asked { caller, params, body } = match asked {
                    Ok(asked) => asked,
                    Err(refusal) => return refusal.into_response(),
                };
                let Ok(place) = in_flight.try_acquire_owned() else {
                    return busy();
                };
                let task = tokio::spawn(async move {
                    let way = Way::of(tracer, from, &caller, waits);
                    let reply = way
                        .go(
                            O::ID,
                            &caller.identity.clone(),
                            handler(caller, params, body),
                        )
                        .await;
                    drop(place);
                    reply
                });
                match task.await {
                    Ok(Ok(reply)) => json(StatusCode::OK, &reply),
                    Ok(Err(error)) => failure(&error),
                    Err(_) => panicked(O::ID),
                }
            }
        };
        self.router = self.router.route(O::PATH, on(filter(O::METHOD), route));
        self.described.push(Described::of::<O>());
        self
    }

    /// Adds the operations of another.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.described.extend(other.described);
        self
    }

    /// What is bound, for the OpenAPI document.
    #[must_use]
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// The router, which answers in JSON also what is not bound.
    pub fn into_router(self) -> Router {
        self.router.fallback(unknown_route).method_not_allowed_fallback(wrong_method)
    }
}

/// How a request is traced: as part of its caller's trace, as where one enters the federation,
/// or not at all.
enum Way {
    Part(Tracer, Context),
    Entry(Tracer, Option<Context>),
    Untraced,
}

impl Way {
    /// A person's request enters; what the federation's processes do of themselves is traced
    /// where they say so. Who waits for news is slow on purpose, and says nothing by it.
    fn of(
        tracer: Option<Tracer>,
        from: Option<Context>,
        caller: &Caller,
        waits: bool,
    ) -> Self {
        let is_person = matches!(caller.identity, Identity::Admin(_));
        match (tracer, from) {
            (Some(tracer), from) if is_person && !waits => Self::Entry(tracer, from),
            (Some(tracer), Some(from)) if !is_person => Self::Part(tracer, from),
            _ => Self::Untraced,
        }
    }

    async fn go<T>(
        self,
        operation: &str,
        caller: &Identity,
        work: impl Future<Output = Result<T, ApiError>> + Send,
    ) -> Result<T, ApiError> {
        let told = Box::pin(async {
            trace::tag("caller", caller);
            work.await.inspect_err(|error| trace::tag("code", error.code.as_str()))
        });
        match self {
            Self::Part(tracer, from) => tracer.serve(from, operation, told).await,
            Self::Entry(tracer, from) => tracer.enter(from, operation, told).await,
            Self::Untraced => told.await,
        }
    }
}

/// What the caller takes along of its trace; one that cannot be read is none, as the standard
/// wants it.
fn parent(request: &Request) -> Option<Context> {
    request.headers().get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// Whether a request waits for news on purpose, so that how long it takes says nothing of who
/// answers.
#[must_use]
pub fn waits(uri: &Uri) -> bool {
    let mut parts = uri.query().unwrap_or_default().split('&');
    parts.any(|part| part.starts_with("wait_ms=") && part != "wait_ms=0")
}

/// A request that passed every check.
struct Asked<O: Operation> {
    caller: Caller,
    params: O::Params,
    body: O::Body,
}

/// An answer to a request that did not.
enum Refusal {
    Error(ApiError),
    TooLarge(usize),
}

impl Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Error(error) => failure(&error),
            Self::TooLarge(max) => {
                let message = format!("the body is larger than the {max} bytes allowed");
                let error = invalid(message, "send less, or in several requests");
                json(StatusCode::PAYLOAD_TOO_LARGE, &error)
            }
        }
    }
}

impl<O: Operation> Asked<O> {
    async fn read(
        path: &RawPathParams,
        request: Request,
        known: &[String],
        body_len_max: usize,
    ) -> Result<Self, Refusal> {
        let caller = Caller::of(&request).map_err(Refusal::Error)?;
        let path: Vec<_> =
            path.iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let query = request.uri().query().unwrap_or_default();
        let params = params::decode(&path, query, known).map_err(|error| {
            Refusal::Error(invalid(error.to_string(), "correct the parameter"))
        })?;
        let typed = is_json(&request);
        let bytes = read_body(request.into_body(), body_len_max).await?;
        let body = parse_body(&bytes, typed).map_err(Refusal::Error)?;
        Ok(Self { caller, params, body })
    }
}

fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn read_body(body: Body, body_len_max: usize) -> Result<Bytes, Refusal> {
    let collected =
        timeout(BODY_TIME_MAX, Limited::new(body, body_len_max).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if is_too_large(error.as_ref()) => {
            Err(Refusal::TooLarge(body_len_max))
        }
        Ok(Err(error)) => Err(Refusal::Error(invalid(
            format!("the body broke off: {error}"),
            "send the request again",
        ))),
        Err(_) => Err(Refusal::Error(invalid(
            format!("the body did not arrive within {BODY_TIME_MAX:?}"),
            "send the request again over a faster line",
        ))),
    }
}

/// The limit of the operation, or below it the one of the whole server.
fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<LengthLimitError>() {
            return true;
        }
        next = error.source();
    }
    false
}

fn parse_body<T: DeserializeOwned>(bytes: &[u8], typed: bool) -> Result<T, ApiError> {
    if !bytes.is_empty() && !typed {
        // A form of a foreign web page can be sent with a browser's certificate, but not
        // with this content type.
        let message = "the body's content type is not application/json".to_owned();
        return Err(invalid(message, "send the header `Content-Type: application/json`"));
    }
    // An operation without a body has the body null.
    let text: &[u8] = if bytes.is_empty() { b"null" } else { bytes };
    let mut json = serde_json::Deserializer::from_slice(text);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { String::new() } else { format!(" at {path}") };
        let message = if bytes.is_empty() {
            "the request needs a body and has none".to_owned()
        } else {
            format!("the body is not what is expected{at}: {}", error.inner())
        };
        invalid(message, "see the operation's schema in the OpenAPI document")
    })?;
    json.end().map_err(|error| {
        invalid(format!("the body goes on after its end: {error}"), "send one JSON value")
    })?;
    Ok(parsed)
}

fn invalid(message: String, remedy: &str) -> ApiError {
    ApiError::new(ErrorCode::Invalid, message).with_remedy(remedy)
}

async fn unknown_route(method: HttpMethod, uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("there is no operation {method} {path}");
    failure(
        &ApiError::new(ErrorCode::NotFound, message)
            .with_remedy("see the OpenAPI document for the operations that there are"),
    )
}

async fn wrong_method(method: HttpMethod, uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    let error =
        invalid(format!("{path} cannot be asked with {method}"), "use another method");
    json(StatusCode::METHOD_NOT_ALLOWED, &error)
}

fn busy() -> Response {
    let error =
        ApiError::new(ErrorCode::Busy, "too many requests are being worked on already")
            .with_remedy("try again in a second");
    let mut response = failure(&error);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn panicked(operation: &str) -> Response {
    tracing::error!(operation, "a handler panicked");
    failure(
        &ApiError::new(
            ErrorCode::Internal,
            format!("{operation} failed by a defect of ours"),
        )
        .with_remedy(
            "report it with the daemon's log; it may have been carried out in part",
        ),
    )
}

/// The reply that an error is.
#[must_use]
pub fn failure(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.code.status());
    json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error)
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    match serde_json::to_vec(value) {
        Ok(text) => (status, kind, text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a reply cannot be written as JSON");
            let text =
                r#"{"code":"internal","message":"the reply cannot be written as JSON"}"#;
            (StatusCode::INTERNAL_SERVER_ERROR, kind, text).into_response()
        }
    }
}

const fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Delete => MethodFilter::DELETE,
    }
}
