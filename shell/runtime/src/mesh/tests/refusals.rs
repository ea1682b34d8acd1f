//! Who is not let in, and that both ends know why.

use dwcp_types::{HostId, Timestamp};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::{
    ClusterId, End, LinkError, MeshConfig, MeshError, Reason, Transport, bind,
};
use super::on_both;
use super::world::{Node, Raw, World, address, limits, now, peer, region};
use crate::clock::SystemClock;
use crate::http::{BoundServer, Limits as HttpLimits};
use crate::tls::{ADMIN_LIFETIME_MAX, Credentials, Identity, ServerTls};

on_both! {
    a_foreign_authority_is_refused_whoever_dials
    an_expired_certificate_is_refused_whoever_dials
    another_region_at_the_address_is_refused
    a_region_that_is_no_peer_is_refused
    a_host_or_a_person_is_no_peer
    another_federation_is_refused_at_both_ends
    a_new_certificate_lets_in_without_a_restart
    an_unwanted_transport_is_refused
}

/// Why an end was refused by the other, with the other's words.
fn by(error: Option<LinkError>) -> (End, Reason, String) {
    match error {
        Some(LinkError::Closed { by, reason, detail }) => (by, reason, detail),
        other => panic!("not closed: {other:?}"),
    }
}

/// Waits until the dialling end is refused for a reason; what it says last.
async fn refused(node: &Node, peer: &str, reason: Reason) -> (End, String) {
    node.until(peer, |stats| stats.refusals.contains_key(&reason)).await;
    let (by, last, detail) = by(node.stats(peer).last_error);
    assert_eq!(last, reason);
    (by, detail)
}

/// a is good, b has these credentials; each dials in turn and both must know the reason.
async fn credentials_are_refused(
    world: &World,
    credentials: &Credentials,
    transport: Transport,
    reason: Reason,
) {
    for dials in [0, 1] {
        let mut configs = world.configs(&["a", "b"], transport);
        configs[1].credentials = credentials.clone();
        configs[1 - dials].peers[0].endpoint = None;
        let [first, second] = <[MeshConfig; 2]>::try_from(configs).unwrap();
        let (a, b) = (Node::start(first).await, Node::start(second).await);
        let (dialler, peer, other, by) =
            if dials == 0 { (&a, "b", &b, End::Here) } else { (&b, "a", &a, End::There) };
        assert_eq!(refused(dialler, peer, reason).await.0, by);
        other.refused_stranger(reason).await;
    }
}

async fn a_foreign_authority_is_refused_whoever_dials(transport: Transport) {
    let (world, foreign) = (World::new(), World::new());
    // It trusts ours; nobody here trusts its own.
    let mut credentials = foreign.credentials("b");
    credentials.ca = world.credentials("x").ca;
    let reason = Reason::ForeignAuthority;
    credentials_are_refused(&world, &credentials, transport, reason).await;
}

async fn an_expired_certificate_is_refused_whoever_dials(transport: Transport) {
    let world = World::new();
    let identity = Identity::Region(region("b"));
    let long_ago = Timestamp::from_millis(now().as_millis() - 40 * 86_400_000);
    let credentials = world.issue(&identity, long_ago, "old");
    credentials_are_refused(&world, &credentials, transport, Reason::Expired).await;
}

async fn another_region_at_the_address_is_refused(transport: Transport) {
    let world = World::new();
    let [mut first, second] =
        <[MeshConfig; 2]>::try_from(world.configs(&["a", "c"], transport)).unwrap();
    let mut wrong = peer(&second, transport);
    wrong.region = region("b");
    first.peers = vec![wrong];
    let (a, c) = (Node::start(first).await, Node::start(second).await);
    let (by, detail) = refused(&a, "b", Reason::WrongIdentity).await;
    assert_eq!(by, End::Here);
    assert!(detail.contains(&c.handle.address().to_string()), "{detail}");
    c.refused_stranger(Reason::WrongIdentity).await;
}

async fn a_region_that_is_no_peer_is_refused(transport: Transport) {
    let world = World::new();
    let [mut a, b, mut c] =
        <[MeshConfig; 3]>::try_from(world.configs(&["a", "b", "c"], transport)).unwrap();
    a.peers = vec![peer(&b, transport)];
    c.peers = vec![peer(&a, transport)];
    let (a, c) = (Node::start(a).await, Node::start(c).await);
    let (by, detail) = refused(&c, "a", Reason::NotAPeer).await;
    assert_eq!(
        (by, detail.as_str()),
        (End::There, "spiffe://dwcp/region/c is no peer of a")
    );
    a.refused_stranger(Reason::NotAPeer).await;
}

async fn a_host_or_a_person_is_no_peer(transport: Transport) {
    let world = World::new();
    let [a, _] =
        <[MeshConfig; 2]>::try_from(world.configs(&["a", "b"], transport)).unwrap();
    let at = a.listen;
    let a = Node::start(a).await;
    // As a host of the very region that is a peer.
    let host = Identity::Host { region: region("b"), host: HostId::new("h").unwrap() };
    let person = Identity::Admin("alice".to_owned());
    let short = world.issue_for(&person, ADMIN_LIFETIME_MAX, "alice");
    for (folder, credentials) in
        [("host", world.issue(&host, now(), "host")), ("alice", short)]
    {
        let raw = Raw::new(("b", credentials), ("a", at), transport);
        let heard = raw.connect().await.unwrap_err();
        assert_eq!(heard.refusal(), Some(Reason::NotAPeer), "{folder}: {heard}");
    }
    a.refused_stranger(Reason::NotAPeer).await;
}

async fn another_federation_is_refused_at_both_ends(transport: Transport) {
    let world = World::new();
    for other in [0, 1] {
        let mut configs = world.configs(&["a", "b"], transport);
        configs[other].cluster = ClusterId([8; 16]);
        let [first, second] = <[MeshConfig; 2]>::try_from(configs).unwrap();
        let (a, b) = (Node::start(first).await, Node::start(second).await);
        let (_, one) = refused(&a, "b", Reason::OtherCluster).await;
        let (_, two) = refused(&b, "a", Reason::OtherCluster).await;
        for detail in [one, two] {
            assert!(detail.contains(&"07".repeat(16)), "{detail}");
            assert!(detail.contains(&"08".repeat(16)), "{detail}");
        }
    }
}

async fn a_new_certificate_lets_in_without_a_restart(transport: Transport) {
    let world = World::new();
    let identity = Identity::Region(region("b"));
    let long_ago = Timestamp::from_millis(now().as_millis() - 40 * 86_400_000);
    for dials in [0, 1] {
        let mut configs = world.configs(&["a", "b"], transport);
        configs[1].credentials = world.issue(&identity, long_ago, "b");
        configs[1 - dials].peers[0].endpoint = None;
        let [first, second] = <[MeshConfig; 2]>::try_from(configs).unwrap();
        let (mut a, mut b) = (Node::start(first).await, Node::start(second).await);
        let (dialler, peer) = if dials == 0 { (&a, "b") } else { (&b, "a") };
        refused(dialler, peer, Reason::Expired).await;
        world.credentials("b");
        tokio::join!(a.up("b"), b.up("a"));
    }
}

async fn an_unwanted_transport_is_refused(transport: Transport) {
    let world = World::new();
    let wanted = match transport {
        Transport::Quic => Transport::Tcp,
        Transport::Tcp | Transport::Auto => Transport::Quic,
    };
    // b listens by both, for the sake of c.
    let mut a = world.config("a");
    let (mut b, c) = (world.config("b"), world.config("c"));
    a.peers = vec![peer(&b, transport)];
    b.peers = vec![peer(&a, wanted), peer(&c, Transport::Auto)];
    b.peers[0].endpoint = None;
    let (a, b) = (Node::start(a).await, Node::start(b).await);
    let (by, detail) = refused(&a, "b", Reason::OtherTransport).await;
    assert_eq!(by, End::There);
    assert!(detail.starts_with("b does not want "), "{detail}");
    b.refused_stranger(Reason::OtherTransport).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_protocol_is_not_taken_for_a_peer() {
    let world = World::new();
    let tls = ServerTls::load(world.credentials("b")).unwrap();
    let server = BoundServer::bind(address(), tls, HttpLimits::default()).await.unwrap();
    let mut b = world.config("b");
    b.listen = server.address();
    let router = axum::Router::new();
    tokio::spawn(server.serve(
        router,
        Arc::new(SystemClock::new()),
        std::future::pending(),
    ));
    let mut a = world.config("a");
    a.peers = vec![peer(&b, Transport::Tcp)];
    let a = Node::start(a).await;
    refused(&a, "b", Reason::OtherProtocol).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_tls_at_all_is_refused_and_told_so() {
    let world = World::new();
    let [a, _] =
        <[MeshConfig; 2]>::try_from(world.configs(&["a", "b"], Transport::Tcp)).unwrap();
    let at = a.listen;
    let a = Node::start(a).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    // An alert of TLS, and the end.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    a.refused_stranger(Reason::OtherProtocol).await;
}

#[tokio::test]
async fn a_mesh_does_not_start_with_what_cannot_work() {
    let world = World::new();
    let start = async |change: fn(&mut MeshConfig)| {
        let mut config = world.config("a");
        config.peers = vec![peer(&world.config("b"), Transport::Auto)];
        config.limits = limits();
        change(&mut config);
        bind(config).await.map(|_| ()).unwrap_err()
    };
    let error = start(|config| config.me = region("z")).await;
    assert!(matches!(error, MeshError::Identity { .. }), "{error}");
    let error = start(|config| config.peers[0].region = region("a")).await;
    assert!(error.to_string().contains("the region itself"), "{error}");
    let error = start(|config| config.peers.push(config.peers[0].clone())).await;
    assert!(error.to_string().contains("b is there twice"), "{error}");
    let taken = std::net::TcpListener::bind(address()).unwrap();
    let mut config = world.config("a");
    config.peers = vec![peer(&world.config("b"), Transport::Auto)];
    config.listen = taken.local_addr().unwrap();
    let error = bind(config).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, MeshError::Bind(_)), "{error}");
}
