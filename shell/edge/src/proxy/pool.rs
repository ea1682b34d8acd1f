//! Connections to one server or one other region's proxy, kept for the next request.
//!
//! What it says of a request is what retries hang on: whether it was never sent, and then the
//! request itself comes back. HTTP/1.1 only, one request at a time on each connection.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dwcp_router::session::server_number;
use dwcp_types::RegionId;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use super::Limits;
use super::bodies::Upload;
use super::flows;

/// What proxies of regions speak with each other (ALPN): HTTP/1.1 with orders in it.
pub const PEER_PROTOCOL: &[u8] = b"dwcp-proxy/1";
/// What they speak when a connection is passed on as it is: an order, one byte back, and then
/// whatever both sides say.
pub const STREAM_PROTOCOL: &[u8] = b"dwcp-stream/1";
/// Requests under way to one server: who has more waiting than that does not answer anyway
/// (Envoy's `max_connections`).
const BUSY_MAX: usize = 1_024;
/// Idle connections to one server.
const IDLE_MAX: usize = 256;
/// How long one is kept: less than what servers commonly keep (60 s and more), so that requests
/// seldom meet a connection that is being closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(20);
/// Longest head of an answer, in bytes, and with how many headers.
const HEAD_LEN_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 128;

/// By what regions know each other: certificates that follow their files.
pub trait Trust: fmt::Debug + Send + Sync {
    /// For connections that regions open, by this protocol: they must show a certificate.
    fn server(&self, protocol: &[u8]) -> Arc<ServerConfig>;
    /// For connections to a region by this protocol, which must show that it is that one.
    fn client(&self, region: &RegionId, protocol: &[u8]) -> Option<Arc<ClientConfig>>;
    /// The region that a verified certificate is of.
    fn region(&self, certificate: &[u8]) -> Option<RegionId>;
}

/// What clients are shown: a certificate that follows its files.
pub trait Front: fmt::Debug + Send + Sync {
    /// For a new connection.
    fn current(&self) -> Arc<ServerConfig>;
}

/// Where a pool's connections lead.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    /// `host:port`.
    pub(super) at: Arc<str>,
    /// The region whose proxy it is; nothing for a server of this region, by plain HTTP.
    pub(super) region: Option<(RegionId, Arc<dyn Trust>)>,
}

/// Connections to one destination.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) to: Destination,
    /// What the destination is called in sessions.
    pub(super) number: u32,
    idle: Mutex<Vec<Idle>>,
    requests: AtomicUsize,
    /// Connections and flows that are passed on: they are bounded where they come in, and keep no
    /// request from being sent.
    passages: AtomicUsize,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Upload>,
    since: Instant,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The request was not sent, because nobody was there or too much is under way, and is here.
    Unsent(Box<Request<Upload>>),
    /// It may have arrived.
    Broken,
    /// It may have arrived, and there was no answer within the time.
    Late,
}

/// A connection in use; dropped, it is closed.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Arc<Pool>,
    counted: Counted,
    sender: Option<SendRequest<Upload>>,
}

/// As what something that is under way counts.
#[derive(Clone, Copy, Debug)]
enum Counted {
    Request,
    Passage,
}

impl Lease {
    /// All has gone over it: the next request may have it.
    pub(super) fn give_back(mut self) {
        if let Some(sender) = self.sender.take().filter(|sender| !sender.is_closed()) {
            let mut idle = self.pool.idle();
            if idle.len() < IDLE_MAX {
                idle.push(Idle { sender, since: Instant::now() });
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.count(self.counted).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(super) fn new(to: Destination) -> Arc<Self> {
        let number = server_number(&to.at);
        let (requests, passages) = Default::default();
        Arc::new(Self { to, number, idle: Mutex::default(), requests, passages })
    }

    /// How much is under way.
    pub(super) fn busy(&self) -> usize {
        let counts = [&self.requests, &self.passages];
        counts.into_iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    const fn count(&self, counted: Counted) -> &AtomicUsize {
        match counted {
            Counted::Request => &self.requests,
            Counted::Passage => &self.passages,
        }
    }

    /// The place of something that is passed on.
    fn passage(self: &Arc<Self>) -> Lease {
        self.passages.fetch_add(1, Ordering::Relaxed);
        Lease { pool: self.clone(), counted: Counted::Passage, sender: None }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last, so that others grow old and go.
    fn take(&self) -> Option<SendRequest<Upload>> {
        let mut idle = self.idle();
        let last = idle.pop()?;
        if last.since.elapsed() < IDLE_TIME_MAX {
            return Some(last.sender);
        }
        idle.clear();
        None
    }

    /// Closes what nobody has used for long.
    pub(super) fn tidy(&self) {
        self.idle().retain(|idle| {
            idle.since.elapsed() < IDLE_TIME_MAX && !idle.sender.is_closed()
        });
    }

    /// Sends a request.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: Request<Upload>,
        limits: &Limits,
    ) -> Result<(Response<Incoming>, Lease), Unanswered> {
        if self.requests.fetch_add(1, Ordering::Relaxed) >= BUSY_MAX {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return Err(Unanswered::Unsent(Box::new(request)));
        }
        let counted = Counted::Request;
        let mut lease = Lease { pool: self.clone(), counted, sender: None };
        let mut request = Box::new(request);
        loop {
            let (mut sender, new) = match self.take() {
                Some(sender) => (sender, false),
                None => match self.connect(limits).await {
                    Ok(sender) => (sender, true),
                    Err(_) => return Err(Unanswered::Unsent(request)),
                },
            };
            if sender.ready().await.is_err() {
                if new {
                    return Err(Unanswered::Unsent(request));
                }
                continue;
            }
            let uploaded = request.body().ended();
            let sent = sender.try_send_request(*request);
            // The server's time begins when it has the whole request.
            let sent = tokio::select! {
                biased;
                sent = sent => sent,
                () = late(uploaded, limits.response_time_max) => {
                    return Err(Unanswered::Late);
                }
            };
            match sent {
                Ok(answer) => {
                    lease.sender = Some(sender);
                    return Ok((answer, lease));
                }
                Err(mut error) => match error.take_message() {
                    // An idle connection that had just been closed: another one.
                    Some(unsent) if !new => request = Box::new(unsent),
                    Some(unsent) => return Err(Unanswered::Unsent(Box::new(unsent))),
                    None => return Err(Unanswered::Broken),
                },
            }
        }
    }

    async fn connect(&self, limits: &Limits) -> io::Result<SendRequest<Upload>> {
        timeout(limits.connect_time_max, async {
            match self.dial(PEER_PROTOCOL).await? {
                Dialled::Server(stream) => speak(stream).await,
                Dialled::Region(stream) => speak(*stream).await,
            }
        })
        .await?
    }

    /// A new connection, to a region by TLS that speaks this protocol.
    async fn dial(&self, protocol: &[u8]) -> io::Result<Dialled> {
        let stream = TcpStream::connect(&*self.to.at).await?;
        stream.set_nodelay(true)?;
        let Some((region, trust)) = &self.to.region else {
            return Ok(Dialled::Server(stream));
        };
        let config = trust.client(region, protocol).ok_or(io::ErrorKind::NotFound)?;
        // Who must be there is the verifier's word; no name is asked for.
        let name = ServerName::IpAddress(stream.peer_addr()?.ip().into());
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Dialled::Region(Box::new(stream)))
    }

    /// A new connection that is somebody's alone, and counts as something under way.
    pub(super) async fn open(
        self: &Arc<Self>,
        within: Duration,
    ) -> io::Result<(Dialled, Lease)> {
        let lease = self.passage();
        let dialled = timeout(within, self.dial(STREAM_PROTOCOL)).await??;
        Ok((dialled, lease))
    }

    /// The same of a socket for datagrams.
    pub(super) async fn open_socket(
        self: &Arc<Self>,
        within: Duration,
    ) -> io::Result<(UdpSocket, Lease)> {
        let lease = self.passage();
        let socket = timeout(within, flows::connect(&self.to.at)).await??;
        Ok((socket, lease))
    }
}

/// A new connection.
#[derive(Debug)]
pub(super) enum Dialled {
    /// To a server of this region.
    Server(TcpStream),
    /// To another region's proxy.
    Region(Box<TlsStream<TcpStream>>),
}

async fn late(uploaded: impl Future<Output = ()>, most: Duration) {
    uploaded.await;
    tokio::time::sleep(most).await;
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> io::Result<SendRequest<Upload>> {
    let (sender, connection) = Builder::new()
        .max_buf_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // It ends with its sender; how is told where the request is.
    let connection = connection.with_upgrades();
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    Ok(sender)
}
