//! Connections that are passed on as they are (L4): decided as requests are, when they come.
//!
//! A server of the region that the table says, or that region's proxy by mutual TLS, is connected
//! to before a byte of the client's is read, so that each of several may be tried: nobody has had
//! anything. From then on bytes go both ways, and nothing is ever sent again. That one side has
//! said all is passed on, and so is that one broke off; a connection that was broken off is never
//! made to look as if it had ended.
//!
//! Whether servers work is what connections to them say, and probes. What a server does with the
//! bytes says nothing: a client that talks nonsense could have servers ejected by that.
//!
//! Regions order by one line, `passed region service source target`, and are told by one byte
//! whether somebody has the connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use dwcp_router::Evidence;
use dwcp_types::{RegionId, ServiceId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsStream;

use super::counters::Event;
use super::flows;
use super::hop::{self, ATTEMPTS_MAX, Hop, Tries, Who};
use super::log::{AccessLine, ConnectionRecord, End};
use super::pool::{Dialled, Lease, Pool};
use super::preface::{self, Announce, Ends};
use super::server::{Around, Phase, begun};
use super::sides::{Counted, Side, silence};
use super::view::{Question, View};

/// Bytes that are on their way within the proxy, each way of each connection.
const BUFFER_LEN: usize = 16 << 10;
/// Longest order: two names, two addresses and a number.
const ORDER_LEN_MAX: usize = 1_024;
/// A server has it.
const SERVED: u8 = b'+';
/// Nobody has it.
const UNSERVED: u8 = b'-';
/// The other region may try so many servers, and the relay's region once more.
const ANSWER_TIMES: u32 = 4;

/// What a service with a port of its own is spoken to by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Connections of TCP.
    Connections,
    /// Datagrams of UDP.
    Datagrams,
}

/// How connections to a service, or flows of datagrams, are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passing {
    /// What is passed on.
    pub carried: Carried,
    /// The port of every region's proxy at which they are taken.
    pub port: u16,
    /// Time in which no byte may come from either side.
    pub idle_time_max: Duration,
    /// How servers are told who connected; they are not when absent.
    pub announce: Option<Announce>,
}

/// What one region's proxy orders of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Proxies that it has passed before this one.
    pub(super) passed: u8,
    /// The region that has it.
    pub(super) region: RegionId,
    pub(super) service: ServiceId,
    pub(super) ends: Ends,
}

impl Order {
    pub(super) fn write(&self) -> String {
        let Self { passed, region, service, ends: Ends { source, target } } = self;
        format!("{passed} {region} {service} {source} {target}\n")
    }

    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
        let mut words = line.split(' ');
        let order = Self {
            passed: words.next()?.parse().ok()?,
            region: words.next()?.parse().ok()?,
            service: words.next()?.parse().ok()?,
            ends: Ends {
                source: words.next()?.parse().ok()?,
                target: words.next()?.parse().ok()?,
            },
        };
        words.next().is_none().then_some(order)
    }

    /// Reads one, and nothing behind it.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            if line.len() >= ORDER_LEN_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            line.push(stream.read_u8().await?);
        }
        Self::parse(&line).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Takes a client's connection to a service, to its end.
pub(super) async fn take(
    around: Around,
    (mut stream, from): (TcpStream, SocketAddr),
    service: Arc<ServiceId>,
) -> io::Result<()> {
    let since = Instant::now();
    let shared = &around.door.shared;
    stream.set_nodelay(true)?;
    let mut ends =
        Ends { source: canonical(from), target: canonical(stream.local_addr()?) };
    if around.door.preface.find(ends.source.ip()).0 == 1 {
        let told = timeout(shared.limits.header_time_max, preface::read(&mut stream));
        let Ok(Ok(told)) = told.await else {
            shared.counters.add(Event::Refused);
            return stream.set_zero_linger();
        };
        ends = told.unwrap_or(ends);
    }
    let seat = around.door.seats.enter(ends.source.ip());
    if seat.is_none() {
        shared.counters.add(Event::ConnectionRefused);
        return stream.set_zero_linger();
    }
    let mut views = around.views();
    let (view, draw) = views.next();
    let decided = Passage::decided(&around, (view, draw), &service, (ends, since));
    let Some((mut passage, hops)) = decided else {
        return stream.set_zero_linger();
    };
    let found = passage.reach(hops).await;
    passage.carry(Side::Plain(stream), found).await;
    Ok(())
}

/// Takes a connection that another region's proxy passes on, to its end.
pub(super) async fn take_from_peer(
    around: Around,
    mut stream: TlsStream<TcpStream>,
) -> io::Result<()> {
    let since = Instant::now();
    let within = around.door.shared.limits.header_time_max;
    let order = timeout(within, Order::read(&mut stream)).await??;
    let mut views = around.views();
    let (view, draw) = views.next();
    let own = &view.sites.own;
    let hops = hop::ordered(&order.region, own, order.passed);
    let place = view.sites.place(&order.service);
    let (Some(hops), Some(place)) = (hops, place) else {
        stream.write_all(&[UNSERVED]).await?;
        return stream.shutdown().await;
    };
    let mut passage =
        Passage { around: &around, view, place, order, draw, since, attempts: 0 };
    let found = passage.reach(hops).await;
    let answer = if found.is_some() { SERVED } else { UNSERVED };
    stream.write_all(&[answer]).await?;
    stream.flush().await?;
    if found.is_none() {
        stream.shutdown().await?;
    }
    let near = Side::Tls(Box::new(stream));
    match found {
        Some(found) if matches!(found.far, Far::Socket(_)) => {
            flows::carry_from_peer(passage, near, found).await;
        }
        // Datagrams are frames on the line from there and on the line to the next.
        found => passage.carry(near, found).await,
    }
    Ok(())
}

pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The way to whoever has it.
#[derive(Debug)]
pub(super) enum Far {
    /// A connection: to a server, or to another region's proxy, which has frames on it where
    /// datagrams are passed on.
    Stream(Side),
    /// To a server that is sent datagrams.
    Socket(UdpSocket),
}

/// Whoever has a connection or a flow.
pub(super) struct Found {
    pub(super) far: Far,
    pub(super) region: RegionId,
    /// The server, or the proxy.
    pub(super) at: Arc<str>,
    /// The server's place among this region's.
    pub(super) server: Option<usize>,
    /// Counts as under way there.
    pub(super) lease: Lease,
}

/// The way of one connection or flow.
pub(super) struct Passage<'p> {
    pub(super) around: &'p Around,
    view: &'p View,
    /// The service's.
    place: usize,
    order: Order,
    draw: u64,
    since: Instant,
    attempts: usize,
}

impl<'p> Passage<'p> {
    /// Decides where what came at a time goes, best first; nothing when there is no such service.
    pub(super) fn decided(
        around: &'p Around,
        (view, draw): (&'p View, u64),
        service: &ServiceId,
        (ends, since): (Ends, Instant),
    ) -> Option<(Self, Vec<Hop>)> {
        let place = view.sites.place(service)?;
        let asked = Question { service: place, client: ends.source.ip(), request: draw };
        let own = &view.sites.own;
        let hops = match view.decide(asked) {
            Some((decision, table)) => hop::decided(&decision, table, own),
            None => vec![Hop::Own],
        };
        let order =
            Order { passed: 0, region: own.clone(), service: service.clone(), ends };
        Some((Self { around, view, place, order, draw, since, attempts: 0 }, hops))
    }

    /// How long it may be silent.
    pub(super) fn idle_time_max(&self) -> Duration {
        let passing = self.view.sites.passing(self.place);
        passing.map_or(Duration::MAX, |passing| passing.idle_time_max)
    }

    /// Whether one of this region's servers is one that has connections or flows.
    pub(super) fn has_flows(&self, server: usize) -> bool {
        let group = self.view.sites.group(self.place);
        group.is_some_and(|group| group.usable() >> server & 1 == 1)
    }

    /// Says what became of it at one of this region's servers.
    pub(super) fn judge(&self, server: usize, evidence: Evidence) {
        if let Some(group) = self.view.sites.group(self.place) {
            group.tell(server, evidence);
        }
    }

    /// Finds somebody who has it.
    pub(super) async fn reach(&mut self, hops: Vec<Hop>) -> Option<Found> {
        let counters = &self.around.door.shared.counters;
        let mut tries = Tries::of(hops);
        while self.attempts < ATTEMPTS_MAX {
            let who = |hop: &Hop, tried| self.pool(hop, tried);
            let (hop, (pool, at)) = tries.next(who)?;
            if self.attempts > 0 {
                counters.add(Event::SentAgain);
            }
            self.attempts += 1;
            let found = match (&hop, at) {
                (Hop::Own, Some(at)) => self.by_server(&pool, at).await,
                (Hop::Region { meant, .. }, _) => self.by_region(&pool, meant).await,
                (Hop::Own, None) => None,
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Who is tried, and its place among this region's servers.
    fn pool(&self, hop: &Hop, tried: u64) -> Option<Who> {
        match hop {
            Hop::Own => {
                let group = self.view.sites.group(self.place)?;
                let (at, pool) = group.pick(tried, self.draw.wrapping_add(tried))?;
                Some((pool.clone(), Some(at)))
            }
            Hop::Region { by, .. } => Some((self.view.sites.peer(by)?.clone(), None)),
        }
    }

    async fn by_server(&self, pool: &Arc<Pool>, at: usize) -> Option<Found> {
        let within = self.around.door.shared.limits.connect_time_max;
        let passing = self.view.sites.passing(self.place)?;
        let (far, lease) = match passing.carried {
            Carried::Connections => {
                let opened = self.introduced(pool.open(within).await.ok(), passing).await;
                let reached = if opened.is_some() {
                    Evidence::Answered
                } else {
                    Evidence::Unreached
                };
                self.judge(at, reached);
                let (stream, lease) = opened?;
                (Far::Stream(Side::Plain(stream)), lease)
            }
            Carried::Datagrams => {
                let (socket, lease) = pool.open_socket(within).await.ok()?;
                (Far::Socket(socket), lease)
            }
        };
        Some(Found {
            far,
            region: self.view.sites.own.clone(),
            at: pool.to.at.clone(),
            server: Some(at),
            lease,
        })
    }

    /// A server that knows who connected, where it wants to.
    async fn introduced(
        &self,
        opened: Option<(Dialled, Lease)>,
        passing: Passing,
    ) -> Option<(TcpStream, Lease)> {
        let (Dialled::Server(mut stream), lease) = opened? else { return None };
        if let Some(how) = passing.announce {
            stream.write_all(&self.order.ends.announced(how)).await.ok()?;
        }
        Some((stream, lease))
    }

    async fn by_region(&self, pool: &Arc<Pool>, meant: &RegionId) -> Option<Found> {
        let within = self.around.door.shared.limits.connect_time_max;
        let (dialled, lease) = pool.open(within).await.ok()?;
        let Dialled::Region(mut stream) = dialled else { return None };
        let order = Order {
            passed: self.order.passed + 1,
            region: meant.clone(),
            ..self.order.clone()
        };
        let answer = timeout(within * ANSWER_TIMES, async {
            stream.write_all(order.write().as_bytes()).await?;
            stream.flush().await?;
            stream.read_u8().await
        });
        let Ok(Ok(SERVED)) = answer.await else { return None };
        Some(Found {
            far: Far::Stream(Side::Tls(Box::new(TlsStream::Client(*stream)))),
            region: meant.clone(),
            at: pool.to.at.clone(),
            server: None,
            lease,
        })
    }

    /// Passes everything on until it has ended, and says how.
    async fn carry(self, near: Side, found: Option<Found>) {
        let shared = &self.around.door.shared;
        let Some(Found { far: Far::Stream(far), region, at, lease: _lease, .. }) = found
        else {
            let peer = matches!(near, Side::Tls(_));
            if !peer {
                near.break_off();
            }
            return self.tell(End::Unserved, None, (0, 0));
        };
        let stirred = AtomicU64::new(0);
        let moved = shared.counters.of_region(&region);
        let mut near = Counted::new(near, &stirred);
        let mut far = Counted::new(far, &stirred).counting(moved);
        let idle = self.idle_time_max();
        let _open = shared.counters.opened();
        let end = tokio::select! {
            copied = copy_bidirectional_with_sizes(
                &mut near, &mut far, BUFFER_LEN, BUFFER_LEN,
            ) => if copied.is_ok() { End::Closed } else { End::Broken },
            () = silence(&stirred, idle) => End::Idle,
            () = begun(self.around.phase.clone(), Phase::Over) => End::Cut,
        };
        if end != End::Closed {
            near.side.break_off();
            far.side.break_off();
        }
        let from = Some((region, at));
        self.tell(end, from, (near.came, far.came));
    }

    pub(super) fn tell(
        self,
        end: End,
        from: Option<(RegionId, Arc<str>)>,
        (received, sent): (u64, u64),
    ) {
        let shared = &self.around.door.shared;
        shared.counters.ended(end);
        let Some(log) = &shared.log else { return };
        let (region, upstream) = from.unzip();
        let record = ConnectionRecord {
            client: self.order.ends.source,
            service: self.order.service,
            region,
            upstream,
            attempts: self.attempts,
            received,
            sent,
            took_us: u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            end,
        };
        if log.try_send(AccessLine::Connection(record)).is_err() {
            shared.counters.add(Event::LogLost);
        }
    }
}
