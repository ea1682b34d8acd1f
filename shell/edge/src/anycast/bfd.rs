//! BFD beside a session with a router: the sockets and the clock of `dwcp_router::bfd` (RFC 5881, and
//! RFC 5883 for a router that is more than a hop away).
//!
//! It runs with everything else of the daemon and has no thread of its own: a daemon that has no time
//! for this has none for requests either, and is to be left.
//!
//! From a hop away nobody but a neighbour is heard: its packets begin with the highest TTL there is,
//! and every router would have lowered that. The kernel looks, by a filter at the socket, because a
//! datagram's TTL cannot be read without `unsafe`.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use dwcp_router::bfd::{Packet, Session, Settings, State, View};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

/// Where packets of one hop are sent to (RFC 5881, 4), and those of several (RFC 5883, 5).
const PORT: u16 = 3_784;
const PORT_MULTIHOP: u16 = 4_784;
/// Where they are sent from (RFC 5881, 4): the first such port, and how many there are.
const SOURCE_PORT_MIN: u16 = 49_152;
const SOURCE_PORTS: u64 = 16_384;
/// Ports that are tried before it is given up for now.
const SOURCE_PORT_TRIES: u64 = 16;
/// The TTL of what has passed no router.
const TTL: u8 = 255;
/// What control packets of routers are marked with, so that they pass before others (CS6).
const PRECEDENCE: u32 = 0xC0;
/// Longest packet that is looked at: one with the longest proof there is.
const PACKET_LEN_MAX: usize = 256;
/// Packets that are taken in one go.
const BATCH: usize = 64;
/// Time until sockets are made anew that cannot be, or by which nothing comes: the machine may have
/// another address by now.
const OPEN_EVERY: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(30);
/// How long a router is waited for that does not say that it knows of an end in order.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// How the way to a router is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// How often, and how much silence is too much.
    pub settings: Settings,
    /// Whether there are other routers in between.
    pub multihop: bool,
}

/// How the way to a router stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// The session; nothing before it has begun, and where there is to be none.
    pub session: Option<View>,
    /// Why nothing can be sent or heard.
    pub reason: Option<String>,
    /// Packets that came and did not count.
    pub discarded: u64,
}

impl Watched {
    fn failures(&self) -> u64 {
        self.session.map_or(0, |session| session.failures)
    }
}

/// Completes when the way fails from now on; never, when nobody watches it.
pub(super) async fn failed(mut watched: watch::Receiver<Watched>) {
    let before = watched.borrow_and_update().failures();
    if watched.wait_for(|now| now.failures() > before).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Watches the way to a router until `stop` completes, and then ends in order.
pub async fn watch_over(
    bfd: Bfd,
    router: SocketAddr,
    stop: impl Future<Output = ()>,
    told: watch::Sender<Watched>,
) {
    let mut way = Way::new(bfd, router, told);
    tokio::select! {
        () = way.run() => {}
        () = stop => {}
    }
    way.end().await;
}

/// The way to a router.
struct Way {
    session: Session,
    router: SocketAddr,
    multihop: bool,
    sockets: Option<Sockets>,
    start: Instant,
    discarded: u64,
    told: watch::Sender<Watched>,
}

impl Way {
    fn new(bfd: Bfd, router: SocketAddr, told: watch::Sender<Watched>) -> Self {
        let number = u32::try_from(chance() >> 32).unwrap_or_default();
        let number = NonZeroU32::new(number).unwrap_or(NonZeroU32::MAX);
        let port = if bfd.multihop { PORT_MULTIHOP } else { PORT };
        let mut router = router;
        router.set_port(port);
        Self {
            session: Session::new(bfd.settings, number, chance()),
            router,
            multihop: bfd.multihop,
            sockets: None,
            start: Instant::now(),
            discarded: 0,
            told,
        }
    }

    /// Runs for ever.
    async fn run(&mut self) {
        loop {
            // The port is free only when the sockets of before are closed.
            self.sockets = None;
            match Sockets::open(self.router, self.multihop) {
                Ok(sockets) => {
                    self.sockets = Some(sockets);
                    self.converse().await;
                }
                Err(error) => {
                    self.tell(Some(error.to_string()));
                    sleep(OPEN_EVERY).await;
                }
            }
        }
    }

    /// Hears and says what there is until nothing has come for long.
    async fn converse(&mut self) {
        let mut up_at = Instant::now();
        while up_at.elapsed() < QUIET {
            // What has come while this side was busy counts before the silence.
            self.hear();
            self.say().await;
            self.tell(None);
            if self.session.view().state == State::Up {
                up_at = Instant::now();
            }
            let Some(sockets) = &self.sockets else { return };
            let again = self.session.wake_at().map(|at| self.start + at);
            let again = again.unwrap_or(up_at + QUIET).min(up_at + QUIET);
            tokio::select! {
                ready = sockets.hears.readable() => if ready.is_err() { return },
                () = sleep_until(again) => {}
            }
        }
    }

    /// Tells the router that this is no failure, until it knows.
    async fn end(mut self) {
        self.session.shut_down();
        let router = self.router;
        let released = async {
            loop {
                self.hear();
                self.say().await;
                let Some(sockets) = &self.sockets else { return };
                if self.session.is_released() {
                    return;
                }
                let again = self.session.wake_at().map(|at| self.start + at);
                tokio::select! {
                    ready = sockets.hears.readable() => if ready.is_err() { return },
                    () = sleep_until(again.unwrap_or_else(Instant::now)) => {}
                }
            }
        };
        if timeout(FAREWELL_MAX, released).await.is_err() {
            info!(%router, "the router did not say that it knows of the end of BFD");
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn hear(&mut self) {
        let Some(sockets) = &self.sockets else { return };
        let mut bytes = [0; PACKET_LEN_MAX];
        for _ in 0..BATCH {
            match sockets.hears.try_recv_from(&mut bytes) {
                Ok((len, from)) if from.ip() == self.router.ip() => {
                    let packet = Packet::read(bytes.get(..len).unwrap_or_default());
                    let now = self.start.elapsed();
                    let taken = packet.and_then(|packet| self.session.hear(&packet, now));
                    self.discarded += u64::from(taken.is_err());
                }
                Ok(_) => self.discarded += 1,
                Err(_) => return,
            }
        }
    }

    async fn say(&mut self) {
        while let Some(packet) = self.session.due(self.now()) {
            let Some(sockets) = &self.sockets else { return };
            // What cannot be sent is as good as lost: the other side notices, and this one later.
            drop(sockets.says.send_to(&packet.write(), self.router).await);
        }
    }

    fn tell(&self, reason: Option<String>) {
        let session = Some(self.session.view());
        let now = Watched { session, reason, discarded: self.discarded };
        self.told.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                log(self.router, before, &now);
                *before = now;
            }
            changed
        });
    }
}

/// Writes down what operators want to know.
fn log(router: SocketAddr, before: &Watched, now: &Watched) {
    if let Some(reason) = &now.reason {
        if before.reason.as_ref() != Some(reason) {
            warn!(%router, %reason, "the way to a router cannot be watched");
        }
        return;
    }
    let (Some(session), state) = (&now.session, before.session.map(|it| it.state)) else {
        return;
    };
    let why = session.diagnostic.as_str();
    if now.failures() > before.failures() {
        warn!(%router, why, "the way to a router failed");
    } else if state != Some(session.state) && session.state == State::Up {
        info!(%router, "the way to a router is watched");
    }
}

/// One that hears at the port that all know, and one that says from a port of its own.
struct Sockets {
    hears: UdpSocket,
    says: UdpSocket,
}

impl Sockets {
    fn open(router: SocketAddr, multihop: bool) -> io::Result<Self> {
        let mut own = own_address(router)?;
        own.set_port(router.port());
        let hears = datagrams(own)?;
        if !multihop {
            // Before it has an address: nothing comes in meanwhile.
            hears.attach_filter(&from_one_hop(own.ip()))?;
        }
        hears.bind(&own.into()).map_err(|error| {
            let text = format!("{own} cannot be listened at for BFD: {error}");
            io::Error::new(error.kind(), text)
        })?;
        let says = datagrams(own)?;
        if own.is_ipv4() {
            says.set_ttl_v4(TTL.into())?;
            says.set_tos_v4(PRECEDENCE)?;
        } else {
            says.set_unicast_hops_v6(TTL.into())?;
            says.set_tclass_v6(PRECEDENCE)?;
        }
        bind_source(&says, own)?;
        let [hears, says] =
            [hears, says].map(|socket| UdpSocket::from_std(socket.into()));
        Ok(Self { hears: hears?, says: says? })
    }
}

fn datagrams(own: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(own), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Gives a socket a port that routers take packets from.
fn bind_source(socket: &Socket, mut own: SocketAddr) -> io::Result<()> {
    let mut last = Ok(());
    let first = chance();
    for step in 0..SOURCE_PORT_TRIES {
        let offset = first.wrapping_add(step) % SOURCE_PORTS;
        own.set_port(SOURCE_PORT_MIN + u16::try_from(offset).unwrap_or_default());
        last = socket.bind(&own.into());
        if last.is_ok() {
            break;
        }
    }
    last
}

/// The address by which this machine speaks to a router.
fn own_address(router: SocketAddr) -> io::Result<SocketAddr> {
    let any: IpAddr = if router.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    // Nothing is sent by this: the kernel only looks the way up.
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect(router)?;
    socket.local_addr()
}

/// Keeps out what has passed a router (RFC 5881, 5; RFC 5082): a program for the kernel that loads
/// the TTL's byte of the network header, and compares.
fn from_one_hop(own: IpAddr) -> [SockFilter; 4] {
    const LOAD_BYTE: u16 = 0x30;
    const IS_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Where the kernel has the network header (`SKF_NET_OFF`).
    const NETWORK: u32 = 0xFFF0_0000;
    let at = if own.is_ipv4() { 8 } else { 7 };
    [
        SockFilter::new(LOAD_BYTE, 0, 0, NETWORK + at),
        SockFilter::new(IS_EQUAL, 0, 1, TTL.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// A number that nobody can foretell.
fn chance() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a socket hears of two that were sent to it, the first of them with this TTL.
    fn heard(host: &str, ttl: u32) -> Option<Vec<u8>> {
        let own: SocketAddr = format!("{host}:0").parse().unwrap();
        let hears = datagrams(own).unwrap();
        hears.attach_filter(&from_one_hop(own.ip())).unwrap();
        // A machine without IPv6 has no such address.
        hears.bind(&own.into()).ok()?;
        hears.set_nonblocking(false).unwrap();
        let hears: std::net::UdpSocket = hears.into();
        let to = hears.local_addr().unwrap().into();
        let says = datagrams(own).unwrap();
        for (ttl, what) in [(ttl, b"first"), (TTL.into(), b"other")] {
            if own.is_ipv4() {
                says.set_ttl_v4(ttl).unwrap();
            } else {
                says.set_unicast_hops_v6(ttl).unwrap();
            }
            says.send_to(what, &to).unwrap();
        }
        let mut bytes = [0; 16];
        let len = hears.recv(&mut bytes).unwrap();
        Some(bytes[..len].to_vec())
    }

    #[test]
    fn what_has_passed_a_router_is_not_heard() {
        for host in ["127.0.0.1", "[::1]"] {
            for ttl in [1, 64, 254] {
                assert_ne!(heard(host, ttl), Some(b"first".to_vec()), "{host} {ttl}");
            }
            assert_ne!(heard(host, 255), Some(b"other".to_vec()), "{host}");
        }
        assert_eq!(heard("127.0.0.1", 255), Some(b"first".to_vec()));
        assert_eq!(heard("127.0.0.1", 254), Some(b"other".to_vec()));
    }

    #[test]
    fn packets_come_from_a_port_that_routers_take() {
        let own: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let socket = datagrams(own).unwrap();
        bind_source(&socket, own).unwrap();
        let bound = socket.local_addr().unwrap().as_socket().unwrap();
        assert!(bound.port() >= SOURCE_PORT_MIN, "{bound}");
    }
}
