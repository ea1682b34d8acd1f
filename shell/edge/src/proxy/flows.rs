//! Datagrams that are passed on as they are (L4 by UDP). What one client's socket sends is a flow,
//! and decided once, as a connection is, when its first datagram comes; all that follow go the same
//! way, until nothing came from either side for a time.
//!
//! A datagram arrives whole or not at all, as everywhere. Between regions each is a frame of a line of
//! mutual TLS, two bytes of length and then itself, so there it comes late rather than not.
//!
//! Nobody says that a flow has ended. A server that is gone is known when its host says so (ICMP), by
//! an answer to the client's datagrams or to a probe; its flows end then, and their clients' next
//! datagrams begin others with somebody else. A server that keeps silent is never taken out.
//!
//! Who sends a datagram may not be who it seems. Flows have room of their own, so that forged ones
//! take none of those who had to answer for a connection.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dwcp_router::Evidence;
use dwcp_types::ServiceId;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadHalf, WriteHalf,
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::counters::Event;
use super::log::End;
use super::preface::Ends;
use super::server::{Around, PAUSE, Phase, begun};
use super::sides::{Side, silence};
use super::streams::{Far, Found, Passage, canonical};

/// Datagrams of one client that wait for their flow; what is more is lost.
const WAITING_MAX: usize = 64;
/// How long a flow may be silent that nobody has answered yet: its client's address may be forged.
const UNANSWERED_TIME_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether a server is still one that has flows.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time for the end of a flow to be told to another region.
const END_TIME_MAX: Duration = Duration::from_secs(1);
/// Longest datagram.
pub(super) const LEN_MAX: usize = 65_535;

/// A flow that is open.
struct Flow {
    /// Which of those of its client's address it is: one that has ended is no other's end.
    number: u64,
    to: mpsc::Sender<Bytes>,
}

/// The flows of one port.
struct Flows {
    socket: Arc<UdpSocket>,
    around: Around,
    service: Arc<ServiceId>,
    open: BTreeMap<SocketAddr, Flow>,
    tasks: JoinSet<(SocketAddr, u64)>,
    begun: u64,
}

/// Takes datagrams at one port. Once the proxy's end has begun no flow begins, and it waits for those
/// that are open.
pub(super) async fn listen(socket: UdpSocket, around: Around, service: Arc<ServiceId>) {
    let mut ending = pin!(begun(around.phase.clone(), Phase::Draining));
    let mut flows = Flows {
        socket: Arc::new(socket),
        around,
        service,
        open: BTreeMap::new(),
        tasks: JoinSet::new(),
        begun: 0,
    };
    let mut buffer = vec![0; LEN_MAX];
    let mut draining = false;
    while !(draining && flows.tasks.is_empty()) {
        let received = tokio::select! {
            () = &mut ending, if !draining => {
                draining = true;
                continue;
            }
            Some(ended) = flows.tasks.join_next(), if !flows.tasks.is_empty() => {
                if let Ok((from, number)) = ended {
                    flows.forget(from, number);
                }
                continue;
            }
            received = flows.socket.recv_from(&mut buffer) => received,
        };
        match received {
            Ok((len, from)) => {
                let datagram =
                    Bytes::copy_from_slice(buffer.get(..len).unwrap_or_default());
                if let Some(datagram) = flows.hand_on(from, datagram)
                    && !draining
                {
                    flows.begin(from, datagram);
                }
            }
            Err(error) => {
                warn!(%error, "the proxy cannot receive datagrams");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Flows {
    /// Gives a datagram to its flow; gives it back when there is none.
    fn hand_on(&self, from: SocketAddr, datagram: Bytes) -> Option<Bytes> {
        let Some(flow) = self.open.get(&from) else { return Some(datagram) };
        match flow.to.try_send(datagram) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.around.door.shared.counters.add(Event::DatagramLost);
                None
            }
            Err(mpsc::error::TrySendError::Closed(datagram)) => Some(datagram),
        }
    }

    fn begin(&mut self, from: SocketAddr, datagram: Bytes) {
        let door = &self.around.door;
        let seat = door.flow_seats.enter(from.ip().to_canonical());
        let permit = self.around.free_flows.clone().try_acquire_owned();
        let (Some(seat), Ok(permit)) = (seat, permit) else {
            door.shared.counters.add(Event::ConnectionRefused);
            return;
        };
        let (to, heard) = mpsc::channel(WAITING_MAX);
        // It is empty.
        to.try_send(datagram).unwrap_or_default();
        self.begun += 1;
        let number = self.begun;
        let near = (self.socket.clone(), from);
        let (around, service) = (self.around.clone(), self.service.clone());
        self.tasks.spawn(async move {
            pass_on(&around, &service, near, heard).await;
            drop((seat, permit));
            (from, number)
        });
        self.open.insert(from, Flow { number, to });
    }

    fn forget(&mut self, from: SocketAddr, number: u64) {
        if self.open.get(&from).is_some_and(|flow| flow.number == number) {
            self.open.remove(&from);
        }
    }
}

/// One flow, to its end.
async fn pass_on(
    around: &Around,
    service: &ServiceId,
    (socket, from): (Arc<UdpSocket>, SocketAddr),
    heard: mpsc::Receiver<Bytes>,
) {
    let Ok(target) = socket.local_addr() else { return };
    let ends = Ends { source: canonical(from), target: canonical(target) };
    let mut views = around.views();
    let (view, draw) = views.next();
    let Some((mut passage, hops)) =
        Passage::decided(around, (view, draw), service, (ends, Instant::now()))
    else {
        return;
    };
    let found = passage.reach(hops).await;
    let near = (Source::Client(heard), Sink::Client(socket, from));
    carry(passage, near, found).await;
}

/// The same of a flow that another region's proxy passes on to a server of this one.
pub(super) async fn carry_from_peer(passage: Passage<'_>, near: Side, found: Found) {
    carry(passage, framed(near), Some(found)).await;
}

fn framed(side: Side) -> (Source, Sink) {
    let (from, to) = tokio::io::split(side);
    (Source::Region(from), Sink::Region(to))
}

/// What a flow has moved.
#[derive(Debug, Default)]
struct Moved {
    /// Changes with every datagram.
    stirred: AtomicU64,
    /// Bytes of the client's.
    came: AtomicU64,
    /// Bytes of answers.
    went: AtomicU64,
}

impl Moved {
    /// Completes when no datagram came for long enough.
    async fn idle(&self, most: Duration) {
        silence(&self.stirred, most.min(UNANSWERED_TIME_MAX)).await;
        if self.went.load(Ordering::Relaxed) > 0 {
            silence(&self.stirred, most).await;
        }
    }
}

/// Passes on until it has ended, and says how.
async fn carry(passage: Passage<'_>, near: (Source, Sink), found: Option<Found>) {
    let Some(found) = found else { return passage.tell(End::Unserved, None, (0, 0)) };
    let Found { far, region, at, server, lease } = found;
    let ((mut client, mut to_client), (mut server_says, mut to_server)) =
        (near, ends(far));
    let counters = &passage.around.door.shared.counters;
    let _open = counters.opened();
    let bytes = counters.of_region(&region);
    let moved = Moved::default();
    let out = bring(&mut client, &mut to_server, |len| {
        moved.stirred.fetch_add(1, Ordering::Relaxed);
        moved.came.fetch_add(len, Ordering::Relaxed);
    });
    let mut answered = false;
    let back = bring(&mut server_says, &mut to_client, |len| {
        moved.stirred.fetch_add(1, Ordering::Relaxed);
        moved.went.fetch_add(len, Ordering::Relaxed);
        if let Some(bytes) = &bytes {
            bytes.add(len);
        }
        if let (false, Some(server)) = (answered, server) {
            answered = true;
            passage.judge(server, Evidence::Answered);
        }
    });
    let ended = tokio::select! {
        ended = out => ended.map(|()| End::Closed),
        ended = back => ended.map(|()| End::Closed),
        () = left(&passage, server) => Ok(End::Broken),
        () = moved.idle(passage.idle_time_max()) => Ok(End::Idle),
        () = begun(passage.around.phase.clone(), Phase::Over) => Ok(End::Cut),
    };
    // What the client sends from now on begins another flow.
    drop(client);
    tokio::join!(to_client.end(), to_server.end());
    if let (Err(error), Some(server)) = (&ended, server)
        && is_gone(error)
    {
        passage.judge(server, Evidence::Unreached);
    }
    drop(lease);
    let moved = (moved.came.into_inner(), moved.went.into_inner());
    passage.tell(ended.unwrap_or(End::Broken), Some((region, at)), moved);
}

fn ends(far: Far) -> (Source, Sink) {
    match far {
        Far::Stream(side) => framed(side),
        Far::Socket(socket) => {
            let socket = Arc::new(socket);
            (Source::Server(socket.clone()), Sink::Server(socket))
        }
    }
}

/// Completes when a server of this region has no flows any more. Its host may not say to each of
/// them that nobody is there: hosts say so a few times a second at most.
async fn left(passage: &Passage<'_>, server: Option<usize>) {
    let Some(server) = server else { return std::future::pending().await };
    while passage.has_flows(server) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether an error says that nobody is there, or that no way leads there. Any other is of one
/// datagram, such as one that is too long for the way.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

/// Where datagrams come from.
enum Source {
    Client(mpsc::Receiver<Bytes>),
    Server(Arc<UdpSocket>),
    Region(ReadHalf<Side>),
}

/// Where they go.
enum Sink {
    Client(Arc<UdpSocket>, SocketAddr),
    Server(Arc<UdpSocket>),
    Region(WriteHalf<Side>),
}

/// Brings one way's datagrams until there are no more.
async fn bring(
    from: &mut Source,
    to: &mut Sink,
    mut count: impl FnMut(u64),
) -> io::Result<()> {
    while let Some(datagram) = from.next().await? {
        count(u64::try_from(datagram.len()).unwrap_or(u64::MAX));
        to.send(&datagram).await?;
    }
    Ok(())
}

impl Source {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Client(heard) => Ok(heard.recv().await),
            Self::Server(socket) => receive(socket).await.map(Some),
            Self::Region(stream) => read_frame(stream).await,
        }
    }
}

impl Sink {
    async fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        match self {
            // What cannot be sent is lost, as it may be on any way: too long, or no room for it.
            Self::Client(socket, to) => {
                drop(socket.send_to(datagram, *to).await);
                Ok(())
            }
            Self::Server(socket) => match socket.send(datagram).await {
                Err(error) if is_gone(&error) => Err(error),
                Ok(_) | Err(_) => Ok(()),
            },
            Self::Region(stream) => write_frame(stream, datagram).await,
        }
    }

    /// Says that no more comes, to those who can be told.
    async fn end(&mut self) {
        if let Self::Region(stream) = self {
            // Who does not hear it sees the line break.
            drop(timeout(END_TIME_MAX, stream.shutdown()).await);
        }
    }
}

/// The next datagram of a socket that is connected. Its room is this thread's, and not each flow's:
/// thousands of them are open.
async fn receive(socket: &UdpSocket) -> io::Result<Bytes> {
    thread_local! {
        static ROOM: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; LEN_MAX]);
    }
    loop {
        // That nobody is there is an error of the socket, and makes it no more readable.
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error() {
            if let Some(error) = socket.take_error()?.filter(is_gone) {
                return Err(error);
            }
            let seen = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            drop(socket.try_io(Interest::ERROR, seen));
        }
        let received: io::Result<Bytes> = ROOM.with_borrow_mut(|room| {
            let len = socket.try_recv(room)?;
            Ok(Bytes::copy_from_slice(room.get(..len).unwrap_or_default()))
        });
        match received {
            Err(error) if !is_gone(&error) => {}
            Ok(_) | Err(_) => return received,
        }
    }
}

/// A datagram from another region; nothing when its line has ended in order.
pub(super) async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<Bytes>> {
    let mut len = [0; 2];
    // The line may end between frames, and nowhere else.
    if stream.read(len.split_at_mut(1).0).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(len.split_at_mut(1).1).await?;
    let mut datagram = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut datagram).await?;
    Ok(Some(datagram.into()))
}

/// Writes a datagram for another region.
pub(super) async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    datagram: &[u8],
) -> io::Result<()> {
    let len = u16::try_from(datagram.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), datagram].concat()).await?;
    stream.flush().await
}

/// A socket for a server.
pub(super) async fn connect(server: &str) -> io::Result<UdpSocket> {
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    for to in tokio::net::lookup_host(server).await? {
        let any: IpAddr = if to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        match socket.connect(to).await {
            Ok(()) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Whether a server's host does not say that nobody is there, asked by a datagram with nothing in it.
pub(super) async fn knock(server: &str, within: Duration) -> io::Result<bool> {
    let socket = connect(server).await?;
    socket.send(&[]).await?;
    let answered = timeout(within, receive(&socket)).await;
    Ok(!matches!(answered, Ok(Err(error)) if is_gone(&error)))
}
