//! A peer with a good certificate and bad intentions, or a bad version.

use std::time::Duration;

use super::super::block::{
    Block, PIECE_LEN_MAX, Packing, RAW_LEN_MAX, Stage, encode_frames, encode_hello,
    encode_large, join,
};
use super::super::greet::Greeted;
use super::super::hello::Hello;
use super::super::{
    ClusterId, End, LinkError, MeshConfig, MeshEvent, Reason, Transport, varint,
};
use super::on_both;
use super::world::{CLUSTER, Node, Raw, World, limits, noise, peer};

on_both! {
    blocks_that_are_none_end_the_connection_with_a_reason
    a_connection_that_is_cut_within_a_frame_delivers_nothing_of_it
    greetings_that_are_none_are_refused
    a_peer_that_takes_nothing_delays_nobody
    a_peer_that_says_nothing_holds_no_place_for_long
}

/// A mesh "a", which decides, and a raw peer "b" of it.
async fn victim(world: &World, transport: Transport) -> (Node, Raw) {
    victim_with(world, transport, |_| {}).await
}

async fn victim_with(
    world: &World,
    transport: Transport,
    change: fn(&mut MeshConfig),
) -> (Node, Raw) {
    let [mut a, b] =
        <[MeshConfig; 2]>::try_from(world.configs(&["a", "b"], transport)).unwrap();
    a.peers[0].endpoint = None;
    change(&mut a);
    let raw = Raw::new(("b", b.credentials), ("a", a.listen), transport);
    (Node::start(a).await, raw)
}

/// A connection that counts.
async fn connected(node: &mut Node, raw: &Raw) -> Greeted {
    let greeted = raw.connect().await.unwrap();
    assert_eq!(greeted.hello.cluster, CLUSTER);
    node.up("b").await;
    greeted
}

fn plain(frame: &[u8]) -> Vec<u8> {
    let (mut raw, mut out) = (Vec::new(), Vec::new());
    join(frame, &mut raw);
    encode_frames(Packing::Plain, raw.len(), &raw, &mut out);
    out
}

async fn blocks_that_are_none_end_the_connection_with_a_reason(transport: Transport) {
    let world = World::new();
    let (mut a, raw) = victim(&world, transport).await;
    let mut too_long = vec![0];
    varint::write(u32::try_from(RAW_LEN_MAX + 1).unwrap(), &mut too_long);
    let mut bad_length = vec![1];
    bad_length.extend([0xff; 9]);
    let mut not_zstd = Vec::new();
    encode_frames(Packing::Zstd, 1_000, b"this is not zstd", &mut not_zstd);
    let mut bomb = Vec::new();
    let zeros = zstd::bulk::compress(&vec![0; 8 << 20], 19).unwrap();
    encode_frames(Packing::Zstd, RAW_LEN_MAX, &zeros[4..], &mut bomb);
    let mut overrun = Vec::new();
    encode_frames(Packing::Plain, 2, &[200, 1], &mut overrun);
    let (mut small, mut twice) = (vec![8], Vec::new());
    varint::write(10, &mut small);
    encode_large(PIECE_LEN_MAX + 1, &mut twice);
    encode_large(PIECE_LEN_MAX + 1, &mut twice);
    let mut flipped = plain(b"frame");
    flipped[0] ^= 0x40;
    let mut greeting = Vec::new();
    encode_hello(&raw.pair.hello(), &mut greeting);
    let bad =
        [too_long, bad_length, not_zstd, bomb, overrun, small, twice, flipped, greeting];
    for bytes in &bad {
        let mut greeted = connected(&mut a, &raw).await;
        // What is good before it still arrives.
        greeted.link.writer.out.extend(plain(b"good"));
        greeted.link.writer.out.extend(bytes);
        greeted.link.writer.flush().await.unwrap();
        assert_eq!(a.frame("b").await, &b"good"[..]);
        let MeshEvent::Down { reason, .. } = a.next().await else { panic!("not down") };
        let LinkError::Closed { by: End::Here, reason: Reason::Malformed, detail } =
            reason
        else {
            panic!("{bytes:?}: {reason}");
        };
        assert!(!detail.is_empty());
        let heard = loop {
            match greeted.link.reader.next(Stage::Frames).await {
                Ok(Block::Close { reason, .. }) => break Some(reason),
                Ok(_) => {}
                Err(error) => break error.refusal(),
            }
        };
        assert_eq!(heard, Some(Reason::Malformed));
    }
    let count = u64::try_from(bad.len()).unwrap();
    assert_eq!(a.stats("b").refusals.get(&Reason::Malformed), Some(&count));
}

async fn a_connection_that_is_cut_within_a_frame_delivers_nothing_of_it(
    transport: Transport,
) {
    let world = World::new();
    let (mut a, raw) = victim(&world, transport).await;
    let whole = plain(&vec![9; 200_000]);
    let mut large = Vec::new();
    encode_large(PIECE_LEN_MAX + 1, &mut large);
    large.extend(plain(&vec![9; PIECE_LEN_MAX]));
    let cuts = [1, 2, 4, 5, 100_000, whole.len() - 1].map(|cut| &whole[..cut]);
    for part in cuts.into_iter().chain([&large[..]]) {
        let mut greeted = connected(&mut a, &raw).await;
        greeted.link.writer.out.extend(plain(b"good"));
        greeted.link.writer.out.extend(part);
        greeted.link.writer.flush().await.unwrap();
        assert_eq!(a.frame("b").await, &b"good"[..]);
        drop(greeted);
        let event = a.next().await;
        let MeshEvent::Down { reason: LinkError::Broken { .. }, .. } = event else {
            panic!("{} bytes: {event:?}", part.len());
        };
    }
}

async fn greetings_that_are_none_are_refused(transport: Transport) {
    let world = World::new();
    let (a, raw) = victim(&world, transport).await;
    let good = raw.pair.hello();
    let mut other = Vec::new();
    encode_hello(&Hello { cluster: ClusterId([0; 16]), ..good }, &mut other);
    let mut short = vec![6, 10];
    short.extend([0; 10]);
    let mut long = vec![6];
    varint::write(100_000, &mut long);
    for bytes in [other, short, long, vec![7; 9], plain(b"too early"), vec![0xff; 40]] {
        let mut link = raw.dial().await.unwrap();
        link.writer.out.extend(&bytes);
        link.writer.flush().await.unwrap();
        let heard = match link.reader.next(Stage::Greeting).await {
            Ok(Block::Close { reason, .. }) => Some(reason),
            Ok(block) => panic!("{bytes:?}: {block:?}"),
            Err(error) => error.refusal(),
        };
        let expected = if bytes.first() == Some(&6) && bytes.len() > 20 {
            Reason::OtherCluster
        } else {
            Reason::Malformed
        };
        assert_eq!(heard, Some(expected), "{bytes:?}");
    }
    a.until("b", |stats| stats.refusals.get(&Reason::Malformed) == Some(&5)).await;
    assert_eq!(a.stats("b").connections, 0);
}

async fn a_peer_that_takes_nothing_delays_nobody(transport: Transport) {
    let world = World::new();
    let configs = world.configs(&["a", "b", "c"], transport);
    let [mut a, b, mut c] = <[MeshConfig; 3]>::try_from(configs).unwrap();
    a.limits.queue_len_max = 256 << 10;
    a.limits.window_len = 256 << 10;
    for config in [&mut a, &mut c] {
        config.peers.retain(|peer| peer.region != config.me);
    }
    a.peers[0].endpoint = None;
    c.peers = vec![peer(&a, transport)];
    let raw = Raw::new(("b", b.credentials), ("a", a.listen), transport);
    let (mut a, mut c) = (Node::start(a).await, Node::start(c).await);
    c.up("a").await;
    a.up("c").await;
    // Connected, and as if stopped: it keeps the connection and reads nothing.
    let stopped = connected(&mut a, &raw).await;
    let sent = {
        let (a, c) = (&a, &mut c);
        a.fill("b", async || {
            for number in 0..20 {
                a.send("c", noise(number, 30_000)).await;
                assert_eq!(c.frame("a").await, noise(number, 30_000));
            }
        })
        .await
    };
    assert!(!sent.is_empty());
    assert!(a.stats("b").queued_bytes <= 256 << 10);
    drop(stopped);
    a.down("b").await;
    assert_eq!(a.stats("b").queued_bytes, 0);
}

async fn a_peer_that_says_nothing_holds_no_place_for_long(transport: Transport) {
    let world = World::new();
    let (mut a, raw) = victim_with(&world, transport, |a| {
        a.limits.handshakes_max = 2;
        a.limits.connect_time_max = Duration::from_secs(1);
    })
    .await;
    assert!(limits().handshakes_max > 2);
    // They take every place.
    let (one, two) = (raw.dial().await.unwrap(), raw.dial().await.unwrap());
    let greeted = loop {
        match raw.connect().await {
            Ok(greeted) => break greeted,
            // There is no place yet, or this one was too slow itself.
            Err(
                LinkError::Closed { .. }
                | LinkError::Silent { .. }
                | LinkError::Broken { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    };
    a.up("b").await;
    drop((one, two, greeted));
}
