//! Takes connections, finds out who is there and what they speak, and ends them in order.
//!
//! One port for all requests: a PROXY header from those who must send one, then TLS when the first
//! byte says so, then HTTP/1.1 or HTTP/2; and one for each service whose connections or
//! datagrams are passed on as they are. Order of the end: no new connections, what is under way, within a bound, and then
//! what is left is broken off.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dwcp_types::ServiceId;
use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::{Acceptor, ClientHello};
use tracing::warn;

use super::counters::{Counters, Event};
use super::course::{Caller, Shared, answer};
use super::log::AccessLine;
use super::pool::{Front, PEER_PROTOCOL, STREAM_PROTOCOL};
use super::streams::Carried;
use super::tunnel::Tunnels;
use super::view::{Sites, View};
use super::{Limits, flows, preface, streams};
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
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// How often connections to other regions that nobody uses are closed.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// Time in which what is broken off says so.
const BREAK_OFF_TIME_MAX: Duration = Duration::from_secs(1);

/// How far a proxy is with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It takes connections.
    Open,
    /// It takes none any more, and what is under way goes on.
    Draining,
    /// What is still under way is broken off.
    Over,
}

/// Waits until a proxy is as far.
pub(super) async fn begun(mut phase: watch::Receiver<Phase>, wanted: Phase) {
    drop(phase.wait_for(|phase| *phase >= wanted).await);
}

/// What a connection that is taken meets.
#[derive(Clone, Debug)]
pub(super) struct Around {
    pub(super) door: Arc<Door>,
    pub(super) phase: watch::Receiver<Phase>,
    views: watch::Receiver<Arc<View>>,
    free: Arc<Semaphore>,
    /// The same for flows: whoever sends a datagram may not be who it seems, and takes no room of
    /// those who had to answer for a connection.
    pub(super) free_flows: Arc<Semaphore>,
}

impl Around {
    /// The newest views, for one connection.
    pub(super) fn views(&self) -> Newest<View> {
        Newest::new(self.views.clone())
    }
}

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
    pub tls: Option<Arc<dyn Front>>,
    /// Where lines of the access log go; they are lost when it is full.
    pub log: Option<mpsc::Sender<AccessLine>>,
}

impl Listening {
    /// For anybody, within the usual limits, and nothing is written down.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            limits: Limits::default(),
            trusted: Vec::new(),
            preface: Vec::new(),
            explains: Vec::new(),
            tls: None,
            log: None,
        }
    }
}

/// A port of a service.
#[derive(Debug)]
enum Port {
    Connections(TcpListener),
    Datagrams(UdpSocket),
}

impl Port {
    async fn bind(at: (IpAddr, u16), carried: Carried) -> io::Result<Self> {
        match carried {
            Carried::Connections => TcpListener::bind(at).await.map(Self::Connections),
            Carried::Datagrams => UdpSocket::bind(at).await.map(Self::Datagrams),
        }
    }

    fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Connections(listener) => listener.local_addr(),
            Self::Datagrams(socket) => socket.local_addr(),
        }
    }
}

/// A proxy that is bound and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    /// By service, where connections and datagrams are passed on as they are.
    ports: Vec<(Port, Arc<ServiceId>)>,
    door: Arc<Door>,
}

/// What every connection needs.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) shared: Shared,
    pub(super) preface: Clients,
    pub(super) seats: Seats,
    pub(super) flow_seats: Seats,
    tls: Option<Arc<dyn Front>>,
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
            flow_seats: Seats::new(listening.limits.per_network_max),
        };
        Ok(Self { listener, ports: Vec::new(), door: Arc::new(door) })
    }

    /// Binds the port of each service that has one, at the address of requests.
    ///
    /// # Errors
    ///
    /// Which port it is, and what the system says.
    pub async fn bind_ports(&mut self, sites: &Sites) -> io::Result<()> {
        let ip = self.address()?.ip();
        for (service, passing) in sites.ports() {
            let port = passing.port;
            let bound =
                Port::bind((ip, port), passing.carried).await.map_err(|error| {
                    let told = format!("port {port} of the service {service}: {error}");
                    io::Error::new(error.kind(), told)
                })?;
            self.ports.push((bound, Arc::new(service.clone())));
        }
        Ok(())
    }

    /// Where connections or datagrams to a service are taken; nothing when they are not.
    #[must_use]
    pub fn port(&self, service: &ServiceId) -> Option<SocketAddr> {
        let own = self.ports.iter().find(|(_, id)| **id == *service);
        own.and_then(|(port, _)| port.address().ok())
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers by the newest view until `stop` completes, then lets what is under way finish
    /// within its time.
    pub async fn run(
        self,
        views: watch::Receiver<Arc<View>>,
        stop: impl Future<Output = ()> + Send,
    ) {
        let Self { listener, ports, door } = self;
        let limits = door.shared.limits;
        let free = Arc::new(Semaphore::new(limits.connections_max));
        // Those to other regions take room of connections there: half of it at most.
        let free_flows = Arc::new(Semaphore::new(limits.connections_max.div_ceil(2)));
        let (now, phase) = watch::channel(Phase::Open);
        let around = Around { door, phase, views: views.clone(), free, free_flows };
        let mut doors = JoinSet::new();
        for (port, service) in ports {
            match port {
                Port::Connections(listener) => {
                    let take = move |around: Around, accepted| {
                        streams::take(around, accepted, service.clone())
                    };
                    doors.spawn(listen(listener, around.clone(), take));
                }
                Port::Datagrams(socket) => {
                    doors.spawn(flows::listen(socket, around.clone(), service));
                }
            }
        }
        doors.spawn(listen(listener, around, take));
        let mut stop = pin!(stop);
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = tidy.tick() => views.borrow().sites.tidy(),
            }
        }
        now.send_replace(Phase::Draining);
        let mut drained = pin!(async { while doors.join_next().await.is_some() {} });
        if timeout(limits.drain_time_max, drained.as_mut()).await.is_err() {
            warn!("requests or connections were still under way when the proxy stopped");
            now.send_replace(Phase::Over);
            timeout(BREAK_OFF_TIME_MAX, drained).await.unwrap_or_default();
        }
    }
}

/// Takes connections at one port until the proxy's end begins, and waits for those that are open.
async fn listen<F>(
    listener: TcpListener,
    around: Around,
    take: impl Fn(Around, (TcpStream, SocketAddr)) -> F + Send,
) where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut open = JoinSet::new();
    let mut ending = pin!(begun(around.phase.clone(), Phase::Draining));
    loop {
        let accepted = tokio::select! {
            () = &mut ending => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                let Ok(permit) = around.free.clone().try_acquire_owned() else {
                    around.door.shared.counters.add(Event::ConnectionRefused);
                    continue;
                };
                let taken = take(around.clone(), accepted);
                open.spawn(async move {
                    // Ended by the other side in whatever way: that is its business.
                    drop(taken.await);
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
    while open.join_next().await.is_some() {}
}

/// Finds out who is there and what they speak.
async fn take(
    around: Around,
    (mut stream, from): (TcpStream, SocketAddr),
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let door = &around.door;
    let within = door.shared.limits.header_time_max;
    let mut address = from.ip().to_canonical();
    if door.preface.find(address).0 == 1
        && let Some(ends) = timeout(within, preface::read(&mut stream)).await??
    {
        address = ends.source.ip().to_canonical();
    }
    let mut first = [0];
    if timeout(within, stream.peek(&mut first)).await?? == 0 {
        return Ok(());
    }
    let mut caller = Caller {
        address,
        text: HeaderValue::from_str(&address.to_string()).map_err(io::Error::other)?,
        encrypted: false,
        trusted: door.shared.trusted.find(address).0 == 1,
        explains: door.shared.explains.find(address).0 == 1,
        peer: None,
        tunnels: Tunnels::new(around.phase.clone()),
    };
    if first != [HANDSHAKE] {
        return serve(around, stream, caller).await;
    }
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let hello = timeout(within, hello).await??;
    let spoken = [PEER_PROTOCOL, STREAM_PROTOCOL]
        .into_iter()
        .find(|protocol| speaks(&hello.client_hello(), protocol));
    let trust = around.views.borrow().sites.trust().cloned();
    let trust = trust.and_then(|trust| Some((trust, spoken?)));
    let config = match &trust {
        Some((trust, protocol)) => trust.server(protocol),
        None => {
            let front = door.tls.as_ref().ok_or(io::ErrorKind::ConnectionRefused)?;
            front.current()
        }
    };
    let stream = timeout(within, hello.into_stream(config)).await??;
    caller.encrypted = true;
    if let Some((trust, protocol)) = trust {
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let region = shown.and_then(|shown| trust.region(shown));
        caller.peer = Some(region.ok_or(io::ErrorKind::PermissionDenied)?);
        if protocol == STREAM_PROTOCOL {
            return streams::take_from_peer(around, stream.into()).await;
        }
    }
    serve(around, stream, caller).await
}

/// Answers the requests of one connection.
async fn serve(
    around: Around,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    caller: Caller,
) -> io::Result<()> {
    let door = around.door.clone();
    // Other regions' proxies carry many clients on few addresses.
    let seat = door.seats.enter(caller.address);
    if seat.is_none() && caller.peer.is_none() {
        door.shared.counters.add(Event::ConnectionRefused);
        return Ok(());
    }
    let tunnels = caller.tunnels.clone();
    let (caller, views) = (Arc::new(caller), Arc::new(Mutex::new(around.views())));
    let limits = door.shared.limits;
    let service = service_fn(move |request| {
        let (door, caller) = (door.clone(), caller.clone());
        let (view, number) = {
            let mut views = views.lock().unwrap_or_else(PoisonError::into_inner);
            let (view, number) = views.next();
            (view.clone(), number)
        };
        async move {
            let answer = answer(&door.shared, &caller, (&view, number), request);
            Ok::<_, Infallible>(answer.await)
        }
    });
    let builder = builder(&limits);
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = pin!(served);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = begun(around.phase, Phase::Draining) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    tunnels.ended().await;
    drop(seat);
    ended.map_err(io::Error::other)
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
