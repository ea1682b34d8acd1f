//! Datagrams that are passed on: each whole, none to another client, and away from servers that are
//! gone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use dwcp_router::Evidence;
use proptest::prelude::*;
use tokio::net::UdpSocket;

use super::super::flows::{LEN_MAX, knock, read_frame, write_frame};
use super::super::{Carried, End, Passing};
use super::streams::{Ground, passing};

/// What fits a datagram of IPv4.
const MOST: usize = 65_507;

fn datagrams() -> Passing {
    Passing { carried: Carried::Datagrams, ..passing() }
}

async fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A client's socket, which hears of the proxy only.
async fn client(ground: &Ground) -> UdpSocket {
    let (socket, _) = socket().await;
    socket.connect(ground.at).await.unwrap();
    socket
}

async fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut room = vec![0; LEN_MAX];
    let len = socket.recv(&mut room).await.unwrap();
    room.truncate(len);
    room
}

async fn received_from(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut room = vec![0; LEN_MAX];
    let (len, from) = socket.recv_from(&mut room).await.unwrap();
    room.truncate(len);
    (room, from)
}

/// Where this question comes from; there are probes besides.
async fn asked(server: &UdpSocket, number: u8) -> SocketAddr {
    loop {
        let (heard, from) = received_from(server).await;
        if heard == [number] {
            return from;
        }
        assert!(heard.is_empty(), "{heard:?} is nobody's question");
    }
}

#[tokio::test]
async fn each_datagram_is_whole_and_answers_go_to_whoever_asked() {
    let (server, address) = socket().await;
    let ground = Ground::before(&[address], datagrams()).await;
    let clients = [client(&ground).await, client(&ground).await];
    let mut flows = BTreeSet::new();
    for len in [0, 1, 1_200, 9_000, MOST] {
        for (client, mark) in clients.iter().zip(1..) {
            let asked = vec![mark; len];
            client.send(&asked).await.unwrap();
            let (heard, from) = received_from(&server).await;
            assert_eq!((heard.len(), heard == asked), (len, true));
            flows.insert(from);
            // More than one answer, and none when the client says nothing.
            for answer in [vec![mark; 3], vec![mark; len]] {
                server.send_to(&answer, from).await.unwrap();
                assert!(received(client).await == answer);
            }
        }
    }
    assert_eq!(flows.len(), clients.len(), "a client keeps its flow");
    assert_eq!(ground.counters.open(), 2);
}

#[tokio::test]
async fn a_flow_leaves_a_server_that_is_gone_and_the_next_goes_elsewhere() {
    let (server, address) = socket().await;
    let (gone, nobody) = socket().await;
    drop(gone);
    let mut ground = Ground::before(&[nobody, address], datagrams()).await;
    let judge = tokio::spawn(ground.ward.take().unwrap().run());
    let mut broken = 0;
    // Whoever is told that nobody is there asks again, as clients of UDP do.
    for number in 0..40_u8 {
        let client = client(&ground).await;
        loop {
            client.send(&[number]).await.unwrap();
            tokio::select! {
                from = asked(&server, number) => {
                    server.send_to(b"yes", from).await.unwrap();
                    assert_eq!(received(&client).await, b"yes");
                    break;
                }
                told = ground.told() => {
                    assert_eq!((told.end, told.sent), (End::Broken, 0));
                    broken += 1;
                }
            }
        }
    }
    assert!(broken > 0, "half of the servers are gone");
    assert_eq!(ground.group.usable(), 0b10, "after three it is asked no more");
    judge.abort();
}

/// Its host may say that nobody is there to somebody else.
#[tokio::test]
async fn a_flow_ends_when_its_server_has_no_more() {
    let (server, address) = socket().await;
    let mut ground = Ground::before(&[address], datagrams()).await;
    let judge = tokio::spawn(ground.ward.take().unwrap().run());
    let client = client(&ground).await;
    client.send(&[1]).await.unwrap();
    server.send_to(b"yes", asked(&server, 1).await).await.unwrap();
    assert_eq!(received(&client).await, b"yes");
    for _ in 0..3 {
        ground.group.tell(0, Evidence::Unreached);
    }
    let told = ground.told().await;
    assert_eq!((told.end, told.received, told.sent), (End::Broken, 1, 3));
    judge.abort();
}

#[tokio::test]
async fn a_flow_that_is_silent_ends_and_the_client_gets_another() {
    let (server, address) = socket().await;
    let idle_time_max = Duration::from_millis(100);
    let mut ground =
        Ground::before(&[address], Passing { idle_time_max, ..datagrams() }).await;
    let client = client(&ground).await;
    client.send(b"one").await.unwrap();
    let (_, first) = received_from(&server).await;
    server.send_to(b"answer", first).await.unwrap();
    assert_eq!(received(&client).await, b"answer");
    let told = ground.told().await;
    assert_eq!((told.end, told.received, told.sent), (End::Idle, 3, 6));
    assert_eq!(told.upstream.as_deref(), Some(&*address.to_string()));
    assert_eq!(told.client, client.local_addr().unwrap());
    client.send(b"two").await.unwrap();
    assert_eq!(received_from(&server).await.0, b"two");
}

#[tokio::test]
async fn a_network_has_so_many_flows_and_no_more() {
    let (server, address) = socket().await;
    let ground = Ground::with(&[address], datagrams(), |listening| {
        listening.limits.per_network_max = 2;
    })
    .await;
    let clients = [client(&ground).await, client(&ground).await, client(&ground).await];
    for client in &clients {
        client.send(b"third is lost").await.unwrap();
    }
    let heard = [received_from(&server).await.1, received_from(&server).await.1];
    assert_ne!(heard[0], heard[1]);
    // What comes after it shows that it was dropped.
    clients[0].send(b"after").await.unwrap();
    assert_eq!(received_from(&server).await.0, b"after");
    assert_eq!(ground.event("connections_refused"), 1);
}

#[tokio::test]
async fn a_proxy_that_stops_begins_no_flow_and_lets_those_that_are_open_go_on() {
    let (server, address) = socket().await;
    let mut ground = Ground::before(&[address], datagrams()).await;
    let (old, new) = (client(&ground).await, client(&ground).await);
    old.send(b"old").await.unwrap();
    received_from(&server).await;
    drop(ground.stop.take());
    // Until it has seen that its end has begun, it may begin flows for others.
    let mut open = vec![old];
    loop {
        let early = client(&ground).await;
        early.send(b"new").await.unwrap();
        open[0].send(b"old").await.unwrap();
        if received_from(&server).await.0 == b"old" {
            break;
        }
        received_from(&server).await;
        open.push(early);
    }
    new.send(b"late").await.unwrap();
    open[0].send(b"last").await.unwrap();
    assert_eq!(received_from(&server).await.0, b"last");
    // It ends when the last of them has: here because the server is gone.
    drop(server);
    for client in open {
        client.send(b"gone").await.unwrap();
    }
    (&mut ground.ended).await.unwrap();
    assert_eq!(ground.counters.open(), 0);
}

#[tokio::test]
async fn a_probe_sees_whether_a_host_says_that_nobody_is_there() {
    let (server, address) = socket().await;
    let within = Duration::from_millis(200);
    assert!(knock(&address.to_string(), within).await.unwrap(), "it need not answer");
    assert_eq!(received_from(&server).await.0, b"");
    drop(server);
    let longer = Duration::from_secs(60);
    assert!(!knock(&address.to_string(), longer).await.unwrap());
}

#[tokio::test]
async fn what_is_not_over_in_time_is_cut() {
    let (server, address) = socket().await;
    let mut ground = Ground::with(&[address], datagrams(), |listening| {
        listening.limits.drain_time_max = Duration::from_millis(50);
    })
    .await;
    client(&ground).await.send(b"on").await.unwrap();
    received_from(&server).await;
    drop(ground.stop.take());
    (&mut ground.ended).await.unwrap();
    assert_eq!(ground.told().await.end, End::Cut);
}

async fn all_frames(mut bytes: &[u8]) -> std::io::Result<Vec<Bytes>> {
    let mut all = Vec::new();
    while let Some(datagram) = read_frame(&mut bytes).await? {
        all.push(datagram);
    }
    Ok(all)
}

proptest! {
    /// A line that is cut within a frame is an error, and never a shorter datagram.
    #[test]
    fn frames_are_read_as_they_were_written(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut line, mut ends) = (Vec::new(), BTreeSet::from([0]));
            for datagram in &datagrams {
                write_frame(&mut line, datagram).await.unwrap();
                ends.insert(line.len());
            }
            assert_eq!(all_frames(&line).await.unwrap(), datagrams);
            let len = cut.index(line.len() + 1);
            let read = all_frames(&line[..len]).await;
            assert_eq!(read.is_ok(), ends.contains(&len));
        });
    }
}
