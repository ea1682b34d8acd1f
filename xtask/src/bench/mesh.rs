//! `bench mesh`: frames between two meshes over loopback, and what they take on the wire.
//!
//! Throughput: one mesh sends as fast as its queue takes, the other reads; CPU is that of the
//! whole process, both ends together, with encryption and compression. Frames have 200 bytes,
//! half of them as in the corpus and half random. A round trip is one frame each way, alone.
//! Sizes: frames of the corpus, made from another seed than the dictionary was trained on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::mesh::{
    ClusterId, Dictionary, Limits, MeshConfig, MeshEvent, MeshEvents, MeshHandle,
    MeshPeer, Transport, bind, wire_len,
};
use dwcp_runtime::tls::{Credentials, DevelopmentCa, Identity, NODE_LIFETIME};
use dwcp_types::RegionId;

use super::scratch::Scratch;
use super::usage::Usage;
use super::{Measurement, Options, Peer};
use crate::dictionary::corpus;

/// Bytes of a frame.
const FRAME_LEN: usize = 200;
/// Seed of the frames that are measured.
const SEED: u64 = 2;

/// Measures both transports and the compression.
pub(crate) fn measure(options: &Options) -> Result<Vec<Measurement>> {
    let (frames, rounds) = if options.quick { (50_000, 500) } else { (400_000, 5_000) };
    let certificates = Certificates::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut measured = sizes()?;
    for (name, transport) in [("quic", Transport::Quic), ("tcp", Transport::Tcp)] {
        let config = (name, transport);
        measured.extend(runtime.block_on(load(&certificates, config, frames, rounds))?);
    }
    Ok(measured)
}

/// Bytes of a frame on the wire, alone and in batches, beside the same without a dictionary.
fn sizes() -> Result<Vec<Measurement>> {
    let frames: Vec<Bytes> =
        corpus::frames(SEED, 12_800)?.into_iter().map(Bytes::from).collect();
    let raw: usize = frames.iter().map(Bytes::len).sum();
    let each = |len: usize| share(len, frames.len());
    let mut measured = Vec::new();
    for batch in [1, 8, 32, 128] {
        let batches: Vec<Vec<Bytes>> = frames.chunks(batch).map(<[_]>::to_vec).collect();
        let with = wire_len(&batches, &Dictionary::built_in())?;
        let without = wire_len(&batches, &Dictionary::none())?;
        measured.push(Measurement {
            name: format!("mesh.frame.{batch}"),
            value: each(with),
            unit: "B",
            method: format!(
                "a frame of {:.0} B in batches of {batch}, with headers",
                each(raw)
            ),
            peer: Some(Peer {
                name: "without dictionary".to_owned(),
                value: each(without),
            }),
        });
    }
    Ok(measured)
}

fn share(sum: usize, count: usize) -> f64 {
    let whole = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    whole(sum) / whole(count)
}

/// A mesh and its name.
struct Node {
    handle: MeshHandle,
    events: MeshEvents,
}

async fn load(
    certificates: &Certificates,
    (name, transport): (&str, Transport),
    frames: usize,
    rounds: usize,
) -> Result<Vec<Measurement>> {
    let clock = SystemClock::new();
    let (mut a, mut b) = two(certificates, transport).await?;
    let mut trips = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = clock.monotonic();
        send(&a, "b", frame(0)).await?;
        receive(&mut b, 1).await?;
        send(&b, "a", frame(0)).await?;
        receive(&mut a, 1).await?;
        trips.push(clock.monotonic() - start);
    }
    trips.sort_unstable();
    let pid = i32::try_from(std::process::id())?;
    let (cpu, start) = (Usage::of(pid)?.cpu_s, clock.monotonic());
    let sending = async {
        for number in 0..frames {
            send(&a, "b", frame(number)).await?;
        }
        Ok(())
    };
    tokio::try_join!(sending, receive(&mut b, frames))?;
    let (cpu, took) = (Usage::of(pid)?.cpu_s - cpu, clock.monotonic() - start);
    let count = share(frames, 1);
    let stats = a.handle.peer_stats(&region("b")?).context("b is a peer of a")?;
    a.handle.stop().await;
    b.handle.stop().await;
    let method = format!("{frames} frames of {FRAME_LEN} B one way, as fast as taken");
    let measurement = |what: &str, value, unit, method: &str| Measurement {
        name: format!("mesh.{name}.{what}"),
        value,
        unit,
        method: method.to_owned(),
        peer: None,
    };
    let p50 = trips.get(trips.len() / 2).copied().unwrap_or_default();
    let wire = u32::try_from(stats.sent.wire_bytes).map_or(f64::MAX, f64::from) / count;
    Ok(vec![
        measurement("rate", count / took.as_secs_f64(), "1/s", &method),
        measurement("cpu", cpu * 1e6 / count, "us", "CPU of both ends for each of them"),
        measurement("wire", wire, "B", "stream bytes for each of them"),
        measurement(
            "trip",
            p50.as_secs_f64() * 1e6,
            "us",
            "median of frames there and back, alone",
        ),
    ])
}

/// Half as in the corpus, half random.
fn frame(number: usize) -> Bytes {
    let text = format!(
        "vm/eu-west-1/vm-web-{:05}/statusrunning host-{:03}/usage/eu-west-1/customer-{:03}/cpu",
        number % 30_000,
        number % 200,
        number % 400
    );
    let mut frame = text.into_bytes();
    let mut state = u64::try_from(number).unwrap_or(0);
    while frame.len() < FRAME_LEN {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        frame.extend_from_slice(&state.to_be_bytes()[..4]);
    }
    frame.truncate(FRAME_LEN);
    Bytes::from(frame)
}

async fn send(from: &Node, to: &str, frame: Bytes) -> Result<()> {
    let to = region(to)?;
    while from.handle.send(&to, frame.clone()).is_err() {
        ensure!(
            from.handle.peer_stats(&to).is_some_and(|stats| stats.carrier.is_some()),
            "the connection was lost"
        );
        from.handle.room(&to).await;
    }
    Ok(())
}

async fn receive(node: &mut Node, frames: usize) -> Result<()> {
    let mut left = frames;
    while left > 0 {
        match node.events.next().await {
            Some(MeshEvent::Frame { .. }) => left -= 1,
            Some(MeshEvent::Up { .. }) => {}
            Some(MeshEvent::Down { reason, .. }) => {
                bail!("the connection was lost: {reason}")
            }
            None => bail!("the mesh stopped"),
        }
    }
    Ok(())
}

/// Two meshes that are connected; the second dials.
async fn two(certificates: &Certificates, transport: Transport) -> Result<(Node, Node)> {
    let peer = |name: &str, endpoint| {
        Ok::<_, anyhow::Error>(MeshPeer { region: region(name)?, endpoint, transport })
    };
    let mut a = start(certificates, "a", peer("b", None)?).await?;
    let endpoint = Some(a.handle.address().to_string());
    let mut b = start(certificates, "b", peer("a", endpoint)?).await?;
    for node in [&mut a, &mut b] {
        let first = node.events.next().await;
        ensure!(matches!(first, Some(MeshEvent::Up { .. })), "not connected: {first:?}");
    }
    Ok((a, b))
}

async fn start(certificates: &Certificates, name: &str, peer: MeshPeer) -> Result<Node> {
    let config = MeshConfig {
        me: region(name)?,
        cluster: ClusterId([1; 16]),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        credentials: certificates.credentials(name)?,
        peers: vec![peer],
        dictionary: Dictionary::built_in(),
        limits: Limits { idle_time_max: Duration::from_secs(30), ..Limits::default() },
        clock: Arc::new(SystemClock::new()),
    };
    let (handle, events) = bind(config).await?;
    Ok(Node { handle, events })
}

fn region(name: &str) -> Result<RegionId> {
    Ok(RegionId::new(name)?)
}

/// An authority and the certificates that it issues.
struct Certificates {
    folder: Scratch,
    ca: DevelopmentCa,
}

impl Certificates {
    fn new() -> Result<Self> {
        let folder = Scratch::new("mesh")?;
        let ca =
            DevelopmentCa::create(&folder.path().join("ca"), SystemClock::new().now())?;
        Ok(Self { folder, ca })
    }

    fn credentials(&self, name: &str) -> Result<Credentials> {
        let identity = Identity::Region(region(name)?);
        let issued =
            self.ca.issue(&identity, &[], NODE_LIFETIME, SystemClock::new().now())?;
        Ok(issued.write(&self.folder.path().join(name), name)?)
    }
}
