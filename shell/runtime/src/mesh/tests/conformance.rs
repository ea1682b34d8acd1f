//! What must hold whatever a connection runs on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::{
    Carrier, Dictionary, End, FRAME_LEN_MAX, LinkError, MeshConfig, Reason, SendRefused,
    Transport,
};
use super::on_both;
use super::relay::Relay;
use super::world::{Node, World, impatient, noise, now, peer, region};
use crate::clock::ManualClock;
use crate::tls::NODE_LIFETIME;

on_both! {
    frames_arrive_whole_and_in_order_in_both_directions
    the_largest_frame_passes_and_a_larger_one_is_refused
    the_peers_tell_each_other_that_they_stop
    a_restarted_peer_is_connected_again
    when_both_dial_there_is_one_connection
    a_peer_without_an_address_is_waited_for
    a_silent_network_is_noticed_by_both_and_healed
    a_reader_that_does_not_read_stops_its_sender_and_nobody_else
    a_connection_ends_with_the_certificate
    different_dictionaries_work_and_cost_bytes
    round_trips_and_traffic_are_counted
    a_frame_for_nobody_is_refused
}

fn pair_of(world: &World, transport: Transport) -> [MeshConfig; 2] {
    world.configs(&["a", "b"], transport).try_into().unwrap()
}

const fn carrier(transport: Transport) -> Carrier {
    match transport {
        Transport::Tcp => Carrier::Tcp,
        Transport::Quic | Transport::Auto => Carrier::Quic,
    }
}

/// A frame that says which it is, of a length that depends on it.
fn numbered(number: u32) -> Bytes {
    let len = usize::try_from(number.wrapping_mul(2_654_435_761) % 700).unwrap();
    let mut frame = number.to_be_bytes().to_vec();
    frame.resize(4 + len, number.to_be_bytes()[3]);
    Bytes::from(frame)
}

async fn frames_arrive_whole_and_in_order_in_both_directions(transport: Transport) {
    const COUNT: u32 = 5_000;
    let world = World::new();
    let (mut a, mut b) = world.two(transport).await;
    let flow = async |from: &mut Node, to: &str| {
        let handle = from.handle.clone();
        let peer = region(to);
        let sent = async {
            for number in 0..COUNT {
                while handle.send(&peer, numbered(number)).is_err() {
                    handle.room(&peer).await;
                }
            }
        };
        let received = async {
            for number in 0..COUNT {
                assert_eq!(from.frame(to).await, numbered(number));
            }
        };
        tokio::join!(sent, received);
    };
    tokio::join!(flow(&mut a, "b"), flow(&mut b, "a"));
}

async fn the_largest_frame_passes_and_a_larger_one_is_refused(transport: Transport) {
    let world = World::new();
    let (a, mut b) = world.two(transport).await;
    // Its bytes are on the wire too.
    let largest = noise(1, FRAME_LEN_MAX);
    let larger = Bytes::from(vec![0; FRAME_LEN_MAX + 1]);
    let refused = a.handle.send(&region("b"), larger).unwrap_err();
    assert_eq!(refused, SendRefused::TooLong { len: FRAME_LEN_MAX + 1 });
    let all = [&b"before"[..], &largest, &[0; 3 << 20], &b""[..], &b"after"[..]];
    for frame in all {
        a.send("b", Bytes::copy_from_slice(frame)).await;
    }
    for frame in all {
        let arrived = b.frame("a").await;
        assert!(arrived == frame, "{} and {} bytes", arrived.len(), frame.len());
    }
}

async fn the_peers_tell_each_other_that_they_stop(transport: Transport) {
    let world = World::new();
    let (mut a, mut b) = world.two(transport).await;
    b.handle.stop().await;
    let reason = a.down("b").await;
    assert_eq!(reason, LinkError::there(Reason::Stopping, String::new()));
    assert_eq!(a.handle.send(&region("b"), Bytes::new()), Err(SendRefused::Down));
    while b.events.next().await.is_some() {}
}

async fn a_restarted_peer_is_connected_again(transport: Transport) {
    let world = World::new();
    let [first, second] = pair_of(&world, transport);
    let mut a = Node::start(first.clone()).await;
    let mut b = Node::start(second.clone()).await;
    a.up("b").await;
    b.up("a").await;
    // First the one that does not decide, then the one that does.
    b.handle.stop().await;
    b = Node::start(second).await;
    a.up("b").await;
    b.up("a").await;
    a.handle.stop().await;
    a = Node::start(first).await;
    b.up("a").await;
    a.up("b").await;
    a.send("b", &b"again"[..]).await;
    assert_eq!(b.frame("a").await, &b"again"[..]);
}

async fn when_both_dial_there_is_one_connection(transport: Transport) {
    let world = World::new();
    for _ in 0..10 {
        let mut configs = pair_of(&world, transport);
        for config in &mut configs {
            // Both at the same moment.
            config.limits.pause_min = Duration::ZERO;
        }
        let [first, second] = configs;
        let (mut a, mut b) = tokio::join!(Node::start(first), Node::start(second));
        tokio::join!(a.up("b"), b.up("a"));
        for number in 0..50 {
            a.send("b", numbered(number)).await;
            assert_eq!(b.frame("a").await, numbered(number));
            b.send("a", numbered(number)).await;
            assert_eq!(a.frame("b").await, numbered(number));
        }
        assert_eq!((a.stats("b").connections, b.stats("a").connections), (1, 1));
    }
}

async fn a_peer_without_an_address_is_waited_for(transport: Transport) {
    let world = World::new();
    for hidden in [0, 1] {
        let mut configs = pair_of(&world, transport);
        configs[hidden].peers[0].endpoint = None;
        let [first, second] = configs;
        let (mut a, mut b) = (Node::start(first).await, Node::start(second).await);
        tokio::join!(a.up("b"), b.up("a"));
        b.send("a", &b"found"[..]).await;
        assert_eq!(a.frame("b").await, &b"found"[..]);
    }
}

async fn a_silent_network_is_noticed_by_both_and_healed(transport: Transport) {
    let world = World::new();
    for dials in [0, 1] {
        let mut configs = pair_of(&world, transport);
        let target = configs[1 - dials].listen;
        let relay = Relay::to(target, transport).await;
        configs[dials].peers[0].endpoint = Some(relay.address.to_string());
        configs[1 - dials].peers[0].endpoint = None;
        for config in &mut configs {
            config.limits = impatient();
        }
        let [first, second] = configs;
        let (mut a, mut b) = (Node::start(first).await, Node::start(second).await);
        tokio::join!(a.up("b"), b.up("a"));
        relay.cut();
        let (one, other) = tokio::join!(a.down("b"), b.down("a"));
        let silent = LinkError::Silent { after: impatient().idle_time_max };
        assert_eq!((one, other), (silent.clone(), silent));
        relay.heal();
        tokio::join!(a.up("b"), b.up("a"));
        a.send("b", &b"healed"[..]).await;
        assert_eq!(b.frame("a").await, &b"healed"[..]);
    }
}

async fn a_reader_that_does_not_read_stops_its_sender_and_nobody_else(
    transport: Transport,
) {
    let world = World::new();
    let [a, mut b, mut c] = three(&world, transport).await;
    // From here c does not read.
    let sent = a.fill("c", async || ping_pong(&a, &mut b).await).await;
    let stats = a.stats("c");
    assert!(stats.queued_frames > 0 && stats.queued_bytes <= 1 << 20, "{stats:?}");
    // Others are served meanwhile, for longer than silence is borne.
    while a.stats("c").queue_age <= BORNE {
        ping_pong(&a, &mut b).await;
    }
    assert_eq!(a.stats("c").carrier, Some(carrier(transport)), "{:?}", a.stats("c"));
    // And when c reads again everything is there, in order.
    for frame in &sent {
        assert_eq!(c.frame("a").await, frame);
    }
    a.handle.room(&region("c")).await;
    a.send("c", &b"on"[..]).await;
    assert_eq!(c.frame("a").await, &b"on"[..]);
}

/// How long silence is borne by those: pings come ten times a second.
const BORNE: Duration = Duration::from_secs(8);

/// a, b and c, connected, with short queues.
async fn three(world: &World, transport: Transport) -> [Node; 3] {
    let mut nodes = Vec::new();
    for mut config in world.configs(&["a", "b", "c"], transport) {
        config.limits.queue_len_max = 1 << 20;
        // Pings and deadlines go on while c does not read.
        config.limits.idle_time_max = BORNE;
        nodes.push(Node::start(config).await);
    }
    let [a, mut b, mut c] = <[Node; 3]>::try_from(nodes).ok().unwrap();
    b.up("a").await;
    c.up("a").await;
    for peer in ["b", "c"] {
        a.until(peer, |stats| stats.carrier.is_some()).await;
    }
    [a, b, c]
}

async fn ping_pong(a: &Node, b: &mut Node) {
    for number in 0..20 {
        a.send("b", numbered(number)).await;
        assert_eq!(b.frame("a").await, numbered(number));
    }
}

async fn a_connection_ends_with_the_certificate(transport: Transport) {
    let world = World::new();
    let clock = Arc::new(ManualClock::new(now()));
    let [mut first, second] = pair_of(&world, transport);
    first.clock = Arc::<ManualClock>::clone(&clock);
    let (mut a, mut b) = (Node::start(first).await, Node::start(second).await);
    tokio::join!(a.up("b"), b.up("a"));
    clock.advance(NODE_LIFETIME);
    let (here, there) = tokio::join!(a.down("b"), b.down("a"));
    assert_eq!(here, LinkError::here(Reason::Expired, ""));
    assert_eq!(there, LinkError::there(Reason::Expired, String::new()));
}

async fn different_dictionaries_work_and_cost_bytes(transport: Transport) {
    let world = World::new();
    let frame = Bytes::from_static(b"vm/eu-west-1/vm-web-00417/statusrunning host-031");
    let mut costs = Vec::new();
    for dictionary in [Dictionary::built_in(), Dictionary::none()] {
        let [first, mut second] = pair_of(&world, transport);
        second.dictionary = dictionary;
        let (mut a, mut b) = (Node::start(first).await, Node::start(second).await);
        tokio::join!(a.up("b"), b.up("a"));
        for _ in 0..100 {
            a.send("b", frame.clone()).await;
            assert_eq!(b.frame("a").await, frame);
            b.send("a", frame.clone()).await;
            assert_eq!(a.frame("b").await, frame);
        }
        a.until("b", |stats| stats.sent.frames == 100).await;
        costs.push(a.stats("b").sent.wire_bytes);
    }
    assert!(3 * costs[0] < 2 * costs[1], "{costs:?}");
}

async fn round_trips_and_traffic_are_counted(transport: Transport) {
    let world = World::new();
    let (a, mut b) = world.two(transport).await;
    a.until("b", |stats| stats.rtt_p50.is_some() && stats.rtt_p99 >= stats.rtt_p50).await;
    for number in 0..100 {
        a.send("b", numbered(number)).await;
        b.frame("a").await;
    }
    let raw: usize = (0..100).map(|number| numbered(number).len()).sum();
    a.until("b", |stats| stats.sent.frames == 100).await;
    let (sent, received) = (a.stats("b").sent, b.stats("a").received);
    assert_eq!((received.frames, received.raw_bytes), (100, u64::try_from(raw).unwrap()));
    assert_eq!(sent.raw_bytes, received.raw_bytes);
    assert!(sent.wire_bytes > 0 && received.wire_bytes > 0, "{sent:?} {received:?}");
    let stats = a.stats("b");
    assert_eq!((stats.carrier, stats.connections), (Some(carrier(transport)), 1));
    assert_eq!((stats.queued_frames, stats.queued_bytes), (0, 0));
}

async fn a_frame_for_nobody_is_refused(transport: Transport) {
    let world = World::new();
    let mut config = world.config("a");
    let absent = world.config("b");
    config.peers = vec![peer(&absent, transport)];
    config.limits = impatient();
    let a = Node::start(config).await;
    let send = |peer| a.handle.send(&region(peer), Bytes::new());
    assert_eq!(send("b"), Err(SendRefused::Down));
    assert_eq!(send("z"), Err(SendRefused::NoSuchPeer));
    a.handle.room(&region("b")).await;
    a.until("b", |stats| stats.last_error.is_some()).await;
    let error = a.stats("b").last_error.unwrap();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{error}");
    assert_ne!(
        error,
        LinkError::Closed { by: End::Here, reason: Reason::Busy, detail: String::new() }
    );
}
