//! Connections that are passed on as they are: whole, in order, and never made to look ended.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dwcp_types::{RegionId, ServiceId};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::super::preface::Ends;
use super::super::sides::silence;
use super::super::streams::Order;
use super::super::{
    AccessLine, Announce, Carried, ConnectionRecord, Counters, End, Group, Listening,
    Passing, Probe, Server, ServiceSpec, Sites, View, Ward,
};
use super::ground::listening;
use crate::Network;

/// More than all buffers on the way hold.
const MUCH: usize = 24 << 20;

pub(super) fn passing() -> Passing {
    let idle_time_max = Duration::from_secs(60);
    Passing { carried: Carried::Connections, port: 0, idle_time_max, announce: None }
}

/// A proxy that runs, with one service that has a port.
pub(super) struct Ground {
    pub(super) at: SocketAddr,
    pub(super) group: Arc<Group>,
    pub(super) ward: Option<Ward>,
    pub(super) counters: Arc<Counters>,
    log: mpsc::Receiver<AccessLine>,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) ended: JoinHandle<()>,
    _views: watch::Sender<Arc<View>>,
}

impl Ground {
    pub(super) async fn before(servers: &[SocketAddr], passing: Passing) -> Self {
        Self::with(servers, passing, |_| {}).await
    }

    pub(super) async fn with(
        servers: &[SocketAddr],
        passing: Passing,
        change: impl FnOnce(&mut Listening),
    ) -> Self {
        let (lines, log) = mpsc::channel(64);
        let mut listening = Listening { log: Some(lines), ..listening() };
        change(&mut listening);
        let own: RegionId = "one".parse().unwrap();
        let id = ServiceId::new("db").unwrap();
        let servers: Vec<Arc<str>> =
            servers.iter().map(|server| server.to_string().into()).collect();
        let probe = match passing.carried {
            Carried::Connections => Probe::Connection,
            Carried::Datagrams => Probe::Datagram,
        };
        // Nobody probes, and judges, unless a test has it run.
        let (group, ward) = Group::new(&servers, probe);
        let service = ServiceSpec {
            id: id.clone(),
            hosts: Vec::new(),
            regions: [own.clone()].into(),
            group: Some(group.clone()),
            passing: Some(passing),
            session: None,
        };
        let sites = Arc::new(Sites::new(own.clone(), vec![service], [].into(), None));
        let counters = Arc::new(Counters::of([&own]));
        let mut server = Server::bind(listening, counters.clone(), "one").await.unwrap();
        server.bind_ports(&sites).await.unwrap();
        let at = server.port(&id).unwrap();
        let (views, newest) = watch::channel(Arc::new(View::new(sites, None)));
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(async move {
            server.run(newest, async { drop(stopped.await) }).await;
        });
        let (stop, ward) = (Some(stop), Some(ward));
        Self { at, group, ward, counters, log, stop, ended, _views: views }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    pub(super) async fn told(&mut self) -> ConnectionRecord {
        match self.log.recv().await.unwrap() {
            AccessLine::Connection(record) => record,
            AccessLine::Request(request) => panic!("{request:?}"),
        }
    }

    pub(super) fn event(&self, name: &str) -> u64 {
        self.counters.events().find(|(event, _)| *event == name).unwrap().1
    }
}

async fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn nobody() -> SocketAddr {
    server().await.1
}

/// Bytes that follow no pattern of any buffer's length.
fn noise(mut seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend(seed.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Sends all of it, ends this way, and reads until the other way has ended.
async fn exchange(stream: TcpStream, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let (mut from, mut to) = stream.into_split();
    let sent = tokio::spawn(async move {
        to.write_all(&bytes).await?;
        to.shutdown().await
    });
    let mut answer = Vec::new();
    from.read_to_end(&mut answer).await?;
    sent.await.unwrap()?;
    Ok(answer)
}

#[tokio::test]
async fn both_ways_are_whole_and_each_ends_by_itself() {
    let (listener, address) = server().await;
    let mut ground = Ground::before(&[address], passing()).await;
    let there = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        // The client's end comes first, and only then is anything answered.
        stream.read_to_end(&mut asked).await.unwrap();
        stream.write_all(&noise(2, MUCH)).await.unwrap();
        asked
    });
    let answer = exchange(ground.connect().await, noise(1, MUCH)).await.unwrap();
    assert!(answer == noise(2, MUCH), "{} bytes came", answer.len());
    let asked = there.await.unwrap();
    assert!(asked == noise(1, MUCH), "{} bytes came", asked.len());
    let told = ground.told().await;
    let len = u64::try_from(MUCH).unwrap();
    assert_eq!((told.end, told.received, told.sent), (End::Closed, len, len));
    assert_eq!(told.upstream.as_deref(), Some(&*address.to_string()));
    assert_eq!((told.attempts, ground.counters.open()), (1, 0));
    assert_eq!(ground.counters.bytes().next().unwrap().1, len);
}

#[tokio::test]
async fn both_ways_at_once_are_whole() {
    let (listener, address) = server().await;
    let ground = Ground::before(&[address], passing()).await;
    let there = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        exchange(stream, noise(2, MUCH)).await.unwrap()
    });
    let answer = exchange(ground.connect().await, noise(1, MUCH)).await.unwrap();
    assert!(answer == noise(2, MUCH) && there.await.unwrap() == noise(1, MUCH));
}

#[tokio::test]
async fn a_server_that_breaks_off_is_never_taken_for_one_that_has_said_all() {
    let (listener, address) = server().await;
    let mut ground = Ground::before(&[address], passing()).await;
    let mut stream = ground.connect().await;
    let (mut there, _) = listener.accept().await.unwrap();
    there.write_all(b"half").await.unwrap();
    let mut half = [0; 4];
    stream.read_exact(&mut half).await.unwrap();
    there.set_zero_linger().unwrap();
    drop(there);
    let error = stream.read(&mut half).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(ground.told().await.end, End::Broken);
    assert_eq!(ground.group.usable(), 1, "what a server says is no evidence");

    // Nor is a client.
    let mut stream = ground.connect().await;
    let (mut there, _) = listener.accept().await.unwrap();
    stream.write_all(b"half").await.unwrap();
    there.read_exact(&mut half).await.unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);
    let error = there.read(&mut half).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_server_that_is_not_there_costs_no_connection_and_with_none_left_it_is_reset() {
    let (listener, address) = server().await;
    let mut ground = Ground::before(&[nobody().await, address], passing()).await;
    let there = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"a").await.unwrap();
        }
    });
    let mut again = 0;
    for _ in 0..40 {
        let mut answer = Vec::new();
        ground.connect().await.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"a");
        again += ground.told().await.attempts - 1;
    }
    assert!(again > 0);
    assert_eq!(ground.event("sent_again"), u64::try_from(again).unwrap());
    there.abort();
    there.await.unwrap_err();
    let error = ground.connect().await.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let told = ground.told().await;
    assert_eq!((told.end, told.region, told.attempts), (End::Unserved, None, 2));
}

#[tokio::test]
async fn whoever_must_say_who_connects_is_believed_and_servers_are_told() {
    for (how, written) in [
        (Announce::Text, &b"PROXY TCP4 192.0.2.7 10.0.0.1 5 443\r\n"[..]),
        (
            Announce::Binary,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\0\x05\x01\xbb",
        ),
    ] {
        let (listener, address) = server().await;
        let passing = Passing { announce: Some(how), ..passing() };
        let mut ground = Ground::with(&[address], passing, |listening| {
            let address = IpAddr::from([127, 0, 0, 0]);
            listening.preface = vec![Network { address, len: 8, cell: 0 }];
        })
        .await;
        let mut stream = ground.connect().await;
        stream.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 5 443\r\nhello").await.unwrap();
        stream.shutdown().await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        there.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, [written, b"hello"].concat());
        drop(there);
        assert_eq!(ground.told().await.client, "192.0.2.7:5".parse().unwrap());

        // Who does not say it reaches nobody.
        for unsound in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 a b 1 2\r\n"] {
            let mut stream = ground.connect().await;
            stream.write_all(unsound).await.unwrap();
            let error = stream.read_u8().await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert_eq!(ground.event("refused"), 2);
        let waiting = tokio::select! {
            biased;
            accepted = listener.accept() => Some(accepted.unwrap()),
            () = std::future::ready(()) => None,
        };
        assert!(waiting.is_none(), "{waiting:?}");
    }
}

#[tokio::test]
async fn servers_that_are_told_nothing_have_the_client_s_bytes_only() {
    let (listener, address) = server().await;
    let ground = Ground::before(&[address], passing()).await;
    let mut stream = ground.connect().await;
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut asked = Vec::new();
    listener.accept().await.unwrap().0.read_to_end(&mut asked).await.unwrap();
    assert_eq!(asked, b"hello");
}

#[tokio::test]
async fn a_network_has_so_many_connections_and_no_more() {
    let (listener, address) = server().await;
    let mut ground = Ground::with(&[address], passing(), |listening| {
        listening.limits.per_network_max = 2;
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push((ground.connect().await, listener.accept().await.unwrap()));
    }
    let error = ground.connect().await.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(ground.event("connections_refused"), 1);
    // One that ends makes room for another.
    drop(held.pop());
    ground.told().await;
    let _again = (ground.connect().await, listener.accept().await.unwrap());
}

#[tokio::test]
async fn a_proxy_that_stops_lets_connections_finish_and_takes_no_more() {
    let (listener, address) = server().await;
    let mut ground = Ground::before(&[address], passing()).await;
    let mut stream = ground.connect().await;
    let (mut there, _) = listener.accept().await.unwrap();
    drop(ground.stop.take());
    while TcpStream::connect(ground.at).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"after").await.unwrap();
    let mut asked = [0; 5];
    there.read_exact(&mut asked).await.unwrap();
    drop((stream, there));
    (&mut ground.ended).await.unwrap();
    assert_eq!(ground.told().await.end, End::Closed);
}

#[tokio::test]
async fn what_is_not_over_in_time_is_broken_off_and_told() {
    let (listener, address) = server().await;
    let mut ground = Ground::with(&[address], passing(), |listening| {
        listening.limits.drain_time_max = Duration::from_millis(50);
    })
    .await;
    let mut stream = ground.connect().await;
    let (mut there, _) = listener.accept().await.unwrap();
    drop(ground.stop.take());
    for side in [&mut stream, &mut there] {
        let error = side.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    (&mut ground.ended).await.unwrap();
    assert_eq!(ground.told().await.end, End::Cut);
}

#[tokio::test]
async fn a_connection_without_a_byte_is_broken_off() {
    let (listener, address) = server().await;
    let idle_time_max = Duration::from_millis(100);
    let mut ground =
        Ground::before(&[address], Passing { idle_time_max, ..passing() }).await;
    let mut stream = ground.connect().await;
    let (mut there, _) = listener.accept().await.unwrap();
    for side in [&mut stream, &mut there] {
        let error = side.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert_eq!(ground.told().await.end, End::Idle);
}

#[tokio::test(start_paused = true)]
async fn silence_begins_anew_with_every_byte() {
    let (stirred, most) = (AtomicU64::new(0), Duration::from_secs(4));
    let start = tokio::time::Instant::now();
    let talk = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(3_500)).await;
            stirred.fetch_add(1, Ordering::Relaxed);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = silence(&stirred, most) => {}
        () = talk => {}
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(35) + most, "{took:?}");
    assert!(took <= Duration::from_secs(36) + most, "{took:?}");
}

proptest! {
    #[test]
    fn an_order_is_read_as_it_was_written_and_nothing_behind_it(
        passed in any::<u8>(), source in any::<SocketAddr>(), target in any::<SocketAddr>(),
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip(), address.port());
        let order = Order {
            passed,
            region: "us-east-1".parse().unwrap(),
            service: ServiceId::new("db.example.com").unwrap(),
            ends: Ends { source: plain(source), target: plain(target) },
        };
        let bytes = [order.write().as_bytes(), &rest].concat();
        let mut left = &bytes[..];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert_eq!(runtime.block_on(Order::read(&mut left)).unwrap(), order);
        prop_assert_eq!(left, &rest[..]);
    }

    #[test]
    fn any_bytes_are_an_order_or_none(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2_000),
            "[0-9]{1,3} [a-z-]{0,9} [a-z.]{0,9} [0-9.:\\[\\]]{0,20} [0-9.:]{0,20}\n?"
                .prop_map(String::into_bytes),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut left = &bytes[..];
        if let Ok(order) = runtime.block_on(Order::read(&mut left)) {
            let taken = bytes.len() - left.len();
            prop_assert!(taken <= 1_024);
            prop_assert_eq!(Order::parse(order.write().as_bytes()), Some(order));
        }
    }
}
