//! Operations that answer with a stream of events and end with the connection or the daemon.
//!
//! Events are pulled: the next one is made when the reader has taken the one before, so whoever
//! reads slowly is told less often and what is newest then, and nothing piles up for anybody.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use bytes::Bytes;
use dwcp_runtime::http::Ending;
use futures_util::stream::{BoxStream, unfold};
use futures_util::{FutureExt, StreamExt};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use tokio::time::timeout;

use super::{Asked, Caller, Routes, failure, filter};
use crate::openapi::parameter_names;
use crate::sse::{Event, HEARTBEAT};
use crate::{ApiError, Described, Operation};

/// How often a reader hears that the daemon lives: below what proxies take for a dead connection
/// (30 s and more).
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// By what a reader that comes back says what it has.
const LAST_EVENT: &str = "last-event-id";
/// Longest id of an event that is looked at.
const ID_LEN_MAX: usize = 64;

/// Events of one reader, each made when the one before was taken.
pub type Feed = BoxStream<'static, Event>;

/// A feed of what a step gives, each time with the state that it left; it ends with nothing.
pub fn feed<S, F, Fut>(state: S, step: F) -> Feed
where
    S: Send + 'static,
    F: FnMut(S) -> Fut + Send + 'static,
    Fut: Future<Output = Option<(Event, S)>> + Send + 'static,
{
    unfold(state, step).boxed()
}

/// Whoever reads a stream.
#[derive(Clone, Debug)]
pub struct Watcher {
    /// Who it is.
    pub caller: Caller,
    /// The event that it has, when it comes back.
    pub last: Option<String>,
}

impl Routes {
    /// Binds an operation that answers with a stream of events. The handler has no say in when
    /// the stream ends but by ending its feed.
    #[must_use]
    pub fn bind_stream<O, F, Fut>(mut self, handler: F) -> Self
    where
        O: Operation<Body = ()>,
        F: Fn(Watcher, O::Params) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Feed, ApiError>> + Send + 'static,
    {
        let known: std::sync::Arc<[String]> = parameter_names::<O::Params>().into();
        let route = move |path: RawPathParams, request: Request| {
            let (known, handler) = (std::sync::Arc::clone(&known), handler.clone());
            async move {
                let last = last_event(&request);
                let ending = request.extensions().get::<Ending>().cloned();
                let asked = Asked::<O>::read(&path, request, &known, 0).await;
                let Asked { caller, params, body: () } = match asked {
                    Ok(asked) => asked,
                    Err(refusal) => return refusal.into_response(),
                };
                match handler(Watcher { caller, last }, params).await {
                    Ok(feed) => answer(body(feed, ending)),
                    Err(error) => failure(&error),
                }
            }
        };
        self.router = self.router.route(O::PATH, on(filter(O::METHOD), route));
        self.described.push(Described::of::<O>());
        self
    }
}

fn last_event(request: &Request) -> Option<String> {
    let last = request.headers().get(LAST_EVENT)?.to_str().ok()?;
    (last.len() <= ID_LEN_MAX).then(|| last.to_owned())
}

/// Events and heartbeats, until the feed or the server ends.
fn body(feed: Feed, ending: Option<Ending>) -> Body {
    let ended = async {
        match ending {
            Some(ending) => ending.begun().await,
            None => pending().await,
        }
    };
    let text = unfold((feed, ended.boxed()), |(mut feed, mut ended)| async move {
        let next = tokio::select! {
            biased;
            () = &mut ended => return None,
            next = timeout(HEARTBEAT_EVERY, feed.next()) => next,
        };
        let text = match next {
            Ok(event) => event?.text(),
            Err(_) => HEARTBEAT.to_owned(),
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (feed, ended)))
    });
    Body::from_stream(text)
}

fn answer(body: Body) -> Response {
    let kind = HeaderValue::from_static("text/event-stream");
    let cache = HeaderValue::from_static("no-store");
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, cache)], body).into_response()
}
