//! Takes connections, finds out who is there and what they speak, and ends them in order.
//!
//! One port for all: a PROXY header from those who must send one, then TLS when the first byte
//! says so, then HTTP/1.1 or HTTP/2. Order of the end: no new connections, the requests that are
//! under way, within a bound.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::{Acceptor, ClientHello};
use tracing::warn;

use super::counters::{Counters, Event};
use super::course::{Caller, Shared, answer};
use super::pool::PEER_PROTOCOL;
use super::tally::AccessRecord;
use super::view::View;
use super::{Limits, preface};
use crate::clients::{Clients, Network};
use crate::newest::Newest;
use crate::seats::Seats;

/// Headers of a request (as nginx and Envoy allow), and their size in bytes with the request
/// line.
const HEADERS_MAX: usize = 100;
const HEAD_LEN_MAX: usize = 32 << 10;
const HEAD_LEN_MAX_HTTP2: u32 = 32 << 10;
/// Requests of one HTTP/2 connection at once; hyper's advice against rapid resets is to keep
/// this near 100.
const STREAMS_MAX: u32 = 128;
/// How often a quiet HTTP/2 connection is pinged, and how long the answer may take.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIME_MAX: Duration = Duration::from_secs(10);
/// What a TLS connection begins with: a handshake record (RFC 8446 5.1).
const HANDSHAKE: u8 = 22;
/// After the system could not accept, most often for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// How often connections to other regions that nobody uses are closed.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// Where and for whom a proxy listens.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The address and port; port 0 is any that is free.
    pub address: SocketAddr,
    /// How much it takes on.
    pub limits: Limits,
    /// Networks of proxies that are believed what they say of clients (`X-Forwarded-For`).
    pub trusted: Vec<Network>,
    /// Networks of load balancers that begin each connection with a PROXY header.
    pub preface: Vec<Network>,
    /// Networks that are told why, when they ask (`x-route-explain: 1`).
    pub explains: Vec<Network>,
    /// The certificate that clients are shown; without one TLS is for other regions only.
    pub tls: Option<Arc<ServerConfig>>,
    /// Where lines of the access log go; they are lost when it is full.
    pub log: Option<mpsc::Sender<AccessRecord>>,
}

/// A proxy that is bound and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    door: Arc<Door>,
}

/// What every connection needs.
#[derive(Debug)]
struct Door {
    shared: Shared,
    preface: Clients,
    tls: Option<Arc<ServerConfig>>,
    seats: Seats,
}

fn members(networks: &[Network]) -> Clients {
    let within = |network: &Network| Network { cell: 1, ..*network };
    Clients::new(&networks.iter().map(within).collect::<Vec<_>>(), 0)
}

impl Server {
    /// Binds. What is counted is handed in, and `via` is what the proxy calls itself.
    ///
    /// # Errors
    ///
    /// What the system says, such as that the port is in use.
    pub async fn bind(
        listening: Listening,
        counters: Arc<Counters>,
        via: &str,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listening.address).await?;
        let via =
            HeaderValue::from_str(&format!("1.1 {via}")).map_err(io::Error::other)?;
        let shared = Shared {
            limits: listening.limits,
            trusted: members(&listening.trusted),
            explains: members(&listening.explains),
            counters,
            log: listening.log,
            budget: Mutex::default(),
            start: Instant::now(),
            via,
        };
        let door = Door {
            shared,
            preface: members(&listening.preface),
            tls: listening.tls,
            seats: Seats::new(listening.limits.per_network_max),
        };
        Ok(Self { listener, door: Arc::new(door) })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers by the newest view until `stop` completes, then lets requests that are under way
    /// finish within their time.
    pub async fn run(
        self,
        views: watch::Receiver<Arc<View>>,
        stop: impl Future<Output = ()> + Send,
    ) {
        let Self { listener, door } = self;
        let limits = door.shared.limits;
        let free = Arc::new(Semaphore::new(limits.connections_max));
        let (stopping, stopped) = watch::channel(false);
        let mut open = JoinSet::new();
        let mut stop = pin!(stop);
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                Some(_) = open.join_next(), if !open.is_empty() => continue,
                _ = tidy.tick() => {
                    views.borrow().sites.tidy();
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    let Ok(permit) = free.clone().try_acquire_owned() else {
                        door.shared.counters.add(Event::ConnectionRefused);
                        continue;
                    };
                    let (door, stopped) = (door.clone(), stopped.clone());
                    let views = Newest::new(views.clone());
                    open.spawn(async move {
                        // Ended by the other side in whatever way: that is its business.
                        drop(door.take(stream, from.ip(), views, stopped).await);
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "the proxy cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        drop(listener);
        stopping.send_replace(true);
        let drained = async { while open.join_next().await.is_some() {} };
        if timeout(limits.drain_time_max, drained).await.is_err() {
            warn!("requests were still under way when the proxy stopped");
        }
    }
}

impl Door {
    async fn take(
        self: Arc<Self>,
        mut stream: TcpStream,
        from: IpAddr,
        views: Newest<View>,
        stopped: watch::Receiver<bool>,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let within = self.shared.limits.header_time_max;
        let mut address = from.to_canonical();
        if self.preface.find(address).0 == 1
            && let Some(client) = timeout(within, preface::read(&mut stream)).await??
        {
            address = client.to_canonical();
        }
        let mut first = [0];
        if timeout(within, stream.peek(&mut first)).await?? == 0 {
            return Ok(());
        }
        let mut caller = Caller {
            address,
            text: HeaderValue::from_str(&address.to_string())
                .map_err(io::Error::other)?,
            encrypted: false,
            trusted: self.shared.trusted.find(address).0 == 1,
            explains: self.shared.explains.find(address).0 == 1,
            peer: None,
        };
        if first != [HANDSHAKE] {
            return self.serve(stream, caller, views, stopped).await;
        }
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let hello = timeout(within, hello).await??;
        let peer = speaks(&hello.client_hello(), PEER_PROTOCOL);
        let trust = views.now().sites.trust().filter(|_| peer).cloned();
        let config = match &trust {
            Some(trust) => trust.server(),
            None => self.tls.clone().ok_or(io::ErrorKind::ConnectionRefused)?,
        };
        let stream = timeout(within, hello.into_stream(config)).await??;
        caller.encrypted = true;
        if let Some(trust) = trust {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let region = shown.and_then(|shown| trust.region(shown));
            caller.peer = Some(region.ok_or(io::ErrorKind::PermissionDenied)?);
        }
        self.serve(stream, caller, views, stopped).await
    }

    async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        caller: Caller,
        views: Newest<View>,
        mut stopped: watch::Receiver<bool>,
    ) -> io::Result<()> {
        // Other regions' proxies carry many clients on few addresses.
        let seat = self.seats.enter(caller.address);
        if seat.is_none() && caller.peer.is_none() {
            self.shared.counters.add(Event::ConnectionRefused);
            return Ok(());
        }
        let (door, caller, views) =
            (self.clone(), Arc::new(caller), Arc::new(Mutex::new(views)));
        let service = service_fn(move |request| {
            let (door, caller) = (door.clone(), caller.clone());
            let (view, number) = {
                let mut views =
                    views.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let (view, number) = views.next();
                (view.clone(), number)
            };
            async move {
                let answer = answer(&door.shared, &caller, (&view, number), request);
                Ok::<_, Infallible>(answer.await)
            }
        });
        let builder = builder(&self.shared.limits);
        let mut connection =
            pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = stopped.wait_for(|stopped| *stopped) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        drop(seat);
        ended.map_err(io::Error::other)
    }
}

fn speaks(hello: &ClientHello<'_>, wanted: &[u8]) -> bool {
    hello.alpn().into_iter().flatten().any(|protocol| protocol == wanted)
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time_max)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_LEN_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_LEN_MAX_HTTP2)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIME_MAX);
    builder
}
