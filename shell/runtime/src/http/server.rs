//! The TLS accept loop.
//!
//! Order of a connection: a place among the bounded number of connections, the TLS handshake
//! within its time, requests, and an end: by the client, by shutdown, or at the moment the
//! client's certificate expires, so that a connection never outlives the right to it.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower_service::Service;

use crate::clock::Clock;
use crate::tls::{Peer, ServerTls, farewell};

/// HTTP/2 streams of one connection at once; hyper's advice against rapid resets is to keep
/// this near 100.
const STREAMS_MAX: u32 = 128;
/// Size of all headers of a request.
const HEADERS_LEN_MAX: u32 = 16 << 10;
/// Buffer of an HTTP/1 connection; must hold the headers.
const HTTP1_BUFFER_LEN_MAX: usize = 64 << 10;
/// A peer that does not answer a ping for this long is gone.
const PING_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a quiet HTTP/2 connection is pinged.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long a refused client has to read why.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);
/// Pause after `accept` failed (out of file descriptors): trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much a server takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Time for the TLS handshake.
    pub handshake_time_max: Duration,
    /// Time for the headers of a request, and for an idle HTTP/1 connection.
    pub header_time_max: Duration,
    /// Size of any request's body in bytes. An operation may allow less.
    pub body_len_max: usize,
    /// Time for running requests after shutdown was asked for.
    pub drain_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            handshake_time_max: Duration::from_secs(10),
            // Longer than the 30 s after which clients drop idle connections, so that the
            // client ends them and no request meets a closing connection.
            header_time_max: Duration::from_secs(45),
            body_len_max: 8 << 20,
            drain_time_max: Duration::from_secs(10),
        }
    }
}

/// In each request's extensions: says that the server is about to stop, to answers that have no
/// end of their own. Without it each would hold the end up for as long as requests may drain.
#[derive(Clone, Debug)]
pub struct Ending(watch::Receiver<bool>);

impl Ending {
    /// Completes when the server is about to stop, or has.
    pub async fn begun(mut self) {
        drop(self.0.wait_for(|stopped| *stopped).await);
    }
}

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else listens there.
    #[error(
        "{address} is in use by another program; stop it (`ss -ltnp` shows which it is) or configure another port"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system says no.
    #[error(
        "cannot listen on {address}: {source}; check that the address is one of this machine and that the port is above 1023 or privileges allow it"
    )]
    Refused {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A server that listens and does not serve yet.
#[derive(Debug)]
pub struct BoundServer {
    listener: TcpListener,
    address: SocketAddr,
    tls: ServerTls,
    limits: Limits,
}

impl BoundServer {
    /// Listens at an address; port zero takes any free one.
    ///
    /// # Errors
    ///
    /// When the address is in use or cannot be listened on.
    pub async fn bind(
        address: SocketAddr,
        tls: ServerTls,
        limits: Limits,
    ) -> Result<Self, BindError> {
        let refused = |source: io::Error| {
            if source.kind() == io::ErrorKind::AddrInUse {
                BindError::InUse { address }
            } else {
                BindError::Refused { address, source }
            }
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, tls, limits })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes, then lets running requests finish in bounded time.
    pub async fn serve(
        self,
        router: Router,
        clock: Arc<dyn Clock>,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        let places = Arc::new(Semaphore::new(self.limits.connections_max));
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = accept(&self.listener, &places) => accepted,
            };
            let Some((stream, place)) = accepted else { continue };
            let connection = Connection {
                tls: self.tls.clone(),
                limits: self.limits,
                router: router.clone(),
                clock: Arc::clone(&clock),
                stopped: stopped.clone(),
            };
            connections.spawn(async move {
                connection.run(stream).await;
                drop(place);
            });
        }
        drop(self.listener);
        stop.send_replace(true);
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(self.limits.drain_time_max, drained).await.is_err() {
            tracing::warn!(address = %self.address, "requests were still running at shutdown");
        }
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// A place first, then a connection to fill it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, Place)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

struct Connection {
    tls: ServerTls,
    limits: Limits,
    router: Router,
    clock: Arc<dyn Clock>,
    stopped: watch::Receiver<bool>,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        // Requests and replies are small and wait for each other.
        stream.set_nodelay(true).ok();
        let handshake = handshake(&self.tls, stream);
        let Ok(Some((stream, peer))) =
            timeout(self.limits.handshake_time_max, handshake).await
        else {
            return;
        };
        self.serve(stream, peer).await;
    }

    async fn serve(mut self, stream: TlsStream<TcpStream>, peer: Peer) {
        let left = peer.not_after.since(self.clock.now());
        let expiry = self.clock.sleep_until(self.clock.monotonic().saturating_add(left));
        let router = self.router.clone();
        let body_len_max = self.limits.body_len_max;
        let ending = Ending(self.stopped.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request =
                request.map(|body| Body::new(Limited::new(body, body_len_max)));
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(ending.clone());
            router.clone().call(request)
        });
        let builder = self.builder();
        let mut connection =
            pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
            () = expiry => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                match timeout(self.limits.drain_time_max, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_time_max)
            .max_buf_size(HTTP1_BUFFER_LEN_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADERS_LEN_MAX)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIME_MAX);
        builder
    }
}

/// The handshake, and who the client is.
async fn handshake(
    tls: &ServerTls,
    stream: TcpStream,
) -> Option<(TlsStream<TcpStream>, Peer)> {
    match TlsAcceptor::from(tls.current()).accept(stream).into_fallible().await {
        Ok(stream) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let peer = certificates.and_then(<[_]>::first).map(|der| Peer::from_der(der));
            // The verifier has refused every certificate without an identity.
            let peer = peer.and_then(Result::ok)?;
            Some((stream, peer))
        }
        Err((error, stream)) => {
            tracing::info!(%error, peer = ?stream.peer_addr().ok(), "a TLS handshake was refused");
            farewell(stream, FAREWELL_TIME_MAX).await;
            None
        }
    }
}
