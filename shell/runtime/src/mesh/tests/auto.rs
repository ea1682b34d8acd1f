//! QUIC where it gets through, TCP where it does not.

use std::net::UdpSocket;
use std::time::Duration;

use super::super::{Carrier, MeshConfig, Transport};
use super::world::{Node, World, peer};

fn two(world: &World) -> [MeshConfig; 2] {
    world.configs(&["a", "b"], Transport::Auto).try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_is_taken_where_it_gets_through() {
    let world = World::new();
    let [first, second] = two(&world);
    let (mut a, mut b) = (Node::start(first).await, Node::start(second).await);
    tokio::join!(a.up("b"), b.up("a"));
    assert_eq!(a.stats("b").carrier, Some(Carrier::Quic));
    assert_eq!(b.stats("a").carrier, Some(Carrier::Quic));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_is_taken_where_datagrams_vanish() {
    let world = World::new();
    let [mut first, mut second] = two(&world);
    // Who listens here by UDP never answers, as behind a firewall; b itself has only TCP.
    let silence = UdpSocket::bind(second.listen).unwrap();
    second.peers = vec![peer(&first, Transport::Tcp)];
    second.peers[0].endpoint = None;
    first.limits.quic_time_max = Duration::from_millis(200);
    let (mut a, mut b) = (Node::start(first).await, Node::start(second).await);
    tokio::join!(a.up("b"), b.up("a"));
    assert_eq!(a.stats("b").carrier, Some(Carrier::Tcp));
    a.send("b", &b"around"[..]).await;
    assert_eq!(b.frame("a").await, &b"around"[..]);
    // It was tried.
    let mut packet = [0; 2_000];
    assert!(silence.recv(&mut packet).unwrap() >= 1_200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_is_taken_where_the_peer_does_not_want_quic() {
    let world = World::new();
    let [first, mut second] = two(&world);
    let third = world.config("c");
    second.peers = vec![peer(&first, Transport::Tcp), peer(&third, Transport::Quic)];
    second.peers[0].endpoint = None;
    let (mut a, mut b) = (Node::start(first).await, Node::start(second).await);
    tokio::join!(a.up("b"), b.up("a"));
    assert_eq!(a.stats("b").carrier, Some(Carrier::Tcp));
}
